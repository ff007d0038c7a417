//! What is checked document by document, and the order of those that pass. Documents are taken in chunks: columns are
//! read many values at a time.

use tantivy::DocId;
use tantivy::fastfield::AliveBitSet;

use super::super::{Availability, Query, Sort};
use super::near::Distances;
use super::numbers::Numbers;
use super::schema;
use super::view::{Columns, Segment};

/// Documents taken at a time.
pub(super) const CHUNK: usize = 64;
/// Below it in a rank is the start, in minutes.
const MINUTES_BITS: u32 = 32;
const MICROS_PER_MINUTE: u64 = 60_000_000;

/// Where a lowest price, as it is stored, stands in the order of prices: none comes last.
pub(super) fn price_rank(price_from: u64) -> u64 {
    if price_from == 0 { u64::MAX } else { price_from }
}

/// Some documents and their scores.
pub(super) struct Chunk {
    docs: [DocId; CHUNK],
    scores: [u32; CHUNK],
    len: usize,
    values: [u64; CHUNK],
}

impl Chunk {
    pub(super) fn new() -> Self {
        Self { docs: [0; CHUNK], scores: [0; CHUNK], len: 0, values: [0; CHUNK] }
    }

    /// Adds one, and tells whether it is full now.
    pub(super) fn push(&mut self, doc: DocId, score: u32) -> bool {
        self.docs[self.len] = doc;
        self.scores[self.len] = score;
        self.len += 1;
        self.len == CHUNK
    }

    pub(super) fn docs(&self) -> &[DocId] {
        &self.docs[..self.len]
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// A column's values of these documents.
    fn read(&mut self, column: &Numbers) {
        column.get_many(&self.docs[..self.len], &mut self.values[..self.len]);
    }

    /// Keeps those documents whose value in a column passes.
    pub(super) fn retain_by(&mut self, column: &Numbers, passes: impl Fn(u64) -> bool) {
        self.read(column);
        let mut kept = 0;
        for at in 0..self.len {
            // Written in any case and counted if it passes: there is no branch to mispredict.
            self.docs[kept] = self.docs[at];
            self.scores[kept] = self.scores[at];
            kept += usize::from(passes(self.values[at]));
        }
        self.len = kept;
    }

    /// Keeps those documents that pass.
    fn retain(&mut self, mut passes: impl FnMut(DocId) -> bool) {
        let mut kept = 0;
        for at in 0..self.len {
            let doc = self.docs[at];
            self.docs[kept] = doc;
            self.scores[kept] = self.scores[at];
            kept += usize::from(passes(doc));
        }
        self.len = kept;
    }
}

/// What a query asks of each document of a segment.
pub(super) struct Filter<'s> {
    columns: &'s Columns,
    alive: Option<&'s AliveBitSet>,
    sort: Sort,
    days: Option<(u64, u64)>,
    price_min: Option<u64>,
    price_max: Option<u64>,
    currency: Option<u64>,
    availability: Availability,
    is_circle: bool,
    distances: Distances<'s>,
}

impl<'s> Filter<'s> {
    /// `None` where nothing in the segment can pass.
    pub(super) fn new(
        segment: &'s Segment,
        query: &Query,
        days: Option<(u64, u64)>,
        radius_m: Option<u32>,
    ) -> Option<Self> {
        let columns = &*segment.columns;
        let currency = match &query.currency {
            None => None,
            Some(currency) => {
                let at = columns.currency.texts.iter().position(|text| **text == *currency.as_str())?;
                Some(at as u64)
            }
        };
        let measured = query.sort == Sort::Distance;
        Some(Self {
            columns,
            alive: segment.reader.alive_bitset(),
            sort: query.sort,
            days,
            price_min: query.price_min.map(|price| schema::stored_price(Some(price))),
            price_max: query.price_max.map(|price| schema::stored_price(Some(price))),
            currency,
            availability: query.availability,
            distances: Distances::new(&columns.venues, query.middle(), radius_m, measured),
            is_circle: radius_m.is_some(),
        })
    }

    /// Leaves what passes.
    pub(super) fn apply(&mut self, chunk: &mut Chunk) {
        let columns = self.columns;
        if let Some(alive) = self.alive {
            chunk.retain(|doc| alive.is_alive(doc));
        }
        if let Some((first, last)) = self.days {
            chunk.retain_by(&columns.day, |day| first <= day && day <= last);
        }
        if self.availability == Availability::Available {
            chunk.retain_by(&columns.available, |available| available != 0);
        }
        if let Some(currency) = self.currency {
            chunk.retain_by(&columns.currency.numbers, |of| of == currency);
        }
        if let Some(least) = self.price_min {
            chunk.retain_by(&columns.price_to, |price| price >= least);
        }
        if let Some(most) = self.price_max {
            chunk.retain_by(&columns.price_from, |price| price != 0 && price <= most);
        }
        if self.is_circle {
            let distances = &mut self.distances;
            chunk.retain(|doc| distances.is_inside(doc));
        }
    }

    /// Whether nothing passes from this price on.
    pub(super) fn is_too_dear(&self, rank: u64) -> bool {
        self.price_max.is_some_and(|most| rank > most)
    }

    /// Leaves what may be among the first, which is nothing above this rank. It costs one column, so it goes first where
    /// what does not come up need not be counted.
    pub(super) fn retain_ranked(&mut self, chunk: &mut Chunk, worst: u64) {
        let ranks = self.ranks(chunk);
        let mut kept = 0;
        for (at, rank) in ranks.into_iter().enumerate().take(chunk.len) {
            chunk.docs[kept] = chunk.docs[at];
            chunk.scores[kept] = chunk.scores[at];
            kept += usize::from(rank <= worst);
        }
        chunk.len = kept;
    }

    /// The ranks of a chunk's documents, ascending in the order of hits; but for the start, where that is part of them.
    pub(super) fn ranks(&mut self, chunk: &mut Chunk) -> [u64; CHUNK] {
        /// Scores are well below: eight words of 56 at most.
        const MOST_SCORE: u32 = 0x00ff_ffff;
        const MOST_POPULAR: u64 = 255;
        let mut ranks = [0; CHUNK];
        let len = chunk.len;
        match self.sort {
            Sort::Relevance => {
                chunk.read(&self.columns.popularity);
                for ((rank, score), popularity) in ranks.iter_mut().zip(chunk.scores).zip(chunk.values).take(len) {
                    let missing = u64::from(MOST_SCORE - score.min(MOST_SCORE));
                    let obscurity = MOST_POPULAR - popularity.min(MOST_POPULAR);
                    *rank = (missing << 8 | obscurity) << MINUTES_BITS;
                }
            }
            Sort::Date => self.columns.starts_at.get_vals(&chunk.docs[..len], &mut ranks[..len]),
            Sort::Price => {
                self.columns.price_from.get_many(&chunk.docs[..len], &mut ranks[..len]);
                ranks[..len].iter_mut().for_each(|price| *price = price_rank(*price));
            }
            Sort::Distance => {
                for (rank, doc) in ranks.iter_mut().zip(chunk.docs()) {
                    *rank = u64::from(self.distances.metres(*doc)) << MINUTES_BITS;
                }
            }
        }
        ranks
    }

    /// A rank with the start in it, which is read only for those that may be among the first.
    pub(super) fn with_start(&self, rank: u64, doc: DocId) -> u64 {
        match self.sort {
            Sort::Relevance | Sort::Distance => {
                let minutes = self.columns.starts_at.get_val(doc) / MICROS_PER_MINUTE;
                rank | minutes.min(u64::from(u32::MAX))
            }
            Sort::Date | Sort::Price => rank,
        }
    }
}
