//! Three descriptions: 3.0 in YAML, 3.1 in JSON, and one whose schemas go in circles.

use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::spec::{Auth, CursorFormat, Environment, KeyPlace, Method, Paginator, Pipeline, ResponseFormat, load};

fn description(body: &str, url: &str) -> Description {
    match read(body.as_bytes(), &Url::parse(url).unwrap()) {
        Read::Document(description) => *description,
        Read::Outdated(detail) => panic!("{detail}"),
        Read::Other => panic!("not read"),
    }
}

/// The pipeline, loaded from the text that a user would get.
fn pipeline(described: &Described) -> Pipeline {
    let yaml = described.draft.to_yaml().unwrap();
    let mut filled = yaml.clone();
    for name in described.draft.variables() {
        filled = filled.replace(&format!("${{{name}}}"), "https://filled.example.com");
    }
    let loaded = load(&filled, "draft", &Environment::default()).unwrap_or_else(|e| panic!("{e}\n{yaml}"));
    (*loaded.pipeline).clone()
}

fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.resources.iter().map(|resource| resource.name.as_str()).collect()
}

const SHOP: &str = r##"
openapi: 3.0.3
info: { title: Shop API, version: "1" }
servers:
  - url: https://{region}.shop.example.com/v1
    variables: { region: { default: eu } }
security:
  - key: []
paths:
  /orders:
    get:
      summary: All orders
      parameters:
        - $ref: "#/components/parameters/Page"
        - { name: per_page, in: query, schema: { type: integer, maximum: 500, default: 20 } }
        - { name: updated_since, in: query, schema: { type: string, format: date-time } }
        - { name: updated_before, in: query, schema: { type: string, format: date-time } }
      responses:
        200:
          description: ok
          content:
            application/json:
              schema: { $ref: "#/components/schemas/OrderPage" }
  /orders/{order_id}:
    get:
      responses:
        "200": { description: ok, content: { application/json: { schema: { $ref: "#/components/schemas/Order" } } } }
  /orders/{order_id}/items:
    get:
      responses:
        "200":
          description: ok
          content:
            application/json:
              schema: { type: array, items: { type: object, properties: { id: { type: integer }, sku: { type: string } } } }
  /orders/{order_id}/items/{item_id}/notes:
    get:
      responses:
        "200":
          description: ok
          content:
            application/json:
              schema: { type: array, items: { type: object, properties: { code: { type: string }, text: { type: string } } } }
  /customers/search:
    post:
      operationId: searchCustomers
      requestBody:
        content:
          application/json:
            schema:
              type: object
              required: [query]
              properties:
                query: { type: string, example: "*" }
                offset: { type: integer }
                limit: { type: integer, maximum: 200 }
      responses:
        "200":
          description: ok
          content:
            application/json:
              schema:
                type: object
                properties:
                  total: { type: integer }
                  results: { type: array, items: { type: object, properties: { uuid: { type: string }, changed_at: { type: integer } } } }
  /orders/search:
    post:
      responses:
        "200": { description: ok, content: { application/json: { schema: { $ref: "#/components/schemas/OrderPage" } } } }
  /orders/create:
    post:
      responses: { "201": { description: made } }
  /export:
    get:
      parameters:
        - { name: day, in: query, required: true, schema: { type: string } }
      responses:
        "200": { description: ok, content: { application/x-ndjson: { schema: { $ref: "#/components/schemas/Order" } } } }
components:
  parameters:
    Page: { name: page, in: query, schema: { type: integer, minimum: 1 } }
  securitySchemes:
    key: { type: apiKey, in: query, name: api$key }
  schemas:
    Order:
      type: object
      properties:
        id: { type: integer }
        status: { type: string }
        updated_at: { type: string, format: date-time }
    OrderPage:
      type: object
      properties:
        data: { type: array, items: { $ref: "#/components/schemas/Order" } }
        meta: { type: object, properties: { page: { type: integer }, total_pages: { type: integer }, total: { type: integer } } }
"##;

#[test]
fn reads_3_0_in_yaml() {
    let described = description(SHOP, "https://docs.example.com/openapi.yaml").describe("shop", "./lake");
    let pipeline = pipeline(&described);
    assert_eq!(pipeline.source.base_url, "https://eu.shop.example.com/v1");
    assert_eq!(names(&pipeline), ["orders", "customers_search", "export", "items", "notes"]);
    assert!(described.notes.iter().any(|note| note.starts_with("POST /orders/search was left out")));
    assert!(matches!(&pipeline.source.auth, Auth::ApiKey { name, place: KeyPlace::Query, .. } if name == "api$key"));

    let orders = &pipeline.resources[0];
    let page = Paginator::Page {
        param: "page".into(),
        size_param: Some("per_page".into()),
        size: Some(500),
        start: 1,
        total_pages: Some("meta.total_pages".into()),
    };
    assert_eq!(orders.paginator, Some(page));
    assert_eq!((orders.records.as_deref(), orders.total.as_deref()), (Some("data"), Some("meta.total")));
    let cursor = orders.incremental.cursor().unwrap();
    assert_eq!((cursor.cursor.as_str(), cursor.param.as_str()), ("updated_at", "updated_since"));
    assert_eq!(cursor.until_param.as_deref(), Some("updated_before"));

    let search = &pipeline.resources[1];
    assert_eq!(search.method, Method::Post);
    assert_eq!(search.body.as_ref().unwrap()["query"], "*");
    let offset = Paginator::Offset { param: "offset".into(), limit_param: "limit".into(), limit: 200 };
    assert_eq!(search.paginator, Some(offset));
    assert_eq!(search.primary_key.as_deref(), Some(&["uuid".to_owned()][..]));

    let export = &pipeline.resources[2];
    assert_eq!(export.format, ResponseFormat::Jsonl);
    assert!(export.params.contains_key("day"));
    assert!(described.draft.variables().contains(&"SHOP_DAY".to_owned()));
    assert_eq!(described.probes[2], None);

    let items = &pipeline.resources[3];
    assert_eq!(items.path, "/orders/{orders.id}/items");
    assert_eq!(items.include["order_id"], "orders.id");
    assert_eq!(items.empty_on, [404]);
    let notes = &pipeline.resources[4];
    assert_eq!(notes.path, "/orders/{items.order_id}/items/{items.id}/notes");
    assert_eq!(notes.primary_key.as_deref().unwrap(), ["item_id", "order_id", "code"]);
    assert_eq!(described.probes[0].as_ref().unwrap().as_str(), "https://eu.shop.example.com/v1/orders");
}

fn list_of(properties: Value) -> Value {
    let rows = json!({"type": "array", "items": {"$ref": "#/components/schemas/Row"}});
    let mut all = json!({"items": rows});
    all.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
    json!({"200": {"description": "ok", "content": {"application/json": {"schema": {"type": "object", "properties": all}}}}})
}

fn query(names: &[&str]) -> Value {
    let kind = |name: &str| if ["limit", "offset", "page"].contains(&name) { "integer" } else { "string" };
    names.iter().map(|name| json!({"name": name, "in": "query", "schema": {"type": kind(name)}})).collect()
}

fn modern() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Modern"},
        "servers": [{"url": "/api"}],
        "paths": {
            "/events": {"get": {"parameters": query(&["cursor", "limit", "since"]),
                "responses": list_of(json!({"next_cursor": {"type": ["string", "null"]}, "has_more": {"type": "boolean"}}))}},
            "/users": {"get": {"parameters": query(&["limit"]),
                "responses": list_of(json!({"links": {"type": "object", "properties": {"next": {"type": ["null", "string"], "format": "uri"}}}}))}},
            "/files": {"get": {"parameters": query(&["page_token"]), "responses": list_of(json!({"nextPageToken": {"type": "string"}}))}},
            "/places": {"get": {"parameters": query(&["offset", "limit"]),
                "responses": list_of(json!({"count": {"type": "integer"}, "next": {"type": "string", "description": "URL of the next page"}}))}},
            "/logs": {"get": {"responses": {"2XX": {"description": "ok", "headers": {"Link": {"schema": {"type": "string"}}},
                "content": {"application/vnd.api+json": {"schema": {"type": "array", "items": {"$ref": "#/components/schemas/Row"}}}}}}}},
            "/{tenant-id}/bills": {"get": {"responses": list_of(json!({}))}},
            "/me": {"get": {"responses": {"200": {"description": "ok", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Row"}}}}}}},
        },
        "components": {
            "schemas": {"Row": {"type": ["object", "null"], "properties": {
                "id": {"type": "string"}, "created": {"type": "integer"}, "updated": {"type": "integer"}}}},
            "securitySchemes": {
                "browser": {"type": "oauth2", "flows": {"authorizationCode": {"tokenUrl": "/token", "authorizationUrl": "/a", "scopes": {}}}},
                "machine": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "/oauth/token", "scopes": {"read": "", "write": ""}}}},
            },
        },
        "security": [{"browser": []}, {"machine": ["read"]}],
    })
}

#[test]
fn reads_3_1_in_json() {
    let described =
        description(&modern().to_string(), "http://localhost:8080/api/openapi.json").describe("modern", "s3://b/p");
    let pipeline = pipeline(&described);
    assert_eq!(pipeline.source.base_url, "http://localhost:8080/api");
    assert_eq!(names(&pipeline), ["events", "users", "files", "places", "logs", "bills"]);
    let of = |name: &str| pipeline.resources.iter().find(|resource| resource.name == name).unwrap();
    let paginator = |name: &str| of(name).paginator.clone().or(pipeline.defaults.paginator.clone()).unwrap();
    assert_eq!(
        paginator("events"),
        Paginator::Cursor {
            param: "cursor".into(),
            next: "next_cursor".into(),
            size_param: Some("limit".into()),
            size: Some(100),
            has_more: Some("has_more".into())
        }
    );
    let cursor = of("events").incremental.cursor().unwrap();
    assert_eq!(
        (cursor.cursor.as_str(), cursor.param.as_str(), cursor.format),
        ("updated", "since", CursorFormat::Unix)
    );
    assert!(matches!(paginator("users"), Paginator::NextUrl { next, .. } if next == "links.next"));
    assert!(matches!(paginator("files"), Paginator::Cursor { param, .. } if param == "page_token"));
    assert!(matches!(paginator("places"), Paginator::Offset { .. }));
    assert!(matches!(paginator("logs"), Paginator::LinkHeader { .. }));
    assert_eq!(of("bills").path, "/{tenant_id}/bills");
    assert!(of("bills").partitions.contains_key("tenant_id"));
    let Auth::Oauth2 { token_url, scope, refresh_token, .. } = &pipeline.source.auth else { panic!("no oauth2") };
    assert_eq!(token_url, "http://localhost:8080/oauth/token");
    assert_eq!((scope.as_deref(), refresh_token), (Some("read"), &None));
    assert!(described.draft.auth_notes.iter().any(|note| note.contains("browser")));
}

#[test]
fn circles_end() {
    let document = json!({
        "openapi": "3.0.0", "info": {"title": "c"},
        "paths": {
            "/nodes": {"get": {"responses": {"200": {"$ref": "#/components/responses/Nodes"}}}},
            "/lost": {"get": {"responses": {"200": {"$ref": "#/components/responses/Loop"}}}},
            "/gone": {"$ref": "#/paths/~1gone"},
        },
        "components": {
            "responses": {
                "Nodes": {"description": "", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Page%20Of"}}}},
                "Loop": {"$ref": "#/components/responses/Loop"},
            },
            "schemas": {
                "Page Of": {"allOf": [
                    {"type": "object", "properties": {"total": {"type": "integer"}}},
                    {"properties": {"nodes": {"type": "array", "items": {"$ref": "#/components/schemas/Node"}}}}]},
                "Node": {"type": "object", "properties": {
                    "id": {"type": "string"}, "parent": {"$ref": "#/components/schemas/Node"},
                    "children": {"type": "array", "items": {"$ref": "#/components/schemas/Node"}},
                    "either": {"oneOf": [{"$ref": "#/components/schemas/Either"}, {"type": "null"}]}}},
                "Either": {"anyOf": [{"$ref": "#/components/schemas/Either"}, {"$ref": "#/components/schemas/Node"}]},
            },
            "securitySchemes": {"b": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"b": []}],
    });
    let described = description(&document.to_string(), "https://api.example.com/openapi.json").describe("c", "./lake");
    let pipeline = pipeline(&described);
    assert_eq!(names(&pipeline), ["nodes"]);
    assert_eq!(pipeline.resources[0].records.as_deref(), Some("nodes"));
    assert_eq!(pipeline.resources[0].primary_key.as_deref(), Some(&["id".to_owned()][..]));
    assert!(described.draft.to_yaml().unwrap().contains("${C_TOKEN}"));
}

#[test]
fn an_example_never_reads_our_environment() {
    let with = |default: &str| {
        let mut document = modern();
        document["paths"]["/events"]["get"]["parameters"] =
            json!([{"name": "q", "in": "query", "required": true, "schema": {"type": "string", "default": default}}]);
        let described =
            description(&document.to_string(), "https://api.example.com/openapi.json").describe("m", "./lake");
        (pipeline(&described).resources[0].params["q"].clone(), described.draft.variables())
    };
    assert_eq!(with("$HOME").0, "$HOME");
    // A text that the pipeline would take for a reference is left to the user, under a name of ours.
    let (_, variables) = with("${HOME}");
    assert!(variables.contains(&"M_Q".to_owned()) && !variables.contains(&"HOME".to_owned()), "{variables:?}");
}

#[test]
fn says_which_versions_it_reads() {
    let url = Url::parse("https://api.example.com/swagger.json").unwrap();
    let Read::Outdated(detail) = read(br#"{"swagger": "2.0", "paths": {}}"#, &url) else { panic!("read") };
    assert!(detail.contains("2.0") && detail.contains("convert"), "{detail}");
    assert!(matches!(read(br#"{"openapi": "3.1.0"}"#, &url), Read::Outdated(_)));
    assert!(matches!(read(br#"{"openapi": "/openapi.json", "orders": "/orders"}"#, &url), Read::Other));
    assert!(matches!(read(br#"{"data": []}"#, &url), Read::Other));
    assert!(matches!(read(b"<html>openapi</html>", &url), Read::Other));
    assert!(matches!(read(b"\xff\xfe openapi", &url), Read::Other));
}
