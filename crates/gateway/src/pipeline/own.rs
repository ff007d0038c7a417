//! Documents of the gateway's own, before any route.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::{Exchange, Reply};
use crate::tls::PROOF_PATH;

/// Services ask for the key set again after so long.
const KEY_SET_FRESH: HeaderValue = HeaderValue::from_static("public, max-age=300");
const PLAIN: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The answer, where the request is for one of them.
pub(super) fn document(exchange: &Exchange) -> Option<Reply> {
    if exchange.head.method != Method::GET && exchange.head.method != Method::HEAD {
        return None;
    }
    if let Some(token) = exchange.path.strip_prefix(PROOF_PATH)
        && let Some(proof) = exchange.snapshot.acme.document(token)
    {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, PLAIN)]);
        return Some(Reply::Own(StatusCode::OK, headers, proof.into()));
    }
    let signer = exchange.snapshot.signer.as_ref().filter(|signer| signer.spec.key_set == exchange.path)?;
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON), (CACHE_CONTROL, KEY_SET_FRESH)]);
    Some(Reply::Own(StatusCode::OK, headers, Bytes::clone(&signer.key_set)))
}
