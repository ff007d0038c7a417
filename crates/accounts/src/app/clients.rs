//! Programs: made by admins, and their own tokens.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use tessera_kernel::Timestamp;
use tessera_service::identity::{AUDIENCE, Grant};

use super::{App, check_roles, secret_bytes, sha256};
use crate::Error;
use crate::domain::ids::ClientId;
use crate::store::{Client, NewClient};

/// The longest name, in characters.
const MAX_NAME_CHARS: usize = 80;
/// Addresses to send people back to.
const MAX_REDIRECT_URIS: usize = 16;
/// The longest of them, in bytes.
const MAX_REDIRECT_URI_BYTES: usize = 1_024;
/// What our secrets begin with, so that one that lies about is recognised.
const SECRET_PREFIX: &str = "tsc_";

/// What an admin asks for.
#[derive(Clone, Debug)]
pub struct NewClientWish {
    /// What it is called.
    pub name: String,
    /// What its own tokens may be.
    pub roles: Vec<String>,
    /// Where it may send people back to.
    pub redirect_uris: Vec<String>,
    /// Whether it can keep no secret: a page, an app.
    pub is_public: bool,
}

/// A program with its secret, which is shown once.
#[derive(Clone, Debug)]
pub struct MadeClient {
    /// As it is kept.
    pub client: Client,
    /// None where it cannot keep one.
    pub secret: Option<String>,
}

impl App {
    /// Makes a program.
    ///
    /// # Errors
    /// [`Error::Taken`] where the name is another's; what is wrong with the rest.
    pub async fn make_client(&self, wish: NewClientWish) -> Result<MadeClient, Error> {
        let bad = |reason: String| Error::BadRequest { reason };
        let name = wish.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
            return Err(bad(format!("`name` takes 1 to {MAX_NAME_CHARS} characters")));
        }
        let roles = check_roles(&wish.roles)?;
        if wish.is_public && !roles.is_empty() {
            return Err(bad("a program without a secret has no tokens of its own: leave `roles` empty".into()));
        }
        if wish.redirect_uris.len() > MAX_REDIRECT_URIS {
            return Err(bad(format!("`redirect_uris` takes up to {MAX_REDIRECT_URIS}")));
        }
        if let Some(uri) = wish.redirect_uris.iter().find(|uri| !is_redirect_uri(uri)) {
            let short: String = uri.chars().take(80).collect();
            return Err(bad(format!(
                "`{short}` cannot be redirected to; give an absolute https address without a fragment (http for this machine only)"
            )));
        }
        let secret = match wish.is_public {
            true => None,
            false => Some(format!("{SECRET_PREFIX}{}", URL_SAFE_NO_PAD.encode(secret_bytes()?))),
        };
        let new = NewClient {
            id: self.parts.ids.next().into(),
            name: name.clone(),
            roles,
            secret: secret.as_ref().map(|secret| sha256(secret.as_bytes())),
            redirect_uris: wish.redirect_uris,
        };
        let remedy = "choose another, or revoke that one";
        let client = self.store().add_client(new).await?.ok_or(Error::Taken { name, remedy })?;
        tracing::info!(client.id = %client.id, client.roles = ?client.roles, "client made");
        Ok(MadeClient { client, secret })
    }

    /// Takes a program's secret back. Its last token lasts to its end.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn revoke_client(&self, id: ClientId) -> Result<Client, Error> {
        let revoked = self.store().revoke_client(id).await?;
        revoked.ok_or_else(|| Error::NotFound { what: "client", id: id.to_string() })
    }

    /// A program that was not taken back.
    pub(super) async fn present_client(&self, id: &str) -> Result<Client, Error> {
        let id: ClientId = id.parse().map_err(|_| Error::BadClient)?;
        self.store().client(id).await?.filter(|client| !client.is_revoked).ok_or(Error::BadClient)
    }

    /// A program that has shown its secret, or that has none to show.
    ///
    /// # Errors
    /// [`Error::BadClient`], whatever is wrong.
    pub async fn known_client(&self, id: &str, secret: Option<&str>) -> Result<Client, Error> {
        let client = self.present_client(id).await?;
        let is_right = match (&client.secret, secret) {
            (None, None) => true,
            // Digests of 256 random bits: how many of their bytes agree tells nothing.
            (Some(kept), Some(shown)) => *kept == sha256(shown.as_bytes()),
            _ => false,
        };
        if is_right { Ok(client) } else { Err(Error::BadClient) }
    }

    /// A program's own token.
    ///
    /// # Errors
    /// [`Error::BadClient`]; [`Error::BadGrant`] for one without a secret.
    pub async fn client_token(&self, id: &str, secret: Option<&str>) -> Result<(String, Timestamp), Error> {
        let client = self.known_client(id, secret).await?;
        if client.secret.is_none() {
            return Err(Error::grant("unauthorized_client", "a program without a secret has no tokens of its own"));
        }
        let ttl = Duration::from_secs(self.config().client_token_ttl_s.into());
        let subject = client.id.to_string();
        let grant = Grant { subject: &subject, roles: &client.roles, audience: AUDIENCE, ttl, claims: Map::new() };
        Ok(self.keys().issue(&grant)?)
    }
}

/// RFC 9700, 2.1 and 4.1: whole addresses, encrypted, but for this machine's own.
fn is_redirect_uri(text: &str) -> bool {
    // What a parser would mend is not what is compared letter for letter.
    let is_whole = text.starts_with("https://") || text.starts_with("http://");
    if !is_whole || !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('\\') {
        return false;
    }
    let Ok(url) = url::Url::parse(text) else { return false };
    let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let scheme = url.scheme() == "https" || (url.scheme() == "http" && is_local);
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    text.len() <= MAX_REDIRECT_URI_BYTES && scheme && plain && url.has_host()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_send_people_back_to() {
        for fit in
            ["https://shop.example.com/back", "http://localhost:3000/cb?a=1", "http://127.0.0.1/", "http://[::1]:9/x"]
        {
            assert!(is_redirect_uri(fit), "{fit}");
        }
        for unfit in [
            "",
            "/back",
            "http://shop.example.com/",
            "javascript:alert(1)",
            "https://a@b.c/",
            "https://b.c/#x",
            "data:text/html,x",
            "https:back",
            "https:/back",
            "https:\\\\back",
            "https://shop.example.com/\tback",
            " https://shop.example.com/back",
            "https://shop.example.com/b\u{e4}ck",
        ] {
            assert!(!is_redirect_uri(unfit), "{unfit}");
        }
    }
}
