//! `init` and `discover` against APIs in this process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::*;
use crate::spec::{Pipeline, load};

const ROWS: u64 = 230;

type Ask = Query<HashMap<String, String>>;

fn number(ask: &Ask, name: &str, otherwise: u64) -> u64 {
    ask.get(name).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn rows(from: u64, count: u64) -> Vec<Value> {
    let to = (from + count).min(ROWS);
    (from..to.max(from))
        .map(|n| json!({"id": n + 1, "updated_at": format!("2024-01-{:02}T00:00:00Z", n % 28 + 1)}))
        .collect()
}

/// Rows without what is older than `updated_since`.
fn filtered(ask: &Ask, rows: Vec<Value>) -> Vec<Value> {
    let since = ask.get("updated_since").cloned().unwrap_or_default();
    rows.into_iter().filter(|row| row["updated_at"].as_str().unwrap_or_default() >= since.as_str()).collect()
}

async fn by_page(ask: Ask) -> Json<Value> {
    let (page, size) = (number(&ask, "page", 1), number(&ask, "per_page", 20).min(100));
    let data = filtered(&ask, rows((page - 1) * size, size));
    Json(
        json!({"data": data, "meta": {"page": page, "per_page": size, "total": ROWS, "total_pages": ROWS.div_ceil(size)}}),
    )
}

async fn by_offset(ask: Ask) -> Json<Value> {
    let (offset, limit) = (number(&ask, "offset", 0), number(&ask, "limit", 20));
    Json(json!({"items": rows(offset, limit), "offset": offset, "limit": limit, "total": ROWS}))
}

async fn by_cursor(ask: Ask) -> Json<Value> {
    let from = number(&ask, "cursor", 0);
    let next = (from + 50 < ROWS).then(|| (from + 50).to_string());
    Json(json!({"results": rows(from, 50), "next_cursor": next, "has_more": next.is_some()}))
}

async fn by_token_header(ask: Ask) -> Response {
    let from = number(&ask, "cursor", 0);
    ([("x-next-cursor", (from + 50).to_string())], Json(rows(from, 50))).into_response()
}

async fn by_next_url(ask: Ask) -> Json<Value> {
    let from = number(&ask, "after", 0);
    let next = (from + 50 < ROWS).then(|| format!("/by_next_url?after={}", from + 50));
    Json(json!({"links": {"next": next}, "data": rows(from, 50)}))
}

async fn by_link(ask: Ask) -> Response {
    let from = number(&ask, "after", 0);
    let link = format!("</by_link?after={}>; rel=\"next\"", from + 50);
    ([("link", link)], Json(rows(from, 50))).into_response()
}

async fn silent_pages(ask: Ask) -> Json<Value> {
    Json(json!(rows((number(&ask, "page", 1) - 1) * 25, 25)))
}

async fn whole() -> Json<Value> {
    Json(json!(rows(0, 3)))
}

async fn as_csv() -> Response {
    ([("content-type", "text/csv")], "id,name\n1,a\n2,b\n").into_response()
}

async fn start(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn every_kind() -> Router {
    Router::new()
        .route("/by_page", get(by_page))
        .route("/by_offset", get(by_offset))
        .route("/by_cursor", get(by_cursor))
        .route("/by_token_header", get(by_token_header))
        .route("/by_next_url", get(by_next_url))
        .route("/by_link", get(by_link))
        .route("/silent_pages", get(silent_pages))
        .route("/whole", get(whole))
        .route("/as_csv", get(as_csv))
}

fn client() -> Client {
    tessera_service::client::builder().no_proxy().build().unwrap()
}

async fn init_at(url: &str) -> Result<InitReport, Error> {
    init(url, &InitOptions::default(), &Environment::default(), &client()).await
}

fn loaded(report: &InitReport) -> Arc<Pipeline> {
    load(&report.yaml, "t", &Environment::default()).unwrap_or_else(|e| panic!("{e}\n{}", report.yaml)).pipeline
}

#[tokio::test]
async fn every_paginator_is_found_at_its_endpoint() {
    let api = start(every_kind()).await;
    let page = Paginator::Page {
        param: "page".into(),
        size_param: Some("per_page".into()),
        size: Some(100),
        start: 1,
        total_pages: Some("meta.total_pages".into()),
    };
    let offset = Paginator::Offset { param: "offset".into(), limit_param: "limit".into(), limit: 200 };
    let cursor = |next: &str, has_more: Option<&str>| Paginator::Cursor {
        param: "cursor".into(),
        next: next.into(),
        size_param: None,
        size: None,
        has_more: has_more.map(Into::into),
    };
    let next_url = Paginator::NextUrl { next: "links.next".into(), size_param: None, size: None };
    let link = Paginator::LinkHeader { rel: "next".into(), size_param: None, size: None };
    let silent = Paginator::Page { param: "page".into(), size_param: None, size: None, start: 1, total_pages: None };
    let cases = [
        ("by_page", page, "data"),
        ("by_offset", offset, "items"),
        ("by_cursor", cursor("next_cursor", Some("has_more")), "results"),
        ("by_token_header", cursor("header:X-Next-Cursor", None), "$"),
        ("by_next_url", next_url, "data"),
        ("by_link", link, "$"),
        ("silent_pages", silent, "$"),
        ("whole", Paginator::None, "$"),
        ("as_csv", Paginator::None, "$"),
    ];
    for (name, paginator, records) in cases {
        let report = init_at(&format!("{api}/{name}")).await.unwrap();
        let pipeline = loaded(&report);
        let resource = &pipeline.resources[0];
        assert_eq!(resource.paginator.clone().unwrap_or_default(), paginator, "{}", report.yaml);
        assert_eq!((resource.name.as_str(), resource.records.as_deref()), (name, Some(records)), "{}", report.yaml);
        assert_eq!(resource.primary_key.as_deref(), Some(&["id".to_owned()][..]));
        assert_eq!(pipeline.source.base_url, api);
    }
}

#[tokio::test]
async fn a_filter_by_time_is_tried_out() {
    let api = start(every_kind()).await;
    let report = init_at(&format!("{api}/by_page")).await.unwrap();
    let cursor = loaded(&report).resources[0].incremental.cursor().cloned().unwrap();
    assert_eq!((cursor.cursor.as_str(), cursor.param.as_str()), ("updated_at", "updated_since"));
    let report = init_at(&format!("{api}/by_offset")).await.unwrap();
    assert!(loaded(&report).resources[0].incremental.cursor().is_none());
    assert!(report.yaml.contains("# incremental: { cursor: updated_at"), "{}", report.yaml);
}

/// A root that names lists; lists of names and links; documents behind the links.
fn creatures(asked: Arc<AtomicUsize>, whole_links: bool) -> Router {
    let list = move |State(asked): State<Arc<AtomicUsize>>, Path(kind): Path<String>, headers: HeaderMap, ask: Ask| async move {
        asked.fetch_add(1, Ordering::SeqCst);
        let total: u64 = if kind == "kinds" { 18 } else { 1200 };
        let host = headers["host"].to_str().unwrap().to_owned();
        let (offset, limit) = (number(&ask, "offset", 0), number(&ask, "limit", 20));
        let base = format!("http://{host}/api/v2/{kind}/");
        let row_base = if whole_links { base.clone() } else { format!("/api/v2/{kind}/") };
        let last = (offset + limit).min(total);
        let rows: Vec<Value> =
            (offset..last).map(|n| json!({"name": format!("n{n}"), "url": format!("{row_base}{n}/")})).collect();
        let next = (last < total).then(|| format!("{base}?offset={last}&limit={limit}"));
        Json(json!({"count": total, "next": next, "previous": null, "results": rows}))
    };
    let detail = |Path((_, id)): Path<(String, u64)>| async move {
        Json(json!({"id": id, "name": format!("n{id}"), "height": 1, "moves": [{"name": "a"}, {"name": "b"}]}))
    };
    let root = |headers: HeaderMap| async move {
        let host = headers["host"].to_str().unwrap().to_owned();
        let link = |name: &str| format!("http://{host}/api/v2/{name}/");
        Json(json!({"creatures": link("creatures"), "kinds": link("kinds"), "creature-shape": link("creature-shape")}))
    };
    Router::new()
        .route("/api/v2/", get(root))
        .route("/api/v2/{kind}/", get(list))
        .route("/api/v2/{kind}/{id}/", get(detail))
        .with_state(asked)
}

#[tokio::test]
async fn a_root_gives_one_resource_each_with_its_details() {
    let api = start(creatures(Arc::default(), true)).await;
    let report = init_at(&format!("{api}/api/v2/")).await.unwrap();
    let pipeline = loaded(&report);
    assert_eq!(pipeline.source.base_url, format!("{api}/api/v2"));
    let names: Vec<&str> = pipeline.resources.iter().map(|r| r.name.as_str()).collect();
    let expected =
        ["creatures", "creatures_detail", "kinds", "kinds_detail", "creature_shape", "creature_shape_detail"];
    assert_eq!(names, expected, "{}", report.yaml);
    let list = &pipeline.resources[0];
    assert_eq!((list.path.as_str(), list.total.as_deref()), ("/creatures/", Some("count")));
    let offset = Paginator::Offset { param: "offset".into(), limit_param: "limit".into(), limit: 1000 };
    assert_eq!(list.paginator.clone().or(pipeline.defaults.paginator.clone()), Some(offset));
    let detail = &pipeline.resources[1];
    assert_eq!((detail.path.as_str(), detail.records.as_deref()), ("{creatures.url}", Some("$")));
    assert_eq!(detail.primary_key.clone().unwrap(), ["id"]);
}

#[tokio::test]
async fn links_from_the_root_on_move_the_base_there() {
    let api = start(creatures(Arc::default(), false)).await;
    let report = init_at(&format!("{api}/api/v2/")).await.unwrap();
    let pipeline = loaded(&report);
    assert_eq!(pipeline.source.base_url, api);
    let paths: Vec<&str> = pipeline.resources.iter().take(2).map(|r| r.path.as_str()).collect();
    assert_eq!(paths, ["/api/v2/creatures/", "{creatures.url}"], "{}", report.yaml);
}

#[tokio::test]
async fn never_asks_more_than_it_may() {
    let asked = Arc::new(AtomicUsize::new(0));
    let api = start(creatures(asked.clone(), true)).await;
    let options = InitOptions { max_requests: 7, ..InitOptions::default() };
    let report = init(&format!("{api}/api/v2/"), &options, &Environment::default(), &client()).await.unwrap();
    assert!(asked.load(Ordering::SeqCst) <= 7);
    assert!(report.notes.iter().any(|note| note.contains("--max-requests")), "{:?}", report.notes);
    loaded(&report);
}

async fn document(State(protected): State<bool>) -> Json<Value> {
    let row = json!({"type": "object", "properties": {"id": {"type": "integer"}, "updated_at": {"type": "string", "format": "date-time"}}});
    let response =
        |schema: Value| json!({"200": {"description": "", "content": {"application/json": {"schema": schema}}}});
    let page = json!({"type": "object", "properties": {"data": {"type": "array", "items": row}}});
    let security = if protected { json!([{"token": []}]) } else { json!([]) };
    Json(json!({
        "openapi": "3.1.0", "info": {"title": "Every Kind API"}, "security": security,
        "paths": {
            "/by_page": {"get": {"parameters": [{"name": "page", "in": "query", "schema": {"type": "integer"}},
                {"name": "per_page", "in": "query", "schema": {"type": "integer", "default": 20}},
                {"name": "updated_since", "in": "query", "schema": {"type": "string", "format": "date-time"}}], "responses": response(page.clone())}},
            "/by_page/{id}/parts": {"get": {"parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}}],
                "responses": response(json!({"type": "array", "items": row}))}},
            "/by_cursor": {"get": {"responses": response(page)}},
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }))
}

#[tokio::test]
async fn a_description_is_found_and_tried_out() {
    let root = || async { ([("content-type", "text/html")], "<html>hello</html>") };
    let documented = Router::new().route("/openapi.json", get(document)).route("/", get(root)).with_state(false);
    let api = start(every_kind().merge(documented)).await;
    let report = init_at(&api).await.unwrap();
    assert_eq!(report.name, "every_kind");
    let pipeline = loaded(&report);
    let names: Vec<&str> = pipeline.resources.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["by_page", "by_cursor", "parts"]);
    // The document says nothing of the cursor and of `results`; the answer does.
    let by_cursor = &pipeline.resources[1];
    assert!(
        matches!(&by_cursor.paginator, Some(Paginator::Cursor { next, .. }) if next == "next_cursor"),
        "{}",
        report.yaml
    );
    assert_eq!(by_cursor.records.as_deref(), Some("results"));
    assert!(
        matches!(&pipeline.resources[0].paginator, Some(Paginator::Page { size: Some(100), .. })),
        "{}",
        report.yaml
    );
    assert_eq!(pipeline.resources[2].path, "/by_page/{by_page.id}/parts");
}

#[tokio::test]
async fn the_length_of_a_short_list_is_no_page_size() {
    let of = |total: u64, cap: u64| {
        move |ask: Ask| async move {
            let (page, size) = (number(&ask, "page", 1), number(&ask, "per_page", 20).min(cap));
            let rows: Vec<Value> =
                ((page - 1) * size..(page * size).min(total)).map(|n| json!({"id": n, "x": 1})).collect();
            Json(json!({"data": rows, "page": page, "per_page": size, "total": total}))
        }
    };
    for (total, cap, wanted) in [(579, 5000, 500), (230, 100, 100), (24, 1000, 20), (3000, 5000, 1000), (99, 33, 33)] {
        let api = start(Router::new().route("/rows", get(of(total, cap)))).await;
        let report = init_at(&format!("{api}/rows")).await.unwrap();
        let paginator = loaded(&report).resources[0].paginator.clone();
        let size = match paginator {
            Some(Paginator::Page { size, .. }) => size,
            other => panic!("{other:?}\n{}", report.yaml),
        };
        assert_eq!(size, Some(wanted), "{total} rows, at most {cap} a page: {}", report.yaml);
    }
}

#[tokio::test]
async fn a_document_found_beside_what_was_named_is_said() {
    let api = start(every_kind().merge(Router::new().route("/openapi.json", get(document)).with_state(false))).await;
    let report = init_at(&format!("{api}/nothing")).await.unwrap();
    let said = format!("{api}/nothing answered 404; {api}/openapi.json was read instead");
    assert!(report.notes.contains(&said), "{:?}", report.notes);
    let first = report.yaml.lines().next().unwrap();
    assert!(first.contains(&format!("{api}/openapi.json, since {api}/nothing answered 404")), "{first}");
    let named = init_at(&format!("{api}/openapi.json")).await.unwrap();
    assert!(!named.notes.iter().any(|note| note.contains("instead")), "{:?}", named.notes);
}

#[tokio::test]
async fn a_document_may_be_a_local_file() {
    let api = start(every_kind()).await;
    let folder = tempfile::tempdir().unwrap();
    let Json(mut text) = document(State(false)).await;
    let path = folder.path().join("every kind.json");
    let from = path.to_str().unwrap().to_owned();
    let init_of = |from: String, base: Option<&str>| {
        let options = InitOptions { base_url: base.map(Into::into), ..InitOptions::default() };
        async move { init(&from, &options, &Environment::default(), &client()).await }
    };

    std::fs::write(&path, text.to_string()).unwrap();
    let homeless = init_of(from.clone(), None).await.unwrap_err();
    assert_eq!(homeless.exit_code(), 2);
    assert!(
        homeless.to_string().contains("every kind.json") && homeless.to_string().contains("--base-url"),
        "{homeless}"
    );
    let told = init_of(from.clone(), Some(&api)).await.unwrap();
    assert_eq!((told.name.as_str(), loaded(&told).source.base_url.as_str()), ("every_kind", api.as_str()));
    assert!(matches!(&loaded(&told).resources[0].paginator, Some(Paginator::Page { size: Some(100), .. })));

    text["servers"] = json!([{"url": api}]);
    std::fs::write(&path, text.to_string()).unwrap();
    let as_url = Url::from_file_path(&path).unwrap().to_string();
    for from in [from.clone(), as_url] {
        let report = init_of(from, None).await.unwrap();
        assert_eq!(loaded(&report).source.base_url, api);
        assert!(report.yaml.starts_with("# Written by `tessera ingest init` from ") && report.notes.is_empty());
    }

    std::fs::write(&path, "{\"openapi\": ").unwrap();
    let broken = init_of(from, None).await.unwrap_err().to_string();
    assert!(broken.contains("every kind.json") && broken.contains("no OpenAPI document"), "{broken}");
    let missing = init_of("nowhere/openapi.yaml".into(), None).await.unwrap_err().to_string();
    assert!(missing.contains("`nowhere/openapi.yaml`: neither a URL nor a file"), "{missing}");
    let unneeded = init_of(format!("{api}/by_page"), Some("http://127.0.0.1:9")).await.unwrap_err();
    assert!(unneeded.exit_code() == 2 && unneeded.to_string().contains("--base-url"), "{unneeded}");
}

async fn guarded(headers: HeaderMap, ask: Ask) -> Response {
    match headers.get("authorization").and_then(|value| value.to_str().ok()) {
        Some("Bearer open-sesame") => by_page(ask).await.into_response(),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

#[tokio::test]
async fn secrets_are_read_from_the_environment_and_never_written() {
    let api = start(Router::new().route("/orders", get(guarded))).await;
    let url = format!("{api}/orders");
    let refused = init_at(&url).await.unwrap_err();
    assert_eq!(refused.code(), "ingest.bad_credentials");
    assert!(refused.to_string().contains("--header"), "{refused}");

    let options = InitOptions {
        headers: vec![("Authorization".into(), "Bearer ${SHOP_TOKEN}".into())],
        base_url_variable: Some("SHOP_URL".into()),
        ..InitOptions::default()
    };
    let missing = init(&url, &options, &Environment::default(), &client()).await.unwrap_err();
    assert!(missing.to_string().contains("SHOP_TOKEN"), "{missing}");
    let environment = Environment::from([("SHOP_TOKEN", "open-sesame"), ("SHOP_URL", api.as_str())]);
    let report = init(&url, &options, &environment, &client()).await.unwrap();
    assert!(!report.yaml.contains("open-sesame") && report.yaml.contains("${SHOP_TOKEN}"), "{}", report.yaml);
    let pipeline = load(&report.yaml, "t", &environment).unwrap().pipeline;
    assert_eq!(pipeline.source.base_url, api);
    assert!(matches!(&pipeline.source.auth, Auth::Bearer { token } if token == "open-sesame"));

    let plain = InitOptions { headers: vec![("X-Api-Key".into(), "abc".into())], ..InitOptions::default() };
    let error = init(&url, &plain, &environment, &client()).await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

#[tokio::test]
async fn a_protected_description_is_written_untried() {
    let protected = Router::new().route("/openapi.json", get(document)).with_state(true);
    let guarded = Router::new().route("/by_page", get(guarded)).route("/by_cursor", get(guarded));
    let api = start(protected.merge(guarded)).await;
    let report = init_at(&format!("{api}/openapi.json")).await.unwrap();
    assert!(report.yaml.contains("${EVERY_KIND_TOKEN}"), "{}", report.yaml);
    assert!(report.notes.iter().any(|note| note.contains("401")), "{:?}", report.notes);
}

#[tokio::test]
async fn an_open_api_needs_no_credentials_whatever_it_describes() {
    let api = start(every_kind().merge(Router::new().route("/openapi.json", get(document)).with_state(true))).await;
    let report = init_at(&format!("{api}/openapi.json")).await.unwrap();
    assert!(matches!(loaded(&report).source.auth, Auth::None), "{}", report.yaml);
    assert!(report.yaml.contains("# auth: { type: bearer"), "{}", report.yaml);
}

#[tokio::test]
async fn keys_in_the_query_become_variables() {
    let api = start(every_kind()).await;
    let report = init_at(&format!("{api}/by_page?api_key=hush-hush&status=open")).await.unwrap();
    assert!(!report.yaml.contains("hush-hush") && report.yaml.contains("${API_API_KEY}"), "{}", report.yaml);
    let pipeline = load(&report.yaml, "t", &Environment::from([("API_API_KEY", "k")])).unwrap().pipeline;
    assert_eq!(pipeline.resources[0].params["status"], "open");
}

#[tokio::test]
async fn errors_name_what_was_tried() {
    let old = || async { Json(json!({"swagger": "2.0", "paths": {}})) };
    let api =
        start(Router::new().route("/old", get(old)).route("/one", get(|| async { Json(json!({"id": 1})) }))).await;
    let message = |error: Error| error.to_string();
    let nothing = message(init_at(&format!("{api}/one")).await.unwrap_err());
    assert!(nothing.contains("/openapi.json: 404") && nothing.contains("give the URL"), "{nothing}");
    let missing = message(init_at(&format!("{api}/missing")).await.unwrap_err());
    assert!(missing.contains("404"), "{missing}");
    let outdated = message(init_at(&format!("{api}/old")).await.unwrap_err());
    assert!(outdated.contains("2.0") && outdated.contains("convert"), "{outdated}");
    let wrong = init_at("ftp://example.com").await.unwrap_err();
    assert_eq!(wrong.exit_code(), 2);
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let away = init_at(&format!("http://{free}/")).await.unwrap_err();
    assert_eq!(away.code(), "ingest.source_unreachable");
    assert!(message(away).contains("check the address"));
}

#[tokio::test]
async fn an_api_that_is_busy_is_asked_again() {
    let turn = Arc::new(AtomicUsize::new(0));
    let busy = |State(turn): State<Arc<AtomicUsize>>, ask: Ask| async move {
        match turn.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")]).into_response(),
            _ => by_offset(ask).await.into_response(),
        }
    };
    let api = start(Router::new().route("/orders", get(busy)).with_state(turn)).await;
    let report = init_at(&format!("{api}/orders")).await.unwrap();
    assert!(matches!(loaded(&report).resources[0].paginator, Some(Paginator::Offset { limit: 200, .. })));
}

#[tokio::test]
async fn discover_tells_what_is_read_already() {
    let documented = Router::new().route("/openapi.json", get(document)).with_state(false);
    let api = start(every_kind().merge(documented)).await;
    let text = format!(
        "version: 1\nname: kinds\nsource: {{ base_url: \"{api}\" }}\nresources:\n  - {{ name: pages, path: /by_page }}\n  - {{ name: all, path: /whole }}\n  - {{ name: pieces, path: \"/by_page/{{pages.id}}/parts\" }}\ndestination: {{ url: ./lake }}\n"
    );
    let pipeline = load(&text, "t", &Environment::default()).unwrap().pipeline;
    let endpoints = discover(&pipeline, HeaderMap::new(), 50, &client()).await.unwrap();
    let of = |path: &str| endpoints.iter().find(|endpoint| endpoint.path == path).unwrap();
    assert_eq!((of("/by_page").read_as.as_deref(), of("/by_page").rows), (Some("pages"), Some(ROWS)));
    assert_eq!(of("/by_page").cursor.as_deref(), Some("updated_at"));
    assert_eq!(of("/by_cursor").read_as, None);
    assert!(matches!(of("/by_cursor").paginator, Paginator::Cursor { .. }));
    assert_eq!((of("/whole").read_as.as_deref(), of("/whole").rows), (Some("all"), Some(3)));
    assert_eq!(endpoints.iter().filter(|endpoint| endpoint.read_as.as_deref() == Some("pieces")).count(), 1);
}
