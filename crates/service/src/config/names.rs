//! Keys: walking a tree of settings by dotted name, and finding the known key nearest to a wrong one.

use serde_json::Value;

use crate::yaml::distance;

/// How many edits away a known key may be to be suggested.
const MAX_DISTANCE: usize = 3;

/// The values in `tree` with their dotted keys, as deep as `known` has tables; an unknown table is one leaf.
pub(super) fn leaves(tree: &Value, known: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    collect(tree, known, "", &mut found);
    found
}

fn collect(tree: &Value, known: &Value, prefix: &str, found: &mut Vec<(String, Value)>) {
    let Value::Object(table) = tree else { return };
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match (value, known.get(name)) {
            (Value::Object(_), Some(below @ Value::Object(entries))) if !entries.is_empty() => {
                collect(value, below, &key, found);
            }
            // A whole unknown table: name its first key, which is what the user wrote and misses.
            (Value::Object(entries), None) if prefix.is_empty() => match entries.keys().next() {
                Some(first) => found.push((format!("{key}.{first}"), value[first].clone())),
                None => found.push((key, value.clone())),
            },
            _ => found.push((key, value.clone())),
        }
    }
}

/// Whether a dotted key names a value (not a table) in the defaults.
pub(super) fn is_known(tree: &Value, key: &str) -> bool {
    let mut at = tree;
    for part in key.split('.') {
        match at.get(part) {
            Some(below) => at = below,
            None => return false,
        }
    }
    key.contains('.') && !matches!(at, Value::Object(entries) if !entries.is_empty())
}

/// Puts a value at a dotted key that is known.
pub(super) fn put(tree: &mut Value, key: &str, value: Value) {
    let mut at = tree;
    for part in key.split('.') {
        at = &mut at[part];
    }
    *at = value;
}

/// Every dotted key with its value.
pub(super) fn all(tree: &Value) -> Vec<(String, &Value)> {
    fn walk<'a>(tree: &'a Value, prefix: &str, found: &mut Vec<(String, &'a Value)>) {
        match tree {
            Value::Object(table) if prefix.is_empty() || !table.is_empty() => {
                for (name, value) in table {
                    let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(value, &key, found);
                }
            }
            _ => found.push((prefix.to_owned(), tree)),
        }
    }
    let mut found = Vec::new();
    walk(tree, "", &mut found);
    found
}

/// What to do about an unknown key.
pub(super) fn hint(tree: &Value, key: &str) -> String {
    let last = key.rsplit('.').next().unwrap_or(key);
    let nearest = all(tree).into_iter().map(|(known, _)| known).min_by_key(|known| distance(known, key));
    let moved = all(tree).into_iter().map(|(known, _)| known).find(|known| known.rsplit('.').next() == Some(last));
    match nearest.filter(|known| distance(known, key) <= MAX_DISTANCE).or(moved) {
        Some(known) => format!("did you mean `{known}`?"),
        None => "`tessera config print` lists them all".to_owned(),
    }
}
