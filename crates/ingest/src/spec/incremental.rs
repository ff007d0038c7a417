//! What is new since the last run, and how the API is asked for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;

use super::Span;

/// How only new and changed rows are read.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Incremental {
    /// `false`: always everything.
    #[default]
    #[schemars(schema_with = "only_false")]
    Off,
    /// By a column that only grows.
    On(IncrementalCursor),
}

fn only_false(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "const": false })
}

impl Incremental {
    /// The cursor, if there is one.
    pub fn cursor(&self) -> Option<&IncrementalCursor> {
        match self {
            Self::Off => None,
            Self::On(cursor) => Some(cursor),
        }
    }
    pub(super) fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }
}

impl<'de> Deserialize<'de> for Incremental {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> serde::de::Visitor<'de> for Seen {
            type Value = Incremental;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`false`, or `{ cursor, param, … }`")
            }
            fn visit_bool<E: serde::de::Error>(self, on: bool) -> Result<Incremental, E> {
                if on {
                    return Err(E::custom(
                        "`incremental: true` says not by what; write { cursor: updated_at, param: updated_since }",
                    ));
                }
                Ok(Incremental::Off)
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Incremental, A::Error> {
                IncrementalCursor::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Incremental::On)
            }
        }
        deserializer.deserialize_any(Seen)
    }
}

/// A column that only grows, and how the API filters by it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncrementalCursor {
    /// The column: a dotted path into the row.
    pub cursor: String,
    /// Parameter that asks for rows from a value on (inclusive).
    pub param: String,
    /// Parameter that asks for rows before a value (exclusive); allows time windows in parallel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_param: Option<String>,
    /// How far before the saved cursor an incremental run starts; the overlap is removed by key.
    #[serde(default)]
    pub lookback: Span,
    /// Where a backfill starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub start: Option<Timestamp>,
    /// How the parameter is written.
    #[serde(default)]
    pub format: CursorFormat,
    /// Backfill in windows of this length, several at a time; needs `until_param` and `start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
}

/// How a cursor is written in a request, and what it is in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CursorFormat {
    /// 2024-01-31T00:00:00Z
    #[default]
    Rfc3339,
    /// 2024-01-31
    Date,
    /// Seconds since 1970.
    Unix,
    /// Milliseconds since 1970.
    UnixMs,
    /// A number that only grows, such as an id.
    Number,
}
