//! HTTP and JSON in front of a gRPC service: rules, messages, streams, statuses, deadlines, reflection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Value as Field};
use serde_json::{Value, json};
use tessera_gateway::auth::hash_key;
use tokio::net::TcpListener;

use crate::support::{Answer, Door, client};

const DESCRIPTORS: &[u8] = include_bytes!("grpc/shop.pb");
const REFLECTION: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A gRPC service over HTTP/2 that answers orders which say what it was asked.
struct Orders {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Orders {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
        let (pool, heard) = (DescriptorPool::decode(DESCRIPTORS).unwrap(), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (pool, heard) = (pool.clone(), heard.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (pool, heard) = (pool.clone(), heard.clone());
                    async move {
                        heard.lock().unwrap().push(request.headers().clone());
                        Ok::<_, std::convert::Infallible>(answer(&pool, request).await)
                    }
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(async move { server.serve_connection(TokioIo::new(stream), service).await.ok() });
            }
        });
        Self { address, seen }
    }

    fn header(&self, name: &str) -> String {
        let seen = self.seen.lock().unwrap();
        seen.last().unwrap().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }
}

async fn answer(pool: &DescriptorPool, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if path == REFLECTION {
        return reflect(pool, &messages(pool, "grpc.reflection.v1alpha.ServerReflectionRequest", &body));
    }
    let Some(method) = path.strip_prefix("/shop.v1.Orders/") else { return ended(Vec::new(), 12, "unknown") };
    let service = pool.get_service_by_name("shop.v1.Orders").unwrap();
    let method = service.methods().find(|known| known.name() == method).unwrap();
    let asked = messages(pool, method.input().full_name(), &body);
    let asked = asked.iter().map(|message| serde_json::to_value(message).unwrap()).collect::<Vec<_>>();
    let id = asked.first().and_then(|one| one["id"].as_str().or(one["name"].as_str())).unwrap_or_default().to_owned();
    let order = |id: &str, asked: &Value| {
        let mut order = DynamicMessage::new(pool.get_message_by_name("shop.v1.Order").unwrap());
        order.set_field_by_name("id", Field::String(id.to_owned()));
        order.set_field_by_name("total_cents", Field::I64(9_007_199_254_740_993));
        order.set_field_by_name("state", Field::EnumNumber(1));
        order.set_field_by_name("asked", Field::String(asked.to_string()));
        order
    };
    match (method.name(), id.as_str()) {
        (_, "missing") => ended(Vec::new(), 5, "no%20such%20order"),
        (_, "limited") => ended(Vec::new(), 8, ""),
        (_, "broken") => ended(Vec::new(), 13, "the%20secret%20table"),
        (_, "silent") => std::future::pending().await,
        ("Watch", "midway") => ended(vec![order("1", &json!(1)).encode_to_vec()], 14, "gone"),
        ("Watch", _) => ended((1..=3).map(|at| order(&at.to_string(), &json!(at)).encode_to_vec()).collect(), 0, ""),
        ("List" | "Add", _) => {
            let mut list = DynamicMessage::new(method.output());
            let orders = asked.iter().map(|asked| Field::Message(order("9", asked))).collect();
            list.set_field_by_name("orders", Field::List(orders));
            ended(vec![list.encode_to_vec()], 0, "")
        }
        ("Receipt", _) => {
            let mut file = DynamicMessage::new(method.output());
            file.set_field_by_name("content_type", Field::String("text/csv".into()));
            file.set_field_by_name("data", Field::Bytes(Bytes::from_static(b"a,b\n")));
            ended(vec![file.encode_to_vec()], 0, "")
        }
        _ => ended(vec![order(&id, &asked[0]).encode_to_vec()], 0, ""),
    }
}

fn messages(pool: &DescriptorPool, kind: &str, mut body: &[u8]) -> Vec<DynamicMessage> {
    let mut found = Vec::new();
    while body.len() >= 5 {
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        found.push(DynamicMessage::decode(pool.get_message_by_name(kind).unwrap(), &body[5..5 + length]).unwrap());
        body = &body[5 + length..];
    }
    found
}

fn ended(messages: Vec<Vec<u8>>, code: u8, said: &'static str) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    trailers.insert("grpc-message", HeaderValue::from_static(said));
    let frames = messages.into_iter().map(|message| {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&message);
        Ok(Frame::data(Bytes::from(bytes)))
    });
    let frames = frames.chain([Ok(Frame::trailers(trailers))]).collect::<Vec<Result<_, std::convert::Infallible>>>();
    let body = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
    let answer = Response::builder().header("content-type", "application/grpc").header("x-own", "kept");
    answer.body(body).unwrap()
}

fn reflect(pool: &DescriptorPool, questions: &[DynamicMessage]) -> Response<Body> {
    let answers = questions.iter().map(|question| {
        let question = serde_json::to_value(question).unwrap();
        let file = match (question["fileByFilename"].as_str(), question["fileContainingSymbol"].as_str()) {
            (Some(name), _) => pool.get_file_by_name(name),
            (_, Some(symbol)) => pool.get_service_by_name(symbol).map(|service| service.parent_file()),
            _ => None,
        };
        let told = match file {
            // One file at a time, as some servers do: what it needs is asked for by name.
            Some(file) => {
                use base64::Engine as _;
                let bytes = base64::prelude::BASE64_STANDARD.encode(file.encode_to_vec());
                json!({ "fileDescriptorResponse": { "fileDescriptorProto": [bytes] } })
            }
            None => json!({ "listServicesResponse": { "service": [{ "name": "shop.v1.Orders" }, { "name": "grpc.reflection.v1alpha.ServerReflection" }] } }),
        };
        let kind = pool.get_message_by_name("grpc.reflection.v1alpha.ServerReflectionResponse").unwrap();
        DynamicMessage::deserialize(kind, told).unwrap().encode_to_vec()
    });
    ended(answers.collect(), 0, "")
}

async fn door(orders: &Orders, more: &str) -> Door {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.pb"), DESCRIPTORS).unwrap();
    let config = format!(
        r#"
upstreams: {{ orders: {{ endpoints: ["http://{}"], protocol: http2 }} }}
routes:
  - name: orders
    match: {{ path: /api/* }}
    upstream: orders
    rewrite: {{ strip_prefix: /api }}
    transcode: {{ {more} }}
"#,
        orders.address
    );
    Door::open_in(folder, &config).await
}

const FILE: &str = "descriptors: shop.pb, services: [shop.v1.Orders]";

async fn send(door: &Door, method: &str, path: &str, body: impl Into<reqwest::Body>) -> Answer {
    Answer::of(client().request(method.parse().unwrap(), door.url(path)).body(body).send().await.unwrap()).await
}

fn asked(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(answer.json()["asked"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_is_told_who_asks() {
    let orders = Orders::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.pb"), DESCRIPTORS).unwrap();
    let config = format!(
        r#"
signed_identity: {{ issuer: https://gateway.example }}
auth: {{ keys: {{ api_key: {{ consumers: {{ ann: {{ hashes: [{}] }} }} }} }} }}
upstreams: {{ orders: {{ endpoints: ["http://{}"], protocol: http2 }} }}
routes: [{{ name: all, match: {{ path: /* }}, upstream: orders, access: {{ by: [keys] }}, transcode: {{ {FILE} }} }}]
"#,
        hash_key("key-of-ann"),
        orders.address
    );
    let door = Door::open_in(folder, &config).await;
    assert_eq!(door.get("/v1/orders/1", &[("x-api-key", "key-of-ann")]).await.status, 200);
    assert_eq!(orders.header("x-auth-subject"), "ann");
    assert_eq!(orders.header("x-auth-token").split('.').count(), 3, "and in a token of the gateway's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn path_query_and_body_become_a_message_and_the_answer_json() {
    let orders = Orders::start().await;
    let door = door(&orders, FILE).await;
    let answer = door.get("/api/v1/orders/a%20b", &[("x-request-id", "id-7"), ("x-kept", "1")]).await;
    assert_eq!(
        (answer.status, answer.header("content-type"), answer.header("x-own")),
        (200, "application/json", "kept")
    );
    let value = answer.json();
    // 64 bits are text in JSON, or JavaScript would round them.
    assert_eq!(
        (&value["id"], &value["totalCents"], &value["state"]),
        (&json!("a b"), &json!("9007199254740993"), &json!("OPEN"))
    );
    assert_eq!(
        (orders.header("x-request-id"), orders.header("x-kept"), orders.header("te")),
        ("id-7".into(), "1".into(), "trailers".into())
    );
    assert_eq!(orders.header("content-type"), "application/grpc");
    let left = orders.header("grpc-timeout");
    let millis = |left: &str| left.strip_suffix('m').and_then(|millis| millis.parse::<u32>().ok());
    assert!(millis(&left).is_some_and(|millis| millis <= 30_000), "{left}");
    door.get("/api/v1/orders/a", &[("x-request-timeout-ms", "9000")]).await;
    let left = orders.header("grpc-timeout");
    assert!(millis(&left).is_some_and(|millis| millis <= 9_000), "the caller's own: {left}");
    assert_eq!(asked(&door.get("/api/v1/shops/1/orders/2", &[]).await), json!({ "name": "shops/1/orders/2" }));
    let query = "/api/v1/orders?limit=5&state=CLOSED&tags=a&tags=b&filter.customerName=Ann&filter.least=3&archived=true&since=2026-01-31T00:00:00Z";
    let answer = door.get(query, &[]).await;
    let list = answer.json();
    let wanted = json!({
        "limit": 5, "state": "CLOSED", "tags": ["a", "b"], "filter": { "customerName": "Ann", "least": 3 },
        "archived": true, "since": "2026-01-31T00:00:00Z",
    });
    let told: Value = serde_json::from_str(list[0]["asked"].as_str().unwrap()).unwrap();
    assert_eq!(told, wanted, "one field of the answer is sent: {list}");
    let order = json!({ "id": "x", "labels": { "k": "v" }, "total_cents": "7" }).to_string();
    let answer = send(&door, "POST", "/api/v1/shops/north/orders?dry_run=true", order).await;
    let wanted =
        json!({ "shop": "north", "dryRun": true, "order": { "id": "x", "labels": { "k": "v" }, "totalCents": "7" } });
    assert_eq!(asked(&answer), wanted);
    let answer = send(&door, "PATCH", "/api/v1/orders/p", json!({ "id": "other", "state": 2 }).to_string()).await;
    assert_eq!(asked(&answer), json!({ "id": "p", "state": "CLOSED" }), "the path says which");
    assert_eq!(asked(&send(&door, "POST", "/api/v1/orders/p:cancel", "").await), json!({ "id": "p" }));
    let answer = door.get("/api/v1/orders/p/receipt", &[]).await;
    assert_eq!((answer.header("content-type"), answer.body.as_str()), ("text/csv", "a,b\n"));
    let head = client().head(door.url("/api/v1/orders/p")).send().await.unwrap();
    assert_eq!(head.status().as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_before_the_service_is_asked() {
    let orders = Orders::start().await;
    let door = door(&orders, FILE).await;
    for (method, path, body, status, said) in [
        ("GET", "/api/v1/other", "", 404, "gateway.no_route"),
        ("POST", "/api/shop.v1.Orders/Plain", "{}", 404, "gateway.no_route"),
        ("PUT", "/api/v1/orders/7", "", 405, "gateway.method_not_allowed"),
        ("GET", "/api/v1/orders?limit=many", "", 400, "\"pointer\":\"/limit\""),
        ("GET", "/api/v1/orders?archived=maybe", "", 400, "\"pointer\":\"/archived\""),
        ("GET", "/api/v1/orders?nothing=1", "", 400, "\"pointer\":\"/nothing\""),
        ("GET", "/api/v1/orders?filter=1", "", 400, "\"pointer\":\"/filter\""),
        ("PATCH", "/api/v1/orders/7", "{", 400, "it is not JSON"),
        ("PATCH", "/api/v1/orders/7", r#"{"nothing":1}"#, 400, "nothing"),
        ("PATCH", "/api/v1/orders/7", r#"{"total_cents":"secret"}"#, 400, "gateway.invalid"),
    ] {
        let answer = send(&door, method, path, body).await;
        assert!(
            answer.status == status && answer.body.contains(said),
            "{method} {path}: {} {}",
            answer.status,
            answer.body
        );
        assert!(!answer.body.contains("secret"), "{}", answer.body);
    }
    assert!(orders.seen.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_translated() {
    let orders = Orders::start().await;
    let door = door(&orders, FILE).await;
    for (id, status, name, said) in [
        ("missing", 404, "NOT_FOUND", "no such order"),
        ("limited", 429, "RESOURCE_EXHAUSTED", ""),
        ("broken", 500, "INTERNAL", ""),
    ] {
        let answer = door.get(&format!("/api/v1/orders/{id}"), &[]).await;
        let value = answer.json();
        assert_eq!(
            (answer.status, &value["code"], &value["grpc_status"]),
            (status, &json!("gateway.grpc_status"), &json!(name))
        );
        assert!(answer.body.contains(said) && !answer.body.contains("secret"), "{}", answer.body);
        let stream = door.get(&format!("/api/v1/orders/{id}/events"), &[]).await;
        assert_eq!(stream.status, status, "a stream that fails at once has its status");
    }
    // A caller's own deadline holds, in either spelling, and is told to the service.
    for deadline in [("x-request-timeout-ms", "300"), ("grpc-timeout", "300m")] {
        let answer = door.get("/api/v1/orders/silent", &[deadline]).await;
        assert_eq!((answer.status, answer.code().as_str()), (504, "gateway.upstream_timeout"));
        let left = orders.header("grpc-timeout");
        assert!(left[..left.len() - 1].parse::<u32>().unwrap() <= 300, "{left}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_lines_or_events() {
    let orders = Orders::start().await;
    let door = door(&orders, FILE).await;
    let answer = door.get("/api/v1/orders/7/events", &[]).await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let ids: Vec<Value> =
        answer.body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
    assert_eq!(ids, ["1", "2", "3"]);
    assert_eq!(orders.header("grpc-timeout"), "", "a stream may last");
    let answer = door.get("/api/v1/orders/7/events", &[("accept", "text/event-stream"), ("grpc-timeout", "9S")]).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert!(
        answer.body.starts_with("data: {\"id\":\"1\"") && answer.body.matches("\n\n").count() == 3,
        "{}",
        answer.body
    );
    let left = orders.header("grpc-timeout");
    let millis: u32 = left.trim_end_matches('m').parse().unwrap_or_else(|_| panic!("{left}"));
    assert!((2_001..=9_000).contains(&millis), "the caller's own, though its answer must begin sooner: {left}");
    let answer = door.get("/api/v1/orders/midway/events", &[]).await;
    let last: Value = serde_json::from_str(answer.body.lines().last().unwrap()).unwrap();
    assert_eq!(
        (answer.status, last),
        (200, json!({ "error": { "code": 14, "status": "UNAVAILABLE", "message": "gone" } }))
    );
    let answer = door.get("/api/v1/orders/midway/events", &[("accept", "text/event-stream")]).await;
    assert!(answer.body.contains("event: error\ndata: {\"error\""), "{}", answer.body);
    // A client's stream: a list, or lines.
    let answer = send(&door, "POST", "/api/v1/orders:batch", r#"[{"id":"a"},{"id":"b"}]"#).await;
    assert_eq!(answer.json()["orders"].as_array().unwrap().len(), 2, "{}", answer.body);
    let lines = client().post(door.url("/api/v1/orders:batch")).header("content-type", "application/x-ndjson");
    let answer = Answer::of(lines.body("{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"c\"}\n").send().await.unwrap()).await;
    assert_eq!(answer.json()["orders"].as_array().unwrap().len(), 3, "{}", answer.body);
    // Message by message, as they come.
    let mut stream = client().get(door.url("/api/v1/orders/7/events")).send().await.unwrap().bytes_stream();
    assert!(stream.next().await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_describes_itself() {
    let orders = Orders::start().await;
    let door = door(&orders, "reflection: true, every: 50ms, by_name: true, all_fields: true").await;
    let asking = async {
        loop {
            let answer = door.get("/api/v1/orders/7", &[]).await;
            if answer.status == 200 {
                return answer;
            }
            assert_eq!(answer.code(), "gateway.no_endpoint", "not yet");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let answer = tokio::time::timeout(crate::support::TIMEOUT, asking).await.unwrap();
    assert_eq!((&answer.json()["id"], &answer.json()["labels"]), (&json!("7"), &json!({})));
    let answer = send(&door, "POST", "/api/shop.v1.Orders/Plain", r#"{"id":"plain"}"#).await;
    assert_eq!(asked(&answer), json!({ "id": "plain" }));
    door.gateway.reloader.reload().await.unwrap();
    assert_eq!(door.get("/api/v1/orders/7", &[]).await.status, 200, "a new config keeps what is known");
    let metrics = door.metrics();
    assert!(
        metrics.contains("tessera_gateway_description_fetches_total{upstream=\"orders\",outcome=\"fetched\"}"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_that_cannot_be_used_is_refused() {
    let orders = Orders::start().await;
    let door = door(&orders, FILE).await;
    for (from, to, said) in [
        ("services: [shop.v1.Orders]", "services: [shop.v1.Nobody]", "there is no service `shop.v1.Nobody`"),
        ("descriptors: shop.pb", "descriptors: gateway.yaml", "gateway.yaml` cannot be used"),
        ("protocol: http2", "protocol: http1", "give the upstream `protocol: http2`"),
    ] {
        let config = std::fs::read_to_string(door.file()).unwrap();
        std::fs::write(door.file(), config.replace(from, to)).unwrap();
        let error = door.gateway.reloader.reload().await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        std::fs::write(door.file(), config).unwrap();
    }
    assert_eq!(door.get("/api/v1/orders/7", &[]).await.status, 200);
}
