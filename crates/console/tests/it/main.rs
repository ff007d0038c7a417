//! The modules of the pages in a real browser: what they compute, without any API.

use serde_json::Value;
use tessera_testkit::Browser;

/// Every check of `modules.js` that does not hold, by name.
#[test]
fn modules_compute_what_they_promise() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, tessera_console::router()).await });
    let browser = Browser::start();
    // Any page of ours will do: modules are only taken from where the page is from.
    browser.open(&format!("http://{address}/console/logo.svg"));
    let Value::Array(failed) = browser.run(include_str!("modules.js"), &[]) else { panic!("no list of failures") };
    assert!(failed.is_empty(), "{failed:#?}\n{:?}", browser.complaints());
}
