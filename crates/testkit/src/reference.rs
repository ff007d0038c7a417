//! Whether the reference of a file format says what the code does: its JSON Schema against the page and the published schema.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the project, by its path from the root.
///
/// # Panics
/// Where it cannot be read.
pub fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every key of the schema, of which there are at least so many, has a row in a table of the page.
///
/// # Panics
/// Where that is not so.
#[track_caller]
pub fn has_a_row_for_every_key(page: &str, schema: &Value, at_least: usize) {
    let mut known = BTreeSet::new();
    keys(schema, &mut known);
    assert!(known.len() >= at_least, "the schema lost its properties: {known:?}");
    let reference = text(page);
    let missing: Vec<&String> = known.iter().filter(|key| !reference.contains(&format!("\n| `{key}` |"))).collect();
    assert!(missing.is_empty(), "{page} has no table row for {missing:?}");
}

/// The published document is the present one; with `INSTA_UPDATE=always` it is written anew.
///
/// # Panics
/// Where that is not so.
#[track_caller]
pub fn is_published(path: &str, document: &Value) {
    // A value always serialises.
    let present = serde_json::to_string_pretty(document).unwrap_or_default() + "\n";
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        let written = fs::write(root().join(path), &present);
        assert!(written.is_ok(), "{path}: {written:?}");
    }
    assert!(text(path) == present, "{path} is not what the code says; run the test with INSTA_UPDATE=always");
}

fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = fields.get("properties") {
                found.extend(properties.keys().cloned());
            }
            fields.values().for_each(|value| keys(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}
