//! Where the rows are in a document, and whether a document is rather a map of endpoints.

use serde_json::{Map, Value};
use url::Url;

use super::{normal, same_origin, words};

/// Objects nested deeper than this hold details, not rows.
const MAX_DEPTH: usize = 4;

const LISTS: [&str; 25] = [
    "data",
    "results",
    "result",
    "items",
    "records",
    "rows",
    "entries",
    "values",
    "value",
    "list",
    "content",
    "objects",
    "elements",
    "docs",
    "hits",
    "collection",
    "members",
    "member",
    "hydramember",
    "nodes",
    "features",
    "entities",
    "documents",
    "resources",
    "payload",
];
const NO_ROWS: [&str; 14] = [
    "errors",
    "warnings",
    "messages",
    "links",
    "included",
    "facets",
    "filters",
    "aggregations",
    "relationships",
    "tags",
    "suggestions",
    "columns",
    "fields",
    "sort",
];
/// Words that envelopes use for themselves.
const ENVELOPE: [&str; 50] = [
    "total",
    "count",
    "page",
    "next",
    "prev",
    "previous",
    "limit",
    "offset",
    "cursor",
    "token",
    "link",
    "more",
    "size",
    "meta",
    "metadata",
    "status",
    "success",
    "message",
    "code",
    "version",
    "error",
    "took",
    "timed",
    "self",
    "first",
    "last",
    "skip",
    "start",
    "from",
    "to",
    "object",
    "type",
    "kind",
    "etag",
    "request",
    "time",
    "ok",
    "url",
    "href",
    "has",
    "context",
    "odata",
    "copyright",
    "max",
    "num",
    "found",
    "result",
    "per",
    "perpage",
    "hasmore",
];

struct Candidate {
    path: String,
    score: i64,
    named: bool,
}

/// The dotted path of the list of rows: the largest and nearest to the root. `None`: the document is no list.
pub(super) fn find(body: &Value, url: &Url) -> Option<String> {
    let fields = match body {
        Value::Array(rows) => return rows.iter().all(Value::is_object).then(|| "$".into()),
        Value::Object(fields) => fields,
        _ => return None,
    };
    let segment = url.path_segments().and_then(|mut s| s.rfind(|s| !s.is_empty() && !is_id(s))).map(normal);
    let mut candidates = Vec::new();
    collect(fields, "", 0, segment.as_deref().unwrap_or_default(), &mut candidates);
    // The earlier one wins a draw.
    let best = candidates.into_iter().rev().max_by_key(|candidate| candidate.score)?;
    let own = fields.iter().filter(|(key, value)| !value.is_array() && !value.is_object() && !is_envelope(key));
    let own: Vec<&str> = own.map(|(key, _)| key.as_str()).collect();
    let names_itself = own.iter().any(|key| matches!(normal(key).as_str(), "id" | "uuid" | "guid" | "slug" | "key"));
    let is_detail = names_itself || own.len() >= if best.named { 4 } else { 1 };
    (!is_detail).then_some(best.path)
}

fn collect(fields: &Map<String, Value>, above: &str, depth: usize, segment: &str, out: &mut Vec<Candidate>) {
    for (key, value) in fields {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        match value {
            Value::Array(rows) if rows.iter().all(Value::is_object) => {
                let name = normal(key);
                let asked_for = !segment.is_empty() && (name == segment || name == format!("{segment}s"));
                let named = asked_for || LISTS.contains(&name.as_str());
                if rows.is_empty() && !named {
                    continue;
                }
                let mut score = rows.len().min(30) as i64 / 3 - 3 * depth as i64;
                score += if asked_for { 8 } else { 0 } + if LISTS.contains(&name.as_str()) { 6 } else { 0 };
                score -= if NO_ROWS.contains(&name.as_str()) { 12 } else { 0 };
                out.push(Candidate { path, score, named });
            }
            Value::Object(inner) if depth + 1 < MAX_DEPTH => collect(inner, &path, depth + 1, segment, out),
            _ => {}
        }
    }
}

fn is_envelope(key: &str) -> bool {
    words(key).iter().any(|word| {
        let singular = word.strip_suffix('s').filter(|_| word != "status").unwrap_or(word);
        ENVELOPE.contains(&singular) || ENVELOPE.contains(&word.as_str())
    })
}

/// A path segment that names one thing: a number or a UUID.
fn is_id(segment: &str) -> bool {
    segment.chars().all(|c| c.is_ascii_digit()) || (segment.len() == 36 && segment.matches('-').count() == 4)
}

const NOT_ENDPOINTS: [&str; 12] = [
    "self",
    "next",
    "prev",
    "previous",
    "first",
    "last",
    "docs",
    "documentation",
    "schema",
    "openapi",
    "home",
    "profile",
];

/// Names that lead to other endpoints of the same host, when that is what the document is about.
pub(super) fn index(body: &Value, url: &Url) -> Option<Vec<(String, Url)>> {
    let fields = body.as_object()?;
    if let Some(links) = links_in(fields, url) {
        return Some(links);
    }
    ["_links", "links", "endpoints", "resources", "data"]
        .iter()
        .find_map(|key| links_in(fields.get(*key)?.as_object()?, url))
}

fn links_in(fields: &Map<String, Value>, asked: &Url) -> Option<Vec<(String, Url)>> {
    let links: Vec<(String, Url)> =
        fields.iter().filter_map(|(name, value)| Some((name.clone(), endpoint(value, asked)?))).collect();
    // Most entries must be links: one link among many fields is a field of a document.
    let templates = fields.values().filter(|value| is_template(value)).count();
    let mostly = !links.is_empty() && (links.len() + templates) * 5 >= fields.len() * 4;
    let others = links.into_iter().filter(|(name, url)| {
        !NOT_ENDPOINTS.contains(&normal(name).as_str())
            && url.path().trim_end_matches('/') != asked.path().trim_end_matches('/')
    });
    let others: Vec<_> = others.collect();
    (mostly && !others.is_empty()).then_some(others)
}

fn link_text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Object(link) => link.get("href").or_else(|| link.get("url"))?.as_str(),
        _ => None,
    }
}

/// A link with a hole, such as `/orders/{id}`.
fn is_template(value: &Value) -> bool {
    link_text(value).is_some_and(|text| text.contains("/{") && !text.contains("{?"))
}

fn endpoint(value: &Value, asked: &Url) -> Option<Url> {
    let text = link_text(value)?;
    // RFC 6570: an optional query is left out; a link that needs a value leads nowhere yet.
    let text = text.split("{?").next().unwrap_or(text).split("{&").next().unwrap_or(text);
    let is_link = text.starts_with("http://") || text.starts_with("https://") || text.starts_with('/');
    if !is_link || text.contains('{') {
        return None;
    }
    asked.join(text).ok().filter(|url| same_origin(url, asked))
}
