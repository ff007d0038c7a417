//! Hashing and comparing passwords: argon2id, on threads of its own, a few at once.

use std::sync::Arc;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tessera_service::identity::random;
use tokio::sync::Semaphore;

use crate::Error;
use crate::config::{Config, Hashing};

/// The desk where passwords are hashed. Cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    argon2: Argon2<'static>,
    /// Each takes a processor and its memory.
    at_once: Arc<Semaphore>,
    /// Those at work and those who wait.
    inside: Arc<Semaphore>,
    /// What a password is compared with where there is no account, so that this takes as long.
    nobodys: Arc<str>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passwords")
    }
}

impl Passwords {
    /// With these parameters.
    ///
    /// # Errors
    /// What of them argon2 does not take: the name of the setting, its value, and why.
    pub fn new(settings: Hashing) -> Result<Self, (&'static str, String, String)> {
        let refused = |error: argon2::Error| {
            let (key, value) = match error {
                argon2::Error::TimeTooSmall => (Config::HASHING_PASSES, settings.passes),
                argon2::Error::ThreadsTooFew | argon2::Error::ThreadsTooMany => (Config::HASHING_LANES, settings.lanes),
                _ => (Config::HASHING_MEMORY, settings.memory_kib),
            };
            (key, value.to_string(), format!("{error}; OWASP's are 19456 KiB, 2 passes, 1 lane"))
        };
        let params = Params::new(settings.memory_kib, settings.passes, settings.lanes, None).map_err(refused)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let at_once = settings.at_once.max(1);
        let memory = |error: Error| (Config::HASHING_MEMORY, settings.memory_kib.to_string(), error.to_string());
        let nobodys = hash(&argon2, b"nobody has this one").map_err(memory)?.into();
        Ok(Self {
            argon2,
            at_once: Arc::new(Semaphore::new(at_once)),
            inside: Arc::new(Semaphore::new(at_once + settings.waiting)),
            nobodys,
        })
    }

    /// The hash of a password, as a PHC string with its parameters and salt.
    ///
    /// # Errors
    /// [`Error::Busy`] where too many wait.
    pub async fn hash(&self, password: String) -> Result<String, Error> {
        self.work(move |argon2| hash(argon2, password.as_bytes())).await
    }

    /// Whether it is the password of this hash. Where there is no hash it is not, after the same time.
    ///
    /// # Errors
    /// [`Error::Busy`] where too many wait.
    pub async fn compare(&self, password: String, stored: Option<String>) -> Result<bool, Error> {
        let (is_somebodys, stored) = (stored.is_some(), stored.unwrap_or_else(|| self.nobodys.to_string()));
        let same = self.work(move |argon2| compare(argon2, password.as_bytes(), &stored)).await?;
        Ok(same && is_somebodys)
    }

    /// Whether a hash was made with other parameters than the present ones.
    pub fn is_outdated(&self, stored: &str) -> bool {
        let params = PasswordHash::new(stored).and_then(|hash| Params::try_from(&hash));
        let present = self.argon2.params();
        params.is_ok_and(|params| {
            (params.m_cost(), params.t_cost(), params.p_cost())
                != (present.m_cost(), present.t_cost(), present.p_cost())
        })
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'static>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inside = Arc::clone(&self.inside).try_acquire_owned().map_err(|_| Error::Busy)?;
        let at_work = Arc::clone(&self.at_once).acquire_owned().await.map_err(|_| Error::Busy)?;
        let argon2 = self.argon2.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&argon2);
            // Also where the caller has gone: the memory is in use until here.
            drop((inside, at_work));
            done
        });
        done.await.map_err(|error| Error::Hashing { reason: error.to_string() })?
    }
}

fn hash(argon2: &Argon2<'_>, password: &[u8]) -> Result<String, Error> {
    let failed = |reason: String| Error::Hashing { reason };
    let salt = random::<16>().ok_or_else(|| failed("the system gives no randomness".into()))?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| failed(error.to_string()))?;
    let hash = argon2.hash_password(password, &salt).map_err(|error| failed(error.to_string()))?;
    Ok(hash.to_string())
}

fn compare(argon2: &Argon2<'_>, password: &[u8], stored: &str) -> Result<bool, Error> {
    let failed = |error: argon2::password_hash::Error| Error::Hashing { reason: error.to_string() };
    let stored = PasswordHash::new(stored).map_err(failed)?;
    match argon2.verify_password(password, &stored) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::Password) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Hashing = Hashing { memory_kib: 64, passes: 1, lanes: 1, at_once: 1, waiting: 1 };

    #[tokio::test]
    async fn a_hash_is_of_its_password() {
        let passwords = Passwords::new(SMALL).unwrap();
        let hash = passwords.hash("four small green owls".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash("four small green owls".into()).await.unwrap());
        assert!(passwords.compare("four small green owls".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.compare("four small green owl".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.compare("nobody has this one".into(), None).await.unwrap());
        assert!(!passwords.is_outdated(&hash));
        let others = Passwords::new(Hashing { passes: 2, ..SMALL }).unwrap();
        assert!(others.is_outdated(&hash) && others.compare("four small green owls".into(), Some(hash)).await.unwrap());
        for (settings, key, value) in [
            (Hashing { memory_kib: 1, ..SMALL }, Config::HASHING_MEMORY, "1"),
            (Hashing { passes: 0, ..SMALL }, Config::HASHING_PASSES, "0"),
            (Hashing { lanes: 0, ..SMALL }, Config::HASHING_LANES, "0"),
        ] {
            let (refused, found, reason) = Passwords::new(settings).unwrap_err();
            assert!(
                (refused, found.as_str()) == (key, value) && reason.contains("OWASP"),
                "{refused} {found} {reason}"
            );
        }
        assert!(passwords.compare("x".into(), Some("not a hash".into())).await.is_err());
    }

    #[tokio::test]
    async fn who_would_wait_too_long_is_told_at_once() {
        let passwords = Passwords::new(SMALL).unwrap();
        let held = passwords.at_once.clone().acquire_owned().await.unwrap();
        let waits = tokio::spawn({
            let passwords = passwords.clone();
            async move { passwords.hash("first".into()).await }
        });
        let more = tokio::spawn({
            let passwords = passwords.clone();
            async move { passwords.hash("second".into()).await }
        });
        while passwords.inside.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(passwords.hash("third".into()).await, Err(Error::Busy)));
        drop(held);
        assert!(waits.await.unwrap().is_ok() && more.await.unwrap().is_ok());
    }
}
