//! Certificates by ACME are issued and renewed, one after the other.

use std::sync::Arc;

use crate::engine::Engine;
use crate::metrics::OutcomeLabels;

/// Has certificates issued.
#[derive(Debug)]
pub struct Certificates {
    engine: Arc<Engine>,
}

impl Certificates {
    /// For the listeners of this engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Has those issued that are due, and gives how many were.
    pub async fn look(&self) -> usize {
        let snapshot = self.engine.snapshot();
        let shared = self.engine.shared();
        let mut issued = 0;
        for slot in &snapshot.issued {
            let now_s = shared.clock.now().micros().div_euclid(1_000_000);
            if !slot.is_due(now_s) || slot.is_paused() {
                continue;
            }
            let outcome = snapshot.acme.issue(slot, &snapshot.folder).await;
            let label = if outcome.is_ok() { "issued" } else { "refused" };
            shared.metrics.certificates.get_or_create(&OutcomeLabels { outcome: label }).inc();
            match &outcome {
                Ok(()) => {
                    tracing::info!(domain = slot.name(), "a certificate was issued");
                    issued += 1;
                }
                Err(reason) => tracing::error!(domain = slot.name(), reason, "a certificate was not issued"),
            }
            slot.note(outcome.is_ok());
        }
        issued
    }
}
