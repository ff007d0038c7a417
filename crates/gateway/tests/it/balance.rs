//! Which endpoint is asked, and when another one is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpListener;

use crate::support::{Answer, Door, Refusing, Service, blunt, client, reply, until};

fn over(urls: &[String], more: &str, route: &str) -> String {
    let urls: Vec<String> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    format!(
        "workers: 1\nupstreams: {{ s: {{ endpoints: [{}]{more} }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s{route} }}]\n",
        urls.join(", ")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_balancing_spreads_requests_and_a_hash_keeps_them() {
    let services = [Service::named("a").await, Service::named("b").await, Service::named("c").await];
    let urls: Vec<String> = services.iter().map(Service::url).collect();
    for balance in ["round_robin", "least_requests", "peak_ewma"] {
        let door = Door::open(&over(&urls, &format!(", balance: {balance}"), "")).await;
        let before: Vec<usize> = services.iter().map(|service| service.got().len()).collect();
        for _ in 0..30 {
            assert_eq!(door.get("/", &[]).await.status, 200);
        }
        let asked: Vec<usize> =
            services.iter().zip(before).map(|(service, before)| service.got().len() - before).collect();
        if balance == "peak_ewma" {
            assert!(asked.iter().filter(|count| **count > 0).count() >= 2, "{balance}: {asked:?}");
        } else {
            assert_eq!(asked, [10, 10, 10], "{balance}");
        }
    }
    let door = Door::open(&over(&urls, ", balance: hash, hash_key: header:x-user", "")).await;
    each_stays_with_one_of_three(&door).await;
}

async fn each_stays_with_one_of_three(door: &Door) {
    let mut seen = std::collections::BTreeSet::new();
    for user in 0..30 {
        let user = user.to_string();
        let first = door.get("/", &[("x-user", &user)]).await.body;
        for _ in 0..4 {
            assert_eq!(door.get("/", &[("x-user", &user)]).await.body, first, "{user}");
        }
        seen.insert(first);
    }
    assert_eq!(seen.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_keeps_the_calls_of_an_aggregation_too() {
    let named = async |name: &'static str| {
        Service::start(move |_| {
            let mut answer = reply(200, &format!("\"{name}\""));
            answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
            answer
        })
        .await
    };
    let services = [named("a").await, named("b").await, named("c").await];
    let urls: Vec<String> = services.iter().map(Service::url).collect();
    let config = over(&urls, ", balance: hash, hash_key: header:x-user", "");
    let calls = "aggregate: { calls: { one: { upstream: s, path: / } } }";
    let door = Door::open(&config.replace("upstream: s }]", &format!("{calls} }}]"))).await;
    each_stays_with_one_of_three(&door).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_kept() {
    let (heavy, light) = (Service::named("heavy").await, Service::named("light").await);
    let config = over(&[], "", "").replace(
        "endpoints: []",
        &format!("endpoints: [{{ url: \"{}\", weight: 3 }}, {{ url: \"{}\", weight: 1 }}]", heavy.url(), light.url()),
    );
    let door = Door::open(&config).await;
    for _ in 0..40 {
        door.get("/", &[]).await;
    }
    assert_eq!((heavy.got().len(), light.got().len()), (30, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_cannot_be_made_are_tried_elsewhere() {
    let service = Service::named("alive").await;
    let gone = Refusing::new();
    let door = Door::open(&over(&[gone.url(), service.url()], ", outliers: { failures: 3, pause: 60s }", "")).await;
    // Nothing of a POST was sent where there was no connection.
    for _ in 0..10 {
        let answer = Answer::of(client().post(door.url("/")).body("x").send().await.unwrap()).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "alive"));
    }
    let counted = door.metrics();
    assert!(
        counted.contains("tessera_gateway_retries_total{upstream=\"s\"} 3"),
        "three failures, then it is left alone: {counted}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_safe_is_sent_twice() {
    let (broken, got) = blunt(b"").await;
    let service = Service::named("alive").await;
    let door = Door::open(&over(&[format!("http://{broken}"), service.url()], ", outliers: { failures: 0 }", "")).await;
    for _ in 0..4 {
        assert_eq!(door.get("/", &[]).await.body, "alive");
    }
    let gets = got.lock().unwrap().len();
    assert!(gets > 0);
    let mut refused = 0;
    for _ in 0..4 {
        let answer = Answer::of(client().post(door.url("/")).body("x").send().await.unwrap()).await;
        refused += usize::from(answer.status == 502);
    }
    assert_eq!(refused, got.lock().unwrap().len() - gets, "each POST that was sent there was sent once");
    assert!(refused > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_503_is_tried_elsewhere_where_that_is_asked_for() {
    let (busy, service) = (Service::start(|_| reply(503, "busy")).await, Service::named("alive").await);
    let urls = [busy.url(), service.url()];
    let retrying = Door::open(&over(
        &urls,
        ", outliers: { failures: 0 }, retry_budget_percent: 100",
        ", retry: { attempts: 3, on: [unavailable] }",
    ))
    .await;
    for _ in 0..10 {
        assert_eq!(retrying.get("/", &[]).await.body, "alive");
    }
    let plain = Door::open(&over(&urls, ", outliers: { failures: 0 }", "")).await;
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(plain.get("/", &[]).await.status);
    }
    statuses.sort();
    assert_eq!(statuses, [200, 503]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_the_rest_of_an_answer_that_is_not_passed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (busy, service) = (listener.local_addr().unwrap(), Service::named("alive").await);
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 100\r\n\r\nmore to come").await;
            open.push(stream);
        }
    });
    let more = ", outliers: { failures: 0 }";
    let door =
        Door::open(&over(&[format!("http://{busy}"), service.url()], more, ", retry: { on: [unavailable] }")).await;
    for _ in 0..4 {
        assert_eq!(door.get("/", &[]).await.body, "alive");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_late_is_asked_of_a_second_endpoint() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (late, service) = (listener.local_addr().unwrap(), Service::named("quick").await);
    let urls = [format!("http://{late}"), service.url()];
    let door = Door::open(&over(
        &urls,
        ", outliers: { failures: 0 }",
        ", timeout: 10s, retry: { attempts: 1, hedge_after: 50ms }",
    ))
    .await;
    for _ in 0..6 {
        assert_eq!(door.get("/", &[]).await.body, "quick");
    }
    assert!(door.metrics().contains("tessera_gateway_hedges_total{upstream=\"s\"} 6"), "{}", door.metrics());
    // What changes something is asked of one only; with the late one first in turn it waits for it.
    let before = service.got().len();
    let waiting = tokio::spawn(client().post(door.url("/")).body("x").send());
    let other = Answer::of(client().post(door.url("/")).body("x").send().await.unwrap()).await;
    assert_eq!((other.body.as_str(), service.got().len()), ("quick", before + 1));
    waiting.abort();
    // With nobody else there is no second one; and where both are bad, an answer is better than none.
    let busy = Service::start(|_| reply(503, "busy")).await;
    let (broken, _) = blunt(b"").await;
    let urls = [format!("http://{broken}"), busy.url()];
    let both =
        Door::open(&over(&urls, ", outliers: { failures: 0 }", ", retry: { attempts: 1, hedge_after: 1ms }")).await;
    for _ in 0..2 {
        assert!([502, 503].contains(&both.get("/", &[]).await.status));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_bounds_retries() {
    let (busy, also) = (Service::start(|_| reply(503, "busy")).await, Service::start(|_| reply(503, "busy")).await);
    let door = Door::open(&over(
        &[busy.url(), also.url()],
        ", outliers: { failures: 0 }, retry_budget_percent: 10",
        ", retry: { attempts: 3, on: [unavailable] }",
    ))
    .await;
    for _ in 0..100 {
        assert_eq!(door.get("/", &[]).await.status, 503);
    }
    let asked = busy.got().len() + also.got().len();
    assert!(asked <= 121, "100 requests, 10 saved up and 10 in a hundred: {asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_find_out_who_is_well() {
    let is_well = Arc::new(AtomicBool::new(true));
    let asked = is_well.clone();
    let moody = Service::start(move |got| {
        let fails = got.uri == "/health" && !asked.load(Ordering::SeqCst);
        if fails { reply(500, "unwell") } else { reply(200, "moody") }
    })
    .await;
    let steady = Service::named("steady").await;
    let door =
        Door::open(&over(&[moody.url(), steady.url()], ", health: { path: /health, every: 20ms, timeout: 5s }", ""))
            .await;
    let upstream = door.gateway.engine.snapshot().upstreams["s"].clone();
    let well = || upstream.endpoints()[0].is_well();
    is_well.store(false, Ordering::SeqCst);
    until("it is found unwell", || !well()).await;
    for _ in 0..6 {
        assert_eq!(door.get("/", &[]).await.body, "steady");
    }
    is_well.store(true, Ordering::SeqCst);
    until("it is found well", well).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        seen.insert(door.get("/", &[]).await.body);
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_spares_an_upstream_that_fails() {
    let gone = Refusing::new();
    let door =
        Door::open(&over(&[gone.url()], ", breaker: { failures: 3, pause: 60s }", ", retry: { attempts: 1 }")).await;
    for _ in 0..3 {
        assert_eq!(door.get("/", &[]).await.code(), "gateway.upstream_unreachable");
    }
    assert_eq!(door.get("/", &[]).await.code(), "gateway.no_endpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_during_the_trial_does_not_keep_the_breaker_open() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let urls = [format!("http://{}", listener.local_addr().unwrap())];
    let more = ", breaker: { failures: 1, pause: 1ms }, outliers: { failures: 0 }";
    let door = Door::open(&over(&urls, more, ", retry: { attempts: 1 }")).await;
    let asking = tokio::spawn(client().get(door.url("/")).send());
    // The first one breaks off, which opens the breaker.
    drop(listener.accept().await.unwrap());
    assert_eq!(asking.await.unwrap().unwrap().status(), 502);
    // The one that tries it gets no answer, and its caller goes away.
    let (_hanging, asking) = loop {
        let mut asking = tokio::spawn(client().get(door.url("/")).send());
        tokio::select! {
            accepted = listener.accept() => break (accepted.unwrap().0, asking),
            refused = &mut asking => assert_eq!(refused.unwrap().unwrap().status(), 503),
        }
    };
    asking.abort();
    // Now it is well.
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        }
    });
    let back = async { while door.get("/", &[]).await.status != 200 {} };
    tokio::time::timeout(crate::support::TIMEOUT, back).await.expect("it is tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_found_by_name_and_in_a_file() {
    let (one, two) = (Service::named("one").await, Service::named("two").await);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("endpoints"), format!("# one a line\n{}\n", one.url())).unwrap();
    let config = format!(
        r#"
upstreams:
  file: {{ discover: {{ file: {{ path: endpoints }} }} }}
  name: {{ discover: {{ dns: {{ url: "http://localhost:{}", every: 1s }} }} }}
routes:
  - {{ name: file, match: {{ path: /file }}, upstream: file }}
  - {{ name: name, match: {{ path: /name }}, upstream: name }}
"#,
        two.address.port()
    );
    let door = Door::open_in(folder, &config).await;
    let snapshot = door.gateway.engine.snapshot();
    let count = |name: &str| snapshot.upstreams[name].endpoints().len();
    until("both are found", || count("file") == 1 && count("name") >= 1).await;
    assert_eq!(door.get("/file", &[]).await.body, "one");
    assert_eq!(door.get("/name", &[]).await.body, "two");
    std::fs::write(door.folder.path().join("endpoints"), format!("{}\n{}\n", one.url(), two.url())).unwrap();
    until("the file is read again", || count("file") == 2).await;
    std::fs::write(door.folder.path().join("endpoints"), "not a url\n").unwrap();
    let refused = "tessera_gateway_lookups_total{upstream=\"file\",outcome=\"failed\"}";
    until("it is read and refused", || door.metrics().contains(refused)).await;
    assert_eq!((door.get("/file", &[]).await.status, count("file")), (200, 2), "a broken file changes nothing");
}

/// A name server with a service of these targets (priority, weight, port), all at `127.0.0.1`.
async fn name_server(targets: Arc<std::sync::Mutex<Vec<(u16, u16, u16)>>>) -> std::net::SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((count, asker)) = socket.recv_from(&mut query).await {
            let name_end = 12 + query[12..count].iter().position(|byte| *byte == 0).unwrap();
            let (question, kind) =
                (&query[12..name_end + 5], u16::from_be_bytes([query[name_end + 1], query[name_end + 2]]));
            // The name is that of the question; one second.
            let record = |data: &[u8]| {
                let head =
                    [&[0xc0, 12][..], &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 1], &(data.len() as u16).to_be_bytes()];
                [&head.concat(), data].concat()
            };
            let records: Vec<Vec<u8>> = match kind {
                1 => vec![record(&[127, 0, 0, 1])],
                33 => {
                    let targets = targets.lock().unwrap();
                    let target = |&(priority, weight, port): &(u16, u16, u16)| {
                        record(
                            &[&[priority, weight, port].map(u16::to_be_bytes).concat()[..], b"\x03one\x07example\0"]
                                .concat(),
                        )
                    };
                    targets.iter().map(target).collect()
                }
                _ => Vec::new(),
            };
            let head =
                [&query[..2], &[0x85, 0x80, 0, 1], &(records.len() as u16).to_be_bytes(), &[0, 0, 0, 0]].concat();
            let _ = socket.send_to(&[&head, question, &records.concat()].concat(), asker).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_found_by_their_records() {
    let (one, two, spare) = (Service::named("one").await, Service::named("two").await, Service::named("spare").await);
    let port = |service: &Service| service.address.port();
    let targets = Arc::new(std::sync::Mutex::new(vec![(1, 3, port(&one)), (1, 1, port(&two)), (2, 1, port(&spare))]));
    let server = name_server(targets.clone()).await;
    let config = format!(
        r#"
workers: 1
upstreams:
  s: {{ discover: {{ srv: {{ name: _http._tcp.shop.internal, servers: ["{server}"] }} }} }}
  named: {{ discover: {{ dns: {{ url: "http://one.example:{}", servers: ["{server}"] }} }} }}
routes:
  - {{ name: all, match: {{ path: /* }}, upstream: s, keep_host: false }}
  - {{ name: named, match: {{ path: /named }}, upstream: named }}
"#,
        port(&two)
    );
    let door = Door::open(&config).await;
    let snapshot = door.gateway.engine.snapshot();
    let count = |name: &str| snapshot.upstreams[name].endpoints().len();
    until("they are found", || count("s") == 2 && count("named") == 1).await;
    for _ in 0..8 {
        door.get("/", &[]).await;
    }
    assert_eq!((one.got().len(), two.got().len()), (6, 2), "by weight");
    assert_eq!(one.last().header("host"), format!("one.example:{}", port(&one)));
    assert_eq!(door.get("/named", &[]).await.body, "two");
    // The records hold for a second; when the first ones are gone the next are used, and none is no answer.
    targets.lock().unwrap().retain(|(priority, ..)| *priority == 2);
    until("the next are found", || count("s") == 1).await;
    assert_eq!(door.get("/", &[]).await.body, "spare");
    targets.lock().unwrap().clear();
    let failed = "tessera_gateway_lookups_total{upstream=\"s\",outcome=\"failed\"}";
    until("there is none", || door.metrics().contains(failed)).await;
    assert_eq!(door.get("/", &[]).await.body, "spare", "the known one stays");
}
