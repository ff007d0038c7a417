//! Cancelled events: all their money goes back, whatever happens on the way, and everybody is told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tessera_kernel::{Ids, Money, RandomIds, SystemClock};
use tessera_testkit::sql::Databases;
use tessera_tickets::domain::ids::AttemptId;
use tessera_tickets::jobs::{cancel, settle};
use tessera_tickets::payment::{PaymentRef, Provider};

use crate::house::{House, walk};
use crate::support::tickets;

async fn contract(databases: &Databases) {
    everything_goes_back(&House::open(databases).await).await;
    whoever_dies_another_goes_on(&House::open(databases).await).await;
    what_was_given_back_by_hand_is_not_asked_for_again(&House::open(databases).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    contract(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    contract(&Databases::postgres()).await;
}

async fn cancellation(house: &House) -> Value {
    house.get(&format!("/organiser/events/{}/report", house.event), "organiser org").await["cancellation"].clone()
}

async fn scan(house: &House, code: &Value, key: &str) -> Value {
    let body = json!({ "qr": code, "event": house.event });
    house.write("/tickets/check-in", "door d", key, &body).await.1
}

async fn what_was_given_back_by_hand_is_not_asked_for_again(house: &House) {
    let ana = house.buy("ana", &[0, 1]).await;
    let order = house.app.store.find_order(ana.parse().unwrap()).await.unwrap().unwrap();
    let (payment, some) = (order.payment.clone().unwrap(), Money::new(3_000, order.currency));
    house.test.refund(AttemptId::from(RandomIds.next()), &payment, some).await.unwrap();
    house.app.hear_of(&payment, None, None).await.unwrap();
    assert_eq!(house.sums().await, (0, 9_000, 3_000));

    house.done(&format!("/organiser/events/{}/cancel", house.event), "organiser org", Value::Null).await;
    assert_eq!(cancel::round(&house.app).await.unwrap(), 1);
    assert_eq!(house.sums().await, (0, 9_000, 9_000));
    assert_eq!(house.get(&format!("/orders/{ana}"), "fan ana").await["state"], "refunded");
}

async fn everything_goes_back(house: &House) {
    let (cancelled, seats) = (format!("/organiser/events/{}/cancel", house.event), tickets(house.event, &[1, 2]));
    let ana = house.buy("ana", &[0, 1]).await;
    let bob = house.buy("bob", &[2]).await;
    let eve = house.pay("eve", &[3], "4000002760003184").await["order"]["id"].as_str().unwrap().to_owned();
    house.done(&format!("/orders/{ana}/refund"), "organiser org", json!({ "ticket_ids": [seats[0]] })).await;
    let code = house.get(&format!("/tickets/{}", seats[1]), "fan bob").await["qr"].clone();
    assert_eq!(scan(house, &code, "in").await["result"], "valid");
    assert_eq!(cancellation(house).await, Value::Null);
    assert_eq!(cancel::round(&house.app).await.unwrap(), 0);

    house.done(&cancelled, "organiser org", Value::Null).await;
    let verdict = scan(house, &code, "again").await;
    assert_eq!((&verdict["result"], &verdict["ticket"]["seat"]), (&json!("cancelled"), &json!("3")), "{verdict}");
    let order = house.get(&format!("/orders/{ana}"), "fan ana").await;
    assert_eq!((&order["event_status"], &order["state"]), (&json!("cancelled"), &json!("captured")));
    assert_eq!(house.get("/tickets", "fan bob").await["items"][0]["event_status"], "cancelled");
    assert_eq!(cancellation(house).await, json!({ "left": 3, "due": 0, "refunded": 0 }));

    assert_eq!(cancel::round(&house.app).await.unwrap(), 2);
    for (order, who) in [(&ana, "fan ana"), (&bob, "fan bob")] {
        assert_eq!(house.get(&format!("/orders/{order}"), who).await["state"], "refunded");
    }
    assert_eq!(house.sums().await, (0, 13_500, 13_500));
    assert_eq!(cancellation(house).await, json!({ "left": 1, "due": 0, "refunded": 2 }));
    assert_eq!(scan(house, &code, "late").await["result"], "cancelled");
    assert_eq!(house.get("/tickets", "fan bob").await["items"], json!([]));
    let ended = walk(house, "/tickets?updated_since=1970-01-01T00:00:00Z", "fan bob", 1).await;
    assert_eq!(ended.iter().map(|ticket| &ticket["state"]).collect::<Vec<_>>(), ["refunded"]);

    // Who was at the bank when it was cancelled gets the money back too.
    let payment = house.app.store.find_order(eve.parse().unwrap()).await.unwrap().unwrap().payment.unwrap();
    house.test.answer(&PaymentRef::new(payment.as_str().to_owned()), true).await.unwrap();
    house.app.hear_of(&payment, None, None).await.unwrap();
    assert_eq!(cancel::round(&house.app).await.unwrap(), 1);
    assert_eq!(house.sums().await, (0, 18_000, 18_000));
    assert_eq!(cancellation(house).await, json!({ "left": 0, "due": 0, "refunded": 3 }));
    assert_eq!(cancel::round(&house.app).await.unwrap(), 0);

    // The provider's own books say the same, to who may see them.
    let books = walk(house, "/payments/test", "organiser org", 1).await;
    let refunded = books.iter().map(|payment| payment["refunded"]["amount"].as_i64().unwrap()).sum::<i64>();
    assert_eq!((books.len(), refunded), (3, 18_000), "{books:?}");
    assert_eq!(walk(house, "/payments/test", "admin root", 2).await.len(), 3);
    assert!(walk(house, "/payments/test", "organiser other", 1).await.is_empty());
    let (status, problem) = house.send("GET", "/payments/test", &[], None).await;
    assert_eq!((status, &problem["code"]), (401, &json!("service.not_signed_in")));
}

async fn whoever_dies_another_goes_on(house: &House) {
    for seat in 0..12 {
        // The provider does not answer to every third refund.
        let card = if seat % 3 == 0 { "4000000000010084" } else { crate::house::GOOD };
        house.pay(&format!("fan-{seat}"), &[seat], card).await;
    }
    house.done(&format!("/organiser/events/{}/cancel", house.event), "organiser org", Value::Null).await;
    let clock = Arc::new(SystemClock);
    let next = House::beside(house.url.clone(), house.event, house.keys.clone(), clock).await;
    let app = house.app.clone();
    let dying = tokio::spawn(async move { cancel::round(&app).await });
    while next.sums().await.2 == 0 {
        tokio::task::yield_now().await;
    }
    dying.abort();
    cancel::round(&next.app).await.unwrap();
    settle::round(&next.app, Duration::ZERO, &mut settle::Rounds::default()).await.unwrap();
    assert_eq!(next.sums().await, (0, 54_000, 54_000));
    assert_eq!(cancellation(&next).await, json!({ "left": 0, "due": 0, "refunded": 12 }));
}
