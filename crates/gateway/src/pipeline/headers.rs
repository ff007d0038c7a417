//! Headers on the way: what is between two neighbours only goes no further, what the gateway vouches for is its own.

use std::borrow::Cow;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;

use super::Exchange;
use super::identify::{FORWARDED_FOR, REQUEST_ID};
use crate::Error;
use crate::domain::path::{encode_segment, is_normal};
use crate::domain::vouched::{IDENTITY, header_text, is_odd, is_taken_for, is_taken_for_ours};
use crate::engine::TRACE_PARENT;
use crate::snapshot::{Edits, Route};
use crate::spec::Template;
use crate::upstream::Upstream;

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
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Takes away what is meant for us alone, also what `connection` names.
pub(super) fn strip_hops(headers: &mut HeaderMap) {
    if has_any(headers, &[CONNECTION]) {
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
    if has_any(headers, &HOP_BY_HOP) {
        // Where there are both, the length is not that of what was read (RFC 9112, 6.3).
        if headers.contains_key(TRANSFER_ENCODING) {
            headers.remove(CONTENT_LENGTH);
        }
        HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
    }
}

/// Whether any of these is there. Looking at each name is quicker than looking each of these up.
fn has_any(headers: &HeaderMap, names: &[HeaderName]) -> bool {
    headers.keys().any(|name| names.contains(name))
}

/// Makes the head of a caller one for upstreams; [`vouch`] says who asks to one of them.
pub(super) fn for_upstream(exchange: &mut Exchange, route: &Route) {
    let trusted = &exchange.snapshot.spec.trusted_proxies;
    let is_trusted = trusted.iter().any(|block| block.contains(exchange.peer.remote.ip()));
    let asks_trailers = exchange.head.headers.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let headers = &mut exchange.head.headers;
    strip_hops(headers);
    strip_lookalikes(headers, route, exchange.snapshot.signer.as_ref().map(|signer| &signer.header));
    if has_any(headers, &[EXPECT, TRAILER, TE, COOKIE, FORWARDED]) {
        headers.remove(EXPECT);
        // Trailers end here: a service that takes them for headers would believe what they say of who asks.
        headers.remove(TRAILER);
        if !asks_trailers {
            headers.remove(TE);
        }
        join_cookies(headers);
        if !is_trusted {
            headers.remove(FORWARDED);
        }
    }
    let text = |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    let hop = exchange.peer.remote_text.clone();
    // Every line counts: a proxy may have added one to what its own caller made up.
    let known = is_trusted.then(|| headers.get_all(FORWARDED_FOR).iter());
    let hops: Vec<&str> = known.into_iter().flatten().filter_map(|line| line.to_str().ok()).collect();
    let hops =
        if hops.is_empty() { hop } else { text(hops.into_iter().chain(hop.to_str()).collect::<Vec<_>>().join(", ")) };
    headers.insert(FORWARDED_FOR, hops);
    // The last line is the nearest proxy's.
    let told =
        |headers: &HeaderMap, name| is_trusted.then(|| headers.get_all(name).iter().next_back().cloned()).flatten();
    let scheme = told(&*headers, FORWARDED_PROTO)
        .unwrap_or_else(|| HeaderValue::from_static(if exchange.peer.is_tls { "https" } else { "http" }));
    headers.insert(FORWARDED_PROTO, scheme);
    let host = told(&*headers, FORWARDED_HOST)
        .or_else(|| exchange.head.uri.authority().map(|authority| text(authority.to_string())))
        .or_else(|| headers.get(HOST).cloned());
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host);
    }
    headers.insert(REQUEST_ID, exchange.record.request_id.clone());
    trace(exchange);
    set_identity(exchange, route);
}

/// Takes away what a service may take for a header that the gateway vouches for, or that the route sets or takes away.
fn strip_lookalikes(headers: &mut HeaderMap, route: &Route, token: Option<&HeaderName>) {
    if !headers.keys().any(|name| is_odd(name.as_str())) {
        return;
    }
    let Edits { remove, set, add } = &route.request_headers;
    let secrets = route.access.iter().flat_map(|access| &access.ways).filter_map(|way| way.secret_header());
    let edited = remove.iter().chain(set.iter().chain(add).map(|(name, _)| name)).chain(secrets).chain(token);
    let edited: Vec<&HeaderName> = edited.collect();
    let is_taken = |name: &str| {
        is_taken_for_ours(name)
            || edited.iter().any(|known| known.as_str() != name && is_taken_for(name, known.as_str()))
    };
    let odd = headers.keys().filter(|name| is_odd(name.as_str()) && is_taken(name.as_str()));
    let odd: Vec<HeaderName> = odd.cloned().collect();
    odd.iter().for_each(|name| drop(headers.remove(name)));
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
    exchange.head.headers.insert(TRACE_PARENT, exchange.record.trace.parent());
}

fn set_identity(exchange: &mut Exchange, route: &Route) {
    let headers = &mut exchange.head.headers;
    if headers.keys().any(|name| IDENTITY.contains(&name.as_str())) {
        IDENTITY.iter().for_each(|name| drop(headers.remove(*name)));
    }
    if let Some(access) = &route.access {
        access.ways.iter().filter_map(|way| way.secret_header()).for_each(|name| drop(headers.remove(name)));
    }
    if let Some(signer) = &exchange.snapshot.signer {
        headers.remove(&signer.header);
    }
    let Some(identity) = &exchange.identity else { return };
    // A comma within a role would make two of it, and what is trimmed on the way another name.
    let list = |texts: &[String], between: &str, parting: &[u8]| {
        texts.iter().map(|text| header_text(text, parting)).collect::<Vec<_>>().join(between)
    };
    let texts =
        [header_text(&identity.subject, b""), list(&identity.roles, ",", b","), list(&identity.scopes, " ", b" ")];
    for (name, text) in IDENTITY.into_iter().zip(texts) {
        if let Ok(value) = HeaderValue::try_from(text)
            && !value.is_empty()
        {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Says who asks in a token of the gateway's own, which is for this upstream alone.
pub(super) fn vouch(headers: &mut HeaderMap, exchange: &Exchange, upstream: &Upstream) {
    let (Some(signer), Some(identity)) = (&exchange.snapshot.signer, &exchange.identity) else { return };
    let now_s = exchange.worker.shared.clock.now().micros().div_euclid(1_000_000);
    if let Some(token) = exchange.worker.signed.get(signer, identity, &upstream.name, now_s) {
        headers.insert(signer.header.clone(), token);
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

/// What a template's name stands for within a path: parameters as they stand in the caller's path, so that an escaped
/// slash stays one, and everything else as one segment.
pub(super) fn in_path<'e>(exchange: &'e Exchange, name: &str) -> Cow<'e, str> {
    match name {
        "path" => exchange.path.as_str().into(),
        "host" | "query" | "request_id" | "client_ip" | "subject" => encode_segment(&text_of(exchange, name)).into(),
        name => exchange.raw_parameter(name).unwrap_or_default().into(),
    }
}

/// What the upstream is asked for.
///
/// # Errors
/// Those of [`rewritten`].
pub(super) fn target(exchange: &Exchange, route: &Route) -> Result<PathAndQuery, Error> {
    let path = rewritten(exchange, route)?;
    if let Some(asked) = exchange.head.uri.path_and_query().filter(|asked| asked.path() == path) {
        return Ok(asked.clone());
    }
    let target = match exchange.head.uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path.into_owned()),
    };
    target.map_err(|_| Error::BadPath("it cannot be passed on"))
}

/// The path that the upstream is asked for.
///
/// # Errors
/// [`Error::BadPath`] where it could be read as the path to another place.
pub(super) fn rewritten<'e>(exchange: &'e Exchange, route: &Route) -> Result<Cow<'e, str>, Error> {
    let rewrite = &route.spec.rewrite;
    if rewrite.path.is_none() && rewrite.strip_prefix.is_none() && rewrite.add_prefix.is_none() {
        return Ok(exchange.path.as_str().into());
    }
    let mut path = match &rewrite.path {
        Some(template) => template.fill(|name| in_path(exchange, name)),
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
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    if is_normal(&path) { Ok(path.into()) } else { Err(Error::BadPath("what it is rewritten to leads elsewhere")) }
}
