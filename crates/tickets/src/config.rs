//! `[tickets]`: the settings.

use serde::{Deserialize, Serialize};
use tessera_service::config::Section;

/// `[tickets]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything is kept: `sqlite:…` or `postgres://…`; `<data>/tickets.db` where not set.
    pub store: Option<String>,
    /// Where claims and lines are kept: `redis://…`; in `store` where not set.
    pub redis: Option<String>,
    /// How long a hold may be extended while it is paid, seconds.
    pub payment_window_s: u64,
    /// Where buyers reach this server, `https://tickets.example`; the address that it listens on where not set.
    pub public_url: Option<String>,
    /// Whether this process does the work in the background too: settling orders, refunding what was cancelled, letting
    /// people in, sweeping. One process of a database has to; more may.
    pub jobs: bool,
    /// Who moves the money.
    pub payments: crate::payment::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: None,
            redis: None,
            payment_window_s: 300,
            public_url: None,
            jobs: true,
            payments: crate::payment::Config::default(),
        }
    }
}

impl Section for Config {
    const NAME: &'static str = "tickets";
}

impl Config {
    /// The name of `store` in messages.
    pub const STORE: &'static str = "tickets.store";
    /// The name of `payments` in messages.
    pub const PAYMENTS: &'static str = "tickets.payments";
    /// The name of `redis` in messages.
    pub const REDIS: &'static str = "tickets.redis";
}
