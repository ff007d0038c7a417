//! Holds over HTTP, each of one seat, by as many fans as there are seats to a hundredth: a `tessera serve tickets` on
//! embedded stores, this process as its clients. What is counted is answered with 200, and flushed before.
//!
//! `bench-tickets-holds --tessera target/dist/tessera --connections 256 --seconds 10`

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use serde_json::{Value, json};
use tessera_kernel::{Clock, SystemClock};
use tessera_service::Keys;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Fans: each holds a hundredth of a per cent of the seats.
const FANS: usize = 2_500;
/// Seats of an event, the most there are.
const SEATS: u32 = 250_000;

#[derive(Parser)]
struct Args {
    /// The binary, built with the `dist` profile.
    #[arg(long, default_value = "target/dist/tessera")]
    tessera: PathBuf,
    /// Connections at a time, each with one request in flight.
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// How long to count.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The database; embedded where not given.
    #[arg(long)]
    store: Option<String>,
}

struct Server {
    process: Child,
    address: SocketAddr,
    data: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let server = start(&args).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keys = Keys::open(server.data.path(), clock)?;
    let day = Duration::from_secs(86_400);
    let organiser = keys.sign_token("organiser", &["organiser".to_owned()], day)?;
    let event = publish(server.address, &organiser).await?;
    let fans: Vec<String> = (0..FANS)
        .map(|fan| keys.sign_token(&format!("fan{fan}"), &["fan".to_owned()], day))
        .collect::<Result<_, _>>()?;
    let shared = Arc::new(Shared {
        prefix: ticket_prefix(&event)?,
        fans,
        next: AtomicU32::new(0),
        held: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    });
    let cpu_before = cpu_ms(server.process.id())?;
    let began = Instant::now();
    let until = began + Duration::from_secs(args.seconds);
    let clients = (0..args.connections).map(|_| tokio::spawn(client(server.address, shared.clone(), until)));
    let mut waits: Vec<u32> = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        waits.extend(client.await??);
    }
    let took = began.elapsed().as_secs_f64();
    let cpu = cpu_ms(server.process.id())? - cpu_before;
    let held = shared.held.load(Ordering::Relaxed);
    waits.sort_unstable();
    let at = |share: f64| waits.get((waits.len() as f64 * share) as usize).map_or(0.0, |us| f64::from(*us) / 1_000.0);
    println!(
        "{}",
        json!({
            "holds_per_second": (held as f64 / took).round(),
            "server_cpu_us_a_hold": (cpu as f64 * 1_000.0 / held as f64 * 10.0).round() / 10.0,
            "refused": shared.refused.load(Ordering::Relaxed),
            "p50_ms": at(0.5), "p99_ms": at(0.99),
            "connections": args.connections, "seconds": took.round(), "held": held,
        })
    );
    Ok(())
}

struct Shared {
    /// The ticket's id without its last eight digits.
    prefix: String,
    fans: Vec<String>,
    next: AtomicU32,
    held: AtomicU64,
    refused: AtomicU64,
}

/// Holds one seat after the other, and gives how long each took, in microseconds.
async fn client(address: SocketAddr, shared: Arc<Shared>, until: Instant) -> anyhow::Result<Vec<u32>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    let mut waits = Vec::new();
    while Instant::now() < until {
        let seat = shared.next.fetch_add(1, Ordering::Relaxed);
        if seat >= SEATS {
            break;
        }
        let body = format!(r#"{{"ticket_id":"{}{:08x}"}}"#, shared.prefix, seat + 1);
        let fan = &shared.fans[seat as usize % shared.fans.len()];
        let request = format!(
            "POST /booking/reserve HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {fan}\r\nidempotency-key: {seat}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let began = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        let status = answer(&mut stream, &mut buffer).await?.0;
        waits.push(began.elapsed().as_micros() as u32);
        let counter = if status == 200 { &shared.held } else { &shared.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(waits)
}

/// The status and the body of the answer on a connection that is kept open.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<(u16, Vec<u8>)> {
    buffer.clear();
    loop {
        ensure!(stream.read_buf(buffer).await? > 0, "the server closed the connection");
        let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head])?;
        let status = text.get(9..12).context("no status")?.parse()?;
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let end = head + 4 + length.context("an answer without a length")?;
        while buffer.len() < end {
            ensure!(stream.read_buf(buffer).await? > 0, "the answer breaks off");
        }
        return Ok((status, buffer[head + 4..end].to_vec()));
    }
}

async fn start(args: &Args) -> anyhow::Result<Server> {
    let data = tempfile::tempdir()?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(&args.tessera);
    command.args(["serve", "tickets", "--listen", &address.to_string(), "--data"]).arg(data.path());
    command.env("RUST_LOG", "warn").stdout(Stdio::null());
    if let Some(store) = &args.store {
        command.env("TESSERA__TICKETS__STORE", store);
    }
    let process = command.spawn().with_context(|| format!("{} does not start", args.tessera.display()))?;
    let server = Server { process, address, data };
    for _ in 0..200 {
        if TcpStream::connect(address).await.is_ok() {
            return Ok(server);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the server does not listen on {address}")
}

async fn send(address: SocketAddr, token: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(address).await?;
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\nidempotency-key: bench{path}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let (status, answer) = answer(&mut stream, &mut Vec::new()).await?;
    let text = String::from_utf8_lossy(&answer);
    ensure!((200..300).contains(&status), "POST {path}: {status} {text}");
    Ok(serde_json::from_slice(&answer)?)
}

/// An event of places only, so that no plan is drawn; its numbers are those of its area.
async fn publish(address: SocketAddr, token: &str) -> anyhow::Result<String> {
    let venue = json!({ "name": "Bench", "city": "Lisboa", "country": "PT", "timezone": "Europe/Lisbon" });
    let venue = send(address, token, "/organiser/venues", &venue).await?;
    let event = json!({
        "name": "Bench", "kind": "concert", "venue": venue["id"], "starts_at": "2099-01-01T20:00:00Z", "currency": "EUR",
        "price_levels": [{ "key": "all", "name": "All", "price": 1000, "color": "#336699" }],
        "areas": [{ "key": "floor", "name": "Floor", "capacity": SEATS, "price_level": "all" }],
        "rules": { "max_per_customer": 1_000_000, "hold_ttl_s": 3600 },
    });
    let event = send(address, token, "/organiser/events", &event).await?;
    let id = event["id"].as_str().context("an event without an id")?.to_owned();
    send(address, token, &format!("/organiser/events/{id}/publish"), &json!({})).await?;
    Ok(id)
}

fn ticket_prefix(event: &str) -> anyhow::Result<String> {
    let digits = event.strip_prefix("event_").context("not an event's id")?;
    Ok(format!("ticket_{}", digits.get(..24).context("a short id")?))
}

/// User and system time of a process, milliseconds (proc(5), fields 14 and 15, in hundredths of a second).
fn cpu_ms(process: u32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after = stat.rsplit_once(')').context("stat")?.1;
    let ticks: Vec<u64> = after.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<u64>() * 10)
}
