//! Databases that an older version has written.

use tessera_kernel::{Ids, RandomIds, Uuid};
use tessera_store::each_engine;
use tessera_store::sql::Db;
use tessera_testkit::sql::Databases;
use tessera_tickets::store::migrations;

/// The last step of the schema before orders said on their own whether they pay for their hold.
const BEFORE: usize = 5;

const ADD: &str = "INSERT INTO orders
        (id, event_id, subject, hold_id, token, seats, count, state, currency, total, keep, captured, refunded, book_before,
         attempt, provider, request_hash, created_at, updated_at)
    VALUES ($1, $1, 'ana', $2, 1, $3, 1, $4, 'EUR', 100, 0, 0, 0, 0, 1, 'test', $3, 0, 0) ON CONFLICT DO NOTHING";

/// Whether an order could be added for a hold.
async fn add(db: &Db, hold: Uuid, state: &str) -> bool {
    let (id, nothing) = (RandomIds.next(), Vec::<u8>::new());
    let added = each_engine!(db, |pool| {
        let add = sqlx::query(ADD).bind(id).bind(hold).bind(nothing).bind(state);
        add.execute(pool).await.map(|done| done.rows_affected())
    });
    added.unwrap() == 1
}

async fn one_order_at_work_for_a_hold_before_and_after(databases: &Databases) {
    let url = databases.fresh();
    let old = Db::open(&url, "tickets", &migrations()[..BEFORE]).await.unwrap();
    let states = ["paying", "authorised", "booked", "captured", "failed", "voided", "refund_due", "refunded"];
    let holds: Vec<(Uuid, &str)> = states.into_iter().map(|state| (RandomIds.next(), state)).collect();
    for (hold, state) in &holds {
        assert!(add(&old, *hold, state).await, "{state}");
    }
    old.close().await;
    let db = Db::open(&url, "tickets", &migrations()).await.unwrap();
    for (hold, state) in holds {
        let at_work = matches!(state, "paying" | "authorised" | "booked" | "captured");
        assert_eq!(add(&db, hold, "paying").await, !at_work, "{state}");
    }
    db.close().await;
}

/// An older process, which says nothing of holds, goes on beside a new one for a while.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_an_older_process_ends_leaves_its_hold() {
    let databases = Databases::postgres();
    let db = Db::open(&databases.fresh(), "tickets", &migrations()).await.unwrap();
    let Db::Postgres(pool) = &db else { panic!("not PostgreSQL") };
    let to = async |hold: Uuid, state: &str| {
        let change = sqlx::query("UPDATE orders SET state = $2 WHERE hold_id = $1").bind(hold).bind(state);
        assert_eq!(change.execute(pool).await.unwrap().rows_affected(), 1);
    };
    for (ended, over) in [("failed", true), ("voided", true), ("refunded", true), ("captured", false)] {
        let hold = RandomIds.next();
        assert!(add(&db, hold, "paying").await);
        to(hold, "authorised").await;
        assert!(!add(&db, hold, "paying").await);
        to(hold, ended).await;
        assert_eq!(add(&db, hold, "paying").await, over, "{ended}");
    }
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_before_keep_their_holds_on_sqlite() {
    one_order_at_work_for_a_hold_before_and_after(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_before_keep_their_holds_on_postgres() {
    one_order_at_work_for_a_hold_before_and_after(&Databases::postgres()).await;
}
