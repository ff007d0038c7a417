//! Time to match: riders who request at a steady rate, drivers who accept, deny or ignore by a seed, over HTTP; from the request to
//! the first offer, by the times in the rides' histories, which also tell whether anybody was asked twice at once.
//!
//! `bench-rides-match --tessera target/dist/tessera --drivers 10000 --rate 100 --seconds 60`

mod histories;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tessera_bench::sorted::Sorted;
use tessera_bench_rides::compact;
use tessera_bench_rides::server::Server;
use tessera_kernel::{Clock, Place, SystemClock};
use tessera_rides::app::driver_of;
use tessera_rides::domain::ids::DriverId;

/// Answers to offers that are on their way at a time.
const ANSWERING: usize = 64;
/// How often all drivers tell where they are. In an open town an interval is up to 20 s.
const REPORTED: Duration = Duration::from_secs(5);
/// Positions in a request of the edge.
const BATCH: usize = 1_000;
/// How often drivers look whether they are asked: one list of changes for all of them.
const LOOKED: Duration = Duration::from_millis(50);
/// No ride is shorter, metres.
const NEAREST_M: f64 = 500.0;
/// South, west, north, east: where drivers stand and riders wait.
const TOWN: [f64; 4] = [41.14, -8.66, 41.19, -8.57];

#[derive(Parser)]
struct Args {
    /// The binary, built with the `dist` profile.
    #[arg(long, default_value = "target/dist/tessera")]
    tessera: PathBuf,
    /// `sqlite:…` or `postgres://…`, empty; a new file where not set.
    #[arg(long)]
    store: Option<String>,
    /// `redis://…` for the claims.
    #[arg(long)]
    redis: Option<String>,
    /// A prepared road network; straight lines where not set.
    #[arg(long)]
    network: Option<PathBuf>,
    /// `fifo` or `balanced`.
    #[arg(long, default_value = "fifo")]
    policy: String,
    #[arg(long, default_value_t = 10_000)]
    drivers: usize,
    /// Requests a second.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(&args))
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let mut settings = vec![("RIDES__MATCHING__POLICY", args.policy.clone())];
    settings.extend(args.redis.clone().map(|url| ("RIDES__REDIS", url)));
    settings.extend(args.network.as_ref().map(|path| ("RIDES__NETWORK", path.display().to_string())));
    let server = Arc::new(Server::start(&args.tessera, args.store.clone(), &settings).await?);
    let mut dice = StdRng::seed_from_u64(args.seed);
    let town = (0..args.drivers).map(|n| anyhow::Ok((format!("driver {n}"), place(&mut dice)?)));
    let town: Vec<(String, Place)> = town.collect::<anyhow::Result<_>>()?;
    let tokens = town.iter().map(|(name, _)| server.token(name, "driver"));
    let tokens: Vec<String> = tokens.collect::<anyhow::Result<_>>()?;
    let began = Instant::now();
    server.begin_shifts(&town).await?;
    println!("{} drivers on duty after {:.1} s", args.drivers, began.elapsed().as_secs_f64());

    let over = Arc::new(AtomicBool::new(false));
    let drivers = town.iter().map(|(name, place)| (driver_of(name), *place)).collect();
    let reporting = tokio::spawn(report(Arc::clone(&server), drivers, Arc::clone(&over)));
    let answering = tokio::spawn(answer(Arc::clone(&server), tokens, args.seed, Arc::clone(&over)));
    let (cpu, began) = (server.process.cpu_s()?, Instant::now());
    let mut riders = tokio::task::JoinSet::new();
    for n in 0..args.rate * args.seconds {
        let due = Duration::from_secs_f64(n as f64 / args.rate as f64);
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        let (pickup, destination) = ends(&mut dice)?;
        riders.spawn(request(Arc::clone(&server), n, pickup, destination));
    }
    let mut waits = Vec::new();
    while let Some(wait) = riders.join_next().await {
        waits.push(wait??);
    }
    let took = began.elapsed().as_secs_f64();
    // Who is denied or ignored looks on for a while.
    tokio::time::sleep(Duration::from_secs(3)).await;
    over.store(true, Ordering::Relaxed);
    reporting.await??;
    let answered = answering.await??;
    let cpu = server.process.cpu_s()? - cpu;
    let (requests, waits) = (waits.len(), Sorted::new(waits));
    println!(
        "policy {}: {requests} requests in {took:.1} s ({:.1} a second); the answer to one took p50 {:.1} ms, p99 {:.1} ms",
        args.policy,
        requests as f64 / took,
        waits.at(0.5),
        waits.at(0.99)
    );
    println!(
        "{answered} offers answered; server CPU {cpu:.1} s: {:.2} ms a request, {:.0} % of a core",
        cpu * 1e3 / requests as f64,
        cpu / took * 100.0
    );
    let ended = Arc::into_inner(server).context("somebody still asks the server")?.end();
    let found = histories::read(&ended.store).await?;
    let offered = Sorted::new(found.first_offers_ms);
    ensure!(offered.count() > 0, "nobody was asked");
    println!(
        "from request to first offer: p50 {:.0} ms, p99 {:.0} ms, most {:.0} ms; {} of {} requested rides had one",
        offered.at(0.5),
        offered.at(0.99),
        offered.at(1.0),
        offered.count(),
        found.requested
    );
    println!(
        "{} offers, {} accepted; mean ETA of the accepted {:.0} s; asked twice for a ride: {}, for two rides at once: {}",
        found.offers, found.accepted, found.mean_eta_s, found.asked_again, found.asked_at_once
    );
    ensure!(found.asked_again + found.asked_at_once == 0, "a double offer");
    Ok(())
}

fn place(dice: &mut StdRng) -> anyhow::Result<Place> {
    let [south, west, north, east] = TOWN;
    let place = Place::from_degrees(dice.random_range(south..north), dice.random_range(west..east));
    place.map_err(anyhow::Error::msg)
}

/// Two places that are worth a ride.
fn ends(dice: &mut StdRng) -> anyhow::Result<(Place, Place)> {
    let pickup = place(dice)?;
    loop {
        let destination = place(dice)?;
        if pickup.distance_m(destination) > NEAREST_M {
            return Ok((pickup, destination));
        }
    }
}

/// An edge tells where all drivers are, who stand.
async fn report(server: Arc<Server>, drivers: Vec<(DriverId, Place)>, over: Arc<AtomicBool>) -> anyhow::Result<()> {
    let token = server.token("edge", "edge")?;
    while !over.load(Ordering::Relaxed) {
        for some in drivers.chunks(BATCH) {
            let all = some.iter().map(|(driver, place)| (*driver, *place, None));
            server.locate(&token, compact::positions(all, SystemClock.now())).await?;
        }
        tokio::time::sleep(REPORTED).await;
    }
    Ok(())
}

/// A rider estimates and requests; gives how long the request took, milliseconds.
async fn request(server: Arc<Server>, n: u64, pickup: Place, destination: Place) -> anyhow::Result<f64> {
    let token = server.token(&format!("rider {n}"), "rider")?;
    let wish = json!({ "pickup": pickup, "destination": destination });
    let estimate = server.must(&token, "POST", "/fare-estimate", wish).await?;
    let began = Instant::now();
    server.must(&token, "PATCH", "/ride/request", json!({ "ride_id": estimate["ride_id"] })).await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Answers offers as soon as they are seen: three of four yes, some no, some not at all. Gives how many were answered.
async fn answer(server: Arc<Server>, tokens: Vec<String>, seed: u64, over: Arc<AtomicBool>) -> anyhow::Result<usize> {
    let operator = server.token("operator", "operator")?;
    let numbers: std::collections::HashMap<String, usize> =
        (0..tokens.len()).map(|n| (driver_of(&format!("driver {n}")).to_string(), n)).collect();
    let mut dice = StdRng::seed_from_u64(seed ^ 0xa5a5);
    let mut seen: HashSet<String> = HashSet::new();
    let mut since = SystemClock.now().to_string();
    let mut answered = 0;
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOKED).await;
        let mut answers = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/rides?updated_since={since}&limit=500&cursor={cursor}");
            let page = server.must(&operator, "GET", &path, Value::Null).await?;
            let items = page["items"].as_array().context("no items")?;
            for ride in items {
                let Some(offer) = ride["offer"]["offer_id"].as_str() else { continue };
                if !seen.insert(offer.to_owned()) {
                    continue;
                }
                let said = dice.random_range(0..100);
                if said >= 90 {
                    continue;
                }
                let number = numbers.get(ride["offer"]["driver"].as_str().context("no driver")?).context("whose?")?;
                let body = json!({ "ride_id": ride["ride_id"], "offer_id": offer, "accept": said < 75 });
                let server = &server;
                let token = &tokens[*number];
                answers.push(async move { server.ask(token, "PATCH", "/ride/driver/respond", &body).await });
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => {
                    if let Some(last) = items.last().and_then(|ride| ride["updated_at"].as_str()) {
                        last.clone_into(&mut since);
                    }
                    break;
                }
            }
        }
        answered += stream::iter(answers).buffer_unordered(ANSWERING).try_collect::<Vec<_>>().await?.len();
    }
    Ok(answered)
}
