//! `tessera token`: signs a token with the installation's key, which lies in the data folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tessera_kernel::{Span, SystemClock};
use tessera_service::Keys;
use tessera_service::identity::ROLES;

use crate::settings::{self, Flags, Store};
use crate::up::Failure;

/// The longest life of a token. It cannot be taken back, so it should not outlive the reason for it by much.
const MAX_TTL: Duration = Duration::from_secs(366 * 86_400);

/// What stands on the token.
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// What its holder may be; several with commas between
    #[arg(long, required = true, value_delimiter = ',', value_parser = ROLES)]
    role: Vec<String>,
    /// Who its holder is: an account's name, up to 128 bytes
    #[arg(long, value_name = "NAME", value_parser = subject)]
    subject: String,
    /// How long it lasts, such as 30m, 12h or 7d
    #[arg(long, value_name = "SPAN", default_value = "12h", value_parser = ttl)]
    ttl: Duration,
    /// Before the first start of the service: its data folder and key are made
    #[arg(long)]
    new: bool,
    /// The folder with the key, as given to `up` and `serve` [default: ./data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The config file, where the folder is set there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl TokenArgs {
    /// The token. A key is made only where that is asked for: a token of another folder's key is refused by every service.
    pub fn sign(self) -> Result<String, Failure> {
        let flags = Flags { config: self.config, data: self.data, ..Flags::default() };
        let config = settings::load(&flags, settings::environment())?;
        let store: Store = config.get()?;
        if !self.new {
            store.check_begun_or_new().map_err(Failure::Usage)?;
        }
        let keys = Keys::open(&store.data_dir, Arc::new(SystemClock))?;
        Ok(keys.sign_token(&self.subject, &self.role, self.ttl)?)
    }
}

fn subject(text: &str) -> Result<String, String> {
    match text.len() {
        1..=128 => Ok(text.to_owned()),
        length => Err(format!("it has {length} bytes: give 1 to 128, such as `ana`")),
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    let Span(ttl) = text.parse()?;
    if ttl.is_zero() || ttl > MAX_TTL {
        return Err(format!("`{text}` is too short or too long: give 1s to 366d"));
    }
    Ok(ttl)
}
