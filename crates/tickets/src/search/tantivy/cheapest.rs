//! The order of prices: the documents of a segment from the cheapest on, and those of one price by their ids, which is the
//! order of hits. The cheapest of many are found by going along it, up to the last that is wanted.

use std::ops::Range;

use tantivy::DocId;

use super::collect::{Entry, Top};
use super::filter::{CHUNK, Chunk, Filter, price_rank};
use super::numbers::{Numbers, Stored};
use super::view::{Columns, Names};

/// What one document costs in this order, where each is elsewhere in the columns, for those of a list that are in the columns'
/// order.
const TIMES: u64 = if cfg!(test) { 1 } else { 4 };

/// The documents of a segment in the order of prices; four bytes each.
pub(super) struct ByPrice(Box<[DocId]>);

impl ByPrice {
    pub(super) fn read(price_from: &Numbers, id_high: &Stored, id_low: &Stored) -> Self {
        let mut all: Vec<(u64, u64, DocId)> =
            (0..id_high.num_vals()).map(|doc| (price_rank(price_from.get(doc)), id_high.get_val(doc), doc)).collect();
        all.sort_unstable_by(|(price, high, doc), (other_price, other_high, other)| {
            // The lower half of an id rarely matters.
            let by_id = || id_low.get_val(*doc).cmp(&id_low.get_val(*other));
            (price, high).cmp(&(other_price, other_high)).then_with(by_id)
        });
        Self(all.into_iter().map(|(.., doc)| doc).collect())
    }
}

/// Among which documents the cheapest are looked for, by keys of their names.
pub(super) struct Among {
    pub(super) city: Option<String>,
    /// Any of them; none for all.
    pub(super) kinds: Vec<String>,
}

/// What is looked for in a segment.
pub(super) struct Wish<'w> {
    pub(super) among: &'w Among,
    /// How many documents of the segment are of that city and of these kinds.
    pub(super) size: u64,
    /// Only these.
    pub(super) range: Range<DocId>,
    /// So many hits, behind this one.
    pub(super) most: usize,
    pub(super) after: Option<Entry>,
    /// Nothing above this rank is wanted.
    pub(super) worst: Option<u64>,
}

/// The first hits of a segment; `None` where a reading of all documents in question costs less.
pub(super) fn first(columns: &Columns, filter: &mut Filter<'_>, wish: &Wish<'_>, segment: u32) -> Option<Top> {
    let order = &*columns.by_price.0;
    let all = order.len() as u64;
    let there = wish.size * (wish.range.len() as u64) / all.max(1);
    let most_looked_at = there / TIMES;
    // As far apart as they would be if prices knew nothing of cities and kinds.
    if there == 0 || wish.most as u64 * all / there > most_looked_at {
        return None;
    }
    let cities = wish.among.city.as_ref().map(|city| columns.city.numbered([city]));
    let kinds = Some(&wish.among.kinds).filter(|kinds| !kinds.is_empty()).map(|kinds| columns.kind.numbered(kinds));
    let rank_of = |doc: DocId| price_rank(columns.price_from.get(doc));
    let begin = wish.after.map_or(0, |after| order.partition_point(|doc| rank_of(*doc) < after.rank));
    let (mut top, mut chunk, mut looked_at) = (Top::new(wish.most), Chunk::new(), 0);
    for part in order[begin..].chunks(CHUNK) {
        let least = part.first().map_or(u64::MAX, |doc| rank_of(*doc));
        if top.worst().is_some() || wish.worst.is_some_and(|worst| least > worst) || filter.is_too_dear(least) {
            break;
        }
        looked_at += part.len() as u64;
        if looked_at > most_looked_at.max(CHUNK as u64) {
            return None;
        }
        for doc in part.iter().filter(|doc| wish.range.contains(doc)) {
            chunk.push(*doc, 0);
        }
        for (names, numbers) in [(&columns.city, &cities), (&columns.kind, &kinds)] {
            if let Some(numbers) = numbers {
                chunk.retain_by(&names.numbers, |number| numbers.contains(&number));
            }
        }
        filter.apply(&mut chunk);
        for doc in chunk.docs() {
            top.offer(rank_of(*doc), segment, *doc, wish.after, || columns.id_of(*doc));
        }
        chunk.clear();
    }
    Some(top)
}

impl Names {
    /// The numbers of the texts that have one of these keys: the same name may be written in several ways.
    fn numbered<'k>(&self, keys: impl IntoIterator<Item = &'k String>) -> Vec<u64> {
        let of = |key: &'k String| {
            let begin = self.by_key.partition_point(|(known, _)| **known < **key);
            self.by_key[begin..].iter().take_while(|(known, _)| **known == **key).map(|(_, number)| u64::from(*number))
        };
        keys.into_iter().flat_map(of).collect()
    }
}
