//! Certificates by ACME are issued and renewed, one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Engine;
use crate::metrics::OutcomeLabels;
use crate::tls::Slot;

/// How long after the first failure it is tried again; each further one doubles it. Authorities count failures.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3_600);

/// Has certificates issued.
#[derive(Debug)]
pub struct Certificates {
    engine: Arc<Engine>,
    /// By certificate: failures in a row, and until when it is left alone.
    failures: Mutex<HashMap<usize, (u32, Instant)>>,
}

impl Certificates {
    /// For the listeners of this engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, failures: Mutex::default() }
    }

    /// Has those issued that are due, and gives how many were.
    pub async fn look(&self) -> usize {
        let snapshot = self.engine.snapshot();
        let shared = self.engine.shared();
        let mut issued = 0;
        for slot in &snapshot.issued {
            let now_s = shared.clock.now().micros().div_euclid(1_000_000);
            if !slot.is_due(now_s) || self.is_paused(slot) {
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
            self.note(slot, outcome.is_ok());
        }
        issued
    }

    fn is_paused(&self, slot: &Arc<Slot>) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(&Arc::as_ptr(slot).addr()).is_some_and(|(_, until)| Instant::now() < *until)
    }

    fn note(&self, slot: &Arc<Slot>, is_good: bool) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Arc::as_ptr(slot).addr();
        if is_good {
            failures.remove(&key);
            return;
        }
        let (count, until) = failures.entry(key).or_insert((0, Instant::now()));
        *until = Instant::now() + FIRST_PAUSE.saturating_mul(1 << (*count).min(10)).min(LONGEST_PAUSE);
        *count += 1;
    }
}
