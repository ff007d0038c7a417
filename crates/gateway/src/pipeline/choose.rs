//! Match: which route takes the request, and which upstream of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;

use super::{Exchange, access, limits};
use crate::Error;
use crate::domain::balance;
use crate::snapshot::{Facts, Mismatch, Route};
use crate::upstream::Upstream;

/// Finds the route. Routes that are chosen by who asks are tried with the identity that their own `access` finds.
///
/// # Errors
/// [`Error::NoRoute`] and [`Error::MethodNotAllowed`].
pub(super) async fn find_route(exchange: &mut Exchange) -> Result<(), Error> {
    let snapshot = exchange.snapshot.clone();
    let mut by_identity: Vec<(usize, Vec<String>)> = Vec::new();
    let mut allowed: Vec<Method> = Vec::new();
    let found = {
        let Exchange { head, host, path, .. } = &*exchange;
        let facts = Facts { method: &head.method, headers: &head.headers, query: head.uri.query() };
        let owned = |captures: &[&str]| captures.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        snapshot.hosts.find(host, path, |at, captures| {
            let route = &snapshot.routes[at];
            match route.mismatch(facts) {
                Some(Mismatch::Method) => allowed.extend_from_slice(route.allowed()),
                Some(_) => {}
                None if route.asks_who() => by_identity.push((at, owned(captures))),
                None => return Some((at, owned(captures))),
            }
            None
        })
    };
    for (at, captures) in by_identity {
        let route = &snapshot.routes[at];
        (exchange.route, exchange.captures) = (Some(at), captures);
        let Some(rules) = &route.access else { continue };
        // Who proves nothing, or not enough, is simply not whom this route is for.
        let identity = access::identity(exchange, rules).await.ok().flatten();
        if route.fits_identity(identity.as_deref()) {
            return Ok(());
        }
    }
    exchange.route = None;
    match found {
        Some((at, captures)) => {
            (exchange.route, exchange.captures) = (Some(at), captures);
            Ok(())
        }
        None if !allowed.is_empty() => Err(not_allowed(exchange, &allowed)),
        None => Err(Error::NoRoute(exchange.path.chars().take(200).collect())),
    }
}

/// The path takes these methods, and not this one.
pub(super) fn not_allowed<'m>(exchange: &Exchange, methods: impl IntoIterator<Item = &'m Method>) -> Error {
    let allowed: BTreeSet<&str> = methods.into_iter().map(Method::as_str).collect();
    let allowed: Vec<&str> = allowed.into_iter().collect();
    Error::MethodNotAllowed { method: exchange.head.method.to_string(), allowed: allowed.join(", ") }
}

/// The upstream: the only one, or a share drawn at random or by the caller's key.
///
/// # Errors
/// [`Error::NoEndpoint`] where no share has a weight.
pub(super) fn share(
    exchange: &Exchange,
    route: &Route,
    shares: &[(Arc<Upstream>, u32)],
) -> Result<Arc<Upstream>, Error> {
    if let [(only, _)] = shares {
        return Ok(only.clone());
    }
    let sticky = route.spec.sticky.as_ref().and_then(|key| limits::key_text(exchange, key));
    let point = match sticky {
        Some(text) => balance::hash(text.as_bytes()),
        None => exchange.worker.random(),
    };
    let weights: Vec<u32> = shares.iter().map(|(_, weight)| *weight).collect();
    let at = balance::weighted(&weights, point);
    let nobody = || Error::NoEndpoint { upstream: route.name.to_string(), reason: "no share has a weight" };
    Ok(shares[at.ok_or_else(nobody)?].0.clone())
}
