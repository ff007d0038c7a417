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
