//! The service as it is operated: alerts of the watch and of runs, several processes on one history, a killed process.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use serde_json::{Value, json};
use tessera_ingest::app::service::{Parts, Request, Service};
use tessera_ingest::config::MaxConcurrentRuns;
use tessera_ingest::jobs::{scheduler, sla};
use tessera_ingest::metrics::Metrics;
use tessera_ingest::spec::Environment;
use tessera_ingest::store::{Filter, Kind, Run, Status, Store, Trigger};
use tessera_kernel::{Clock, ManualClock, RandomIds, SystemClock};
use tessera_service::Keys;
use tessera_testkit::bin::{Process, tessera_command};
use tessera_testkit::{ScratchDir, postgres};

use crate::kills::{assert_all_there, shop_yaml, wait_for_file};
use crate::support::{Api, Shop, files_below, finish, runtime, tessera};

const NOBODY: &str = "http://127.0.0.1:1";

/// A webhook that takes everything.
struct Receiver {
    api: Api,
    got: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    fn start() -> Self {
        let got: Arc<Mutex<Vec<Value>>> = Arc::default();
        let taken = Arc::clone(&got);
        let take = async move |body: String| taken.lock().unwrap().push(serde_json::from_str(&body).unwrap());
        Self { api: Api::serve(|_| Router::new().route("/hook", post(take))), got }
    }

    fn alerts(&self) -> String {
        format!("alerts: {{ webhook: {{ url: \"{}/hook\" }} }}\n", self.api.base)
    }

    /// What came since it was last asked, as kind and event.
    fn heard(&self) -> Vec<String> {
        let got = self.messages();
        let word = |message: &Value, name: &str| message[name].as_str().unwrap().to_owned();
        got.iter().map(|message| format!("{} {}", word(message, "kind"), word(message, "event"))).collect()
    }

    fn messages(&self) -> Vec<Value> {
        std::mem::take(&mut *self.got.lock().unwrap())
    }
}

/// Services on one folder of pipelines, with a clock of the test's.
struct Stage {
    scratch: ScratchDir,
    clock: Arc<ManualClock>,
    store: String,
}

impl Stage {
    fn new() -> Self {
        let scratch = ScratchDir::new();
        std::fs::create_dir_all(scratch.file("pipelines")).unwrap();
        let store = format!("sqlite:{}", scratch.file("ingest.db").display());
        Self { scratch, clock: Arc::new(ManualClock::at("2026-03-01T12:00:30Z".parse().unwrap())), store }
    }

    fn on(store: String) -> Self {
        Self { store, ..Self::new() }
    }

    fn add(&self, name: &str, base_url: &str, more: &str) {
        let text = format!(
            "version: 1\nname: {name}\n{more}source: {{ base_url: \"{base_url}\", attempts: 1 }}\n\
             resources: [ {{ name: orders, path: /orders, primary_key: [id] }} ]\ndestination: {{ url: \"{}\" }}\n",
            self.scratch.file("lake").display()
        );
        self.scratch.write(&format!("pipelines/{name}.yaml"), text);
    }

    /// One process.
    async fn service(&self, runs_at_once: usize) -> Service {
        let service = Service::new(Parts {
            pipelines: self.scratch.file("pipelines"),
            environment: Environment::default(),
            max_concurrent_runs: MaxConcurrentRuns::try_from(runs_at_once).unwrap(),
            public_url: Some("https://tessera.example.com/".into()),
            store: Store::open(&self.store).await.unwrap(),
            clock: self.clock.clone(),
            ids: Arc::new(RandomIds),
            keys: Keys::ephemeral(self.clock.clone()).unwrap(),
            metrics: Metrics::new(&tessera_service::Metrics::new(self.clock.clone())),
            http: tessera_service::client::build().unwrap(),
        });
        scheduler::begin(&service).await.unwrap();
        service
    }
}

/// Asks until it is so.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to it: {what}");
}

async fn ended(service: &Service, id: &str) -> Run {
    until("the run is over", async || {
        let run = service.store().run(id).await.unwrap();
        (run.status.is_over() && !service.is_live(id)).then_some(run)
    })
    .await
}

async fn run(service: &Service, pipeline: &str) -> Run {
    let started = service.start(pipeline, Trigger::Api, Request::default(), None).await.unwrap();
    ended(service, &started.id).await
}

fn success(stage: &Stage, id: &str) -> Run {
    let now = stage.clock.now();
    Run {
        id: id.into(),
        pipeline: "shop".into(),
        kind: Kind::Incremental,
        trigger: Trigger::Cli,
        status: Status::Succeeded,
        lake_run: None,
        created_at: now,
        started_at: now,
        updated_at: now,
        finished_at: Some(now),
        error: None,
        resources: vec![],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_data_is_told_once_by_however_many_watches_and_so_is_its_end() {
    let (stage, receiver) = (Stage::new(), Receiver::start());
    stage.add("shop", NOBODY, &format!("owner: data@example.com\nsla: {{ fresh_within: 30m }}\n{}", receiver.alerts()));
    let (one, two) = (stage.service(1).await, stage.service(1).await);
    sla::look(&one).await;
    stage.clock.advance(Duration::from_secs(29 * 60));
    sla::look(&one).await;
    assert_eq!(receiver.heard(), [""; 0], "it is not late yet");

    stage.clock.advance(Duration::from_secs(2 * 60));
    for _ in 0..3 {
        tokio::join!(sla::look(&one), sla::look(&two));
        stage.clock.advance(Duration::from_secs(60));
    }
    let messages = receiver.messages();
    assert_eq!(messages.len(), 1, "{messages:?}");
    let alert = &messages[0];
    assert_eq!((alert["event"].as_str(), alert["owner"].as_str()), (Some("sla_missed"), Some("data@example.com")));
    assert_eq!(alert["link"], "https://tessera.example.com/console/ingest/pipelines/shop");
    assert!(alert["cause"].as_str().unwrap().contains("promised within 30m"), "{alert}");

    let again = stage.service(1).await;
    sla::look(&again).await;
    assert_eq!(receiver.heard(), [""; 0], "a process that came later knows that it was told");
    again.store().import(&success(&stage, "run_1")).await.unwrap();
    for _ in 0..2 {
        tokio::join!(sla::look(&one), sla::look(&two), sla::look(&again));
    }
    assert_eq!(receiver.heard(), ["resolved sla_missed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_of_a_run_links_to_the_page_of_the_run() {
    let (stage, receiver) = (Stage::new(), Receiver::start());
    stage.add("shop", NOBODY, &receiver.alerts());
    let service = stage.service(1).await;
    let failed = run(&service, "shop").await;
    assert_eq!(failed.status, Status::Failed);
    run(&service, "shop").await;
    let messages = receiver.messages();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0]["event"], "run_failed");
    let link = format!("https://tessera.example.com/console/ingest/runs/{}", failed.id);
    assert_eq!(messages[0]["link"], link);
    service.stop().await;
}

#[test]
fn an_alert_of_a_run_of_the_command_line_links_to_the_page_of_the_pipeline() {
    let (stage, receiver) = (Stage::new(), Receiver::start());
    stage.add("shop", NOBODY, &receiver.alerts());
    let file = stage.scratch.file("pipelines/shop.yaml");
    let ended = finish(&file, &[], &[("TESSERA__INGEST__PUBLIC_URL", "https://t.example.com")]);
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    let messages = receiver.messages();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0]["link"], "https://t.example.com/console/ingest/pipelines/shop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_cannot_begin_is_told_once() {
    let (stage, receiver) = (Stage::new(), Receiver::start());
    stage.add("shop", NOBODY, &receiver.alerts());
    stage.scratch.write("lake/shop/_tessera/last.json", "{");
    let service = stage.service(1).await;
    for _ in 0..2 {
        let failed = run(&service, "shop").await;
        assert_eq!(failed.error.unwrap().code, "ingest.lake_refused");
    }
    let messages = receiver.messages();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0]["cause"].as_str().unwrap().contains("last.json is broken"), "{messages:?}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_history_start_one_run_a_tick() {
    const TICKS: usize = 20;
    let server = postgres::start();
    let stage = Stage::on(server.new_database());
    stage.add("shop", NOBODY, "schedule: \"* * * * *\"\n");
    let (one, two) = (stage.service(2).await, stage.service(2).await);
    scheduler::look(&one).await.unwrap();
    for _ in 0..TICKS {
        stage.clock.advance(Duration::from_secs(60));
        let looks =
            tokio::join!(scheduler::look(&one), scheduler::look(&two), scheduler::look(&one), scheduler::look(&two),);
        assert!([looks.0, looks.1, looks.2, looks.3].iter().all(Result::is_ok));
        let last = one.store().last_run("shop").await.unwrap().unwrap();
        until("the run is over", async || {
            let over = one.store().run(&last.id).await.unwrap().status.is_over();
            (over && !one.is_live(&last.id) && !two.is_live(&last.id)).then_some(())
        })
        .await;
        // A look after the run is over, and before the next tick.
        let (a, b) = tokio::join!(scheduler::look(&one), scheduler::look(&two));
        assert!(a.is_ok() && b.is_ok());
    }
    let runs = one.store().list(&Filter::default(), None, 2 * TICKS).await.unwrap();
    let mut moments: Vec<_> = runs.iter().map(|run| run.created_at).collect();
    moments.dedup();
    assert_eq!((runs.len(), moments.len()), (TICKS, TICKS));
    assert!(runs.iter().all(|run| run.trigger == Trigger::Schedule && run.status == Status::Failed), "{runs:?}");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waits_for_a_place_is_not_taken_for_dead() {
    let server = postgres::start();
    let stage = Stage::on(server.new_database());
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    ["shop", "cafe"].iter().for_each(|name| stage.add(name, &address, ""));
    let (one, other) = (stage.service(1).await, stage.service(1).await);
    let at_work = one.start("shop", Trigger::Api, Request::default(), None).await.unwrap();
    until("it is at work", async || {
        (one.store().run(&at_work.id).await.unwrap().status == Status::Running).then_some(())
    })
    .await;
    let waiting = one.start("cafe", Trigger::Api, Request::default(), None).await.unwrap();
    stage.clock.advance(Duration::from_secs(59));
    for run in [&at_work, &waiting] {
        until("its process says that it lives", async || {
            (one.store().run(&run.id).await.unwrap().updated_at == stage.clock.now()).then_some(())
        })
        .await;
    }
    stage.clock.advance(Duration::from_secs(59));
    scheduler::look(&other).await.unwrap();
    assert_eq!(one.store().run(&waiting.id).await.unwrap().status, Status::Queued);
    assert_eq!(one.store().run(&at_work.id).await.unwrap().status, Status::Running);

    // One that another process took for dead all the same does not begin later.
    stage.clock.advance(Duration::from_secs(600));
    assert_eq!(other.store().sweep(stage.clock.now(), stage.clock.now()).await.unwrap(), 2);
    one.cancel(&at_work.id).await.ok();
    let swept = ended(&one, &waiting.id).await;
    assert_eq!((swept.status, swept.started_at), (Status::Stopped, waiting.started_at));
    one.stop().await;
    other.stop().await;
}

fn serve(scratch: &ScratchDir) -> (Process, String) {
    let mut command = tessera_command(tessera());
    command.args(["ingest", "serve", "--listen", "127.0.0.1:0", "--data"]).arg(scratch.file("data"));
    let process = Process::spawn(command.arg("--pipelines").arg(scratch.file("pipelines")));
    let line = process.wait_for("/metrics");
    let base = line.split_whitespace().last().unwrap().trim_end_matches("/metrics").to_owned();
    (process, base)
}

/// An operator of the service whose data is in this folder.
struct Operator {
    client: reqwest::Client,
    token: String,
}

impl Operator {
    fn of(data: &Path) -> Self {
        let keys = Keys::open(data, Arc::new(SystemClock)).unwrap();
        let token = keys.sign_token("ona", &["operator".to_owned()], Duration::from_secs(3_600)).unwrap();
        Self { client: tessera_service::client::build().unwrap(), token }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Value {
        let text = request.bearer_auth(&self.token).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
    }

    async fn get(&self, url: &str) -> Value {
        self.send(self.client.get(url)).await
    }

    async fn start_backfill(&self, base: &str, key: &str) -> Value {
        let request = self
            .client
            .post(format!("{base}/ingest/pipelines/shop/runs"))
            .header("idempotency-key", key)
            .header("content-type", "application/json")
            .body(json!({ "run_type": "backfill" }).to_string());
        self.send(request).await
    }
}

#[test]
fn a_killed_service_comes_back_and_the_next_run_goes_on() {
    let shop = Shop::small(600);
    let scratch = ScratchDir::new();
    let lake = scratch.file("lake");
    let yaml = shop_yaml(shop.base(), lake.to_str().unwrap());
    scratch.write("pipelines/shop.yaml", &yaml);
    let progress = lake.join("shop/_tessera/progress");
    let operator = Operator::of(&scratch.file("data"));
    let get = |url: String| runtime().block_on(operator.get(&url));
    let start_backfill = |base: &str, key: &str| runtime().block_on(operator.start_backfill(base, key));
    for kill in 0..3 {
        shop.faults("slow_every=1,slow_ms=20");
        let before = files_below(&progress);
        let (process, base) = serve(&scratch);
        let key = format!("kill-{kill}");
        let begun = start_backfill(&base, &key);
        let id = begun["id"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned();
        wait_for_file(&progress, |path| !before.contains(&path.to_owned()) && !path.ends_with("000000000001.json"));
        process.signal("KILL");
        assert_eq!(process.wait().code(), None);

        let (process, base) = serve(&scratch);
        let left = get(format!("{base}/ingest/runs/{id}"));
        assert_eq!(
            (left["status"].as_str(), left["error"]["code"].as_str()),
            (Some("stopped"), Some("ingest.stopped"))
        );
        assert_eq!(start_backfill(&base, &key)["status"], "stopped", "the key stands for the run that was killed");
        process.signal("TERM");
        assert_eq!(process.wait().code(), Some(0));
    }
    shop.faults("none");
    let (process, base) = serve(&scratch);
    let next = start_backfill(&base, "next")["id"].as_str().unwrap().to_owned();
    let over = runtime().block_on(until("the run is over", async || {
        let run = operator.get(&format!("{base}/ingest/runs/{next}")).await;
        (!["queued", "running"].contains(&run["status"].as_str().unwrap())).then_some(run)
    }));
    assert_eq!(over["status"], "succeeded", "{over}");
    assert_all_there(&shop, &yaml);
    for folder in ["staging", "progress"] {
        let left = files_below(&lake.join("shop/_tessera").join(folder));
        assert!(left.is_empty(), "{left:?}");
    }
    let all = get(format!("{base}/ingest/runs?pipeline=shop"));
    let states: Vec<_> = all["items"].as_array().unwrap().iter().map(|run| run["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["succeeded", "stopped", "stopped", "stopped"], "{all}");
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(0));
}
