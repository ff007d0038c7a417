//! The modules of the pages in a real browser, without any API: what they compute, and what they draw.
#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

use serde_json::Value;
use tessera_testkit::Browser;

/// Every check of a script that does not hold, by name, in that page of the console.
fn failures(page: &str, script: &str) -> Vec<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, tessera_console::router()).await });
    let browser = Browser::start();
    browser.open(&format!("http://{address}/console/{page}"));
    match browser.run(script, &[]) {
        Value::Array(failed) => failed,
        other => panic!("no list of failures: {other}\n{:?}", browser.complaints()),
    }
}

#[test]
fn what_is_drawn_again_stays_where_it_is() {
    let failed = failures("", include_str!("drawing.js"));
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn modules_compute_what_they_promise() {
    // Any page of ours will do: modules are only taken from where the page is from.
    let failed = failures("logo.svg", include_str!("modules.js"));
    assert!(failed.is_empty(), "{failed:#?}");
}
