//! The pages of rides in real browsers, over the real binary: rider, driver and operator, each with a session of their own.

use std::path::Path;

use serde_json::{Value, json};
use tessera_testkit::bin::{Process, tessera_command};
use tessera_testkit::{Browser, ScratchDir};

use crate::tessera;

const PHONE: (u32, u32) = (390, 844);
/// Types into a field as a person does.
const TYPE: &str = "const field = document.querySelector(arguments[0]);
    field.value = arguments[1];
    field.dispatchEvent(new Event('input', { bubbles: true }));";
/// Taps the map at shares of its width and height.
const TAP: &str = "const canvas = document.querySelector('.citymap canvas');
    const { left, top, width, height } = canvas.getBoundingClientRect();
    for (const type of ['pointerdown', 'pointerup']) canvas.dispatchEvent(new PointerEvent(type, {
      bubbles: true, pointerId: 1, button: 0, clientX: left + width * arguments[0], clientY: top + height * arguments[1] }));";
const MAP_IS_THERE: &str =
    "document.querySelector('.map-credit')?.textContent.includes('© OpenStreetMap contributors')";
/// Two streets of Porto, a kilometre and a half apart.
const HERE: &str = "41.15790, -8.61000";
const THERE: &str = "41.14500, -8.61070";

/// A server with the roads of Porto, or without any.
struct City {
    base: String,
    scratch: ScratchDir,
    _process: Process,
}

impl City {
    fn with(settings: &[(&str, &str)]) -> Self {
        let scratch = ScratchDir::new();
        let extract = concat!(env!("CARGO_MANIFEST_DIR"), "/../rides/assets/porto.osm.pbf");
        let roads = scratch.file("data").join("city.roads");
        let imported = Process::tessera(tessera(), ["rides", "import", extract, "--out", roads.to_str().unwrap()]);
        assert!(imported.wait().status.success());
        Self::start(scratch, settings)
    }

    fn start(scratch: ScratchDir, settings: &[(&str, &str)]) -> Self {
        let mut command = tessera_command(tessera());
        command.args(["up", "--listen", "127.0.0.1:0", "--data"]).arg(scratch.file("data"));
        let process = Process::spawn(command.envs(settings.iter().copied()));
        let line = process.wait_for("/metrics");
        let base = line.split_whitespace().last().unwrap().trim_end_matches("/metrics").to_owned();
        Self { base, scratch, _process: process }
    }

    /// A browser of somebody, on a page.
    fn person(&self, role: &str, subject: &str, page: &str) -> Person {
        let browser = Browser::start();
        browser.open(&format!("{}/console/logo.svg", self.base));
        let token = token(&self.scratch.file("data"), role, subject);
        let session = json!({ "token": token, "subject": subject, "roles": [role], "name": subject });
        browser.run("localStorage.setItem('tessera.session', arguments[0])", &[session.to_string().into()]);
        let person = Person { browser, base: self.base.clone() };
        person.open(page);
        person
    }

    /// A driver on duty at a place, approved by this operator.
    fn driver_on_duty(&self, name: &str, at: &str, operator: &Person) -> Person {
        let driver = self.person("driver", name, "rides/driver");
        driver.says("First, your profile");
        for (field, text) in [("name", name), ("vehicle", "white Dacia"), ("plate", "AA-00-AA")] {
            driver.types(&format!("[name={field}]"), text);
        }
        driver.browser.press("Send for approval");
        driver.says("Waiting for approval");
        operator.open("rides/operator?show=drivers");
        operator.browser.wait_until("document.querySelectorAll('.approve-list li').length === 1");
        operator.browser.press("Approve");
        operator.says("Nobody waits");
        driver.says("Off duty");
        driver.types("[name=place]", at);
        driver.browser.press("Go on duty");
        driver.says("Offers come by themselves");
        driver
    }
}

fn token(data: &Path, role: &str, subject: &str) -> String {
    let arguments = ["token", "--role", role, "--subject", subject, "--data", data.to_str().unwrap()];
    Process::tessera(tessera(), arguments).wait().stdout.trim().to_owned()
}

/// Somebody before a browser.
struct Person {
    browser: Browser,
    base: String,
}

impl Person {
    fn open(&self, page: &str) {
        self.browser.open(&format!("{}/console/#/{page}", self.base));
        self.browser.wait_until("document.querySelector('h1') && !document.querySelector('.loading')");
    }

    fn says(&self, text: &str) {
        self.browser.wait_until(&format!("document.body.innerText.includes({})", json!(text)));
    }

    fn types(&self, field: &str, text: &str) {
        self.browser.wait_until(&format!("document.querySelector({})", json!(field)));
        self.browser.run(TYPE, &[field.into(), text.into()]);
    }

    fn taps(&self, across: f64, down: f64) {
        self.browser.wait_until(MAP_IS_THERE);
        self.browser.run(TAP, &[across.into(), down.into()]);
    }

    /// From `HERE` to `THERE`, as far as the price.
    fn asks_the_price(&self) {
        self.types("[name=from]", HERE);
        self.types("[name=to]", THERE);
        self.browser.press("See the price");
        self.says("Price holds");
    }

    fn read(&self, expression: &str) -> Value {
        self.browser.run(&format!("return {expression}"), &[])
    }

    /// Nothing is cut off at the side.
    fn fits(&self) {
        let seen = self.browser.run("return [document.documentElement.scrollWidth <= innerWidth, location.hash]", &[]);
        assert_eq!(seen[0], json!(true), "{} is wider than the screen", seen[1]);
    }
}

#[test]
fn a_ride_is_clicked_through_by_rider_and_driver() {
    let city = City::with(&[]);
    let operator = city.person("operator", "ona", "rides/operator");
    let driver = city.driver_on_duty("dora", HERE, &operator);
    driver.browser.press("Drive by itself");
    driver.browser.press("15 times");
    let rider = city.person("rider", "ana", "rides");
    rider.browser.resize(PHONE.0, PHONE.1);
    driver.browser.resize(PHONE.0, PHONE.1);

    // Two taps are a wish; the map is one of OpenStreetMap.
    rider.says("Where are you?");
    rider.taps(0.42, 0.4);
    rider.says("Where to?");
    rider.taps(0.56, 0.44);
    rider.says("Price holds");
    assert!(rider.read("document.querySelector('.price').textContent").as_str().unwrap().starts_with('€'));
    rider.fits();
    rider.browser.press("Request this ride");
    rider.says("Looking for a driver");

    driver.says("A ride is offered");
    driver.fits();
    driver.browser.press("Accept");
    driver.says("To the rider");
    rider.says("Your car is coming");
    rider.says("white Dacia");
    // The position comes with the stream, and with it how far it is.
    rider.browser.wait_until("document.body.innerText.includes(' min away')");
    rider.fits();

    operator.open("rides/operator");
    operator.browser.wait_until("document.querySelectorAll('tbody tr').length === 1");
    operator.says("Car on its way");
    operator.browser.wait_until("document.querySelector('.tile dd').textContent.startsWith('0')");
    operator.browser.run("document.querySelector('tbody a').click()", &[]);
    operator.says("dora accepted");

    driver.says("You are there");
    driver.browser.press("I have arrived");
    rider.says("Your car is here");
    let code = rider.read("document.querySelector('.big-code').textContent");
    let wrong = if code == "0000" { "1111" } else { "0000" };
    driver.types("#ride-code", wrong);
    driver.browser.press("Start the trip");
    driver.says("Wrong code");
    driver.says("rides.wrong_code");
    driver.fits();
    driver.browser.press("Dismiss");
    driver.types("#ride-code", code.as_str().unwrap());
    driver.browser.press("Start the trip");
    rider.says("On your trip");
    driver.says("You are there");
    driver.browser.press("Complete the trip");
    driver.says("Trip completed");
    rider.says("You are there");
    rider.browser.press("New ride");
    rider.says("Your last rides");
    rider.browser.wait_until("document.querySelectorAll('.ride-list li').length === 1");
    for step in ["Offered to dora", "At the pickup", "The rider got in", "Completed"] {
        operator.says(step);
    }
    operator.browser.resize(PHONE.0, PHONE.1);
    operator.browser.wait_until("innerWidth < 400");
    operator.fits();
    driver.browser.press("End the shift");
    driver.says("Off duty");
    for person in [&rider, &driver, &operator] {
        let faults: Vec<String> =
            person.browser.complaints().into_iter().filter(|text| !text.contains("Failed to load resource")).collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

/// A denial is the rider's business only as longer waiting; who cancels before somebody has accepted owes nothing.
#[test]
fn a_denied_offer_goes_on_and_a_rider_gives_up() {
    let city = City::with(&[]);
    let operator = city.person("operator", "ona", "rides/operator");
    let driver = city.driver_on_duty("dora", HERE, &operator);
    let rider = city.person("rider", "ana", "rides");
    rider.asks_the_price();
    rider.browser.press("Request this ride");
    driver.says("A ride is offered");
    driver.browser.press("Deny");
    driver.says("Offers come by themselves");
    rider.says("Drivers near you are asked one after the other.");
    // The page knows the ride again when it is opened anew.
    rider.open("rides");
    rider.says("Looking for a driver");
    rider.browser.press("Cancel the ride");
    rider.says("Cancelling is free.");
    rider.types("#reason", "took the tram");
    rider.browser.run("document.querySelector('dialog [type=submit]').click()", &[]);
    rider.says("By you: took the tram.");
    rider.says("You pay nothing.");
    operator.open("rides/operator?rides=over");
    operator.browser.wait_until("document.querySelector('tbody a')");
    operator.browser.run("document.querySelector('tbody a').click()", &[]);
    operator.says("dora denied");
    operator.says("Cancelled by the rider: took the tram");
}

#[test]
fn what_goes_wrong_is_told_with_what_to_do() {
    let city = City::with(&[("TESSERA__RIDES__ESTIMATE_TTL_S", "6"), ("TESSERA__RIDES__MATCHING__SEARCH_S", "1")]);
    let rider = city.person("rider", "ana", "rides");
    // A place far out at sea, and a text that is none.
    rider.types("[name=from]", "41.10000, -8.90000");
    rider.types("[name=to]", "there");
    rider.says("is no place");
    rider.types("[name=to]", THERE);
    rider.browser.press("See the price");
    rider.says("No road there");
    rider.says("move the point to a street");
    rider.browser.press("Dismiss");
    rider.asks_the_price();
    rider.says("Nobody is near now");
    rider.browser.press("Get a fresh price");
    rider.browser.press("Request this ride");
    rider.says("Nobody was found");
    rider.browser.press("Try again");
    rider.says("Price holds");
    rider.browser.press("Change");
    // Places can be chosen by keyboard: what is in the middle of the map.
    rider.browser.wait_until(MAP_IS_THERE);
    rider.types("[name=to]", "");
    let enter = "document.querySelector('.citymap canvas')
        .dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true }))";
    rider.browser.run(enter, &[]);
    rider.says("Price holds");
    // A page for others says whose it is.
    rider.open("rides/operator");
    rider.says("This page is for operators");
}

/// Without roads there are still rides; the page says what is missing.
#[test]
fn without_a_map_places_are_written() {
    let city = City::start(ScratchDir::new(), &[]);
    let rider = city.person("rider", "ana", "rides");
    rider.says("There is no map");
    rider.says("tessera rides import");
    rider.asks_the_price();
    rider.fits();
}
