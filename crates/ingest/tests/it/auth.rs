//! Every kind of proof against an API that asks for it; renewals; cassettes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tessera_ingest::app::run::{RunOptions, RunStatus};
use tessera_ingest::demo_api::Options;
use tessera_ingest::source::{Cassette, Tape};
use tessera_kernel::{Clock, SystemClock};
use tessera_testkit::ScratchDir;

use crate::support::{Api, Shop, backfill, failure, pipeline, rows_of, run_to_end, run_well};

fn locked_shop() -> Shop {
    Shop::open(Options { orders: 90, customers: 20, auth: true, ..Options::default() })
}

fn yaml(base: &str, lake: &std::path::Path, auth: &str) -> String {
    format!(
        "version: 1\nname: shop\nsource: {{ base_url: \"{base}\", attempts: 2, auth: {auth} }}\ndefaults: {{ primary_key: [id] }}\nresources:\n  - {{ name: orders, path: /orders, paginator: {{ type: page, size_param: per_page, size: 20 }}, records: data }}\n  - {{ name: refunds, path: /refunds, paginator: {{ type: next_url, size_param: limit, size: 3 }}, records: results }}\ndestination: {{ url: \"{}\" }}\n",
        lake.display()
    )
}

const KINDS: [&str; 10] = [
    "{ type: bearer, token: demo-token }",
    "{ type: basic, username: demo, password: demo-password }",
    "{ type: api_key, name: X-Api-Key, value: demo-key }",
    "{ type: api_key, name: api_key, value: demo-key, in: query }",
    "{ type: api_key, name: api_key, value: demo-key, in: cookie }",
    "{ type: oauth2, token_url: /oauth/token, client_id: demo-client, client_secret: demo-secret }",
    "{ type: oauth2, token_url: /oauth/token, client_id: demo-client, client_secret: demo-secret, client_auth: body }",
    "{ type: session, login_path: /session, body: { username: demo, password: demo-password } }",
    "{ type: jwt, key: demo-jwt-key-demo-jwt-key-demo-jwt-key, claims: { iss: tests } }",
    "{ type: jwt, algorithm: HS256, key: demo-jwt-key-demo-jwt-key-demo-jwt-key, ttl: 2m }",
];

#[test]
fn every_kind_of_proof_opens_the_shop() {
    let shop = locked_shop();
    for kind in KINDS {
        let scratch = ScratchDir::new();
        let loaded = pipeline(&yaml(shop.base(), scratch.path(), kind));
        run_well(&loaded, backfill(), Arc::clone(&shop.clock) as Arc<dyn Clock>);
        for table in ["orders", "refunds"] {
            shop.assert_copied(&loaded, table);
        }
    }
}

#[test]
fn wrong_proofs_are_told_with_the_place_to_correct() {
    let shop = locked_shop();
    for kind in [
        "none".to_owned(),
        KINDS[0].replace("demo-token", "wrong-one"),
        KINDS[2].replace("demo-key", "wrong-one"),
        KINDS[5].replace("demo-secret", "wrong-one"),
        KINDS[7].replace("demo-password", "wrong-one"),
        KINDS[8].replace("demo-jwt", "wrong-one"),
    ] {
        let scratch = ScratchDir::new();
        let kind = if kind == "none" { "{ type: none }".into() } else { kind };
        let message = failure(&pipeline(&yaml(shop.base(), scratch.path(), &kind)));
        assert!(message.contains("401") && message.contains("check `source.auth`"), "{kind}: {message}");
        assert!(!message.contains("wrong-one"), "{kind}: {message}");
    }
}

#[test]
fn a_token_is_renewed_when_it_is_about_to_expire() {
    let (shop, scratch) = (locked_shop(), ScratchDir::new());
    // Every look at the clock takes two seconds; tokens live for a minute.
    struct Fast(Arc<tessera_kernel::ManualClock>);
    impl Clock for Fast {
        fn now(&self) -> tessera_kernel::Timestamp {
            self.0.advance(std::time::Duration::from_secs(2));
            self.0.now()
        }
    }
    let text = yaml(shop.base(), scratch.path(), KINDS[5]);
    let loaded = pipeline(&text.replace("attempts: 2", "concurrency: 1").replace("size: 20", "size: 2"));
    let only = RunOptions { resources: vec!["orders".into()], ..backfill() };
    run_well(&loaded, only, Arc::new(Fast(Arc::clone(&shop.clock))));
    shop.assert_copied(&loaded, "orders");
    let stats = crate::support::get(&format!("{}/_stats", shop.base()));
    assert!(shop.clock.now().since(Options::default().opened_at).as_secs() > 120, "no token expired");
    assert_eq!(stats["paths"]["/orders"]["401"], serde_json::Value::Null, "a token expired unnoticed: {stats}");
}

#[test]
fn a_401_renews_the_token_once_for_all_that_are_in_flight() {
    #[derive(Default)]
    struct Counts {
        tokens: AtomicU64,
        refused: AtomicU64,
    }
    async fn token(State(counts): State<Arc<Counts>>) -> String {
        let number = counts.tokens.fetch_add(1, Ordering::SeqCst) + 1;
        format!("{{\"access_token\":\"token-number-{number}\",\"expires_in\":3600}}")
    }
    async fn rows(
        State(counts): State<Arc<Counts>>,
        headers: HeaderMap,
        axum::extract::Query(query): axum::extract::Query<BTreeMap<String, String>>,
    ) -> Response {
        // The first token is revoked after the first page.
        let page: u64 = query["page"].parse().unwrap();
        if page > 1 && headers["authorization"] == "Bearer token-number-1" {
            counts.refused.fetch_add(1, Ordering::SeqCst);
            return (StatusCode::UNAUTHORIZED, "revoked").into_response();
        }
        let rows: Vec<String> = (0..10).map(|row| format!("{{\"id\":{}}}", page * 10 + row)).collect();
        format!("{{\"total_pages\":20,\"data\":[{}]}}", rows.join(",")).into_response()
    }
    let counts = Arc::new(Counts::default());
    let api = Api::serve(|_| {
        Router::new().route("/token", post(token)).route("/rows", get(rows)).with_state(Arc::clone(&counts))
    });
    let scratch = ScratchDir::new();
    let loaded = pipeline(&format!(
        "version: 1\nname: t\nsource: {{ base_url: \"{}\", concurrency: 8, auth: {{ type: oauth2, token_url: /token, client_id: c, client_secret: s3cret }} }}\nresources:\n  - {{ name: r, path: /rows, primary_key: [id], records: data, paginator: {{ type: page, total_pages: total_pages }} }}\ndestination: {{ url: \"{}\" }}\n",
        api.base,
        scratch.path().display()
    ));
    run_well(&loaded, backfill(), Arc::new(SystemClock));
    assert_eq!(rows_of(&loaded, "r", &["id"]).len(), 200);
    assert!(counts.refused.load(Ordering::SeqCst) >= 1);
    assert_eq!(counts.tokens.load(Ordering::SeqCst), 2, "one renewal for all");
}

#[test]
fn a_cassette_repeats_the_run_without_the_server() {
    let scratch = ScratchDir::new();
    let tape = scratch.file("tape");
    let (base, recorded) = {
        let shop = locked_shop();
        shop.faults("fail_every=7,throttle_every=11,retry_after=zero");
        let patient = yaml(shop.base(), &scratch.file("first"), KINDS[0]).replace("attempts: 2", "attempts: 9");
        let loaded = pipeline(&patient);
        let options = RunOptions { cassette: Some(Cassette::Record(Tape::new(&tape))), ..backfill() };
        run_well(&loaded, options, Arc::new(SystemClock));
        shop.assert_copied(&loaded, "orders");
        (
            shop.base().to_owned(),
            [rows_of(&loaded, "orders", &["id", "total_minor", "updated_at"]), rows_of(&loaded, "refunds", &["id"])],
        )
    };
    for kind in [KINDS[0], KINDS[5]] {
        let folder = scratch.file(&format!("second-{}", kind.len()));
        let loaded = pipeline(&yaml(&base, &folder, kind).replace("attempts: 2", "attempts: 9"));
        let options = RunOptions { cassette: Some(Cassette::Replay(Tape::new(&tape))), ..backfill() };
        run_well(&loaded, options, Arc::new(SystemClock));
        let replayed =
            [rows_of(&loaded, "orders", &["id", "total_minor", "updated_at"]), rows_of(&loaded, "refunds", &["id"])];
        assert_eq!(replayed, recorded);
    }
    // What was not recorded is said so.
    let other = yaml(&base, &scratch.file("third"), KINDS[0]).replace("size: 20", "size: 21");
    let options = RunOptions { cassette: Some(Cassette::Replay(Tape::new(&tape))), ..backfill() };
    let report = run_to_end(&pipeline(&other), options);
    assert_eq!(report.status, RunStatus::Failed);
    let message = report.error.unwrap().to_string();
    assert!(message.contains("--replay") && message.contains("record it with --record"), "{message}");
}
