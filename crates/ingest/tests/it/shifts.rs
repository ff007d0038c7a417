//! Lists that move below the reader: a row that leaves an earlier page pulls another one over the border of two pages.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;
use tessera_ingest::app::run::{RunReport, RunStatus, run};
use tessera_ingest::quality::CheckStatus;
use tessera_ingest::spec::Loaded;
use tessera_kernel::SystemClock;
use tessera_testkit::ScratchDir;

use crate::support::{Api, backfill, deps, pipeline, rows_of, run_to_end, run_well, runtime};

/// A list of 50 rows in pages of 10, by number, offset, or a link or token that holds an offset.
struct Moving {
    rows: Arc<Mutex<Vec<u64>>>,
    firsts: Arc<AtomicU64>,
    failing: Arc<AtomicBool>,
    api: Api,
}

impl Moving {
    /// `then` changes the rows after each page; it is told the number of pages given before.
    fn new(then: impl Fn(u64, &mut Vec<u64>) + Send + Sync + 'static) -> Self {
        let (rows, firsts, failing) = (
            Arc::new(Mutex::new((0..50).collect::<Vec<u64>>())),
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (list, begun, fails, then, given) =
            (Arc::clone(&rows), Arc::clone(&firsts), Arc::clone(&failing), Arc::new(then), Arc::new(AtomicU64::new(0)));
        let page = move |query: Query<BTreeMap<String, String>>| {
            let (list, begun, fails, then, given) =
                (Arc::clone(&list), Arc::clone(&begun), Arc::clone(&fails), Arc::clone(&then), Arc::clone(&given));
            async move {
                let number = |name: &str| query.0.get(name).map(|text| text.parse::<usize>().unwrap());
                let skip = number("offset").unwrap_or_else(|| (number("page").unwrap_or(1) - 1) * 10);
                if skip == 0 {
                    begun.fetch_add(1, Ordering::SeqCst);
                } else if fails.load(Ordering::SeqCst) {
                    return (StatusCode::SERVICE_UNAVAILABLE, String::new());
                }
                let mut rows = list.lock().unwrap();
                let page = rows.iter().skip(skip).take(10);
                let page: Vec<_> = page.map(|id| json!({ "id": id, "l": [{ "x": id }] })).collect();
                let next = (skip + 10 < rows.len()).then(|| format!("/r?offset={}", skip + 10));
                let next_offset = next.as_ref().map(|_| skip + 10);
                let body =
                    json!({ "data": page, "total": rows.len(), "next": next, "next_offset": next_offset }).to_string();
                then(given.fetch_add(1, Ordering::SeqCst), &mut rows);
                (StatusCode::OK, body)
            }
        };
        let api = Api::serve(move |_| Router::new().route("/r", get(page)));
        Self { rows, firsts, failing, api }
    }

    fn pipeline(&self, scratch: &ScratchDir, resource: &str) -> Loaded {
        pipeline(&format!(
            "version: 1\nname: t\nsource: {{ base_url: \"{}\", attempts: 1, concurrency: 2 }}\nquality: {{ r: {{ unique: [id], on_fail: fail }} }}\nresources:\n  - {{ name: r, path: /r, records: data, total: total, {resource} }}\ndestination: {{ url: \"{}\" }}\n",
            self.api.base,
            scratch.path().display()
        ))
    }

    /// Every row that the list has now is in the table.
    fn assert_all_there(&self, loaded: &Loaded, table: &str, column: &str) {
        let found: Vec<u64> = rows_of(loaded, table, &[column]).iter().map(|row| row[0].parse().unwrap()).collect();
        let missing: Vec<u64> = self.rows.lock().unwrap().iter().copied().filter(|id| !found.contains(id)).collect();
        assert!(missing.is_empty(), "{table}: lost {missing:?}");
        let mut once = found.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), found.len(), "{table}: rows that are there twice");
    }
}

const BY_PAGE: &str = "primary_key: [id], paginator: { type: page, size_param: n, size: 10 }";
const BY_OFFSET: &str = "primary_key: [id], paginator: { type: offset, limit: 10 }";

fn reconciled(report: &RunReport) -> (CheckStatus, String) {
    let check = report.reports["r"].checks.iter().find(|check| check.rule == "reconcile").unwrap();
    (check.status, check.detail.clone())
}

#[test]
fn a_row_that_left_takes_no_other_with_it() {
    let by_link = "primary_key: [id], paginator: { type: next_url, next: next }";
    let by_token = "primary_key: [id], paginator: { type: cursor, param: offset, next: next_offset }";
    for list in [BY_PAGE, BY_OFFSET, by_link, by_token, &format!("{BY_PAGE}, lists: child_table")] {
        let moving = Moving::new(|given, rows| {
            if given == 0 {
                rows.remove(3);
            }
        });
        let scratch = ScratchDir::new();
        let loaded = moving.pipeline(&scratch, list);
        let report = run_well(&loaded, backfill(), Arc::new(SystemClock));
        moving.assert_all_there(&loaded, "r", "id");
        if list.contains("child_table") {
            moving.assert_all_there(&loaded, "r__l", "x");
        }
        assert_eq!(moving.firsts.load(Ordering::SeqCst), 2, "{list}");
        assert_eq!(reconciled(&report), (CheckStatus::Passed, "49 rows read, the API says 49".into()));
        // The row that left was read before it did, and counts.
        assert_eq!((report.reports["r"].rows, report.reports["r"].duplicates), (50, 0));
    }
}

#[test]
fn a_row_that_came_loses_none() {
    let moving = Moving::new(|given, rows| {
        if given == 1 {
            rows.insert(0, 77);
        }
    });
    let scratch = ScratchDir::new();
    let loaded = moving.pipeline(&scratch, BY_PAGE);
    run_well(&loaded, backfill(), Arc::new(SystemClock));
    moving.assert_all_there(&loaded, "r", "id");
    assert_eq!(rows_of(&loaded, "r", &["id"]).len(), 51);
}

#[test]
fn a_list_that_stands_still_is_read_once() {
    let (moving, scratch) = (Moving::new(|_, _| {}), ScratchDir::new());
    let loaded = moving.pipeline(&scratch, BY_PAGE);
    run_well(&loaded, backfill(), Arc::new(SystemClock));
    assert_eq!(moving.firsts.load(Ordering::SeqCst), 1);
}

#[test]
fn a_list_that_never_stands_still_is_told_by_reconcile() {
    let moving = Moving::new(|_, rows| {
        rows.remove(0);
    });
    let scratch = ScratchDir::new();
    let loaded = moving.pipeline(&scratch, BY_PAGE);
    let report = run_well(&loaded, backfill(), Arc::new(SystemClock));
    assert_eq!(moving.firsts.load(Ordering::SeqCst), 3);
    let (status, detail) = reconciled(&report);
    assert_eq!(status, CheckStatus::Warned, "{detail}");
    assert!(detail.contains("may have been missed"), "{detail}");
}

#[test]
fn without_a_key_or_with_reconcile_off_a_list_is_read_once() {
    let leaves = |given, rows: &mut Vec<u64>| {
        if given == 0 {
            rows.remove(3);
        }
    };
    let (moving, scratch) = (Moving::new(leaves), ScratchDir::new());
    let report = run_well(
        &moving.pipeline(&scratch, "paginator: { type: page, size_param: n, size: 10 }"),
        backfill(),
        Arc::new(SystemClock),
    );
    assert_eq!(moving.firsts.load(Ordering::SeqCst), 1);
    assert!(reconciled(&report).1.contains("may have been missed"), "{:?}", reconciled(&report));
    let (moving, scratch) = (Moving::new(leaves), ScratchDir::new());
    let mut loaded = moving.pipeline(&scratch, BY_PAGE);
    Arc::make_mut(&mut loaded.pipeline).quality.get_mut("r").unwrap().reconcile = Some(false);
    run_well(&loaded, backfill(), Arc::new(SystemClock));
    assert_eq!(moving.firsts.load(Ordering::SeqCst), 1);
}

#[test]
fn a_list_that_moved_while_the_run_was_interrupted_is_read_again() {
    let (moving, scratch) = (Moving::new(|_, _| {}), ScratchDir::new());
    let loaded = moving.pipeline(&scratch, BY_PAGE);
    moving.failing.store(true, Ordering::SeqCst);
    assert_eq!(run_to_end(&loaded, backfill()).status, RunStatus::Failed);
    moving.failing.store(false, Ordering::SeqCst);
    moving.rows.lock().unwrap().remove(3);
    let deps = deps(Arc::new(SystemClock));
    let report = runtime().block_on(run(&loaded, backfill(), &deps)).unwrap();
    assert_eq!((report.status, report.resumed), (RunStatus::Succeeded, true), "{:?}", report.error);
    moving.assert_all_there(&loaded, "r", "id");
    // 10 before, 39 after the resume, and 49 when it was read again.
    let seen = &deps.progress.view()[0];
    assert_eq!((seen.rows, seen.written, seen.expected_rows), (49, 39 + 49, Some(49)));
}

#[test]
fn a_list_of_one_page_is_expected_too() {
    let (moving, scratch) = (Moving::new(|_, _| {}), ScratchDir::new());
    moving.rows.lock().unwrap().truncate(4);
    let loaded = moving.pipeline(&scratch, BY_PAGE);
    let deps = deps(Arc::new(SystemClock));
    runtime().block_on(run(&loaded, backfill(), &deps)).unwrap();
    assert_eq!(deps.progress.view()[0].expected_rows, Some(4));
}
