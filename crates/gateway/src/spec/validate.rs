//! `validate`: requests and answers against an OpenAPI document or a JSON Schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_kernel::Bytes;

use super::Route;
use super::check::{Fault, ensure};

/// Checks requests, and by choice answers, against an OpenAPI document (3.0, 3.1) or a JSON Schema (2020-12). A route has one
/// of `openapi` and `schema`. Requests are checked as they go to the upstream.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validate {
    /// The document, as a JSON or YAML file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openapi: Option<String>,
    /// What the upstream's paths have before those of the document, such as `/v2`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub base: String,
    /// The JSON Schema of bodies, as a JSON or YAML file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What becomes of requests that do not fit.
    #[serde(default)]
    pub requests: Strictness,
    /// What becomes of answers that do not fit.
    #[serde(default = "off")]
    pub answers: Strictness,
    /// What becomes of requests for paths and methods that the document does not have.
    #[serde(default)]
    pub unknown: Strictness,
    /// The largest answer that is checked; larger ones do not fit.
    #[serde(default = "size")]
    pub size: Bytes,
}

fn off() -> Strictness {
    Strictness::Off
}

fn size() -> Bytes {
    Bytes(1 << 20)
}

/// What becomes of what does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strictness {
    /// It is not looked at.
    #[serde(rename = "off")]
    Off,
    /// It passes, and is counted and logged.
    Report,
    /// It is refused.
    #[default]
    Refuse,
}

/// Checks what the types do not say.
pub(super) fn check(route: &Route) -> Result<(), Fault> {
    let Some(validate) = &route.validate else { return Ok(()) };
    let name = route.name.as_str();
    ensure(validate.openapi.is_some() != validate.schema.is_some(), &["routes", name, "validate"], || {
        "validate needs either `openapi` or `schema`, a file".into()
    })?;
    ensure(
        validate.base.is_empty() || validate.base.starts_with('/') && !validate.base.ends_with('/'),
        &["routes", name, "base"],
        || format!("base `{}` must start with `/` and not end with one", validate.base),
    )?;
    ensure(route.upstream.is_some() || !route.split.is_empty(), &["routes", name, "validate"], || {
        "only requests for an `upstream` or a `split` are validated".into()
    })
}
