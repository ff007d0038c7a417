//! Numbered steps of a schema, each applied once, in order, in a transaction of its own.
//!
//! The text of an applied step is kept in `tessera_migrations`, so a step that was edited after it ran is found out, as
//! is a database that a newer binary has been at.

use sqlx::{AssertSqlSafe, Transaction};

use super::{Db, Error, begin_write};
use crate::each_engine;

/// A step of a product's schema. Never edited once released: the next change is the next step.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// 1, 2, 3 …
    pub version: i64,
    /// What it is for, for messages.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
    /// Its statements for PostgreSQL, where the common subset will not do.
    pub postgres: Option<&'static str>,
}

impl Migration {
    /// A step with one text for both engines.
    pub const fn new(version: i64, name: &'static str, sql: &'static str) -> Self {
        Self { version, name, sql, postgres: None }
    }

    fn text(&self, db: &Db) -> &'static str {
        match (db, self.postgres) {
            (Db::Postgres(_), Some(text)) => text,
            _ => self.sql,
        }
    }
}

const CREATE_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS tessera_migrations (version BIGINT PRIMARY KEY, name TEXT NOT NULL, sql TEXT NOT NULL)";
const READ: &str = "SELECT version, sql FROM tessera_migrations ORDER BY version";
const RECORD: &str = "INSERT INTO tessera_migrations (version, name, sql) VALUES ($1, $2, $3)";

/// Brings the schema up to date. All of it happens under one lock, so processes that start together take turns.
pub(super) async fn run(db: &Db, product: &'static str, migrations: &[Migration]) -> Result<(), Error> {
    check_order(product, migrations)?;
    let lock = Lock::take(db, product).await?;
    each_engine!(db, |pool| sqlx::query(CREATE_TABLE).execute(pool).await.map(drop))?;
    let applied: Vec<(i64, String)> = each_engine!(db, |pool| sqlx::query_as(READ).fetch_all(pool).await)?;
    check_applied(db, product, migrations, &applied)?;
    for step in &migrations[applied.len()..] {
        apply(db, step).await.map_err(|error| match error {
            Error::Query(source) | Error::Duplicate { source, .. } => {
                Error::Migration { product, version: step.version, name: step.name, source }
            }
            error => error,
        })?;
        tracing::info!(
            store.product = product,
            migration.version = step.version,
            migration.name = step.name,
            "migrated"
        );
    }
    lock.release().await
}

async fn apply(db: &Db, step: &Migration) -> Result<(), Error> {
    let text = step.text(db);
    each_engine!(db, |pool| {
        let mut transaction = begin_write(pool).await?;
        // Again under the write lock of SQLite, whose processes have no other lock to take turns with.
        let done = sqlx::query_scalar("SELECT version FROM tessera_migrations WHERE version = $1").bind(step.version);
        let done: Option<i64> = done.fetch_optional(&mut *transaction).await?;
        if done.is_none() {
            sqlx::raw_sql(text).execute(&mut *transaction).await?;
            let record = sqlx::query(RECORD).bind(step.version).bind(step.name).bind(text);
            record.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
    });
    Ok(())
}

/// On PostgreSQL an advisory lock, held by a transaction of its own, under which the schema is made too.
struct Lock(Option<Transaction<'static, sqlx::Postgres>>);

impl Lock {
    async fn take(db: &Db, product: &'static str) -> Result<Self, Error> {
        let Db::Postgres(pool) = db else { return Ok(Self(None)) };
        let mut held = pool.begin().await?;
        let lock = sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('tessera:' || $1, 0))").bind(product);
        lock.execute(&mut *held).await?;
        let fit = product.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !fit {
            let reason = "its name must be lower-case letters, digits and underscores".to_owned();
            return Err(Error::Schema { product, reason });
        }
        // The name was checked above; it cannot be a parameter.
        let create = AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS \"{product}\""));
        sqlx::query(create).execute(pool).await?;
        Ok(Self(Some(held)))
    }

    async fn release(self) -> Result<(), Error> {
        match self.0 {
            Some(held) => Ok(held.commit().await?),
            None => Ok(()),
        }
    }
}

fn check_order(product: &'static str, migrations: &[Migration]) -> Result<(), Error> {
    match (1..).zip(migrations).find(|(expected, step)| *expected != step.version) {
        None => Ok(()),
        Some((expected, step)) => {
            let reason = format!("step `{}` is numbered {}, not {expected}", step.name, step.version);
            Err(Error::Schema { product, reason })
        }
    }
}

fn check_applied(
    db: &Db,
    product: &'static str,
    migrations: &[Migration],
    applied: &[(i64, String)],
) -> Result<(), Error> {
    if applied.len() > migrations.len() {
        let reason = format!(
            "it is at step {}, this binary knows {}; start the newer version that was here",
            applied.len(),
            migrations.len()
        );
        return Err(Error::Schema { product, reason });
    }
    match applied.iter().zip(migrations).find(|((_, text), step)| text != step.text(db)) {
        None => Ok(()),
        Some((_, step)) => {
            let reason =
                format!("step {} `{}` was applied with another text; restore a backup", step.version, step.name);
            Err(Error::Schema { product, reason })
        }
    }
}
