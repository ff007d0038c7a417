//! Pages and lists as APIs really give them: capped, past the end, emptied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};
use tessera_kernel::SystemClock;
use tessera_testkit::ScratchDir;

use crate::support::{Api, incremental, pipeline, rows_of, run_well};

/// An API of 53 rows that gives no more than `cap` a page, whatever is asked for, and 404 past the last page.
fn capped(cap: usize, tells_total: bool) -> Api {
    let page = move |query: Query<std::collections::BTreeMap<String, String>>| async move {
        let number: usize = query.0["page"].parse().unwrap();
        let rows: Vec<Value> = (0..53).skip((number - 1) * cap).take(cap).map(|id| json!({ "id": id })).collect();
        if rows.is_empty() && number > 1 {
            return (StatusCode::NOT_FOUND, "no such page".to_owned());
        }
        let total = if tells_total { json!(53) } else { Value::Null };
        (StatusCode::OK, json!({ "data": rows, "total": total }).to_string())
    };
    Api::serve(move |_| Router::new().route("/r", get(page)))
}

#[test]
fn pages_smaller_than_asked_for_are_all_read() {
    for (cap, tells_total) in [(10, true), (10, false), (25, true), (25, false), (53, true), (100, false)] {
        let (api, scratch) = (capped(cap, tells_total), ScratchDir::new());
        let loaded = pipeline(&format!(
            "version: 1\nname: t\nsource: {{ base_url: \"{}\" }}\nresources:\n  - {{ name: r, path: /r, records: data, total: total, primary_key: [id], paginator: {{ type: page, size_param: n, size: 100 }} }}\ndestination: {{ url: \"{}\" }}\n",
            api.base,
            scratch.path().display()
        ));
        run_well(&loaded, incremental(), Arc::new(SystemClock));
        assert_eq!(rows_of(&loaded, "r", &["id"]).len(), 53, "pages of {cap}, total told: {tells_total}");
    }
}

#[test]
fn a_parent_that_comes_again_without_items_has_none_left() {
    let emptied = Arc::new(AtomicBool::new(false));
    let later = Arc::clone(&emptied);
    let api = Api::serve(move |_| {
        let rows = move || {
            let rows = match later.load(Ordering::SeqCst) {
                false => json!([
                    { "id": 1, "at": "2024-01-01T00:00:00Z", "l": [{ "x": 1 }, { "x": 2 }] },
                    { "id": 2, "at": "2024-01-01T00:00:00Z", "l": [{ "x": 3 }] }
                ]),
                true => json!([{ "id": 1, "at": "2024-02-01T00:00:00Z", "l": [] }]),
            };
            async move { rows.to_string() }
        };
        Router::new().route("/p", get(rows))
    });
    let scratch = ScratchDir::new();
    let loaded = pipeline(&format!(
        "version: 1\nname: t\nsource: {{ base_url: \"{}\" }}\nresources:\n  - {{ name: p, path: /p, primary_key: [id], lists: child_table, incremental: {{ cursor: at, param: since }} }}\ndestination: {{ url: \"{}\" }}\n",
        api.base,
        scratch.path().display()
    ));
    run_well(&loaded, incremental(), Arc::new(SystemClock));
    assert_eq!(rows_of(&loaded, "p__l", &["x"]).len(), 3);
    emptied.store(true, Ordering::SeqCst);
    run_well(&loaded, incremental(), Arc::new(SystemClock));
    assert_eq!(rows_of(&loaded, "p__l", &["x"]), [["3"]]);
}
