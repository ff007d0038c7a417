//! The folder of views.

use super::stage::{ORDERS, World, more, of};
use crate::lake::Lake;
use crate::spec::Load;

fn target(world: &World) -> Load {
    let url = format!("duckdb:{}", world.folder.file("views").display());
    Load { url, schema: Some("raw".into()), write: None, resources: vec![] }
}

fn read(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.folder.file(&format!("views/{name}"))).unwrap()
}

#[tokio::test]
async fn views_name_the_files_of_the_present() {
    let mut world = World::of(ORDERS);
    let target = target(&world);
    world.commit(vec![more("orders", r#"[{"id":1,"at":1},{"id":2,"at":1}]"#)]).await;
    let outcomes = world.load(&target).await.unwrap();
    assert_eq!(of(&outcomes, "orders").table, "\"raw\".\"orders\"");
    assert_eq!((outcomes[0].rows, outcomes[0].from_commit, outcomes[0].to_commit), (2, 0, 1));
    let outcomes = world.load(&target).await.unwrap();
    assert!(outcomes[0].already && outcomes[0].from_commit == 1);
    let gone = world.lake.present().await.unwrap().state.resources["orders"].files[0].path.clone();
    world.commit(vec![more("orders", r#"[{"id":2,"at":2}]"#)]).await;
    assert!(!world.load(&target).await.unwrap()[0].already);
    let script = read(&world, "raw.sql");
    for file in &world.lake.present().await.unwrap().state.resources["orders"].files {
        assert!(script.contains(&format!("'{}'", world.lake.objects().url_of(&file.path))), "{script}");
    }
    assert!(!script.contains(&gone), "{script}");
    assert_eq!(read(&world, "load.sql"), script);
}

#[tokio::test]
async fn an_empty_resource_is_an_empty_view() {
    let mut world = World::of(ORDERS);
    world.commit(vec![more("orders", "[]")]).await;
    world.load(&target(&world)).await.unwrap();
    let script = read(&world, "raw.sql");
    assert!(
        script.contains("CAST(NULL AS TIMESTAMPTZ) AS \"_extracted_at\"") && script.contains("WHERE FALSE"),
        "{script}"
    );
}

#[tokio::test]
async fn schemas_share_a_folder_but_datasets_no_schema() {
    let mut world = World::of(ORDERS);
    let mut target = target(&world);
    world.commit(vec![more("orders", r#"[{"id":1,"at":1}]"#)]).await;
    world.load(&target).await.unwrap();
    let mut other = World::with_format(ORDERS, "jsonl");
    other.pipeline.destination.dataset = Some("it's".into());
    other.lake = Lake::open(&other.pipeline).unwrap();
    other.commit(vec![more("orders", r#"[{"id":1,"at":1,"o":{"x":1}}]"#)]).await;
    let refused = other.load(&target).await.unwrap_err().to_string();
    assert!(refused.contains("dataset `shop`") && refused.contains("another `schema`"), "{refused}");
    target.schema = None;
    other.load(&target).await.unwrap();
    let all = read(&world, "load.sql");
    assert!(all.contains("VIEW \"raw\".\"orders\"") && all.contains("VIEW \"it's\".\"orders\""), "{all}");
    assert!(all.contains("/it''s/orders/") && all.contains("'o': 'JSON'"), "{all}");
    // A script of somebody else is neither overwritten nor run.
    std::fs::write(world.folder.file("views/mine.sql"), "DROP TABLE x;").unwrap();
    target.schema = Some("mine".into());
    assert!(world.load(&target).await.unwrap_err().to_string().contains("not written by a load"));
    target.schema = Some("raw".into());
    world.load(&target).await.unwrap();
    assert!(!read(&world, "load.sql").contains("DROP"));
}
