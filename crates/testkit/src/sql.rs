//! Empty databases for the cases of a SQL contract, on both engines.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::ScratchDir;
use crate::postgres::{self, Postgres};

/// An engine that gives a new database for each case. What it holds goes away with it.
#[derive(Debug)]
pub enum Databases {
    /// Files of a scratch folder.
    Sqlite {
        /// The folder.
        folder: ScratchDir,
        /// How many were given.
        given: AtomicU32,
    },
    /// A server of our own.
    Postgres(Postgres),
}

impl Databases {
    /// SQLite, in a folder that is not there yet.
    pub fn sqlite() -> Self {
        Self::Sqlite { folder: ScratchDir::new(), given: AtomicU32::new(0) }
    }

    /// A real PostgreSQL.
    ///
    /// # Panics
    /// When there is none on this machine; it says what to install.
    pub fn postgres() -> Self {
        Self::Postgres(postgres::start())
    }

    /// The URL of a database that nobody else has.
    pub fn fresh(&self) -> String {
        match self {
            Self::Sqlite { folder, given } => {
                let number = given.fetch_add(1, Ordering::Relaxed);
                format!("sqlite:{}", folder.file(&format!("deep/{number}.db")).display())
            }
            Self::Postgres(server) => server.new_database(),
        }
    }
}
