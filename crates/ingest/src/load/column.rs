//! Columns of a target's table: their names and types in each engine.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::shape::{Kind, Shape};

/// Bytes that PostgreSQL keeps of an identifier.
const MAX_IDENTIFIER: usize = 63;
/// Names of PostgreSQL's own columns.
const TAKEN: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

/// Which SQL is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Postgres,
    Sqlite,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Float,
    Text,
    Timestamp,
    Date,
    Json,
}

/// A column of the target's table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    /// Its name in the table.
    pub name: String,
    /// Its name in the lake.
    pub source: String,
    /// Its type in the table.
    pub kind: Type,
    /// Its type in the lake.
    pub shape: Kind,
}

impl Type {
    /// The type for a column of the lake; none where nothing is known of it yet.
    fn of(kind: &Kind) -> Option<Self> {
        kind.data_type()?;
        Some(match kind {
            Kind::Unknown => return None,
            Kind::Bool => Self::Bool,
            Kind::Int => Self::Int,
            Kind::Float => Self::Float,
            Kind::String => Self::Text,
            Kind::Timestamp => Self::Timestamp,
            Kind::Date => Self::Date,
            Kind::Json | Kind::List(_) | Kind::Struct(_) => Self::Json,
        })
    }

    /// Its name, as the engine's catalogue gives it back.
    pub(super) fn name(self, engine: Engine) -> &'static str {
        match (engine, self) {
            (Engine::Postgres, Self::Bool) => "boolean",
            (Engine::Postgres, Self::Int) => "bigint",
            (Engine::Postgres, Self::Float) => "double precision",
            (Engine::Postgres, Self::Timestamp) => "timestamp with time zone",
            (Engine::Postgres, Self::Date) => "date",
            (Engine::Postgres, Self::Json) => "jsonb",
            (Engine::Sqlite, Self::Bool) => "BOOLEAN",
            (Engine::Sqlite, Self::Int) => "INTEGER",
            (Engine::Sqlite, Self::Float) => "REAL",
            (Engine::Postgres, Self::Text) => "text",
            (Engine::Sqlite, Self::Text | Self::Timestamp | Self::Date | Self::Json) => "TEXT",
        }
    }

    /// Whether a column that somebody made as `existing` holds all values of this type.
    pub(super) fn fits(self, existing: &str, engine: Engine) -> bool {
        let also: &[&str] = match (engine, self) {
            (Engine::Postgres, Self::Int) => &["double precision", "numeric"],
            (Engine::Postgres, Self::Float) => &["numeric"],
            (Engine::Postgres, Self::Text) => &["character varying"],
            (Engine::Postgres, Self::Json) => &["json", "text"],
            (Engine::Postgres, _) => &[],
            (Engine::Sqlite, Self::Bool) => &["INTEGER", "INT", "NUMERIC"],
            (Engine::Sqlite, Self::Int) => &["INT", "BIGINT", "REAL", "DOUBLE", "NUMERIC"],
            (Engine::Sqlite, Self::Float) => &["DOUBLE", "FLOAT", "NUMERIC"],
            (Engine::Sqlite, Self::Text | Self::Timestamp | Self::Date | Self::Json) => &["VARCHAR", "JSON", "CLOB"],
        };
        existing == self.name(engine) || also.contains(&existing)
    }

    /// Numbers compare with each other, everything else with its own kind only.
    pub(super) fn compares_with(self, other: Self) -> bool {
        let number = |kind| matches!(kind, Self::Int | Self::Float);
        self == other || (number(self) && number(other))
    }
}

/// The columns of a stored shape.
pub(super) fn columns(shape: &Shape, engine: Engine) -> Vec<Column> {
    let mut seen = HashSet::new();
    let known = shape.columns.iter().filter_map(|column| Some((column, Type::of(&column.kind)?)));
    let known: Vec<_> = known.filter(|(column, _)| seen.insert(column.name.as_str())).collect();
    let names = names(known.iter().map(|(column, _)| column.name.as_str()), engine);
    let columns = known.into_iter().zip(names).map(|((column, kind), name)| Column {
        name,
        source: column.name.clone(),
        kind,
        shape: column.kind.clone(),
    });
    columns.collect()
}

/// Names that the engine takes and tells apart.
pub(super) fn names<'a>(wanted: impl Iterator<Item = &'a str>, engine: Engine) -> Vec<String> {
    let mut seen = HashSet::new();
    wanted
        .map(|wanted| {
            let name = name(wanted, engine);
            let folded = |name: &str| match engine {
                Engine::Postgres => name.to_owned(),
                Engine::Sqlite => name.to_ascii_lowercase(),
            };
            if seen.insert(folded(&name)) {
                return name;
            }
            let other = shortened(&name, wanted);
            seen.insert(folded(&other));
            other
        })
        .collect()
}

fn name(wanted: &str, engine: Engine) -> String {
    let name = wanted.replace('\0', "");
    match engine {
        _ if name.is_empty() => "_".into(),
        Engine::Postgres if name.len() > MAX_IDENTIFIER => shortened(&name, wanted),
        Engine::Postgres if TAKEN.contains(&name.as_str()) => format!("{name}_"),
        // Statements of ours call a row by it.
        Engine::Sqlite if name.eq_ignore_ascii_case("_rowid_") => format!("{name}_"),
        _ => name,
    }
}

/// The beginning of a name and a digest of all of what was wanted.
fn shortened(name: &str, wanted: &str) -> String {
    let room = MAX_IDENTIFIER - 9;
    let end = (0..=room.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    format!("{}_{}", &name[..end], digest(wanted, 8))
}

/// The first `digits` of a text's digest.
pub(super) fn digest(text: &str, digits: usize) -> String {
    let mut hex: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
}

/// An identifier in quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Identifiers in quotes, with commas between them.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}
