//! Loops beside the traffic: endpoints are looked up again and again, and asked whether they are well.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Upstream, health};
use crate::spec::{self, Endpoint, EndpointUrl, Source};

/// How often a file of endpoints is looked at.
const FILE_EVERY: Duration = Duration::from_secs(1);
/// The shortest time between two look-ups of a name.
const DNS_AT_LEAST: Duration = Duration::from_millis(100);
/// A file or name with more endpoints than these is not believed.
const MAX_ENDPOINTS: usize = 1_000;

/// The loops of one upstream; they end when this is dropped.
#[derive(Debug)]
pub struct Watch(#[expect(dead_code, reason = "what it holds is stopped by its drop")] JoinSet<()>);

/// Starts the loops of an upstream on this thread; relative paths start from `folder`.
pub fn watch(upstream: &Arc<Upstream>, folder: &std::path::Path) -> Watch {
    let mut loops = JoinSet::new();
    match &upstream.spec.discover {
        None => {}
        Some(Source::Dns { url, every }) => {
            loops.spawn_local(follow_dns(upstream.clone(), url.clone(), every.0.max(DNS_AT_LEAST)));
        }
        Some(Source::File { path }) => {
            loops.spawn_local(follow_file(upstream.clone(), folder.join(path)));
        }
    }
    if let Some(probe) = &upstream.spec.health {
        loops.spawn_local(health::follow(upstream.clone(), probe.clone()));
    }
    Watch(loops)
}

async fn follow_dns(upstream: Arc<Upstream>, url: EndpointUrl, every: Duration) {
    let mut was_found = true;
    loop {
        let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
        match found {
            Ok(addresses) => {
                let mut hosts: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
                hosts.sort();
                hosts.dedup();
                hosts.truncate(MAX_ENDPOINTS);
                let endpoint = |host| Endpoint {
                    name: Some(url.host.clone()),
                    ..Endpoint::at(EndpointUrl { host, ..url.clone() })
                };
                set(&upstream, hosts.into_iter().map(endpoint).collect());
                was_found = true;
            }
            // The last known ones stay: a name server's failure is not the upstream's.
            Err(error) if was_found => {
                tracing::warn!(upstream = &*upstream.name, %error, "its name cannot be looked up; known endpoints stay");
                was_found = false;
            }
            Err(_) => {}
        }
        sleep(every).await;
    }
}

async fn follow_file(upstream: Arc<Upstream>, path: PathBuf) {
    let mut read_at: Option<(SystemTime, u64)> = None;
    loop {
        let stamp = tokio::fs::metadata(&path).await.ok().and_then(|data| Some((data.modified().ok()?, data.len())));
        if stamp.is_some() && stamp != read_at {
            match read_file(&path).await {
                Ok(endpoints) => set(&upstream, endpoints),
                Err(reason) => {
                    tracing::warn!(upstream = &*upstream.name, file = %path.display(), reason, "known endpoints stay");
                }
            }
            read_at = stamp;
        }
        sleep(FILE_EVERY).await;
    }
}

async fn read_file(path: &std::path::Path) -> Result<Vec<spec::Endpoint>, String> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let endpoints: Vec<Endpoint> =
        lines.map(|line| Ok(Endpoint::at(line.parse()?))).collect::<Result<_, String>>()?;
    if endpoints.len() > MAX_ENDPOINTS { Err(format!("more than {MAX_ENDPOINTS} endpoints")) } else { Ok(endpoints) }
}

fn set(upstream: &Upstream, endpoints: Vec<Endpoint>) {
    if upstream.set_endpoints(&endpoints) {
        tracing::info!(upstream = &*upstream.name, count = endpoints.len(), "endpoints changed");
    }
}
