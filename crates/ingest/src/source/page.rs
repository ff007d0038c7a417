//! What a response holds: its rows, as JSON text, and what it says of the pages around it.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use sonic_rs::{JsonValueTrait, PointerNode, PointerTree};

use super::body::{self, Body};
use crate::shape::too_deep;
use crate::spec::ResponseFormat;

/// Where things are in a response.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// The rows; none: found out.
    pub records: Option<String>,
    /// The next cursor or URL.
    pub next: Option<String>,
    /// The total.
    pub total: Option<String>,
    /// The number of pages.
    pub total_pages: Option<String>,
    /// Whether there is more.
    pub has_more: Option<String>,
}

/// A page; by default one without rows.
#[derive(Clone, Debug)]
pub struct Page {
    /// A JSON array of rows, or one object.
    pub records: Bytes,
    /// The next cursor or URL, if the page gives one.
    pub next: Option<String>,
    /// The API's own total.
    pub total: Option<u64>,
    /// The API's number of pages.
    pub total_pages: Option<u64>,
    /// What the API says of there being more.
    pub has_more: Option<bool>,
}

impl Default for Page {
    fn default() -> Self {
        let records = Bytes::from_static(b"[]");
        Self { records, next: None, total: None, total_pages: None, has_more: None }
    }
}

impl Paths {
    /// Takes a response apart.
    ///
    /// # Errors
    /// In words: HTML instead of JSON, broken JSON, no rows where they should be.
    pub fn read(&self, headers: &HeaderMap, bytes: &Bytes, format: ResponseFormat, most: u64) -> Result<Page, String> {
        let body = body::read(headers, bytes, format, most)?;
        let from_header = |path: &Option<String>| {
            let name = path.as_deref()?.strip_prefix("header:")?;
            Some(headers.get(name)?.to_str().ok()?.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let mut page = match body {
            Body::Rows(records) => Page { records, ..Page::default() },
            Body::Document(document) => self.take_apart(&document)?,
        };
        page.next = from_header(&self.next).or(page.next);
        page.total = from_header(&self.total).and_then(|text| text.parse().ok()).or(page.total);
        page.total_pages = from_header(&self.total_pages).and_then(|text| text.parse().ok()).or(page.total_pages);
        page.has_more = from_header(&self.has_more).and_then(|text| text.parse().ok()).or(page.has_more);
        Ok(page)
    }

    fn take_apart(&self, document: &Bytes) -> Result<Page, String> {
        let document = &trim(document);
        if document.is_empty() || &document[..] == b"null" {
            return Ok(Page { records: Bytes::from_static(b"[]"), ..Page::default() });
        }
        if too_deep(document) {
            return Err("the document is nested deeper than 64 levels".into());
        }
        let records_path = self.records.as_deref().filter(|path| *path != "$");
        let in_body = |path: &Option<String>| path.clone().filter(|path| !path.starts_with("header:"));
        let wanted = [
            records_path.map(str::to_owned),
            in_body(&self.next),
            in_body(&self.total),
            in_body(&self.total_pages),
            in_body(&self.has_more),
        ];
        let mut tree = PointerTree::new();
        let mut places = Vec::new();
        for (at, path) in wanted.iter().enumerate() {
            if let Some(path) = path {
                tree.add_path(pointer(path).iter());
                places.push(at);
            }
        }
        let mut found: [Option<sonic_rs::LazyValue<'_>>; 5] = Default::default();
        let is_object = document.first() == Some(&b'{');
        if is_object && !places.is_empty() {
            let values = match sonic_rs::get_many(&document[..], &tree) {
                Ok(values) => values,
                // A path may lead through a null: then each is looked up by itself.
                Err(_) if is_whole(document) => {
                    let one = |path: &String| sonic_rs::get_from_slice(document, pointer(path).iter()).ok();
                    wanted.iter().flatten().map(one).collect()
                }
                Err(error) => return Err(broken(document, &error)),
            };
            for (place, value) in places.into_iter().zip(values) {
                found[place] = value.filter(|value| !value.is_null());
            }
        }
        let [records, next, total, total_pages, has_more] = found;
        let records = match (records_path, records) {
            (Some(_), Some(records)) => part(document, records.as_raw_str()),
            (Some(path), None) if is_object => return missing(document, path),
            (None, _) if is_object && self.records.is_none() => only_list(document),
            _ => document.clone(),
        };
        let number = |value: Option<sonic_rs::LazyValue<'_>>| {
            let value = value?;
            value.as_u64().or_else(|| value.as_str()?.parse().ok())
        };
        Ok(Page {
            records,
            next: next.and_then(|next| {
                let text = next.as_str().map_or_else(|| next.as_raw_str().to_owned(), str::to_owned);
                (!text.is_empty() && text != "false").then_some(text)
            }),
            total: number(total),
            total_pages: number(total_pages),
            has_more: has_more.and_then(|more| more.as_bool()),
        })
    }
}

fn pointer(path: &str) -> Vec<PointerNode> {
    let steps = path.trim_start_matches("$.").split('.');
    steps.map(|step| step.parse::<usize>().map_or_else(|_| step.into(), PointerNode::from)).collect()
}

/// The part of the document that a slice of its text is, without copying.
fn part(document: &Bytes, text: &str) -> Bytes {
    document.slice_ref(text.as_bytes())
}

fn trim(document: &Bytes) -> Bytes {
    let text = document.trim_ascii();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii();
    document.slice_ref(text)
}

fn broken(document: &[u8], error: &sonic_rs::Error) -> String {
    let words = error.to_string();
    let words = words.lines().next().unwrap_or_default();
    let start: String = String::from_utf8_lossy(&document[..document.len().min(60)]).into_owned();
    format!("the body is no whole JSON document ({words}); it has {} bytes and starts with `{start}`", document.len())
}

fn is_whole(document: &[u8]) -> bool {
    sonic_rs::from_slice::<serde::de::IgnoredAny>(document).is_ok()
}

fn missing(document: &[u8], path: &str) -> Result<Page, String> {
    let first = path.split('.').next().unwrap_or(path);
    let keys: Vec<String> =
        sonic_rs::to_object_iter(document as &[u8]).map_while(Result::ok).map(|(k, _)| k.to_string()).collect();
    // An envelope that has the place but nothing there is an empty page.
    if keys.iter().any(|key| key == first) {
        return Ok(Page { records: Bytes::from_static(b"[]"), ..Page::default() });
    }
    if !is_whole(document) {
        return Err(format!("the body is no whole JSON document; it has {} bytes", document.len()));
    }
    Err(format!("the body has no `{path}`, only {}; correct `records`", keys.join(", ")))
}

/// The only list of objects in an envelope, or the envelope itself as one row.
fn only_list(document: &Bytes) -> Bytes {
    let mut lists = Vec::new();
    for (_, value) in sonic_rs::to_object_iter(&document[..]).map_while(Result::ok) {
        let text = value.as_raw_str();
        let inside = text.strip_prefix('[').map(str::trim_start);
        if inside.is_some_and(|inside| inside.starts_with(['{', ']'])) {
            lists.push(part(document, text));
        }
    }
    match lists.len() {
        1 => lists.remove(0),
        _ => document.clone(),
    }
}

/// A value inside a document by its dotted path.
pub(crate) fn lookup<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.trim_start_matches("$.").split('.').try_fold(value, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        other => other.get(step),
    })
}

/// The URL with this relation in `Link` headers (RFC 8288).
pub(crate) fn link(headers: &HeaderMap, relation: &str) -> Option<String> {
    let links = headers.get_all("link").into_iter().filter_map(|value| value.to_str().ok());
    links.flat_map(|text| text.split(",").collect::<Vec<_>>()).find_map(|link| {
        let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let named = parameters.split(';').any(|parameter| {
            let Some((name, value)) = parameter.split_once('=') else { return false };
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').split_whitespace().any(|rel| rel.eq_ignore_ascii_case(relation))
        });
        named.then(|| url.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(paths: &Paths, body: &str) -> Result<Page, String> {
        paths.read(&HeaderMap::new(), &Bytes::copy_from_slice(body.as_bytes()), ResponseFormat::Json, 1 << 20)
    }

    fn paths(records: &str) -> Paths {
        Paths {
            records: Some(records.into()),
            next: Some("meta.next".into()),
            total: Some("meta.total".into()),
            ..Paths::default()
        }
    }

    #[test]
    fn takes_an_envelope_apart() {
        let page =
            read(&paths("data.items"), r#"{"data":{"items":[{"a":1}]},"meta":{"next":"abc","total":"7"}}"#).unwrap();
        assert_eq!((&page.records[..], page.next.as_deref(), page.total), (&br#"[{"a":1}]"#[..], Some("abc"), Some(7)));
        let last = read(&paths("data.items"), r#"{"meta":{"next":null,"total":7},"data":{"items":[]}}"#).unwrap();
        assert_eq!((&last.records[..], last.next), (&b"[]"[..], None));
        let empty = read(&paths("data.items"), r#"{"data":null}"#).unwrap();
        assert_eq!(&empty.records[..], b"[]");
    }

    #[test]
    fn finds_the_rows_by_itself() {
        let auto = Paths::default();
        assert_eq!(&read(&auto, r#" [{"a":1}] "#).unwrap().records[..], br#"[{"a":1}]"#);
        assert_eq!(&read(&auto, r#"{"n":1,"rows":[{"a":1}]}"#).unwrap().records[..], br#"[{"a":1}]"#);
        assert_eq!(&read(&auto, r#"{"a":1,"tags":["x"]}"#).unwrap().records[..], br#"{"a":1,"tags":["x"]}"#);
        assert_eq!(&read(&auto, "").unwrap().records[..], b"[]");
    }

    #[test]
    fn says_what_is_wrong() {
        assert!(read(&paths("data"), r#"{"error":"x"}"#).unwrap_err().contains("only error"));
        assert!(read(&paths("data"), r#"{"data":[{"a":1},{"a"#).unwrap_err().contains("no whole JSON"));
        assert!(read(&paths("data"), "<html><body>Sign in</body></html>").unwrap_err().contains("HTML"));
    }

    #[test]
    fn reads_links() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "link",
            r#"<https://x/?page=1>; rel="prev", <https://x/?page=3>; rel="next last""#.parse().unwrap(),
        );
        assert_eq!(link(&headers, "next").as_deref(), Some("https://x/?page=3"));
        assert_eq!(link(&headers, "first"), None);
    }
}
