//! `aggregate`: one route that asks several upstreams and shapes one answer.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tessera_kernel::{Bytes, Span};

use super::check::{Fault, ensure, fault};
use super::{Gateway, Route};
use crate::mapping::{FieldPath, FieldText, Form, Step};
use tessera_service::yaml::hint;

/// The most calls of a route.
const MAX_CALLS: usize = 16;
/// Names that stand for the request beside the path's parameters.
const REQUEST: [&str; 5] = ["query", "headers", "claims", "body", "subject"];

/// Asks several upstreams and shapes one answer.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// The calls, by name. One that uses what another is answered waits for it; the others go at the same time.
    pub calls: BTreeMap<String, Call>,
    /// The answer, with `{places}` in what the calls are answered; all of it by call where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Form>,
    /// Steps that change the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub change: Vec<Step>,
    /// The field of the answer that lists which calls failed, beside the header `x-gateway-partial`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<FieldPath>,
}

/// A call of an upstream. Texts may have `{places}`: of answers to other calls (`{user.id}`), parameters of the path (`{id}`),
/// `{query.NAME}`, `{headers.NAME}`, `{body.FIELD}`, `{claims.NAME}` and `{subject}`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The upstream.
    pub upstream: String,
    /// The method.
    #[serde(default = "get")]
    pub method: String,
    /// Path and query.
    pub path: FieldText,
    /// Headers that are set, beside those of the caller.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, FieldText>,
    /// The JSON that is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Form>,
    /// How long it may take; the route's `timeout` where it is left out, and never longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// The largest answer.
    #[serde(default = "size")]
    pub size: Bytes,
    /// Whether the others are answered without it when it fails.
    #[serde(default)]
    pub optional: bool,
    /// What it is taken to have been answered when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Steps that change what it is answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub change: Vec<Step>,
}

fn get() -> String {
    "GET".into()
}

fn size() -> Bytes {
    Bytes(1 << 20)
}

impl Call {
    /// All places that it uses.
    pub fn places(&self) -> impl Iterator<Item = &FieldPath> {
        let texts = [&self.path].into_iter().chain(self.headers.values());
        texts.flat_map(FieldText::places).chain(self.body.iter().flat_map(Form::places))
    }

    /// Whether the others go on when it fails.
    pub fn may_fail(&self) -> bool {
        self.optional || self.default.is_some()
    }
}

impl Aggregate {
    /// All places that calls and answer use.
    pub fn places(&self) -> impl Iterator<Item = &FieldPath> {
        self.calls.values().flat_map(Call::places).chain(self.answer.iter().flat_map(Form::places))
    }

    /// The calls in an order in which each comes after those it waits for, and the names of these.
    ///
    /// # Errors
    /// Calls that wait for each other.
    pub fn order(&self) -> Result<Vec<(&str, Vec<&str>)>, Vec<&str>> {
        let waits = |call: &Call| -> Vec<&str> {
            let mut names: Vec<&str> = call
                .places()
                .filter_map(FieldPath::first_key)
                .filter_map(|name| self.calls.get_key_value(name).map(|(name, _)| name.as_str()))
                .collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let mut left: Vec<(&str, Vec<&str>)> =
            self.calls.iter().map(|(name, call)| (name.as_str(), waits(call))).collect();
        let mut ordered: Vec<(&str, Vec<&str>)> = Vec::new();
        while !left.is_empty() {
            let is_known = |name: &&str| ordered.iter().any(|(known, _)| known == name);
            let (ready, waiting): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|(_, needed)| needed.iter().all(&is_known));
            if ready.is_empty() {
                return Err(waiting.into_iter().map(|(name, _)| name).collect());
            }
            ordered.extend(ready);
            left = waiting;
        }
        Ok(ordered)
    }
}

/// Checks an aggregation against the rest of the file.
pub(super) fn check(gateway: &Gateway, route: &Route, parameters: &[String]) -> Result<(), Fault> {
    let Some(aggregate) = &route.aggregate else { return Ok(()) };
    let name = route.name.as_str();
    let calls = &aggregate.calls;
    ensure((1..=MAX_CALLS).contains(&calls.len()), &["routes", name, "aggregate", "calls"], || {
        format!("an aggregation has 1 to {MAX_CALLS} calls, this one {}", calls.len())
    })?;
    let upstreams: Vec<&str> = gateway.upstreams.keys().map(String::as_str).collect();
    let mut known: Vec<&str> = calls.keys().map(String::as_str).collect();
    known.extend(parameters.iter().map(String::as_str).chain(REQUEST));
    for (call_name, call) in calls {
        let at = |key: &'static str| ["routes", name, "calls", call_name, key];
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let is_taken = REQUEST.contains(&call_name.as_str()) || parameters.contains(call_name);
        ensure(!call_name.is_empty() && call_name.chars().all(good) && !is_taken, &at("upstream")[..4], || {
            format!(
                "a call cannot have the name `{call_name}`; use letters, digits, `_` and `-`, and no name of the request"
            )
        })?;
        ensure(upstreams.contains(&call.upstream.as_str()), &at("upstream"), || {
            format!("there is no upstream `{}`; {}", call.upstream, hint(&call.upstream, "upstreams", &upstreams))
        })?;
        ensure(!call.method.is_empty() && call.method.chars().all(|c| c.is_ascii_uppercase()), &at("method"), || {
            format!("`{}` is not a method; write it in capital letters", call.method)
        })?;
        ensure(call.path.start().starts_with('/'), &at("path"), || format!("`{}` must start with `/`", call.path))?;
        for header in call.headers.keys() {
            ensure(http::HeaderName::try_from(header.as_str()).is_ok(), &at("headers"), || {
                format!("`{header}` cannot be the name of a header")
            })?;
        }
        ensure(call.timeout.is_none_or(|timeout| !timeout.0.is_zero()), &at("timeout"), || {
            "timeout must be more than 0; write 500ms".into()
        })?;
    }
    let unknown = aggregate.places().find(|place| !place.first_key().is_some_and(|key| known.contains(&key)));
    if let Some(place) = unknown {
        let key = place.first_key().unwrap_or_default();
        let detail = format!("`{{{place}}}` is not known here; {}", hint(key, "names", &known));
        return fault(&["routes", name, "aggregate"], detail);
    }
    match aggregate.order() {
        Ok(_) => Ok(()),
        Err(circle) => fault(
            &["routes", name, "calls", circle[0]],
            format!("the calls {} wait for each other; take one of the places out", circle.join(", ")),
        ),
    }
}
