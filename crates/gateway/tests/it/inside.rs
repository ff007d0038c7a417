//! Components of the gateway's own process: reached without a connection, and with all that one would have brought.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Extension, Path};
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use futures::{SinkExt, StreamExt, stream};
use http::{HeaderMap, Uri};
use serde_json::{Value, json};
use tessera_kernel::{RandomIds, SystemClock};
use tessera_service::http::{Config, Peer};
use tessera_service::run::{self, Plan, Role, Running};
use tessera_service::{Component, Identity, Keys, Metrics};

use crate::support::{Answer, Door, TIMEOUT, client, until};
use crate::websocket;

const CONFIG: &str = "upstreams: { here: { in_process: true } }\nroutes: [{ name: all, match: { path: /* }, upstream: here, body: 1MiB }]\n";

async fn served(door: &Door) -> Running {
    served_with(door, Router::new()).await
}

/// The components of the test, and one more.
async fn served_with(door: &Door, more: Router) -> Running {
    // Keys that the token of the test is not signed with: whom this handler knows it has from the gateway.
    let others = Keys::ephemeral(Arc::new(SystemClock)).unwrap();
    let router = Router::new()
        .route(
            "/seen",
            get(async |Extension(peer): Extension<Peer>, headers: HeaderMap| {
                let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
                format!("{} {} {}", peer.address.ip(), header("x-forwarded-proto"), header("x-request-id"))
            }),
        )
        .route("/sum", post(async |body: axum::body::Bytes| body.len().to_string()))
        .route("/slow", get(std::future::pending::<()>))
        .merge(
            Router::new().route("/me", get(async |identity: Identity| identity.subject.to_string())).with_state(others),
        )
        .route(
            "/echo",
            any(async |upgrade: WebSocketUpgrade| {
                upgrade.on_upgrade(async |mut socket| {
                    while let Some(Ok(Message::Text(text))) = socket.next().await {
                        socket.send(Message::text(format!("{text}!"))).await.unwrap();
                    }
                })
            }),
        );
    let clock = Arc::new(SystemClock);
    let components = vec![
        Component::new("shop", "/").router(router).openapi(json!({ "paths": { "/sum": { "post": {} } } })),
        Component::new("more", "/more").router(more),
        door.gateway.clone().component(&door.deps),
    ];
    run::start(Plan {
        listener: run::bind("127.0.0.1:0").await.unwrap(),
        roles: vec![Role { name: "shop", components }],
        http: Config::default(),
        clock: clock.clone(),
        ids: Arc::new(RandomIds),
        metrics: Metrics::new(clock),
        front: Some(run::Front { http: door.address(), https: door.address() }),
        inside: door.deps.inside.clone(),
        sockets: door.deps.sockets.clone(),
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn components_answer_without_a_connection_in_between() {
    let slow = "routes: [{ name: slow, match: { path: /slow }, upstream: here, timeout: 300ms }, ";
    let door = Door::open(&CONFIG.replace("routes: [", slow)).await;
    let early = door.get("/seen", &[]).await;
    assert_eq!((early.status, early.code().as_str()), (503, "gateway.no_endpoint"), "nothing is served yet");
    let running = served(&door).await;
    assert_eq!(running.base_url(), format!("http://{}", door.address()));
    assert_eq!(door.get("/seen", &[("x-request-id", "r-7")]).await.body, "127.0.0.1 http r-7");
    let token = door.deps.keys.sign_token("ann", &["fan".to_owned()], Duration::from_secs(60)).unwrap();
    let me = async |token: &str| door.get("/me", &[("authorization", &format!("Bearer {token}"))]).await;
    assert_eq!(me(&token).await.body, "ann");
    assert_eq!(me(&format!("{token}x")).await.status, 401);
    assert_eq!(door.get("/readyz", &[]).await.status, 200, "what the process says of itself is there too");
    let post = |bytes: usize| client().post(door.url("/sum")).body(vec![b'x'; bytes]).send();
    assert_eq!(post(1 << 20).await.unwrap().text().await.unwrap(), (1 << 20).to_string());
    let large = post((1 << 20) + 1).await.unwrap();
    assert_eq!(large.status(), 413);
    let late = door.get("/slow", &[]).await;
    assert_eq!((late.status, late.code().as_str()), (504, "gateway.upstream_timeout"));
    assert!(running.stop().await, "the gateway ends with the requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_takes_over_a_websocket() {
    for config in [CONFIG.to_owned(), CONFIG.replace("upstream: here,", "upstream: here, cache: {},")] {
        let door = Door::open(&config).await;
        let _running = served(&door).await;
        let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/echo", door.address())).await.unwrap();
        socket.send("well".into()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap().as_str(), "well!");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_takes_over_a_websocket_on_a_stream() {
    let limits = "limits: { head_timeout: 400ms, write_timeout: 400ms }\n";
    let door = Door::open(&format!("{limits}{CONFIG}")).await;
    let running = served(&door).await;
    let mut client = websocket::client(&door).await;
    let (_, mut socket) = websocket::open(&mut client, "/echo").await;
    assert_eq!(websocket::says(&mut socket, "well").await, "well!");
    // For as long as it is there its connection is not idle.
    for _ in 0..2 {
        let idle = websocket::client(&door).await;
        until("it is closed", || idle.is_closed()).await;
    }
    assert_eq!(websocket::says(&mut socket, "still well").await, "still well!");
    assert!(running.stop().await, "it does not hold up the end of the process");
}

/// A component that counts its answers, which may be kept.
fn counting(count: &Arc<AtomicUsize>) -> Router {
    let count = count.clone();
    let answer = move || {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let pieces = ["number ".to_owned(), number.to_string()].map(Ok::<_, std::convert::Infallible>);
        let body = axum::body::Body::from_stream(stream::iter(pieces));
        std::future::ready(([("cache-control", "max-age=60"), ("etag", "\"one\"")], body).into_response())
    };
    Router::new().route("/count", any(answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_component_answers_is_kept() {
    let door = Door::open(&CONFIG.replace("upstream: here,", "upstream: here, cache: {},")).await;
    let count = Arc::default();
    let _running = served_with(&door, counting(&count)).await;
    let first = door.get("/count", &[]).await;
    let stored = "tessera; fwd=uri-miss; fwd-status=200; stored";
    assert_eq!((first.body.as_str(), first.header("cache-status")), ("number 1", stored));
    let second = door.get("/count", &[]).await;
    assert_eq!((second.body.as_str(), second.header("cache-status")), ("number 1", "tessera; hit; ttl=60"));
    assert_eq!(door.get("/count", &[("range", "bytes=7-")]).await.body, "1");
    assert_eq!(door.get("/count", &[("if-none-match", "\"one\"")]).await.status, 304);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    // What changes it voids it.
    assert_eq!(client().put(door.url("/count")).body("new").send().await.unwrap().status(), 200);
    assert_eq!(door.get("/count", &[]).await.body, "number 3");
    // Who asks matters as it does elsewhere.
    let token = door.deps.keys.sign_token("ann", &[], Duration::from_secs(60)).unwrap();
    let me = door.get("/me", &[("authorization", &format!("Bearer {token}"))]).await;
    assert_eq!((me.body.as_str(), me.header("cache-status")), ("ann", "tessera; fwd=uri-miss; fwd-status=200"));
    assert_eq!(door.get("/me", &[]).await.status, 401);
}

/// A component that knows version 2 of orders only.
fn orders(count: &Arc<AtomicUsize>) -> Router {
    let count = count.clone();
    let one = move |Path(id): Path<u64>, uri: Uri| {
        count.fetch_add(1, Ordering::SeqCst);
        let order = if id == 13 { json!({ "id": "none" }) } else { json!({ "id": id, "asked": uri.to_string() }) };
        std::future::ready(([("cache-control", "max-age=60")], Json(order)))
    };
    let new = async |Json(order): Json<Value>| Json(json!({ "id": 1, "asked": order.to_string() }));
    Router::new().route("/v2/orders/{id}", get(one)).route("/v2/orders", post(new))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_does_not_reach_a_component() {
    let folder = tempfile::tempdir().unwrap();
    let document = r##"
openapi: 3.1.0
info: { title: Shop, version: "2" }
components:
  responses:
    Order:
      description: it
      content: { application/json: { schema: { type: object, properties: { id: { type: integer } } } } }
paths:
  /v2/orders/{id}:
    get:
      parameters: [{ name: id, in: path, required: true, schema: { type: integer } }]
      responses: { "200": { $ref: "#/components/responses/Order" } }
  /v2/orders:
    post:
      requestBody: { content: { application/json: { schema: { type: object, required: [title] } } } }
      responses: { "200": { $ref: "#/components/responses/Order" } }
"##;
    std::fs::write(folder.path().join("shop.yaml"), document).unwrap();
    let validate = "upstream: here, validate: { openapi: shop.yaml, answers: refuse },";
    let door = Door::open_in(folder, &CONFIG.replace("upstream: here,", validate)).await;
    let count = Arc::default();
    let _running = served_with(&door, orders(&count)).await;
    let refused = door.get("/v2/orders/x", &[]).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "gateway.invalid"));
    assert_eq!(refused.json()["errors"][0]["pointer"], "/id");
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert_eq!(door.get("/v2/orders/7", &[]).await.json()["id"], 7);
    assert_eq!(door.get("/v2/orders/13", &[]).await.code(), "gateway.invalid_answer");
    let post = async |body: Value| {
        let request = client().post(door.url("/v2/orders")).header("content-type", "application/json");
        Answer::of(request.body(body.to_string()).send().await.unwrap()).await
    };
    assert_eq!(post(json!({ "title": "pen" })).await.json()["asked"], "{\"title\":\"pen\"}");
    assert_eq!(post(json!({})).await.code(), "gateway.invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_version_is_expressed_by_that_of_a_component() {
    let door = Door::open(
        r#"
upstreams: { here: { in_process: true } }
routes:
  - name: orders
    match: { path: "/{version}/orders/*" }
    upstream: here
    cache: {}
    compress: { from: 1B }
    versions:
      by: path:version
      known:
        v2: {}
        v1:
          on: v2
          query: [{ move: { from: page_size, to: limit } }]
          request: [{ move: { from: name, to: title } }]
          answer: [{ move: { from: asked, to: question } }]
"#,
    )
    .await;
    let count = Arc::default();
    let _running = served_with(&door, orders(&count)).await;
    assert_eq!(door.get("/v2/orders/7?limit=5", &[]).await.json()["asked"], "/v2/orders/7?limit=5");
    let old = door.get("/v1/orders/7?page_size=5", &[]).await;
    assert_eq!(old.json(), json!({ "id": 7, "question": "/v2/orders/7?limit=5" }));
    assert!(old.header("cache-status").starts_with("tessera; hit"), "one answer for both: {old:?}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let packed = door.get("/v1/orders/7?page_size=5", &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    let request = client().post(door.url("/v1/orders")).header("content-type", "application/json");
    let answer = Answer::of(request.body("{\"name\":\"pen\"}").send().await.unwrap()).await;
    assert_eq!(answer.json()["question"], "{\"title\":\"pen\"}");
}

#[tokio::test(flavor = "multi_thread")]
async fn components_are_called_for_one_answer() {
    let door = Door::open(
        r#"
upstreams: { here: { in_process: true }, again: { in_process: true } }
routes:
  - name: overview
    match: { path: "/overview/{id}" }
    aggregate:
      calls:
        who: { upstream: here, path: /who }
        order: { upstream: again, path: "/v2/orders/{id}?for={who.subject}" }
        new: { upstream: again, method: POST, path: /v2/orders, body: { title: "{order.id}" } }
        late: { upstream: here, path: /slow, timeout: 50ms, optional: true }
        none: { upstream: here, path: /nothing, default: [] }
      answer: { who: "{who}", order: "{order.asked}", new: "{new.asked}", none: "{none}" }
"#,
    )
    .await;
    let who = async |Extension(peer): Extension<Peer>, Extension(identity): Extension<Identity>| {
        Json(json!({ "subject": identity.subject.to_string(), "from": peer.address.ip().to_string() }))
    };
    let _running = served_with(&door, orders(&Arc::default()).route("/who", get(who))).await;
    let token = door.deps.keys.sign_token("ann", &[], Duration::from_secs(60)).unwrap();
    let answer = door.get("/overview/7", &[("authorization", &format!("Bearer {token}"))]).await;
    let wanted = json!({
        "who": { "subject": "ann", "from": "127.0.0.1" },
        "order": "/v2/orders/7?for=ann",
        "new": "{\"title\":7}",
        "none": [],
    });
    assert_eq!((answer.status, answer.json()), (200, wanted));
    let mut failed: Vec<&str> = answer.header("x-gateway-partial").split(", ").collect();
    failed.sort_unstable();
    assert_eq!(failed, ["late;code=gateway.upstream_timeout", "none;code=gateway.call_failed"]);
    assert_eq!(door.get("/overview/7", &[]).await.code(), "gateway.call_failed", "`who` cannot do without a token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_came_to_no_component_may_be_made_again() {
    let config = CONFIG.replace("upstream: here", "aggregate: { calls: { who: { upstream: here, path: /who } } }");
    let answer = Door::open(&config).await.get("/", &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "gateway.no_endpoint"), "nothing is served yet");
    assert_eq!(answer.json()["may_retry"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_of_the_process_becomes_part_of_the_gateways() {
    let config = CONFIG
        .replace("in_process: true", "in_process: true, openapi: /openapi.json")
        .replace("routes: [", "routes: [{ name: apis, match: { path: /apis.json }, docs: document }, ");
    let door = Door::open(&config).await;
    let _running = served(&door).await;
    let described = async {
        // It is asked again after a while, since nothing was served at first.
        while door.get("/apis.json", &[]).await.json().pointer("/paths/~1sum/post").is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, described).await.expect("it is there in the end");
}
