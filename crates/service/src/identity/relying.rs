//! People who sign in at another issuer for our pages, where we are its client: the authorization code flow with PKCE (OpenID Connect Core
//! 1.0, 3.1; RFC 6749, 4.1; RFC 7636; RFC 9700).
//!
//! Nothing is kept here but the issuer's addresses. What comes back with the code (`state`), or is shown with it (the verifier, the nonce), the
//! page keeps; the refresh token is for whoever asks to keep where no script reads it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{ACCEPT, AUTHORIZATION};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::issuer::{Discovery, Issuer, body_of};
use super::{Config, Identity, Keys, random};
use crate::Error;
use crate::config::Secret;

/// How long the addresses of the issuer are known before they are fetched again.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// Questions to the issuer at a time: anybody can have one asked.
const MAX_AT_ONCE: usize = 64;
/// The longest code, address or token that is handed on.
const MAX_TEXT_BYTES: usize = 4_096;
/// How long a refresh token is kept where the issuer does not say how long it lasts.
const KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);
/// What of a refusal is told, in characters.
const MAX_REASON_CHARS: usize = 200;

/// Us, as the issuer knows us. Cheap to clone.
#[derive(Clone)]
pub struct RelyingParty(Arc<Inner>);

struct Inner {
    issuer: Arc<Issuer>,
    keys: Keys,
    client_id: String,
    client_secret: Option<Secret>,
    scope: String,
    known: Mutex<Option<(Arc<Discovery>, Timestamp)>>,
    asking: Semaphore,
}

/// A sign-in that begins.
#[derive(Clone, Debug, Serialize)]
pub struct Begun {
    /// Where the browser goes.
    pub redirect_to: String,
    /// The issuer, which may name itself as `iss` when it sends the browser back.
    pub issuer: String,
    /// Comes back with the code: otherwise that is of somebody else's sign-in.
    pub state: String,
    /// Is shown with the code, and never sent to the issuer before.
    pub verifier: String,
    /// The id token must have it.
    pub nonce: String,
}

/// What the browser brings back.
#[derive(Clone, Debug)]
pub struct Returned<'a> {
    /// The code.
    pub code: &'a str,
    /// As it began: where the code was sent.
    pub redirect_uri: &'a str,
    /// As it began.
    pub verifier: &'a str,
    /// As it began.
    pub nonce: &'a str,
}

/// Somebody has signed in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Who, as our products see them.
    pub identity: Identity,
    /// For `authorization: Bearer`.
    pub access_token: String,
    /// How long that lasts.
    pub lasts: Duration,
    /// For the next one, and how long it may be kept; not every issuer gives one.
    pub refresh: Option<(String, Duration)>,
    /// What to call them, where the issuer has said it.
    pub name: Option<String>,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    refresh_token: Option<String>,
    refresh_expires_in: Option<u64>,
    id_token: Option<String>,
}

/// RFC 6749, 5.2.
#[derive(Default, Deserialize)]
struct Refusal {
    error: Option<String>,
    error_description: Option<String>,
}

impl RelyingParty {
    /// As the settings say; none where they name no client. The keys are those that trust the issuer.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for a client without an issuer, and for a scope with which nobody is named.
    pub fn new(config: &Config, keys: &Keys) -> Result<Option<Self>, Error> {
        let Some(client_id) = config.client_id.clone() else { return Ok(None) };
        let refused = |key: &str, value: &str, reason: &str| Error::BadSetting {
            origin: "config".into(),
            key: key.into(),
            value: format!("`{value}`"),
            reason: reason.into(),
        };
        let issuer = keys.issuer.clone().ok_or_else(|| {
            refused(Config::CLIENT_ID, &client_id, "there is nobody who knows it; set `identity.issuer`, too")
        })?;
        if !config.scope.split_whitespace().any(|word| word == "openid") {
            return Err(refused(Config::SCOPE, &config.scope, "it has to have `openid`"));
        }
        let (client_secret, scope) = (config.client_secret.clone(), config.scope.clone());
        let (known, asking) = (Mutex::default(), Semaphore::new(MAX_AT_ONCE));
        Ok(Some(Self(Arc::new(Inner { issuer, keys: keys.clone(), client_id, client_secret, scope, known, asking }))))
    }

    /// The issuer's address.
    pub fn issuer(&self) -> &str {
        self.0.issuer.name()
    }

    /// Begins a sign-in whose code is sent to this address of ours, which the issuer has to know as ours.
    ///
    /// # Errors
    /// [`Error::IssuerAway`].
    pub async fn begin(&self, redirect_uri: &str) -> Result<Begun, Error> {
        let _place = self.place()?;
        check(&[("redirect_uri", redirect_uri)])?;
        let known = self.known().await?;
        let secret = || {
            let bytes = random::<32>().ok_or_else(|| self.away("this system gives no randomness"))?;
            Ok::<_, Error>(URL_SAFE_NO_PAD.encode(bytes))
        };
        let (state, verifier, nonce) = (secret()?, secret()?, secret()?);
        let address = known.authorization_endpoint.as_deref().ok_or_else(|| self.away("it signs nobody in"))?;
        let mut to = url::Url::parse(address).map_err(|error| self.away(&format!("`{address}`: {error}")))?;
        to.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.0.client_id)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("scope", &self.0.scope)
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes())))
            .append_pair("code_challenge_method", "S256");
        Ok(Begun { redirect_to: to.into(), issuer: self.issuer().to_owned(), state, verifier, nonce })
    }

    /// Redeems a code. Its tokens are verified, and the id token has to be of this sign-in.
    ///
    /// # Errors
    /// [`Error::IssuerRefused`], [`Error::IssuerAway`]; [`Error::BadToken`] where the tokens are none for us.
    pub async fn end(&self, returned: &Returned<'_>) -> Result<SignedIn, Error> {
        let _place = self.place()?;
        let Returned { code, redirect_uri, verifier, nonce } = *returned;
        let form = [("code", code), ("redirect_uri", redirect_uri), ("code_verifier", verifier)];
        check(&form)?;
        let tokens = self.tokens("authorization_code", &form).await?;
        let id_token = tokens.id_token.as_deref().ok_or_else(|| self.refused("it gives no id token"))?;
        let claims = self.0.issuer.id_token(id_token, &self.0.client_id).await?;
        if claims.text("nonce") != Some(nonce) {
            return Err(self.refused("its id token is of another sign-in"));
        }
        let name = ["name", "preferred_username", "email"].into_iter().find_map(|claim| claims.text(claim));
        let name = name.map(str::to_owned);
        let signed_in = self.signed_in(tokens, None).await?;
        if *signed_in.identity.subject != *claims.subject() {
            return Err(self.refused("its two tokens are of two people"));
        }
        Ok(SignedIn { name, ..signed_in })
    }

    /// The next token, and the refresh token that follows this one.
    ///
    /// # Errors
    /// As [`RelyingParty::end`].
    pub async fn refresh(&self, token: &str) -> Result<SignedIn, Error> {
        let _place = self.place()?;
        let form = [("refresh_token", token)];
        check(&form)?;
        let tokens = self.tokens("refresh_token", &form).await?;
        self.signed_in(tokens, Some(token)).await
    }

    /// Has the issuer end what a refresh token is of (RFC 7009), where it does that.
    ///
    /// # Errors
    /// [`Error::IssuerAway`], [`Error::IssuerRefused`].
    pub async fn revoke(&self, token: &str) -> Result<(), Error> {
        let _place = self.place()?;
        let known = self.known().await?;
        let Some(address) = &known.revocation_endpoint else { return Ok(()) };
        self.ask(&known, address, &[("token", token), ("token_type_hint", "refresh_token")]).await.map(drop)
    }

    async fn signed_in(&self, tokens: Tokens, before: Option<&str>) -> Result<SignedIn, Error> {
        let identity = self.0.keys.authenticate(&tokens.access_token).await?;
        let kept_for = tokens.refresh_expires_in.map_or(KEPT_FOR, Duration::from_secs);
        let refresh = tokens.refresh_token.or_else(|| before.map(str::to_owned)).map(|token| (token, kept_for));
        let lasts = identity.expires_at.since(self.0.keys.own.clock.now());
        Ok(SignedIn { identity, access_token: tokens.access_token, lasts, refresh, name: None })
    }

    async fn tokens(&self, grant: &str, form: &[(&str, &str)]) -> Result<Tokens, Error> {
        let known = self.known().await?;
        let address = known.token_endpoint.as_deref().ok_or_else(|| self.away("it gives no tokens"))?;
        let body = self.ask(&known, address, &[&[("grant_type", grant)], form].concat()).await?;
        serde_json::from_slice(&body).map_err(|error| self.away(&format!("`{address}`: {error}")))
    }

    /// Sends a form as ourselves (RFC 6749, 2.3.1), and gives what is answered to it.
    async fn ask(&self, known: &Discovery, address: &str, form: &[(&str, &str)]) -> Result<Vec<u8>, Error> {
        let mut fields = vec![("client_id", self.0.client_id.as_str())];
        fields.extend(form);
        let mut request = self.0.issuer.client().post(address).header(ACCEPT, "application/json");
        if let Some(secret) = &self.0.client_secret {
            let in_form = |methods: &[String]| {
                let has = |wanted: &str| methods.iter().any(|method| method == wanted);
                has("client_secret_post") && !has("client_secret_basic")
            };
            if known.token_endpoint_auth_methods_supported.as_deref().is_some_and(in_form) {
                fields.push(("client_secret", secret.reveal()));
            } else {
                let (id, secret) = (encoded(&self.0.client_id), encoded(secret.reveal()));
                let value = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
                request = request.header(AUTHORIZATION, value);
            }
        }
        let failed = |error: &dyn std::fmt::Display| self.away(&format!("`{address}`: {error}"));
        let response = request.form(&fields).send().await.map_err(|error| failed(&error.without_url()))?;
        let status = response.status();
        let body = body_of(response).await.map_err(|reason| failed(&reason))?;
        if status.is_success() {
            return Ok(body);
        }
        if !matches!(status.as_u16(), 400 | 401 | 403) {
            return Err(failed(&format_args!("it answers {status}")));
        }
        let Refusal { error, error_description } = serde_json::from_slice(&body).unwrap_or_default();
        let words: Vec<String> = [error, error_description].into_iter().flatten().collect();
        Err(self.refused(&if words.is_empty() { format!("it answers {status}") } else { words.join(": ") }))
    }

    /// The addresses of the issuer: those of before where it is away.
    async fn known(&self) -> Result<Arc<Discovery>, Error> {
        let now = self.0.keys.own.clock.now();
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((known, at)) = &known
            && *at <= now
            && now < at.plus(KNOWN_FOR)
        {
            return Ok(Arc::clone(known));
        }
        match self.0.issuer.discover().await {
            Ok(found) => {
                let found = Arc::new(found);
                *self.0.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(&found), now));
                Ok(found)
            }
            Err(reason) => known.map(|(known, _)| known).ok_or_else(|| self.away(&reason)),
        }
    }

    fn place(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.0.asking.try_acquire().map_err(|_| self.away(&format!("{MAX_AT_ONCE} requests wait for it already")))
    }

    fn away(&self, reason: &str) -> Error {
        Error::IssuerAway { issuer: self.issuer().to_owned(), reason: reason.to_owned() }
    }

    fn refused(&self, reason: &str) -> Error {
        let reason = reason.chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect();
        Error::IssuerRefused { issuer: self.issuer().to_owned(), reason }
    }
}

impl std::fmt::Debug for RelyingParty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RelyingParty").field(&self.issuer()).finish()
    }
}

/// As a field of a form has it.
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn check(texts: &[(&str, &str)]) -> Result<(), Error> {
    let unfit = texts.iter().find(|(_, text)| text.is_empty() || text.len() > MAX_TEXT_BYTES);
    unfit.map_or(Ok(()), |(name, _)| {
        let reason = format!("`{name}` takes 1 to {MAX_TEXT_BYTES} bytes");
        Err(Error::BadRequest { place: "body", reason })
    })
}

#[cfg(test)]
mod tests;
