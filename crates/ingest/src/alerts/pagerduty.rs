//! The messages for PagerDuty's Events API v2. One incident per pipeline: all its alerts share one `dedup_key`.
//!
//! A schema change is no condition that ends, so it is sent as a change event: an incident for it would stay open, and
//! PagerDuty would file the next failure under it without waking anyone.

use serde_json::{Value, json};

use super::{Alert, Message, clip, code};
use crate::spec::{AlertEvent, PagerDuty};

/// PagerDuty cuts a summary here.
const MOST_SUMMARY: usize = 1024;
/// Well below PagerDuty's 512 KB for an event.
const MOST_CAUSE: usize = 20_000;

/// Where the message goes and its body; nothing where PagerDuty need not know.
pub(super) fn request(settings: &PagerDuty, message: &Message) -> Option<(String, Value)> {
    match message {
        Message::Alert(alert) if alert.event == AlertEvent::SchemaDrift => {
            Some((change_url(&settings.url), change(settings, alert, &summary(message, &alert.cause))))
        }
        Message::Alert(alert) => {
            Some((settings.url.clone(), trigger(settings, alert, &summary(message, &alert.cause))))
        }
        Message::Resolved(resolve) if resolve.still_open.is_empty() => {
            let body = json!({
                "routing_key": settings.routing_key,
                "event_action": "resolve",
                "dedup_key": dedup_key(&resolve.pipeline),
            });
            Some((settings.url.clone(), body))
        }
        Message::Resolved(_) => None,
    }
}

fn trigger(settings: &PagerDuty, alert: &Alert, summary: &str) -> Value {
    let mut body = json!({
        "routing_key": settings.routing_key,
        "event_action": "trigger",
        "dedup_key": dedup_key(&alert.pipeline),
        "client": "Tessera",
        "payload": {
            "summary": summary,
            "source": alert.pipeline,
            "severity": settings.severity,
            "timestamp": alert.at,
            "component": "ingest",
            "class": code(alert.event),
            "custom_details": details(alert),
        },
    });
    if let Some(link) = &alert.link {
        body["client_url"] = json!(link);
        body["links"] = links(link);
    }
    body
}

fn change(settings: &PagerDuty, alert: &Alert, summary: &str) -> Value {
    let mut body = json!({
        "routing_key": settings.routing_key,
        "payload": {
            "summary": summary,
            "source": alert.pipeline,
            "timestamp": alert.at,
            "custom_details": details(alert),
        },
    });
    if let Some(link) = &alert.link {
        body["links"] = links(link);
    }
    body
}

fn dedup_key(pipeline: &str) -> String {
    format!("tessera-ingest-{pipeline}")
}

/// The change endpoint beside the one for alerts. Another receiver gets both at its one address.
fn change_url(url: &str) -> String {
    match url.strip_suffix("/v2/enqueue") {
        Some(host) => format!("{host}/v2/change/enqueue"),
        None => url.to_owned(),
    }
}

fn summary(message: &Message, cause: &str) -> String {
    let first = cause.lines().next().unwrap_or_default();
    let more = if cause.lines().count() > 1 { " …" } else { "" };
    clip(&format!("{}: {first}{more}", message.headline()), MOST_SUMMARY)
}

fn details(alert: &Alert) -> Value {
    json!({
        "pipeline": alert.pipeline,
        "owner": alert.owner,
        "consumers": alert.consumers,
        "run_id": alert.run_id,
        "resources": alert.resources,
        "cause": clip(&alert.cause, MOST_CAUSE),
        "run_next": alert.run_next,
    })
}

fn links(link: &str) -> Value {
    json!([{ "href": link, "text": "Pipeline" }])
}
