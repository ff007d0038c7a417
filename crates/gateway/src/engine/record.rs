//! What is known of an exchange when it is over: counted and logged always, whatever became of it.

use std::fmt::Write;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderValue, Method, Uri, Version};
use opentelemetry::KeyValue;
use tessera_kernel::Timestamp;
use tessera_service::ProductError;
use tokio::time::Instant;

use super::body::Progress;
use super::guard::Signals;
use super::trace::{Told, Trace};
use super::worker::{Serving, Worker};
use crate::Error;
use crate::error::Side;
use crate::metrics::{ErrorLabels, RouteStats};
use crate::spec::LogFormat;
use crate::upstream::Endpoint;

/// The status in log and metrics of a request whose caller went away before its answer began.
const GONE: u16 = 499;
/// An answer slower than this is always logged.
const SLOW_US: u64 = 1_000_000;

/// What is known of an exchange.
#[derive(Debug)]
pub struct Record {
    /// Whose it is.
    pub worker: Rc<Worker>,
    /// The config it was served by.
    pub snapshot: Rc<Serving>,
    /// Told when it is over.
    pub signals: Arc<Signals>,
    /// When it began, by the clock.
    pub at: Timestamp,
    /// When it began.
    pub began: Instant,
    /// The request's id.
    pub request_id: HeaderValue,
    /// Who sent it.
    pub client_ip: IpAddr,
    /// The trace it belongs to.
    pub trace: Trace,
    /// Its method.
    pub method: Method,
    /// Its target as it came.
    pub uri: Uri,
    /// Its version.
    pub version: Version,
    /// Its host.
    pub host: Option<HeaderValue>,
    /// Its `user-agent`.
    pub agent: Option<HeaderValue>,
    /// The route's name and counts.
    pub route: Option<(Arc<str>, Arc<RouteStats>)>,
    /// The upstream's name.
    pub upstream: Option<Arc<str>>,
    /// Who answered.
    pub endpoint: Option<Arc<Endpoint>>,
    /// How often it was sent.
    pub attempts: u32,
    /// Whether a service may have begun to act on it, so that the caller must not send it again unthinkingly.
    pub was_sent: bool,
    /// What the cache made of it.
    pub cache: Option<&'static str>,
    /// The answer's status; 0 before there is one.
    pub status: u16,
    /// How much was received.
    pub progress: Option<Rc<Progress>>,
    /// How much was sent.
    pub bytes_out: u64,
    /// What went wrong.
    pub error: Option<(&'static str, Side, String)>,
    is_over: bool,
}

impl Record {
    /// Of a request that begins now. Boxed, as it is handed on often and has half a kilobyte.
    pub fn begin(
        worker: &Rc<Worker>,
        snapshot: &Rc<Serving>,
        signals: &Arc<Signals>,
        client_ip: IpAddr,
        request: &http::request::Parts,
    ) -> Box<Self> {
        signals.request_began();
        let mut record = Self::of(worker, snapshot, signals, client_ip, request);
        record.trace = Trace::begin(worker, &request.headers, &request.method, snapshot.spec.tracing.sample_percent);
        record
    }

    /// Of what is fetched again in the background for a request: neither counted nor logged.
    pub fn of_background(of: &Self, request: &http::request::Parts) -> Box<Self> {
        let mut record = Self::of(&of.worker, &of.snapshot, &of.signals, of.client_ip, request);
        record.request_id = of.request_id.clone();
        record.is_over = true;
        record
    }

    fn of(
        worker: &Rc<Worker>,
        snapshot: &Rc<Serving>,
        signals: &Arc<Signals>,
        client_ip: IpAddr,
        request: &http::request::Parts,
    ) -> Box<Self> {
        Box::new(Self {
            worker: worker.clone(),
            snapshot: snapshot.clone(),
            signals: signals.clone(),
            at: worker.shared.clock.now(),
            began: Instant::now(),
            request_id: HeaderValue::from_static(""),
            client_ip,
            trace: Trace::default(),
            method: request.method.clone(),
            uri: request.uri.clone(),
            version: request.version,
            host: request.headers.get(http::header::HOST).cloned().or_else(|| {
                let authority = request.uri.authority()?;
                HeaderValue::from_str(authority.as_str()).ok()
            }),
            agent: None,
            route: None,
            upstream: None,
            endpoint: None,
            attempts: 0,
            was_sent: false,
            cache: None,
            status: 0,
            progress: None,
            bytes_out: 0,
            error: None,
            is_over: false,
        })
    }

    /// Why the caller's body broke off, where that is the caller's doing.
    pub fn upload_fault(&self) -> Option<Error> {
        Some(self.progress.as_ref()?.fault()?.into())
    }

    /// Notes what went wrong; the first counts.
    pub fn failed(&mut self, error: &Error) {
        if self.error.is_none() {
            self.error = Some((error.code(), error.side(), error.to_string()));
        }
    }

    /// The answer stopped before its end.
    pub fn answer_broke_off(&mut self, reason: &str) {
        if self.error.is_none() {
            self.error = Some(("gateway.upstream_broke_off", Side::Upstream, reason.to_owned()));
        }
    }

    /// It is over; `is_whole` where the answer was sent to its end.
    pub fn finish(&mut self, is_whole: bool) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.signals.request_ended(!is_whole && self.error.is_none());
        let took_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let status = if self.status == 0 { GONE } else { self.status };
        let bytes_in = self.progress.as_ref().map_or(0, |progress| progress.bytes.get());
        let stats = self.route.as_ref().map_or(&self.snapshot.unmatched, |(_, stats)| stats);
        stats.of(self.worker.index).count(status, took_us, bytes_in, self.bytes_out);
        if let Some((code, side, _)) = &self.error {
            let labels = ErrorLabels { code, side: side.name() };
            self.worker.shared.metrics.errors.get_or_create(&labels).inc();
        }
        let mut trace = std::mem::take(&mut self.trace);
        trace.end(|| self.told(status));
        let log = &self.snapshot.spec.access_log;
        if log.format == LogFormat::Off {
            return;
        }
        let is_usual = status < 400 && is_whole && took_us < SLOW_US;
        if is_usual && log.sample_percent < 100 && self.worker.draw(100) >= u64::from(log.sample_percent) {
            return;
        }
        self.worker.log(&self.snapshot, |page, time| {
            // Writing into a `String` cannot fail.
            let _ = match log.format {
                LogFormat::Combined => self.combined(page, status),
                _ => self.json(page, time, Sent { status, took_us, bytes_in, is_whole }),
            };
        });
    }

    fn told(&self, status: u16) -> Told {
        let route = self.route.as_ref().map(|(name, _)| name.to_string());
        let mut attributes = vec![
            KeyValue::new("http.request.method", self.method.to_string()),
            KeyValue::new("url.path", self.uri.path().to_owned()),
            KeyValue::new("http.response.status_code", i64::from(status)),
            KeyValue::new("request.id", self.request_id.to_str().unwrap_or_default().to_owned()),
        ];
        let texts = [
            ("http.route", route.clone()),
            ("tessera.upstream", self.upstream.as_ref().map(ToString::to_string)),
            ("error.type", self.error.as_ref().map(|(code, ..)| (*code).to_owned())),
        ];
        attributes.extend(texts.into_iter().filter_map(|(name, text)| Some(KeyValue::new(name, text?))));
        Told {
            name: route.map_or_else(|| self.method.to_string(), |route| format!("{} {route}", self.method)),
            attributes,
            is_failed: status >= 500,
        }
    }

    fn json(&self, page: &mut String, time: &str, sent: Sent) -> std::fmt::Result {
        write!(page, "{{\"at\":\"{time}\",\"request.id\":\"")?;
        page.push_str(self.request_id.to_str().unwrap_or_default());
        write!(page, "\",\"client.ip\":\"{}\",\"http.method\":\"{}\",\"http.host\":\"", self.client_ip, self.method)?;
        escape(page, self.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default());
        page.push_str("\",\"http.path\":\"");
        escape(page, self.uri.path());
        write!(page, "\",\"http.version\":\"{:?}\",\"http.status\":{}", self.version, sent.status)?;
        if let Some((name, _)) = &self.route {
            write!(page, ",\"route\":\"{name}\"")?;
        }
        if let Some(upstream) = &self.upstream {
            write!(page, ",\"upstream\":\"{upstream}\",\"attempts\":{}", self.attempts)?;
        }
        if let Some(endpoint) = &self.endpoint {
            write!(page, ",\"endpoint\":\"{}\"", endpoint.url)?;
        }
        if let Some(outcome) = self.cache {
            write!(page, ",\"cache\":\"{outcome}\"")?;
        }
        let (millis, micros) = (sent.took_us / 1_000, sent.took_us % 1_000);
        write!(
            page,
            ",\"took_ms\":{millis}.{micros:03},\"bytes_in\":{},\"bytes_out\":{}",
            sent.bytes_in, self.bytes_out
        )?;
        if !sent.is_whole {
            page.push_str(",\"broken_off\":true");
        }
        if let Some((code, side, detail)) = &self.error {
            write!(page, ",\"error.code\":\"{code}\",\"error.side\":\"{}\",\"error.detail\":\"", side.name())?;
            escape(page, detail);
            page.push('"');
        }
        page.push_str("}\n");
        Ok(())
    }

    /// `ip - - [time] "GET /path HTTP/1.1" status bytes "-" "agent"`; queries may hold secrets and are left out.
    fn combined(&self, page: &mut String, status: u16) -> std::fmt::Result {
        let at = self.at.to_utc().format("%d/%b/%Y:%H:%M:%S +0000");
        write!(page, "{} - - [{at}] \"{} ", self.client_ip, self.method)?;
        escape(page, self.uri.path());
        write!(page, " {:?}\" {status} {} \"-\" \"", self.version, self.bytes_out)?;
        escape(page, self.agent.as_ref().and_then(|agent| agent.to_str().ok()).unwrap_or("-"));
        page.push_str("\"\n");
        Ok(())
    }
}

struct Sent {
    status: u16,
    took_us: u64,
    bytes_in: u64,
    is_whole: bool,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.finish(false);
    }
}

/// Writes text as the inside of a JSON string.
fn escape(page: &mut String, text: &str) {
    let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f;
    if text.bytes().all(is_plain) {
        page.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '"' => page.push_str("\\\""),
            '\\' => page.push_str("\\\\"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(page, "\\u{:04x}", c as u32);
            }
            c => page.push(c),
        }
    }
}
