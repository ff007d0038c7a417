//! `compress`: answers that are made smaller on their way to callers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_kernel::Bytes;

use super::Gateway;
use super::check::{Fault, ensure};
use crate::domain::coding::Coding;

/// Compresses answers that the upstream has not compressed, for callers that take it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Compress {
    /// Codings, the one preferred first; the caller's own preference comes before.
    pub codings: Vec<Coding>,
    /// Media types: `text/html`, `text/*` or `*+json`.
    pub types: Vec<String>,
    /// The smallest answer that is compressed, where its length is known.
    pub from: Bytes,
}

impl Default for Compress {
    fn default() -> Self {
        let types = [
            "text/*",
            "*+json",
            "*+xml",
            "application/json",
            "application/javascript",
            "application/x-ndjson",
            "application/xml",
            "application/wasm",
        ];
        Self { codings: Coding::ALL.to_vec(), types: types.map(str::to_owned).to_vec(), from: Bytes(1 << 10) }
    }
}

/// Rules of what routes compress.
pub(super) fn check(gateway: &Gateway) -> Result<(), Fault> {
    for route in &gateway.routes {
        let Some(compress) = &route.compress else { continue };
        let name = route.name.as_str();
        ensure(!compress.codings.is_empty(), &["routes", name, "codings"], || {
            "`codings` needs at least one of zstd, br and gzip; take out `compress` to compress nothing".into()
        })?;
        for kind in &compress.types {
            let is_good =
                kind.contains(['/', '+']) && kind.matches('*').count() <= 1 && !kind.contains(char::is_uppercase);
            ensure(is_good, &["routes", name, "types", kind], || {
                format!("`{kind}` is not a media type; write text/html, text/* or *+json, in small letters")
            })?;
        }
    }
    Ok(())
}
