//! How requests prove who sends them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// How requests prove who sends them.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// No proof.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer {
        /// The token.
        token: String,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// User name.
        username: String,
        /// Password; may be empty.
        #[serde(default)]
        password: String,
    },
    /// A key in a header, the query or a cookie.
    ApiKey {
        /// Name of the header, parameter or cookie.
        name: String,
        /// The key.
        value: String,
        /// Where it goes.
        #[serde(default, rename = "in")]
        place: KeyPlace,
    },
    /// OAuth 2.0 client credentials, or a refresh token. Renewed before it expires and after a 401, one renewal at a time.
    Oauth2 {
        /// The token endpoint; relative to `base_url` or absolute.
        token_url: String,
        /// Client id.
        client_id: String,
        /// Client secret.
        #[serde(default)]
        client_secret: String,
        /// Given: the refresh token grant; otherwise client credentials.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refresh_token: Option<String>,
        /// Scopes, separated by blanks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<String>,
        /// Audience, where the issuer asks for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        audience: Option<String>,
        /// How the client proves itself to the token endpoint.
        #[serde(default)]
        client_auth: ClientAuth,
    },
    /// A login request whose cookies, or a token in its answer, the later requests carry.
    Session {
        /// Path of the login request.
        login_path: String,
        /// JSON body of the login request.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        body: BTreeMap<String, String>,
        /// Where the answer holds a token; without it only cookies are kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token_path: Option<String>,
        /// Header that carries the token.
        #[serde(default = "authorization")]
        header: String,
        /// What stands before the token in that header.
        #[serde(default = "bearer_prefix")]
        prefix: String,
    },
    /// A JSON Web Token signed with a key of ours, as a bearer token.
    Jwt {
        /// HS256, HS384, HS512, RS256, RS384, RS512, PS256, ES256, ES384 or EdDSA.
        #[serde(default = "hs256")]
        algorithm: String,
        /// The shared secret, or the private key in PEM.
        key: String,
        /// Key id for the header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_id: Option<String>,
        /// Claims such as `iss`, `sub`, `aud`; `iat` and `exp` are added.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        claims: BTreeMap<String, serde_json::Value>,
        /// How long a token lives.
        #[serde(default = "five_minutes")]
        ttl: Span,
    },
}

fn authorization() -> String {
    "Authorization".into()
}
fn bearer_prefix() -> String {
    "Bearer ".into()
}
fn hs256() -> String {
    "HS256".into()
}
fn five_minutes() -> Span {
    Span::from_secs(300)
}

/// Where an API key goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyPlace {
    /// A request header.
    #[default]
    Header,
    /// A query parameter.
    Query,
    /// A cookie.
    Cookie,
}

/// How an OAuth client proves itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// `Authorization: Basic` with id and secret.
    #[default]
    Basic,
    /// `client_id` and `client_secret` in the form.
    Body,
}
