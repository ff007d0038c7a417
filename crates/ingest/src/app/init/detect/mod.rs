//! What one response tells about an API: its format, where the rows are, how pages follow each other, which columns
//! name a row and which one grows. Pure: bytes in, findings out.

mod body;
mod columns;
mod pages;
mod records;

use http::HeaderMap;
use serde_json::Value;
use url::Url;

use crate::spec::{CursorFormat, Paginator, ResponseFormat};

pub(crate) use body::MAX_LINES;
pub(crate) use pages::{is_cursor_param, is_offset_param, is_page_param, is_size_param};

/// One response of an API, and what was asked.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The URL that answered, query included.
    pub url: &'a Url,
    /// HTTP status.
    pub status: u16,
    /// Response headers.
    pub headers: &'a HeaderMap,
    /// The body as received; gzip is recognised.
    pub body: &'a [u8],
}

/// What sort of document a response is.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Rows.
    List,
    /// One object: a detail document, or a list of one row.
    Single,
    /// Names that lead to other endpoints of the same host, in the order of the document.
    Index(Vec<(String, Url)>),
    /// Nothing that rows can be read from, and why.
    Unreadable(String),
}

/// A column whose value grows when a row changes.
#[derive(Clone, Debug, PartialEq)]
pub struct CursorColumn {
    /// Dotted path into the row.
    pub column: String,
    /// What its values are.
    pub format: CursorFormat,
    /// True when its name says modification; false when it only says creation, so that changes are missed.
    pub sees_changes: bool,
}

/// What a response tells.
#[derive(Clone, Debug)]
pub struct Detected {
    /// Format of the body.
    pub format: ResponseFormat,
    /// The body itself was gzip, whatever its content type.
    pub gzip: bool,
    /// What sort of document it is.
    pub shape: Shape,
    /// Where the rows are: a dotted path, `$` for the whole body.
    pub records: String,
    /// Rows in this response.
    pub rows: usize,
    /// The first row.
    pub first_row: Option<Value>,
    /// How pages follow each other; [`Paginator::None`] when nothing tells.
    pub paginator: Paginator,
    /// Where the total is: a dotted path or `header:Name`.
    pub total: Option<String>,
    /// The total.
    pub total_rows: Option<u64>,
    /// Columns that name a row: unique and never null in this response.
    pub primary_key: Vec<String>,
    /// The column that grows.
    pub cursor: Option<CursorColumn>,
    /// The column that leads to a row's own document on the same host.
    pub detail: Option<String>,
    /// The rows hold little beside a name and that link.
    pub thin: bool,
    /// Why, a line for each finding.
    pub why: Vec<String>,
}

/// Finds out what a response tells.
pub fn detect(sample: &Sample<'_>) -> Detected {
    let parsed = match sample.status {
        200..=299 => body::parse(sample.headers, sample.body),
        status => Err(format!("it answered {status}")),
    };
    match parsed {
        Err(reason) => Detected::unreadable(reason),
        Ok(parsed) => {
            let mut detected = detect_document(sample.url, sample.headers, &parsed.value, parsed.format);
            detected.gzip = parsed.gzip;
            detected
        }
    }
}

/// Rows at a path of a response, where it has a list there. An empty list without a telling name is found by this only.
pub(crate) fn lookup_rows(sample: &Sample<'_>, records: &str) -> Option<usize> {
    let parsed = body::parse(sample.headers, sample.body).ok().filter(|_| (200..300).contains(&sample.status))?;
    lookup(&parsed.value, records)?.as_array().map(Vec::len)
}

/// [`detect`] for a body that is parsed already; JSON Lines and CSV come as a list.
pub(crate) fn detect_document(url: &Url, headers: &HeaderMap, body: &Value, format: ResponseFormat) -> Detected {
    let mut found = Detected { format, ..Detected::unreadable(String::new()) };
    match records::find(body, url) {
        Some(path) => {
            found.shape = Shape::List;
            found.records = path;
        }
        None => match records::index(body, url) {
            Some(links) => found.shape = Shape::Index(links),
            None if body.is_object() => found.shape = Shape::Single,
            None => {
                found.shape = Shape::Unreadable("the body is neither an object nor a list of objects".into());
                return found;
            }
        },
    }
    if !matches!(found.shape, Shape::List) {
        describe_single(&mut found, body, url);
        return found;
    }
    let rows: Vec<&Value> = match lookup(body, &found.records) {
        Some(Value::Array(rows)) => rows.iter().collect(),
        _ => vec![],
    };
    found.rows = rows.len();
    found.first_row = rows.first().map(|row| (*row).clone());
    found.why.push(match found.records.as_str() {
        "$" => format!("records: the body is the list, {} rows", rows.len()),
        path => format!("records: `{path}` holds {} rows", rows.len()),
    });
    let pages = pages::find(url, headers, body, &found.records, rows.len());
    found.paginator = pages.paginator;
    found.total = pages.total;
    found.total_rows = pages.total_rows;
    found.why.extend(pages.why);
    describe_rows(&mut found, &rows, url);
    found
}

fn describe_rows(found: &mut Detected, rows: &[&Value], url: &Url) {
    found.primary_key = columns::primary_key(rows, url);
    if found.primary_key.is_empty() {
        found.why.push("primary_key: no column is unique and always there".into());
    } else {
        let key = found.primary_key.join(", ");
        found.why.push(format!("primary_key: `{key}` is unique and never null in {} rows", rows.len()));
    }
    found.cursor = columns::cursor(rows);
    if let Some(cursor) = &found.cursor {
        let what = if cursor.sees_changes { "changes" } else { "creation only; changed rows would be missed" };
        found.why.push(format!("cursor: `{}` holds times ({what})", cursor.column));
    }
    found.detail = columns::detail(rows, url);
    found.thin = found.detail.is_some()
        && rows.iter().all(|row| row.as_object().is_some_and(|row| row.len() <= columns::THIN_COLUMNS));
    if let Some(detail) = &found.detail {
        found.why.push(format!("detail: `{detail}` leads to each row's own document"));
    }
}

fn describe_single(found: &mut Detected, body: &Value, url: &Url) {
    found.rows = 1;
    found.first_row = Some(body.clone());
    found.primary_key = columns::primary_key(&[body], url);
    found.cursor = columns::cursor(&[body]);
    found.why.push("records: the body is one object".into());
}

impl Detected {
    fn unreadable(reason: String) -> Self {
        Self {
            format: ResponseFormat::Auto,
            gzip: false,
            shape: Shape::Unreadable(reason),
            records: "$".into(),
            rows: 0,
            first_row: None,
            paginator: Paginator::None,
            total: None,
            total_rows: None,
            primary_key: vec![],
            cursor: None,
            detail: None,
            thin: false,
            why: vec![],
        }
    }

    /// True when `other`, an answer to a request for another page, holds other rows.
    pub fn differs_from(&self, other: &Self) -> bool {
        match (&self.first_row, &other.first_row) {
            (Some(row), Some(other)) if !self.primary_key.is_empty() => {
                self.primary_key.iter().any(|column| row.get(column) != other.get(column))
            }
            (row, other) => row != other,
        }
    }
}

/// The value at a dotted path; `$` is the whole. A key that itself has dots, such as `@odata.nextLink`, is found too.
pub(crate) fn lookup<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path == "$" {
        return Some(value);
    }
    if let Some(found) = value.get(path) {
        return Some(found);
    }
    path.match_indices('.').find_map(|(at, _)| lookup(value.get(&path[..at])?, &path[at + 1..]))
}

/// A key without case and punctuation: `nextPageToken`, `next_page_token` and `Next-Page-Token` are one word.
pub(crate) fn normal(key: &str) -> String {
    key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// The words of a key: `updatedAt` and `updated_at` both give `updated`, `at`.
pub(crate) fn words(key: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for c in key.chars() {
        let cut = !c.is_ascii_alphanumeric() || (c.is_ascii_uppercase() && lower_before);
        if cut && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_ascii_alphanumeric()) {
            word.push(c.to_ascii_lowercase());
        }
        lower_before = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// True when both URLs go to one server.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

#[cfg(test)]
mod tests;
