//! Sessions: the next token, and the end.

use std::time::Duration;

use serde_json::Map;
use tessera_service::identity::{AUDIENCE, Grant};

use super::{App, SignedIn, secret_bytes};
use crate::Error;
use crate::domain::ids::{ClientId, SessionId, UserId};
use crate::domain::refresh::{self, Presented};
use crate::domain::session::Turn;
use crate::store::{NewSession, Refreshed, Seed, SignOut, User};

impl App {
    pub(super) fn new_session(
        &self,
        user: UserId,
        client: Option<ClientId>,
        password: Option<String>,
    ) -> Result<NewSession, Error> {
        let ttl = Duration::from_secs(self.config().session_ttl_s.into());
        Ok(NewSession { id: self.parts.ids.next().into(), user, client, seed: secret_bytes()?, ttl, password })
    }

    pub(super) fn signed_in(&self, user: User, id: SessionId, seed: &[u8], generation: u32) -> Result<SignedIn, Error> {
        let (access_token, expires_at) = self.access_token(&user)?;
        let refresh_token = refresh::token(&self.secret, seed, id, generation);
        let refresh_ttl = Duration::from_secs(self.config().session_ttl_s.into());
        Ok(SignedIn { user, access_token, expires_at, refresh_token, refresh_ttl })
    }

    fn access_token(&self, user: &User) -> Result<(String, tessera_kernel::Timestamp), Error> {
        let ttl = Duration::from_secs(self.config().access_token_ttl_s.into());
        let subject = user.id.to_string();
        let grant = Grant { subject: &subject, roles: &user.roles, audience: AUDIENCE, ttl, claims: Map::new() };
        Ok(self.keys().issue(&grant)?)
    }

    /// The session that a token is of, if it is ours.
    pub(super) async fn presented(&self, token: &str) -> Result<(Presented, Seed), Error> {
        let presented = Presented::parse(token).ok_or(Error::SessionOver)?;
        let seed = self.store().seed(presented.session).await?.ok_or(Error::SessionOver)?;
        if presented.is_of(&self.secret, &seed.seed) { Ok((presented, seed)) } else { Err(Error::SessionOver) }
    }

    /// The next access token, and the next refresh token. The same token again within the grace gives the same; later it ends the session. A
    /// token that was given to a program is taken from that program only.
    ///
    /// # Errors
    /// [`Error::SessionOver`].
    pub async fn refresh(&self, token: &str, from: Option<ClientId>) -> Result<SignedIn, Error> {
        let presented = match self.presented(token).await {
            Ok((presented, seed)) if seed.client == from => presented,
            Ok(_) | Err(Error::SessionOver) => {
                self.parts.metrics.refreshed("over");
                return Err(Error::SessionOver);
            }
            Err(error) => return Err(error),
        };
        match self.store().refresh(presented.session, presented.generation).await? {
            Refreshed::On(turn, session, user) => {
                self.parts.metrics.refreshed(if turn == Turn::Next { "next" } else { "again" });
                self.signed_in(*user, session.id, &session.seed, session.generation)
            }
            Refreshed::Stolen(user) => {
                self.parts.metrics.refreshed("stolen");
                tracing::warn!(user.id = %user, session.id = %presented.session, "a refresh token came a second time, its session is ended");
                Err(Error::SessionOver)
            }
            Refreshed::Over => {
                self.parts.metrics.refreshed("over");
                Err(Error::SessionOver)
            }
        }
    }

    /// Ends the session of a refresh token, or all of its user. One that is over or none is as good as ended; one that was given to a
    /// program is taken from that program only, and ends nothing else.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sign_out(&self, token: &str, from: Option<ClientId>, how_far: SignOut) -> Result<(), Error> {
        match self.presented(token).await {
            Ok((presented, seed)) if seed.client == from => {
                self.store().sign_out(presented.session, seed.user, presented.generation, how_far).await
            }
            Ok(_) | Err(Error::SessionOver) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
