//! A seat map watched by thousands while seats go: a `tessera serve tickets` on embedded stores with a stadium of 60,000
//! seats, so many open streams of it, and holds at a steady rate. How long after the answer to a hold do the watchers have
//! the seat's change?
//!
//! `bench-tickets-watch --tessera target/dist/tessera --watchers 5000 --rate 2000 --seconds 30`

mod holders;
mod watchers;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;
use serde_json::json;
use tessera_bench::client::Client;
use tessera_bench::process::Pid;
use tessera_bench_tickets::server::Server;

use holders::Held;
use watchers::Watched;

/// Buyers, each with a token.
const FANS: usize = 2_000;
/// How long to go on listening after the last hold.
const AFTER: Duration = Duration::from_secs(2);

#[derive(Parser)]
struct Args {
    /// The binary, built with the `dist` profile.
    #[arg(long, default_value = "target/dist/tessera")]
    tessera: PathBuf,
    /// Seats of the event.
    #[arg(long, default_value_t = 60_000)]
    seats: u32,
    /// Open streams. Each takes a file descriptor here and one in the server.
    #[arg(long, default_value_t = 5_000)]
    watchers: usize,
    /// Holds a second, each of one seat.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// How long seats are held.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let holds = args.rate * args.seconds;
    ensure!(holds <= args.seats, "{holds} holds are more than there are seats; give fewer `--seconds`");
    let server = Server::start(&args.tessera).await?;
    let event = server.publish(args.seats, &json!({ "mode": "off" })).await?;
    let (fans, address) = (server.fans(FANS)?, server.process.address);
    let snapshot = Client::connect(address).await?.get(&format!("/event/{event}/seats")).await?;

    let resting = server.process.memory_kb()?;
    let watched = Arc::new(Watched::default());
    let mut watching = Vec::new();
    for number in 0..args.watchers {
        watching.push(tokio::spawn(watchers::watch(address, event.clone(), number, Arc::clone(&watched))));
    }
    watched.all_open(args.watchers, Duration::from_secs(60)).await?;
    let open = server.process.memory_kb()?;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let (began, cpu, own) = (Instant::now(), server.process.cpu_s()?, Pid::own().cpu_s()?);
    let held = holders::hold(address, &event, fans, args.rate, holds).await?;
    let took = began.elapsed();
    let (cpu, own) = (server.process.cpu_s()? - cpu, Pid::own().cpu_s()? - own);
    tokio::time::sleep(AFTER).await;
    watching.iter().for_each(tokio::task::JoinHandle::abort);

    let from_answers = latencies(&held, &watched, |hold| hold.answered)?;
    let from_requests = latencies(&held, &watched, |hold| hold.asked)?;
    let seconds = took.as_secs_f64();
    let (changes, bytes, resets) = watched.totals();
    println!(
        "{}",
        json!({
            "seats": args.seats, "snapshot_bytes": snapshot.len(),
            "watchers": args.watchers, "holds_per_second": (held.len() as f64 / seconds).round(),
            "seconds": seconds.round(),
            "ms_from_the_holds_answer_to_the_change": shown(&from_answers),
            "ms_from_the_holds_request_to_the_change": shown(&from_requests),
            "changes_received": changes, "megabytes_a_second": (bytes as f64 / 1e6 / seconds).round(), "resets": resets,
            "server_cores": tenths(cpu / seconds), "clients_cores": tenths(own / seconds),
            "server_cpu_us_a_message": tenths(cpu * 1e6 / changes.max(1) as f64),
            "server_memory_kb_a_watcher": tenths((open - resting) as f64 / args.watchers.max(1) as f64),
        })
    );
    Ok(())
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// Of each hold at each watcher, in milliseconds: how many took so long.
fn latencies(held: &[Held], watched: &Watched, from: impl Fn(&Held) -> Instant) -> anyhow::Result<Vec<u64>> {
    let mut counts = vec![0_u64; 10_000];
    let by_seat: HashMap<u32, &Held> = held.iter().map(|hold| (hold.seat, hold)).collect();
    let mut seen = 0;
    for (arrivals, seats) in watched.ticks() {
        for hold in seats.iter().filter_map(|seat| by_seat.get(seat)) {
            seen += 1;
            for arrival in &arrivals {
                let waited = arrival.saturating_duration_since(from(hold)).as_millis() as usize;
                let at = waited.min(counts.len() - 1);
                counts[at] += 1;
            }
        }
    }
    ensure!(seen >= held.len(), "of {} holds {seen} were told to the first watcher", held.len());
    Ok(counts)
}

fn shown(counts: &[u64]) -> serde_json::Value {
    let all: u64 = counts.iter().sum();
    let at = |share: f64| {
        let (mut left, wanted) = (0, (all as f64 * share).ceil() as u64);
        counts.iter().position(|count| {
            left += count;
            left >= wanted
        })
    };
    json!({ "p50": at(0.5), "p99": at(0.99), "most": at(1.0) })
}
