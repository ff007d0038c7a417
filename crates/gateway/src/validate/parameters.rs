//! Parameters of path, query, headers and cookies: their texts as the values that their schemas speak of.

use http::HeaderMap;
use http::header::COOKIE;
use jsonschema::Validator;
use serde_json::{Map, Value};

use super::{Fault, Faults, In};
use crate::domain::path::decode;
use crate::mapping::fields_of;

/// A parameter compiled for serving.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) is_required: bool,
    pub(super) shape: Shape,
    pub(super) validator: Option<Validator>,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The segment of the path that is captured as such.
    Path(usize),
    Query,
    Header,
    Cookie,
}

/// How its text is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A single value of these types.
    Scalar(Kinds),
    /// A list; where it is not repeated its items are parted by this.
    List { parted_by: Option<char>, items: Kinds },
    /// `name[field]=value` of these fields.
    Deep(Vec<(String, Kinds)>),
    /// JSON.
    Json,
}

/// The JSON types that a schema allows, as far as they change how a text is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    pub(super) number: bool,
    pub(super) boolean: bool,
    pub(super) null: bool,
    /// Of a form's field: it is a list of these, of one item too.
    pub(super) list: bool,
}

impl Kinds {
    pub(super) fn of(schema: &Value) -> Self {
        // Where the type is not said, it is that of the values that are.
        let values = schema.get("enum").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let values = || values.iter().chain(schema.get("const")).filter(|_| schema.get("type").is_none());
        Self {
            number: names_type(schema, "integer") || names_type(schema, "number") || values().any(Value::is_number),
            boolean: names_type(schema, "boolean") || values().any(Value::is_boolean),
            null: names_type(schema, "null") || values().any(Value::is_null),
            list: false,
        }
    }

    /// What either may be.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            number: self.number || other.number,
            boolean: self.boolean || other.boolean,
            null: self.null || other.null,
            list: self.list || other.list,
        }
    }

    /// The value that a text stands for.
    pub(super) fn read(self, text: &str) -> Value {
        match text {
            "true" | "false" if self.boolean => Value::Bool(text == "true"),
            "" | "null" if self.null => Value::Null,
            _ if self.number => match text.parse::<serde_json::Number>() {
                // What Rust reads and JSON does not write is no number.
                Ok(number) if !text.starts_with('+') => Value::Number(number),
                _ => Value::String(text.to_owned()),
            },
            _ => Value::String(text.to_owned()),
        }
    }
}

/// Whether a schema names this type, alone or among others.
pub(super) fn names_type(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(kind)) => kind == name,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
        _ => false,
    }
}

/// What parameters are read from.
pub(super) struct Given<'r> {
    pub(super) captures: &'r [&'r str],
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: &'r HeaderMap,
}

impl Parameter {
    fn place_name(&self) -> In {
        match self.place {
            Place::Path(_) => In::Path,
            Place::Query => In::Query,
            Place::Header => In::Header,
            Place::Cookie => In::Cookie,
        }
    }

    /// Notes what is wrong with it.
    pub(super) fn check(&self, given: &Given<'_>, faults: &mut Faults) {
        let place = self.place_name();
        let pointer = format!("/{}", self.name.replace('~', "~0").replace('/', "~1"));
        let Some(value) = self.value(given) else {
            if self.is_required {
                faults.add(Fault { place, pointer, detail: "it is missing".into() });
            }
            return;
        };
        let value = match value {
            Ok(value) => value,
            Err(detail) => return faults.add(Fault { place, pointer, detail }),
        };
        if let Some(validator) = &self.validator {
            faults.check(validator, &value, place, &pointer);
        }
    }

    fn value(&self, given: &Given<'_>) -> Option<Result<Value, String>> {
        if let (Shape::Deep(fields), Place::Query) = (&self.shape, self.place) {
            let found = fields.iter().filter_map(|(field, kinds)| {
                let name = format!("{}[{field}]", self.name);
                let (_, text) = given.query.iter().find(|(known, _)| *known == name)?;
                Some((field.clone(), kinds.read(text)))
            });
            let found: Map<String, Value> = found.collect();
            return (!found.is_empty()).then_some(Ok(Value::Object(found)));
        }
        let texts = self.texts(given);
        let first = texts.first()?;
        Some(match &self.shape {
            Shape::Scalar(kinds) => Ok(kinds.read(first)),
            Shape::List { parted_by: None, items } => Ok(texts.iter().map(|text| items.read(text)).collect()),
            Shape::List { parted_by: Some(_), .. } if first.is_empty() => Ok(Value::Array(Vec::new())),
            Shape::List { parted_by: Some(by), items } => {
                Ok(first.split(*by).map(|text| items.read(text.trim())).collect())
            }
            Shape::Json => serde_json::from_str(first).map_err(|_| "it is not JSON".to_owned()),
            Shape::Deep(_) => Ok(Value::String(first.clone())),
        })
    }

    fn texts(&self, given: &Given<'_>) -> Vec<String> {
        match self.place {
            Place::Path(at) => given.captures.get(at).map(|text| decode(text).into_owned()).into_iter().collect(),
            Place::Query => {
                given.query.iter().filter(|(name, _)| *name == self.name).map(|(_, text)| text.clone()).collect()
            }
            Place::Header => {
                let lines: Vec<&str> =
                    given.headers.get_all(&self.name).iter().filter_map(|line| line.to_str().ok()).collect();
                if lines.is_empty() { Vec::new() } else { vec![lines.join(",")] }
            }
            Place::Cookie => {
                let lines = given.headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
                let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
                pairs.filter(|(name, _)| *name == self.name).map(|(_, text)| text.to_owned()).collect()
            }
        }
    }
}

/// A form's fields as an object.
pub(super) fn form(body: &[u8], kinds: &[(String, Kinds)]) -> Value {
    let of = |name: &str| kinds.iter().find(|(known, _)| known == name).map(|(_, kinds)| *kinds).unwrap_or_default();
    let mut fields = fields_of(body, |name, text| of(name).read(text));
    for (name, value) in &mut fields {
        if of(name).list && !value.is_array() {
            *value = Value::Array(vec![value.take()]);
        }
    }
    Value::Object(fields)
}
