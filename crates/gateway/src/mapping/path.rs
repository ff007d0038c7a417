//! The place of a field: `customer.name`, `items[].price` for that of every item, `items[0]`, `.` for the value itself.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

/// The most steps of a path.
const MAX_PARTS: usize = 32;

/// The place of a field in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(Vec<Part>);

/// One step on the way to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The field of an object.
    Key(String),
    /// The item of a list, from 0.
    At(usize),
    /// Every item of a list.
    Each,
}

impl FieldPath {
    /// Its steps.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// The name it starts with.
    pub fn first_key(&self) -> Option<&str> {
        match self.0.first() {
            Some(Part::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// What is there. Behind `[]` it is the list of what the items have; those without it are left out.
    pub fn read<'v>(&self, value: &'v Value) -> Option<Cow<'v, Value>> {
        read(&self.0, value)
    }

    /// Puts a value there, behind `[]` into every item. Objects on the way are made; where something else is in the way
    /// nothing changes.
    pub fn write(&self, value: &mut Value, new: &Value) {
        write(&self.0, value, new, true);
    }

    /// Puts a value there where there is none.
    pub fn write_missing(&self, value: &mut Value, new: &Value) {
        write(&self.0, value, new, false);
    }

    /// Takes what is there out.
    pub fn take(&self, value: &mut Value) -> Option<Value> {
        take(&self.0, value)
    }
}

pub(super) fn read<'v>(parts: &[Part], value: &'v Value) -> Option<Cow<'v, Value>> {
    match parts.split_first() {
        None => Some(Cow::Borrowed(value)),
        Some((Part::Key(key), rest)) => read(rest, value.get(key)?),
        Some((Part::At(at), rest)) => read(rest, value.get(at)?),
        Some((Part::Each, rest)) => {
            let items = value.as_array()?.iter().filter_map(|item| read(rest, item).map(Cow::into_owned));
            Some(Cow::Owned(items.collect()))
        }
    }
}

pub(super) fn write(parts: &[Part], value: &mut Value, new: &Value, replaces: bool) {
    match parts.split_first() {
        None if replaces => *value = new.clone(),
        None => {}
        Some((Part::Key(key), rest)) => {
            if value.is_null() {
                *value = Value::Object(Map::new());
            }
            let Value::Object(fields) = value else { return };
            match fields.get_mut(key) {
                Some(field) => write(rest, field, new, replaces),
                None => write(rest, fields.entry(key.clone()).or_insert(Value::Null), new, true),
            }
        }
        Some((Part::At(at), rest)) => {
            if let Some(item) = value.get_mut(at) {
                write(rest, item, new, replaces);
            }
        }
        Some((Part::Each, rest)) => {
            let Value::Array(items) = value else { return };
            items.iter_mut().for_each(|item| write(rest, item, new, replaces));
        }
    }
}

pub(super) fn take(parts: &[Part], value: &mut Value) -> Option<Value> {
    match parts {
        [] => Some(value.take()),
        // In order, so that an answer's fields stay as they were.
        [Part::Key(key)] => value.as_object_mut()?.shift_remove(key),
        [Part::At(at)] => {
            let items = value.as_array_mut()?;
            (*at < items.len()).then(|| items.remove(*at))
        }
        [Part::Each] => Some(Value::Array(std::mem::take(value.as_array_mut()?))),
        [Part::Key(key), rest @ ..] => take(rest, value.get_mut(key)?),
        [Part::At(at), rest @ ..] => take(rest, value.get_mut(at)?),
        [Part::Each, rest @ ..] => Some(value.as_array_mut()?.iter_mut().filter_map(|item| take(rest, item)).collect()),
    }
}

/// Calls `act` with every place that these steps lead to.
pub(super) fn visit(parts: &[Part], value: &mut Value, act: &mut dyn FnMut(&mut Value)) {
    match parts.split_first() {
        None => act(value),
        Some((Part::Key(key), rest)) => {
            if let Some(field) = value.get_mut(key) {
                visit(rest, field, act);
            }
        }
        Some((Part::At(at), rest)) => {
            if let Some(item) = value.get_mut(at) {
                visit(rest, item, act);
            }
        }
        Some((Part::Each, rest)) => {
            if let Value::Array(items) = value {
                items.iter_mut().for_each(|item| visit(rest, item, act));
            }
        }
    }
}

impl FromStr for FieldPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` is not the place of a field: {why}; write it like `items[].price`");
        if text == "." {
            return Ok(Self(Vec::new()));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (key, after) = rest.split_at(end);
            // A list of lists has `[][]`, and the value itself may be a list.
            if key.is_empty() && !(after.starts_with('[') && parts.is_empty()) {
                return Err(wrong("a name is missing"));
            }
            if !key.is_empty() {
                if key.contains(['{', '}', ']']) {
                    return Err(wrong("names have no brackets"));
                }
                parts.push(Part::Key(key.to_owned()));
            }
            rest = after;
            while let Some(inner) = rest.strip_prefix('[') {
                let (index, after) = inner.split_once(']').ok_or_else(|| wrong("a `[` is not closed"))?;
                parts.push(match index {
                    "" => Part::Each,
                    index => Part::At(index.parse().map_err(|_| wrong("between `[` and `]` is no number"))?),
                });
                rest = after;
            }
            if parts.len() > MAX_PARTS {
                return Err(wrong("it has more than 32 steps"));
            }
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None if rest.is_empty() => return Ok(Self(parts)),
                None => return Err(wrong("a `.` is missing behind a `]`")),
            }
        }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        self.0.iter().enumerate().try_for_each(|(at, part)| match part {
            Part::Key(key) if at == 0 => f.write_str(key),
            Part::Key(key) => write!(f, ".{key}"),
            Part::At(index) => write!(f, "[{index}]"),
            Part::Each => f.write_str("[]"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> FieldPath {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_read_written_and_taken() {
        let mut value = json!({ "a": { "b": 1 }, "items": [{ "id": 1, "tags": ["x"] }, { "id": 2 }, {}] });
        let read = |text: &str, value: &Value| path(text).read(value).map(Cow::into_owned);
        assert_eq!(read("a.b", &value), Some(json!(1)));
        assert_eq!(read("items[].id", &value), Some(json!([1, 2])));
        assert_eq!(read("items[1].id", &value), Some(json!(2)));
        assert_eq!(read("items[].tags[]", &value), Some(json!([["x"]])));
        assert_eq!(read(".", &value).as_ref(), Some(&value));
        assert_eq!(read("a.b.c", &value), None);
        path("items[].seen").write(&mut value, &json!(true));
        path("items[].id").write_missing(&mut value, &json!(9));
        path("a.c.d").write(&mut value, &json!("new"));
        path("a.b.no").write(&mut value, &json!("in the way"));
        assert_eq!(path("items[0].tags").take(&mut value), Some(json!(["x"])));
        let items = json!([{ "id": 1, "seen": true }, { "id": 2, "seen": true }, { "seen": true, "id": 9 }]);
        assert_eq!(value, json!({ "a": { "b": 1, "c": { "d": "new" } }, "items": items }));
    }

    #[test]
    fn a_path_is_written_as_it_was_read() {
        for text in [".", "a", "a.b", "items[].price", "a[0].b[]", "[].x", "a[][]"] {
            assert_eq!(path(text).to_string(), text);
        }
        for bad in ["", "a..b", ".a", "a.", "a[", "a[x]", "a[]b", "a{b}"] {
            assert!(bad.parse::<FieldPath>().is_err(), "{bad}");
        }
    }
}
