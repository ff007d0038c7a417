//! `documents`: the OpenAPI documents of the upstreams, merged into one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_kernel::{Bytes, Span};

use super::check::{Fault, ensure};
use super::{Gateway, Route};

/// One OpenAPI document of all that upstreams describe under their `openapi`, as callers of the gateway see it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Documents {
    /// Its title.
    pub title: String,
    /// The version in its `info`.
    pub version: String,
    /// What it says of itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// How often the upstreams' documents are fetched again.
    pub every: Span,
    /// How long that may take.
    pub timeout: Span,
    /// The largest document of an upstream; of a larger one the last good one stays.
    pub size: Bytes,
}

impl Default for Documents {
    fn default() -> Self {
        Self {
            title: "APIs".into(),
            version: "1".into(),
            description: String::new(),
            every: Span::from_secs(300),
            timeout: Span::from_secs(10),
            size: Bytes(4 << 20),
        }
    }
}

/// What of the documents a route serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Docs {
    /// The merged document, as JSON.
    Document,
    /// A page that shows it.
    Page,
}

/// Checks what the types do not say.
pub(super) fn check(gateway: &Gateway) -> Result<(), Fault> {
    let documents = &gateway.documents;
    for (key, span) in [("every", documents.every), ("timeout", documents.timeout)] {
        ensure(!span.0.is_zero(), &["documents", key], || format!("{key} must be more than 0; write 10s"))?;
    }
    for (name, upstream) in &gateway.upstreams {
        let path = upstream.openapi.as_deref().unwrap_or("/");
        ensure(path.starts_with('/'), &["upstreams", name, "openapi"], || format!("`{path}` must start with `/`"))?;
    }
    let page = gateway.routes.iter().find(|route| route.docs == Some(Docs::Page));
    let Some(page) = page else { return Ok(()) };
    ensure(document_path(&gateway.routes).is_some(), &["routes", &page.name, "docs"], || {
        "the page needs a route with `docs: document` and a path without parameters, such as /openapi.json".into()
    })
}

/// Where the document is served.
pub fn document_path(routes: &[Route]) -> Option<&str> {
    let mut paths = routes.iter().filter(|route| route.docs == Some(Docs::Document));
    paths.find(|route| !route.matcher.path.contains(['{', '*'])).map(|route| route.matcher.path.as_str())
}
