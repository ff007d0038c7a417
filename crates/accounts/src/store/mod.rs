//! What accounts remember. One method is one atomic step; every write goes through the process's one batching writer.

mod batch;
mod clients;
mod schema;
mod sessions;
mod throttles;
mod users;

use std::sync::Arc;

use tessera_kernel::{Clock, Timestamp};
use tessera_store::sql::Db;
use tessera_store::writer::{self, Limits, Writer};

use crate::Error;
use crate::domain::ids::{ClientId, SessionId, UserId};
use crate::domain::session::Rules;
use batch::{Batch, What, Write};

pub use clients::{Client, Code, NewClient, Redemption};
pub use sessions::{Ending, NewSession, Refreshed, Seed, SignOut};
pub use tessera_store::sql::Changed;
pub use throttles::Attempt;
pub use users::{Edit, Edited, NewUser, PasswordChange, Sessions, User};

/// Rounds of one sweep: each forgets up to a thousand rows of each sort, in a transaction of its own.
const MAX_SWEEPS: u32 = 200;

/// The database of accounts. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: Db,
    clock: Arc<dyn Clock>,
    writer: Writer<Batch>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("db", &self.db).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn open(url: &str, clock: Arc<dyn Clock>, rules: Rules, metrics: writer::Metrics) -> Result<Self, Error> {
        let db = Db::open(url, "accounts", schema::STEPS).await?;
        let writer = Writer::start(&db, Batch::new(rules), Arc::clone(&clock), Limits::default(), metrics);
        Ok(Self { db, clock, writer })
    }

    /// Answers what waits and closes the database.
    pub async fn close(&self) {
        self.writer.close().await;
        self.db.close().await;
    }

    /// Counts an attempt under each key, if all of them let it through.
    ///
    /// # Errors
    /// Those of the database. The inner one is when to come again.
    pub async fn attempt(&self, attempt: Attempt) -> Result<Result<(), Timestamp>, Error> {
        match self.writer.submit(Write::Attempt(attempt)).await? {
            What::Attempted(outcome) => Ok(outcome),
            _ => Err(unexpected()),
        }
    }

    /// The attempts under a key were no wrong ones.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn clear(&self, key: [u8; 32]) -> Result<(), Error> {
        match self.writer.submit(Write::Clear(key)).await? {
            What::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Keeps a new user, unless there is one of that name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn add_user(&self, user: NewUser) -> Result<Option<User>, Error> {
        match self.writer.submit(Write::AddUser(Box::new(user))).await? {
            What::User(user) => Ok(user.map(|user| *user)),
            _ => Err(unexpected()),
        }
    }

    /// Changes roles, or whether somebody may sign in. Who may not has no sessions any more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn edit_user(&self, edit: Edit) -> Result<Edited, Error> {
        match self.writer.submit(Write::EditUser(edit)).await? {
            What::Edited(edited) => Ok(*edited),
            _ => Err(unexpected()),
        }
    }

    /// Changes a password, if it is the one that it was; what becomes of the sessions is in it. Gives the user as they are then, if so.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn change_password(&self, change: PasswordChange) -> Result<Option<User>, Error> {
        match self.writer.submit(Write::ChangePassword(Box::new(change))).await? {
            What::User(user) => Ok(user.map(|user| *user)),
            _ => Err(unexpected()),
        }
    }

    /// Begins a session of somebody who may sign in, and has that password still. Gives the user as they are then, if so.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin_session(&self, session: NewSession) -> Result<Option<User>, Error> {
        match self.writer.submit(Write::Begin(Box::new(session))).await? {
            What::User(user) => Ok(user.map(|user| *user)),
            _ => Err(unexpected()),
        }
    }

    /// Takes the token of that number, which is known to be ours.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn refresh(&self, session: SessionId, generation: u32) -> Result<Refreshed, Error> {
        match self.writer.submit(Write::Refresh { session, generation }).await? {
            What::Refreshed(refreshed) => Ok(*refreshed),
            _ => Err(unexpected()),
        }
    }

    /// Ends the session of a token, which is known to be ours and of this user, or all of theirs.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sign_out(
        &self,
        session: SessionId,
        user: UserId,
        generation: u32,
        from: SignOut,
    ) -> Result<(), Error> {
        match self.writer.submit(Write::SignOut { session, user, generation, from }).await? {
            What::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Ends sessions.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end(&self, ending: Ending) -> Result<(), Error> {
        match self.writer.submit(Write::End(ending)).await? {
            What::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Keeps a new program, unless there is one of that name which was not taken back.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn add_client(&self, client: NewClient) -> Result<Option<Client>, Error> {
        match self.writer.submit(Write::AddClient(Box::new(client))).await? {
            What::Client(client) => Ok(client.map(|client| *client)),
            _ => Err(unexpected()),
        }
    }

    /// Takes a program's secret back. Gives it, if there is one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn revoke_client(&self, id: ClientId) -> Result<Option<Client>, Error> {
        match self.writer.submit(Write::RevokeClient(id)).await? {
            What::Client(client) => Ok(client.map(|client| *client)),
            _ => Err(unexpected()),
        }
    }

    /// Keeps a code, if the token of that number is one of the session in which it was agreed to, and that is open and of our own pages.
    /// Tells whether that is so.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn add_code(&self, hash: [u8; 32], code: Code, generation: u32) -> Result<bool, Error> {
        match self.writer.submit(Write::AddCode { hash, code: Box::new(code), generation }).await? {
            What::Told(kept) => Ok(kept),
            _ => Err(unexpected()),
        }
    }

    /// Begins the session of a code for the first who asks, if it is not over and whoever agreed is still signed in: gives the user, and
    /// when they had signed in.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn redeem(&self, redemption: Redemption) -> Result<Option<(User, Timestamp)>, Error> {
        match self.writer.submit(Write::Redeem(Box::new(redemption))).await? {
            What::Redeemed(redeemed) => Ok(redeemed.map(|redeemed| *redeemed)),
            _ => Err(unexpected()),
        }
    }

    /// Forgets what is over: sessions that ended long ago, throttles that let everything through, codes. What is left after so many rounds
    /// goes the next time.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sweep(&self) -> Result<(), Error> {
        for _ in 0..MAX_SWEEPS {
            match self.writer.submit(Write::Sweep).await? {
                What::Swept(true) => {}
                What::Swept(false) => break,
                _ => return Err(unexpected()),
            }
        }
        Ok(())
    }

    /// The present moment by the store's clock.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        Ok(self.db.now(&*self.clock).await?)
    }
}

/// An answer to another question: a fault of ours.
fn unexpected() -> Error {
    tessera_store::Error::Unexpected { what: "another write's answer".to_owned() }.into()
}
