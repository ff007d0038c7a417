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
    /// Whether HTTP/3 is spoken, too: over UDP, on the same port. It needs `tls`, and a binary that is built with it.
    #[serde(default, skip_serializing_if = "is_not")]
    pub http3: bool,
    /// The port that answers name for HTTP/3 (`alt-svc`), where clients come by another one than the listener's, as behind a
    /// mapping of ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http3_port: Option<u16>,
}

fn is_not(set: &bool) -> bool {
    !set
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Mozilla's `intermediate` (TLS 1.2 and 1.3) or `modern` (TLS 1.3 only).
    #[serde(default)]
    pub profile: TlsProfile,
    /// Certificates with their keys. The client's server name chooses; the first serves those that name none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
    /// A certificate that an authority issues and renews by itself (ACME).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<Acme>,
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

/// A certificate by ACME. The account, the certificate and its key are kept in `folder`; it is renewed when a third of its
/// time is left. By asking you agree to the terms of the authority.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// The URL of the authority's directory.
    pub directory: String,
    /// The names that the certificate is for.
    pub domains: Vec<String>,
    /// Where the authority may write to, such as `mailto:ops@example.com`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contact: Vec<String>,
    /// Where account, certificate and key are kept, in a folder for each authority.
    #[serde(default = "acme_folder")]
    pub folder: PathBuf,
    /// How the names are proven to be ours.
    #[serde(default)]
    pub challenge: AcmeChallenge,
    /// Authorities that sign the directory's own certificate, as a PEM file; the public ones where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
}

fn acme_folder() -> PathBuf {
    "acme".into()
}

/// How names are proven to be ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AcmeChallenge {
    /// In a handshake on port 443 of each name, which this listener answers.
    #[default]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// By a document on port 80 of each name, which every listener without TLS answers.
    #[serde(rename = "http-01")]
    Http01,
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
