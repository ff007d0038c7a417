//! Malformed requests over real sockets: each gets a 400, and nothing of it reaches the service behind.

use crate::support::{Door, Service};

const HEAD: &str = "host: a.example\r\n";

fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let chunked = |body: &str| format!("POST / HTTP/1.1\r\n{HEAD}transfer-encoding: chunked\r\n\r\n{body}");
    let get = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}\r\n");
    let post = |lines: &str, body: &str| format!("POST / HTTP/1.1\r\n{HEAD}{lines}\r\n{body}");
    let smuggled = format!("GET /smuggled HTTP/1.1\r\n{HEAD}\r\n");
    let texts = [
        (
            "length and chunked",
            post("content-length: 5\r\ntransfer-encoding: chunked\r\n", &format!("0\r\n\r\n{smuggled}")),
        ),
        ("chunked and length", post("transfer-encoding: chunked\r\ncontent-length: 5\r\n", "0\r\n\r\n")),
        ("two lengths", post("content-length: 5\r\ncontent-length: 6\r\n", "hello")),
        ("the same length twice", post("content-length: 5\r\ncontent-length: 5\r\n", "hello")),
        ("a list of lengths", post("content-length: 5, 5\r\n", "hello")),
        ("a negative length", post("content-length: -5\r\n", "hello")),
        ("a length with a plus", post("content-length: +5\r\n", "hello")),
        ("a hexadecimal length", post("content-length: 0x5\r\n", "hello")),
        ("an empty length", post("content-length:\r\n", "")),
        ("an endless length", post("content-length: 99999999999999999999999\r\n", "hello")),
        ("chunked twice", post("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n")),
        ("chunked, chunked", post("transfer-encoding: chunked, chunked\r\n", "0\r\n\r\n")),
        ("chunked is not last", post("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n")),
        ("another coding", post("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n")),
        ("an unknown coding", post("transfer-encoding: xchunked\r\n", "0\r\n\r\n")),
        ("a coding with a vertical tab", post("transfer-encoding: \u{b}chunked\r\n", "0\r\n\r\n")),
        ("chunked in 1.0", format!("POST / HTTP/1.0\r\n{HEAD}transfer-encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("a chunk without a size", chunked("\r\nhello\r\n0\r\n\r\n")),
        ("a chunk with 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n")),
        ("a chunk with a minus", chunked("-5\r\nhello\r\n0\r\n\r\n")),
        ("a chunk with a space", chunked("5 \r\nhello\r\n0\r\n\r\n")),
        ("a chunk too long for its size", chunked("3\r\nhello\r\n0\r\n\r\n")),
        ("a chunk of 2^64", chunked("10000000000000000\r\nhello\r\n0\r\n\r\n")),
        ("a chunk's size ends with lf", chunked("5\nhello\r\n0\r\n\r\n")),
        ("an extension with lf", chunked("5;a\nb\r\nhello\r\n0\r\n\r\n")),
        ("a chunk ends without cr lf", chunked("5\r\nhello0\r\n\r\n")),
        ("a trailer that is a host", chunked("0\r\nhost: b\r\n\r\n")),
        ("no host", get("")),
        ("two hosts", get("host: a.example\r\nhost: b.example\r\n")),
        ("the same host twice", get("host: a.example\r\nhost: a.example\r\n")),
        ("a host with a path", get("host: a.example/b\r\n")),
        ("a host with a user", get("host: user@a.example\r\n")),
        ("an empty host", get("host:\r\n")),
        ("nul in a value", get("host: a.example\r\nx: a\0b\r\n")),
        ("a control character in a value", get("host: a.example\r\nx: a\u{1}b\r\n")),
        ("cr in a value", get("host: a.example\r\nx: a\rb\r\n")),
        ("a folded line", get("host: a.example\r\nx: a\r\n b\r\n")),
        ("a first line that is folded", get(" host: a.example\r\n")),
        ("space before the colon", get("host: a.example\r\ntransfer-encoding : chunked\r\n")),
        ("no colon", get("host: a.example\r\nx\r\n")),
        ("an empty name", get("host: a.example\r\n: x\r\n")),
        ("lines that end with lf", "GET / HTTP/1.1\nhost: a.example\n\n".to_owned()),
        ("another authority", format!("GET http://b.example/ HTTP/1.1\r\n{HEAD}\r\n")),
        ("a target without a slash", format!("GET x HTTP/1.1\r\n{HEAD}\r\n")),
        ("a target with a fragment", format!("GET /#x HTTP/1.1\r\n{HEAD}\r\n")),
        ("a target with a space", format!("GET /a b HTTP/1.1\r\n{HEAD}\r\n")),
        ("a version that is none", format!("GET / HTTP/1.2\r\n{HEAD}\r\n")),
        ("no version", format!("GET /\r\n{HEAD}\r\n")),
        (
            "bytes behind an unknown upgrade",
            format!("{}{smuggled}", get("host: a.example\r\nconnection: upgrade\r\nupgrade: x\r\n")),
        ),
    ];
    texts.into_iter().map(|(name, text)| (name, text.into_bytes())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_gets_400_and_nothing_of_it_is_forwarded() {
    let service = Service::named("behind").await;
    let door = Door::open(&format!(
        "upstreams: {{ s: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s }}]\n",
        service.url()
    ))
    .await;
    assert!(malformed().len() >= 40);
    for (name, bytes) in malformed() {
        let answer = door.raw(&bytes).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
        assert!(answer.contains("gateway.malformed_request"), "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: one answer: {answer}");
        let whole: Vec<_> =
            service.got().into_iter().filter(|got| got.uri.contains("smuggled") || got.method == "GET").collect();
        assert!(whole.is_empty(), "{name}: {whole:?}");
    }
    assert!(service.got().is_empty(), "{:?}", service.got());
    let counted = door.metrics();
    assert!(counted.contains("code=\"gateway.malformed_request\",side=\"client\""), "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_is_answered_first() {
    let service = Service::named("behind").await;
    let door = Door::open(&format!(
        "upstreams: {{ s: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s }}]\n",
        service.url()
    ))
    .await;
    let answer = door.raw(format!("GET /one HTTP/1.1\r\n{HEAD}\r\nGET /two HTTP/1.1\r\n\r\n")).await;
    let (first, second) = answer.split_once("behind").expect("the first answer");
    assert!(first.starts_with("HTTP/1.1 200") && second.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(service.last().uri, "/one");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_targets_have_limits() {
    let door = Door::open(
        "limits: { head: 2KiB, target: 256B, headers: 20 }\nroutes: [{ name: all, match: { path: /* }, respond: {} }]\n",
    )
    .await;
    for (request, status) in [
        (format!("GET /{} HTTP/1.1\r\n{HEAD}\r\n", "x".repeat(300)), "414"),
        (format!("GET / HTTP/1.1\r\n{HEAD}x: {}\r\n\r\n", "x".repeat(3000)), "431"),
        (format!("GET / HTTP/1.1\r\n{HEAD}{}\r\n", "x: 1\r\n".repeat(30)), "431"),
        (format!("GET / HTTP/1.1\r\n{HEAD}connection: close\r\n\r\n"), "200"),
    ] {
        let answer = door.raw(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_closed_by_their_deadline() {
    let door = Door::open(
        "limits: { head_timeout: 100ms, body_timeout: 100ms }\nroutes: [{ name: all, match: { path: /* }, respond: {} }]\n",
    )
    .await;
    // Half a head; nothing at all.
    let answer = door.raw("GET / HTTP/1.1\r\nhost: a").await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("gateway.slow_client"), "{answer}");
    assert_eq!(door.raw("").await, "");
}
