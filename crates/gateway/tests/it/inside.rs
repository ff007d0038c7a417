//! Components of the gateway's own process: reached without a connection, and with all that one would have brought.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::routing::{any, get, post};
use futures::{SinkExt, StreamExt};
use http::HeaderMap;
use tessera_kernel::{RandomIds, SystemClock};
use tessera_service::http::{Config, Peer};
use tessera_service::run::{self, Plan, Role, Running};
use tessera_service::{Component, Identity, Keys, Metrics};

use crate::support::{Door, client};

const CONFIG: &str = "upstreams: { here: { in_process: true } }\nroutes: [{ name: all, match: { path: /* }, upstream: here, body: 1MiB, timeout: 300ms }]\n";

async fn served(door: &Door) -> Running {
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
    let components = vec![Component::new("shop", "/").router(router), door.gateway.clone().component(&door.deps)];
    run::start(Plan {
        listener: run::bind("127.0.0.1:0").await.unwrap(),
        roles: vec![Role { name: "shop", components }],
        http: Config::default(),
        clock: clock.clone(),
        ids: Arc::new(RandomIds),
        metrics: Metrics::new(clock),
        front: Some(run::Front { http: door.address(), https: door.address() }),
        inside: door.deps.inside.clone(),
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn components_answer_without_a_connection_in_between() {
    let door = Door::open(CONFIG).await;
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
    let door = Door::open(CONFIG).await;
    let _running = served(&door).await;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/echo", door.address())).await.unwrap();
    socket.send("well".into()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap().as_str(), "well!");
}
