//! `listeners`: addresses and TLS.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An address that the gateway listens on.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Host and port, such as `0.0.0.0:8443`.
    pub address: String,
    /// Certificates and rules of TLS; plain HTTP where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Mozilla's `intermediate` (TLS 1.2 and 1.3) or `modern` (TLS 1.3 only).
    #[serde(default)]
    pub profile: TlsProfile,
    /// Certificates with their keys. The client's server name chooses; the first serves those that name none.
    pub certificates: Vec<Certificate>,
    /// Certificates that clients show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientCertificates>,
}

/// Which protocol versions and ciphers are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TlsProfile {
    /// TLS 1.2 and 1.3.
    #[default]
    Intermediate,
    /// TLS 1.3.
    Modern,
}

/// A certificate and its key, as PEM files. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The chain, the server's own certificate first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Certificates of clients (mutual TLS).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificates {
    /// The authorities that sign them, as a PEM file.
    pub authorities: PathBuf,
    /// Whether clients without one are turned away already when they connect.
    #[serde(default = "yes")]
    pub required: bool,
}

fn yes() -> bool {
    true
}
