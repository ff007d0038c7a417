//! Services that answer before they have read what they are sent, and the gateway when it does.

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use tessera_kernel::{RandomIds, SystemClock};
use tessera_service::http::Config;
use tessera_service::run::{self, Inside, Plan, Role, Running};
use tessera_service::{Component, Metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Door, TIMEOUT};

fn to(url: &str) -> String {
    format!(
        "workers: 1\nupstreams: {{ s: {{ endpoints: [\"{url}\"], outliers: {{ failures: 0 }} }} }}\n\
         routes: [{{ name: all, match: {{ path: /* }}, upstream: s, body: 16MiB }}]\n"
    )
}

/// A process of our own that refuses bodies unread at `/refused`, and says how long they are at `/read`.
async fn product() -> Running {
    let router = Router::new()
        .route("/refused", post(async || http::StatusCode::UNAUTHORIZED))
        .route("/read", post(async |body: Bytes| body.len().to_string()));
    let clock = Arc::new(SystemClock);
    run::start(Plan {
        listener: run::bind("127.0.0.1:0").await.unwrap(),
        roles: vec![Role { name: "shop", components: vec![Component::new("shop", "/").router(router)] }],
        http: Config::default(),
        clock: clock.clone(),
        ids: Arc::new(RandomIds),
        metrics: Metrics::new(clock),
        front: None,
        inside: Inside::default(),
        sockets: tessera_service::sockets::Sockets::default(),
    })
    .unwrap()
}

/// Status and body of the answer to a head that is sent first and a body that is sent then, as far as it is taken.
async fn in_two_parts(door: &Door, path: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(door.address()).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    let _ = stream.write_all(body).await;
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                return (text[9..12].parse().unwrap(), body.to_owned());
            }
        }
        let read = tokio::time::timeout(TIMEOUT, stream.read_buf(&mut bytes)).await.expect("it answers");
        assert!(read.unwrap() > 0, "it ended after {bytes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_product_says_before_it_read_the_body_is_heard() {
    let running = product().await;
    let door = Door::open(&to(&format!("http://{}", running.address()))).await;
    for length in [10, 1_000, 10_000, 100_000, 1_000_000] {
        let body = vec![b'x'; length];
        for _ in 0..20 {
            let (status, said) = in_two_parts(&door, "/refused", &body).await;
            assert_eq!(status, 401, "{length} bytes: {said}");
            // What connections are kept are good for the next one.
            let (status, said) = in_two_parts(&door, "/read", b"abc").await;
            assert_eq!((status, said.as_str()), (200, "3"), "after {length} bytes");
        }
    }
    assert!(running.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_says_before_it_read_the_body_is_heard() {
    let door = Door::open("routes: [{ name: none, match: { path: /* }, respond: { status: 403, body: no } }]\n").await;
    for length in [10, 1_000, 100_000, 1_000_000] {
        let body = vec![b'x'; length];
        for _ in 0..20 {
            let (status, said) = in_two_parts(&door, "/", &body).await;
            assert_eq!((status, said.as_str()), (403, "no"), "{length} bytes");
        }
    }
}
