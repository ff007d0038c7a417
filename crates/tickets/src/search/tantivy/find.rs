//! Answering a query: what narrows it down in the inverted lists, what is then checked document by document, and what is
//! kept of those that pass.

use std::collections::BTreeSet;

use tantivy::DocId;
use tantivy::postings::TermInfo;
use tantivy::schema::IndexRecordOption;
use tessera_kernel::{Place, Timestamp};

use super::super::text::Folder;
use super::super::{Area, Counts, Cursor, Document, Hit, Hits, MAX_LIMIT, Match, Query, Sort, grid};
use super::cheapest::{self, Among};
use super::collect::{Counted, Entry, Tally, Top};
use super::docs::{Combine, Docs, Flow, List, NO_SCORES, gathered, intersect};
use super::filter::{Chunk, Filter};
use super::near::rounded_up;
use super::packed;
use super::schema::{self, Fields, key};
use super::view::{Columns, Segment, View};
use super::words::{Word, any_correctable, words};
use crate::Error;
use crate::domain::ids::EventId;

/// Fewer hits than this, and words are also taken as mistyped.
const FEW: usize = 3;
/// Words are looked up first, and the circle checked after, where they have at most so many times the documents of the
/// circle's cells.
const WORDS_FIRST: u64 = 4;

/// What is asked, in the terms of the index.
struct Plan<'q> {
    query: &'q Query,
    words: Vec<Word>,
    matched: Match,
    /// Of these keys any; they have no document in common.
    any_of: Vec<String>,
    /// The same without the cells of a circle.
    any_of_elsewhere: Option<Vec<String>>,
    /// This key too.
    also: Option<String>,
    /// Within so many metres.
    circle: Option<(Place, u32)>,
    /// Where the cheapest are asked for, and nothing else narrows it down: of which names.
    cheapest: Option<Among>,
    starts: std::ops::Range<u64>,
    days: Option<(u64, u64)>,
    limit: usize,
    after: Option<Entry>,
}

/// Answers a query.
pub(super) fn find(
    view: &View,
    fields: &Fields,
    folder: &mut Folder,
    query: &Query,
    now: Timestamp,
) -> Result<Hits, Error> {
    let mut plan = Plan::new(query, folder, now)?;
    let (mut top, mut tally) = run(view, fields, &plan)?;
    // Further pages go on with the tolerance of the first.
    if query.after.is_none() && !plan.words.is_empty() {
        let few = FEW.min(plan.limit + 1);
        let exact = top.len();
        if exact < few && any_correctable(&plan.words) {
            plan.matched = Match::Typos;
            let corrected = run(view, fields, &plan)?;
            match corrected.0.len() > exact {
                true => (top, tally) = corrected,
                false => plan.matched = Match::Exact,
            }
        }
        if top.len() == 0 && plan.words.len() > 1 {
            plan.matched = Match::AnyWord;
            (top, tally) = run(view, fields, &plan)?;
        }
    }
    answer(view, &plan, top, tally)
}

impl<'q> Plan<'q> {
    fn new(query: &'q Query, folder: &mut Folder, now: Timestamp) -> Result<Self, Error> {
        if let Some(after) = query.after.filter(|after| after.sort != query.sort) {
            let reason = format!("the cursor is of a list in order of {:?}, this one is not; begin anew", after.sort);
            return Err(Error::BadRequest { reason: reason.to_lowercase() });
        }
        if query.sort == Sort::Distance && query.middle().is_none() {
            let reason = "sort `distance` needs a place to measure from; give `lat` and `lng`".to_owned();
            return Err(Error::BadRequest { reason });
        }
        // A kind named twice is one: its events would be found twice.
        let kinds: BTreeSet<String> = query.kinds.iter().map(|kind| folder.key(kind)).collect();
        let of_kinds: Vec<String> = kinds.iter().map(|kind| key::kind(kind)).collect();
        let (mut any_of, mut any_of_elsewhere, mut circle) = (of_kinds.clone(), None, None);
        match &query.area {
            None => {}
            Some(Area::City(city)) => {
                let city = folder.key(city);
                any_of = match kinds.is_empty() {
                    true => vec![key::city(&city)],
                    false => kinds.iter().map(|kind| key::city_and_kind(&city, kind)).collect(),
                };
            }
            Some(Area::Circle { middle, radius_m }) => {
                let middle = middle.place().ok_or_else(|| Error::BadRequest {
                    reason: "the middle of the circle is not on the earth; give `lat` and `lng` in degrees".to_owned(),
                })?;
                circle = Some((middle, *radius_m));
                if let Some(cells) = grid::cover(middle, *radius_m) {
                    any_of = match kinds.is_empty() {
                        true => cells.iter().map(|cell| key::cell(*cell)).collect(),
                        false => {
                            let keys = |kind: &String| {
                                cells.iter().map(|cell| key::cell_and_kind(*cell, kind)).collect::<Vec<_>>()
                            };
                            kinds.iter().flat_map(keys).collect()
                        }
                    };
                    any_of_elsewhere = Some(of_kinds);
                }
            }
        }
        any_of.sort_unstable();
        any_of.dedup();
        let also =
            query.performer.as_ref().map(|performer| match performer.parse::<crate::domain::ids::PerformerId>() {
                Ok(id) => key::performer(&id.to_string()),
                Err(_) => key::performer(&folder.key(performer)),
            });
        let upcoming = query.from.is_none() && query.days.is_none_or(|(first, _)| first == i32::MIN);
        let from = query.from.or(upcoming.then_some(now));
        let mut starts = from.map_or(0, |from| schema::stored_time(from.micros()))
            ..query.until.map_or(u64::MAX, |until| schema::stored_time(until.micros()));
        if let Some(days) = query.days {
            let of_days = schema::starts_on(days);
            starts = starts.start.max(of_days.start)..starts.end.min(of_days.end);
        }
        let after = query.after.map(|after| Entry::new(after.rank, after.id));
        let words = words(folder, &query.term);
        let is_plain = words.is_empty() && also.is_none() && circle.is_none();
        let cheapest = (query.sort == Sort::Price && query.counts == Counts::None && is_plain).then(|| Among {
            city: match &query.area {
                Some(Area::City(city)) => Some(folder.key(city)),
                _ => None,
            },
            kinds: kinds.into_iter().collect(),
        });
        // In the order of starts what comes before the cursor need not be looked at, unless it is counted.
        if let (Sort::Date, Counts::None, Some(after)) = (query.sort, query.counts, query.after) {
            starts.start = starts.start.max(after.rank);
        }
        Ok(Self {
            query,
            words,
            matched: query.after.map_or(Match::Exact, |after| after.matched),
            any_of,
            any_of_elsewhere,
            also,
            circle,
            cheapest,
            starts,
            days: query.days.map(|(first, last)| (schema::stored_day(first), schema::stored_day(last))),
            limit: query.limit.clamp(1, MAX_LIMIT),
            after,
        })
    }

    fn is_scored(&self) -> bool {
        self.query.sort == Sort::Relevance && !self.words.is_empty()
    }
}

fn run(view: &View, fields: &Fields, plan: &Plan<'_>) -> Result<(Top, Option<Tally>), Error> {
    let mut top = Top::new(plan.limit + 1);
    let mut tally = (plan.query.counts == Counts::All).then(Tally::default);
    for (at, segment) in view.segments.iter().enumerate() {
        in_segment(at, segment, fields, plan, &mut top, tally.as_mut()).map_err(failed)?;
    }
    Ok((top, tally))
}

fn in_segment(
    at: usize,
    segment: &Segment,
    fields: &Fields,
    plan: &Plan<'_>,
    top: &mut Top,
    tally: Option<&mut Tally>,
) -> tantivy::Result<()> {
    let columns = &*segment.columns;
    let max_doc = segment.reader.max_doc();
    let range = first_from(columns, max_doc, plan.starts.start)..first_from(columns, max_doc, plan.starts.end);
    let radius_m = plan.circle.map(|(_, radius_m)| radius_m);
    let Some(mut filter) = Filter::new(segment, plan.query, plan.days, radius_m) else { return Ok(()) };
    if range.is_empty() {
        return Ok(());
    }
    let mut sets = Vec::new();
    for word in &plan.words {
        sets.push(word.docs(segment, fields, plan.matched, plan.is_scored())?);
    }
    if plan.matched == Match::AnyWord {
        sets = vec![gathered(sets, Combine::Sum, max_doc)];
    }
    if let Some(key) = &plan.also {
        sets.push(keyed(columns, &looked_up(columns, std::slice::from_ref(key))?)?.pop().unwrap_or_else(Docs::none));
    }
    if sets.iter().any(|set| set.size() == 0) {
        return Ok(());
    }
    let mut infos = looked_up(columns, &plan.any_of)?;
    let mut narrowed = !plan.any_of.is_empty();
    if let Some(elsewhere) = &plan.any_of_elsewhere {
        let in_cells: u64 = infos.iter().map(|info| u64::from(info.doc_freq)).sum();
        let with_words = sets.iter().map(|set| u64::from(set.size())).min();
        if with_words.is_some_and(|count| count <= in_cells.saturating_mul(WORDS_FIRST)) && in_cells > 0 {
            infos = looked_up(columns, elsewhere)?;
            narrowed = !elsewhere.is_empty();
        }
    }
    let segment_at = u32::try_from(at).unwrap_or(u32::MAX);
    if let Some(among) = &plan.cheapest {
        let wish = cheapest::Wish {
            among,
            size: match narrowed {
                true => infos.iter().map(|info| u64::from(info.doc_freq)).sum(),
                false => u64::from(max_doc),
            },
            range: range.clone(),
            most: plan.limit + 1,
            after: plan.after,
            worst: top.worst(),
        };
        if let Some(found) = cheapest::first(columns, &mut filter, &wish, segment_at) {
            top.join(found);
            return Ok(());
        }
    }
    let alternatives: Vec<Option<Docs>> = match narrowed {
        true => keyed(columns, &infos)?.into_iter().map(Some).collect(),
        false => vec![None],
    };
    let mut taker = Taker {
        columns,
        filter,
        counted: tally.is_some().then(|| Counted::new(columns)),
        top,
        segment: segment_at,
        after: plan.after,
        // Documents lie in the order of their start: behind a full page there is nothing better.
        in_order: plan.query.sort == Sort::Date && tally.is_none(),
    };
    let mut chunk = Chunk::new();
    let mut left = alternatives.len();
    for alternative in alternatives {
        left -= 1;
        // The last one takes them as they are.
        let mut sets = if left == 0 { std::mem::take(&mut sets) } else { sets.clone() };
        sets.extend(alternative);
        let flow = intersect(sets, range.clone(), |doc, score| match chunk.push(doc, score) {
            true => taker.take(&mut chunk),
            false => Flow::Continue(()),
        });
        if flow.is_continue() {
            // What is left over; whether to go on does not matter at the end.
            let _: Flow = taker.take(&mut chunk);
        }
    }
    let counted = taker.counted;
    if let (Some(tally), Some(counted)) = (tally, counted) {
        tally.add(columns, &counted);
    }
    Ok(())
}

/// Keeps what is wanted of a segment's documents.
struct Taker<'s> {
    columns: &'s Columns,
    filter: Filter<'s>,
    counted: Option<Counted>,
    top: &'s mut Top,
    segment: u32,
    after: Option<Entry>,
    in_order: bool,
}

impl Taker<'_> {
    /// Takes the documents of a chunk and empties it.
    fn take(&mut self, chunk: &mut Chunk) -> Flow {
        if let Some(worst) = self.top.worst().filter(|_| self.counted.is_none() && !self.in_order) {
            self.filter.retain_ranked(chunk, worst);
        }
        self.filter.apply(chunk);
        if let Some(counted) = &mut self.counted {
            counted.add(self.columns, chunk.docs());
        }
        let ranks = self.filter.ranks(chunk);
        let mut flow = Flow::Continue(());
        for (rank, doc) in ranks.into_iter().zip(chunk.docs()) {
            if self.top.is_behind(rank) {
                if self.in_order {
                    flow = Flow::Break(());
                    break;
                }
                continue;
            }
            let rank = self.filter.with_start(rank, *doc);
            self.top.offer(rank, self.segment, *doc, self.after, || self.columns.id_of(*doc));
        }
        chunk.clear();
        flow
    }
}

/// The first document that starts at or after a time.
fn first_from(columns: &Columns, max_doc: DocId, start: u64) -> DocId {
    let (mut low, mut high) = (0, max_doc);
    while low < high {
        let middle = low.midpoint(high);
        if columns.starts_at.get_val(middle) < start {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn looked_up(columns: &Columns, keys: &[String]) -> tantivy::Result<Vec<TermInfo>> {
    let dictionary = columns.keys.terms();
    let infos = keys.iter().filter_map(|key| dictionary.get(key).transpose());
    Ok(infos.collect::<std::io::Result<_>>()?)
}

fn keyed(columns: &Columns, infos: &[TermInfo]) -> tantivy::Result<Vec<Docs>> {
    let docs = infos.iter().map(|info| {
        let postings = columns.keys.read_block_postings_from_terminfo(info, IndexRecordOption::Basic)?;
        Ok(Docs::One(Box::new(List::new(postings, NO_SCORES))))
    });
    docs.collect()
}

fn answer(view: &View, plan: &Plan<'_>, top: Top, tally: Option<Tally>) -> Result<Hits, Error> {
    let mut entries = top.into_sorted();
    let more = entries.len() > plan.limit;
    entries.truncate(plan.limit);
    let next = entries.last().filter(|_| more).map(|last| Cursor {
        sort: plan.query.sort,
        matched: plan.matched,
        rank: last.rank,
        id: EventId::from(last.id()),
    });
    let middle = plan.query.middle();
    let mut items = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(segment) = view.segments.get(entry.segment as usize) else { continue };
        let document = stored(segment, entry.doc)?;
        let distance = middle.zip(document.venue.place).map(|(middle, place)| rounded_up(middle.distance_m(place)));
        let distance_m = distance.and_then(|metres| u32::try_from(metres).ok());
        items.push(Hit { document, distance_m });
    }
    let (total, facets) = tally.map(Tally::into_counts).unzip();
    Ok(Hits { items, facets, total, next, matched: plan.matched })
}

fn stored(segment: &Segment, doc: DocId) -> Result<Document, Error> {
    let bytes = segment.columns.store.get_document_bytes(doc).map_err(failed)?;
    let broken = || Error::Search { reason: "a stored event is broken; rebuild the index".to_owned() };
    packed::unpack_last(&bytes).ok_or_else(broken)
}

pub(super) fn failed(error: tantivy::TantivyError) -> Error {
    Error::Search { reason: error.to_string() }
}
