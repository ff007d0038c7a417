//! `up --demo`: what a newcomer sees within a minute. And the small commands beside it.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tessera_kernel::SystemClock;
use tessera_service::Keys;
use tessera_testkit::ScratchDir;
use tessera_testkit::bin::{Process, tessera_command};

use crate::tessera;

/// A newcomer's patience, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(180);

fn up_demo(scratch: &ScratchDir, demo_listen: &str) -> Process {
    let mut command = tessera_command(tessera());
    command.args(["up", "--demo", "--listen", "127.0.0.1:0", "--data"]).arg(scratch.file("data"));
    Process::spawn(command.env("TESSERA__DEMO__ADDRESS", demo_listen))
}

async fn get(url: &str) -> Value {
    serde_json::from_str(&reqwest::get(url).await.unwrap().text().await.unwrap()).unwrap()
}

/// Somebody with this role at the server whose data is in this folder.
struct Person {
    client: reqwest::Client,
    token: String,
}

impl Person {
    fn of(data: &Path, role: &str) -> Self {
        let keys = Keys::open(data, Arc::new(SystemClock)).unwrap();
        let token = keys.sign_token("ona", &[role.to_owned()], 10 * DEADLINE).unwrap();
        Self { client: tessera_service::client::build().unwrap(), token }
    }

    async fn ask(&self, url: &str) -> (u16, Value) {
        let answer = self.client.get(url).bearer_auth(&self.token).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }

    async fn get(&self, url: &str) -> Value {
        let (status, answer) = self.ask(url).await;
        assert_eq!(status, 200, "{url}: {answer}");
        answer
    }
}

async fn succeeded_run(operator: &Person, base: &str) -> Value {
    let began = Instant::now();
    loop {
        let runs = operator.get(&format!("{base}/ingest/runs?pipeline=shop")).await;
        let all = runs["items"].as_array().unwrap();
        assert!(all.iter().all(|run| run["status"] != "failed"), "{runs}");
        if let Some(run) = all.iter().find(|run| run["status"] == "succeeded") {
            return run.clone();
        }
        assert!(began.elapsed() < DEADLINE, "no run has succeeded: {runs}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn the_demo_shows_runs_files_and_quality_and_comes_back() {
    let scratch = ScratchDir::new();
    let mut opened = Vec::new();
    for start in 1..=2 {
        let process = up_demo(&scratch, "127.0.0.1:0");
        let line = process.wait_for("watch the demo pipeline");
        let base = line.split_whitespace().last().unwrap().split("/console").next().unwrap().to_owned();
        let operator = Person::of(&scratch.file("data"), "operator");
        let run = succeeded_run(&operator, &base).await;
        assert!(run["rows"].as_u64().unwrap() > 3000 && run["files"].as_u64().unwrap() > 0, "{run}");
        let files = operator.get(&format!("{base}/ingest/pipelines/shop/files")).await;
        assert!(!files["items"].as_array().unwrap().is_empty(), "{files}");
        let quality = operator.get(&format!("{base}/ingest/pipelines/shop/quality")).await;
        let resources = quality["resources"].as_array().unwrap();
        let orders = resources.iter().find(|resource| resource["name"] == "orders").unwrap();
        let checks = orders["history"][0]["checks"].as_array().unwrap();
        assert!(!checks.is_empty() && checks.iter().all(|check| check["status"] == "passed"), "{orders}");
        let run_id = orders["history"][0]["run_id"].as_str().unwrap();
        assert_eq!(
            operator.get(&format!("{base}/ingest/runs/{run_id}")).await["pipeline"],
            "shop",
            "a run of the lake is found"
        );
        assert_eq!(
            get(&format!("{base}/ingest/runs")).await["code"],
            "service.not_signed_in",
            "through the gateway, too"
        );
        let page = reqwest::get(format!("{base}/")).await.unwrap();
        assert!(page.status().is_success() && page.text().await.unwrap().contains("<html"));
        let metrics = reqwest::get(format!("{base}/metrics")).await.unwrap().text().await.unwrap();
        assert!(
            metrics.contains(r#"tessera_ingest_rows_total{pipeline="shop",resource="orders"}"#) || start == 2,
            "{metrics}"
        );
        let health = Process::tessera(tessera(), ["health", "--url", &format!("{base}/readyz")]).wait();
        assert_eq!(health.code(), Some(0), "{health:?}");
        process.signal("TERM");
        let finished = tokio::task::spawn_blocking(|| process.wait()).await.unwrap();
        assert_eq!(finished.code(), Some(0), "{finished:?}");
        let memory: Value = serde_json::from_slice(&std::fs::read(scratch.file("data/demo.json")).unwrap()).unwrap();
        opened.push(memory["opened_at"].clone());
    }
    assert_eq!(opened[0], opened[1], "it is the same shop");
}

#[test]
fn a_taken_demo_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let scratch = ScratchDir::new();
    let finished = up_demo(&scratch, &address).wait();
    assert_eq!((finished.code(), finished.stderr.lines().count()), (Some(2), 1), "{finished:?}");
    assert!(finished.stderr.contains("`demo.address`") && finished.stderr.contains(&address), "{finished:?}");
    assert!(!scratch.file("data").exists(), "nothing was started");
}

/// Whatever serves from a folder goes by what is in it.
#[test]
fn a_demo_that_is_refused_leaves_the_folder_as_it_is() {
    let scratch = ScratchDir::new();
    let first = up_demo(&scratch, "127.0.0.1:0");
    first.wait_for("watch the demo pipeline");
    let file = |name: &str| std::fs::read_to_string(scratch.file("data").join(name)).unwrap();
    // The second one would have the pipeline read its own shop.
    let before = file("pipelines/shop.yaml");
    let second = up_demo(&scratch, "127.0.0.1:0").wait();
    assert_eq!((second.code(), second.stderr.lines().count()), (Some(2), 1), "{second:?}");
    assert!(second.stderr.contains("`ingest.store`") && second.stderr.contains("another process"), "{second:?}");
    assert_eq!(file("pipelines/shop.yaml"), before);
    assert!(file("demo.json").contains(&serde_json::to_string(&before).unwrap()), "the first one's");
    first.signal("TERM");
    assert_eq!(first.wait().code(), Some(0));

    // One without a demo gets none.
    let scratch = ScratchDir::new();
    let mut command = tessera_command(tessera());
    command.args(["serve", "ingest", "--listen", "127.0.0.1:0", "--data"]).arg(scratch.file("data"));
    let plain = Process::spawn(&mut command);
    plain.wait_for("/metrics");
    let refused = up_demo(&scratch, "127.0.0.1:0").wait();
    assert_eq!(refused.code(), Some(2), "{refused:?}");
    for name in ["pipelines/shop.yaml", "demo.json", "city.roads"] {
        assert!(!scratch.file("data").join(name).exists(), "{name}");
    }
    plain.signal("TERM");
    assert_eq!(plain.wait().code(), Some(0));
}

#[tokio::test]
async fn ingest_serves_alone_and_says_what_is_wrong() {
    let scratch = ScratchDir::new();
    let (data, pipelines) = (scratch.file("data"), scratch.file("pipelines"));
    scratch.write("pipelines/broken.yaml", "version: 1\n");
    for verb in [vec!["serve", "ingest"], vec!["ingest", "serve"]] {
        let mut command = tessera_command(tessera());
        command.args(verb).args(["--listen", "127.0.0.1:0", "--data"]).arg(&data).arg("--pipelines").arg(&pipelines);
        let process = Process::spawn(&mut command);
        let line = process.wait_for("/metrics");
        let base = line.split_whitespace().last().unwrap().trim_end_matches("/metrics").to_owned();
        // The key is that of the data folder, as `tessera token` has it.
        let operator = Person::of(&data, "operator");
        let list = operator.get(&format!("{base}/ingest/pipelines")).await;
        assert_eq!(
            (list["items"][0]["name"].as_str(), list["items"][0]["status"].as_str()),
            (Some("broken"), Some("failed"))
        );
        let list = format!("{base}/ingest/pipelines");
        assert_eq!(get(&list).await["code"], "service.not_signed_in");
        let (status, refused) = Person::of(&data, "fan").ask(&list).await;
        assert_eq!((status, refused["code"].as_str()), (403, Some("service.wrong_role")), "{refused}");
        // Who watches the process needs no token.
        for open in ["healthz", "readyz", "components"] {
            assert!(reqwest::get(format!("{base}/{open}")).await.unwrap().status().is_success(), "{open}");
        }
        let document = get(&format!("{base}/openapi.json")).await;
        assert_eq!(document["paths"]["/ingest/runs"]["get"]["security"], json!([{ "bearer": [] }]));
        assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
        process.signal("TERM");
        let finished = tokio::task::spawn_blocking(|| process.wait()).await.unwrap();
        assert_eq!(finished.code(), Some(0), "{finished:?}");
    }
    let nowhere = scratch.file("nowhere");
    let arguments = ["serve", "ingest", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap(), "--pipelines"];
    let finished = Process::tessera(tessera(), arguments.iter().chain(&[nowhere.to_str().unwrap()])).wait();
    assert_eq!((finished.code(), finished.stderr.lines().count()), (Some(2), 1), "{finished:?}");
    assert!(finished.stderr.contains("`ingest.pipelines`") && finished.stderr.contains("nowhere"), "{finished:?}");
}

#[test]
fn health_of_nobody_is_bad() {
    let port = tessera_testkit::free_port();
    let finished = Process::tessera(tessera(), ["health", "--url", &format!("http://127.0.0.1:{port}/healthz")]).wait();
    assert_eq!((finished.code(), finished.stderr.lines().count()), (Some(1), 1), "{finished:?}");
}
