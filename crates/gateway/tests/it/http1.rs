//! HTTP/1 in bytes, on connections that are kept: what goes the fast path, what goes by the library, and one after the other.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Door, Service, TIMEOUT, blunt, reply, until};

fn to(url: &str, more: &str) -> String {
    format!(
        "upstreams: {{ s: {{ endpoints: [\"{url}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s{more} }}]\n"
    )
}

/// A connection to a gateway.
struct Caller {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Caller {
    async fn of(door: &Door) -> Self {
        Self { stream: TcpStream::connect(door.address()).await.unwrap(), read: Vec::new() }
    }

    async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Whether there was more.
    async fn more(&mut self) -> bool {
        let reading = tokio::time::timeout(TIMEOUT, self.stream.read_buf(&mut self.read));
        reading.await.expect("bytes or an end").unwrap_or(0) > 0
    }

    /// Everything up to and with these bytes.
    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end.as_bytes()) {
                let rest = self.read.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            assert!(self.more().await, "an end before `{end}`: {}", String::from_utf8_lossy(&self.read));
        }
    }

    /// The head of an answer, and so many bytes of its body.
    async fn answer(&mut self, length: usize) -> (String, Vec<u8>) {
        let head = self.until("\r\n\r\n").await;
        while self.read.len() < length {
            assert!(self.more().await, "an end within the body");
        }
        let rest = self.read.split_off(length);
        (head, std::mem::replace(&mut self.read, rest))
    }

    /// Everything up to the end of the connection.
    async fn rest(mut self) -> String {
        while self.more().await {}
        String::from_utf8(self.read).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_every_kind_follow_each_other_on_a_connection() {
    let service = Service::start(|got| {
        let length = got.body.len();
        let told = format!("{} {} {length}.", got.method, got.uri);
        reply(200, if got.method == "HEAD" { "" } else { &told })
    })
    .await;
    let door = Door::open(&to(&service.url(), "")).await;
    let mut caller = Caller::of(&door).await;
    // The first three come at once, the fourth in two pieces; from the POST on it is the library that reads.
    caller.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nhost: a\r\n\r\nDELETE /3 HTTP/1.1\r\nhost: a\r\n\r\nGET /4 HT").await;
    assert!(caller.until("GET /1 0.").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(caller.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(caller.until("DELETE /3 0.").await.starts_with("HTTP/1.1 200 OK\r\n"));
    caller.send("TP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(caller.until("GET /4 0.").await.starts_with("HTTP/1.1 200 OK\r\n"));
    caller.send("POST /5 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await;
    caller.until("POST /5 5.").await;
    caller.send("GET /6 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(caller.rest().await.ends_with("GET /6 0."));
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_of_answers_are_as_the_standard_has_them() {
    let ok = "HTTP/1.1 200 OK\r\n";
    for (answer, wanted, status, present, absent, body) in [
        (format!("{ok}content-length: 2\r\n\r\nok"), "GET", "200 OK", "content-length: 2\r\n", "chunked", "ok"),
        (
            format!("{ok}transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            "GET",
            "200 OK",
            "transfer-encoding: chunked\r\n",
            "content-length",
            "2\r\nok\r\n0\r\n\r\n",
        ),
        // A length that is said twice goes on once.
        (
            format!("{ok}content-length: 2, 2\r\ncontent-length: 2\r\n\r\nok"),
            "GET",
            "200 OK",
            "content-length: 2\r\n",
            "2, 2",
            "ok",
        ),
        // With both, it is the chunks that count.
        (
            format!("{ok}content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            "GET",
            "200 OK",
            "transfer-encoding: chunked\r\n",
            "content-length",
            "2\r\nok\r\n0\r\n\r\n",
        ),
        (format!("{ok}\r\n"), "GET", "200 OK", "transfer-encoding: chunked\r\n", "content-length", "0\r\n\r\n"),
        (format!("{ok}content-length: 0\r\n\r\n"), "GET", "200 OK", "content-length: 0\r\n", "chunked", ""),
        (format!("{ok}content-length: 7\r\n\r\n"), "HEAD", "200 OK", "content-length: 7\r\n", "chunked", ""),
        (
            "HTTP/1.1 204 Gone\r\ncontent-length: 5\r\n\r\n".into(),
            "GET",
            "204 No Content",
            "\r\n",
            "content-length",
            "",
        ),
        (
            "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n".into(),
            "GET",
            "304 Not Modified",
            "etag: \"x\"\r\n",
            "chunked",
            "",
        ),
        (
            "HTTP/1.1 299 Of Its Own\r\ncontent-length: 0\r\ndate: then\r\n\r\n".into(),
            "GET",
            "299 ",
            "date: then\r\n",
            "GMT",
            "",
        ),
    ] {
        let (address, _) = blunt(Box::leak(answer.clone().into_bytes().into_boxed_slice())).await;
        let door = Door::open(&to(&format!("http://{address}"), "")).await;
        let mut caller = Caller::of(&door).await;
        caller.send(&format!("{wanted} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        let whole = caller.rest().await;
        let (head, rest) = whole.split_once("\r\n\r\n").expect("a head");
        let head = format!("{head}\r\n");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}: {head}");
        assert!(head.contains(present) && !head.contains(absent), "{answer}: {head}");
        assert_eq!(head.matches("\r\ndate: ").count(), 1, "{head}");
        assert!(head.matches("\r\ncontent-length: ").count() < 2, "{head}");
        assert!(head.contains("connection: close\r\n"), "{head}");
        assert_eq!(rest, body, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_come_whole_however_slowly_they_are_taken() {
    let body: &'static [u8] = Box::leak((0..3_000_000_u32).map(|at| at as u8).collect::<Vec<u8>>().into_boxed_slice());
    let service = Service::start(move |got| {
        let mut answer = reply(200, "");
        *answer.body_mut() =
            http_body_util::Full::new(bytes::Bytes::from_static(&body[..got.uri[1..].parse().unwrap()]));
        answer
    })
    .await;
    let door = Door::open(&to(&service.url(), "")).await;
    let mut caller = Caller::of(&door).await;
    for length in [1, 8_191, 8_192, 8_193, 65_536, 70_000, body.len()] {
        caller.send(&format!("GET /{length} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let (head, got) = caller.answer(length).await;
        assert!(head.contains(&format!("content-length: {length}\r\n")), "{head}");
        assert!(got == body[..length], "{length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_says_wrong_of_its_length_is_not_passed_off_as_whole() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nonly"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nonly\r\n",
    ] {
        let (address, _) = blunt(answer).await;
        let door = Door::open(&to(&format!("http://{address}"), "")).await;
        let mut caller = Caller::of(&door).await;
        caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let whole = caller.rest().await;
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.contains("only"), "{whole}");
        assert!(!whole.ends_with("0\r\n\r\n"), "{whole}");
        until("it is counted", || door.metrics().contains("code=\"gateway.upstream_broke_off\",side=\"upstream\"} 1"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_ends_what_is_done_for_them() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = Door::open(&to(&format!("http://{}", listener.local_addr().unwrap()), "")).await;
    let mut caller = Caller::of(&door).await;
    caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (mut behind, _) = listener.accept().await.unwrap();
    let mut head = vec![0; 4096];
    assert!(behind.read(&mut head).await.unwrap() > 0);
    drop(caller);
    let ended = tokio::time::timeout(TIMEOUT, behind.read(&mut head)).await.expect("the gateway lets go");
    assert_eq!(ended.unwrap_or(0), 0, "it asks nothing more");
    until("it is counted", || door.metrics().contains("status=\"4xx\"} 1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_takes_nothing_is_closed() {
    let service = Service::start(|_| {
        let mut answer = reply(200, "");
        *answer.body_mut() = http_body_util::Full::new(bytes::Bytes::from(vec![b'x'; 64 << 20]));
        answer
    })
    .await;
    let door = Door::open(&format!("limits: {{ write_timeout: 200ms }}\n{}", to(&service.url(), ""))).await;
    let mut caller = Caller::of(&door).await;
    caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until("it is over", || door.metrics().contains("status=\"2xx\"} 1")).await;
    let mut taken = 0;
    while caller.more().await {
        taken += caller.read.len();
        caller.read.clear();
    }
    assert!(taken < 64 << 20, "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_logged_so() {
    for cut in [&b"content-length: 10\r\n\r\nhello"[..], b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let answer: &'static [u8] = [&b"HTTP/1.1 200 OK\r\n"[..], cut].concat().leak();
        let (address, _) = blunt(answer).await;
        let door = Door::open(&format!(
            "access_log: {{ file: access.log }}\nupstreams: {{ s: {{ endpoints: [\"http://{address}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s }}]\n"
        ))
        .await;
        let answer = door.raw("GET /cut HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(answer.contains("hello"), "{answer}");
        let log = || std::fs::read_to_string(door.folder.path().join("access.log")).unwrap_or_default();
        until("it is in the log", || log().contains("/cut")).await;
        let line: serde_json::Value = serde_json::from_str(&log()).unwrap();
        assert_eq!((&line["broken_off"], &line["error.side"]), (&true.into(), &"upstream".into()), "{line}");
    }
}
