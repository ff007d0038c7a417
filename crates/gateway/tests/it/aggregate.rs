//! Several services, one answer: parallel and dependent calls, shapes, failures that are told, limits.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tessera_gateway::spec::{Environment, load};
use tokio::net::TcpListener;

use crate::support::{Answer, Door, Got, Service, blunt, client, reply};

fn json_reply(value: Value) -> http::Response<Full<Bytes>> {
    let mut answer = reply(200, &value.to_string());
    answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
    answer
}

async fn users() -> Service {
    Service::start(|got: &Got| match got.uri.as_str() {
        "/users/7" => json_reply(json!({ "id": 7, "name": "Ann", "team": "a b/c", "secret": "x" })),
        "/users/up" => json_reply(json!({ "id": 9, "name": "Eve", "team": ".." })),
        "/users/8" => json_reply(json!({ "id": 8, "name": "Bob" })),
        _ => reply(404, "no such user"),
    })
    .await
}

async fn orders() -> Service {
    Service::start(|got: &Got| match got.method.as_str() {
        "POST" => json_reply(json!({ "got": serde_json::from_slice::<Value>(&got.body).unwrap() })),
        _ => json_reply(json!({ "items": [
            { "id": 1, "product": "p1", "asked": got.uri },
            { "id": 2, "product": "p2" },
        ], "products": [{ "id": "p1", "name": "Pen" }] })),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_follow_each_other_and_one_answer_is_shaped() {
    let (users, orders) = (users().await, orders().await);
    let config = format!(
        r#"
upstreams:
  users: {{ endpoints: ["{}"] }}
  orders: {{ endpoints: ["{}"] }}
routes:
  - name: overview
    match: {{ path: "/people/{{id}}" }}
    aggregate:
      calls:
        user: {{ upstream: users, path: "/users/{{id}}" }}
        orders: {{ upstream: orders, path: "/teams/{{user.team}}/orders?of={{user.name}}&limit={{query.limit}}" }}
      answer:
        id: "{{user.id}}"
        title: "{{user.name}} has orders"
        orders: "{{orders.items}}"
        products: "{{orders.products}}"
      change:
        - join: {{ list: "orders", with: products, by: product, key: id, into: bought }}
        - drop: products
        - move: {{ from: "orders[].bought.name", to: "orders[].name" }}
        - drop: "orders[].bought"
    response_headers: {{ set: {{ x-shaped: "yes" }} }}
"#,
        users.url(),
        orders.url()
    );
    let door = Door::open(&config).await;
    let answer = door
        .get("/people/7?limit=5%266", &[("x-request-id", "id-1"), ("if-none-match", "\"x\""), ("x-kept", "1")])
        .await;
    assert_eq!((answer.status, answer.header("x-shaped")), (200, "yes"), "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("x-request-id"), "id-1");
    let wanted = json!({ "id": 7, "title": "Ann has orders", "orders": [
        { "id": 1, "product": "p1", "asked": "/teams/a%20b%2Fc/orders?of=Ann&limit=5%266", "name": "Pen" },
        { "id": 2, "product": "p2" },
    ] });
    assert_eq!(answer.json(), wanted);
    for service in [&users, &orders] {
        let got = service.last();
        assert_eq!((got.header("x-request-id"), got.header("x-kept")), ("id-1", "1"));
        assert_eq!((got.header("accept"), got.header("if-none-match")), ("application/json", ""));
        assert!(got.header("traceparent").starts_with("00-") && got.header("x-forwarded-for") == "127.0.0.1");
    }
    let head = client().head(door.url("/people/7?limit=1")).send().await.unwrap();
    assert_eq!(head.status().as_u16(), 200);
    // What the calls need and nobody sent.
    let answer = door.get("/people/7", &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "gateway.call_failed"));
    // A refusal of the caller's doing keeps its status.
    let answer = door.get("/people/9?limit=1", &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "gateway.call_failed"));
    // What a caller or a service says stays one segment, and is no way around.
    let answer = door.get("/people/8?limit=1", &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "gateway.call_failed"), "Bob has no team");
    let answer = door.get("/people/up?limit=1", &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "gateway.bad_path"));
    let metrics = door.metrics();
    let counted = "tessera_gateway_calls_total{route=\"overview\",call=\"user\",outcome=\"answered\"}";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_told_and_the_rest_is_answered() {
    let users = users().await;
    let big = Service::start(|_| json_reply(json!({ "much": "x".repeat(5_000) }))).await;
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        r#"
upstreams:
  users: {{ endpoints: ["{}"] }}
  big: {{ endpoints: ["{}"] }}
  silent: {{ endpoints: ["http://{}"] }}
routes:
  - name: partial
    match: {{ path: "/people/{{id}}" }}
    aggregate:
      calls:
        user: {{ upstream: users, path: "/users/{{id}}", change: [{{ keep: [name] }}] }}
        news: {{ upstream: silent, path: /news, timeout: 50ms, optional: true }}
        after: {{ upstream: users, path: "/x/{{news.id}}", optional: true }}
        much: {{ upstream: big, path: /much, size: 1KiB, default: {{ much: none }} }}
        lost: {{ upstream: users, path: /lost, default: [] }}
      failures: failed
  - name: whole
    match: {{ path: "/whole" }}
    timeout: 50ms
    aggregate: {{ calls: {{ news: {{ upstream: silent, path: /news }} }} }}
  - name: patient
    match: {{ path: "/patient" }}
    timeout: 10m
    aggregate: {{ calls: {{ news: {{ upstream: silent, path: /news }} }} }}
"#,
        users.url(),
        big.url(),
        silent.local_addr().unwrap()
    );
    let door = Door::open(&config).await;
    let answer = door.get("/people/7", &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let value = answer.json();
    assert_eq!(value["user"], json!({ "name": "Ann" }));
    assert_eq!((&value["much"], &value["lost"], value.get("news")), (&json!({ "much": "none" }), &json!([]), None));
    let mut failed: Vec<String> = value["failed"].as_array().unwrap().iter().map(ToString::to_string).collect();
    failed.sort();
    let wanted = [
        r#"{"call":"after","code":"gateway.call_skipped"}"#,
        r#"{"call":"lost","code":"gateway.call_failed","status":404}"#,
        r#"{"call":"much","code":"gateway.bad_answer"}"#,
        r#"{"call":"news","code":"gateway.upstream_timeout"}"#,
    ];
    assert_eq!(failed, wanted);
    let header = answer.header("x-gateway-partial");
    assert!(header.contains("news;code=gateway.upstream_timeout") && header.contains("lost;code="), "{header}");
    for (path, deadline) in [("/whole", ""), ("/patient", "50")] {
        let answer = door.get(path, &[("x-request-timeout-ms", deadline)]).await;
        assert_eq!((answer.status, answer.code().as_str()), (504, "gateway.upstream_timeout"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_sends_what_the_caller_sent_in_another_shape() {
    let orders = orders().await;
    let config = format!(
        r#"
upstreams: {{ orders: {{ endpoints: ["{}"] }} }}
routes:
  - name: place
    match: {{ path: /place, methods: [POST] }}
    body: 1KiB
    aggregate:
      calls:
        order:
          upstream: orders
          method: POST
          path: /orders
          headers: {{ x-tenant: "{{headers.x-shop}}" }}
          body: {{ customer: {{ id: "{{body.customer_id}}" }}, lines: "{{body.items}}", note: "from {{headers.x-shop}}" }}
      answer: "{{order.got}}"
"#,
        orders.url()
    );
    let door = Door::open(&config).await;
    let send = |body: String| client().post(door.url("/place")).header("x-shop", "north").body(body).send();
    let answer = Answer::of(send(json!({ "customer_id": 3, "items": [1, 2] }).to_string()).await.unwrap()).await;
    assert_eq!(answer.json(), json!({ "customer": { "id": 3 }, "lines": [1, 2], "note": "from north" }));
    let got = orders.last();
    assert_eq!((got.header("x-tenant"), got.header("content-type")), ("north", "application/json"));
    assert_eq!(got.header("content-length"), got.body.len().to_string());
    let answer = Answer::of(send("{".into()).await.unwrap()).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "gateway.not_json"));
    let answer = Answer::of(send("1".repeat(2_000)).await.unwrap()).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "gateway.body_too_large"));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_need_nothing_of_each_other_go_at_once() {
    // Each answers only when both were asked.
    let both = std::sync::Arc::new(std::sync::Barrier::new(2));
    let meet = |both: std::sync::Arc<std::sync::Barrier>| {
        Service::start(move |_| {
            tokio::task::block_in_place(|| both.wait());
            json_reply(json!(1))
        })
    };
    let (one, two) = (meet(both.clone()).await, meet(both).await);
    let config = format!(
        "upstreams: {{ a: {{ endpoints: [\"{}\"] }}, b: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ name: both, match: {{ path: / }}, timeout: 10s, \
         aggregate: {{ calls: {{ a: {{ upstream: a, path: / }}, b: {{ upstream: b, path: / }} }} }} }}]\n",
        one.url(),
        two.url()
    );
    let door = Door::open(&config).await;
    let asked = tokio::time::timeout(Duration::from_secs(20), door.get("/", &[])).await.unwrap();
    assert_eq!((asked.status, asked.json()), (200, json!({ "a": 1, "b": 1 })));
}

#[test]
fn what_cannot_work_is_refused_with_its_line() {
    let calls = |calls: &str| {
        format!(
            "version: 1\nlisteners: [{{ address: \"127.0.0.1:0\" }}]\nupstreams: {{ s: {{ endpoints: [\"http://a:1\"] }} }}\nroutes:\n  - name: r\n    \
             match: {{ path: \"/x/{{id}}\" }}\n    aggregate: {{ calls: {calls} }}\n"
        )
    };
    for (text, said) in [
        (calls("{}"), "an aggregation has 1 to 16 calls, this one 0"),
        (calls("{ a: { upstream: t, path: / } }"), "g.yaml:7: there is no upstream `t`; did you mean `s`?"),
        (calls("{ a: { upstream: s, path: x } }"), "`x` must start with `/`"),
        (calls("{ a: { upstream: s, path: \"/{idd}\" } }"), "`{idd}` is not known here; did you mean `id`?"),
        (
            calls("{ a: { upstream: s, path: \"/{b.x}\" }, b: { upstream: s, path: \"/{a.x}\" } }"),
            "wait for each other",
        ),
        (calls("{ query: { upstream: s, path: / } }"), "a call cannot have the name `query`"),
        (calls("{ a: { upstream: s, path: \"/{\" } }"), "lone `{`"),
        (calls("{ a: { upstream: s, path: /, change: [{ drop: \"a..b\" }] } }"), "`a..b` is not the place of a field"),
    ] {
        let read = load(&text, "g.yaml", Path::new("."), &Environment::default());
        let error = read.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// A route `/` that makes one answer of one call.
fn one_call(endpoints: &[String], upstream: &str, call: &str, route: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|url| format!("\"{url}\"")).collect();
    format!(
        "workers: 1\nupstreams: {{ s: {{ endpoints: [{}]{upstream} }} }}\nroutes:\n  - name: one\n    match: {{ path: / }}\n    aggregate: {{ calls: {{ it: {{ upstream: s, path: /it{call} }} }}, answer: {{ it: \"{{it}}\" }} }}\n{route}",
        endpoints.join(", ")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_deadline_holds_and_is_not_held_against_the_service() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", hanging.local_addr().unwrap());
    let door = Door::open(&one_call(&[url], ", breaker: { failures: 1, pause: 10m }", "", "")).await;
    for _ in 0..2 {
        let answer = door.get("/", &[("x-request-timeout-ms", "50")]).await;
        assert_eq!((answer.status, answer.code().as_str()), (504, "gateway.upstream_timeout"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_end_does_not_hold_up_the_next_try() {
    let stuck = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", stuck.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = stuck.accept().await {
            let mut head = [0; 4096];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await;
            let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 10\r\n\r\n";
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
            held.push(stream);
        }
    });
    let good = Service::start(|_: &Got| json_reply(json!("good"))).await;
    let route = "    retry: { attempts: 2, on: [unavailable] }\n";
    let door = Door::open(&one_call(&[url, good.url()], "", "", route)).await;
    for _ in 0..2 {
        assert_eq!(door.get("/", &[]).await.json(), json!({ "it": "good" }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_may_have_done_is_told_whatever_came_after() {
    let (broken, got) = blunt(b"").await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let urls = [format!("http://{broken}"), format!("http://{gone}")];
    let door = Door::open(&one_call(&urls, ", outliers: { failures: 0 }", "", "")).await;
    let problem = door.get("/", &[]).await.json();
    assert_eq!(got.lock().unwrap().len(), 1, "the first one was asked first");
    assert_eq!((&problem["code"], &problem["may_retry"]), (&"gateway.upstream_unreachable".into(), &false.into()));
    // So is what an earlier call did.
    let door = Door::open(&format!(
        "workers: 1\nupstreams: {{ a: {{ endpoints: [\"{}\"] }}, b: {{ endpoints: [\"http://{gone}\"] }} }}\nroutes:\n  - name: two\n    match: {{ path: / }}\n    aggregate: {{ calls: {{ one: {{ upstream: a, path: /, method: POST }}, two: {{ upstream: b, path: \"/{{one.got}}\" }} }}, answer: {{ two: \"{{two}}\" }} }}\n",
        Service::start(|_: &Got| json_reply(json!({ "got": "x" }))).await.url()
    ))
    .await;
    let problem = door.get("/", &[]).await.json();
    assert_eq!((&problem["code"], &problem["may_retry"]), (&"gateway.upstream_unreachable".into(), &false.into()));
}
