//! Tables whose columns change.

use super::stage::{ORDERS, Place, World, instead, more};
use crate::spec::WriteMode;

pub(super) async fn new_columns_are_added(place: Place) {
    let mut world = World::of(ORDERS);
    let target = place.target();
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"empty":null}]"#)]).await;
    world.load(&target).await.unwrap();
    world.commit(vec![more("orders", r#"[{"id":2,"at":2,"empty":"now","extra":{"a":1}}]"#)]).await;
    world.load(&target).await.unwrap();
    let query = "SELECT id || ' ' || COALESCE(empty, '-') || ' ' || COALESCE(CAST(extra AS TEXT), '-') FROM @orders ORDER BY id";
    let found = place.ask(query).await;
    assert_eq!(found.iter().map(|row| row.replace(": ", ":")).collect::<Vec<_>>(), ["1 - -", "2 now {\"a\":1}"]);
}

pub(super) async fn whole_numbers_become_fractions(place: Place) {
    // Of the key too: its index goes and comes back.
    let mut world = World::of(ORDERS);
    let target = place.target();
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"price":3},{"id":2,"at":1,"price":4}]"#)]).await;
    world.load(&target).await.unwrap();
    world.commit(vec![more("orders", r#"[{"id":2,"at":2,"price":4.5},{"id":2.5,"at":2,"price":1}]"#)]).await;
    let outcomes = world.load(&target).await.unwrap();
    assert_eq!(outcomes[0].rows, 2);
    let halves = "SELECT CAST(CAST(id * 10 AS INTEGER) AS TEXT) || ' ' || CAST(CAST(price / 2 * 100 AS INTEGER) AS TEXT) FROM @orders ORDER BY id";
    assert_eq!(place.ask(halves).await, ["10 150", "20 225", "25 50"]);
    world.commit(vec![more("orders", r#"[{"id":1,"at":3,"price":5}]"#)]).await;
    world.load(&target).await.unwrap();
    assert_eq!(place.count("orders").await, 3, "the key is one still");
}

pub(super) async fn a_column_of_another_type_is_made_anew_by_a_full_load(place: Place) {
    let mut world = World::of(ORDERS);
    let target = place.target();
    world.commit(vec![instead("orders", r#"[{"id":1,"at":1,"code":"x7"}]"#)]).await;
    world.load(&target).await.unwrap();
    world.commit(vec![instead("orders", r#"[{"id":1,"at":1,"code":7}]"#)]).await;
    world.load(&target).await.unwrap();
    assert_eq!(place.ask("SELECT CAST(code + 1 AS TEXT) FROM @orders").await, ["8"]);
    world.commit(vec![instead("orders", r#"[{"id":"k","at":1,"code":7}]"#)]).await;
    world.load(&target).await.unwrap();
    assert_eq!(place.ask("SELECT id FROM @orders").await, ["k"], "of the key too");
}

pub(super) async fn a_column_that_cannot_hold_the_values_is_told(place: Place) {
    let mut world = World::of(ORDERS);
    let target = place.target();
    if place.is_postgres() {
        place.run("CREATE SCHEMA raw").await;
    }
    place.run("CREATE TABLE @orders (id bigint, name integer)").await;
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a"}]"#)]).await;
    let refused = world.load(&target).await.unwrap_err().to_string();
    assert!(refused.to_lowercase().contains("\"name\" is integer") && refused.contains("ALTER TABLE"), "{refused}");
    place.run("DROP TABLE @orders").await;
    world.load(&target).await.unwrap();
}

pub(super) async fn a_table_made_by_hand_keeps_its_types(place: Place) {
    let mut world = World::of(&ORDERS.replace("primary_key: [id], ", "write: append, "));
    let target = place.target();
    if place.is_postgres() {
        place.run("CREATE SCHEMA raw").await;
    }
    place.run("CREATE TABLE @orders (id numeric, name text, who text, mine text DEFAULT 'kept')").await;
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a","who":{"x":1}}]"#)]).await;
    world.load(&target).await.unwrap();
    world.commit(vec![more("orders", r#"[{"id":2,"at":2,"name":"b","who":{"x":2}}]"#)]).await;
    world.load(&target).await.unwrap();
    let found = place.ask("SELECT CAST(id AS TEXT) || name || who || mine FROM @orders ORDER BY 1").await;
    let found: Vec<String> = found.iter().map(|row| row.replace(": ", ":")).collect();
    assert_eq!(found, ["1a{\"x\":1}kept", "2b{\"x\":2}kept"]);
}

pub(super) async fn another_key_or_mode_loads_the_table_anew(place: Place) {
    let mut world = World::of(ORDERS);
    let mut target = place.target();
    target.write = Some(WriteMode::Append);
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a"}]"#)]).await;
    world.load(&target).await.unwrap();
    world.commit(vec![more("orders", r#"[{"id":1,"at":2,"name":"b"}]"#)]).await;
    world.load(&target).await.unwrap();
    assert_eq!(place.count("orders").await, 2);
    target.write = None;
    world.load(&target).await.unwrap();
    assert_eq!(place.count("orders").await, 1, "one row a key");
    world.pipeline.resources[0].primary_key = Some(vec!["id".into(), "name".into()]);
    world.commit(vec![more("orders", r#"[{"id":1,"at":3,"name":"c"}]"#)]).await;
    world.load(&target).await.unwrap();
    assert_eq!(place.ask("SELECT name FROM @orders ORDER BY name").await, ["b", "c"]);
}
