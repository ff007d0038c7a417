//! What a process says about itself: `/healthz`, `/readyz`, `/components`, `/metrics`, `/openapi.json`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use serde_json::{Map, Value, json};
use tessera_kernel::Timestamp;

use super::Front;
use crate::component::reachable;
use crate::http::Json;
use crate::{Metrics, Ready, ReadyFlag, VERSION};

/// The components of a process and how they are.
pub(super) struct Status {
    /// Unset until the process serves, and again while it stops.
    pub(super) started: ReadyFlag,
    process: Ready,
    address: SocketAddr,
    front: Option<Front>,
    started_at: Timestamp,
    metrics: Metrics,
    entries: Vec<Entry>,
    openapi: Value,
}

struct Entry {
    role: &'static str,
    name: &'static str,
    path: &'static str,
    ready: Ready,
    /// Unset by a loop that ended.
    loops: Ready,
}

impl Entry {
    fn get(&self) -> Result<(), String> {
        self.loops.get().and_then(|()| self.ready.get())
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Status").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Status {
    pub(super) fn new(address: SocketAddr, front: Option<Front>, started_at: Timestamp, metrics: Metrics) -> Self {
        let (started, process) = Ready::flag("starting");
        let openapi = json!({
            "openapi": "3.1.0",
            "info": { "title": "Tessera", "version": VERSION },
            "paths": {},
            "components": { "schemas": {} },
        });
        Self { started, process, address, front, started_at, metrics, entries: Vec::new(), openapi }
    }

    /// Adds a component; the flag is for its loops to unset.
    pub(super) fn add(
        &mut self,
        role: &'static str,
        name: &'static str,
        path: &'static str,
        ready: Ready,
        openapi: Option<Value>,
    ) -> ReadyFlag {
        let (flag, loops) = Ready::flag("");
        flag.set();
        self.entries.push(Entry { role, name, path, ready, loops });
        for place in ["/paths", "/components/schemas"] {
            let part = openapi.as_ref().and_then(|document| document.pointer(place)).and_then(Value::as_object);
            let whole = self.openapi.pointer_mut(place).and_then(Value::as_object_mut);
            if let (Some(part), Some(whole)) = (part, whole) {
                whole.extend(part.clone());
            }
        }
        flag
    }

    /// Who is not ready, and why.
    pub(super) fn waits_for(&self) -> Vec<(String, String)> {
        let process = self.process.get().err().map(|reason| ("process", reason));
        let components = self.entries.iter().filter_map(|entry| Some((entry.name, entry.get().err()?)));
        process.into_iter().chain(components).map(|(name, reason)| (name.to_owned(), reason)).collect()
    }

    /// The address as a browser on this machine reaches it.
    pub(super) fn base_url(&self) -> String {
        format!("http://{}", reachable(self.front.map_or(self.address, |front| front.http)))
    }

    pub(super) fn address_table(&self) -> String {
        let base = self.base_url();
        let mut rows: Vec<(&str, String)> = Vec::new();
        for entry in &self.entries {
            let row = (entry.role, format!("{base}{}", entry.path));
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        rows.push(("metrics", format!("{base}/metrics")));
        if let Some(front) = self.front {
            rows.push(("with TLS", format!("https://{}", reachable(front.https))));
            rows.push(("direct", format!("http://{}", self.address)));
        }
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = format!("tessera {VERSION} is up\n");
        for (name, address) in rows {
            let _ = writeln!(text, "  {name:width$}  {address}");
        }
        text
    }
}

pub(super) fn routes(status: Arc<Status>) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({ "status": "ok" }))))
        .route("/readyz", get(readyz))
        .route("/components", get(components))
        .route("/metrics", get(async |State(status): State<Arc<Status>>| -> Response { status.metrics.response() }))
        .route("/openapi.json", get(async |State(status): State<Arc<Status>>| Json(status.openapi.clone())))
        .with_state(status)
}

async fn readyz(State(status): State<Arc<Status>>) -> (StatusCode, Json<Value>) {
    let waiting: Map<String, Value> =
        status.waits_for().into_iter().map(|(name, reason)| (name, reason.into())).collect();
    let code = if waiting.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "ready": waiting.is_empty(), "waiting_for": waiting })))
}

async fn components(State(status): State<Arc<Status>>) -> Json<Value> {
    let base = status.base_url();
    let components: Vec<Value> = status
        .entries
        .iter()
        .map(|entry| {
            let state = entry.get();
            json!({
                "name": entry.name,
                "role": entry.role,
                "address": format!("{base}{}", entry.path),
                "ready": state.is_ok(),
                "detail": state.err(),
            })
        })
        .collect();
    Json(json!({ "version": VERSION, "started_at": status.started_at, "components": components }))
}
