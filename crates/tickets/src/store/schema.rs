//! The schema, step by step. Ids are 16-byte UUIDs, times microseconds UTC, money minor units of the event's currency.

use tessera_store::sql::Migration;

/// PostgreSQL's names of the types differ: `UUID` and `BYTEA` where SQLite has `BLOB`.
pub(crate) const STEPS: &[Migration] = &[Migration {
    version: 1,
    name: "tickets",
    sql: include_str!("schema/1.sqlite.sql"),
    postgres: Some(include_str!("schema/1.postgres.sql")),
}];

/// Indexes for those who follow changes, and what becomes of tickets that end.
pub(crate) const CHANGES: Migration = Migration::new(5, "changes", include_str!("schema/changes.sql"));

/// Waiting rooms.
pub(crate) const QUEUES: Migration = Migration {
    version: 4,
    name: "queues",
    sql: include_str!("schema/queues.sqlite.sql"),
    postgres: Some(include_str!("schema/queues.postgres.sql")),
};

/// Fewer pages written for each purchase.
pub(crate) const FEWER: Migration = Migration {
    version: 6,
    name: "fewer pages",
    sql: include_str!("schema/fewer.sqlite.sql"),
    postgres: Some(include_str!("schema/fewer.postgres.sql")),
};

/// A process of before goes on beside this one. Who has a database in a file has one version at a time.
pub(crate) const BESIDE: Migration = Migration {
    version: 7,
    name: "beside older processes",
    sql: "SELECT 1",
    postgres: Some(include_str!("schema/beside.postgres.sql")),
};

/// Fewer pages written for each purchase, on SQLite. PostgreSQL writes all of a row's entries when one of them changes, and
/// processes of before go on beside this one there, which look bookings up by their orders.
pub(crate) const FEWER_STILL: Migration = Migration {
    version: 8,
    name: "fewer pages still",
    sql: include_str!("schema/still.sqlite.sql"),
    postgres: Some("SELECT 1"),
};
