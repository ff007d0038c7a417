//! An OpenAPI document as it is compiled: read from a file, 3.0 made into 3.1, references followed within it.

use std::path::Path;

use serde_json::{Map, Value};

/// A document above this is refused.
const MAX_BYTES: u64 = 16 << 20;
/// References that follow each other.
const MAX_REFERENCES: usize = 16;
/// Schemas that another one is put together of, all levels together.
const MAX_PARTS: usize = 64;

/// The methods of OpenAPI.
pub const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Whose values a schema is used for: what only the other side sends is not asked of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// What callers send: nothing that is `readOnly`.
    Request,
    /// What services answer: nothing that is `writeOnly`.
    Answer,
}

/// Reads a JSON or YAML file.
///
/// # Errors
/// What is wrong, with the file.
pub fn read(path: &Path) -> Result<Value, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("`{}` cannot be used: {error}", path.display());
    let size = std::fs::metadata(path).map_err(|error| wrong(&error))?.len();
    if size > MAX_BYTES {
        return Err(wrong(&format!("it is {size} bytes, over the limit of {MAX_BYTES}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    parse(&text).map_err(|error| wrong(&error))
}

/// Reads JSON or YAML.
///
/// # Errors
/// What is wrong.
pub fn parse(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

/// Whether it is an OpenAPI document that is understood: 3.0 or 3.1.
///
/// # Errors
/// What it is instead.
pub fn version(document: &Value) -> Result<(), String> {
    match document.get("openapi").and_then(Value::as_str) {
        Some(version) if version.starts_with("3.0") || version.starts_with("3.1") => Ok(()),
        Some(version) => Err(format!("it is OpenAPI {version}; 3.0 and 3.1 are understood")),
        None => Err("it has no `openapi`, so it is no OpenAPI document".into()),
    }
}

/// A document of 3.0 as one of 3.1; others as they are.
pub fn renewed(document: &Value) -> Value {
    let mut document = document.clone();
    if is_old(&document) {
        visit(&mut document, &mut renew);
    }
    document
}

fn is_old(document: &Value) -> bool {
    document.get("openapi").and_then(Value::as_str).is_some_and(|version| version.starts_with("3.0"))
}

/// The document with its schemas as JSON Schema 2020-12, for one direction.
pub(super) fn for_direction(document: &Value, direction: Direction) -> Value {
    let mut document = renewed(document);
    visit(&mut document, &mut |fields| {
        let other = if direction == Direction::Request { "readOnly" } else { "writeOnly" };
        let Some(Value::Object(properties)) = fields.get("properties") else { return };
        let is_others = |name: &Value| {
            let property = name.as_str().and_then(|name| properties.get(name));
            property.and_then(|property| property.get(other)).and_then(Value::as_bool).unwrap_or(false)
        };
        let Some(Value::Array(required)) = fields.get("required") else { return };
        let required: Vec<Value> = required.iter().filter(|name| !is_others(name)).cloned().collect();
        fields.insert("required".into(), required.into());
    });
    document
}

fn visit(value: &mut Value, act: &mut dyn FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            act(fields);
            fields.values_mut().for_each(|value| visit(value, act));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| visit(item, act)),
        _ => {}
    }
}

/// What 3.0 writes otherwise than JSON Schema: `nullable`, and bounds that are left out.
fn renew(fields: &mut Map<String, Value>) {
    if fields.get("nullable") == Some(&Value::Bool(true)) {
        fields.shift_remove("nullable");
        if let Some(Value::String(kind)) = fields.get("type") {
            let kinds = vec![Value::from(kind.as_str()), Value::from("null")];
            fields.insert("type".into(), kinds.into());
        }
        if let Some(Value::Array(words)) = fields.get_mut("enum")
            && !words.contains(&Value::Null)
        {
            words.push(Value::Null);
        }
    }
    for (bound, excluded) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
        match fields.get(excluded) {
            Some(Value::Bool(true)) => {
                if let Some(value) = fields.shift_remove(bound) {
                    fields.insert(excluded.into(), value);
                }
            }
            Some(Value::Bool(false)) => drop(fields.shift_remove(excluded)),
            _ => {}
        }
    }
}

/// A place in a document, its references followed.
#[derive(Clone, Debug)]
pub(super) struct Place<'d> {
    document: &'d Value,
    /// As a JSON pointer.
    pub(super) pointer: String,
    /// What is there.
    pub(super) value: &'d Value,
}

impl<'d> Place<'d> {
    /// A schema that says nothing.
    pub(super) const ANYTHING: Self = Self { document: &Value::Null, pointer: String::new(), value: &Value::Null };

    /// The document itself.
    pub(super) fn root(document: &'d Value) -> Self {
        Self { document, pointer: String::new(), value: document }
    }

    /// A field or item, its references followed; `None` where there is none.
    ///
    /// # Errors
    /// A reference that leads nowhere in the document.
    pub(super) fn get(&self, key: &str) -> Result<Option<Self>, String> {
        let found = match self.value {
            Value::Array(items) => key.parse::<usize>().ok().and_then(|at| items.get(at)),
            value => value.get(key),
        };
        let Some(value) = found else { return Ok(None) };
        let pointer = format!("{}/{}", self.pointer, key.replace('~', "~0").replace('/', "~1"));
        Self { document: self.document, pointer, value }.followed().map(Some)
    }

    /// The same without following what is there, for schemas, whose references the validator follows.
    pub(super) fn schema(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key)?;
        let pointer = format!("{}/{}", self.pointer, key.replace('~', "~0").replace('/', "~1"));
        Some(Self { document: self.document, pointer, value })
    }

    /// Where its references lead.
    ///
    /// # Errors
    /// A reference that leads nowhere in the document.
    pub(super) fn followed(mut self) -> Result<Self, String> {
        for _ in 0..MAX_REFERENCES {
            let Some(reference) = self.value.get("$ref").and_then(Value::as_str) else { return Ok(self) };
            let pointer = reference.strip_prefix('#').ok_or_else(|| {
                format!("`{reference}` leads out of the document; put what it leads to under `components`")
            })?;
            let pointer = crate::domain::path::decode(pointer).into_owned();
            let value = self.document.pointer(&pointer);
            let value = value.ok_or_else(|| format!("`{reference}` leads nowhere"))?;
            self = Self { document: self.document, pointer, value };
        }
        Err(format!("the references at `{}` follow each other without end", self.pointer))
    }

    /// A schema with those that it is put together of by `allOf`, `anyOf` and `oneOf`, on all levels.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(super) fn parts(&self) -> Result<Vec<Self>, String> {
        let mut parts = vec![self.clone().followed()?];
        let mut at = 0;
        while at < parts.len() && parts.len() < MAX_PARTS {
            for key in ["allOf", "anyOf", "oneOf"] {
                let Some(list) = parts[at].get(key)? else { continue };
                for index in list.keys() {
                    parts.extend(list.get(&index)?);
                }
            }
            at += 1;
        }
        Ok(parts)
    }

    /// The names of its fields, or the numbers of its items.
    pub(super) fn keys(&self) -> Vec<String> {
        match self.value {
            Value::Object(fields) => fields.keys().cloned().collect(),
            Value::Array(items) => (0..items.len()).map(|at| at.to_string()).collect(),
            _ => Vec::new(),
        }
    }

    /// A field that is text.
    pub(super) fn text(&self, key: &str) -> Option<&'d str> {
        self.value.get(key)?.as_str()
    }

    /// A field that is true.
    pub(super) fn is(&self, key: &str) -> bool {
        self.value.get(key).and_then(Value::as_bool).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_of_3_0_becomes_one_of_3_1_for_each_side() {
        let document = json!({ "openapi": "3.0.3", "components": { "schemas": { "A": {
            "type": "object", "required": ["id", "secret", "n"],
            "properties": {
                "id": { "type": "integer", "readOnly": true },
                "secret": { "type": "string", "writeOnly": true },
                "n": { "type": "number", "nullable": true, "minimum": 1, "exclusiveMinimum": true },
            },
        } } } });
        let schema = |direction| for_direction(&document, direction).pointer("/components/schemas/A").cloned().unwrap();
        assert_eq!(schema(Direction::Request)["required"], json!(["secret", "n"]));
        assert_eq!(schema(Direction::Answer)["required"], json!(["id", "n"]));
        let wanted = json!({ "type": ["number", "null"], "exclusiveMinimum": 1 });
        assert_eq!(schema(Direction::Answer)["properties"]["n"], wanted);
        assert!(version(&document).is_ok() && version(&json!({ "swagger": "2.0" })).is_err());
    }

    #[test]
    fn references_are_followed_within_the_document() {
        let document = json!({ "a": { "$ref": "#/b~1c/0" }, "b/c": [{ "x": 1 }], "out": { "$ref": "other.yaml" }, "me": { "$ref": "#/me" } });
        let root = Place::root(&document);
        let place = root.get("a").unwrap().unwrap();
        assert_eq!((place.pointer.as_str(), place.value), ("/b~1c/0", &json!({ "x": 1 })));
        assert!(
            root.get("out").unwrap_err().contains("leads out") && root.get("me").unwrap_err().contains("without end")
        );
        assert!(root.get("none").unwrap().is_none());
    }
}
