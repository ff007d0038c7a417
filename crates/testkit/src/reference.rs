//! Whether the reference of a file format says what the code does: its JSON Schema against the page and the published schema.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

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

/// Every key has its row in the section of its own type: `**Type**` for what has keys, `**Type: variant**` for the variants of
/// one that is one of several. `root` is the section of the file as a whole. Elsewhere a row of the same name does not count.
///
/// # Panics
/// Where that is not so.
#[track_caller]
pub fn has_a_section_for_every_type(page: &str, schema: &Value, root: &str) {
    let mut sections = Vec::new();
    sections_of(root, schema, &mut sections);
    for (name, of) in schema["$defs"].as_object().into_iter().flatten() {
        sections_of(name, of, &mut sections);
    }
    let reference = text(page);
    let mut missing = Vec::new();
    for (section, keys) in sections {
        let heads = [format!("\n**{section}**:"), format!("\n**{section}**\n")];
        let start = heads.iter().find_map(|head| reference.find(head.as_str()));
        let body = start.map_or("", |start| &reference[start + 1..]);
        let body = body.find("\n**").map_or(body, |end| &body[..end]);
        let is_missing = |key: &&String| !body.contains(&format!("\n| `{key}` |"));
        missing.extend(keys.iter().filter(is_missing).map(|key| format!("{section}: {key}")));
    }
    assert!(missing.is_empty(), "{page} has no row in the section of its type for {missing:?}");
}

fn sections_of(name: &str, schema: &Value, found: &mut Vec<(String, Vec<String>)>) {
    let keys_of = |schema: &Value| -> Vec<String> {
        schema["properties"].as_object().map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
    };
    let mut own = keys_of(schema);
    for form in ["anyOf", "oneOf"].iter().flat_map(|kind| schema[*kind].as_array().into_iter().flatten()) {
        own.extend(keys_of(form));
        for (variant, of) in form["properties"].as_object().into_iter().flatten().filter(|_| schema["oneOf"].is_array())
        {
            sections_of(&format!("{name}: {variant}"), of, found);
        }
    }
    if !own.is_empty() {
        found.push((name.to_owned(), own));
    }
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

/// What a document says of tokens is so: an operation that wants one refuses who has none, one that reads it refuses one that does
/// not hold, and others do neither. `ask` sends a request with a token or without, and gives the code of the answer's error, if any.
///
/// # Panics
/// Where that is not so.
pub async fn tokens_are_as_said(document: &Value, ask: impl AsyncFn(&str, &str, Option<&str>) -> Option<String>) {
    let mut wanting = 0;
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        // With somebody whom nobody knows in place of each parameter.
        let parts: Vec<&str> =
            path.split('/').map(|part| if part.starts_with('{') { "nobody" } else { part }).collect();
        let target = parts.join("/");
        for (method, operation) in item.as_object().into_iter().flatten() {
            let security = &operation["security"];
            let wants = *security == json!([{ "bearer": [] }]);
            let reads = wants || *security == json!([{}, { "bearer": [] }]);
            assert!(reads || *security == json!([]), "{method} {path}: {security}");
            let name = method.to_uppercase();
            let without = ask(&name, &target, None).await;
            assert_eq!(without.as_deref() == Some("service.not_signed_in"), wants, "{method} {path}: {without:?}");
            let bad = ask(&name, &target, Some("nonsense")).await;
            assert_eq!(bad.as_deref() == Some("service.bad_token"), reads, "{method} {path}: {bad:?}");
            wanting += usize::from(wants);
        }
    }
    assert!(wanting > 0, "no operation wants a token");
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
