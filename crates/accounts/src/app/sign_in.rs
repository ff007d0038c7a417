//! Signing up, signing in, another password.

use std::net::IpAddr;

use tessera_service::Identity;
use tessera_service::identity::Origin;

use super::{App, SignedIn};
use crate::Error;
use crate::domain::ids::UserId;
use crate::domain::login::Login;
use crate::domain::password;
use crate::store::{Attempt, NewUser, PasswordChange, Sessions, User};

/// The longest name to be called by, in characters.
const MAX_NAME_CHARS: usize = 80;

impl App {
    /// Makes an account, if there is none of that name. Which of the two it was is not told, and takes the same time.
    ///
    /// # Errors
    /// What is wrong with name or password, and [`Error::Throttled`].
    pub async fn sign_up(&self, login: &str, password: &str, name: Option<&str>, from: IpAddr) -> Result<(), Error> {
        if !self.config().sign_up {
            return Err(Error::SignUpClosed);
        }
        let user = self.check(login, password, name, self.config().sign_up_roles.clone())?;
        let address = self.address_key(b"sign-up", from);
        if let Err(error) = self.attempt(Attempt::new(vec![(address, self.config().sign_up_rate)])).await {
            self.parts.metrics.signed_up("throttled");
            return Err(error);
        }
        let added = self.add(user, password).await?;
        // Whoever reads the numbers is not told either.
        self.parts.metrics.signed_up("done");
        if let Some(user) = added {
            tracing::info!(user.id = %user.id, "signed up");
        }
        Ok(())
    }

    /// Makes an account with these roles. None where the name is taken.
    ///
    /// # Errors
    /// What is wrong with name or password.
    pub async fn make_user(&self, login: &str, password: &str, roles: Vec<String>) -> Result<Option<User>, Error> {
        let user = self.check(login, password, None, roles)?;
        self.add(user, password).await
    }

    fn check(&self, login: &str, password: &str, name: Option<&str>, roles: Vec<String>) -> Result<NewUser, Error> {
        let login = Login::parse(login).map_err(|reason| Error::BadRequest { reason: format!("`login`: {reason}") })?;
        password::check(password, &login, self.config().password_min_chars)
            .map_err(|reason| Error::WeakPassword { reason })?;
        let name = name.map(str::trim).filter(|name| !name.is_empty()).unwrap_or_else(|| login.short()).to_owned();
        if name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
            let reason = format!("`name` takes up to {MAX_NAME_CHARS} characters on one line");
            return Err(Error::BadRequest { reason });
        }
        Ok(NewUser { id: self.parts.ids.next().into(), login, name, password: String::new(), roles })
    }

    async fn add(&self, user: NewUser, password: &str) -> Result<Option<User>, Error> {
        let password = self.parts.passwords.hash(password.to_owned()).await?;
        self.store().add_user(NewUser { password, ..user }).await
    }

    /// Begins a session.
    ///
    /// # Errors
    /// [`Error::BadCredentials`], whatever of them is wrong; [`Error::Throttled`].
    pub async fn sign_in(&self, login: &str, password: &str, from: IpAddr) -> Result<SignedIn, Error> {
        let signed_in = self.try_sign_in(login, password, from).await;
        match &signed_in {
            Ok(_) => self.parts.metrics.signed_in("done"),
            Err(Error::Throttled { .. }) => self.parts.metrics.signed_in("throttled"),
            Err(_) => self.parts.metrics.signed_in("refused"),
        }
        signed_in
    }

    async fn try_sign_in(&self, login: &str, password: &str, from: IpAddr) -> Result<SignedIn, Error> {
        // What cannot be a name or a password belongs to nobody, and whoever sent it knows.
        let login = Login::parse(login).map_err(|_| Error::BadCredentials)?;
        if password.chars().count() > password::MAX_CHARS {
            return Err(Error::BadCredentials);
        }
        let (user, mut stored, key) = self.compare(&login, password, from).await?;
        if self.parts.passwords.is_outdated(&stored) {
            let new = self.parts.passwords.hash(password.to_owned()).await?;
            let change = PasswordChange { id: user.id, old: stored, new: new.clone(), sessions: Sessions::GoOn };
            self.store().change_password(change).await?;
            stored = new;
        }
        // What was compared may be the password no more.
        let session = self.new_session(user.id, None, Some(stored))?;
        // The roles of the token are those of the moment at which it begins.
        let user = self.store().begin_session(session.clone()).await?.ok_or(Error::BadCredentials)?;
        self.store().clear(key).await?;
        tracing::info!(user.id = %user.id, session.id = %session.id, "signed in");
        self.signed_in(user, session.id, &session.seed, 0)
    }

    /// The user whose password that is, its hash, and the throttle that counted the attempt.
    async fn compare(&self, login: &Login, password: &str, from: IpAddr) -> Result<(User, String, [u8; 32]), Error> {
        let key = self.account_key(login.as_str());
        let rates =
            vec![(key, self.config().account_rate), (self.address_key(b"sign-in", from), self.config().address_rate)];
        self.attempt(Attempt::new(rates)).await?;
        let found = self.store().by_login(login.as_str()).await?;
        let stored = found.as_ref().map(|(_, stored)| stored.clone());
        let is_right = self.parts.passwords.compare(password.to_owned(), stored).await?;
        match found {
            Some((user, stored)) if is_right && !user.is_disabled => Ok((user, stored, key)),
            _ => Err(Error::BadCredentials),
        }
    }

    /// Another password: all sessions end, and a new one begins.
    ///
    /// # Errors
    /// [`Error::BadCredentials`] where the present one is another; what is wrong with the new one; [`Error::Throttled`].
    pub async fn change_password(
        &self,
        identity: &Identity,
        current: &str,
        new: &str,
        from: IpAddr,
    ) -> Result<SignedIn, Error> {
        let user = self.user_of(identity).await?;
        let login = Login::parse(&user.login).map_err(|reason| Error::BadRequest { reason })?;
        password::check(new, &login, self.config().password_min_chars)
            .map_err(|reason| Error::WeakPassword { reason })?;
        let (user, old, key) = self.compare(&login, current, from).await?;
        let new = self.parts.passwords.hash(new.to_owned()).await?;
        let session = self.new_session(user.id, None, None)?;
        let change = PasswordChange { id: user.id, old, new, sessions: Sessions::EndBut(session.clone()) };
        let user = self.store().change_password(change).await?.ok_or(Error::BadCredentials)?;
        self.store().clear(key).await?;
        tracing::info!(user.id = %user.id, "password changed, all sessions ended");
        self.signed_in(user, session.id, &session.seed, 0)
    }

    /// Another password, set by whoever runs the server for somebody who has forgotten theirs: all sessions end, and the attempts that went
    /// wrong are forgotten.
    ///
    /// # Errors
    /// [`Error::NotFound`]; what is wrong with the password.
    pub async fn set_password(&self, login: &str, new: &str) -> Result<User, Error> {
        let missing = || Error::NotFound { what: "account", id: login.to_owned() };
        let login = Login::parse(login).map_err(|_| missing())?;
        password::check(new, &login, self.config().password_min_chars)
            .map_err(|reason| Error::WeakPassword { reason })?;
        let new = self.parts.passwords.hash(new.to_owned()).await?;
        let (user, old) = self.store().by_login(login.as_str()).await?.ok_or_else(missing)?;
        let change = PasswordChange { id: user.id, old, new, sessions: Sessions::End };
        if self.store().change_password(change).await?.is_none() {
            let reason = format!("the password of `{}` was changed at this moment; try again", login.as_str());
            return Err(Error::BadRequest { reason });
        }
        self.store().clear(self.account_key(login.as_str())).await?;
        tracing::info!(user.id = %user.id, "password set, all sessions ended");
        Ok(user)
    }

    /// The user of a token. One of a program, of the command line or of another issuer has none.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn user_of(&self, identity: &Identity) -> Result<User, Error> {
        let missing = || Error::NotFound { what: "account for the subject", id: identity.subject.to_string() };
        if identity.origin == Origin::Issuer {
            return Err(missing());
        }
        let id: UserId = identity.subject.parse().map_err(|_| missing())?;
        self.store().user(id).await?.ok_or_else(missing)
    }
}
