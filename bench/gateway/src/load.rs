//! The load: connections that ask, wait for the whole answer, and ask again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use tessera_bench::sorted::Sorted;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Figures;
use crate::proxies::Proxy;

/// What signs the token that callers of the full route show.
pub const SECRET: &str = "the secret of the benchmark, which is none";
/// The clock ticks of `/proc` in a second.
const TICKS_PER_S: f64 = 100.0;

/// What is asked for.
#[derive(Clone, Copy)]
pub enum Asking {
    /// With a token that says who asks.
    Signed,
    /// Without one; once connections are everywhere, each answer must say that it was kept.
    Kept,
}

/// How a proxy is asked.
#[derive(Clone, Copy)]
pub struct Load {
    /// What for.
    pub asking: Asking,
    /// Connections that each ask one request after the other.
    pub connections: usize,
    /// Requests a second of all together; as many as are answered where it is none.
    pub rate: Option<u32>,
    /// How long.
    pub seconds: u64,
}

/// Asks a proxy for so many seconds.
pub fn measure(proxy: &Proxy, load: Load) -> anyhow::Result<Figures> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Connections everywhere first.
        ask(proxy.port, load, Instant::now() + Duration::from_millis(300), "").await?;
        let must_say = match load.asking {
            Asking::Signed => "",
            Asking::Kept => "hit",
        };
        let (before, _) = proxy.used()?;
        let began = Instant::now();
        let took = ask(proxy.port, load, began + Duration::from_secs(load.seconds), must_say).await?;
        let elapsed = began.elapsed().as_secs_f64();
        let (after, rss_mb) = proxy.used()?;
        ensure!(!took.is_empty(), "nothing was answered");
        let requests = took.len() as f64;
        let took: Sorted = took.into_iter().map(f64::from).collect();
        Ok(Figures {
            requests_per_s: requests / elapsed,
            cpu_us: (after - before) as f64 / TICKS_PER_S * 1e6 / requests,
            p50_us: took.at(0.5),
            p99_us: took.at(0.99),
            rss_mb,
        })
    })
}

/// How long each answer took, in microseconds.
async fn ask(port: u16, load: Load, until: Instant, must_say: &'static str) -> anyhow::Result<Vec<u32>> {
    let mut asking = JoinSet::new();
    let authorization = match load.asking {
        Asking::Signed => format!("authorization: Bearer {}\r\n", token()),
        Asking::Kept => String::new(),
    };
    let request: Arc<str> = format!(
        "GET /items?page=1 HTTP/1.1\r\nhost: bench.example\r\nuser-agent: bench\r\naccept: application/json\r\naccept-encoding: gzip\r\n{authorization}\r\n"
    )
    .into();
    let pause = load.rate.map(|rate| Duration::from_secs_f64(load.connections as f64 / f64::from(rate)));
    for index in 0..load.connections {
        // Not all at the same moment.
        let first = pause.unwrap_or_default().mul_f64(index as f64 / load.connections as f64);
        let request = request.clone();
        asking.spawn(async move { on_one(port, &request, must_say, (first, pause, until)).await });
    }
    let mut took = Vec::new();
    while let Some(asked) = asking.join_next().await {
        took.extend(asked??);
    }
    Ok(took)
}

async fn on_one(
    port: u16,
    request: &str,
    must_say: &str,
    (first, pause, until): (Duration, Option<Duration>, Instant),
) -> anyhow::Result<Vec<u32>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 << 10];
    let mut took = Vec::new();
    let mut next = Instant::now() + first;
    while Instant::now() < until {
        if let Some(pause) = pause {
            tokio::time::sleep_until(next.into()).await;
            next += pause;
        }
        let began = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        let mut length = 0;
        let mut whole = None;
        while whole.is_none_or(|whole| length < whole) {
            let count = stream.read(&mut buffer[length..]).await?;
            ensure!(count > 0, "the proxy closed the connection");
            length += count;
            if whole.is_none() {
                whole = whole_length(&buffer[..length], must_say)?;
            }
        }
        took.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok(took)
}

/// The length of an answer, once its head is there. The head must have these small letters.
fn whole_length(bytes: &[u8], must_say: &str) -> anyhow::Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?.to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "an answer that is not 200: {head}");
    ensure!(head.contains(must_say), "an answer without `{must_say}`: {head}");
    let line = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = line.context("an answer without content-length")?.trim().parse()?;
    Ok(Some(end + 4 + length))
}

/// A token that is good for a century.
fn token() -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!(
        "{}.{}",
        part(r#"{"alg":"HS256","typ":"JWT"}"#),
        part(r#"{"sub":"bench","roles":["rider"],"iat":1700000000,"exp":4800000000}"#)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())))
}
