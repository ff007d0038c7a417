//! A process of made-up components, over real sockets.

use axum::routing::{get, post};
use serde_json::{Value, json};
use tessera_kernel::{ErrorKind, FixedIds, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::http::{Quick, QuickAnswer};
use crate::{ProductError, Ready};

async fn plan(components: Vec<Component>) -> Plan {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Plan {
        listener: bind("127.0.0.1:0").await.unwrap(),
        roles: vec![Role { name: "shop", components }],
        http: Config { drain_deadline_s: 5, stop_deadline_s: 5, ..Config::default() },
        metrics: Metrics::new(clock.clone()),
        clock,
        ids: Arc::new(FixedIds::default()),
        front: None,
        sockets: crate::sockets::Sockets::default(),
        inside: Inside::default(),
    }
}

async fn fetch(running: &Running, path: &str) -> (u16, Value) {
    let answer = reqwest::get(format!("http://{}{path}", running.address())).await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[test]
fn an_address_for_everyone_is_called_on_this_machine() {
    for (listened, called) in
        [("0.0.0.0:8080", "127.0.0.1:8080"), ("[::]:8080", "[::1]:8080"), ("192.0.2.7:80", "192.0.2.7:80")]
    {
        assert_eq!(crate::component::reachable(listened.parse().unwrap()), called.parse().unwrap());
    }
}

#[tokio::test]
async fn a_process_tells_what_runs_and_whether_it_is_ready() {
    let (flag, ready) = Ready::flag("reading the catalogue");
    let openapi = json!({ "paths": { "/shop": {} }, "components": { "schemas": { "Shop": {} } } });
    let router = Router::new().route("/shop", get(async || "open"));
    let shop = Component::new("counter", "/shop").router(router).ready(ready).openapi(openapi);
    let running = start(plan(vec![shop]).await).unwrap();
    let base = format!("http://{}", running.address());

    assert_eq!(fetch(&running, "/healthz").await, (200, json!({ "status": "ok" })));
    let waiting = json!({ "ready": false, "waiting_for": { "counter": "reading the catalogue" } });
    assert_eq!(fetch(&running, "/readyz").await, (503, waiting));
    flag.set();
    assert_eq!(fetch(&running, "/readyz").await, (200, json!({ "ready": true, "waiting_for": {} })));
    let (_, components) = fetch(&running, "/components").await;
    let expected = json!([{
        "name": "counter", "role": "shop", "address": format!("{base}/shop"), "ready": true, "detail": null,
    }]);
    assert_eq!(components["components"], expected);
    assert_eq!(components["version"], crate::VERSION);
    let (_, openapi) = fetch(&running, "/openapi.json").await;
    assert_eq!(openapi["paths"], json!({ "/shop": {} }));
    assert!(fetch(&running, "/metrics").await.1.as_str().unwrap().contains("tessera_http_requests_total"));
    assert!(running.address_table().contains(&format!("shop     {base}/shop")), "{}", running.address_table());
    assert!(running.stop().await);
}

#[tokio::test]
async fn what_components_say_of_themselves_stays_apart_in_one_document() {
    let said = |path: &str, kind: &str| {
        let item = json!({ "schema": { "$ref": "#/components/schemas/Item" } });
        json!({
            "paths": { path: { "get": { "responses": { "200": { "content": { "application/json": item } } } } } },
            "components": { "schemas": { "Item": { "type": kind } } },
        })
    };
    let component = |name, path, kind| Component::new(name, path).openapi(said(path, kind));
    let running =
        start(plan(vec![component("numbers", "/one", "integer"), component("words", "/two", "string")]).await).unwrap();
    let (_, openapi) = fetch(&running, "/openapi.json").await;
    for (path, kind) in [("/one", "integer"), ("/two", "string")] {
        let answers = &openapi["paths"][path]["get"]["responses"];
        let schema = |answer: &str, kind: &str| {
            let place = answers[answer]["content"][kind]["schema"]["$ref"].as_str().unwrap();
            openapi.pointer(place.trim_start_matches('#')).unwrap()
        };
        assert_eq!(schema("200", "application/json"), &json!({ "type": kind }));
        // Each may refuse what does not fit, and says so in one form.
        assert_eq!(schema("default", "application/problem+json")["required"][3], "code");
    }
    assert!(running.stop().await);
}

#[tokio::test]
async fn what_is_in_memory_is_answered_at_once() {
    use axum::response::IntoResponse;
    let router = Router::new().route("/shop/{id}", get(async || "asked"));
    let quick = Quick::new(|request| {
        let known = request.method == http::Method::GET && request.uri.path() == "/shop/1";
        known.then(|| QuickAnswer { route: "/shop/{id}", response: "remembered".into_response() })
    });
    let running = start(plan(vec![Component::new("counter", "/shop").router(router).quick(quick)]).await).unwrap();
    let address = running.address();
    for (path, text) in [("/shop/1", "remembered"), ("/shop/2", "asked")] {
        let request =
            crate::client::build().unwrap().get(format!("http://{address}{path}")).header("x-request-id", "walk-7");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["x-request-id"], "walk-7");
        assert_eq!(answer.text().await.unwrap(), text);
    }
    let answer = reqwest::get(format!("http://{address}/shop/1")).await.unwrap();
    assert!(answer.headers()["x-request-id"].to_str().unwrap().starts_with("req_"));
    let (_, metrics) = fetch(&running, "/metrics").await;
    let counted = r#"tessera_http_requests_total{method="GET",route="/shop/{id}",status="200"} 3"#;
    assert!(metrics.as_str().unwrap().contains(counted), "{metrics}");
    assert!(running.stop().await);
}

/// A process that refuses bodies unread at `/refused`, and says how long they are at `/read`.
async fn refusing() -> Running {
    let router = Router::new()
        .route("/refused", post(async || http::StatusCode::UNAUTHORIZED))
        .route("/read", post(async |body: axum::body::Bytes| body.len().to_string()));
    start(plan(vec![Component::new("counter", "/").router(router)]).await).unwrap()
}

/// The head of an answer and the body that it announces.
async fn read_answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                return text.into_owned();
            }
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "it ended after {bytes:?}");
    }
}

#[tokio::test]
async fn a_body_that_comes_after_the_refusal_does_not_end_the_connection() {
    let running = refusing().await;
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    for length in [10, 4_096, 100_000, 1 << 20] {
        let head = format!("POST /refused HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // It is refused before any of its body is there.
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
        stream.write_all(&vec![b'x'; length]).await.unwrap();
        stream.write_all(b"POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n3"), "{answer}");
    }
    let chunked = b"POST /refused HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(chunked).await.unwrap();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 401 "));
    stream
        .write_all(b"3\r\nabc\r\n0\r\n\r\nPOST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200 "));
    drop(stream);
    assert!(running.stop().await);
}

#[tokio::test]
async fn the_refusal_of_a_long_body_is_heard_by_who_sends_first_and_reads_then() {
    let running = refusing().await;
    for head in [
        "content-length: 8388608\r\n\r\n".to_owned(),
        format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", 8 << 20),
        "content-length: 8388608\r\nexpect: 100-continue\r\n\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(running.address()).await.unwrap();
        stream.write_all(format!("POST /refused HTTP/1.1\r\nhost: a\r\n{head}").as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; 8 << 20]).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert_eq!(answer.contains("connection: close"), head.contains("length"), "{answer}");
        // It ends, although more was to come.
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
    }
    assert!(running.stop().await);
}

#[tokio::test]
async fn stopping_lets_requests_finish_and_then_loops() {
    let (arrived, wait_arrived) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let once = Arc::new(std::sync::Mutex::new(Some((arrived, released))));
    let slow = Router::new().route(
        "/slow",
        get(move || {
            let once = once.lock().unwrap().take();
            async move {
                let (arrived, released) = once.unwrap();
                arrived.send(()).unwrap();
                released.await.unwrap();
                "done"
            }
        }),
    );
    let (ended, wait_ended) = oneshot::channel();
    let task = Task::new("sweep", async move |token: CancellationToken| {
        token.cancelled().await;
        ended.send(()).map_err(|()| "nobody waits".to_owned())
    });
    let running = start(plan(vec![Component::new("counter", "/").router(slow).task(task)]).await).unwrap();
    let address = running.address();
    let request = tokio::spawn(async move { reqwest::get(format!("http://{address}/slow")).await });
    wait_arrived.await.unwrap();
    let stopping = tokio::spawn(running.stop());
    // The listener closes before the request that is under way ends.
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    assert_eq!(request.await.unwrap().unwrap().text().await.unwrap(), "done");
    assert!(stopping.await.unwrap());
    wait_ended.await.unwrap();
}

#[tokio::test]
async fn connections_without_a_request_do_not_hold_up_the_stop() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut plan = plan(vec![Component::new("counter", "/")]).await;
    plan.http.drain_deadline_s = 3600;
    let running = start(plan).unwrap();
    let connect = async || tokio::net::TcpStream::connect(running.address()).await.unwrap();
    let (mut silent, mut half, mut kept) = (connect().await, connect().await, connect().await);
    half.write_all(b"GET /hea").await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    let mut answer = [0; 4096];
    assert!(kept.read(&mut answer).await.unwrap() > 0);
    assert!(running.stop().await);
    for stream in [&mut silent, &mut half, &mut kept] {
        assert!(matches!(stream.read(&mut answer).await, Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn a_loop_that_ends_makes_its_component_unready() {
    let task = Task::new("sweep", async |_| Err("the broom broke".to_owned()));
    let running = start(plan(vec![Component::new("counter", "/").task(task)]).await).unwrap();
    let waiting = loop {
        let (status, body) = fetch(&running, "/readyz").await;
        if status == 503 {
            break body;
        }
    };
    assert!(waiting["waiting_for"]["counter"].as_str().unwrap().contains("`sweep` has ended"), "{waiting}");
    running.stop().await;
}

#[tokio::test]
async fn a_loop_that_does_not_listen_is_cut_off() {
    let task = Task::new("deaf", async |_| std::future::pending().await);
    let mut plan = plan(vec![Component::new("counter", "/").task(task)]).await;
    plan.http.stop_deadline_s = 0;
    assert!(!start(plan).unwrap().stop().await);
}

#[tokio::test]
async fn a_taken_port_names_the_setting() {
    let taken = bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = bind(&address).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "service.port_taken"));
    assert!(error.to_string().starts_with(&format!("setting `http.listen`: {address} is taken")), "{error}");
    let error = bind("nowhere").await.unwrap_err().to_string();
    assert!(error.contains("cannot listen on `nowhere`"), "{error}");
}

#[test]
fn a_folder_is_made_or_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let deep = scratch.path().join("a/b");
    check_folder("store.data_dir", "--data", &deep).unwrap();
    assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);
    std::fs::write(scratch.path().join("file"), b"").unwrap();
    let error = check_folder("store.data_dir", "--data", &scratch.path().join("file/x")).unwrap_err().to_string();
    assert!(error.contains("store.data_dir") && error.contains("file/x") && error.contains("--data"), "{error}");
}
