//! Identify: who is asking, under which id, for which place.

use std::net::IpAddr;

use http::header::{HOST, HeaderMap, HeaderName};
use http::{HeaderValue, Method, Version};
use uuid::Builder;

use super::Exchange;
use crate::Error;
use crate::domain::framing::Malformed;
use crate::domain::header::first;
use crate::domain::path::normalise;
use crate::engine::Peer;
use crate::snapshot::{Snapshot, bare_host};
use crate::spec::LogFormat;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const MAX_REQUEST_ID_BYTES: usize = 128;
/// Addresses of `x-forwarded-for` that are looked at.
const MAX_HOPS: usize = 32;

/// The caller's address: the connection's, or what trusted proxies say, from the last one on, up to the first that is not
/// trusted.
pub(super) fn client_ip(snapshot: &Snapshot, peer: &Peer, headers: &HeaderMap) -> IpAddr {
    let trusted = &snapshot.spec.trusted_proxies;
    let mut address = peer.remote.ip().to_canonical();
    if trusted.is_empty() || !trusted.iter().any(|block| block.contains(address)) {
        return address;
    }
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    for hop in hops.take(MAX_HOPS) {
        let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
        address = hop.to_canonical();
        if !trusted.iter().any(|block| block.contains(address)) {
            break;
        }
    }
    address
}

/// Gives the request its id, and its host and path their one spelling.
///
/// # Errors
/// Where host or path cannot be read.
pub(super) fn identify(exchange: &mut Exchange) -> Result<(), Error> {
    let given = first(&exchange.head.headers, &REQUEST_ID).filter(|id| is_fit(id));
    exchange.record.request_id = given.cloned().unwrap_or_else(|| new_id(exchange));
    if exchange.snapshot.spec.access_log.format == LogFormat::Combined {
        exchange.record.agent = exchange.head.headers.get(http::header::USER_AGENT).cloned();
    }
    exchange.host = host(exchange)?;
    if exchange.head.method == Method::CONNECT || exchange.head.method == Method::TRACE {
        let method = exchange.head.method.to_string();
        return Err(Error::MethodNotAllowed { method, allowed: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".into() });
    }
    let path = match exchange.head.uri.path() {
        // Of the absolute form without a path, and of `OPTIONS *`.
        "" | "*" => "/",
        path => path,
    };
    exchange.path = normalise(path).map_err(|bad| Error::BadPath(bad.0))?.into_owned();
    Ok(())
}

fn host(exchange: &Exchange) -> Result<String, Error> {
    let head = &exchange.head;
    let mut hosts = head.headers.get_all(HOST).iter();
    let (named, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Malformed::TwoHosts.into());
    }
    let named = named.map(|host| host.to_str().map_err(|_| Error::from(Malformed::BadHost))).transpose()?;
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    if let (Some(authority), Some(named)) = (authority, named)
        && head.version >= Version::HTTP_2
        && bare_host(authority) != bare_host(named)
    {
        return Err(Malformed::OtherHost.into());
    }
    let host = bare_host(authority.or(named).unwrap_or_default()).into_owned();
    if host.contains('@') { Err(Malformed::BadHost.into()) } else { Ok(host) }
}

/// Whether a caller's id is fit to be logged and passed on.
fn is_fit(id: &HeaderValue) -> bool {
    let fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-".contains(byte);
    !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES && id.as_bytes().iter().all(fit)
}

/// UUID v7, of the worker's own random numbers.
fn new_id(exchange: &Exchange) -> HeaderValue {
    let millis = u64::try_from(exchange.record.at.micros() / 1_000).unwrap_or_default();
    let random = (u128::from(exchange.worker.random()) << 64) | u128::from(exchange.worker.random());
    let mut digits = [0; 10];
    digits.copy_from_slice(&random.to_be_bytes()[..10]);
    let id = Builder::from_unix_timestamp_millis(millis, &digits).into_uuid();
    let mut text = [0; 36];
    text[..4].copy_from_slice(b"req_");
    id.simple().encode_lower(&mut text[4..]);
    // Hexadecimal digits are fit for a header.
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("req_"))
}
