//! `google.api.http`: which request means which method (the grammar is that of google/api/http.proto).

use http::Method;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, MethodDescriptor, Value};

use crate::domain::path::decode;

/// Bindings of one method.
const MOST_BINDINGS: usize = 64;

/// A request that means a method.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) http: Method,
    pub(super) template: Template,
    pub(super) method: MethodDescriptor,
    pub(super) body: Option<String>,
    pub(super) answer: Option<String>,
}

/// A path template: `/v1/{name=shelves/*}/books/{id}:publish`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    segments: Vec<Segment>,
    /// Fields, and the segments that each has: from, and to before.
    fields: Vec<(String, usize, usize)>,
    verb: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Word(String),
    One,
    Rest,
}

/// All rules of a method: its binding and the additional ones, and its name where that is wanted.
pub(super) fn of_method(method: &MethodDescriptor, by_name: bool) -> Result<Vec<Rule>, String> {
    let wrong = |reason: String| format!("method `{}`: {reason}", method.full_name());
    let mut rules = Vec::new();
    if by_name {
        let template = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let template = Template::parse(&template).map_err(wrong)?;
        rules.push(Rule { http: Method::POST, template, method: method.clone(), body: Some("*".into()), answer: None });
    }
    let Some(extension) = method.parent_pool().get_extension_by_name("google.api.http") else { return Ok(rules) };
    let options = method.options();
    if !options.has_extension(&extension) {
        return Ok(rules);
    }
    let rule = options.get_extension(&extension);
    let Some(rule) = rule.as_message() else { return Ok(rules) };
    rules.push(binding(method, rule).map_err(wrong)?);
    let more = rule.get_field_by_name("additional_bindings");
    let more = more.as_ref().and_then(|more| more.as_list()).unwrap_or_default();
    for rule in more.iter().filter_map(Value::as_message).take(MOST_BINDINGS) {
        rules.push(binding(method, rule).map_err(wrong)?);
    }
    Ok(rules)
}

fn binding(method: &MethodDescriptor, rule: &DynamicMessage) -> Result<Rule, String> {
    let text = |message: &DynamicMessage, name: &str| {
        let value = message.get_field_by_name(name)?;
        value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let plain = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    let plain = plain.into_iter().find_map(|(name, http)| Some((http, text(rule, name)?)));
    let custom = || {
        let custom = rule.get_field_by_name("custom")?;
        let custom = custom.as_message()?;
        Some((text(custom, "kind")?.parse::<Method>().ok()?, text(custom, "path")?))
    };
    let (http, path) = plain.or_else(custom).ok_or("its rule has no path")?;
    let template = Template::parse(&path)?;
    for (field, ..) in &template.fields {
        known(&method.input(), field)?;
    }
    let body = text(rule, "body");
    if let Some(field) = body.as_deref().filter(|field| *field != "*") {
        known(&method.input(), field)?;
    }
    let answer = text(rule, "response_body");
    if let Some(field) = &answer {
        known(&method.output(), field)?;
    }
    Ok(Rule { http, template, method: method.clone(), body, answer })
}

/// Whether a message has a field, which may lie within others: `order.customer.id`.
fn known(message: &MessageDescriptor, path: &str) -> Result<(), String> {
    let mut message = Some(message.clone());
    for name in path.split('.') {
        let field = message.as_ref().and_then(|message| message.get_field_by_name(name));
        let field = field.ok_or_else(|| format!("there is no field `{path}`"))?;
        message = match field.kind() {
            Kind::Message(message) => Some(message),
            _ => None,
        };
    }
    Ok(())
}

impl Template {
    /// Reads a template.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("path `{text}` {why}");
        let inner = text.strip_prefix('/').ok_or_else(|| wrong("must start with `/`"))?;
        // A colon within braces is none of a verb.
        let behind = inner.rfind('}').map_or(0, |at| at + 1).max(inner.rfind('/').map_or(0, |at| at + 1));
        let (inner, verb) = match inner[behind..].find(':') {
            Some(at) => (&inner[..behind + at], Some(inner[behind + at + 1..].to_owned())),
            None => (inner, None),
        };
        let mut template = Self { segments: Vec::new(), fields: Vec::new(), verb };
        let mut rest = inner;
        while !rest.is_empty() {
            let after = if let Some(field) = rest.strip_prefix('{') {
                let (field, after) = field.split_once('}').ok_or_else(|| wrong("has a `{` that is not closed"))?;
                let (name, segments) = field.split_once('=').unwrap_or((field, "*"));
                let from = template.segments.len();
                segments.split('/').try_for_each(|one| template.add(one)).map_err(|why| wrong(&why))?;
                template.fields.push((name.trim().to_owned(), from, template.segments.len()));
                after
            } else {
                let (one, after) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
                template.add(one).map_err(|why| wrong(&why))?;
                after
            };
            rest = match after.strip_prefix('/') {
                Some(more) => more,
                None if after.is_empty() => after,
                None => return Err(wrong("has a segment that is partly a field; a field is a whole segment")),
            };
        }
        match template.segments.iter().position(|segment| *segment == Segment::Rest) {
            Some(at) if at + 1 != template.segments.len() => Err(wrong("has a `**` before its end")),
            _ => Ok(template),
        }
    }

    fn add(&mut self, one: &str) -> Result<(), String> {
        self.segments.push(match one {
            "*" => Segment::One,
            "**" => Segment::Rest,
            "" => return Err("has an empty segment".into()),
            word if word.contains(['{', '}', '*']) => return Err("has a segment that is partly a field".into()),
            word => Segment::Word(word.to_owned()),
        });
        Ok(())
    }

    /// Words, then length: what asks for more comes first.
    pub(super) fn precision(&self) -> (usize, usize, bool) {
        let words = self.segments.iter().filter(|segment| matches!(segment, Segment::Word(_))).count();
        (words + usize::from(self.verb.is_some()), self.segments.len(), self.segments.last() != Some(&Segment::Rest))
    }

    /// The fields that a path has for this template, where it fits.
    pub(super) fn fit(&self, path: &str) -> Option<Vec<(String, String)>> {
        let path = path.strip_prefix('/')?;
        let path = match &self.verb {
            Some(verb) => path.strip_suffix(verb.as_str())?.strip_suffix(':')?,
            None => path,
        };
        let segments: Vec<&str> = path.split('/').collect();
        let ends_open = self.segments.last() == Some(&Segment::Rest);
        let fixed = self.segments.len() - usize::from(ends_open);
        if segments.len() < fixed || (!ends_open && segments.len() > fixed) {
            return None;
        }
        let fits = self.segments.iter().zip(&segments).all(|(wanted, segment)| match wanted {
            Segment::Word(word) => word == segment,
            Segment::One => !segment.is_empty(),
            Segment::Rest => true,
        });
        if !fits {
            return None;
        }
        let field = |(name, from, to): &(String, usize, usize)| {
            let to = if ends_open && *to == self.segments.len() { segments.len() } else { *to };
            let own = segments.get(*from..to).unwrap_or_default();
            let text = match own {
                [one] => decode(one).into_owned(),
                // A slash that is escaped is not one that parts.
                many => many
                    .iter()
                    .map(|one| decode(&one.replace("%2F", "%252F").replace("%2f", "%252F")).into_owned())
                    .collect::<Vec<_>>()
                    .join("/"),
            };
            (name.clone(), text)
        };
        Some(self.fields.iter().map(field).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_fit_paths() {
        let pairs = |list: &[(&str, &str)]| {
            Some(list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect::<Vec<_>>())
        };
        for (template, path, fields) in [
            ("/v1/items", "/v1/items", pairs(&[])),
            ("/v1/items", "/v1/items/", None),
            ("/v1/items/{id}", "/v1/items/a%20b", pairs(&[("id", "a b")])),
            ("/v1/items/{id}", "/v1/items/a/b", None),
            ("/v1/{name=shelves/*/books/*}", "/v1/shelves/1/books/2", pairs(&[("name", "shelves/1/books/2")])),
            (
                "/v1/{name=shelves/*}/{book.id}:read",
                "/v1/shelves/1/2:read",
                pairs(&[("name", "shelves/1"), ("book.id", "2")]),
            ),
            ("/v1/{name=shelves/*}:read", "/v1/shelves/1", None),
            ("/v1/files/{path=**}", "/v1/files/a/b%2Fc/d", pairs(&[("path", "a/b%2Fc/d")])),
            ("/v1/*/x", "/v1/any/x", pairs(&[])),
        ] {
            assert_eq!(Template::parse(template).unwrap().fit(path), fields, "{template} {path}");
        }
        for bad in ["v1", "/v1/{id", "/v1//x", "/v1/a{id}", "/v1/{a=**}/x"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
