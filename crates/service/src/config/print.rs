//! `tessera config print`: the effective settings as a config file, each line with where it came from.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Config, STARS, names};

impl Config {
    /// The effective settings as TOML, secrets starred, each line ending with its origin.
    pub fn print(&self) -> String {
        let mut rows: Vec<(String, String, String)> = names::all(&self.values)
            .into_iter()
            .map(|(key, value)| {
                let shown = self.shown(&key, value);
                let origin = self.origin(&key).to_string();
                (key, shown, origin)
            })
            .collect();
        rows.sort_by(|a, b| table_of(&a.0).cmp(table_of(&b.0)));
        let width = rows.iter().map(|(key, shown, _)| name_of(key).len() + shown.len() + 3).max().unwrap_or(0);
        let mut text = String::new();
        let mut table = "";
        for (key, shown, origin) in &rows {
            if table_of(key) != table {
                table = table_of(key);
                let gap = if text.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{table}]");
            }
            let line = match shown.as_str() {
                "" => format!("# {} is not set", name_of(key)),
                shown => format!("{} = {shown}", name_of(key)),
            };
            let _ = writeln!(text, "{line:width$}  # {origin}");
        }
        text
    }

    /// A value as TOML, or stars; empty where it is not set.
    pub(super) fn shown(&self, key: &str, value: &Value) -> String {
        match value {
            Value::Null => String::new(),
            Value::String(text) if text.is_empty() => "\"\"".to_owned(),
            _ if self.is_secret(key) => format!("\"{STARS}\""),
            Value::Array(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| self.shown(key, part)).collect();
                format!("[{}]", parts.join(", "))
            }
            Value::Object(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(name, value)| format!("{name} = {}", self.shown(&format!("{key}.{name}"), value)))
                    .collect();
                format!("{{ {} }}", entries.join(", "))
            }
            // A JSON string is a TOML basic string, but for characters that neither writes raw.
            Value::String(text) => Value::String(star_password(text)).to_string(),
            _ => value.to_string(),
        }
    }
}

/// `postgres://user:password@host` with the password starred; other texts as they are.
pub fn star_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..authority_end].rfind('@') else { return text.to_owned() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{STARS}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

fn table_of(key: &str) -> &str {
    key.rsplit_once('.').map_or("", |(table, _)| table)
}

fn name_of(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}
