//! The pages of a resource in their order, fetched and decoded several at a time.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::checkpoint::Position;
use super::pass::Pass;
use super::shaper::{Content, Shaper};
use super::units::{Unit, request};
use crate::Error;
use crate::app::progress::ResourceProgress;
use crate::shape::Meta;
use crate::source::{Answer, Client, Paths, Place, Plan, passed};
use crate::spec::{Paginator, Pipeline, Resource};

/// A page in its turn.
#[derive(Debug)]
pub struct PageItem {
    /// Number of its unit.
    pub unit: usize,
    /// What follows it; the start again where the list moved while it was read.
    pub next: Place,
    /// The reading of its stream, up to and with this page.
    pub pass: Pass,
    /// The API's total, as this page tells it.
    pub total: Option<u64>,
    /// What every row carries.
    pub meta: Meta,
    /// The rows.
    pub content: Content,
}

impl PageItem {
    /// Where the stream goes on after this page.
    pub fn position_after(&self) -> Position {
        match &self.next {
            Place::End => Position { unit: self.unit + 1, place: Place::Start, pass: Pass::default() },
            place => Position { unit: self.unit, place: place.clone(), pass: self.pass },
        }
    }

    /// Whether its stream is read again from its start.
    pub fn starts_again(&self) -> bool {
        self.next == Place::Start
    }
}

/// What all page requests of a resource share.
pub struct Reading {
    /// Asks the API.
    pub client: Arc<Client>,
    /// The pipeline.
    pub pipeline: Arc<Pipeline>,
    /// The resource's place in it.
    pub index: usize,
    /// How pages follow each other.
    pub paginator: Paginator,
    /// Where things are in a response.
    pub paths: Arc<Paths>,
    /// The shape.
    pub shaper: Arc<Shaper>,
    /// The run.
    pub run_id: String,
    /// Counters.
    pub progress: Arc<ResourceProgress>,
    /// The streams.
    pub units: Vec<Unit>,
    /// How often a stream is read at the most.
    pub passes: u32,
}

impl Reading {
    /// The resource that is read.
    pub fn resource(&self) -> &Resource {
        &self.pipeline.resources[self.index]
    }
}

/// Stops the readers when the one who takes the pages goes away.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts reading; the pages come out in order, from `start` on.
pub fn read(reading: Arc<Reading>, start: Position) -> PageStream {
    let (out, pages) = mpsc::channel(2);
    let task = tokio::spawn(async move {
        if let Err(error) = drive(&reading, start, &out).await {
            // Whoever no longer listens does not need to know.
            let _ = out.send(Err(error)).await;
        }
    });
    PageStream { pages, _task: Task(task) }
}

/// The pages of a resource, in order.
pub struct PageStream {
    pages: mpsc::Receiver<Result<PageItem, Error>>,
    _task: Task,
}

impl PageStream {
    /// The next page; none at the end.
    pub async fn next(&mut self) -> Option<Result<PageItem, Error>> {
        self.pages.recv().await
    }
}

type Out = mpsc::Sender<Result<PageItem, Error>>;

/// Reads units side by side and hands their pages on one unit after the other.
async fn drive(reading: &Arc<Reading>, start: Position, out: &Out) -> Result<(), Error> {
    let width = usize::from(reading.pipeline.source.concurrency);
    let left = reading.units.len().saturating_sub(start.unit);
    // Streams of one page go further ahead: one that is tried again holds up those behind it. The client still sends
    // no more than `concurrency` at once.
    let ahead = if reading.paginator == Paginator::None { 2 * width } else { width };
    let at_once = left.clamp(1, ahead);
    let pages_each = width.div_ceil(at_once);
    let mut next = start.unit;
    let mut active: VecDeque<(mpsc::Receiver<Result<PageItem, Error>>, Task)> = VecDeque::new();
    loop {
        while active.len() < at_once && next < reading.units.len() {
            let (sender, receiver) = mpsc::channel(1);
            let begin = if next == start.unit { start.clone() } else { Position { unit: next, ..Position::START } };
            let reading = Arc::clone(reading);
            let task = tokio::spawn(async move {
                if let Err(error) = read_unit(&reading, begin, pages_each, &sender).await {
                    let _ = sender.send(Err(error)).await;
                }
            });
            active.push_back((receiver, Task(task)));
            next += 1;
        }
        let Some((mut first, _task)) = active.pop_front() else { return Ok(()) };
        while let Some(page) = first.recv().await {
            let failed = page.is_err();
            if out.send(page).await.is_err() || failed {
                return Ok(());
            }
        }
    }
}

/// Reads one unit from a position on, and again from its start as long as its list moved.
async fn read_unit(reading: &Arc<Reading>, begin: Position, ahead: usize, out: &Out) -> Result<(), Error> {
    let first = request(&reading.client, &reading.pipeline, reading.resource(), &reading.units[begin.unit])?;
    let plan = Arc::new(Plan::new(reading.paginator.clone(), first));
    let ahead = if plan.is_parallel() { ahead } else { 1 };
    let mut position = begin;
    while let Some(pass) = read_pass(reading, &plan, &position, ahead, out).await? {
        tracing::info!(pass.number = pass.number + 1, "a list moved while it was read; reading it again");
        position = Position { place: Place::Start, pass, ..position };
    }
    Ok(())
}

/// Reads one unit from a position to its end; gives the reading that shall follow, if one shall.
async fn read_pass(
    reading: &Arc<Reading>,
    plan: &Arc<Plan>,
    begin: &Position,
    ahead: usize,
    out: &Out,
) -> Result<Option<Pass>, Error> {
    let (unit, place, mut pass) = (begin.unit, begin.place.clone(), begin.pass);
    let mut repeats = Repeats::default();
    let mut largest = 0;
    // The first page is waited for: it tells how many there are.
    let mut last: Option<Place> = None;
    let mut due = place;
    let mut fetching = FuturesOrdered::new();
    let mut asked = due.clone();
    let mut is_first = true;
    loop {
        let width = if is_first { 1 } else { ahead };
        let wanted = |asked: &Place| last.as_ref().is_none_or(|last| !passed(asked, last));
        while fetching.is_empty() || (fetching.len() < width && wanted(&asked)) {
            let (shared, plan, place) = (Arc::clone(reading), Arc::clone(plan), asked.clone());
            let task = tokio::spawn(async move { fetch(&shared, &plan, unit, place).await });
            fetching.push_back(Abort(task));
            asked = plan_ahead(reading, &asked);
        }
        let Some(page) = fetching.next().await else { return Ok(None) };
        let mut page = page?;
        is_first = false;
        repeats.check(reading, &page)?;
        largest = largest.max(page.rows);
        page.item.next = plan.next(&due, &page.around, page.rows, largest);
        last = match (last, plan.last(&page.around, largest)) {
            (Some(before), Some(now)) if passed(&before, &now) => Some(before),
            (before, now) => now.or(before),
        };
        let next = page.item.next.clone();
        pass.see(page.rows, &page.around.page, plan.counts(&next));
        let again = if next == Place::End { pass.again(reading.passes) } else { None };
        if again.is_some() {
            page.item.next = Place::Start;
        }
        page.item.pass = again.unwrap_or(pass);
        if out.send(Ok(page.item)).await.is_err() {
            return Ok(None);
        }
        if next == Place::End {
            return Ok(again);
        }
        repeats.check_place(reading, &next)?;
        if next != plan_ahead(reading, &due) || fetching.is_empty() {
            // Nothing was asked ahead, or it does not join on: the API's pages are smaller than asked for.
            fetching = FuturesOrdered::new();
            asked = next.clone();
        }
        due = next;
    }
}

/// The place after this one if every page is as long as asked for.
fn plan_ahead(reading: &Reading, place: &Place) -> Place {
    match (&reading.paginator, place) {
        (Paginator::Page { .. }, Place::Page(page)) => Place::Page(page + 1),
        (Paginator::Page { start, .. }, Place::Start) => Place::Page(start + 1),
        (Paginator::Offset { limit, .. }, Place::Offset(offset)) => Place::Offset(offset + limit),
        (Paginator::Offset { limit, .. }, Place::Start) => Place::Offset(*limit),
        _ => Place::End,
    }
}

/// A task that ends with whoever waits for it.
struct Abort(JoinHandle<Result<Fetched, Error>>);

impl std::future::Future for Abort {
    type Output = Result<Fetched, Error>;
    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0)
            .poll(context)
            .map(|joined| joined.unwrap_or_else(|error| Err(Error::Internal(error.to_string()))))
    }
}

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Fetched {
    item: PageItem,
    rows: usize,
    /// Beginning and end of the rows, to recognise a page that repeats.
    sample: Vec<u8>,
    /// The answer without its rows.
    around: Answer,
}

async fn fetch(reading: &Arc<Reading>, plan: &Plan, unit: usize, place: Place) -> Result<Fetched, Error> {
    let Some(request) = plan.request(&reading.client, &place)? else {
        return Err(Error::Internal("a request past the end".into()));
    };
    let format = reading.resource().format;
    let answer = match reading.client.fetch(&request, &reading.paths, format, &reading.progress.traffic).await {
        // Some APIs answer a page past the last with 404.
        Err(Error::Refused { status: 404, .. }) if plan.is_parallel() && !plan.is_first(&place) => Answer::default(),
        answer => answer?,
    };
    let values = &reading.units[unit].values;
    let include = reading.resource().include.values();
    let meta = Meta {
        extracted_at: answer.fetched_at.micros(),
        run_id: reading.run_id.clone(),
        source: answer.source.clone(),
        include: include.map(|reference| values.get(reference).cloned().unwrap_or_default()).collect(),
    };
    let around =
        Answer { page: crate::source::Page { records: bytes::Bytes::new(), ..answer.page.clone() }, ..answer.clone() };
    let sample = sample(&answer.page.records);
    let (shaper, for_rows) = (Arc::clone(&reading.shaper), meta.clone());
    let taken = tokio::task::spawn_blocking(move || shaper.take(answer, &for_rows)).await;
    let taken = taken.map_err(|error| Error::Internal(format!("decoding a page failed: {error}")))?;
    let content = taken.map_err(|detail| Error::BadResponse {
        resource: reading.resource().name.clone(),
        url: reading.client.public(&request.url),
        detail: format!("the rows are no readable JSON: {detail}"),
    })?;
    let rows = match &content {
        Content::Raw(_, inference) => inference.rows,
        Content::Rows(decoded) => decoded.batch.num_rows(),
    };
    let item = PageItem { unit, next: Place::End, pass: Pass::default(), total: around.page.total, meta, content };
    Ok(Fetched { item, rows, sample, around })
}

/// The first and the last four kilobytes.
fn sample(records: &[u8]) -> Vec<u8> {
    let ends = 4096;
    let mut sample = records[..records.len().min(ends)].to_vec();
    sample.extend_from_slice(&records[records.len().saturating_sub(ends)..]);
    sample.extend_from_slice(&records.len().to_le_bytes());
    sample
}

/// Finds pages that repeat for ever.
#[derive(Default)]
struct Repeats {
    before: Vec<u8>,
    places: HashSet<String>,
}

impl Repeats {
    fn check(&mut self, reading: &Reading, page: &Fetched) -> Result<(), Error> {
        if page.rows > 0 && page.sample == self.before {
            return Err(Error::Loop {
                resource: reading.resource().name.clone(),
                detail: format!(
                    "a page is the same as the one before it ({} rows); the API may not know the paginator's parameters: correct `paginator`",
                    page.rows
                ),
            });
        }
        self.before.clone_from(&page.sample);
        Ok(())
    }

    fn check_place(&mut self, reading: &Reading, place: &Place) -> Result<(), Error> {
        let (Place::Token(text) | Place::Url(text)) = place else { return Ok(()) };
        if self.places.insert(text.clone()) {
            return Ok(());
        }
        let shown: String = reading.client.redact(text).chars().take(120).collect();
        Err(Error::Loop {
            resource: reading.resource().name.clone(),
            detail: format!(
                "the next page `{shown}` was there before: the API goes in circles; correct `paginator.next`"
            ),
        })
    }
}
