//! `tessera up`: starts, tells where, stops cleanly, refuses in one line.

use std::net::TcpListener;
use std::time::Duration;

use axum::body::Bytes;
use serde_json::{Value, json};
use tessera_service::config::Config;
use tessera_tessera::roles::ROLES;
use tessera_tessera::settings::{self, Flags};
use tessera_testkit::ScratchDir;
use tessera_testkit::bin::{Process, tessera_command};

use crate::tessera;

fn up(scratch: &ScratchDir, more: &[&str]) -> Process {
    let data = scratch.file("data");
    let arguments = ["up", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    Process::tessera(tessera(), arguments.iter().chain(more))
}

/// The base URL from the address table.
fn base(process: &Process) -> String {
    let line = process.wait_for("/metrics");
    line.split_whitespace().last().unwrap().trim_end_matches("/metrics").to_owned()
}

async fn get(url: &str) -> (u16, String) {
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Runs to the end and gives the one line on stderr.
fn refusal(mut arguments: Vec<&str>) -> String {
    arguments.insert(0, "up");
    let finished = Process::tessera(tessera(), arguments).wait();
    assert_eq!(finished.code(), Some(2), "{finished:?}");
    assert_eq!((finished.stderr.lines().count(), finished.stdout.as_str()), (1, ""), "{finished:?}");
    finished.stderr
}

#[tokio::test]
async fn it_starts_tells_where_and_stops_on_either_signal() {
    for signal in ["TERM", "INT"] {
        let scratch = ScratchDir::new();
        let process = up(&scratch, &[]);
        let base = base(&process);
        assert_eq!(get(&format!("{base}/healthz")).await, (200, r#"{"status":"ok"}"#.to_owned()));
        assert_eq!(get(&format!("{base}/readyz")).await.0, 200);
        let (status, page) = get(&format!("{base}/")).await;
        assert!(status == 200 && page.contains("<html"), "{page}");
        let components: Value = serde_json::from_str(&get(&format!("{base}/components")).await.1).unwrap();
        let roles: Vec<&str> =
            components["components"].as_array().unwrap().iter().map(|c| c["role"].as_str().unwrap()).collect();
        assert!(ROLES.iter().all(|role| roles.contains(&role.name)), "{components}");
        process.signal(signal);
        let finished = process.wait();
        assert_eq!(finished.code(), Some(0), "{finished:?}");
        assert!(finished.stdout.contains("stop it with Ctrl-C"), "{finished:?}");
        for line in finished.stderr.lines() {
            let entry: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("`{line}` is not JSON: {e}"));
            assert!(entry["level"].is_string(), "{entry}");
        }
        assert!(finished.stderr.contains(r#""message":"stopped","in_time":true"#), "{finished:?}");
    }
}

#[tokio::test]
async fn the_api_of_all_products_has_one_document_and_a_page() {
    let scratch = ScratchDir::new();
    let process = up(&scratch, &[]);
    let base = base(&process);
    let (status, page) = get(&format!("{base}/docs")).await;
    assert!(status == 200 && page.contains("<!doctype html>") && page.contains("/docs/openapi.json"), "{page}");
    let wanted = ["/ingest/runs", "/booking/reserve", "/fare-estimate", "/oauth/token"];
    let mut document = Value::Null;
    // The gateway fetches it when it has begun.
    for _ in 0..600 {
        document = serde_json::from_str(&get(&format!("{base}/docs/openapi.json")).await.1).unwrap();
        if wanted.iter().all(|path| document["paths"][path].is_object()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(wanted.iter().all(|path| document["paths"][path].is_object()), "{document}");
    assert_eq!(document["paths"]["/ingest/runs"]["get"]["security"], json!([{ "bearer": [] }]));
}

#[tokio::test]
async fn requests_are_logged_with_their_id() {
    let scratch = ScratchDir::new();
    let process = up(&scratch, &[]);
    let url = format!("{}/nowhere", base(&process));
    let answer =
        tessera_service::client::build().unwrap().get(url).header("x-request-id", "walk-7").send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let line: Value = serde_json::from_str(&process.wait_for_stderr("walk-7")).unwrap();
    assert_eq!(line["span"]["request.id"], "walk-7");
    assert_eq!(line["span"]["http.status"], 404);
    assert_eq!(line["error.code"], "service.route_not_found");
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let scratch = ScratchDir::new();
    let line = refusal(vec!["--listen", &address, "--data", scratch.file("data").to_str().unwrap()]);
    assert!(line.contains("`http.listen`") && line.contains(&address) && line.contains("--listen"), "{line}");
    assert!(!scratch.file("data").exists(), "nothing was started");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let scratch = ScratchDir::new();
    let below_a_file = scratch.write("file", "").join("data");
    let line = refusal(vec!["--listen", "127.0.0.1:0", "--data", below_a_file.to_str().unwrap()]);
    assert!(line.contains("`store.data_dir`") && line.contains("file/data") && line.contains("--data"), "{line}");
}

#[test]
fn a_broken_config_is_named() {
    let scratch = ScratchDir::new();
    for (text, expected) in [
        ("[http]\nlisten = 8080\n", "setting `http.listen` cannot be 8080"),
        ("[http]\nlisten = \n", "line 2 is not TOML"),
        ("[http]\nlitsen = 'x'\n", "there is no setting `http.litsen`; did you mean `http.listen`?"),
        ("[telemetry]\nlog = 'a=b=c'\n", "setting `telemetry.log` cannot be"),
        ("[telemetry]\nlog = 'infoo,tessera_ingest=debug'\n", "`infoo` is no level; give a level such as `info`"),
    ] {
        let file = scratch.write("tessera.toml", text);
        let line = refusal(vec!["--config", file.to_str().unwrap()]);
        assert!(line.contains(expected) && line.contains("tessera.toml"), "{line}");
    }
    let line = refusal(vec!["--config", "/nowhere/tessera.toml"]);
    assert!(line.contains("/nowhere/tessera.toml"), "{line}");
    let line = refusal(vec!["--listen", "here"]);
    assert!(line.contains("cannot listen on `here`") && line.contains("such as 127.0.0.1:8080"), "{line}");
}

#[test]
fn a_store_that_cannot_be_opened_is_named_without_its_password() {
    let scratch = ScratchDir::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let data = scratch.file("data");
    let folder = scratch.write("file", "").join("ingest.db");
    for (store, wanted) in [
        (
            format!("postgres://me:hunter2@{free}/shop"),
            vec![format!("`postgres://me:***@{free}/shop`"), "refused".into()],
        ),
        (format!("sqlite:{}", folder.display()), vec![format!("`sqlite:{}`", folder.display())]),
        ("mysql://me:hunter2@db/shop".into(), vec!["`mysql://me:***@db/shop`: no such engine".into()]),
    ] {
        let mut command = tessera_command(tessera());
        command.args(["up", "--listen", "127.0.0.1:0", "--data"]).arg(&data).env("TESSERA__INGEST__STORE", &store);
        let finished = Process::spawn(&mut command).wait();
        assert_eq!((finished.code(), finished.stderr.lines().count()), (Some(2), 1), "{finished:?}");
        assert!(finished.stderr.contains("setting `ingest.store` cannot be"), "{finished:?}");
        assert!(wanted.iter().all(|wanted| finished.stderr.contains(wanted)), "{finished:?}");
        assert!(!finished.stderr.contains("hunter2"), "{finished:?}");
    }
}

#[test]
fn an_address_that_is_none_is_refused_by_health() {
    for address in ["xx", "ftp://here", "http://", "127.0.0.1:8080"] {
        let finished = Process::tessera(tessera(), ["health", "--url", address]).wait();
        assert_eq!(finished.code(), Some(2), "{finished:?}");
        assert!(finished.stderr.contains(address) && finished.stderr.contains("http://127.0.0.1:8080"), "{finished:?}");
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = Process::tessera(tessera(), ["health", "--url", &format!("http://{free}/healthz")]).wait();
    assert_eq!(away.code(), Some(1), "{away:?}");
}

#[test]
fn two_processes_do_not_share_a_folder() {
    let scratch = ScratchDir::new();
    let first = up(&scratch, &[]);
    base(&first);
    let data = scratch.file("data");
    let served_by = || std::fs::read_to_string(data.join("gateway/up.yaml")).unwrap();
    let before = served_by();
    let line = refusal(vec!["--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
    assert_eq!(served_by(), before, "the first one follows this file, and would move");
    assert!(line.contains("`ingest.store`") && line.contains("another process") && line.contains("--data"), "{line}");
    first.signal("TERM");
    assert_eq!(first.wait().code(), Some(0));
    let next = up(&scratch, &[]);
    base(&next);
    next.signal("TERM");
    assert_eq!(next.wait().code(), Some(0));
}

#[tokio::test]
async fn two_run_in_one_process() {
    let scratch = ScratchDir::new();
    let config = |n: u8| -> Config {
        let data = Some(scratch.file(&format!("data-{n}")));
        settings::load(
            &Flags { config: None, data, listen: Some("127.0.0.1:0".into()), pipelines: None, gateway: None },
            [],
        )
        .unwrap()
    };
    let first = tessera_tessera::up::start(&config(1), ROLES).await.unwrap();
    let second = tessera_tessera::up::start(&config(2), ROLES).await.unwrap();
    for n in 0..3 {
        get(&format!("http://{}/only-in-first/{n}", first.address())).await;
    }
    let counted = r#"tessera_http_requests_total{method="GET",route="unmatched",status="404"}"#;
    let text = get(&format!("http://{}/metrics", first.address())).await.1;
    assert!(text.contains(&format!("{counted} 3")), "{text}");
    assert!(first.stop().await);
    let (status, text) = get(&format!("http://{}/metrics", second.address())).await;
    assert!(status == 200 && !text.contains(counted), "{text}");
    assert!(second.stop().await);
}

#[test]
fn one_role_runs_alone() {
    let scratch = ScratchDir::new();
    let data = scratch.file("data");
    let process =
        Process::tessera(tessera(), ["serve", "console", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
    process.wait_for("console");
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(0));
    let finished = Process::tessera(tessera(), ["serve", "kitchen"]).wait();
    assert!(finished.code() == Some(2) && finished.stderr.contains("console"), "{finished:?}");
}

#[tokio::test]
async fn traces_leave_before_it_ends() {
    let (posted, mut received) = tokio::sync::mpsc::channel::<Bytes>(16);
    let receive = move |body: Bytes| async move { posted.send(body).await.unwrap() };
    let app = axum::Router::new().route("/v1/traces", axum::routing::post(receive));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let scratch = ScratchDir::new();
    let mut command = tessera_command(tessera());
    command.args(["up", "--listen", "127.0.0.1:0", "--data"]).arg(scratch.file("data"));
    let process = Process::spawn(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint));
    get(&format!("{}/healthz", base(&process))).await;
    process.signal("TERM");
    let body = received.recv().await.unwrap();
    assert!(body.windows(12).any(|window| window == b"GET /healthz"), "the span of the request is in the trace");
    assert_eq!(tokio::task::spawn_blocking(|| process.wait()).await.unwrap().code(), Some(0));
}
