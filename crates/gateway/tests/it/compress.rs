//! Answers that are made smaller, and bodies of requests that are made whole.

use std::io::{Read, Write};
use std::time::Duration;

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Answer, Door, Service, TIMEOUT, client, reply};

fn config(url: &str, route: &str) -> String {
    format!(
        "upstreams: {{ s: {{ endpoints: [\"{url}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s, {route} }}]\n"
    )
}

/// A text that is worth compressing.
fn text(bytes: usize) -> String {
    let lines = (0..).map(|at| format!("line {at} of many that are much alike\n"));
    let mut text = String::new();
    lines
        .take_while(|line| {
            text.push_str(line);
            text.len() < bytes
        })
        .for_each(drop);
    text
}

fn plain(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        "gzip" => drop(GzDecoder::new(body).read_to_end(&mut plain).unwrap()),
        "br" => drop(brotli::Decompressor::new(body, 4 << 10).read_to_end(&mut plain).unwrap()),
        "zstd" => plain = zstd::stream::decode_all(body).unwrap(),
        "" => plain = body.to_vec(),
        other => panic!("a coding nobody asked for: {other}"),
    }
    plain
}

fn packed(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut packed = Vec::new();
            let mut encoder = brotli::CompressorWriter::new(&mut packed, 4 << 10, 4, 20);
            encoder.write_all(body).unwrap();
            drop(encoder);
            packed
        }
        _ => zstd::stream::encode_all(body, 3).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_compressed_as_callers_like_it() {
    let body = text(200 << 10);
    let answer = body.clone();
    let service = Service::start(move |got| {
        let mut reply =
            http::Response::builder().header("content-type", "text/plain; charset=utf-8").header("etag", "\"a\"");
        if let Some(said) = got.uri.strip_prefix("/no-") {
            reply = match said {
                "transform" => reply.header("cache-control", "no-transform"),
                "coding" => reply.header("content-encoding", "br"),
                _ => reply,
            };
        }
        let kind = if got.uri == "/image" { "image/png" } else { "text/plain" };
        reply = reply.header("content-type", kind);
        reply.body(Full::from(if got.uri == "/short" { "short".to_owned() } else { answer.clone() })).unwrap()
    })
    .await;
    let door = Door::open(&config(&service.url(), "compress: {}")).await;
    for (accepted, coding) in [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, br;q=0.9", "gzip"),
        ("br", "br"),
        ("gzip;q=0", ""),
        ("identity", ""),
    ] {
        let answer = client().get(door.url("/")).header("accept-encoding", accepted).send().await.unwrap();
        let headers = answer.headers().clone();
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let bytes = answer.bytes().await.unwrap();
        assert_eq!(header("content-encoding"), coding, "{accepted}");
        assert_eq!(header("vary"), "accept-encoding");
        assert_eq!(header("etag"), if coding.is_empty() { "\"a\"" } else { "W/\"a\"" });
        assert!(plain(coding, &bytes) == body.as_bytes(), "{coding} gives the same text");
        assert!(coding.is_empty() || bytes.len() < body.len() / 4, "{coding}: {} bytes", bytes.len());
    }
    for path in ["/short", "/no-transform", "/no-coding"] {
        let answer = client().get(door.url(path)).header("accept-encoding", "gzip").send().await.unwrap();
        let is_ours = answer.headers().get("content-encoding").is_some_and(|coding| coding == "gzip");
        assert!(!is_ours, "{path} is left alone");
    }
    let head = client().head(door.url("/")).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(head.headers()["content-encoding"], "gzip");
    assert!(!head.headers().contains_key("content-length"));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_and_other_types_are_left_alone_and_kept_answers_are_compressed() {
    let body = text(20 << 10);
    let answer = body.clone();
    let service = Service::start(move |got| {
        let kind = if got.uri == "/image" { "image/png" } else { "application/problem+json" };
        let reply = http::Response::builder().header("content-type", kind).header("cache-control", "max-age=60");
        reply.body(Full::from(answer.clone())).unwrap()
    })
    .await;
    let door = Door::open(&config(&service.url(), "compress: { codings: [gzip] }, cache: {}")).await;
    let get = async |path: &str, headers: &[(&str, &str)]| {
        let mut request = client().get(door.url(path)).header("accept-encoding", "gzip");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let coding = answer.headers().get("content-encoding").map(|coding| coding.to_str().unwrap().to_owned());
        (answer.status().as_u16(), coding.unwrap_or_default(), answer.bytes().await.unwrap())
    };
    assert_eq!(get("/image", &[]).await.1, "");
    for _ in 0..2 {
        let (_, coding, bytes) = get("/", &[]).await;
        assert_eq!(plain(&coding, &bytes), body.as_bytes());
        assert_eq!(coding, "gzip");
    }
    assert_eq!(door.get("/", &[]).await.body, body, "the kept one is plain");
    let (status, coding, bytes) = get("/", &[("range", "bytes=0-2")]).await;
    assert_eq!((status, coding.as_str(), &bytes[..]), (206, "", &b"lin"[..]));
    assert_eq!(service.got().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_bit_by_bit_is_passed_on_bit_by_bit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (next, mut wanted) = tokio::sync::mpsc::channel::<()>(1);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let _ = stream.read(&mut head).await;
        let begin = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(begin.as_bytes()).await.unwrap();
        for event in ["data: one\n\n", "data: two\n\n"] {
            stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
            wanted.recv().await;
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    });
    let door = Door::open(&config(&url, "compress: {}")).await;
    for coding in ["gzip"] {
        let mut answer = client().get(door.url("/")).header("accept-encoding", coding).send().await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], coding);
        let mut came = Vec::new();
        for (event, whole) in [("data: one\n\n", "data: one\n\n"), ("data: two\n\n", "data: one\n\ndata: two\n\n")] {
            let reading = async {
                loop {
                    came.extend_from_slice(&answer.chunk().await.unwrap().unwrap());
                    let mut plain = Vec::new();
                    let _ = GzDecoder::new(&came[..]).read_to_end(&mut plain);
                    if plain == whole.as_bytes() {
                        return;
                    }
                }
            };
            tokio::time::timeout(TIMEOUT, reading)
                .await
                .unwrap_or_else(|_| panic!("{event} came before the next was sent"));
            next.send(()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_requests_are_made_whole_and_bombs_are_not() {
    let service =
        Service::start(|got| reply(200, &format!("{} {}", got.body.len(), got.header("content-encoding")))).await;
    let door = Door::open(&config(&service.url(), "decompress: true, body: 1MiB")).await;
    let body = text(300 << 10);
    let send = async |coding: &str, body: Vec<u8>| {
        let sent = client().post(door.url("/")).header("content-encoding", coding).body(body).send().await.unwrap();
        Answer::of(sent).await
    };
    for coding in ["gzip", "br", "zstd"] {
        let good = send(coding, packed(coding, body.as_bytes())).await;
        assert_eq!(good.body, format!("{} ", body.len()), "{coding}");
        let bomb = send(coding, packed(coding, &vec![0; 8 << 20])).await;
        assert_eq!((bomb.status, bomb.code().as_str()), (413, "gateway.body_too_large"), "{coding}");
        let mut cut = packed(coding, body.as_bytes());
        cut.truncate(cut.len() / 2);
        let cut = send(coding, cut).await;
        assert_eq!((cut.status, cut.code().as_str()), (400, "gateway.bad_coding"), "{coding}");
        let wrong = send(coding, b"this is plain text, whatever is said of it".to_vec()).await;
        assert_eq!((wrong.status, wrong.code().as_str()), (400, "gateway.bad_coding"), "{coding}");
    }
    assert_eq!(send("identity", b"12345".to_vec()).await.body, "5 ");
    for coding in ["compress", "gzip, br"] {
        let refused = send(coding, b"12345".to_vec()).await;
        assert_eq!((refused.status, refused.code().as_str()), (415, "gateway.unknown_coding"), "{coding}");
        assert_eq!(refused.header("accept-encoding"), "zstd, br, gzip");
    }
    let plain = client().post(door.url("/")).body("12345").send().await.unwrap();
    assert_eq!(Answer::of(plain).await.body, "5 ");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_decompress_bodies_pass_as_they_are() {
    let service =
        Service::start(|got| reply(200, &format!("{} {}", got.body.len(), got.header("content-encoding")))).await;
    let door = Door::open(&config(&service.url(), "timeout: 10s")).await;
    let sent = client().post(door.url("/")).header("content-encoding", "exi").body("12345").send().await.unwrap();
    assert_eq!(Answer::of(sent).await.body, "5 exi");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_does_not_end_what_others_wait_for() {
    let large = text(700 << 10);
    let answer = large.clone();
    let service = Service::start(move |_| {
        http::Response::builder().header("cache-control", "max-age=60").body(Full::from(answer.clone())).unwrap()
    })
    .await;
    let door = Door::open(&config(&service.url(), "cache: {}")).await;
    {
        let mut stream = TcpStream::connect(door.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut first = [0; 64];
        stream.read_exact(&mut first).await.unwrap();
    }
    let kept = || door.gateway.engine.snapshot().cache.as_ref().is_some_and(|store| store.sizes().memory_answers == 1);
    tokio::time::timeout(TIMEOUT, async {
        while !kept() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it is read to its end");
    let got = client().get(door.url("/")).header("host", "a").send().await.unwrap();
    assert!(got.text().await.unwrap() == large);
    assert_eq!(service.got().len(), 1);
}
