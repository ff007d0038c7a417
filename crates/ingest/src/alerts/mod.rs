//! Alerts: who is told when a pipeline is not well, once, and told again when it is.
//!
//! Three steps, each on its own: [`Finding`]s say what is wrong now, the [`AlertBook`] decides which of them are news
//! (pure; it lies on a [`Shelf`] beside the pipeline's state, where several processes write), and the [`Alerter`] sends
//! them to Slack, PagerDuty and a webhook. [`tell`] does the last two. Nothing here fails a run: a [`Delivery`] says what
//! did not arrive.

mod book;
mod finding;
mod message;
mod pagerduty;
mod send;
mod shelf;
mod sla;
mod slack;
mod tell;
mod webhook;

pub use book::{Action, AlertBook, Judged};
pub use finding::Finding;
pub use message::{About, Alert, Message, Resolve};
pub use send::{Alerter, Channel, Delivery, Outcome};
pub use shelf::Shelf;
pub use sla::{Promise, SlaStatus, sla_status};
pub use tell::{News, tell};

use crate::spec::AlertEvent;

/// How an event is called in a sentence.
fn title(event: AlertEvent) -> &'static str {
    match event {
        AlertEvent::RunFailed => "run failed",
        AlertEvent::SlaMissed => "data is late",
        AlertEvent::QualityFailed => "quality check failed",
        AlertEvent::SchemaDrift => "schema changed",
    }
}

/// The event's name on the wire, as in `alerts.on`.
fn code(event: AlertEvent) -> &'static str {
    match event {
        AlertEvent::RunFailed => "run_failed",
        AlertEvent::SlaMissed => "sla_missed",
        AlertEvent::QualityFailed => "quality_failed",
        AlertEvent::SchemaDrift => "schema_drift",
    }
}

/// At most `most` characters, the last one an ellipsis where something was cut off.
fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
