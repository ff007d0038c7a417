//! What the tests stand on: APIs on a thread of their own, pipelines from text, runs in this process and as processes,
//! and the rows of a lake however they are stored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use axum::Router;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tessera_ingest::Error;
use tessera_ingest::app::progress::Progress;
use tessera_ingest::app::run::{RunDeps, RunOptions, RunReport, RunStatus, RunType, run};
use tessera_ingest::demo_api::{DemoApi, Faults, Options};
use tessera_ingest::lake::{Lake, Present, RowReader};
use tessera_ingest::spec::{Environment, Loaded, load};
use tessera_kernel::{Clock, ManualClock, RandomIds, SystemClock, Timestamp};
use tessera_testkit::bin::{self, Finished, Process, tessera_command};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// An API on loopback. It stops when this is dropped.
pub struct Api {
    /// `http://127.0.0.1:<port>`.
    pub base: String,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Api {
    /// Serves these routes; `made` is told the base URL first.
    pub fn serve(made: impl FnOnce(&str) -> Router) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = made(&base);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            Runtime::new().unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    served = async { axum::serve(listener, router).await } => served.unwrap(),
                    () = stopped.cancelled() => {}
                }
            });
        });
        Self { base, stop, thread: Some(thread) }
    }

    /// One handler for every path.
    pub fn answering<H, T>(handler: H) -> Self
    where
        H: axum::handler::Handler<T, ()>,
        T: 'static,
    {
        Self::serve(|_| Router::new().fallback(handler))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The demo shop on loopback, with a clock of the test's.
pub struct Shop {
    pub api: Api,
    pub demo: DemoApi,
    pub clock: Arc<ManualClock>,
}

impl Shop {
    pub fn open(options: Options) -> Self {
        let clock = Arc::new(ManualClock::at(options.opened_at));
        let demo = DemoApi::new(options, Arc::clone(&clock) as Arc<dyn Clock>);
        let api = Api::serve(|_| demo.router());
        Self { api, demo, clock }
    }

    /// A small shop that stands still.
    pub fn small(orders: u64) -> Self {
        Self::open(Options { orders, customers: 40, products: 30, ..Options::default() })
    }

    pub fn base(&self) -> &str {
        &self.api.base
    }

    pub fn faults(&self, text: &str) {
        self.demo.set_faults(Faults::parse(text).unwrap());
    }

    /// `GET /_truth` of one resource: rows and checksum.
    pub fn truth(&self, resource: &str, as_of: Option<Timestamp>) -> (u64, String) {
        let as_of = as_of.map(|at| format!("&as_of={at}")).unwrap_or_default();
        let truth = get(&format!("{}/_truth?resources={resource}{as_of}", self.base()));
        let found = &truth["resources"][resource];
        (found["rows"].as_u64().unwrap(), found["checksum"].as_str().unwrap().to_owned())
    }

    /// Asserts that a table of the lake is what the shop holds, to the row and its last change.
    pub fn assert_copied(&self, loaded: &Loaded, table: &str) {
        self.assert_copied_as_of(loaded, table, table, None);
    }

    pub fn assert_copied_as_of(&self, loaded: &Loaded, table: &str, resource: &str, as_of: Option<Timestamp>) {
        let (rows, checksum) = self.truth(resource, as_of);
        let at = match resource {
            "order_items" | "countries" => None,
            "customers" | "orders" | "products" | "shipments" => Some("updated_at"),
            "stock" => Some("counted_at"),
            "events" => Some("occurred_at"),
            _ => Some("created_at"),
        };
        let key = if resource == "countries" { "code" } else { "id" };
        let columns: Vec<&str> = std::iter::once(key).chain(at).collect();
        let mut found = rows_of(loaded, table, &columns);
        if resource == "stock" {
            // The order of the warehouses is the shop's own.
            let text = fetch(&format!("{}/stock.csv", self.base()));
            let order: Vec<String> =
                csv::Reader::from_reader(text.as_bytes()).records().map(|row| row.unwrap()[0].to_owned()).collect();
            found.sort_by_cached_key(|row| order.iter().position(|id| *id == row[0]));
        } else {
            found.sort_by_cached_key(|row| sort_key(&row[0]));
        }
        let mut digest = Sha256::new();
        found.iter().for_each(|row| digest.update(format!("{}\n", row.join("\t"))));
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found.len() as u64, rows, "rows of {table}");
        assert_eq!(format!("sha256:{digest}"), checksum, "ids and times of {table}");
    }
}

/// Numbers in number order, everything else as text.
fn sort_key(id: &str) -> (Vec<u64>, String) {
    let numbers: Option<Vec<u64>> = id.split('-').map(|part| part.parse().ok()).collect();
    (numbers.unwrap_or_default(), id.to_owned())
}

pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

fn fetch(url: &str) -> String {
    runtime().block_on(async { reqwest::get(url).await.unwrap().text().await.unwrap() })
}

/// A JSON document.
pub fn get(url: &str) -> Value {
    let body = fetch(url);
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{url}: {error}: {body:?}"))
}

/// A pipeline from text.
pub fn pipeline(text: &str) -> Loaded {
    load(text, "test.yaml", &Environment::default()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A pipeline of one resource without pages, `r` at `/r`; `more` are further keys of the resource.
pub fn one(base: &str, lake: &Path, source: &str, more: &str) -> String {
    format!(
        "version: 1\nname: t\nsource: {{ base_url: \"{base}\", attempts: 2{source} }}\nresources:\n  - {{ name: r, path: /r, primary_key: [id]{more} }}\ndestination: {{ url: \"{}\" }}\n",
        lake.display()
    )
}

pub fn deps(clock: Arc<dyn Clock>) -> RunDeps {
    RunDeps {
        clock,
        ids: Arc::new(RandomIds),
        stop: CancellationToken::new(),
        progress: Arc::new(Progress::default()),
        http: tessera_service::client::builder().build().unwrap(),
    }
}

/// Runs in this process.
pub fn try_run(loaded: &Loaded, options: RunOptions, clock: Arc<dyn Clock>) -> Result<RunReport, Error> {
    runtime().block_on(run(loaded, options, &deps(clock)))
}

/// Runs in this process, to whatever end.
pub fn run_to_end(loaded: &Loaded, options: RunOptions) -> RunReport {
    try_run(loaded, options, Arc::new(SystemClock)).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs in this process, and it succeeds.
pub fn run_well(loaded: &Loaded, options: RunOptions, clock: Arc<dyn Clock>) -> RunReport {
    let report = try_run(loaded, options, clock).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.status, RunStatus::Succeeded, "{:?}", report.error);
    report
}

/// Runs in this process, and it fails with this message.
pub fn failure(loaded: &Loaded) -> String {
    let report = run_to_end(loaded, backfill());
    assert_eq!(report.status, RunStatus::Failed);
    report.error.unwrap().to_string()
}

pub fn backfill() -> RunOptions {
    RunOptions { run_type: Some(RunType::Backfill), ..RunOptions::default() }
}

pub fn incremental() -> RunOptions {
    RunOptions { run_type: Some(RunType::Incremental), ..RunOptions::default() }
}

/// The present of the lake.
pub fn present(loaded: &Loaded) -> Present {
    runtime().block_on(Lake::open(&loaded.pipeline).unwrap().present()).unwrap()
}

/// All rows of a table as the last commit names its files, the given columns as text (empty where null). The files are
/// checked against the commit: size, checksum, rows; and in a local lake nothing else may be there.
pub fn rows_of(loaded: &Loaded, table: &str, columns: &[&str]) -> Vec<Vec<String>> {
    let lake = Lake::open(&loaded.pipeline).unwrap();
    let present = present(loaded);
    let Some(state) = present.state.resources.get(table) else { return vec![] };
    let scratch = tempfile::tempdir().unwrap();
    let mut rows = Vec::new();
    for (number, file) in state.files.iter().enumerate() {
        let local = scratch.path().join(number.to_string());
        runtime().block_on(lake.objects().download(&file.path, &local)).unwrap();
        let bytes = std::fs::read(&local).unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((bytes.len() as u64, &digest), (file.bytes, &file.sha256), "{}", file.path);
        let before = rows.len();
        let shape = state.schema.stored(&[]);
        for batch in RowReader::open(&local, loaded.pipeline.destination.format, &shape, None).unwrap() {
            let batch = batch.unwrap();
            let found: Vec<Option<&ArrayRef>> = columns.iter().map(|name| batch.column_by_name(name)).collect();
            for row in 0..batch.num_rows() {
                rows.push(
                    found.iter().map(|column| column.map_or(String::new(), |column| cell(column, row))).collect(),
                );
            }
        }
        assert_eq!((rows.len() - before) as u64, file.rows, "{}", file.path);
    }
    assert_eq!(rows.len() as u64, state.rows, "rows of {table}");
    if let Some(folder) = lake.objects().local_path(table) {
        let mut named: Vec<PathBuf> =
            state.files.iter().map(|file| lake.objects().local_path(&file.path).unwrap()).collect();
        named.sort();
        assert_eq!(files_below(&folder), named, "files that lie in {}", folder.display());
    }
    rows
}

fn cell(column: &ArrayRef, row: usize) -> String {
    match column.data_type() {
        _ if column.is_null(row) => String::new(),
        DataType::Timestamp(..) => {
            Timestamp::from_micros(column.as_primitive::<TimestampMicrosecondType>().value(row)).to_string()
        }
        _ => arrow_cast::display::array_value_to_string(column, row).unwrap(),
    }
}

/// All files below a folder, sorted.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// What a folder holds, to compare it later.
pub fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_below(folder).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// The binary.
pub fn tessera() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(bin::tessera)
}

/// `tessera ingest run FILE …` as a process.
pub fn start(file: &Path, more: &[&str], environment: &[(&str, &str)]) -> Process {
    let mut command = tessera_command(tessera());
    command.args(["ingest", "run"]).arg(file).args(more).envs(environment.iter().copied());
    Process::spawn(&mut command)
}

/// `tessera ingest run FILE …` to its end.
pub fn finish(file: &Path, more: &[&str], environment: &[(&str, &str)]) -> Finished {
    start(file, more, environment).wait()
}
