//! A config compiled for serving: immutable, built beside the traffic, swapped whole.
//!
//! What a new config has in common with the one before is taken over: upstreams with what is known of their endpoints,
//! limits with their callers, ways to prove who one is with their keys.

mod caching;
mod files;
mod hosts;
mod route;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;

pub use caching::{Caching, Outcome};
pub use files::{Stamps, files};
pub use hosts::{Hosts, bare_host};
use route::Around;
pub use route::{Access, Action, Edits, Facts, Mismatch, Route, RouteSpec};

use crate::Error;
use crate::access_log::Sink;
use crate::auth::{Signer, Way, quota_name};
use crate::cache::Store;
use crate::domain::framing::HeadLimits;
use crate::limit::{Gate, Limiter, Limiters, Quota, Remote};
use crate::metrics::{Metrics, RouteStats, UNMATCHED};
use crate::openapi::Documents;
use crate::spec::{self, Loaded};
use crate::tls::{self, Acme, Slot};
use crate::upstream::Upstream;

/// A config compiled for serving.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the configs of this process, from 1.
    pub number: u64,
    /// What the file says.
    pub spec: Arc<spec::Gateway>,
    /// Where relative paths start.
    pub folder: PathBuf,
    /// The listeners with their TLS, in the file's order.
    pub listeners: Vec<(String, Option<Arc<ServerConfig>>)>,
    /// Ports of listeners where HTTP/3 is spoken, and those that clients come by.
    pub alternatives: Vec<(u16, Option<u16>)>,
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
    /// Answers that are kept.
    pub cache: Option<Arc<Store>>,
    /// Certificates that an authority issues.
    pub acme: Arc<Acme>,
    /// Those of the listeners.
    pub issued: Vec<Arc<Slot>>,
    /// Quotas by the consumer's name.
    pub quotas: HashMap<String, Arc<Quota>>,
    /// The Redis of shared limits.
    pub remote: Option<Arc<Remote>>,
    /// Signs who asks, for services.
    pub signer: Option<Arc<Signer>>,
    /// How often an address may show what does not hold.
    pub guesses: Option<Arc<Limiter>>,
    /// Counts of requests that no route takes.
    pub unmatched: Arc<RouteStats>,
    /// Limits of heads, for the framing.
    pub head_limits: HeadLimits,
    /// Where lines of the access log go.
    pub log: Arc<Sink>,
    stamps: Stamps,
}

/// The name of the limit of guesses, in refusals.
const FAILED_PROOFS: &str = "failed_proofs_per_ip";

/// What configs of one process share.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// Rates by caller.
    pub limiters: Arc<Limiters>,
    /// Counts by route.
    pub metrics: Metrics,
    /// Certificates that an authority issues.
    pub acme: Arc<Acme>,
}

impl Snapshot {
    /// Compiles a config; `before` is the one in use.
    ///
    /// # Errors
    /// [`Error::Config`] with the line of what cannot be used, such as a missing certificate.
    pub fn build(loaded: &Loaded, before: Option<&Self>, lasting: &Lasting) -> Result<Self, Error> {
        let spec = &loaded.gateway;
        let folder = &loaded.folder;
        // Before they are read: what changes meanwhile is seen the next time.
        let stamps = Stamps::of(files(spec, folder));
        let stays = |paths: Vec<PathBuf>| before.is_some_and(|before| stamps.agree(&before.stamps, &paths));
        let upstreams = spec.upstreams.iter().map(|(name, wanted)| {
            let known = before.and_then(|before| before.upstreams.get(name));
            let files_stay = stays(files::of_upstream(wanted, folder));
            if let Some(known) = known.filter(|known| known.spec == *wanted && files_stay) {
                return Ok((name.clone(), known.clone()));
            }
            let upstream = Upstream::new(name, wanted, folder).map_err(|e| at(loaded, &["upstreams", name], e))?;
            if let Some(known) = known {
                upstream.take_over(known, files_stay);
            }
            Ok((name.clone(), Arc::new(upstream)))
        });
        let upstreams: BTreeMap<_, _> = upstreams.collect::<Result<_, Error>>()?;
        let ways = spec.auth.iter().map(|(name, wanted)| {
            let known = before.and_then(|before| before.ways.get(name)).filter(|known| known.spec == *wanted);
            let way = match known {
                Some(known) if stays(files::of_auth(wanted, folder)) => known.clone(),
                _ => Arc::new(Way::new(name, wanted, folder).map_err(|e| at(loaded, &["auth", name], e))?),
            };
            Ok((name.clone(), way))
        });
        let ways: BTreeMap<_, _> = ways.collect::<Result<_, Error>>()?;
        let mut listeners = Vec::new();
        for listener in &spec.listeners {
            let known = before.filter(|before| before.spec.listeners.contains(listener));
            let known = known.and_then(|before| before.listeners.iter().find(|(known, _)| *known == listener.address));
            let config = listener.tls.as_ref().map(|tls| match known {
                // The same one: sessions can be resumed.
                Some((_, Some(known))) if stays(tls::files(tls, folder)) => Ok(known.clone()),
                _ => tls::server_config(tls, folder, &lasting.acme).map(Arc::new),
            });
            let keys = ["listeners", listener.address.as_str()];
            listeners.push((listener.address.clone(), config.transpose().map_err(|e| at(loaded, &keys, e))?));
        }
        let asked = spec.listeners.iter().filter_map(|listener| listener.tls.as_ref()?.acme.as_ref());
        let issued = asked.map(|asked| lasting.acme.slot(asked, folder)).collect();
        let gates: HashMap<&str, &Arc<Gate>> = before
            .map(|before| before.routes.iter().map(|route| (&*route.name, &route.gate)).collect())
            .unwrap_or_default();
        let around = Around { gateway: spec, upstreams: &upstreams, ways: &ways, folder, before, lasting };
        let routes = spec.routes.iter().enumerate().map(|(at, route)| {
            // Its requests under way go on counting.
            let gate = gates.get(route.name.as_str()).map_or_else(Arc::default, |gate| Arc::clone(gate));
            Route::new(RouteSpec { gateway: spec.clone(), at }, gate, &around)
        });
        let mut routes: Box<[Route]> =
            routes.collect::<Result<_, _>>().map_err(|error| at(loaded, &["routes"], error))?;
        let cache = caching::store(spec, folder, before, lasting).map_err(|error| at(loaded, &["cache"], error))?;
        routes.iter_mut().for_each(|route| route.cache = Caching::new(&route.spec, cache.as_ref(), lasting));
        let log = before.map(|before| &before.log).filter(|log| log.spec == spec.access_log);
        let log = match log {
            Some(log) => log.clone(),
            None => Arc::new(
                Sink::open(&spec.access_log, folder, &lasting.metrics).map_err(|e| at(loaded, &["access_log"], e))?,
            ),
        };
        let guesses = spec.limits.failed_proofs_per_ip.map(|rate| {
            let (name, per) = (FAILED_PROOFS.to_owned(), vec![spec::Key::Ip]);
            lasting.limiters.get(&spec::RateLimit { name, per, rate, burst: None, shared: false })
        });
        let remote = spec.shared_limits.as_ref().map(|wanted| {
            let known = before.and_then(|before| before.remote.clone()).filter(|known| known.spec == *wanted);
            known.unwrap_or_else(|| Arc::new(Remote::new(wanted, lasting.metrics.judged_alone.clone())))
        });
        let signer = spec.signed_identity.as_ref().map(|wanted| {
            let known = before.and_then(|before| before.signer.as_ref());
            match known.filter(|known| known.spec == *wanted && stays(files::of_signer(spec, folder))) {
                Some(known) => Ok(known.clone()),
                None => Signer::new(wanted, folder, known.map(|known| &**known))
                    .map(Arc::new)
                    .map_err(|error| at(loaded, &["signed_identity", "key"], error)),
            }
        });
        let snapshot = Self {
            documents: Documents::new(spec, before.map(|before| &before.documents)),
            number: before.map_or(1, |before| before.number + 1),
            spec: spec.clone(),
            folder: folder.clone(),
            hosts: Hosts::new(&routes),
            alternatives: alternatives(spec),
            listeners,
            routes,
            upstreams,
            ways,
            cache,
            acme: lasting.acme.clone(),
            issued,
            quotas: quotas(spec, lasting),
            remote,
            signer: signer.transpose()?,
            guesses,
            unmatched: lasting.metrics.route(UNMATCHED),
            head_limits: HeadLimits {
                head_bytes: spec.limits.head.0 as usize,
                target_bytes: spec.limits.target.0 as usize,
                lines: spec.limits.headers,
            },
            log,
            stamps,
        };
        snapshot.documents.merge(&snapshot);
        Ok(snapshot)
    }
}

fn alternatives(spec: &spec::Gateway) -> Vec<(u16, Option<u16>)> {
    let spoken = spec.listeners.iter().filter(|listener| listener.http3);
    let port = |listener: &spec::Listener| Some(listener.address.parse::<SocketAddr>().ok()?.port());
    spoken.filter_map(|listener| Some((port(listener)?, listener.http3_port))).collect()
}

fn quotas(spec: &spec::Gateway, lasting: &Lasting) -> HashMap<String, Arc<Quota>> {
    let mut quotas = HashMap::new();
    for (way, auth) in &spec.auth {
        let spec::Auth::ApiKey { consumers, .. } = auth else { continue };
        for (consumer, key) in consumers {
            let name = quota_name(way, consumer);
            if let Some(quota) = key.quota {
                quotas.insert(name.clone(), lasting.limiters.quota(&name, quota));
            }
        }
    }
    quotas
}

/// Gives an error from a file its line.
fn at(loaded: &Loaded, keys: &[&str], error: Error) -> Error {
    match error {
        Error::Config { place, detail } if place.is_empty() => loaded.fault(keys, detail),
        other => other,
    }
}
