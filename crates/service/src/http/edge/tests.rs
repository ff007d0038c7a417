//! Requests through the edge, in process.

use axum::body::{Body, to_bytes};
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tessera_kernel::{ErrorKind, FixedIds, SystemClock};
use tower::ServiceExt;

use super::*;
use crate::ProductError;
use crate::http::{IdempotencyKey, Json, Path, Query};

#[derive(Debug, thiserror::Error)]
#[error("pool `main` has no connection: {0}")]
struct Away(&'static str);

impl ProductError for Away {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }

    fn code(&self) -> &'static str {
        "shop.away"
    }

    fn retry_after_s(&self) -> Option<u64> {
        Some(3)
    }
}

#[derive(Deserialize)]
struct Order {
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    count: u32,
}

#[derive(Deserialize)]
struct Filter {
    size: Option<u8>,
}

async fn order(_: IdempotencyKey, Json(order): Json<Order>) -> Json<Value> {
    Json(json!({ "count": order.lines.iter().map(|line| line.count).sum::<u32>() }))
}

fn app(request_timeout_s: u64) -> (Router, Metrics) {
    let metrics = Metrics::new(Arc::new(SystemClock));
    let router = Router::new()
        .route("/orders", post(order))
        .route("/orders/{id}", get(async |Path(id): Path<u32>| id.to_string()))
        .route("/search", get(async |Query(filter): Query<Filter>| format!("{:?}", filter.size)))
        .route("/away", get(async || Problem::from(Away("10.0.0.7 is down"))))
        .route(
            "/panic",
            get(async || {
                if true {
                    panic!("card 4111 declined")
                }
            }),
        )
        .route("/slow", get(std::future::pending::<()>));
    let config = Config { body_limit_bytes: 200, request_timeout_s, ..Config::default() };
    let ids = Arc::new(FixedIds::default());
    (wrap(router, &config, ids, metrics.clone(), CancellationToken::new()), metrics)
}

async fn ask(request: http::Request<Body>) -> (StatusCode, HeaderMap, Value) {
    let response = app(30).0.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 1 << 20).await.unwrap();
    assert!(parts.headers.contains_key(REQUEST_ID));
    (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn get_path(path: &str) -> (StatusCode, HeaderMap, Value) {
    ask(http::Request::get(path).body(Body::empty()).unwrap()).await
}

async fn post_order(body: &'static str) -> (StatusCode, Value) {
    let request = http::Request::post("/orders")
        .header("content-type", "application/json")
        .header("idempotency-key", "k1")
        .body(Body::from(body))
        .unwrap();
    let (status, _, body) = ask(request).await;
    (status, body)
}

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let (status, headers, body) = get_path("/nowhere").await;
    assert_eq!((status, &headers["content-type"]), (StatusCode::NOT_FOUND, &CONTENT));
    let expected = json!({
        "type": "urn:tessera:error:service.route_not_found", "title": "not found", "status": 404,
        "code": "service.route_not_found",
        "detail": "there is nothing at `/nowhere`; GET /openapi.json lists the paths",
        "request_id": "req_00000000000000000000000000000001",
    });
    assert_eq!(body, expected);
}

const CONTENT: HeaderValue = HeaderValue::from_static("application/problem+json");

#[tokio::test]
async fn a_wrong_method_says_which_are_right() {
    let (status, headers, body) = get_path("/orders").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(headers["allow"], "POST");
    assert_eq!(body["code"], "service.method_not_allowed");
    assert_eq!(headers["content-length"], body.to_string().len().to_string());
}

#[tokio::test]
async fn a_fit_request_id_is_kept_and_another_is_replaced() {
    for (given, kept) in [("abc-1.2:3_4", true), ("two words", false), ("", false)] {
        let request = http::Request::get("/nowhere").header(REQUEST_ID, given).body(Body::empty()).unwrap();
        let (_, headers, body) = ask(request).await;
        assert_eq!(headers[REQUEST_ID] == given, kept, "{given}");
        assert_eq!(body["request_id"], headers[REQUEST_ID].to_str().unwrap());
    }
}

#[tokio::test]
async fn refusals_name_the_field() {
    assert_eq!(post_order(r#"{"lines":[{"count":2},{"count":3}]}"#).await.1, json!({"count": 5}));
    let (status, body) = post_order(r#"{"lines":[{"count":2},{"count":"x"}]}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.starts_with("body: lines[1].count: invalid type"), "{body}");
    assert!(detail.contains("expected a whole number from 0"), "{body}");
    let (_, body) = post_order(r#"{"lines":"#).await;
    assert!(body["detail"].as_str().unwrap().starts_with("body: "), "{body}");
    let (_, _, body) = get_path("/search?size=900").await;
    assert!(body["detail"].as_str().unwrap().starts_with("query: size: "), "{body}");
    let (_, _, body) = get_path("/search?size=many").await;
    assert_eq!(body["detail"], "query: size: it is not a whole number of 0 or more");
    let (status, _, body) = get_path("/orders/seven").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["detail"].as_str().unwrap().contains("seven"), "{body}");
}

#[tokio::test]
async fn bodies_and_keys_have_their_limits() {
    let long = http::Request::post("/orders")
        .header("content-type", "application/json")
        .header("idempotency-key", "k1")
        .body(Body::from(" ".repeat(201)))
        .unwrap();
    assert_eq!(ask(long).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let keyless = http::Request::post("/orders").body(Body::empty()).unwrap();
    let (status, _, body) = ask(keyless).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("service.bad_idempotency_key")));
    let form = http::Request::post("/orders").header("idempotency-key", "k").body(Body::from("a=b")).unwrap();
    assert_eq!(ask(form).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn the_reason_of_a_failure_stays_inside() {
    for (path, status) in [("/away", 503), ("/panic", 500)] {
        let (got, headers, body) = get_path(path).await;
        assert_eq!(got.as_u16(), status);
        let text = body.to_string();
        assert!(!text.contains("10.0.0.7") && !text.contains("4111"), "{text}");
        assert_eq!(headers.get("retry-after").is_some(), path == "/away");
    }
}

#[tokio::test]
async fn a_handler_that_hangs_is_cut_off() {
    let request = http::Request::get("/slow").body(Body::empty()).unwrap();
    let response = app(0).0.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
}

#[tokio::test]
async fn requests_are_counted_under_their_template() {
    let (app, metrics) = app(30);
    for id in 1..=3 {
        let request = http::Request::get(format!("/orders/{id}")).body(Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap();
    }
    let text = metrics.encode();
    let counted = r#"tessera_http_requests_total{method="GET",route="/orders/{id}",status="200"} 3"#;
    assert!(text.contains(counted), "{text}");
    assert!(text.contains("tessera_http_requests_in_flight 0"), "{text}");
}
