//! Fetches the documents of upstreams, again and again; where that fails the last good one stays.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use tessera_service::client;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Documents;
use crate::engine::Worker;
use crate::pipeline::{Call, Deadline, OURSELVES, Outgoing, call};
use crate::snapshot::Snapshot;
use crate::spec::Retry;
use crate::tallies::FetchLabels;
use crate::transcode;
use crate::upstream::Upstream;
use crate::validate::{parse, version};

/// After a failure it is tried again after so long, then after twice that, up to the usual time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The loops of a config; they end when this is dropped.
#[derive(Debug, Default)]
pub struct Following(#[expect(dead_code, reason = "what it holds is stopped by its drop")] JoinSet<()>);

/// Follows what upstreams say of themselves, documents and descriptions of gRPC, on this thread.
pub fn follow(worker: &Rc<Worker>, snapshot: &Arc<Snapshot>) -> Following {
    let mut loops = JoinSet::new();
    for upstream in snapshot.upstreams.values() {
        let Some(path) = upstream.spec.openapi.clone() else { continue };
        let (asker, of, snapshot) = (worker.clone(), upstream.clone(), snapshot.clone());
        let every = snapshot.spec.documents.every.0;
        let renew = async move || fetch(&asker, &snapshot, &of, &path).await.map_err(|why| format!("`{path}`: {why}"));
        loops.spawn_local(keep_up(worker.clone(), upstream.clone(), "OpenAPI document", every, renew));
    }
    for route in &snapshot.routes {
        let asked = route.transcoder.clone().filter(|transcoder| transcoder.spec.reflection);
        let upstream = route.spec.upstream.as_ref().and_then(|name| snapshot.upstreams.get(name));
        let (Some(transcoder), Some(upstream)) = (asked, upstream) else { continue };
        let (asker, of) = (worker.clone(), upstream.clone());
        let every = transcoder.spec.every.0;
        let mut known = Vec::new();
        let renew = async move || transcode::renew(&asker, &of, &transcoder, &mut known).await;
        loops.spawn_local(keep_up(worker.clone(), upstream.clone(), "gRPC description", every, renew));
    }
    Following(loops)
}

/// Renews what is known of an upstream again and again; where that fails the last good state stays.
async fn keep_up(
    worker: Rc<Worker>,
    upstream: Arc<Upstream>,
    what: &'static str,
    every: Duration,
    mut renew: impl AsyncFnMut() -> Result<(), String>,
) {
    let mut pause = FIRST_PAUSE;
    let mut was_good = true;
    loop {
        let renewed = renew().await;
        let outcome = if renewed.is_ok() { "fetched" } else { "failed" };
        let labels = FetchLabels { upstream: upstream.name.to_string(), outcome };
        worker.shared.metrics.tallies.fetches.get_or_create(&labels).inc();
        match renewed {
            Ok(()) => {
                (pause, was_good) = (FIRST_PAUSE, true);
                sleep(every).await;
            }
            Err(reason) => {
                // Once, and not with every try.
                if was_good {
                    tracing::warn!(
                        upstream = &*upstream.name,
                        reason,
                        "its {what} cannot be had; the last good one stays"
                    );
                }
                was_good = false;
                sleep(pause.min(every)).await;
                pause = pause.saturating_mul(2);
            }
        }
    }
}

async fn fetch(
    worker: &Rc<Worker>,
    snapshot: &Arc<Snapshot>,
    upstream: &Arc<Upstream>,
    path: &str,
) -> Result<(), String> {
    let spec = &snapshot.spec.documents;
    let deadline = Deadline::after(spec.timeout.0);
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, application/yaml;q=0.5"));
    if let Ok(agent) = HeaderValue::try_from(client::user_agent()) {
        headers.insert(USER_AGENT, agent);
    }
    let path = path.parse().map_err(|_| "its path cannot be asked for".to_owned())?;
    let outgoing = Outgoing { method: Method::GET, path, headers, host: None };
    let asked = Call { outgoing, body: Bytes::new(), key: None, deadline, peer: OURSELVES };
    let called = call(worker, upstream, &asked, &Retry::default()).await.map_err(|failed| failed.error.to_string())?;
    let status = called.answer.status();
    if !status.is_success() {
        return Err(format!("it answered {}", status.as_u16()));
    }
    let (_, body) = called.whole(upstream, spec.size.0, deadline.at).await.map_err(|error| error.to_string())?;
    let (snapshot, name) = (snapshot.clone(), upstream.name.clone());
    // Reading and merging takes longer than others should wait.
    let taken = worker.shared.fetcher.work(move || take(&snapshot.documents, &snapshot, &name, &body)).await;
    taken.map_err(|error| error.to_string())?
}

fn take(documents: &Documents, snapshot: &Snapshot, upstream: &str, body: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(body).map_err(|_| "it is not text".to_owned())?;
    let document = parse(text).map_err(|error| format!("it cannot be read: {error}"))?;
    version(&document)?;
    if documents.take(upstream, document) {
        documents.merge(snapshot);
        tracing::info!(upstream, "its OpenAPI document was taken");
    }
    Ok(())
}
