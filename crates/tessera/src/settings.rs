//! The settings of the binary: which sections there are, and which flags set what.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use tessera_service::config::{Config, Loader, Section};
use tessera_service::{Error, http, telemetry};

/// The flags of every command that serves, and of `config print`.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// The config file (TOML); `tessera config print` shows what can be in it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder for embedded stores [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The address to listen on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// The folder of pipeline files that ingest runs [default: DATA/pipelines]
    #[arg(long, value_name = "DIR")]
    pub pipelines: Option<PathBuf>,
    /// The gateway's file of listeners, upstreams and routes; `up` has one of its own
    #[arg(long, value_name = "FILE")]
    pub gateway: Option<PathBuf>,
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The folder for embedded stores.
    pub data_dir: PathBuf,
}

impl Store {
    /// The name of `data_dir` in messages.
    pub const DATA_DIR: &'static str = "store.data_dir";
    /// What changes it.
    pub const DATA_DIR_REMEDY: &'static str = "--data or TESSERA__STORE__DATA_DIR";

    /// Refuses a folder that nothing was ever kept in: what is asked for is elsewhere, and a new installation is nobody's wish.
    ///
    /// # Errors
    /// Which folder, and what to do.
    pub fn check_begun(&self) -> Result<(), String> {
        if self.data_dir.join("keys").is_dir() {
            return Ok(());
        }
        let folder = self.data_dir.display();
        Err(format!(
            "there is no data in `{folder}`; give the folder of the service with --data, or its config file with --config"
        ))
    }

    /// The same for what may be done before there is a service.
    ///
    /// # Errors
    /// Which folder, and what to do.
    pub fn check_begun_or_new(&self) -> Result<(), String> {
        self.check_begun().map_err(|line| format!("{line}; before the first start of a service there, add --new"))
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { data_dir: "./data".into() }
    }
}

impl Section for Store {
    const NAME: &'static str = "store";
}

/// `[up]`: where `tessera up` is reached. It serves everything through the gateway, and by a port of its own on this machine only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Up {
    /// Where the gateway speaks TLS. Left out: beside `http.listen`, on port 8443 where that has 8080, on 443 where it has 80, else on a
    /// free one.
    pub https: Option<String>,
    /// Where the products listen without the gateway. Left out: 127.0.0.1, on port 8081 where `http.listen` has 8080, else on a free one.
    pub direct: Option<String>,
}

impl Up {
    /// The name of `https` in messages.
    pub const HTTPS: &'static str = "up.https";
    /// What changes it.
    pub const HTTPS_REMEDY: &'static str = "TESSERA__UP__HTTPS";
    /// The name of `direct` in messages.
    pub const DIRECT: &'static str = "up.direct";
    /// What changes it.
    pub const DIRECT_REMEDY: &'static str = "TESSERA__UP__DIRECT";
}

impl Section for Up {
    const NAME: &'static str = "up";
}

/// `[demo]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Demo {
    /// The address of the demo API of `up --demo`.
    pub address: String,
}

impl Demo {
    /// The name of `address` in messages.
    pub const ADDRESS: &'static str = "demo.address";
    /// What changes it.
    pub const ADDRESS_REMEDY: &'static str = "TESSERA__DEMO__ADDRESS";
}

impl Default for Demo {
    fn default() -> Self {
        Self { address: "127.0.0.1:8099".into() }
    }
}

impl Section for Demo {
    const NAME: &'static str = "demo";
}

/// Loads the settings: defaults, `--config` file, environment, flags. Every section of the binary is listed here.
pub fn load(flags: &Flags, environment: impl IntoIterator<Item = (String, String)>) -> Result<Config, Error> {
    Loader::new()
        .section::<http::Config>()
        .section::<Store>()
        .section::<Up>()
        .section::<Demo>()
        .section::<tessera_service::identity::Config>()
        .section::<tessera_accounts::config::Config>()
        .section::<tessera_ingest::config::Config>()
        .section::<tessera_tickets::config::Config>()
        .section::<tessera_rides::config::Config>()
        .section::<tessera_gateway::config::Config>()
        .section::<telemetry::Config>()
        .alias("RUST_LOG", "telemetry.log")
        .alias("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint")
        .alias("OTEL_EXPORTER_OTLP_HEADERS", "telemetry.otlp_headers")
        .file(flags.config.clone())
        .environment(environment)
        .flag("http.listen", "--listen", flags.listen.clone())
        .flag(Store::DATA_DIR, "--data", flags.data.as_ref().map(|path| path.to_string_lossy().into_owned()))
        .flag(
            tessera_ingest::config::Config::PIPELINES,
            "--pipelines",
            flags.pipelines.as_ref().map(|path| path.to_string_lossy().into_owned()),
        )
        .flag(
            tessera_gateway::config::Config::FILE,
            "--gateway",
            flags.gateway.as_ref().map(|path| path.to_string_lossy().into_owned()),
        )
        .load()
}

/// The environment, as far as it is text.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
