//! What is said: that something is wrong, and that it is well again.

use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;

use super::{Action, title};
use crate::spec::{AlertEvent, Pipeline, Secrets};

/// Something is wrong with a pipeline, or its schema changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// What happened.
    pub event: AlertEvent,
    /// The pipeline.
    pub pipeline: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Who uses the data.
    pub consumers: Vec<String>,
    /// The run that found it, where it was a run.
    pub run_id: Option<String>,
    /// Why, one line per cause.
    pub cause: String,
    /// The resources concerned; all where empty.
    pub resources: Vec<String>,
    /// When it was found.
    pub at: Timestamp,
    /// The command to run next, such as `tessera ingest quality shop.yaml`.
    pub run_next: String,
    /// A page that shows more.
    pub link: Option<String>,
}

/// What an alert was about is well again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resolve {
    /// What had happened.
    pub event: AlertEvent,
    /// The pipeline.
    pub pipeline: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Who uses the data.
    pub consumers: Vec<String>,
    /// What the alert had given as the cause.
    pub cause: String,
    /// Since when it had been so.
    pub since: Timestamp,
    /// When it was found to be well.
    pub at: Timestamp,
    /// What is still wrong with the pipeline. PagerDuty's incident, one per pipeline, stays open until this is empty.
    pub still_open: Vec<AlertEvent>,
    /// A page that shows more.
    pub link: Option<String>,
}

/// Either of the two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Message {
    /// Something is wrong.
    Alert(Alert),
    /// It is well again.
    Resolved(Resolve),
}

impl Message {
    /// What it is about.
    pub fn event(&self) -> AlertEvent {
        match self {
            Self::Alert(alert) => alert.event,
            Self::Resolved(resolve) => resolve.event,
        }
    }

    /// One line, such as `shop: run failed`.
    pub fn headline(&self) -> String {
        match self {
            Self::Alert(alert) => format!("{}: {}", alert.pipeline, title(alert.event)),
            Self::Resolved(resolve) => format!("{}: resolved ({})", resolve.pipeline, title(resolve.event)),
        }
    }

    /// The message without secrets: an API's own words, which causes quote, may hold one.
    pub(super) fn redacted(&self, secrets: &Secrets) -> Self {
        let mut message = self.clone();
        let (cause, link) = match &mut message {
            Self::Alert(alert) => {
                alert.run_next = secrets.redact(&alert.run_next);
                (&mut alert.cause, &mut alert.link)
            }
            Self::Resolved(resolve) => (&mut resolve.cause, &mut resolve.link),
        };
        *cause = secrets.redact(cause);
        *link = link.as_deref().map(|link| secrets.redact(link));
        message
    }
}

/// What every message about a pipeline says besides its cause.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// The pipeline.
    pub pipeline: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Who uses the data.
    pub consumers: Vec<String>,
    /// The pipeline file as one would type it after `tessera ingest run`.
    pub file: String,
    /// A page that shows more.
    pub link: Option<String>,
}

impl About {
    /// From the pipeline, the path of its file and the console's page about it.
    pub fn new(pipeline: &Pipeline, file: &str, link: Option<String>) -> Self {
        let (owner, consumers) = (pipeline.owner.clone(), pipeline.consumers.clone());
        Self { pipeline: pipeline.name.clone(), owner, consumers, file: file.to_owned(), link }
    }

    /// The message for an action of the book.
    pub fn message(&self, action: Action, now: Timestamp) -> Message {
        let (pipeline, owner, consumers) = (self.pipeline.clone(), self.owner.clone(), self.consumers.clone());
        let link = self.link.clone();
        match action {
            Action::Trigger { event, cause, resources, run_id } => {
                let run_next = self.run_next(event);
                let at = now;
                let alert = Alert { event, pipeline, owner, consumers, run_id, cause, resources, at, run_next, link };
                Message::Alert(alert)
            }
            Action::Resolve { event, cause, since, still_open } => {
                let at = now;
                Message::Resolved(Resolve { event, pipeline, owner, consumers, cause, since, at, still_open, link })
            }
        }
    }

    fn run_next(&self, event: AlertEvent) -> String {
        let verb = match event {
            AlertEvent::RunFailed | AlertEvent::SlaMissed => "run",
            AlertEvent::QualityFailed => "quality",
            AlertEvent::SchemaDrift => "schema",
        };
        format!("tessera ingest {verb} {}", shell_word(&self.file))
    }
}

/// The text as one word for a POSIX shell.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_run_next_can_be_pasted_into_a_shell() {
        let next = |file: &str, event| About { file: file.into(), ..About::default() }.run_next(event);
        assert_eq!(next("shop.yaml", AlertEvent::RunFailed), "tessera ingest run shop.yaml");
        assert_eq!(next("a/b-c.yaml", AlertEvent::QualityFailed), "tessera ingest quality a/b-c.yaml");
        assert_eq!(next("my shop's.yaml", AlertEvent::SchemaDrift), r"tessera ingest schema 'my shop'\''s.yaml'");
    }
}
