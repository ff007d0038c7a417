//! Seats as they change, to who watches at another process: server-sent events and WebSockets, and going on where one was.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tessera_kernel::SystemClock;
use tessera_testkit::sql::Databases;
use tessera_tickets::http;
use tessera_tickets::jobs::seats;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

use crate::house::House;

/// How long a test waits before it fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than any feed of a test has.
const FAR_AHEAD: i64 = 1_000_000;

/// Serves a process's API and runs what keeps its watchers up. All of it ends with the test.
async fn serve(house: &House) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (router, wake) = (http::router(house.app.clone()), seats::Wake::default());
    tokio::spawn(async move { axum::serve(listener, router).await });
    tokio::spawn(seats::pulse(house.app.clone(), CancellationToken::new()));
    tokio::spawn(seats::listen(house.app.store.clone(), wake.clone(), CancellationToken::new()));
    tokio::spawn(seats::follow(house.app.clone(), wake, CancellationToken::new()));
    address
}

/// What somebody is told: by name, and as JSON.
enum Watcher {
    Events(Box<reqwest::Response>, String),
    Socket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
}

impl Watcher {
    async fn events(address: SocketAddr, path: &str, last: Option<i64>) -> Self {
        let request = tessera_service::client::build().unwrap().get(format!("http://{address}{path}"));
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        let response = request.send().await.unwrap().error_for_status().unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self::Events(Box::new(response), String::new())
    }

    async fn socket(address: SocketAddr, path: &str, last: Option<i64>) -> Self {
        let since = last.map_or_else(String::new, |last| format!("?since={last}"));
        let (socket, _) = connect_async(format!("ws://{address}{path}{since}")).await.unwrap();
        Self::Socket(Box::new(socket))
    }

    async fn next(&mut self) -> Value {
        tokio::time::timeout(PATIENCE, self.told()).await.unwrap()
    }

    async fn told(&mut self) -> Value {
        match self {
            Self::Events(response, text) => loop {
                if let Some(end) = text.find("\n\n") {
                    let block: String = text.drain(..end + 2).collect();
                    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                    match field("event:") {
                        Some("reset") => return json!({ "reset": true }),
                        Some("seats") => {
                            let told: Value = serde_json::from_str(field("data:").unwrap()).unwrap();
                            assert_eq!(field("id:").unwrap(), told["seq"].to_string(), "{block}");
                            return told;
                        }
                        // How soon to connect again, and signs of life.
                        _ => continue,
                    }
                }
                text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
            },
            Self::Socket(socket) => loop {
                let message = socket.next().await.unwrap().unwrap();
                if message.is_text() {
                    return serde_json::from_str(message.to_text().unwrap()).unwrap();
                }
            },
        }
    }

    /// Listens until these seats are as said; how all seats are that it was told of by then, and the last number.
    async fn until(&mut self, wanted: &[(u64, &str)]) -> (HashMap<u64, &'static str>, i64) {
        let mut seen: HashMap<u64, &'static str> = HashMap::new();
        let mut last = i64::MIN;
        loop {
            let told = self.next().await;
            let seq = told["seq"].as_i64().unwrap();
            assert!(seq >= last, "{last} and then {told}");
            last = seq;
            for state in ["free", "held", "booked"] {
                for seat in told[state].as_array().unwrap() {
                    seen.insert(seat.as_u64().or_else(|| seat[0].as_u64()).unwrap(), state);
                }
            }
            if wanted.iter().all(|(seat, state)| seen.get(seat) == Some(state)) {
                return (seen, last);
            }
        }
    }
}

async fn who_watches_is_told_and_goes_on_where_he_was(databases: &Databases) {
    let here = House::open(databases).await;
    let there = House::beside(here.url.clone(), here.event, here.keys.clone(), Arc::new(SystemClock)).await;
    let address = serve(&there).await;
    let path = format!("/event/{}/seats/stream", here.event);
    let (mut events, mut socket) =
        (Watcher::events(address, &path, None).await, Watcher::socket(address, &path, None).await);
    here.hold("ana", &[0, 1]).await;
    let (_, last) = events.until(&[(0, "held"), (1, "held")]).await;
    socket.until(&[(0, "held"), (1, "held")]).await;

    // Away, while one seat is sold and another is given back.
    drop((events, socket));
    here.buy("bob", &[5]).await;
    let hold = here.hold("cid", &[7]).await;
    here.done("/booking/release", "fan cid", json!({ "hold_id": hold })).await;
    let missed = [(5, "booked"), (7, "free")];
    let mut events = Watcher::events(address, &path, Some(last)).await;
    let (seen, now) = events.until(&missed).await;
    assert!(now > last && !seen.contains_key(&0), "{last}, {now}, {seen:?}");
    let mut socket = Watcher::socket(address, &path, Some(last)).await;
    let (seen, _) = socket.until(&missed).await;
    assert!(!seen.contains_key(&0), "{seen:?}");
    here.hold("dan", &[9]).await;
    events.until(&[(9, "held")]).await;
    socket.until(&[(9, "held")]).await;

    // What nobody needs to say is not kept in memory.
    let Watcher::Socket(mut talker) = Watcher::socket(address, &path, None).await else { panic!("it is a socket") };
    let _ = talker.send(Message::binary(vec![0; 8 << 20])).await;
    let told = async { while talker.next().await.is_some_and(|told| told.is_ok_and(|told| !told.is_close())) {} };
    tokio::time::timeout(PATIENCE, told).await.unwrap();

    // Nobody can go on from where nobody was.
    let reset = json!({ "reset": true });
    assert_eq!(Watcher::events(address, &path, Some(FAR_AHEAD)).await.next().await, reset);
    assert_eq!(Watcher::socket(address, &path, Some(FAR_AHEAD)).await.next().await, reset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    who_watches_is_told_and_goes_on_where_he_was(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    who_watches_is_told_and_goes_on_where_he_was(&Databases::postgres()).await;
}
