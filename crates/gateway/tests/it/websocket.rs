//! WebSockets on streams of HTTP/2 (RFC 8441): real ones on both ends, and everything that may not become one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tessera_testkit::Browser;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request as Asked, Response as Agreed};
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use crate::support::{Door, Service, TIMEOUT, reply, until};
use crate::tls::{authority, certificate};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A service that says back what it is told, and keeps the heads of the requests that it got.
#[expect(clippy::result_large_err, reason = "the refusal is of the library's type")]
async fn echo() -> (SocketAddr, Arc<Mutex<Vec<HeaderMap>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let seen = heads.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let agree = |asked: &Asked, mut agreed: Agreed| {
                    assert_eq!((asked.method().as_str(), asked.version()), ("GET", Version::HTTP_11));
                    seen.lock().unwrap().push(asked.headers().clone());
                    agreed.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
                    Ok(agreed)
                };
                let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, agree).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_close() || socket.send(message).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, heads)
}

/// A service that says so much to each WebSocket and closes its connection, whatever the other side does.
pub async fn brief(length: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                let _ = socket.send(Message::text("x".repeat(length))).await;
            });
        }
    });
    address
}

/// A client that has heard the settings of its connection.
pub async fn client(door: &Door) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(door.address()).await.unwrap();
    let (mut client, connection) = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let plain = Request::get("http://a.example/plain").body(Empty::new()).unwrap();
    client.send_request(plain).await.unwrap();
    client
}

fn connect(path: &str, protocol: &'static str) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = format!("http://a.example{path}").parse().unwrap();
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    request.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request
}

pub async fn open(client: &mut SendRequest<Empty<Bytes>>, path: &str) -> (Response<()>, Socket) {
    let answer = client.send_request(connect(path, "websocket")).await.unwrap();
    let (head, body) = answer.into_parts();
    let answer = Response::from_parts(head.clone(), ());
    assert_eq!(answer.status(), 200, "{answer:?}");
    let stream = hyper::upgrade::on(Response::from_parts(head, body)).await.unwrap();
    (answer, WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Client, None).await)
}

pub async fn says(socket: &mut Socket, text: &str) -> String {
    socket.send(Message::text(text)).await.unwrap();
    let said = tokio::time::timeout(TIMEOUT, socket.next()).await.expect("an answer");
    said.unwrap().unwrap().into_text().unwrap().to_string()
}

/// The status and the code of a refusal.
async fn refusal(answer: Response<Incoming>) -> (u16, String) {
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    (status, json["code"].as_str().unwrap_or_default().to_owned())
}

fn config(address: SocketAddr, more: &str) -> String {
    format!(
        "upstreams: {{ s: {{ endpoints: [\"http://{address}\"] }} }}\nroutes:\n  - {{ name: plain, match: {{ path: /plain }}, respond: {{ body: plain }} }}\n  - {{ name: ws, match: {{ path: /ws/*, methods: [GET] }}, upstream: s }}\n{more}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_share_a_connection() {
    let (address, heads) = echo().await;
    let door = Door::open(&config(address, "access_log: { file: access.log }\n")).await;
    let mut client = client(&door).await;
    let (answer, mut first) = open(&mut client, "/ws/1").await;
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    for name in ["sec-websocket-accept", "upgrade", "connection", "content-length"] {
        assert!(!answer.headers().contains_key(name), "{name}: {answer:?}");
    }
    let (_, mut second) = open(&mut client, "/ws/2").await;
    let long = "x".repeat(300_000);
    assert_eq!(says(&mut first, "one").await, "one");
    assert_eq!(says(&mut second, "two").await, "two");
    assert_eq!(says(&mut first, &long).await, long);
    // Others go on beside them.
    let plain = Request::get("http://a.example/plain").body(Empty::new()).unwrap();
    assert_eq!(client.send_request(plain).await.unwrap().status(), 200);
    // The service sees what HTTP/1 has for it, with a key of the gateway's own for each.
    let heads = heads.lock().unwrap().clone();
    let keys: Vec<_> = heads.iter().map(|head| head["sec-websocket-key"].clone()).collect();
    assert!(keys.len() == 2 && keys[0] != keys[1], "{keys:?}");
    assert!(heads.iter().all(|head| head["upgrade"] == "websocket" && head["x-forwarded-host"] == "a.example"));
    // When one side ends so does the other.
    first.close(None).await.unwrap();
    while let Some(Ok(message)) = first.next().await {
        assert!(message.is_close(), "{message}");
    }
    drop(first);
    let log = door.folder.path().join("access.log");
    let written = || std::fs::read_to_string(&log).unwrap_or_default();
    until("it is in the log", || written().contains("/ws/1")).await;
    let line: serde_json::Value =
        serde_json::from_str(written().lines().find(|line| line.contains("/ws/1")).unwrap()).unwrap();
    assert_eq!((&line["http.method"], &line["http.version"]), (&"GET".into(), &"HTTP/2.0".into()));
    assert!(line["http.status"] == 200 && line["bytes_out"].as_u64().unwrap() > 300_000, "{line}");
    assert!(!written().contains("/ws/2"), "that one goes on");
    assert_eq!(says(&mut second, "still here").await, "still here");
    drop(second);
    until("it is counted", || door.metrics().contains("route=\"ws\",status=\"2xx\"} 2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_websocket_stays_and_keeps_its_connection() {
    let (address, _) = echo().await;
    let limits = "limits: { head_timeout: 400ms, write_timeout: 400ms, body_timeout: 400ms }\n";
    let door = Door::open(&config(address, limits)).await;
    let mut silent = client(&door).await;
    let (_, mut socket) = open(&mut silent, "/ws/silent").await;
    assert_eq!(says(&mut socket, "one").await, "one");
    // Connections that came later and ask nothing are closed meanwhile, one after the other.
    for _ in 0..2 {
        let idle = client(&door).await;
        until("it is closed", || idle.is_closed()).await;
    }
    assert_eq!(says(&mut socket, "two").await, "two");
    drop(socket);
    until("its connection is closed, too", || silent.is_closed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_ends_when_it_is_silent_for_too_long_and_when_the_gateway_stops() {
    let (address, _) = echo().await;
    let brief = "  - { name: brief, match: { path: /brief }, upstream: s, idle_timeout: 300ms }\n";
    let door = Door::open(&config(address, brief)).await;
    let mut client = client(&door).await;
    let (_, mut socket) = open(&mut client, "/brief").await;
    let ended = |said: Option<Result<Message, _>>| !matches!(said, Some(Ok(_)));
    assert!(ended(tokio::time::timeout(TIMEOUT, socket.next()).await.expect("an end")));
    let (_, mut socket) = open(&mut client, "/ws/long").await;
    assert_eq!(says(&mut socket, "one").await, "one");
    door.gateway.engine.stop().await;
    assert!(ended(tokio::time::timeout(TIMEOUT, socket.next()).await.expect("an end")));
}

/// Hears the end of a WebSocket of which its client closes nothing.
async fn is_ended(door: &Door, mut stream: impl AsyncRead + AsyncWrite + Unpin, counted: &str) {
    let mut said = Vec::new();
    tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut said)).await.expect("an end").unwrap();
    assert!(said.ends_with(b"xxxxx"), "{}", String::from_utf8_lossy(&said));
    until("it is counted", || door.metrics().contains(counted)).await;
    // And what it says now goes nowhere.
    let told = async { while stream.write_all(b"more").await.is_ok() && stream.flush().await.is_ok() {} };
    tokio::time::timeout(TIMEOUT, told).await.expect("it is told so");
}

const ASK: &str = "GET /ws/1 HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_ends_with_its_service_over_http1() {
    let door = Door::open(&config(brief(5).await, "")).await;
    let mut stream = TcpStream::connect(door.address()).await.unwrap();
    stream.write_all(ASK.as_bytes()).await.unwrap();
    is_ended(&door, stream, "route=\"ws\",status=\"1xx\"} 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_ends_with_its_service_over_http2() {
    let door = Door::open(&config(brief(5).await, "")).await;
    let answer = client(&door).await.send_request(connect("/ws/2", "websocket")).await.unwrap();
    let stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    is_ended(&door, stream, "route=\"ws\",status=\"2xx\"} 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_a_connection_for_as_long_as_it_lasts() {
    let (address, _) = echo().await;
    let door = Door::open(&config(address, "limits: { connections_per_ip: 1 }\n")).await;
    let mut stream = TcpStream::connect(door.address()).await.unwrap();
    stream.write_all(ASK.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.unwrap() > 0, "{}", String::from_utf8_lossy(&head));
    }
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    socket.send(Message::text("one")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("one"));
    let plain = "GET /plain HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    assert_eq!(door.raw(plain).await, "", "there is no place for another");
    drop(socket);
    until("its place is free", || door.gateway.engine.shared().connections.count() == 0).await;
    assert!(door.raw(plain).await.ends_with("plain"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_websocket_is_refused() {
    let service = Service::start(|got| match got.uri.as_str() {
        "/ws/not" => reply(200, "hello"),
        "/ws/forbidden" => reply(403, "no"),
        // The key's answer is another's.
        _ => http::Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            .body(Full::default())
            .unwrap(),
    })
    .await;
    let more = r#"  - { name: none, match: { path: /none }, upstream: s, upgrades: false }
  - { name: posts, match: { path: /posts, methods: [POST] }, upstream: s }
  - { name: away, match: { path: /away }, redirect: { to: "https://b.example/", status: 302 } }
  - { name: keys, match: { path: /keys }, upstream: s, access: { by: [keys] } }
  - { name: rare, match: { path: /rare }, upstream: s, upgrades: false, rate_limits: [{ name: rare, rate: 1/h, per: [ip] }] }
auth: { keys: { api_key: { consumers: {} } } }
"#;
    let door = Door::open(&config(service.address, more)).await;
    let mut client = client(&door).await;
    for (path, protocol, status, code) in [
        ("/ws/not", "websocket", 502, "gateway.bad_answer"),
        ("/ws/wrong", "websocket", 502, "gateway.bad_answer"),
        ("/ws/forbidden", "websocket", 403, ""),
        ("/ws/1", "connect-udp", 405, "gateway.method_not_allowed"),
        ("/none", "websocket", 405, "gateway.method_not_allowed"),
        ("/posts", "websocket", 405, "gateway.method_not_allowed"),
        ("/plain", "websocket", 405, "gateway.method_not_allowed"),
        ("/away", "websocket", 302, ""),
        ("/keys", "websocket", 401, "gateway.not_signed_in"),
        ("/nowhere", "websocket", 404, "gateway.no_route"),
        ("/rare", "websocket", 405, "gateway.method_not_allowed"),
        ("/rare", "websocket", 429, "gateway.rate_limited"),
    ] {
        let answer = client.send_request(connect(path, protocol)).await.unwrap();
        assert_eq!(refusal(answer).await, (status, code.to_owned()), "{path} {protocol}");
    }
    let asked: Vec<String> = service.got().into_iter().map(|got| got.uri).collect();
    assert_eq!(asked, ["/ws/not", "/ws/wrong", "/ws/forbidden"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_opens_its_websockets_on_the_connection_it_has() {
    let (address, _) = echo().await;
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path());
    certificate(folder.path(), "a", "a.example");
    let more = "listeners: [{ address: \"127.0.0.1:0\", tls: { certificates: [{ chain: a.pem, key: a.key }] } }]\naccess_log: { file: access.log }\n";
    let door = Door::open_in(folder, &config(address, more)).await;
    let url = format!("https://{}/plain", door.address());
    let said = tokio::task::spawn_blocking(move || {
        let browser = Browser::start();
        browser.open(&url);
        let script = r#"return new Promise((said, failed) => {
            const socket = new WebSocket(`wss://${location.host}/ws/page`, "chat");
            socket.onopen = () => socket.send("hello");
            socket.onmessage = (event) => { socket.close(); said(event.data); };
            socket.onerror = () => failed(new Error("no WebSocket"));
        });"#;
        browser.run(script, &[])
    });
    assert_eq!(said.await.unwrap(), "hello");
    let log = door.folder.path().join("access.log");
    let written = || std::fs::read_to_string(&log).unwrap_or_default();
    until("it is in the log", || written().contains("/ws/page")).await;
    let line = written().lines().find(|line| line.contains("/ws/page")).unwrap().to_owned();
    assert!(line.contains("\"http.version\":\"HTTP/2.0\""), "{line}");
}
