//! HTTP/3 from a client of its own, over datagrams on this machine.

use std::future::poll_fn;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use http::{HeaderMap, Method, Request, Response};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::{Door, Service, TIMEOUT, blunt, reply, until};
use crate::tls::{authority, certificate};

const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(0x10c);
const LISTENER: &str = "listeners:\n  - { address: \"127.0.0.1:0\", http3: true, tls: { certificates: [{ chain: a.pem, key: a.key }] } }\naccess_log: { file: access.log }\n";

/// A gateway that speaks HTTP/3 as `a.example`, with these routes and whatever else.
async fn door(config: &str) -> Door {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path());
    certificate(folder.path(), "a", "a.example");
    open(folder, config).await
}

async fn open(folder: TempDir, config: &str) -> Door {
    Door::open_in(folder, &format!("{LISTENER}{config}")).await
}

fn to(url: &str, more: &str) -> String {
    format!(
        "upstreams: {{ s: {{ endpoints: [\"{url}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s{more} }}]\n"
    )
}

/// The lines of the access log that have this in them.
fn logged(door: &Door, text: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(door.folder.path().join("access.log")).unwrap_or_default();
    log.lines().filter(|line| line.contains(text)).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An answer to one who comes over TCP.
async fn over_tcp(door: &Door, host: &str) -> reqwest::Response {
    let authority = std::fs::read(door.folder.path().join("ca.pem")).unwrap();
    let client = tessera_service::client::builder()
        .add_root_certificate(reqwest::Certificate::from_pem(&authority).unwrap())
        .resolve(host, door.address())
        .build()
        .unwrap();
    client.get(format!("https://{host}:{}/", door.address().port())).send().await.unwrap()
}

type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// A connection.
struct Client {
    endpoint: Endpoint,
    connection: Connection,
    requests: SendRequest<h3_quinn::OpenStreams, Bytes>,
}

struct Answer {
    head: Response<()>,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    fn header(&self, name: &str) -> &str {
        self.head.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn code(&self) -> String {
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()));
        problem["code"].as_str().unwrap().to_owned()
    }
}

/// What a client connects with: the test's authority, and its own certificate where it has one.
fn settings(folder: &Path, own: Option<&str>, transport: TransportConfig) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in tessera_gateway::tls::read_chain(&folder.join("ca.pem")).unwrap() {
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(tessera_gateway::tls::provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().with_root_certificates(roots);
    let mut config = match own {
        None => config.with_no_client_auth(),
        Some(own) => {
            let chain = vec![CertificateDer::from_pem_file(folder.join(format!("{own}.pem"))).unwrap()];
            let key = PrivateKeyDer::from_pem_file(folder.join(format!("{own}.key"))).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h3".to_vec()];
    config.enable_early_data = true;
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    config.transport_config(Arc::new(transport));
    config
}

impl Client {
    async fn connect(door: &Door) -> Self {
        Self::connect_with(door, "a.example", settings(door.folder.path(), None, TransportConfig::default()))
            .await
            .unwrap()
    }

    async fn connect_with(door: &Door, name: &str, settings: ClientConfig) -> Result<Self, quinn::ConnectionError> {
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connecting = endpoint.connect_with(settings, door.address(), name).unwrap();
        let connection = timeout(TIMEOUT, connecting).await.expect("a connection or none")?;
        let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(connection.clone())).await.unwrap();
        tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
        Ok(Self { endpoint, connection, requests })
    }

    async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)]) -> Stream {
        let mut request = Request::builder().method(method).uri(format!("https://a.example{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.requests.send_request(request.body(()).unwrap()).await.unwrap()
    }

    async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut stream = self.send(Method::GET, path, headers).await;
        stream.finish().await.unwrap();
        read(stream).await.unwrap()
    }
}

async fn read(mut stream: Stream) -> Result<Answer, h3::error::StreamError> {
    let reading = async {
        let head = stream.recv_response().await?;
        let mut body = Vec::new();
        while let Some(mut data) = stream.recv_data().await? {
            body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
        Ok(Answer { head, body, trailers: stream.recv_trailers().await? })
    };
    timeout(TIMEOUT, reading).await.expect("an answer or none")
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_answers_pass() {
    let service = Service::start(|got| match got.uri.as_str() {
        "/large" => reply(200, &"x".repeat(8 << 20)),
        _ => reply(200, &format!("{} {} {}", got.method, got.uri, got.body.len())),
    })
    .await;
    let door = door(&to(&service.url(), "")).await;
    // Those who come over TCP are told.
    let told = over_tcp(&door, "a.example").await;
    assert_eq!(told.headers()["alt-svc"], format!("h3=\":{}\"; ma=86400", door.address().port()));

    let mut client = Client::connect(&door).await;
    let answer = client.get("/things?a=b", &[("x-request-id", "r-7")]).await;
    assert_eq!((answer.status(), answer.text()), (200, "GET /things?a=b 0"));
    assert_eq!((answer.header("x-request-id"), answer.header("alt-svc")), ("r-7", ""));
    assert!(answer.header("date").ends_with("GMT") && answer.header("content-length") == "17", "{:?}", answer.head);
    let got = service.last();
    assert_eq!((got.header("x-forwarded-proto"), got.header("x-forwarded-for")), ("https", "127.0.0.1"));
    assert_eq!((got.header("content-length"), got.header("transfer-encoding")), ("", ""), "it has no body");

    // With a length and without one.
    for headers in [&[("content-length", "200000")][..], &[]] {
        let mut stream = client.send(Method::POST, "/things", headers).await;
        for _ in 0..20 {
            stream.send_data(Bytes::from(vec![b'y'; 10_000])).await.unwrap();
        }
        stream.finish().await.unwrap();
        assert_eq!(read(stream).await.unwrap().text(), "POST /things 200000");
    }
    // Trailers of a request are its end, and go no further.
    let mut stream = client.send(Method::POST, "/things", &[]).await;
    stream.send_data(Bytes::from_static(b"hello")).await.unwrap();
    stream.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())])).await.unwrap();
    stream.finish().await.unwrap();
    assert_eq!(read(stream).await.unwrap().text(), "POST /things 5");
    assert!(service.last().trailers.is_empty());
    let mut many = Vec::new();
    for at in 0..50 {
        let mut stream = client.send(Method::GET, &format!("/{at}"), &[]).await;
        stream.finish().await.unwrap();
        many.push(stream);
    }
    for (at, stream) in many.into_iter().enumerate() {
        assert_eq!(read(stream).await.unwrap().text(), format!("GET /{at} 0"));
    }
    let large = client.get("/large", &[]).await;
    assert!(large.body.len() == 8 << 20 && large.body.iter().all(|byte| *byte == b'x'));
    until("it is in the log", || !logged(&door, "\"/large\"").is_empty()).await;
    let line = &logged(&door, "\"/large\"")[0];
    assert_eq!((&line["http.version"], &line["bytes_out"]), (&"HTTP/3.0".into(), &(8 << 20).into()));
    assert_eq!((&line["http.host"], &line["client.ip"]), (&"a.example".into(), &"127.0.0.1".into()));
    assert!(door.metrics().contains("route=\"all\",status=\"2xx\"} 56"), "{}", door.metrics());
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_answers_pass_and_answers_that_break_off_are_not_whole() {
    let (address, _) = blunt(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n",
    )
    .await;
    let door = door(&to(&format!("http://{address}"), "")).await;
    let answer = Client::connect(&door).await.get("/", &[]).await;
    let trailers = answer.trailers.as_ref().unwrap();
    assert_eq!((answer.text(), trailers["x-sum"].to_str().unwrap()), ("hello", "7"));
    let (address, _) = blunt(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel").await;
    let door = self::door(&to(&format!("http://{address}"), "")).await;
    let mut client = Client::connect(&door).await;
    let mut stream = client.send(Method::GET, "/", &[]).await;
    stream.finish().await.unwrap();
    assert!(read(stream).await.is_err());
}

/// A number as QUIC writes it, in eight bytes.
fn long_number(number: u64) -> [u8; 8] {
    (number | 0b11 << 62).to_be_bytes()
}

/// A number behind a prefix of so many bits, as QPACK writes it (RFC 7541, 5.1).
fn prefixed(first: u8, bits: u32, number: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if number < most {
        return vec![first | number as u8];
    }
    let (mut left, mut bytes) = (number - most, vec![first | most as u8]);
    while left >= 128 {
        bytes.push(left as u8 | 128);
        left /= 128;
    }
    bytes.push(left as u8);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn access_and_limits_are_those_of_all_requests() {
    let service = Service::start(|got| reply(200, got.header("x-auth-subject"))).await;
    let door = door(&format!(
        r#"
limits: {{ head: 4KiB, target: 256B, headers: 20, body: 1KiB }}
auth:
  main: {{ jwt: {{ keys: [{{ id: hs, algorithm: HS256, secret: a-secret-of-at-least-thirty-two-bytes }}] }} }}
upstreams: {{ s: {{ endpoints: ["{}"] }} }}
routes:
  - {{ name: signed, match: {{ path: /signed }}, upstream: s, access: {{ by: [main] }} }}
  - {{ name: rare, match: {{ path: /rare }}, upstream: s, rate_limits: [{{ name: rare, rate: 1/h, per: [ip] }}] }}
  - {{ name: rest, match: {{ path: /* }}, upstream: s }}
"#,
        service.url()
    ))
    .await;
    let mut client = Client::connect(&door).await;
    let now_s = tessera_kernel::Clock::now(&*door.clock).micros() / 1_000_000;
    let claims = serde_json::json!({ "sub": "ann", "exp": now_s + 600 });
    let key = jsonwebtoken::EncodingKey::from_secret(b"a-secret-of-at-least-thirty-two-bytes");
    let header = jsonwebtoken::Header { kid: Some("hs".into()), ..Default::default() };
    let token = format!("Bearer {}", jsonwebtoken::encode(&header, &claims, &key).unwrap());
    assert_eq!(client.get("/signed", &[("authorization", &token)]).await.text(), "ann");
    let refused = client.get("/signed", &[("authorization", &format!("{token}x"))]).await;
    assert_eq!((refused.status(), refused.code().as_str()), (401, "gateway.bad_credentials"));
    let forged = client.get("/", &[("x-auth-subject", "admin")]).await;
    assert_eq!((forged.status(), forged.text()), (200, ""));
    assert_eq!(client.get("/rare", &[]).await.status(), 200);
    assert_eq!(client.get("/rare", &[]).await.code(), "gateway.rate_limited");
    // Sizes.
    let before = service.got().len();
    let long = "x".repeat(6_000);
    // The client itself would not send so long a head, as it was told.
    let (mut sending, mut receiving) = client.connection.open_bi().await.unwrap();
    let mut fields = vec![0, 0];
    for (name, value) in
        [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/"), ("x-long", &long)]
    {
        // Literal, with a literal name (RFC 9204, 4.5.6).
        fields.extend(prefixed(0x20, 3, name.len()));
        fields.extend(name.as_bytes());
        fields.extend(prefixed(0, 7, value.len()));
        fields.extend(value.as_bytes());
    }
    sending.write_all(&[&[1], &long_number(fields.len() as u64)[..], &fields].concat()).await.unwrap();
    sending.finish().unwrap();
    let answer = timeout(TIMEOUT, receiving.read_to_end(1 << 16)).await.unwrap().unwrap();
    assert_eq!(answer.first(), Some(&1), "it is told by an answer");
    let names: Vec<String> = (0..21).map(|at| format!("x-{at}")).collect();
    let lines: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "y")).collect();
    assert_eq!(client.get("/", &lines).await.code(), "gateway.head_too_large");
    assert_eq!(client.get(&format!("/{}", &long[..300]), &[]).await.code(), "gateway.target_too_long");
    for headers in [&[("content-length", "2000")][..], &[]] {
        let mut stream = client.send(Method::POST, "/", headers).await;
        // The answer may come before all is sent.
        let _ = stream.send_data(Bytes::from(vec![b'y'; 2_000])).await;
        let _ = stream.finish().await;
        assert_eq!(read(stream).await.unwrap().code(), "gateway.body_too_large");
    }
    assert!(service.got().len() == before, "{:?}", service.got());
    // Whoever connects once more is served on.
    assert_eq!(client.get("/", &[]).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_goes_no_further() {
    let service = Service::named("s").await;
    let door = door(&to(&service.url(), "")).await;
    let mut client = Client::connect(&door).await;
    for (name, headers) in [
        ("a transfer coding", &[("transfer-encoding", "chunked")][..]),
        ("an upgrade", &[("upgrade", "websocket")]),
        ("a connection", &[("connection", "close")]),
        ("another te", &[("te", "gzip")]),
        ("a length that is none", &[("content-length", "+5")]),
        ("a body that is too short", &[("content-length", "6")]),
        ("a body that is too long", &[("content-length", "4")]),
    ] {
        let mut stream = client.send(Method::POST, "/", headers).await;
        let _ = stream.send_data(Bytes::from_static(b"hello")).await;
        let _ = stream.finish().await;
        let answer = read(stream).await;
        assert!(answer.as_ref().map_or(true, |answer| answer.status() >= 400), "{name}");
    }
    let two = client.get("/", &[("content-length", "0"), ("content-length", "5")]).await;
    assert_eq!((two.status(), two.code().as_str()), (400, "gateway.malformed_request"));
    let mut connect = Request::builder().method(Method::CONNECT).uri("https://a.example/").body(()).unwrap();
    *connect.version_mut() = http::Version::HTTP_3;
    let mut stream = client.requests.send_request(connect).await.unwrap();
    stream.finish().await.unwrap();
    assert_eq!(read(stream).await.unwrap().code(), "gateway.method_not_allowed");
    assert!(service.got().is_empty(), "{:?}", service.got());
    assert_eq!(client.get("/", &[]).await.text(), "s", "the connection is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_without_end_are_not_gathered() {
    let service = Service::named("s").await;
    let door = door(&format!("limits: {{ head_timeout: 1s }}\n{}", to(&service.url(), ""))).await;
    // A head, and a frame of a kind that nobody knows, which may be as long as a head may take.
    for kind in [1, 0x21] {
        let client = Client::connect(&door).await;
        let (mut sending, _receiving) = client.connection.open_bi().await.unwrap();
        let mut sent = sending.write_all(&[&[kind], &long_number(1 << 40)[..]].concat()).await;
        let piece = vec![0; 16 << 10];
        let pouring = async {
            while sent.is_ok() {
                sent = sending.write_all(&piece).await;
            }
            sent
        };
        let ended = timeout(TIMEOUT, pouring).await.expect("an end").unwrap_err();
        let is_refused = matches!(ended, quinn::WriteError::Stopped(EXCESSIVE_LOAD));
        assert!(kind != 1 || is_refused, "{ended}");
    }
    // On the stream that says how the connection is used it ends the connection.
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let settings = settings(door.folder.path(), None, TransportConfig::default());
    let connection = endpoint.connect_with(settings, door.address(), "a.example").unwrap().await.unwrap();
    let mut control = connection.open_uni().await.unwrap();
    control.write_all(&[&[0, 4], &long_number(1 << 40)[..]].concat()).await.unwrap();
    let piece = vec![0; 16 << 10];
    let pouring = async { while control.write_all(&piece).await.is_ok() {} };
    timeout(TIMEOUT, pouring).await.expect("an end");
    timeout(TIMEOUT, connection.closed()).await.expect("an end");
    assert!(service.got().is_empty());
}

/// The connection of the next request to a service, whose head has come.
async fn asked_of(listener: &TcpListener) -> TcpStream {
    let asked = async {
        let (mut asked, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(asked.read_buf(&mut head).await.unwrap() > 0);
        }
        asked
    };
    timeout(TIMEOUT, asked).await.expect("a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_goes_is_let_go() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = door(&to(&format!("http://{}", listener.local_addr().unwrap()), "")).await;
    let mut client = Client::connect(&door).await;
    let mut stream = client.send(Method::GET, "/given-up", &[]).await;
    stream.finish().await.unwrap();
    let mut asked = asked_of(&listener).await;
    stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
    until("it is given up", || !logged(&door, "/given-up").is_empty()).await;
    assert_eq!(logged(&door, "/given-up")[0]["http.status"], 499);
    let end = timeout(TIMEOUT, asked.read(&mut [0; 1])).await.expect("the service is told");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    // In the midst of an answer, and with the whole connection.
    let mut stream = client.send(Method::GET, "/cut", &[]).await;
    stream.finish().await.unwrap();
    let mut asked = asked_of(&listener).await;
    asked.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    client.connection.close(REQUEST_CANCELLED, b"");
    until("it is cut", || !logged(&door, "/cut").is_empty()).await;
    assert_eq!(logged(&door, "/cut")[0]["broken_off"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_closed() {
    let service = Service::start(|got| match got.uri.as_str() {
        "/large" => reply(200, &"x".repeat(8 << 20)),
        _ => reply(200, "ok"),
    })
    .await;
    let limits = "limits: { head_timeout: 500ms, body_timeout: 300ms, write_timeout: 300ms }\n";
    let door = door(&format!("{limits}{}", to(&service.url(), ""))).await;
    // Who does not take his answer.
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(64 << 10));
    let settings = settings(door.folder.path(), None, transport);
    let mut client = Client::connect_with(&door, "a.example", settings).await.unwrap();
    let mut stream = client.send(Method::GET, "/large", &[]).await;
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    until("it is given up", || !logged(&door, "\"/large\"").is_empty()).await;
    assert_eq!(logged(&door, "\"/large\"")[0]["error.code"], "gateway.slow_client");
    // Who does not go on with his body.
    let mut client = Client::connect(&door).await;
    let mut stream = client.send(Method::POST, "/body", &[]).await;
    stream.send_data(Bytes::from_static(b"hello")).await.unwrap();
    let answer = read(stream).await.unwrap();
    assert_eq!((answer.status(), answer.code().as_str()), (408, "gateway.slow_client"));
    // Who does not end his head.
    let (mut sending, mut receiving) = client.connection.open_bi().await.unwrap();
    sending.write_all(&[1, 20, 0]).await.unwrap();
    let end = timeout(TIMEOUT, receiving.read(&mut [0; 1])).await.expect("an end");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
    // Who asks nothing.
    let idle = Client::connect(&door).await;
    timeout(TIMEOUT, idle.connection.closed()).await.expect("an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_capped_and_floods_end() {
    let limits = "limits: { connections_per_ip: 2, streams: 10 }\n";
    let door =
        door(&format!("{limits}{}", "routes: [{ name: all, match: { path: /* }, respond: { body: ok } }]\n")).await;
    let mut first = Client::connect(&door).await;
    let mut second = Client::connect(&door).await;
    assert_eq!((first.get("/", &[]).await.text(), second.get("/", &[]).await.text()), ("ok", "ok"));
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_millis(500).try_into().unwrap()));
    let third = Client::connect_with(&door, "a.example", settings(door.folder.path(), None, transport)).await;
    assert!(third.is_err());
    // Requests without end that nobody waits for.
    let flooding = async {
        while first.connection.close_reason().is_none() {
            let Ok((mut sending, _)) = first.connection.open_bi().await else { break };
            let _ = sending.reset(REQUEST_CANCELLED);
        }
    };
    timeout(TIMEOUT, flooding).await.expect("an end");
    drop(first);
    assert_eq!(second.get("/", &[]).await.text(), "ok");
    // Its place is another's.
    let mut next = Client::connect(&door).await;
    assert_eq!(next.get("/", &[]).await.text(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_may_move_and_show_certificates_and_say_nothing_early() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path());
    certificate(folder.path(), "a", "a.example");
    certificate(folder.path(), "robot", "robot.example");
    let listener =
        LISTENER.replace("certificates:", "clients: { authorities: ca.pem, required: false }, certificates:");
    let config = "auth: { machines: { mtls: { roles: { robot.example: [worker] } } } }\nroutes:\n  - { name: all, match: { path: / }, respond: { body: ok } }\n  - { name: machines, match: { path: /machines }, respond: { body: welcome }, access: { by: [machines], roles: [worker] } }\n";
    let door = Door::open_in(folder, &format!("{listener}{config}")).await;
    let robot = settings(door.folder.path(), Some("robot"), TransportConfig::default());
    let mut client = Client::connect_with(&door, "a.example", robot.clone()).await.unwrap();
    assert_eq!(client.get("/machines", &[]).await.text(), "welcome");
    client.endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    assert_eq!(client.get("/machines", &[]).await.text(), "welcome", "from another port");
    let mut nobody = Client::connect(&door).await;
    assert_eq!(nobody.get("/machines", &[]).await.code(), "gateway.not_signed_in");
    // It has a ticket now, which is good for no request before the handshake.
    let again = client.endpoint.connect_with(robot, door.address(), "a.example").unwrap();
    assert!(again.into_0rtt().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_taken_and_listeners_come_and_go() {
    let routes = "routes: [{ name: all, match: { path: /* }, respond: { body: ok } }]\n";
    let door = door(routes).await;
    let plain = || settings(door.folder.path(), None, TransportConfig::default());
    let mut before = Client::connect(&door).await;
    assert_eq!(before.get("/", &[]).await.text(), "ok");
    certificate(door.folder.path(), "a", "b.example");
    door.gateway.reloader.look().await.expect("the file has changed").unwrap();
    let mut after = Client::connect_with(&door, "b.example", plain()).await.unwrap();
    assert_eq!(after.get("/", &[]).await.text(), "ok");
    assert!(Client::connect_with(&door, "a.example", plain()).await.is_err(), "it is for another name now");
    assert_eq!(before.get("/", &[]).await.text(), "ok", "who is connected stays");
    // Another port is named where clients come by another.
    let config = crate::support::whole(&format!("{LISTENER}{routes}"));
    std::fs::write(door.file(), config.replace("http3: true,", "http3: true, http3_port: 443,")).unwrap();
    door.gateway.reloader.look().await.expect("the file has changed").unwrap();
    let alternative = async || over_tcp(&door, "b.example").await.headers().get("alt-svc").cloned();
    assert_eq!(alternative().await.unwrap(), "h3=\":443\"; ma=86400");
    // Without HTTP/3 connections end, and no answer names it.
    std::fs::write(door.file(), config.replace("http3: true,", "")).unwrap();
    door.gateway.reloader.look().await.expect("the file has changed").unwrap();
    for gone in [&before, &after] {
        timeout(TIMEOUT, gone.connection.closed()).await.expect("an end");
    }
    assert_eq!(alternative().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_goes_by_the_config_in_use_and_keeps_no_other() {
    let routes =
        |body: &str| format!("routes: [{{ name: all, match: {{ path: /* }}, respond: {{ body: {body} }} }}]\n");
    let door = door(&routes("old")).await;
    let mut client = Client::connect(&door).await;
    assert_eq!(client.get("/", &[]).await.text(), "old");
    let before = Arc::downgrade(&door.gateway.engine.snapshot());
    std::fs::write(door.file(), crate::support::whole(&format!("{LISTENER}{}", routes("new")))).unwrap();
    door.gateway.reloader.reload().await.unwrap();
    let taken = async { while client.get("/", &[]).await.text() != "new" {} };
    timeout(TIMEOUT, taken).await.expect("the new config is served");
    until("the one before is freed", || {
        door.gateway.reloader.free_retired();
        before.strong_count() == 0
    })
    .await;
    assert_eq!(client.get("/", &[]).await.text(), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_may_come_back_before_its_last_request_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path());
    certificate(folder.path(), "a", "a.example");
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!("{LISTENER}{}", to(&format!("http://{}", service.local_addr().unwrap()), ""));
    let config = config.replace("127.0.0.1:0", &format!("127.0.0.1:{}", tessera_testkit::free_port()));
    let door = Door::open_in(folder, &config).await;
    let mut client = Client::connect(&door).await;
    let mut stream = client.send(Method::GET, "/", &[]).await;
    stream.finish().await.unwrap();
    let mut asked = asked_of(&service).await;
    for config in [config.replace("http3: true,", ""), config] {
        std::fs::write(door.file(), crate::support::whole(&config)).unwrap();
        door.gateway.reloader.look().await.expect("the file has changed").unwrap();
    }
    asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
    assert_eq!(read(stream).await.unwrap().text(), "hello");
    let plain = || settings(door.folder.path(), None, TransportConfig::default());
    let taken = async { while Client::connect_with(&door, "a.example", plain()).await.is_err() {} };
    timeout(TIMEOUT, taken).await.expect("it is spoken again");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_end_before_the_gateway_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = door(&to(&format!("http://{}", listener.local_addr().unwrap()), "")).await;
    let mut client = Client::connect(&door).await;
    let mut stream = client.send(Method::GET, "/", &[]).await;
    stream.finish().await.unwrap();
    let mut asked = asked_of(&listener).await;
    let engine = door.gateway.engine.clone();
    let stopping = tokio::spawn(async move { engine.stop().await });
    // Nobody new is let in.
    let plain = settings(door.folder.path(), None, TransportConfig::default());
    let refused = async { while Client::connect_with(&door, "a.example", plain.clone()).await.is_ok() {} };
    timeout(TIMEOUT, refused).await.expect("a refusal");
    asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
    assert_eq!(read(stream).await.unwrap().text(), "hello");
    timeout(TIMEOUT, stopping).await.expect("an end").unwrap();
    timeout(TIMEOUT, client.connection.closed()).await.expect("an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told() {
    loop {
        let folder = tempfile::tempdir().unwrap();
        authority(folder.path());
        certificate(folder.path(), "a", "a.example");
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let config = format!("{LISTENER}routes: []\n").replace("127.0.0.1:0", &address.to_string());
        let told = tokio::spawn(async move { Door::open_in(folder, &config).await.address() }).await.unwrap_err();
        let told = told.into_panic().downcast::<String>().unwrap();
        assert!(told.contains(&address.to_string()), "{told}");
        // Another test may have the same port for connections.
        if told.contains("UDP") {
            return;
        }
    }
}
