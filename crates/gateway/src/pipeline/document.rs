//! The merged OpenAPI document and the page that shows it.

use bytes::Bytes;
use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};

use super::{Exchange, Reply, headers};
use crate::domain::conditions::is_not_modified;
use crate::openapi::Page;
use crate::snapshot::Route;

/// The document; nothing where the caller has it.
pub(super) fn document(exchange: &Exchange, route: &Route) -> Reply {
    let served = exchange.snapshot.documents.served();
    let mut head = HeaderMap::new();
    head.insert(ETAG, served.etag.clone());
    head.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // It has no date, so that only its tag can be known.
    let is_known = is_not_modified(&exchange.head.headers, &head, i64::MAX);
    if !is_known {
        head.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers::edit(&mut head, &route.response_headers, exchange);
    match is_known {
        true => Reply::Own(StatusCode::NOT_MODIFIED, head, Bytes::new()),
        false => Reply::Own(StatusCode::OK, head, served.body.clone()),
    }
}

/// The page.
pub(super) fn page(exchange: &Exchange, route: &Route, page: &Page) -> Reply {
    let mut head = HeaderMap::new();
    head.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    head.insert(CONTENT_SECURITY_POLICY, page.policy.clone());
    head.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    head.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    head.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers::edit(&mut head, &route.response_headers, exchange);
    Reply::Own(StatusCode::OK, head, page.body.clone())
}
