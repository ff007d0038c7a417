//! The load: connections that are kept, each with one request in flight, made of bytes that lie ready. Cheap, as it
//! shares the processors with what it measures.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Writes the n-th request; false where there are no more.
pub type Fill = dyn Fn(usize, &mut Vec<u8>) -> bool + Send + Sync;
/// Is given the n-th answer's body.
pub type Take = dyn Fn(usize, &[u8]) + Send + Sync;

/// What came of it.
pub struct Done {
    /// Answers with the status that was wanted.
    pub good: u64,
    /// Others.
    pub other: u64,
    /// The first of the others.
    pub complaint: Option<String>,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// How long each took, microseconds, in order.
    pub waits: Vec<u32>,
}

impl Done {
    /// Good answers a second.
    pub fn rate(&self) -> f64 {
        self.good as f64 / self.seconds
    }

    /// How long the share of the answers took at most, milliseconds.
    pub fn wait_ms(&self, share: f64) -> f64 {
        let last = self.waits.len().saturating_sub(1);
        self.waits.get((last as f64 * share) as usize).map_or(0.0, |us| f64::from(*us) / 1_000.0)
    }
}

struct Shared {
    next: std::sync::atomic::AtomicUsize,
    wanted: u16,
    until: Instant,
    fill: Arc<Fill>,
    take: Arc<Take>,
}

/// Sends requests until the time is over or there are none left.
pub async fn run(
    address: SocketAddr,
    connections: usize,
    time: Duration,
    wanted: u16,
    fill: Arc<Fill>,
    take: Arc<Take>,
) -> anyhow::Result<Done> {
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let began = Instant::now();
    let shared = Arc::new(Shared { next: Default::default(), wanted, until: began + time, fill, take });
    let clients: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(client(stream, shared.clone()))).collect();
    let mut done = Done { good: 0, other: 0, complaint: None, seconds: 0.0, waits: Vec::new() };
    for client in clients {
        let (good, other, complaint, waits) = client.await??;
        done.good += good;
        done.other += other;
        done.complaint = done.complaint.or(complaint);
        done.waits.extend(waits);
    }
    done.seconds = began.elapsed().as_secs_f64();
    done.waits.sort_unstable();
    Ok(done)
}

type OfClient = (u64, u64, Option<String>, Vec<u32>);

async fn client(mut stream: TcpStream, shared: Arc<Shared>) -> anyhow::Result<OfClient> {
    let (mut request, mut buffer) = (Vec::with_capacity(1_024), Vec::with_capacity(16_384));
    let (mut good, mut other, mut complaint, mut waits) = (0, 0, None, Vec::new());
    let mut now = Instant::now();
    while now < shared.until {
        let n = shared.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        request.clear();
        if !(shared.fill)(n, &mut request) {
            break;
        }
        let began = now;
        stream.write_all(&request).await?;
        let (status, body) = answer(&mut stream, &mut buffer).await?;
        now = Instant::now();
        waits.push(u32::try_from((now - began).as_micros())?);
        if status == shared.wanted {
            good += 1;
            (shared.take)(n, &buffer[body..]);
        } else {
            other += 1;
            complaint.get_or_insert_with(|| format!("{status} {}", String::from_utf8_lossy(&buffer[body..])));
        }
    }
    Ok((good, other, complaint, waits))
}

/// Reads an answer; its status, and where its body begins.
pub async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<(u16, usize)> {
    const LENGTH: &[u8] = b"content-length: ";
    buffer.clear();
    let mut seen = 0;
    let head = loop {
        ensure!(stream.read_buf(buffer).await? > 0, "the server closed the connection");
        let from = usize::saturating_sub(seen, 3);
        if let Some(at) = buffer[from..].windows(4).position(|four| four == b"\r\n\r\n") {
            break from + at;
        }
        seen = buffer.len();
    };
    let status = buffer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()).context("no status")?.parse()?;
    let at = buffer[..head].windows(LENGTH.len()).position(|part| part.eq_ignore_ascii_case(LENGTH));
    let digits = &buffer[at.context("an answer without a length")? + LENGTH.len()..head];
    let digits = digits.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let length: usize = std::str::from_utf8(digits)?.parse()?;
    while buffer.len() < head + 4 + length {
        ensure!(stream.read_buf(buffer).await? > 0, "the answer breaks off");
    }
    Ok((status, head + 4))
}
