//! Names and passwords. Passwords are stretched with PBKDF2-HMAC-SHA-256 (RFC 8018), off the workers' threads, and what
//! held once is remembered for a few minutes.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::pbkdf2::{PBKDF2_HMAC_SHA256, derive, verify};
use ring::rand::{SecureRandom, SystemRandom};

use super::{Identity, Proof, Shown, Way, credentials};
use crate::Error;
use crate::spec::User;

/// As OWASP advises for this algorithm.
const ITERATIONS: u32 = 600_000;
const MAX_ITERATIONS: u32 = 10_000_000;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// How long a password that held need not be stretched again.
const REMEMBERED: Duration = Duration::from_secs(300);
const NAME: &str = "pbkdf2-sha256";

/// All users of a way.
#[derive(Debug)]
pub(super) struct Basic {
    pub(super) realm: String,
    users: BTreeMap<String, (Arc<Stretched>, Arc<Identity>)>,
    /// Stretched for names that are not known, so that an answer's time does not tell which are.
    nobody: Arc<Stretched>,
}

/// A stretched password.
#[derive(Debug)]
struct Stretched {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Stretched {
    /// Reads `pbkdf2-sha256:ITERATIONS:SALT:HASH`.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (name, iterations) = (parts.next()?, parts.next()?.parse::<NonZeroU32>().ok()?);
        let (salt, hash) = (STANDARD.decode(parts.next()?).ok()?, STANDARD.decode(parts.next()?).ok()?);
        let good =
            name == NAME && iterations.get() <= MAX_ITERATIONS && hash.len() == HASH_BYTES && parts.next().is_none();
        good.then_some(Self { iterations, salt, hash })
    }

    fn fits(&self, password: &str) -> bool {
        verify(PBKDF2_HMAC_SHA256, self.iterations, &self.salt, password.as_bytes(), &self.hash).is_ok()
    }
}

/// A password as it stands in a config file.
///
/// # Errors
/// Where the system gives no randomness.
pub fn hash_password(password: &str) -> Result<String, Error> {
    stretch(password, NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN))
}

fn stretch(password: &str, iterations: NonZeroU32) -> Result<String, Error> {
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| Error::Internal("the system gives no randomness".into()))?;
    let mut hash = [0; HASH_BYTES];
    derive(PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut hash);
    Ok(format!("{NAME}:{iterations}:{}:{}", STANDARD.encode(salt), STANDARD.encode(hash)))
}

impl Basic {
    pub(super) fn new(realm: &str, users: &BTreeMap<String, User>) -> Result<Self, Error> {
        let mut known = BTreeMap::new();
        for (name, user) in users {
            let stretched = Stretched::read(&user.password).ok_or_else(|| Error::Config {
                place: String::new(),
                detail: format!("the password of `{name}` is not one that `tessera gateway hash-password` printed"),
            })?;
            let identity =
                Arc::new(Identity { subject: name.clone(), roles: user.roles.clone(), ..Identity::default() });
            known.insert(name.clone(), (Arc::new(stretched), identity));
        }
        let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
        let nobody = Stretched { iterations, salt: vec![0; SALT_BYTES], hash: vec![0; HASH_BYTES] };
        Ok(Self { realm: realm.to_owned(), users: known, nobody: Arc::new(nobody) })
    }

    pub(super) async fn check(&self, way: &Arc<Way>, shown: Shown<'_>) -> Result<Proof, Error> {
        let text = match credentials(shown.headers, "Basic") {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(Proof::None),
            Err(reason) => return Ok(Proof::Fails(reason)),
        };
        let now_s = shown.clock.now().micros().div_euclid(1_000_000);
        if let Some(identity) = shown.remembered.get(way, 0, text, now_s) {
            return Ok(Proof::Holds(identity));
        }
        let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((name, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
            return Ok(Proof::Fails("`authorization: Basic` is not base64 of name:password".into()));
        };
        shown.guesses.may_try()?;
        let known = self.users.get(name);
        let stretched = known.map_or(&self.nobody, |(stretched, _)| stretched).clone();
        let password = password.to_owned();
        let fits = shown.fetcher.work(move || stretched.fits(&password)).await?;
        match known.filter(|_| fits) {
            Some((_, identity)) => {
                let until_s = now_s + REMEMBERED.as_secs() as i64;
                shown.remembered.put(way, 0, text, identity.clone(), until_s, now_s);
                Ok(Proof::Holds(identity.clone()))
            }
            None => Ok(Proof::Fails("name or password is wrong".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_checked_and_nothing_else_is_one() {
        let stretch = |password: &str| stretch(password, NonZeroU32::new(1_000).unwrap()).unwrap();
        let written = stretch("open sesame");
        assert_ne!(written, stretch("open sesame"), "salted");
        let stretched = Stretched::read(&written).unwrap();
        assert!(stretched.fits("open sesame") && !stretched.fits("open"));
        for text in ["", "open sesame", "pbkdf2-sha256:0:AA==:AA==", "pbkdf2-sha256:10:AA==:AA=="] {
            assert!(Stretched::read(text).is_none(), "{text}");
        }
    }
}
