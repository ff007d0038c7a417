//! `transcode`: HTTP and JSON for callers of a gRPC service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_kernel::{Bytes, Span};

use super::check::{Fault, ensure};
use super::{Gateway, Protocol, Route};

/// HTTP and JSON for a gRPC service, by the rules of `google.api.http` in its description. It has one of `descriptors` and
/// `reflection`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transcode {
    /// The description, as a file: `protoc --include_imports --descriptor_set_out=FILE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptors: Option<String>,
    /// Whether the service itself is asked for its description (`grpc.reflection`).
    #[serde(default)]
    pub reflection: bool,
    /// How often it is asked again.
    #[serde(default = "every")]
    pub every: Span,
    /// Services, such as `shop.v1.Orders`; all where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Whether each method can be called as `POST /package.Service/Method` too.
    #[serde(default)]
    pub by_name: bool,
    /// Whether answers have all fields, also those with the value that they have when nothing is said.
    #[serde(default)]
    pub all_fields: bool,
    /// The largest message of an answer.
    #[serde(default = "size")]
    pub size: Bytes,
}

fn every() -> Span {
    Span::from_secs(300)
}

fn size() -> Bytes {
    Bytes(4 << 20)
}

/// Checks what the types do not say.
pub(super) fn check(gateway: &Gateway, route: &Route) -> Result<(), Fault> {
    let Some(transcode) = &route.transcode else { return Ok(()) };
    let name = route.name.as_str();
    let at = ["routes", name, "transcode"];
    ensure(transcode.descriptors.is_some() != transcode.reflection, &at, || {
        "transcode needs either `descriptors`, a file, or `reflection: true`".into()
    })?;
    ensure(transcode.every.0.as_millis() >= 10, &at, || "`every` must be at least 10ms; write 5m".into())?;
    let upstream = route.upstream.as_ref().and_then(|name| gateway.upstreams.get(name));
    ensure(upstream.is_some(), &at, || "a route that transcodes has one `upstream`".into())?;
    ensure(upstream.is_some_and(|upstream| upstream.protocol == Protocol::Http2), &at, || {
        "gRPC is spoken over HTTP/2; give the upstream `protocol: http2`".into()
    })?;
    ensure(route.validate.is_none() && route.versions.is_none(), &at, || {
        "a route that transcodes has neither `validate` nor `versions`".into()
    })
}
