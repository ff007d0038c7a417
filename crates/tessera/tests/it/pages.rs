//! The pages in a real browser, over the real binary: each draws at the width of a phone and of a desk, for each role.

use std::time::{Duration, Instant};

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
            "",
            "ingest/pipelines",
            "ingest/pipelines/shop",
            "ingest/pipelines/shop/files",
            "ingest/pipelines/shop/schema",
            "ingest/pipelines/shop/quality",
            "ingest/runs",
            "gateway",
            "rides/operator",
            "rides/operator?show=drivers",
            "rides/operator?show=areas",
            "rides/operator/rides/ride_00000000000000000000000100000000",
        ],
    ),
    ("Sign in as the door", &["tickets/door", "tickets/door?event=event_00000000000000000000000100000000"]),
];

/// How long the first run of the demo may take, on a machine that is busy with other tests.
const FIRST_RUN: Duration = Duration::from_secs(180);
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

const PAGES_OF_OPERATORS: [(&str, &str); 5] = [
    ("ingest/pipelines", "for operators"),
    ("ingest/pipelines/shop", "for operators"),
    ("ingest/pipelines/shop/quality", "for operators"),
    ("ingest/runs", "for operators"),
    ("gateway", "Only an operator"),
];

/// Who may not see them is told why and where to sign in, and comes back as an operator to where the way began.
#[test]
fn pages_of_ingest_and_gateway_are_for_operators() {
    let scratch = ScratchDir::new();
    let (_process, base) = up_demo(&scratch);
    let browser = Browser::start();
    let says = |text: &str| browser.wait_until(&format!("document.body.innerText.includes({})", json!(text)));
    let asked = |what: &str| {
        let asked =
            "return performance.getEntriesByType('resource').filter(({ name }) => name.includes('/ingest/')).length";
        assert_eq!(browser.run(asked, &[]), json!(0), "{what}: nothing is asked for in vain");
    };
    for (width, height) in [PHONE, DESK] {
        browser.resize(width, height);
        for (page, why) in PAGES_OF_OPERATORS {
            browser.open(&format!("{base}/#/{page}"));
            says("Sign in first");
            says(why);
            asked(page);
            let fits = browser.run("return document.documentElement.scrollWidth <= innerWidth", &[]);
            assert_eq!(fits, json!(true), "`{page}` is wider than {width}");
        }
        browser.open(&format!("{base}/#/"));
        says("What runs here");
        says("for operators");
        asked("home");
    }
    // Somebody else's role does not do.
    browser.open(&format!("{base}/#/sign-in"));
    browser.press("Sign in as a fan");
    browser.wait_until("localStorage.getItem('tessera.session') && !location.hash.startsWith('#/sign-in')");
    browser.open(&format!("{base}/#/ingest/pipelines/shop"));
    says("This page is for operators");
    says("You are signed in as fan.");
    asked("as a fan");
    browser.run("document.querySelector('.empty a.button').click()", &[]);
    says("Switch person");
    browser.press("Sign in as an operator");
    browser.wait_until("location.hash === '#/ingest/pipelines/shop'");
    // What can be done there works with the token of the page.
    browser.wait_until("document.querySelector('[data-action=run]') && !document.querySelector('.loading')");
    browser.press("Run now");
    browser.wait_until("document.querySelector('.toast, .banner[role=alert]')");
    let told = browser.run("return document.body.innerText", &[]);
    let told = told.as_str().unwrap();
    // The first run may be at work still.
    assert!(told.contains("run accepted") || told.contains("ingest.conflict"), "{told}");
    // The page of quality can be kept as a file, which needs the token as well.
    browser.open(&format!("{base}/#/ingest/pipelines/shop/quality"));
    browser.run("const click = HTMLAnchorElement.prototype.click;
        HTMLAnchorElement.prototype.click = function () { if (this.download) window.saved = this.download; else click.call(this); };", &[]);
    // What is measured comes with the first run, which may take its time on a busy machine.
    let is_measured = "return Boolean(document.querySelector('.plots'))";
    let began = Instant::now();
    while browser.run(is_measured, &[]) == json!(false) && began.elapsed() < FIRST_RUN {
        std::thread::sleep(Duration::from_millis(200));
    }
    browser.press("Save as a page");
    browser.wait_until("window.saved === 'shop-quality.html'");
    // The gateway's page counts what this page and the others have asked for.
    browser.open(&format!("{base}/#/gateway"));
    for part in ["Requests a second", "Routes", "Services behind", "The config it was started with"] {
        says(part);
    }
    let counted = "const row = [...document.querySelectorAll('table[aria-label=Routes] tbody tr')]
          .find((row) => row.querySelector('th').textContent.includes('/ingest/*'));
        return Number(row.querySelector('td:last-child').textContent.replaceAll(/\\D/g, ''))";
    assert!(browser.run(counted, &[]).as_u64().is_some_and(|requests| requests > 0));
    // Signing out ends it at once.
    browser.press("Sign out");
    says("Sign in first");
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
