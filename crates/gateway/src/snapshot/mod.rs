//! A config compiled for serving: immutable, built beside the traffic, swapped whole.
//!
//! What a new config has in common with the one before is taken over: upstreams with what is known of their endpoints,
//! limits with their callers, ways to prove who one is with their keys.

mod hosts;
mod route;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;

pub use hosts::{Hosts, bare_host};
pub use route::{Access, Action, Edits, Facts, Mismatch, Route};

use crate::Error;
use crate::access_log::Sink;
use crate::auth::Way;
use crate::domain::framing::HeadLimits;
use crate::limit::Limiters;
use crate::metrics::{Metrics, RouteStats, UNMATCHED};
use crate::openapi::Documents;
use crate::spec::{self, Loaded};
use crate::tls;
use crate::upstream::Upstream;

/// A config compiled for serving.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the configs of this process, from 1.
    pub number: u64,
    /// What the file says.
    pub spec: spec::Gateway,
    /// Where relative paths start.
    pub folder: PathBuf,
    /// The listeners with their TLS, in the file's order.
    pub listeners: Vec<(String, Option<Arc<ServerConfig>>)>,
    /// All routes, in the file's order.
    pub routes: Box<[Route]>,
    /// Routes by host and path.
    pub hosts: Hosts,
    /// Upstreams by name.
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    /// The OpenAPI documents of the upstreams.
    pub documents: Documents,
    /// Ways to prove who one is, by name.
    pub ways: BTreeMap<String, Arc<Way>>,
    /// Counts of requests that no route takes.
    pub unmatched: Arc<RouteStats>,
    /// Limits of heads, for the framing.
    pub head_limits: HeadLimits,
    /// Where lines of the access log go.
    pub log: Arc<Sink>,
    files: Vec<Stamp>,
}

/// What configs of one process share.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// Rates by caller.
    pub limiters: Arc<Limiters>,
    /// Counts by route.
    pub metrics: Metrics,
}

type Stamp = (PathBuf, Option<(SystemTime, u64)>);

fn stamp(path: PathBuf) -> Stamp {
    let seen = std::fs::metadata(&path).ok().and_then(|data| Some((data.modified().ok()?, data.len())));
    (path, seen)
}

impl Snapshot {
    /// Compiles a config; `before` is the one in use.
    ///
    /// # Errors
    /// [`Error::Config`] with the line of what cannot be used, such as a missing certificate.
    pub fn build(loaded: &Loaded, before: Option<&Self>, lasting: &Lasting) -> Result<Self, Error> {
        let spec = &loaded.gateway;
        let folder = &loaded.folder;
        let upstreams = spec.upstreams.iter().map(|(name, wanted)| {
            let known = before.and_then(|before| before.upstreams.get(name)).filter(|known| known.spec == *wanted);
            let upstream = match known {
                // Without files of its own nothing can have changed.
                Some(known) if wanted.tls == spec::UpstreamTls::default() => known.clone(),
                _ => Arc::new(Upstream::new(name, wanted, folder).map_err(|e| at(loaded, &["upstreams", name], e))?),
            };
            Ok((name.clone(), upstream))
        });
        let upstreams: BTreeMap<_, _> = upstreams.collect::<Result<_, Error>>()?;
        let ways = spec.auth.iter().map(|(name, wanted)| {
            let known = before.and_then(|before| before.ways.get(name)).filter(|known| known.spec == *wanted);
            let way = match known {
                Some(known) if !has_files(wanted) => known.clone(),
                _ => Arc::new(Way::new(name, wanted, folder).map_err(|e| at(loaded, &["auth", name], e))?),
            };
            Ok((name.clone(), way))
        });
        let ways: BTreeMap<_, _> = ways.collect::<Result<_, Error>>()?;
        let mut files = Vec::new();
        let mut listeners = Vec::new();
        for listener in &spec.listeners {
            let config = listener.tls.as_ref().map(|tls| {
                files.extend(tls::files(tls, folder).into_iter().map(stamp));
                tls::server_config(tls, folder).map(Arc::new)
            });
            let keys = ["listeners", listener.address.as_str()];
            listeners.push((listener.address.clone(), config.transpose().map_err(|e| at(loaded, &keys, e))?));
        }
        let routes =
            spec.routes.iter().map(|route| Route::new(route, spec, &upstreams, &ways, folder, before, lasting));
        let routes: Box<[Route]> = routes.collect::<Result<_, _>>().map_err(|error| at(loaded, &["routes"], error))?;
        for route in &spec.routes {
            let validate = route.validate.iter().flat_map(|validate| [&validate.openapi, &validate.schema]);
            let described = route.transcode.iter().filter_map(|transcode| transcode.descriptors.as_ref());
            files.extend(described.map(|file| stamp(folder.join(file))));
            files.extend(validate.flatten().map(|file| stamp(folder.join(file))));
        }
        let log = before.map(|before| &before.log).filter(|log| log.spec == spec.access_log);
        let log = match log {
            Some(log) => log.clone(),
            None => Arc::new(
                Sink::open(&spec.access_log, folder, &lasting.metrics).map_err(|e| at(loaded, &["access_log"], e))?,
            ),
        };
        let snapshot = Self {
            documents: Documents::new(spec, before.map(|before| &before.documents)),
            number: before.map_or(1, |before| before.number + 1),
            spec: spec.clone(),
            folder: folder.clone(),
            hosts: Hosts::new(&routes),
            listeners,
            routes,
            upstreams,
            ways,
            unmatched: lasting.metrics.route(UNMATCHED),
            head_limits: HeadLimits {
                head_bytes: spec.limits.head.0 as usize,
                target_bytes: spec.limits.target.0 as usize,
                lines: spec.limits.headers,
            },
            log,
            files,
        };
        snapshot.documents.merge(&snapshot);
        Ok(snapshot)
    }

    /// Whether a certificate or key was changed on disk since this was built.
    pub fn has_changed_files(&self) -> bool {
        self.files.iter().any(|(path, seen)| stamp(path.clone()).1 != *seen)
    }
}

fn has_files(auth: &spec::Auth) -> bool {
    matches!(auth, spec::Auth::Jwt { keys, .. } if keys.iter().any(|key| key.file.is_some()))
}

/// Gives an error from a file its line.
fn at(loaded: &Loaded, keys: &[&str], error: Error) -> Error {
    match error {
        Error::Config { place, detail } if place.is_empty() => loaded.fault(keys, detail),
        other => other,
    }
}
