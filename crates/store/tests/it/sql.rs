//! One contract for both SQL engines, on a real file and a real server.

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_store::each_engine;
use tessera_store::sql::{Db, Error, Migration, begin_write};
use tessera_testkit::sql::Databases;

const STEPS: &[Migration] = &[
    Migration::new(
        1,
        "seats",
        "CREATE TABLE seats (id UUID PRIMARY KEY, label TEXT NOT NULL, sold BOOLEAN NOT NULL, at BIGINT NOT NULL, note TEXT);
         CREATE UNIQUE INDEX seats_sold ON seats (label) WHERE sold;",
    ),
    Migration {
        version: 2,
        name: "prints",
        sql: "CREATE TABLE prints (seat UUID NOT NULL REFERENCES seats (id), body BLOB NOT NULL)",
        postgres: Some("CREATE TABLE prints (seat UUID NOT NULL REFERENCES seats (id), body BYTEA NOT NULL)"),
    },
];

#[derive(Debug, Clone, PartialEq, FromRow)]
struct Seat {
    id: Uuid,
    label: String,
    sold: bool,
    at: i64,
    note: Option<String>,
}

fn seat(n: u128, label: &str, sold: bool) -> Seat {
    Seat { id: Uuid::from_u128(n), label: label.into(), sold, at: i64::MAX - 1, note: None }
}

async fn insert(db: &Db, seat: &Seat) -> Result<(), Error> {
    const SQL: &str = "INSERT INTO seats (id, label, sold, at, note) VALUES ($1, $2, $3, $4, $5)";
    each_engine!(db, |pool| {
        let statement = sqlx::query(SQL).bind(seat.id).bind(&seat.label).bind(seat.sold).bind(seat.at);
        statement.bind(&seat.note).execute(pool).await.map(drop)
    })?;
    Ok(())
}

async fn all(db: &Db) -> Vec<Seat> {
    each_engine!(db, |pool| sqlx::query_as("SELECT * FROM seats ORDER BY label, id").fetch_all(pool).await).unwrap()
}

/// The contract, as a list of cases that each get an empty database.
async fn contract(databases: &Databases) {
    rows_come_back_as_written(&databases.fresh()).await;
    a_unique_index_refuses_the_second(&databases.fresh()).await;
    a_transaction_is_all_or_nothing(&databases.fresh()).await;
    upsert_returns_what_holds(&databases.fresh()).await;
    a_foreign_key_is_enforced(&databases.fresh()).await;
    migrating_twice_changes_nothing(&databases.fresh()).await;
    a_failed_step_leaves_nothing(&databases.fresh()).await;
    an_edited_or_newer_schema_is_refused(&databases.fresh()).await;
    processes_that_start_together_take_turns(&databases.fresh()).await;
    writers_at_once_all_succeed(&databases.fresh()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    contract(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    contract(&Databases::postgres()).await;
}

async fn open(url: &str) -> Db {
    Db::open(url, "shop", STEPS).await.unwrap()
}

async fn rows_come_back_as_written(url: &str) {
    let db = open(url).await;
    let written = Seat { note: Some("aisle 'left' — ü".into()), ..seat(7, "A1", true) };
    insert(&db, &written).await.unwrap();
    assert_eq!(all(&db).await, [written]);
    let body = vec![0u8, 1, 255];
    each_engine!(&db, |pool| {
        let statement = sqlx::query("INSERT INTO prints (seat, body) VALUES ($1, $2)").bind(Uuid::from_u128(7));
        statement.bind(&body).execute(pool).await.map(drop)
    })
    .unwrap();
    let read: Vec<u8> =
        each_engine!(&db, |pool| sqlx::query_scalar("SELECT body FROM prints").fetch_one(pool).await).unwrap();
    assert_eq!(read, body);
    db.close().await;
    assert_eq!(all(&open(url).await).await.len(), 1, "it outlives the process");
}

async fn a_unique_index_refuses_the_second(url: &str) {
    let db = open(url).await;
    insert(&db, &seat(1, "A1", true)).await.unwrap();
    insert(&db, &seat(2, "A1", false)).await.unwrap();
    let error = insert(&db, &seat(3, "A1", true)).await.unwrap_err();
    assert_eq!(error.code(), "store.duplicate", "{error:?}");
    assert_eq!(all(&db).await.len(), 2);
}

async fn a_transaction_is_all_or_nothing(url: &str) {
    let db = open(url).await;
    const SQL: &str = "INSERT INTO seats (id, label, sold, at) VALUES ($1, 'B1', FALSE, 0)";
    for (commit, expected) in [(false, 0), (true, 2)] {
        each_engine!(&db, |pool| {
            let mut transaction = begin_write(pool).await.unwrap();
            for n in 0..2 {
                sqlx::query(SQL).bind(Uuid::from_u128(n)).execute(&mut *transaction).await.unwrap();
            }
            if commit {
                transaction.commit().await.unwrap();
            }
        });
        assert_eq!(all(&db).await.len(), expected);
    }
}

async fn upsert_returns_what_holds(url: &str) {
    let db = open(url).await;
    const SQL: &str = "INSERT INTO seats (id, label, sold, at) VALUES ($1, $2, FALSE, 1)
        ON CONFLICT (id) DO UPDATE SET label = excluded.label, at = seats.at + 1 RETURNING at";
    for expected in 1..=3i64 {
        let at: i64 = each_engine!(&db, |pool| {
            sqlx::query_scalar(SQL).bind(Uuid::from_u128(1)).bind("C1").fetch_one(pool).await
        })
        .unwrap();
        assert_eq!(at, expected);
    }
}

async fn a_foreign_key_is_enforced(url: &str) {
    let db = open(url).await;
    let orphan = each_engine!(&db, |pool| {
        let statement = sqlx::query("INSERT INTO prints (seat, body) VALUES ($1, $2)").bind(Uuid::from_u128(9));
        statement.bind(vec![1u8]).execute(pool).await.map(drop)
    });
    assert!(orphan.is_err());
}

async fn migrating_twice_changes_nothing(url: &str) {
    let first = Db::open(url, "shop", &STEPS[..1]).await.unwrap();
    insert(&first, &seat(1, "A1", true)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(all(&open(url).await).await.len(), 1);
    }
}

async fn a_failed_step_leaves_nothing(url: &str) {
    let broken = Migration::new(2, "half", "CREATE TABLE half (n BIGINT); INSERT INTO nowhere VALUES (1);");
    let error = Db::open(url, "shop", &[STEPS[0], broken]).await.unwrap_err();
    assert_eq!(error.code(), "store.migration");
    assert!(error.to_string().contains("migration 2 `half` of `shop`"), "{error}");
    let mended = Migration::new(2, "half", "CREATE TABLE half (n BIGINT)");
    Db::open(url, "shop", &[STEPS[0], mended]).await.unwrap();
}

async fn an_edited_or_newer_schema_is_refused(url: &str) {
    open(url).await;
    let error = Db::open(url, "shop", &STEPS[..1]).await.unwrap_err();
    assert!(error.to_string().contains("it is at step 2, this binary knows 1"), "{error}");
    let edited = Migration::new(1, "seats", "CREATE TABLE seats (id UUID)");
    let error = Db::open(url, "shop", &[edited, STEPS[1]]).await.unwrap_err();
    assert_eq!(error.code(), "store.schema");
    assert!(error.to_string().contains("another text"), "{error}");
}

async fn processes_that_start_together_take_turns(url: &str) {
    let opening: Vec<_> = (0..4)
        .map(|_| {
            let url = url.to_owned();
            tokio::spawn(async move { Db::open(&url, "shop", STEPS).await })
        })
        .collect();
    for opened in opening {
        opened.await.unwrap().unwrap();
    }
}

async fn writers_at_once_all_succeed(url: &str) {
    let db = open(url).await;
    let writing: Vec<_> = (0..40)
        .map(|n| {
            let db = db.clone();
            tokio::spawn(async move { insert(&db, &seat(n, "D", false)).await })
        })
        .collect();
    for written in writing {
        written.await.unwrap().unwrap();
    }
    assert_eq!(all(&db).await.len(), 40);
}
