//! Who asks: a bearer token (JWT, EdDSA) signed with the installation's own key, verified once and then remembered.
//!
//! The key lies in `<data>/keys/identity.pk8` (PKCS #8, readable by its owner only); processes that share the folder share
//! it. A token names a subject, its roles and its end; nothing else of it is read. The algorithm is pinned, so a token
//! that names another is refused.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use http::header::AUTHORIZATION;
use http::request::Parts;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use tessera_kernel::{Clock, Timestamp};

use crate::{Error, Problem};

/// Verified tokens remembered; the memory is emptied when it is full. Verifying one anew costs about 70 µs.
const MAX_REMEMBERED: usize = 200_000;
/// A token longer than this is not ours.
const MAX_TOKEN_BYTES: usize = 4096;
/// The longest subject, in bytes.
pub const MAX_SUBJECT_BYTES: usize = 128;

/// Who asks, as its token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account: opaque, 1 to [`MAX_SUBJECT_BYTES`] bytes.
    pub subject: Arc<str>,
    /// What it may be, such as `fan` or `organiser`.
    pub roles: Arc<[String]>,
    /// When the token ends.
    pub expires_at: Timestamp,
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

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    roles: Vec<String>,
    /// Seconds since the epoch.
    iat: i64,
    /// Seconds since the epoch.
    exp: i64,
}

/// The installation's key: signs tokens, verifies them, and signs what others verify offline. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    pair: Ed25519KeyPair,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    clock: Arc<dyn Clock>,
    remembered: Mutex<HashMap<String, Identity>>,
}

impl Keys {
    /// The key in `<data_dir>/keys`, made where there is none. Two processes that start together take the same one.
    ///
    /// # Errors
    /// [`Error::Key`] where it cannot be read or written.
    pub fn open(data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let path = data_dir.join("keys").join("identity.pk8");
        let refused = |reason: String| Error::Key { path: path.clone(), reason };
        let document = read_or_make(&path).map_err(|error| refused(error.to_string()))?;
        Self::from_pkcs8(&document, clock).map_err(refused)
    }

    /// A key that is in memory only, for tests.
    ///
    /// # Errors
    /// [`Error::Key`] where the system gives no randomness.
    pub fn ephemeral(clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let refused = |reason: String| Error::Key { path: PathBuf::from("memory"), reason };
        let document = generate().map_err(|error| refused(error.to_string()))?;
        Self::from_pkcs8(&document, clock).map_err(refused)
    }

    fn from_pkcs8(document: &[u8], clock: Arc<dyn Clock>) -> Result<Self, String> {
        let pair = Ed25519KeyPair::from_pkcs8(document).map_err(|error| format!("not an Ed25519 key: {error}"))?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        // The end is checked against our own clock.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        Ok(Self(Arc::new(Inner {
            encoding: EncodingKey::from_ed_der(document),
            decoding: DecodingKey::from_ed_der(pair.public_key().as_ref()),
            validation,
            pair,
            clock,
            remembered: Mutex::default(),
        })))
    }

    /// A token for `subject` that ends in `ttl`.
    ///
    /// # Errors
    /// [`Error::BadToken`] where the subject is empty or too long.
    pub fn sign_token(&self, subject: &str, roles: &[String], ttl: Duration) -> Result<String, Error> {
        if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES {
            return Err(Error::BadToken("its subject must be 1 to 128 bytes".into()));
        }
        let now = self.0.clock.now();
        let claims = Claims {
            sub: subject.to_owned(),
            roles: roles.to_vec(),
            iat: now.micros().div_euclid(1_000_000),
            exp: now.plus(ttl).micros().div_euclid(1_000_000),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.0.encoding)
            .map_err(|error| Error::BadToken(error.to_string()))
    }

    /// Who a token names.
    ///
    /// # Errors
    /// [`Error::BadToken`] where it is not ours, altered or over.
    pub fn verify(&self, token: &str) -> Result<Identity, Error> {
        let now = self.0.clock.now();
        let known = self.remembered().get(token).cloned();
        let identity = match known {
            Some(identity) => identity,
            None => self.verify_anew(token)?,
        };
        if identity.expires_at <= now {
            return Err(Error::BadToken(format!("it ended at {}; sign in again", identity.expires_at)));
        }
        Ok(identity)
    }

    fn verify_anew(&self, token: &str) -> Result<Identity, Error> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Error::BadToken("it is too long".into()));
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.0.decoding, &self.0.validation)
            .map_err(|error| Error::BadToken(format!("it is not one of this installation: {error}")))?
            .claims;
        if claims.sub.is_empty() || claims.sub.len() > MAX_SUBJECT_BYTES {
            return Err(Error::BadToken("its subject must be 1 to 128 bytes".into()));
        }
        let identity = Identity {
            subject: claims.sub.into(),
            roles: claims.roles.into(),
            expires_at: Timestamp::from_micros(claims.exp.saturating_mul(1_000_000)),
        };
        let mut remembered = self.remembered();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(token.to_owned(), identity.clone());
        Ok(identity)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<String, Identity>> {
        self.0.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs bytes (Ed25519): 64 bytes that anyone with [`Keys::public`] can check offline.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.pair.sign(message).as_ref());
        signature
    }

    /// Whether this installation signed these bytes.
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, self.0.pair.public_key());
        key.verify(message, signature).is_ok()
    }

    /// The public key: 32 bytes.
    pub fn public(&self) -> [u8; 32] {
        let mut public = [0; 32];
        public.copy_from_slice(self.0.pair.public_key().as_ref());
        public
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
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
        let Some(value) = parts.headers.get(AUTHORIZATION) else { return Err(Error::NotSignedIn.into()) };
        let text = value.to_str().map_err(|_| Error::BadToken("it is not text".into()))?;
        let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Error::NotSignedIn.into());
        }
        Ok(Keys::from_ref(state).verify(token.trim())?)
    }
}

#[cfg(test)]
mod tests {
    use tessera_kernel::ManualClock;

    use super::*;

    fn keys() -> (Arc<ManualClock>, Keys) {
        let clock = Arc::new(ManualClock::at("2026-03-01".parse().unwrap()));
        (clock.clone(), Keys::ephemeral(clock).unwrap())
    }

    #[test]
    fn a_token_names_its_subject_until_it_ends() {
        let (clock, keys) = keys();
        let token = keys.sign_token("ana", &["fan".to_owned()], Duration::from_secs(60)).unwrap();
        for _ in 0..2 {
            let identity = keys.verify(&token).unwrap();
            assert_eq!((&*identity.subject, identity.is("fan"), identity.is("door")), ("ana", true, false));
            identity.require(&["organiser", "fan"]).unwrap();
            assert!(identity.require(&["organiser"]).unwrap_err().to_string().contains("organiser"));
        }
        clock.advance(Duration::from_secs(60));
        assert!(keys.verify(&token).unwrap_err().to_string().contains("2026-03-01T00:01:00Z"));
    }

    #[test]
    fn foreign_altered_and_unsigned_tokens_are_refused() {
        let (_, ours) = keys();
        let (_, theirs) = keys();
        let token = theirs.sign_token("ana", &["admin".to_owned()], Duration::from_secs(60)).unwrap();
        assert!(ours.verify(&token).is_err());
        let token = ours.sign_token("ana", &["fan".to_owned()], Duration::from_secs(60)).unwrap();
        let mut parts: Vec<&str> = token.split('.').collect();
        let unsigned = format!("{}.{}.", "eyJhbGciOiJub25lIn0", parts[1]);
        assert!(ours.verify(&unsigned).is_err() && ours.verify("").is_err());
        let other = ours.sign_token("eve", &["admin".to_owned()], Duration::from_secs(60)).unwrap();
        parts[1] = other.split('.').nth(1).unwrap();
        assert!(ours.verify(&parts.join(".")).is_err());
        assert!(ours.sign_token("", &[], Duration::from_secs(60)).is_err());
    }

    #[test]
    fn the_key_is_kept_and_shared() {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at("2026-03-01".parse().unwrap()));
        let first = Keys::open(folder.path(), clock.clone()).unwrap();
        let second = Keys::open(folder.path(), clock.clone()).unwrap();
        let token = first.sign_token("ana", &[], Duration::from_secs(60)).unwrap();
        assert_eq!(&*second.verify(&token).unwrap().subject, "ana");
        assert!(second.signed(b"seat B12", &first.sign(b"seat B12")));
        assert!(!second.signed(b"seat B13", &first.sign(b"seat B12")));
        std::fs::write(folder.path().join("keys/identity.pk8"), b"not a key").unwrap();
        let error = Keys::open(folder.path(), clock).unwrap_err().to_string();
        assert!(error.contains("identity.pk8"), "{error}");
    }
}
