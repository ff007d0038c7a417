//! Rides split into their three roles, as three processes on PostgreSQL and Redis.

use std::path::Path;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tessera_kernel::{Clock, SystemClock};
use tessera_testkit::ScratchDir;
use tessera_testkit::bin::{Finished, Process, tessera_command};
use tessera_testkit::sql::Databases;
use tessera_testkit::{postgres, redis};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::tessera;

/// How long a test waits before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A role as a process of its own.
struct Part {
    process: Process,
    base: String,
}

/// Waits until a process says where it listens.
fn serving(process: Process) -> Part {
    let line = process.wait_for("/metrics");
    let base = line.split_whitespace().last().unwrap().trim_end_matches("/metrics").to_owned();
    Part { process, base }
}

fn start(role: &str, data: &Path, store: &str, locations: &str) -> Part {
    let mut command = tessera_command(tessera());
    command.args(["serve", role, "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command.env("TESSERA__RIDES__STORE", store).env("TESSERA__RIDES__LOCATIONS", locations);
    serving(Process::spawn(&mut command))
}

fn token(data: &Path, subject: &str, role: &str) -> String {
    let data = data.to_str().unwrap();
    // Before the processes start: their key is made.
    let arguments = ["token", "--new", "--role", role, "--subject", subject, "--data", data];
    let printed = Process::tessera(tessera(), arguments).wait();
    assert_eq!(printed.code(), Some(0), "{printed:?}");
    format!("Bearer {}", printed.stdout.trim_end())
}

/// Asks, and gives status and body.
async fn ask(part: &Part, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let client = tessera_service::client::build().unwrap();
    let request =
        client.request(method.parse().unwrap(), format!("{}{path}", part.base)).header("authorization", token);
    let request = match body {
        Value::Null => request,
        body => request.header("content-type", "application/json").body(body.to_string()),
    };
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// The same, where it must go well.
async fn done(part: &Part, token: &str, method: &str, path: &str, body: Value) -> Value {
    let (status, answer) = ask(part, token, method, path, body).await;
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer
}

/// A driver writes a profile, an operator approves it, a shift begins.
async fn on_duty(api: &Part, driver: &str, operator: &str) {
    let profile = json!({ "name": "Dora", "vehicle": "white Dacia", "plate": "AA-00-AA", "seats": 4 });
    let id = done(api, driver, "PUT", "/drivers/profile", profile).await["id"].clone();
    let approval = format!("/drivers/{}/approval", id.as_str().unwrap());
    done(api, operator, "PUT", &approval, json!({ "approved": true })).await;
    let shift = json!({ "on_duty": true, "place": { "lat": 41.15, "lng": -8.61 } });
    done(api, driver, "POST", "/drivers/shift", shift).await;
}

/// Server-sent events of a process.
struct Events {
    answer: reqwest::Response,
    read: String,
}

impl Events {
    async fn open(part: &Part, token: &str, path: &str) -> Self {
        let client = tessera_service::client::build().unwrap();
        let asked = client.get(format!("{}{path}", part.base)).header("authorization", token);
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        Self { answer, read: String::new() }
    }

    /// The data of the next event of this name.
    async fn next(&mut self, name: &str) -> Value {
        loop {
            while let Some((event, rest)) = self.read.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.read = rest;
                let data = event.strip_prefix(&format!("event: {name}\ndata: "));
                if let Some(data) = data {
                    return serde_json::from_str(data).unwrap();
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk()).await.unwrap().unwrap();
            self.read.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    /// Waits until the ride is in this state.
    async fn state(&mut self, state: &str) -> Value {
        loop {
            let ride = self.next("ride").await;
            if ride["state"] == state {
                return ride;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_do_a_whole_ride() {
    let (databases, server, scratch) = (Databases::postgres(), redis::start(), ScratchDir::new());
    let (store, data) = (databases.fresh(), scratch.file("data"));
    // The key that the processes share.
    let (rider, driver) = (token(&data, "ana", "rider"), token(&data, "dora", "driver"));
    let operator = token(&data, "ona", "operator");
    let api = start("rides-api", &data, &store, &server.url());
    let locations = start("rides-locations", &data, &store, &server.url());
    let matcher = start("rides-matcher", &data, &store, &server.url());

    on_duty(&api, &driver, &operator).await;
    let here = json!({ "lat": 41.1502, "lng": -8.61, "heading": 10 });
    let updated = done(&locations, &driver, "POST", "/drivers/location/update", here).await;
    assert_eq!(updated["updates"], json!([20_000]), "{updated}");

    let wish = json!({ "pickup": { "lat": 41.15, "lng": -8.611 }, "destination": { "lat": 41.17, "lng": -8.60 } });
    let estimate = done(&api, &rider, "POST", "/fare-estimate", wish).await;
    assert!(estimate["estimated_pickup_time"].is_u64(), "the position is known here, too: {estimate}");
    let ride = estimate["ride_id"].as_str().unwrap();
    let mut asked = Events::open(&api, &driver, "/drivers/me/stream").await;
    let mut watched = Events::open(&api, &rider, &format!("/rides/{ride}/stream")).await;
    let requested = done(&api, &rider, "PATCH", "/ride/request", json!({ "ride_id": ride })).await;
    let offered = asked.state("offered").await;
    assert_eq!(offered["ride_id"], ride);
    let answer = json!({ "ride_id": ride, "offer_id": offered["offer"]["offer_id"], "accept": true });
    done(&api, &driver, "PATCH", "/ride/driver/respond", answer).await;
    watched.state("accepted").await;
    // The rider sees the car come, which another process was told.
    let there = json!({ "lat": 41.1501, "lng": -8.6105 });
    let updated = done(&locations, &driver, "POST", "/drivers/location/update", there).await;
    assert_eq!(updated["updates"], json!([10_000]), "busy in every process: {updated}");
    while watched.next("position").await["place"]["lng"] != json!(-8.6105) {}
    let status = |status: &str, code: Value| match code {
        Value::Null => json!({ "ride_id": ride, "status": status }),
        code => json!({ "ride_id": ride, "status": status, "code": code }),
    };
    for (to, code) in
        [("arrived", Value::Null), ("picked_up_rider", requested["code"].clone()), ("completed", Value::Null)]
    {
        done(&api, &driver, "PATCH", "/ride/status", status(to, code)).await;
        watched.state(to).await;
    }
    let updated =
        done(&locations, &driver, "POST", "/drivers/location/update", json!({ "lat": 41.15, "lng": -8.61 })).await;
    assert_eq!(updated["updates"], json!([20_000]), "free in every process: {updated}");

    // Each does its own part only.
    assert_eq!(ask(&locations, &operator, "GET", "/rides", Value::Null).await.0, 404);
    assert_eq!(ask(&matcher, &operator, "GET", "/rides", Value::Null).await.0, 404);
    for part in [&api, &locations, &matcher] {
        assert_eq!(ask(part, "", "GET", "/readyz", Value::Null).await.0, 200);
    }
}

/// Through everything that surrounds the handlers: positions up, events down, and a farewell when the process stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_talks_to_the_binary_over_a_socket() {
    let scratch = ScratchDir::new();
    let data = scratch.file("data");
    let (driver, operator) = (token(&data, "dora", "driver"), token(&data, "ona", "operator"));
    let mut command = tessera_command(tessera());
    command.args(["serve", "rides", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
    let rides = serving(Process::spawn(&mut command));
    on_duty(&rides, &driver, &operator).await;
    let mut request =
        format!("{}/drivers/me/stream", rides.base.replace("http://", "ws://")).into_client_request().unwrap();
    request.headers_mut().insert("authorization", driver.parse().unwrap());
    let (mut socket, _) = connect_async(request).await.unwrap();
    // A clock of positions ticks twenty times a second.
    let at = SystemClock.now().plus(Duration::from_secs(1));
    let position = json!({ "lat": 41.1502, "lng": -8.61, "at": at });
    socket.send(Message::text(position.to_string())).await.unwrap();
    let updated: Value = serde_json::from_str(said(&mut socket).await.to_text().unwrap()).unwrap();
    assert_eq!(updated, json!({ "event": "updated", "data": { "next_update_ms": 20_000, "updates": [20_000] } }));
    rides.process.signal("TERM");
    let Message::Close(Some(farewell)) = said(&mut socket).await else { panic!("no farewell") };
    assert_eq!(farewell.code, CloseCode::Away);
    let finished = rides.process.wait();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(finished.stderr.contains(r#""message":"stopped","in_time":true"#), "{finished:?}");
}

async fn said(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Message {
    tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap()
}

#[test]
fn a_part_without_what_the_parts_share_is_refused() {
    let (scratch, server) = (ScratchDir::new(), redis::start());
    let database = postgres::start();
    let run = |role: &str, settings: &[(&str, &str)]| -> Finished {
        let mut command = tessera_command(tessera());
        command.args(["serve", role, "--listen", "127.0.0.1:0", "--data"]).arg(scratch.file("data"));
        Process::spawn(command.envs(settings.iter().copied())).wait()
    };
    let (store, locations) = (("TESSERA__RIDES__STORE", database.url()), ("TESSERA__RIDES__LOCATIONS", server.url()));
    for role in ["rides-api", "rides-locations", "rides-matcher"] {
        for (settings, setting) in [
            (vec![], "`rides.store`"),
            (vec![("TESSERA__RIDES__STORE", "sqlite:rides.db"), (locations.0, &*locations.1)], "`rides.store`"),
            (vec![(store.0, &*store.1)], "`rides.locations`"),
        ] {
            let finished = run(role, &settings);
            assert_eq!((finished.code(), finished.stderr.lines().count()), (Some(2), 1), "{finished:?}");
            let told = &finished.stderr;
            assert!(told.contains(setting) && told.contains("tessera serve rides"), "{told}");
        }
    }
}

#[test]
fn the_help_of_serve_says_what_each_role_does() {
    let help = Process::tessera(tessera(), ["serve", "--help"]).wait();
    for role in tessera_tessera::roles::served() {
        let line = help.stdout.lines().find(|line| line.contains(&format!(" {}:", role.name)));
        assert!(line.is_some_and(|line| line.contains(role.about.split(' ').next().unwrap())), "{}", help.stdout);
    }
}
