//! Asks one list endpoint what the description did not say: how it is paged, how large a page may be, and whether it
//! filters by its modification time.

use std::collections::{BTreeMap, BTreeSet};

use url::Url;

use super::detect::{CursorColumn, Detected, Shape, same_origin};
use super::probe::{Answer, Prober, Silence};
use super::write::DraftResource;
use crate::spec::{CursorFormat, Incremental, IncrementalCursor, Paginator, ResponseFormat, Span};

/// The page size that is tried.
const WANTED_SIZE: u64 = 1_000;
/// Page sizes that are written where a list ended before a page was full: what an API may give at the most is not known
/// then, and the number of its rows today is no size of a page.
const SIZES: [u64; 8] = [500, 250, 200, 100, 50, 25, 20, 10];
/// A list shorter than this, without a word about pages, is taken to be whole.
const FEWEST_ROWS: usize = 10;
/// Parameters that are tried as a filter by modification time.
const SINCE_PARAMS: [&str; 4] = ["updated_since", "modified_since", "updated_after", "since"];

/// What one endpoint of an API taught that holds for the others.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// The parameter that filters by modification time; `Some(None)` when none of those tried does.
    since: Option<Option<&'static str>>,
    /// The parameters of the page size, and the largest page that came.
    sizes: BTreeMap<String, u64>,
    /// Lists that ended before a page was full.
    short: BTreeSet<String>,
}

/// What became of an endpoint.
#[derive(Debug)]
pub(super) enum Verdict {
    /// A list; the draft says now how it is read.
    List(Box<Detected>),
    /// One object.
    Single,
    /// A table of contents.
    Index,
    /// The credentials were not accepted, or none were given.
    Refused(u16),
    /// No rows, and why.
    Unreadable(String),
    /// No requests are left.
    Spent,
}

/// Asks `url` and writes what it tells into `draft`.
pub(super) async fn survey(
    prober: &mut Prober<'_>,
    url: &Url,
    draft: &mut DraftResource,
    learned: &mut Learned,
) -> Verdict {
    let answer = match prober.get(url).await {
        Ok(answer) => answer,
        Err(Silence::Spent) => return Verdict::Spent,
        Err(Silence::Failed(reason)) => return Verdict::Unreadable(reason),
    };
    if matches!(answer.status, 401 | 403) {
        return Verdict::Refused(answer.status);
    }
    let detected = answer.detect();
    match &detected.shape {
        Shape::List => {}
        Shape::Single => return Verdict::Single,
        Shape::Index(_) => return Verdict::Index,
        Shape::Unreadable(reason) => return Verdict::Unreadable(reason.clone()),
    }
    apply(draft, &answer, &detected);
    try_pages(prober, url, draft, &detected).await;
    try_size(prober, url, draft, &detected, learned).await;
    try_since(prober, url, draft, &detected, learned).await;
    Verdict::List(Box::new(detected))
}

/// What a first page tells stands before what a description says, but for parameters, which only a description knows.
fn apply(draft: &mut DraftResource, answer: &Answer, detected: &Detected) {
    let resource = &mut draft.resource;
    let described = resource.paginator.take().unwrap_or_default();
    let missing = match &described {
        Paginator::None | Paginator::Auto => true,
        Paginator::Cursor { next, .. } | Paginator::NextUrl { next, .. } => {
            !next.starts_with("header:") && !names(answer, next)
        }
        _ => false,
    };
    let replaced = missing && (detected.paginator != Paginator::None || described == Paginator::None);
    resource.paginator = Some(if replaced { detected.paginator.clone() } else { described });
    resource.records = Some(detected.records.clone());
    resource.total = detected.total.clone();
    if matches!(detected.format, ResponseFormat::Jsonl | ResponseFormat::Csv) {
        resource.format = detected.format;
    }
    if !detected.primary_key.is_empty() {
        resource.primary_key = Some(detected.primary_key.clone());
        draft.suggestions.retain(|suggestion| !suggestion.starts_with("primary_key:"));
    }
    if let Some(total) = detected.total_rows {
        draft.notes.push(format!("{total} rows when this was written"));
    }
    draft.notes.extend(detected.why.iter().filter(|why| replaced || !why.starts_with("paginator:")).cloned());
}

fn names(answer: &Answer, path: &str) -> bool {
    serde_json::from_slice(&answer.body).is_ok_and(|body| super::detect::lookup(&body, path).is_some())
}

fn with(url: &Url, name: &str, value: &str) -> Url {
    let kept: Vec<(String, String)> =
        url.query_pairs().filter(|(known, _)| known != name).map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(kept).append_pair(name, value);
    url
}

/// Where nothing tells of pages: other rows on `?page=2` or `?offset=` do.
async fn try_pages(prober: &mut Prober<'_>, url: &Url, draft: &mut DraftResource, first: &Detected) {
    let known = draft.resource.paginator.as_ref().is_some_and(|paginator| *paginator != Paginator::None);
    let rows = first.rows;
    let whole = first.total_rows.map_or(rows < FEWEST_ROWS, |total| total <= rows as u64);
    if known || whole {
        return;
    }
    let page = Paginator::Page { param: "page".into(), size_param: None, size: None, start: 1, total_pages: None };
    if other_rows(prober, &with(url, "page", "2"), first).await {
        draft.notes.push("paginator: other rows come on `?page=2`".into());
        draft.resource.paginator = Some(page);
        return;
    }
    let second = with(&with(url, "offset", &rows.to_string()), "limit", &rows.to_string());
    if other_rows(prober, &second, first).await {
        draft.notes.push(format!("paginator: other rows come on `?offset={rows}&limit={rows}`"));
        let limit = rows as u64;
        draft.resource.paginator =
            Some(Paginator::Offset { param: "offset".into(), limit_param: "limit".into(), limit });
    }
}

async fn other_rows(prober: &mut Prober<'_>, url: &Url, first: &Detected) -> bool {
    let Ok(answer) = prober.get(url).await else { return false };
    match answer.rows_at(&first.records) {
        Some(0) => true,
        Some(_) => first.differs_from(&answer.detect()),
        None => false,
    }
}

fn size_of(paginator: &mut Paginator) -> Option<(String, &mut u64)> {
    match paginator {
        Paginator::Page { size_param: Some(param), size: Some(size), .. }
        | Paginator::Cursor { size_param: Some(param), size: Some(size), .. }
        | Paginator::NextUrl { size_param: Some(param), size: Some(size), .. }
        | Paginator::LinkHeader { size_param: Some(param), size: Some(size), .. } => Some((param.clone(), size)),
        Paginator::Offset { limit_param, limit, .. } => Some((limit_param.clone(), limit)),
        _ => None,
    }
}

/// Larger pages mean fewer requests: asks for one, and keeps what came.
async fn try_size(
    prober: &mut Prober<'_>,
    url: &Url,
    draft: &mut DraftResource,
    first: &Detected,
    learned: &mut Learned,
) {
    let Some((param, size)) = draft.resource.paginator.as_mut().and_then(size_of) else { return };
    if *size >= WANTED_SIZE || first.rows == 0 {
        return;
    }
    let Ok(answer) = prober.get(&with(url, &param, &WANTED_SIZE.to_string())).await else { return };
    let came = answer.rows_at(&first.records).unwrap_or(0) as u64;
    let is_whole = came < WANTED_SIZE && first.total_rows.is_none_or(|total| total <= came);
    if came == 0 || came < *size && !is_whole {
        // The described size was too large, or had no effect.
        *size = (first.rows as u64).min(*size).max(1);
    } else if is_whole {
        // So many came, so at least the next smaller size is given.
        let given = SIZES.iter().find(|size| **size <= came).copied().unwrap_or(0);
        *size = given.max(*size);
        draft.notes.push(format!("pages: all {came} rows came when {WANTED_SIZE} were asked for"));
        // Without a total it may as well be the most that the API gives.
        if first.total_rows.is_some() {
            learned.short.insert(draft.resource.name.clone());
        }
    } else {
        *size = came.min(WANTED_SIZE);
        draft.notes.push(format!("pages: {came} rows came when {WANTED_SIZE} were asked for"));
    }
    let proven = *size;
    let most = learned.sizes.entry(param).or_default();
    *most = proven.max(*most);
}

/// Takes the largest page that any endpoint gave for those that simply had no more rows.
pub(super) fn share_size(draft: &mut DraftResource, learned: &Learned) {
    if !learned.short.contains(&draft.resource.name) {
        return;
    }
    let Some((param, size)) = draft.resource.paginator.as_mut().and_then(size_of) else { return };
    *size = learned.sizes.get(&param).copied().unwrap_or(0).max(*size);
}

/// An API that filters by modification time has no rows from the year 2100 on.
async fn try_since(
    prober: &mut Prober<'_>,
    url: &Url,
    draft: &mut DraftResource,
    first: &Detected,
    learned: &mut Learned,
) {
    let Some(column) = first.cursor.as_ref().filter(|_| draft.resource.incremental.cursor().is_none()) else {
        if let (Incremental::On(cursor), Some(found)) = (&mut draft.resource.incremental, &first.cursor) {
            cursor.cursor = found.column.clone();
        }
        return;
    };
    let candidates: Vec<&'static str> = match learned.since {
        Some(None) => vec![],
        Some(Some(known)) => vec![known],
        None => SINCE_PARAMS.to_vec(),
    };
    let mut found = None;
    if column.sees_changes && first.rows > 0 {
        for param in candidates {
            let asked = with(url, param, far_future(column.format));
            let Ok(answer) = prober.get(&asked).await else { break };
            if answer.rows_at(&first.records) == Some(0) {
                found = Some(param);
                break;
            }
        }
        learned.since = learned.since.flatten().map(Some).or(Some(found));
    }
    draft.suggestions.retain(|suggestion| !suggestion.starts_with("incremental:"));
    match found {
        Some(param) => {
            draft.notes.push(format!("incremental: `{param}` filters by time; from 2100 on no rows came"));
            draft.resource.incremental = Incremental::On(cursor_on(column, param));
        }
        None => draft.suggestions.push(suggestion(column)),
    }
}

fn far_future(format: CursorFormat) -> &'static str {
    match format {
        CursorFormat::Rfc3339 => "2100-01-01T00:00:00Z",
        CursorFormat::Date => "2100-01-01",
        CursorFormat::Unix | CursorFormat::Number => "4102444800",
        CursorFormat::UnixMs => "4102444800000",
    }
}

fn cursor_on(column: &CursorColumn, param: &str) -> IncrementalCursor {
    let lookback = Span::from_secs(if column.format == CursorFormat::Date { 86_400 } else { 300 });
    let (cursor, format) = (column.column.clone(), column.format);
    IncrementalCursor { cursor, param: param.to_owned(), lookback, format, ..IncrementalCursor::default() }
}

fn suggestion(column: &CursorColumn) -> String {
    let caution = if column.sees_changes { "" } else { "; sees new rows only" };
    format!(
        "incremental: {{ cursor: {}, param: updated_since, lookback: 5m }}   # name the parameter the API filters by{caution}",
        column.column
    )
}

/// A link in a row to the row's own document on the same host.
pub(super) struct DetailLink {
    pub(super) column: String,
    /// Where the first row's leads.
    pub(super) first: Url,
    /// It names a path from the host's root on, such as `/api/v2/items/1/`, not a whole URL.
    pub(super) from_root: bool,
}

pub(super) fn detail_of(detected: &Detected, asked: &Url) -> Option<DetailLink> {
    let column = detected.detail.clone()?;
    let text = super::detect::lookup(detected.first_row.as_ref()?, &column)?.as_str()?;
    let first = asked.join(text).ok().filter(|url| same_origin(url, asked))?;
    Some(DetailLink { column, first, from_root: text.starts_with('/') })
}
