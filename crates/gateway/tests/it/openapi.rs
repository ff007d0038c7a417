//! OpenAPI documents of several services as one: where callers find things, names that clash, refreshes, the page.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tessera_testkit::Browser;

use crate::support::{Door, Service, reply, until};

fn shop() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Shop", "version": "1" },
        "servers": [{ "url": "https://shop.internal/v1" }],
        "paths": {
            "/orders": {
                "get": { "operationId": "list", "summary": "All orders", "parameters": [{ "name": "limit", "in": "query", "schema": { "type": "integer", "maximum": 100 } }],
                    "responses": { "200": { "description": "some", "content": { "application/json": { "schema": { "type": "array", "items": { "$ref": "#/components/schemas/Item" } } } } } } },
                "post": { "operationId": "add", "responses": {} },
            },
            "/orders/{id}": { "get": { "operationId": "get", "parameters": [{ "name": "id", "in": "path", "required": true, "schema": { "type": "integer" } }], "responses": {} } },
            "/secret": { "get": { "responses": {} } },
        },
        "components": { "schemas": { "Item": { "type": "object", "required": ["id"], "properties": { "id": { "type": "integer" }, "name": { "type": "string", "description": "What it is called" } } } } },
    })
}

const USERS: &str = r##"
openapi: 3.0.3
info: { title: Users, version: "2" }
paths:
  /users/{user}: { get: { operationId: get, responses: { "200": { description: one, content: { application/json: { schema: { $ref: "#/components/schemas/Item" } } } } } } }
components: { schemas: { Item: { type: string, nullable: true } } }
"##;

fn config(shop: &str, users: &str) -> String {
    format!(
        r#"
documents: {{ title: "All of it", every: 50ms, size: 64KiB }}
upstreams:
  shop: {{ endpoints: ["{shop}"], openapi: /openapi.json }}
  users: {{ endpoints: ["{users}"], openapi: /api.yaml }}
  other: {{ endpoints: ["http://127.0.0.1:9"], openapi: /never }}
routes:
  - {{ name: document, match: {{ path: /openapi.json }}, docs: document }}
  - {{ name: page, match: {{ path: /docs }}, docs: page }}
  - {{ name: orders, match: {{ path: "/shop/orders/*", methods: [GET] }}, upstream: shop, rewrite: {{ strip_prefix: /shop, add_prefix: /v1 }} }}
  - {{ name: beta, match: {{ path: "/shop/orders/*", headers: {{ x-beta: "*" }} }}, upstream: other }}
  - {{ name: one, match: {{ path: "/shop/orders/{{id}}" }}, upstream: other }}
  - {{ name: again, match: {{ path: "/t/{{tenant}}/order/{{key}}" , hosts: [api.example.com] }}, upstream: shop, rewrite: {{ path: "/v1/orders/{{key}}" }} }}
  - {{ name: users, match: {{ path: "/{{rest}}/{{x}}" }}, upstream: users }}
"#
    )
}

async fn document(door: &Door) -> Value {
    door.get("/openapi.json", &[]).await.json()
}

/// Looks again until it holds.
async fn when(door: &Door, holds: impl Fn(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let now = document(door).await;
            if holds(&now) {
                return now;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::support::TIMEOUT, looking).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_merged_as_callers_find_them() {
    let shop = Service::start(|_| reply(200, &shop().to_string())).await;
    let users = Service::start(|_| reply(200, USERS)).await;
    let door = Door::open(&config(&shop.url(), &users.url())).await;
    let merged =
        when(&door, |merged| merged["components"]["schemas"].as_object().is_some_and(|all| all.len() == 2)).await;
    assert_eq!((&merged["openapi"], &merged["info"]["title"]), (&json!("3.1.0"), &json!("All of it")));
    let mut places: Vec<String> = Vec::new();
    for (path, item) in merged["paths"].as_object().unwrap() {
        places.extend(item.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
    }
    places.sort();
    // `POST /orders` no route takes, `/shop/orders/{id}` another one, `/secret` none.
    assert_eq!(places, ["get /shop/orders", "get /t/{tenant}/order/{id}", "get /users/{user}"]);
    assert_eq!(shop.last().uri, "/openapi.json");
    let again = &merged["paths"]["/t/{tenant}/order/{id}"]["get"];
    let names: Vec<&Value> =
        again["parameters"].as_array().unwrap().iter().map(|parameter| &parameter["name"]).collect();
    assert_eq!(names, ["id", "tenant"]);
    assert_eq!(again["servers"], json!([{ "url": "//api.example.com" }]));
    assert_eq!((&again["operationId"], &again["tags"]), (&json!("get"), &json!(["shop"])));
    let user = &merged["paths"]["/users/{user}"]["get"];
    assert_eq!(user["operationId"], "users_get");
    let schema = &user["responses"]["200"]["content"]["application/json"]["schema"];
    assert_eq!(schema["$ref"], "#/components/schemas/users_Item");
    assert_eq!(merged["components"]["schemas"]["users_Item"], json!({ "type": ["string", "null"] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_one_stays_and_a_new_one_is_taken() {
    let turn = Arc::new(AtomicUsize::new(0));
    let asked = turn.clone();
    let shop = Service::start(move |_| match asked.load(Ordering::SeqCst) {
        0 => reply(200, &shop().to_string()),
        1 => reply(500, "no"),
        2 => reply(200, "{ this is none"),
        3 => reply(200, &format!("{}{}", shop(), " ".repeat(70_000))),
        _ => reply(200, &shop().to_string().replace("All orders", "Renewed")),
    })
    .await;
    let users = Service::named("not: openapi").await;
    let door = Door::open(&config(&shop.url(), &users.url())).await;
    let summary = |merged: &Value| merged["paths"]["/shop/orders"]["get"]["summary"].clone();
    when(&door, |merged| summary(merged) == "All orders").await;
    for wrong in 1..=3 {
        turn.store(wrong, Ordering::SeqCst);
        let before = shop.got().len();
        until("it was asked twice more", || shop.got().len() >= before + 2).await;
        assert_eq!(summary(&document(&door).await), "All orders");
    }
    // A new config keeps what is known.
    door.gateway.reloader.reload().await.unwrap();
    assert_eq!(summary(&document(&door).await), "All orders");
    turn.store(4, Ordering::SeqCst);
    when(&door, |merged| summary(merged) == "Renewed").await;
    let answer = door.get("/openapi.json", &[]).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let same = door.get("/openapi.json", &[("if-none-match", answer.header("etag"))]).await;
    assert_eq!((same.status, same.body.as_str()), (304, ""));
    let metrics = door.metrics();
    assert!(
        metrics.contains("tessera_gateway_description_fetches_total{upstream=\"users\",outcome=\"failed\"}"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_document_and_tries_it() {
    let shop = Service::start(|got| match got.uri.as_str() {
        "/openapi.json" => reply(200, &shop().to_string()),
        uri => reply(200, &json!({ "asked": uri, "tag": "<b>bold</b>" }).to_string()),
    })
    .await;
    let users = Service::start(|_| reply(200, USERS)).await;
    let door = Door::open(&config(&shop.url(), &users.url())).await;
    when(&door, |merged| merged["components"]["schemas"].as_object().is_some_and(|all| all.len() == 2)).await;
    let page = door.get("/docs", &[]).await;
    assert!(page.header("content-security-policy").contains("default-src 'none'; style-src 'sha256-"));
    let url = door.url("/docs");
    let looked = tokio::task::spawn_blocking(move || look(&url));
    looked.await.unwrap();
}

fn look(url: &str) {
    let browser = Browser::start();
    for (width, height) in [(1280, 900), (390, 844)] {
        browser.resize(width, height);
        browser.open(url);
        browser.wait_until("document.querySelectorAll('details.operation').length === 3");
        let read = |script: &str| browser.run(script, &[]);
        assert_eq!(read("return document.querySelector('h1').textContent"), json!("All of it"));
        read("document.querySelector('details.operation summary').click()");
        browser.wait_until("document.querySelector('details.operation[open] .fields') !== null");
        let text = read("return document.querySelector('details.operation[open]').textContent");
        let text = text.as_str().unwrap();
        assert!(text.contains("limit") && text.contains("at most 100") && text.contains("What it is called"), "{text}");
        read(
            "const form = document.querySelector('details.operation[open] form'); form.querySelector('input').value = '7'; form.requestSubmit();",
        );
        browser.wait_until("document.querySelector('details.operation[open] form pre') !== null");
        let said = read("return document.querySelector('details.operation[open] form pre').textContent");
        let said = said.as_str().unwrap();
        assert!(said.contains("/v1/orders?limit=7") && said.contains("<b>bold</b>"), "{said}");
        let fits = read("return document.documentElement.scrollWidth <= innerWidth");
        assert_eq!(fits, json!(true), "nothing sticks out at {width}");
        read(
            "const search = document.querySelector('input[type=search]'); search.value = 'users'; search.dispatchEvent(new Event('input'));",
        );
        browser.wait_until("document.querySelectorAll('details.operation').length === 1");
        assert_eq!(browser.complaints(), Vec::<String>::new());
    }
}
