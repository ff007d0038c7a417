//! What goes wrong while loading, and what is left then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::stage::{ORDERS, Part, Place, World, instead, more};
use crate::Error;
use crate::lake::{Lake, Manifest};
use crate::load::load_with;

const NAMES: &str = "SELECT name FROM @orders ORDER BY name";

pub(super) async fn a_crash_before_the_commit_loses_and_doubles_nothing(place: Place) {
    let mut world = World::of(&ORDERS.replace("primary_key: [id], ", "write: append, "));
    let target = place.target();
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a"}]"#)]).await;
    let crash = || -> futures::future::BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Err(Error::Internal("crash".into())) })
    };
    for _ in 0..2 {
        let crashed = load_with(&target, &world.pipeline, &world.lake, &world.secrets, &crash).await;
        assert!(matches!(crashed, Err(Error::Internal(_))));
    }
    assert_eq!(world.load(&target).await.unwrap()[0].rows, 1);
    world.commit(vec![more("orders", r#"[{"id":2,"at":2,"name":"b"}]"#)]).await;
    load_with(&target, &world.pipeline, &world.lake, &world.secrets, &crash).await.unwrap_err();
    assert_eq!(place.ask(NAMES).await, ["a"]);
    world.load(&target).await.unwrap();
    world.load(&target).await.unwrap();
    assert_eq!(place.ask(NAMES).await, ["a", "b"]);
}

pub(super) async fn readers_never_see_an_empty_table(place: Place) {
    let mut world = World::of(ORDERS);
    let target = place.target();
    world.commit(vec![instead("orders", r#"[{"id":1,"at":1,"name":"a"}]"#)]).await;
    world.load(&target).await.unwrap();
    world.commit(vec![instead("orders", r#"[{"id":1,"at":2,"name":"b"}]"#)]).await;
    let place = Arc::new(place);
    let look = || -> futures::future::BoxFuture<'_, Result<(), Error>> {
        let place = Arc::clone(&place);
        Box::pin(async move {
            assert_eq!(place.ask(NAMES).await, ["a"]);
            Ok(())
        })
    };
    load_with(&target, &world.pipeline, &world.lake, &world.secrets, &look).await.unwrap();
    assert_eq!(place.ask(NAMES).await, ["b"]);
}

pub(super) async fn two_loads_at_once_do_not_double(place: Place) {
    let mut world = World::of(&ORDERS.replace("primary_key: [id], ", "write: append, "));
    let target = place.target();
    for at in 1..=3 {
        world.commit(vec![more("orders", &format!(r#"[{{"id":{at},"at":{at},"name":"n{at}"}}]"#))]).await;
        let loads = futures::future::join_all((0..4).map(|_| world.load(&target))).await;
        let rows: u64 = loads.into_iter().map(|outcomes| outcomes.unwrap()[0].rows).sum();
        assert_eq!(rows, 1, "one of them loads");
    }
    assert_eq!(place.ask(NAMES).await, ["n1", "n2", "n3"]);
}

pub(super) async fn tables_of_others_are_not_touched(place: Place) {
    let mut world = World::of(ORDERS);
    let target = place.target();
    if place.is_postgres() {
        place.run("CREATE SCHEMA raw").await;
    }
    place.run("CREATE TABLE @orders (id bigint, name text); INSERT INTO @orders VALUES (7, 'mine')").await;
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a"}]"#)]).await;
    let refused = world.load(&target).await.unwrap_err().to_string();
    assert!(refused.contains("rows that are not from this pipeline") && refused.contains("schema"), "{refused}");
    assert_eq!(place.ask(NAMES).await, ["mine"]);
    // Nor does another dataset take the table over.
    place.run("DROP TABLE @orders").await;
    world.load(&target).await.unwrap();
    let mut other = World::of(ORDERS);
    other.pipeline.destination.dataset = Some("other".into());
    other.lake = Lake::open(&other.pipeline).unwrap();
    other.commit(vec![more("orders", r#"[{"id":2,"at":1,"name":"b"}]"#)]).await;
    let refused = other.load(&target).await.unwrap_err().to_string();
    assert!(refused.contains("dataset `shop`") && refused.contains("another `schema`"), "{refused}");
    // A view is no table.
    place.run("DROP TABLE @orders; CREATE VIEW @orders AS SELECT 1 AS id").await;
    let refused = world.load(&target).await.unwrap_err().to_string();
    assert!(refused.contains("rename or drop it"), "{refused}");
}

pub(super) async fn a_lake_that_began_anew_is_loaded_whole(place: Place) {
    let target = place.target();
    for (rows, wanted) in [("[1,2]", vec!["1", "2"]), ("[7]", vec!["7"])] {
        let ids: Vec<u32> = serde_json::from_str(rows).unwrap();
        let mut world = World::of(ORDERS);
        for id in ids {
            world.commit(vec![more("orders", &format!(r#"[{{"id":{id},"at":1,"name":"{id}"}}]"#))]).await;
        }
        world.load(&target).await.unwrap();
        assert_eq!(place.ask(NAMES).await, wanted);
    }
    // A table that somebody dropped comes back.
    let mut world = World::of(ORDERS);
    world.commit(vec![more("orders", r#"[{"id":8,"at":1,"name":"8"}]"#)]).await;
    place.run("DROP TABLE @orders").await;
    world.load(&target).await.unwrap();
    assert_eq!(place.ask(NAMES).await, ["8"]);
}

pub(super) async fn a_held_back_commit_brings_nothing(place: Place) {
    let mut world = World::of(ORDERS);
    let target = place.target();
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a"}]"#)]).await;
    world.load(&target).await.unwrap();
    let bad = more("orders", r#"[{"id":2,"at":2,"name":"bad"}]"#);
    world.commit(vec![Part { held_back: true, ..bad }]).await;
    let outcomes = world.load(&target).await.unwrap();
    assert!(outcomes[0].already && (outcomes[0].from_commit, outcomes[0].to_commit) == (1, 2));
    world.commit(vec![more("orders", r#"[{"id":3,"at":3,"name":"c"}]"#)]).await;
    world.load(&target).await.unwrap();
    assert_eq!(place.ask(NAMES).await, ["a", "c"]);
}

pub(super) async fn a_file_that_is_gone_is_told(place: Place) {
    let mut world = World::of(ORDERS);
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a"}]"#)]).await;
    let path = world.lake.present().await.unwrap().state.resources["orders"].files[0].path.clone();
    std::fs::remove_file(world.lake.objects().local_path(&path).unwrap()).unwrap();
    let error = world.load(&place.target()).await.unwrap_err();
    assert!(matches!(&error, Error::Lake { detail } if detail.contains("orders")), "{error}");
}

pub(super) async fn files_that_a_run_replaced_meanwhile_are_looked_up_anew(place: Place) {
    let mut world = World::of(ORDERS);
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a"}]"#)]).await;
    let moved = AtomicBool::new(false);
    let lake = world.lake.clone();
    let once = || -> futures::future::BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            if moved.swap(true, Ordering::SeqCst) {
                return Ok(());
            }
            let present = lake.present().await?;
            let old = lake.manifest(1).await?;
            let next = Manifest { run_id: "run_next".into(), resources: Default::default(), ..old };
            lake.commit(&present, next, &present.state).await?;
            Err(Error::Lake { detail: "the file is gone".into() })
        })
    };
    let outcomes = load_with(&place.target(), &world.pipeline, &world.lake, &world.secrets, &once).await.unwrap();
    assert_eq!((outcomes[0].rows, outcomes[0].to_commit), (1, 2));
    assert_eq!(place.ask(NAMES).await, ["a"]);
}

#[tokio::test]
async fn secrets_never_stand_in_a_message() {
    let mut world = World::of(ORDERS);
    world.commit(vec![more("orders", r#"[{"id":1,"at":1,"name":"a"}]"#)]).await;
    let postgres = Place::postgres();
    let port = postgres.url.rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
    for (url, says) in [
        (format!("postgres://me:hunter22@127.0.0.1:{}/x?sslmode=disable", tessera_testkit::free_port()), "server runs"),
        (format!("postgres://tessera:hunter22@127.0.0.1:{port}/nowhere"), "create the database"),
        (format!("postgres://tessera@127.0.0.1:{port}/nowhere?password=hunter22"), "create the database"),
        ("sqlite:/dev/null/hunter".to_owned(), "choose a path"),
    ] {
        let mut target = postgres.target();
        target.url = url.clone();
        let error = world.load(&target).await.unwrap_err();
        assert!(matches!(error, Error::Load { .. }));
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hunter22") && text.contains(says), "{url}: {text}");
    }
}
