//! Positions that arrive over HTTP, at a process of its own: many in a request from an edge, and one in a request.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tessera_bench::client::{Client, request};
use tessera_bench::process::Pid;
use tessera_bench_rides::compact;
use tessera_bench_rides::server::Server;
use tessera_kernel::{Clock, Place, SystemClock, Timestamp};
use tessera_rides::app::driver_of;
use tessera_rides::domain::ids::DriverId;

use super::fleet::moved;

/// Connections that send positions.
const CONNECTIONS: usize = 8;
/// How much newer a driver's next position is at least: the index tells 50 ms apart.
const STEP: Duration = Duration::from_millis(60);
/// How far the clock of positions may run ahead of ours.
const AHEAD: Duration = Duration::from_secs(25);

/// What a request carries.
#[derive(Clone, Copy)]
enum Body {
    Json(usize),
    Compact(usize),
}

/// Measures and prints.
pub async fn measure(tessera: &Path, count: usize, seconds: u64) -> anyhow::Result<()> {
    let server = Server::start(tessera, None, &[]).await?;
    let places = (0..count).map(|number| {
        let (row, column) = ((number / 200) as i32, (number % 200) as i32);
        let place = Place::from_e7(411_000_000 + row * 6_000, -86_500_000 + column * 8_000);
        place.map(|place| (format!("driver {number}"), place)).map_err(anyhow::Error::msg)
    });
    let named: Vec<(String, Place)> = places.collect::<Result<_, _>>()?;
    let began = Instant::now();
    server.begin_shifts(&named).await?;
    println!("{count} drivers are on duty after {:.1} s", began.elapsed().as_secs_f64());
    let drivers: Vec<(DriverId, Place)> = named.iter().map(|(name, place)| (driver_of(name), *place)).collect();
    let (drivers, edge) = (Arc::new(drivers), server.token("edge", "edge")?);
    let mut last = SystemClock.now();
    for body in [Body::Json(100), Body::Compact(100), Body::Compact(1_000), Body::Json(1)] {
        // Positions of the measurement before were of a time to come.
        tokio::time::sleep(last.since(SystemClock.now())).await;
        let (cpu, own, began) = (server.process.cpu_s()?, Pid::own().cpu_s()?, Instant::now());
        let until = began + Duration::from_secs(seconds);
        let senders = (0..CONNECTIONS).map(|number| {
            let part = number * count / CONNECTIONS..(number + 1) * count / CONNECTIONS;
            tokio::spawn(send(server.process.address, edge.clone(), Arc::clone(&drivers), part, body, until))
        });
        let (mut taken, mut refused) = (0, 0);
        for sender in senders.collect::<Vec<_>>() {
            let sent = sender.await??;
            (taken, refused, last) = (taken + sent.taken, refused + sent.refused, last.max(sent.last));
        }
        let took = began.elapsed().as_secs_f64();
        let (cpu, own) = (server.process.cpu_s()? - cpu, Pid::own().cpu_s()? - own);
        let what = match body {
            Body::Json(1) => "JSON, one a request".to_owned(),
            Body::Json(many) => format!("JSON, {many} a request"),
            Body::Compact(many) => format!("compact, {many} a request"),
        };
        let each = |cpu: f64| cpu * 1e6 / f64::from(taken.max(1));
        println!(
            "{what}: {:.0} a second, {:.2} µs of the server's CPU each, {:.2} of the clients'; {refused} refused",
            f64::from(taken) / took,
            each(cpu),
            each(own)
        );
    }
    Ok(())
}

/// What a connection has sent.
struct Sent {
    taken: u32,
    refused: u32,
    /// The time of its last positions.
    last: Timestamp,
}

/// One connection, with drivers of its own.
async fn send(
    address: SocketAddr,
    token: String,
    drivers: Arc<Vec<(DriverId, Place)>>,
    part: std::ops::Range<usize>,
    body: Body,
    until: Instant,
) -> anyhow::Result<Sent> {
    let mut client = Client::connect(address).await?;
    let (mut taken, mut refused, began) = (0, 0, SystemClock.now());
    let drivers = drivers.get(part).context("drivers")?;
    let (Body::Json(many) | Body::Compact(many)) = body;
    for round in 0_u32.. {
        for group in drivers.chunks(many) {
            let at = SystemClock.now().max(began.plus(STEP * round));
            if Instant::now() >= until || at.since(SystemClock.now()) > AHEAD {
                return Ok(Sent { taken, refused, last: at });
            }
            let (kind, bytes) = match body {
                Body::Json(_) => ("application/json", json_of(group, round, at)),
                Body::Compact(_) => {
                    let all = group.iter().map(|(driver, home)| (*driver, moved(*home, round), Some(90)));
                    (compact::KIND, compact::positions(all, at))
                }
            };
            let (status, answer) =
                client.ask(&request(&token, "POST", "/drivers/location/update", kind, &bytes)).await?;
            ensure!(status == 200, "{status} {}", String::from_utf8_lossy(answer));
            // Each refusal is a word among numbers.
            let words = answer.split(|byte| *byte == b'"').count() / 2 - 2;
            refused += words as u32;
            taken += (group.len() - words) as u32;
        }
    }
    Ok(Sent { taken, refused, last: began })
}

fn json_of(group: &[(DriverId, Place)], round: u32, at: Timestamp) -> Vec<u8> {
    let one = |(driver, home): &(DriverId, Place)| {
        let place = moved(*home, round);
        let (lat, lng) = (place.lat(), place.lng());
        format!("{{\"driver_id\":\"{driver}\",\"lat\":{lat},\"lng\":{lng},\"heading\":90,\"at\":\"{at}\"}}")
    };
    let all: Vec<String> = group.iter().map(one).collect();
    format!("[{}]", all.join(",")).into_bytes()
}
