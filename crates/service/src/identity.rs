//! Who asks: a bearer token (JWT), verified once and then remembered.
//!
//! Three sorts of keys are believed. The installation's own, in `<data>/keys/identity.pk8` (PKCS #8, readable by its owner only),
//! stays for good: it signs the tokens of `tessera token` and what others verify offline. Those of the ring (`ring_file.rs`),
//! beside it, sign the tokens of accounts and are replaced from time to time; one of them may be RSA (`rsa_key.rs`). Those of another issuer (`issuer.rs`) are
//! fetched, where the settings name one; people may sign in there for our pages (`relying.rs`). Processes that share the folder share the first two.
//!
//! A key is asked for by the token's `kid` and tells the algorithm; what the token says of it must agree. Of a
//! token nothing else is read than subject, roles, end, beginning, issuer and audience.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::request::Parts;
use jsonwebtoken::{EncodingKey, Header};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tessera_kernel::{Clock, Timestamp};

use crate::config::{Secret, Section};
use crate::{Error, Problem};

mod issuer;
mod relying;
mod ring_file;
mod rsa_key;
mod token;

pub use issuer::Issuer;
pub use relying::{Begun, RelyingParty, Returned, SignedIn};
pub use ring_file::{Adopted, KeyInfo, KeyState};
use ring_file::{KeyRing, LOOK_AGAIN_EVERY, LOOK_EVERY};
pub use rsa_key::RsaKey;
use token::{Expected, Names, PublicKey, Unverified};

/// Verified tokens remembered; the memory is emptied when it is full. Verifying one anew costs about 70 µs.
const MAX_REMEMBERED: usize = 200_000;
/// How long a verified token is believed without another look at its key, which another issuer may have taken back.
const REMEMBERED_FOR: Duration = Duration::from_secs(15 * 60);
/// The longest subject, in bytes.
pub const MAX_SUBJECT_BYTES: usize = 128;
/// The audience of the installation's own tokens.
pub const AUDIENCE: &str = "tessera";
/// What the subjects of accounts begin with: users and programs.
pub const ACCOUNT_SUBJECTS: [&str; 2] = ["user_", "client_"];
/// Every role there is.
pub const ROLES: [&str; 8] = ["fan", "organiser", "door", "rider", "driver", "operator", "edge", "admin"];

/// `[identity]`: whose tokens are believed besides the installation's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// An OpenID Connect issuer, such as `https://login.example.com/realms/city`; its discovery document is fetched from below it.
    pub issuer: Option<String>,
    /// Where its keys are, where it has no discovery document.
    pub jwks_url: Option<String>,
    /// What its tokens must name as `aud`.
    pub audience: String,
    /// Which of its claims has the roles, such as `realm_access.roles`: a list, or words with spaces between.
    pub roles_claim: String,
    /// What our pages are called there: people sign in at the issuer, and come back to `/console/`.
    pub client_id: Option<String>,
    /// What proves it, where the issuer has given one.
    pub client_secret: Option<Secret>,
    /// What our pages ask for.
    pub scope: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            issuer: None,
            jwks_url: None,
            audience: AUDIENCE.into(),
            roles_claim: "roles".into(),
            client_id: None,
            client_secret: None,
            scope: "openid profile offline_access".into(),
        }
    }
}

impl Section for Config {
    const NAME: &'static str = "identity";
}

impl Config {
    /// The name of `issuer` in messages.
    pub const ISSUER: &'static str = "identity.issuer";
    /// The name of `client_id` in messages.
    pub const CLIENT_ID: &'static str = "identity.client_id";
    /// The name of `scope` in messages.
    pub const SCOPE: &'static str = "identity.scope";
}

/// Who asks, as its token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account: opaque, 1 to [`MAX_SUBJECT_BYTES`] bytes. Where this installation has accounts, no other issuer names one of them.
    pub subject: Arc<str>,
    /// What it may be, such as `fan` or `organiser`.
    pub roles: Arc<[String]>,
    /// Whose word that is.
    pub origin: Origin,
    /// When the token ends.
    pub expires_at: Timestamp,
}

/// Which of the keys that are believed has signed a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The installation's own: it is of `tessera token`, so of whoever operates the server.
    Own,
    /// One of the ring: accounts gave it, and know its subject.
    Ring,
    /// One of another issuer.
    Issuer,
}

impl Identity {
    /// Whether it has this role; `admin` has every one.
    pub fn is(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role || held == "admin")
    }

    /// Refuses who has none of these roles.
    ///
    /// # Errors
    /// [`Error::WrongRole`], which names them.
    pub fn require(&self, roles: &'static [&'static str]) -> Result<(), Error> {
        if roles.iter().any(|role| self.is(role)) { Ok(()) } else { Err(Error::WrongRole { needed: roles }) }
    }
}

/// What a token of the ring says.
#[derive(Clone, Debug)]
pub struct Grant<'a> {
    /// Who.
    pub subject: &'a str,
    /// What it may be.
    pub roles: &'a [String],
    /// For whom it is: [`AUDIENCE`] for one that is sent to our products.
    pub audience: &'a str,
    /// How long it lasts.
    pub ttl: Duration,
    /// What else it says.
    pub claims: Map<String, Value>,
}

/// Signs tokens, verifies them, and signs what others verify offline. Cheap to clone.
#[derive(Clone)]
pub struct Keys {
    own: Arc<Own>,
    issuer: Option<Arc<Issuer>>,
    remembered: Arc<Mutex<HashMap<TokenHash, Remembered>>>,
}

/// SHA-256 of a token: who reads our memory finds none that could be sent.
type TokenHash = [u8; 32];

struct Own {
    pair: Ed25519KeyPair,
    encoding: EncodingKey,
    public: PublicKey,
    ring: KeyRing,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
struct Remembered {
    identity: Identity,
    /// The key of the ring that has signed it: it is asked each time whether that still holds.
    kid: Option<Arc<str>>,
    until: Timestamp,
}

impl Keys {
    /// The keys in `<data_dir>/keys`, the installation's made where there is none. Two processes that start together take the same one.
    ///
    /// # Errors
    /// [`Error::Key`] where they cannot be read or written.
    pub fn open(data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let folder = data_dir.join("keys");
        let path = folder.join("identity.pk8");
        let refused = |reason: String| Error::Key { path: path.clone(), reason };
        let document = read_or_make(&path).map_err(|error| refused(error.to_string()))?;
        Self::from_pkcs8(&document, KeyRing::in_folder(&folder)?, clock).map_err(refused)
    }

    /// Keys that are in memory only, for tests.
    ///
    /// # Errors
    /// [`Error::Key`] where the system gives no randomness.
    pub fn ephemeral(clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let refused = |reason: String| Error::Key { path: PathBuf::from("memory"), reason };
        let document = generate().map_err(|error| refused(error.to_string()))?;
        Self::from_pkcs8(&document, KeyRing::in_memory(), clock).map_err(refused)
    }

    fn from_pkcs8(document: &[u8], ring: KeyRing, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let pair = Ed25519KeyPair::from_pkcs8(document).map_err(|error| format!("not an Ed25519 key: {error}"))?;
        let (encoding, public) =
            (EncodingKey::from_ed_der(document), PublicKey::of_ed25519(pair.public_key().as_ref()));
        let own = Arc::new(Own { pair, encoding, public, ring, clock });
        Ok(Self { own, issuer: None, remembered: Arc::default() })
    }

    /// The same, which believe the tokens of another issuer too.
    #[must_use]
    pub fn trusting(self, issuer: Issuer) -> Self {
        Self { issuer: Some(Arc::new(issuer)), ..self }
    }

    /// A token for `subject` that ends in `ttl`, signed with the installation's key: it is valid until then, whatever happens to the ring.
    ///
    /// # Errors
    /// [`Error::BadToken`] where the subject is empty or too long.
    pub fn sign_token(&self, subject: &str, roles: &[String], ttl: Duration) -> Result<String, Error> {
        let grant = Grant { subject, roles, audience: AUDIENCE, ttl, claims: Map::new() };
        let name = self.own.ring.names().first().cloned();
        sign(&self.own.encoding, &self.own.public, &grant, name, self.own.clock.now())
    }

    /// A token signed with the present key of the ring, and when it ends.
    ///
    /// # Errors
    /// [`Error::BadToken`] where the subject is empty or too long, [`Error::Key`] where the ring is empty.
    pub fn issue(&self, grant: &Grant<'_>) -> Result<(String, Timestamp), Error> {
        let now = self.own.clock.now();
        let (public, encoding, name) = self.own.ring.signing(now)?;
        let token = sign(&encoding, &public, grant, name, now)?;
        let expires_at = now.plus(grant.ttl).micros().div_euclid(1_000_000) * 1_000_000;
        Ok((token, Timestamp::from_micros(expires_at)))
    }

    /// Who a token names, as far as that can be told at once: not where its key must be fetched first. Now and then it reads a small file.
    ///
    /// # Errors
    /// [`Error::BadToken`] where it is not ours, altered or over.
    pub fn verify(&self, token: &str) -> Result<Identity, Error> {
        let hash = hash(token);
        self.own.ring.look(self.own.clock.now(), LOOK_EVERY);
        if let Some(identity) = self.recall(&hash)? {
            return Ok(identity);
        }
        let unverified = Unverified::read(token)?;
        let identity = match self.try_own(token, &unverified) {
            // Another process may have made the key, or named the issuer, a moment ago.
            Err(_) if self.own.ring.look(self.own.clock.now(), LOOK_AGAIN_EVERY) => self.try_own(token, &unverified)?,
            tried => tried?,
        };
        self.remember(hash, &identity, unverified);
        Ok(identity)
    }

    /// Who a token names. The keys of another issuer are fetched where they are not known; files are read by threads that may wait.
    ///
    /// # Errors
    /// [`Error::BadToken`] where it is nobody's whom we believe, altered or over; [`Error::IssuerAway`] where its issuer has to be asked
    /// and does not answer.
    pub async fn authenticate(&self, token: &str) -> Result<Identity, Error> {
        let hash = hash(token);
        self.look(LOOK_EVERY).await;
        if let Some(identity) = self.recall(&hash)? {
            return Ok(identity);
        }
        let unverified = Unverified::read(token)?;
        let identity = match self.issuer_of(&unverified) {
            Some(issuer) => self.not_ours(issuer, issuer.verify(token, &unverified).await?)?,
            None => match self.try_own(token, &unverified) {
                Err(_) if self.look(LOOK_AGAIN_EVERY).await => self.try_own(token, &unverified)?,
                tried => tried?,
            },
        };
        self.remember(hash, &identity, unverified);
        Ok(identity)
    }

    /// Reads the ring's file where that was not done of late. Tells whether it has changed.
    async fn look(&self, pause: Duration) -> bool {
        let now = self.own.clock.now();
        if !self.own.ring.is_due(now, pause) {
            return false;
        }
        let own = Arc::clone(&self.own);
        tokio::task::spawn_blocking(move || own.ring.look(now, pause)).await.unwrap_or(false)
    }

    /// The other issuer, where it has to be asked: it may be ourselves under an address.
    fn issuer_of(&self, unverified: &Unverified) -> Option<&Arc<Issuer>> {
        let named = |issuer: &&Arc<Issuer>| unverified.issuer.as_deref() == Some(issuer.name());
        let is_known = |kid: &str| self.own.ring.has(kid, self.own.clock.now());
        self.issuer.as_ref().filter(named).filter(|_| !unverified.kid.as_deref().is_some_and(is_known))
    }

    /// Another issuer does not speak for accounts that are here.
    fn not_ours(&self, issuer: &Issuer, identity: Identity) -> Result<Identity, Error> {
        let names = self.own.ring.names();
        let is_stranger = !names.is_empty() && !names.iter().any(|name| name == issuer.name());
        if is_stranger && ACCOUNT_SUBJECTS.iter().any(|ours| identity.subject.starts_with(ours)) {
            let reason = "its subject is that of an account of this server, which another issuer cannot name; have it begin otherwise";
            return Err(Error::BadToken(reason.into()));
        }
        Ok(identity)
    }

    fn recall(&self, hash: &TokenHash) -> Result<Option<Identity>, Error> {
        let now = self.own.clock.now();
        let known = self.remembered().get(hash).cloned();
        let Some(Remembered { identity, kid, until }) = known else { return Ok(None) };
        if identity.expires_at <= now {
            return Err(token::over(identity.expires_at));
        }
        let holds = now < until && kid.is_none_or(|kid| self.own.ring.has(&kid, now));
        Ok(holds.then_some(identity))
    }

    fn try_own(&self, token: &str, unverified: &Unverified) -> Result<Identity, Error> {
        let (now, names) = (self.own.clock.now(), self.own.ring.names());
        let roles_claim = "roles";
        // Tokens that the installation's key signed before there were a ring and names have none of these.
        let lasting = unverified.kid.as_deref().is_none_or(|kid| kid == self.own.public.kid);
        if lasting {
            let expected =
                Expected { names: Names::IfAny(&names), audience: AUDIENCE, roles_claim, origin: Origin::Own, now };
            return self.own.public.verify(token, &expected);
        }
        let kid = unverified.kid.as_deref().unwrap_or_default();
        let key = self.own.ring.public(kid, now).ok_or_else(token::unknown_key)?;
        let expected =
            Expected { names: Names::OneOf(&names), audience: AUDIENCE, roles_claim, origin: Origin::Ring, now };
        key.verify(token, &expected)
    }

    fn remember(&self, hash: TokenHash, identity: &Identity, unverified: Unverified) {
        let kid = unverified.kid.filter(|_| identity.origin == Origin::Ring).map(Arc::from);
        let until = self.own.clock.now().plus(REMEMBERED_FOR);
        let mut remembered = self.remembered();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(hash, Remembered { identity: identity.clone(), kid, until });
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<TokenHash, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The public keys that verify our tokens, as a JWK set (RFC 7517). Now and then it reads a small file.
    pub fn jwks(&self) -> Value {
        self.own.ring.look(self.own.clock.now(), LOOK_EVERY);
        let own = jwk(&self.own.public.kid, &self.public());
        let mut keys = self.own.ring.all(self.own.clock.now());
        keys.retain(|key| key["kid"] != own["kid"]);
        keys.insert(0, own);
        json!({ "keys": keys })
    }

    /// How the keys of the ring sign.
    pub fn algorithms(&self) -> Vec<&'static str> {
        let mut algorithms: Vec<_> = self.ring().into_iter().map(|key| key.algorithm).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        algorithms
    }

    /// From now on tokens are issued under this name, the address of the issuer. Tokens under its earlier names stay valid.
    ///
    /// # Errors
    /// [`Error::Key`] where the ring cannot be written.
    pub fn name_issuer(&self, name: &str) -> Result<(), Error> {
        self.own.ring.name(name, self.own.clock.now())
    }

    /// Makes the next key of the ring where it is due: there is none, or the newest is that old. Gives it if one was made.
    ///
    /// # Errors
    /// [`Error::Key`] where the ring cannot be written.
    pub fn rotate_if_due(&self, every: Duration, rotation: Rotation) -> Result<Option<KeyInfo>, Error> {
        self.own.ring.rotate(Some(every), rotation, self.own.clock.now())
    }

    /// Makes the next key of the ring.
    ///
    /// # Errors
    /// [`Error::Key`] where the ring cannot be written.
    pub fn rotate(&self, rotation: Rotation) -> Result<Option<KeyInfo>, Error> {
        self.own.ring.rotate(None, rotation, self.own.clock.now())
    }

    /// Has a key that was brought follow those of the ring, where it is not the newest of them.
    ///
    /// # Errors
    /// [`Error::Key`] where the ring cannot be written.
    pub fn adopt(&self, key: &RsaKey, rotation: Rotation) -> Result<Adopted, Error> {
        self.own.ring.adopt(key, rotation, self.own.clock.now())
    }

    /// Takes a key of the ring back: its tokens are refused from now on. Where it was the one that signs, a new one is made. Tells
    /// whether there was such a key.
    ///
    /// # Errors
    /// [`Error::Key`] where the ring cannot be written.
    pub fn revoke(&self, kid: &str) -> Result<bool, Error> {
        self.own.ring.revoke(kid, self.own.clock.now())
    }

    /// The keys of the ring, the newest first.
    pub fn ring(&self) -> Vec<KeyInfo> {
        self.own.ring.look(self.own.clock.now(), LOOK_AGAIN_EVERY);
        self.own.ring.list(self.own.clock.now())
    }

    /// Signs bytes (Ed25519): 64 bytes that anyone with [`Keys::public`] can check offline.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.own.pair.sign(message).as_ref());
        signature
    }

    /// Whether this installation signed these bytes.
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, self.own.pair.public_key());
        key.verify(message, signature).is_ok()
    }

    /// The installation's public key: 32 bytes.
    pub fn public(&self) -> [u8; 32] {
        let mut public = [0; 32];
        public.copy_from_slice(self.own.pair.public_key().as_ref());
        public
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

/// How one key follows another.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// How long the new key is published before it signs, so that whoever keeps the set in a cache has it by then.
    pub lead: Duration,
    /// The longest life of a token: the old key is kept for so long after its last one.
    pub longest_token: Duration,
}

fn hash(token: &str) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

fn sign(
    key: &EncodingKey,
    public: &PublicKey,
    grant: &Grant<'_>,
    issuer: Option<String>,
    now: Timestamp,
) -> Result<String, Error> {
    if grant.subject.is_empty() || grant.subject.len() > MAX_SUBJECT_BYTES {
        return Err(Error::BadToken("its subject must be 1 to 128 bytes".into()));
    }
    let seconds = |at: Timestamp| at.micros().div_euclid(1_000_000);
    let mut claims = json!({
        "sub": grant.subject,
        "roles": grant.roles,
        "aud": grant.audience,
        "iat": seconds(now),
        "exp": seconds(now.plus(grant.ttl)),
        "jti": random::<16>().map(|id| URL_SAFE_NO_PAD.encode(id)),
    });
    if let (Value::Object(claims), Some(issuer)) = (&mut claims, issuer) {
        claims.insert("iss".into(), issuer.into());
    }
    if let Value::Object(claims) = &mut claims {
        claims.extend(grant.claims.clone());
    }
    let header = Header { kid: Some(public.kid.clone()), ..Header::new(public.algorithm) };
    jsonwebtoken::encode(&header, &claims, key).map_err(|error| Error::BadToken(error.to_string()))
}

/// Bytes that nobody can guess; none where the system gives no randomness.
pub fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
}

/// A public Ed25519 key as a JWK (RFC 8037).
fn jwk(kid: &str, public: &[u8]) -> Value {
    let x = URL_SAFE_NO_PAD.encode(public);
    json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x })
}

fn generate() -> io::Result<Vec<u8>> {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
    document.map(|document| document.as_ref().to_vec()).map_err(|_| io::Error::other("no randomness"))
}

/// Written beside and linked into place, so that it is whole when it is seen, and the first of two wins.
fn read_or_make(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut made = tempfile::NamedTempFile::new_in(folder)?;
    made.write_all(&generate()?)?;
    made.as_file().sync_all()?;
    match made.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.error),
    }
    std::fs::read(path)
}

impl<S: Send + Sync> FromRequestParts<S> for Identity
where
    Keys: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // The gateway of this process has looked already; nobody else can put one here.
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        let Some(value) = parts.headers.get(AUTHORIZATION) else { return Err(Error::NotSignedIn.into()) };
        let text = value.to_str().map_err(|_| Error::BadToken("it is not text".into()))?;
        let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Error::NotSignedIn.into());
        }
        let keys = Keys::from_ref(state);
        Ok(keys.authenticate(token.trim()).await?)
    }
}

#[cfg(test)]
mod tests;
