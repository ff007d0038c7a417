//! The streams that a resource is read in: one for each parent row, partition and time window.

use std::collections::BTreeMap;
use std::collections::HashSet;

use bytes::Bytes;
use tessera_kernel::Timestamp;
use url::Url;

use crate::Error;
use crate::lake::{Cursor, column};
use crate::quality::text;
use crate::source::{Client, Request, RequestBody};
use crate::spec::{CursorFormat, IncrementalCursor, Method, Pipeline, Resource, references};
use crate::write::StoredFile;

/// Windows of a resource at the most: each is a request at least, and all are held in memory.
const MOST_WINDOWS: u32 = 100_000;

/// What a stream's requests are filled with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Values by reference: `orders.id`, `region`, `run.started_at`.
    pub values: BTreeMap<String, String>,
    /// Rows from this cursor on.
    pub from: Option<Cursor>,
    /// Rows before this cursor.
    pub until: Option<Cursor>,
}

/// What the streams of a resource are bounded by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// From here on, inclusive.
    pub from: Option<Cursor>,
    /// Up to here, exclusive.
    pub until: Option<Cursor>,
    /// When the run began.
    pub started_at: Timestamp,
    /// Cut into windows.
    pub windows: bool,
}

/// All streams of a resource, always in the same order for the same run.
///
/// # Errors
/// [`Error::Spec`] when its window cuts the time into more than [`MOST_WINDOWS`].
pub fn units(
    resource: &Resource,
    parents: Option<Vec<BTreeMap<String, String>>>,
    run_id: &str,
    bounds: Bounds,
) -> Result<Vec<Unit>, Error> {
    let run = BTreeMap::from([
        ("run.id".to_owned(), run_id.to_owned()),
        ("run.started_at".to_owned(), bounds.started_at.to_string()),
        ("run.date".to_owned(), bounds.started_at.to_utc().format("%Y-%m-%d").to_string()),
    ]);
    let mut filled = vec![run];
    if let Some(parents) = parents {
        filled = product(&filled, &parents);
    }
    for (name, values) in &resource.partitions {
        let values: Vec<_> = values.iter().map(|value| BTreeMap::from([(name.clone(), value.clone())])).collect();
        filled = product(&filled, &values);
    }
    let spans = spans(resource.incremental.cursor(), bounds)
        .map_err(|detail| Error::Spec { place: format!("resource `{}`", resource.name), detail })?;
    Ok(filled
        .into_iter()
        .flat_map(|values| {
            spans.iter().map(move |(from, until)| Unit { values: values.clone(), from: *from, until: *until })
        })
        .collect())
}

fn product(left: &[BTreeMap<String, String>], right: &[BTreeMap<String, String>]) -> Vec<BTreeMap<String, String>> {
    left.iter()
        .flat_map(|left| {
            right.iter().map(move |right| left.iter().chain(right).map(|(k, v)| (k.clone(), v.clone())).collect())
        })
        .collect()
}

type Spans = Vec<(Option<Cursor>, Option<Cursor>)>;

/// The windows of a resource, in words what is wrong with them.
fn spans(cursor: Option<&IncrementalCursor>, bounds: Bounds) -> Result<Spans, String> {
    let whole = Ok(vec![(bounds.from, bounds.until)]);
    let window = cursor.and_then(|cursor| cursor.window).filter(|_| bounds.windows);
    let (Some(window), Some(Cursor::At(from))) = (window, bounds.from) else { return whole };
    let end = match bounds.until {
        Some(Cursor::At(until)) => until,
        _ => bounds.started_at,
    };
    let length = end.since(from);
    if length.as_micros().div_ceil(window.0.as_micros().max(1)) > u128::from(MOST_WINDOWS) {
        let least = length.as_secs() / u64::from(MOST_WINDOWS) + 1;
        return Err(format!(
            "incremental.window cuts {from} to {end} into more than {MOST_WINDOWS} windows; make it at least {least}s, or read less at once with --from and --to"
        ));
    }
    let mut spans = Vec::new();
    let mut at = from;
    while at < end {
        let next = at.plus(window.0).min(end);
        spans.push((Some(Cursor::At(at)), Some(Cursor::At(next))));
        at = next;
    }
    // What changes while the windows are read comes after the last of them.
    if bounds.until.is_none() {
        spans.push((Some(Cursor::At(at)), None));
    }
    Ok(spans)
}

/// The values of parent rows that a resource refers to, in the order of the rows, each combination once. Blocking.
///
/// # Errors
/// [`Error::Lake`] when a file cannot be read; [`Error::Spec`] when the parent has no such column.
pub fn parent_values(
    resource: &Resource,
    parent: &str,
    files: &[StoredFile],
) -> Result<Vec<BTreeMap<String, String>>, Error> {
    let wanted: Vec<(String, String)> = references(resource)
        .into_iter()
        .filter_map(|reference| {
            let (name, path) = reference.split_once('.')?;
            (name == parent).then(|| (reference.clone(), path.to_owned()))
        })
        .collect();
    let (mut values, mut seen, mut known) = (Vec::new(), HashSet::new(), vec![false; wanted.len()]);
    for file in files {
        let roots: Vec<String> =
            wanted.iter().map(|(_, path)| path.split('.').next().unwrap_or(path).to_owned()).collect();
        let reader = file.read(Some(&roots)).map_err(|detail| Error::Lake { detail })?;
        for batch in reader {
            let batch = batch.map_err(|detail| Error::Lake { detail })?;
            let columns: Vec<_> = wanted.iter().map(|(_, path)| column(&batch, path)).collect();
            known.iter_mut().zip(&columns).for_each(|(known, column)| *known |= column.is_some());
            for row in 0..batch.num_rows() {
                let filled: Option<BTreeMap<String, String>> = wanted
                    .iter()
                    .zip(&columns)
                    .map(|((reference, _), column)| {
                        let column = column.as_ref().filter(|column| column.is_valid(row))?;
                        Some((reference.clone(), text(column.as_ref(), row)))
                    })
                    .collect();
                // A parent row without the value has no children to ask for.
                if let Some(filled) = filled
                    && seen.insert(filled.values().cloned().collect::<Vec<_>>())
                {
                    values.push(filled);
                }
            }
        }
    }
    let missing = wanted.iter().zip(&known).find(|(_, known)| !**known);
    if let (Some(((reference, _), _)), false) = (missing, files.is_empty()) {
        let detail = format!("the rows of `{parent}` have no such column; correct `{{{reference}}}`");
        return Err(Error::Spec { place: format!("resource `{}`", resource.name), detail });
    }
    Ok(values)
}

/// The first request of a stream, without paging parameters.
///
/// # Errors
/// [`Error::BadResponse`] when a parent's value leads to another host.
pub fn request(client: &Client, pipeline: &Pipeline, resource: &Resource, unit: &Unit) -> Result<Request, Error> {
    let fill = |template: &str| fill(template, &unit.values, str::to_owned);
    let mut url: Url = match whole_url(&resource.path, unit) {
        Some(url) => client.follow(&resource.name, url)?,
        None => client.resolve(&resource.name, &self::fill(&resource.path, &unit.values, encode))?,
    };
    let mut parameters: Vec<(String, String)> = Vec::new();
    for (name, value) in pipeline.source.params.iter().chain(&resource.params) {
        parameters.retain(|(known, _)| known != name);
        parameters.push((name.clone(), fill(value)));
    }
    if !parameters.is_empty() {
        url.query_pairs_mut().extend_pairs(&parameters);
    }
    let json = resource.body.as_ref().map(|body| RequestBody {
        bytes: Bytes::from(fill_json(&serde_json::Value::Object(body.clone()), &unit.values).to_string()),
        content_type: "application/json",
    });
    let form = resource.form.as_ref().map(|form| {
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(form.iter().map(|(name, value)| (name, fill(value))));
        RequestBody { bytes: text.finish().into(), content_type: "application/x-www-form-urlencoded" }
    });
    let mut request = Request {
        resource: resource.name.as_str().into(),
        method: if resource.method == Method::Post { http::Method::POST } else { http::Method::GET },
        url,
        headers: resource.headers.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
        body: json.or(form),
        empty_on: resource.empty_on.as_slice().into(),
    };
    if let Some(cursor) = resource.incremental.cursor() {
        let mut bounds = Vec::new();
        if let Some(from) = unit.from {
            bounds.push((cursor.param.clone(), from.parameter(cursor.format)));
        }
        if let (Some(param), Some(until)) = (&cursor.until_param, unit.until) {
            bounds.push((param.clone(), until.parameter(cursor.format)));
        }
        crate::source::add_parameters(&mut request, &bounds);
    }
    Ok(request)
}

/// A path that is nothing but a parent's value: a link, as in a document.
fn whole_url<'a>(path: &str, unit: &'a Unit) -> Option<&'a str> {
    let reference = path.strip_prefix('{')?.strip_suffix('}')?;
    unit.values.get(reference).map(String::as_str)
}

fn fill(template: &str, values: &BTreeMap<String, String>, write: impl Fn(&str) -> String) -> String {
    let mut text = template.to_owned();
    for (reference, value) in values {
        let place = format!("{{{reference}}}");
        if text.contains(&place) {
            text = text.replace(&place, &write(value));
        }
    }
    text
}

fn fill_json(value: &serde_json::Value, values: &BTreeMap<String, String>) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(fill(text, values, str::to_owned)),
        Value::Array(items) => items.iter().map(|item| fill_json(item, values)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), fill_json(value, values))).collect(),
        other => other.clone(),
    }
}

/// A value as one segment of a path.
fn encode(value: &str) -> String {
    let mut url = Url::parse("http://x").map_or(String::new(), |mut url| {
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().push(value);
        }
        url.path().to_owned()
    });
    if url.starts_with('/') {
        url.remove(0);
    }
    // A segment of dots alone would climb.
    if value.chars().all(|c| c == '.') { value.replace('.', "%2E") } else { url }
}

/// Where an incremental run starts.
pub fn incremental_from(cursor: &IncrementalCursor, saved: Option<Cursor>) -> Option<Cursor> {
    match saved {
        Some(Cursor::At(at)) => Some(Cursor::At(at.minus(cursor.lookback.0))),
        Some(Cursor::Number(number)) => Some(Cursor::Number(number)),
        None => cursor.start.filter(|_| cursor.format != CursorFormat::Number).map(Cursor::At),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(json: serde_json::Value) -> Resource {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn partitions_and_windows_multiply() {
        let resource = resource(serde_json::json!({
            "name": "r", "path": "/r", "partitions": {"region": ["eu", "us"]},
            "incremental": {"cursor": "at", "param": "since", "until_param": "until", "start": "2024-01-01", "window": "1d"}
        }));
        let at = |text: &str| Cursor::At(text.parse().unwrap());
        let bounds = Bounds {
            from: Some(at("2024-01-01")),
            until: None,
            started_at: "2024-01-02T12:00:00Z".parse().unwrap(),
            windows: true,
        };
        let units = units(&resource, None, "run_1", bounds).unwrap();
        assert_eq!(units.len(), 2 * 3);
        assert_eq!((units[0].from, units[0].until), (Some(at("2024-01-01")), Some(at("2024-01-02"))));
        assert_eq!((units[2].from, units[2].until), (Some(at("2024-01-02T12:00:00Z")), None));
        assert_eq!(units[5].values["region"], "us");
    }

    #[test]
    fn windows_that_are_too_small_are_refused_not_cut_off() {
        let cursor: IncrementalCursor =
            serde_json::from_value(serde_json::json!({ "cursor": "at", "param": "since", "window": "1s" })).unwrap();
        let at = |text: &str| Some(Cursor::At(text.parse().unwrap()));
        let bounds = |until| Bounds { from: at("2024-01-01"), until: at(until), windows: true, ..Bounds::default() };
        let most = spans(Some(&cursor), bounds("2024-01-02T03:46:40Z")).unwrap();
        assert_eq!((most.len(), most[99_999].1), (100_000, at("2024-01-02T03:46:40Z")));
        let refused = spans(Some(&cursor), bounds("2024-01-03T03:46:40Z")).unwrap_err();
        assert!(refused.contains("window") && refused.contains("at least 2s"), "{refused}");
        let whole = Bounds { until: None, started_at: "2024-02-01".parse().unwrap(), ..bounds("2024-01-02") };
        assert!(spans(Some(&cursor), whole).is_err());
    }

    #[test]
    fn values_cannot_climb_out_of_their_segment() {
        assert_eq!(encode("a/../b c"), "a%2F..%2Fb%20c");
        assert_eq!(encode(".."), "%2E%2E");
        assert_eq!(encode("x?y#z"), "x%3Fy%23z");
    }
}
