//! What can go wrong with a database.

use tessera_kernel::ErrorKind;

/// A refusal or failure of a database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A store URL that cannot be read.
    #[error("store `{url}`: {reason}; give a URL such as `sqlite:data/shop.db` or `postgres://user@host/database`")]
    BadUrl {
        /// The URL, its password starred.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A store that does not open.
    #[error("store `{url}` cannot be opened: {reason}; check that it runs, that it may be reached and written")]
    Open {
        /// The URL, its password starred.
        url: String,
        /// What the engine says.
        reason: String,
    },
    /// A step of the schema that failed; the ones before it hold.
    #[error("migration {version} `{name}` of `{product}` failed, nothing of it was kept")]
    Migration {
        /// The product.
        product: &'static str,
        /// The step.
        version: i64,
        /// Its name.
        name: &'static str,
        /// What the engine says.
        #[source]
        source: sqlx::Error,
    },
    /// A schema that does not fit this binary.
    #[error("the schema of `{product}` does not fit this version of tessera: {reason}")]
    Schema {
        /// The product.
        product: &'static str,
        /// What does not fit, and what to do.
        reason: String,
    },
    /// A row that a unique index refuses.
    #[error("there is one already: constraint `{constraint}`")]
    Duplicate {
        /// The index.
        constraint: String,
        /// What the engine says.
        #[source]
        source: sqlx::Error,
    },
    /// A statement that failed.
    #[error("the database refused a statement")]
    Query(#[source] sqlx::Error),
}

/// Every code of [`Error`]; each has a page in `docs/errors/`.
pub const CODES: &[&str] =
    &["store.bad_url", "store.open", "store.migration", "store.schema", "store.duplicate", "store.query"];

impl Error {
    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadUrl { .. } => ErrorKind::Invalid,
            Self::Open { .. } => ErrorKind::Unavailable,
            Self::Duplicate { .. } => ErrorKind::Conflict,
            Self::Query(
                sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed,
            ) => ErrorKind::Unavailable,
            Self::Query(sqlx::Error::Database(refusal)) if is_away(&refusal.code().unwrap_or_default()) => {
                ErrorKind::Unavailable
            }
            Self::Migration { .. } | Self::Schema { .. } | Self::Query(_) => ErrorKind::Internal,
        }
    }

    /// Whether the engine broke off for the sake of another transaction, and the same again may well succeed.
    pub fn is_transient(&self) -> bool {
        // PostgreSQL: serialization failure, deadlock, lock not available. SQLite: busy, locked and their variants.
        let Self::Query(sqlx::Error::Database(refusal)) = self else { return false };
        let code = refusal.code().unwrap_or_default();
        match code.parse::<u32>() {
            Ok(sqlite) if code.len() < 5 => matches!(sqlite & 0xff, 5 | 6),
            _ => matches!(&*code, "40001" | "40P01" | "55P03"),
        }
    }

    /// What is wrong and what to do, without the URL, for whoever names that already.
    pub fn reason(&self) -> String {
        match self {
            Self::BadUrl { reason, .. } => {
                format!("{reason}; give a URL such as `sqlite:data/shop.db` or `postgres://user@host/database`")
            }
            Self::Open { reason, .. } => format!("{reason}; check that it runs, that it may be reached and written"),
            Self::Migration { source, .. } | Self::Duplicate { source, .. } | Self::Query(source) => {
                format!("{self}: {source}")
            }
            Self::Schema { .. } => self.to_string(),
        }
    }

    /// Its stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadUrl { .. } => "store.bad_url",
            Self::Open { .. } => "store.open",
            Self::Migration { .. } => "store.migration",
            Self::Schema { .. } => "store.schema",
            Self::Duplicate { .. } => "store.duplicate",
            Self::Query(_) => "store.query",
        }
    }
}

/// Whether the engine itself is out of order for now, whatever was asked of it.
fn is_away(code: &str) -> bool {
    match code.len() {
        // PostgreSQL. 08: the connection ends, 53: it is full, 57P: the server ends or starts.
        5 => code.starts_with("08") || code.starts_with("53") || code.starts_with("57P"),
        // SQLite: busy, locked, failed to read or write, full, cannot open.
        _ => code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14)),
    }
}

/// Whether a failed commit is certain to have left nothing: the engine answered that it refuses. SQLite also answers
/// when writing or flushing failed, and then what reached the disk is not known.
pub(crate) fn is_refusal(error: &sqlx::Error) -> bool {
    const SQLITE_IO_ERROR: u32 = 10;
    let Some(refusal) = error.as_database_error() else { return false };
    let code = refusal.code().unwrap_or_default();
    match code.len() {
        // PostgreSQL. Classes 08 and 57: the connection ends, or the server does.
        5 => !code.starts_with("08") && !code.starts_with("57"),
        _ => code.parse::<u32>().is_ok_and(|code| code & 0xff != SQLITE_IO_ERROR),
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(refusal) if refusal.is_unique_violation() => {
                // SQLite names the columns in its message, PostgreSQL the index beside it.
                let constraint = refusal.constraint().unwrap_or(refusal.message()).to_owned();
                Self::Duplicate { constraint, source: error }
            }
            _ => Self::Query(error),
        }
    }
}
