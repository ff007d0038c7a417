//! The demo shop's rows in the lake are the shop's: through backfill, late updates, deletions and every format.

use std::sync::Arc;
use std::time::Duration;

use tessera_ingest::app::run::{RunOptions, RunStatus};
use tessera_ingest::demo_api::Options;
use tessera_ingest::lake::Cursor;
use tessera_kernel::Clock;
use tessera_testkit::ScratchDir;

use crate::support::{Shop, backfill, incremental, pipeline, present, rows_of, run_well};

const RESOURCES: &str = "
resources:
  - { name: customers, path: /customers, paginator: { type: page, size_param: per_page, size: 30 }, records: data, incremental: { cursor: updated_at, param: ignored_by_the_api } }
  - { name: orders, path: /orders, paginator: { type: page, size_param: per_page, size: 70 }, records: data, total: total, incremental: { cursor: updated_at, param: updated_since, until_param: updated_until } }
  - { name: order_items, path: \"/orders/{orders.id}/items\" }
  - { name: products, path: /products, paginator: { type: offset, limit: 11 }, records: items, write: replace }
  - { name: payments, path: /payments, paginator: { type: cursor, next: next_cursor, size_param: limit, size: 40 }, records: data, write: append, incremental: { cursor: created_at, param: created_since } }
  - { name: refunds, path: /refunds, paginator: { type: next_url, size_param: limit, size: 9 }, records: results, incremental: { cursor: created_at, param: created_since } }
  - { name: shipments, path: /shipments, paginator: { type: link_header, size_param: limit, size: 33 } }
  - { name: reviews, path: /reviews, paginator: { type: cursor, param: pageToken, next: nextPageToken, size_param: pageSize, size: 20 }, records: reviews, incremental: { cursor: created_at, param: created_since } }
  - { name: events, path: /events, write: append, incremental: { cursor: occurred_at, param: since } }
  - { name: stock, path: /stock.csv.gz, format: csv }
  - { name: countries, path: /countries, primary_key: [code] }
";
const TABLES: [&str; 11] = [
    "customers",
    "orders",
    "order_items",
    "products",
    "payments",
    "refunds",
    "shipments",
    "reviews",
    "events",
    "stock",
    "countries",
];

fn yaml(shop: &Shop, scratch: &ScratchDir, format: &str) -> String {
    format!(
        "version: 1\nname: shop\nsource: {{ base_url: \"{}\" }}\ndefaults: {{ primary_key: [id] }}{RESOURCES}destination: {{ url: \"{}\", format: {format}, chunk: {{ rows: 150 }} }}\n",
        shop.base(),
        scratch.file("lake").display()
    )
}

fn growing() -> Shop {
    // Ten orders a second: many rows share the second at the cursor's edge.
    Shop::open(Options { orders: 150, customers: 40, products: 25, growth: 600, ..Options::default() })
}

#[test]
fn every_format_holds_the_truth_through_backfill_and_growth() {
    for format in ["parquet", "jsonl", "csv"] {
        let (shop, scratch) = (growing(), ScratchDir::new());
        let loaded = pipeline(&yaml(&shop, &scratch, format));
        let clock = || Arc::clone(&shop.clock) as Arc<dyn Clock>;
        shop.clock.advance(Duration::from_millis(2_500));
        run_well(&loaded, backfill(), clock());
        TABLES.into_iter().for_each(|table| shop.assert_copied(&loaded, table));
        // Late updates, deletions and new rows; the last step is within one second.
        for millis in [45_700, 61_000, 300] {
            shop.clock.advance(Duration::from_millis(millis));
            run_well(&loaded, incremental(), clock());
            TABLES.into_iter().for_each(|table| shop.assert_copied(&loaded, table));
        }
        let deleted = rows_of(&loaded, "orders", &["deleted"]).iter().filter(|row| row[0] == "true").count() as u64;
        let truth = crate::support::get(&format!("{}/_truth?checksums=false", shop.base()));
        assert_eq!(deleted, truth["orders"]["deleted"].as_u64().unwrap(), "{format}");
        // A backfill over all that changes nothing.
        run_well(&loaded, backfill(), clock());
        TABLES.into_iter().for_each(|table| shop.assert_copied(&loaded, table));
    }
}

#[test]
fn pages_that_shift_are_held_still_by_as_of() {
    let (shop, scratch) = (growing(), ScratchDir::new());
    let text = yaml(&shop, &scratch, "parquet")
        .replace("path: /orders, paginator", "path: /orders, params: { as_of: \"{run.started_at}\" }, paginator");
    let loaded = pipeline(&text);
    /// A clock on which every look takes a tenth of a second.
    struct Running(Arc<tessera_kernel::ManualClock>);
    impl Clock for Running {
        fn now(&self) -> tessera_kernel::Timestamp {
            self.0.advance(Duration::from_millis(100));
            self.0.now()
        }
    }
    let only = |mut options: RunOptions| {
        options.resources = vec!["orders".into()];
        options
    };
    shop.clock.advance(Duration::from_secs(5));
    for options in [backfill(), incremental(), incremental()] {
        let report = run_well(&loaded, only(options), Arc::new(Running(Arc::clone(&shop.clock))));
        assert!(shop.clock.now() > report.started_at);
        shop.assert_copied_as_of(&loaded, "orders", "orders", Some(report.started_at));
    }
}

#[test]
fn a_bounded_backfill_leaves_the_other_rows_and_no_gap() {
    let (shop, scratch) = (growing(), ScratchDir::new());
    let loaded = pipeline(&yaml(&shop, &scratch, "parquet"));
    let clock = || Arc::clone(&shop.clock) as Arc<dyn Clock>;
    shop.clock.advance(Duration::from_secs(90));
    let bounded = |from: Option<&str>, to: Option<&str>| RunOptions {
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
        resources: vec!["orders".into(), "events".into()],
        ..backfill()
    };
    // The first half, then a late part: what lies between is not skipped for ever.
    run_well(&loaded, bounded(None, Some("2025-01-01T00:00:00Z")), clock());
    let early = rows_of(&loaded, "orders", &["updated_at"]);
    assert!(!early.is_empty() && early.iter().all(|row| row[0].as_str() < "2025-01-01"), "{early:?}");
    let cursor = present(&loaded).state.resources["orders"].cursor;
    run_well(&loaded, bounded(Some("2025-10-01T00:00:00Z"), None), clock());
    assert_eq!(present(&loaded).state.resources["orders"].cursor, cursor, "the cursor jumped over rows never read");
    run_well(&loaded, incremental(), clock());
    shop.assert_copied(&loaded, "orders");
    shop.assert_copied(&loaded, "events");
    // A bounded backfill of old rows: nothing is lost, nothing doubled, the cursor stays.
    let cursor = present(&loaded).state.resources["orders"].cursor;
    run_well(&loaded, bounded(Some("2024-03-01"), Some("2024-09-01")), clock());
    shop.assert_copied(&loaded, "orders");
    shop.assert_copied(&loaded, "events");
    assert_eq!(present(&loaded).state.resources["orders"].cursor, cursor);
}

#[test]
fn a_limit_moves_no_cursor_and_drops_no_row() {
    let (shop, scratch) = (growing(), ScratchDir::new());
    let loaded = pipeline(&yaml(&shop, &scratch, "parquet"));
    let clock = || Arc::clone(&shop.clock) as Arc<dyn Clock>;
    let limited = |options: RunOptions| RunOptions { limit: Some(10), ..options };
    shop.clock.advance(Duration::from_secs(20));
    run_well(&loaded, limited(backfill()), clock());
    assert_eq!(rows_of(&loaded, "orders", &["id"]).len(), 10);
    assert_eq!(present(&loaded).state.resources["orders"].cursor, None);
    run_well(&loaded, incremental(), clock());
    TABLES.into_iter().for_each(|table| shop.assert_copied(&loaded, table));
    let cursor = present(&loaded).state.resources["orders"].cursor;
    shop.clock.advance(Duration::from_secs(20));
    for options in [incremental(), backfill()] {
        run_well(&loaded, limited(options), clock());
        assert_eq!(present(&loaded).state.resources["orders"].cursor, cursor);
        for table in TABLES {
            let (rows, _) = shop.truth(table, Some(shop.clock.now().minus(Duration::from_secs(20))));
            let found = rows_of(&loaded, table, &["id"]).len() as u64;
            assert!(found >= rows, "{table}: a limited run dropped rows: {found} of {rows} are left");
        }
    }
    run_well(&loaded, incremental(), clock());
    TABLES.into_iter().for_each(|table| shop.assert_copied(&loaded, table));
}

#[test]
fn a_future_row_does_not_move_the_cursor_past_now() {
    let shop = Shop::open(Options { orders: 60, ..Options::default() });
    let scratch = ScratchDir::new();
    let loaded = pipeline(&yaml(&shop, &scratch, "parquet"));
    // Our clock is a year behind the shop's.
    let behind = Arc::new(tessera_kernel::ManualClock::at(shop.clock.now().minus(Duration::from_secs(365 * 86_400))));
    let report = run_well(&loaded, backfill(), Arc::clone(&behind) as Arc<dyn Clock>);
    let cursor = present(&loaded).state.resources["orders"].cursor.unwrap();
    assert!(cursor <= Cursor::At(behind.now()), "{cursor}");
    assert!(report.warnings.iter().any(|note| note.contains("future")), "{:?}", report.warnings);
    shop.assert_copied(&loaded, "orders");
    run_well(&loaded, incremental(), behind);
    shop.assert_copied(&loaded, "orders");
}

#[test]
fn an_empty_shop_is_copied_truthfully() {
    let shop = Shop::open(Options { orders: 0, customers: 0, ..Options::default() });
    let scratch = ScratchDir::new();
    let loaded = pipeline(&yaml(&shop, &scratch, "parquet"));
    let clock = || Arc::clone(&shop.clock) as Arc<dyn Clock>;
    for options in [backfill(), incremental(), backfill()] {
        let report = run_well(&loaded, options, clock());
        assert_eq!(report.status, RunStatus::Succeeded);
        TABLES.into_iter().for_each(|table| shop.assert_copied(&loaded, table));
    }
}
