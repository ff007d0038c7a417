//! Sets of documents of one segment with scores, and walking through those that are in all of several sets.

use tantivy::postings::BlockSegmentPostings;
use tantivy::{DocId, TERMINATED};

use super::schema::WEIGHTS;

/// A union of more lists than this is worked out beforehand; below, the lists are walked side by side.
const MAX_MERGED: usize = 8;
/// A union worked out beforehand is a sorted list up to so many documents, an array over all of them above.
const MAX_SORTED: usize = 4_096;

/// What a document scores by the weight of the word in it.
pub(super) type Scores = [u16; WEIGHTS + 1];
/// Where only membership counts.
pub(super) const NO_SCORES: Scores = [0; WEIGHTS + 1];

/// One list of postings, walked by its blocks, each of which is unpacked at once.
#[derive(Clone)]
pub(super) struct List {
    block: BlockSegmentPostings,
    /// Where it stands in the block, which is filled up with [`TERMINATED`].
    at: usize,
    scores: Scores,
}

/// Documents in a block.
const BLOCK: usize = 128;
/// So many are looked at one by one before the rest of the list is searched: in lists that are about as dense as each other,
/// the next is mostly among them.
const STEPS: usize = 6;

impl List {
    pub(super) fn new(block: BlockSegmentPostings, scores: Scores) -> Self {
        Self { block, at: 0, scores }
    }

    fn doc(&self) -> DocId {
        self.block.doc(self.at)
    }

    fn advance(&mut self) -> DocId {
        self.at += 1;
        if self.at == BLOCK {
            self.at = 0;
            self.block.advance();
        }
        self.doc()
    }

    fn seek(&mut self, target: DocId) -> DocId {
        for _ in 0..STEPS {
            let doc = self.doc();
            if doc >= target {
                return doc;
            }
            self.at += 1;
            if self.at == BLOCK {
                break;
            }
        }
        self.at = self.block.seek(target);
        self.doc()
    }

    /// Takes what is before `end`, and stands on what follows.
    fn take_until(&mut self, end: DocId, mut take: impl FnMut(DocId, u16)) {
        loop {
            let docs = self.block.docs();
            let to = match docs.last() {
                Some(last) if *last < end => docs.len(),
                _ => self.at.max(docs.partition_point(|doc| *doc < end)),
            };
            for (at, doc) in docs.iter().enumerate().take(to).skip(self.at) {
                take(*doc, self.scores[(self.block.freq(at) as usize).min(WEIGHTS)]);
            }
            self.at = to;
            if to < BLOCK {
                return;
            }
            self.at = 0;
            self.block.advance();
        }
    }

    fn size(&self) -> u32 {
        self.block.doc_freq()
    }

    fn score(&self) -> u16 {
        let weight = self.block.freq(self.at) as usize;
        self.scores[weight.min(WEIGHTS)]
    }
}

/// How scores of one document in several lists become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Combine {
    /// The best counts.
    Best,
    /// They add up.
    Sum,
}

/// A set of documents, standing on one of them.
#[derive(Clone)]
pub(super) enum Docs {
    /// One list.
    One(Box<List>),
    /// Several, walked side by side; the best score counts.
    Merged { lists: Vec<List>, doc: DocId },
    /// Few documents.
    Sorted { docs: Vec<(DocId, u16)>, at: usize },
    /// Many: a score for each document from the first on; none where zero.
    Dense { first: DocId, scores: Vec<u16>, count: u32, doc: DocId },
}

impl Docs {
    /// The empty set.
    pub(super) fn none() -> Self {
        Self::Sorted { docs: Vec::new(), at: 0 }
    }

    /// The union of lists, each document with its best score.
    pub(super) fn union(mut lists: Vec<List>, max_doc: DocId) -> Self {
        lists.retain(|list| list.doc() != TERMINATED);
        match lists.len() {
            0 | 1 => lists.pop().map_or_else(Self::none, |list| Self::One(Box::new(list))),
            2..=MAX_MERGED => {
                let doc = lists.iter().map(|list| list.doc()).min().unwrap_or(TERMINATED);
                Self::Merged { lists, doc }
            }
            _ => gathered(lists.into_iter().map(|list| Self::One(Box::new(list))).collect(), Combine::Best, max_doc),
        }
    }

    /// Where it stands; [`TERMINATED`] behind the last.
    pub(super) fn doc(&self) -> DocId {
        match self {
            Self::One(list) => list.doc(),
            Self::Merged { doc, .. } | Self::Dense { doc, .. } => *doc,
            Self::Sorted { docs, at } => docs.get(*at).map_or(TERMINATED, |(doc, _)| *doc),
        }
    }

    /// On to the next.
    pub(super) fn advance(&mut self) -> DocId {
        match self {
            Self::One(list) => list.advance(),
            Self::Merged { lists, doc } => {
                let mut next = TERMINATED;
                for list in lists {
                    let mut at = list.doc();
                    if at == *doc {
                        at = list.advance();
                    }
                    next = next.min(at);
                }
                *doc = next;
                next
            }
            Self::Sorted { at, .. } => {
                *at += 1;
                self.doc()
            }
            Self::Dense { doc, .. } if *doc == TERMINATED => TERMINATED,
            Self::Dense { doc, .. } => {
                let next = *doc + 1;
                self.seek_dense(next)
            }
        }
    }

    /// On to the first that is not before `target`; it stays where it is when that is not behind it.
    pub(super) fn seek(&mut self, target: DocId) -> DocId {
        let doc = self.doc();
        if doc >= target {
            return doc;
        }
        match self {
            Self::One(list) => list.seek(target),
            Self::Merged { lists, doc } => {
                let mut next = TERMINATED;
                for list in lists {
                    let mut at = list.doc();
                    if at < target {
                        at = list.seek(target);
                    }
                    next = next.min(at);
                }
                *doc = next;
                next
            }
            Self::Sorted { docs, at } => {
                *at += docs[*at..].partition_point(|(doc, _)| *doc < target);
                self.doc()
            }
            Self::Dense { .. } => self.seek_dense(target),
        }
    }

    fn seek_dense(&mut self, target: DocId) -> DocId {
        let Self::Dense { first, scores, doc, .. } = self else { return TERMINATED };
        let from = target.saturating_sub(*first) as usize;
        let found = scores.get(from..).and_then(|rest| rest.iter().position(|score| *score > 0));
        *doc = match found.map(|ahead| u32::try_from(from + ahead)) {
            Some(Ok(ahead)) => *first + ahead,
            _ => TERMINATED,
        };
        *doc
    }

    /// Of the document that it stands on.
    pub(super) fn score(&self) -> u16 {
        match self {
            Self::One(list) => list.score(),
            Self::Merged { lists, doc } => {
                lists.iter().filter(|list| list.doc() == *doc).map(List::score).max().unwrap_or(0)
            }
            Self::Sorted { docs, at } => docs.get(*at).map_or(0, |(_, score)| *score),
            // What is in it has at least one, which stands for a score of nothing.
            Self::Dense { first, scores, doc, .. } => scores.get((*doc - *first) as usize).map_or(0, |score| score - 1),
        }
    }

    /// About how many documents it has.
    pub(super) fn size(&self) -> u32 {
        match self {
            Self::One(list) => list.size(),
            Self::Merged { lists, .. } => lists.iter().map(|list| list.size()).sum(),
            Self::Sorted { docs, .. } => u32::try_from(docs.len()).unwrap_or(u32::MAX),
            Self::Dense { count, .. } => *count,
        }
    }
}

/// The union of sets, worked out.
pub(super) fn gathered(sets: Vec<Docs>, combine: Combine, max_doc: DocId) -> Docs {
    let total: usize = sets.iter().map(|set| set.size() as usize).sum();
    let combined = |old: u16, new: u16| match combine {
        Combine::Best => old.max(new),
        Combine::Sum => old.saturating_add(new),
    };
    if total <= MAX_SORTED {
        let mut docs: Vec<(DocId, u16)> = Vec::with_capacity(total);
        each(sets, |doc, score| docs.push((doc, score)));
        docs.sort_unstable_by_key(|(doc, _)| *doc);
        docs.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = combined(kept.1, next.1);
            }
            same
        });
        return Docs::Sorted { docs, at: 0 };
    }
    let mut scores = vec![0_u16; max_doc as usize];
    let mut count = 0;
    each(sets, |doc, score| {
        if let Some(kept) = scores.get_mut(doc as usize) {
            *kept = match *kept {
                0 => {
                    count += 1;
                    score.saturating_add(1)
                }
                kept => combined(kept - 1, score).saturating_add(1),
            };
        }
    });
    let mut docs = Docs::Dense { first: 0, scores, count, doc: 0 };
    docs.seek_dense(0);
    docs
}

fn each(sets: Vec<Docs>, mut take: impl FnMut(DocId, u16)) {
    for mut set in sets {
        let mut doc = set.doc();
        while doc != TERMINATED {
            take(doc, set.score());
            doc = set.advance();
        }
    }
}

/// Whether to go on.
pub(super) type Flow = std::ops::ControlFlow<()>;

/// Visits the documents of a range that are in all sets, in their order, with the sum of their scores.
pub(super) fn intersect(
    mut sets: Vec<Docs>,
    range: std::ops::Range<DocId>,
    mut visit: impl FnMut(DocId, u32) -> Flow,
) -> Flow {
    sets.sort_by_key(Docs::size);
    let Some((lead, others)) = sets.split_first_mut() else {
        return range.into_iter().try_for_each(|doc| visit(doc, 0));
    };
    if window::is_better(lead, others) {
        return window::intersect(lead, others, range, visit);
    }
    let mut doc = lead.seek(range.start);
    'next: while doc < range.end {
        for other in others.iter_mut() {
            let at = other.seek(doc);
            if at != doc {
                doc = lead.seek(at);
                continue 'next;
            }
        }
        let score = others.iter().map(|other| u32::from(other.score())).sum::<u32>() + u32::from(lead.score());
        visit(doc, score)?;
        doc = lead.advance();
    }
    Flow::Continue(())
}

/// Sets that are about as large as each other, walked a window of documents at a time: each set notes in an array whom of
/// the window it has, and the smallest reads who was noted by all. Nothing in it depends on which document comes next in
/// which set, which a processor cannot foresee.
mod window {
    use super::{DocId, Docs, Flow, List, TERMINATED};

    /// Documents in a window: its arrays stay in the nearest cache.
    const SPAN: u32 = 2_048;
    /// The smallest set has at least so many documents; in tests few, so that they get here.
    const LEAST: u32 = if cfg!(test) { 4 } else { 512 };
    /// The others have together at most so many times those of the smallest; what is sought one by one costs that much
    /// more than what is noted.
    const MOST_TIMES: u64 = 12;

    pub(super) fn is_better(lead: &Docs, others: &[Docs]) -> bool {
        let total: u64 = others.iter().map(|set| u64::from(set.size())).sum();
        matches!(lead, Docs::One(_))
            && others.iter().all(|set| matches!(set, Docs::One(_) | Docs::Merged { .. }))
            && lead.size() >= LEAST
            && total <= u64::from(lead.size()) * MOST_TIMES
    }

    struct Notes {
        first: DocId,
        /// How many of the sets have it, so far without a gap.
        sets: [u8; SPAN as usize],
        scores: [u32; SPAN as usize],
        /// Its best score in the lists of one set, and one; zero where it is in none.
        best: [u16; SPAN as usize],
    }

    impl Notes {
        /// Begins anew, at a document.
        fn begin(&mut self, first: DocId) {
            self.first = first;
            self.sets.fill(0);
            self.scores.fill(0);
        }

        /// Notes those of a list that are before `end` and in all `sets` before it.
        fn note(&mut self, list: &mut List, end: DocId, sets: u8) {
            list.seek(self.first);
            list.take_until(end, |doc, score| {
                let at = (doc - self.first) as usize;
                let (Some(has), Some(sum)) = (self.sets.get_mut(at), self.scores.get_mut(at)) else { return };
                let is_in_all = *has == sets;
                *has += u8::from(is_in_all);
                *sum += u32::from(is_in_all) * u32::from(score);
            });
        }

        /// The same of several lists that are one set: the best score counts.
        fn note_best(&mut self, lists: &mut [List], end: DocId, sets: u8) {
            self.best.fill(0);
            for list in lists {
                list.seek(self.first);
                list.take_until(end, |doc, score| {
                    let at = (doc - self.first) as usize;
                    let (Some(has), Some(sum), Some(best)) =
                        (self.sets.get_mut(at), self.scores.get_mut(at), self.best.get_mut(at))
                    else {
                        return;
                    };
                    let (was, now) = (*best, (*best).max(score + 1));
                    *best = now;
                    *has += u8::from(was == 0 && *has == sets);
                    *sum += u32::from(*has == sets + 1) * u32::from(now - was.max(1));
                });
            }
        }
    }

    pub(super) fn intersect(
        lead: &mut Docs,
        others: &mut [Docs],
        range: std::ops::Range<DocId>,
        mut visit: impl FnMut(DocId, u32) -> Flow,
    ) -> Flow {
        let Docs::One(lead) = lead else { return Flow::Continue(()) };
        // A query has at most a dozen sets.
        let all = others.len() as u8;
        let span = SPAN as usize;
        let mut notes =
            Notes { first: 0, sets: [0; SPAN as usize], scores: [0; SPAN as usize], best: [0; SPAN as usize] };
        let mut hits = vec![(0, 0); span + 1];
        let mut doc = lead.seek(range.start);
        while doc < range.end {
            let end = doc.saturating_add(SPAN).min(range.end);
            if all == 0 {
                notes.first = doc;
            } else {
                notes.begin(doc);
            }
            for (sets, other) in (0..all).zip(others.iter_mut()) {
                match other {
                    Docs::One(list) => notes.note(list, end, sets),
                    Docs::Merged { lists, .. } => notes.note_best(lists, end, sets),
                    Docs::Sorted { .. } | Docs::Dense { .. } => {}
                }
            }
            let mut found = 0;
            lead.take_until(end, |doc, score| {
                let at = (doc - notes.first) as usize;
                // Written in any case and counted if it is one. There is always room: a window has no more documents.
                if let (Some(hit), Some(has), Some(sum)) =
                    (hits.get_mut(found), notes.sets.get(at), notes.scores.get(at))
                {
                    *hit = (doc, sum + u32::from(score));
                    found += usize::from(*has == all);
                }
            });
            hits.iter().take(found).try_for_each(|(doc, score)| visit(*doc, *score))?;
            doc = lead.doc();
            debug_assert!(doc == TERMINATED || doc >= end, "a window is left behind");
        }
        Flow::Continue(())
    }
}
