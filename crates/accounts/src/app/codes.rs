//! The authorization code flow with PKCE (RFC 6749 4.1, RFC 7636, RFC 9700): somebody signs in for a program without showing it the password.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use tessera_kernel::Timestamp;
use tessera_service::Identity;
use tessera_service::identity::Grant;
use url::Url;

use super::{App, SignedIn, secret_bytes, sha256};
use crate::Error;
use crate::store::{Client, Code, Ending, Redemption};

/// How long a code may lie before it is redeemed.
const CODE_TTL: Duration = Duration::from_secs(60);
/// The longest `state`, `nonce` or `scope`, in bytes.
const MAX_TEXT_BYTES: usize = 1_024;
/// The length of a SHA-256 in base64url.
const CHALLENGE_CHARS: usize = 43;

/// What a program asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Which program.
    pub client_id: String,
    /// Where the answer goes.
    pub redirect_uri: String,
    /// `code`.
    pub response_type: String,
    /// SHA-256 of the verifier, base64url.
    pub code_challenge: String,
    /// `S256`.
    pub code_challenge_method: String,
    /// Words with spaces between.
    pub scope: String,
    /// Comes back as it is.
    pub state: Option<String>,
    /// Comes back in the id token.
    pub nonce: Option<String>,
}

impl Wish {
    /// What a program that is known may ask for.
    fn check(&self) -> Result<(), Error> {
        if self.response_type.is_empty() {
            return Err(bad("invalid_request", "`response_type` is missing; it must be `code`"));
        }
        if self.response_type != "code" {
            return Err(bad("unsupported_response_type", "`response_type` must be `code`"));
        }
        if self.code_challenge_method != "S256" || self.code_challenge.len() != CHALLENGE_CHARS {
            let reason =
                "send `code_challenge`, the SHA-256 of the verifier as base64url, and `code_challenge_method=S256`";
            return Err(bad("invalid_request", reason));
        }
        let texts = [Some(&self.scope), self.state.as_ref(), self.nonce.as_ref()];
        if texts.into_iter().flatten().any(|text| text.len() > MAX_TEXT_BYTES) {
            return Err(bad("invalid_request", "`scope`, `state` and `nonce` take up to 1024 bytes"));
        }
        Ok(())
    }
}

fn bad(error: &'static str, reason: &str) -> Error {
    Error::BadGrant { error, reason: reason.to_owned() }
}

/// Why nobody is signed in without being asked. The cookie of whoever has signed in stays with our own pages, and each agrees by hand.
fn unasked(prompt: &str) -> Option<Error> {
    let mut words = prompt.split(' ').filter(|word| !word.is_empty());
    let is_asked_for = words.clone().any(|word| word == "none");
    is_asked_for.then(|| match words.nth(1) {
        Some(_) => bad("invalid_request", "`prompt=none` goes with no other word"),
        None => bad("login_required", "people sign in and agree on a page here; send them without `prompt=none`"),
    })
}

/// What somebody has agreed to.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// Where the browser goes, with the code.
    pub redirect_to: String,
}

/// What a code gives.
#[derive(Clone, Debug)]
pub struct Redeemed {
    /// The tokens.
    pub signed_in: SignedIn,
    /// Who has signed in, for the program itself, where the scope has `openid`.
    pub id_token: Option<String>,
    /// What was asked for.
    pub scope: String,
}

impl App {
    /// The program that asks, where it may be answered at all: if it and its address are known.
    ///
    /// # Errors
    /// [`Error::BadClient`], [`Error::BadGrant`]: what is wrong is shown to the person, and sent nowhere.
    pub async fn asking_client(&self, wish: &Wish) -> Result<Client, Error> {
        let client = self.answered_client(wish).await?;
        wish.check()?;
        Ok(client)
    }

    /// The program that asks, which is told at its address whatever else is wrong.
    async fn answered_client(&self, wish: &Wish) -> Result<Client, Error> {
        let client = self.present_client(&wish.client_id).await?;
        if !client.redirect_uris.contains(&wish.redirect_uri) {
            return Err(bad("invalid_request", "`redirect_uri` is none of this program's, letter for letter"));
        }
        Ok(client)
    }

    /// Where the browser goes back to at once, with why nobody is asked (OpenID Connect Core 3.1.2.6); none where the page asks. `broken` is
    /// what is wrong with the form of the request, `prompt` as it came.
    ///
    /// # Errors
    /// As [`App::asking_client`], where the browser may not go back: the page says so.
    pub async fn refused_at_once(
        &self,
        wish: &Wish,
        broken: Option<Error>,
        prompt: Option<&str>,
    ) -> Result<Option<String>, Error> {
        self.answered_client(wish).await?;
        let refusal = broken.or_else(|| wish.check().err()).or_else(|| unasked(prompt?));
        let Some(Error::BadGrant { error, reason }) = refusal else { return Ok(None) };
        let mut to = self.way_back(wish)?;
        to.query_pairs_mut().append_pair("error", error).append_pair("error_description", &reason);
        Ok(Some(to.into()))
    }

    /// The address of the program, with what each answer says.
    fn way_back(&self, wish: &Wish) -> Result<Url, Error> {
        let mut to = Url::parse(&wish.redirect_uri)
            .map_err(|error| Error::BadRequest { reason: format!("`redirect_uri`: {error}") })?;
        to.query_pairs_mut().append_pair("iss", self.issuer());
        if let Some(state) = wish.state.as_ref().filter(|state| state.len() <= MAX_TEXT_BYTES) {
            to.query_pairs_mut().append_pair("state", state);
        }
        Ok(to)
    }

    /// Somebody agrees, in the browser that has this refresh token in its cookie: a code for the program. An access token alone agrees to
    /// nothing: it lasts minutes, and what a code gives lasts a month.
    ///
    /// # Errors
    /// As [`App::asking_client`]; [`Error::NotFound`] where the access token is not of an account; [`Error::SessionOver`] where the other one
    /// is not of an open session of the same account on our own pages.
    pub async fn agree(&self, identity: &Identity, cookie: &str, wish: Wish) -> Result<Agreed, Error> {
        let client = self.asking_client(&wish).await?;
        let user = self.user_of(identity).await?;
        let (presented, _) = self.presented(cookie).await?;
        let text = URL_SAFE_NO_PAD.encode(secret_bytes()?);
        let mut redirect_to = self.way_back(&wish)?;
        redirect_to.query_pairs_mut().append_pair("code", &text);
        let code = Code {
            user: user.id,
            client: client.id,
            session: presented.session,
            gave: None,
            redirect_uri: wish.redirect_uri,
            challenge: wish.code_challenge,
            nonce: wish.nonce,
            scope: wish.scope,
            expires_at: self.store().now().await?.plus(CODE_TTL),
        };
        if !self.store().add_code(sha256(text.as_bytes()), code, presented.generation).await? {
            return Err(Error::SessionOver);
        }
        Ok(Agreed { redirect_to: redirect_to.into() })
    }

    /// Takes a code, once. One that comes a second time was copied: what it gave is ended.
    ///
    /// # Errors
    /// [`Error::BadClient`]; [`Error::BadGrant`] where anything does not fit what was agreed to.
    pub async fn redeem(
        &self,
        client: &Client,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
    ) -> Result<Redeemed, Error> {
        let refused = || Error::BadGrant {
            error: "invalid_grant",
            reason: "the code is over, was redeemed, or is for another program, address or verifier; begin again"
                .into(),
        };
        let hash = sha256(code.as_bytes());
        let code = self.store().code(hash).await?.ok_or_else(refused)?;
        if let Some(gave) = code.gave.filter(|_| code.client == client.id) {
            tracing::warn!(session.id = %gave, client.id = %client.id, "a code came a second time, the session that it gave is ended");
            self.store().end(Ending::One(gave)).await?;
            return Err(refused());
        }
        let challenge = URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes()));
        let fits = code.client == client.id && code.redirect_uri == redirect_uri && code.challenge == challenge;
        let session = self.new_session(code.user, Some(client.id), None)?;
        let redemption = Redemption { hash, code: code.clone(), session: fits.then(|| session.clone()) };
        let (user, auth_time) = self.store().redeem(redemption).await?.ok_or_else(refused)?;
        let signed_in = self.signed_in(user, session.id, &session.seed, 0)?;
        let id_token = match code.scope.split(' ').any(|word| word == "openid") {
            true => Some(self.id_token(&signed_in, client, auth_time, code.nonce.as_deref())?),
            false => None,
        };
        Ok(Redeemed { signed_in, id_token, scope: code.scope })
    }

    /// Is for the program itself: its audience makes it useless as an access token.
    fn id_token(
        &self,
        signed_in: &SignedIn,
        client: &Client,
        auth_time: Timestamp,
        nonce: Option<&str>,
    ) -> Result<String, Error> {
        let user = &signed_in.user;
        let mut claims = Map::new();
        claims.insert("name".into(), user.name.clone().into());
        claims.insert("preferred_username".into(), user.login.clone().into());
        claims.insert("auth_time".into(), auth_time.micros().div_euclid(1_000_000).into());
        claims.extend(nonce.map(|nonce| ("nonce".to_owned(), Value::from(nonce))));
        let (subject, audience) = (user.id.to_string(), client.id.to_string());
        let ttl = Duration::from_secs(self.config().access_token_ttl_s.into());
        let grant = Grant { subject: &subject, roles: &user.roles, audience: &audience, ttl, claims };
        Ok(self.keys().issue(&grant)?.0)
    }
}
