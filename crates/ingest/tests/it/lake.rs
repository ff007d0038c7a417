//! The commit itself: of two writers one wins, and the loser does no harm.

use std::collections::BTreeMap;
use std::sync::Arc;

use tessera_ingest::Error;
use tessera_ingest::lake::{Lake, Manifest, Present, State, VERSION};
use tessera_kernel::{SystemClock, Timestamp};
use tessera_testkit::ScratchDir;

use crate::support::{
    Shop, backfill, failure, incremental, one, pipeline, present, rows_of, run_to_end, run_well, runtime,
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
