//! The OpenAPI document.

use serde_json::Value;
use tessera_tickets::http;

#[test]
fn every_write_is_said_to_want_its_key() {
    let document = http::openapi();
    let mut writes = 0;
    for (path, calls) in document["paths"].as_object().unwrap() {
        // Stripe's webhooks have none, and need none.
        let calls = calls.as_object().unwrap().iter().filter(|_| path != "/payments/stripe/webhook");
        for (method, call) in calls.filter(|(method, _)| ["post", "put", "patch", "delete"].contains(&method.as_str()))
        {
            let wants = |parameter: &Value| parameter["name"] == "idempotency-key" && parameter["required"] == true;
            let parameters = call["parameters"].as_array();
            assert!(parameters.is_some_and(|parameters| parameters.iter().any(wants)), "{method} {path}");
            writes += 1;
        }
    }
    assert!(writes > 20, "{writes} writes");
}

#[test]
fn the_document_is_as_published() {
    let document = serde_json::to_value(http::openapi()).unwrap();
    tessera_testkit::reference::is_published("docs/openapi/tickets.json", &document);
    assert_eq!(document["openapi"], "3.1.0");
}
