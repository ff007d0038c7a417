//! A waiting room in a rush: people who join over HTTP, durable on the embedded store, until a million wait; what they cost
//! while they wait; and the serving number that they poll, beside a bare server that sends the same bytes.
//!
//! `bench-tickets-queue --tessera target/dist/tessera --waiting 1000000 --connections 1024`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::Router;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::routing::get;
use clap::Parser;
use serde_json::{Value, json};
use tessera_bench::client::Client;
use tessera_bench::process::{Pid, Process};
use tessera_bench::sorted::Sorted;
use tessera_bench_tickets::server::Server;

/// How long is watched what those cost who only wait.
const REST: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Args {
    /// The binary, built with the `dist` profile.
    #[arg(long, default_value = "target/dist/tessera")]
    tessera: PathBuf,
    /// How many join.
    #[arg(long, default_value_t = 1_000_000)]
    waiting: u64,
    /// Connections, each with one request in flight.
    #[arg(long, default_value_t = 1_024)]
    connections: usize,
    /// Polls of the serving number.
    #[arg(long, default_value_t = 400_000)]
    polls: u64,
    /// Be the bare server, which sends this.
    #[arg(long, hide = true, requires = "listen")]
    bare: Option<String>,
    #[arg(long, hide = true)]
    listen: Option<SocketAddr>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let several = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let (Some(body), Some(address)) = (&args.bare, args.listen) {
        return several.block_on(bare(body.clone(), address));
    }
    drop(several);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure_all(&args))
}

async fn bare(body: String, address: SocketAddr) -> anyhow::Result<()> {
    let body = bytes::Bytes::from(body);
    let answer = move || {
        let body = Body::from(body.clone());
        async move { ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "public, max-age=1")], body) }
    };
    let listener = tokio::net::TcpListener::bind(address).await?;
    Ok(axum::serve(listener, Router::new().route("/serving", get(answer))).await?)
}

async fn measure_all(args: &Args) -> anyhow::Result<()> {
    let server = Server::start(&args.tessera).await?;
    let event = server.publish(2_000, &json!({ "mode": "on", "max_inside": 1 })).await?;
    let process = &server.process;
    let path = format!("/event/{event}/queue/serving");
    let empty_kb = process.memory_kb()?;

    let join = format!("POST /event/{event}/queue HTTP/1.1\r\nhost: t\r\nidempotency-key: 1\r\ncontent-length: 0\r\n");
    let request = move |n: u64, into: &mut Vec<u8>| {
        into.extend(join.as_bytes());
        into.extend(format!("x-device-id: device-{n:016}\r\n\r\n").as_bytes());
    };
    measure("joins", process, args.connections, args.waiting, Arc::new(request)).await?;

    // The view is a moment old.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut client = Client::connect(process.address).await?;
    let serving: Value = serde_json::from_slice(&client.get(&path).await?)?;
    let joined = serving["joined"].as_u64().context("no `joined`")?;
    ensure!(joined == args.waiting, "{joined} joined");
    let cpu = process.cpu_s()?;
    tokio::time::sleep(REST).await;
    let share = (process.cpu_s()? - cpu) / REST.as_secs_f64();
    println!(
        "{joined} wait: {:.2} % of a core, {:.0} MB of memory more than none ({:.0} bytes each)",
        share * 100.0,
        process.memory_kb()?.saturating_sub(empty_kb) as f64 / 1e3,
        process.memory_kb()?.saturating_sub(empty_kb) as f64 * 1_024.0 / joined as f64
    );

    let body = String::from_utf8(client.get(&path).await?)?;
    let mut itself = Command::new(std::env::current_exe()?);
    let bare = Process::start(itself.args(["--bare", &body])).await?;
    let poll = |path: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n");
        Arc::new(move |_, into: &mut Vec<u8>| into.extend(text.as_bytes()))
    };
    for _ in 0..3 {
        let ours = measure("the serving number", process, args.connections, args.polls, poll(&path)).await?;
        let theirs =
            measure("the same from a bare server", &bare, args.connections, args.polls, poll("/serving")).await?;
        println!("{:.0} % of its rate", ours / theirs * 100.0);
    }
    Ok(())
}

type Request = dyn Fn(u64, &mut Vec<u8>);

/// Sends so many requests, and gives how many were answered a second.
async fn measure(
    what: &str,
    process: &Process,
    connections: usize,
    count: u64,
    request: Arc<Request>,
) -> anyhow::Result<f64> {
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(process.address).await?);
    }
    let (began, cpu, own) = (Instant::now(), process.cpu_s()?, Pid::own().cpu_s()?);
    let asking = clients.into_iter().map(|client| ask_all(client, Arc::clone(&next), count, Arc::clone(&request)));
    let waits = futures::future::try_join_all(asking).await?.concat();
    let took = began.elapsed().as_secs_f64();
    let each = |cpu: f64| cpu * 1e6 / count as f64;
    let (cpu, own) = (each(process.cpu_s()? - cpu), each(Pid::own().cpu_s()? - own));
    let waits_ms: Sorted = waits.into_iter().map(|us| f64::from(us) / 1e3).collect();
    let rate = count as f64 / took;
    println!(
        "{what}: {rate:.0} a second; CPU {cpu:.1} µs each, and {own:.1} of the client; p50 {:.1} ms, p99 {:.1}",
        waits_ms.at(0.5),
        waits_ms.at(0.99)
    );
    Ok(rate)
}

async fn ask_all(
    mut client: Client,
    next: Arc<AtomicU64>,
    count: u64,
    request: Arc<Request>,
) -> anyhow::Result<Vec<u32>> {
    let (mut waits, mut text) = (Vec::new(), Vec::new());
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= count {
            return Ok(waits);
        }
        text.clear();
        request(n, &mut text);
        let began = Instant::now();
        let (status, body) = client.ask(&text).await?;
        ensure!(status == 200, "{status} {}", String::from_utf8_lossy(body));
        waits.push(began.elapsed().as_micros() as u32);
    }
}
