//! Every kind of proof against an API that asks for it; renewals; cassettes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tessera_ingest::app::run::{RunOptions, RunStatus};
use tessera_ingest::demo_api::Options;
use tessera_ingest::source::{Cassette, Tape};
use tessera_ingest::spec::Loaded;
use tessera_kernel::{Clock, ManualClock, SystemClock, Timestamp};
use tessera_testkit::ScratchDir;

use crate::support::{Api, Shop, backfill, failure, pipeline, rows_of, run_to_end, run_well, try_run};

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
    // Tokens live for a minute.
    let text = yaml(shop.base(), scratch.path(), KINDS[5]);
    let loaded = pipeline(&text.replace("attempts: 2", "concurrency: 1").replace("size: 20", "size: 2"));
    let only = RunOptions { resources: vec!["orders".into()], ..backfill() };
    run_well(&loaded, only, Arc::new(Fast(Arc::clone(&shop.clock))));
    shop.assert_copied(&loaded, "orders");
    let stats = crate::support::get(&format!("{}/_stats", shop.base()));
    assert!(shop.clock.now().since(Options::default().opened_at).as_secs() > 120, "no token expired");
    assert_eq!(stats["paths"]["/orders"]["401"], serde_json::Value::Null, "a token expired unnoticed: {stats}");
}

/// Every look at this clock takes two seconds.
struct Fast(Arc<ManualClock>);

impl Clock for Fast {
    fn now(&self) -> Timestamp {
        self.0.advance(Duration::from_secs(2));
        self.0.now()
    }
}

/// An API that gives a new refresh token with each renewal, and takes each once.
struct Rotating {
    clock: Arc<ManualClock>,
    renewals: AtomicU64,
    refused: AtomicU64,
    /// An access token that is taken back after the first page.
    revoked: Option<&'static str>,
    /// Renewals after this many are refused.
    most: Option<u64>,
    expires: Mutex<BTreeMap<String, Timestamp>>,
}

impl Rotating {
    fn new() -> Self {
        Self {
            clock: Arc::new(ManualClock::at(Options::default().opened_at)),
            renewals: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            revoked: None,
            most: None,
            expires: Mutex::default(),
        }
    }

    async fn token(State(api): State<Arc<Self>>, body: String) -> Response {
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let before = api.renewals.fetch_add(1, Ordering::SeqCst);
        let (grant, token) = (&form["grant_type"], &form["refresh_token"]);
        if grant != "refresh_token" || *token != format!("refresh-token-{before}") || api.most == Some(before) {
            return (StatusCode::BAD_REQUEST, format!("{token} is not accepted")).into_response();
        }
        let access = format!("access-token-{before}");
        api.expires.lock().unwrap().insert(access.clone(), api.clock.now().plus(Duration::from_secs(60)));
        let next = before + 1;
        format!("{{\"access_token\":\"{access}\",\"expires_in\":60,\"refresh_token\":\"refresh-token-{next}\"}}")
            .into_response()
    }

    async fn rows(
        State(api): State<Arc<Self>>,
        headers: HeaderMap,
        axum::extract::Query(query): axum::extract::Query<BTreeMap<String, String>>,
    ) -> Response {
        let page: u64 = query["page"].parse().unwrap();
        let token = headers["authorization"].to_str().unwrap().trim_start_matches("Bearer ");
        let alive = api.expires.lock().unwrap().get(token).is_some_and(|until| api.clock.now() < *until);
        if !alive || (page > 1 && api.revoked == Some(token)) {
            api.refused.fetch_add(1, Ordering::SeqCst);
            return (StatusCode::UNAUTHORIZED, "not now").into_response();
        }
        let rows: Vec<String> = (0..10).map(|row| format!("{{\"id\":{}}}", page * 10 + row)).collect();
        format!("{{\"total_pages\":40,\"data\":[{}]}}", rows.join(",")).into_response()
    }

    /// The API, and a pipeline that reads it.
    fn open(self, concurrency: u32) -> (Api, Arc<Self>, ScratchDir, Loaded) {
        let (state, scratch) = (Arc::new(self), ScratchDir::new());
        let api = Api::serve(|_| {
            let routes = Router::new().route("/token", post(Self::token)).route("/rows", get(Self::rows));
            routes.with_state(Arc::clone(&state))
        });
        let loaded = pipeline(&format!(
            "version: 1\nname: t\nsource: {{ base_url: \"{}\", concurrency: {concurrency}, auth: {{ type: oauth2, token_url: /token, client_id: c, client_secret: s3cret, refresh_token: refresh-token-0 }} }}\nresources:\n  - {{ name: r, path: /rows, primary_key: [id], records: data, paginator: {{ type: page, total_pages: total_pages }} }}\ndestination: {{ url: \"{}\" }}\n",
            api.base,
            scratch.path().display()
        ));
        (api, state, scratch, loaded)
    }
}

#[test]
fn a_refresh_token_is_followed_as_it_changes_and_used_before_the_access_token_expires() {
    let (_api, state, _scratch, loaded) = Rotating::new().open(1);
    run_well(&loaded, backfill(), Arc::new(Fast(Arc::clone(&state.clock))));
    assert_eq!(rows_of(&loaded, "r", &["id"]).len(), 400);
    assert!(state.renewals.load(Ordering::SeqCst) > 2, "no token expired");
    assert_eq!(state.refused.load(Ordering::SeqCst), 0, "a token expired unnoticed");
}

#[test]
fn a_refresh_token_is_used_once_for_all_that_were_refused() {
    let (_api, state, _scratch, loaded) = Rotating { revoked: Some("access-token-0"), ..Rotating::new() }.open(8);
    run_well(&loaded, backfill(), Arc::clone(&state.clock) as Arc<dyn Clock>);
    assert_eq!(rows_of(&loaded, "r", &["id"]).len(), 400);
    assert!(state.refused.load(Ordering::SeqCst) >= 1);
    assert_eq!(state.renewals.load(Ordering::SeqCst), 2, "one renewal for all");
}

#[test]
fn a_refresh_token_that_the_api_gave_is_a_secret_too() {
    let (_api, state, _scratch, loaded) =
        Rotating { revoked: Some("access-token-0"), most: Some(1), ..Rotating::new() }.open(2);
    let report = try_run(&loaded, backfill(), Arc::clone(&state.clock) as Arc<dyn Clock>).unwrap();
    let message = report.error.unwrap().to_string();
    assert!(message.contains("is not accepted") && message.contains("check `source.auth`"), "{message}");
    assert!(!message.contains("refresh-token-1"), "{message}");
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

#[test]
fn a_token_endpoint_that_never_answers_is_told_as_such_and_the_next_run_goes_on() {
    let scratch = ScratchDir::new();
    // Nobody listens on the discard port of loopback.
    let auth = "{ type: oauth2, token_url: \"http://127.0.0.1:9/token\", client_id: a, client_secret: long-secret }";
    let report = run_to_end(&pipeline(&yaml("http://127.0.0.1:9", scratch.path(), auth)), backfill());
    let error = report.error.unwrap();
    let message = error.to_string();
    assert_eq!(error.code(), "ingest.source_unreachable", "{message}");
    for words in ["http://127.0.0.1:9/token", "3 attempts", "cannot connect"] {
        assert!(message.contains(words), "{message}");
    }
    assert!(!message.contains("answered 0"), "{message}");
}
