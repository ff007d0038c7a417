//! What can go wrong with what is built on an engine: the writer, claims, lines.

use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::ErrorKind;

use crate::sql;

/// A refusal or failure of the writer, of claims or of lines. Cheap to clone: all commands of a batch may share it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The writer's queue is full. Nothing was done.
    #[error("{limit} writes wait already; try again in a moment")]
    Busy {
        /// How many may wait.
        limit: usize,
    },
    /// The answer did not come in time. A command that still waits is dropped; one that is being applied may come true.
    #[error("the write was not answered within {} ms; ask what became of it before trying again", after.as_millis())]
    Deadline {
        /// How long it was waited for.
        after: Duration,
    },
    /// The writer was closed. Nothing was done.
    #[error("the writer is closed, as the process is stopping; try again elsewhere")]
    Closed,
    /// The connection broke around the commit: the command is done or it is not.
    #[error("it is not known whether the write was done ({reason}); ask before trying again")]
    Unknown {
        /// What broke.
        reason: String,
    },
    /// The database refused or failed. Nothing was done.
    #[error(transparent)]
    Sql(Arc<sql::Error>),
    /// Redis refused, failed or did not answer in time: a write to it is done or it is not.
    #[error("redis: {0}")]
    Redis(Arc<::redis::RedisError>),
    /// Nobody answers at a Redis URL. Nothing was done.
    #[error("redis `{url}` does not answer: {reason}; start it there, or give the address of one that runs")]
    NoRedis {
        /// The URL, its password starred.
        url: String,
        /// What came instead.
        reason: Arc<::redis::RedisError>,
    },
    /// A Redis URL that cannot be read.
    #[error("store `{url}`: {reason}; give a URL such as `redis://host:6379` or `redis+cluster://a:6379,b:6379`")]
    BadUrl {
        /// The URL, its password starred.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More or less at once than is taken. Nothing was done.
    #[error("{count} {what} at once, and 1 to {limit} are taken; send fewer")]
    Oversized {
        /// Of what.
        what: &'static str,
        /// How many came.
        count: usize,
        /// How many are taken.
        limit: usize,
    },
    /// An answer that does not belong to its question.
    #[error("the store answered what was not asked: {what}")]
    Unexpected {
        /// What came.
        what: String,
    },
}

/// Every code of [`Error`] beside those of [`sql::Error`]; each has a page in `docs/errors/`.
pub const CODES: &[&str] = &[
    "store.busy",
    "store.deadline",
    "store.closed",
    "store.unknown_outcome",
    "store.redis",
    "store.bad_url",
    "store.oversized",
    "store.unexpected",
];

impl Error {
    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Busy { .. } | Self::Closed | Self::Unknown { .. } => ErrorKind::Unavailable,
            Self::Redis(_) | Self::NoRedis { .. } => ErrorKind::Unavailable,
            Self::Deadline { .. } => ErrorKind::Timeout,
            Self::Sql(error) => error.kind(),
            Self::BadUrl { .. } | Self::Oversized { .. } => ErrorKind::Invalid,
            Self::Unexpected { .. } => ErrorKind::Internal,
        }
    }

    /// Its stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "store.busy",
            Self::Deadline { .. } => "store.deadline",
            Self::Closed => "store.closed",
            Self::Unknown { .. } => "store.unknown_outcome",
            Self::Sql(error) => error.code(),
            Self::Redis(_) | Self::NoRedis { .. } => "store.redis",
            Self::BadUrl { .. } => "store.bad_url",
            Self::Oversized { .. } => "store.oversized",
            Self::Unexpected { .. } => "store.unexpected",
        }
    }

    /// Whether what was asked for may have been done all the same. Then ask, or try again under the same key.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Deadline { .. } | Self::Unknown { .. } => true,
            Self::Redis(error) => error.is_io_error() || error.is_timeout() || error.is_connection_dropped(),
            _ => false,
        }
    }
}

impl From<sql::Error> for Error {
    fn from(error: sql::Error) -> Self {
        Self::Sql(Arc::new(error))
    }
}

impl From<::redis::RedisError> for Error {
    fn from(error: ::redis::RedisError) -> Self {
        Self::Redis(Arc::new(error))
    }
}
