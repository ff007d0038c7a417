//! What is shown of a waiting room's lottery, and from when on.

use serde_json::{Value, json};
use tessera_testkit::sql::Databases;
use tessera_tickets::domain::event::{Queue, QueueMode};
use tessera_tickets::domain::ids::EventId;
use tessera_tickets::domain::queue::{Control, Settings};

use crate::house::House;

const ORG: &str = "organiser org";

/// An event without seats that is sold from a moment to come, and has a waiting room.
async fn event(house: &House, mode: &str) -> EventId {
    let venue =
        json!({ "name": "Field", "city": "Lisboa", "country": "PT", "address": "", "timezone": "Europe/Lisbon" });
    let venue = house.done("/organiser/venues", ORG, venue).await["id"].clone();
    let event = json!({
        "name": "Open air", "kind": "concert", "venue": venue, "seated": false, "currency": "EUR",
        "starts_at": "2093-05-02T19:00:00Z", "on_sale_at": "2093-05-01T10:00:00Z",
        "price_levels": [{ "key": "all", "name": "All", "price": 1000, "color": "#888888" }],
        "areas": [{ "key": "field", "name": "Field", "capacity": 50, "price_level": "all" }],
        "queue": { "mode": mode }
    });
    house.done("/organiser/events", ORG, event).await["id"].as_str().unwrap().parse().unwrap()
}

async fn serving(house: &House, event: EventId) -> Value {
    house.get(&format!("/event/{event}/queue/serving"), "fan ana").await
}

async fn contract(databases: &Databases) {
    let house = House::open(databases).await;
    // When it is published, and without anybody asking.
    let on = event(&house, "on").await;
    assert!(house.app.store.queue(on).await.unwrap().is_none(), "a draft has none");
    house.done(&format!("/organiser/events/{on}/publish"), ORG, Value::Null).await;
    let row = house.app.store.queue(on).await.unwrap().unwrap();
    assert!(row.made, "its line is there");
    let hex: String = row.seed.commitment().iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = serving(&house, on).await;
    assert_eq!((&shown["commitment"], &shown["active"]), (&json!(hex), &json!(true)), "{shown}");
    assert_eq!(shown["seed"], Value::Null);

    // When it is switched on, by hand or in the event; in `auto` before it closes its doors.
    let off = event(&house, "off").await;
    house.done(&format!("/organiser/events/{off}/publish"), ORG, Value::Null).await;
    assert!(house.app.store.queue(off).await.unwrap().is_none());
    assert_eq!(serving(&house, off).await["commitment"], Value::Null);
    house.done(&format!("/event/{off}/queue/control"), ORG, json!({ "mode": "on" })).await;
    assert!(serving(&house, off).await["commitment"].is_string());

    let auto = event(&house, "auto").await;
    house.done(&format!("/organiser/events/{auto}/publish"), ORG, Value::Null).await;
    let before = serving(&house, auto).await;
    assert_eq!((before["commitment"].is_string(), &before["active"]), (true, &json!(false)), "{before}");
    assert!(!house.app.view_event(auto).await.unwrap().queue_active);
    let queue = Queue { mode: QueueMode::Auto, auto_arrivals_per_second: 10, ..Queue::default() };
    let settings = Settings::new(&queue, None, &Control::default());
    house.app.store.hear_arrivals(auto, &settings, 7, 1_000).await.unwrap();
    house.app.refresh_queue(auto).await.unwrap();
    assert!(house.app.view_event(auto).await.unwrap().queue_active, "it has closed its doors by itself");
    let closed = serving(&house, auto).await;
    assert_eq!((&closed["commitment"], &closed["active"]), (&before["commitment"], &json!(true)), "{closed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    contract(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    contract(&Databases::postgres()).await;
}
