//! Writes under a key: the same again is answered the same again, another one is refused; at every process.

use std::sync::Arc;

use serde_json::{Value, json};
use tessera_kernel::SystemClock;
use tessera_testkit::sql::Databases;
use tessera_tickets::domain::ids::EventId;

use crate::house::{GOOD, House, bearer};
use crate::support::{details, plan, publish, tickets, tomorrow};

struct Houses {
    one: House,
    other: House,
}

impl Houses {
    async fn open(databases: &Databases) -> Self {
        let one = House::open(databases).await;
        let other = House::beside(one.url.clone(), one.event, one.keys.clone(), Arc::new(SystemClock)).await;
        Self { one, other }
    }

    /// The answer to a write, which is the same at both, also when both are asked at once.
    async fn once(&self, path: &str, who: &str, key: &str, body: &Value) -> Value {
        let (first, second, third) = tokio::join!(
            self.one.write(path, who, key, body),
            self.one.write(path, who, key, body),
            self.other.write(path, who, key, body)
        );
        assert_eq!(first.0, 200, "{path}: {first:?}");
        assert_eq!(second, first, "{path}");
        assert_eq!(third, first, "{path}");
        assert_eq!(self.other.write(path, who, key, body).await, first, "{path}");
        first.1
    }

    /// Whether another request under the key is refused.
    async fn reused(&self, path: &str, who: &str, key: &str, body: &Value) {
        for house in [&self.one, &self.other] {
            let (status, problem) = house.write(path, who, key, body).await;
            assert_eq!((status, &problem["code"]), (409, &json!("tickets.key_reused")), "{path}: {problem}");
        }
    }
}

async fn contract(databases: &Databases) {
    a_retry_meets_its_order_whatever_came_since(databases).await;
    a_hold_is_of_its_event(databases).await;
    seats_are_given_back_once(databases).await;
    tickets_are_passed_on_once(databases).await;
    money_goes_back_once(databases).await;
    a_door_decides_once(databases).await;
    a_waiting_room_is_set_once(databases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    contract(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    contract(&Databases::postgres()).await;
}

async fn a_hold_is_of_its_event(databases: &Databases) {
    let houses = Houses::open(databases).await;
    let other = publish(&houses.one.url, &plan(2, 10), &details(20), tomorrow()).await;
    let path = "/booking/reserve";
    let two = |event: EventId| json!({ "event": event, "quantity": 2, "best_available": true });
    houses.once(path, "fan ana", "h", &two(houses.one.event)).await;
    houses.reused(path, "fan ana", "h", &two(other)).await;
    houses.once(path, "fan ana", "h2", &two(other)).await;
}

async fn a_retry_meets_its_order_whatever_came_since(databases: &Databases) {
    let houses = Houses::open(databases).await;
    let (one, org) = (&houses.one, "organiser org");
    let codes = format!("/organiser/events/{}/promo-codes", one.event);
    let half = json!({ "code": "HALF", "discount": { "basis_points": 5_000 } });
    let half = one.done(&codes, org, half).await["id"].as_str().unwrap().to_owned();
    one.hold("ana", &[0, 1]).await;
    let card = json!({ "number": GOOD, "exp_month": 12, "exp_year": 2094, "cvc": "123" });
    let path = "/booking/confirm";
    let paid = |promo: &str| json!({ "ticket_id": tickets(one.event, &[1])[0], "payment_details": { "card": card }, "promo_code": promo });
    let (status, bought) = one.write(path, "fan ana", "p", &paid("half")).await;
    assert_eq!((status, &bought["order"]["state"]), (200, &json!("captured")), "{bought}");
    // The hold is an order by now, the code is deleted, the event cancelled.
    let token = bearer(&one.token(org));
    let head = [("authorization", token.as_str()), ("idempotency-key", "gone")];
    assert_eq!(one.send("DELETE", &format!("/organiser/promo-codes/{half}"), &head, None).await.0, 200);
    one.done(&format!("/organiser/events/{}/cancel", one.event), org, Value::Null).await;
    for house in [one, &houses.other] {
        let (status, again) = house.write(path, "fan ana", "p", &paid("half")).await;
        assert_eq!((status, &again["order"]["id"]), (200, &bought["order"]["id"]), "{again}");
        assert_eq!(again["order"]["promo_code"], "HALF", "{again}");
        assert_eq!(again["tickets"].as_array().unwrap().len(), 2, "{again}");
    }
    houses.reused(path, "fan ana", "p", &paid("none")).await;
}

async fn seats_are_given_back_once(databases: &Databases) {
    let houses = Houses::open(databases).await;
    let (first, second) = (houses.one.hold("ana", &[0, 1]).await, houses.one.hold("ana", &[2]).await);
    let body = |hold: &str| json!({ "hold_id": hold });
    let path = "/booking/release";
    assert_eq!(houses.once(path, "fan ana", "r", &body(&first)).await, json!({ "released": 2 }));
    houses.reused(path, "fan ana", "r", &body(&second)).await;
    assert_eq!(houses.once(path, "fan ana", "r2", &body(&first)).await, json!({ "released": 0 }));
    // Somebody else's keys are their own, and who was refused may try again.
    let (status, problem) = houses.one.write(path, "fan bob", "r", &body(&second)).await;
    assert_eq!((status, &problem["code"]), (404, &json!("tickets.not_found")));
    let theirs = houses.one.hold("bob", &[3]).await;
    assert_eq!(houses.once(path, "fan bob", "r", &body(&theirs)).await, json!({ "released": 1 }));
}

async fn tickets_are_passed_on_once(databases: &Databases) {
    let houses = Houses::open(databases).await;
    houses.one.buy("ana", &[0]).await;
    let ticket = tickets(houses.one.event, &[0])[0];
    let (path, to) = (format!("/tickets/{ticket}/transfer"), |to: &str| json!({ "to": to }));
    let answer = houses.once(&path, "fan ana", "t", &to("bob")).await;
    assert_eq!(answer, json!({ "ticket": ticket, "owner": "bob" }));
    houses.reused(&path, "fan ana", "t", &to("cleo")).await;
    houses.once(&path, "fan bob", "t", &to("cleo")).await;
    assert_eq!(houses.once(&path, "fan ana", "t", &to("bob")).await, answer, "though it has gone on since");
    assert_eq!(houses.one.get("/tickets", "fan cleo").await["items"][0]["serial"], 3);
}

async fn money_goes_back_once(databases: &Databases) {
    let houses = Houses::open(databases).await;
    let order = houses.one.buy("ana", &[0, 1, 2]).await;
    let (path, ids) = (format!("/orders/{order}/refund"), tickets(houses.one.event, &[0, 1]));
    let some = |n: usize| json!({ "ticket_ids": [ids[n]] });
    let token = "organiser org";
    let first = some(0);
    let both = tokio::join!(houses.one.write(&path, token, "f", &first), houses.other.write(&path, token, "f", &first));
    assert_eq!((both.0.0, both.1.0), (200, 200), "{both:?}");
    let answer = houses.once(&path, token, "f", &some(0)).await;
    assert_eq!((&answer["state"], &answer["refunded"]["amount"]), (&json!("captured"), &json!(4_500)), "{answer}");
    houses.reused(&path, token, "f", &some(1)).await;
    houses.reused(&path, token, "f", &json!({})).await;
    assert_eq!(houses.one.write(&path, token, "g", &some(0)).await.0, 404, "it is not of the order any more");
    for (key, body) in [("g", some(1)), ("h", json!({}))] {
        assert_eq!(houses.one.write(&path, token, key, &body).await.0, 200);
    }
    houses.once(&path, token, "g", &some(1)).await;
    let whole = houses.once(&path, token, "h", &json!({})).await;
    assert_eq!((&whole["state"], &whole["refunded"]["amount"]), (&json!("refunded"), &json!(13_500)), "{whole}");
    assert_eq!(houses.one.sums().await, (0, 13_500, 13_500));
}

async fn a_door_decides_once(databases: &Databases) {
    let houses = Houses::open(databases).await;
    houses.one.buy("ana", &[0, 1]).await;
    let ids = tickets(houses.one.event, &[0, 1]);
    let at = |n: usize, gate: &str| json!({ "ticket_id": ids[n], "event": houses.one.event, "gate": gate });
    let path = "/tickets/check-in";
    let first = houses.once(path, "door d", "1", &at(0, "North")).await;
    assert_eq!(first["result"], "valid");
    let again = houses.once(path, "door d", "2", &at(0, "South")).await;
    assert_eq!((&again["result"], &again["used_at"]), (&json!("already_used"), &first["used_at"]));
    houses.reused(path, "door d", "1", &at(1, "North")).await;
    houses.reused(path, "door d", "1", &at(0, "South")).await;
    let scans = |gate: &str| {
        let scan = json!({ "ticket_id": ids[1], "gate": gate, "at": "2026-03-01T19:02:11Z" });
        json!({ "event": houses.one.event, "scans": [scan] })
    };
    let handed_in = houses.once("/tickets/check-in/batch", "door d", "3", &scans("East")).await;
    assert_eq!(handed_in["results"][0]["result"], "valid", "{handed_in}");
    houses.reused("/tickets/check-in/batch", "door d", "3", &scans("West")).await;
}

async fn a_waiting_room_is_set_once(databases: &Databases) {
    let houses = Houses::open(databases).await;
    let path = format!("/event/{}/queue/control", houses.one.event);
    let token = "organiser org";
    let (on, off) = (json!({ "mode": "on", "paused": true }), json!({ "paused": false }));
    assert_eq!(houses.one.write(&path, token, "q", &on).await.1["paused"], true);
    assert_eq!(houses.one.write(&path, token, "q2", &off).await.1["paused"], false);
    let again = houses.other.write(&path, token, "q", &on).await;
    assert_eq!((again.0, &again.1["paused"]), (200, &json!(false)), "it was done before, and undone since");
    houses.reused(&path, token, "q", &off).await;
}
