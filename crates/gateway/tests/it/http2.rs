//! HTTP/2 from clients that keep to the letter of it, and from clients that do not: frames by hand.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Door, Service, TIMEOUT, until};
use crate::websocket::brief;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A client that writes frames.
struct Frames(TcpStream);

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frames {
    /// Connected, with the preface and these settings sent.
    async fn connect(door: &Door, settings: &[(u16, u32)]) -> Self {
        let mut stream = TcpStream::connect(door.address()).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut frames = Self(stream);
        let payload: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        frames.send(SETTINGS, 0, 0, &payload).await;
        frames
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.is_ok()
    }

    /// A request of these headers, which each are literal and not indexed.
    async fn request(&mut self, stream: u32, flags: u8, headers: &[(&str, &str)]) -> bool {
        self.send(HEADERS, flags | END_HEADERS, stream, &block(headers)).await
    }

    async fn get(&mut self, stream: u32, path: &str) -> bool {
        self.request(stream, END_STREAM, &pseudo("GET", path)).await
    }

    /// The next frame, or nothing where the connection ended.
    async fn next(&mut self) -> Option<Frame> {
        let read = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
            Some(Frame { kind: head[3], flags: head[4], stream, payload })
        };
        tokio::time::timeout(TIMEOUT, read).await.expect("a frame or the end")
    }

    /// The next frame of a kind; pings and settings are answered meanwhile.
    async fn next_of(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
            if matches!(frame.kind, SETTINGS | PING) && frame.flags & ACK == 0 {
                let payload = if frame.kind == PING { frame.payload } else { Vec::new() };
                self.send(frame.kind, ACK, 0, &payload).await;
            }
        }
    }

    /// The error that the connection is ended with; 0 is none.
    async fn end(&mut self) -> u32 {
        let mut code = 0;
        while let Some(frame) = self.next_of(&[GOAWAY]).await {
            code = u32::from_be_bytes(frame.payload[4..8].try_into().unwrap());
        }
        code
    }
}

fn pseudo<'p>(method: &'p str, path: &'p str) -> [(&'p str, &'p str); 4] {
    [(":method", method), (":scheme", "http"), (":authority", "a.example"), (":path", path)]
}

fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "longer ones need more bytes for their length");
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    block
}

fn hello(limits: &str) -> String {
    format!("limits: {{ {limits} }}\nroutes: [{{ name: all, match: {{ path: /* }}, respond: {{ body: hello }} }}]\n")
}

fn to(url: &str, limits: &str, upstream: &str) -> String {
    format!(
        "limits: {{ {limits} }}\nupstreams: {{ s: {{ endpoints: [\"{url}\"], {upstream} }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s }}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_nothing_is_closed() {
    // Long enough for a slow machine to ask and be answered once.
    let door = Door::open(&hello("head_timeout: 2s, write_timeout: 2s")).await;
    // Only the preface, without settings.
    let mut silent = TcpStream::connect(door.address()).await.unwrap();
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let ended = tokio::time::timeout(TIMEOUT, silent.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "it is still open");
    // One that answers whatever it is asked, and was answered once.
    let mut idle = Frames::connect(&door, &[]).await;
    assert!(idle.get(1, "/").await);
    assert_eq!(idle.next_of(&[HEADERS]).await.unwrap().stream, 1);
    assert_eq!(idle.end().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_under_way_and_those_that_meet_the_word_to_go_are_answered() {
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = Door::open(&format!(
        "upstreams: {{ s: {{ endpoints: [\"http://{}\"] }} }}\nroutes:\n  - {{ name: slow, match: {{ path: /slow }}, upstream: s }}\n  - {{ name: all, match: {{ path: /* }}, respond: {{ body: hello }} }}\n",
        service.local_addr().unwrap()
    ))
    .await;
    let mut client = Frames::connect(&door, &[]).await;
    assert!(client.get(1, "/slow").await);
    let (mut behind, _) = service.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(behind.read_buf(&mut head).await.unwrap() > 0);
    }
    behind.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsome").await.unwrap();
    assert_eq!(client.next_of(&[DATA]).await.unwrap().payload, b"some");
    door.deps.sockets.hand_on();
    let engine = door.gateway.engine.clone();
    let stopping = tokio::spawn(async move { engine.stop().await });
    // By the answer to the ping the gateway knows that its word was read. Until then every stream is answered.
    let word = client.next_of(&[GOAWAY]).await.unwrap();
    assert_eq!(word.payload, [0x7f_ff_ff_ff_u32.to_be_bytes(), [0; 4]].concat());
    let mut frame = client.next().await.unwrap();
    while frame.kind != PING {
        frame = client.next().await.unwrap();
    }
    assert!(client.get(3, "/").await);
    let answered = client.next_of(&[HEADERS]).await.unwrap();
    assert_eq!((answered.stream, answered.payload[0]), (3, 0x88));
    assert!(client.send(PING, ACK, 0, &frame.payload).await);
    let last = client.next_of(&[GOAWAY]).await.unwrap();
    assert_eq!(last.payload, [3_u32.to_be_bytes(), [0; 4]].concat());
    // The rest of the first answer, and with it the end.
    behind.write_all(b" more").await.unwrap();
    let mut rest = Vec::new();
    while let Some(frame) = client.next_of(&[DATA, RST_STREAM, GOAWAY]).await {
        assert_eq!(frame.kind, DATA, "{frame:?}");
        if frame.stream == 1 {
            rest.extend(frame.payload);
        }
    }
    assert_eq!(rest, b" more");
    tokio::time::timeout(TIMEOUT, stopping).await.expect("it ends with the last of them").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_whose_client_takes_nothing_is_given_up() {
    let service = brief(1 << 20).await;
    let door = Door::open(&to(&format!("http://{service}"), "write_timeout: 200ms, head_timeout: 10m", "")).await;
    // A window that is never opened.
    let mut client = Frames::connect(&door, &[(4, 0)]).await;
    let mut connect = vec![(":protocol", "websocket")];
    connect.extend(pseudo("CONNECT", "/"));
    assert!(client.request(1, 0, &connect).await);
    assert_eq!(client.next_of(&[HEADERS]).await.unwrap().payload[0], 0x88);
    assert_eq!(client.next_of(&[RST_STREAM]).await.expect("the connection stays").stream, 1);
    until("it is counted", || door.metrics().contains("route=\"all\",status=\"2xx\"} 1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_targets_have_limits_here_too() {
    let door = Door::open(
        "limits: { head: 2KiB, target: 256B, headers: 20 }\nroutes: [{ name: all, match: { path: /* }, respond: {} }]\n",
    )
    .await;
    let client = tessera_service::client::builder().http2_prior_knowledge().timeout(TIMEOUT).build().unwrap();
    let status = async |path: &str, count: usize, size: usize| {
        let mut request = client.get(door.url(path));
        for at in 0..count {
            request = request.header(format!("x-{at}"), "x".repeat(size));
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("/", 5, 5).await, 200);
    assert_eq!(status(&format!("/{}", "x".repeat(300)), 0, 0).await, 414);
    assert_eq!(status("/", 30, 1).await, 431);
    assert_eq!(status("/", 10, 250).await, 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_taken_is_given_up() {
    let service = Service::start(|_| crate::support::reply(200, &"x".repeat(1 << 20))).await;
    let door = Door::open(&to(&service.url(), "write_timeout: 200ms, head_timeout: 10m", "")).await;
    // A window that is never opened, and one that is opened a little.
    for window in [0, 100] {
        let mut client = Frames::connect(&door, &[(4, window)]).await;
        assert!(client.get(1, "/").await);
        assert_eq!(client.next_of(&[RST_STREAM]).await.expect("the connection stays").stream, 1);
        // The connection does what it can for others.
        assert!(client.send(PING, 0, 0, b"12345678").await);
        assert_eq!(client.next_of(&[PING]).await.unwrap().payload, b"12345678");
    }
    until("both are counted", || door.metrics().contains("code=\"gateway.slow_client\",side=\"client\"} 2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let service = Service::named("behind").await;
    let upstream = "breaker: { failures: 1, pause: 10m }";
    let door = Door::open(&to(&service.url(), "body_timeout: 200ms", upstream)).await;
    let mut client = Frames::connect(&door, &[]).await;
    assert!(client.request(1, 0, &pseudo("POST", "/")).await);
    assert!(client.send(DATA, 0, 1, b"some").await);
    let answered = client.next_of(&[HEADERS, RST_STREAM]).await.unwrap();
    assert_eq!((answered.kind, answered.stream), (HEADERS, 1));
    until("it is counted", || door.metrics().contains("code=\"gateway.slow_client\",side=\"client\"} 1")).await;
    assert_eq!(door.get("/", &[]).await.body, "behind", "nothing is held against the service");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_given_up_again_and_again_end_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, mut began) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
            let _ = seen.send(()).await;
        }
    });
    let door = Door::open(&to(&format!("http://{address}"), "", "")).await;
    let mut client = Frames::connect(&door, &[]).await;
    let mut given_up = 0;
    for stream in (1..100_001).step_by(2) {
        // Each one costs the service a connection before it is given up.
        if !client.get(stream, "/").await || tokio::time::timeout(Duration::from_secs(2), began.recv()).await.is_err() {
            break;
        }
        if !client.send(RST_STREAM, 0, stream, &8_u32.to_be_bytes()).await {
            break;
        }
        given_up += 1;
    }
    assert!((100..10_000).contains(&given_up), "{given_up} were given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_have_a_limit() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", hanging.local_addr().unwrap());
    let door = Door::open(&to(&url, "streams: 3", "")).await;
    let mut client = Frames::connect(&door, &[]).await;
    // The limit is told in the settings.
    let settings = client.next().await.unwrap();
    assert_eq!(settings.kind, SETTINGS);
    assert!(settings.payload.chunks(6).any(|pair| pair == [0, 3, 0, 0, 0, 3]), "{settings:?}");
    for stream in [1, 3, 5, 7] {
        client.get(stream, "/").await;
    }
    let refused = client.next_of(&[RST_STREAM]).await.unwrap();
    assert_eq!((refused.stream, &refused.payload[..]), (7, &7_u32.to_be_bytes()[..]), "REFUSED_STREAM");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_one_meaning_is_refused_and_not_forwarded() {
    let service = Service::named("behind").await;
    let door = Door::open(&to(&service.url(), "", "")).await;
    let of = |more: &[(&'static str, &'static str)]| [&pseudo("POST", "/bad")[..], more].concat();
    let without =
        |name: &str| pseudo("GET", "/bad").into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>();
    let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("an upper-case name", of(&[("X-Upper", "1")])),
        ("a transfer coding", of(&[("transfer-encoding", "chunked")])),
        ("connection", of(&[("connection", "close")])),
        ("keep-alive", of(&[("keep-alive", "1")])),
        ("proxy-connection", of(&[("proxy-connection", "close")])),
        ("an upgrade", of(&[("upgrade", "websocket")])),
        ("te other than trailers", of(&[("te", "gzip")])),
        ("an unknown pseudo header", of(&[(":unknown", "1")])),
        ("a pseudo header of answers", of(&[(":status", "200")])),
        ("a pseudo header behind others", [("x", "1")].into_iter().chain(pseudo("GET", "/bad")).collect()),
        ("two methods", of(&[(":method", "GET")])),
        ("two paths", of(&[(":path", "/other")])),
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("an empty path", pseudo("GET", "").to_vec()),
        ("another length than the body has", of(&[("content-length", "3")])),
        ("a length that is none", of(&[("content-length", "x")])),
        ("two lengths", of(&[("content-length", "5"), ("content-length", "6")])),
        ("another host", of(&[("host", "b.example")])),
        ("two hosts", of(&[("host", "a.example"), ("host", "a.example")])),
        ("a line break in a value", of(&[("x", "a\r\nb: c")])),
        ("nul in a value", of(&[("x", "a\0b")])),
        ("a space in a name", of(&[("x y", "1")])),
        ("a line break in the path", pseudo("GET", "/bad\r\nx: y").to_vec()),
        ("a space in the path", pseudo("GET", "/bad HTTP/1.1").to_vec()),
        ("an authority with a user", {
            let mut headers = pseudo("GET", "/bad").to_vec();
            headers[2].1 = "user@a.example";
            headers
        }),
    ];
    for (name, headers) in cases {
        let mut client = Frames::connect(&door, &[]).await;
        client.request(1, 0, &headers).await;
        client.send(DATA, END_STREAM, 1, b"hello").await;
        let said = client.next_of(&[HEADERS, RST_STREAM, GOAWAY]).await;
        let is_refusal = |frame: &Frame| frame.kind != HEADERS || frame.payload[0] != 0x88;
        assert!(said.as_ref().is_none_or(is_refusal), "{name}: {said:?}");
    }
    // A body may be on its way before its length is known to be wrong; what arrives there is not whole.
    assert!(service.got().is_empty(), "{:?}", service.got());
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_the_protocol_end_the_connection() {
    let door = Door::open(&hello("")).await;
    const FRAME_SIZE: u32 = 6;
    let get = block(&pseudo("GET", "/"));
    let zero = 0_u32.to_be_bytes();
    let whole = END_STREAM | END_HEADERS;
    type Sent<'s> = Vec<(u8, u8, u32, &'s [u8])>;
    let cases: Vec<(&str, Sent<'_>)> = vec![
        ("data before headers", vec![(DATA, END_STREAM, 1, b"x")]),
        ("data on stream 0", vec![(DATA, 0, 0, b"x")]),
        ("headers on stream 0", vec![(HEADERS, whole, 0, &get)]),
        ("headers on an even stream", vec![(HEADERS, whole, 2, &get)]),
        ("a stream before the last", vec![(HEADERS, whole, 5, &get), (HEADERS, whole, 3, &get)]),
        ("a continuation of nothing", vec![(CONTINUATION, END_HEADERS, 1, &get)]),
        ("a ping between headers", vec![(HEADERS, END_STREAM, 1, &get), (PING, 0, 0, b"12345678")]),
        (
            "a continuation of another stream",
            vec![(HEADERS, END_STREAM, 1, &get[..4]), (CONTINUATION, END_HEADERS, 3, &get)],
        ),
        ("headers that cannot be read", vec![(HEADERS, whole, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]),
        ("an index beyond the table", vec![(HEADERS, whole, 1, &[0xc6])]),
        ("a ping of seven bytes", vec![(PING, 0, 0, b"1234567")]),
        ("a ping on a stream", vec![(PING, 0, 1, b"12345678")]),
        ("settings on a stream", vec![(SETTINGS, 0, 1, &[])]),
        ("settings of five bytes", vec![(SETTINGS, 0, 0, &[0, 1, 0, 0, 0])]),
        ("settings that are an answer and say something", vec![(SETTINGS, ACK, 0, &[0, 3, 0, 0, 0, 1])]),
        ("a window beyond 2^31", vec![(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])]),
        ("a push setting of 2", vec![(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])]),
        ("a frame size below the least", vec![(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])]),
        ("a window that grows by nothing", vec![(WINDOW_UPDATE, 0, 0, &zero)]),
        ("a window that grows beyond all", vec![(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])]),
        ("a window update of three bytes", vec![(WINDOW_UPDATE, 0, 0, &[0, 0, 1])]),
        ("a reset of a stream that never was", vec![(RST_STREAM, 0, 1, &zero)]),
        ("a reset of stream 0", vec![(RST_STREAM, 0, 0, &zero)]),
        ("a reset of three bytes", vec![(HEADERS, END_HEADERS, 1, &get), (RST_STREAM, 0, 1, &[0, 0, 1])]),
        ("padding longer than the frame", vec![(HEADERS, END_HEADERS, 1, &get), (DATA, 8 | END_STREAM, 1, &[200, 1])]),
        ("a pushed promise", vec![(5, END_HEADERS, 1, &[0, 0, 0, 2])]),
    ];
    for (name, sent) in cases {
        let mut client = Frames::connect(&door, &[]).await;
        for (kind, flags, stream, payload) in sent {
            client.send(kind, flags, stream, payload).await;
        }
        // Which error it is called is of no use to anybody; that the connection ends with one is.
        assert_ne!(client.end().await, 0, "{name}");
    }
    // Frames of unknown kinds are passed over.
    let mut client = Frames::connect(&door, &[]).await;
    client.send(0xee, 0xff, 0, b"whatever").await;
    client.get(1, "/").await;
    assert_eq!(client.next_of(&[HEADERS]).await.unwrap().payload[0], 0x88);
    // A frame above what was agreed on.
    client.send(DATA, 0, 3, &vec![0; (16 << 10) + 1]).await;
    assert_eq!(client.end().await, FRAME_SIZE);
}
