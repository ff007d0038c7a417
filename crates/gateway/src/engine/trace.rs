//! The trace a request belongs to (W3C Trace Context) and, where the process sends spans somewhere, its span.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use opentelemetry::global::{self, BoxedSpan, BoxedTracer};
use opentelemetry::trace::{
    Span, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};

use super::worker::Worker;
use crate::domain::header::first;

pub(crate) const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const SAMPLED: u8 = 1;

/// The process's tracer, where it has one that sends.
pub fn tracer() -> Option<BoxedTracer> {
    let tracer = global::tracer("tessera-gateway");
    // One that sends nothing gives its parent back; one that does leaves this alone, for it is not sampled.
    let parent = Parent { trace_id: 1, span_id: 1, flags: 0 };
    let probe = tracer.build_with_context(SpanBuilder::from_name("probe"), &parent.context());
    (probe.span_context().span_id() != SpanId::from(1)).then_some(tracer)
}

/// What a caller says it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl Parent {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = first(headers, &TRACE_PARENT)?.to_str().ok()?;
        let mut parts = text.split('-');
        let mut part = |length: usize| {
            let part = parts.next().filter(|part| part.len() == length)?;
            let is_hex = part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            is_hex.then_some(part)
        };
        let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let parent = Self {
            trace_id: u128::from_str_radix(trace_id, 16).ok()?,
            span_id: u64::from_str_radix(span_id, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        // Version 0 has four parts, later ones may have more.
        let is_known = version != "ff" && (version != "00" || parts.next().is_none());
        (is_known && parent.trace_id != 0 && parent.span_id != 0).then_some(parent)
    }

    fn context(self) -> Context {
        let (trace_id, span_id) = (TraceId::from(self.trace_id), SpanId::from(self.span_id));
        let flags = TraceFlags::new(self.flags & SAMPLED);
        Context::new().with_remote_span_context(SpanContext::new(trace_id, span_id, flags, true, TraceState::default()))
    }
}

/// The trace a request belongs to.
#[derive(Debug, Default)]
pub struct Trace {
    trace_id: u128,
    span_id: u64,
    flags: u8,
    span: Option<BoxedSpan>,
}

impl Trace {
    /// Of a request with these headers. So many in a hundred of those that belong to no trace begin one that is sent.
    pub fn begin(worker: &Worker, headers: &HeaderMap, method: &http::Method, sample_percent: u8) -> Self {
        let parent = Parent::of(headers);
        let is_sampled = match parent {
            Some(parent) => parent.flags & SAMPLED != 0,
            None => worker.shared.tracer.is_some() && worker.draw(100) < u64::from(sample_percent),
        };
        if let Some(tracer) = worker.shared.tracer.as_ref().filter(|_| is_sampled) {
            let builder = SpanBuilder::from_name(method.to_string()).with_kind(SpanKind::Server);
            let context = parent.map_or_else(Context::new, Parent::context);
            let span = tracer.build_with_context(builder, &context);
            let own = span.span_context();
            return Self {
                trace_id: u128::from_be_bytes(own.trace_id().to_bytes()),
                span_id: u64::from_be_bytes(own.span_id().to_bytes()),
                flags: own.trace_flags().to_u8(),
                span: Some(span),
            };
        }
        let random = || worker.random();
        let trace_id =
            parent.map_or_else(|| (u128::from(random()) << 64) | u128::from(random() | 1), |parent| parent.trace_id);
        Self { trace_id, span_id: random() | 1, flags: parent.map_or(0, |parent| parent.flags & SAMPLED), span: None }
    }

    /// What services are told: the request's own span is the parent of theirs.
    pub fn parent(&self) -> HeaderValue {
        let mut text = *b"00-................................-................-..";
        hexadecimal(&mut text[3..35], self.trace_id);
        hexadecimal(&mut text[36..52], self.span_id.into());
        hexadecimal(&mut text[53..], self.flags.into());
        // It is fit for a header.
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// The request is over. `describe` is asked only where the span is sent.
    pub fn end(&mut self, describe: impl FnOnce() -> Told) {
        let Some(mut span) = self.span.take() else { return };
        let Told { name, attributes, is_failed } = describe();
        span.update_name(name);
        span.set_attributes(attributes);
        if is_failed {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// Writes a number's last digits, as many as there is room for.
fn hexadecimal(text: &mut [u8], mut number: u128) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

/// What a span says.
#[derive(Debug)]
pub struct Told {
    /// Its name: the method and the route, of which there are few.
    pub name: String,
    /// By the names of the semantic conventions.
    pub attributes: Vec<KeyValue>,
    /// Whether it failed on our side or behind us.
    pub is_failed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_told_what_they_can_read() {
        let trace = Trace { trace_id: 0x4b_f92f, span_id: 0xf0_67aa_0ba9_02b7, flags: 1, span: None };
        let text = trace.parent();
        assert_eq!(text, "00-000000000000000000000000004bf92f-00f067aa0ba902b7-01");
        let parent = Parent { trace_id: trace.trace_id, span_id: trace.span_id, flags: 1 };
        assert_eq!(Parent::of(&HeaderMap::from_iter([(TRACE_PARENT, text)])), Some(parent));
    }

    #[test]
    fn parents_are_read_as_the_recommendation_has_them() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACE_PARENT, text.parse().unwrap());
            Parent::of(&headers)
        };
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let known =
            Parent { trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span_id: 0x00f0_67aa_0ba9_02b7, flags: 1 };
        for (text, expected) in [
            (format!("00-{trace}-{span}-01"), Some(known)),
            (format!("cc-{trace}-{span}-01-more"), Some(known)),
            (format!("00-{trace}-{span}-01-more"), None),
            (format!("ff-{trace}-{span}-01"), None),
            (format!("00-{}-{span}-01", "0".repeat(32)), None),
            (format!("00-{trace}-{}-01", "0".repeat(16)), None),
            (format!("00-{}-{span}-01", trace.to_uppercase()), None),
            (format!("00-{trace}-{span}-1"), None),
            (format!("00-{trace}-{span}"), None),
            ("".into(), None),
        ] {
            assert_eq!(of(&text), expected, "{text}");
        }
    }
}
