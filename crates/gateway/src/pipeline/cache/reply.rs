//! What the caller gets of what is kept, and what `cache-status` says of it (RFC 9211).

use http::header::{
    AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::Exchange;
use crate::cache::Stored;
use crate::domain::conditions::{Part, is_not_modified, part};
use crate::domain::freshness::SURROGATE_CONTROL;
use crate::engine::Source;
use crate::snapshot::Caching;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Who speaks in `cache-status`.
const NAME: &str = "tessera";

/// An answer from what is kept: whole, a part of it, or that the caller has it.
pub(super) fn reply(exchange: &Exchange, stored: &Stored, status: &str) -> Response<Source> {
    let now = exchange.worker.shared.clock.now();
    let request = &exchange.head.headers;
    let mut map = stored.headers.clone();
    let age_s = stored.life.age_us(now) / 1_000_000;
    map.insert(AGE, HeaderValue::from(age_s));
    let ttl_s = stored.life.left_us(now).div_euclid(1_000_000);
    append_status(&mut map, format!("{NAME}; {status}; ttl={ttl_s}"));
    if stored.status == StatusCode::OK && is_not_modified(request, &map, stored.life.got_us) {
        return not_modified(map);
    }
    let is_head = exchange.head.method == Method::HEAD;
    let wanted = if stored.status == StatusCode::OK && !is_head && !map.contains_key(CONTENT_RANGE) {
        part(request, &map, stored.body.len())
    } else {
        Part::Whole
    };
    let (mut head, ()) = Response::new(()).into_parts();
    let mut body = stored.body.clone();
    head.status = stored.status;
    match wanted {
        Part::Whole => {}
        Part::Bytes(range) => {
            head.status = StatusCode::PARTIAL_CONTENT;
            let shown = format!("bytes {}-{}/{}", range.start, range.end - 1, body.len());
            insert_text(&mut map, CONTENT_RANGE, &shown);
            body = body.slice(range);
        }
        Part::Unsatisfiable => {
            head.status = StatusCode::RANGE_NOT_SATISFIABLE;
            insert_text(&mut map, CONTENT_RANGE, &format!("bytes */{}", body.len()));
            body = bytes::Bytes::new();
        }
    }
    if !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        map.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    head.headers = map;
    Response::from_parts(head, Source::Own((!is_head && !body.is_empty()).then_some(body)))
}

/// That the caller has it, with what may have changed beside the body (RFC 9110, 15.4.5).
pub(super) fn not_modified(map: HeaderMap) -> Response<Source> {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::NOT_MODIFIED;
    for name in [AGE, CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY, CACHE_STATUS] {
        for value in map.get_all(&name) {
            head.headers.append(name.clone(), value.clone());
        }
    }
    Response::from_parts(head, Source::Own(None))
}

/// Says that the upstream was asked, and takes away what is for the cache alone.
pub(super) fn note_forward(map: &mut HeaderMap, caching: &Caching, why: &str, got: Option<(StatusCode, bool)>) {
    map.remove(&caching.tag_header);
    map.remove(SURROGATE_CONTROL);
    let got = got.map_or_else(String::new, |(status, is_stored)| {
        format!("; fwd-status={}{}", status.as_u16(), if is_stored { "; stored" } else { "" })
    });
    append_status(map, format!("{NAME}; fwd={why}{got}"));
}

fn append_status(map: &mut HeaderMap, text: String) {
    if let Ok(value) = HeaderValue::try_from(text) {
        map.append(CACHE_STATUS, value);
    }
}

fn insert_text(map: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        map.insert(name, value);
    }
}
