//! What a client can get wrong, over HTTP: each is refused with a code, and a message that says what and what to do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tessera_kernel::{Clock, ManualClock, SystemClock};
use tessera_testkit::sql::Databases;
use tessera_tickets::domain::event::Details;
use tessera_tickets::domain::ids::{EventId, SeatNumber, TicketId};

use crate::house::{GOOD, House, bearer};
use crate::support::{details, plan, publish, tickets};

/// Notes what is not as it should be, so that one run shows all of it.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn expect(&mut self, what: &str, said: (u16, Value), status: u16, code: &str, words: &[&str]) {
        let (given, problem) = said;
        let detail = problem["detail"].as_str().unwrap_or_default();
        let missing: Vec<&&str> = words.iter().filter(|word| !detail.contains(**word)).collect();
        if given != status || problem["code"] != code || !missing.is_empty() {
            self.0.push(format!("{what}: wanted {status} {code} with {missing:?}, got {given} {problem}"));
        }
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{}", self.0.join("\n"));
        }
    }
}

async fn another(house: &House, details: &Details) -> EventId {
    let tomorrow = SystemClock.now().plus(Duration::from_secs(86_400));
    publish(&house.url, &plan(2, 8), details, tomorrow).await
}

fn confirm(hold: &str) -> Value {
    let card = json!({ "number": GOOD, "exp_month": 12, "exp_year": 2094, "cvc": "123" });
    json!({ "hold_id": hold, "payment_details": { "card": card } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reserving() {
    let databases = Databases::sqlite();
    let house = House::open(&databases).await;
    let event = house.event;
    let mut wrong = Wrong::default();
    let reserve = async |body: Value| house.write("/booking/reserve", "fan ana", "k", &body).await;

    let beyond = TicketId::new(event, SeatNumber(9_999));
    let said = reserve(json!({ "ticket_ids": [beyond] })).await;
    wrong.expect("unknown ticket", said, 404, "tickets.not_found", &[&beyond.to_string()]);
    let nobody = TicketId::new(EventId::mint(&tessera_kernel::RandomIds), SeatNumber(0));
    let said = reserve(json!({ "ticket_id": nobody })).await;
    wrong.expect("ticket of no event", said, 404, "tickets.not_found", &["event_"]);
    let said = reserve(json!({ "ticket_id": "seat-12" })).await;
    wrong.expect("no ticket id", said, 400, "service.bad_request", &["ticket_id"]);

    let elsewhere = another(&house, &details(16)).await;
    let mixed = [tickets(event, &[0])[0], tickets(elsewhere, &[0])[0]];
    let said = reserve(json!({ "ticket_ids": mixed })).await;
    wrong.expect("two events, two currencies", said, 400, "tickets.bad_request", &["one event"]);
    let said = reserve(json!({ "event": elsewhere, "ticket_ids": [mixed[0]] })).await;
    wrong.expect("ticket of another event", said, 400, "tickets.bad_request", &["one event"]);

    let said = reserve(json!({ "event": event, "quantity": 7, "price_level": "stalls" })).await;
    wrong.expect("oversized", said, 409, "tickets.customer_limit", &["6"]);
    let said = reserve(json!({ "event": event, "quantity": 4_000_000_000_u32 })).await;
    wrong.expect("far oversized", said, 400, "tickets.bad_request", &["256"]);
    let said = reserve(json!({ "event": event, "quantity": -1 })).await;
    wrong.expect("less than none", said, 400, "service.bad_request", &["quantity"]);
    let said = reserve(json!({ "event": event, "quantity": 0 })).await;
    wrong.expect("none", said, 400, "tickets.bad_request", &["0 tickets"]);
    let many: Vec<TicketId> = (0..10_000).map(|number| TicketId::new(event, SeatNumber(number))).collect();
    let said = reserve(json!({ "ticket_ids": many })).await;
    wrong.expect("10,000 ids", said, 400, "tickets.bad_request", &["10000", "256"]);
    let twice = tickets(event, &[3, 3]);
    let said = reserve(json!({ "ticket_ids": twice })).await;
    wrong.expect("a ticket twice", said, 400, "tickets.bad_request", &["named twice"]);

    let soon = SystemClock.now().plus(Duration::from_secs(3_600));
    let not_yet = another(&house, &Details { on_sale_at: Some(soon), ..details(16) }).await;
    let said = reserve(json!({ "ticket_ids": tickets(not_yet, &[0]) })).await;
    wrong.expect("before the sale", said, 409, "tickets.not_on_sale", &["begins at", &soon.to_string()]);

    let token = bearer(&house.token("fan ana"));
    let body = Some(json!({ "ticket_ids": tickets(event, &[0]) }).to_string());
    let said = house.send("POST", "/booking/reserve", &[("authorization", &token)], body.clone()).await;
    wrong.expect("no key", said, 400, "service.bad_idempotency_key", &["missing"]);
    let said = house.send("POST", "/booking/reserve", &[("idempotency-key", "k")], body).await;
    wrong.expect("nobody", said, 401, "service.not_signed_in", &[]);
    let said = house.write("/booking/reserve", "door d", "k", &json!({ "ticket_ids": tickets(event, &[0]) })).await;
    wrong.expect("a door does not buy", said, 403, "service.wrong_role", &["fan"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_holds_and_forged_admissions() {
    let databases = Databases::sqlite();
    let house = House::open(&databases).await;
    let mut wrong = Wrong::default();
    let hold = house.hold("bob", &[0]).await;
    for (path, body) in [("/booking/confirm", confirm(&hold)), ("/booking/release", json!({ "hold_id": hold }))] {
        let said = house.write(path, "fan ana", "k", &body).await;
        wrong.expect("foreign hold", said, 404, "tickets.not_found", &[&hold]);
    }
    let token = bearer(&house.token("fan ana"));
    let said = house.send("GET", &format!("/booking/hold/{hold}"), &[("authorization", &token)], None).await;
    wrong.expect("foreign hold, seen", said, 404, "tickets.not_found", &[&hold]);
    let order = house.buy("bob", &[1]).await;
    for path in [format!("/orders/{order}"), format!("/tickets/{}", tickets(house.event, &[1])[0])] {
        let said = house.send("GET", &path, &[("authorization", &token)], None).await;
        wrong.expect("foreign order or ticket", said, 404, "tickets.not_found", &[]);
    }

    let control = format!("/event/{}/queue/control", house.event);
    house.done(&control, "organiser org", json!({ "mode": "on" })).await;
    let wish = json!({ "ticket_ids": tickets(house.event, &[2]) });
    let said = house.write("/booking/reserve", "fan ana", "q", &wish).await;
    wrong.expect("no admission", said, 403, "tickets.not_admitted", &["join"]);
    for forged in ["A1.", "A1.AAAA", "hello", "../../etc/passwd", &"A".repeat(5_000)] {
        let mut forging = wish.clone();
        forging["admission"] = json!(forged);
        let said = house.write("/booking/reserve", "fan ana", "q", &forging).await;
        wrong.expect("forged admission", said, 403, "tickets.not_admitted", &["altered"]);
    }
}

/// PostgreSQL takes none of it, and would refuse all that is written in the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_characters_in_names() {
    for databases in [Databases::sqlite(), Databases::postgres()] {
        let house = House::open(&databases).await;
        let mut wrong = Wrong::default();
        house.buy("ana", &[0]).await;
        let path = format!("/tickets/{}/transfer", tickets(house.event, &[0])[0]);
        let said = house.write(&path, "fan ana", "t", &json!({ "to": "b\u{0}ben" })).await;
        wrong.expect("a receiver with a NUL", said, 400, "tickets.bad_request", &["control"]);
        let scan = json!({ "qr": "T1.x", "event": house.event, "gate": "N\u{0}rth" });
        let said = house.write("/tickets/check-in", "door d", "g", &scan).await;
        wrong.expect("a gate with a NUL", said, 400, "tickets.bad_request", &["control"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_over() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let databases = Databases::sqlite();
    let (url, event) = crate::support::hall(&databases).await;
    let house = House::on(url, event, clock.clone()).await;
    let token = bearer(&house.token("fan ana"));
    clock.advance(Duration::from_secs(601));
    let mut wrong = Wrong::default();
    let said = house.send("GET", "/orders", &[("authorization", &token)], None).await;
    wrong.expect("expired token", said, 401, "service.bad_token", &["ended at"]);
    let said = house.send("GET", "/orders", &[("authorization", "Bearer a.b.c")], None).await;
    wrong.expect("no token", said, 401, "service.bad_token", &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_seat_plans() {
    let databases = Databases::sqlite();
    let house = House::open(&databases).await;
    let mut wrong = Wrong::default();
    let token = bearer(&house.token("organiser org"));
    let head = [("authorization", token.as_str()), ("idempotency-key", "p")];
    let send = async |text: &str| house.send("POST", "/organiser/plans", &head, Some(text.to_owned())).await;
    wrong.expect(
        "cut off",
        send("{\n  \"name\": \"Hall\",\n  \"zones\": [").await,
        400,
        "tickets.bad_plan",
        &["line 3"],
    );
    wrong.expect("no JSON", send("name,row,seat\nA,1,1\n").await, 400, "tickets.bad_plan", &["line 1"]);
    let mut twice = serde_json::to_value(plan(1, 2)).unwrap();
    twice["zones"][0]["rows"][0]["seats"][1]["seat_number"] = json!("1");
    let said = send(&twice.to_string()).await;
    wrong.expect("a seat twice", said, 400, "tickets.bad_plan", &["seat", "1"]);
    let mut unknown = serde_json::to_value(plan(1, 2)).unwrap();
    unknown["zones"][0]["rows"][0]["seats"][0]["category"] = json!("boxes");
    let said = send(&unknown.to_string()).await;
    wrong.expect("an unknown category", said, 400, "tickets.bad_plan", &["boxes"]);
    let said = send("{\"generate\": {\"kind\": \"circus\", \"seats\": 10}}").await;
    wrong.expect("an unknown house", said, 400, "tickets.bad_plan", &["circus"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn script_in_names_is_text() {
    const SCRIPT: &str = "<script>alert('é')</script>";
    let databases = Databases::sqlite();
    let house = House::open(&databases).await;
    let name = json!({ "name": SCRIPT, "about": SCRIPT });
    let made = house.done("/organiser/performers", "organiser org", name).await;
    assert_eq!(made["name"], SCRIPT);
    let listed = house.get("/performers", "fan ana").await;
    assert_eq!(listed["items"][0]["about"], SCRIPT);
    house.buy("ana", &[0]).await;
    let shown = json!({ "ticket_id": tickets(house.event, &[0])[0], "event": house.event, "gate": SCRIPT });
    assert_eq!(house.done("/tickets/check-in", "door d", shown).await["gate"], SCRIPT);
    // A problem quotes what was sent, as JSON.
    let (status, problem) = house.send("GET", &format!("/event/{}", "%3Cscript%3E"), &[], None).await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("service.bad_request")), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_says_who_is_asked_for_a_token() {
    let databases = Databases::sqlite();
    let house = House::open(&databases).await;
    let ask = async |method: &str, target: &str, token: Option<&str>| {
        let bearer = token.map(bearer);
        let head: Vec<_> = bearer.iter().map(|token| ("authorization", token.as_str())).collect();
        house.send(method, target, &head, None).await.1["code"].as_str().map(str::to_owned)
    };
    tessera_testkit::reference::tokens_are_as_said(&tessera_tickets::http::openapi(), ask).await;
}
