//! The API in process: wire formats as snapshots, idempotency, pages, the document.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::AUTHORIZATION;
use serde_json::{Value, json};
use tessera_ingest::app::service::{Parts, Request as RunRequest, Service};
use tessera_ingest::config::MaxConcurrentRuns;
use tessera_ingest::http;
use tessera_ingest::jobs::scheduler;
use tessera_ingest::metrics::Metrics;
use tessera_ingest::spec::Environment;
use tessera_ingest::store::{Counts, Filter, Kind, Run, RunError, Status, Store, Trigger};

use tessera_kernel::{Clock, FixedIds, ManualClock, Timestamp};
use tessera_service::Keys;
use tessera_testkit::ScratchDir;
use tower::ServiceExt;

const NOW: &str = "2026-03-01T12:00:30Z";

struct Stage {
    scratch: ScratchDir,
    clock: Arc<ManualClock>,
    keys: Keys,
    service: Service,
}

fn pipeline(name: &str, more: &str, base_url: &str, lake: &Path) -> String {
    format!(
        "version: 1\nname: {name}\n{more}source: {{ base_url: \"{base_url}\", attempts: 1 }}\n\
         defaults: {{ primary_key: [id] }}\n\
         resources:\n  - {{ name: orders, path: /orders, records: data, \
         paginator: {{ type: page, size_param: per_page, size: 100 }}, total: total, \
         incremental: {{ cursor: updated_at, param: updated_since }} }}\n  - {{ name: countries, path: /countries, records: $, primary_key: [code] }}\n\
         destination: {{ url: \"{}\" }}\nquality: {{ orders: {{ unique: [id], not_null: [id] }} }}\n",
        lake.display()
    )
}

impl Stage {
    async fn new() -> Self {
        let scratch = ScratchDir::new();
        let clock = Arc::new(ManualClock::at(NOW.parse().unwrap()));
        std::fs::create_dir_all(scratch.file("pipelines")).unwrap();
        let keys = Keys::ephemeral(clock.clone()).unwrap();
        let service = Self::service(&scratch, &clock, &keys).await;
        Self { scratch, clock, keys, service }
    }

    async fn service(scratch: &ScratchDir, clock: &Arc<ManualClock>, keys: &Keys) -> Service {
        let store = Store::open(&format!("sqlite:{}", scratch.file("ingest.db").display())).await.unwrap();
        Service::new(Parts {
            pipelines: scratch.file("pipelines"),
            environment: Environment::default(),
            max_concurrent_runs: MaxConcurrentRuns::try_from(2).unwrap(),
            public_url: None,
            store,
            clock: clock.clone(),
            ids: Arc::new(FixedIds::default()),
            keys: keys.clone(),
            metrics: Metrics::new(&tessera_service::Metrics::new(clock.clone())),
            http: tessera_service::client::build().unwrap(),
        })
    }

    /// Writes a pipeline; the file's age is not the test's.
    async fn add(&self, name: &str, more: &str, base_url: &str) {
        let text = pipeline(name, more, base_url, &self.scratch.file("lake"));
        self.scratch.write(&format!("pipelines/{name}.yaml"), text);
        self.service.refresh().await.unwrap();
    }

    /// A token of somebody with this role, long enough for any test.
    fn token(&self, role: &str) -> String {
        self.keys.sign_token("ona", &[role.to_owned()], Duration::from_secs(86_400)).unwrap()
    }

    /// As an operator.
    async fn ask(&self, mut request: Request<Body>) -> (u16, Value) {
        let value = format!("Bearer {}", self.token("operator")).parse().unwrap();
        request.headers_mut().insert(AUTHORIZATION, value);
        self.ask_as_it_is(request).await
    }

    async fn ask_as_it_is(&self, request: Request<Body>) -> (u16, Value) {
        let answer = http::router(self.service.clone()).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 22).await.unwrap();
        let text = String::from_utf8_lossy(&body).replace(&self.scratch.path().display().to_string(), "SCRATCH");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let request = Request::post(path).header("idempotency-key", key).header("content-type", "application/json");
        self.ask(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Waits for the end of a run: its task tells the store, so the store is asked.
    async fn ended(&self, id: &str) -> Run {
        for _ in 0..6000 {
            let run = self.service.store().run(id).await.unwrap();
            if run.status.is_over() && !self.service.is_live(id) {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} did not end");
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn past_run(n: u32, status: Status) -> Run {
    let began = at("2026-03-01T11:00:00Z").plus(Duration::from_secs(u64::from(n) * 60));
    let ended = began.plus(Duration::from_secs(10));
    let counts = Counts {
        name: "orders".into(),
        status: "done".into(),
        rows: 1000,
        written: 0,
        expected_rows: Some(1000),
        bytes: 50_000,
        files: 1,
        requests: 11,
        retries: 1,
        throttled: 2,
    };
    let error = (status == Status::Failed)
        .then(|| RunError { code: "ingest.source_unreachable".into(), detail: "no answer".into() });
    Run {
        id: format!("run_{n}"),
        pipeline: "shop".into(),
        kind: Kind::Backfill,
        trigger: Trigger::Schedule,
        status,
        lake_run: None,
        created_at: began,
        started_at: began,
        updated_at: ended,
        finished_at: Some(ended),
        error,
        resources: vec![counts],
    }
}

/// What depends on the disk's clock and on how the files came out.
fn steady(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields.iter_mut() {
                    let unsteady = matches!(name.as_str(), "bytes" | "path") && !value.is_object();
                    if unsteady {
                        *value = Value::String(format!("<{name}>"));
                    }
                    walk(value);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}

fn without_file_age((status, mut value): (u16, Value)) -> (u16, Value) {
    value["updated_at"] = "<file>".into();
    (status, value)
}

#[tokio::test]
async fn a_pipeline_before_and_after_runs() {
    let stage = Stage::new().await;
    let more = "owner: data@example.com\nconsumers: [finance]\nschedule: \"*/15 * * * *\"\n\
                sla: { fresh_within: 30m, ready_by: \"06:00\", timezone: Europe/Lisbon }\n";
    stage.add("shop", more, "http://127.0.0.1:1").await;
    insta::assert_json_snapshot!("pipeline_never_ran", without_file_age(stage.get("/ingest/pipelines/shop").await));
    stage.service.store().import(&past_run(1, Status::Succeeded)).await.unwrap();
    insta::assert_json_snapshot!("pipeline_late", without_file_age(stage.get("/ingest/pipelines/shop").await));
    stage.scratch.write("pipelines/broken.yaml", "version: 1\nnmae: x\n");
    stage.service.refresh().await.unwrap();
    insta::assert_json_snapshot!("pipeline_broken", without_file_age(stage.get("/ingest/pipelines/broken").await));
    let (status, list) = stage.get("/ingest/pipelines?limit=1").await;
    assert_eq!((status, list["items"][0]["name"].as_str()), (200, Some("broken")));
    let next = list["next_cursor"].as_str().unwrap();
    let (_, list) = stage.get(&format!("/ingest/pipelines?limit=1&cursor={next}")).await;
    assert_eq!((list["items"][0]["name"].as_str(), &list["next_cursor"]), (Some("shop"), &Value::Null));
    insta::assert_json_snapshot!("not_found", stage.get("/ingest/pipelines/nowhere").await);
}

#[tokio::test]
async fn runs_are_listed_in_pages_and_by_change() {
    let stage = Stage::new().await;
    let store = stage.service.store();
    for n in 1..=5 {
        let status = if n == 2 { Status::Failed } else { Status::Succeeded };
        assert!(store.import(&past_run(n, status)).await.unwrap());
        assert!(!store.import(&past_run(n, status)).await.unwrap(), "a second time is nothing new");
    }
    insta::assert_json_snapshot!("run_failed", stage.get("/ingest/runs/run_2").await);
    let ids = async |query: &str| {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let (status, list) = stage.get(&format!("/ingest/runs?limit=2&{query}{cursor}")).await;
            assert_eq!(status, 200, "{list}");
            seen.extend(list["items"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()));
            match list["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return seen.join(" "),
            }
        }
    };
    assert_eq!(ids("").await, "run_5 run_4 run_3 run_2 run_1");
    assert_eq!(ids("pipeline=shop&status=succeeded").await, "run_5 run_4 run_3 run_1");
    assert_eq!(ids("pipeline=other").await, "");
    assert_eq!(ids("updated_since=2026-03-01T11:03:10Z").await, "run_3 run_4 run_5");
    insta::assert_json_snapshot!("bad_status", stage.get("/ingest/runs?status=done").await);
    insta::assert_json_snapshot!("bad_cursor", stage.get("/ingest/runs?cursor=!").await);
}

#[tokio::test]
async fn a_key_stands_for_one_run() {
    let stage = Stage::new().await;
    stage.add("shop", "", "http://127.0.0.1:1").await;
    let path = "/ingest/pipelines/shop/runs";
    let missing = Request::post(path).header("content-type", "application/json").body(Body::from("{}")).unwrap();
    insta::assert_json_snapshot!("key_missing", stage.ask(missing).await);
    insta::assert_json_snapshot!("unknown_resource", stage.post(path, "a", &json!({"resources": ["ordres"]})).await);
    for (body, said) in [
        (json!({"from": "yesterday"}), "from: `yesterday` is not a time"),
        (json!({"from": "2026-02-01", "to": "2026-01-01"}), "to: 2026-01-01 is not after from 2026-02-01"),
    ] {
        let (status, problem) = stage.post(path, "a", &body).await;
        assert_eq!(status, 400, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
    }
    insta::assert_json_snapshot!("unknown_field", stage.post(path, "a", &json!({"run_tpye": "backfill"})).await);

    let body = json!({"run_type": "backfill", "resources": ["countries"]});
    let (status, run) = stage.post(path, "a", &body).await;
    assert_eq!(status, 202, "{run}");
    let id = run["id"].as_str().unwrap().to_owned();
    let ended = stage.ended(&id).await;
    assert_eq!((ended.status, ended.kind, ended.trigger), (Status::Failed, Kind::Backfill, Trigger::Api));
    assert_eq!(ended.error.unwrap().code, "ingest.source_unreachable");

    let (status, again) = stage.post(path, "a", &body).await;
    assert_eq!((status, again["id"].as_str()), (202, Some(id.as_str())));
    insta::assert_json_snapshot!("key_used_otherwise", stage.post(path, "a", &json!({})).await);
    let (status, over) = stage.post(&format!("/ingest/runs/{id}/cancel"), "b", &json!({})).await;
    assert_eq!((status, over["code"].as_str()), (409, Some("ingest.conflict")));
    stage.service.stop().await;
}

#[tokio::test]
async fn one_run_of_a_pipeline_at_a_time_and_it_can_be_cancelled() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stage = Stage::new().await;
    stage.add("shop", "", &format!("http://{}", silent.local_addr().unwrap())).await;
    let (_, run) = stage.post("/ingest/pipelines/shop/runs", "a", &json!({})).await;
    let id = run["id"].as_str().unwrap().to_owned();
    let (status, busy) = stage.post("/ingest/pipelines/shop/runs", "b", &json!({})).await;
    assert!(status == 409 && busy["detail"].as_str().unwrap().contains(&id), "{busy}");
    assert_eq!(stage.get("/ingest/pipelines/shop").await.1["status"], "running");
    for _ in 0..2 {
        let (status, cancelled) = stage.post(&format!("/ingest/runs/{id}/cancel"), "c", &json!({})).await;
        assert_eq!(status, 202, "{cancelled}");
    }
    assert_eq!(stage.ended(&id).await.status, Status::Stopped);
    let (status, cancelled) = stage.post(&format!("/ingest/runs/{id}/cancel"), "c", &json!({})).await;
    assert_eq!((status, cancelled["status"].as_str()), (202, Some("stopped")));
    stage.service.stop().await;
}

#[tokio::test]
async fn what_a_run_brought_is_shown() {
    use tessera_ingest::demo_api::{DemoApi, Options};
    let stage = Stage::new().await;
    let options = Options { orders: 40, customers: 20, ..Options::default() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let api = DemoApi::new(options, stage.clock.clone());
    tokio::spawn(tessera_ingest::demo_api::serve(listener, api, std::future::pending()));
    stage.add("shop", "", &base_url).await;
    let (_, run) = stage.post("/ingest/pipelines/shop/runs", "a", &json!({})).await;
    let id = run["id"].as_str().unwrap().to_owned();
    let ended = stage.ended(&id).await;
    assert_eq!(ended.status, Status::Succeeded, "{ended:?}");
    insta::assert_json_snapshot!("run_succeeded", steady(stage.get(&format!("/ingest/runs/{id}")).await.1));
    insta::assert_json_snapshot!("files", steady(stage.get("/ingest/pipelines/shop/files").await.1));
    let (_, first) = stage.get("/ingest/pipelines/shop/files?limit=1").await;
    let next = first["next_cursor"].as_str().unwrap();
    let (_, second) = stage.get(&format!("/ingest/pipelines/shop/files?limit=1&cursor={next}")).await;
    assert_ne!(first["items"], second["items"]);
    assert_eq!(second["next_cursor"], Value::Null);
    insta::assert_json_snapshot!("quality", stage.get("/ingest/pipelines/shop/quality").await.1);
    insta::assert_json_snapshot!("schema", stage.get("/ingest/pipelines/shop/schema").await.1);
    let (status, page) = stage.get("/ingest/pipelines/shop/quality.html").await;
    assert!(status == 200 && page.as_str().unwrap().contains("<svg"), "{page}");
    let (_, list) = stage.get("/ingest/pipelines").await;
    assert_eq!(
        (list["items"][0]["status"].as_str(), &list["items"][0]["resources"][0]["rows"]),
        (Some("ok"), &json!(40))
    );
    stage.service.stop().await;
}

#[tokio::test]
async fn ticks_that_passed_are_answered_by_one_run() {
    let stage = Stage::new().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    stage.add("shop", "schedule: \"* * * * *\"\n", &format!("http://{}", silent.local_addr().unwrap())).await;
    let runs = async || stage.get("/ingest/runs?pipeline=shop").await.1["items"].as_array().unwrap().clone();
    scheduler::begin(&stage.service).await.unwrap();
    scheduler::look(&stage.service).await.unwrap();
    assert!(runs().await.is_empty(), "no tick has passed since it was first seen");
    stage.clock.advance(Duration::from_secs(300));
    for _ in 0..3 {
        scheduler::look(&stage.service).await.unwrap();
        stage.clock.advance(Duration::from_secs(120));
    }
    let running = runs().await;
    assert_eq!((running.len(), running[0]["trigger"].as_str()), (1, Some("schedule")));
    let id = running[0]["id"].as_str().unwrap().to_owned();
    stage.service.cancel(&id).await.unwrap();
    stage.ended(&id).await;
    scheduler::look(&stage.service).await.unwrap();
    scheduler::look(&stage.service).await.unwrap();
    assert_eq!(runs().await.len(), 2, "the ticks during the run are one");
    stage.service.stop().await;
}

#[tokio::test]
async fn what_a_killed_process_left_is_stopped_and_its_tick_answered_once() {
    let stage = Stage::new().await;
    stage.add("shop", "schedule: \"* * * * *\"\n", "http://127.0.0.1:1").await;
    scheduler::begin(&stage.service).await.unwrap();
    scheduler::look(&stage.service).await.unwrap();
    let left = tessera_ingest::store::NewRun {
        id: "run_left".into(),
        pipeline: "shop".into(),
        kind: Kind::Incremental,
        trigger: Trigger::Schedule,
        idempotency_key: None,
        request_hash: String::new(),
        at: stage.clock.now(),
    };
    stage.service.store().accept(&left).await.unwrap();
    stage.clock.advance(Duration::from_secs(7200));
    let later = Stage::service(&stage.scratch, &stage.clock, &stage.keys).await;
    scheduler::begin(&later).await.unwrap();
    assert_eq!(later.store().run("run_left").await.unwrap().status, Status::Stopped);
    scheduler::look(&later).await.unwrap();
    let started = later.store().last_run("shop").await.unwrap().unwrap();
    assert_ne!(started.id, "run_left");
    later.stop().await;
    stage.service.stop().await;
    let refused = stage.service.start("shop", Trigger::Api, RunRequest::default(), None).await;
    assert_eq!(refused.unwrap_err().code(), "ingest.conflict");
}

#[test]
fn the_document_is_as_published() {
    let document = serde_json::to_value(http::openapi()).unwrap();
    tessera_testkit::reference::is_published("docs/openapi/ingest.json", &document);
    assert_eq!(document["openapi"], "3.1.0");
}

/// Every operation of the document, with something in the place of its parameters.
fn operations() -> Vec<(String, String, Value)> {
    let document = http::openapi();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let target = path.replace("{name}", "shop").replace("{id}", "run_1");
        for (method, operation) in item.as_object().unwrap() {
            found.push((method.to_uppercase(), target.clone(), operation.clone()));
        }
    }
    found
}

#[tokio::test]
async fn only_operators_may() {
    let stage = Stage::new().await;
    stage.add("shop", "", "http://127.0.0.1:1").await;
    stage.service.store().import(&past_run(1, Status::Succeeded)).await.unwrap();
    let over = stage.token("operator");
    stage.clock.advance(Duration::from_secs(86_401));
    let stranger = Keys::ephemeral(stage.clock.clone()).unwrap();
    let forged = stranger.sign_token("ona", &["admin".to_owned()], Duration::from_secs(60)).unwrap();
    let may = [stage.token("operator"), stage.token("admin"), stage.token("fan operator")];
    let [operator, admin, no_role] = may;
    for (method, target, operation) in operations() {
        let ask = async |token: Option<&str>| {
            // Who may not is told so first, whatever else is wrong: there is neither a key nor a body.
            let request = Request::builder().method(method.as_str()).uri(&target);
            let request = match token {
                Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
                None => request,
            };
            stage.ask_as_it_is(request.body(Body::empty()).unwrap()).await
        };
        for (token, wanted) in [
            (None, (401, "service.not_signed_in")),
            (Some("nonsense"), (401, "service.bad_token")),
            (Some(&*over), (401, "service.bad_token")),
            (Some(&*forged), (401, "service.bad_token")),
            (Some(&*stage.token("fan")), (403, "service.wrong_role")),
            (Some(&*no_role), (403, "service.wrong_role")),
        ] {
            let (status, problem) = ask(token).await;
            assert_eq!((status, problem["code"].as_str().unwrap_or_default()), wanted, "{method} {target}: {problem}");
            assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        }
        for token in [&operator, &admin] {
            let (status, answer) = ask(Some(token)).await;
            // A write lacks its key.
            let wanted = if method == "GET" { 200 } else { 400 };
            assert_eq!(status, wanted, "{method} {target}: {answer}");
        }
        assert_eq!(operation["security"], json!([{ "bearer": [] }]), "{method} {target}");
        for refusal in ["401", "403"] {
            let schema = &operation["responses"][refusal]["content"]["application/problem+json"]["schema"];
            assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{method} {target}");
        }
    }
    let runs = stage.service.store().list(&Filter::default(), None, 10).await.unwrap();
    assert_eq!(runs.len(), 1, "nothing was started: {runs:?}");
    let scheme = &http::openapi()["components"]["securitySchemes"]["bearer"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&json!("http"), &json!("bearer")));
    // What is not there is so for everybody.
    let nowhere = Request::get("/ingest/nowhere").body(Body::empty()).unwrap();
    assert_eq!(stage.ask_as_it_is(nowhere).await.0, 404);
    stage.service.stop().await;
}
