//! Version: which one a request names, and what its answer tells of it.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{LINK, VARY};

use super::Exchange;
use crate::Error;
use crate::snapshot::Route;
use crate::spec::VersionKey;
use crate::tallies::VersionLabels;
use crate::upstream::Upstream;

/// Finds the version and asks for the one that the upstream knows.
///
/// # Errors
/// [`Error::UnknownVersion`].
pub(super) fn choose(exchange: &mut Exchange, route: &Route) -> Result<(), Error> {
    let Some(versions) = &route.versions else { return Ok(()) };
    let found = versions.find(&exchange.captures, &exchange.head.headers);
    let at = found.map_err(|named| {
        let status = match versions.by {
            VersionKey::Path(_) => 404,
            VersionKey::Header(_) => 400,
            VersionKey::MediaType => 406,
        };
        Error::UnknownVersion { named, known: versions.names(), status }
    })?;
    let version = versions.known[at].name.to_string();
    let labels = VersionLabels { route: route.name.to_string(), version };
    exchange.worker.shared.metrics.tallies.versions.get_or_create(&labels).inc();
    exchange.version = Some(at);
    let Exchange { path, captures, head, .. } = exchange;
    versions.rename(at, path, captures, &mut head.headers);
    Ok(())
}

/// The upstream of the version, where it has one of its own.
pub(super) fn upstream(exchange: &Exchange, route: &Route) -> Option<Arc<Upstream>> {
    route.versions.as_ref()?.known.get(exchange.version?)?.upstream.clone()
}

/// Tells what is to be known of the version: `deprecation`, `sunset`, `link`, `vary`.
pub(super) fn tell(exchange: &Exchange, headers: &mut HeaderMap) {
    let (Some(route), Some(at)) = (exchange.route, exchange.version) else { return };
    let versions = exchange.snapshot.routes.get(route).and_then(|route| route.versions.as_ref());
    let Some(version) = versions.and_then(|versions| versions.known.get(at)) else { return };
    for (name, value) in &version.headers {
        if name == LINK || name == VARY {
            headers.append(name, value.clone());
        } else {
            headers.insert(name, value.clone());
        }
    }
}
