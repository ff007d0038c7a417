//! How often, how many at once, and what is shed first.

use std::time::Duration;

use tessera_gateway::auth::hash_key;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::{Answer, Door, Service, TIMEOUT, client, reply, until};

#[tokio::test(flavor = "multi_thread")]
async fn rates_are_kept_by_caller_over_all_workers() {
    let door = Door::open(
        r#"
workers: 2
routes:
  - name: limited
    match: { path: "/t/{tenant}" }
    respond: { body: ok }
    rate_limits:
      - { name: tenant, per: [path:tenant, header:x-key], rate: 3/h }
      - { name: all, rate: 8/h }
"#,
    )
    .await;
    let ask = |tenant: &'static str, key: &'static str| {
        let door = &door;
        // A connection each, so that both workers are met.
        async move { door.get(&format!("/t/{tenant}"), &[("x-key", key)]).await }
    };
    for remaining in ["2", "1", "0"] {
        let answer = ask("a", "1").await;
        assert_eq!((answer.status, answer.header("ratelimit-remaining")), (200, remaining));
    }
    let refused = ask("a", "1").await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "gateway.rate_limited"));
    let retry: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1_100..=1_200).contains(&retry), "a third of an hour: {retry}");
    assert_eq!((refused.header("ratelimit-limit"), refused.header("ratelimit-policy")), ("3", "\"tenant\";q=3;w=3600"));
    assert_eq!(refused.json()["may_retry"], true);
    assert_eq!(ask("b", "1").await.status, 200, "another tenant");
    assert_eq!(ask("a", "2").await.status, 200, "another key");
    for _ in 0..3 {
        assert_eq!(ask("c", "1").await.status, 200);
    }
    let refused = ask("d", "1").await;
    assert!(refused.status == 429 && refused.body.contains("`all`"), "all together: {}", refused.body);
}

const WELL: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";

/// A gateway before a service that never answers, with so many requests under way.
async fn hanging(config: &str, paths: &[&str]) -> (Door, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstreams = format!("upstreams: {{ s: {{ endpoints: [\"http://{}\"] }} }}\n", listener.local_addr().unwrap());
    let door = Door::open(&(upstreams + config)).await;
    let mut open = Vec::new();
    for path in paths {
        let mut stream = TcpStream::connect(door.address()).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
        // It is under way when it has arrived behind.
        let (behind, _) = tokio::time::timeout(TIMEOUT, listener.accept()).await.unwrap().unwrap();
        open.extend([stream, behind]);
    }
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            // What comes on a connection later is not read, so none is kept.
            let _ = stream.write_all(WELL).await;
            held.push(stream);
        }
    });
    (door, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn places_of_a_route_are_taken_and_given_back() {
    let config = "routes: [{ name: all, match: { path: /* }, upstream: s, requests_at_once: 2 }]\n";
    let (door, mut open) = hanging(config, &["/", "/"]).await;
    let refused = door.get("/", &[]).await;
    assert_eq!(
        (refused.status, refused.code().as_str(), refused.header("retry-after")),
        (503, "gateway.too_many_at_once", "1")
    );
    // The service answers the first: its place is free.
    open[1].write_all(WELL).await.unwrap();
    let mut answer = [0; 15];
    open[0].read_exact(&mut answer).await.unwrap();
    let again = async {
        while door.get("/", &[]).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, again).await.expect("a free place");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_matters_less_is_shed_first() {
    let config = r#"
limits: { requests_at_once: 10 }
routes:
  - { name: low, match: { path: /low }, upstream: s, importance: low }
  - { name: normal, match: { path: /normal }, upstream: s }
  - { name: high, match: { path: /high }, upstream: s, importance: high }
"#;
    let (door, _open) = hanging(config, &["/high"; 7]).await;
    assert_eq!(door.get("/low", &[]).await.code(), "gateway.overloaded");
    assert_eq!(door.get("/normal", &[]).await.status, 200);
    let (door, _open) = hanging(config, &["/high"; 9]).await;
    assert_eq!(door.get("/normal", &[]).await.code(), "gateway.overloaded");
    assert_eq!(door.get("/high", &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_connections() {
    let door = Door::open(
        "limits: { connections_per_ip: 2 }\nroutes: [{ name: all, match: { path: /* }, respond: { body: ok } }]\n",
    )
    .await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(door.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        kept.push(stream);
    }
    let mut third = TcpStream::connect(door.address()).await.unwrap();
    let _ = third.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = third.read_to_end(&mut answer).await;
    assert_eq!(answer, b"", "it is closed");
    drop(kept);
    let again = async {
        while client().get(door.url("/")).send().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, again).await.expect("a free place");
    let counted = Answer::of(client().get(door.url("/")).send().await.unwrap()).await;
    assert_eq!(counted.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_caller_is_its_block_of_64_bits() {
    let door = Door::open(
        r#"
trusted_proxies: [127.0.0.1]
routes:
  - name: limited
    match: { path: /* }
    respond: { body: ok }
    rate_limits: [{ name: address, per: [ip], rate: 1/h }]
"#,
    )
    .await;
    for (from, status) in [
        ("2001:db8:1:2::1", 200),
        ("2001:db8:1:2:aaaa:bbbb:cccc:dddd", 429),
        ("2001:db8:1:3::1", 200),
        ("192.0.2.1", 200),
        ("192.0.2.2", 200),
        ("::ffff:192.0.2.2", 429),
    ] {
        assert_eq!(door.get("/", &[("x-forwarded-for", from)]).await.status, status, "{from}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_not_given_the_time_of_a_head() {
    let door = Door::open(
        "limits: { head_timeout: 5m, body_timeout: 100ms }\nroutes: [{ name: all, match: { path: /* }, respond: { body: ok } }]\n",
    )
    .await;
    let mut stream = TcpStream::connect(door.address()).await.unwrap();
    // The connection waits for a head first, and then for a body.
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{answer:?}");
        }
    }
    stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n1").await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it is closed by the body's deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_count_together_in_redis_and_alone_without_it() {
    let mut redis = tessera_testkit::redis::start();
    let config = format!(
        r#"
shared_limits: {{ redis: "{}", timeout: 5s }}
auth: {{ shops: {{ api_key: {{ consumers: {{ shop: {{ hashes: [{}], quota: 4/d }} }} }} }} }}
routes:
  - name: limited
    match: {{ path: "/t/{{tenant}}" }}
    respond: {{ body: ok }}
    rate_limits: [{{ name: tenant, per: [path:tenant], rate: 3/h, shared: true }}]
  - {{ name: own, match: {{ path: /own }}, respond: {{ body: ok }}, rate_limits: [{{ name: own, rate: 1/h }}] }}
  - {{ name: shop, match: {{ path: /shop }}, respond: {{ body: ok }}, access: {{ by: [shops] }} }}
"#,
        redis.url(),
        hash_key("key-of-the-shop")
    );
    let doors = [Door::open(&config).await, Door::open(&config).await];
    let ask = |door: usize, path: &'static str| {
        let door = &doors[door];
        async move { door.get(path, &[("x-api-key", "key-of-the-shop")]).await }
    };
    for (door, remaining) in [(0, "2"), (1, "1"), (0, "0")] {
        let answer = ask(door, "/t/a").await;
        assert_eq!((answer.status, answer.header("ratelimit-remaining")), (200, remaining));
    }
    for door in [0, 1] {
        let refused = ask(door, "/t/a").await;
        let retry: u64 = refused.header("retry-after").parse().unwrap();
        assert!(refused.status == 429 && (1_100..=1_200).contains(&retry), "a third of an hour: {retry}");
        assert_eq!(ask(door, "/t/b").await.status, 200, "another caller");
        assert_eq!(ask(door, "/own").await.status, 200, "each its own");
    }
    for (door, status) in [(0, 200), (1, 200), (1, 200), (0, 200), (0, 429), (1, 429)] {
        assert_eq!(ask(door, "/shop").await.status, status);
    }
    assert!(!doors[0].metrics().contains("judged_alone_total 1"));
    // Without Redis nobody is refused for that, and each gateway counts by itself.
    redis.kill();
    for status in [200, 200, 200, 429] {
        assert_eq!(ask(0, "/t/a").await.status, status);
    }
    assert_eq!(ask(1, "/t/a").await.status, 200);
    assert!(doors[0].metrics().contains("tessera_gateway_shared_limits_judged_alone_total 4"));
    // When it is back it decides again.
    redis.start_again_empty();
    let back = async {
        while ask(0, "/t/a").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, back).await.expect("it is asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_has_a_quota_over_all_routes_and_reloads() {
    let door = Door::open(&format!(
        r#"
auth: {{ shops: {{ api_key: {{ consumers: {{ shop: {{ hashes: [{}], quota: 3/d }}, other: {{ hashes: [{}] }} }} }} }} }}
routes:
  - {{ name: one, match: {{ path: /one }}, respond: {{ body: ok }}, access: {{ by: [shops] }} }}
  - {{ name: two, match: {{ path: /two }}, respond: {{ body: ok }}, access: {{ by: [shops] }} }}
"#,
        hash_key("shop"),
        hash_key("other")
    ))
    .await;
    assert_eq!(door.get("/one", &[("x-api-key", "shop")]).await.header("ratelimit-remaining"), "2");
    assert_eq!(door.get("/two", &[("x-api-key", "shop")]).await.header("ratelimit-remaining"), "1");
    let text = std::fs::read_to_string(door.file()).unwrap();
    std::fs::write(door.file(), text.replace("name: two", "name: second")).unwrap();
    door.gateway.reloader.reload().await.unwrap();
    assert_eq!(door.get("/one", &[("x-api-key", "shop")]).await.header("ratelimit-remaining"), "0");
    let refused = door.get("/one", &[("x-api-key", "shop")]).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "gateway.rate_limited"));
    let now_s = tessera_kernel::Clock::now(&*door.clock).micros() / 1_000_000;
    assert_eq!(refused.header("retry-after"), (86_400 - now_s % 86_400).to_string(), "until midnight");
    assert_eq!(door.get("/one", &[("x-api-key", "other")]).await.status, 200);
    door.clock.advance(std::time::Duration::from_secs(86_400));
    assert_eq!(door.get("/one", &[("x-api-key", "shop")]).await.status, 200, "a new day");
}

/// What is written may lie with the system for long after the gateway has closed its side.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_does_not_read_is_forgotten_by_the_system_too() {
    let service = Service::start(|_| reply(200, &"x".repeat(512 << 10))).await;
    let config = format!(
        "limits: {{ head_timeout: 500ms, write_timeout: 500ms }}\n\
         upstreams: {{ s: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s }}]\n",
        service.url()
    );
    let door = Door::open(&config).await;
    // Requests with a body go another way.
    let requests = ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"];
    for (request, is_read) in requests.into_iter().flat_map(|request| [(request, false), (request, true)]) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(2_048).unwrap();
        let mut stream = socket.connect(door.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.readable().await.unwrap();
        // As the system lists connections: local and remote address, in hexadecimal digits.
        let (here, there) = (stream.local_addr().unwrap().port(), door.address().port());
        let line = format!("0100007F:{there:04X} 0100007F:{here:04X} ");
        let listed = || std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&line);
        assert!(listed());
        let reading = async {
            while is_read && stream.read_exact(&mut [0; 5]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = reading => {}
            () = until("the system has forgotten what was not read", || !listed()) => {}
        }
    }
}
