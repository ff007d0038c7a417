//! Versions in path, header and media type; one expressed by another; what callers are told of their end.

use std::path::Path;

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tessera_gateway::spec::{Environment, load};

use crate::support::{Answer, Door, Got, Service, client, reply};

/// Knows version 3 only.
fn newest(got: &Got) -> http::Response<Full<Bytes>> {
    let value = match got.method.as_str() {
        "POST" => json!({ "got": serde_json::from_slice::<Value>(&got.body).unwrap(), "uri": got.uri }),
        _ => {
            json!({ "items": [{ "id": 1, "customer": { "name": "Ann" }, "state": "OPEN" }], "uri": got.uri, "total": 1 })
        }
    };
    let mut answer = reply(if got.uri.contains("missing") { 404 } else { 200 }, &value.to_string());
    let accept = got.header("accept");
    let kind = if accept.contains("vnd.shop") { accept } else { "application/json" };
    answer.headers_mut().insert("content-type", kind.parse().unwrap());
    answer
}

fn config(url: &str, by: &str, path: &str) -> String {
    format!(
        r#"
upstreams:
  shop: {{ endpoints: ["{url}"] }}
routes:
  - name: orders
    match: {{ path: "{path}" }}
    upstream: shop
    versions:
      by: {by}
      default: "v3"
      known:
        v3: {{}}
        v2:
          on: v3
          request: [{{ move: {{ from: name, to: customer.name }} }}]
          answer:
            - move: {{ from: "items[].customer.name", to: "items[].name" }}
            - drop: "items[].customer"
          deprecated: 2026-01-01
        v1:
          on: v2
          query: [{{ move: {{ from: page_size, to: limit }} }}]
          request:
            - move: {{ from: title, to: name }}
            - default: {{ at: kind, value: plain }}
          answer:
            - translate: {{ at: "items[].state", words: {{ OPEN: open }} }}
            - move: {{ from: "items[].name", to: "items[].title" }}
            - drop: total
          deprecated: 2026-01-01
          sunset: 2027-06-30
          link: https://example.com/moving
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_version_is_expressed_by_a_new_one() {
    let service = Service::start(newest).await;
    let door = Door::open(&config(&service.url(), "path:version", "/{version}/orders/*")).await;
    let answer = door.get("/v3/orders/all?limit=2", &[]).await;
    assert_eq!((answer.status, answer.header("deprecation")), (200, ""));
    assert_eq!(answer.json()["items"][0], json!({ "id": 1, "customer": { "name": "Ann" }, "state": "OPEN" }));
    let answer = door.get("/v2/orders/all", &[("accept-encoding", "gzip")]).await;
    assert_eq!(answer.json()["items"][0], json!({ "id": 1, "state": "OPEN", "name": "Ann" }));
    assert_eq!((answer.header("deprecation"), answer.header("sunset"), answer.header("link")), ("@1767225600", "", ""));
    assert_eq!(service.last().header("accept-encoding"), "");
    let answer = door.get("/v1/orders/all?page_size=5&q=a%20b", &[]).await;
    let wanted =
        json!({ "items": [{ "id": 1, "state": "open", "title": "Ann" }], "uri": "/v3/orders/all?q=a+b&limit=5" });
    assert_eq!(answer.json(), wanted);
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    assert_eq!(answer.header("sunset"), "Wed, 30 Jun 2027 00:00:00 GMT");
    let links: Vec<_> = answer.headers.get_all("link").iter().map(|link| link.to_str().unwrap()).collect();
    let link = |relation| format!("<https://example.com/moving>; rel=\"{relation}\"; type=\"text/html\"");
    assert_eq!(links, [link("deprecation"), link("sunset")]);
    let post = async |path: &str, body: Value| {
        let request = client().post(door.url(path)).header("content-type", "application/json").body(body.to_string());
        Answer::of(request.send().await.unwrap()).await.json()["got"].clone()
    };
    let wanted = json!({ "kind": "plain", "customer": { "name": "Bo" } });
    assert_eq!(post("/v1/orders/new", json!({ "title": "Bo" })).await, wanted);
    assert_eq!(post("/v3/orders/new", json!({ "title": "Bo" })).await, json!({ "title": "Bo" }));
    // What is no JSON, or refused, passes as it is.
    let plain = client().post(door.url("/v1/orders/new")).body("{\"title\":1}").send().await.unwrap();
    assert_eq!(Answer::of(plain).await.json()["got"], json!({ "title": 1 }));
    let missing = door.get("/v1/orders/missing", &[]).await;
    assert_eq!((missing.status, &missing.json()["total"]), (404, &json!(1)));
    let answer = door.get("/v9/orders/all", &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "gateway.unknown_version"));
    assert!(answer.body.contains("v1, v2, v3"), "{}", answer.body);
    let metrics = door.metrics();
    let counted = "tessera_gateway_version_requests_total{route=\"orders\",version=\"v1\"} 4";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_names_the_version() {
    let service = Service::start(newest).await;
    let door = Door::open(&config(&service.url(), "header:X-Api-Version", "/orders/*")).await;
    let answer = door.get("/orders/all", &[("x-api-version", "2")]).await;
    assert_eq!(answer.json()["items"][0]["name"], "Ann");
    assert_eq!((service.last().header("x-api-version"), answer.header("vary")), ("v3", "x-api-version"));
    assert_eq!(door.get("/orders/all", &[]).await.json()["items"][0]["customer"]["name"], "Ann", "the default");
    assert_eq!(door.get("/orders/all", &[("x-api-version", "4")]).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_type_names_the_version() {
    let service = Service::start(newest).await;
    let door = Door::open(&config(&service.url(), "media_type", "/orders/*")).await;
    let answer = door.get("/orders/all", &[("accept", "application/vnd.shop.v2+json")]).await;
    assert_eq!(answer.json()["items"][0]["name"], "Ann");
    assert_eq!(service.last().header("accept"), "application/vnd.shop.v3+json");
    assert_eq!(answer.header("content-type"), "application/vnd.shop.v2+json");
    assert_eq!(door.get("/orders/all", &[("accept", "application/json;version=9")]).await.status, 406);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_may_have_an_upstream_of_its_own_and_none_by_default() {
    let (old, new) = (Service::named("old").await, Service::named("new").await);
    let config = format!(
        "upstreams: {{ old: {{ endpoints: [\"{}\"] }}, new: {{ endpoints: [\"{}\"] }} }}\nroutes:\n  - name: r\n    match: {{ path: / }}\n    upstream: new\n    \
         versions: {{ by: \"header:v\", known: {{ \"1\": {{ upstream: old }}, \"2\": {{}} }} }}\n",
        old.url(),
        new.url()
    );
    let door = Door::open(&config).await;
    assert_eq!(door.get("/", &[("v", "1")]).await.body, "old");
    assert_eq!(door.get("/", &[("v", "2")]).await.body, "new");
    let answer = door.get("/", &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "gateway.unknown_version"));
    assert!(answer.body.contains("names no version"), "{}", answer.body);
}

#[test]
fn what_cannot_work_is_refused_with_its_line() {
    let versions = |rest: &str| {
        format!(
            "version: 1\nlisteners: [{{ address: \"127.0.0.1:0\" }}]\nupstreams: {{ s: {{ endpoints: [\"http://a:1\"] }} }}\nroutes:\n  - name: r\n    \
             match: {{ path: \"/{{v}}/x\" }}\n    upstream: s\n    versions: {{ {rest} }}\n"
        )
    };
    for (text, said) in [
        (versions("by: cookie, known: {}"), "`cookie` does not name a version"),
        (versions("by: \"path:w\", known: { \"1\": {} }"), "the path has no parameter `w`"),
        (versions("by: media_type, known: {}"), "g.yaml:8: `known` needs at least one version"),
        (versions("by: media_type, default: \"2\", known: { \"1\": {} }"), "there is no version `2`"),
        (versions("by: media_type, known: { \"1\": { on: \"2\" }, \"2\": { on: \"1\" } }"), "or on itself"),
        (versions("by: media_type, known: { \"1\": { deprecated: soon } }"), "`soon` is not a day"),
        (
            versions("by: media_type, known: { \"1\": { deprecated: 2027-01-01, sunset: 2026-01-01 } }"),
            "before its sunset",
        ),
    ] {
        let read = load(&text, "g.yaml", Path::new("."), &Environment::default());
        let error = read.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
