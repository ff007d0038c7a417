//! `match`: which requests a route takes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Which requests a route takes: all of what is given must hold.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// Names of hosts, such as `api.example.com` or `*.example.com`; any where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The path: `/orders`, `/orders/{id}`, `/api/*` for all below, `/files/{*rest}` for the rest as a parameter.
    pub path: String,
    /// Methods; any where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Headers: the value, `*` for any, `!` for none, `~` and a regular expression.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Text>,
    /// Parameters of the query, written like `headers`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, Text>,
    /// Claims of the caller's token, written like `headers`; the route's `access` says who proves them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Text>,
    /// Roles of the caller: any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// What a value must be.
#[derive(Clone, Debug)]
pub enum Text {
    /// There, whatever it is: `*`.
    Present,
    /// Not there: `!`.
    Absent,
    /// Just this.
    Exactly(String),
    /// What the regular expression fits, as a whole: `~` before it.
    Like(Regex),
}

impl Text {
    /// Whether a value, or its absence, is right.
    pub fn fits(&self, value: Option<&str>) -> bool {
        match self {
            Self::Present => value.is_some(),
            Self::Absent => value.is_none(),
            Self::Exactly(wanted) => value == Some(wanted),
            Self::Like(pattern) => value.is_some_and(|value| pattern.is_match(value)),
        }
    }

    fn written(&self) -> String {
        match self {
            Self::Present => "*".into(),
            Self::Absent => "!".into(),
            Self::Exactly(text) => text.clone(),
            Self::Like(pattern) => format!("~{}", &pattern.as_str()[4..pattern.as_str().len() - 2]),
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.written() == other.written()
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match text.as_str() {
            "*" => Self::Present,
            "!" => Self::Absent,
            other => match other.strip_prefix('~') {
                None => Self::Exactly(text),
                Some(pattern) => Self::Like(Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
                    let error = error.to_string();
                    let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                    de::Error::custom(format!("`{pattern}` is not a regular expression: {reason}"))
                })?),
            },
        })
    }
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "the value, `*` for any, `!` for none, `~` and a regular expression" })
    }
}
