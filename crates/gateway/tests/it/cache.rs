//! Answers that are kept: what is given to whom, for how long, and what ends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::Full;
use tessera_gateway::auth::hash_key;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::operate::admin;
use crate::support::{Answer, Door, Got, Reply, Service, client, until, whole};

fn config(service: &Service, route: &str) -> String {
    format!(
        "upstreams: {{ s: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s, cache: {{ {route} }} }}]\n",
        service.url()
    )
}

/// A service that counts its answers, and says these headers of them.
async fn counting(headers: &'static [(&'static str, &'static str)]) -> Service {
    let count = AtomicUsize::new(0);
    Service::start(move |got| numbered(count.fetch_add(1, Ordering::SeqCst) + 1, got, headers)).await
}

fn numbered(count: usize, got: &Got, headers: &[(&str, &str)]) -> Reply {
    let mut reply = http::Response::builder();
    for (name, value) in headers {
        reply = reply.header(*name, *value);
    }
    reply.body(Full::from(format!("{count} {}", got.header("accept-language")))).unwrap()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fresh_is_not_fetched_again() {
    let service = counting(&[("cache-control", "max-age=10")]).await;
    let door = Door::open(&config(&service, "")).await;
    let first = door.get("/a", &[]).await;
    assert_eq!(
        (first.body.as_str(), first.header("cache-status")),
        ("1 ", "tessera; fwd=uri-miss; fwd-status=200; stored")
    );
    door.clock.advance(seconds(4));
    let second = door.get("/a", &[]).await;
    assert_eq!((second.body.as_str(), second.header("age")), ("1 ", "4"));
    assert_eq!(second.header("cache-status"), "tessera; hit; ttl=6");
    assert_eq!(door.get("/b", &[]).await.body, "2 ", "another path");
    assert_eq!(door.get("/a?x", &[]).await.body, "3 ", "another query");
    let head = client().head(door.url("/a")).send().await.unwrap();
    assert_eq!(head.status().as_u16(), 200);
    assert_eq!(head.headers()["content-length"], "2");
    door.clock.advance(seconds(10));
    assert_eq!(door.get("/a", &[]).await.body, "4 ", "it is stale");
    let page = door.metrics();
    for (outcome, count) in [("hit", 2), ("miss", 4)] {
        let line = format!("tessera_gateway_cache_requests_total{{route=\"all\",outcome=\"{outcome}\"}} {count}");
        assert!(page.contains(&line), "{line}\n{page}");
    }
    assert!(page.contains("tessera_gateway_cache_stored_bytes{tier=\"memory\"}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_are_told_apart() {
    let service = counting(&[("cache-control", "max-age=10"), ("vary", "accept-language")]).await;
    let door = Door::open(&config(&service, "")).await;
    for (language, body) in [("en", "1 en"), ("de", "2 de"), ("en", "1 en"), ("DE", "2 de"), ("fr", "3 fr")] {
        assert_eq!(door.get("/", &[("accept-language", language)]).await.body, body);
    }
    assert_eq!(door.get("/", &[]).await.header("cache-status"), "tessera; fwd=vary-miss; fwd-status=200; stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_holds_is_not_sent_again() {
    let service = Service::start(|got| {
        let is_known = got.header("if-none-match") == "\"v1\"";
        let reply = http::Response::builder().header("etag", "\"v1\"").header("cache-control", "max-age=5");
        let reply = reply.header("x-at", got.header("x-now")).status(if is_known { 304 } else { 200 });
        reply.body(Full::from(if is_known { "" } else { "0123456789" })).unwrap()
    })
    .await;
    let door = Door::open(&config(&service, "")).await;
    assert_eq!(door.get("/", &[("x-now", "one")]).await.status, 200);
    assert_eq!(door.get("/", &[("if-none-match", "W/\"v1\"")]).await.status, 304);
    assert_eq!(service.got().len(), 1);
    door.clock.advance(seconds(6));
    let again = door.get("/", &[("x-now", "two")]).await;
    assert_eq!((again.status, again.body.as_str(), again.header("x-at")), (200, "0123456789", "two"));
    assert_eq!(again.header("cache-status"), "tessera; hit; fwd=stale; fwd-status=304; stored; ttl=5");
    assert_eq!(service.last().header("if-none-match"), "\"v1\"");
    assert_eq!(door.get("/", &[("x-now", "three")]).await.header("x-at"), "two", "fresh again, with its new headers");
    let part = door.get("/", &[("range", "bytes=2-4")]).await;
    assert_eq!((part.status, part.body.as_str(), part.header("content-range")), (206, "234", "bytes 2-4/10"));
    assert_eq!(door.get("/", &[("range", "bytes=2-4"), ("if-range", "\"v0\"")]).await.status, 200);
    assert_eq!(door.get("/", &[("range", "bytes=99-")]).await.status, 416);
    assert_eq!(service.got().len(), 2);
    let refreshed = door.get("/", &[("cache-control", "no-cache")]).await;
    assert_eq!((refreshed.status, service.got().len()), (200, 3), "the caller wants to know");
    assert_eq!(door.get("/never", &[("cache-control", "only-if-cached")]).await.code(), "gateway.not_cached");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_one_caller_is_not_given_to_another() {
    let service = Service::start(|got| {
        let said = got.uri.trim_start_matches('/').replace('_', "=").replace('+', ", ");
        let reply = http::Response::builder().header("cache-control", said);
        reply.body(Full::from(format!("for {}", got.header("x-auth-subject")))).unwrap()
    })
    .await;
    let route = |name: &str, path: &str, cache: &str| {
        format!(
            "  - {{ name: {name}, match: {{ path: \"{path}\" }}, upstream: s, rewrite: {{ strip_prefix: /own }}, access: {{ by: [keys] }}, cache: {{ {cache} }} }}\n"
        )
    };
    let door = Door::open(&format!(
        "auth:\n  keys: {{ api_key: {{ consumers: {{ ann: {{ hashes: [{}] }}, bob: {{ hashes: [{}] }} }} }} }}\nupstreams: {{ s: {{ endpoints: [\"{}\"] }} }}\nroutes:\n{}{}",
        hash_key("key-of-ann"),
        hash_key("key-of-bob"),
        service.url(),
        route("shared", "/*", ""),
        route("personal", "/own/*", "by: [consumer]"),
    ))
    .await;
    let get = async |path: &str, key: &str| door.get(path, &[("x-api-key", key)]).await.body;
    for path in ["/max-age_60", "/private+max-age_60", "/no-store"] {
        assert_eq!(get(path, "key-of-ann").await, "for ann", "{path}");
        assert_eq!(get(path, "key-of-bob").await, "for bob", "{path}");
    }
    assert_eq!(get("/public+max-age_60", "key-of-ann").await, "for ann");
    assert_eq!(get("/public+max-age_60", "key-of-bob").await, "for ann", "the service says that it is for all");
    assert_eq!(door.get("/public+max-age_60", &[]).await.status, 401, "what is kept is no way around `access`");
    let asked = service.got().len();
    for _ in 0..2 {
        assert_eq!(get("/own/max-age_60", "key-of-ann").await, "for ann");
        assert_eq!(get("/own/max-age_60", "key-of-bob").await, "for bob");
    }
    assert_eq!(service.got().len(), asked + 2, "each has his own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_the_gateways_own_is_not_what_a_caller_says_it_is() {
    let service = Service::start(|got| {
        let reply = http::Response::builder().header("cache-control", "public, max-age=60");
        reply
            .header("vary", "x-auth-subject")
            .body(Full::from(format!("for {}", got.header("x-auth-subject"))))
            .unwrap()
    })
    .await;
    let door = Door::open(&format!(
        "auth:\n  keys: {{ api_key: {{ consumers: {{ ann: {{ hashes: [{}] }}, bob: {{ hashes: [{}] }} }} }} }}\nupstreams: {{ s: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s, access: {{ by: [keys] }}, cache: {{}} }}]\n",
        hash_key("key-of-ann"),
        hash_key("key-of-bob"),
        service.url(),
    ))
    .await;
    assert_eq!(door.get("/", &[("x-api-key", "key-of-ann")]).await.body, "for ann");
    let forged = door.get("/", &[("x-api-key", "key-of-bob"), ("x-auth-subject", "ann")]).await;
    assert_eq!(forged.body, "for bob");
    assert_eq!(door.get("/", &[("x-api-key", "key-of-ann")]).await.header("age"), "0", "hers is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_is_fetched_again() {
    let service = counting(&[("cache-control", "max-age=60"), ("location", "/other")]).await;
    let door = Door::open(&config(&service, "")).await;
    assert_eq!(door.get("/a?page=2", &[]).await.body, "1 ");
    assert_eq!(door.get("/other", &[]).await.body, "2 ");
    assert_eq!(door.get("/third", &[]).await.body, "3 ");
    client().post(door.url("/a")).body("new").send().await.unwrap();
    assert_eq!(door.get("/a?page=2", &[]).await.body, "5 ", "whatever the query");
    assert_eq!(door.get("/other", &[]).await.body, "6 ", "the answer names it");
    assert_eq!(door.get("/third", &[]).await.body, "3 ");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_places_and_routes_are_purged() {
    let service = Service::start(|got| {
        let reply = http::Response::builder().header("cache-control", "max-age=60");
        reply.header("surrogate-key", "products p7").body(Full::from(got.uri.clone())).unwrap()
    })
    .await;
    let door = Door::open(&config(&service, "")).await;
    let fill = async || {
        for path in ["/a", "/b?x"] {
            let answer = door.get(path, &[]).await;
            assert_eq!(answer.header("surrogate-key"), "", "it is between the service and the gateway");
        }
        service.got().len()
    };
    let mut asked = fill().await;
    assert_eq!(fill().await, asked);
    let host = door.address();
    for (purge, fetched) in [
        (serde_json::json!({ "tags": ["p7"] }), 2),
        (serde_json::json!({ "tags": ["p8"] }), 0),
        (serde_json::json!({ "urls": [format!("http://{host}/b")] }), 1),
        (serde_json::json!({ "routes": ["all"] }), 2),
        (serde_json::json!({ "everything": true }), 2),
    ] {
        let (status, body) = admin(&door, "POST", "/gateway/cache/purge", &["operator"], &purge.to_string()).await;
        assert_eq!(status, 200, "{body}");
        asked += fetched;
        assert_eq!(fill().await, asked, "{purge}");
    }
    for (purge, status) in [("{}", 400), ("{\"urls\": [\"b\"]}", 400), ("{\"routes\": [\"b\"]}", 404)] {
        assert_eq!(admin(&door, "POST", "/gateway/cache/purge", &["operator"], purge).await.0, status, "{purge}");
    }
    let (_, sizes) = admin(&door, "GET", "/gateway/cache", &["operator"], "").await;
    assert_eq!(sizes["memory_answers"], 2, "{sizes}");
    assert_eq!(admin(&door, "POST", "/gateway/cache/purge", &["fan"], "{\"everything\": true}").await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_answers_bridge_failures_and_fetches() {
    let service = Service::start(|got| {
        let is_down = !got.header("x-down").is_empty();
        let said = match got.uri.as_str() {
            "/strict" => "max-age=5, must-revalidate, stale-if-error=60",
            "/while" => "max-age=5, stale-while-revalidate=30",
            _ => "max-age=5, stale-if-error=60",
        };
        let reply = http::Response::builder().header("cache-control", said).header("x-got", got.header("x-n"));
        reply.status(if is_down { 503 } else { 200 }).body(Full::from(got.header("x-n").to_owned())).unwrap()
    })
    .await;
    let door = Door::open(&config(&service, "")).await;
    for path in ["/", "/strict", "/while"] {
        door.get(path, &[("x-n", "1")]).await;
    }
    door.clock.advance(seconds(10));
    let saved = door.get("/", &[("x-down", "yes")]).await;
    assert_eq!((saved.status, saved.body.as_str()), (200, "1"));
    assert!(saved.header("cache-status").starts_with("tessera; hit; fwd=stale; fwd-status=503"));
    assert_eq!(door.get("/strict", &[("x-down", "yes")]).await.status, 503);
    assert_eq!(door.get("/while", &[("x-n", "2")]).await.body, "1", "nobody waits");
    until("it was fetched meanwhile", || service.got().iter().filter(|got| got.uri == "/while").count() == 2).await;
    let now = async || door.get("/while", &[("x-n", "3")]).await.body;
    while now().await == "1" {
        tokio::task::yield_now().await;
    }
    assert_eq!(now().await, "2");
    let fetched = service.got().iter().filter(|got| got.uri == "/while").count();
    assert!(fetched <= 3, "{fetched} fetches");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_counts_tells_answers_apart() {
    let service = counting(&[("cache-control", "max-age=60")]).await;
    let door = Door::open(&config(&service, "query: { without: [utm_*] }, by: [\"header:x-tenant\"]")).await;
    for (path, tenant, body) in [
        ("/a?id=1&utm_source=x", "t1", "1 "),
        ("/a?id=1", "t1", "1 "),
        ("/a?utm_medium=y&id=1", "t1", "1 "),
        ("/a?id=2", "t1", "2 "),
        ("/a?id=1", "t2", "3 "),
    ] {
        assert_eq!(door.get(path, &[("x-tenant", tenant)]).await.body, body, "{path} of {tenant}");
    }
}

/// A service that waits at a gate before it answers with these bytes, and counts who came.
async fn gated(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (gate, opened) = watch::channel(false);
    let count = Arc::new(AtomicUsize::new(0));
    let came = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (came, mut opened) = (came.clone(), opened.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                came.fetch_add(1, Ordering::SeqCst);
                if opened.wait_for(|is_open| *is_open).await.is_ok() {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    (address, count, gate)
}

/// A service whose first answer is whole; of all others there is a head that says 503, and no more.
async fn failing_midway() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while stream.read_buf(&mut head).await.is_ok_and(|count| count > 0) {
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    head.clear();
                    let answer = match count.fetch_add(1, Ordering::SeqCst) {
                        0 => {
                            "HTTP/1.1 200 OK\r\ncache-control: max-age=5, stale-if-error=60\r\ncontent-length: 3\r\n\r\nall"
                        }
                        _ => "HTTP/1.1 503 no\r\ncontent-length: 3\r\n\r\n",
                    };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_the_rest_of_a_failure() {
    let address = failing_midway().await;
    let door = Door::open(&format!(
        "upstreams: {{ s: {{ endpoints: [\"http://{address}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s, cache: {{}} }}]\n"
    ))
    .await;
    assert_eq!(door.get("/", &[]).await.body, "all");
    door.clock.advance(seconds(10));
    let saved = door.get("/", &[]).await;
    assert_eq!((saved.status, saved.body.as_str()), (200, "all"));
    assert!(saved.header("cache-status").contains("fwd-status=503; detail=stale-if-error"));
}

async fn ask_at_once(door: &Arc<Door>, count: usize) -> Vec<tokio::task::JoinHandle<Answer>> {
    let ask = |_| {
        let door = door.clone();
        tokio::spawn(async move { door.get("/", &[]).await })
    };
    (0..count).map(ask).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_ask_at_once_share_a_fetch() {
    let answer = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 3\r\nconnection: close\r\n\r\nall";
    let (address, count, gate) = gated(answer).await;
    let text = format!(
        "upstreams: {{ s: {{ endpoints: [\"http://{address}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s, cache: {{}} }}]\n"
    );
    let door = Arc::new(Door::open(&text).await);
    let asking = ask_at_once(&door, 12).await;
    until("one came", || count.load(Ordering::SeqCst) == 1).await;
    let requests = || door.gateway.engine.snapshot().cache.as_ref().map_or(0, |store| store.flights.len());
    until("it flies", || requests() == 1).await;
    gate.send(true).unwrap();
    for asking in asking {
        assert_eq!(asking.await.unwrap().body, "all");
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_first_goes_away_another_takes_his_place() {
    let answer = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 3\r\nconnection: close\r\n\r\nall";
    let (address, count, gate) = gated(answer).await;
    let text = format!(
        "upstreams: {{ s: {{ endpoints: [\"http://{address}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s, cache: {{}} }}]\n"
    );
    let door = Arc::new(Door::open(&text).await);
    let mut first = TcpStream::connect(door.address()).await.unwrap();
    first.write_all(format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", door.address()).as_bytes()).await.unwrap();
    until("the first came", || count.load(Ordering::SeqCst) == 1).await;
    let asking = ask_at_once(&door, 5).await;
    drop(first);
    until("another came", || count.load(Ordering::SeqCst) == 2).await;
    gate.send(true).unwrap();
    for asking in asking {
        assert_eq!(asking.await.unwrap().body, "all");
    }
    assert_eq!(count.load(Ordering::SeqCst), 2, "one and not all");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_what_is_not_kept() {
    let answer = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 3\r\nconnection: close\r\n\r\nown";
    let (address, count, gate) = gated(answer).await;
    let text = format!(
        "upstreams: {{ s: {{ endpoints: [\"http://{address}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s, cache: {{}} }}]\n"
    );
    let door = Arc::new(Door::open(&text).await);
    let asking = ask_at_once(&door, 6).await;
    until("one came", || count.load(Ordering::SeqCst) >= 1).await;
    gate.send(true).unwrap();
    for asking in asking {
        assert_eq!(asking.await.unwrap().body, "own");
    }
    assert_eq!(count.load(Ordering::SeqCst), 6, "each has his own");
    gate.send(false).unwrap();
    let asking = ask_at_once(&door, 4).await;
    until("nobody waits any more", || count.load(Ordering::SeqCst) == 10).await;
    gate.send(true).unwrap();
    for asking in asking {
        assert_eq!(asking.await.unwrap().body, "own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_passes_whole_and_is_not_kept() {
    let large = "x".repeat(300 << 10);
    let body = large.clone();
    let service = Service::start(move |got| {
        let body = Full::from(body.clone());
        let mut reply = http::Response::builder().header("cache-control", "max-age=60");
        if got.uri == "/close" {
            // Without a length, it turns out on the way.
            reply = reply.header("transfer-encoding", "chunked");
        }
        reply.body(body).unwrap()
    })
    .await;
    let door = Door::open(&config(&service, "object: 64KiB")).await;
    for path in ["/length", "/close", "/length", "/close"] {
        let answer = door.get(path, &[]).await;
        assert!(answer.body == large, "{path}: {} bytes", answer.body.len());
    }
    assert_eq!(service.got().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_on_disk_outlives_a_restart() {
    let service =
        counting(&[("cache-control", "max-age=60"), ("vary", "accept-language"), ("surrogate-key", "t")]).await;
    let folder = tempfile::tempdir().unwrap();
    let text = format!("cache: {{ disk: {{ folder: \"{}\" }} }}\n{}", folder.path().display(), config(&service, ""));
    // The port is another after the restart, and a host is asked for by its name.
    let speaking = |language: &'static str| [("accept-language", language), ("host", "shop.example.com")];
    let kept = |door: &Door| {
        let snapshot = door.gateway.engine.snapshot();
        snapshot.cache.as_ref().map(|store| store.sizes().disk_answers)
    };
    {
        let door = Door::open(&text).await;
        for (language, body) in [("en", "1 en"), ("de", "2 de")] {
            assert_eq!(door.get("/", &speaking(language)).await.body, body);
        }
        until("both are written", || kept(&door) == Some(2)).await;
        door.gateway.engine.stop().await;
    }
    let door = Door::open(&text).await;
    until("both are found", || kept(&door) == Some(2)).await;
    assert_eq!(door.get("/", &speaking("de")).await.body, "2 de");
    assert_eq!(service.got().len(), 2);
    let (status, _) = admin(&door, "POST", "/gateway/cache/purge", &["operator"], "{\"tags\": [\"t\"]}").await;
    assert_eq!(status, 200);
    assert_eq!(door.get("/", &speaking("en")).await.body, "3 en");
    assert_eq!(door.get("/", &speaking("de")).await.body, "4 de");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_what_is_kept() {
    let service = counting(&[("cache-control", "max-age=60")]).await;
    let text = config(&service, "");
    let door = Door::open(&text).await;
    assert_eq!(door.get("/", &[]).await.body, "1 ");
    std::fs::write(door.file(), whole(&text)).unwrap();
    door.gateway.reloader.reload().await.unwrap();
    assert_eq!(door.get("/", &[]).await.body, "1 ");
    std::fs::write(door.file(), whole(&text.replace("upstream: s,", "upstream: s, rewrite: { add_prefix: /v2 },")))
        .unwrap();
    door.gateway.reloader.reload().await.unwrap();
    assert_eq!(door.get("/", &[]).await.body, "2 ", "the route asks for something else now");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_what_became_of_a_request() {
    let service = counting(&[("cache-control", "max-age=60")]).await;
    let door = Door::open(&format!("access_log: {{ file: access.log }}\n{}", config(&service, ""))).await;
    for _ in 0..2 {
        door.get("/", &[]).await;
    }
    let log = door.folder.path().join("access.log");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    until("both are logged", || lines().lines().count() == 2).await;
    assert!(lines().contains("\"cache\":\"miss\"") && lines().contains("\"cache\":\"hit\""), "{}", lines());
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_do_not_decide_where_they_may_not() {
    let service = counting(&[("cache-control", "max-age=60")]).await;
    let door = Door::open(&config(&service, "callers_decide: false")).await;
    for wish in ["max-age=60", "no-cache", "no-store", "max-age=0"] {
        assert_eq!(door.get("/", &[("cache-control", wish)]).await.body, "1 ", "{wish}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_has_its_own() {
    let service = Service::start(|got| {
        let reply = http::Response::builder().header("cache-control", "max-age=60").header("etag", "\"a\"");
        let reply = reply.header("content-type", "application/json");
        reply.body(Full::from(format!("{{\"version\":\"{}\"}}", got.header("x-version")))).unwrap()
    })
    .await;
    let route = "}, versions: { by: header:x-version, known: { v3: {}, v2: {}, v1: { on: v2, answer: [{ move: { from: version, to: on } }] } }";
    let door = Door::open(&config(&service, route)).await;
    for (version, body, asked) in [
        ("v3", "{\"version\":\"v3\"}", 1),
        ("v2", "{\"version\":\"v2\"}", 2),
        ("v1", "{\"on\":\"v2\"}", 2),
        ("v3", "{\"version\":\"v3\"}", 2),
    ] {
        let answer = door.get("/", &[("x-version", version)]).await;
        assert_eq!((answer.body.as_str(), service.got().len()), (body, asked), "{version}");
    }
    assert_eq!(door.get("/", &[("x-version", "v1"), ("if-none-match", "\"a\"")]).await.status, 304);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_checked_is_kept_too() {
    let folder = tempfile::tempdir().unwrap();
    let document = r#"{ "openapi": "3.1.0", "info": { "title": "t", "version": "1" }, "paths": { "/a": { "get": {
        "parameters": [{ "name": "n", "in": "query", "schema": { "type": "integer" } }],
        "responses": { "200": { "description": "it" } } } } } }"#;
    std::fs::write(folder.path().join("a.json"), document).unwrap();
    let service = counting(&[("cache-control", "max-age=60"), ("etag", "\"a\"")]).await;
    let route = "}, validate: { openapi: a.json, answers: refuse ";
    let door = Door::open_in(folder, &config(&service, route)).await;
    assert_eq!(door.get("/a?n=1", &[]).await.body, "1 ");
    assert_eq!(door.get("/a?n=1", &[]).await.header("cache-status"), "tessera; hit; ttl=60");
    assert_eq!(
        door.get("/a?n=1", &[("if-none-match", "\"a\"")]).await.status,
        304,
        "that it is known is no answer of its own"
    );
    assert_eq!(door.get("/a?n=x", &[]).await.code(), "gateway.invalid");
    assert_eq!(service.got().len(), 1);
}
