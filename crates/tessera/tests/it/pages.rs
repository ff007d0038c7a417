//! The pages in a real browser, over the real binary: each draws at the width of a phone and of a desk, for each role.

use serde_json::{Value, json};
use tessera_testkit::bin::{Process, tessera_command};
use tessera_testkit::{Browser, ScratchDir};

use crate::tessera;

const PHONE: (u32, u32) = (390, 844);
const DESK: (u32, u32) = (1280, 900);

/// Pages by who may see them. `event_0…` and the like are not there: their pages say so.
const PAGES: &[(&str, &[&str])] = &[
    (
        "Sign in as a fan",
        &[
            "",
            "ingest/pipelines",
            "ingest/pipelines/shop",
            "ingest/pipelines/shop/files",
            "ingest/pipelines/shop/schema",
            "ingest/pipelines/shop/quality",
            "ingest/runs",
            "tickets",
            "tickets?term=porto&date=weekend",
            "tickets/events/event_00000000000000000000000100000000",
            "tickets/events/event_00000000000000000000000100000000/waiting-room",
            "tickets/checkout/hold_00000000000000000000000100000000",
            "tickets/orders",
            "tickets/orders/order_00000000000000000000000100000000",
            "sign-in",
            "no/such/page",
        ],
    ),
    (
        "Sign in as an organiser",
        &[
            "tickets/organiser",
            "tickets/organiser/venues",
            "tickets/organiser/plans",
            "tickets/organiser/new",
            "tickets/organiser/events/event_00000000000000000000000100000000",
            "tickets/orders",
        ],
    ),
    ("Sign in as a rider", &["rides", "rides/driver"]),
    ("Sign in as a driver", &["rides/driver"]),
    (
        "Sign in as an operator",
        &[
            "rides/operator",
            "rides/operator?show=drivers",
            "rides/operator?show=areas",
            "rides/operator/rides/ride_00000000000000000000000100000000",
        ],
    ),
    ("Sign in as the door", &["tickets/door", "tickets/door?event=event_00000000000000000000000100000000"]),
];

/// A page is drawn when it has a heading and nothing is being loaded.
const DRAWN: &str = "document.querySelector('h1') && !document.querySelector('.loading')";

fn up_demo(scratch: &ScratchDir) -> (Process, String) {
    let mut command = tessera_command(tessera());
    command.args(["up", "--demo", "--listen", "127.0.0.1:0", "--data"]).arg(scratch.file("data"));
    let process = Process::spawn(command.env("TESSERA__DEMO__ADDRESS", "127.0.0.1:0"));
    let line = process.wait_for("watch the demo pipeline");
    let base = line.split_whitespace().last().unwrap().split("/console").next().unwrap().to_owned();
    (process, base)
}

#[test]
fn every_page_draws_on_a_phone_and_on_a_desk() {
    let scratch = ScratchDir::new();
    let (_process, base) = up_demo(&scratch);
    let browser = Browser::start();
    for (who, pages) in PAGES {
        browser.open(&format!("{base}/#/sign-in"));
        browser.press(who);
        browser.wait_until("localStorage.getItem('tessera.session') && !location.hash.startsWith('#/sign-in')");
        for page in *pages {
            for (width, height) in [PHONE, DESK] {
                browser.resize(width, height);
                browser.open(&format!("{base}/#/{page}"));
                browser.wait_until(DRAWN);
                let seen = browser
                    .run("return [document.documentElement.scrollWidth <= innerWidth, document.body.innerText]", &[]);
                assert_eq!(seen[0], json!(true), "`{page}` is wider than {width}: {}", seen[1]);
                let text = seen[1].as_str().unwrap();
                assert!(!text.contains("could not be drawn"), "`{page}` at {width}: {text}");
            }
        }
    }
    // What the server refused is told by the pages; anything else is a fault of theirs.
    let faults: Vec<String> =
        browser.complaints().into_iter().filter(|text| !text.contains("Failed to load resource")).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Names come from people: whatever is in them is text.
#[test]
fn a_script_in_a_name_is_shown_as_text() {
    let scratch = ScratchDir::new();
    let (_process, base) = up_demo(&scratch);
    let browser = Browser::start();
    browser.open(&format!("{base}/#/sign-in"));
    browser.press("Sign in as an organiser");
    browser.wait_until("localStorage.getItem('tessera.session')");
    let name = "<img src=x onerror='document.title = 1'><b>Arena</b>";
    let made = browser.run(
        "const { token } = JSON.parse(localStorage.getItem('tessera.session'));
         return fetch('/organiser/plans', {
           method: 'POST',
           headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'idempotency-key': 'plan-1' },
           body: JSON.stringify({ generate: { kind: 'theatre', seats: 100, name: arguments[0] } }),
         }).then((answer) => answer.status)",
        &[Value::from(name)],
    );
    assert_eq!(made, json!(201));
    browser.open(&format!("{base}/#/tickets/organiser/plans"));
    browser.wait_until("document.querySelector('table')");
    let seen = browser.run(
        "return [document.body.innerText.includes(arguments[0]), document.querySelectorAll('main img, main b').length]",
        &[Value::from(name)],
    );
    assert_eq!(seen, json!([true, 0]));
}
