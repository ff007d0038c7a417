//! What people, programs and admins do.

mod clients;
mod codes;
pub mod passwords;
mod sessions;
mod sign_in;
mod users;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::{Ids, Timestamp};
use tessera_service::Keys;
use tessera_service::identity::random;

use crate::Error;
use crate::config::Config;
use crate::domain::refresh::Secret;
use crate::metrics::Metrics;
use crate::store::{Attempt, Store, User};
use passwords::Passwords;

pub use clients::{MadeClient, NewClientWish};
pub use codes::{Agreed, Redeemed, Way, Wish, Wording};
pub use users::check_roles;

/// What the use cases work with.
pub struct Parts {
    /// What is remembered.
    pub store: Store,
    /// What signs.
    pub keys: Keys,
    /// Where passwords are hashed.
    pub passwords: Passwords,
    /// The settings.
    pub config: Config,
    /// The `iss` of tokens.
    pub issuer: String,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// What is counted.
    pub metrics: Metrics,
}

/// The use cases. Cheap to clone.
#[derive(Clone)]
pub struct App {
    parts: Arc<Parts>,
    /// What refresh tokens are worked out with, and keys of throttles.
    secret: Secret,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("App")
    }
}

/// Somebody who has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// Who.
    pub user: User,
    /// For `authorization: Bearer`.
    pub access_token: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// For the next access token.
    pub refresh_token: String,
    /// How long that one lasts at the most.
    pub refresh_ttl: Duration,
}

impl App {
    /// The use cases on these parts.
    pub fn new(parts: Parts) -> Self {
        // Ed25519 signs the same the same way: processes that share the installation's key share this.
        let signature = parts.keys.sign(b"tessera accounts: refresh tokens and throttles, 1");
        let secret = Secret::new(&sha256(&signature));
        Self { parts: Arc::new(parts), secret }
    }

    /// What is remembered.
    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    /// What signs and verifies.
    pub fn keys(&self) -> &Keys {
        &self.parts.keys
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.parts.config
    }

    /// The `iss` of tokens.
    pub fn issuer(&self) -> &str {
        &self.parts.issuer
    }

    /// The throttle of whatever signs in under this name, whether there is such an account or not.
    fn account_key(&self, login: &str) -> [u8; 32] {
        self.secret.digest(&[b"account", login.as_bytes()])
    }

    /// The throttle of an address. Who has one IPv6 address has a whole /64 of them.
    fn address_key(&self, kind: &[u8], address: IpAddr) -> [u8; 32] {
        match address.to_canonical() {
            IpAddr::V4(address) => self.secret.digest(&[kind, &address.octets()]),
            IpAddr::V6(address) => self.secret.digest(&[kind, &address.octets()[..8]]),
        }
    }

    async fn attempt(&self, attempt: Attempt) -> Result<(), Error> {
        let Err(again_at) = self.store().attempt(attempt).await? else { return Ok(()) };
        let after = again_at.since(self.store().now().await?);
        let after_s = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        Err(Error::Throttled { again_at, after_s: after_s.max(1) })
    }
}

/// Bytes that nobody can guess.
fn secret_bytes() -> Result<[u8; 32], Error> {
    random::<32>().ok_or_else(|| Error::Hashing { reason: "the system gives no randomness".into() })
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    hash
}
