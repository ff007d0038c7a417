//! Merges read and write only the files that can hold a changed row: on the disk, and in S3 only what they compare.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use serde_json::{Value, json};
use tessera_ingest::lake::{DataFile, KeyRange, Span};
use tessera_ingest::spec::Loaded;
use tessera_kernel::SystemClock;
use tessera_testkit::ScratchDir;
use tessera_testkit::s3::{self, Fault, FaultKind, S3};

use crate::support::{Api, incremental, pipeline, present, rows_of, run_well};

const PAGE: usize = 100;

/// An API of rows `{id, at, text}` that can be asked for those since a number.
struct Table {
    api: Api,
    rows: Arc<Mutex<Vec<Value>>>,
}

impl Table {
    fn serve() -> Self {
        let rows: Arc<Mutex<Vec<Value>>> = Arc::default();
        let served = Arc::clone(&rows);
        let page = move |query: Query<std::collections::BTreeMap<String, String>>| async move {
            let number: usize = query.0["page"].parse().unwrap();
            let since: i64 = query.0.get("since").map_or(i64::MIN, |since| since.parse().unwrap());
            let rows = served.lock().unwrap();
            let rows = rows.iter().filter(|row| row["at"].as_i64().unwrap() >= since);
            let page: Vec<&Value> = rows.skip((number - 1) * PAGE).take(PAGE).collect();
            json!({ "data": page }).to_string()
        };
        Self { api: Api::serve(move |_| Router::new().route("/r", get(page))), rows }
    }

    /// The API now has these rows, each with the text that `text` gives it.
    fn set(&self, at: i64, ids: impl Iterator<Item = Value>, text: impl Fn(usize) -> String) {
        let rows = ids.enumerate().map(|(row, id)| json!({ "id": id, "at": at, "text": text(row) }));
        *self.rows.lock().unwrap() = rows.collect();
    }

    fn pipeline(&self, destination: &str, rows: usize, more: &str) -> Loaded {
        pipeline(&format!(
            "version: 1
name: t
source: {{ base_url: \"{}\" }}
resources:
  - {{ name: r, path: /r, records: data, primary_key: [id], paginator: {{ type: page, size_param: n, size: {PAGE} }}, incremental: {{ cursor: at, param: since, format: number }}{more} }}
destination: {{ {destination}, chunk: {{ rows: {rows} }} }}
",
            self.api.base
        ))
    }
}

fn sync(loaded: &Loaded) -> Vec<DataFile> {
    run_well(loaded, incremental(), Arc::new(SystemClock));
    present(loaded).state.resources["r"].files.clone()
}

fn on(s3: &S3) -> String {
    format!(
        "url: \"s3://{}/raw\", s3: {{ endpoint: \"{}\", region: us-east-1, access_key_id: {}, secret_access_key: {} }}",
        s3.bucket, s3.endpoint, s3.access_key, s3.secret_key
    )
}

fn name(file: &DataFile) -> &str {
    file.path.rsplit('/').next().unwrap()
}

/// The rows of a table whose text is that of the given run, by id.
fn ids_with(loaded: &Loaded, text: &str) -> Vec<i64> {
    let rows = rows_of(loaded, "r", &["id", "text"]).into_iter().filter(|row| row[1] == text);
    let mut ids: Vec<i64> = rows.map(|row| row[0].parse().unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn a_file_that_cannot_hold_a_key_is_not_opened() {
    for format in ["parquet", "jsonl", "csv"] {
        let (table, scratch) = (Table::serve(), ScratchDir::new());
        let destination = format!("url: \"{}\", format: {format}", scratch.path().display());
        let loaded = table.pipeline(&destination, PAGE, "");
        table.set(1, (0..400).map(Value::from), |_| "old".into());
        let files = sync(&loaded);
        let spans: Vec<_> = files.iter().map(|file| file.keys.clone()).collect();
        let hundred = |from: i64| vec![KeyRange { column: "id".into(), span: Span::Int(from, from + 99) }];
        assert_eq!(spans, [hundred(0), hundred(100), hundred(200), hundred(300)], "{format}");

        // One row changed in the second file, and some came: the range from the first to the last holds the others too.
        let spoiled: Vec<_> = [0, 2, 3].map(|at| scratch.path().join("t").join(&files[at].path)).into();
        let whole: Vec<_> = spoiled.iter().map(|path| std::fs::read(path).unwrap()).collect();
        spoiled.iter().for_each(|path| std::fs::write(path, "not a file of rows").unwrap());
        table.set(2, [150].into_iter().chain(400..450).map(Value::from), |_| "new".into());
        let after = sync(&loaded);
        spoiled.iter().zip(whole).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());

        let stayed = |at: usize| after.iter().any(|file| file.path == files[at].path);
        assert_eq!([0, 1, 2, 3].map(stayed), [true, false, true, true], "{format}");
        assert_eq!(ids_with(&loaded, "new"), [150].into_iter().chain(400..450).collect::<Vec<i64>>());
        assert_eq!(ids_with(&loaded, "old"), (0..400).filter(|id| *id != 150).collect::<Vec<_>>());

        // A file written anew is found again by its keys.
        table.set(3, [151, 420].into_iter().map(Value::from), |_| "newer".into());
        sync(&loaded);
        assert_eq!(ids_with(&loaded, "newer"), [151, 420], "{format}");
        assert_eq!(rows_of(&loaded, "r", &["id"]).len(), 450, "{format}");
    }
}

#[test]
fn rows_appended_again_are_found_in_the_files_that_hold_their_keys() {
    let (table, scratch) = (Table::serve(), ScratchDir::new());
    let destination = format!("url: \"{}\"", scratch.path().display());
    let loaded = table.pipeline(&destination, PAGE, ", write: append");
    table.set(1, (0..300).map(Value::from), |_| "old".into());
    sync(&loaded);
    // The same cursor again: only what was not there is added.
    table.set(1, (250..320).map(Value::from), |_| "new".into());
    sync(&loaded);
    assert_eq!(ids_with(&loaded, "new"), (300..320).collect::<Vec<_>>());
    assert_eq!(rows_of(&loaded, "r", &["id"]).len(), 320);
}

#[test]
fn keys_of_another_type_are_looked_for_in_every_file() {
    let (table, scratch) = (Table::serve(), ScratchDir::new());
    let loaded = table.pipeline(&format!("url: \"{}\", format: jsonl", scratch.path().display()), PAGE, "");
    table.set(1, (0..200).map(Value::from), |_| "old".into());
    sync(&loaded);
    // Lines are read back by the widened shape: 7 and 7.0 are one key, and so they stay one.
    table.set(2, [json!(7.0), json!(7.5)].into_iter(), |_| "new".into());
    sync(&loaded);
    let keys = rows_of(&loaded, "r", &["id", "text"]);
    assert_eq!(keys.len(), 201);
    assert_eq!(keys.iter().filter(|row| row[1] == "new").count(), 2);
}

#[test]
fn keys_that_come_twice_in_a_run_are_still_counted_and_made_one() {
    let (table, scratch) = (Table::serve(), ScratchDir::new());
    let loaded = table.pipeline(&format!("url: \"{}\"", scratch.path().display()), PAGE, "");
    table.set(1, (0..500).map(|row| Value::from(if row == 499 { 3 } else { row })), |row| row.to_string());
    let report = run_well(&loaded, incremental(), Arc::new(SystemClock));
    assert_eq!(report.reports["r"].duplicates, 1);
    assert_eq!(rows_of(&loaded, "r", &["id"]).len(), 499);
    assert_eq!(ids_with(&loaded, "499"), [3], "of equals the last that came");
}

#[test]
fn in_s3_only_what_is_compared_is_read() {
    let (table, s3) = (Table::serve(), s3::start());
    let loaded = table.pipeline(&on(&s3), 3_000, "");
    // Texts that do not compress: the files are some MB, and their ids a few KB.
    let mut seed = 7_u64;
    let texts: Vec<String> = (0..6_000)
        .map(|_| {
            let mut word = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                format!("{:08x}", seed >> 32)
            };
            (0..128).map(|_| word()).collect()
        })
        .collect();
    table.set(1, (0..6_000).map(|row| Value::from(row * 2)), |row| texts[row].clone());
    s3.reads();
    let files = sync(&loaded);
    assert!(files.len() == 2 && files.iter().all(|file| file.bytes > 1 << 20), "{files:?}");
    let read = |s3: &S3, path: &str| {
        s3.reads().iter().filter(|read| read.path.ends_with(path)).map(|read| read.bytes).sum::<u64>()
    };
    assert_eq!(read(&s3, ".parquet"), 0, "a first run of distinct keys reads nothing back");

    // A key between those of the first file: its ids are looked at, and it stays. The second cannot hold it.
    table.set(2, [json!(101)].into_iter(), |_| "new".into());
    s3.set_fault(Fault::new(FaultKind::DenyAll).on(name(&files[1])));
    let after = sync(&loaded);
    s3.clear_fault();
    assert!(files.iter().all(|file| after.contains(file)));
    let bytes = read(&s3, name(&files[0]));
    assert!(bytes > 0 && bytes * 4 < files[0].bytes, "{bytes} of {} bytes were read", files[0].bytes);

    // A changed row: its file is written anew.
    table.set(3, [json!(200)].into_iter(), |_| "newer".into());
    let after = sync(&loaded);
    assert!(!after.contains(&files[0]) && after.contains(&files[1]));
    assert_eq!(ids_with(&loaded, "newer"), [200]);
    assert_eq!(rows_of(&loaded, "r", &["id"]).len(), 6_001);
}
