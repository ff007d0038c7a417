//! Open streams of server-sent events. Every watcher notes when each change was there to its last byte; the first also
//! reads which seats it names, as all are sent the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Bytes of a message that are looked at by all but the first.
const HEAD_BYTES: usize = 32;

thread_local! {
    /// What is read goes through one buffer that stays in the processor's cache.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 << 10]);
}

/// What the watchers saw.
#[derive(Default)]
pub struct Watched {
    open: AtomicU64,
    bytes: AtomicU64,
    resets: AtomicU64,
    ticks: Mutex<BTreeMap<i64, Tick>>,
}

#[derive(Default)]
struct Tick {
    arrivals: Vec<Instant>,
    seats: Vec<u32>,
}

#[derive(Deserialize)]
struct Changes {
    held: Vec<(u32, i64)>,
}

impl Watched {
    /// Waits until so many streams have begun.
    pub async fn all_open(&self, count: usize, deadline: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + deadline;
        while self.open.load(Ordering::Relaxed) < count as u64 {
            ensure!(Instant::now() < until, "{} of {count} streams are open", self.open.load(Ordering::Relaxed));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Of each message with changes: when it arrived where, and which seats it says are held.
    pub fn ticks(&self) -> impl Iterator<Item = (Vec<Instant>, Vec<u32>)> {
        let ticks = self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        let ticks: Vec<_> = ticks.values().map(|tick| (tick.arrivals.clone(), tick.seats.clone())).collect();
        ticks.into_iter().filter(|(_, seats)| !seats.is_empty())
    }

    /// Messages with changes, bytes, and how often a watcher was told to start over.
    pub fn totals(&self) -> (u64, u64, u64) {
        let messages = self.ticks().map(|(arrivals, _)| arrivals.len() as u64).sum();
        (messages, self.bytes.load(Ordering::Relaxed), self.resets.load(Ordering::Relaxed))
    }

    fn arrived(&self, number: usize, message: &[u8]) -> anyhow::Result<()> {
        let now = Instant::now();
        if message.starts_with(b"event: reset") {
            self.resets.fetch_add(1, Ordering::Relaxed);
        }
        let Some(rest) = message.strip_prefix(b"id: ") else { return Ok(()) };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
        let seq = digits.fold(0, |seq, digit| seq * 10 + i64::from(digit - b'0'));
        let mut ticks = self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        let tick = ticks.entry(seq).or_default();
        tick.arrivals.push(now);
        if number == 0 {
            let text = std::str::from_utf8(message)?;
            let data = text.lines().find_map(|line| line.strip_prefix("data: ")).context("a message without data")?;
            let changes: Changes = serde_json::from_str(data)?;
            tick.seats.extend(changes.held.into_iter().map(|(seat, _)| seat));
        }
        Ok(())
    }
}

/// Watches until it is stopped.
pub async fn watch(address: SocketAddr, event: String, number: usize, watched: Arc<Watched>) -> anyhow::Result<()> {
    let watching = follow(address, event, number, &watched).await;
    if let Err(error) = &watching {
        eprintln!("watcher {number}: {error}");
    }
    watching
}

async fn follow(address: SocketAddr, event: String, number: usize, watched: &Watched) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /event/{event}/seats/stream HTTP/1.1\r\nhost: t\r\naccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut chunks = Chunks::new(if number == 0 { usize::MAX } else { HEAD_BYTES });
    let mut is_open = false;
    loop {
        stream.readable().await?;
        let read = READ.with_borrow_mut(|buffer| match stream.try_read(buffer) {
            Ok(0) => bail!("the server closed the stream"),
            Ok(count) => {
                watched.bytes.fetch_add(count as u64, Ordering::Relaxed);
                chunks.take(&buffer[..count], |message| watched.arrived(number, message))
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        });
        read?;
        if chunks.any && !is_open {
            is_open = true;
            watched.open.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Takes an answer in chunks apart. Each chunk is a message.
struct Chunks {
    state: State,
    kept: Vec<u8>,
    keep: usize,
    any: bool,
}

enum State {
    /// Of the answer's head, so many bytes of the empty line were there.
    Head(usize),
    Size(usize),
    Data(usize),
    /// The end of line behind a chunk.
    End(usize),
}

impl Chunks {
    fn new(keep: usize) -> Self {
        Self { state: State::Head(0), kept: Vec::new(), keep, any: false }
    }

    fn take(&mut self, mut bytes: &[u8], mut message: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        while let Some((byte, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Head(seen) => {
                    bytes = rest;
                    *seen = if *byte == b"\r\n\r\n"[*seen] { *seen + 1 } else { usize::from(*byte == b'\r') };
                    if *seen == 4 {
                        self.state = State::Size(0);
                    }
                }
                State::Size(size) => {
                    bytes = rest;
                    match char::from(*byte).to_digit(16) {
                        Some(digit) => *size = *size * 16 + digit as usize,
                        None if *byte == b'\n' => self.state = State::Data(*size),
                        None => ensure!(*byte == b'\r', "a chunk's size has the byte {byte}"),
                    }
                }
                State::Data(left) => {
                    let (now, later) = bytes.split_at(bytes.len().min(*left));
                    let room = self.keep.saturating_sub(self.kept.len());
                    self.kept.extend(&now[..now.len().min(room)]);
                    *left -= now.len();
                    bytes = later;
                    if *left == 0 {
                        self.any = true;
                        message(&self.kept)?;
                        self.kept.clear();
                        self.state = State::End(2);
                    }
                }
                State::End(left) => {
                    bytes = rest;
                    *left -= 1;
                    if *left == 0 {
                        self.state = State::Size(0);
                    }
                }
            }
        }
        Ok(())
    }
}
