//! The catalogue over HTTP, in process: one list of cases on both databases; wire formats as snapshots.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tessera_kernel::{Clock, Ids, ManualClock, SystemClock, Timestamp, Uuid};
use tessera_store::sql::Db;
use tessera_testkit::sql::Databases;
use tessera_tickets::app::reserve::Wish;
use tessera_tickets::domain::catalogue::Performer;
use tessera_tickets::domain::generate::{Generate, HouseKind};
use tessera_tickets::domain::ids::{EventId, SeatNumber, TicketId};
use tessera_tickets::jobs;
use tessera_tickets::store::{NewPlan, Season};

use crate::chapel::{Answer, Api, CHAPEL, Counted, venue};

/// The description of an event as it was answered, as it would be sent to change it.
fn as_input(event: &Value) -> Value {
    let mut input = event.clone();
    let fields = input.as_object_mut().unwrap();
    for own in ["id", "status", "version", "updated_at", "blocked"] {
        fields.remove(own);
    }
    for area in fields["areas"].as_array_mut().unwrap() {
        area.as_object_mut().unwrap().retain(|key, _| !matches!(key.as_str(), "blocks" | "closed"));
    }
    input
}

async fn contract(databases: &Databases) {
    an_event_goes_from_plan_to_page(databases).await;
    the_same_request_is_answered_once(databases).await;
    of_two_processes_one_makes_it(databases).await;
    a_change_of_what_changed_is_refused(databases).await;
    what_cannot_be_read_any_more_hides_no_sales(databases).await;
    others_may_not_change_it(databases).await;
    a_published_event_keeps_its_numbers(databases).await;
    lists_can_be_followed(databases).await;
    promotion_codes_are_kept(databases).await;
    sales_are_reported_and_exported(databases).await;
    what_is_over_is_swept(databases).await;
    a_season_is_imported_once(databases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    contract(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    contract(&Databases::postgres()).await;
}

async fn an_event_goes_from_plan_to_page(databases: &Databases) {
    let api = Api::start(databases).await;
    let draft = api.draft().await;
    assert_eq!((&draft["status"], &draft["version"], &draft["kind"]), (&json!("draft"), &json!(1), &json!("concert")));
    let id = draft["id"].as_str().unwrap();
    let path = format!("/event/{id}");
    assert_eq!(api.get(&path, "").await.code(), "tickets.not_found");
    assert_eq!(api.get(&format!("/organiser/events/{id}"), "ona").await.json()["name"], draft["name"]);

    let event = api.done("POST", &format!("/organiser/events/{id}/publish"), Value::Null).await;
    assert_eq!((&event["status"], &event["areas"][0]["blocks"]), (&json!("published"), &json!([[9, 5]])));
    let page = api.get(&path, "").await;
    assert_eq!(page.status, StatusCode::OK);
    let body = page.json();
    assert_eq!(body["seats"], json!({ "total": 14, "free": 14, "held": 0, "booked": 0, "seq": 0 }));
    assert_eq!(body["sections"][0], json!({ "name": "Nave", "seats": 7, "free": 7 }));
    assert_eq!((&body["venue"]["lat"], &body["performers"][0]["name"]), (&json!(38.71), &json!("Coro Novo")));
    assert_eq!(page.header("surrogate-key"), format!("{id} {}", body["venue"]["id"].as_str().unwrap()));
    let again = api.send("GET", &path, "", &[("if-none-match", page.header("etag"))], String::new()).await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));

    let list = api.get(&format!("{path}?tickets=list"), "").await.json();
    let seat = &list["tickets"][0]["rows"][1]["seats"][2];
    let ticket = TicketId::new(id.parse().unwrap(), SeatNumber(6)).to_string();
    assert_eq!(*seat, json!({ "id": ticket, "label": "3", "state": "free", "price_level": "nave" }));
    let bitmap = api.get(&format!("{path}?tickets=bitmap"), "").await.json();
    assert_eq!(bitmap["tickets"], "AAAAAA==");
    assert_eq!(api.get(&format!("{path}?tickets=all"), "").await.code(), "service.bad_request");

    // What is changed here is seen here at once, whatever is in the cache.
    let mut input = as_input(&event);
    input["name"] = "Matinas".into();
    api.done("PUT", &format!("/organiser/events/{id}"), input).await;
    assert_eq!(api.get(&path, "").await.json()["name"], "Matinas");
    let cancelled = api.done("POST", &format!("/organiser/events/{id}/cancel"), Value::Null).await;
    assert_eq!(cancelled["status"], "cancelled");
    let page = api.get(&path, "").await.json();
    assert_eq!((&page["status"], &page["on_sale"]), (&json!("cancelled"), &json!(false)));
    assert_eq!(
        api.write("DELETE", &format!("/organiser/events/{id}"), "ona", Value::Null).await.code(),
        "tickets.not_now"
    );
}

async fn the_same_request_is_answered_once(databases: &Databases) {
    let api = Api::start(databases).await;
    let head = [("idempotency-key", "venue-1")];
    let body = venue(&Value::Null).to_string();
    let first = api.send("POST", "/organiser/venues", "ona", &head, body.clone()).await;
    assert_eq!((first.status, first.header("etag")), (StatusCode::CREATED, "\"1\""));
    let again = api.send("POST", "/organiser/venues", "ona", &head, body.clone()).await;
    assert_eq!((again.status, &again.body, again.header("etag")), (StatusCode::CREATED, &first.body, "\"1\""));
    let other = api.send("POST", "/organiser/venues", "ona", &head, body.replace("Lisboa", "Porto")).await;
    assert_eq!((other.status, other.code()), (StatusCode::CONFLICT, "tickets.key_reused".into()));
    // Keys are each organiser's own.
    assert_eq!(api.send("POST", "/organiser/venues", "ivo", &head, body.clone()).await.status, StatusCode::CREATED);
    let missing = api.send("POST", "/organiser/venues", "ona", &[], body).await;
    assert_eq!(missing.code(), "service.bad_idempotency_key");
    assert_eq!(api.get("/venues", "").await.json()["items"].as_array().unwrap().len(), 2);
    // A refusal is not remembered: the same key works once the reason is gone.
    let head = [("idempotency-key", "venue-2")];
    let refused =
        api.send("POST", "/organiser/venues", "ona", &head, r#"{"name":"","city":"x","country":"x"}"#.into()).await;
    assert_eq!(refused.code(), "tickets.bad_event");
    let made =
        api.send("POST", "/organiser/venues", "ona", &head, r#"{"name":"a","city":"x","country":"x"}"#.into()).await;
    assert_eq!(made.status, StatusCode::CREATED);
    // What was published under a key was published, though it could not be again.
    let (id, event) = api.on_sale().await;
    let again = api.write("POST", &format!("/organiser/events/{id}/publish"), "ona", Value::Null).await;
    assert_eq!(again.code(), "tickets.not_now");
    let key = format!("key-{}", api.keys.load(Ordering::Relaxed) - 2);
    let path = format!("/organiser/events/{id}/publish");
    let again = api.send("POST", &path, "ona", &[("idempotency-key", &key)], String::new()).await;
    assert_eq!(again.json(), event);
}

async fn of_two_processes_one_makes_it(databases: &Databases) {
    let url = databases.fresh();
    let process = async || Arc::new(Api::open(&url, Arc::new(SystemClock), Arc::new(tessera_kernel::RandomIds)).await);
    let (one, two) = (process().await, process().await);
    let mut calls = tokio::task::JoinSet::new();
    for at in 0..16 {
        let api = Arc::clone(if at % 2 == 0 { &one } else { &two });
        calls.spawn(async move {
            let body = venue(&Value::Null).to_string();
            let answer = api.send("POST", "/organiser/venues", "ona", &[("idempotency-key", "same")], body).await;
            assert_eq!(answer.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&answer.body));
            answer.body
        });
    }
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(two.get("/venues", "").await.json()["items"].as_array().unwrap().len(), 1);
}

async fn a_change_of_what_changed_is_refused(databases: &Databases) {
    let api = Api::start(databases).await;
    let made = api.done("POST", "/organiser/venues", venue(&Value::Null)).await;
    let path = format!("/organiser/venues/{}", made["id"].as_str().unwrap());
    let change = async |key: &str, version: &str, city: &str| {
        let mut body = venue(&Value::Null);
        body["city"] = city.into();
        let head = [("idempotency-key", key), ("if-match", version)];
        api.send("PUT", &path, "ona", &head, body.to_string()).await
    };
    assert_eq!(change("a", "\"1\"", "Porto").await.json()["version"], 2);
    let refused = change("b", "\"1\"", "Faro").await;
    assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "tickets.changed".into()));
    assert_eq!(change("c", "\"2\"", "Faro").await.json()["city"], "Faro");
    assert_eq!(change("d", "x", "Faro").await.code(), "tickets.bad_request");
    // The first request again: it was done.
    assert_eq!(change("a", "\"1\"", "Porto").await.json()["version"], 2);
    // Without a version the last one wins, whoever else changes it meanwhile.
    let all = futures::future::join_all((0..8).map(|_| api.write("PUT", &path, "ona", venue(&Value::Null)))).await;
    let done = all.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let version = api.get(&path, "ona").await.json()["version"].as_u64().unwrap();
    assert_eq!(version, 3 + done as u64);
    assert!(done >= 1);
}

async fn what_cannot_be_read_any_more_hides_no_sales(databases: &Databases) {
    let url = databases.fresh();
    let process = async || Api::open(&url, Arc::new(SystemClock), Arc::new(tessera_kernel::RandomIds)).await;
    let (api, other) = (process().await, process().await);
    let (id, _) = api.on_sale().await;
    let (broken, _) = api.on_sale().await;
    let draft: EventId = api.draft().await["id"].as_str().unwrap().parse().unwrap();
    for event in [id, broken, draft] {
        other.app.live.event(event).await.unwrap();
    }
    let live = other.app.live.event(id).await.unwrap();
    let held = || live.with(|states| states.counts(SystemClock.now()).held);
    let one = || Wish { event: Some(id), best: Some((1, None)), ..Wish::default() };

    api.done("DELETE", &format!("/organiser/events/{draft}"), Value::Null).await;
    api.hold("ana", one()).await;
    other.app.live.follow().await.unwrap();
    assert_eq!(held(), 1);
    let deleted = other.app.live.event(draft).await.err();
    assert!(matches!(deleted, Some(tessera_tickets::Error::NotFound { .. })), "{deleted:?}");

    let db = Db::open(&url, "tickets", &tessera_tickets::store::migrations()).await.unwrap();
    tessera_store::each_engine!(&db, |pool| {
        let damage = "UPDATE events SET document = '{', version = version + 1 WHERE id = $1";
        sqlx::query(damage).bind(broken.uuid()).execute(pool).await.map(drop).unwrap();
    });
    db.close().await;
    api.hold("bob", one()).await;
    // The same seat looks free here: others were faster, which only this event is asked about.
    other.hold("cleo", one()).await;
    assert_eq!(held(), 3);
    api.hold("dora", one()).await;
    let failed = other.app.live.follow().await;
    assert!(matches!(failed, Err(tessera_tickets::Error::Corrupt { .. })), "{failed:?}");
    assert_eq!(held(), 4);
}

async fn others_may_not_change_it(databases: &Databases) {
    let api = Api::start(databases).await;
    let (id, event) = api.on_sale().await;
    let path = format!("/organiser/events/{id}");
    let refused = api.write("PUT", &path, "ivo", as_input(&event)).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "tickets.forbidden".into()));
    for path in [format!("{path}/cancel"), format!("{path}/publish")] {
        assert_eq!(api.write("POST", &path, "ivo", Value::Null).await.code(), "tickets.forbidden");
    }
    for path in [path.clone(), format!("{path}/report"), format!("{path}/export.csv"), format!("{path}/promo-codes")] {
        assert_eq!(api.get(&path, "ivo").await.code(), "tickets.forbidden", "{path}");
        assert_eq!(api.get(&path, "fan ana").await.code(), "service.wrong_role");
        assert_eq!(api.get(&path, "").await.code(), "service.not_signed_in");
        assert_eq!(api.get(&path, "admin root").await.status, StatusCode::OK);
    }
    let plan = event["plan"].as_str().unwrap();
    assert_eq!(api.get(&format!("/organiser/plans/{plan}"), "ivo").await.code(), "tickets.forbidden");
    // A plan of one's own can be used where it is not the venue's.
    let venue_of_ivo = api.write("POST", "/organiser/venues", "ivo", venue(&event["plan"])).await;
    assert_eq!(venue_of_ivo.code(), "tickets.forbidden");
    assert_eq!(api.write("POST", &format!("{path}/cancel"), "admin root", Value::Null).await.status, StatusCode::OK);
}

async fn a_published_event_keeps_its_numbers(databases: &Databases) {
    let api = Api::start(databases).await;
    let (id, event) = api.on_sale().await;
    let path = format!("/organiser/events/{id}");
    // The last place of the porch is held.
    let last = TicketId::new(id, SeatNumber(13));
    api.hold("ana", Wish { tickets: vec![last], ..Wish::default() }).await;
    let capacity = async |capacity: u32| {
        let body = json!({ "areas": [{ "area": "porch", "capacity": capacity }] });
        api.write("POST", &format!("{path}/capacity"), "ona", body).await
    };
    let fewer = capacity(2).await.json();
    assert_eq!(fewer["areas"][0]["closed"], json!([[10, 3]]));
    assert_eq!(capacity(0).await.code(), "tickets.not_now");
    let page = api.get(&format!("/event/{id}"), "").await.json();
    assert_eq!(
        page["areas"][0],
        json!({
            "key": "porch", "name": "Porch", "price_level": "standing", "capacity": 2, "free": 1
        })
    );
    let more = capacity(8).await.json();
    assert_eq!((&more["areas"][0]["blocks"], &more["areas"][0]["closed"]), (&json!([[9, 8]]), &json!([])));

    let block = json!({ "block": [TicketId::new(id, SeatNumber(0)), TicketId::new(id, SeatNumber(1))] });
    let blocked = api.done("POST", &format!("{path}/block"), block).await;
    assert_eq!(blocked["blocked"], json!([[0, 2]]));
    let unblock = json!({ "unblock": [TicketId::new(id, SeatNumber(0))] });
    assert_eq!(api.done("POST", &format!("{path}/block"), unblock).await["blocked"], json!([[1, 1]]));
    let page = api.get(&format!("/event/{id}"), "").await.json();
    assert_eq!((&page["seats"]["total"], &page["seats"]["held"]), (&json!(16), &json!(1)));
    let foreign = json!({ "block": ["ticket_00000000000000010000000000000001"] });
    assert_eq!(api.write("POST", &format!("{path}/block"), "ona", foreign).await.code(), "tickets.not_found");

    let mut input = as_input(&event);
    input["currency"] = "USD".into();
    assert_eq!(api.write("PUT", &path, "ona", input).await.code(), "tickets.not_now");
    let mut input = as_input(&event);
    input["areas"] = json!([]);
    assert_eq!(api.write("PUT", &path, "ona", input).await.code(), "tickets.not_now");
    let mut input = as_input(&event);
    input["starts_at"] = "2030-05-02T19:00:00Z".into();
    input["areas"][0]["capacity"] = 8.into();
    let moved = api.done("PUT", &path, input).await;
    assert_eq!((&moved["starts_at"], &moved["blocked"]), (&json!("2030-05-02T19:00:00Z"), &json!([[1, 1]])));
    let delete = format!("/organiser/venues/{}", event["venue"].as_str().unwrap());
    assert_eq!(api.write("DELETE", &delete, "ona", Value::Null).await.code(), "tickets.not_now");
}

async fn lists_can_be_followed(databases: &Databases) {
    let api = Api::start(databases).await;
    let (published, _) = api.on_sale().await;
    let draft = api.draft().await;
    for at in 0..5 {
        api.done("POST", "/organiser/performers", json!({ "name": format!("Quarteto {at}") })).await;
    }
    let ids = |answer: &Answer| -> Vec<String> {
        let items = answer.json()["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    let draft = draft["id"].as_str().unwrap().to_owned();
    assert_eq!(ids(&api.get("/events", "").await), [published.to_string()]);
    assert_eq!(ids(&api.get("/events", "fan ana").await), [published.to_string()]);
    assert_eq!(ids(&api.get("/events", "ivo").await), [published.to_string()]);
    assert_eq!(ids(&api.get("/events", "ona").await), [published.to_string(), draft.clone()]);
    assert_eq!(ids(&api.get("/organiser/events", "ivo").await), [""; 0]);
    assert_eq!(ids(&api.get("/organiser/events", "admin root").await).len(), 2);
    let event = &api.get("/events", "").await.json()["items"][0];
    assert_eq!((&event["price_from"]["amount"], &event["tickets"]), (&json!(1000), &json!(14)));

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/performers?limit=2&cursor={cursor}"), "").await;
        seen.extend(ids(&page));
        match page.json()["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen.len(), 7);
    let page = api.get("/performers", "").await.json();
    let last = page["items"][6]["updated_at"].as_str().unwrap().to_owned();
    assert_eq!(ids(&api.get(&format!("/performers?updated_since={last}"), "").await), seen[6..]);
    assert_eq!(api.get("/performers?cursor=x", "").await.code(), "service.bad_cursor");

    // What is deleted is told to those who follow, and to nobody else.
    api.done("DELETE", &format!("/organiser/performers/{}", seen[6]), Value::Null).await;
    assert_eq!(ids(&api.get("/performers", "").await).len(), 6);
    let told = api.get(&format!("/performers?updated_since={last}"), "").await.json();
    assert_eq!((&told["items"][0]["id"], told["items"][0]["deleted_at"].is_string()), (&json!(seen[6]), true));
    let gone = api.write("PUT", &format!("/organiser/performers/{}", seen[6]), "ona", json!({ "name": "x" })).await;
    assert_eq!(gone.code(), "tickets.not_found");
    api.done("DELETE", &format!("/organiser/events/{draft}"), Value::Null).await;
    assert_eq!(ids(&api.get("/events", "ona").await), [published.to_string()]);
    assert_eq!(ids(&api.get("/organiser/plans", "ona").await).len(), 2);
}

async fn promotion_codes_are_kept(databases: &Databases) {
    let api = Api::start(databases).await;
    let (id, _) = api.on_sale().await;
    let path = format!("/organiser/events/{id}/promo-codes");
    let code = json!({ "code": "amigos", "discount": { "basis_points": 1500 }, "max_uses": 2 });
    let made = api.done("POST", &path, code.clone()).await;
    assert_eq!((&made["code"], &made["uses"]), (&json!("AMIGOS"), &json!(0)));
    assert_eq!(api.write("POST", &path, "ona", code).await.code(), "tickets.not_now");
    let one = format!("/organiser/promo-codes/{}", made["id"].as_str().unwrap());
    let changed = api.done("PUT", &one, json!({ "code": "Amigos", "discount": { "amount": 500 } })).await;
    assert_eq!((&changed["discount"], &changed["max_uses"]), (&json!({ "amount": 500 }), &Value::Null));
    let renamed = json!({ "code": "outros", "discount": { "amount": 500 } });
    assert_eq!(api.write("PUT", &one, "ona", renamed).await.code(), "tickets.not_now");
    assert_eq!(api.app.store.promo(id, "AMIGOS").await.unwrap().version, 2);
    assert_eq!(api.get(&path, "ona").await.json()["items"].as_array().unwrap().len(), 1);
    api.done("DELETE", &one, Value::Null).await;
    assert!(api.app.store.promo(id, "AMIGOS").await.is_err());
    let again = json!({ "code": "amigos", "discount": { "amount": 500 } });
    assert_eq!(api.write("POST", &path, "ona", again).await.status, StatusCode::CREATED);
}

async fn sales_are_reported_and_exported(databases: &Databases) {
    let url = databases.fresh();
    let api = Api::open(&url, Arc::new(SystemClock), Arc::new(tessera_kernel::RandomIds)).await;
    let (id, _) = api.on_sale().await;
    api.hold("ana", Wish { tickets: vec![TicketId::new(id, SeatNumber(2))], ..Wish::default() }).await;
    let db = Db::open(&url, "tickets", &tessera_tickets::store::migrations()).await.unwrap();
    let at = |text: &str| text.parse::<Timestamp>().unwrap().micros();
    let sold = [
        (0u32, "=cmd|'/c calc'!A0", 3000i64, at("2030-01-01T10:05:00Z"), Some(at("2030-05-01T18:30:00Z"))),
        (1, "ivo", 3000, at("2030-01-01T10:55:00Z"), None),
        (13, "eva", 1000, at("2030-01-01T12:00:00Z"), None),
    ];
    let order = Uuid::from_u128(7);
    tessera_store::each_engine!(&db, |pool| {
        for (number, subject, price, booked_at, checked_in) in sold {
            let add = "INSERT INTO bookings (ticket_id, event_id, order_id, subject, token, price, serial, booked_at,
                checked_in_at, gate, updated_at) VALUES ($1, $2, $3, $4, 1, $5, 1, $6, $7, $8, $6)";
            let add = sqlx::query(add).bind(TicketId::new(id, SeatNumber(number)).uuid()).bind(id.uuid()).bind(order);
            let add = add.bind(subject).bind(price).bind(booked_at).bind(checked_in).bind(checked_in.map(|_| "North"));
            add.execute(pool).await.map(drop).unwrap();
        }
        let add = "INSERT INTO orders (id, event_id, subject, hold_id, token, seats, count, state, currency, total,
            keep, captured, refunded, book_before, attempt, provider, request_hash, created_at, updated_at)
            VALUES ($1, $2, 'ivo', $1, 1, $3, 3, 'captured', 'EUR', 6500, 6000, 6500, 500, 0, 1, 'test', $3, 0, 0)";
        sqlx::query(add).bind(order).bind(id.uuid()).bind(Vec::<u8>::new()).execute(pool).await.map(drop).unwrap();
    });
    db.close().await;
    api.app.live.refresh(id).await.unwrap();
    let report = api.get(&format!("/organiser/events/{id}/report"), "ona").await.json();
    assert_eq!(report["tickets"], json!({ "total": 14, "sold": 3, "held": 1, "free": 10 }));
    assert_eq!((&report["levels"][0]["sold"], &report["levels"][0]["revenue"]["amount"]), (&json!(2), &json!(6000)));
    assert_eq!((&report["levels"][0]["held"], &report["levels"][2]["sold"]), (&json!(1), &json!(1)));
    let hours: Vec<&Value> = report["hours"].as_array().unwrap().iter().map(|hour| &hour["tickets"]).collect();
    assert_eq!((hours, &report["hours"][0]["hour"]), (vec![&json!(2), &json!(1)], &json!("2030-01-01T10:00:00Z")));
    assert_eq!((&report["revenue"]["net"]["amount"], &report["checked_in"]), (&json!(6000), &json!(1)));

    let export = api.get(&format!("/organiser/events/{id}/export.csv"), "ona").await;
    assert_eq!(export.header("content-type"), "text/csv; charset=utf-8");
    let text = String::from_utf8(export.body).unwrap();
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(
        lines[0].starts_with("ticket_id,order_id,section,row,seat,area,price_level,price,currency,holder"),
        "{text}"
    );
    let first = "Nave,A,1,,nave,30.00,EUR,'=cmd|'/c calc'!A0,2030-01-01T10:05:00Z,2030-05-01T18:30:00Z,North";
    assert!(lines[1].ends_with(first), "{text}");
    assert!(lines[3].contains(",,,,Porch,standing,10.00,EUR,eva,"), "{text}");
}

async fn what_is_over_is_swept(databases: &Databases) {
    let url = databases.fresh();
    let api = Api::open(&url, Arc::new(SystemClock), Arc::new(tessera_kernel::RandomIds)).await;
    let (id, _) = api.on_sale().await;
    for number in 0..3 {
        api.hold("ana", Wish { tickets: vec![TicketId::new(id, SeatNumber(number))], ..Wish::default() }).await;
    }
    let count = async |table: &str| -> i64 {
        let db = Db::open(&url, "tickets", &tessera_tickets::store::migrations()).await.unwrap();
        let count = format!("SELECT COUNT(*) FROM {table}");
        let count = sqlx::AssertSqlSafe(count);
        let counted = tessera_store::each_engine!(&db, |pool| sqlx::query_scalar(count).fetch_one(pool).await.unwrap());
        db.close().await;
        counted
    };
    let (answers, feed, outbox) = (count("answers").await, count("seat_feed").await, count("outbox").await);
    assert_eq!((answers, feed), (5, 3));
    assert_eq!(outbox, 4, "a venue, a performer, an event and its publication");
    let now = SystemClock.now();
    assert_eq!(jobs::sweep::sweep(&api.app, now).await.unwrap(), 0);
    let later = now.plus(Duration::from_secs(3 * 3_600));
    assert_eq!(jobs::sweep::sweep(&api.app, later).await.unwrap(), 3);
    let later = now.plus(Duration::from_secs(49 * 3_600));
    assert_eq!(jobs::sweep::sweep(&api.app, later).await.unwrap(), 9);
    assert_eq!((count("answers").await, count("seat_feed").await, count("outbox").await), (0, 0, 0));
    assert_eq!(count("holds WHERE state = 'lapsed'").await, 3);
    // Who missed the feed is told to start over, and events in memory go on.
    let live = api.app.live.event(id).await.unwrap();
    assert!(api.app.missed(&live, Some(0)).await.unwrap().is_none());
    api.hold("eva", Wish { tickets: vec![TicketId::new(id, SeatNumber(5))], ..Wish::default() }).await;
    assert_eq!(live.seq(), 4);
}

async fn a_season_is_imported_once(databases: &Databases) {
    let api = Api::start(databases).await;
    let (template, _) = api.on_sale().await;
    let template = api.app.store.event(template).await.unwrap();
    let plan = Generate { kind: HouseKind::Theatre, seats: 300, name: None }.plan().unwrap();
    let categories: Vec<String> = plan.categories.iter().map(|category| category.name.clone()).collect();
    let ids = Counted::default();
    let new_plan = NewPlan {
        id: ids.next().into(),
        name: plan.name.clone(),
        seats: 300,
        document: serde_json::to_string(&plan).unwrap(),
        organiser: "ona".into(),
    };
    let performer = |at: usize| Performer {
        id: Uuid::from_u128(1 << 100 | at as u128).into(),
        name: format!("Team {at}"),
        about: String::new(),
        organiser: "ona".into(),
        version: 1,
        updated_at: Timestamp::from_micros(0),
        deleted_at: None,
    };
    let performers: Vec<Performer> = (0..20).map(performer).collect();
    let event = |at: usize| {
        let mut event = template.clone();
        event.id = Uuid::from_u128((1 << 90) | (at as u128) << 40).into();
        event.name = format!("Match {at}");
        (event.plan, event.version) = (Some(new_plan.id), 1);
        event.performers = vec![performers[at % 20].id, performers[(at + 1) % 20].id];
        event.details.price_levels[0].categories = categories.clone();
        event.details.areas.clear();
        (event, 0)
    };
    let events: Vec<_> = (0..600).map(event).collect();
    let season = Season { plans: vec![new_plan], venues: Vec::new(), performers, events };
    for _ in 0..2 {
        api.app.import(season.clone()).await.unwrap();
    }
    let listed = api.get("/events?limit=1000", "").await.json();
    let items = listed["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[600]["tickets"]), (601, &json!(300)));
    assert_eq!(items[600]["performers"].as_array().unwrap().len(), 2);
    let page = api.get(&format!("/event/{}", items[600]["id"].as_str().unwrap()), "").await.json();
    assert_eq!(page["seats"]["free"], 300);

    let mut broken = Season { events: season.events[..1].to_vec(), ..Season::default() };
    broken.events[0].0.details.price_levels[0].categories.clear();
    assert_eq!(api.app.import(broken).await.unwrap_err().code(), "tickets.bad_event");
}

#[tokio::test]
async fn broken_plans_are_refused_with_line_or_seat() {
    let databases = Databases::sqlite();
    let api = Api::start(&databases).await;
    let refused = async |text: &str| {
        let head = [("idempotency-key", "plan")];
        let answer = api.send("POST", "/organiser/plans", "ona", &head, text.to_owned()).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::BAD_REQUEST, "tickets.bad_plan".into()));
        answer.json()["detail"].as_str().unwrap().to_owned()
    };
    let detail = refused(&CHAPEL.replacen("\"seats\": [", "\"seats\": [,", 1)).await;
    assert!(detail.contains("line 17"), "{detail}");
    let detail = refused(&CHAPEL.replacen("\"x\": 25", "\"x\": \"25\"", 1)).await;
    assert!(detail.contains("line 19") && detail.contains("expected f64"), "{detail}");
    let detail = refused(&CHAPEL.replacen("\"category\": \"Choir\"", "\"category\": \"Loft\"", 1)).await;
    assert!(detail.contains("zone `Choir`, row `1`, seat `1`: category `Loft`"), "{detail}");
    assert!(refused(&CHAPEL.replace("nave-b-1", "nave-a-1")).await.contains("seat_guid"));
    assert!(refused("{}").await.contains("missing field `name`"));
    assert!(refused(r#"{"generate": {"kind": "theatre", "seats": 7}}"#).await.contains("50 to 6000"));
    assert!(refused(r#"{"generate": {"kind": "circus", "seats": 700}}"#).await.contains("circus"));
    // More than the usual body limit: a stadium.
    let plan = Generate { kind: HouseKind::Stadium, seats: 50_000, name: None }.plan().unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert!(text.len() > 3 << 20, "{}", text.len());
    let made = api.send("POST", "/organiser/plans", "ona", &[("idempotency-key", "stadium")], text).await;
    assert_eq!((made.status, &made.json()["seats"]), (StatusCode::CREATED, &json!(50_000)));
    let path = format!("/organiser/plans/{}", made.json()["id"].as_str().unwrap());
    assert_eq!(api.get(&path, "ona").await.json()["zones"].as_array().map(Vec::len), Some(plan.zones.len()));
}

#[tokio::test]
async fn wire_formats() {
    let databases = Databases::sqlite();
    let clock = Arc::new(ManualClock::at("2030-01-01T10:00:00Z".parse().unwrap()));
    let api = Api::open(&databases.fresh(), clock, Arc::new(Counted::default())).await;
    let (id, event) = api.on_sale().await;
    insta::assert_json_snapshot!("organisers_event", event);
    insta::assert_json_snapshot!("event", api.get(&format!("/event/{id}?tickets=list"), "").await.json());
    insta::assert_json_snapshot!("events", api.get("/events", "").await.json());
    insta::assert_json_snapshot!("venues", api.get("/venues", "").await.json());
    insta::assert_json_snapshot!("performers", api.get("/performers", "").await.json());
    insta::assert_json_snapshot!("plans", api.get("/organiser/plans", "ona").await.json());
    insta::assert_json_snapshot!("report", api.get(&format!("/organiser/events/{id}/report"), "ona").await.json());
    let code = json!({ "code": "amigos", "discount": { "basis_points": 1500 }, "valid_until": "2030-04-01T00:00:00Z" });
    insta::assert_json_snapshot!("promo", api.done("POST", &format!("/organiser/events/{id}/promo-codes"), code).await);
}
