//! Requests on their way: headers, protocols, bodies, upgrades, and what goes wrong behind.

use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Answer, Door, Refusing, Service, TIMEOUT, blunt, client, reply, until};

fn to(url: &str, more: &str) -> String {
    format!(
        "upstreams: {{ s: {{ endpoints: [\"{url}\"], {more} }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s }}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_arrives_with_its_headers_and_body_and_no_hops() {
    let service = Service::start(|got| {
        let mut answer = reply(201, &format!("{} bytes", got.body.len()));
        let headers = answer.headers_mut();
        headers.insert("x-own", "1".parse().unwrap());
        headers.insert("connection", "x-hop".parse().unwrap());
        headers.insert("x-hop", "secret".parse().unwrap());
        answer
    })
    .await;
    let door = Door::open(&to(&service.url(), "")).await;
    let sent = client()
        .post(door.url("/a/b?c=d%20e"))
        .header("x-kept", "yes")
        .header("connection", "x-mine")
        .header("x-mine", "gone")
        .header("proxy-authorization", "gone")
        .header("x-forwarded-for", "1.2.3.4")
        .header("x-auth-subject", "forged")
        .header("x-request-id", "mine-1")
        .body("hello")
        .send();
    let answer = Answer::of(sent.await.unwrap()).await;
    assert_eq!((answer.status, answer.body.as_str()), (201, "5 bytes"));
    assert_eq!((answer.header("x-own"), answer.header("x-hop"), answer.header("x-request-id")), ("1", "", "mine-1"));
    let got = service.last();
    assert_eq!((got.method.as_str(), got.uri.as_str()), ("POST", "/a/b?c=d%20e"));
    for (name, value) in [
        ("x-kept", "yes"),
        ("x-mine", ""),
        ("proxy-authorization", ""),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-auth-subject", ""),
        ("x-request-id", "mine-1"),
    ] {
        assert_eq!(got.header(name), value, "{name}");
    }
    assert_eq!(got.header("host"), door.address().to_string());
    assert_eq!(got.header("traceparent").len(), 55);
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_proxies_are_believed_and_nobody_else() {
    let service = Service::named("behind").await;
    let config = format!("trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]\n{}", to(&service.url(), ""));
    let door = Door::open(&config).await;
    door.get("/", &[("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.7"), ("x-forwarded-proto", "https")]).await;
    let got = service.last();
    assert_eq!(got.header("x-forwarded-for"), "6.6.6.6, 1.2.3.4, 10.0.0.7, 127.0.0.1");
    assert_eq!(got.header("x-forwarded-proto"), "https");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_on_both_sides_and_either() {
    let service = Service::start(|got| reply(200, &format!("{:?} {}", got.version, got.body.len()))).await;
    let h2 = tessera_service::client::builder().http2_prior_knowledge().timeout(TIMEOUT).build().unwrap();
    for (protocol, seen) in [("http1", "HTTP/1.1"), ("http2", "HTTP/2.0")] {
        let door = Door::open(&to(&service.url(), &format!("protocol: {protocol}"))).await;
        for client in [client(), h2.clone()] {
            let sent = client.post(door.url("/x")).header("cookie", "a=1").body("abc").send().await.unwrap();
            let answer = Answer::of(sent).await;
            assert_eq!((answer.status, answer.body), (200, format!("{seen} 3")), "{protocol}");
            let got = service.last();
            let authority = got.uri.strip_prefix("http://").and_then(|uri| uri.strip_suffix("/x"));
            let host = if protocol == "http2" {
                authority.unwrap_or_default().to_owned()
            } else {
                got.header("host").to_owned()
            };
            assert_eq!(host, door.address().to_string(), "{got:?}");
            let sent = client.get(door.url("/x")).send().await.unwrap();
            assert_eq!(Answer::of(sent).await.body, format!("{seen} 0"), "{protocol}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_and_stale_ones_replaced() {
    let service = Service::named("behind").await;
    let door = Door::open(&format!("workers: 1\n{}", to(&service.url(), ""))).await;
    let client = client();
    for _ in 0..20 {
        assert_eq!(client.get(door.url("/")).send().await.unwrap().status(), 200);
    }
    // This one closes after each answer without saying so.
    let (address, got) = blunt(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let door = Door::open(&format!("workers: 1\n{}", to(&format!("http://{address}"), ""))).await;
    for _ in 0..20 {
        assert_eq!(client.get(door.url("/")).send().await.unwrap().status(), 200);
    }
    assert!(got.lock().unwrap().len() >= 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_connection_that_is_dead_is_found_out() {
    let service = Service::named("behind").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, behind) = (listener.local_addr().unwrap(), service.address);
    // Between the two: the first connection passes bytes until it is told to go silent, without closing.
    let (silence, silenced) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        let mut is_first = true;
        while let Ok((mut near, _)) = listener.accept().await {
            let (mut silenced, may_go_silent) = (silenced.clone(), std::mem::take(&mut is_first));
            tokio::spawn(async move {
                let mut far = TcpStream::connect(behind).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                    _ = silenced.wait_for(|silent| *silent && may_go_silent) => {}
                }
                std::future::pending::<()>().await;
            });
        }
    });
    let config = to(&format!("http://{address}"), "protocol: http2, ping_every: 50ms, connect_timeout: 3s");
    let door =
        Door::open(&format!("workers: 1\n{}", config.replace("upstream: s }]", "upstream: s, timeout: 10s }]"))).await;
    assert_eq!(door.get("/", &[]).await.body, "behind");
    silence.send(true).unwrap();
    let again = async { while door.get("/", &[]).await.status != 200 {} };
    tokio::time::timeout(TIMEOUT, again).await.expect("another connection is opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_behind_is_told_by_side_and_code() {
    let gone = Refusing::new();
    let (silent, _) = blunt(b"").await;
    let (nonsense, _) = blunt(b"NOT HTTP AT ALL\r\n\r\n").await;
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hanging_address = hanging.local_addr().unwrap();
    // What is to be found out in time has all the time that a slow machine may need.
    for (address, timeout, status, code) in [
        (gone.1, "1m", 502, "gateway.upstream_unreachable"),
        (silent, "1m", 502, "gateway.upstream_broke_off"),
        (nonsense, "1m", 502, "gateway.bad_answer"),
        (hanging_address, "300ms", 504, "gateway.upstream_timeout"),
    ] {
        let route = format!("upstream: s, timeout: {timeout} }}]");
        let config = to(&format!("http://{address}"), "").replace("upstream: s }]", &route);
        let door = Door::open(&config).await;
        let answer = door.get("/", &[]).await;
        let problem = answer.json();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{problem}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(problem["side"], "upstream");
        assert_eq!(problem["may_retry"], code == "gateway.upstream_unreachable");
        assert!(!answer.body.contains("127.0.0.1"), "where it is stays in the log: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_not_passed_off_as_whole() {
    let (address, _) = blunt(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this").await;
    let door = Door::open(&to(&format!("http://{address}"), "")).await;
    let sent = client().get(door.url("/")).send().await.unwrap();
    assert!(sent.text().await.is_err());
    until("it is counted", || door.metrics().contains("code=\"gateway.upstream_broke_off\",side=\"upstream\"} 1"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_limits_announced_or_not() {
    let service = Service::named("behind").await;
    let door = Door::open(&format!("limits: {{ body: 1KiB }}\n{}", to(&service.url(), ""))).await;
    let announced = Answer::of(client().post(door.url("/")).body(vec![0; 2000]).send().await.unwrap()).await;
    assert_eq!((announced.status, announced.code().as_str()), (413, "gateway.body_too_large"));
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = door.raw(format!("{head}{chunk}{chunk}0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let good = Answer::of(client().post(door.url("/")).body(vec![0; 1000]).send().await.unwrap()).await;
    assert_eq!(good.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_goes_on_with_every_method() {
    let service = Service::named("behind").await;
    let door = Door::open(&to(&service.url(), "")).await;
    for method in ["GET", "HEAD", "DELETE", "POST"] {
        for head in ["transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "content-length: 5\r\n\r\nhello"] {
            let answer = door.raw(format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{head}")).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{method}: {answer}");
            assert_eq!((service.last().method.as_str(), &service.last().body[..]), (method, &b"hello"[..]), "{head}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_once_may_not_be_sent_again_whatever_came_after() {
    let (broken, got) = blunt(b"").await;
    let gone = Refusing::new();
    let config = to(&format!("http://{broken}\", \"{}", gone.url()), "outliers: { failures: 0 }");
    let door = Door::open(&format!("workers: 1\n{config}")).await;
    let problem = door.get("/", &[]).await.json();
    assert_eq!(got.lock().unwrap().len(), 1, "the first one was asked first");
    assert_eq!((&problem["code"], &problem["may_retry"]), (&"gateway.upstream_unreachable".into(), &false.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upload_is_the_callers_fault() {
    let service = Service::named("behind").await;
    let config = to(&service.url(), "breaker: { failures: 1, pause: 10m }");
    let slow = "upstream: s }, { name: slow, match: { path: /, methods: [POST] }, upstream: s, timeout: 300ms }]";
    let door = Door::open(&config.replace("upstream: s }]", slow)).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 10\r\n\r\n";
    let answer = door.raw(format!("{head}12345")).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("gateway.slow_client"), "{answer}");
    assert_eq!(door.get("/", &[]).await.body, "behind", "nothing is held against the service");
    // Nor where it is the service that has enough of waiting.
    let (address, _) = blunt(b"").await;
    let door = Door::open(&to(&format!("http://{address}"), "breaker: { failures: 1, pause: 10m }")).await;
    for _ in 0..2 {
        let answer = door.raw(format!("{head}12345")).await;
        assert!(answer.contains("gateway.upstream_broke_off"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_deadline_holds_and_is_passed_on() {
    let service = Service::named("behind").await;
    let door = Door::open(&to(&service.url(), "")).await;
    let left = |header: &str, name: &str| -> u64 {
        service.last().header(name).trim_end_matches('m').parse().unwrap_or_else(|_| panic!("{header}"))
    };
    for (name, value, most) in
        [("x-none", "", 30_000), ("x-request-timeout-ms", "9000", 9_000), ("x-request-timeout-ms", "99999", 30_000)]
    {
        assert_eq!(door.get("/", &[(name, value)]).await.status, 200);
        assert!((most - 5_000..=most).contains(&left(name, "x-request-timeout-ms")), "{name}: {value}");
    }
    door.get("/", &[("grpc-timeout", "8S")]).await;
    assert!((3_000..=8_000).contains(&left("grpc-timeout", "grpc-timeout")));
    assert!((3_000..=8_000).contains(&left("grpc-timeout", "x-request-timeout-ms")));
    // A call of gRPC may last longer than its answer may take to begin.
    let config = to(&service.url(), "").replace("upstream: s }]", "upstream: s, timeout: 2s }]");
    let door = Door::open(&config).await;
    door.get("/", &[("grpc-timeout", "1H")]).await;
    assert!((1_800_000..=3_600_000).contains(&left("grpc-timeout", "grpc-timeout")));
    assert!(left("grpc-timeout", "x-request-timeout-ms") <= 2_000);
    // Who is in a hurry is told so, and that is not held against the service.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", hanging.local_addr().unwrap());
    let door = Door::open(&to(&url, "breaker: { failures: 1, pause: 10m }")).await;
    for _ in 0..2 {
        let answer = door.get("/", &[("x-request-timeout-ms", "50")]).await;
        assert_eq!((answer.status, answer.code().as_str()), (504, "gateway.upstream_timeout"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_pass_as_they_come() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go, mut wait) = tokio::sync::mpsc::channel::<()>(1);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await
            .unwrap();
        for event in ["data: one\n\n", "data: two\n\n"] {
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            stream.write_all(chunk.as_bytes()).await.unwrap();
            wait.recv().await;
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    });
    let door = Door::open(&to(&format!("http://{address}"), "")).await;
    let answer = client().get(door.url("/events")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut events = answer.bytes_stream();
    for expected in ["data: one\n\n", "data: two\n\n"] {
        // The second is sent only after the first has arrived.
        assert_eq!(events.next().await.unwrap().unwrap(), expected);
        go.send(()).await.unwrap();
    }
    assert!(events.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_a_tunnel_and_other_protocols_are_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut head).await.unwrap();
                }
                let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                if !head.contains("upgrade: websocket") {
                    let body = "no upgrade";
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    return stream.write_all(answer.as_bytes()).await.unwrap();
                }
                let agreed =
                    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhello";
                stream.write_all(agreed.as_bytes()).await.unwrap();
                let mut echo = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut echo).await {
                    stream.write_all(&echo[..count]).await.unwrap();
                }
            });
        }
    });
    let door = Door::open(&to(&format!("http://{address}"), "")).await;
    let mut stream = TcpStream::connect(door.address()).await.unwrap();
    let ask = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"hello") {
        assert!(stream.read_buf(&mut got).await.unwrap() > 0, "{}", String::from_utf8_lossy(&got));
    }
    assert!(got.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&got));
    // Bytes that are no HTTP at all.
    for message in [&b"\x00\x01\n\n"[..], b"GET / HTTP/1.1\n\n"] {
        stream.write_all(message).await.unwrap();
        let mut echoed = vec![0; message.len()];
        stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, message);
    }
    drop(stream);
    until("it is counted", || door.metrics().contains("route=\"all\",status=\"1xx\"} 1")).await;
    let other = door.raw("GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n").await;
    assert!(
        other.starts_with("HTTP/1.1 200") && other.contains("connection: close") && other.ends_with("no upgrade"),
        "{other}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_in_behind_an_upgrade_that_is_not_agreed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = Door::open(&to(&format!("http://{}", listener.local_addr().unwrap()), "")).await;
    let (mut answers, mut asking) = TcpStream::connect(door.address()).await.unwrap().into_split();
    let ask = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    asking.write_all(ask.as_bytes()).await.unwrap();
    let (mut behind, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        behind.read_buf(&mut head).await.unwrap();
    }
    // More than all buffers of the system on the way hold.
    let early = vec![b'x'; 64 << 20];
    tokio::select! {
        taken = asking.write_all(&early) => assert!(taken.is_err(), "all of it was taken in"),
        () = tokio::time::sleep(Duration::from_millis(500)) => {}
    }
    behind
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        .await
        .unwrap();
    let mut answer = vec![0; 13];
    answers.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 400 ");
    let mut more = Vec::new();
    let _ = behind.read_to_end(&mut more).await;
    assert!(more.is_empty(), "{} bytes went on", more.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_own_answer_to_an_upgrade_ends_the_connection_and_http_1_0_has_none() {
    let door = Door::open("routes: [{ name: own, match: { path: /own }, respond: { body: hello } }]\n").await;
    for (path, status) in [("/own", "200"), ("/none", "404")] {
        let ask = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
        let answer = door.raw(ask).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains("connection: close"), "{answer}");
    }
    let ask = "GET /own HTTP/1.0\r\nconnection: keep-alive, upgrade\r\nupgrade: x\r\n\r\n";
    let answer = door.raw(format!("{ask}GET /own HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
    assert_eq!((answer.matches(" 200 ").count(), answer.matches("hello").count()), (2, 2), "{answer}");
}

/// A gRPC service that gives back what it gets, with the content type and `te` of each call.
async fn echo_by_grpc() -> (std::net::SocketAddr, std::sync::Arc<std::sync::Mutex<Vec<(String, String)>>>) {
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;
    let calls: std::sync::Arc<std::sync::Mutex<Vec<(String, String)>>> = Default::default();
    let seen = calls.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = seen.clone();
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let text = |name: &str| {
                    request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
                };
                seen.lock().unwrap().push((text("content-type"), text("te")));
                async move {
                    let got = request.into_body().collect().await.unwrap().to_bytes();
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    let frames = [Frame::data(got), Frame::trailers(trailers)].map(Ok::<_, std::convert::Infallible>);
                    let body = StreamBody::new(futures::stream::iter(frames));
                    let answer = http::Response::builder().header("content-type", "application/grpc");
                    Ok::<_, std::convert::Infallible>(answer.body(body).unwrap())
                }
            });
            let stream = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(async move {
                let http = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
                let _ = http.serve_connection(stream, service).await;
            });
        }
    });
    (address, calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_call_grpc_services() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let (address, calls) = echo_by_grpc().await;
    let config = to(&format!("http://{address}"), "protocol: http2");
    let door = Door::open(&config.replace("upstream: s }]", "upstream: s, grpc_web: true }]")).await;
    let message = b"\0\0\0\0\x05hello";
    let with_trailers = [&message[..], b"\x80\0\0\0\x10grpc-status: 0\r\n"].concat();
    let call = async |kind: &str, body: Vec<u8>| {
        let sent = client().post(door.url("/shop.Orders/Get")).header("content-type", kind).header("x-grpc-web", "1");
        let answer = sent.body(body).send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, answer.bytes().await.unwrap().to_vec())
    };
    let (kind, body) = call("application/grpc-web+proto", message.to_vec()).await;
    assert_eq!((kind.as_str(), &body), ("application/grpc-web+proto", &with_trailers));
    let (kind, body) = call("application/grpc-web-text", STANDARD.encode(message).into_bytes()).await;
    assert_eq!(kind, "application/grpc-web-text+proto");
    let read: Vec<u8> = body.chunks(4).flat_map(|group| STANDARD.decode(group).unwrap()).collect();
    assert_eq!(read, with_trailers, "{body:?}");
    let expected = ("application/grpc+proto".to_owned(), "trailers".to_owned());
    assert_eq!(calls.lock().unwrap()[0], expected);
    assert_eq!(calls.lock().unwrap()[1].0, "application/grpc");
    // What is no Base64 is the caller's fault, told in his words.
    let answer = client().post(door.url("/shop.Orders/Get")).header("content-type", "application/grpc-web-text");
    let answer = answer.body("****").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"3".parse().unwrap()));
    assert_eq!(answer.headers()["content-type"], "application/grpc-web-text+proto");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_passes_with_its_trailers_and_is_refused_in_its_own_words() {
    use http_body_util::{BodyExt, Full};
    let (address, _) = echo_by_grpc().await;
    let (gone, _) = blunt(b"").await;
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = Door::open(&format!(
        r#"
upstreams:
  s: {{ endpoints: ["http://{address}"], protocol: http2 }}
  gone: {{ endpoints: ["http://{gone}"], protocol: http2 }}
  late: {{ endpoints: ["http://{}"], protocol: http2 }}
routes:
  - {{ name: all, match: {{ path: /shop.Orders/* }}, upstream: s }}
  - {{ name: gone, match: {{ path: /gone.Service/* }}, upstream: gone }}
  - {{ name: late, match: {{ path: /late.Service/* }}, upstream: late, timeout: 300ms }}
"#,
        hanging.local_addr().unwrap()
    ))
    .await;
    let stream = TcpStream::connect(door.address()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
        .handshake(hyper_util::rt::TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let ask = |path: &str| {
        http::Request::post(format!("http://{}{path}", door.address()))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(bytes::Bytes::from_static(b"\0\0\0\0\x01x")))
            .unwrap()
    };
    let answer = sender.send_request(ask("/shop.Orders/Get")).await.unwrap();
    let collected = answer.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "\0\0\0\0\x01x");
    // Where no route is, where the service cannot be reached, and where it is too late.
    for (path, status) in [("/other.Service/Get", "12"), ("/gone.Service/Get", "14"), ("/late.Service/Get", "4")] {
        let refused = sender.send_request(ask(path)).await.unwrap();
        let head = refused.headers();
        assert_eq!(refused.status().as_u16(), 200, "{path}: {head:?}");
        assert_eq!(
            (&head["grpc-status"], &head["content-type"]),
            (&status.parse().unwrap(), &"application/grpc".parse().unwrap())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_no_handshake_and_no_copy_and_loses_no_line() {
    let folder = tempfile::tempdir().unwrap();
    crate::tls::authority(folder.path());
    crate::tls::certificate(folder.path(), "a", "a.example");
    let (service, hanging) = (Service::named("behind").await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let door = Door::open_in(
        folder,
        &format!(
            r#"
listeners: [{{ address: "127.0.0.1:0" }}, {{ address: "127.0.0.2:0", tls: {{ certificates: [{{ chain: a.pem, key: a.key }}] }} }}]
limits: {{ head_timeout: 10m, drain: 10m }}
access_log: {{ file: access.log }}
upstreams:
  s: {{ endpoints: ["{}"] }}
  hanging: {{ endpoints: ["http://{}"] }}
routes: [{{ name: all, match: {{ path: /* }}, upstream: s, timeout: 10m, mirror: {{ upstream: hanging }} }}]
"#,
            service.url(),
            hanging.local_addr().unwrap()
        ),
    )
    .await;
    let _silent = TcpStream::connect(door.gateway.engine.addresses()[1]).await.unwrap();
    for _ in 0..300 {
        assert_eq!(door.get("/", &[]).await.status, 200);
    }
    let stopped = tokio::time::timeout(TIMEOUT, door.gateway.engine.stop()).await;
    stopped.expect("what is not answered keeps nobody");
    let lines = std::fs::read_to_string(door.folder.path().join("access.log")).unwrap();
    assert_eq!(lines.lines().count(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_end_and_takes_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::open(&to(&format!("http://{address}"), "")).await;
    let url = door.url("/slow");
    let asking = tokio::spawn(async move { Answer::of(client().get(url).send().await.unwrap()).await });
    // A gateway of another test may still look for somebody who had this port.
    let mut behind = loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let length = stream.read(&mut head).await.unwrap();
        if head[..length].starts_with(b"GET /slow ") {
            break stream;
        }
    };
    let engine = door.gateway.engine.clone();
    let stopping = tokio::spawn(async move { engine.stop().await });
    let gone = async {
        while TcpStream::connect(door.address()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, gone).await.expect("new connections are refused");
    behind.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").await.unwrap();
    assert_eq!(asking.await.unwrap().body, "late");
    tokio::time::timeout(TIMEOUT, stopping).await.expect("it stops").unwrap();
}
