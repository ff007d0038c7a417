//! The commit itself: of two writers one wins, and the loser does no harm.

use std::collections::BTreeMap;
use std::sync::Arc;

use tessera_ingest::Error;
use tessera_ingest::app::plan::plan;
use tessera_ingest::app::run::RunOptions;
use tessera_ingest::lake::{Lake, Manifest, Present, State, VERSION};
use tessera_kernel::{SystemClock, Timestamp};
use tessera_testkit::ScratchDir;

use crate::support::{
    Shop, backfill, failure, files_below, incremental, one, pipeline, present, rows_of, run_to_end, run_well, runtime,
    try_run,
};

fn manifest(run_id: &str, at: i64) -> Manifest {
    Manifest {
        version: VERSION,
        number: 0,
        pipeline: "t".into(),
        run_id: run_id.into(),
        kind: "backfill".into(),
        started_at: Timestamp::from_micros(1),
        committed_at: Timestamp::from_micros(at),
        resources: BTreeMap::new(),
        state: String::new(),
    }
}

#[test]
fn a_process_that_lost_the_commit_of_the_same_run_leaves_the_winners_state() {
    let scratch = ScratchDir::new();
    let loaded = pipeline(&one("http://127.0.0.1:9", scratch.path(), "", ""));
    let lake = Lake::open(&loaded.pipeline).unwrap();
    let base = Present { number: 0, state: State::empty("t") };
    let winner = State { pipeline: "winner".into(), ..State::empty("t") };
    // Two processes go on with one run: the second took over while the first was paused.
    runtime().block_on(lake.commit(&base, manifest("run_1", 2), &winner)).unwrap();
    let lost = runtime().block_on(lake.commit(&base, manifest("run_1", 3), &State::empty("t"))).unwrap_err();
    assert!(matches!(lost, Error::Conflict(_)), "{lost}");
    assert!(lost.to_string().contains("made by another run"), "{lost}");
    assert_eq!((present(&loaded).number, present(&loaded).state), (1, winner));
}

#[test]
fn a_limited_run_that_was_interrupted_is_not_taken_for_a_whole_one() {
    let shop = Shop::small(120);
    let scratch = ScratchDir::new();
    let yaml = format!(
        "version: 1\nname: t\nsource: {{ base_url: \"{}\", attempts: 1 }}\ndefaults: {{ primary_key: [id], records: data }}\nresources:\n  - {{ name: orders, path: /orders, paginator: {{ type: page, size_param: per_page, size: 50 }}, incremental: {{ cursor: updated_at, param: updated_since }} }}\n  - {{ name: payments, path: /payments, paginator: {{ type: cursor, next: next_cursor }} }}\ndestination: {{ url: \"{}\" }}\n",
        shop.base(),
        scratch.file("lake").display()
    );
    let loaded = pipeline(&yaml);
    let mut faults = tessera_ingest::demo_api::Faults::default();
    faults.add_flag("/payments:slow_every=1,slow_ms=300,fail_every=1").unwrap();
    shop.demo.set_faults(faults);
    let mut limited = backfill();
    limited.limit = Some(10);
    assert!(run_to_end(&loaded, limited).error.is_some());
    shop.faults("none");
    run_well(&loaded, backfill(), Arc::new(SystemClock));
    shop.assert_copied(&loaded, "orders");
    shop.assert_copied(&loaded, "payments");
}

#[test]
fn nothing_is_committed_where_nothing_could_be_read() {
    let shop = Shop::small(10);
    let scratch = ScratchDir::new();
    let loaded = pipeline(&one(shop.base(), scratch.path(), "", ""));
    let message = failure(&loaded);
    assert!(message.contains("404") && message.contains("empty_on: [404]"), "{message}");
    assert_eq!(present(&loaded).number, 0);
    assert!(rows_of(&loaded, "r", &["id"]).is_empty());
    // And nothing of it is resumed.
    assert!(!run_to_end(&loaded, incremental()).resumed);
}

/// A run that was interrupted with one resource to go, and how its process saw the lake.
fn interrupted(shop: &Shop, loaded: &tessera_ingest::spec::Loaded) -> (Present, String) {
    let mut faults = tessera_ingest::demo_api::Faults::default();
    faults.add_flag("/payments:fail_every=1").unwrap();
    shop.demo.set_faults(faults);
    let seen = present(loaded);
    let report = run_to_end(loaded, backfill());
    assert!(report.error.is_some() && report.commit.is_none());
    (seen, report.run_id)
}

fn two_lists(shop: &Shop, lake: &std::path::Path, first: &str) -> String {
    format!(
        "version: 1\nname: t\nsource: {{ base_url: \"{}\", attempts: 1 }}\ndefaults: {{ records: data }}\nresources:\n  - {{ name: orders, path: {first}, primary_key: [id], paginator: {{ type: page, size_param: per_page, size: 50 }} }}\n  - {{ name: payments, path: /payments, primary_key: [id], paginator: {{ type: cursor, next: next_cursor }} }}\ndestination: {{ url: \"{}\" }}\n",
        shop.base(),
        lake.display()
    )
}

#[test]
fn a_process_paused_before_its_commit_loses_it_before_its_files_are_deleted() {
    let fresh = || RunOptions { fresh: true, ..backfill() };
    let limited = || RunOptions { limit: Some(5), ..backfill() };
    for other in [fresh, limited] as [fn() -> RunOptions; 2] {
        let (shop, scratch) = (Shop::small(120), ScratchDir::new());
        let loaded = pipeline(&two_lists(&shop, &scratch.file("lake"), "/orders"));
        let (seen, run_id) = interrupted(&shop, &loaded);
        // The second one forgets the first, and commits nothing itself.
        let second = run_to_end(&loaded, other());
        assert!(second.error.is_some() && !second.resumed && second.commit.is_none());
        let lake = Lake::open(&loaded.pipeline).unwrap();
        let lost = runtime().block_on(lake.commit(&seen, manifest(&run_id, 3), &State::empty("t"))).unwrap_err();
        assert!(matches!(lost, Error::Conflict(_)), "{lost}");
        shop.faults("none");
        run_well(&loaded, backfill(), Arc::new(SystemClock));
        shop.assert_copied(&loaded, "orders");
        shop.assert_copied(&loaded, "payments");
    }
}

#[test]
fn a_resumed_run_that_gives_up_takes_the_commit_first() {
    let (shop, scratch) = (Shop::small(120), ScratchDir::new());
    let loaded = pipeline(&two_lists(&shop, &scratch.file("lake"), "/orders"));
    let (seen, run_id) = interrupted(&shop, &loaded);
    // The pipeline changed so that nothing can be read.
    let text = two_lists(&shop, &scratch.file("lake"), "/none").replace("/payments", "/none");
    let report = run_to_end(&pipeline(&text), backfill());
    assert!(report.resumed && report.commit.is_none(), "{:?}", report.error);
    let lake = Lake::open(&loaded.pipeline).unwrap();
    let lost = runtime().block_on(lake.commit(&seen, manifest(&run_id, 3), &State::empty("t"))).unwrap_err();
    assert!(matches!(lost, Error::Conflict(_)), "{lost}");
}

#[test]
fn a_limit_does_not_take_the_place_of_a_whole_table() {
    let (shop, scratch) = (Shop::small(30), ScratchDir::new());
    let text = two_lists(&shop, &scratch.file("lake"), "/orders").replacen("primary_key: [id], ", "", 1);
    let loaded = pipeline(&text);
    let limited = |limit| RunOptions { limit: Some(limit), ..incremental() };
    // Into an empty table, and over what another limit left.
    for limit in [4, 6] {
        run_well(&loaded, limited(limit), Arc::new(SystemClock));
        assert_eq!(rows_of(&loaded, "orders", &["id"]).len() as u64, limit);
    }
    run_well(&loaded, incremental(), Arc::new(SystemClock));
    assert_eq!(rows_of(&loaded, "orders", &["id"]).len(), 30);
    let refused = try_run(&loaded, limited(5), Arc::new(SystemClock)).unwrap_err();
    assert_eq!(refused.exit_code(), 2);
    let message = refused.to_string();
    for words in ["--limit", "`orders`", "5 rows", "its 30", "primary_key", "--resources"] {
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(rows_of(&loaded, "orders", &["id"]).len(), 30);
    let others = RunOptions { resources: vec!["payments".into()], ..limited(5) };
    run_well(&loaded, others, Arc::new(SystemClock));
}

#[test]
fn a_lost_or_broken_state_is_told_with_a_remedy_that_works() {
    let (shop, scratch) = (Shop::small(10), ScratchDir::new());
    let text = two_lists(&shop, &scratch.file("lake"), "/orders");
    run_well(&pipeline(&text), backfill(), Arc::new(SystemClock));
    let state = files_below(&scratch.file("lake/t/_tessera/state")).remove(0);
    for broken in [Some("{"), None] {
        match broken {
            Some(text) => std::fs::write(&state, text).unwrap(),
            None => std::fs::remove_file(&state).unwrap(),
        }
        let refused = try_run(&pipeline(&text), backfill(), Arc::new(SystemClock)).unwrap_err().to_string();
        assert!(refused.contains("destination.dataset") && !refused.contains("state reset"), "{refused}");
    }
    let text = text.replace("url: \"/", "dataset: t2, url: \"/");
    let loaded = pipeline(&text);
    run_well(&loaded, backfill(), Arc::new(SystemClock));
    shop.assert_copied(&loaded, "orders");
}

#[test]
fn a_dry_run_names_the_method() {
    let scratch = ScratchDir::new();
    let post = |more: &str| format!(", method: POST{more}");
    for (more, method) in [("".to_owned(), "GET"), (post(""), "POST"), (post(", form: { a: b }"), "POST")] {
        let loaded = pipeline(&one("http://127.0.0.1:9", scratch.path(), "", &more));
        let text = runtime().block_on(plan(&loaded, &incremental(), Timestamp::from_micros(1))).unwrap();
        assert!(text.contains(&format!("r: {method} http://127.0.0.1:9/r;")), "{text}");
    }
}
