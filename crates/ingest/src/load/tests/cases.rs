//! What a load does to the rows.

use super::stage::{ORDERS, Place, World, instead, more, of};
use crate::spec::WriteMode;

const ITEMS: &str = "- { name: orders, path: /orders, primary_key: [id], lists: child_table, incremental: { cursor: at, param: since, format: number } }";
const LOG: &str =
    "- { name: log, path: /log, write: append, incremental: { cursor: at, param: since, format: number } }";
const ALL: &str = "- { name: codes, path: /codes, primary_key: [id] }";

const IDS_AND_NAMES: &str = "SELECT id || ' ' || name FROM @orders ORDER BY id";

pub(super) async fn a_first_load_brings_every_type(place: Place) {
    let mut world = World::of(ORDERS);
    let row = r#"[{"id":1,"at":5,"ok":true,"price":1.5,"name":"Zoë \"x\"\t\\N","when":"2024-01-31T10:00:00.5Z",
        "day":"2024-02-29","who":{"a":[1,2],"b":null},"tags":["x","y"]},{"id":-9007199254740993,"at":6,"price":1e300}]"#;
    world.commit(vec![more("orders", row)]).await;
    let outcomes = world.load(&place.target()).await.unwrap();
    assert_eq!((outcomes[0].rows, outcomes[0].from_commit, outcomes[0].to_commit), (2, 0, 1));
    assert!(!outcomes[0].already);
    assert_eq!(outcomes[0].table, place.table("orders").replace("raw.", "\"raw\"."));
    let asked = ["name", "price", "day", "tags", "who", "_run_id"];
    for (column, wanted) in
        asked.iter().zip(["Zoë \"x\"\t\\N", "1.5", "2024-02-29", "[\"x\",\"y\"]", "{\"a\":[1,2]}", "run_0001"])
    {
        let found = place.ask(&format!("SELECT CAST({column} AS TEXT) FROM @orders WHERE id = 1")).await;
        assert_eq!(found[0].replace(", ", ",").replace(": ", ":"), wanted, "{column}");
    }
    let moment = if place.is_postgres() {
        "SELECT to_char(\"when\" AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') FROM @orders WHERE id = 1"
    } else {
        "SELECT replace(replace(\"when\", 'T', ' '), 'Z', '') FROM @orders WHERE id = 1"
    };
    assert_eq!(place.ask(moment).await, ["2024-01-31 10:00:00.500000"]);
    assert_eq!(place.ask("SELECT CAST(CAST(ok AS INTEGER) AS TEXT) FROM @orders WHERE at = 5").await, ["1"]);
    assert_eq!(
        place.ask("SELECT CAST(id AS TEXT) FROM @orders WHERE price = 1e300 AND name IS NULL").await,
        ["-9007199254740993"]
    );
    if place.is_postgres() {
        assert_eq!(place.ask("SELECT who->'a'->>1 FROM @orders WHERE id = 1").await, ["2"]);
    }
}

pub(super) async fn a_merge_brings_what_is_new(place: Place) {
    let mut world = World::of(ORDERS);
    let target = place.target();
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a"},{"id":2,"at":1,"name":"b"}]"#)]).await;
    world.load(&target).await.unwrap();
    world.commit(vec![more("orders", r#"[{"id":2,"at":2,"name":"B"},{"id":3,"at":2,"name":"c"}]"#)]).await;
    let outcomes = world.load(&target).await.unwrap();
    assert_eq!((outcomes[0].rows, outcomes[0].from_commit, outcomes[0].to_commit), (2, 1, 2), "only what is new");
    assert_eq!(place.ask(IDS_AND_NAMES).await, ["1 a", "2 B", "3 c"]);
    assert_eq!(place.count("orders").await, world.lake.present().await.unwrap().state.resources["orders"].rows);
}

pub(super) async fn a_merge_over_an_appending_lake_keeps_the_newest(place: Place) {
    let mut world = World::of(&ORDERS.replace("primary_key", "write: append, primary_key"));
    let mut target = place.target();
    target.write = Some(WriteMode::Merge);
    let rows = r#"[{"id":1,"at":2,"name":"new"},{"id":1,"at":1,"name":"old"},{"id":2,"at":5,"name":"b"}]"#;
    world.commit(vec![more("orders", rows)]).await;
    world.load(&target).await.unwrap();
    assert_eq!(place.ask(IDS_AND_NAMES).await, ["1 new", "2 b"]);
    world.commit(vec![more("orders", r#"[{"id":2,"at":4,"name":"late"},{"id":1,"at":3,"name":"newer"}]"#)]).await;
    world.load(&target).await.unwrap();
    assert_eq!(place.ask(IDS_AND_NAMES).await, ["1 newer", "2 b"], "an older row does not come back");
}

pub(super) async fn an_append_skips_rows_that_were_only_written_anew(place: Place) {
    // The lake merges, so that its second commit writes the first one's file anew; the target appends.
    let mut world = World::of(ORDERS);
    let mut target = place.target();
    target.write = Some(WriteMode::Append);
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a"},{"id":2,"at":1,"name":"b"}]"#)]).await;
    world.load(&target).await.unwrap();
    world.commit(vec![more("orders", r#"[{"id":2,"at":2,"name":"B"}]"#)]).await;
    let manifest = world.lake.manifest(2).await.unwrap();
    assert_eq!(manifest.resources["orders"].added.len(), 2, "the old file was written anew");
    assert_eq!(world.load(&target).await.unwrap()[0].rows, 1);
    assert_eq!(place.ask("SELECT name FROM @orders ORDER BY name").await, ["B", "a", "b"]);

    let mut world = World::of(LOG);
    let target = place.target();
    world.commit(vec![more("log", r#"[{"at":1,"m":"x"},{"at":1,"m":"y"}]"#)]).await;
    world.load(&target).await.unwrap();
    world.commit(vec![more("log", r#"[{"at":1,"m":"y"},{"at":2,"m":"z"}]"#)]).await;
    world.load(&target).await.unwrap();
    assert_eq!(place.ask("SELECT m FROM @log ORDER BY m").await, ["x", "y", "z"]);
}

pub(super) async fn a_replaced_resource_replaces_the_table(place: Place) {
    let mut world = World::of(&format!("{ALL}\n{ORDERS}"));
    let target = place.target();
    world
        .commit(vec![instead("codes", r#"[{"id":1},{"id":2}]"#), more("orders", r#"[{"id":1,"at":1,"name":"a"}]"#)])
        .await;
    world.load(&target).await.unwrap();
    world.commit(vec![instead("codes", r#"[{"id":3}]"#), instead("orders", r#"[{"id":9,"at":1,"name":"z"}]"#)]).await;
    world.load(&target).await.unwrap();
    assert_eq!(place.ask("SELECT CAST(id AS TEXT) FROM @codes").await, ["3"]);
    assert_eq!(place.ask(IDS_AND_NAMES).await, ["9 z"]);
    world.commit(vec![instead("codes", "[]")]).await;
    let outcomes = world.load(&target).await.unwrap();
    assert_eq!(place.count("codes").await, 0);
    assert!(of(&outcomes, "orders").already && !of(&outcomes, "codes").already);
}

pub(super) async fn doing_it_again_changes_nothing(place: Place) {
    let mut world = World::of(&format!("{ITEMS}\n{LOG}"));
    let target = place.target();
    let orders = r#"[{"id":1,"at":1,"items":[{"sku":"a"},{"sku":"b"}]}]"#;
    world.commit(vec![more("orders", orders), more("log", r#"[{"at":1,"m":"x"}]"#)]).await;
    assert!(world.load(&target).await.unwrap().iter().all(|outcome| !outcome.already));
    let loaded_at = place.ask("SELECT CAST(MAX(loaded_at) AS TEXT) FROM @loads").await;
    for _ in 0..3 {
        let outcomes = world.load(&target).await.unwrap();
        assert_eq!(outcomes.len(), 3);
        assert!(outcomes.iter().all(|outcome| outcome.already && outcome.rows == 0 && outcome.from_commit == 1));
    }
    assert_eq!(place.ask("SELECT CAST(MAX(loaded_at) AS TEXT) FROM @loads").await, loaded_at);
    for (table, rows) in [("orders", 1), ("orders__items", 2), ("log", 1)] {
        assert_eq!(place.count(table).await, rows, "{table}");
    }
}

pub(super) async fn several_commits_are_caught_up_with(place: Place) {
    let mut world = World::of(&format!("{ORDERS}\n{LOG}"));
    let target = place.target();
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a"}]"#), more("log", r#"[{"at":1,"m":"1"}]"#)]).await;
    world.load(&target).await.unwrap();
    for at in 2..=6 {
        let order = format!(r#"[{{"id":1,"at":{at},"name":"v{at}"}},{{"id":{at},"at":{at},"name":"n{at}"}}]"#);
        let line = format!(r#"[{{"at":{at},"m":"{at}"}}]"#);
        world.commit(vec![more("orders", &order), more("log", &line)]).await;
    }
    let outcomes = world.load(&target).await.unwrap();
    assert_eq!((of(&outcomes, "log").rows, of(&outcomes, "orders").rows), (5, 6));
    assert_eq!(place.ask(IDS_AND_NAMES).await, ["1 v6", "2 n2", "3 n3", "4 n4", "5 n5", "6 n6"]);
    assert_eq!(place.ask("SELECT m FROM @log ORDER BY m").await, ["1", "2", "3", "4", "5", "6"]);
}

pub(super) async fn child_rows_follow_their_parents(place: Place) {
    let mut world = World::of(ITEMS);
    let target = place.target();
    let first = r#"[{"id":1,"at":1,"items":[{"sku":"a"},{"sku":"b"},{"sku":"c"}]},
        {"id":2,"at":1,"items":[{"sku":"d"}]},{"id":3,"at":1,"items":[{"sku":"e"}]}]"#;
    world.commit(vec![more("orders", first)]).await;
    world.load(&target).await.unwrap();
    let items = "SELECT _parent_id || ' ' || _position || ' ' || sku FROM @orders__items ORDER BY 1";
    assert_eq!(place.ask(items).await, ["1 0 a", "1 1 b", "1 2 c", "2 0 d", "3 0 e"]);
    // One list grows shorter, one empty; the third order is not touched.
    world.commit(vec![more("orders", r#"[{"id":1,"at":2,"items":[{"sku":"B"}]},{"id":2,"at":2,"items":[]}]"#)]).await;
    let outcomes = world.load(&target).await.unwrap();
    assert_eq!(place.ask(items).await, ["1 0 B", "3 0 e"]);
    assert_eq!(of(&outcomes, "orders__items").rows, 1);
    // Only parents without items come: their old items go.
    world.commit(vec![more("orders", r#"[{"id":1,"at":3,"items":[]}]"#)]).await;
    world.load(&target).await.unwrap();
    assert_eq!(place.ask(items).await, ["3 0 e"]);
}

pub(super) async fn rows_without_a_key_are_rows_of_their_own(place: Place) {
    let mut world = World::of(&ORDERS.replace("[id]", "[id, part]"));
    let target = place.target();
    let rows = r#"[{"id":1,"part":null,"at":1,"name":"a"},{"id":1,"part":null,"at":1,"name":"b"},{"id":1,"part":1,"at":1,"name":"c"}]"#;
    world.commit(vec![more("orders", rows)]).await;
    world.load(&target).await.unwrap();
    world
        .commit(vec![more("orders", r#"[{"id":1,"part":null,"at":2,"name":"d"},{"id":1,"part":1,"at":2,"name":"C"}]"#)])
        .await;
    world.load(&target).await.unwrap();
    assert_eq!(place.ask("SELECT name FROM @orders ORDER BY lower(name)").await, ["a", "b", "C", "d"]);
    assert_eq!(place.count("orders").await, world.lake.present().await.unwrap().state.resources["orders"].rows);
}

pub(super) async fn an_empty_resource_becomes_an_empty_table(place: Place) {
    let mut world = World::of(ORDERS);
    let target = place.target();
    assert!(world.load(&target).await.unwrap().is_empty(), "nothing was ever committed");
    world.commit(vec![instead("orders", "[]")]).await;
    assert_eq!(world.load(&target).await.unwrap()[0].rows, 0);
    assert_eq!(place.count("orders").await, 0);
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a"}]"#)]).await;
    world.load(&target).await.unwrap();
    world.commit(vec![more("orders", r#"[{"id":1,"at":2,"name":"b"}]"#)]).await;
    world.load(&target).await.unwrap();
    assert_eq!(place.ask(IDS_AND_NAMES).await, ["1 b"]);
}

pub(super) async fn strange_names_and_texts_come_through(place: Place) {
    let mut world = World::of(&ORDERS.replace("[id]", "['weird \"name\"']"));
    let target = place.target();
    let long = "long_".repeat(20);
    let row = |at: u32| {
        format!(
            r#"[{{"weird \"name\"":"k","at":{at},"select":1,"größe":"紫 {at}","Größe":2,"{long}a":1,"{long}b":2,"a'b;--":3,
            "ctid":4,"_rowid_":5,"":6,"At":7,"nul":"a\u0000b\u0000","o":{{"x":"\u0000y","half":"\ud83d\ude00"}}}}]"#
        )
    };
    world.commit(vec![more("orders", &row(1))]).await;
    let outcomes = world.load(&target).await.unwrap();
    world.commit(vec![more("orders", &row(2))]).await;
    world.load(&target).await.unwrap();
    assert_eq!(place.ask(r#"SELECT "größe" FROM @orders WHERE "weird ""name""" = 'k'"#).await, ["紫 2"]);
    assert_eq!(place.ask(r#"SELECT CAST("a'b;--" AS TEXT) FROM @orders"#).await, ["3"]);
    if place.is_postgres() {
        assert_eq!(outcomes[0].nuls_removed, 3);
        assert_eq!(place.ask("SELECT nul || (o->>'x') || (o->>'half') FROM @orders").await, ["aby😀"]);
        assert_eq!(place.ask("SELECT CAST(\"ctid_\" AS TEXT) FROM @orders").await, ["4"]);
        let long = "SELECT count(*)::text FROM information_schema.columns WHERE column_name LIKE 'long%' AND length(column_name) = 63";
        assert_eq!(place.ask(long).await, ["2"]);
    } else {
        assert_eq!(place.ask("SELECT hex(nul) FROM @orders").await, ["61006200"]);
        assert_eq!(place.ask("SELECT CAST(\"_rowid__\" AS TEXT) FROM @orders").await, ["5"]);
    }
}

pub(super) async fn every_file_format_loads(place: Place) {
    for format in ["jsonl", "csv"] {
        let flat = format!("{format}_flat");
        let resources = ITEMS.replace("name: orders", &format!("name: {format}"));
        let mut world = World::with_format(
            &format!("{resources}\n{}", ORDERS.replace("name: orders", &format!("name: {flat}"))),
            format,
        );
        let target = place.target();
        let rows = r#"[{"id":1,"at":1,"name":"a, \"b\"","o":{"x":[1]}},{"id":2,"at":1,"name":null}]"#;
        world.commit(vec![more(&flat, rows), more(format, r#"[{"id":1,"at":1,"l":[{"v":1.5}]}]"#)]).await;
        world.load(&target).await.unwrap();
        world.commit(vec![more(&flat, r#"[{"id":2,"at":2,"name":"c","o":{"x":[],"y":2.5}}]"#)]).await;
        world.load(&target).await.unwrap();
        let names = format!("SELECT id || ' ' || name FROM @{flat} ORDER BY id");
        assert_eq!(place.ask(&names).await, ["1 a, \"b\"", "2 c"], "{format}");
        assert_eq!(place.ask(&format!("SELECT CAST(v AS TEXT) FROM @{format}__l")).await, ["1.5"]);
    }
}

pub(super) async fn only_the_named_resources_are_loaded(place: Place) {
    let mut world = World::of(&format!("{ITEMS}\n{LOG}"));
    let mut target = place.target();
    target.resources = vec!["orders".into()];
    let orders = more("orders", r#"[{"id":1,"at":1,"items":[{"sku":"a"}]}]"#);
    world.commit(vec![orders, more("log", r#"[{"at":1,"m":"x"}]"#)]).await;
    let outcomes = world.load(&target).await.unwrap();
    assert_eq!(outcomes.iter().map(|o| o.resource.as_str()).collect::<Vec<_>>(), ["orders", "orders__items"]);
    target.resources.clear();
    let outcomes = world.load(&target).await.unwrap();
    assert!(of(&outcomes, "orders").already && !of(&outcomes, "log").already);
    assert_eq!(place.count("log").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_in_s3_load() {
    let s3 = tessera_testkit::s3::start();
    let mut world = World::at(
        ORDERS,
        &format!(
            "{{ url: \"s3://{}/raw\", s3: {{ endpoint: \"{}\", region: us-east-1, access_key_id: {}, secret_access_key: {} }} }}",
            s3.bucket, s3.endpoint, s3.access_key, s3.secret_key
        ),
    );
    let place = Place::sqlite();
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a"},{"id":2,"at":1,"name":"b"}]"#)]).await;
    world.load(&place.target()).await.unwrap();
    world.commit(vec![more("orders", r#"[{"id":2,"at":2,"name":"B"}]"#)]).await;
    world.load(&place.target()).await.unwrap();
    assert_eq!(place.ask(IDS_AND_NAMES).await, ["1 a", "2 B"]);
}
