//! The shape of rows: column names and types, how they are found in JSON, how they widen, and JSON into Arrow by them.

mod child;
mod column;
mod decode;
mod depth;
mod infer;
mod time;

use std::fmt;

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use serde::{Deserialize, Serialize};

pub use child::{child_rows, flatten};
pub use decode::{Decoded, Decoder, Meta, decode_stored};
pub(crate) use depth::too_deep;
pub use infer::{Inference, infer};
pub use time::{parse_date, parse_timestamp};

use crate::spec::{ColumnType, Lists, Nested};

/// When the page was fetched.
pub const EXTRACTED_AT: &str = "_extracted_at";
/// The run that fetched it.
pub const RUN_ID: &str = "_run_id";
/// The URL it came from, without its query.
pub const SOURCE: &str = "_source";
/// What fitted no column, as a JSON object of paths and values.
pub const RESCUED: &str = "_rescued";
/// The columns every file ends with.
pub const SYSTEM: [&str; 4] = [EXTRACTED_AT, RUN_ID, SOURCE, RESCUED];

/// Objects nested deeper than this are kept as JSON text.
const MAX_DEPTH: usize = 12;
/// Objects with more fields than this are maps rather than records, and are kept as JSON text.
const MAX_FIELDS: usize = 500;

/// The columns of a resource, in the order in which they were first seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// The columns.
    pub columns: Vec<Column>,
}

/// A named column or field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, as in the JSON.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Kind,
}

/// The type of a column or field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Only nulls, empty lists and empty objects so far; not written until more is known.
    #[default]
    Unknown,
    /// true or false
    Bool,
    /// 64 bits, signed
    Int,
    /// 64 bits
    Float,
    /// UTF-8 text; other values as their JSON text
    String,
    /// Microseconds UTC
    Timestamp,
    /// A day
    Date,
    /// JSON text
    Json,
    /// A list of values of one type
    List(Box<Kind>),
    /// An object with known fields
    Struct(Vec<Column>),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Float => f.write_str("float"),
            Self::String => f.write_str("string"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Date => f.write_str("date"),
            Self::Json => f.write_str("json"),
            Self::List(item) => write!(f, "list<{item}>"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (at, field) in fields.iter().enumerate() {
                    write!(f, "{}{}: {}", if at == 0 { "" } else { ", " }, field.name, field.kind)?;
                }
                f.write_str(">")
            }
        }
    }
}

impl From<ColumnType> for Kind {
    fn from(hint: ColumnType) -> Self {
        match hint {
            ColumnType::Bool => Self::Bool,
            ColumnType::Int => Self::Int,
            ColumnType::Float => Self::Float,
            ColumnType::String => Self::String,
            ColumnType::Timestamp => Self::Timestamp,
            ColumnType::Date => Self::Date,
            ColumnType::Json => Self::Json,
        }
    }
}

impl Kind {
    /// The least type that holds values of both, before anything was written in either.
    pub fn merge(self, other: Self) -> Self {
        use Kind::{Date, Float, Int, Json, List, String, Struct, Timestamp, Unknown};
        match (self, other) {
            (a, b) if a == b => a,
            (Unknown, known) | (known, Unknown) => known,
            (Int, Float) | (Float, Int) => Float,
            (Date, Timestamp) | (Timestamp, Date) => String,
            (List(a), List(b)) => List(Box::new(a.merge(*b))),
            (Struct(a), Struct(b)) => Struct(merge_fields(a, b)),
            (Json | List(_) | Struct(_), _) | (_, Json | List(_) | Struct(_)) => Json,
            _ => String,
        }
    }

    /// This type widened so far that every value written in it still reads the same, to hold `other`'s values where it
    /// can. What then does not fit is rescued.
    pub fn widen(self, other: Self) -> Self {
        use Kind::{Float, Int, List, Struct, Unknown};
        match (self, other) {
            (Unknown, known) => known,
            (Int, Float) => Float,
            (List(a), List(b)) => List(Box::new(a.widen(*b))),
            (Struct(a), Struct(b)) => Struct(widen_fields(a, b)),
            (kind, _) => kind,
        }
    }

    /// The Arrow type, or none where nothing is known yet.
    pub fn data_type(&self) -> Option<DataType> {
        Some(match self {
            Self::Unknown => return None,
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::String | Self::Json => DataType::Utf8,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Date => DataType::Date32,
            Self::List(item) => DataType::List(Field::new("item", item.data_type()?, true).into()),
            Self::Struct(columns) => {
                let fields: Vec<Field> = columns.iter().filter_map(Column::field).collect();
                if fields.is_empty() {
                    return None;
                }
                DataType::Struct(Fields::from(fields))
            }
        })
    }

    /// The same type with nested objects and lists as the user wants them.
    fn with(self, nested: Nested, lists: Lists) -> Self {
        match self {
            Self::Struct(_) if nested == Nested::Json => Self::Json,
            Self::List(_) if lists == Lists::Json => Self::Json,
            Self::Struct(fields) => Self::Struct(
                fields.into_iter().map(|field| Column { kind: field.kind.with(nested, lists), ..field }).collect(),
            ),
            Self::List(item) => Self::List(Box::new(item.with(nested, lists))),
            kind => kind,
        }
    }
}

impl Column {
    /// The Arrow field, or none where nothing is known yet. Every column may be null.
    pub fn field(&self) -> Option<Field> {
        Some(Field::new(&self.name, self.kind.data_type()?, true))
    }
}

/// Runs a visitor over a whole JSON document.
fn parse<'de, V: serde::de::Visitor<'de, Value = ()>>(json: &'de [u8], visitor: V) -> Result<(), String> {
    use serde::de::Deserializer;
    if depth::too_deep(json) {
        return Err(format!("the document is nested deeper than {} levels", depth::LIMIT));
    }
    let mut deserializer = sonic_rs::Deserializer::from_slice(json);
    let parsed = deserializer.deserialize_any(visitor).and_then(|()| deserializer.end());
    parsed.map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
}

fn merge_fields(mut ours: Vec<Column>, theirs: Vec<Column>) -> Vec<Column> {
    for column in theirs {
        match ours.iter_mut().find(|own| own.name == column.name) {
            Some(own) => own.kind = std::mem::take(&mut own.kind).merge(column.kind),
            None => ours.push(column),
        }
    }
    ours
}

fn widen_fields(mut ours: Vec<Column>, theirs: Vec<Column>) -> Vec<Column> {
    for column in theirs {
        match ours.iter_mut().find(|own| own.name == column.name) {
            Some(own) => own.kind = std::mem::take(&mut own.kind).widen(column.kind),
            None => ours.push(column),
        }
    }
    ours
}

impl Shape {
    /// The shape that holds rows of both, before anything was written.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self { columns: merge_fields(self.columns, other.columns) }
    }

    /// This shape widened as far as it safely goes towards `other`.
    #[must_use]
    pub fn widen(self, other: Self) -> Self {
        Self { columns: widen_fields(self.columns, other.columns) }
    }

    /// The same shape with nested objects and lists as the user wants them, and the types the user gave.
    #[must_use]
    pub fn with(
        self,
        nested: Nested,
        lists: Lists,
        hints: &std::collections::BTreeMap<String, ColumnType>,
        exclude: &[String],
    ) -> Self {
        let columns = self.columns.into_iter().filter(|column| !exclude.contains(&column.name)).map(|column| {
            let kind = match hints.get(&column.name) {
                Some(hint) => (*hint).into(),
                None => column.kind.with(nested, lists),
            };
            Column { kind, ..column }
        });
        Self { columns: columns.collect() }
    }

    /// The shape of a file: these columns, those from the parent or the partition, and the system columns.
    #[must_use]
    pub fn stored(&self, include: &[String]) -> Self {
        let mut columns = self.columns.clone();
        let text = |name: &String| Column { name: name.clone(), kind: Kind::String };
        columns.extend(include.iter().map(text));
        let system = [Kind::Timestamp, Kind::String, Kind::String, Kind::Json];
        columns.extend(SYSTEM.iter().zip(system).map(|(name, kind)| Column { name: (*name).into(), kind }));
        Self { columns }
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The Arrow schema of the known columns.
    pub fn schema(&self) -> Schema {
        Schema::new(self.columns.iter().filter_map(Column::field).collect::<Vec<_>>())
    }

    /// What changed on the way from `old` to this shape, in words.
    pub fn changes_since(&self, old: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        compare("", &old.columns, &self.columns, &mut changes);
        changes
    }
}

fn compare(prefix: &str, old: &[Column], new: &[Column], changes: &mut Vec<String>) {
    for column in new {
        let name = format!("{prefix}{}", column.name);
        match old.iter().find(|known| known.name == column.name) {
            None => changes.push(format!("added column {name}: {}", column.kind)),
            Some(known) => compare_kinds(&name, &known.kind, &column.kind, changes),
        }
    }
}

fn compare_kinds(name: &str, old: &Kind, new: &Kind, changes: &mut Vec<String>) {
    match (old, new) {
        (a, b) if a == b => {}
        (Kind::Unknown, kind) => changes.push(format!("added column {name}: {kind}")),
        (Kind::Struct(a), Kind::Struct(b)) => compare(&format!("{name}."), a, b, changes),
        (Kind::List(a), Kind::List(b)) => compare_kinds(&format!("{name}[]"), a, b, changes),
        (a, b) => changes.push(format!("widened {name}: {a} to {b}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: Kind) -> Column {
        Column { name: name.into(), kind }
    }

    #[test]
    fn merging_before_the_first_file_finds_the_least_type() {
        assert_eq!(Kind::Int.merge(Kind::Float), Kind::Float);
        assert_eq!(Kind::Unknown.merge(Kind::Bool), Kind::Bool);
        assert_eq!(Kind::Int.merge(Kind::String), Kind::String);
        assert_eq!(Kind::Timestamp.merge(Kind::String), Kind::String);
        assert_eq!(Kind::Int.merge(Kind::Struct(vec![])), Kind::Json);
    }

    #[test]
    fn widening_after_it_never_changes_what_a_value_means() {
        assert_eq!(Kind::Int.widen(Kind::Float), Kind::Float);
        assert_eq!(Kind::Float.widen(Kind::Int), Kind::Float);
        assert_eq!(Kind::Int.widen(Kind::String), Kind::Int);
        let old =
            Shape { columns: vec![column("a", Kind::Int), column("s", Kind::Struct(vec![column("x", Kind::Int)]))] };
        let seen = Shape {
            columns: vec![
                column("a", Kind::Float),
                column("b", Kind::Bool),
                column("s", Kind::Struct(vec![column("y", Kind::String)])),
            ],
        };
        let new = old.clone().widen(seen);
        assert_eq!(
            new.changes_since(&old),
            ["widened a: int to float", "added column s.y: string", "added column b: bool"]
        );
    }
}
