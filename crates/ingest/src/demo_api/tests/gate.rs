//! Credentials, limits and faults; one over TCP, for what only a connection shows.

use axum::http::{Request, StatusCode, header};
use base64::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::{Faults, serve};
use super::*;

#[tokio::test]
async fn every_way_to_sign_in_works_and_nothing_else() {
    let shop = Shop::new(Options { auth: true, orders: 10, ..Options::default() });
    let ask = async |name: &'static str, value: &str| {
        let request = Request::get("/countries").header(name, value).body(Body::empty()).unwrap();
        shop.send(request).await.0
    };
    let (status, headers, body) = shop.get("/countries").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
    assert!(headers.get(header::WWW_AUTHENTICATE).is_some());
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["code"], "unauthenticated");
    for path in ["/", "/openapi.json", "/_truth", "/_stats", "/_faults"] {
        assert_eq!(shop.get(path).await.0, StatusCode::OK, "{path}");
    }

    let basic = base64::engine::general_purpose::STANDARD.encode("demo:demo-password");
    for (name, value) in [
        ("authorization", "Bearer demo-token".to_owned()),
        ("authorization", format!("Basic {basic}")),
        ("x-api-key", "demo-key".to_owned()),
        ("cookie", "a=b; api_key=demo-key".to_owned()),
    ] {
        assert_eq!(ask(name, &value).await, StatusCode::OK, "{name}: {value}");
        assert_eq!(ask(name, &format!("{value}x")).await, StatusCode::UNAUTHORIZED, "{name}: {value}x");
    }
    assert_eq!(shop.get("/countries?api_key=demo-key").await.0, StatusCode::OK);

    let form = "grant_type=client_credentials&client_id=demo-client&client_secret=demo-secret";
    let (status, _, body) = shop.send(Request::post("/oauth/token").body(Body::from(form)).unwrap()).await;
    let token: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, token["expires_in"].as_u64()), (StatusCode::OK, Some(60)));
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let refresh = format!("Bearer {}", token["refresh_token"].as_str().unwrap());
    assert_eq!(ask("authorization", &bearer).await, StatusCode::OK);
    assert_eq!(ask("authorization", &refresh).await, StatusCode::UNAUTHORIZED);
    let (_, login) = shop.post("/session", json!({ "username": "demo", "password": "wrong" })).await;
    assert_eq!(login["status"], 401);
    let request = Request::post("/session").body(Body::from("username=demo&password=demo-password")).unwrap();
    let (_, headers, _) = shop.send(request).await;
    let session = headers[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(ask("cookie", &session).await, StatusCode::OK);

    let expires_s = shop.clock.now().micros() / 1_000_000 + 100;
    let key = jsonwebtoken::EncodingKey::from_secret(b"demo-jwt-key-demo-jwt-key-demo-jwt-key");
    let jwt = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &json!({ "exp": expires_s }), &key).unwrap();
    assert_eq!(ask("authorization", &format!("Bearer {jwt}")).await, StatusCode::OK);

    shop.clock.advance(Duration::from_secs(60));
    assert_eq!(ask("authorization", &bearer).await, StatusCode::UNAUTHORIZED, "access tokens live 60 s");
    assert_eq!(ask("cookie", &session).await, StatusCode::OK);
    let renew = json!({
        "grant_type": "refresh_token",
        "refresh_token": token["refresh_token"],
        "client_id": "demo-client",
        "client_secret": "demo-secret",
    });
    let (_, renewed) = shop.post("/oauth/token", renew).await;
    assert_eq!(
        ask("authorization", &format!("Bearer {}", renewed["access_token"].as_str().unwrap())).await,
        StatusCode::OK
    );
    shop.clock.advance(Duration::from_secs(300));
    assert_eq!(ask("cookie", &session).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("authorization", &format!("Bearer {jwt}")).await, StatusCode::UNAUTHORIZED);
    let (status, refused) = shop.post("/oauth/token", json!({ "grant_type": "client_credentials" })).await;
    assert_eq!((status, refused["error"].as_str()), (StatusCode::UNAUTHORIZED, Some("invalid_client")));
}

#[tokio::test]
async fn the_rate_limit_counts_by_the_second() {
    let shop = Shop::new(Options { rate_limit: Some(3), ..Options::default() });
    for left in [2, 1, 0] {
        let (status, headers, _) = shop.get("/countries").await;
        assert_eq!(
            (status, headers["x-ratelimit-remaining"].to_str().unwrap()),
            (StatusCode::OK, left.to_string().as_str())
        );
        assert_eq!(headers["x-ratelimit-reset"], "1767225601");
    }
    for (form, expected) in
        [("seconds", Some("1")), ("zero", Some("0")), ("date", Some("Thu, 01 Jan 2026 00:00:01 GMT")), ("none", None)]
    {
        shop.set_faults(json!({ "retry_after": form })).await;
        let (status, headers, _) = shop.get("/countries").await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(headers["x-ratelimit-limit"], "3");
        assert_eq!(headers.get("retry-after").map(|value| value.to_str().unwrap()), expected);
    }
    assert_eq!(shop.get("/").await.0, StatusCode::OK, "the control routes are not limited");
    shop.clock.advance(Duration::from_secs(1));
    assert_eq!(shop.get("/countries").await.0, StatusCode::OK);
    shop.set_faults(json!({ "rate_limit": 0 })).await;
    for _ in 0..10 {
        assert_eq!(shop.get("/countries").await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn faults_come_when_asked_for_and_are_counted() {
    let shop = Shop::small(0);
    shop.set_faults(json!({ "fail_every": 3, "throttle_every": 4, "paths": { "/products": { "html_every": 1 } } }))
        .await;
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(shop.get("/customers").await.0.as_u16());
    }
    assert_eq!(statuses, [200, 200, 500, 429, 200, 503, 200, 429]);
    let (status, headers, body) = shop.get("/products").await;
    assert_eq!((status, headers[header::CONTENT_TYPE].to_str().unwrap()), (StatusCode::OK, "text/html; charset=utf-8"));
    assert!(body.starts_with(b"<!doctype html>"));

    // What a request asks for itself counts alone.
    let (status, headers, body) = shop.get("/orders?fault=truncate").await;
    assert_eq!((status, headers[header::CONTENT_TYPE].to_str().unwrap()), (StatusCode::OK, "application/json"));
    assert!(body.len() > 1000 && serde_json::from_slice::<Value>(&body).is_err());
    let request = Request::get("/orders").header("X-Fault", "fail,fail_status=502").body(Body::empty()).unwrap();
    assert_eq!(shop.send(request).await.0, StatusCode::BAD_GATEWAY);
    assert_eq!(shop.get("/orders?fault=unauthorized").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(shop.get("/orders?fault=nonsense").await.0, StatusCode::BAD_REQUEST);

    let stats = shop.json("/_stats").await;
    assert_eq!(stats["requests"], 13);
    assert_eq!(stats["paths"]["/customers"], json!({ "200": 4, "429": 2, "500": 1, "503": 1 }));
    assert_eq!(stats["faults"], json!({ "fail": 3, "html": 1, "throttle": 2, "truncate": 1, "unauthorized": 1 }));
    assert_eq!(stats["max_concurrent"], 1);
    shop.send(Request::delete("/_stats").body(Body::empty()).unwrap()).await;
    assert_eq!(shop.json("/_stats").await["requests"], 0);
    assert_eq!(shop.post("/_faults", json!({ "fial_every": 1 })).await.0, StatusCode::BAD_REQUEST);
    shop.set_faults(json!({})).await;
    assert_eq!(shop.json("/_faults").await, serde_json::to_value(Faults::default()).unwrap());
}

#[tokio::test]
async fn loops_dropped_totals_and_changed_types() {
    let shop = Shop::small(0);
    let fault = "fault=loop_after%3D2";
    let second = shop.json("/customers?page=2").await;
    for page in 2..5 {
        let looped = shop.json(&format!("/customers?page={page}&{fault}")).await;
        assert_eq!(looped["data"], second["data"]);
        assert!(looped["total_pages"].as_u64() > Some(page));
    }
    let first = shop.json(&format!("/refunds?limit=5&{fault}")).await;
    let next = first["next"].as_str().unwrap().to_owned();
    let second = shop.json(&next).await;
    assert_eq!(second["next"].as_str(), Some(next.as_str()), "the second page names itself as the next");
    assert_eq!(shop.json(&next).await, second);
    let page = shop.json(&format!("/products?offset=500&limit=10&{fault}")).await;
    assert_eq!(page["items"], shop.json("/products?offset=10&limit=10").await["items"]);
    assert!(page["count"].as_u64() > Some(510));

    shop.set_faults(json!({ "drop_total": true, "type_change_after_row": 60 })).await;
    let page = shop.json("/orders?page=2&per_page=50").await;
    assert!(page.get("total").is_none() && page.get("total_pages").is_none());
    let rows = page["data"].as_array().unwrap();
    assert!(rows[..10].iter().all(|row| row["total_minor"].is_u64()));
    assert!(rows[10..].iter().all(|row| row["total_minor"].is_string()));
    let (_, headers, _) = shop.get("/products").await;
    assert!(headers.get("x-total-count").is_none());
}

/// Asks over a connection of its own and reads until it closes.
async fn ask(address: std::net::SocketAddr, path: &str) -> (String, Vec<u8>) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer).await;
    let split = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    (String::from_utf8_lossy(&answer[..split]).to_ascii_lowercase(), answer[split + 4..].to_vec())
}

#[tokio::test]
async fn a_cut_connection_closes_in_the_middle_of_the_body() {
    let shop = Shop::small(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, shop.api.clone(), async {
        let _ = stopped.await;
    }));

    let (head, body) = ask(address, "/orders?fault=cut").await;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let whole = shop.get("/orders").await.2;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(length.parse::<usize>().unwrap(), whole.len());
    assert_eq!(body, whole[..whole.len() / 2]);

    // The next URL names the host that was asked.
    let refunds = format!("http://{address}/refunds?limit=50&cursor=");
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /refunds HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(&refunds));

    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}
