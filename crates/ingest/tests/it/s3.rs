//! The lake in S3: a real server process, its refusals, lost replies, and kills.

use std::sync::Arc;
use std::time::Duration;

use tessera_ingest::app::run::RunStatus;
use tessera_ingest::demo_api::Options;
use tessera_ingest::spec::Loaded;
use tessera_kernel::Clock;
use tessera_testkit::ScratchDir;
use tessera_testkit::s3::{self, Fault, FaultKind, S3};

use crate::support::{
    Shop, backfill, files_below, finish, incremental, pipeline, present, run_well, runtime, start, try_run,
};

fn yaml(shop: &Shop, s3: &S3, more: &str) -> String {
    format!(
        "version: 1
name: shop
source: {{ base_url: \"{}\", concurrency: 4 }}
defaults: {{ primary_key: [id], records: data }}
resources:
  - {{ name: orders, path: /orders, paginator: {{ type: page, size_param: per_page, size: 50 }}, incremental: {{ cursor: updated_at, param: updated_since }} }}
  - {{ name: payments, path: /payments, paginator: {{ type: cursor, next: next_cursor, size_param: limit, size: 40 }}, incremental: {{ cursor: created_at, param: created_since }} }}
destination:
  url: s3://{}/raw
  checkpoint: 100ms
  chunk: {{ rows: 100 }}
  s3: {{ endpoint: \"{}\", region: us-east-1, access_key_id: {}, secret_access_key: {}{more} }}
",
        shop.base(),
        s3.bucket,
        s3.endpoint,
        s3.access_key,
        s3.secret_key
    )
}

fn shop() -> Shop {
    Shop::open(Options { orders: 300, growth: 600, ..Options::default() })
}

fn assert_copied(shop: &Shop, loaded: &Loaded, s3: &S3) {
    for table in ["orders", "payments"] {
        shop.assert_copied(loaded, table);
        // The published objects are those that count, and no others.
        let published = files_below(&s3.bucket_dir().join("raw/shop").join(table)).len();
        assert_eq!(published, present(loaded).state.resources[table].files.len(), "objects of {table}");
    }
}

#[test]
fn backfill_and_increment_are_the_truth() {
    let (shop, s3) = (shop(), s3::start());
    for more in ["", ", path_style: true"] {
        let loaded = pipeline(&yaml(&shop, &s3, more));
        let clock = || Arc::clone(&shop.clock) as Arc<dyn Clock>;
        run_well(&loaded, backfill(), clock());
        assert_copied(&shop, &loaded, &s3);
        shop.clock.advance(Duration::from_secs(40));
        run_well(&loaded, incremental(), clock());
        assert_copied(&shop, &loaded, &s3);
    }
}

#[test]
fn a_killed_backfill_is_resumed_from_the_bucket() {
    let (shop, s3) = (shop(), s3::start());
    shop.faults("slow_every=1,slow_ms=30");
    let scratch = ScratchDir::new();
    let text = yaml(&shop, &s3, "");
    let file = scratch.write("shop.yaml", &text);
    for millis in (60..760).step_by(70) {
        let run = start(&file, &["--run-type", "backfill"], &[]);
        std::thread::sleep(Duration::from_millis(millis));
        run.signal("KILL");
        run.wait();
    }
    let ended = finish(&file, &["--run-type", "backfill"], &[]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert_copied(&shop, &pipeline(&text), &s3);
}

#[test]
fn a_refusing_bucket_is_named_and_the_next_run_completes() {
    let (shop, s3) = (shop(), s3::start());
    let loaded = pipeline(&yaml(&shop, &s3, ""));
    let clock = || Arc::clone(&shop.clock) as Arc<dyn Clock>;
    // The lock, the first file, the journal, the commit: refused one after the other.
    for place in ["/lock/", "/staging/", "/progress/", "/_tessera/log/"] {
        s3.set_fault(Fault::new(FaultKind::DenyWrites).on(place));
        let message = match try_run(&loaded, backfill(), clock()) {
            Err(error) => error.to_string(),
            Ok(report) => {
                assert_eq!(report.status, RunStatus::Failed, "{place}");
                report.error.unwrap().to_string()
            }
        };
        assert!(message.contains("s3://lake/raw/shop") && message.contains("PutObject"), "{place}: {message}");
        assert!(!message.contains(&s3.secret_key), "{message}");
        s3.clear_fault();
        assert_eq!(present(&loaded).number, 0, "{place}");
    }
    run_well(&loaded, backfill(), clock());
    assert_copied(&shop, &loaded, &s3);
}

#[test]
fn a_slow_bucket_is_waited_for() {
    let (shop, s3) = (shop(), s3::start());
    let loaded = pipeline(&yaml(&shop, &s3, ""));
    s3.set_fault(Fault::new(FaultKind::SlowDown).after(4).times(3));
    run_well(&loaded, backfill(), Arc::clone(&shop.clock) as Arc<dyn Clock>);
    assert_copied(&shop, &loaded, &s3);
}

#[test]
fn a_lost_reply_is_no_conflict() {
    let (shop, s3) = (shop(), s3::start());
    let loaded = pipeline(&yaml(&shop, &s3, ""));
    let clock = || Arc::clone(&shop.clock) as Arc<dyn Clock>;
    // The write was done, the answer was lost: the client tries again and finds its own object there.
    for place in ["/lock/", "/progress/", "/_tessera/log/"] {
        s3.set_fault(Fault::new(FaultKind::LoseReply).on(place).times(1));
        run_well(&loaded, backfill(), clock());
        assert_copied(&shop, &loaded, &s3);
        shop.clock.advance(Duration::from_secs(7));
    }
    s3.clear_fault();
    run_well(&loaded, incremental(), clock());
    assert_copied(&shop, &loaded, &s3);
}

#[test]
fn of_two_writers_of_alerts_neither_loses_an_entry() {
    use tessera_ingest::alerts::{Finding, Judged, Shelf};
    use tessera_ingest::lake::Lake;
    use tessera_ingest::spec::AlertEvent;
    const EACH: usize = 8;
    let (shop, s3) = (shop(), s3::start());
    let loaded = pipeline(&yaml(&shop, &s3, ""));
    let now = shop.clock.now();
    let change = |n: usize| Finding {
        event: AlertEvent::SchemaDrift,
        cause: format!("column {n}"),
        fingerprint: format!("column {n}"),
        resources: vec![],
        run_id: None,
    };
    // The store does some of the writes and says that it failed.
    s3.set_fault(Fault::new(FaultKind::LoseReply).times(3).after(2));
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let loaded = &loaded;
            scope.spawn(move || {
                runtime().block_on(async {
                    let shelf = Shelf::of(&Lake::open(&loaded.pipeline).unwrap());
                    for n in 0..EACH {
                        let found = [change(writer * EACH + n)];
                        shelf.change(|book| book.due(Judged::WholeRun, &found, now)).await.unwrap();
                    }
                });
            });
        }
    });
    let mut book = runtime().block_on(Shelf::of(&Lake::open(&loaded.pipeline).unwrap()).read()).unwrap();
    let all: Vec<Finding> = (0..2 * EACH).map(change).collect();
    let before = book.clone();
    book.due(Judged::WholeRun, &all, now);
    assert_eq!(book, before, "a change was lost");
}
