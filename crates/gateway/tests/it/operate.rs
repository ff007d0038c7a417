//! Running it: reloads, the log, metrics, the admin API.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use tessera_testkit::caller::{Caller, Keeps};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::support::{Door, Service, TIMEOUT, client, until, whole};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_config_is_swapped_in_without_a_lost_request() {
    let service = Service::named("behind").await;
    let config = |routes: usize, body: &str| {
        let mut text = format!(
            "upstreams: {{ s: {{ endpoints: [\"{}\"] }} }}\nroutes:\n  - {{ name: all, match: {{ path: /* }}, upstream: s }}\n  - {{ name: which, match: {{ path: /which }}, respond: {{ body: \"{body}\" }} }}\n",
            service.url()
        );
        for at in 0..routes {
            text.push_str(&format!("  - {{ name: r{at}, match: {{ path: \"/r{at}/{{id}}\" }}, upstream: s }}\n"));
        }
        text
    };
    const ROUTES: usize = 10_000;
    let door = Arc::new(Door::open(&config(ROUTES, "old")).await);
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let asking: Vec<_> = [Keeps::TheConnection, Keeps::Nothing, Keeps::TheConnection, Keeps::Nothing]
        .map(|keeps| {
            let (mut caller, stop, asked) = (Caller::new(door.address(), keeps), stop.clone(), asked.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let answered = caller.get("/x").await.unwrap_or_else(|error| panic!("{keeps:?}: {error}"));
                    assert_eq!((answered.status, answered.body.as_str()), (200, "behind"));
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .into();
    for round in 0..3 {
        std::fs::write(door.file(), whole(&config(ROUTES, &format!("new {round}")))).unwrap();
        door.gateway.reloader.reload().await.unwrap();
        let before = asked.load(Ordering::SeqCst);
        until("requests go on", || asked.load(Ordering::SeqCst) > before + 20).await;
        let swapped = async {
            while door.get("/which", &[]).await.body != format!("new {round}") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TIMEOUT, swapped).await.expect("the new config is served");
    }
    stop.store(true, Ordering::SeqCst);
    for asking in asking {
        asking.await.expect("no request failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_config_is_refused_with_its_line_and_the_last_good_one_stays() {
    let door = Door::open("routes:\n  - { name: all, match: { path: /* }, respond: { body: good } }\n").await;
    for (broken, said) in [
        (
            "routes:\n  - { name: all, match: { path: /* }, respond: { body: x }, upstrem: y }\n",
            "unknown key `upstrem`; did you mean `upstream`?",
        ),
        ("routes:\n  - { name: all, match: { path: /* }, upstream: y }\n", "there is no upstream `y`"),
        ("routes: [", ""),
    ] {
        std::fs::write(door.file(), whole(broken)).unwrap();
        let refused = door.gateway.reloader.reload().await.unwrap_err().to_string();
        assert!(refused.contains("gateway.yaml:") && refused.contains(said), "{refused}");
        assert_eq!(door.get("/", &[]).await.body, "good");
        assert_eq!(door.gateway.reloader.refusal(), Some(refused));
    }
    assert!(door.metrics().contains("tessera_gateway_reloads_total{outcome=\"refused\"} 3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_come_and_go_with_the_config() {
    let door = Door::open("routes: [{ name: all, match: { path: /* }, respond: { body: ok } }]\n").await;
    let port = tessera_testkit::free_port();
    let text = std::fs::read_to_string(door.file()).unwrap();
    let more = text.replace("}]\naccess_log", &format!("}}, {{ address: \"127.0.0.1:{port}\" }}]\naccess_log"));
    std::fs::write(door.file(), &more).unwrap();
    door.gateway.reloader.reload().await.unwrap();
    let url = format!("http://127.0.0.1:{port}/");
    let there = async {
        while client().get(&url).send().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), there).await.expect("the new listener serves");
    std::fs::write(door.file(), &text).unwrap();
    door.gateway.reloader.reload().await.unwrap();
    let gone = async {
        while client().get(&url).send().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the listener is closed");
    // A port that is taken refuses the config as a whole.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = more.replace(&port.to_string(), &taken.local_addr().unwrap().port().to_string());
    std::fs::write(door.file(), more).unwrap();
    let refused = door.gateway.reloader.reload().await.unwrap_err();
    assert_eq!(tessera_service::ProductError::code(&refused), "gateway.listener");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_its_line_in_the_log() {
    let service = Service::named("behind").await;
    let door = Door::open(&format!(
        "access_log: {{ file: access.log }}\nupstreams: {{ s: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /a/* }}, upstream: s }}]\n",
        service.url()
    ))
    .await;
    client().post(door.url("/a/b?token=secret")).header("x-request-id", "one").body("12345").send().await.unwrap();
    door.get("/\"\\", &[("x-request-id", "two")]).await;
    let log = door.folder.path().join("access.log");
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    };
    until("both lines", || lines().len() == 2).await;
    let line = |id: &str| lines().into_iter().find(|line| line["request.id"] == id).unwrap();
    let one = line("one");
    for (field, value) in [
        ("http.method", Value::from("POST")),
        ("http.path", "/a/b".into()),
        ("http.status", 200.into()),
        ("route", "all".into()),
        ("upstream", "s".into()),
        ("endpoint", service.url().into()),
        ("attempts", 1.into()),
        ("bytes_in", 5.into()),
        ("bytes_out", 6.into()),
        ("client.ip", "127.0.0.1".into()),
    ] {
        assert_eq!(one[field], value, "{field}: {one}");
    }
    assert!(!one.to_string().contains("secret") && one["took_ms"].as_f64().is_some(), "{one}");
    let two = line("two");
    assert_eq!((&two["http.status"], &two["error.side"]), (&404.into(), &"client".into()), "{two}");

    let combined = Door::open("access_log: { file: access.log, format: combined }\nroutes: [{ name: all, match: { path: /* }, respond: { body: ok } }]\n").await;
    combined.get("/x?y=z", &[("user-agent", "an \"agent\"")]).await;
    let log = combined.folder.path().join("access.log");
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    until("the line", || text().ends_with('\n')).await;
    assert!(
        text().starts_with("127.0.0.1 - - [")
            && text().ends_with("\"GET /x HTTP/1.1\" 200 2 \"-\" \"an \\\"agent\\\"\"\n"),
        "{}",
        text()
    );
}

#[derive(Clone, Debug, Default)]
struct Spans(Arc<std::sync::Mutex<Vec<opentelemetry_sdk::trace::SpanData>>>);

impl opentelemetry_sdk::trace::SpanExporter for Spans {
    async fn export(&self, batch: Vec<opentelemetry_sdk::trace::SpanData>) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_have_spans_that_services_belong_to() {
    let spans = Spans::default();
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
    opentelemetry::global::set_tracer_provider(provider);
    let service = Service::named("behind").await;
    let routes = format!(
        "upstreams: {{ s: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ name: traced, match: {{ path: /traced }}, upstream: s }}]\n",
        service.url()
    );
    let door = Door::open(&routes).await;
    let of_route =
        || -> Vec<_> { spans.0.lock().unwrap().iter().filter(|span| span.name.ends_with("traced")).cloned().collect() };
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    door.get("/traced?secret=1", &[("traceparent", &format!("00-{trace}-{parent}-01"))]).await;
    until("there is a span", || of_route().len() == 1).await;
    let span = of_route().remove(0);
    assert_eq!(
        (span.span_context.trace_id().to_string(), span.parent_span_id.to_string()),
        (trace.into(), parent.into())
    );
    assert_eq!(service.last().header("traceparent"), format!("00-{trace}-{}-01", span.span_context.span_id()));
    let told = format!("{:?}", span.attributes);
    assert!(told.contains("200") && told.contains("\"s\"") && !told.contains("secret"), "{told}");
    // A trace that is not sampled has none, and what belongs to no trace begins one.
    door.get("/traced", &[("traceparent", &format!("00-{trace}-{parent}-00"))]).await;
    assert!(service.last().header("traceparent").starts_with(&format!("00-{trace}-")));
    door.get("/traced", &[]).await;
    until("there is another", || of_route().len() == 2).await;
    assert_eq!(of_route()[1].parent_span_id.to_string(), "0".repeat(16));
    let none = Door::open(&format!("tracing: {{ sample_percent: 0 }}\n{routes}")).await;
    none.get("/traced", &[]).await;
    assert!(service.last().header("traceparent").ends_with("-00"));
    assert_eq!(of_route().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_usual_may_be_sampled_out() {
    let door = Door::open("access_log: { file: access.log, sample_percent: 0 }\nroutes: [{ name: all, match: { path: /a }, respond: {} }]\n").await;
    for path in ["/a", "/a", "/b", "/a"] {
        door.get(path, &[]).await;
    }
    let log = door.folder.path().join("access.log");
    until("a line", || std::fs::read_to_string(&log).unwrap_or_default().contains("\"http.path\":\"/b\"")).await;
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 1);
}

/// The admin API, asked as somebody with these roles.
pub async fn admin(door: &Door, method: &str, path: &str, roles: &[&str], body: &str) -> (u16, Value) {
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    let token = door.deps.keys.sign_token("ann", &roles, Duration::from_secs(60)).unwrap();
    let router = door.gateway.clone().component(&door.deps).router;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap();
    let answer = router.oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_and_steer_it_and_nobody_else() {
    let services = [Service::named("a").await, Service::named("b").await];
    let door = Door::open(&format!(
        "upstreams: {{ s: {{ endpoints: [\"{}\", \"{}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s }}]\n",
        services[0].url(),
        services[1].url()
    ))
    .await;
    assert_eq!(admin(&door, "GET", "/gateway/status", &["fan"], "").await.0, 403);
    let (status, body) = admin(&door, "GET", "/gateway/status", &["operator"], "").await;
    assert_eq!((status, &body["config_number"], &body["config_refused"]), (200, &1.into(), &Value::Null));
    let drain = |drained: bool| serde_json::json!({ "url": services[0].url(), "drained": drained }).to_string();
    let (status, body) = admin(&door, "POST", "/gateway/upstreams/s/drain", &["operator"], &drain(true)).await;
    assert_eq!((status, &body["items"][0]["drained"]), (200, &true.into()), "{body}");
    for _ in 0..4 {
        assert_eq!(door.get("/", &[]).await.body, "b");
    }
    let (_, body) = admin(&door, "GET", "/gateway/upstreams", &["admin"], "").await;
    assert_eq!((&body["items"][0]["name"], &body["items"][0]["endpoints"][0]["drained"]), (&"s".into(), &true.into()));
    until("all are counted", || {
        door.metrics().contains("tessera_gateway_requests_total{route=\"all\",status=\"2xx\"} 4")
    })
    .await;
    let (_, body) = admin(&door, "GET", "/gateway/routes", &["operator"], "").await;
    assert_eq!((&body["items"][0]["requests"], &body["items"][0]["to"]), (&4.into(), &"s".into()), "{body}");
    assert_eq!(admin(&door, "POST", "/gateway/upstreams/x/drain", &["operator"], &drain(true)).await.0, 404);
    let (status, body) = admin(&door, "POST", "/gateway/reload", &["operator"], "").await;
    assert_eq!((status, &body["config_number"]), (200, &2.into()));
    assert_eq!(door.get("/", &[]).await.body, "b", "drained through a reload");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_another_process_takes_over_callers_are_told_with_their_next_answer() {
    let door =
        Door::open("limits: { drain: 10m }\nroutes: [{ name: all, match: { path: /* }, respond: { body: here } }]\n")
            .await;
    let connections = &door.gateway.engine.shared().connections;
    let connect = async || TcpStream::connect(door.address()).await.unwrap();
    let (mut kept, mut silent) = (connect().await, connect().await);
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    kept.write_all(request).await.unwrap();
    let mut answer = vec![0; 4096];
    let count = kept.read(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(text.starts_with("HTTP/1.1 200 ") && !text.contains("connection: close"), "{text}");
    until("both are taken", || connections.count() == 2).await;
    // The other process.
    until("each worker has one", || door.deps.sockets.copies().unwrap().len() == 2).await;
    let _theirs = door.deps.sockets.copies().unwrap();
    door.deps.sockets.hand_on();
    let engine = door.gateway.engine.clone();
    let stopping = tokio::spawn(async move { engine.stop().await });
    until("nobody here listens", || door.deps.sockets.copies().unwrap().is_empty()).await;
    let _queued = connect().await;
    for connection in [&mut kept, &mut silent] {
        connection.write_all(request).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{answer}");
        assert!(answer.ends_with("here"), "{answer}");
    }
    tokio::time::timeout(TIMEOUT, stopping).await.expect("it ends with the last of them").unwrap();
    assert_eq!(connections.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_takes_no_longer_than_any_other_stop() {
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = async |drain: &str| {
        let door = Door::open(&format!(
            "limits: {{ drain: {drain} }}\nupstreams: {{ s: {{ endpoints: [\"http://{}\"] }} }}\nroutes: [{{ name: all, match: {{ path: /* }}, upstream: s }}]\n",
            service.local_addr().unwrap()
        ))
        .await;
        let mut asking = TcpStream::connect(door.address()).await.unwrap();
        asking.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let (behind, _) = service.accept().await.unwrap();
        (door, asking, behind)
    };
    let (handed_on, plain) = (open("4s").await, open("5s").await);
    handed_on.0.deps.sockets.hand_on();
    // Neither is ever answered.
    tokio::select! {
        biased;
        () = handed_on.0.gateway.engine.stop() => {}
        () = plain.0.gateway.engine.stop() => panic!("it took longer than `limits.drain`"),
    }
}
