//! Loops beside the traffic: endpoints are looked up again and again, and asked whether they are well.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::names::{Found, MAX_ENDPOINTS, Names};
use super::{Upstream, health};
use crate::metrics::{LookupLabels, Metrics};
use crate::spec::{self, Endpoint, EndpointUrl, Source};

/// How often a file of endpoints is looked at.
const FILE_EVERY: Duration = Duration::from_secs(1);
/// The shortest time between two look-ups of a name.
const DNS_AT_LEAST: Duration = Duration::from_millis(100);
/// Within these what a name leads to is believed, whatever its records say.
const HOLDS_AT_LEAST: Duration = Duration::from_secs(1);
const HOLDS_AT_MOST: Duration = Duration::from_secs(60);
/// After a look-up that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// The loops of one upstream; they end when this is dropped.
#[derive(Debug)]
pub struct Watch(#[expect(dead_code, reason = "what it holds is stopped by its drop")] JoinSet<()>);

/// Starts the loops of an upstream on this thread; relative paths start from `folder`.
pub fn watch(upstream: &Arc<Upstream>, folder: &std::path::Path, metrics: &Metrics) -> Watch {
    let mut loops = JoinSet::new();
    let told = Told { upstream: upstream.clone(), metrics: metrics.clone(), is_failing: false };
    match upstream.spec.discover.clone() {
        None => {}
        Some(Source::Dns { url, every, servers }) => {
            loops.spawn_local(follow_name(told, Wanted::Addresses(url), every.map(|every| every.0), servers));
        }
        Some(Source::Srv { name, tls, every, servers }) => {
            loops.spawn_local(follow_name(told, Wanted::Service(name, tls), every.map(|every| every.0), servers));
        }
        Some(Source::File { path }) => {
            loops.spawn_local(follow_file(told, folder.join(path)));
        }
    }
    if let Some(probe) = &upstream.spec.health {
        loops.spawn_local(health::follow(upstream.clone(), probe.clone()));
    }
    Watch(loops)
}

/// What a name is asked for.
enum Wanted {
    Addresses(EndpointUrl),
    Service(String, bool),
}

/// Takes what look-ups find.
struct Told {
    upstream: Arc<Upstream>,
    metrics: Metrics,
    is_failing: bool,
}

impl Told {
    /// Where a look-up fails the last known ones stay: a name server's failure is not the upstream's.
    fn take(&mut self, found: Result<Vec<Endpoint>, String>) {
        let name = &*self.upstream.name;
        let outcome = if found.is_ok() { "found" } else { "failed" };
        self.metrics.lookups.get_or_create(&LookupLabels { upstream: name.to_owned(), outcome }).inc();
        let was_failing = std::mem::replace(&mut self.is_failing, found.is_err());
        match found {
            Ok(endpoints) => {
                if self.upstream.found(&endpoints) {
                    tracing::info!(upstream = name, count = endpoints.len(), "endpoints changed");
                }
            }
            Err(reason) if !was_failing => {
                tracing::warn!(upstream = name, reason, "endpoints cannot be looked up; known ones stay");
            }
            Err(_) => {}
        }
    }
}

async fn follow_name(mut told: Told, wanted: Wanted, every: Option<Duration>, servers: Vec<SocketAddr>) {
    let mut names = Names::new(&servers);
    loop {
        let found = match &names {
            Ok(names) => match &wanted {
                Wanted::Addresses(url) => names.addresses(url).await,
                Wanted::Service(name, is_tls) => names.service(name, *is_tls).await,
            },
            Err(reason) => Err(reason.clone()),
        };
        let holds = found.as_ref().map_or(AGAIN, |found| found.holds.clamp(HOLDS_AT_LEAST, HOLDS_AT_MOST));
        told.take(found.map(|Found { endpoints, .. }| endpoints));
        sleep(every.unwrap_or(holds).max(DNS_AT_LEAST)).await;
        if names.is_err() {
            names = Names::new(&servers);
        }
    }
}

async fn follow_file(mut told: Told, path: PathBuf) {
    let mut read_at: Option<(SystemTime, u64)> = None;
    loop {
        let stamp = tokio::fs::metadata(&path).await.ok().and_then(|data| Some((data.modified().ok()?, data.len())));
        if stamp.is_some() && stamp != read_at {
            told.take(read_file(&path).await.map_err(|reason| format!("`{}`: {reason}", path.display())));
            read_at = stamp;
        }
        sleep(FILE_EVERY).await;
    }
}

async fn read_file(path: &std::path::Path) -> Result<Vec<spec::Endpoint>, String> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let endpoints: Vec<Endpoint> = lines.map(|line| Ok(Endpoint::at(line.parse()?))).collect::<Result<_, String>>()?;
    if endpoints.len() > MAX_ENDPOINTS { Err(format!("more than {MAX_ENDPOINTS} endpoints")) } else { Ok(endpoints) }
}
