//! Booked tickets and the door, over HTTP: one list of cases on both databases.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tessera_kernel::{Clock, SystemClock, Timestamp};
use tessera_service::Keys;
use tessera_testkit::sql::Databases;
use tessera_tickets::app::door::list_message;
use tessera_tickets::domain::event::Rules;
use tessera_tickets::domain::ids::{EventId, TicketId};
use tessera_tickets::store::DoorEntry;
use tower::ServiceExt;

use crate::support::{Process, book, details, give_back, hall, plan, publish, tickets};

/// Processes that share a database and a key.
struct House {
    url: String,
    event: EventId,
    keys: Keys,
    processes: Vec<Router>,
}

impl House {
    async fn open(databases: &Databases, processes: usize) -> Self {
        let (url, event) = hall(databases).await;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let keys = Keys::ephemeral(clock.clone()).unwrap();
        let mut routers = Vec::new();
        for _ in 0..processes {
            let app = Process { keys: keys.clone(), ..Process::new(&url, clock.clone()) }.start().await.0;
            routers.push(tessera_tickets::http::router(app));
        }
        Self { url, event, keys, processes: routers }
    }

    fn ask(&self, method: &str, path: &str, who: &str, role: &str, key: &str, body: Option<&Value>) -> Request<Body> {
        let token = self.keys.sign_token(who, &[role.to_owned()], Duration::from_secs(600)).unwrap();
        let mut request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        let body = body.map(ToString::to_string);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        request.body(body.map_or_else(Body::empty, Body::from)).unwrap()
    }

    async fn get(&self, path: &str, who: &str, role: &str) -> (StatusCode, Value) {
        said(self.processes[0].clone(), self.ask("GET", path, who, role, "", None)).await
    }

    async fn post(&self, path: &str, who: &str, role: &str, key: &str, body: Value) -> (StatusCode, Value) {
        said(self.processes[0].clone(), self.ask("POST", path, who, role, key, Some(&body))).await
    }

    /// The code of somebody's ticket.
    async fn code(&self, ticket: TicketId, who: &str) -> String {
        let (status, body) = self.get(&format!("/tickets/{ticket}"), who, "fan").await;
        assert_eq!(status, 200, "{body}");
        body["qr"].as_str().unwrap().to_owned()
    }

    async fn scan(&self, code: &str, gate: &str, key: &str) -> Value {
        let body = json!({ "qr": code, "event": self.event, "gate": gate });
        let (status, body) = self.post("/tickets/check-in", "door-1", "door", key, body).await;
        assert_eq!(status, 200, "{body}");
        body
    }
}

async fn bytes(router: Router, request: Request<Body>) -> (StatusCode, String, Vec<u8>) {
    let answer = router.oneshot(request).await.unwrap();
    let content = answer.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 24).await.unwrap();
    (status, content.unwrap_or_default(), body.to_vec())
}

async fn said(router: Router, request: Request<Body>) -> (StatusCode, Value) {
    let (status, _, body) = bytes(router, request).await;
    (status, serde_json::from_slice(&body).unwrap())
}

async fn contract(databases: &Databases) {
    a_ticket_opens_the_door_once(databases).await;
    of_many_doors_one_lets_in(databases).await;
    a_ticket_that_is_passed_on_has_a_new_code(databases).await;
    what_cannot_be_passed_on_stays(databases).await;
    old_codes_of_a_seat_sold_again_open_nothing(databases).await;
    doors_without_a_network_agree_later(databases).await;
    tickets_are_listed_to_whom_they_concern(databases).await;
    tickets_are_drawn_and_printed(databases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    contract(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    contract(&Databases::postgres()).await;
}

async fn a_ticket_opens_the_door_once(databases: &Databases) {
    let house = House::open(databases, 1).await;
    let ticket = tickets(house.event, &[3])[0];
    book(&house.url, house.event, "ana", &[3], 1, SystemClock.now()).await;
    let code = house.code(ticket, "ana").await;

    let first = house.scan(&code, " North ", "1").await;
    assert_eq!((&first["result"], &first["gate"]), (&json!("valid"), &json!("North")), "{first}");
    assert_eq!(first["ticket"]["row"], "1");
    assert_eq!(first["ticket"]["seat"], "4");
    assert_eq!(house.scan(&code, "North", "1").await, first, "a lost answer keeps nobody out");
    let again = house.scan(&code, "South", "2").await;
    assert_eq!(again["result"], "already_used", "{again}");
    assert_eq!((&again["used_at"], &again["gate"]), (&first["used_at"], &json!("North")));

    let (_, other) = hall(databases).await;
    let elsewhere = json!({ "qr": code, "event": other });
    // That event is not of this database, as another house's would not be.
    assert_eq!(house.post("/tickets/check-in", "d", "door", "3", elsewhere).await.0, 404);
    let second =
        publish(&house.url, &plan(1, 2), &details(2), SystemClock.now().plus(Duration::from_secs(9_000))).await;
    let (_, verdict) = house.post("/tickets/check-in", "d", "door", "3", json!({ "qr": code, "event": second })).await;
    assert_eq!(verdict, json!({ "result": "wrong_event", "ticket": null, "used_at": null, "gate": null }));

    let mut altered = code.clone().into_bytes();
    altered[40] = if altered[40] == b'A' { b'B' } else { b'A' };
    for forged in ["", "T1.", "hello", &code[..80], std::str::from_utf8(&altered).unwrap()] {
        assert_eq!(house.scan(forged, "North", "4").await["result"], "forged", "{forged}");
    }
    let typed = async |ticket: TicketId, key: &str| {
        let body = json!({ "ticketId": ticket, "event": house.event });
        house.post("/tickets/check-in", "d", "door", key, body).await.1["result"].clone()
    };
    assert_eq!(typed(ticket, "5").await, "already_used");
    assert_eq!(typed(tickets(house.event, &[4])[0], "6").await, "forged", "nobody ever had it");

    let body = json!({ "qr": code, "event": house.event });
    for (who, role, key, status, code) in [
        ("ana", "fan", "7", 403, "service.wrong_role"),
        ("other", "organiser", "7", 403, "tickets.forbidden"),
        ("d", "door", "", 400, "service.bad_idempotency_key"),
    ] {
        let (answered, problem) = house.post("/tickets/check-in", who, role, key, body.clone()).await;
        assert_eq!((answered.as_u16(), &problem["code"]), (status, &json!(code)), "{problem}");
    }
    assert_eq!(house.post("/tickets/check-in", "org", "organiser", "7", body.clone()).await.0, 200);
    let neither = json!({ "event": house.event });
    assert_eq!(house.post("/tickets/check-in", "d", "door", "8", neither).await.1["code"], "tickets.bad_request");
}

async fn of_many_doors_one_lets_in(databases: &Databases) {
    let house = House::open(databases, 3).await;
    book(&house.url, house.event, "ana", &[0, 1, 2, 3], 1, SystemClock.now()).await;
    let mut codes = Vec::new();
    for ticket in tickets(house.event, &[0, 1, 2, 3]) {
        codes.push(house.code(ticket, "ana").await);
    }
    let at_once = (0..120_usize).map(|n| {
        let body = json!({ "qr": codes[n % 4], "event": house.event, "gate": format!("gate {}", n % 5) });
        let request = house.ask(
            "POST",
            "/tickets/check-in",
            &format!("door-{}", n % 7),
            "door",
            &format!("scan-{n}"),
            Some(&body),
        );
        let process = house.processes[n % 3].clone();
        tokio::spawn(async move { (n % 4, said(process, request).await.1) })
    });
    let verdicts: Vec<(usize, Value)> =
        futures::future::join_all(at_once).await.into_iter().map(|scan| scan.unwrap()).collect();
    for ticket in 0..4 {
        let of = |result: &str| -> Vec<&Value> {
            let told = verdicts.iter().filter(|(of, verdict)| *of == ticket && verdict["result"] == result);
            told.map(|(_, verdict)| verdict).collect()
        };
        let (let_in, refused) = (of("valid"), of("already_used"));
        assert_eq!((let_in.len(), refused.len()), (1, 29), "ticket {ticket}: {verdicts:?}");
        assert!(refused.iter().all(|refused| refused["used_at"] == let_in[0]["used_at"]));
    }
}

async fn a_ticket_that_is_passed_on_has_a_new_code(databases: &Databases) {
    let house = House::open(databases, 1).await;
    let ticket = tickets(house.event, &[3])[0];
    book(&house.url, house.event, "ana", &[3], 1, SystemClock.now()).await;
    let (old, path) = (house.code(ticket, "ana").await, format!("/tickets/{ticket}/transfer"));

    for _ in 0..2 {
        let (status, body) = house.post(&path, "ana", "fan", "1", json!({ "to": " ben " })).await;
        assert_eq!((status.as_u16(), &body["owner"]), (200, &json!("ben")), "the same request is answered the same");
    }
    let (status, problem) = house.post(&path, "ana", "fan", "1", json!({ "to": "eve" })).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("tickets.key_reused")), "{problem}");
    assert_eq!(house.post(&path, "ana", "fan", "2", json!({ "to": "eve" })).await.0, 404, "it is not ana's any more");
    assert_eq!(house.get(&format!("/tickets/{ticket}"), "ana", "fan").await.0, 404);

    assert_eq!(house.scan(&old, "North", "3").await["result"], "replaced");
    let new = house.code(ticket, "ben").await;
    assert_ne!(new, old);
    assert_eq!(house.scan(&new, "North", "4").await["result"], "valid");
    let (status, problem) = house.post(&path, "ben", "fan", "5", json!({ "to": "ana" })).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("tickets.not_now")), "somebody is in with it");
}

async fn what_cannot_be_passed_on_stays(databases: &Databases) {
    let house = House::open(databases, 1).await;
    let bound = tessera_tickets::domain::event::Details {
        rules: Rules { transferable: false, ..Rules::default() },
        ..details(4)
    };
    let event = publish(&house.url, &plan(1, 4), &bound, SystemClock.now().plus(Duration::from_secs(9_000))).await;
    book(&house.url, event, "ana", &[0], 1, SystemClock.now()).await;
    book(&house.url, house.event, "ana", &[0], 1, SystemClock.now()).await;
    let path = format!("/tickets/{}/transfer", tickets(event, &[0])[0]);
    let (status, problem) = house.post(&path, "ana", "fan", "1", json!({ "to": "ben" })).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("tickets.not_now")), "{problem}");
    let (_, body) = house.get(path.trim_end_matches("/transfer"), "ana", "fan").await;
    assert_eq!(body["transferable"], false);
    let path = format!("/tickets/{}/transfer", tickets(house.event, &[0])[0]);
    for to in ["", "ana", &"x".repeat(200)] {
        let (status, problem) = house.post(&path, "ana", "fan", "1", json!({ "to": to })).await;
        assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("tickets.bad_request")), "{problem}");
    }
    assert_eq!(house.post(&path, "eve", "fan", "1", json!({ "to": "ben" })).await.0, 404);
}

async fn old_codes_of_a_seat_sold_again_open_nothing(databases: &Databases) {
    let house = House::open(databases, 1).await;
    let ticket = tickets(house.event, &[3])[0];
    book(&house.url, house.event, "ana", &[3], 1, SystemClock.now()).await;
    let old = house.code(ticket, "ana").await;
    give_back(&house.url, ticket).await;
    assert_eq!(house.scan(&old, "North", "1").await["result"], "refunded");
    let typed = json!({ "ticket_id": ticket, "event": house.event });
    assert_eq!(house.post("/tickets/check-in", "d", "door", "2", typed).await.1["result"], "refunded");
    book(&house.url, house.event, "ben", &[3], 2, SystemClock.now()).await;
    assert_eq!(house.scan(&old, "North", "3").await["result"], "refunded");
    let new = house.code(ticket, "ben").await;
    assert_eq!(house.scan(&new, "North", "4").await["result"], "valid");
}

async fn doors_without_a_network_agree_later(databases: &Databases) {
    let house = House::open(databases, 1).await;
    book(&house.url, house.event, "ana", &[0, 1, 5], 1, SystemClock.now()).await;
    let path = format!("/event/{}/door-list", house.event);
    assert_eq!(house.get(&path, "ana", "fan").await.0, 403);
    let (status, list) = house.get(&path, "d", "door").await;
    assert_eq!(status, 200, "{list}");
    let at: Timestamp = list["at"].as_str().unwrap().parse().unwrap();
    assert_eq!(list["at_us"], at.micros());
    let entries: Vec<DoorEntry> = list["entries"].as_array().unwrap().iter().map(entry).collect();
    assert_eq!(entries.iter().map(|entry| entry.ticket).collect::<Vec<_>>(), tickets(house.event, &[0, 1, 5]));
    assert_eq!(list["entries"][2]["seat"], "6");

    // What a door does without us: the key was fetched before.
    let (_, keys) = house.get("/tickets/keys", "d", "door").await;
    let raw = |text: &Value| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
    };
    assert_eq!((&keys["keys"][0]["kid"], &keys["keys"][0]["alg"]), (&list["kid"], &json!("Ed25519")));
    let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, raw(&keys["keys"][0]["x"]));
    public.verify(&list_message(house.event, at, entries.iter()), &raw(&list["signature"])).unwrap();
    let fewer = list_message(house.event, at, entries[..2].iter());
    assert!(public.verify(&fewer, &raw(&list["signature"])).is_err());

    let code = house.code(entries[0].ticket, "ana").await;
    let minutes_ago = |minutes: u64| SystemClock.now().minus(Duration::from_secs(60 * minutes));
    let (early, late) = (minutes_ago(20), minutes_ago(10));
    let batch = async |key: &str, scans: Value| {
        let body = json!({ "event": house.event, "scans": scans });
        let (status, body) = house.post("/tickets/check-in/batch", "door-2", "door", key, body).await;
        assert_eq!(status, 200, "{body}");
        body["results"].clone()
    };
    let second = &entries[1].ticket;
    let told = batch(
        "1",
        json!([
            { "qr": code, "gate": "B", "at": late },
            { "ticket_id": second, "serial": 1, "gate": "B", "at": late },
            { "ticket_id": second, "serial": 9, "gate": "B", "at": late },
            { "qr": "T1.nonsense", "gate": "B", "at": late },
            { "ticket_id": entries[2].ticket, "gate": "B", "at": SystemClock.now().plus(Duration::from_secs(9_000)) },
        ]),
    )
    .await;
    let results: Vec<&str> = told.as_array().unwrap().iter().map(|told| told["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["valid", "valid", "replaced", "forged", "valid"]);
    let ahead: Timestamp = told[4]["used_at"].as_str().unwrap().parse().unwrap();
    assert!(ahead <= SystemClock.now(), "a clock that runs ahead is set right");
    // The other door scanned it before; and says so twice, as it has not heard our answer.
    for key in ["2", "3"] {
        let told = batch(key, json!([{ "qr": code, "gate": "A", "at": early }])).await;
        assert_eq!((&told[0]["result"], &told[0]["used_at"]), (&json!("valid"), &json!(early)), "{told}");
    }
    let told = batch("4", json!([{ "qr": code, "gate": "C", "at": late }])).await;
    assert_eq!((&told[0]["result"], &told[0]["gate"]), (&json!("already_used"), &json!("A")), "the earliest counts");
    assert_eq!(house.scan(&code, "North", "5").await["used_at"], json!(early));
    let body = json!({ "event": house.event, "scans": [] });
    assert_eq!(house.post("/tickets/check-in/batch", "d", "door", "6", body).await.1["code"], "tickets.bad_request");
}

fn entry(entry: &Value) -> DoorEntry {
    DoorEntry {
        ticket: entry["ticket_id"].as_str().unwrap().parse().unwrap(),
        serial: entry["serial"].as_u64().unwrap() as u32,
        used_at: None,
        gate: None,
    }
}

async fn tickets_are_listed_to_whom_they_concern(databases: &Databases) {
    let house = House::open(databases, 1).await;
    let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
    book(&house.url, house.event, "ana", &[4, 2], 1, at(100)).await;
    book(&house.url, house.event, "ana", &[0], 1, at(200)).await;
    book(&house.url, house.event, "ben", &[1], 1, at(300)).await;
    let mut listed: Vec<TicketId> = Vec::new();
    let mut path = "/tickets?limit=2".to_owned();
    loop {
        let (status, page) = house.get(&path, "ana", "fan").await;
        assert_eq!(status, 200, "{page}");
        for item in page["items"].as_array().unwrap() {
            assert_eq!((&item["owner"], item["qr"].is_string()), (&json!("ana"), true));
            assert_eq!((&item["event_name"], &item["venue"]["city"]), (&json!("Evening"), &json!("Lisboa")));
            listed.push(item["id"].as_str().unwrap().parse().unwrap());
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/tickets?limit=2&cursor={cursor}");
    }
    assert_eq!(listed, tickets(house.event, &[2, 4, 0]));
    let count = async |path: &str, who: &str, role: &str| {
        let (_, page) = house.get(path, who, role).await;
        let items = page["items"].as_array().unwrap();
        assert!(who != "org" || items.iter().all(|item| item["qr"].is_null()), "codes are their owners'");
        items.len()
    };
    let since = format!("/tickets?updated_since={}", at(200));
    assert_eq!(count(&since, "ana", "fan").await, 1);
    assert_eq!(count(&since, "org", "organiser").await, 2);
    assert_eq!(count("/tickets", "other", "organiser").await, 0);
    assert_eq!(count("/tickets", "anyone", "admin").await, 4);
    assert_eq!(count(&format!("/tickets?event={}", house.event), "ben", "fan").await, 1);
    let (_, foreign) = hall(databases).await;
    assert_eq!(count(&format!("/tickets?event={foreign}"), "ben", "fan").await, 0);
    let ticket = tickets(house.event, &[1])[0];
    assert_eq!(house.get(&format!("/tickets/{ticket}"), "ana", "fan").await.0, 404);
    let (_, seen) = house.get(&format!("/tickets/{ticket}"), "org", "organiser").await;
    assert_eq!((&seen["owner"], &seen["qr"]), (&json!("ben"), &Value::Null));
}

async fn tickets_are_drawn_and_printed(databases: &Databases) {
    let house = House::open(databases, 1).await;
    book(&house.url, house.event, "ana", &[3, 17], 1, SystemClock.now()).await;
    for ticket in tickets(house.event, &[3, 17]) {
        for (file, content, begins) in
            [("qr.svg", "image/svg+xml", "<svg "), ("ticket.pdf", "application/pdf", "%PDF-")]
        {
            let path = format!("/tickets/{ticket}/{file}");
            let request = house.ask("GET", &path, "ana", "fan", "", None);
            let (status, said, body) = bytes(house.processes[0].clone(), request).await;
            assert_eq!((status.as_u16(), said.as_str()), (200, content));
            assert!(body.starts_with(begins.as_bytes()) && body.len() < 60_000, "{}", body.len());
            // An organiser sees that it is sold, not its code.
            assert_eq!(house.get(&path, "org", "organiser").await.0, 404);
        }
    }
}
