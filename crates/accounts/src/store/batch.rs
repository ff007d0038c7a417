//! A batch of writes, applied in one transaction, in the order of the rows that they lock.

use tessera_kernel::Timestamp;
use tessera_store::sql::{self, Tx};
use tessera_store::writer::Apply;

use super::clients::{self, Client, Code, NewClient};
use super::sessions::{self, Ending, NewSession, Refreshed};
use super::throttles::{self, Attempt};
use super::users::{self, Edit, Edited, NewUser, PasswordChange, User};
use crate::domain::ids::{ClientId, SessionId};
use crate::domain::session::Rules;

/// What can be written.
#[derive(Debug)]
pub enum Write {
    Attempt(Attempt),
    AddUser(Box<NewUser>),
    EditUser(Edit),
    ChangePassword(Box<PasswordChange>),
    Begin(Box<NewSession>),
    Refresh { session: SessionId, generation: u32 },
    End(Ending),
    AddClient(Box<NewClient>),
    RevokeClient(ClientId),
    AddCode([u8; 32], Box<Code>),
    RedeemCode([u8; 32]),
    Sweep,
}

/// What came of a [`Write`].
#[derive(Debug)]
pub enum What {
    Done,
    Told(bool),
    Attempted(Result<(), Timestamp>),
    Added(Option<Box<User>>),
    Edited(Box<Edited>),
    Refreshed(Box<Refreshed>),
    Client(Option<Box<Client>>),
    Redeemed(Option<Box<Code>>),
}

impl Write {
    /// The order of locks: throttles, users, sessions, the rest; among the same kind by key.
    fn rank(&self) -> (u8, [u8; 32]) {
        let id = |id: tessera_kernel::Uuid| {
            let mut key = [0; 32];
            key[..16].copy_from_slice(id.as_bytes());
            key
        };
        match self {
            Self::Attempt(attempt) => (0, attempt.lowest()),
            Self::AddUser(user) => (1, id(user.id.uuid())),
            Self::EditUser(edit) => (2, id(edit.id.uuid())),
            Self::ChangePassword(change) => (2, id(change.id.uuid())),
            Self::End(Ending::All(user, _)) => (2, id(user.uuid())),
            Self::Begin(session) => (3, id(session.user.uuid())),
            Self::Refresh { session, .. } | Self::End(Ending::One(session, _)) => (4, id(session.uuid())),
            Self::AddClient(client) => (5, id(client.id.uuid())),
            Self::RevokeClient(client) | Self::End(Ending::OfClient(client, _)) => (6, id(client.uuid())),
            Self::AddCode(hash, _) | Self::RedeemCode(hash) => (7, *hash),
            Self::Sweep => (8, [0; 32]),
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
        Ok(match write {
            Write::Attempt(attempt) => What::Attempted(throttles::attempt(tx, attempt).await?),
            Write::AddUser(user) => What::Added(users::add(tx, user).await?.map(Box::new)),
            Write::EditUser(edit) => What::Edited(Box::new(users::edit(tx, edit).await?)),
            Write::ChangePassword(change) => What::Told(users::change_password(tx, change).await?),
            Write::Begin(session) => What::Told(sessions::begin(tx, session).await?),
            Write::Refresh { session, generation } => {
                What::Refreshed(Box::new(sessions::refresh(tx, *session, *generation, self.rules).await?))
            }
            Write::End(ending) => {
                sessions::end(tx, ending).await?;
                What::Done
            }
            Write::AddClient(client) => What::Client(clients::add(tx, client).await?.map(Box::new)),
            Write::RevokeClient(id) => What::Client(clients::revoke(tx, *id).await?.map(Box::new)),
            Write::AddCode(hash, code) => {
                clients::add_code(tx, hash, code).await?;
                What::Done
            }
            Write::RedeemCode(hash) => What::Redeemed(clients::redeem_code(tx, hash).await?.map(Box::new)),
            Write::Sweep => {
                throttles::sweep(tx).await?;
                sessions::sweep(tx).await?;
                clients::sweep(tx).await?;
                What::Done
            }
        })
    }
}

impl Apply for Batch {
    type Command = Write;
    type Answer = What;

    /// Writes about one thing stay in their order, so that those of a batch are as if done one after the other.
    async fn apply(&self, tx: &mut Tx<'_>, writes: &[Write]) -> Result<Vec<What>, sql::Error> {
        let mut order: Vec<usize> = (0..writes.len()).collect();
        order.sort_by_key(|index| writes[*index].rank());
        let mut answers: Vec<(usize, What)> = Vec::with_capacity(writes.len());
        for index in order {
            answers.push((index, self.one(tx, &writes[index]).await?));
        }
        answers.sort_by_key(|(index, _)| *index);
        Ok(answers.into_iter().map(|(_, what)| what).collect())
    }
}
