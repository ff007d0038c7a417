//! What admins do with users.

use tessera_service::Identity;
use tessera_service::identity::{Origin, ROLES};

use super::App;
use crate::Error;
use crate::domain::ids::UserId;
use crate::store::{Edit, Edited, User};

/// Roles as they are kept: known ones, each once.
///
/// # Errors
/// Names the one that is not known, and those that are.
pub fn check_roles(roles: &[String]) -> Result<Vec<String>, Error> {
    if let Some(unknown) = roles.iter().find(|role| !ROLES.contains(&role.as_str())) {
        let short: String = unknown.chars().take(40).collect();
        let reason = format!("there is no role `{short}`; there are {}", ROLES.join(", "));
        return Err(Error::BadRequest { reason });
    }
    Ok(ROLES.iter().filter(|known| roles.iter().any(|role| role == *known)).map(|role| (*role).to_owned()).collect())
}

impl App {
    /// Refuses who is no admin at this moment: a token says what its subject was when it was given. Other issuers answer for their own
    /// people, and the key of the installation is its operator's.
    ///
    /// # Errors
    /// [`tessera_service::Error::WrongRole`].
    pub async fn require_admin(&self, identity: &Identity) -> Result<(), Error> {
        const ADMIN: &[&str] = &["admin"];
        identity.require(ADMIN)?;
        let subject = &*identity.subject;
        let is_admin = |roles: &[String]| roles.iter().any(|role| ADMIN.contains(&role.as_str()));
        let is_still = match (identity.origin, subject.parse(), subject.parse()) {
            (Origin::Own | Origin::Issuer, _, _) => true,
            (Origin::Ring, Ok(user), _) => {
                self.store().user(user).await?.is_some_and(|user| !user.is_disabled && is_admin(&user.roles))
            }
            (Origin::Ring, _, Ok(client)) => {
                self.store().client(client).await?.is_some_and(|client| !client.is_revoked && is_admin(&client.roles))
            }
            (Origin::Ring, Err(_), Err(_)) => false,
        };
        if is_still { Ok(()) } else { Err(tessera_service::Error::WrongRole { needed: ADMIN }.into()) }
    }

    /// Changes what somebody may be, or whether they may sign in.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::LastAdmin`] where nobody could grant roles any more.
    pub async fn edit_user(
        &self,
        id: UserId,
        roles: Option<&[String]>,
        is_disabled: Option<bool>,
    ) -> Result<User, Error> {
        let roles = roles.map(check_roles).transpose()?;
        match self.store().edit_user(Edit { id, roles, is_disabled }).await? {
            Edited::Done(user) => {
                tracing::info!(user.id = %user.id, user.roles = ?user.roles, user.disabled = user.is_disabled, "user changed");
                Ok(user)
            }
            Edited::Missing => Err(Error::NotFound { what: "user", id: id.to_string() }),
            Edited::LastAdmin(user) => Err(Error::LastAdmin { login: user.login }),
        }
    }
}
