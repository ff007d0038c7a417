//! Logs to stderr and traces to an OTLP endpoint.
//!
//! Logs are JSON where nobody watches (stderr is no terminal) and text where somebody does. Traces leave in batches from
//! a thread of their own, over the workspace's one HTTP client, when an endpoint is set; [`Telemetry::flush`] sends
//! what is left.

use std::collections::HashMap;
use std::future::Future;
use std::io::IsTerminal;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Deserializer, Serialize, de};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Secret, Section};
use crate::{Error, VERSION, client};

mod json;

/// How long one export, and the last flush, may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer of a collector above this is not read on.
const MAX_ANSWER_BYTES: usize = 1 << 20;
const TRACES_PATH: &str = "/v1/traces";
/// What is logged unless somebody says otherwise. `object_store` tells each request that it sends again at `info`: its
/// caller says so when that was in vain.
const DEFAULT_LOG: &str = "info,object_store=warn";

/// `[telemetry]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which log lines: a level, or directives such as `info,tessera_ingest=debug`. `RUST_LOG` sets it too.
    pub log: Filter,
    /// How log lines look.
    pub format: Format,
    /// Where traces go, such as `http://localhost:4318`. `OTEL_EXPORTER_OTLP_ENDPOINT` sets it too.
    pub otlp_endpoint: Option<Endpoint>,
    /// Headers for the endpoint, `name=value` with commas between. `OTEL_EXPORTER_OTLP_HEADERS` sets it too.
    pub otlp_headers: Secret,
    /// The service's name in traces.
    pub service_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: Filter(DEFAULT_LOG.into()),
            format: Format::Auto,
            otlp_endpoint: None,
            otlp_headers: Secret::default(),
            service_name: "tessera".into(),
        }
    }
}

impl Section for Config {
    const NAME: &'static str = "telemetry";
    const SECRETS: &'static [&'static str] = &["otlp_headers"];
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For reading.
    Text,
}

/// Log directives that have been parsed once.
#[derive(Clone, Debug, Serialize)]
pub struct Filter(String);

impl Filter {
    /// The default without a line for each request: for who watches a terminal.
    pub fn without_requests() -> Self {
        Self(format!("{DEFAULT_LOG},tessera_service::http=error"))
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = match EnvFilter::try_new(&text) {
            Ok(_) => misread(&text).map(|word| format!("`{word}` is no level")),
            Err(error) => Some(error.to_string()),
        };
        match wrong {
            None => Ok(Self(text)),
            Some(wrong) => {
                Err(de::Error::custom(format!("{wrong}; give a level such as `info`, or `info,tessera_ingest=debug`")))
            }
        }
    }
}

/// A word that would be taken for the name of a module, which nothing has: `infoo` would turn off every line.
fn misread(filter: &str) -> Option<&str> {
    let levels = ["trace", "debug", "info", "warn", "error", "off"];
    let fit = |word: &str| {
        let is_level = levels.iter().any(|level| level.eq_ignore_ascii_case(word)) || word.parse::<u8>().is_ok();
        is_level || word.contains(['=', '_', ':'])
    };
    // Commas of spans and fields part no directives.
    let mut words = filter.split(',').filter(|_| !filter.contains('[')).map(str::trim);
    words.find(|word| !word.is_empty() && (!fit(word) || word.contains(' ')))
}

/// An `http://` or `https://` URL.
#[derive(Clone, Debug, Serialize)]
pub struct Endpoint(String);

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let uri = text.parse::<http::Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        match uri.and_then(|uri| uri.host().map(|_| ())) {
            Some(()) => Ok(Self(text)),
            None => Err(de::Error::custom("not a URL; give one such as http://localhost:4318")),
        }
    }
}

impl Endpoint {
    /// The URL that traces are posted to; an endpoint that already names it is taken as it is.
    fn traces(&self) -> String {
        let base = self.0.trim_end_matches('/');
        if base.ends_with(TRACES_PATH) { base.to_owned() } else { format!("{base}{TRACES_PATH}") }
    }
}

/// The telemetry of this process, to be flushed before it ends.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts to log and, where an endpoint is set, to trace. Called on the runtime that will send the traces, once in
    /// the life of a process, by the binary: a second call is refused.
    pub fn start(config: &Config) -> Result<Self, Error> {
        let traces = config.otlp_endpoint.as_ref().map(|endpoint| tracer_provider(config, endpoint)).transpose()?;
        let filter = EnvFilter::try_new(&config.log.0).map_err(|error| Error::Telemetry(error.to_string()))?;
        // For who makes spans without a log line: the gateway, at its rates.
        if let Some(traces) = &traces {
            opentelemetry::global::set_tracer_provider(traces.clone());
        }
        tracing_subscriber::registry()
            .with(filter)
            .with(log_layer(config.format))
            .with(traces.as_ref().map(trace_layer))
            .try_init()
            .map_err(|error| Error::Telemetry(error.to_string()))?;
        std::panic::set_hook(Box::new(log_panic));
        Ok(Self { traces })
    }

    /// Sends what is left. Gives up after a few seconds: a collector that is away must not keep the process.
    pub async fn flush(self) {
        let Some(traces) = self.traces else { return };
        let flushed = tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(EXPORT_TIMEOUT)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// A panic is a line of the log like any other, so that stderr stays JSON where it is read by machines.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("no message");
    tracing::error!(panic.place = place, panic.message = message, "panicked");
}

fn log_layer<S>(format: Format) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let terminal = std::io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    match format {
        Format::Text => layer.boxed(),
        Format::Auto if terminal => layer.boxed(),
        Format::Auto | Format::Json => layer.fmt_fields(json::Members).event_format(json::Lines).boxed(),
    }
}

fn trace_layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer().with_tracer(provider.tracer("tessera"))
}

fn tracer_provider(config: &Config, endpoint: &Endpoint) -> Result<SdkTracerProvider, Error> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Exporting { client: client::build()?, runtime: tokio::runtime::Handle::current() })
        .with_endpoint(endpoint.traces())
        .with_headers(headers(config.otlp_headers.reveal()))
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| Error::Telemetry(format!("`otlp_endpoint` cannot be used: {error}")))?;
    let resource = Resource::builder()
        .with_service_name(config.service_name.clone())
        .with_attribute(opentelemetry::KeyValue::new("service.version", VERSION))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

fn headers(text: &str) -> HashMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

/// The exporter's way out. It is called on the exporter's own thread, so the exchange itself runs on our runtime.
#[derive(Debug)]
struct Exporting {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

type Exchange<'a> = Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Exporting {
    fn send_bytes<'a, 'b>(&'a self, request: http::Request<Bytes>) -> Exchange<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        let client = self.client.clone();
        let exchange = self.runtime.spawn(async move { send(client, request).await });
        Box::pin(async move { exchange.await? })
    }
}

async fn send(client: reqwest::Client, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
    let mut request = reqwest::Request::try_from(request)?;
    *request.timeout_mut() = Some(EXPORT_TIMEOUT);
    let mut answer = client.execute(request).await?;
    let mut response = http::Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        *headers = std::mem::take(answer.headers_mut());
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(format!("the collector's answer is over {MAX_ANSWER_BYTES} bytes").into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(response.body(body.into())?)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::post;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn spans_reach_an_otlp_receiver() {
        let (posted, mut received) = mpsc::channel::<(http::HeaderMap, Bytes)>(8);
        let receive = move |headers: http::HeaderMap, body: Bytes| async move {
            posted.send((headers, body)).await.unwrap();
        };
        let app = Router::new().route("/v1/traces", post(receive));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint(format!("http://{}/", listener.local_addr().unwrap()));
        tokio::spawn(axum::serve(listener, app).into_future());

        let config = Config { otlp_headers: Secret::new("x-tenant=7, x-b=c=d"), ..Config::default() };
        let provider = tracer_provider(&config, &endpoint).unwrap();
        let subscriber = tracing_subscriber::registry().with(trace_layer(&provider));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("weigh_anchor", ship = "mosaic").in_scope(|| tracing::info!("aweigh"));
        });
        Telemetry { traces: Some(provider) }.flush().await;

        let (headers, body) = received.recv().await.unwrap();
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!((headers["x-tenant"].as_bytes(), headers["x-b"].as_bytes()), (&b"7"[..], &b"c=d"[..]));
        for text in ["weigh_anchor", "mosaic", "tessera", VERSION] {
            let found = body.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(found, "`{text}` is in the span that was posted");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_collector_that_is_away_does_not_keep_the_process() {
        let endpoint = Endpoint("http://127.0.0.1:1/v1/traces".into());
        let provider = tracer_provider(&Config::default(), &endpoint).unwrap();
        let subscriber = tracing_subscriber::registry().with(trace_layer(&provider));
        tracing::subscriber::with_default(subscriber, || tracing::info_span!("lost").in_scope(|| ()));
        tokio::time::timeout(EXPORT_TIMEOUT * 4, Telemetry { traces: Some(provider) }.flush()).await.unwrap();
    }

    #[test]
    fn requests_that_a_library_sends_again_are_not_logged_by_default() {
        let filter = EnvFilter::try_new(&Config::default().log.0).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filter), || {
            assert!(!tracing::enabled!(target: "object_store::client::retry", tracing::Level::INFO));
            assert!(tracing::enabled!(target: "object_store::client::retry", tracing::Level::WARN));
            assert!(tracing::enabled!(target: "tessera_ingest::jobs", tracing::Level::INFO));
        });
    }

    #[test]
    fn the_traces_path_is_added_once() {
        for given in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
            assert_eq!(Endpoint(given.into()).traces(), "http://c:4318/v1/traces");
        }
        assert!(serde_json::from_str::<Endpoint>("\"localhost:4318\"").is_err());
        assert!(serde_json::from_str::<Filter>("\"loud=what=now\"").is_err());
    }
}
