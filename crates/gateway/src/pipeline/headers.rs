//! Headers on the way: what is between two neighbours only goes no further, what the gateway vouches for is its own.

use std::borrow::Cow;

use http::header::{
    CONNECTION, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use super::Exchange;
use super::identify::{FORWARDED_FOR, REQUEST_ID};
use crate::domain::path::encode_segment;
use crate::engine::TRACE_PARENT;
use crate::snapshot::{Edits, Route};
use crate::spec::Template;

/// Between neighbours only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
];
const FORWARDED_HOST: &str = "x-forwarded-host";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// Who asks, as the gateway found out. Callers' own are taken away.
pub(super) const IDENTITY: [&str; 3] = ["x-auth-subject", "x-auth-roles", "x-auth-scopes"];

/// Takes away what is meant for us alone, also what `connection` names.
pub(super) fn strip_hops(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // Without it nobody would know whom the request is for.
            .filter(|name| *name != HOST && *name != TE && *name != TRAILER)
            .collect();
        named.iter().for_each(|name| drop(headers.remove(name)));
    }
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
}

/// Makes the head of a caller one for an upstream. `upgrade` is the protocol that is passed on.
pub(super) fn for_upstream(exchange: &mut Exchange, route: &Route) {
    let trusted = &exchange.snapshot.spec.trusted_proxies;
    let is_trusted = trusted.iter().any(|block| block.contains(exchange.peer.remote.ip()));
    let asks_trailers = exchange.head.headers.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let headers = &mut exchange.head.headers;
    strip_hops(headers);
    headers.remove(EXPECT);
    if !asks_trailers {
        headers.remove(TE);
    }
    join_cookies(headers);
    if !is_trusted {
        headers.remove("forwarded");
    }
    let text = |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    let hop = exchange.peer.remote.ip().to_canonical().to_string();
    let hops = headers.get(FORWARDED_FOR).filter(|_| is_trusted).and_then(|known| known.to_str().ok());
    let hops = hops.map_or_else(|| hop.clone(), |known| format!("{known}, {hop}"));
    headers.insert(FORWARDED_FOR, text(hops));
    if !(is_trusted && headers.contains_key(FORWARDED_PROTO)) {
        let scheme = if exchange.peer.is_tls { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if !(is_trusted && headers.contains_key(FORWARDED_HOST)) {
        let host = exchange.head.uri.authority().map(|authority| text(authority.to_string()));
        if let Some(host) = host.or_else(|| headers.get(HOST).cloned()) {
            headers.insert(FORWARDED_HOST, host);
        }
    }
    headers.insert(REQUEST_ID, exchange.record.request_id.clone());
    trace(exchange);
    set_identity(exchange, route);
}

/// HTTP/2 may send cookies in pieces; HTTP/1 servers expect one line (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(COOKIE).iter();
    if lines.next().is_none() || lines.next().is_none() {
        return;
    }
    let joined = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

/// Passes the trace on with a span of ours, or begins one (W3C Trace Context).
fn trace(exchange: &mut Exchange) {
    if let Ok(value) = HeaderValue::try_from(exchange.record.trace.parent_text()) {
        exchange.head.headers.insert(TRACE_PARENT, value);
    }
}

fn set_identity(exchange: &mut Exchange, route: &Route) {
    let headers = &mut exchange.head.headers;
    for name in IDENTITY {
        headers.remove(name);
    }
    if let Some(access) = &route.access {
        access.ways.iter().filter_map(|way| way.secret_header()).for_each(|name| drop(headers.remove(name)));
    }
    let Some(identity) = &exchange.identity else { return };
    let texts = [identity.subject.clone(), identity.roles.join(","), identity.scopes.join(" ")];
    for (name, text) in IDENTITY.into_iter().zip(texts) {
        if let Ok(value) = HeaderValue::try_from(text)
            && !value.is_empty()
        {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Applies a route's changes.
pub(super) fn edit(headers: &mut HeaderMap, edits: &Edits, exchange: &Exchange) {
    edits.remove.iter().for_each(|name| drop(headers.remove(name)));
    let fill = |template: &Template| HeaderValue::try_from(template.fill(|name| text_of(exchange, name))).ok();
    for (name, template) in &edits.set {
        if let Some(value) = fill(template) {
            headers.insert(name, value);
        }
    }
    for (name, template) in &edits.add {
        if let Some(value) = fill(template) {
            headers.append(name, value);
        }
    }
}

/// What a template's name stands for.
pub(super) fn text_of<'e>(exchange: &'e Exchange, name: &str) -> Cow<'e, str> {
    match name {
        "host" => exchange.host.as_str().into(),
        "path" => exchange.path.as_str().into(),
        "query" => exchange.head.uri.query().map_or(Cow::Borrowed(""), |query| format!("?{query}").into()),
        "request_id" => exchange.request_id().to_str().unwrap_or_default().into(),
        "client_ip" => exchange.client_ip.to_string().into(),
        "subject" => exchange.identity.as_ref().map_or(Cow::Borrowed(""), |identity| identity.subject.as_str().into()),
        name => exchange.parameter(name).unwrap_or_default(),
    }
}

/// The path that the upstream is asked for.
pub(super) fn rewritten(exchange: &Exchange, route: &Route) -> String {
    let rewrite = &route.spec.rewrite;
    let mut path = match &rewrite.path {
        // What stood in one segment stays in one; the rest of a path may have many.
        Some(template) => template.fill(|name| {
            let text = text_of(exchange, name);
            match name {
                "path" => text,
                _ => text.split('/').map(encode_segment).collect::<Vec<_>>().join("/").into(),
            }
        }),
        None => exchange.path.clone(),
    };
    if let Some(prefix) = &rewrite.strip_prefix {
        let rest =
            path.strip_prefix(prefix.trim_end_matches('/')).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        if let Some(rest) = rest {
            path = if rest.is_empty() { "/".into() } else { rest.to_owned() };
        }
    }
    if let Some(prefix) = &rewrite.add_prefix {
        path = format!("{}{path}", prefix.trim_end_matches('/'));
    }
    if path.starts_with('/') { path } else { format!("/{path}") }
}
