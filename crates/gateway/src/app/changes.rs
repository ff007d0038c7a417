//! What a new config changed, key by key; what nobody is to read is starred.

use serde::Serialize;
use serde_json::Value;

use crate::spec;

/// Keys whose values are not shown.
const SECRETS: [&str; 3] = ["secret", "password", "hashes"];
const STARS: &str = "***";

/// A key that has another value than before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Where it is, as a JSON pointer. Lists of things with a name are by that name.
    pub pointer: String,
    /// What it was; nothing where it is new.
    pub before: Option<Value>,
    /// What it is; nothing where it is gone.
    pub after: Option<Value>,
}

/// A config as people may see it.
pub fn shown(config: &spec::Gateway) -> Value {
    // It came from such a document.
    let mut value = serde_json::to_value(config).unwrap_or_default();
    star(&mut value);
    value
}

fn star(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| match SECRETS.contains(&key.as_str()) {
            true => *value = STARS.into(),
            false => star(value),
        }),
        Value::Array(items) => items.iter_mut().for_each(star),
        _ => {}
    }
}

/// What differs, in the order of the keys.
pub fn between(before: &Value, after: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", Some(before), Some(after), &mut changes);
    changes
}

fn compare(pointer: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    match (before.and_then(parts), after.and_then(parts)) {
        (Some(before), Some(after)) => {
            let old = before.iter().map(|(key, value)| (key, Some(*value), find(&after, key)));
            let new =
                after.iter().filter(|(key, _)| find(&before, key).is_none()).map(|(key, v)| (key, None, Some(*v)));
            for (key, before, after) in old.chain(new) {
                let key = key.replace('~', "~0").replace('/', "~1");
                compare(&format!("{pointer}/{key}"), before, after, changes);
            }
        }
        _ => changes.push(Change { pointer: pointer.to_owned(), before: before.cloned(), after: after.cloned() }),
    }
}

fn find<'v>(parts: &[(String, &'v Value)], key: &str) -> Option<&'v Value> {
    parts.iter().find(|(known, _)| known == key).map(|(_, value)| *value)
}

/// The parts of a map, or of a list of things that all have a name.
fn parts(value: &Value) -> Option<Vec<(String, &Value)>> {
    match value {
        Value::Object(fields) => Some(fields.iter().map(|(key, value)| (key.clone(), value)).collect()),
        Value::Array(items) if !items.is_empty() => {
            items.iter().map(|item| Some((item.get("name")?.as_str()?.to_owned(), item))).collect()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_told_by_key_and_name() {
        let before = json!({
            "workers": 2, "limits": { "head": "32KiB", "body": "1MiB" },
            "routes": [{ "name": "a", "timeout": "1s" }, { "name": "b", "timeout": "2s" }],
        });
        let after = json!({
            "limits": { "head": "32KiB", "body": "2MiB" },
            "routes": [{ "name": "b", "timeout": "3s" }, { "name": "c/d", "timeout": "1s" }],
        });
        let told: Vec<String> = between(&before, &after)
            .into_iter()
            .map(|change| {
                let text = |value: Option<Value>| value.map_or("-".into(), |value| value.to_string());
                format!("{} {} {}", change.pointer, text(change.before), text(change.after))
            })
            .collect();
        let expected = [
            "/workers 2 -",
            "/limits/body \"1MiB\" \"2MiB\"",
            "/routes/a {\"name\":\"a\",\"timeout\":\"1s\"} -",
            "/routes/b/timeout \"2s\" \"3s\"",
            "/routes/c~1d - {\"name\":\"c/d\",\"timeout\":\"1s\"}",
        ];
        assert_eq!(told, expected);
        assert!(between(&before, &before).is_empty());
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut value = json!({ "auth": { "a": { "keys": [{ "secret": "s3cret", "algorithm": "HS256" }], "users": { "ann": { "password": "p" } } } } });
        star(&mut value);
        assert!(!value.to_string().contains("s3cret") && value["auth"]["a"]["users"]["ann"]["password"] == "***");
    }
}
