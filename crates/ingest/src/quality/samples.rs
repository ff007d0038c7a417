//! Histories for the tests of the table and the page: a shop by hand, and random ones.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tessera_kernel::Timestamp;

use super::{Check, CheckStatus, History, HistoryEntry, QualityReport};
use crate::lake::Cursor;

pub(super) fn at(hours: u64) -> Timestamp {
    let begin: Timestamp = "2026-03-18T06:00:00Z".parse().unwrap();
    begin.plus(Duration::from_secs(hours * 3600))
}

fn check(rule: &str, column: Option<&str>, status: CheckStatus, bad_rows: u64, detail: &str) -> Check {
    Check { rule: rule.into(), column: column.map(Into::into), status, bad_rows, detail: detail.into() }
}

/// A shop with ups and downs: orders of 18 runs, items of one, refunds of none.
pub(super) fn shop() -> Vec<History> {
    let orders = (0..18).map(order_run).collect();
    let nulls = BTreeMap::from([("<script>alert(1)</script>".to_owned(), 250), ("note".to_owned(), 1000)]);
    let checks = vec![check("min_rows", None, CheckStatus::Passed, 0, "1,000 rows, at least 1")];
    let report = QualityReport { rows: 1000, rows_total: 1000, nulls, checks, ..QualityReport::default() };
    let items = vec![HistoryEntry { run_id: "run_1".into(), at: at(0), report }];
    vec![
        History { name: "orders".into(), history: orders },
        History { name: "items & parts".into(), history: items },
        History { name: "refunds".into(), history: vec![] },
    ]
}

fn order_run(run: u64) -> HistoryEntry {
    let rows = if run == 0 { 21_480 } else { 900 + (run * 7919) % 600 };
    let total = 20_300 + run * 1180;
    let nulls =
        [("email", rows / 9 + run * 12), ("coupon", rows * 7 / 10), ("phone", (run > 8) as u64 * rows / 3), ("id", 0)];
    let late = run == 11;
    let mut checks = vec![
        check("unique", Some("id"), CheckStatus::Passed, 0, "every id once"),
        check("not_null", Some("updated_at"), CheckStatus::Passed, 0, "no value is missing"),
        check(
            "fresh_within",
            None,
            if late { CheckStatus::Warned } else { CheckStatus::Passed },
            0,
            "newest row is 9.4 h old; at most 1h was promised",
        ),
        check("range", Some("total"), CheckStatus::Passed, 0, "all within 0 and 100000"),
    ];
    let mut report = QualityReport {
        rows,
        rows_total: total,
        expected_rows: (run != 5).then_some(total + if run > 13 { 210 } else { 0 }),
        duplicates: [0, 0, 4, 0, 11][(run % 5) as usize],
        nulls: nulls.into_iter().map(|(name, nulls)| (name.to_owned(), nulls)).collect(),
        cursor_min: Some(Cursor::At(at(run * 4))),
        cursor_max: Some(Cursor::At(at(run * 4 + 3))),
        lag_s: Some(if late { 33_900 } else { 240 + run * 37 % 600 }),
        ..QualityReport::default()
    };
    if run == 9 {
        report.schema_changes = vec!["added column phone: string".into(), "widened weight: int to float".into()];
        report.rescued = 12;
        report.notes = vec!["cursor went backwards once, by 3 s".into()];
    }
    if run == 15 {
        checks[3] = check("range", Some("total"), CheckStatus::Quarantined, 37, "37 rows below 0, the lowest -12.50");
        report.quarantined = 37;
    }
    if run == 16 {
        checks[0] = check("unique", Some("id"), CheckStatus::Failed, 11, "11 rows repeat an id, such as 48211");
    }
    report.checks = checks;
    HistoryEntry { run_id: format!("run_{run}"), at: at(run * 4), report }
}

fn cursor() -> impl Strategy<Value = Option<Cursor>> {
    prop_oneof![
        Just(None),
        any::<i64>().prop_map(|n| Some(Cursor::Number(n))),
        any::<i64>().prop_map(|n| Some(Cursor::At(Timestamp::from_micros(n)))),
    ]
}

/// Small numbers, and the largest there are.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0u64..50, 0u64..1_000_000, any::<u64>(), Just(u64::MAX)]
}

prop_compose! {
    fn random_check()(rule in ".{0,8}", column in prop::option::of(".{0,8}"), status in 0usize..4, bad_rows in number(), detail in ".{0,20}") -> Check {
        let all = [CheckStatus::Passed, CheckStatus::Warned, CheckStatus::Failed, CheckStatus::Quarantined];
        Check { rule, column, status: all[status], bad_rows, detail }
    }
}

prop_compose! {
    fn random_entry()(
        run_id in ".{0,8}", at in any::<i64>(),
        numbers in prop::array::uniform6(number()),
        expected_rows in prop::option::of(number()), lag_s in prop::option::of(number()),
        nulls in prop::collection::btree_map(".{0,8}", number(), 0..4),
        cursors in (cursor(), cursor()),
        words in prop::array::uniform2(prop::collection::vec(".{0,12}", 0..3)),
        checks in prop::collection::vec(random_check(), 0..4),
    ) -> HistoryEntry {
        let [rows, rows_total, duplicates, rescued, quarantined, overlap] = numbers;
        let [schema_changes, notes] = words;
        let report = QualityReport {
            rows, rows_total, expected_rows, duplicates, nulls, cursor_min: cursors.0, cursor_max: cursors.1, lag_s,
            schema_changes, rescued, quarantined, overlap, notes, checks,
        };
        HistoryEntry { run_id, at: Timestamp::from_micros(at), report }
    }
}

prop_compose! {
    fn random_history()(name in ".{0,12}", history in prop::collection::vec(random_entry(), 0..6)) -> History {
        History { name, history }
    }
}

/// Any histories, sense or not.
pub(super) fn histories() -> impl Strategy<Value = Vec<History>> {
    prop::collection::vec(random_history(), 0..4)
}
