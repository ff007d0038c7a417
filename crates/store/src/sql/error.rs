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
            Self::Query(sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) | sqlx::Error::PoolClosed) => {
                ErrorKind::Unavailable
            }
            Self::Migration { .. } | Self::Schema { .. } | Self::Query(_) => ErrorKind::Internal,
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
