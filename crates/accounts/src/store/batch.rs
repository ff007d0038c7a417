//! A batch of writes, applied in one transaction, in the order of the rows that they lock.

use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::sql::{self, Tx};
use tessera_store::writer::Apply;

use super::clients::{self, Client, Code, NewClient, Redemption};
use super::sessions::{self, Ending, NewSession, Refreshed, SignOut};
use super::throttles::{self, Attempt, Key, Step};
use super::users::{self, Edit, Edited, NewUser, PasswordChange, User};
use crate::domain::ids::{ClientId, SessionId, UserId};
use crate::domain::session::Rules;

/// Rows of each sort that one sweep forgets: few enough that nobody waits for it.
const SWEPT_AT_ONCE: i64 = 1_000;

/// What can be written.
#[derive(Debug)]
pub enum Write {
    Attempt(Attempt),
    Clear(Key),
    AddUser(Box<NewUser>),
    EditUser(Edit),
    ChangePassword(Box<PasswordChange>),
    Begin(Box<NewSession>),
    Redeem(Box<Redemption>),
    Refresh { session: SessionId, generation: u32 },
    SignOut { session: SessionId, user: UserId, generation: u32, from: SignOut },
    End(Ending),
    AddCode { hash: [u8; 32], code: Box<Code>, generation: u32 },
    AddClient(Box<NewClient>),
    RevokeClient(ClientId),
    Sweep,
}

/// What came of a [`Write`].
#[derive(Debug)]
pub enum What {
    Done,
    Told(bool),
    Attempted(Result<(), Timestamp>),
    User(Option<Box<User>>),
    Edited(Box<Edited>),
    Refreshed(Box<Refreshed>),
    Client(Option<Box<Client>>),
    Redeemed(Option<Box<(User, Timestamp)>>),
    /// Whether there may be more.
    Swept(bool),
}

impl Write {
    fn throttle(&self) -> Option<Step<'_>> {
        match self {
            Self::Attempt(attempt) => Some(Step::Try(attempt)),
            Self::Clear(key) => Some(Step::Clear(key)),
            _ => None,
        }
    }

    /// The user whose row it locks.
    fn user(&self) -> Option<Uuid> {
        match self {
            Self::EditUser(edit) => Some(edit.id.uuid()),
            Self::ChangePassword(change) => Some(change.id.uuid()),
            Self::Begin(session) => Some(session.user.uuid()),
            Self::Redeem(redemption) => Some(redemption.code.user.uuid()),
            Self::SignOut { user, from: SignOut::Everywhere, .. } => Some(user.uuid()),
            _ => None,
        }
    }

    /// The order of locks: throttles, which are done before all others, names of users, users, sessions, programs; among the same kind by key.
    fn rank(&self) -> (u8, Vec<u8>) {
        let id = |id: Uuid| id.as_bytes().to_vec();
        match self {
            Self::Attempt(_) | Self::Clear(_) => (0, Vec::new()),
            Self::AddUser(user) => (1, user.login.as_str().as_bytes().to_vec()),
            Self::EditUser(_)
            | Self::ChangePassword(_)
            | Self::Begin(_)
            | Self::Redeem(_)
            | Self::SignOut { from: SignOut::Everywhere, .. } => (2, id(self.user().unwrap_or_default())),
            Self::End(Ending::All(user)) => (3, id(user.uuid())),
            Self::Refresh { session, .. } | Self::SignOut { session, .. } | Self::End(Ending::One(session)) => {
                (4, id(session.uuid()))
            }
            Self::AddCode { code, .. } => (4, id(code.session.uuid())),
            Self::End(Ending::OfClient(client)) | Self::RevokeClient(client) => (5, id(client.uuid())),
            Self::AddClient(client) => (6, client.name.as_bytes().to_vec()),
            Self::Sweep => (7, Vec::new()),
        }
    }
}

/// Applies batches.
#[derive(Clone, Debug)]
pub struct Batch {
    rules: Rules,
}

impl Batch {
    pub fn new(rules: Rules) -> Self {
        Self { rules }
    }

    async fn one(&self, tx: &mut Tx<'_>, write: &Write) -> Result<What, sql::Error> {
        let rules = self.rules;
        Ok(match write {
            // Done before.
            Write::Attempt(_) | Write::Clear(_) => What::Done,
            Write::AddUser(user) => What::User(users::add(tx, user).await?.map(Box::new)),
            Write::EditUser(edit) => What::Edited(Box::new(users::edit(tx, edit).await?)),
            Write::ChangePassword(change) => What::User(users::change_password(tx, change).await?.map(Box::new)),
            Write::Begin(session) => What::User(sessions::begin(tx, session).await?.map(Box::new)),
            Write::Redeem(redemption) => What::Redeemed(clients::redeem(tx, redemption, rules).await?.map(Box::new)),
            Write::Refresh { session, generation } => {
                What::Refreshed(Box::new(sessions::refresh(tx, *session, *generation, rules).await?))
            }
            Write::SignOut { session, user, generation, from } => {
                sessions::sign_out(tx, *session, *user, *generation, *from, rules).await?;
                What::Done
            }
            Write::End(ending) => {
                sessions::end(tx, ending).await?;
                What::Done
            }
            Write::AddCode { hash, code, generation } => {
                What::Told(clients::add_code(tx, hash, code, *generation, rules).await?)
            }
            Write::AddClient(client) => What::Client(clients::add(tx, client).await?.map(Box::new)),
            Write::RevokeClient(id) => What::Client(clients::revoke(tx, *id).await?.map(Box::new)),
            Write::Sweep => {
                let swept = throttles::sweep(tx, SWEPT_AT_ONCE).await?
                    + sessions::sweep(tx, SWEPT_AT_ONCE).await?
                    + clients::sweep(tx, SWEPT_AT_ONCE).await?;
                What::Swept(swept >= SWEPT_AT_ONCE.unsigned_abs())
            }
        })
    }
}

impl Apply for Batch {
    type Command = Write;
    type Answer = What;

    /// Writes about one thing stay in their order, so that those of a batch are as if done one after the other.
    async fn apply(&self, tx: &mut Tx<'_>, writes: &[Write]) -> Result<Vec<What>, sql::Error> {
        let steps: Vec<Step<'_>> = writes.iter().filter_map(Write::throttle).collect();
        let tried = if steps.is_empty() { Vec::new() } else { throttles::run(tx, &steps).await? };
        let mut tried = tried.into_iter();
        if writes.iter().any(|write| matches!(write, Write::EditUser(_))) {
            users::lock_admins(tx, writes.iter().filter_map(Write::user).collect()).await?;
        }
        let mut order: Vec<usize> = (0..writes.len()).collect();
        order.sort_by_cached_key(|index| writes[*index].rank());
        let mut answers: Vec<(usize, What)> = Vec::with_capacity(writes.len());
        for index in order {
            // Those of throttles come first, and in their order.
            let what = match &writes[index] {
                Write::Attempt(_) => What::Attempted(tried.next().unwrap_or(Ok(()))),
                Write::Clear(_) => {
                    tried.next();
                    What::Done
                }
                write => self.one(tx, write).await?,
            };
            answers.push((index, what));
        }
        answers.sort_by_key(|(index, _)| *index);
        Ok(answers.into_iter().map(|(_, what)| what).collect())
    }
}
