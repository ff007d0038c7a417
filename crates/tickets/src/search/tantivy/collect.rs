//! What is kept while documents are visited: the best of them, and counts of all.

use std::collections::{BTreeMap, BinaryHeap, HashMap};

use tantivy::DocId;
use tessera_kernel::Uuid;

use super::super::{Facets, MAX_FACET_VALUES};
use super::filter::CHUNK;
use super::numbers::Numbers;
use super::schema::month_name;
use super::view::Columns;
use crate::domain::ids::EventId;

/// A document in the order of hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) rank: u64,
    id: (u64, u64),
    pub(super) segment: u32,
    pub(super) doc: DocId,
}

impl Entry {
    /// One to compare with, which is in no segment.
    pub(super) fn new(rank: u64, id: EventId) -> Self {
        let id = id.uuid().as_u64_pair();
        Self { rank, id, segment: u32::MAX, doc: DocId::MAX }
    }

    /// Whether it is `other` or comes before it.
    fn is_not_behind(&self, other: Self) -> bool {
        (self.rank, self.id) <= (other.rank, other.id)
    }

    /// The event's id.
    pub(super) fn id(&self) -> Uuid {
        Uuid::from_u64_pair(self.id.0, self.id.1)
    }
}

/// The first so many in the order of hits.
pub(super) struct Top {
    heap: BinaryHeap<Entry>,
    size: usize,
}

impl Top {
    pub(super) fn new(size: usize) -> Self {
        Self { heap: BinaryHeap::with_capacity(size + 1), size }
    }

    /// Takes a document if it is among the first behind `after`; its id is only read where it may be.
    pub(super) fn offer(
        &mut self,
        rank: u64,
        segment: u32,
        doc: DocId,
        after: Option<Entry>,
        id: impl FnOnce() -> (u64, u64),
    ) {
        if self.is_behind(rank) || after.is_some_and(|after| rank < after.rank) {
            return;
        }
        let entry = Entry { rank, id: id(), segment, doc };
        if !after.is_some_and(|after| entry.is_not_behind(after)) {
            self.keep(entry);
        }
    }

    /// Takes those of another.
    pub(super) fn join(&mut self, other: Self) {
        other.heap.into_iter().for_each(|entry| self.keep(entry));
    }

    fn keep(&mut self, entry: Entry) {
        if self.heap.len() < self.size {
            self.heap.push(entry);
        } else if let Some(mut last) = self.heap.peek_mut()
            && entry < *last
        {
            *last = entry;
        }
    }

    /// The rank above which nothing can be among the first any more, once there are so many.
    pub(super) fn worst(&self) -> Option<u64> {
        self.heap.peek().filter(|_| self.heap.len() == self.size).map(|last| last.rank)
    }

    /// Whether nothing of this rank can be among the first any more.
    pub(super) fn is_behind(&self, rank: u64) -> bool {
        self.worst().is_some_and(|worst| rank > worst)
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn into_sorted(self) -> Vec<Entry> {
        self.heap.into_sorted_vec()
    }
}

/// Counts within a segment, by the numbers of the values.
pub(super) struct Counted {
    total: u64,
    kinds: Vec<u32>,
    cities: Vec<u32>,
    first_month: u64,
    months: Vec<u32>,
}

impl Counted {
    pub(super) fn new(columns: &Columns) -> Self {
        /// Months of a segment are counted in an array up to a thousand years; dates beyond are in nobody's season.
        const MAX_MONTHS: u64 = 12_000;
        let first_month = columns.month.least();
        let months = (columns.month.most() - first_month + 1).min(MAX_MONTHS);
        Self {
            total: 0,
            kinds: vec![0; columns.kind.texts.len()],
            cities: vec![0; columns.city.texts.len()],
            first_month,
            months: vec![0; usize::try_from(months).unwrap_or(0)],
        }
    }

    /// Counts at most a chunk of documents.
    pub(super) fn add(&mut self, columns: &Columns, docs: &[DocId]) {
        self.total += docs.len() as u64;
        let mut values = [0; CHUNK];
        let values = &mut values[..docs.len()];
        let mut add = |counts: &mut Vec<u32>, numbers: &Numbers, first: u64| {
            numbers.get_many(docs, values);
            for value in &*values {
                if let Some(count) = counts.get_mut((value - first) as usize) {
                    *count += 1;
                }
            }
        };
        add(&mut self.kinds, &columns.kind.numbers, 0);
        add(&mut self.cities, &columns.city.numbers, 0);
        add(&mut self.months, &columns.month, self.first_month);
    }
}

/// Counts of the whole index, by value.
#[derive(Default)]
pub(super) struct Tally {
    total: u64,
    kinds: HashMap<Box<str>, u64>,
    cities: HashMap<Box<str>, u64>,
    months: BTreeMap<u64, u64>,
}

impl Tally {
    pub(super) fn add(&mut self, columns: &Columns, counted: &Counted) {
        self.total += counted.total;
        add_names(&mut self.kinds, &columns.kind.texts, &counted.kinds);
        add_names(&mut self.cities, &columns.city.texts, &counted.cities);
        for (month, count) in (counted.first_month..).zip(&counted.months).filter(|(_, count)| **count > 0) {
            *self.months.entry(month).or_default() += u64::from(*count);
        }
    }

    /// The total, and the most frequent values.
    pub(super) fn into_counts(self) -> (u64, Facets) {
        let months = self.months.into_iter().take(MAX_FACET_VALUES);
        let facets = Facets {
            kind: most_frequent(self.kinds),
            city: most_frequent(self.cities),
            month: months.map(|(month, count)| (month_name(month), count)).collect(),
        };
        (self.total, facets)
    }
}

fn add_names(counts: &mut HashMap<Box<str>, u64>, names: &[Box<str>], counted: &[u32]) {
    for (name, count) in names.iter().zip(counted).filter(|(name, count)| **count > 0 && !name.is_empty()) {
        match counts.get_mut(name) {
            Some(sum) => *sum += u64::from(*count),
            None => {
                counts.insert(name.clone(), u64::from(*count));
            }
        }
    }
}

fn most_frequent(counts: HashMap<Box<str>, u64>) -> Vec<(String, u64)> {
    let mut sorted: Vec<(Box<str>, u64)> = counts.into_iter().collect();
    let order = |(name, count): &(Box<str>, u64)| (std::cmp::Reverse(*count), name.clone());
    if sorted.len() > MAX_FACET_VALUES {
        sorted.select_nth_unstable_by_key(MAX_FACET_VALUES, order);
        sorted.truncate(MAX_FACET_VALUES);
    }
    sorted.sort_unstable_by_key(order);
    sorted.into_iter().map(|(name, count)| (name.into(), count)).collect()
}
