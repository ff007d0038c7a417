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
use crate::store::{Client, Code, Ending, Redemption, Seed};

/// How long a code may lie before it is redeemed.
const CODE_TTL: Duration = Duration::from_secs(60);
/// The longest `state`, `nonce` or `scope`, in bytes.
const MAX_TEXT_BYTES: usize = 1_024;
/// The longest `max_age`, in digits: 317 years.
const MAX_AGE_DIGITS: usize = 10;
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
    /// Since when the person must have signed in, as [`App::way`] says it to the page. Whoever changes it there could as well change what the
    /// program has asked for: the program looks at `auth_time`.
    pub signed_in_since: Option<Timestamp>,
}

/// What a program may ask for besides, as it came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wording<'a> {
    /// Whether the person is asked, and for what (OpenID Connect Core 3.1.2.1).
    pub prompt: Option<&'a str>,
    /// How many seconds ago the person may have signed in (the same).
    pub max_age: Option<&'a str>,
    /// The request as a token, which is not taken (the same, 6.1).
    pub request: Option<&'a str>,
    /// Where that would be (the same, 6.2).
    pub request_uri: Option<&'a str>,
}

/// Where a browser goes that a program has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Back at once, with why nobody is asked (OpenID Connect Core 3.1.2.6).
    Back(String),
    /// To the page that asks. Who signed in before the moment does so again.
    Page(Option<Timestamp>),
}

impl Wish {
    /// What a program that is known may ask for.
    fn check(&self) -> Result<(), Error> {
        if self.response_type.is_empty() {
            return Err(Error::grant("invalid_request", "`response_type` is missing; it must be `code`"));
        }
        if self.response_type != "code" {
            return Err(Error::grant("unsupported_response_type", "`response_type` must be `code`"));
        }
        if self.code_challenge_method != "S256" || self.code_challenge.len() != CHALLENGE_CHARS {
            let reason =
                "send `code_challenge`, the SHA-256 of the verifier as base64url, and `code_challenge_method=S256`";
            return Err(Error::grant("invalid_request", reason));
        }
        let texts = [Some(&self.scope), self.state.as_ref(), self.nonce.as_ref()];
        if texts.into_iter().flatten().any(|text| text.len() > MAX_TEXT_BYTES) {
            return Err(Error::grant("invalid_request", "`scope`, `state` and `nonce` take up to 1024 bytes"));
        }
        Ok(())
    }
}

impl Wording<'_> {
    /// How long ago the person may have signed in; none where that does not count. Everybody is asked on the page, and may be somebody else
    /// there: that is `consent` and `select_account`.
    fn age(self) -> Result<Option<Duration>, Error> {
        let Self { prompt, max_age, request, request_uri } = self;
        let said = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
        if said(request) {
            return Err(Error::grant("request_not_supported", "send what `request` has as parameters of their own"));
        }
        if said(request_uri) {
            return Err(Error::grant(
                "request_uri_not_supported",
                "send what `request_uri` has as parameters of their own",
            ));
        }
        let words: Vec<&str> = prompt.unwrap_or_default().split(' ').filter(|word| !word.is_empty()).collect();
        if words.contains(&"none") {
            // The cookie of whoever has signed in stays with our own pages, and each agrees by hand.
            return Err(match words.len() {
                1 => Error::grant(
                    "login_required",
                    "people sign in and agree on a page here; send them without `prompt=none`",
                ),
                _ => Error::grant("invalid_request", "`prompt=none` goes with no other word"),
            });
        }
        let max_age = match max_age.filter(|text| !text.is_empty()) {
            Some(text) if text.len() <= MAX_AGE_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().map(Duration::from_secs)
            }
            Some(_) => return Err(Error::grant("invalid_request", "`max_age` is a number of seconds, such as 3600")),
            None => None,
        };
        Ok(if words.contains(&"login") { Some(Duration::ZERO) } else { max_age })
    }
}

/// A session begins with a password.
fn is_recent(session: &Seed, since: Option<Timestamp>) -> bool {
    since.is_none_or(|since| session.created_at >= since)
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
            return Err(Error::grant("invalid_request", "`redirect_uri` is none of this program's, letter for letter"));
        }
        Ok(client)
    }

    /// Where the browser goes: back, or to the page that asks. `form` is what is wrong with the form of the request.
    ///
    /// # Errors
    /// As [`App::asking_client`], where the browser may not go back: the page says so.
    pub async fn way(&self, wish: &Wish, form: Result<(), Error>, wording: Wording<'_>) -> Result<Way, Error> {
        self.answered_client(wish).await?;
        match form.and_then(|()| wish.check()).and_then(|()| wording.age()) {
            Ok(None) => Ok(Way::Page(None)),
            Ok(Some(age)) => Ok(Way::Page(Some(self.store().now().await?.minus(age)))),
            Err(Error::BadGrant { error, reason }) => {
                let mut to = self.way_back(wish)?;
                to.query_pairs_mut().append_pair("error", error).append_pair("error_description", &reason);
                Ok(Way::Back(to.into()))
            }
            Err(error) => Err(error),
        }
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
    /// is not of an open session of the same account on our own pages, and [`Error::SignInAgain`] where that began too early.
    pub async fn agree(&self, identity: &Identity, cookie: &str, wish: Wish) -> Result<Agreed, Error> {
        let client = self.asking_client(&wish).await?;
        let user = self.user_of(identity).await?;
        let (presented, seed) = self.presented(cookie).await?;
        if !is_recent(&seed, wish.signed_in_since) {
            return Err(Error::SignInAgain);
        }
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

    /// Whether whoever has this refresh token in the cookie signs in anew before they agree to what wants a sign-in since then.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn signs_in_again(&self, cookie: Option<&str>, since: Option<Timestamp>) -> Result<bool, Error> {
        let Some(cookie) = cookie else { return Ok(true) };
        match self.presented(cookie).await {
            Ok((_, seed)) => Ok(!is_recent(&seed, since)),
            Err(Error::SessionOver) => Ok(true),
            Err(error) => Err(error),
        }
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
        let refused = || {
            let reason = "the code is over, was redeemed, or is for another program, address or verifier; begin again";
            Error::grant("invalid_grant", reason)
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
