//! What an event becomes in the index. Three inverted fields find it, columns filter, sort and count it, and one stored
//! field lists it.
//!
//! - `word`: its words; how often a word is repeated says in which part of the event it stands (1 to 4), so that one
//!   list of postings answers both whether and how well it matches.
//! - `start`: the first 1 to 4 letters of each of them, likewise.
//! - `key`: whole values and their usual combinations: kind, city, city and kind, cell of the grid, cell and kind.
//!
//! Documents are kept in the order of their start, so a span of time is a range of documents in every list.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike};
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, NumericOptions, STORED, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::store::Compressor;
use tantivy::tokenizer::{TextAnalyzer, TokenizerManager, WhitespaceTokenizer};
use tantivy::{IndexSettings, IndexSortByField, Order, TantivyDocument};

use super::super::grid::{Cell, LEVELS};
use super::super::text::Folder;
use super::super::{Document, Venue};
use super::packed;

/// Goes up when an index made before cannot be used any more.
pub(super) const VERSION: u32 = 2;
/// Prefixes of up to so many letters have lists of their own; longer ones are few words each.
pub(super) const START_CHARS: usize = 4;

/// How much a word counts by where it stands.
const IN_NAME: u32 = 4;
const IN_PERFORMER: u32 = 3;
const IN_VENUE: u32 = 2;
const ELSEWHERE: u32 = 1;
/// The most of them.
pub(super) const WEIGHTS: usize = IN_NAME as usize;

const TOKENIZER: &str = "words";
/// Blocks of stored documents: a hit costs the copy of one. They are not compressed, as unpacking one would cost more
/// than finding it.
const BLOCK_BYTES: usize = 2_048;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub(super) id: Field,
    pub(super) word: Field,
    pub(super) start: Field,
    pub(super) key: Field,
    pub(super) document: Field,
    starts_at: Field,
    day: Field,
    month: Field,
    price_from: Field,
    price_to: Field,
    popularity: Field,
    available: Field,
    id_high: Field,
    id_low: Field,
    lat: Field,
    lng: Field,
    kind: Field,
    city: Field,
    currency: Field,
    venue: Field,
}

/// The schema and its fields.
pub(super) fn schema() -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let text = |tokenizer: &str, option| {
        let indexing = TextFieldIndexing::default().set_tokenizer(tokenizer).set_fieldnorms(false);
        TextOptions::default().set_indexing_options(indexing.set_index_option(option))
    };
    let number = || NumericOptions::default() | FAST;
    let name = || TextOptions::default().set_fast("raw");
    let fields = Fields {
        id: builder.add_bytes_field("id", INDEXED),
        word: builder.add_text_field("word", text(TOKENIZER, IndexRecordOption::WithFreqs)),
        start: builder.add_text_field("start", text(TOKENIZER, IndexRecordOption::WithFreqs)),
        key: builder.add_text_field("key", text("raw", IndexRecordOption::Basic)),
        document: builder.add_bytes_field("document", STORED),
        starts_at: builder.add_u64_field("starts_at", number()),
        day: builder.add_u64_field("day", number()),
        month: builder.add_u64_field("month", number()),
        price_from: builder.add_u64_field("price_from", number()),
        price_to: builder.add_u64_field("price_to", number()),
        popularity: builder.add_u64_field("popularity", number()),
        available: builder.add_u64_field("available", number()),
        id_high: builder.add_u64_field("id_high", number()),
        id_low: builder.add_u64_field("id_low", number()),
        lat: builder.add_u64_field("lat", number()),
        lng: builder.add_u64_field("lng", number()),
        kind: builder.add_text_field("kind", name()),
        city: builder.add_text_field("city", name()),
        currency: builder.add_text_field("currency", name()),
        venue: builder.add_text_field("venue", name()),
    };
    (builder.build(), fields)
}

/// Sorted by start, with small blocks as they are.
pub(super) fn settings() -> IndexSettings {
    IndexSettings {
        sort_by_field: Some(IndexSortByField { field: "starts_at".to_owned(), order: Order::Asc }),
        docstore_compression: Compressor::None,
        docstore_blocksize: BLOCK_BYTES,
        ..IndexSettings::default()
    }
}

/// The words come folded and apart already.
pub(super) fn tokenizers() -> TokenizerManager {
    let tokenizers = TokenizerManager::default();
    tokenizers.register(TOKENIZER, TextAnalyzer::from(WhitespaceTokenizer::default()));
    tokenizers
}

/// A document for the index.
pub(super) fn indexed(fields: &Fields, folder: &mut Folder, event: &Document) -> TantivyDocument {
    let mut document = TantivyDocument::default();
    document.add_bytes(fields.id, event.id.uuid().as_bytes());
    let (words, starts) = words(folder, event);
    document.add_text(fields.word, repeated(&words));
    document.add_text(fields.start, repeated(&starts));
    for key in keys(folder, event) {
        document.add_text(fields.key, key);
    }
    document.add_bytes(fields.document, &packed::pack(event));

    document.add_u64(fields.starts_at, stored_time(event.starts_at.micros()));
    let (day, month) = calendar(event);
    document.add_u64(fields.day, stored_day(day));
    document.add_u64(fields.month, month);
    document.add_u64(fields.price_from, stored_price(event.price_from));
    document.add_u64(fields.price_to, stored_price(event.price_to));
    document.add_u64(fields.popularity, magnitude(event.popularity));
    document.add_u64(fields.available, u64::from(event.available));
    let id = event.id.uuid().as_u128();
    document.add_u64(fields.id_high, (id >> 64) as u64);
    // The cut keeps the lower half.
    document.add_u64(fields.id_low, id as u64);
    let (lat, lng) = stored_place(&event.venue);
    document.add_u64(fields.lat, lat);
    document.add_u64(fields.lng, lng);
    document.add_text(fields.kind, &event.kind);
    document.add_text(fields.city, &event.venue.city);
    document.add_text(fields.currency, event.currency.as_str());
    document.add_text(fields.venue, event.venue.id.to_string());
    document
}

/// The best place of each word and of each beginning of a word.
fn words(folder: &mut Folder, event: &Document) -> (BTreeMap<String, u32>, BTreeMap<String, u32>) {
    let mut words: BTreeMap<String, u32> = BTreeMap::new();
    let mut add = |text: &str, weight: u32| {
        for word in folder.words(text) {
            let best = words.entry(word).or_default();
            *best = weight.max(*best);
        }
    };
    add(&event.name, IN_NAME);
    for performer in &event.performers {
        add(&performer.name, IN_PERFORMER);
    }
    add(&event.venue.name, IN_VENUE);
    add(&event.venue.city, IN_VENUE);
    add(&event.venue.country, ELSEWHERE);
    add(&event.kind, ELSEWHERE);
    let mut starts: BTreeMap<String, u32> = BTreeMap::new();
    for (word, weight) in &words {
        for (at, letter) in word.char_indices().take(START_CHARS) {
            let best = starts.entry(word[..at + letter.len_utf8()].to_owned()).or_default();
            *best = (*weight).max(*best);
        }
    }
    (words, starts)
}

fn repeated(words: &BTreeMap<String, u32>) -> String {
    let mut text = String::new();
    for (word, weight) in words {
        for _ in 0..*weight {
            text.push_str(word);
            text.push(' ');
        }
    }
    text
}

fn keys(folder: &mut Folder, event: &Document) -> Vec<String> {
    let kind = folder.key(&event.kind);
    let city = folder.key(&event.venue.city);
    let mut keys = vec![key::kind(&kind), key::city(&city), key::city_and_kind(&city, &kind)];
    for performer in &event.performers {
        keys.push(key::performer(&performer.id.to_string()));
        keys.push(key::performer(&folder.key(&performer.name)));
    }
    for cell in event.venue.place.into_iter().flat_map(|place| LEVELS.map(|level| Cell::of(place, level))) {
        keys.push(key::cell(cell));
        keys.push(key::cell_and_kind(cell, &kind));
    }
    keys
}

/// The values of the field `key`.
pub(super) mod key {
    use super::Cell;

    pub(in super::super) fn kind(kind: &str) -> String {
        format!("k:{kind}")
    }

    pub(in super::super) fn city(city: &str) -> String {
        format!("c:{city}")
    }

    pub(in super::super) fn city_and_kind(city: &str, kind: &str) -> String {
        format!("ck:{city}\t{kind}")
    }

    pub(in super::super) fn performer(performer: &str) -> String {
        format!("p:{performer}")
    }

    pub(in super::super) fn cell(cell: Cell) -> String {
        format!("g:{}", cell.key())
    }

    pub(in super::super) fn cell_and_kind(cell: Cell, kind: &str) -> String {
        format!("gk:{}\t{kind}", cell.key())
    }
}

/// Microseconds since 1970; what was before is at its beginning.
pub(super) fn stored_time(micros: i64) -> u64 {
    u64::try_from(micros).unwrap_or(0)
}

/// Days since 1970; what was before is at its beginning.
pub(super) fn stored_day(day: i32) -> u64 {
    u64::try_from(day).unwrap_or(0)
}

/// One more than the price; zero where there is none.
pub(super) fn stored_price(price: Option<i64>) -> u64 {
    price.map_or(0, |price| u64::try_from(price).unwrap_or(0) + 1)
}

/// Of places: degrees north and east of the furthest corner, in 1e-7, and one; zero where there is none.
fn stored_place(venue: &Venue) -> (u64, u64) {
    let shifted = |e7: i32| u64::from(e7.wrapping_sub(i32::MIN).cast_unsigned()) + 1;
    venue.place.map_or((0, 0), |place| (shifted(place.lat_e7()), shifted(place.lng_e7())))
}

/// The other way; `None` where there is no place.
pub(super) fn read_place(lat: u64, lng: u64) -> Option<tessera_kernel::Place> {
    let unshifted = |stored: u64| u32::try_from(stored.checked_sub(1)?).ok().map(|e7| e7.cast_signed() ^ i32::MIN);
    tessera_kernel::Place::from_e7(unshifted(lat)?, unshifted(lng)?).ok()
}

/// The order of magnitude: eight steps for each doubling, at most 255.
pub(super) fn magnitude(popularity: u64) -> u64 {
    // Cut to a whole number on purpose.
    ((1.0 + popularity as f64).log2() * 8.0).min(255.0) as u64
}

/// The day on the venue's calendar, since 1970, and its month, since year 0.
fn calendar(event: &Document) -> (i32, u64) {
    let at: DateTime<chrono::Utc> = event.starts_at.to_utc();
    let zone: chrono_tz::Tz = event.venue.timezone.parse().unwrap_or(chrono_tz::UTC);
    let date = at.with_timezone(&zone).date_naive();
    let month = i64::from(date.year()) * 12 + i64::from(date.month0());
    (date.to_epoch_days(), u64::try_from(month).unwrap_or(0))
}

/// A span of starts that holds all that begin on these days, wherever their venue is.
pub(super) fn starts_on(days: (i32, i32)) -> std::ops::Range<u64> {
    let at = |day: i32, more: i64| stored_time((i64::from(day) + more).saturating_mul(MICROS_PER_DAY));
    at(days.0, -1)..at(days.1, 2)
}

/// `2027-05` for a month since year 0.
pub(super) fn month_name(month: u64) -> String {
    format!("{:04}-{:02}", month / 12, month % 12 + 1)
}
