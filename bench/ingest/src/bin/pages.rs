//! The API that is read: `GET /rows?page=N&per_page=1000`. A process of its own, so that its CPU is not counted.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use bench_ingest::rows::{MAX_PAGE, Pool};
use clap::Parser;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::net::TcpListener;

/// Serves pages of rows, and prints its address
#[derive(Parser, Debug)]
struct Options {
    /// Rows of the API
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// How long each answer waits
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Compress for clients that accept it
    #[arg(long)]
    gzip: bool,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

struct Api {
    options: Options,
    pool: Pool,
}

#[derive(serde::Deserialize)]
struct Asked {
    #[serde(default = "first")]
    page: u64,
    #[serde(default = "largest")]
    per_page: u64,
}

fn first() -> u64 {
    1
}

fn largest() -> u64 {
    MAX_PAGE
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let listener = TcpListener::bind(options.listen).await?;
    let address = listener.local_addr()?;
    let api = Arc::new(Api { options, pool: Pool::render() });
    let router = Router::new().route("/rows", get(rows)).with_state(api);
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{address}")?;
    stdout.flush()?;
    let listener = listener.tap_io(|connection| {
        // Without it an answer may wait for the other side's acknowledgement; slower, not wrong.
        let _ = connection.set_nodelay(true);
    });
    axum::serve(listener, router).await?;
    Ok(())
}

async fn rows(State(api): State<Arc<Api>>, Query(asked): Query<Asked>, headers: HeaderMap) -> Response {
    if api.options.latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(api.options.latency_ms)).await;
    }
    let body = api.pool.page(asked.page, asked.per_page, api.options.rows);
    let json = (header::CONTENT_TYPE, "application/json");
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    if api.options.gzip && accepted.is_some_and(|accepted| accepted.contains("gzip")) {
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
        // Writing to a vector cannot fail.
        let _ = encoder.write_all(&body);
        let body = encoder.finish().unwrap_or_default();
        return ([json, (header::CONTENT_ENCODING, "gzip")], body).into_response();
    }
    ([json], body).into_response()
}
