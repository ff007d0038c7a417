//! The message for a Slack incoming webhook: blocks, and a fallback text for notifications.

use serde_json::{Value, json};
use tessera_kernel::Timestamp;

use super::{Alert, Message, Resolve};

/// Slack refuses a section of more than 3000 characters and a field of more than 2000.
const MOST_SECTION: usize = 2800;
const MOST_FIELD: usize = 1800;

pub(super) fn body(message: &Message) -> Value {
    let headline = escaped(&message.headline(), MOST_FIELD);
    let (mark, cause) = match message {
        Message::Alert(alert) => (":rotating_light:", &alert.cause),
        Message::Resolved(resolve) => (":white_check_mark:", &resolve.cause),
    };
    let mut blocks = vec![section(&format!("{mark} *{headline}*"))];
    match message {
        Message::Alert(alert) => blocks.extend(alert_blocks(alert)),
        Message::Resolved(resolve) => blocks.extend(resolve_blocks(resolve)),
    }
    json!({ "text": format!("{headline}\n{}", escaped(cause, MOST_SECTION)), "blocks": blocks })
}

fn alert_blocks(alert: &Alert) -> Vec<Value> {
    let mut fields = people(&alert.pipeline, alert.owner.as_deref(), &alert.consumers);
    if !alert.resources.is_empty() {
        fields.push(field("Resources", &alert.resources.join(", ")));
    }
    if let Some(run) = &alert.run_id {
        fields.push(field("Run", run));
    }
    vec![
        section(&escaped(&alert.cause, MOST_SECTION)),
        json!({ "type": "section", "fields": fields }),
        section(&format!("Run next: `{}`", escaped(&alert.run_next.replace('`', "'"), MOST_FIELD))),
        context(alert.at, alert.link.as_deref()),
    ]
}

fn resolve_blocks(resolve: &Resolve) -> Vec<Value> {
    let mut fields = people(&resolve.pipeline, resolve.owner.as_deref(), &resolve.consumers);
    fields.push(field("Since", &resolve.since.to_string()));
    if !resolve.still_open.is_empty() {
        let open: Vec<&str> = resolve.still_open.iter().map(|event| super::title(*event)).collect();
        fields.push(field("Still wrong", &open.join(", ")));
    }
    vec![
        section(&format!("It had been: {}", escaped(&resolve.cause, MOST_SECTION))),
        json!({ "type": "section", "fields": fields }),
        context(resolve.at, resolve.link.as_deref()),
    ]
}

fn people(pipeline: &str, owner: Option<&str>, consumers: &[String]) -> Vec<Value> {
    let mut fields = vec![field("Pipeline", pipeline), field("Owner", owner.unwrap_or("nobody named"))];
    if !consumers.is_empty() {
        fields.push(field("Consumers", &consumers.join(", ")));
    }
    fields
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
}

fn field(name: &str, value: &str) -> Value {
    json!({ "type": "mrkdwn", "text": format!("*{name}*\n{}", escaped(value, MOST_FIELD)) })
}

fn context(at: Timestamp, link: Option<&str>) -> Value {
    let link = link.filter(|link| link.starts_with("http://") || link.starts_with("https://"));
    let link = link.map(|link| format!(" · <{}|open>", escaped(&link.replace('|', "%7C"), MOST_FIELD)));
    let text = format!("{at}{}", link.unwrap_or_default());
    json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": text }] })
}

/// With `&`, `<` and `>` as Slack wants them, so that no text becomes a mention or a link; at most `most` characters,
/// counted as sent.
fn escaped(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut length = 0;
    for c in text.chars() {
        let mut buffer = [0; 4];
        let piece = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            c => c.encode_utf8(&mut buffer),
        };
        length += piece.chars().count();
        if length > most {
            out.push('…');
            break;
        }
        out.push_str(piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_a_mention() {
        assert_eq!(escaped("<!channel> & <@U1>", 100), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
        assert_eq!(escaped("ab&c", 4), "ab…");
        assert_eq!(escaped("äö", 2), "äö");
    }
}
