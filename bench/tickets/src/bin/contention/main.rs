//! Ten million attempts at few seats, by clients of several `tessera serve tickets` on one PostgreSQL, one of which is
//! killed (SIGKILL) and started again in every wave. A wave is an event of its own. Who gets a hold pays for it or gives it
//! back; nothing is refunded, so nobody may ever be told of a ticket that somebody else was told of.
//!
//! An attempt is one request to reserve one seat that got an answer. At the end: what clients were told against each other,
//! and against orders, tickets and the provider's ledger.
//!
//! `bench-tickets-contention --tessera target/dist/tessera --store postgres://…`

mod books;
mod servers;
mod wire;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use servers::Servers;
use tokio::time::sleep;
use wire::Connection;

/// Accounts that buy.
const FANS: usize = 400;
/// Minor units.
const PRICE: i64 = 1_000;

#[derive(Parser)]
struct Args {
    /// The binary, built with the `dist` profile.
    #[arg(long, default_value = "target/dist/tessera")]
    tessera: PathBuf,
    /// The database that the processes share.
    #[arg(long)]
    store: String,
    /// Where claims are kept, if not there.
    #[arg(long)]
    redis: Option<String>,
    /// Attempts in all.
    #[arg(long, default_value_t = 10_000_000)]
    attempts: u64,
    /// Waves: events, kills.
    #[arg(long, default_value_t = 50)]
    waves: u64,
    /// Seats of an event.
    #[arg(long, default_value_t = 500)]
    seats: u32,
    /// Processes.
    #[arg(long, default_value_t = 2)]
    processes: usize,
    /// Connections, over all processes.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Attempts that a connection sends before it reads the answers.
    #[arg(long, default_value_t = 16)]
    pipeline: usize,
    /// Repeats what clients decide.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What clients did and were told, all of them together.
#[derive(Default)]
struct Told {
    attempts: AtomicU64,
    unanswered: AtomicU64,
    held: AtomicU64,
    refused: AtomicU64,
    released: AtomicU64,
    /// Payments that were answered otherwise, or not at all.
    open: AtomicU64,
    /// Tickets by the order that was said to have bought them.
    bought: std::sync::Mutex<HashMap<String, Vec<String>>>,
}

struct Wave {
    prefix: String,
    seats: u32,
    until: u64,
    fans: Arc<Vec<String>>,
    told: Arc<Told>,
    pipeline: usize,
    number: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut servers = Servers::start(&args.tessera, &args.store, args.redis.as_deref(), args.processes).await?;
    let fans = (0..FANS).map(|fan| servers.token(&format!("fan{fan}"), "fan")).collect::<anyhow::Result<Vec<_>>>()?;
    let (fans, told) = (Arc::new(fans), Arc::new(Told::default()));
    let mut dice = StdRng::seed_from_u64(args.seed);
    let began = Instant::now();
    let mut kills = 0;
    for number in 0..args.waves {
        let event = publish(&servers, number, args.seats).await?;
        let wave = Arc::new(Wave {
            prefix: format!("ticket_{}", event.strip_prefix("event_").context("an id")?.get(..24).context("an id")?),
            seats: args.seats,
            until: args.attempts * (number + 1) / args.waves,
            fans: fans.clone(),
            told: told.clone(),
            pipeline: args.pipeline,
            number,
        });
        let clients: Vec<_> = (0..args.connections)
            .map(|client| {
                let address = servers.address(client % args.processes);
                let seed = args.seed ^ ((number << 20) + client as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                tokio::spawn(rival(wave.clone(), address, StdRng::seed_from_u64(seed)))
            })
            .collect();
        // In the middle of the rush for the seats, in other waves when only refusals are left.
        sleep(Duration::from_millis(dice.random_range(20..1_500))).await;
        servers.kill_and_restart(number as usize % args.processes).await?;
        kills += 1;
        for client in clients {
            client.await??;
        }
        let (done, took) = (told.attempts.load(Ordering::Relaxed), began.elapsed().as_secs_f64());
        eprintln!("wave {}: {done} attempts, {took:.0} s, {:.0} a second", number + 1, done as f64 / took);
    }
    let took = began.elapsed().as_secs_f64();
    let bought = std::mem::take(&mut *told.bought.lock().map_err(|_| anyhow::anyhow!("a client panicked"))?);
    let books = books::settled(&servers).await?;
    let found = books.judge(&bought, PRICE);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{}",
        json!({
            "attempts": count(&told.attempts), "held": count(&told.held), "refused": count(&told.refused),
            "unanswered": count(&told.unanswered), "released": count(&told.released),
            "bought": bought.len(), "payments_without_answer": count(&told.open), "kills": kills,
            "seconds": took.round(), "attempts_per_second": (count(&told.attempts) as f64 / took).round(),
            "processes": args.processes, "connections": args.connections, "pipeline": args.pipeline,
            "sold": found.sold, "captured": found.captured, "double_sales": found.double_sales,
            "faults": found.faults,
        })
    );
    ensure!(found.double_sales == 0 && found.faults.is_empty(), "the books do not agree");
    Ok(())
}

/// An event of places only, each of which can be named.
async fn publish(servers: &Servers, number: u64, seats: u32) -> anyhow::Result<String> {
    let organiser = servers.token("organiser", "organiser")?;
    let mut server = Connection::open(servers.address(number as usize % servers.count())).await?;
    let venue = json!({ "name": "Bench", "city": "Lisboa", "country": "PT", "timezone": "Europe/Lisbon" });
    let venue = server.post("/organiser/venues", &organiser, &format!("v{number}"), &venue).await?.1;
    let event = json!({
        "name": format!("Wave {number}"), "kind": "concert", "venue": venue["id"], "starts_at": "2099-01-01T20:00:00Z",
        "currency": "EUR", "price_levels": [{ "key": "all", "name": "All", "price": PRICE, "color": "#336699" }],
        "areas": [{ "key": "floor", "name": "Floor", "capacity": seats, "price_level": "all" }],
        "rules": { "max_per_customer": 1_000, "hold_ttl_s": 30 },
    });
    let event = server.post("/organiser/events", &organiser, &format!("e{number}"), &event).await?.1;
    let id = event["id"].as_str().with_context(|| event.to_string())?.to_owned();
    let published = server.post(&format!("/organiser/events/{id}/publish"), &organiser, &id, &json!({})).await?;
    ensure!(published.0 < 300, "{published:?}");
    Ok(id)
}

/// Wants seats of one server, until the wave has had its attempts.
async fn rival(wave: Arc<Wave>, address: std::net::SocketAddr, mut dice: StdRng) -> anyhow::Result<()> {
    let told = &wave.told;
    let mut connection = None;
    while told.attempts.load(Ordering::Relaxed) < wave.until {
        let mut server = match connection.take() {
            Some(server) => server,
            None => match Connection::open(address).await {
                Ok(server) => server,
                // It is being started again.
                Err(_) => {
                    sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        let fan = &wave.fans[dice.random_range(0..wave.fans.len())];
        let mut sent = String::new();
        for _ in 0..wave.pipeline {
            let seat = dice.random_range(0..wave.seats);
            let key: u64 = dice.random();
            let body = format!(r#"{{"ticket_id":"{}{:08x}"}}"#, wave.prefix, seat + 1);
            wire::request(&mut sent, "/booking/reserve", fan, &format!("{key:016x}"), &body);
        }
        let Ok(answers) = server.exchange(&sent, wave.pipeline).await else {
            told.unanswered.fetch_add(wave.pipeline as u64, Ordering::Relaxed);
            continue;
        };
        let mut holds = Vec::new();
        for (status, body) in answers {
            match status {
                200 => holds.push(body),
                409 => drop(told.refused.fetch_add(1, Ordering::Relaxed)),
                // It is stopping, or its database is away: no answer to an attempt.
                _ => {
                    told.unanswered.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            }
            told.attempts.fetch_add(1, Ordering::Relaxed);
        }
        told.held.fetch_add(holds.len() as u64, Ordering::Relaxed);
        for hold in holds {
            let hold: Value = serde_json::from_slice(&hold)?;
            if use_hold(&wave, &mut server, fan, &hold, &mut dice).await.is_err() {
                told.open.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        if server.is_sound() {
            connection = Some(server);
        }
    }
    Ok(())
}

/// Pays for two in three, gives the others back.
async fn use_hold(
    wave: &Wave,
    server: &mut Connection,
    fan: &str,
    hold: &Value,
    dice: &mut StdRng,
) -> anyhow::Result<()> {
    let key = format!("{}-{:016x}", wave.number, dice.random::<u64>());
    let id = &hold["hold_id"];
    if dice.random_range(0..3) == 0 {
        let (status, answer) = server.post("/booking/release", fan, &key, &json!({ "hold_id": id })).await?;
        ensure!(status == 200, "a release: {status} {answer}");
        wave.told.released.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    let card = json!({ "number": "4242424242424242", "exp_month": 12, "exp_year": 2090, "cvc": "123" });
    let body = json!({ "hold_id": id, "payment_details": { "card": card } });
    let (status, answer) = server.post("/booking/confirm", fan, &key, &body).await?;
    ensure!(status == 200, "a payment: {status} {answer}");
    let order = answer["order"]["id"].as_str().context("an order without an id")?.to_owned();
    let tickets = hold["tickets"].as_array().context("a hold without tickets")?;
    let tickets = tickets.iter().filter_map(|ticket| ticket["id"].as_str().map(str::to_owned)).collect();
    wave.told.bought.lock().map_err(|_| anyhow::anyhow!("a client panicked"))?.insert(order, tickets);
    Ok(())
}
