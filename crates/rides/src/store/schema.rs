//! The schema, step by step. Ids are 16-byte UUIDs, times microseconds UTC.

use tessera_store::sql::Migration;

/// PostgreSQL's name of an id's type differs: `UUID` where SQLite has `BLOB`.
pub(crate) const RIDES: &[Migration] = &[Migration {
    version: 1,
    name: "rides",
    sql: include_str!("schema/1.sqlite.sql"),
    postgres: Some(include_str!("schema/1.postgres.sql")),
}];

/// After the claims' own step, which is the second.
pub(crate) const PUSH: &[Migration] = &[Migration {
    version: 3,
    name: "push",
    sql: include_str!("schema/3.sqlite.sql"),
    postgres: Some(include_str!("schema/3.postgres.sql")),
}];

/// Estimates are removed when they are old.
pub(crate) const OLD: &[Migration] = &[Migration::new(4, "old estimates", include_str!("schema/4.sql"))];
