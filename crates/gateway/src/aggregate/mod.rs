//! One answer out of several: which calls there are, what each waits for, and how the answer is made of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, Method};
use serde_json::{Map, Value, json};

use crate::mapping::{FieldText, apply};
use crate::spec;
use crate::upstream::Upstream;

/// An aggregation compiled for serving.
#[derive(Debug)]
pub struct Plan {
    /// The calls, each behind those it waits for.
    pub calls: Vec<Call>,
    /// What the file says.
    pub spec: spec::Aggregate,
    /// Whether the request's body is used.
    pub uses_body: bool,
    /// The request's headers that are used, in small letters.
    pub uses_headers: Vec<String>,
}

/// A call compiled for serving.
#[derive(Debug)]
pub struct Call {
    /// Its name.
    pub name: Arc<str>,
    /// Whom it asks.
    pub upstream: Arc<Upstream>,
    /// Its method.
    pub method: Method,
    /// Headers that it sets.
    pub headers: Vec<(HeaderName, FieldText)>,
    /// The places in [`Plan::calls`] of those it waits for.
    pub after: Vec<usize>,
    /// What the file says.
    pub spec: spec::Call,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The call's name.
    pub call: Arc<str>,
    /// Why, as a code.
    pub code: &'static str,
    /// What it was answered, where it was.
    pub status: Option<u16>,
}

impl Plan {
    /// From the config file.
    ///
    /// # Errors
    /// What is wrong.
    pub fn new(spec: &spec::Aggregate, upstreams: &BTreeMap<String, Arc<Upstream>>) -> Result<Self, String> {
        let order = spec.order().map_err(|circle| format!("the calls {} wait for each other", circle.join(", ")))?;
        let place = |name: &str| order.iter().position(|(known, _)| *known == name);
        let call = |(name, after): &(&str, Vec<&str>)| {
            let call = &spec.calls[*name];
            let upstream = upstreams.get(&call.upstream).cloned();
            let headers = call.headers.iter().map(|(name, text)| Ok((name.parse::<HeaderName>()?, text.clone())));
            let headers = headers.collect::<Result<_, http::header::InvalidHeaderName>>();
            Ok(Call {
                name: (*name).into(),
                upstream: upstream.ok_or_else(|| format!("there is no upstream `{}`", call.upstream))?,
                method: Method::from_bytes(call.method.as_bytes()).map_err(|error| error.to_string())?,
                headers: headers.map_err(|error| error.to_string())?,
                after: after.iter().filter_map(|name| place(name)).collect(),
                spec: call.clone(),
            })
        };
        let used = |name: &'static str| spec.places().filter(move |place| place.first_key() == Some(name));
        let header = |place: &crate::mapping::FieldPath| match place.parts().get(1) {
            Some(crate::mapping::Part::Key(name)) => Some(name.clone()),
            _ => None,
        };
        Ok(Self {
            calls: order.iter().map(call).collect::<Result<_, String>>()?,
            uses_body: used("body").next().is_some(),
            uses_headers: used("headers").filter_map(header).collect(),
            spec: spec.clone(),
        })
    }

    /// The answer made of what is known at the end: the request, and what each call was answered.
    pub fn answer(&self, known: &Value, failed: &[Failed]) -> Value {
        let mut answer = match &self.spec.answer {
            Some(form) => form.fill(known).unwrap_or(Value::Null),
            None => {
                let all = self
                    .calls
                    .iter()
                    .filter_map(|call| known.get(&*call.name).map(|value| (call.name.to_string(), value.clone())));
                Value::Object(all.collect::<Map<_, _>>())
            }
        };
        apply(&self.spec.change, &mut answer);
        if let Some(place) = &self.spec.failures
            && !failed.is_empty()
        {
            let failed = failed.iter().map(|failed| {
                let mut told = json!({ "call": &*failed.call, "code": failed.code });
                if let Some(status) = failed.status {
                    told["status"] = status.into();
                }
                told
            });
            place.write(&mut answer, &failed.collect());
        }
        answer
    }
}
