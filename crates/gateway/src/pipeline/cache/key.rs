//! What tells requests apart, as far as answers depend on it.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Exchange, limits};
use crate::cache::{Digest, Key, Mark, everything, place, route as route_mark, tag_marks, value_digest};
use crate::domain::vouched::IDENTITY;
use crate::snapshot::{Caching, Route};
use crate::spec::{CacheQuery, Key as CallerKey};
use crate::upstream::Upstream;

/// The digest of a header's value as the upstream would see it.
pub(super) fn value_of(exchange: &Exchange, name: &HeaderName) -> Key {
    let is_signed = exchange.snapshot.signer.as_ref().is_some_and(|signer| signer.header == *name);
    if is_signed || IDENTITY.contains(&name.as_str()) {
        // Not what the caller claims to be.
        return identity_digest(exchange);
    }
    value_digest(&exchange.head.headers, name)
}

/// Everything of who asks that an answer may depend on; what differs between two tokens of the same person does not count.
fn identity_digest(exchange: &Exchange) -> Key {
    const OF_THE_TOKEN: [&str; 6] = ["exp", "iat", "nbf", "jti", "auth_time", "nonce"];
    let Some(identity) = &exchange.identity else { return Digest::of("nobody").key() };
    let mut digest = Digest::of("identity").with(identity.subject.as_bytes());
    for list in [&identity.roles, &identity.scopes] {
        digest = digest.with(list.join("\n").as_bytes());
    }
    for (name, value) in identity.claims.iter().filter(|(name, _)| !OF_THE_TOKEN.contains(&name.as_str())) {
        digest = digest.with(name.as_bytes()).with(value.to_string().as_bytes());
    }
    digest.key()
}

/// What tells this request apart from others, but for `vary`.
pub(super) fn key_of(exchange: &Exchange, caching: &Caching, upstream: &Upstream) -> Key {
    let head = &exchange.head;
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let authority = authority.or_else(|| head.headers.get(http::header::HOST).map(HeaderValue::as_bytes));
    let authority = authority.unwrap_or_default().to_ascii_lowercase();
    let trusted = &exchange.snapshot.spec.trusted_proxies;
    let is_trusted = !trusted.is_empty() && trusted.iter().any(|block| block.contains(exchange.peer.remote.ip()));
    // Services answer by what they are told of the caller's side, such as with a redirect to `https`.
    let told = |name: &str| head.headers.get(name).filter(|_| is_trusted).map(HeaderValue::as_bytes);
    let mut digest = caching
        .scope
        .clone()
        .with(upstream.name.as_bytes())
        .with(if exchange.peer.is_tls { "https" } else { "http" }.as_bytes())
        .with_option(told("x-forwarded-proto"))
        .with_option(told("x-forwarded-host"))
        .with(&authority)
        .with(exchange.path.as_bytes());
    // Versions of a header or media type have one path, and the upstream need not say that it looks at them.
    let versions = exchange.route.and_then(|at| exchange.snapshot.routes.get(at)?.versions.as_ref());
    if let Some(version) = versions.zip(exchange.version).and_then(|(versions, at)| versions.known.get(at)) {
        digest = digest.with(version.base.as_bytes());
    }
    digest = match &caching.spec.query {
        CacheQuery::All => digest.with_option(head.uri.query().map(str::as_bytes)),
        CacheQuery::None => digest,
        chosen => {
            let pairs = chosen_pairs(head.uri.query().unwrap_or_default(), chosen);
            let pairs = pairs.fold(Digest::of("query"), |digest, pair| digest.with(pair.as_bytes()));
            digest.with(&pairs.key().to_le_bytes())
        }
    };
    for part in &caching.spec.by {
        digest = match part {
            CallerKey::Consumer => digest.with(&identity_digest(exchange).to_le_bytes()),
            part => digest.with_option(limits::key_text(exchange, part).as_deref().map(str::as_bytes)),
        };
    }
    digest.key()
}

/// The pairs of a query that count.
fn chosen_pairs<'q>(query: &'q str, chosen: &'q CacheQuery) -> impl Iterator<Item = &'q str> {
    let fits = |name: &str, pattern: &String| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    query.split('&').filter(move |pair| {
        let name = url::form_urlencoded::parse(pair.as_bytes()).next().map(|(name, _)| name.into_owned());
        let name = name.unwrap_or_default();
        match chosen {
            CacheQuery::All => true,
            CacheQuery::None => false,
            CacheQuery::Only(names) => names.iter().any(|pattern| fits(&name, pattern)),
            CacheQuery::Without(names) => !names.iter().any(|pattern| fits(&name, pattern)),
        }
    })
}

/// Who waits for whom: requests that choose the same variant, as far as that is known before the answer.
pub(super) fn flight_key(exchange: &Exchange, caching: &Caching, key: Key) -> Key {
    let digest = Digest::of("flight").with(&key.to_le_bytes());
    let names = caching.store.vary_of(key).unwrap_or_default();
    names.iter().fold(digest, |digest, name| digest.with(&value_of(exchange, name).to_le_bytes())).key()
}

/// What voids an answer to this request.
pub(super) fn marks_of(exchange: &Exchange, route: &Route, caching: &Caching, answer: &HeaderMap) -> Vec<Mark> {
    let own = [place(&exchange.host, &exchange.path), route_mark(&route.name), everything()];
    own.into_iter().chain(tag_marks(answer, &caching.tag_header)).collect()
}
