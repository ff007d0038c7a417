//! What queries read: one moment of the index with its columns opened. Opening costs more than many queries do, so
//! segments that stay are carried over from the moment before.

use std::collections::HashMap;
use std::sync::Arc;

use tantivy::columnar::{Cardinality, Column, StrColumn};
use tantivy::index::SegmentId;
use tantivy::store::StoreReader;
use tantivy::{DocId, InvertedIndexReader, Searcher, SegmentReader};

use super::super::text::Folder;
use super::cheapest::ByPrice;
use super::near::Venues;
use super::numbers::{Numbers, Stored};
use super::schema::Fields;

/// Blocks of stored documents kept for each segment: none, for they are not compressed, and copying one costs less than
/// looking for it.
const STORE_CACHE_BLOCKS: usize = 0;

/// One moment of the index.
pub(super) struct View {
    pub(super) segments: Vec<Segment>,
}

/// A part of it.
pub(super) struct Segment {
    pub(super) reader: SegmentReader,
    pub(super) columns: Arc<Columns>,
}

/// The opened files of a segment. Deletions are not among them, so they hold as long as the segment.
pub(super) struct Columns {
    pub(super) words: Arc<InvertedIndexReader>,
    pub(super) starts: Arc<InvertedIndexReader>,
    pub(super) keys: Arc<InvertedIndexReader>,
    pub(super) store: StoreReader,
    pub(super) starts_at: Stored,
    pub(super) id_high: Stored,
    pub(super) id_low: Stored,
    pub(super) day: Numbers,
    pub(super) month: Numbers,
    pub(super) price_from: Numbers,
    pub(super) price_to: Numbers,
    pub(super) popularity: Numbers,
    pub(super) available: Numbers,
    pub(super) kind: Names,
    pub(super) city: Names,
    pub(super) currency: Names,
    pub(super) venues: Venues,
    pub(super) by_price: ByPrice,
}

/// Texts of which many documents have the same.
pub(super) struct Names {
    /// For each document the number of its text.
    pub(super) numbers: Numbers,
    /// The texts, in the order of their numbers.
    pub(super) texts: Vec<Box<str>>,
    /// The key of each text and its number, in the order of the keys.
    pub(super) by_key: Box<[(Box<str>, u32)]>,
}

impl View {
    /// What the searcher sees, with what `before` had already opened.
    pub(super) fn new(
        searcher: &Searcher,
        fields: &Fields,
        folder: &mut Folder,
        before: Option<&Self>,
    ) -> tantivy::Result<Self> {
        let before: HashMap<SegmentId, Arc<Columns>> = before.map_or_else(HashMap::new, |view| {
            view.segments.iter().map(|old| (old.reader.segment_id(), Arc::clone(&old.columns))).collect()
        });
        let mut segments = Vec::new();
        for reader in searcher.segment_readers().iter().filter(|reader| reader.num_docs() > 0) {
            let columns = match before.get(&reader.segment_id()) {
                Some(columns) => Arc::clone(columns),
                None => Arc::new(Columns::open(reader, fields, folder)?),
            };
            segments.push(Segment { reader: reader.clone(), columns });
        }
        Ok(Self { segments })
    }

    /// How many events can be found.
    pub(super) fn events(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.reader.num_docs())).sum()
    }
}

impl Columns {
    fn open(reader: &SegmentReader, fields: &Fields, folder: &mut Folder) -> tantivy::Result<Self> {
        let columns = reader.fast_fields();
        let stored = |name: &str| columns.u64(name).map(stored);
        let numbers = |name: &str| stored(name).map(Numbers::read);
        let texts = |name: &'static str| {
            let missing = || tantivy::TantivyError::FieldNotFound(name.to_owned());
            columns.str(name)?.ok_or_else(missing)
        };
        let venue = texts("venue")?;
        let (price_from, id_high, id_low) = (numbers("price_from")?, stored("id_high")?, stored("id_low")?);
        Ok(Self {
            by_price: ByPrice::read(&price_from, &id_high, &id_low),
            words: reader.inverted_index(fields.word)?,
            starts: reader.inverted_index(fields.start)?,
            keys: reader.inverted_index(fields.key)?,
            store: reader.get_store_reader(STORE_CACHE_BLOCKS)?,
            starts_at: stored("starts_at")?,
            id_high,
            id_low,
            day: numbers("day")?,
            month: numbers("month")?,
            price_from,
            price_to: numbers("price_to")?,
            popularity: numbers("popularity")?,
            available: numbers("available")?,
            kind: Names::read(texts("kind")?, folder)?,
            city: Names::read(texts("city")?, folder)?,
            currency: Names::read(texts("currency")?, folder)?,
            venues: Venues::read(
                venue.num_terms(),
                self::stored(venue.ords().clone()),
                &*stored("lat")?,
                &*stored("lng")?,
            ),
        })
    }

    /// The two halves of an event's id.
    pub(super) fn id_of(&self, doc: DocId) -> (u64, u64) {
        (self.id_high.get_val(doc), self.id_low.get_val(doc))
    }
}

impl Names {
    fn read(column: StrColumn, folder: &mut Folder) -> tantivy::Result<Self> {
        let mut texts: Vec<Box<str>> = Vec::with_capacity(column.num_terms());
        let mut stream = column.dictionary().stream()?;
        while stream.advance() {
            texts.push(String::from_utf8_lossy(stream.key()).into());
        }
        let mut by_key: Vec<(Box<str>, u32)> =
            (0..).zip(&texts).map(|(at, text)| (folder.key(text).into(), at)).collect();
        by_key.sort_unstable();
        Ok(Self { numbers: Numbers::read(stored(column.ords().clone())), texts, by_key: by_key.into() })
    }
}

/// Every document has every number, so the values can be read without asking which have one.
fn stored(column: Column<u64>) -> Stored {
    match column.get_cardinality() {
        Cardinality::Full => column.values,
        Cardinality::Optional | Cardinality::Multivalued => column.first_or_default_col(0),
    }
}
