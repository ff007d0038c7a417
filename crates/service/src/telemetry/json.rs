//! Log lines for machines: one JSON object a line, written as the event is read, with the fields of its span as they were
//! written when the span got them. Nothing is built up or parsed in between, as every request has a line.

use std::fmt::{self, Write};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Fields that are for traces only begin with this.
const FOR_TRACES: &str = "otel.";

/// Writes an event as
/// `{"timestamp":…,"level":…,"message":…,<its fields>,"target":…,"span":{<fields of its span>,"name":…}}`.
pub(super) struct Lines;

/// Writes fields as members of an object: `"a":1,"b":"x"`.
pub(super) struct Members;

impl<S> FormatEvent<S, Members> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Members>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        writer.write_str("\",\"level\":\"")?;
        writer.write_str(metadata.level().as_str())?;
        writer.write_char('"')?;
        let mut members = Writing::new(&mut writer, false);
        event.record(&mut members);
        members.done?;
        writer.write_str(",\"target\":")?;
        string(&mut writer, metadata.target())?;
        if let Some(span) = context.parent_span() {
            writer.write_str(",\"span\":{")?;
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<Members>>().filter(|fields| !fields.is_empty()) {
                writer.write_str(fields)?;
                writer.write_char(',')?;
            }
            writer.write_str("\"name\":")?;
            string(&mut writer, span.name())?;
            writer.write_char('}')?;
        }
        writer.write_str("}\n")
    }
}

impl<'writer> FormatFields<'writer> for Members {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut members = Writing::new(&mut writer, true);
        fields.record(&mut members);
        members.done
    }

    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let mut added = String::new();
        let mut members = Writing { known: &current.fields, ..Writing::new(&mut added, current.fields.is_empty()) };
        fields.record(&mut members);
        members.done?;
        let repeated = members.repeated;
        current.fields.push_str(&added);
        if repeated {
            // Of a field that is set twice the last one counts.
            let members: Map<String, Value> =
                serde_json::from_str(&format!("{{{}}}", current.fields)).map_err(|_| fmt::Error)?;
            let text = Value::from(members).to_string();
            current.fields = text.trim_matches(['{', '}']).to_owned();
        }
        Ok(())
    }
}

/// Members on their way into a text.
struct Writing<'a> {
    out: &'a mut dyn Write,
    first: bool,
    done: fmt::Result,
    /// Members that are there.
    known: &'a str,
    /// Whether one of those came again.
    repeated: bool,
}

impl<'a> Writing<'a> {
    fn new(out: &'a mut dyn Write, first: bool) -> Self {
        Self { out, first, done: Ok(()), known: "", repeated: false }
    }

    fn member(&mut self, field: &Field, value: impl FnOnce(&mut dyn Write) -> fmt::Result) {
        let name = field.name();
        if name.starts_with(FOR_TRACES) || self.done.is_err() {
            return;
        }
        self.repeated |= names(self.known, name);
        self.done = (|| {
            if !std::mem::take(&mut self.first) {
                self.out.write_char(',')?;
            }
            string(self.out, name.strip_prefix("r#").unwrap_or(name))?;
            self.out.write_char(':')?;
            value(self.out)
        })();
    }
}

impl Visit for Writing<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, |out| string(out, value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, |out| write!(out, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |out| write!(out, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, |out| write!(out, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for what is no number.
        self.member(field, |out| if value.is_finite() { write!(out, "{value}") } else { out.write_str("null") });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field, |out| {
            out.write_char('"')?;
            write!(Escaping(out), "{value:?}")?;
            out.write_char('"')
        });
    }
}

/// Whether one of the members has this name. In a value the second quotation mark is escaped.
fn names(members: &str, name: &str) -> bool {
    let quoted = |(at, _): (usize, &str)| members[..at].ends_with('"') && members[at + name.len()..].starts_with("\":");
    members.match_indices(name).any(quoted)
}

fn string(out: &mut dyn Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    Escaping(out).write_str(text)?;
    out.write_char('"')
}

/// Escapes what may not stand in a JSON string.
struct Escaping<'a>(&'a mut dyn Write);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\') {
            self.0.write_str(&rest[..at])?;
            match rest.as_bytes()[at] {
                b'"' => self.0.write_str("\\\"")?,
                b'\\' => self.0.write_str("\\\\")?,
                b'\n' => self.0.write_str("\\n")?,
                control => write!(self.0, "\\u{control:04x}")?,
            }
            rest = &rest[at + 1..];
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged, each line read as JSON.
    fn lines(log: impl FnOnce()) -> Vec<Value> {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(Members)
            .event_format(Lines)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    #[test]
    fn an_event_is_one_object_with_its_span() {
        let lines = lines(|| {
            let span = tracing::info_span!(
                "request",
                request.id = "r\"1\"",
                otel.name = "GET /",
                http.status = tracing::field::Empty
            );
            span.in_scope(|| {
                span.record("http.status", 404_u16);
                tracing::info!(ship = %"a\nb\\\u{1}", depth = -3, sound = true, share = 0.5, none = f64::NAN, "said \"no\"");
            });
            tracing::warn!("alone");
        });
        let line = &lines[0];
        assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"said \"no\"".into()));
        assert_eq!(
            (&line["ship"], &line["depth"], &line["sound"]),
            (&"a\nb\\\u{1}".into(), &(-3).into(), &true.into())
        );
        assert_eq!((&line["share"], &line["none"]), (&0.5.into(), &Value::Null));
        assert_eq!(line["target"], module_path!());
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        let span = serde_json::json!({ "request.id": "r\"1\"", "http.status": 404, "name": "request" });
        assert_eq!(line["span"], span, "what is for traces only is left out");
        assert_eq!(lines[1].get("span"), None);
    }

    #[test]
    fn of_a_field_that_is_set_twice_the_last_counts() {
        let lines = lines(|| {
            let span = tracing::info_span!("hold", state = "wanted \"state\":", seats = tracing::field::Empty);
            span.record("seats", 2);
            span.record("state", "made");
            span.in_scope(|| tracing::info!("held"));
        });
        assert_eq!(lines[0]["span"], serde_json::json!({ "state": "made", "seats": 2, "name": "hold" }));
    }
}
