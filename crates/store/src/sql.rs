//! Records in SQLite or PostgreSQL, chosen by URL: `sqlite:data/shop.db`, `postgres://user@host/db`.
//!
//! One SQL text serves both engines: `$1` parameters, `ON CONFLICT … DO UPDATE`, `RETURNING`, partial unique indexes and
//! CTEs are common to them; times are integer microseconds, ids native UUIDs. [`each_engine!`](crate::each_engine) writes
//! the calls once. SQLite has one file per product (WAL, `synchronous = FULL`: what is committed survives a power cut),
//! PostgreSQL one schema per product.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, PgPool, Pool, Postgres, Sqlite, SqlitePool, Transaction};
use tessera_kernel::{Clock, Timestamp};

mod changed;
mod error;
mod migrate;
mod tx;

pub use changed::Changed;
pub(crate) use error::is_refusal;
pub use error::{CODES, Error};
pub use migrate::Migration;
pub use tx::Tx;

/// Connections per process; SQLite writes one at a time, so more would only wait.
const MAX_CONNECTIONS: u32 = 8;
/// How long to wait for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a transaction may wait for its own process. One that is put to sleep half way would keep others from the rows
/// that it has locked for as long as it sleeps; between two statements of one that is awake lie microseconds, on a
/// machine that is overloaded seconds.
const IDLE_IN_TRANSACTION: &str = "15s";
/// What each SQLite connection keeps in memory, at the most. Its own 2 MiB make a batch that inserts a thousand random keys
/// read its index from the file again and again.
const SQLITE_CACHE_KIB: u32 = 64 * 1_024;
/// Pages of 4 KiB in SQLite's log before they are moved into the file. Its own 1,000 are less than a large batch writes,
/// and moving takes two more flushes.
const SQLITE_CHECKPOINT_PAGES: u32 = 8_192;
/// Rows of SQLite that may be under way from its thread to ours. Its own 50 are less than a batch reads, and at each
/// fifty-first the one thread waits for the other.
const SQLITE_ROWS_UNDER_WAY: usize = 8_192;
/// What PostgreSQL is told about its plans. Statements over many rows join a table with their one parameter, whose rows the
/// planner cannot count, and it keeps a plan that was made when the table was empty: it would read the whole of it for one
/// row. All our statements have their index; where there is none the table is read nevertheless.
/// A plan that is avoided but has no alternative counts as very dear, for which the server would compile it.
const BY_INDEX: [(&str, &str); 4] =
    [("enable_seqscan", "off"), ("enable_hashjoin", "off"), ("enable_mergejoin", "off"), ("jit", "off")];
/// How often it is tried to open a SQLite file that another process is opening.
const OPEN_ATTEMPTS: u32 = 100;
/// How long between two of them.
const OPEN_PAUSE: Duration = Duration::from_millis(50);
/// How long SQLite waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A product's database. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Db {
    /// Embedded, one file.
    Sqlite(SqlitePool),
    /// A server, one schema.
    Postgres(PgPool),
}

/// Runs one body on whichever engine it is: `each_engine!(db, |pool| sqlx::query(SQL).bind(id).execute(pool).await)`.
///
/// The body is compiled once for each engine, so statements, `FromRow` types and binds are written once. It must have the
/// same type for both: end an `execute` with `.map(|done| done.rows_affected())` or `.map(drop)`.
#[macro_export]
macro_rules! each_engine {
    ($db:expr, |$pool:ident| $body:expr) => {
        match $db {
            $crate::sql::Db::Sqlite($pool) => $body,
            $crate::sql::Db::Postgres($pool) => $body,
        }
    };
}

/// What differs between the engines below the SQL text.
pub trait Engine: sqlx::Database {
    /// How a transaction that will write begins.
    const BEGIN_WRITE: &'static str;
}

impl Engine for Sqlite {
    /// Takes the write lock at once: a read lock that is upgraded later fails instead of waiting.
    const BEGIN_WRITE: &'static str = "BEGIN IMMEDIATE";
}

impl Engine for Postgres {
    /// Each statement sees what was committed before it, also where the server's default is another: what was waited for
    /// under a lock is then read as it is.
    const BEGIN_WRITE: &'static str = "BEGIN ISOLATION LEVEL READ COMMITTED";
}

/// Begins a transaction that will write. It is rolled back unless it is committed.
pub async fn begin_write<E: Engine>(pool: &Pool<E>) -> Result<Transaction<'static, E>, Error> {
    Ok(pool.begin_with(E::BEGIN_WRITE).await?)
}

impl Db {
    /// Opens the database at `url` for `product` and brings it up to the last of `migrations`. Processes that start
    /// together migrate one after the other. The schema on PostgreSQL is called `product`: lower-case letters, digits
    /// and underscores.
    pub async fn open(url: &str, product: &'static str, migrations: &[Migration]) -> Result<Self, Error> {
        let db = match url.split(':').next() {
            Some("sqlite") => Self::Sqlite(open_sqlite(url).await?),
            Some("postgres" | "postgresql") => Self::Postgres(open_postgres(url, product).await?),
            _ => return Err(Error::BadUrl { url: without_password(url), reason: "no such engine".to_owned() }),
        };
        migrate::run(&db, product, migrations).await?;
        Ok(db)
    }

    /// Waits for what is under way and closes all connections.
    pub async fn close(&self) {
        each_engine!(self, |pool| pool.close().await);
    }

    /// Begins a transaction that only reads, and sees one moment on SQLite.
    pub(crate) async fn begin_read(&self, clock: &dyn Clock) -> Result<Tx<'static>, Error> {
        Ok(match self {
            Self::Sqlite(pool) => Tx::Sqlite { transaction: pool.begin().await?, now: clock.now() },
            Self::Postgres(pool) => Tx::Postgres { transaction: pool.begin().await? },
        })
    }

    /// The present moment by the store's one clock: the given one on SQLite, the server's on PostgreSQL.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn now(&self, clock: &dyn Clock) -> Result<Timestamp, Error> {
        match self {
            Self::Sqlite(_) => Ok(clock.now()),
            Self::Postgres(pool) => {
                let micros: i64 = sqlx::query_scalar(tx::NOW).fetch_one(pool).await?;
                Ok(Timestamp::from_micros(micros))
            }
        }
    }

    /// Until when nothing can change any more that is not seen by a statement from now on, microseconds: lists by the time of
    /// change end there, so that who goes on from their end misses nothing.
    ///
    /// On PostgreSQL a change is stamped by the server's clock while its transaction runs, and seen only when that has
    /// ended: a later stamp may be seen first. No transaction stamps before it begins, and one that this look does not see
    /// begins after it. One that runs for a minute is none of ours, whose writes have deadlines; nor is that of another
    /// application. The server must show them (`track_activities`, as by default; all processes as one role). On SQLite stamps are taken under the write lock.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn settled_until(&self) -> Result<i64, Error> {
        const OLDEST: &str =
            "SELECT (extract(epoch FROM LEAST(statement_timestamp(), min(xact_start))) * 1000000)::BIGINT - 1
            FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'tessera' AND pid <> pg_backend_pid()
                AND xact_start > clock_timestamp() - INTERVAL '1 minute'";
        match self {
            Self::Sqlite(_) => Ok(i64::MAX),
            Self::Postgres(pool) => Ok(sqlx::query_scalar(OLDEST).fetch_one(pool).await?),
        }
    }

    /// Whether all share one connection, as they do on a database in memory.
    pub(crate) fn has_one_connection(&self) -> bool {
        each_engine!(self, |pool| pool.options().get_max_connections() == 1)
    }

    /// Whether the engine answers.
    pub async fn ping(&self) -> Result<(), Error> {
        each_engine!(self, |pool| sqlx::query("SELECT 1").execute(pool).await.map(drop))?;
        Ok(())
    }
}

async fn open_sqlite(url: &str) -> Result<SqlitePool, Error> {
    let bad_url = |error: sqlx::Error| Error::BadUrl { url: url.to_owned(), reason: error.to_string() };
    let options = SqliteConnectOptions::from_str(url)
        .map_err(bad_url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", format!("-{SQLITE_CACHE_KIB}"))
        .pragma("wal_autocheckpoint", SQLITE_CHECKPOINT_PAGES.to_string())
        .row_buffer_size(SQLITE_ROWS_UNDER_WAY)
        .disable_statement_logging();
    let cannot_open = |reason: String| Error::Open { url: url.to_owned(), reason };
    if let Some(folder) = options.get_filename().parent().filter(|folder| *folder != Path::new("")) {
        std::fs::create_dir_all(folder).map_err(|error| cannot_open(error.to_string()))?;
    }
    // A database in memory belongs to its connection.
    let in_memory = url.contains(":memory:") || url.contains("mode=memory");
    let pool = SqlitePoolOptions::new()
        .max_connections(if in_memory { 1 } else { MAX_CONNECTIONS })
        // A file does not hang up: asking whether it is there costs as much as what is then asked of it.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE_TIMEOUT);
    for _ in 1..OPEN_ATTEMPTS {
        match pool.clone().connect_with(options.clone()).await.map_err(Error::from) {
            // Processes that make the same file a WAL one at the same moment: the engine does not wait for that lock.
            Err(error) if error.is_transient() => tokio::time::sleep(OPEN_PAUSE).await,
            Err(Error::Query(error)) => return Err(cannot_open(error.to_string())),
            opened => return opened,
        }
    }
    pool.connect_with(options).await.map_err(|error| cannot_open(error.to_string()))
}

async fn open_postgres(url: &str, product: &'static str) -> Result<PgPool, Error> {
    let bad_url = |error: sqlx::Error| Error::BadUrl { url: without_password(url), reason: error.to_string() };
    let options = PgConnectOptions::from_str(url)
        .map_err(bad_url)?
        .options([("search_path", product), ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION)])
        .options(BY_INDEX)
        .application_name("tessera")
        .disable_statement_logging();
    let cannot_open = |reason: String| Error::Open { url: without_password(url), reason };
    // A pool tries again until its time is up, and then says only that it is: what the server answers, one connection
    // tells at once.
    match tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect()).await {
        Ok(Ok(connection)) => drop(connection.close().await),
        Ok(Err(error)) => return Err(cannot_open(why_not(&error))),
        Err(_) => return Err(cannot_open(format!("no answer in {} s", ACQUIRE_TIMEOUT.as_secs()))),
    }
    let pool = PgPoolOptions::new().max_connections(MAX_CONNECTIONS).acquire_timeout(ACQUIRE_TIMEOUT);
    pool.connect_with(options).await.map_err(|error| cannot_open(error.to_string()))
}

/// Why there is no connection, in the words of whoever refused it.
fn why_not(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "the connection was refused".to_owned(),
            std::io::ErrorKind::TimedOut => "the connection timed out".to_owned(),
            _ => error.to_string(),
        },
        sqlx::Error::Database(refusal) => refusal.message().to_owned(),
        error => error.to_string(),
    }
}

/// A store's URL fit for a message: its password starred, in whichever place it stands.
pub fn without_password(text: &str) -> String {
    if text.starts_with("sqlite:") {
        return text.to_owned();
    }
    let Ok(mut url) = url::Url::parse(text) else {
        return text.split('@').next_back().unwrap_or_default().to_owned();
    };
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return format!("{}:…", url.scheme());
    }
    if url.query_pairs().any(|(name, _)| name.contains("password")) {
        url.set_query(None);
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_that_names_no_engine_is_refused() {
        for url in ["mysql://root:hunter2@db/x", "shop.db", ""] {
            let error = Db::open(url, "shop", &[]).await.unwrap_err();
            assert_eq!(error.code(), "store.bad_url");
            assert!(error.to_string().contains("sqlite:") && !error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_told_so_at_once() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("postgres://shop:hunter2@{free}/shop");
        let error = Db::open(&url, "shop", &[]).await.unwrap_err();
        assert_eq!(error.code(), "store.open");
        let said = error.to_string();
        assert!(said.contains("the connection was refused") && said.contains("shop:***@"), "{said}");
        assert!(!said.contains("hunter2") && !error.reason().contains("***"), "{said}");
    }

    #[tokio::test]
    async fn a_path_that_cannot_be_opened_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("file"), b"x").unwrap();
        let url = format!("sqlite:{}/file/shop.db", scratch.path().display());
        let error = Db::open(&url, "shop", &[]).await.unwrap_err();
        assert_eq!(error.code(), "store.open");
        assert!(error.to_string().contains(&url), "{error}");
    }
}
