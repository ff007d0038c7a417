//! Nobody gets another's seat, and money and seats agree: random histories of many clients for few seats, judged by
//! `testkit::history`. In one process on each store, and as several processes whose servers, stores and clocks fail.
//!
//! The seed is printed where a history is at fault; `TESSERA_HISTORY_SEED` sets it, and `TESSERA_HISTORY_ROUNDS` how many
//! times longer they are. What each client decides repeats with the seed; how they meet does not.

mod rivals;
pub(crate) mod venue;

use std::time::Duration;

use tessera_kernel::{Clock, SystemClock};
use tessera_tessera::roles;
use tessera_tessera::settings::{self, Flags};
use tessera_testkit::history::seat::{Micros, Rules};
use tessera_testkit::{ScratchDir, postgres, redis};
use tokio::time::sleep;
use venue::Server;

/// By how much a process may be late to know what it has done itself: at the latest it reads it.
const GRACE: Micros = 300_000;
const SEATS: u32 = 6;
const RIVALS: usize = 14;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn seed() -> u64 {
    number("TESSERA_HISTORY_SEED").unwrap_or_else(|| SystemClock.now().micros() as u64)
}

fn times() -> u64 {
    number("TESSERA_HISTORY_ROUNDS").unwrap_or(1)
}

/// One process, embedded in this one.
async fn in_one_process(store: &str, redis: Option<&str>) {
    let (scratch, seed) = (ScratchDir::new(), seed());
    let folder = venue::folders(&scratch, 1).remove(0);
    let flags = Flags { data: Some(folder.clone()), ..Flags::default() };
    let config = settings::load(&flags, venue::settings(store, redis)).unwrap();
    let running = tessera_tessera::up::start(&config, &[roles::find("tickets").unwrap()]).await.unwrap();
    let bases = [format!("http://{}", running.address())];
    let arena = venue::open(&bases, &folder, store, SEATS, RIVALS).await;
    venue::contend(&arena, seed, 30 * times() as usize, async {}).await;
    let summary = venue::judge(&arena, seed, Rules { grace: Some(GRACE), ..Rules::default() }).await;
    eprintln!("seed {seed}: {summary:?}");
    assert!(running.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rivals_in_one_process_on_sqlite() {
    let scratch = ScratchDir::new();
    let store = format!("sqlite:{}", scratch.file("tickets.db").display());
    in_one_process(&store, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rivals_in_one_process_on_postgres() {
    let postgres = postgres::start();
    in_one_process(&postgres.new_database(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rivals_in_one_process_with_redis_claims() {
    let (postgres, redis) = (postgres::start(), redis::start());
    in_one_process(&postgres.new_database(), Some(&redis.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rivals_in_one_process_on_sqlite_with_redis_claims() {
    let (scratch, redis) = (ScratchDir::new(), redis::start());
    let store = format!("sqlite:{}", scratch.file("tickets.db").display());
    in_one_process(&store, Some(&redis.url())).await;
}

/// Processes on one PostgreSQL, each with its clock off by so many seconds.
fn processes(scratch: &ScratchDir, store: &str, redis: Option<&str>, clocks_off_s: &[i64]) -> Vec<Server> {
    let settings = venue::settings(store, redis);
    let folders = venue::folders(scratch, clocks_off_s.len());
    folders.iter().zip(clocks_off_s).map(|(folder, off)| Server::start(folder, &settings, *off)).collect()
}

fn bases(servers: &[Server]) -> Vec<String> {
    servers.iter().map(|server| server.base.clone()).collect()
}

/// Puts a process to sleep for longer than its holds last, extended ones too: what it then goes on with is over.
async fn sleeps(server: &Server) {
    server.signal("STOP");
    sleep(venue::TTL + venue::WINDOW + Duration::from_millis(500)).await;
    server.signal("CONT");
}

/// Work that waits, off the threads that clients run on.
async fn blocking<T: Send + 'static>(value: T, work: impl FnOnce(&mut T) + Send + 'static) -> T {
    let mut value = value;
    tokio::task::spawn_blocking(move || {
        work(&mut value);
        value
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_and_their_postgres_are_killed_and_put_to_sleep() {
    let (scratch, seed, postgres) = (ScratchDir::new(), seed(), postgres::start());
    let store = postgres.new_database();
    let mut postgres = Some(postgres);
    let mut servers = processes(&scratch, &store, None, &[0, 0, 0]);
    let arena = venue::open(&bases(&servers), &scratch.file("data0"), &store, SEATS, RIVALS).await;
    venue::contend(&arena, seed, usize::MAX, async {
        for _ in 0..times() {
            sleep(Duration::from_millis(1_000)).await;
            servers = blocking(std::mem::take(&mut servers), |servers| servers[0].kill_and_restart()).await;
            sleep(Duration::from_millis(700)).await;
            postgres = Some(blocking(postgres.take().unwrap(), |postgres| postgres.kill_and_restart()).await);
            sleep(Duration::from_millis(1_000)).await;
            sleeps(&servers[1]).await;
            servers = blocking(std::mem::take(&mut servers), |servers| servers[2].kill_and_restart()).await;
            sleep(Duration::from_millis(700)).await;
        }
    })
    .await;
    let summary = venue::judge(&arena, seed, Rules::default()).await;
    eprintln!("seed {seed}: {summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_are_lost_with_their_redis() {
    let (scratch, seed, postgres, redis) = (ScratchDir::new(), seed(), postgres::start(), redis::start());
    let store = postgres.new_database();
    let mut servers = processes(&scratch, &store, Some(&redis.url()), &[0, 0, 0]);
    let mut redis = Some(redis);
    let arena = venue::open(&bases(&servers), &scratch.file("data0"), &store, SEATS, RIVALS).await;
    let mut lost: Vec<(Micros, Micros)> = Vec::new();
    venue::contend(&arena, seed, usize::MAX, async {
        for _ in 0..times() {
            sleep(Duration::from_millis(1_000)).await;
            let from = arena.recorder.now();
            redis = Some(blocking(redis.take().unwrap(), |redis| redis.kill_and_lose_everything()).await);
            lost.push((from, arena.recorder.now()));
            sleep(Duration::from_millis(1_000)).await;
            servers = blocking(std::mem::take(&mut servers), |servers| servers[0].kill_and_restart()).await;
            sleeps(&servers[1]).await;
            redis = Some(blocking(redis.take().unwrap(), |redis| redis.kill_and_restart()).await);
            sleep(Duration::from_millis(1_000)).await;
        }
    })
    .await;
    let summary = venue::judge(&arena, seed, Rules { lost, ..Rules::default() }).await;
    eprintln!("seed {seed}: {summary:?}");
}

async fn clocks_differ(redis: Option<&str>) {
    let (scratch, seed, postgres) = (ScratchDir::new(), seed(), postgres::start());
    let store = postgres.new_database();
    let mut servers = processes(&scratch, &store, redis, &[0, 30, -30]);
    let arena = venue::open(&bases(&servers), &scratch.file("data0"), &store, SEATS, RIVALS).await;
    venue::contend(&arena, seed, usize::MAX, async {
        for _ in 0..times() {
            sleep(Duration::from_millis(3_000)).await;
            servers = blocking(std::mem::take(&mut servers), |servers| servers[1].kill_and_restart()).await;
            sleep(Duration::from_millis(1_500)).await;
        }
    })
    .await;
    let summary = venue::judge(&arena, seed, Rules::default()).await;
    eprintln!("seed {seed}: {summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_of_processes_differ() {
    clocks_differ(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_of_processes_with_redis_claims_differ() {
    let redis = redis::start();
    clocks_differ(Some(&redis.url())).await;
}
