//! Sets of documents of one segment with scores, and walking through those that are in all of several sets.

use tantivy::postings::{Postings, SegmentPostings};
use tantivy::{DocId, DocSet, TERMINATED};

use super::schema::WEIGHTS;

/// A union of more lists than this is worked out beforehand; below, the lists are walked side by side.
const MAX_MERGED: usize = 8;
/// A union worked out beforehand is a sorted list up to so many documents, an array over all of them above.
const MAX_SORTED: usize = 4_096;

/// What a document scores by the weight of the word in it.
pub(super) type Scores = [u16; WEIGHTS + 1];
/// Where only membership counts.
pub(super) const NO_SCORES: Scores = [0; WEIGHTS + 1];

/// One list of postings.
#[derive(Clone)]
pub(super) struct List {
    postings: SegmentPostings,
    scores: Scores,
}

impl List {
    pub(super) fn new(postings: SegmentPostings, scores: Scores) -> Self {
        Self { postings, scores }
    }

    fn score(&self) -> u16 {
        let weight = self.postings.term_freq() as usize;
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
        lists.retain(|list| list.postings.doc() != TERMINATED);
        match lists.len() {
            0 | 1 => lists.pop().map_or_else(Self::none, |list| Self::One(Box::new(list))),
            2..=MAX_MERGED => {
                let doc = lists.iter().map(|list| list.postings.doc()).min().unwrap_or(TERMINATED);
                Self::Merged { lists, doc }
            }
            _ => gathered(lists.into_iter().map(|list| Self::One(Box::new(list))).collect(), Combine::Best, max_doc),
        }
    }

    /// Where it stands; [`TERMINATED`] behind the last.
    pub(super) fn doc(&self) -> DocId {
        match self {
            Self::One(list) => list.postings.doc(),
            Self::Merged { doc, .. } | Self::Dense { doc, .. } => *doc,
            Self::Sorted { docs, at } => docs.get(*at).map_or(TERMINATED, |(doc, _)| *doc),
        }
    }

    /// On to the next.
    pub(super) fn advance(&mut self) -> DocId {
        match self {
            Self::One(list) => list.postings.advance(),
            Self::Merged { lists, doc } => {
                let mut next = TERMINATED;
                for list in lists {
                    let mut at = list.postings.doc();
                    if at == *doc {
                        at = list.postings.advance();
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
            Self::One(list) => list.postings.seek(target),
            Self::Merged { lists, doc } => {
                let mut next = TERMINATED;
                for list in lists {
                    let mut at = list.postings.doc();
                    if at < target {
                        at = list.postings.seek(target);
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
                lists.iter().filter(|list| list.postings.doc() == *doc).map(List::score).max().unwrap_or(0)
            }
            Self::Sorted { docs, at } => docs.get(*at).map_or(0, |(_, score)| *score),
            // What is in it has at least one, which stands for a score of nothing.
            Self::Dense { first, scores, doc, .. } => scores.get((*doc - *first) as usize).map_or(0, |score| score - 1),
        }
    }

    /// About how many documents it has.
    pub(super) fn size(&self) -> u32 {
        match self {
            Self::One(list) => list.postings.size_hint(),
            Self::Merged { lists, .. } => lists.iter().map(|list| list.postings.size_hint()).sum(),
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
