//! The OpenAPI documents of all upstreams: fetched, merged into one that callers of the gateway can use, and shown.

mod fetch;
mod merge;
mod page;
mod public;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderValue;
use ring::digest::{SHA256, digest};
use serde_json::Value;

pub use fetch::{Following, follow};
pub use page::{Page, page};

use crate::snapshot::Snapshot;
use crate::spec;

/// The documents of a config.
#[derive(Debug)]
pub struct Documents {
    spec: spec::Documents,
    /// The last good one of each upstream.
    fetched: Mutex<BTreeMap<String, Arc<Value>>>,
    served: ArcSwap<Served>,
    /// Held while merging, so that the last merge is of the last documents.
    merging: Mutex<()>,
}

/// The merged document as it is sent.
#[derive(Debug)]
pub struct Served {
    /// JSON.
    pub body: Bytes,
    /// Its validator (RFC 9110, 8.8.3).
    pub etag: HeaderValue,
}

impl Documents {
    /// Those of a config; what upstreams were known to describe before is kept.
    pub fn new(spec: &spec::Gateway, before: Option<&Self>) -> Self {
        let mut fetched = before.map(|before| before.fetched()).unwrap_or_default();
        fetched.retain(|name, _| spec.upstreams.get(name).is_some_and(|upstream| upstream.openapi.is_some()));
        Self {
            spec: spec.documents.clone(),
            fetched: Mutex::new(fetched),
            served: ArcSwap::from_pointee(Served::of(&Value::Null)),
            merging: Mutex::default(),
        }
    }

    fn fetched(&self) -> BTreeMap<String, Arc<Value>> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a new document of an upstream; gives whether it differs from the last.
    fn take(&self, upstream: &str, document: Value) -> bool {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if fetched.get(upstream).is_some_and(|known| **known == document) {
            return false;
        }
        fetched.insert(upstream.to_owned(), Arc::new(document));
        true
    }

    /// Merges all that is known, as the routes of this config lead to it.
    pub fn merge(&self, snapshot: &Snapshot) {
        let _merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let sources = self.fetched().into_iter().map(|(upstream, document)| {
            let places = public::places(snapshot, &upstream, &document);
            merge::Source { upstream, document, places }
        });
        let merged = merge::merge(&self.spec, &sources.collect::<Vec<_>>());
        self.served.store(Arc::new(Served::of(&merged)));
    }

    /// The merged document.
    pub fn served(&self) -> Arc<Served> {
        self.served.load_full()
    }
}

impl Served {
    fn of(document: &Value) -> Self {
        let body = Bytes::from(document.to_string());
        let hash = digest(&SHA256, &body);
        let hex: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::try_from(format!("\"{hex}\""));
        Self { body, etag: etag.unwrap_or_else(|_| HeaderValue::from_static("\"\"")) }
    }
}
