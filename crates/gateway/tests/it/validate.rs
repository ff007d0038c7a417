//! Requests and answers against OpenAPI documents and JSON Schemas: everything wrong is told with its pointer.

use serde_json::{Value, json};

use crate::support::{Answer, Door, Service, client, reply};

const DOCUMENT: &str = r##"
openapi: 3.1.0
info: { title: Shop, version: "1" }
paths:
  /orders/{order-id}:
    parameters:
      - { name: order-id, in: path, required: true, schema: { type: integer, minimum: 1 } }
    get:
      parameters:
        - { name: fields, in: query, style: form, explode: false, schema: { type: array, items: { enum: [id, total] } } }
        - { name: limit, in: query, schema: { $ref: "#/components/schemas/Limit" } }
        - { name: tag, in: query, schema: { type: array, items: { type: string }, maxItems: 2 } }
        - { name: filter, in: query, style: deepObject, schema: { type: object, properties: { n: { type: integer } }, additionalProperties: false } }
        - { name: X-Tenant, in: header, required: true, schema: { type: string, pattern: "^[a-z]+$" } }
        - { name: dark, in: cookie, schema: { type: boolean } }
      responses:
        "200": { $ref: "#/components/responses/Order" }
        "4XX": { description: refused }
  /orders:
    post:
      requestBody:
        required: true
        content:
          application/json: { schema: { $ref: "#/components/schemas/Order" } }
          application/x-www-form-urlencoded: { schema: { $ref: "#/components/schemas/Order" } }
          application/octet-stream: {}
      responses: { default: { description: any } }
  /labels:
    post:
      parameters:
        - { name: page, in: query, schema: { anyOf: [{ type: integer, minimum: 1 }, { type: "null" }] } }
        - { name: size, in: query, schema: { enum: [10, 20] } }
        - { name: ids, in: query, schema: { oneOf: [{ $ref: "#/components/schemas/Ids" }, { type: "null" }] } }
      requestBody: { content: { application/x-www-form-urlencoded: { schema: { $ref: "#/components/schemas/Labels" } } } }
      responses: { default: { description: any } }
components:
  schemas:
    Ids: { type: array, items: { allOf: [{ type: integer }] } }
    Labels: { allOf: [{ type: object, properties: { count: { allOf: [{ $ref: "#/components/schemas/Limit" }] }, labels: { type: array, items: { type: string } } } }] }
    Limit: { type: integer, maximum: 100 }
    Order:
      type: object
      required: [id, items]
      additionalProperties: false
      properties:
        id: { type: integer, readOnly: true }
        email: { type: string, format: email }
        items:
          type: array
          minItems: 1
          items: { type: object, required: [price], properties: { price: { type: number, exclusiveMinimum: 0 }, "a/b": { type: string } } }
  responses:
    Order: { description: it, content: { application/json: { schema: { $ref: "#/components/schemas/Order" } } } }
"##;

async fn door(service: &Service, more: &str) -> Door {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yaml"), DOCUMENT).unwrap();
    let config = format!(
        r#"
upstreams: {{ shop: {{ endpoints: ["{}"] }} }}
routes:
  - name: shop
    match: {{ path: /api/* }}
    upstream: shop
    rewrite: {{ strip_prefix: /api, add_prefix: /v1 }}
    validate: {{ openapi: shop.yaml, base: /v1, {more} }}
"#,
        service.url()
    );
    Door::open_in(folder, &config).await
}

fn faults(answer: &Answer) -> Vec<(String, String)> {
    let value = answer.json();
    let text = |fault: &Value, key: &str| fault[key].as_str().unwrap().to_owned();
    let list = value["errors"].as_array().unwrap_or_else(|| panic!("{value}"));
    let mut list: Vec<_> = list.iter().map(|fault| (text(fault, "in"), text(fault, "pointer"))).collect();
    list.sort();
    list
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(place, pointer)| ((*place).to_owned(), (*pointer).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_with_a_request_is_told() {
    let service = Service::named("{}").await;
    let door = door(&service, "").await;
    let good = "/api/orders/7?fields=id,total&limit=100&tag=a&tag=b&filter[n]=3&other=1";
    let answer = door.get(good, &[("x-tenant", "north"), ("cookie", "dark=true")]).await;
    assert_eq!((answer.status, service.last().uri.as_str()), (200, &*good.replace("/api", "/v1")), "{}", answer.body);
    let bad = "/api/orders/x?fields=id,secret&limit=101&tag=a&tag=b&tag=c&filter[n]=x";
    let answer = door.get(bad, &[("cookie", "dark=maybe")]).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "gateway.invalid"));
    let wanted = pairs(&[
        ("cookie", "/dark"),
        ("header", "/x-tenant"),
        ("path", "/order-id"),
        ("query", "/fields/1"),
        ("query", "/filter/n"),
        ("query", "/limit"),
        ("query", "/tag"),
    ]);
    assert_eq!(faults(&answer), wanted, "{}", answer.body);
    assert!(!answer.body.contains("secret\\\""), "values are not told: {}", answer.body);
    // Other paths and methods than the document has.
    assert_eq!(door.get("/api/other", &[]).await.code(), "gateway.no_route");
    let answer = door.get("/api/orders", &[]).await;
    assert_eq!((answer.code().as_str(), answer.header("allow")), ("gateway.method_not_allowed", "POST"));
    let metrics = door.metrics();
    let counted = "tessera_gateway_invalid_total{route=\"shop\",part=\"request\",outcome=\"refused\"} 3";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_checked_and_pass_unchanged() {
    let service = Service::named("{}").await;
    let door = door(&service, "").await;
    let post = async |kind: &str, body: String| {
        let request = client().post(door.url("/api/orders")).header("content-type", kind).body(body);
        Answer::of(request.send().await.unwrap()).await
    };
    // What only the service sends (`readOnly`) is not asked of callers. Two spaces stay two spaces.
    let body = r#"{"email":"a@example.com",  "items":[{"price":1.5}]}"#;
    let answer = post("application/json; charset=utf-8", body.into()).await;
    assert_eq!((answer.status, service.last().body.as_ref()), (200, body.as_bytes()), "{}", answer.body);
    let body = json!({ "email": "no", "items": [{ "price": 0, "a/b": 1 }, {}], "more": 1 });
    let answer = post("application/json", body.to_string()).await;
    let wanted = pairs(&[
        ("body", ""),
        ("body", "/email"),
        ("body", "/items/0/a~1b"),
        ("body", "/items/0/price"),
        ("body", "/items/1"),
    ]);
    assert_eq!((answer.status, faults(&answer)), (400, wanted), "{}", answer.body);
    let answer = post("application/json", "{".into()).await;
    assert_eq!((answer.status, faults(&answer)), (400, pairs(&[("body", "")])));
    let answer = post("application/json", String::new()).await;
    assert_eq!((answer.status, faults(&answer)), (400, pairs(&[("body", "")])));
    let answer = post("text/plain", "x".into()).await;
    assert_eq!((answer.status, faults(&answer)), (415, pairs(&[("header", "/content-type")])));
    let answer = post("application/x-www-form-urlencoded", "email=no&items=1".into()).await;
    assert_eq!((answer.status, faults(&answer)), (400, pairs(&[("body", "/email"), ("body", "/items")])));
    // Not looked into, so not read into memory either.
    assert_eq!(post("application/octet-stream", "\0".repeat(100_000)).await.status, 200);
    // Large ones are checked elsewhere, with the same outcome.
    let large = json!({ "items": vec![json!({ "price": 1 }); 20_000] }).to_string();
    assert_eq!(post("application/json", large.clone()).await.status, 200);
    let answer = post("application/json", large.replacen('1', "-1", 1)).await;
    assert_eq!((answer.status, faults(&answer)), (400, pairs(&[("body", "/items/0/price")])));
    let request = client().post(door.url("/api/orders")).header("content-encoding", "gzip");
    let request = request.header("content-type", "application/json").body("x");
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!((answer.status, faults(&answer)), (415, pairs(&[("header", "/content-encoding")])));
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_are_put_together_or_told_by_values_are_read_as_such() {
    let service = Service::named("{}").await;
    let door = door(&service, "").await;
    let post = async |query: &str, body: &'static str| {
        let request = client().post(door.url(&format!("/api/labels?{query}"))).body(body);
        let kind = "application/x-www-form-urlencoded";
        Answer::of(request.header("content-type", kind).send().await.unwrap()).await
    };
    for query in ["page=2&size=20&ids=1&ids=2", "page=&ids=3", "page=null"] {
        let answer = post(query, "count=7&labels=one").await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    }
    assert_eq!(post("", "labels=one&labels=two").await.status, 200);
    let answer = post("page=0&size=15&ids=x", "count=many").await;
    let wanted = pairs(&[("body", "/count"), ("query", "/ids"), ("query", "/page"), ("query", "/size")]);
    assert_eq!((answer.status, faults(&answer)), (400, wanted), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_checked_by_choice() {
    let service = Service::start(|got| {
        let (status, body) = match got.uri.as_str() {
            "/v1/orders/1" => (200, r#"{"id":1,"items":[{"price":1}]}"#),
            "/v1/orders/2" => (200, r#"{"items":[{"price":"secret"}]}"#),
            "/v1/orders/3" => (404, "none"),
            _ => (302, ""),
        };
        let mut answer = reply(status, body);
        let kind = if status == 200 { "application/json" } else { "text/plain" };
        answer.headers_mut().insert("content-type", kind.parse().unwrap());
        answer
    })
    .await;
    let tenant = [("x-tenant", "north")];
    let strict = door(&service, "answers: refuse").await;
    let answer = strict.get("/api/orders/1", &tenant).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"id":1,"items":[{"price":1}]}"#));
    let answer = strict.get("/api/orders/2", &tenant).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "gateway.invalid_answer"));
    assert!(!answer.body.contains("price"), "{}", answer.body);
    assert_eq!(strict.get("/api/orders/3", &tenant).await.status, 404);
    assert_eq!(strict.get("/api/orders/4", &tenant).await.status, 502);
    let lenient = door(&service, "answers: report, requests: report, unknown: \"off\"").await;
    assert_eq!(lenient.get("/api/orders/2", &tenant).await.status, 200);
    assert_eq!(lenient.get("/api/orders/4?limit=x", &[]).await.status, 302);
    assert_eq!(lenient.get("/api/else", &[]).await.status, 302);
    let metrics = lenient.metrics();
    for (part, count) in [("answer", 2), ("request", 1)] {
        let counted =
            format!("tessera_gateway_invalid_total{{route=\"shop\",part=\"{part}\",outcome=\"reported\"}} {count}");
        assert!(metrics.contains(&counted), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_alone_checks_bodies() {
    let service = Service::named("{}").await;
    let folder = tempfile::tempdir().unwrap();
    let schema = json!({ "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } } });
    std::fs::write(folder.path().join("user.json"), schema.to_string()).unwrap();
    let config = format!(
        "upstreams: {{ s: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ name: r, match: {{ path: /users, methods: [POST] }}, upstream: s, validate: {{ schema: user.json }} }}]\n",
        service.url()
    );
    let door = Door::open_in(folder, &config).await;
    let post = async |body: &str| {
        Answer::of(client().post(door.url("/users")).body(body.to_owned()).send().await.unwrap()).await
    };
    assert_eq!(post(r#"{"name":"Ann"}"#).await.status, 200);
    assert_eq!(faults(&post(r#"{"name":1}"#).await), pairs(&[("body", "/name")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_cannot_be_used_is_refused_when_the_config_is_read() {
    for (document, said) in [
        ("openapi: \"2.0\"", "OpenAPI 2.0"),
        ("a: 1", "no `openapi`"),
        (
            "openapi: 3.1.0\npaths: { /a: { get: { parameters: [{ name: x, in: query, schema: { $ref: \"http://127.0.0.1:1/s\" } }] } } }",
            "GET /a",
        ),
        (
            "openapi: 3.1.0\npaths: { /a: { get: { parameters: [{ name: x, in: query, schema: { pattern: \"(?=a)\" } }] } } }",
            "GET /a",
        ),
        ("openapi: 3.1.0\npaths: { /a: { $ref: \"#/nowhere\" } }", "leads nowhere"),
    ] {
        let service = Service::named("{}").await;
        let door = door(&service, "").await;
        std::fs::write(door.folder.path().join("shop.yaml"), document).unwrap();
        let error = door.gateway.reloader.reload().await.unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("shop.yaml"), "{error}");
        assert_eq!(door.get("/api/orders/7", &[("x-tenant", "north")]).await.status, 200, "the last good one stays");
    }
}
