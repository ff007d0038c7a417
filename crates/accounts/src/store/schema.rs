//! The schema, step by step. Ids are 16-byte UUIDs, times microseconds UTC.

use tessera_store::sql::Migration;

/// PostgreSQL's names of types differ: `UUID` and `BYTEA` where SQLite has `BLOB`.
pub(crate) const STEPS: &[Migration] = &[
    Migration {
        version: 1,
        name: "accounts",
        sql: include_str!("schema/1.sqlite.sql"),
        postgres: Some(include_str!("schema/1.postgres.sql")),
    },
    Migration {
        version: 2,
        name: "codes of sessions",
        sql: include_str!("schema/2.sqlite.sql"),
        postgres: Some(include_str!("schema/2.postgres.sql")),
    },
];

#[cfg(test)]
mod tests {
    use tessera_kernel::Uuid;
    use tessera_store::each_engine;
    use tessera_store::sql::Db;
    use tessera_testkit::sql::Databases;

    use super::*;

    /// What each version wrote is there after the steps that came later; codes last a minute and begin again.
    #[tokio::test]
    async fn what_was_kept_before_is_kept() {
        const USER: &str = "INSERT INTO users VALUES ($1, 'ada', 'Ada', '$argon2id$', '[\"fan\"]', 0, 0, 1, 2)";
        const CLIENT: &str = "INSERT INTO clients VALUES ($1, 'fleet', '[\"edge\"]', NULL, '[]', $2, 1, 2)";
        const SESSION: &str = "INSERT INTO sessions VALUES ($1, $1, $1, $2, 3, 4, 5, 6, 7, 'signed out')";
        const CODE: &str = "INSERT INTO codes VALUES ($2, $1, $1, 'https://a', 'c', NULL, 'openid', 8)";
        const READ: [(&str, i64); 4] = [
            ("SELECT COUNT(*) FROM users WHERE id = $1 AND login = 'ada' AND updated_at = 2", 1),
            ("SELECT COUNT(*) FROM clients WHERE id = $1 AND name = 'fleet' AND is_revoked = 1 AND updated_at = 2", 1),
            ("SELECT COUNT(*) FROM sessions WHERE id = $1 AND client_id = $1 AND generation = 3 AND ended_at = 7", 1),
            ("SELECT COUNT(*) FROM codes WHERE user_id = $1", 0),
        ];
        for databases in [Databases::sqlite(), Databases::postgres()] {
            let (url, id) = (databases.fresh(), Uuid::from_u128(7));
            let db = Db::open(&url, "accounts", &STEPS[..1]).await.unwrap();
            each_engine!(&db, |pool| {
                sqlx::query(USER).bind(id).execute(pool).await.unwrap();
                sqlx::query(CLIENT).bind(id).bind(1_i64).execute(pool).await.unwrap();
                sqlx::query(SESSION).bind(id).bind(&b"seed"[..]).execute(pool).await.unwrap();
                sqlx::query(CODE).bind(id).bind(&b"hash"[..]).execute(pool).await.unwrap();
            });
            db.close().await;
            let db = Db::open(&url, "accounts", STEPS).await.unwrap();
            each_engine!(&db, |pool| {
                for (text, expected) in READ {
                    let found: i64 = sqlx::query_scalar(text).bind(id).fetch_one(pool).await.unwrap();
                    assert_eq!(found, expected, "{text}");
                }
                // The name of one that was revoked is free.
                sqlx::query(CLIENT).bind(Uuid::from_u128(8)).bind(0_i64).execute(pool).await.unwrap();
                assert!(sqlx::query(CLIENT).bind(Uuid::from_u128(9)).bind(0_i64).execute(pool).await.is_err());
            });
        }
    }
}
