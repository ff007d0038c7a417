//! What a process says about itself: `/healthz`, `/readyz`, `/components`, `/metrics`, `/openapi.json`.

use std::collections::BTreeSet;
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
use crate::openapi::{Components, problem, refusal, with_maker};
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
    /// Of `/openapi.json`.
    paths: Map<String, Value>,
    operation_ids: BTreeSet<String>,
    components: Components,
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
        let mut components = Components::default();
        components.add(&json!({ "components": { "schemas": { "Problem": problem() } } }), "tessera");
        let (entries, paths, operation_ids) = (Vec::new(), Map::new(), BTreeSet::new());
        Self { started, process, address, front, started_at, metrics, entries, paths, operation_ids, components }
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
        if let Some(document) = openapi {
            self.describe(&document, role);
        }
        flag
    }

    /// Who is not ready, and why.
    pub(super) fn waits_for(&self) -> Vec<(String, String)> {
        let process = self.process.get().err().map(|reason| ("process", reason));
        let components = self.entries.iter().filter_map(|entry| Some((entry.name, entry.get().err()?)));
        process.into_iter().chain(components).map(|(name, reason)| (name.to_owned(), reason)).collect()
    }

    /// Adds what a role says of its paths.
    fn describe(&mut self, document: &Value, role: &str) {
        let renames = self.components.add(document, role);
        let Some(paths) = document.get("paths").and_then(Value::as_object) else { return };
        for (path, item) in paths {
            let mut item = item.clone();
            for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
                renames.apply_to_operation(operation, document);
                self.name_operation(operation, role);
                if let Some(answers) = operation.get_mut("responses").and_then(Value::as_object_mut) {
                    answers.entry("default").or_insert_with(refusal);
                }
            }
            self.paths.insert(path.clone(), item);
        }
    }

    /// An operation's id is its own among those of all roles.
    fn name_operation(&mut self, operation: &mut Value, role: &str) {
        let Some(Value::String(id)) = operation.get_mut("operationId") else { return };
        if self.operation_ids.contains(id) {
            *id = with_maker(id, role, |wanted| !self.operation_ids.contains(wanted));
        }
        self.operation_ids.insert(id.clone());
    }

    /// What all roles say of their paths, as one document.
    fn openapi(&self) -> Value {
        json!({
            "openapi": "3.1.0",
            "info": { "title": "Tessera", "version": VERSION },
            "paths": self.paths,
            "components": self.components,
        })
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
        .route("/openapi.json", get(async |State(status): State<Arc<Status>>| Json(status.openapi())))
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
