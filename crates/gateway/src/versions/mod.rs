//! Versions of a route: which one a request names, what the upstream is asked for instead, and what changes on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_TYPE, LINK, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::mapping::{Step, apply, fields_of};
use crate::spec::{self, Day, VersionKey, version_chain};
use crate::upstream::Upstream;

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// The versions of a route, compiled for serving.
#[derive(Debug)]
pub struct Versions {
    /// Where a request names its version.
    pub by: VersionKey,
    /// The place among the path's parameters, where it is there.
    pub parameter: Option<usize>,
    /// The place among the path's segments, where it is there.
    pub segment: Option<usize>,
    default: Option<usize>,
    /// All versions.
    pub known: Vec<Version>,
}

/// A version compiled for serving.
#[derive(Debug)]
pub struct Version {
    /// Its name.
    pub name: Arc<str>,
    /// The version that the upstream is asked for.
    pub base: Arc<str>,
    /// Steps on the JSON of requests.
    pub request: Vec<Step>,
    /// Steps on the query.
    pub query: Vec<Step>,
    /// Steps on the JSON of answers.
    pub answer: Vec<Step>,
    /// Its own upstream.
    pub upstream: Option<Arc<Upstream>>,
    /// What its answers have: `deprecation`, `sunset`, `link`, `vary`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Versions {
    /// From the config file.
    ///
    /// # Errors
    /// What is wrong.
    pub fn new(
        spec: &spec::Versions,
        route: &spec::Route,
        parameters: &[String],
        upstreams: &BTreeMap<String, Arc<Upstream>>,
    ) -> Result<Self, String> {
        let known = spec.known.iter().map(|(name, version)| {
            let chain = version_chain(spec, name).ok_or_else(|| format!("version `{name}` stands on itself"))?;
            let base = {
                let mut base = name;
                while let Some(on) = spec.known.get(base).and_then(|version| version.on.as_ref()) {
                    base = on;
                }
                base
            };
            let steps = |of: fn(&spec::Version) -> &Vec<Step>| chain.iter().flat_map(|one| of(one).clone()).collect();
            let upstream = chain.iter().find_map(|version| version.upstream.as_ref());
            Ok(Version {
                name: name.as_str().into(),
                base: base.as_str().into(),
                request: steps(|version| &version.request),
                query: steps(|version| &version.query),
                // Out of the last into the one before it, and so on.
                answer: chain.iter().rev().flat_map(|version| version.answer.clone()).collect(),
                upstream: upstream.and_then(|name| upstreams.get(name)).cloned(),
                headers: told(&spec.by, version)?,
            })
        });
        let known: Vec<Version> = known.collect::<Result<_, String>>()?;
        let default = spec.default.as_ref();
        let default = default.and_then(|name| known.iter().position(|version| *version.name == **name));
        let (parameter, segment) = match &spec.by {
            VersionKey::Path(name) => {
                let written = format!("{{{name}}}");
                let segment = route.matcher.path.split('/').position(|segment| segment == written);
                (parameters.iter().position(|known| known == name), segment)
            }
            _ => (None, None),
        };
        Ok(Self { by: spec.by.clone(), parameter, segment, default, known })
    }

    /// The version that a request names, or the one of those that name none.
    ///
    /// # Errors
    /// What it names instead; empty where it names none.
    pub fn find(&self, captures: &[String], headers: &HeaderMap) -> Result<usize, String> {
        let named = match &self.by {
            VersionKey::Path(_) => self.parameter.and_then(|at| captures.get(at)).cloned(),
            VersionKey::Header(name) => {
                headers.get(name.as_str()).map(|value| value.to_str().unwrap_or("?").trim().to_owned())
            }
            VersionKey::MediaType => named_in(headers, ACCEPT).or_else(|| named_in(headers, CONTENT_TYPE)),
        };
        let Some(named) = named.filter(|named| !named.is_empty()) else {
            return self.default.ok_or_else(String::new);
        };
        self.known.iter().position(|version| bare(&version.name) == bare(&named)).ok_or(named)
    }

    /// Their names, for messages.
    pub fn names(&self) -> String {
        self.known.iter().map(|version| version.name.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Asks for the version that the upstream knows, in headers and path.
    pub fn rename(&self, at: usize, path: &mut String, captures: &mut [String], headers: &mut HeaderMap) {
        let Some(version) = self.known.get(at) else { return };
        match &self.by {
            VersionKey::Path(_) => {
                if let Some(capture) = self.parameter.and_then(|at| captures.get_mut(at)) {
                    *capture = version.base.to_string();
                }
                if let Some(segment) = self.segment {
                    let segments = path.split('/').enumerate();
                    let renamed = segments.map(|(at, text)| if at == segment { &*version.base } else { text });
                    *path = renamed.collect::<Vec<_>>().join("/");
                }
            }
            VersionKey::Header(name) => {
                if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&version.base)) {
                    headers.insert(name, value);
                }
            }
            VersionKey::MediaType => {
                for name in [ACCEPT, CONTENT_TYPE] {
                    let value = headers.get(&name).and_then(|value| value.to_str().ok()).map(str::to_owned);
                    let renamed = value.and_then(|value| HeaderValue::try_from(renamed(&value, &version.base)).ok());
                    if let Some(renamed) = renamed {
                        headers.insert(name, renamed);
                    }
                }
            }
        }
    }

    /// Names the caller's version again in the headers of an answer.
    pub fn rename_back(&self, at: usize, headers: &mut HeaderMap) {
        let Some(version) = self.known.get(at).filter(|version| version.name != version.base) else { return };
        let name = match &self.by {
            VersionKey::Path(_) => return,
            VersionKey::Header(name) => {
                if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&version.name))
                    && headers.contains_key(&name)
                {
                    headers.insert(name, value);
                }
                return;
            }
            VersionKey::MediaType => CONTENT_TYPE,
        };
        let value = headers.get(&name).and_then(|value| value.to_str().ok());
        if let Some(renamed) = value.and_then(|value| HeaderValue::try_from(renamed(value, &version.name)).ok()) {
            headers.insert(name, renamed);
        }
    }
}

impl Version {
    /// Whether answers must be read to be changed.
    pub fn changes_answers(&self) -> bool {
        !self.answer.is_empty()
    }

    /// The query as the upstream knows it.
    pub fn renamed_query(&self, query: &str) -> String {
        let mut fields = Value::Object(fields_of(query.as_bytes(), |_, text| text.into()));
        apply(&self.query, &mut fields);
        let mut written = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in fields.as_object().into_iter().flatten() {
            let values = value.as_array().map_or_else(|| vec![value], |items| items.iter().collect());
            for value in values {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                written.append_pair(name, &text);
            }
        }
        written.finish()
    }
}

/// What answers of a version tell.
fn told(by: &VersionKey, version: &spec::Version) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let value = |text: String| HeaderValue::try_from(&text).map_err(|_| format!("`{text}` cannot be a header's value"));
    let mut headers = Vec::new();
    if let Some(Day(at)) = version.deprecated {
        headers.push((DEPRECATION, value(format!("@{}", at.micros().div_euclid(1_000_000)))?));
    }
    if let Some(Day(at)) = version.sunset {
        headers.push((SUNSET, value(at.to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string())?));
    }
    if let Some(link) = &version.link {
        let relations = [("deprecation", version.deprecated.is_some()), ("sunset", version.sunset.is_some())];
        for (relation, _) in relations.into_iter().filter(|(_, is_told)| *is_told) {
            headers.push((LINK, value(format!("<{link}>; rel=\"{relation}\"; type=\"text/html\""))?));
        }
    }
    match by {
        VersionKey::Path(_) => {}
        VersionKey::Header(name) => headers.push((VARY, value(name.clone())?)),
        VersionKey::MediaType => headers.push((VARY, HeaderValue::from_static("accept"))),
    }
    Ok(headers)
}

/// `v1` and `1` are the same version.
fn bare(name: &str) -> &str {
    match name.strip_prefix(['v', 'V']) {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => rest,
        _ => name,
    }
}

/// The version in the first media type of a header that names one.
fn named_in(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).find_map(|kind| parts(kind).map(|(_, version, _)| version.to_owned()))
}

/// A media type before its version, the version, and what is behind it.
fn parts(kind: &str) -> Option<(&str, &str, &str)> {
    let lower = kind.to_ascii_lowercase();
    let is_parameter = |at: &usize| kind[..*at].trim_end().ends_with(';');
    if let Some(at) = lower.match_indices("version=").map(|(at, _)| at).find(is_parameter) {
        let start = at + "version=".len();
        let start = start + usize::from(kind[start..].starts_with('"'));
        let end = kind[start..].find(['"', ';', ' ']).map_or(kind.len(), |end| start + end);
        return Some((&kind[..start], &kind[start..end], &kind[end..]));
    }
    let start = lower.find("/vnd.")?;
    let end = kind[start..].find(['+', ';', ' ']).map_or(kind.len(), |end| start + end);
    let dots = kind[start..end].rfind('.').map(|dot| start + dot + 1)?;
    // `vnd.shop` has no version, `vnd.shop.v1` has.
    let version = &kind[dots..end];
    let digits = version.strip_prefix(['v', 'V']).unwrap_or(version);
    digits.starts_with(|c: char| c.is_ascii_digit()).then(|| (&kind[..dots], version, &kind[end..]))
}

/// A header's media types with another version, written with or without `v` as it was.
fn renamed(line: &str, to: &str) -> String {
    let kinds = line.split(',').map(|kind| match parts(kind) {
        None => kind.to_owned(),
        Some((before, version, behind)) => {
            let sign = if version.starts_with(['v', 'V']) && bare(version) != version { "v" } else { "" };
            format!("{before}{sign}{}{behind}", bare(to))
        }
    });
    kinds.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_media_types() {
        for (kind, version, other) in [
            ("application/vnd.shop.v1+json", Some("v1"), "application/vnd.shop.v2+json"),
            ("application/json;version=1", Some("1"), "application/json;version=2"),
            ("application/json; Version=\"1\"; q=0.5", Some("1"), "application/json; Version=\"2\"; q=0.5"),
            ("application/vnd.shop.1", Some("1"), "application/vnd.shop.2"),
            ("application/vnd.shop+json", None, "application/vnd.shop+json"),
            ("text/html, application/vnd.a.v1+json", Some("v1"), "text/html, application/vnd.a.v2+json"),
            ("*/*", None, "*/*"),
            ("application/json;conversion=1", None, "application/json;conversion=1"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, kind.parse().unwrap());
            assert_eq!(named_in(&headers, ACCEPT).as_deref(), version, "{kind}");
            assert_eq!(renamed(kind, "v2"), other);
        }
        assert_eq!((bare("v1"), bare("1"), bare("vega"), bare("2026-01")), ("1", "1", "vega", "2026-01"));
    }
}
