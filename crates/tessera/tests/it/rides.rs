//! Rides by real processes that are killed in the middle of a town's traffic, with PostgreSQL, Redis and SQLite: no ride is lost,
//! none has two drivers, and each comes to its end once somebody is there to take it there.
//!
//! The seed is printed where something is at fault; `TESSERA_HISTORY_SEED` sets it, and `TESSERA_HISTORY_ROUNDS` how many times
//! longer it takes. What each client decides repeats with the seed; how they meet does not.

mod town;

use std::time::Duration;

use tessera_kernel::{Clock, SystemClock};
use tessera_testkit::{ScratchDir, postgres, redis};
use tokio::time::sleep;

use crate::histories::venue::{Server, folders};
use town::Town;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn seed() -> u64 {
    number("TESSERA_HISTORY_SEED").unwrap_or_else(|| SystemClock.now().micros() as u64)
}

fn times() -> u64 {
    number("TESSERA_HISTORY_ROUNDS").unwrap_or(1)
}

fn settings(store: &str, redis: Option<&str>) -> Vec<(String, String)> {
    let mut settings = vec![
        ("TESSERA__RIDES__STORE".to_owned(), store.to_owned()),
        ("TESSERA__RIDES__ESTIMATE_TTL_S".to_owned(), "3".to_owned()),
        ("TESSERA__RIDES__MATCHING__OFFER_S".to_owned(), "1".to_owned()),
        ("TESSERA__RIDES__MATCHING__SEARCH_S".to_owned(), "4".to_owned()),
    ];
    settings.extend(redis.map(|url| ("TESSERA__RIDES__REDIS".to_owned(), url.to_owned())));
    settings
}

/// Processes that share a database, and so their keys.
fn processes(scratch: &ScratchDir, count: usize, settings: &[(String, String)]) -> Vec<Server> {
    folders(scratch, count).iter().map(|folder| Server::start_as("rides", folder, settings, 0)).collect()
}

/// Work that waits, off the threads that clients run on.
async fn blocking<T: Send + 'static>(mut value: T, work: impl FnOnce(&mut T) + Send + 'static) -> T {
    tokio::task::spawn_blocking(move || {
        work(&mut value);
        value
    })
    .await
    .unwrap()
}

fn killed(servers: &mut [Server]) {
    servers.iter_mut().for_each(Server::kill_and_restart);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_on_sqlite_is_killed_again_and_again() {
    let (scratch, seed) = (ScratchDir::new(), seed());
    let store = format!("sqlite:{}", scratch.file("rides.db").display());
    let mut servers = processes(&scratch, 1, &settings(&store, None));
    let town = Town::open(&servers, &scratch.file("data0"), seed).await;
    for _ in 0..3 * times() {
        sleep(Duration::from_millis(1_500)).await;
        servers = blocking(servers, |servers| killed(servers)).await;
    }
    sleep(Duration::from_millis(1_000)).await;
    let acknowledged = town.settle().await;
    servers[0].signal("TERM");
    drop(servers);
    town::judge(&store, acknowledged, seed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_and_its_postgres_and_redis_are_killed_in_turn() {
    let (scratch, seed) = (ScratchDir::new(), seed());
    let (postgres, redis) = (postgres::start(), redis::start());
    let store = postgres.new_database();
    let mut servers = processes(&scratch, 1, &settings(&store, Some(&redis.url())));
    let (mut postgres, mut redis) = (postgres, redis);
    let town = Town::open(&servers, &scratch.file("data0"), seed).await;
    for _ in 0..times() {
        sleep(Duration::from_millis(1_500)).await;
        servers = blocking(servers, |servers| killed(servers)).await;
        sleep(Duration::from_millis(1_000)).await;
        postgres = blocking(postgres, |postgres| postgres.kill_and_restart()).await;
        sleep(Duration::from_millis(1_000)).await;
        // All claims are lost.
        redis = blocking(redis, |redis| redis.kill_and_lose_everything()).await;
        sleep(Duration::from_millis(1_000)).await;
        servers = blocking(servers, |servers| killed(servers)).await;
    }
    sleep(Duration::from_millis(1_000)).await;
    let acknowledged = town.settle().await;
    servers[0].signal("TERM");
    drop(servers);
    town::judge(&store, acknowledged, seed).await;
    drop(redis);
}

/// Two matchers share the areas. Where one is killed the other takes its areas over, whichever it is, and nobody is asked by both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_matchers_is_killed() {
    let (scratch, seed) = (ScratchDir::new(), seed());
    let (postgres, redis) = (postgres::start(), redis::start());
    let store = postgres.new_database();
    let mut settings = settings(&store, None);
    settings.push(("TESSERA__RIDES__LOCATIONS".to_owned(), redis.url()));
    let folders = folders(&scratch, 3);
    let start = |role, folder: usize| Server::start_as(role, &folders[folder], &settings, 0);
    let api = [start("rides-api", 0)];
    let mut matchers = [start("rides-matcher", 1), start("rides-matcher", 2)];
    let town = Town::open(&api, &folders[0], seed).await;
    town.sees("completed", 2).await;
    for turn in 0..2 * times() as usize {
        matchers = blocking(matchers, move |matchers| matchers[turn % 2].kill()).await;
        // The other one matches alone.
        let before = town.count("completed").await;
        town.sees("completed", before + 3).await;
        matchers = blocking(matchers, move |matchers| matchers[turn % 2].kill_and_restart()).await;
    }
    let acknowledged = town.settle().await;
    for server in api.iter().chain(&matchers) {
        server.signal("TERM");
    }
    drop((api, matchers));
    town::judge(&store, acknowledged, seed).await;
}

/// While Redis sleeps nobody new is asked; what was offered before is answered, driven and cancelled, and searches come to their
/// end. When it is back, so is matching.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stops_in_the_middle() {
    let (scratch, seed) = (ScratchDir::new(), seed());
    let (postgres, redis) = (postgres::start(), redis::start());
    let store = postgres.new_database();
    let servers = processes(&scratch, 1, &settings(&store, Some(&redis.url())));
    let town = Town::open(&servers, &scratch.file("data0"), seed).await;
    town.sees("completed", 3).await;
    redis.pause();
    // Who waits is told that there is nobody, and nothing else stands still.
    let none = town.count("no_driver").await;
    town.sees("no_driver", none + 3).await;
    redis.resume();
    let before = town.count("completed").await;
    town.sees("completed", before + 5).await;
    let acknowledged = town.settle().await;
    servers[0].signal("TERM");
    drop(servers);
    town::judge(&store, acknowledged, seed).await;
}
