//! Time to match: riders who request at a steady rate, drivers who accept, deny or ignore by a seed, over HTTP; from the request to
//! the first offer, by the times in the rides' histories, which also tell whether anybody was asked twice at once.
//!
//! `bench-rides-match --tessera target/dist/tessera --drivers 10000 --rate 100 --seconds 60`

mod histories;
mod server;

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
use tessera_kernel::{Clock, SystemClock};
use tessera_rides::app::driver_of;
use tessera_rides::domain::ids::DriverId;

use server::Server;

/// Requests of the setting-up that are on their way at a time.
const SETTING_UP: usize = 64;
/// How often all drivers tell where they are. In an open town an interval is up to 20 s.
const REPORTED: Duration = Duration::from_secs(5);
/// Positions in a request of the edge.
const BATCH: usize = 1_000;
/// How often drivers look whether they are asked: one list of changes for all of them.
const LOOKED: Duration = Duration::from_millis(50);
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
    let server = Server::start(&args.tessera, args.store.clone(), args.network.as_deref(), &settings).await?;
    let server = Arc::new(server);
    let mut dice = StdRng::seed_from_u64(args.seed);
    let names: Vec<String> = (0..args.drivers).map(|n| format!("driver {n}")).collect();
    let places: Vec<(f64, f64)> = names.iter().map(|_| place(&mut dice)).collect();
    let tokens: Vec<String> = names.iter().map(|name| server.token(name, "driver")).collect::<anyhow::Result<_>>()?;
    let began = Instant::now();
    let operator = server.token("operator", "operator")?;
    let shifts = names.iter().zip(&tokens).zip(&places);
    let shifts: Vec<_> = shifts.map(|((name, token), place)| begin(&server, &operator, name, token, *place)).collect();
    stream::iter(shifts).buffer_unordered(SETTING_UP).try_collect::<Vec<()>>().await?;
    println!("{} drivers on duty after {:.1} s", args.drivers, began.elapsed().as_secs_f64());

    let over = Arc::new(AtomicBool::new(false));
    let drivers: Vec<DriverId> = names.iter().map(|name| driver_of(name)).collect();
    let reporting = tokio::spawn(report(Arc::clone(&server), drivers, places, Arc::clone(&over)));
    let answering = tokio::spawn(answer(Arc::clone(&server), tokens, args.seed, Arc::clone(&over)));
    let (cpu, began) = (server.cpu_s()?, Instant::now());
    let mut riders = tokio::task::JoinSet::new();
    for n in 0..args.rate * args.seconds {
        let due = Duration::from_secs_f64(n as f64 / args.rate as f64);
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        let (pickup, destination) = ends(&mut dice);
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
    let cpu = server.cpu_s()? - cpu;
    let requests = waits.len();
    println!(
        "policy {}: {requests} requests in {took:.1} s ({:.1} a second); the answer to one took p50 {:.1} ms, p99 {:.1} ms",
        args.policy,
        requests as f64 / took,
        at(&mut waits, 0.5),
        at(&mut waits, 0.99)
    );
    println!(
        "{answered} offers answered; server CPU {cpu:.1} s: {:.2} ms a request, {:.0} % of a core",
        cpu * 1e3 / requests as f64,
        cpu / took * 100.0
    );
    let store = server.store.clone();
    drop(server);
    let found = histories::read(&store).await?;
    let mut offered = found.first_offers_ms;
    ensure!(!offered.is_empty(), "nobody was asked");
    println!(
        "from request to first offer: p50 {:.0} ms, p99 {:.0} ms, most {:.0} ms; {} of {} requested rides had one",
        at(&mut offered, 0.5),
        at(&mut offered, 0.99),
        at(&mut offered, 1.0),
        offered.len(),
        found.requested
    );
    println!(
        "{} offers, {} accepted; mean ETA of the accepted {:.0} s; asked twice for a ride: {}, for two rides at once: {}",
        found.offers, found.accepted, found.mean_eta_s, found.asked_again, found.asked_at_once
    );
    ensure!(found.asked_again + found.asked_at_once == 0, "a double offer");
    Ok(())
}

fn place(dice: &mut StdRng) -> (f64, f64) {
    let [south, west, north, east] = TOWN;
    (dice.random_range(south..north), dice.random_range(west..east))
}

/// Two places that are worth a ride.
fn ends(dice: &mut StdRng) -> ((f64, f64), (f64, f64)) {
    let pickup = place(dice);
    loop {
        let destination = place(dice);
        // Some 500 m and more.
        if (pickup.0 - destination.0).hypot(pickup.1 - destination.1) > 0.006 {
            return (pickup, destination);
        }
    }
}

fn body((lat, lng): (f64, f64)) -> Value {
    json!({ "lat": lat, "lng": lng })
}

/// The value below which that share lies.
fn at(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let index = (values.len() as f64 * share) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// A driver writes a profile, is approved and begins a shift.
async fn begin(server: &Server, operator: &str, name: &str, token: &str, place: (f64, f64)) -> anyhow::Result<()> {
    let profile = json!({ "name": name, "vehicle": "white Dacia", "plate": "AA-00-AA", "seats": 4 });
    server.must(token, "PUT", "/drivers/profile", profile).await?;
    let path = format!("/drivers/{}/approval", driver_of(name));
    server.must(operator, "PUT", &path, json!({ "approved": true })).await?;
    server.must(token, "POST", "/drivers/shift", json!({ "on_duty": true, "place": body(place) })).await?;
    Ok(())
}

/// An edge tells where all drivers are, who stand.
async fn report(
    server: Arc<Server>,
    drivers: Vec<DriverId>,
    places: Vec<(f64, f64)>,
    over: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let token = server.token("edge", "edge")?;
    let all: Vec<(DriverId, (f64, f64))> = drivers.into_iter().zip(places).collect();
    while !over.load(Ordering::Relaxed) {
        for some in all.chunks(BATCH) {
            let now_ms = SystemClock.now().micros() as u64 / 1_000;
            let mut body = vec![1];
            for (driver, (lat, lng)) in some {
                body.extend(driver.uuid().as_bytes());
                body.extend(((lat * 1e7) as i32).to_le_bytes());
                body.extend(((lng * 1e7) as i32).to_le_bytes());
                body.extend(u16::MAX.to_le_bytes());
                body.extend(now_ms.to_le_bytes());
            }
            server.locate(&token, body).await?;
        }
        tokio::time::sleep(REPORTED).await;
    }
    Ok(())
}

/// A rider estimates and requests; gives how long the request took, milliseconds.
async fn request(server: Arc<Server>, n: u64, pickup: (f64, f64), destination: (f64, f64)) -> anyhow::Result<f64> {
    let token = server.token(&format!("rider {n}"), "rider")?;
    let wish = json!({ "pickup": body(pickup), "destination": body(destination) });
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
        answered += stream::iter(answers).buffer_unordered(SETTING_UP).try_collect::<Vec<_>>().await?.len();
    }
    Ok(answered)
}
