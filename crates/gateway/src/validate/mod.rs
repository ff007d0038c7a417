//! Requests and answers against an OpenAPI document or a JSON Schema (2020-12). A document is compiled once; nothing is
//! fetched for it, and patterns are matched in linear time.

mod compile;
mod document;
mod parameters;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use jsonschema::Validator;
use serde_json::Value;

pub use document::{METHODS, parse, read, renewed, version};

use crate::domain::path_tree::PathTree;
use parameters::{Given, Kinds, Parameter};

/// Faults that are listed; a body with more is as wrong as it can be.
const MOST_FAULTS: usize = 50;
/// The longest detail.
const MOST_DETAIL_CHARS: usize = 300;

/// A part of a request or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum In {
    /// The path's parameters.
    Path,
    /// The query's parameters.
    Query,
    /// Headers.
    Header,
    /// Cookies.
    Cookie,
    /// The body.
    Body,
}

impl In {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
            Self::Body => "body",
        }
    }
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In which part.
    pub place: In,
    /// Where in it, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong; never with the value itself.
    pub detail: String,
}

/// Faults, up to a number.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) list: Vec<Fault>,
    /// Whether the body is of a type that is not taken, which has a status of its own.
    pub(crate) is_unknown_type: bool,
}

impl Faults {
    fn add(&mut self, fault: Fault) {
        if self.list.len() < MOST_FAULTS {
            self.list.push(fault);
        }
    }

    fn check(&mut self, validator: &Validator, value: &Value, place: In, within: &str) {
        for error in validator.iter_errors(value).take(MOST_FAULTS) {
            let detail = error.masked().to_string().chars().take(MOST_DETAIL_CHARS).collect();
            self.add(Fault { place, pointer: format!("{within}{}", error.instance_path()), detail });
        }
    }
}

/// A document or schema compiled for serving.
#[derive(Debug)]
pub struct Rules {
    /// Operations by path; the captured segments are their parameters.
    paths: PathTree<usize>,
    operations: Vec<Vec<(Method, Operation)>>,
    /// What stands before the document's paths.
    base: String,
    /// Of all requests, where there is no document.
    any: Option<Operation>,
}

/// What a document says of a method of a path.
#[derive(Debug, Default)]
pub struct Operation {
    parameters: Vec<Parameter>,
    is_body_required: bool,
    bodies: Vec<Content>,
    answers: Vec<(Statuses, Vec<Content>)>,
}

/// A body of one media type.
#[derive(Debug)]
struct Content {
    /// In small letters, perhaps with `*`.
    kind: String,
    reading: Reading,
    validator: Option<Validator>,
}

/// How a body becomes a value.
#[derive(Debug)]
enum Reading {
    Json,
    Form(Vec<(String, Kinds)>),
    /// It is not looked into.
    Opaque,
}

/// Which statuses an answer is described for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Statuses {
    One(u16),
    /// All with this first digit.
    Class(u16),
    Others,
}

/// What a request is checked by.
#[derive(Debug)]
pub enum Found<'r> {
    /// This.
    Operation(&'r Operation, Vec<String>),
    /// The document does not have this path.
    NoPath,
    /// The path has other methods.
    NoMethod(Vec<&'r Method>),
}

impl Rules {
    /// What is said of a method of a path.
    pub fn find(&self, method: &Method, path: &str) -> Found<'_> {
        if let Some(any) = &self.any {
            return Found::Operation(any, Vec::new());
        }
        let Some(path) = path.strip_prefix(self.base.as_str()) else { return Found::NoPath };
        let mut allowed: Vec<&Method> = Vec::new();
        let found = self.paths.find(path, |at, captures| {
            let methods = &self.operations[*at];
            let of = |wanted: &Method| methods.iter().find(|(known, _)| known == wanted);
            // Who describes GET describes HEAD.
            let found = of(method).or_else(|| (*method == Method::HEAD).then(|| of(&Method::GET)).flatten());
            match found {
                Some((_, operation)) => Some((operation, captures.iter().map(|text| (*text).to_owned()).collect())),
                None => {
                    allowed.extend(methods.iter().map(|(method, _)| method));
                    None
                }
            }
        });
        match found {
            Some((operation, captures)) => Found::Operation(operation, captures),
            None if allowed.is_empty() => Found::NoPath,
            None => Found::NoMethod(allowed),
        }
    }
}

impl Operation {
    /// Whether the body of a request with these headers must be looked into.
    pub fn reads_body(&self, headers: &HeaderMap) -> bool {
        let kind = media_type(headers);
        self.bodies.iter().any(|body| takes(&body.kind, &kind) && !matches!(body.reading, Reading::Opaque))
    }

    /// Whether the body of an answer must be looked into.
    pub fn reads_answer(&self, status: u16, headers: &HeaderMap) -> bool {
        let kind = media_type(headers);
        let reads = |content: &Content| takes(&content.kind, &kind) && matches!(content.reading, Reading::Json);
        self.answer(status).is_some_and(|contents| contents.iter().any(reads))
    }

    /// Checks a request; `body` is `None` where it is not looked into.
    pub(crate) fn check_request(
        &self,
        captures: &[String],
        query: Option<&str>,
        headers: &HeaderMap,
        has_body: bool,
        body: Option<&Bytes>,
    ) -> Faults {
        let mut faults = Faults::default();
        let captures: Vec<&str> = captures.iter().map(String::as_str).collect();
        let query = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        let given = Given { captures: &captures, query, headers };
        self.parameters.iter().for_each(|parameter| parameter.check(&given, &mut faults));
        self.check_body(headers, has_body, body, &mut faults);
        faults
    }

    fn check_body(&self, headers: &HeaderMap, has_body: bool, body: Option<&Bytes>, faults: &mut Faults) {
        let fault = |detail: String| Fault { place: In::Body, pointer: String::new(), detail };
        if self.bodies.is_empty() {
            return;
        }
        if !has_body {
            if self.is_body_required {
                faults.add(fault("it is missing".into()));
            }
            return;
        }
        let kind = media_type(headers);
        let Some(content) = self.bodies.iter().find(|content| takes(&content.kind, &kind)) else {
            let known: Vec<&str> = self.bodies.iter().map(|content| content.kind.as_str()).collect();
            let detail = format!("`{kind}` is not taken here; send {}", known.join(" or "));
            faults.is_unknown_type = true;
            return faults.add(Fault { place: In::Header, pointer: "/content-type".into(), detail });
        };
        let Some(body) = body else { return };
        let value = match &content.reading {
            Reading::Opaque => return,
            Reading::Form(kinds) => parameters::form(body, kinds),
            Reading::Json => match serde_json::from_slice(body) {
                Ok(value) => value,
                Err(error) => {
                    let detail = format!("it is not JSON: line {}, column {}", error.line(), error.column());
                    return faults.add(fault(detail));
                }
            },
        };
        if let Some(validator) = &content.validator {
            faults.check(validator, &value, In::Body, "");
        }
    }

    /// Checks the body of an answer.
    pub(crate) fn check_answer(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Faults {
        let mut faults = Faults::default();
        let kind = media_type(headers);
        let Some(contents) = self.answer(status) else { return faults };
        let Some(content) = contents.iter().find(|content| takes(&content.kind, &kind)) else { return faults };
        match serde_json::from_slice(body) {
            Ok(value) => {
                if let Some(validator) = &content.validator {
                    faults.check(validator, &value, In::Body, "");
                }
            }
            Err(_) => {
                faults.add(Fault { place: In::Body, pointer: String::new(), detail: "it is not JSON".into() });
            }
        }
        faults
    }

    /// Whether it says anything of answers with this status.
    pub fn describes(&self, status: u16) -> bool {
        self.answers.is_empty() || self.answer(status).is_some()
    }

    /// The most particular description of a status: they are sorted so.
    fn answer(&self, status: u16) -> Option<&Vec<Content>> {
        let fits = |statuses: &Statuses| match statuses {
            Statuses::One(one) => *one == status,
            Statuses::Class(class) => *class == status / 100,
            Statuses::Others => true,
        };
        self.answers.iter().find(|(statuses, _)| fits(statuses)).map(|(_, contents)| contents)
    }
}

/// The media type without its parameters, in small letters.
fn media_type(headers: &HeaderMap) -> String {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn takes(known: &str, kind: &str) -> bool {
    match known.strip_suffix('*') {
        Some("*/") => true,
        Some(start) => kind.starts_with(start),
        None => known == kind,
    }
}
