//! Which provider it is, and how it is reached.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tessera_kernel::Clock;
use tessera_store::sql::Db;
use url::Url;

use super::{Provider, Stripe, Test, stripe, test};
use crate::Error;

/// Stripe's script for its card form; it may only be taken from there.
const SCRIPT: &str = "https://js.stripe.com/v3/";

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
    /// Stripe's publishable key, `pk_…`: with it the checkout page has Stripe's card form.
    pub stripe_publishable_key: String,
    /// Where Stripe's script for that form is.
    pub stripe_script_url: String,
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
            stripe_publishable_key: String::new(),
            stripe_script_url: SCRIPT.to_owned(),
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
    /// Stripe's form for cards, where there is a key for it.
    pub form: Option<CardForm>,
}

/// What Stripe's form for cards needs in the browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardForm {
    /// The script.
    pub script: Url,
    /// The publishable key.
    pub key: String,
}

impl CardForm {
    /// `None` where there is no key.
    fn of(config: &Config) -> Result<Option<Self>, String> {
        let (url, key) = (&config.stripe_script_url, &config.stripe_publishable_key);
        if key.is_empty() {
            return Ok(None);
        }
        if !key.starts_with("pk_") || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            // What is no publishable key may be a secret one, so it is not shown.
            return Err("`stripe_publishable_key` is none: give the one that begins with `pk_`".into());
        }
        let script = Url::parse(url).map_err(|error| format!("`stripe_script_url` cannot be `{url}`: {error}"))?;
        let here = matches!(script.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if script.scheme() != "https" && !here {
            return Err(format!(
                "`stripe_script_url` cannot be `{url}`: cards are only typed into what came over https"
            ));
        }
        Ok(Some(Self { script, key: key.clone() }))
    }
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
            Ok(Payments { provider: test.clone(), test: Some(test), form: None })
        }
        Kind::Stripe => {
            let access = stripe::Access {
                url: config.stripe_url.clone(),
                api_key: config.stripe_api_key.clone(),
                webhook_secret: config.stripe_webhook_secret.clone(),
                timeout,
            };
            let stripe = Stripe::new(access, clock).map_err(|reason| Error::Setting { reason })?;
            let form = CardForm::of(config).map_err(|reason| Error::Setting { reason })?;
            Ok(Payments { provider: Arc::new(stripe), test: None, form })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(key: &str, url: &str) -> Result<Option<CardForm>, String> {
        CardForm::of(&Config { stripe_publishable_key: key.into(), stripe_script_url: url.into(), ..Config::default() })
    }

    #[test]
    fn a_card_form_needs_a_publishable_key_and_a_safe_script() {
        assert_eq!(form("", SCRIPT), Ok(None));
        assert_eq!(form("pk_test_1", SCRIPT).unwrap().unwrap().script.as_str(), SCRIPT);
        assert!(form("pk_test_1", "http://127.0.0.1:9/v3/").is_ok());
        let secret = form("sk_live_1", SCRIPT).unwrap_err();
        assert!(secret.contains("pk_") && !secret.contains("sk_live_1"), "{secret}");
        assert!(form("pk_\"><script>", SCRIPT).is_err());
        assert!(form("pk_test_1", "http://cards.example/v3/").unwrap_err().contains("https"));
        assert!(form("pk_test_1", "v3").unwrap_err().contains("`v3`"));
    }
}
