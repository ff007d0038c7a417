//! The message for any receiver of JSON.
//!
//! ```json
//! { "version": 1, "id": "5f2c…", "kind": "alert", "event": "run_failed", "pipeline": "shop", "owner": "data@example.com",
//!   "consumers": ["finance"], "run_id": "run_0192…", "cause": "…", "resources": ["orders"],
//!   "at": "2026-03-20T06:00:00Z", "run_next": "tessera ingest run shop.yaml", "link": null }
//! ```
//!
//! `kind` is `alert` or `resolved`; the latter has `since` and `still_open` and no `run_id`, `resources` and `run_next`.
//! `event` is `run_failed`, `sla_missed`, `quality_failed` or `schema_drift`. `id` is the same in every try of one
//! message, so that a receiver can drop the second; the header `Idempotency-Key` repeats it. A new optional field leaves
//! `version` as it is.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Message;

const VERSION: u32 = 1;

/// The body, and its id.
pub(super) fn body(message: &Message) -> (Value, String) {
    let said = serde_json::to_value(message).unwrap_or_default();
    let id: String = Sha256::digest(said.to_string()).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let mut body = json!({ "version": VERSION, "id": id });
    if let (Some(body), Value::Object(said)) = (body.as_object_mut(), said) {
        body.extend(said);
    }
    (body, id)
}
