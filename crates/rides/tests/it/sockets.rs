//! Streams over real connections: WebSockets and server-sent events, of a process that did not commit what it tells.

use std::net::SocketAddr;
use std::time::Duration;

use ::http::{HeaderValue, Request};
use axum::body::Body;
use futures::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tessera_kernel::{Clock, SystemClock};
use tessera_rides::app::{App, Asker, StatusChange};
use tessera_rides::config::Config;
use tessera_rides::domain::ride::State;
use tessera_rides::http;
use tessera_rides::jobs::follow;
use tessera_rides::jobs::matcher::Matcher;
use tessera_rides::store::Change;
use tessera_testkit::postgres;
use tessera_testkit::sql::Databases;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::support::{Town, open, place};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long a test waits before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves a process's API, and has it follow what others commit. Both end with the test.
async fn serve(app: &App) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (router, following) = (http::router(app.clone()), app.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    tokio::spawn(follow::run(following, CancellationToken::new()));
    address
}

async fn connect(address: SocketAddr, path: &str, token: &str) -> Socket {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    request.headers_mut().insert("authorization", bearer);
    connect_async(request).await.unwrap().0
}

/// The next frame that is no ping.
async fn next(socket: &mut Socket) -> Message {
    loop {
        let told = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        if !matches!(told, Message::Ping(_) | Message::Pong(_)) {
            return told;
        }
    }
}

/// The next event of this name.
async fn event(socket: &mut Socket, name: &str) -> Value {
    loop {
        let frame: Value = serde_json::from_str(next(socket).await.to_text().unwrap()).unwrap();
        if frame["event"] == name {
            return frame["data"].clone();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_what_another_process_commits() {
    let databases = Databases::postgres();
    let url = databases.fresh();
    let town = Town::live(&url, Config::default()).await;
    let beside = town.beside(&url, Config::default()).await;
    let address = serve(&beside.app).await;
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await;
    let path = format!("/rides/{}/stream", ride.id);
    let mut rider = connect(address, &path, &town.token("ana", "rider")).await;
    let mut asked = connect(address, "/drivers/me/stream", &town.token("dora", "driver")).await;
    let first = event(&mut rider, "ride").await;
    assert_eq!((&first["state"], &first["code"]), (&json!("requested"), &json!(ride.code)));
    let bearer = format!("Bearer {}", town.token("ona", "operator"));
    let sse = Request::get(&path).header("authorization", bearer).body(Body::empty()).unwrap();
    let mut sse = http::router(beside.app.clone()).oneshot(sse).await.unwrap().into_body();

    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    matcher.round().await.unwrap();
    let offered = event(&mut asked, "ride").await;
    let (_, offer) = open(&app.store.ride(ride.id).await.unwrap().unwrap());
    assert_eq!((&offered["state"], &offered["offer"]["offer_id"]), (&json!("offered"), &json!(offer)));
    assert_eq!(event(&mut rider, "ride").await["state"], "offered");
    app.respond(driver, ride.id, offer, true).await.unwrap();
    assert_eq!(event(&mut rider, "ride").await["state"], "accepted");
    app.set_status(driver, ride.id, StatusChange::Arrived).await.unwrap();
    assert_eq!(event(&mut rider, "ride").await["state"], "arrived");
    app.set_status(driver, ride.id, StatusChange::PickedUp(ride.code.clone())).await.unwrap();
    app.set_status(driver, ride.id, StatusChange::Completed).await.unwrap();
    let mut last = Value::Null;
    let end = loop {
        match next(&mut rider).await {
            Message::Close(end) => break end.unwrap(),
            frame => {
                let frame: Value = serde_json::from_str(frame.to_text().unwrap()).unwrap();
                last = frame["data"]["state"].clone();
            }
        }
    };
    assert_eq!((end.code, last), (CloseCode::Normal, json!("completed")), "it is closed when the ride is over");
    let mut told = String::new();
    while let Some(frame) = tokio::time::timeout(PATIENCE, sse.frame()).await.unwrap() {
        told.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
    }
    let states = ["requested", "offered", "accepted", "arrived", "completed"];
    assert!(states.iter().all(|state| told.contains(&format!(r#""state":"{state}""#))), "{told}");
    // The driver heard of the end, too, and the connection stays.
    loop {
        if event(&mut asked, "ride").await["state"] == "completed" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_asked_hears_of_the_end_of_an_offer_although_no_notice_came() {
    let databases = Databases::postgres();
    let url = databases.fresh();
    let town = Town::live(&url, Config::default()).await;
    let beside = town.beside(&url, Config::default()).await;
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await.id;
    let (mut of_ride, mut of_driver) = (beside.app.hub().ride(ride), beside.app.hub().driver(driver));
    Matcher::new(town.app.clone()).round().await.unwrap();
    // It listens to nothing; it looks.
    beside.app.look().await.unwrap();
    let (seen, asked) = (of_ride.recv().await.unwrap(), of_driver.recv().await.unwrap());
    assert_eq!((seen.version, asked.version, asked.bound_driver()), (3, 3, Some(driver)));
    town.app.cancel(&Asker::Rider("ana".into()), ride, String::new(), false).await.unwrap();
    beside.app.look().await.unwrap();
    let (seen, asked) = (of_ride.recv().await.unwrap(), of_driver.recv().await.unwrap());
    assert_eq!((seen.version, asked.version, asked.bound_driver()), (4, 4, None));
    beside.app.look().await.unwrap();
    assert!(of_ride.try_recv().is_err() && of_driver.try_recv().is_err(), "nothing is told twice");
}

/// What a commit tells other processes: a request wakes their matchers, and who was asked is told of the end of an offer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_comes_with_each_commit() {
    let databases = Databases::postgres();
    let url = databases.fresh();
    let town = Town::live(&url, Config::default()).await;
    let beside = town.beside(&url, Config::default()).await;
    let mut notices = beside.app.store.notices().await.unwrap().unwrap();
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await.id;
    let mut next = async || {
        let heard = tokio::time::timeout(PATIENCE, notices.next()).await.unwrap().unwrap();
        heard.unwrap()
    };
    let change = |version, wakes, drivers| vec![Change { ride, version, wakes, drivers }];
    assert_eq!(next().await, change(2, true, vec![]));
    Matcher::new(town.app.clone()).round().await.unwrap();
    assert_eq!(next().await, change(3, false, vec![driver]));
    let (_, offer) = open(&town.app.store.ride(ride).await.unwrap().unwrap());
    town.app.respond(driver, ride, offer, false).await.unwrap();
    assert_eq!(next().await, change(4, true, vec![driver]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_hears_on_after_the_database_was_killed() {
    let mut server = postgres::start();
    let url = server.new_database();
    let town = Town::live(&url, Config::default()).await;
    let beside = town.beside(&url, Config::default()).await;
    let address = serve(&beside.app).await;
    let ride = town.request("ana", place(0.0, 0.0)).await.id;
    let mut rider = connect(address, &format!("/rides/{ride}/stream"), &town.token("ana", "rider")).await;
    assert_eq!(event(&mut rider, "ride").await["state"], "requested");
    server.kill_and_restart();
    let cancelling = async {
        let rider = Asker::Rider("ana".into());
        while town.app.cancel(&rider, ride, String::new(), false).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, cancelling).await.unwrap();
    assert_eq!(event(&mut rider, "ride").await["state"], "cancelled");
    assert!(matches!(next(&mut rider).await, Message::Close(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_s_positions_come_up_the_socket() {
    let databases = Databases::sqlite();
    let town = Town::live(&databases.fresh(), Config::default()).await;
    let address = serve(&town.app).await;
    let driver = town.driver("dora", place(0.0, 0.0)).await;
    let mut socket = connect(address, "/drivers/me/stream", &town.token("dora", "driver")).await;
    let send = async |socket: &mut Socket, message: Message| socket.send(message).await.unwrap();
    let now = SystemClock.now();
    let at = |seconds| now.plus(Duration::from_secs(seconds));
    let json_at = |seconds| Message::text(json!({ "lat": 41.1501, "lng": -8.61, "at": at(seconds) }).to_string());
    send(&mut socket, json_at(1)).await;
    assert_eq!(event(&mut socket, "updated").await, json!({ "next_update_ms": 20_000, "updates": [20_000] }));
    send(&mut socket, json_at(1)).await;
    assert_eq!(event(&mut socket, "updated").await, json!({ "next_update_ms": null, "updates": ["stale"] }));
    // The compact form.
    let compact = |id: &[u8], seconds| {
        let mut body = vec![1];
        body.extend(id);
        body.extend(411_502_000_i32.to_le_bytes());
        body.extend((-86_100_000_i32).to_le_bytes());
        body.extend(90_u16.to_le_bytes());
        body.extend(((at(seconds).micros() / 1_000) as u64).to_le_bytes());
        Message::binary(body)
    };
    send(&mut socket, compact(driver.uuid().as_bytes(), 2)).await;
    assert_eq!(event(&mut socket, "updated").await["updates"], json!([20_000]));
    assert_eq!(town.app.locations.get(driver).await.unwrap().unwrap().heading, Some(90));
    send(&mut socket, compact(&[7; 16], 3)).await;
    assert_eq!(event(&mut socket, "refused").await["code"], "rides.forbidden");
    for bad in [Message::text("{"), Message::text("[]"), Message::binary(vec![2])] {
        send(&mut socket, bad).await;
        assert_eq!(event(&mut socket, "refused").await["code"], "rides.bad_request");
    }
    // Offers come down the same one.
    let ride = town.request("ana", place(0.0, 0.0)).await;
    Matcher::new(town.app.clone()).round().await.unwrap();
    assert_eq!(event(&mut socket, "ride").await["offer"]["driver"], json!(driver));
    // Riders have no positions to send, and an over-long message ends the connection.
    let path = format!("/rides/{}/stream", ride.id);
    let mut rider = connect(address, &path, &town.token("ana", "rider")).await;
    send(&mut rider, json_at(4)).await;
    assert_eq!(event(&mut rider, "refused").await["code"], "service.wrong_role");
    send(&mut rider, Message::text(" ".repeat(100_000))).await;
    let ended = tokio::time::timeout(PATIENCE, async {
        while let Some(Ok(frame)) = rider.next().await {
            if frame.is_close() {
                break;
            }
        }
    });
    ended.await.unwrap();
    // What somebody else's is, is not there.
    let foreign = format!("ws://{address}{path}").into_client_request();
    let mut foreign = foreign.unwrap();
    let bearer = HeaderValue::from_str(&format!("Bearer {}", town.token("eve", "rider"))).unwrap();
    foreign.headers_mut().insert("authorization", bearer);
    assert!(connect_async(foreign).await.unwrap_err().to_string().contains("404"));
}

/// Changes come faster than a client takes them: it is told the newest, and that it missed some.
#[tokio::test]
async fn a_slow_reader_is_told_to_read_anew() {
    const CHANGES: u32 = 300;
    let databases = Databases::sqlite();
    let town = Town::live(&databases.fresh(), Config::default()).await;
    let address = serve(&town.app).await;
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let mut ride = town.request("ana", place(0.0, 0.0)).await;
    let path = format!("/rides/{}/stream", ride.id);
    let mut rider = connect(address, &path, &town.token("ana", "rider")).await;
    let mut asked = connect(address, "/drivers/me/stream", &town.token("dora", "driver")).await;
    event(&mut rider, "ride").await;
    // Nobody else runs in between, as there is one thread.
    for _ in 0..CHANGES {
        ride.version += 1;
        town.app.hub().tell(&ride, &[driver]);
    }
    let newest = json!(ride.version);
    assert_eq!(event(&mut asked, "reset").await, json!({}));
    while event(&mut asked, "ride").await["version"] != newest {}
    let mut told = 0;
    loop {
        told += 1;
        if event(&mut rider, "ride").await["version"] == newest {
            break;
        }
    }
    assert!(told < CHANGES, "what was missed is not told");
}

/// By a clock that runs ahead as soon as everybody waits.
#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let databases = Databases::sqlite();
    let town = Town::live(&databases.fresh(), Config::default()).await;
    let address = serve(&town.app).await;
    town.driver("dora", place(0.0, 0.001)).await;
    let mut talking = connect(address, "/drivers/me/stream", &town.token("dora", "driver")).await;
    let silent = connect(address, "/drivers/me/stream", &town.token("ona", "driver")).await;
    let watched = || town.app.hub().concerns().ids.len();
    while watched() < 2 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    while watched() > 1 {
        // Who reads answers the pings.
        let heard = tokio::time::timeout(Duration::from_secs(1), talking.next()).await;
        assert!(!matches!(heard, Ok(None | Some(Err(_)))), "it talks: {heard:?}");
        assert!(began.elapsed() < Duration::from_secs(600), "the silent one is there still");
    }
    drop(silent);
    talking.send(Message::Ping(Default::default())).await.unwrap();
    assert!(matches!(talking.next().await, Some(Ok(Message::Ping(_) | Message::Pong(_)))));
}

/// Who said no, or gave the ride back, learns nothing of the driver who came after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_right_to_it() {
    let databases = Databases::postgres();
    let url = databases.fresh();
    let town = Town::live(&url, Config::default()).await;
    let beside = town.beside(&url, Config::default()).await;
    let (address, app, mut matcher) = (serve(&town.app).await, &town.app, Matcher::new(town.app.clone()));
    let driver = town.driver("dora", place(0.0, 0.001)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await.id;
    matcher.round().await.unwrap();
    let (_, offer) = open(&app.store.ride(ride).await.unwrap().unwrap());
    let mut of_driver = beside.app.hub().driver(driver);
    beside.app.look().await.unwrap();
    assert_eq!(of_driver.recv().await.unwrap().version, 3);
    let path = format!("/rides/{ride}/stream");
    let mut watching = connect(address, &path, &town.token("dora", "driver")).await;
    assert_eq!(event(&mut watching, "ride").await["state"], "offered");
    app.respond(driver, ride, offer, false).await.unwrap();
    assert_eq!(event(&mut watching, "ride").await["state"], "requested");
    assert!(matches!(next(&mut watching).await, Message::Close(_)));

    beside.app.look().await.unwrap();
    assert_eq!(of_driver.recv().await.unwrap().bound_driver(), None, "that it is over is told");
    let other = town.driver("eve", place(0.0, 0.002)).await;
    matcher.round().await.unwrap();
    let (asked, offer) = open(&app.store.ride(ride).await.unwrap().unwrap());
    assert_eq!(asked, other);
    app.respond(other, ride, offer, true).await.unwrap();
    beside.app.look().await.unwrap();
    assert!(of_driver.try_recv().is_err(), "what comes after is another's");

    // A token that ends takes its streams with it.
    let token = app.keys().sign_token("ana", &["rider".to_owned()], Duration::from_secs(5)).unwrap();
    let mut short = connect(address, &path, &token).await;
    let request = Request::get(&path).header("authorization", format!("Bearer {token}")).body(Body::empty()).unwrap();
    let mut body = http::router(app.clone()).oneshot(request).await.unwrap().into_body();
    let closed = async {
        loop {
            if let Message::Close(end) = next(&mut short).await {
                break end.unwrap();
            }
        }
    };
    let ended = async {
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
    };
    let (end, ended) = tokio::join!(closed, tokio::time::timeout(PATIENCE, ended));
    assert_eq!(end.code, CloseCode::Policy);
    ended.expect("the stream ends");
}

/// A driver may ride, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_drives_and_rides_sees_both() {
    let databases = Databases::sqlite();
    let town = Town::live(&databases.fresh(), Config::default()).await;
    let ride = town.request("dora", place(0.0, 0.0)).await.id;
    let both = ["rider".to_owned(), "driver".to_owned()];
    let token = format!("Bearer {}", town.app.keys().sign_token("dora", &both, Duration::from_secs(60)).unwrap());
    let ask = |method: &str, path: String, body: String| {
        let request = Request::builder().method(method).uri(path).header("authorization", &token);
        let request = request.header("content-type", "application/json").body(Body::from(body)).unwrap();
        http::router(town.app.clone()).oneshot(request)
    };
    assert_eq!(ask("GET", format!("/rides/{ride}"), String::new()).await.unwrap().status(), 200);
    let cancelled = ask("POST", "/ride/cancel".into(), format!(r#"{{"ride_id":"{ride}"}}"#)).await.unwrap();
    assert_eq!(cancelled.status(), 200);
    assert_eq!(town.app.store.ride(ride).await.unwrap().unwrap().state, State::Cancelled);
}

/// A browser cannot set a header: the token comes as a protocol that it asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_says_who_it_is_by_a_protocol() {
    let databases = Databases::sqlite();
    let town = Town::live(&databases.fresh(), Config::default()).await;
    let address = serve(&town.app).await;
    town.driver("dora", place(0.0, 0.001)).await;
    let ride = town.request("ana", place(0.0, 0.0)).await;
    let connect = async |path: &str, protocols: &str| {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_str(protocols).unwrap());
        connect_async(request).await
    };
    let (rider, driver) = (town.token("ana", "rider"), town.token("dora", "driver"));
    let path = format!("/rides/{}/stream", ride.id);
    for (path, token) in [(path.as_str(), &rider), ("/drivers/me/stream", &driver)] {
        for protocols in [format!("tessera, bearer.{token}"), format!("bearer.{token},tessera")] {
            let (mut socket, answer) = connect(path, &protocols).await.unwrap();
            assert_eq!(answer.headers()["sec-websocket-protocol"], "tessera", "the token is not sent back");
            if path.starts_with("/rides") {
                assert_eq!(event(&mut socket, "ride").await["code"], json!(ride.code));
            } else {
                socket.send(Message::text(r#"{"lat":41.15,"lng":-8.609}"#)).await.unwrap();
                event(&mut socket, "updated").await;
            }
        }
    }
    let stranger = town.token("bob", "rider");
    for (protocols, status) in [
        ("tessera".to_owned(), 401),
        ("tessera, bearer.nobody".to_owned(), 401),
        (format!("tessera, bearer.{stranger}"), 404),
    ] {
        let refused = connect(&path, &protocols).await.unwrap_err();
        let tokio_tungstenite::tungstenite::Error::Http(answer) = refused else { panic!("{refused}") };
        assert_eq!(answer.status().as_u16(), status, "{protocols}");
    }
    // Elsewhere it says nothing.
    let plain = Request::get(&path).header("sec-websocket-protocol", format!("tessera, bearer.{rider}"));
    let answer = http::router(town.app.clone()).oneshot(plain.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status().as_u16(), 401);
}
