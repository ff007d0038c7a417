//! `auth`: ways to prove who one is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use tessera_kernel::Span;

use super::rate::PerTime;

/// A way to prove who one is.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// A signed token in `authorization: Bearer …`.
    Jwt {
        /// What `iss` must be. Without `keys` and `jwks` its key set is found by OpenID Connect discovery.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        issuer: Option<String>,
        /// Any of these must be in `aud`; whatever is there where it is empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        audience: Vec<String>,
        /// Keys that are written here or lie in files.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keys: Vec<JwtKey>,
        /// The URL of the issuer's key set; found by discovery where it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jwks: Option<String>,
        /// Algorithms that keys of the key set may be used with.
        #[serde(default = "asymmetric", skip_serializing_if = "Vec::is_empty")]
        algorithms: Vec<Algorithm>,
        /// How far clocks may differ.
        #[serde(default = "leeway")]
        leeway: Span,
        /// The claim that has the roles, with dots for claims within claims.
        #[serde(default = "roles_claim")]
        roles_claim: String,
    },
    /// A key in a header.
    ApiKey {
        /// The header.
        #[serde(default = "api_key_header")]
        header: String,
        /// Who has which, by name.
        consumers: BTreeMap<String, ApiKey>,
    },
    /// A name and a password in `authorization: Basic …`.
    Basic {
        /// What the browser shows.
        #[serde(default = "realm")]
        realm: String,
        /// Who there is, by name.
        users: BTreeMap<String, User>,
    },
    /// The certificate that the client showed when it connected.
    Mtls {
        /// Roles by the certificate's common name or a DNS name in it; `*` for all others.
        #[serde(default)]
        roles: BTreeMap<String, Vec<String>>,
    },
}

fn asymmetric() -> Vec<Algorithm> {
    vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
}

fn leeway() -> Span {
    Span::from_secs(30)
}

fn roles_claim() -> String {
    "roles".into()
}

fn api_key_header() -> String {
    "x-api-key".into()
}

fn realm() -> String {
    "gateway".into()
}

/// Who asks, for services, in a signed token (JWT, EdDSA) beside the `x-auth-…` headers. Its `aud` is the upstream's name.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedIdentity {
    /// What its `iss` is: the gateway's URL.
    pub issuer: String,
    /// The header; what callers send under it is taken away.
    #[serde(default = "token_header")]
    pub header: String,
    /// How long a token holds at most.
    #[serde(default = "token_lifetime")]
    pub lifetime: Span,
    /// An Ed25519 key as a PEM file (`openssl genpkey -algorithm ed25519`), the same for all gateways that speak as this issuer; left
    /// out, each process makes its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The path on every listener where the key set is, for services.
    #[serde(default = "token_key_set")]
    pub key_set: String,
}

fn token_header() -> String {
    "x-auth-token".into()
}

fn token_lifetime() -> Span {
    Span::from_secs(60)
}

fn token_key_set() -> String {
    "/.well-known/gateway-keys.json".into()
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum Algorithm {
    /// RSA, PKCS #1 with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
    /// HMAC with SHA-256.
    HS256,
}

/// A key for tokens, which is used with its own algorithm only.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtKey {
    /// What tokens call it (`kid`); tokens without one are tried with every key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// The public key, as a PEM file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The shared secret of HS256, of at least 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// A consumer's key.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// SHA-256 of each key it may use, in hexadecimal digits (`tessera gateway hash-key`). Two at a time let one be
    /// changed without a gap.
    pub hashes: Vec<String>,
    /// Its roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// How many requests it has in each minute, hour or day of the calendar (UTC), over all routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<PerTime>,
}

/// Somebody with a password.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// What `tessera gateway hash-password` printed.
    pub password: String,
    /// Its roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}
