//! `[accounts]`: the settings.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tessera_service::config::Section;
use tessera_service::identity::Rotation;

use crate::domain::session::Rules;
use crate::domain::throttle::Rate;

/// How long a rotated key is published before it signs: as long as the key set may lie in a cache.
pub const KEY_LEAD: Duration = Duration::from_secs(300);

/// `[accounts]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether there are accounts here at all; not where another issuer takes their place.
    pub enabled: bool,
    /// Where accounts are kept: `sqlite:…` or `postgres://…`; `<data>/accounts.db` where not set.
    pub store: Option<String>,
    /// The address under which others reach this server, such as `https://tickets.example.com`: the `iss` of tokens. The address that is
    /// listened on where not set.
    pub issuer: Option<String>,
    /// Whether people may sign up on their own.
    pub sign_up: bool,
    /// The roles of those who do.
    pub sign_up_roles: Vec<String>,
    /// The fewest characters of a password; 8 at the least.
    pub password_min_chars: usize,
    /// How long an access token lasts. It cannot be taken back.
    pub access_token_ttl_s: u32,
    /// How long a token of a program lasts.
    pub client_token_ttl_s: u32,
    /// How long a session lasts, however it is used.
    pub session_ttl_s: u32,
    /// How long a session may lie idle.
    pub session_idle_s: u32,
    /// For how long after its use a refresh token may come again.
    pub refresh_grace_s: u32,
    /// How often the key that signs is replaced.
    pub rotate_keys_every_s: u32,
    /// A file with an RSA private key (PEM, 2048 to 4096 bits) that signs access tokens with RS256. Without one, keys of our own do with
    /// EdDSA. Another key in the file follows it.
    pub rs256_key: Option<PathBuf>,
    /// Wrong passwords for one account.
    pub account_rate: Rate,
    /// Sign-ins from one address (IPv6: one /64).
    pub address_rate: Rate,
    /// Sign-ups from one address.
    pub sign_up_rate: Rate,
    /// Proxies whose `x-forwarded-for` and `x-forwarded-proto` are believed, by address.
    pub trusted_proxies: Vec<std::net::IpAddr>,
    /// How passwords are hashed.
    pub hashing: Hashing,
}

/// Argon2id (RFC 9106). The defaults are OWASP's: 19 MiB, two passes, one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hashing {
    /// Memory of one hash, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// How many at once: each takes a processor and its memory.
    pub at_once: usize,
    /// How many may wait for one.
    pub waiting: usize,
}

impl Default for Hashing {
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1, at_once: 2, waiting: 64 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            store: None,
            issuer: None,
            sign_up: true,
            sign_up_roles: vec!["fan".into(), "rider".into()],
            password_min_chars: 10,
            access_token_ttl_s: 600,
            client_token_ttl_s: 3_600,
            session_ttl_s: 30 * 86_400,
            session_idle_s: 14 * 86_400,
            refresh_grace_s: 10,
            rotate_keys_every_s: 30 * 86_400,
            rs256_key: None,
            account_rate: Rate { burst: 10, every_s: 30 },
            address_rate: Rate { burst: 60, every_s: 2 },
            sign_up_rate: Rate { burst: 20, every_s: 30 },
            trusted_proxies: Vec::new(),
            hashing: Hashing::default(),
        }
    }
}

impl Section for Config {
    const NAME: &'static str = "accounts";
}

impl Config {
    /// The name of `store` in messages.
    pub const STORE: &'static str = "accounts.store";
    /// The name of `issuer` in messages.
    pub const ISSUER: &'static str = "accounts.issuer";
    /// The name of `rs256_key` in messages.
    pub const RS256_KEY: &'static str = "accounts.rs256_key";
    /// The name of `sign_up_roles` in messages.
    pub const SIGN_UP_ROLES: &'static str = "accounts.sign_up_roles";
    /// The name of `hashing.memory_kib` in messages.
    pub const HASHING_MEMORY: &'static str = "accounts.hashing.memory_kib";
    /// The name of `hashing.passes` in messages.
    pub const HASHING_PASSES: &'static str = "accounts.hashing.passes";
    /// The name of `hashing.lanes` in messages.
    pub const HASHING_LANES: &'static str = "accounts.hashing.lanes";

    /// How refresh tokens follow one another.
    pub fn rules(&self) -> Rules {
        let seconds = |count: u32| Duration::from_secs(count.into());
        Rules { grace: seconds(self.refresh_grace_s), idle: seconds(self.session_idle_s) }
    }

    /// How keys follow one another: an old one is kept until its last token is over.
    pub fn rotation(&self) -> Rotation {
        let longest = self.access_token_ttl_s.max(self.client_token_ttl_s);
        Rotation { lead: KEY_LEAD, longest_token: Duration::from_secs(longest.into()) }
    }

    /// How often that happens.
    pub fn rotate_every(&self) -> Duration {
        Duration::from_secs(self.rotate_keys_every_s.into())
    }
}
