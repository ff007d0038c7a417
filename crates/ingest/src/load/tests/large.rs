//! Many rows: what is in memory at once does not grow with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::stage::{ORDERS, Place, World, more};
use crate::load::rows::{Chunk, Source};

const ROWS: u64 = 200_000;

async fn large(world: &mut World) {
    for (from, to) in [(0, ROWS / 2), (ROWS / 2, ROWS)] {
        let text = "some text that a row carries along ".repeat(4);
        let row = |id: u64| format!(r#"{{"id":{id},"at":{id},"name":"{id} {text}","o":{{"x":{id}}}}}"#);
        let rows: Vec<String> = (from..to).map(row).collect();
        world.commit(vec![more("orders", &format!("[{}]", rows.join(",")))]).await;
    }
}

pub(super) async fn many_rows_come_through(place: Place) {
    let mut world = World::of(ORDERS);
    large(&mut world).await;
    let outcomes = world.load(&place.target()).await.unwrap();
    assert_eq!(outcomes[0].rows, ROWS);
    assert_eq!(place.count("orders").await, ROWS);
    let sum = "SELECT CAST(SUM(id) AS TEXT) FROM @orders";
    assert_eq!(place.ask(sum).await, [(ROWS * (ROWS - 1) / 2).to_string()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_is_never_more_than_a_few_batches_ahead() {
    let mut world = World::of(ORDERS);
    large(&mut world).await;
    let state = world.lake.present().await.unwrap().state.resources["orders"].clone();
    let source = Source {
        objects: world.lake.objects().clone(),
        files: state.files,
        shape: Arc::new(state.schema.stored(&[])),
        runs: None,
    };
    let encoded = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&encoded);
    let mut rows = source.rows::<()>(Arc::new(move |batch| {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(Chunk { rows: batch.num_rows() as u64, nuls: 0, data: () })
    }));
    let (mut taken, mut count, mut most) = (0, 0, 0);
    while let Some(chunk) = rows.next().await.unwrap() {
        taken += 1;
        count += chunk.rows;
        most = most.max(chunk.rows);
        // Two wait in the queue, one waits for room in it.
        let ahead = encoded.load(Ordering::SeqCst) - taken;
        assert!(ahead <= 3, "{ahead} batches ahead");
        tokio::task::yield_now().await;
    }
    assert_eq!(count, ROWS);
    assert!(most <= 4096, "{most} rows a batch");
}
