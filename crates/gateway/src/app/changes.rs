//! What a new config changed, key by key; what nobody is to read is starred.

use serde::Serialize;
use serde_json::Value;
use tessera_service::config::star_password;

use crate::spec;

/// What the keys of values that are not shown have in them: those of the config, and the names of headers and parameters that
/// prove something.
const SECRETS: [&str; 9] =
    ["secret", "password", "hashes", "token", "authorization", "cookie", "credential", "api-key", "api_key"];
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
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| match value {
            Value::String(_) | Value::Array(_) if is_secret(key) => *value = STARS.into(),
            value => star(value),
        }),
        Value::Array(items) => items.iter_mut().for_each(star),
        Value::String(text) => *text = star_password(text),
        _ => {}
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRETS.iter().any(|part| key.contains(part))
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

    #[test]
    fn passwords_in_urls_and_headers_that_prove_are_not_shown() {
        let text = r#"
version: 1
listeners: [{ address: "127.0.0.1:0" }]
shared_limits: { redis: "redis://gw:hunter2@127.0.0.1:6379" }
auth:
  people: { jwt: { jwks: "http://ann:hunter2@127.0.0.1:9/keys" } }
  partners: { api_key: { consumers: { shop: { hashes: ["d0ddc66349f3b4f5e52d479167db0408480e105b7813f91ffc99be06f9c63ffb"] } } } }
upstreams: { s: { endpoints: ["http://127.0.0.1:9"] } }
routes:
  - name: a
    match: { path: /*, headers: { X-Api-Key: hunter2 }, query: { access_token: hunter2 } }
    upstream: s
    request_headers: { set: { authorization: "Bearer hunter2", x-stage: second } }
"#;
        let loaded = spec::load(text, "g.yaml", std::path::Path::new("."), &spec::Environment::default()).unwrap();
        let shown = shown(&loaded.gateway);
        assert!(!shown.to_string().contains("hunter2") && !shown.to_string().contains("d0ddc6"), "{shown}");
        for (pointer, expected) in [
            ("/shared_limits/redis", "redis://gw:***@127.0.0.1:6379"),
            ("/routes/0/request_headers/set/x-stage", "second"),
            ("/auth/partners/api_key/header", "x-api-key"),
        ] {
            assert_eq!(shown.pointer(pointer), Some(&expected.into()), "{pointer}: {shown}");
        }
    }
}
