//! Which provider it is, and how it is reached.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tessera_kernel::Clock;
use tessera_store::sql::Db;

use super::{Provider, Stripe, Test, stripe, test};
use crate::Error;

/// The settings of payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `test`: cards that play their parts, no money moves. `stripe`: money moves.
    pub provider: Kind,
    /// Where Stripe's API is.
    pub stripe_url: String,
    /// Stripe's secret key, `sk_…` or a restricted `rk_…`.
    pub stripe_api_key: String,
    /// What Stripe signs its webhooks with, `whsec_…`.
    pub stripe_webhook_secret: String,
    /// How long a call may take, its repetitions included.
    pub timeout_s: u64,
}

/// The providers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// [`Test`].
    Test,
    /// [`Stripe`].
    Stripe,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            provider: Kind::Test,
            stripe_url: stripe::URL.to_owned(),
            stripe_api_key: String::new(),
            stripe_webhook_secret: String::new(),
            timeout_s: 15,
        }
    }
}

/// The provider that was chosen.
#[derive(Clone, Debug)]
pub struct Payments {
    /// What all use cases go through.
    pub provider: Arc<dyn Provider>,
    /// The same one, where it is the test provider: it has pages of its own.
    pub test: Option<Arc<Test>>,
}

/// Opens the provider of the settings. The test provider keeps its ledger beside the records of the product: in
/// `payments-test.db` in the data folder, or in a schema of its own on the same PostgreSQL.
///
/// # Errors
/// [`Error::Setting`] for what Stripe cannot be reached with; those of the database.
pub async fn open(
    config: &Config,
    store_url: &str,
    data_dir: &Path,
    clock: Arc<dyn Clock>,
    metrics: tessera_store::writer::Metrics,
) -> Result<Payments, Error> {
    let timeout = Duration::from_secs(config.timeout_s.max(1));
    match config.provider {
        Kind::Test => {
            let own = format!("sqlite:{}", data_dir.join("payments-test.db").display());
            let url = if store_url.starts_with("sqlite:") { own.as_str() } else { store_url };
            let db = Db::open(url, test::SCHEMA, test::STEPS).await?;
            let test = Arc::new(Test::new(db, clock, timeout, metrics));
            Ok(Payments { provider: test.clone(), test: Some(test) })
        }
        Kind::Stripe => {
            let access = stripe::Access {
                url: config.stripe_url.clone(),
                api_key: config.stripe_api_key.clone(),
                webhook_secret: config.stripe_webhook_secret.clone(),
                timeout,
            };
            let stripe = Stripe::new(access, clock).map_err(|reason| Error::Setting { reason })?;
            Ok(Payments { provider: Arc::new(stripe), test: None })
        }
    }
}
