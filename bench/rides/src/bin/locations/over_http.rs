//! Positions that arrive over HTTP, at a process of its own: many in a request from an edge, and one in a request.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tessera_bench::client::Client;
use tessera_bench::process::{Process, cpu_s};
use tessera_kernel::{Clock, Place, SystemClock, Timestamp};
use tessera_rides::app::driver_of;
use tessera_rides::domain::ids::DriverId;
use tessera_service::Keys;

use super::fleet::moved;

const DAY: Duration = Duration::from_secs(86_400);
/// Connections that send positions.
const CONNECTIONS: usize = 8;
/// How much newer a driver's next position is at least: the index tells 50 ms apart.
const STEP: Duration = Duration::from_millis(60);
/// How far the clock of positions may run ahead of ours.
const AHEAD: Duration = Duration::from_secs(25);
/// Connections that bring drivers on duty.
const BEGINNERS: usize = 64;

/// What a request carries.
#[derive(Clone, Copy)]
enum Body {
    Json(usize),
    Compact(usize),
}

/// Measures and prints.
pub async fn measure(tessera: &Path, count: usize, seconds: u64) -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let mut command = Command::new(tessera);
    command.args(["serve", "rides", "--data"]).arg(data.path()).env("RUST_LOG", "warn");
    let process = Process::start(&mut command).await?;
    let keys = Keys::open(data.path(), Arc::new(SystemClock) as Arc<dyn Clock>)?;
    let drivers = Arc::new(begin(process.address, &keys, count).await?);
    println!("{count} drivers are on duty");
    let edge = keys.sign_token("edge", &["edge".to_owned()], DAY)?;
    let mut last = SystemClock.now();
    for body in [Body::Json(100), Body::Compact(100), Body::Compact(1_000), Body::Json(1)] {
        // Positions of the measurement before were of a time to come.
        tokio::time::sleep(last.since(SystemClock.now())).await;
        let (server, own, began) = (process.cpu_s()?, cpu_s("self")?, Instant::now());
        let until = began + Duration::from_secs(seconds);
        let senders = (0..CONNECTIONS).map(|number| {
            let part = number * count / CONNECTIONS..(number + 1) * count / CONNECTIONS;
            tokio::spawn(send(process.address, edge.clone(), Arc::clone(&drivers), part, body, until))
        });
        let (mut taken, mut refused) = (0, 0);
        for sender in senders.collect::<Vec<_>>() {
            let sent = sender.await??;
            (taken, refused, last) = (taken + sent.taken, refused + sent.refused, last.max(sent.last));
        }
        let took = began.elapsed().as_secs_f64();
        let (server, own) = (process.cpu_s()? - server, cpu_s("self")? - own);
        let what = match body {
            Body::Json(1) => "JSON, one a request".to_owned(),
            Body::Json(many) => format!("JSON, {many} a request"),
            Body::Compact(many) => format!("compact, {many} a request"),
        };
        let each = |cpu: f64| cpu * 1e6 / f64::from(taken.max(1));
        println!(
            "{what}: {:.0} a second, {:.2} µs of the server's CPU each, {:.2} of the clients'; {refused} refused",
            f64::from(taken) / took,
            each(server),
            each(own)
        );
    }
    Ok(())
}

/// Drivers with a profile, approved, on duty around Porto.
async fn begin(address: SocketAddr, keys: &Keys, count: usize) -> anyhow::Result<Vec<(DriverId, Place)>> {
    let operator = keys.sign_token("operator", &["operator".to_owned()], DAY)?;
    let mut beginners = Vec::new();
    for first in 0..BEGINNERS {
        let (keys, operator) = (keys.clone(), operator.clone());
        beginners.push(tokio::spawn(async move {
            let mut client = Client::connect(address).await?;
            let mut begun = Vec::new();
            for number in (first..count).step_by(BEGINNERS) {
                let subject = format!("driver{number}");
                let token = keys.sign_token(&subject, &["driver".to_owned()], DAY)?;
                let (row, column) = ((number / 200) as i32, (number % 200) as i32);
                let place = Place::from_e7(411_000_000 + row * 6_000, -86_500_000 + column * 8_000);
                let place = place.map_err(|reason| anyhow::anyhow!("{reason}"))?;
                let profile = json!({ "name": subject, "vehicle": "car", "plate": subject, "seats": 4 });
                let id = driver_of(&subject);
                ask(&mut client, &token, "PUT", "/drivers/profile", &profile).await?;
                ask(&mut client, &operator, "PUT", &format!("/drivers/{id}/approval"), &json!({ "approved": true }))
                    .await?;
                let shift = json!({ "on_duty": true, "place": { "lat": place.lat(), "lng": place.lng() } });
                ask(&mut client, &token, "POST", "/drivers/shift", &shift).await?;
                begun.push((number, (id, place)));
            }
            anyhow::Ok(begun)
        }));
    }
    let mut begun = Vec::with_capacity(count);
    for beginner in beginners {
        begun.extend(beginner.await??);
    }
    begun.sort_by_key(|(number, _)| *number);
    Ok(begun.into_iter().map(|(_, driver)| driver).collect())
}

async fn ask(client: &mut Client, token: &str, method: &str, path: &str, body: &Value) -> anyhow::Result<()> {
    let body = body.to_string();
    let head = head(token, method, path, "application/json", body.len());
    let (status, answer) = client.ask(&[head.as_bytes(), body.as_bytes()].concat()).await?;
    ensure!(status == 200, "{method} {path}: {status} {}", String::from_utf8_lossy(answer));
    Ok(())
}

fn head(token: &str, method: &str, path: &str, kind: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\ncontent-type: {kind}\r\n\
         content-length: {length}\r\n\r\n"
    )
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
                Body::Json(_) => {
                    let one = |(driver, home): &(DriverId, Place)| {
                        let place = moved(*home, round);
                        format!(
                            "{{\"driver_id\":\"{driver}\",\"lat\":{},\"lng\":{},\"heading\":90,\"at\":\"{at}\"}}",
                            place.lat(),
                            place.lng()
                        )
                    };
                    let all: Vec<String> = group.iter().map(one).collect();
                    ("application/json", format!("[{}]", all.join(",")).into_bytes())
                }
                Body::Compact(_) => {
                    let mut bytes = vec![1];
                    for (driver, home) in group {
                        let place = moved(*home, round);
                        bytes.extend(driver.uuid().as_bytes());
                        bytes.extend(place.lat_e7().to_le_bytes());
                        bytes.extend(place.lng_e7().to_le_bytes());
                        bytes.extend(90_u16.to_le_bytes());
                        bytes.extend(((at.micros() / 1_000) as u64).to_le_bytes());
                    }
                    ("application/octet-stream", bytes)
                }
            };
            let head = head(&token, "POST", "/drivers/location/update", kind, bytes.len());
            let (status, answer) = client.ask(&[head.as_bytes(), &bytes].concat()).await?;
            ensure!(status == 200, "{status} {}", String::from_utf8_lossy(answer));
            // Each refusal is a word among numbers.
            let words = answer.split(|byte| *byte == b'"').count() / 2 - 2;
            refused += words as u32;
            taken += (group.len() - words) as u32;
        }
    }
    Ok(Sent { taken, refused, last: began })
}
