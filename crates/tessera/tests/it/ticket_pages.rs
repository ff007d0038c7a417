//! The pages of tickets in a real browser, over the real binary: what a buyer, an organiser and the door do with them.

use std::path::Path;

use serde_json::{Value, json};
use tessera_testkit::bin::{Process, tessera_command};
use tessera_testkit::{Browser, ScratchDir, free_port, stripe};

use crate::tessera;

/// Sends a request from the page and gives `[status, body]`.
const ASK: &str = "const [method, path, body, key] = arguments;
    const { token } = JSON.parse(localStorage.getItem('tessera.session'));
    const headers = { authorization: `Bearer ${token}`, 'idempotency-key': key };
    if (body !== null) headers['content-type'] = 'application/json';
    return fetch(path, { method, headers, body: body === null ? undefined : JSON.stringify(body) })
      .then(async (answer) => [answer.status, await answer.json()]);";
/// Types into a field as a person does.
const TYPE: &str = "const field = document.querySelector(arguments[0]);
    field.value = arguments[1];
    field.dispatchEvent(new Event('input', { bubbles: true }));";

/// A server and a browser that is signed in there.
struct Desk {
    browser: Browser,
    base: String,
    scratch: ScratchDir,
    keys: std::cell::Cell<u32>,
    _process: Process,
}

impl Desk {
    fn with(settings: &[(&str, &str)]) -> Self {
        let scratch = ScratchDir::new();
        let mut command = tessera_command(tessera());
        command.args(["up", "--listen", "127.0.0.1:0", "--data"]).arg(scratch.file("data"));
        let process = Process::spawn(command.envs(settings.iter().copied()));
        let line = process.wait_for("/metrics");
        let base = line.split_whitespace().last().unwrap().trim_end_matches("/metrics").to_owned();
        Self { browser: Browser::start(), base, scratch, keys: Default::default(), _process: process }
    }

    /// From now on the browser is this person.
    fn sign_in(&self, role: &str, subject: &str) {
        let data = self.scratch.file("data");
        let token = token(&data, role, subject);
        self.browser.open(&format!("{}/console/logo.svg", self.base));
        let session = json!({ "token": token, "subject": subject, "roles": [role], "name": subject });
        self.browser.run("localStorage.setItem('tessera.session', arguments[0])", &[session.to_string().into()]);
    }

    fn open(&self, page: &str) {
        self.browser.open(&format!("{}/console/#/{page}", self.base));
        self.browser.wait_until("document.querySelector('h1') && !document.querySelector('.loading')");
    }

    fn ask(&self, method: &str, path: &str, body: Value) -> Value {
        self.keys.set(self.keys.get() + 1);
        let key = format!("desk-{}", self.keys.get());
        let answer = self.browser.run(ASK, &[method.into(), path.into(), body, key.into()]);
        assert!(answer[0].as_u64().unwrap() < 300, "{method} {path}: {answer:#}");
        answer[1].clone()
    }

    /// A hall with numbered seats on sale; gives the event's id. The browser is its organiser afterwards.
    fn event_on_sale(&self) -> String {
        self.sign_in("organiser", "olga");
        let plan = self.ask("POST", "/organiser/plans", json!({ "generate": { "kind": "theatre", "seats": 120 } }));
        let venue = json!({ "name": "Hall", "city": "Porto", "country": "PT", "timezone": "Europe/Lisbon" });
        let venue = self.ask("POST", "/organiser/venues", venue);
        let categories = ["Premium", "Stalls", "Circle", "Gallery"];
        let level = json!({ "key": "all", "name": "All", "price": 2500, "color": "#336699", "categories": categories });
        let event = json!({
            "name": "A play", "kind": "theatre", "venue": venue["id"], "plan": plan["id"], "currency": "EUR",
            "starts_at": "2094-03-01T20:00:00Z", "price_levels": [level],
        });
        let event = self.ask("POST", "/organiser/events", event)["id"].as_str().unwrap().to_owned();
        self.ask("POST", &format!("/organiser/events/{event}/publish"), json!({}));
        event
    }

    /// Two seats in the checkout of a fan.
    fn check_out(&self, event: &str) {
        self.sign_in("fan", "ana");
        self.open(&format!("tickets/events/{event}"));
        self.browser.press("Find and hold");
        self.browser.press("Go to payment");
        self.browser.wait_until("document.querySelector('h1').textContent === 'Checkout'");
    }

    fn text(&self) -> String {
        self.browser.run("return document.body.innerText", &[]).as_str().unwrap().to_owned()
    }

    fn says(&self, text: &str) {
        self.browser.wait_until(&format!("document.body.innerText.includes({})", json!(text)));
    }
}

fn token(data: &Path, role: &str, subject: &str) -> String {
    let arguments = ["token", "--role", role, "--subject", subject, "--data", data.to_str().unwrap()];
    Process::tessera(tessera(), arguments).wait().stdout.trim().to_owned()
}

fn stripe_settings(stand_in: &stripe::Stripe, script: &str) -> Vec<(&'static str, String)> {
    vec![
        ("TESSERA__TICKETS__PAYMENTS__PROVIDER", "stripe".into()),
        ("TESSERA__TICKETS__PAYMENTS__STRIPE_URL", stand_in.url.clone()),
        ("TESSERA__TICKETS__PAYMENTS__STRIPE_API_KEY", stripe::API_KEY.into()),
        ("TESSERA__TICKETS__PAYMENTS__STRIPE_WEBHOOK_SECRET", stripe::WEBHOOK_SECRET.into()),
        ("TESSERA__TICKETS__PAYMENTS__STRIPE_SCRIPT_URL", script.into()),
    ]
}

fn as_texts<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// Types into the field that the stand-in's script has put into the frame.
fn type_card(desk: &Desk, number: &str) {
    let field = "document.querySelector('.card-frame')?.contentDocument?.querySelector('#stand-in-number')";
    desk.browser.wait_until(field);
    // The frame tells the page with a message; one that is sent after it is heard after it.
    let typed = format!(
        "const field = {field}; window.heard = false; \
         window.addEventListener('message', ({{ data }}) => {{ window.heard ||= data === 'typed'; }}); \
         field.value = arguments[0]; field.oninput(); window.postMessage('typed', '*');"
    );
    desk.browser.run(&typed, &[number.into()]);
    desk.browser.wait_until("window.heard");
}

#[test]
fn cards_are_typed_into_the_form_of_stripe() {
    let stand_in = stripe::start();
    let mut settings = stripe_settings(&stand_in, &format!("{}/v3/", stand_in.url));
    settings.push(("TESSERA__TICKETS__PAYMENTS__STRIPE_PUBLISHABLE_KEY", "pk_test_stand_in".into()));
    let desk = Desk::with(&as_texts(&settings));
    let event = desk.event_on_sale();
    desk.check_out(&event);
    type_card(&desk, "4000000000000002");
    desk.browser.press("Pay €50");
    desk.says("The card was declined");
    assert!(!desk.text().contains("Test cards"), "{}", desk.text());
    type_card(&desk, "4242");
    desk.browser.press("Pay €50");
    desk.says("The card is not complete.");
    type_card(&desk, "4242 4242 4242 4242");
    desk.browser.press("Pay €50");
    desk.says("Done: these are your tickets");
    desk.browser.wait_until("document.querySelectorAll('.ticket-code img').length === 2");
    let taken: Vec<i64> = stand_in.charged().iter().map(|charged| charged.captured).collect();
    assert_eq!(taken, [0, 5_000]);
    // The code for a door that types, which an order does not carry.
    desk.browser.press("Copy code");
    desk.browser.wait_until("/T1\\.|clipboard/.test(document.querySelector('.toast')?.textContent)");
}

#[test]
fn a_card_form_that_does_not_load_or_is_not_there_is_told() {
    let stand_in = stripe::start();
    let nowhere = format!("127.0.0.1:{}", free_port());
    let mut settings = stripe_settings(&stand_in, &format!("http://{nowhere}/v3/"));
    let keyless = Desk::with(&as_texts(&settings));
    let event = keyless.event_on_sale();
    keyless.check_out(&event);
    keyless.says("stripe_publishable_key");
    settings.push(("TESSERA__TICKETS__PAYMENTS__STRIPE_PUBLISHABLE_KEY", "pk_test_stand_in".into()));
    let desk = Desk::with(&as_texts(&settings));
    let event = desk.event_on_sale();
    desk.check_out(&event);
    desk.says("The card form cannot be loaded");
    desk.says(&nowhere);
    let disabled = desk.browser.run("return document.querySelector('.payment [type=submit]').disabled", &[]);
    assert_eq!(disabled, json!(true), "nothing to pay with");
}

/// The answer to a payment without an answer names its order, which the page then asks for.
#[test]
fn a_payment_without_an_answer_is_followed_to_its_end() {
    let desk = Desk::with(&[("TESSERA__TICKETS__PAYMENTS__TIMEOUT_S", "1")]);
    let event = desk.event_on_sale();
    // It answers after two seconds; this one is waited for one.
    desk.check_out(&event);
    desk.browser.press("4000 0000 0001 0001");
    desk.browser.press("Pay €50");
    desk.says("The payment is being settled");
    desk.says("Done: these are your tickets");
    // This one never does: the page goes on asking, also after it was left.
    desk.check_out(&event);
    desk.browser.press("4000 0000 0001 0035");
    desk.browser.press("Pay €50");
    desk.says("The payment is being settled");
    assert!(!desk.text().contains("its log says why"), "{}", desk.text());
    desk.browser.run("location.reload()", &[]);
    desk.says("The payment is being settled");
}

/// Lists of an organiser are read to their end: more than one page of the API, and more than a table at once.
#[test]
fn an_organiser_sees_all_of_a_long_list() {
    let desk = Desk::with(&[]);
    desk.sign_in("organiser", "olga");
    let made = desk.browser.run(
        "const { token } = JSON.parse(localStorage.getItem('tessera.session'));
         const post = (path, key, body) => fetch(path, {
           method: 'POST', body: JSON.stringify(body),
           headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'idempotency-key': key },
         }).then((answer) => answer.json());
         const venue = (at) => post('/organiser/venues', `venue-${at}`, { name: `Hall ${at}`, city: 'Porto', country: 'PT', timezone: 'Asia/Tokyo' });
         const event = (at, { id }) => post('/organiser/events', `event-${at}`, {
           name: `Evening ${at}`, kind: 'talk', venue: id, currency: 'EUR', starts_at: `2094-03-01T${10 + (at % 5)}:00:00Z`,
           price_levels: [{ key: 'a', name: 'A', price: 100, color: '#336699' }], areas: [{ key: 'a', name: 'A', capacity: 5, price_level: 'a' }],
         });
         const many = (count, make) => Promise.all(Array.from({ length: count }, (_, at) => make(at)));
         return many(520, venue).then((venues) => many(130, (at) => event(at, venues[500])))
           .then((events) => events.filter(({ id }) => id).length);",
        &[],
    );
    assert_eq!(made, json!(130));
    desk.open("tickets/organiser");
    desk.says("Drafts 130");
    let rows = "document.querySelectorAll('main tbody tr').length";
    desk.browser.wait_until(&format!("{rows} === 50"));
    desk.browser.press("Show more");
    desk.browser.press("Show more");
    desk.browser.wait_until(&format!("{rows} === 130"));
    // The first of them begins at ten o'clock UTC, in a venue on the list's second page.
    desk.says("Mon, 1 Mar 2094, 19:00");
    desk.browser.run(TYPE, &[".find".into(), "evening 129".into()]);
    desk.browser.wait_until(&format!("{rows} === 1"));
    desk.open("tickets/organiser/venues");
    desk.browser.wait_until(&format!("{rows} === 520"));
    desk.open("tickets/organiser/new");
    desk.browser
        .wait_until("[...document.querySelectorAll('option')].some((one) => one.textContent.startsWith('Hall 519'))");
}

/// A stage is drawn on the map, and what is pointed at is told again when the map has moved beneath the pointer.
#[test]
fn a_map_has_its_stage_and_its_tip_follows() {
    let desk = Desk::with(&[]);
    let event = desk.event_on_sale();
    let plan = desk.ask("GET", &format!("/event/{event}/plan"), Value::Null);
    let stage = &plan["shapes"][0];
    assert_eq!((&stage["shape"], &stage["text"]), (&json!("rectangle"), &json!("Stage")), "{stage}");
    desk.sign_in("fan", "ana");
    desk.open(&format!("tickets/events/{event}"));
    desk.browser.wait_until("document.querySelector('.seatmap canvas')?.width > 300");
    let at = "const canvas = document.querySelector('.seatmap canvas');
         const { left, top, width, height } = canvas.getBoundingClientRect();
         const send = (type, more) => canvas.dispatchEvent(new PointerEvent(type, {
           bubbles: true, pointerId: 1, pointerType: 'mouse', clientX: left + width / 2, clientY: top + height / 2, ...more }));";
    desk.browser.run(&format!("{at} send('pointermove')"), &[]);
    desk.browser.wait_until("!document.querySelector('.map-tip').hidden");
    let tip = "document.querySelector('.map-tip').textContent";
    let before = desk.browser.run(&format!("return {tip}"), &[]);
    let zoom = format!(
        "{at} canvas.dispatchEvent(new WheelEvent('wheel', {{ deltaY: -1500, clientX: left + width / 2, clientY: top + height * 0.6, cancelable: true, bubbles: true }}))"
    );
    desk.browser.run(&zoom, &[]);
    desk.browser.wait_until(&format!("document.querySelector('.map-tip').hidden || {tip} !== {before}"));
}

/// A picture of a ticket before the camera, on a page of its own: turned, in bad light, among other things.
const CAMERA: &str = "const picture = new Image();
    picture.src = URL.createObjectURL(new Blob([arguments[0]], { type: 'image/svg+xml' }));
    return picture.decode().then(() => {
      const canvas = document.createElement('canvas');
      Object.assign(canvas, { width: 1280, height: 720 });
      const pen = canvas.getContext('2d');
      const paint = () => {
        const light = pen.createLinearGradient(0, 0, 1280, 720);
        light.addColorStop(0, '#eee');
        light.addColorStop(1, '#777');
        pen.fillStyle = light;
        pen.fillRect(0, 0, 1280, 720);
        pen.fillStyle = '#222';
        pen.fillRect(80, 60, 160, 90);
        pen.save();
        pen.translate(700, 370);
        pen.rotate(0.4);
        pen.transform(1, 0.08, 0, 1, 0, 0);
        pen.globalCompositeOperation = 'multiply';
        pen.drawImage(picture, -190, -190, 380, 380);
        pen.restore();
      };
      paint();
      setInterval(paint, 100);
      delete window.BarcodeDetector;
      navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(10);
    });";

/// Also in browsers that have no reader of codes themselves.
#[test]
fn the_door_reads_a_code_by_camera() {
    let desk = Desk::with(&[]);
    let event = desk.event_on_sale();
    desk.sign_in("fan", "ana");
    let hold = desk.ask("POST", "/booking/reserve", json!({ "event": event, "quantity": 1, "best_available": true }));
    let card = json!({ "number": "4242424242424242", "exp_month": 12, "exp_year": 2094, "cvc": "123" });
    let paid = json!({ "hold_id": hold["hold_id"], "payment_details": { "card": card } });
    let ticket = desk.ask("POST", "/booking/confirm", paid)["tickets"][0]["id"].as_str().unwrap().to_owned();
    let picture = desk.browser.run(
        "const { token } = JSON.parse(localStorage.getItem('tessera.session'));
         return fetch(`/tickets/${arguments[0]}/qr.svg`, { headers: { authorization: `Bearer ${token}` } }).then((answer) => answer.text());",
        &[ticket.as_str().into()],
    );
    desk.sign_in("door", "dora");
    desk.open(&format!("tickets/door?event={event}"));
    desk.browser.run(CAMERA, &[picture]);
    desk.browser.press("Scan with the camera");
    desk.says("Come in");
    // The same code stays before the camera, and is one scan.
    assert_eq!(desk.browser.run("return document.querySelectorAll('.scans li').length", &[]), json!(1));
}
