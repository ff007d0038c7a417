//! Lists by the time of the last change: whoever follows along sees every change, and loses none.

use std::collections::HashMap;

use serde_json::{Value, json};
use tessera_store::sql::Db;
use tessera_testkit::sql::Databases;

use crate::house::{House, walk};
use crate::support::tickets;

async fn contract(databases: &Databases) {
    every_change_of_a_ticket_is_seen(&House::open(databases).await).await;
    orders_are_listed_by_change_and_newest_first(&House::open(databases).await).await;
    plans_and_codes_are_followed(&House::open(databases).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    contract(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    contract(&Databases::postgres()).await;
}

/// What somebody keeps who asks again and again for what changed since the last time, by id.
#[derive(Default)]
struct Follower {
    since: String,
    kept: HashMap<String, Value>,
}

impl Follower {
    async fn look(&mut self, house: &House, path: &str, who: &str) {
        let since = if self.since.is_empty() { "1970-01-01T00:00:00Z" } else { &self.since };
        let joint = if path.contains('?') { '&' } else { '?' };
        for item in walk(house, &format!("{path}{joint}updated_since={since}"), who, 1).await {
            self.since = item["updated_at"].as_str().unwrap().to_owned();
            self.kept.insert(item["id"].as_str().unwrap().to_owned(), item);
        }
    }

    fn states(&self, ids: &[impl ToString]) -> Vec<&str> {
        ids.iter().map(|id| self.kept[&id.to_string()]["state"].as_str().unwrap()).collect()
    }
}

async fn every_change_of_a_ticket_is_seen(house: &House) {
    let ids = tickets(house.event, &[0, 1, 2]);
    let (mut seller, mut ana, mut bob) = (Follower::default(), Follower::default(), Follower::default());
    let order = house.buy("ana", &[0, 1, 2]).await;
    let look = async |seller: &mut Follower, ana: &mut Follower, bob: &mut Follower| {
        seller.look(house, "/tickets", "organiser org").await;
        ana.look(house, "/tickets", "fan ana").await;
        bob.look(house, "/tickets", "fan bob").await;
    };
    look(&mut seller, &mut ana, &mut bob).await;
    assert_eq!(seller.states(&ids), ["valid"; 3]);

    house.done(&format!("/tickets/{}/transfer", ids[0]), "fan ana", json!({ "to": "bob" })).await;
    let shown = json!({ "ticket_id": ids[1], "event": house.event });
    house.done("/tickets/check-in", "door d", shown).await;
    house.done(&format!("/orders/{order}/refund"), "organiser org", json!({ "ticket_ids": [ids[2]] })).await;
    look(&mut seller, &mut ana, &mut bob).await;
    assert_eq!(seller.states(&ids), ["valid", "used", "refunded"]);
    assert_eq!(seller.kept[&ids[0].to_string()]["owner"], "bob");
    assert_eq!(ana.states(&ids), ["transferred", "used", "refunded"]);
    assert_eq!(ana.kept[&ids[0].to_string()]["qr"], Value::Null);
    assert_eq!(bob.states(&ids[..1]), ["valid"]);
    // Without a moment there is only what is there.
    let here = walk(house, "/tickets", "fan ana", 1).await;
    assert_eq!(here.iter().map(|ticket| ticket["id"].as_str().unwrap()).collect::<Vec<_>>(), [ids[1].to_string()]);

    // Sold again, the ticket is its new owner's; who had it before it was passed on is refused at the door.
    house.buy("cleo", &[2]).await;
    look(&mut seller, &mut ana, &mut bob).await;
    assert_eq!(seller.states(&ids), ["valid", "used", "valid"]);
    assert_eq!(seller.kept[&ids[2].to_string()]["owner"], "cleo");
    assert_eq!(ana.states(&ids), ["transferred", "used", "refunded"]);
}

async fn orders_are_listed_by_change_and_newest_first(house: &House) {
    let mut orders = Vec::new();
    for seat in 0..4 {
        orders.push(house.buy("ana", &[seat]).await);
    }
    house.done(&format!("/orders/{}/refund", orders[1]), "organiser org", json!({})).await;
    let listed = async |path: &str, who: &str| -> Vec<String> {
        let items = walk(house, path, who, 1).await;
        items.iter().map(|order| order["id"].as_str().unwrap().to_owned()).collect()
    };
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|at: usize| orders[at].as_str());
    for who in ["fan ana", "organiser org", "admin root"] {
        assert_eq!(listed("/orders", who).await, [first, third, fourth, second], "{who}");
        assert_eq!(listed("/orders?sort=newest", who).await, [fourth, third, second, first], "{who}");
    }
    let since = house.get(&format!("/orders/{second}"), "fan ana").await["updated_at"].as_str().unwrap().to_owned();
    assert_eq!(listed(&format!("/orders?updated_since={since}"), "fan ana").await, [second]);
}

async fn plans_and_codes_are_followed(house: &House) {
    let org = "organiser org";
    let mut plans = Follower::default();
    let generate = json!({ "generate": { "kind": "theatre", "seats": 60 } });
    let plan = house.done("/organiser/plans", org, generate.clone()).await["id"].as_str().unwrap().to_owned();
    house.done("/organiser/plans", org, generate).await;
    plans.look(house, "/organiser/plans", org).await;
    let made = plans.kept.len();
    assert!(made >= 2 && plans.kept[&plan]["deleted_at"].is_null());
    let token = crate::house::bearer(&house.token(org));
    let head = [("authorization", token.as_str()), ("idempotency-key", "gone")];
    assert_eq!(house.send("DELETE", &format!("/organiser/plans/{plan}"), &head, None).await.0, 200);
    plans.look(house, "/organiser/plans", org).await;
    assert!(plans.kept[&plan]["deleted_at"].is_string(), "{}", plans.kept[&plan]);

    let path = format!("/organiser/events/{}/promo-codes", house.event);
    let half = json!({ "code": "HALF", "discount": { "basis_points": 5_000 } });
    let half = house.done(&path, org, half).await["id"].as_str().unwrap().to_owned();
    house.done(&path, org, json!({ "code": "LESS", "discount": { "amount": 100 } })).await;
    let mut codes = Follower::default();
    codes.look(house, &path, org).await;
    assert_eq!((codes.kept.len(), &codes.kept[&half]["uses"]), (2, &json!(0)));
    let hold = house.hold("ana", &[0]).await;
    let card = json!({ "number": crate::house::GOOD, "exp_month": 12, "exp_year": 2094, "cvc": "123" });
    let body = json!({ "hold_id": hold, "payment_details": { "card": card }, "promo_code": "half" });
    house.done("/booking/confirm", "fan ana", body).await;
    codes.look(house, &path, org).await;
    assert_eq!(codes.kept[&half]["uses"], 1, "a use is a change");
}

/// A change is stamped before its transaction ends, so a later stamp can be seen first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_late_is_not_lost() {
    let databases = Databases::postgres();
    let house = House::open(&databases).await;
    for name in ["Early", "Late"] {
        let body =
            json!({ "name": name, "city": "Lisboa", "country": "PT", "address": "", "timezone": "Europe/Lisbon" });
        house.done("/organiser/venues", "organiser org", body).await;
    }
    let mut venues = Follower::default();
    venues.look(&house, "/venues", "fan ana").await;
    assert_eq!(venues.kept.len(), 3);

    let Db::Postgres(pool) = Db::open(&house.url, "tickets", &tessera_tickets::store::migrations()).await.unwrap()
    else {
        panic!("{}", house.url)
    };
    let mut slow = pool.begin().await.unwrap();
    let stamp =
        "UPDATE venues SET address = 'slow', updated_at = (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT
        WHERE name = 'Early'";
    sqlx::query(stamp).execute(&mut *slow).await.unwrap();
    let quick = stamp.replace("slow", "quick").replace("Early", "Late");
    sqlx::query(sqlx::AssertSqlSafe(quick)).execute(&pool).await.unwrap();
    venues.look(&house, "/venues", "fan ana").await;
    slow.commit().await.unwrap();
    venues.look(&house, "/venues", "fan ana").await;
    let mut addresses: Vec<&str> = venues.kept.values().map(|venue| venue["address"].as_str().unwrap()).collect();
    addresses.sort_unstable();
    assert_eq!(addresses, ["", "quick", "slow"]);
    pool.close().await;
}
