//! Whole walks through the router, compared with `/_truth`.

mod document;
mod gate;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tessera_kernel::{Clock, ManualClock, Timestamp};
use tower::ServiceExt;

use super::{DemoApi, Options, hex};

/// A small shop and its clock.
struct Shop {
    api: DemoApi,
    clock: Arc<ManualClock>,
}

type Rows = BTreeMap<String, Value>;

impl Shop {
    fn new(options: Options) -> Self {
        let clock = Arc::new(ManualClock::at(options.opened_at));
        Self { api: DemoApi::new(options, Arc::clone(&clock) as Arc<dyn Clock>), clock }
    }

    fn small(growth: u32) -> Self {
        Self::new(Options { seed: 42, customers: 137, products: 61, orders: 1203, growth, ..Options::default() })
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Bytes) {
        let response = self.api.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, HeaderMap, Bytes) {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn json(&self, path: &str) -> Value {
        let (status, _, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let (status, _, body) = self.send(request.body(Body::from(body.to_string())).unwrap()).await;
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// All rows of a list with page numbers.
    async fn pages(&self, path: &str, size: u64) -> Vec<Value> {
        let mut rows = Vec::new();
        for page in 1.. {
            let envelope = self.json(&format!("{path}page={page}&per_page={size}")).await;
            assert_eq!((envelope["page"].as_u64(), envelope["per_page"].as_u64()), (Some(page), Some(size)));
            let total = envelope["total"].as_u64().unwrap();
            assert_eq!(envelope["total_pages"].as_u64(), Some(total.div_ceil(size)));
            rows.extend(envelope["data"].as_array().unwrap().clone());
            if page >= total.div_ceil(size) {
                assert_eq!(rows.len() as u64, total);
                break;
            }
        }
        rows
    }

    /// All rows of a list that is followed by a value in the body.
    async fn follow(&self, first: &str, rows: &str, next: impl Fn(&Value) -> Option<String>) -> Vec<Value> {
        let mut found = Vec::new();
        let mut path = Some(first.to_owned());
        while let Some(at) = path {
            let page = self.json(&at).await;
            found.extend(page[rows].as_array().unwrap().clone());
            path = next(&page);
        }
        found
    }

    async fn walk(&self, resource: &str) -> Vec<Value> {
        match resource {
            "customers" => self.pages("/customers?", 50).await,
            "orders" => self.pages("/orders?", 97).await,
            "order_items" => {
                let mut rows = Vec::new();
                for order in self.pages("/orders?", 1000).await {
                    let items = self.json(&format!("/orders/{}/items", order["id"])).await;
                    assert_eq!(items.as_array().unwrap().len() as u64, order["item_count"].as_u64().unwrap());
                    rows.extend(items.as_array().unwrap().clone());
                }
                rows
            }
            "products" => {
                let mut rows = Vec::new();
                loop {
                    let (_, headers, body) = self.get(&format!("/products?offset={}&limit=7", rows.len())).await;
                    let page: Value = serde_json::from_slice(&body).unwrap();
                    assert_eq!(headers["x-total-count"].to_str().unwrap(), page["count"].to_string());
                    rows.extend(page["items"].as_array().unwrap().clone());
                    if rows.len() as u64 >= page["count"].as_u64().unwrap() {
                        return rows;
                    }
                }
            }
            "payments" => {
                let next = |page: &Value| Some(format!("/payments?limit=100&cursor={}", page["next_cursor"].as_str()?));
                self.follow("/payments?limit=100", "data", next).await
            }
            "refunds" => {
                let next = |page: &Value| page["next"].as_str().map(str::to_owned);
                self.follow("/refunds?limit=31", "results", next).await
            }
            "shipments" => {
                let mut rows = Vec::new();
                let mut path = "/shipments?limit=100".to_owned();
                loop {
                    let (_, headers, body) = self.get(&path).await;
                    rows.extend(serde_json::from_slice::<Vec<Value>>(&body).unwrap());
                    let links = headers["link"].to_str().unwrap();
                    let Some(next) = links.split(", ").find_map(|link| link.strip_suffix("; rel=\"next\"")) else {
                        return rows;
                    };
                    path = next.trim_matches(['<', '>']).to_owned();
                }
            }
            "reviews" => {
                let next =
                    |page: &Value| Some(format!("/reviews?pageSize=9&pageToken={}", page["nextPageToken"].as_str()?));
                self.follow("/reviews?pageSize=9", "reviews", next).await
            }
            "events" => {
                let (_, _, body) = self.get("/events").await;
                body.split(|&byte| byte == b'\n')
                    .filter(|line| !line.is_empty())
                    .map(|line| serde_json::from_slice(line).unwrap())
                    .collect()
            }
            "countries" => self.json("/countries").await.as_array().unwrap().clone(),
            other => panic!("no walk for {other}"),
        }
    }

    async fn set_faults(&self, faults: Value) {
        let (status, answer) = self.post("/_faults", faults).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
}

/// The field that holds a row's version, per resource.
fn version_field(resource: &str) -> Option<&'static str> {
    match resource {
        "payments" | "refunds" | "reviews" => Some("created_at"),
        "events" => Some("occurred_at"),
        "order_items" | "countries" => None,
        _ => Some("updated_at"),
    }
}

/// The checksum of rows as the documentation defines it.
fn checksum(resource: &str, rows: &[Value]) -> String {
    let mut lines: Vec<(Vec<u64>, String)> = rows
        .iter()
        .map(|row| {
            let id = if resource == "countries" { &row["code"] } else { &row["id"] };
            let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
            let numbers = id.split('-').filter_map(|part| part.parse().ok()).collect();
            let at =
                version_field(resource).map_or_else(String::new, |field| format!("\t{}", row[field].as_str().unwrap()));
            (numbers, format!("{id}{at}\n"))
        })
        .collect();
    lines.sort();
    let text: String = lines.into_iter().map(|(_, line)| line).collect();
    format!("sha256:{}", hex(&Sha256::digest(text)))
}

const WALKED: [&str; 10] = [
    "customers",
    "orders",
    "order_items",
    "products",
    "payments",
    "refunds",
    "shipments",
    "reviews",
    "events",
    "countries",
];

async fn every_walk_equals_the_truth(shop: &Shop) {
    let truth = shop.json("/_truth").await;
    let counts = shop.json("/_truth?checksums=false").await;
    for resource in WALKED {
        let rows = shop.walk(resource).await;
        let expected = &truth["resources"][resource];
        assert!(!rows.is_empty(), "{resource} is empty");
        assert_eq!(expected["rows"], rows.len(), "{resource}");
        assert_eq!(counts["resources"][resource]["rows"], rows.len(), "{resource}");
        let name = if resource == "countries" { "code" } else { "id" };
        let ids: BTreeSet<String> = rows.iter().map(|row| row[name].to_string()).collect();
        assert_eq!(ids.len(), rows.len(), "{resource} has an id twice");
        assert_eq!(expected["checksum"], checksum(resource, &rows), "{resource}");
        if let Some(field) = version_field(resource) {
            let latest = rows.iter().filter_map(|row| row[field].as_str()).max();
            assert_eq!(expected["max_updated_at"].as_str(), latest, "{resource}");
            assert!(
                latest.unwrap().parse::<Timestamp>().unwrap() <= shop.clock.now(),
                "{resource} is ahead of the clock"
            );
        }
    }
}

#[tokio::test]
async fn every_paginator_gives_exactly_the_truth() {
    every_walk_equals_the_truth(&Shop::small(0)).await;
}

#[tokio::test]
async fn it_still_does_when_the_shop_has_grown() {
    let shop = Shop::small(90);
    shop.clock.advance(Duration::from_micros(17 * 60_000_000 + 123_456));
    every_walk_equals_the_truth(&shop).await;
    let truth = shop.json("/_truth?checksums=false").await;
    let grown = truth["resources"]["orders"]["rows"].as_u64().unwrap() - 1203;
    assert!((17 * 90..=17 * 90 + 1).contains(&grown), "{grown} new orders in 17 minutes");
}

#[tokio::test]
async fn the_same_seed_and_clock_answer_the_same() {
    let (a, b) = (Shop::small(60), Shop::small(60));
    let other =
        Shop::new(Options { seed: 43, customers: 137, products: 61, orders: 1203, growth: 60, ..Options::default() });
    for shop in [&a, &b, &other] {
        shop.clock.advance(Duration::from_secs(333));
    }
    for path in [
        "/customers?page=2",
        "/orders?page=13&per_page=100",
        "/orders/17/items",
        "/products",
        "/payments",
        "/refunds",
        "/shipments",
        "/reviews",
        "/events?limit=50",
        "/stock.csv",
        "/_truth",
    ] {
        let (one, two, three) = (a.get(path).await, b.get(path).await, other.get(path).await);
        assert_eq!(one.2, two.2, "{path}");
        assert_eq!(one.1.get("link"), two.1.get("link"));
        assert_ne!(one.2, three.2, "{path} does not depend on the seed");
    }
}

#[tokio::test]
async fn a_shop_without_growth_stands_still() {
    let shop = Shop::small(0);
    let (before, stock) = (shop.json("/_truth").await, shop.get("/stock.csv").await.2);
    assert_eq!(before["resources"]["orders"]["rows"], 1203);
    assert_eq!(before["resources"]["customers"]["rows"], 137);
    shop.clock.advance(Duration::from_secs(86_400 * 400));
    assert_eq!(shop.json("/_truth").await, before);
    assert_eq!(shop.get("/stock.csv").await.2, stock);
}

#[tokio::test]
async fn updated_since_agrees_with_the_whole_list() {
    let shop = Shop::small(120);
    shop.clock.advance(Duration::from_secs(1500));
    let all = shop.pages("/orders?", 1000).await;
    let key = |row: &Value| (row["updated_at"].as_str().unwrap().to_owned(), row["id"].as_u64().unwrap());
    assert!(all.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])), "not sorted by updated_at, then id");
    for row in all.iter().step_by(823) {
        let since = row["updated_at"].as_str().unwrap();
        let expected: Vec<&Value> = all.iter().filter(|row| row["updated_at"].as_str().unwrap() >= since).collect();
        let found = shop.pages(&format!("/orders?updated_since={since}&"), 300).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected);
        let truth = shop.json(&format!("/_truth?checksums=false&updated_since={since}")).await;
        assert_eq!(truth["orders"]["visible"]["rows"], expected.len());
        let before = shop.pages(&format!("/orders?updated_until={since}&"), 1000).await;
        assert_eq!(before.len() + found.len(), all.len());
        assert!(found.iter().all(|row| row["created_at"].as_str() <= row["updated_at"].as_str()));
    }
}

/// What a faithful reader does: reads from the last `updated_at` on, and keeps the last version by key.
#[tokio::test]
async fn an_incremental_reader_ends_equal_to_the_truth() {
    let shop = Shop::small(60);
    let mut copy: Rows = BTreeMap::new();
    let mut cursor = String::from("2000-01-01");
    let (mut updates, mut deletions) = (0, 0);
    for step in 0..40_u64 {
        shop.clock.advance(Duration::from_millis(700 + step * step * 137));
        for row in shop.pages(&format!("/orders?updated_since={cursor}&"), 100).await {
            let updated_at = row["updated_at"].as_str().unwrap();
            cursor = cursor.max(updated_at.to_owned());
            let deleted = row["deleted"].as_bool().unwrap();
            if let Some(old) = copy.insert(row["id"].to_string(), row.clone())
                && old != row
            {
                assert!(old["updated_at"].as_str() <= Some(updated_at));
                assert!(old["revision"].as_u64() < row["revision"].as_u64(), "{old} to {row}");
                updates += 1;
                deletions += u32::from(deleted);
            }
        }
        let rows: Vec<Value> = copy.values().cloned().collect();
        let truth = shop.json("/_truth?resources=orders").await;
        assert_eq!(truth["resources"]["orders"]["rows"], rows.len(), "step {step}");
        assert_eq!(truth["resources"]["orders"]["checksum"], checksum("orders", &rows), "step {step}");
        assert!(cursor.parse::<Timestamp>().unwrap() <= shop.clock.now());
    }
    assert!(updates > 500 && deletions > 10, "{updates} updates, {deletions} deletions");
    let all = shop.pages("/orders?", 1000).await;
    assert!(all.iter().all(|row| copy[&row["id"].to_string()] == *row));
}

#[tokio::test]
async fn as_of_holds_pages_still_while_the_shop_moves() {
    let shop = Shop::small(120);
    shop.clock.advance(Duration::from_secs(600));
    let as_of = shop.clock.now();
    let before = shop.pages(&format!("/orders?as_of={as_of}&"), 100).await;
    shop.clock.advance(Duration::from_secs(600));
    assert_eq!(shop.pages(&format!("/orders?as_of={as_of}&"), 100).await, before);
    assert_ne!(shop.pages("/orders?", 1000).await.len(), before.len());

    // A cursor holds its list still by itself.
    let page = shop.json("/payments?limit=1000").await;
    let next = page["next_cursor"].as_str().unwrap();
    let expected = shop.json(&format!("/payments?limit=1000&cursor={next}")).await;
    shop.clock.advance(Duration::from_secs(600));
    assert_eq!(shop.json(&format!("/payments?limit=1000&cursor={next}")).await, expected);
}

#[tokio::test]
async fn rows_have_nulls_drift_and_many_scripts() {
    let shop = Shop::small(0);
    let mut orders = shop.pages("/orders?", 1000).await;
    orders.sort_by_key(|row| row["id"].as_u64());
    let (early, late) = orders.split_at(1203 * 3 / 5);
    assert!(early.iter().all(|row| row["weight_kg"].is_u64() && row.get("gift_note").is_none()));
    assert!(late.iter().all(|row| row["weight_kg"].is_f64() && row.get("gift_note").is_some()));
    assert!(late.iter().any(|row| row["gift_note"].is_string()) && late.iter().any(|row| row["gift_note"].is_null()));
    assert!(orders.iter().any(|row| row["note"].is_null()) && orders.iter().any(|row| row["deleted"] == true));
    for row in &orders {
        let lines = row["lines"].as_array().unwrap();
        let total: u64 = lines
            .iter()
            .map(|line| line["quantity"].as_u64().unwrap() * line["unit_price_minor"].as_u64().unwrap())
            .sum();
        assert_eq!(row["total_minor"], total);
        assert!((1..=137).contains(&row["customer"]["id"].as_u64().unwrap()));
        assert_eq!(row["deleted"] == true, row["deleted_at"].is_string());
    }
    let text = serde_json::to_string(&orders).unwrap();
    for sample in ["🎂", "京都市", "Łódź", "\\\"", "\\n", "תל אביב"] {
        assert!(text.contains(sample), "no {sample}");
    }
    let one = &orders[700];
    assert_eq!(&shop.json(&format!("/orders/{}", one["id"])).await, one);
}

#[tokio::test]
async fn searching_filters_and_refuses_what_it_does_not_know() {
    let shop = Shop::small(0);
    let all = shop.pages("/orders?", 1000).await;
    let filters = json!({ "status": ["returned", "cancelled"], "updated_since": "2025-01-01T00:00:00Z" });
    let expected: Vec<&Value> = all
        .iter()
        .filter(|row| row["status"] == "returned" || row["status"] == "cancelled")
        .filter(|row| row["updated_at"].as_str().unwrap() >= "2025")
        .collect();
    let mut found = Vec::new();
    for page in 1.. {
        let (_, answer) =
            shop.post("/orders/search", json!({ "page": page, "page_size": 20, "filters": filters })).await;
        assert_eq!(answer["total"], expected.len());
        let rows = answer["results"].as_array().unwrap().clone();
        if rows.is_empty() {
            break;
        }
        found.extend(rows);
    }
    assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    let (_, answer) = shop.post("/orders/search", json!({ "filters": { "deleted": true } })).await;
    assert!(answer["results"].as_array().unwrap().iter().all(|row| row["deleted"] == true));
    assert_eq!(answer["total"], all.iter().filter(|row| row["deleted"] == true).count());
    for wrong in [json!({ "filters": { "status": "lost" } }), json!({ "filter": {} }), json!({ "page": 0 })] {
        assert_eq!(shop.post("/orders/search", wrong).await.0, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn stock_is_a_csv_and_a_gzip_file_of_it() {
    let shop = Shop::small(30);
    shop.clock.advance(Duration::from_secs(1300));
    let (_, _, plain) = shop.get("/stock.csv").await;
    let (_, headers, packed) = shop.get("/stock.csv.gz").await;
    assert_eq!(headers[header::CONTENT_TYPE], "application/gzip");
    assert!(headers.get(header::CONTENT_ENCODING).is_none());
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
    let rows: Vec<BTreeMap<String, String>> =
        csv::Reader::from_reader(&plain[..]).deserialize().map(Result::unwrap).collect();
    let lines: String = rows.iter().map(|row| format!("{}\t{}\n", row["id"], row["counted_at"])).collect();
    let truth = shop.json("/_truth?resources=stock").await;
    assert_eq!(truth["resources"]["stock"]["rows"], rows.len());
    assert_eq!(truth["resources"]["stock"]["checksum"], format!("sha256:{}", hex(&Sha256::digest(lines))));
    assert_eq!(rows[0]["counted_at"], "2026-01-01T00:20:00Z");
}

#[tokio::test]
async fn wrong_parameters_and_unknown_rows_are_refused() {
    let shop = Shop::small(0);
    for path in [
        "/orders?page=0",
        "/orders?per_page=many",
        "/orders?updated_since=yesterday",
        "/customers?as_of=never",
        "/payments?cursor=abc",
        "/_truth?resources=ordres",
    ] {
        let (status, _, body) = shop.get(path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        let value = path.split('=').nth(1).unwrap();
        assert!(String::from_utf8_lossy(&body).contains(value), "{path} does not name the value");
    }
    for path in ["/orders/0", "/orders/1204", "/orders/x/items", "/customers/138", "/products/62", "/nothing"] {
        assert_eq!(shop.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let page = shop.json("/orders?page=9999&per_page=5000").await;
    assert_eq!((page["data"].as_array().unwrap().len(), &page["per_page"]), (0, &json!(1000)));
    let far = shop.json("/orders?page=18446744073709551615").await;
    assert_eq!(far["data"], json!([]));
    let empty = Shop::new(Options { customers: 0, products: 0, orders: 0, ..Options::default() });
    assert_eq!(empty.json("/orders").await["total"], 0);
    assert_eq!(empty.json("/payments").await, json!({ "data": [], "next_cursor": null }));
    assert_eq!(empty.get("/events").await.2.len(), 0);
}
