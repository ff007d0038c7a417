//! References and schemas: a schema becomes a small example of what it describes, so that the same rules find the rows,
//! the paginator and the keys in a description and in a response.

use std::cell::Cell;

use serde_json::{Map, Value, json};

use super::super::detect::{is_offset_param, words};

/// A reference to a reference to a reference: more than this is a circle.
const MAX_HOPS: usize = 16;
/// Objects inside objects: rows are not deeper.
const MAX_DEPTH: usize = 10;
/// Nodes of one example; schemas that refer to each other widely would grow without end.
const MAX_NODES: u32 = 5_000;

pub(super) struct Document {
    pub(super) root: Value,
}

impl Document {
    pub(super) fn new(root: Value) -> Self {
        Self { root }
    }

    /// What a local `$ref` leads to; a value without one is itself. A circle or a foreign reference leads nowhere.
    pub(super) fn resolve<'a>(&'a self, mut value: &'a Value) -> Option<&'a Value> {
        for _ in 0..MAX_HOPS {
            match value.get("$ref").and_then(Value::as_str) {
                None => return Some(value),
                Some(reference) => value = self.root.pointer(&decoded(reference.strip_prefix('#')?))?,
            }
        }
        None
    }

    /// An example of what `schema` describes.
    pub(super) fn example(&self, schema: &Value, next_link: &str) -> Value {
        Example { document: self, next_link, left: Cell::new(MAX_NODES) }.of(schema, "", 0, &mut Vec::new())
    }
}

/// A JSON pointer in a URL fragment may be percent-encoded.
fn decoded(pointer: &str) -> String {
    let bytes = pointer.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = pointer.get(at + 1..at + 3).and_then(|two| u8::from_str_radix(two, 16).ok());
        match code.filter(|_| bytes[at] == b'%') {
            Some(code) => {
                out.push(code);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

struct Example<'a> {
    document: &'a Document,
    next_link: &'a str,
    left: Cell<u32>,
}

impl<'a> Example<'a> {
    fn of(&self, schema: &'a Value, name: &str, depth: usize, above: &mut Vec<&'a str>) -> Value {
        if depth > MAX_DEPTH || self.left.get() == 0 {
            return Value::Null;
        }
        self.left.set(self.left.get() - 1);
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            if above.contains(&reference) {
                return Value::Null;
            }
            let Some(target) = reference.strip_prefix('#').and_then(|r| self.document.root.pointer(&decoded(r))) else {
                return Value::Null;
            };
            above.push(reference);
            let example = self.of(target, name, depth, above);
            above.pop();
            return example;
        }
        let mut fields = Map::new();
        let mut is_object = false;
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            match self.of(part, name, depth + 1, above) {
                Value::Object(more) => {
                    is_object = true;
                    fields.extend(more);
                }
                Value::Null => {}
                other if schema.get("properties").is_none() && !is_object => return other,
                _ => {}
            }
        }
        for choice in ["oneOf", "anyOf"] {
            let variants = schema.get(choice).and_then(Value::as_array).into_iter().flatten();
            let example = variants.map(|v| self.of(v, name, depth + 1, above)).find(|v| !v.is_null());
            match example {
                Some(Value::Object(more)) => {
                    is_object = true;
                    fields.extend(more);
                }
                Some(other) if schema.get("properties").is_none() && !is_object => return other,
                _ => {}
            }
        }
        for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            is_object = true;
            fields.insert(key.clone(), self.of(property, key, depth + 1, above));
        }
        if is_object {
            return Value::Object(fields);
        }
        match kind(schema) {
            "object" => Value::Object(fields),
            "array" => match schema.get("items").map(|items| self.of(items, name, depth + 1, above)) {
                // Rows that refer to themselves, or whose schema is left open, are rows all the same.
                Some(Value::Null) | None => Value::Array(vec![]),
                Some(item) => Value::Array(vec![item]),
            },
            kind => self.scalar(kind, schema, name),
        }
    }

    fn scalar(&self, kind: &str, schema: &Value, name: &str) -> Value {
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        let words = words(name);
        let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
        let is_time = has(&["at", "on", "time", "timestamp", "modified", "updated", "changed", "created"]);
        match kind {
            "integer" | "number" if is_time && has(&["ms", "millis"]) => json!(1_700_000_000_000_i64),
            "integer" | "number" if is_time => json!(1_700_000_000),
            "integer" | "number" if is_offset_param(name) || name == "number" => json!(0),
            // One row and more to come: a total is larger than what is here.
            "integer" | "number" if has(&["total", "count", "found", "hits"]) => json!(2),
            "integer" | "number" => json!(1),
            "boolean" => json!(true),
            "string" => match format {
                "date-time" => json!("2024-01-31T00:00:00Z"),
                "date" => json!("2024-01-31"),
                _ if has(&["next"]) && self.is_link(schema, &words, format) => json!(self.next_link),
                "" if is_time => json!("2024-01-31T00:00:00Z"),
                _ => json!("text"),
            },
            _ => Value::Null,
        }
    }

    fn is_link(&self, schema: &Value, words: &[String], format: &str) -> bool {
        let description = schema.get("description").and_then(Value::as_str).unwrap_or_default().to_lowercase();
        let example = schema.get("example").and_then(Value::as_str).unwrap_or_default();
        let says = |word: &str| description.contains(word);
        let named = words.iter().any(|word| matches!(word.as_str(), "url" | "link" | "href" | "uri"));
        let token = words.iter().any(|word| matches!(word.as_str(), "cursor" | "token" | "marker"));
        !token && (named || format.starts_with("uri") || says("url") || says("link") || example.starts_with("http"))
    }
}

/// The type of a schema; in 3.1 it may be a list with `null` in it.
pub(super) fn kind(schema: &Value) -> &str {
    let of = |value: &'_ Value| match value.as_str() {
        Some("string") => "string",
        Some("integer") => "integer",
        Some("number") => "number",
        Some("boolean") => "boolean",
        Some("array") => "array",
        Some("object") => "object",
        _ => "",
    };
    match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().map(of).find(|kind| !kind.is_empty()).unwrap_or_default(),
        Some(kind) => of(kind),
        None if schema.get("items").is_some() => "array",
        None if schema.get("additionalProperties").is_some() => "object",
        None if schema.get("format").is_some() || schema.get("enum").is_some() => "string",
        None => "",
    }
}
