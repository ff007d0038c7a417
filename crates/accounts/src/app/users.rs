//! What admins do with users.

use tessera_service::identity::ROLES;

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
