//! `[gateway]`: where the gateway's own file is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tessera_service::config::Section;

/// `[gateway]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file of listeners, upstreams and routes (YAML); without one the gateway does not run.
    pub file: Option<PathBuf>,
}

impl Config {
    /// The name of `file` in messages.
    pub const FILE: &'static str = "gateway.file";
}

impl Section for Config {
    const NAME: &'static str = "gateway";
}
