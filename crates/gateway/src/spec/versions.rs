//! `versions`: where a request names its version, and how one is expressed by another.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_kernel::{Timestamp, text_on_the_wire};

use super::check::{Fault, ensure, fault};
use super::{Gateway, Route};
use crate::mapping::Step;
use tessera_service::yaml::hint;

/// Versions that stand on each other.
pub const MAX_STEPS: usize = 8;

/// The versions of a route.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// Where a request names its version: `path:NAME` (a parameter of the path), `header:NAME` or `media_type`
    /// (`application/vnd.shop.v1+json` or `application/json;version=1`, in `accept`, else in `content-type`).
    pub by: VersionKey,
    /// The version of requests that name none; they are refused where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The versions, by name.
    pub known: BTreeMap<String, Version>,
}

/// A version.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Version {
    /// The version that it is expressed by: requests are changed into that one, answers out of it. The upstream is asked
    /// for the last of the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Steps that change the JSON of requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub request: Vec<Step>,
    /// Steps that change the parameters of the query.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<Step>,
    /// Steps that change the JSON of answers from 200 to 299.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answer: Vec<Step>,
    /// The upstream of this version; the route's where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Since when it should not be used any more: `deprecation` (RFC 9745) tells callers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<Day>,
    /// When it will be gone: `sunset` (RFC 8594) tells callers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sunset: Option<Day>,
    /// The page that says what to use instead; `link` tells callers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// Where a request names its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionKey {
    /// In a parameter of the path.
    Path(String),
    /// In a header.
    Header(String),
    /// In its media type.
    MediaType,
}

impl FromStr for VersionKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("path", name)) if !name.is_empty() => Ok(Self::Path(name.into())),
            Some(("header", name)) if !name.is_empty() => Ok(Self::Header(name.to_ascii_lowercase())),
            None if text == "media_type" => Ok(Self::MediaType),
            _ => Err(format!("`{text}` does not name a version; write path:NAME, header:NAME or media_type")),
        }
    }
}

impl fmt::Display for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(name) => write!(f, "path:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::MediaType => f.write_str("media_type"),
        }
    }
}

text_on_the_wire!(VersionKey, "^(media_type|(path|header):.+)$", "header:x-api-version");

/// A day, or a time of one: `2027-06-30` or `2027-06-30T12:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub Timestamp);

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
        let at = whole.parse().map_err(|_| format!("`{text}` is not a day; write 2027-06-30"))?;
        Ok(Self(at))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_on_the_wire!(Day, "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T.*)?$", "2027-06-30");

/// Checks versions against the rest of the file.
pub(super) fn check(gateway: &Gateway, route: &Route, parameters: &[String]) -> Result<(), Fault> {
    let Some(versions) = &route.versions else { return Ok(()) };
    let name = route.name.as_str();
    let known: Vec<&str> = versions.known.keys().map(String::as_str).collect();
    ensure(route.upstream.is_some() || !route.split.is_empty(), &["routes", name, "versions"], || {
        "only a route with an `upstream` or a `split` has versions".into()
    })?;
    ensure(!known.is_empty(), &["routes", name, "versions"], || "`known` needs at least one version".into())?;
    let is_known = |wanted: &String, key: &str| {
        ensure(known.contains(&wanted.as_str()), &["routes", name, "versions", key], || {
            format!("there is no version `{wanted}`; {}", hint(wanted, "versions", &known))
        })
    };
    versions.default.as_ref().map_or(Ok(()), |default| is_known(default, "default"))?;
    match &versions.by {
        VersionKey::Path(wanted) => ensure(parameters.contains(wanted), &["routes", name, "by"], || {
            format!("the path has no parameter `{wanted}`")
        })?,
        VersionKey::Header(header) => {
            ensure(http::HeaderName::try_from(header.as_str()).is_ok(), &["routes", name, "by"], || {
                format!("`{header}` cannot be the name of a header")
            })?;
        }
        VersionKey::MediaType => {}
    }
    let good = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let upstreams: Vec<&str> = gateway.upstreams.keys().map(String::as_str).collect();
    for (version_name, version) in &versions.known {
        ensure(!version_name.is_empty() && version_name.chars().all(good), &["routes", name, version_name], || {
            format!("`{version_name}` cannot be a version; use letters, digits, `-`, `.` and `_`")
        })?;
        version.on.as_ref().map_or(Ok(()), |on| is_known(on, "on"))?;
        if let Some(upstream) = &version.upstream {
            ensure(upstreams.contains(&upstream.as_str()), &["routes", name, version_name, "upstream"], || {
                format!("there is no upstream `{upstream}`; {}", hint(upstream, "upstreams", &upstreams))
            })?;
        }
        if let (Some(deprecated), Some(sunset)) = (version.deprecated, version.sunset) {
            ensure(deprecated <= sunset, &["routes", name, version_name, "sunset"], || {
                "a version is deprecated before its sunset (RFC 9745, 4)".into()
            })?;
        }
        if chain(versions, version_name).is_none() {
            return fault(
                &["routes", name, version_name],
                format!("version `{version_name}` stands on more than {MAX_STEPS} others, or on itself"),
            );
        }
    }
    Ok(())
}

/// The versions from this one to the last that it stands on; `None` where they have no end.
pub fn chain<'v>(versions: &'v Versions, from: &'v str) -> Option<Vec<&'v Version>> {
    let mut found = vec![versions.known.get(from)?];
    while let Some(on) = found.last().and_then(|last| last.on.as_ref()) {
        if found.len() > MAX_STEPS {
            return None;
        }
        found.push(versions.known.get(on)?);
    }
    Some(found)
}
