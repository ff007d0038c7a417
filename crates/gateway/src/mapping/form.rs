//! Values made of other values: JSON whose strings may have `{places}` in them. A string that is one place becomes what is
//! there, of whatever type; others become text.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::FieldPath;

/// A place that has nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub String);

/// Text with places in it, such as `/users/{order.user_id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldText(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Field(FieldPath),
}

impl FieldText {
    /// The places in it.
    pub fn places(&self) -> impl Iterator<Item = &FieldPath> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Field(path) => Some(path),
            Piece::Literal(_) => None,
        })
    }

    /// What it starts with before the first place.
    pub fn start(&self) -> &str {
        match self.0.first() {
            Some(Piece::Literal(text)) => text,
            _ => "",
        }
    }

    /// The text with what the places have; `write` gets the text so far, and adds a value to it.
    ///
    /// # Errors
    /// The first place that has nothing.
    pub fn fill(&self, root: &Value, write: impl Fn(&mut String, &str)) -> Result<String, Missing> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Field(path) => {
                    let value = path.read(root).filter(|value| !value.is_null());
                    let value = value.ok_or_else(|| Missing(path.to_string()))?;
                    write(&mut text, &as_text(&value));
                }
            }
        }
        Ok(text)
    }
}

/// A value as text: a string as it is, a list with commas, anything else as JSON.
fn as_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Array(items) => items.iter().map(as_text).collect::<Vec<_>>().join(",").into(),
        Value::Null => Cow::Borrowed(""),
        other => other.to_string().into(),
    }
}

impl FromStr for FieldText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            // Doubled, it is meant as it stands.
            if let Some(after) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let found = (brace == "{").then(|| after.split_once('}')).flatten();
            let (place, after) =
                found.ok_or_else(|| format!("`{text}` has a lone `{brace}`; write {{place}}, or the brace twice"))?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Field(place.parse()?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self(pieces))
    }
}

impl fmt::Display for FieldText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Piece::Field(path) => write!(f, "{{{path}}}"),
        })
    }
}

/// JSON whose strings may have places in them.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// What is at a place.
    Field(FieldPath),
    /// Text with places in it.
    Text(FieldText),
    /// Just this.
    Plain(Value),
    /// A list.
    List(Vec<Form>),
    /// An object.
    Object(Vec<(String, Form)>),
}

impl Form {
    /// From JSON.
    ///
    /// # Errors
    /// What is wrong with a string in it.
    pub fn of(value: Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => {
                let mut text: FieldText = text.parse()?;
                match text.0.as_mut_slice() {
                    [Piece::Field(path)] => Self::Field(path.clone()),
                    _ => Self::Text(text),
                }
            }
            Value::Array(items) => Self::List(items.into_iter().map(Self::of).collect::<Result<_, _>>()?),
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(key, value)| Ok((key, Self::of(value)?)));
                Self::Object(fields.collect::<Result<_, String>>()?)
            }
            other => Self::Plain(other),
        })
    }

    /// As it was written.
    pub fn written(&self) -> Value {
        match self {
            Self::Field(path) => Value::String(format!("{{{path}}}")),
            Self::Text(text) => Value::String(text.to_string()),
            Self::Plain(value) => value.clone(),
            Self::List(items) => items.iter().map(Self::written).collect(),
            Self::Object(fields) => fields.iter().map(|(key, form)| (key.clone(), form.written())).collect(),
        }
    }

    /// The value made of what is in `root`; `None` where its only place has nothing. Fields and items without anything
    /// are left out.
    pub fn fill(&self, root: &Value) -> Option<Value> {
        match self {
            Self::Field(path) => path.read(root).map(Cow::into_owned),
            Self::Text(text) => text.fill(root, |text, value| text.push_str(value)).ok().map(Value::String),
            Self::Plain(value) => Some(value.clone()),
            Self::List(items) => Some(items.iter().filter_map(|form| form.fill(root)).collect()),
            Self::Object(fields) => {
                let fields = fields.iter().filter_map(|(key, form)| Some((key.clone(), form.fill(root)?)));
                Some(Value::Object(fields.collect::<Map<_, _>>()))
            }
        }
    }

    /// All places in it.
    pub fn places(&self) -> Vec<&FieldPath> {
        match self {
            Self::Field(path) => vec![path],
            Self::Text(text) => text.places().collect(),
            Self::Plain(_) => Vec::new(),
            Self::List(items) => items.iter().flat_map(Self::places).collect(),
            Self::Object(fields) => fields.iter().flat_map(|(_, form)| form.places()).collect(),
        }
    }
}

impl Serialize for Form {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Form {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl JsonSchema for Form {
    fn schema_name() -> Cow<'static, str> {
        "Form".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "any JSON; strings in it may have `{places}` of fields" })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_made_of_others() {
        let root = json!({ "user": { "id": 7, "name": "Ann" }, "orders": [{ "id": 1 }, { "id": 2 }] });
        let form = Form::of(json!({
            "id": "{user.id}",
            "greeting": "Hello {user.name}, {{you}}",
            "orders": "{orders[].id}",
            "none": "{user.nick}",
            "nested": { "fixed": true, "list": ["{user.name}", "{no.where}"] },
        }))
        .unwrap();
        let made = form.fill(&root).unwrap();
        let wanted = json!({
            "id": 7, "greeting": "Hello Ann, {you}", "orders": [1, 2], "nested": { "fixed": true, "list": ["Ann"] },
        });
        assert_eq!(made, wanted);
        assert_eq!(Form::of(form.written()).unwrap(), form);
        assert!(Form::of(json!("{a")).is_err() && Form::of(json!("a}")).is_err());
        let text: FieldText = "/x?ids={orders[].id}".parse().unwrap();
        assert_eq!(text.fill(&root, |text, value| text.push_str(value)).unwrap(), "/x?ids=1,2");
        let text: FieldText = "/x/{user.none}".parse().unwrap();
        assert_eq!(text.fill(&root, |text, value| text.push_str(value)), Err(Missing("user.none".into())));
    }
}
