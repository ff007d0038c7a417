//! An API or a disk that misbehaves: retried where that helps, otherwise told with its place and the remedy; and the
//! rows are right afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Query;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use tessera_ingest::app::run::{RunOptions, RunStatus};
use tessera_ingest::demo_api::Faults;
use tessera_ingest::lake::Cursor;
use tessera_ingest::spec::Loaded;
use tessera_kernel::SystemClock;
use tessera_testkit::ScratchDir;
use tessera_testkit::bin::{Process, tessera_command};

use crate::support::{
    Api, Shop, backfill, failure, files_below, finish, get, incremental, one, pipeline, present, rows_of, run_to_end,
    run_well, tessera,
};

fn orders(shop: &Shop, lake: &Path, more: &str) -> Loaded {
    pipeline(&orders_text(shop, lake, more))
}

fn orders_text(shop: &Shop, lake: &Path, more: &str) -> String {
    format!(
        "version: 1\nname: shop\n{more}\nresources:\n  - {{ name: orders, path: /orders, primary_key: [id], records: data, total: total, paginator: {{ type: page, size_param: per_page, size: 20 }}, incremental: {{ cursor: updated_at, param: updated_since }} }}\n  - {{ name: refunds, path: /refunds, primary_key: [id], records: results, paginator: {{ type: next_url, size_param: limit, size: 4 }} }}\ndestination: {{ url: \"{}\", checkpoint: 100ms }}\n",
        lake.display()
    )
    .replace("BASE", shop.base())
}

const TWICE: &str = "source: { base_url: BASE, attempts: 2 }";

#[test]
fn passing_faults_lose_and_double_nothing() {
    for faults in [
        "fail_every=5",
        "cut_every=5",
        "truncate_every=5",
        "html_every=6",
        "throttle_every=4,retry_after=zero",
        "throttle_every=9,retry_after=date,retry_after_s=0",
        "throttle_every=3,retry_after=none",
        "throttle_every=8",
        "slow_every=3,slow_ms=30,fail_every=7,cut_every=11",
        "drop_total",
    ] {
        let (shop, scratch) = (Shop::small(260), ScratchDir::new());
        shop.faults(faults);
        let loaded = orders(&shop, scratch.path(), "source: { base_url: BASE, concurrency: 6 }");
        run_well(&loaded, backfill(), Arc::new(SystemClock));
        shop.assert_copied(&loaded, "orders");
        shop.assert_copied(&loaded, "refunds");
    }
}

#[test]
fn a_storm_of_429_is_outlasted() {
    let (shop, scratch) = (Shop::small(300), ScratchDir::new());
    shop.faults("rate_limit=12,retry_after=zero");
    let loaded = orders(&shop, scratch.path(), "source: { base_url: BASE, concurrency: 16, attempts: 12 }");
    // The shop counts requests by its own clock: let it run.
    let clock = Arc::clone(&shop.clock);
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    let ticking = std::thread::spawn(move || {
        while !stopped.is_cancelled() {
            clock.advance(Duration::from_millis(500));
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    run_well(&loaded, backfill(), Arc::new(SystemClock));
    stop.cancel();
    ticking.join().unwrap();
    let stats = get(&format!("{}/_stats", shop.base()));
    assert!(stats["paths"]["/orders"]["429"].as_u64().unwrap_or(0) > 0, "{stats}");
    shop.assert_copied(&loaded, "orders");
}

#[test]
fn lasting_faults_are_named_and_the_next_run_goes_on() {
    for (faults, wanted) in [
        ("fail_every=1,fail_status=503", &["answered 503", "2 attempts", "/orders"][..]),
        ("html_every=1", &["HTML instead of data", "check base_url and auth", "/orders"]),
        ("truncate_every=1", &["no whole JSON", "/orders"]),
        ("cut_every=1", &["connection broke", "2 attempts", "/orders"]),
        ("throttle_every=1,retry_after=zero", &["429", "2 attempts"]),
    ] {
        let (shop, scratch) = (Shop::small(100), ScratchDir::new());
        let loaded = orders(&shop, scratch.path(), TWICE);
        let mut set = Faults::default();
        set.add_flag(&format!("/orders:{faults}")).unwrap();
        shop.demo.set_faults(set);
        let message = failure(&loaded);
        wanted.iter().for_each(|wanted| assert!(message.contains(wanted), "{faults}: {message}"));
        assert!(message.contains("orders"), "{message}");
        assert_eq!(present(&loaded).number, 0);
        shop.faults("none");
        let report = run_well(&loaded, backfill(), Arc::new(SystemClock));
        assert!(report.resumed, "{faults}");
        shop.assert_copied(&loaded, "orders");
        shop.assert_copied(&loaded, "refunds");
    }
}

#[test]
fn pages_that_repeat_for_ever_end_the_resource() {
    for (faults, resource) in [("/orders:loop_after=3", "orders"), ("/refunds:loop_after=2", "refunds")] {
        let (shop, scratch) = (Shop::small(200), ScratchDir::new());
        let mut set = Faults::default();
        set.add_flag(faults).unwrap();
        shop.demo.set_faults(set);
        let loaded = orders(&shop, scratch.path(), TWICE);
        let report = run_to_end(&loaded, backfill());
        assert_eq!(report.status, RunStatus::Failed, "{faults}");
        let message = report.error.unwrap().to_string();
        assert!(message.contains(resource) && message.contains("correct `paginator"), "{message}");
        // The other resource is committed.
        let other = if resource == "orders" { "refunds" } else { "orders" };
        shop.assert_copied(&loaded, other);
        assert!(rows_of(&loaded, resource, &["id"]).is_empty());
        shop.faults("none");
        run_well(&loaded, incremental(), Arc::new(SystemClock));
        shop.assert_copied(&loaded, resource);
    }
}

#[test]
fn pages_that_go_round_in_a_circle_end_the_resource() {
    // a → b → a: no page is like the one before it.
    let api = Api::answering(|Query(query): Query<BTreeMap<String, String>>| async move {
        let (id, next) = if query.get("cursor").is_some_and(|cursor| cursor == "a") { (1, "b") } else { (2, "a") };
        format!("{{\"data\":[{{\"id\":{id}}}],\"next\":\"{next}\"}}")
    });
    let scratch = ScratchDir::new();
    let paginator = ", records: data, paginator: { type: cursor, next: next }";
    let message = failure(&pipeline(&one(&api.base, scratch.path(), "", paginator)));
    assert!(message.contains("was there before") && message.contains("correct `paginator.next`"), "{message}");
}

#[test]
fn a_type_that_changes_midstream_is_rescued() {
    let (shop, scratch) = (Shop::small(1_500), ScratchDir::new());
    shop.faults("type_change_after_row=1300");
    let loaded = orders(&shop, scratch.path(), "source: { base_url: BASE }\ndefaults: { schema: freeze }");
    let report = run_well(&loaded, backfill(), Arc::new(SystemClock));
    shop.assert_copied(&loaded, "orders");
    assert_eq!(report.reports["orders"].rescued, 200);
    let rows = rows_of(&loaded, "orders", &["total_minor", "_rescued"]);
    let rescued: Vec<_> = rows.iter().filter(|row| !row[1].is_empty()).collect();
    assert_eq!(rescued.len(), 200);
    assert!(rescued.iter().all(|row| row[0].is_empty() && row[1].contains("total_minor") && row[1].contains(".00")));
    assert_eq!(rows.iter().filter(|row| !row[0].is_empty()).count(), 1_300);
}

/// An API with one answer.
fn saying(body: impl Into<String>) -> Api {
    let body: String = body.into();
    Api::answering(move || {
        let body = body.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], body) }
    })
}

#[test]
fn a_record_of_ten_megabytes_passes_and_one_beyond_the_limit_is_refused() {
    let scratch = ScratchDir::new();
    let text = "x".repeat(10 << 20);
    let api = saying(format!("[{{\"id\":1,\"text\":\"{text}\"}},{{\"id\":2,\"text\":\"small\"}}]"));
    let loaded = pipeline(&one(&api.base, &scratch.file("a"), "", ""));
    run_well(&loaded, backfill(), Arc::new(SystemClock));
    let sizes: Vec<usize> = rows_of(&loaded, "r", &["text"]).iter().map(|row| row[0].len()).collect();
    assert_eq!(sizes, [10 << 20, 5]);
    let message = failure(&pipeline(&one(&api.base, &scratch.file("b"), ", max_body: 1MiB", "")));
    assert!(message.contains("larger than 1") && message.contains("raise source.max_body"), "{message}");
}

#[test]
fn duplicate_keys_become_one_row_and_are_counted() {
    let scratch = ScratchDir::new();
    let api = saying(
        r#"[{"id":1,"at":"2024-01-02T00:00:00Z","v":"new"},{"id":1,"at":"2024-01-01T00:00:00Z","v":"old"},{"id":2,"at":"2024-01-01T00:00:00Z","v":"x"}]"#,
    );
    let loaded = pipeline(&one(&api.base, scratch.path(), "", ", incremental: { cursor: at, param: since }"));
    let report = run_well(&loaded, backfill(), Arc::new(SystemClock));
    assert_eq!(report.reports["r"].duplicates, 1);
    let mut rows = rows_of(&loaded, "r", &["id", "v"]);
    rows.sort();
    assert_eq!(rows, [["1", "new"], ["2", "x"]]);
}

#[test]
fn an_api_that_became_empty_leaves_an_empty_table() {
    let scratch = ScratchDir::new();
    let asked = Arc::new(AtomicU64::new(0));
    let api = Api::answering(move || {
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        async move { if first { "[{\"id\":1},{\"id\":2}]" } else { "[]" } }
    });
    let loaded = pipeline(&one(&api.base, scratch.path(), "", ""));
    run_well(&loaded, backfill(), Arc::new(SystemClock));
    assert_eq!(rows_of(&loaded, "r", &["id"]).len(), 2);
    run_well(&loaded, incremental(), Arc::new(SystemClock));
    assert_eq!(rows_of(&loaded, "r", &["id"]).len(), 0);
}

#[test]
fn rows_older_than_asked_and_a_cursor_that_goes_back_are_noted() {
    let scratch = ScratchDir::new();
    // The API ignores the filter; in the second run its newest row is older than before.
    let asked = Arc::new(AtomicU64::new(0));
    let api = Api::answering(move || {
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                r#"[{"id":1,"at":"2024-01-01T00:00:00Z"},{"id":2,"at":"2024-03-01T00:00:00Z"}]"#
            } else {
                r#"[{"id":1,"at":"2024-01-01T00:00:00Z"},{"id":3,"at":"2024-02-01T00:00:00Z"}]"#
            }
        }
    });
    let loaded = pipeline(&one(&api.base, scratch.path(), "", ", incremental: { cursor: at, param: since }"));
    run_well(&loaded, backfill(), Arc::new(SystemClock));
    let report = run_well(&loaded, incremental(), Arc::new(SystemClock));
    assert!(
        report.warnings.iter().any(|note| note.starts_with("r: ") && note.contains("older")),
        "{:?}",
        report.warnings
    );
    let cursor = present(&loaded).state.resources["r"].cursor;
    assert_eq!(cursor, Some(Cursor::At("2024-03-01".parse().unwrap())), "a cursor never goes back");
}

#[test]
fn a_missing_path_and_a_wrong_place_of_rows_say_what_to_correct() {
    let scratch = ScratchDir::new();
    let api = Api::answering(|| async { (StatusCode::NOT_FOUND, "no such page").into_response() });
    let file = scratch.write("t.yaml", one(&api.base, &scratch.file("lake"), "", ""));
    let ended = finish(&file, &[], &[]);
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    for wanted in ["resource `r`", "/r answered 404", "no such page", "empty_on: [404]", "nothing was committed"] {
        assert!(ended.stderr.contains(wanted), "{wanted}: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("progress is saved"), "{}", ended.stderr);
    let api = saying(r#"{"items":[{"id":1}]}"#);
    let message = failure(&pipeline(&one(&api.base, &scratch.file("b"), "", ", records: data")));
    assert!(message.contains("no `data`, only items") && message.contains("correct `records`"), "{message}");
    let api = saying("[]");
    let base = api.base.clone();
    drop(api);
    let message = failure(&pipeline(&one(&base, &scratch.file("c"), "", "")));
    assert!(
        message.contains("cannot connect") && message.contains("check `base_url`") && message.contains("2 attempts"),
        "{message}"
    );
}

#[test]
fn a_budget_stops_cleanly_and_the_next_runs_go_on() {
    for budget in ["{ requests: 9 }", "{ bytes: 60KiB }", "{ duration: 80ms }"] {
        let (shop, scratch) = (Shop::small(400), ScratchDir::new());
        shop.faults("slow_every=1,slow_ms=25");
        let source = format!("source: {{ base_url: BASE, concurrency: 2 }}\nbudget: {budget}");
        let text = orders_text(&shop, &scratch.file("lake"), &source);
        let file = scratch.write("t.yaml", &text);
        let mut runs = 0;
        loop {
            runs += 1;
            assert!(runs < 60, "{budget}: it never ends");
            let ended = finish(&file, &["--run-type", "backfill"], &[]);
            assert_eq!(ended.code(), Some(0), "{budget}: {}", ended.stderr);
            if ended.stderr.contains("succeeded in") {
                break;
            }
            assert!(
                ended.stderr.contains("budget") && ended.stderr.contains("the next run goes on"),
                "{}",
                ended.stderr
            );
        }
        assert!(runs > 1, "{budget} was never reached");
        let loaded = pipeline(&text);
        shop.assert_copied(&loaded, "orders");
        shop.assert_copied(&loaded, "refunds");
    }
}

/// A small disk: a file system of its own where the machine lets us mount one.
struct SmallDisk(ScratchDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = ScratchDir::new();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|mount| mount.status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_named_and_the_next_run_goes_on_elsewhere_or_with_room() {
    let shop = Shop::small(3_000);
    let scratch = ScratchDir::new();
    let disk = SmallDisk::mount();
    let lake = disk.as_ref().map_or(scratch.file("lake"), |disk| disk.0.file("lake"));
    let source = "source: { base_url: BASE }";
    let text = orders_text(&shop, &lake, source).replace("checkpoint: 100ms", "format: jsonl");
    let file = scratch.write("t.yaml", &text);
    let ended = if disk.is_some() {
        finish(&file, &["--run-type", "backfill"], &[])
    } else {
        // No file may grow beyond 128 blocks of 512 bytes; the signal is ignored, so that the write fails instead.
        let mut shell = Command::new("sh");
        let script = "trap '' XFSZ; ulimit -f 128; exec \"$0\" ingest run \"$1\" --run-type backfill";
        Process::spawn(shell.args(["-c", script]).arg(tessera()).arg(&file)).wait()
    };
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    let wanted =
        if disk.is_some() { "the disk is full; free room or choose another destination" } else { "cannot write" };
    assert!(ended.stderr.contains(wanted), "{}", ended.stderr);
    assert!(ended.stderr.contains(lake.to_str().unwrap()), "{}", ended.stderr);
    // With room it goes on.
    if let Some(disk) = &disk {
        let more = Command::new("mount").args(["-o", "remount,size=64m"]).arg(disk.0.path()).status();
        assert!(more.unwrap().success());
    }
    let ended = finish(&file, &["--run-type", "backfill"], &[]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    shop.assert_copied(&pipeline(&text), "orders");
}

#[test]
fn a_folder_that_cannot_be_written_and_a_broken_state_say_what_to_do() {
    let scratch = ScratchDir::new();
    let api = saying("[{\"id\":1}]");
    let blocked = scratch.write("file", "not a folder");
    let file = scratch.write("t.yaml", one(&api.base, &blocked.join("lake"), "", ""));
    let ended = finish(&file, &[], &[]);
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("choose a folder that can be written"), "{}", ended.stderr);

    let lake = scratch.file("lake");
    let text = one(&api.base, &lake, "", "");
    run_well(&pipeline(&text), backfill(), Arc::new(SystemClock));
    let file = scratch.write("u.yaml", &text);
    for state in files_below(&lake.join("t/_tessera/state")) {
        std::fs::write(&state, "{ half a").unwrap();
    }
    let ended = finish(&file, &[], &[]);
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("is broken") && ended.stderr.contains("restore it from a backup"),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_pipeline_may_come_from_the_environment_alone() {
    let (shop, scratch) = (Shop::small(30), ScratchDir::new());
    let text = orders_text(&shop, &scratch.file("lake"), TWICE);
    let mut command = tessera_command(tessera());
    command.args(["ingest", "run"]).env("TESSERA_PIPELINE_YAML", &text);
    command.env("run_type", "backfill").env("RUN_RESOURCES", "orders");
    let ended = Process::spawn(&mut command).wait();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    shop.assert_copied(&pipeline(&text), "orders");
    assert!(rows_of(&pipeline(&text), "refunds", &["id"]).is_empty());
    let only = RunOptions { resources: vec!["refunds".into()], ..incremental() };
    run_well(&pipeline(&text), only, Arc::new(SystemClock));
    shop.assert_copied(&pipeline(&text), "refunds");
    shop.assert_copied(&pipeline(&text), "orders");
}
