//! Reads a pipeline file: environment, YAML, types, rules; and warns of secrets in plain text.

use std::path::Path;
use std::sync::Arc;

use regex::Regex;
use serde_saphyr::{Error as Yaml, PropertySyntax};

use super::{Environment, Pipeline, Secrets, check};
use crate::Error;

/// A pipeline that passed every rule.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the file says.
    pub pipeline: Arc<Pipeline>,
    /// What should be struck out of everything written.
    pub secrets: Secrets,
    /// What is allowed but unwise, a line each.
    pub warnings: Vec<String>,
}

/// Reads the file at `path`.
///
/// # Errors
/// [`Error::Spec`] with the file, the line and what to do.
pub fn load_file(path: &Path, environment: &Environment) -> Result<Loaded, Error> {
    let place = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Error::Spec {
        place: place.clone(),
        detail: match error.kind() {
            std::io::ErrorKind::NotFound => {
                "there is no such file; `tessera ingest init URL` writes a first one".into()
            }
            _ => format!("cannot be read: {error}"),
        },
    })?;
    load(&text, &place, environment)
}

/// Reads a pipeline from text; `place` names it in errors.
///
/// # Errors
/// [`Error::Spec`] with the place, the line and what to do.
pub fn load(text: &str, place: &str, environment: &Environment) -> Result<Loaded, Error> {
    let at = |line: usize, detail: String| Error::Spec { place: format!("{place}:{line}"), detail };
    if let Some((name, line)) = environment.first_missing(text) {
        let detail = format!("environment variable `{name}` is not set; export it, or write ${{{name}:-default}}");
        return Err(at(line, detail));
    }
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        property_syntax: PropertySyntax::DockerCompose,
    }
    .with_properties(environment.variables());
    let pipeline: Pipeline = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let (line, detail) = explain(&error, text);
        at(line, detail)
    })?;
    let secrets = Secrets::of(&pipeline);
    check(&pipeline).map_err(|fault| at(line_of(text, &fault.keys), secrets.redact(&fault.detail)))?;
    let warnings = plain_secrets(text, place);
    Ok(Loaded { pipeline: Arc::new(pipeline), secrets, warnings })
}

/// The JSON Schema of the pipeline file, for editors.
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Pipeline).to_value();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("title".into(), "Tessera ingest pipeline".into());
    }
    schema
}

/// Line and words for a YAML error. The parser places errors inside tagged values (`auth`, `paginator`) at the start
/// of the value, so an unknown key is looked up from there.
fn explain(error: &Yaml, text: &str) -> (usize, String) {
    let line = error.location().map_or(1, |location| location.line() as usize).max(1);
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
    if text.trim().is_empty() {
        return (1, "the file is empty; `tessera ingest init URL` writes a first one".to_owned());
    }
    if let Some(key) = message.strip_prefix("duplicate mapping key: ") {
        let key = key.split(',').next().unwrap_or(key);
        return (line, format!("key `{key}` stands here a second time; keep one of them"));
    }
    if let Some(number) =
        message.strip_prefix("invalid ").filter(|word| matches!(word.as_bytes(), [b'u' | b'i' | b'f', b'0'..=b'9', ..]))
    {
        let wanted = match number.as_bytes() {
            [b'f', ..] => "a number",
            [b'u', ..] => "a whole number of 0 or more",
            _ => "a whole number",
        };
        return (line, format!("{wanted} is expected here; write one (a `${{NAME}}` within `{{ … }}` needs quotes)"));
    }
    if message == "expected mapping start" {
        return (
            line,
            "keys and values are expected here; write `{ key: value }`, or the keys on lines of their own".into(),
        );
    }
    if let Some(key) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        return (line, format!("key `{key}` is missing here; add it"));
    }
    if let Some(value) = message.strip_prefix("unknown variant `").and_then(|rest| rest.split('`').next()) {
        return match find_value(text, value, line) {
            Some(line) => (line, format!("unknown value `{value}`; {}", hint(value, "values", &known_words(&message)))),
            // It came out of a variable.
            None => (line, message),
        };
    }
    let Some(key) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) else {
        return (line, message);
    };
    let known = known_words(&message);
    // In a mapping that has variables the parser does not repeat the key: it stands at the error's place, or in the
    // braces behind it.
    let key = match (key, error.location()) {
        ("an interpolated field", Some(location)) => {
            let rest = text.lines().nth(line - 1).and_then(|text| text.get(location.column() as usize - 1..));
            let keys = rest.unwrap_or_default().split(['{', ',']).filter_map(|part| part.split_once(':'));
            let keys: Vec<&str> = keys.map(|(key, _)| key.trim().trim_matches(['"', '\''])).collect();
            let unknown = || keys.iter().filter(|key| !known.contains(*key) && **key != "type").copied();
            unknown().find(|key| nearest(key, &known).is_some()).or_else(|| unknown().next()).unwrap_or(key)
        }
        _ => key,
    };
    let line = find_key(text, key, line).unwrap_or(line);
    (line, format!("unknown key `{key}`; {}", hint(key, "keys", &known)))
}

/// The words of the parser's "expected one of `a`, `b`".
fn known_words(message: &str) -> Vec<&str> {
    let expected = message.split("expected ").nth(1).unwrap_or_default();
    let words = expected.trim_start_matches("one of ").split([',', ' ']).map(|word| word.trim_matches('`'));
    words.filter(|word| !matches!(*word, "" | "or")).collect()
}

/// What to write instead of a word.
fn hint(word: &str, what: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            // `GET` and `get` are one.
            let mut shown: Vec<&str> = Vec::new();
            for word in known {
                if !shown.iter().any(|earlier| earlier.eq_ignore_ascii_case(word)) {
                    shown.push(word);
                }
            }
            format!("known {what} are {}", shown.join(", "))
        }
    }
}

/// The first line from `from` on that has the word as a value, else the first of all.
fn find_value(text: &str, value: &str, from: usize) -> Option<usize> {
    let pattern = Regex::new(&format!(r#"[:\[,\-]\s*["']?{}["']?\s*($|[,\]}}#])"#, regex::escape(value))).ok()?;
    let lines = |skipped: usize| text.lines().enumerate().skip(skipped);
    let found = |skipped: usize| lines(skipped).find(|(_, line)| pattern.is_match(line)).map(|(at, _)| at + 1);
    found(from.saturating_sub(1)).or_else(|| found(0))
}

/// The first line from `from` on that has `key:`.
fn find_key(text: &str, key: &str, from: usize) -> Option<usize> {
    let pattern = Regex::new(&format!(r#"(^|[\s{{,\-"']){}["']?\s*:"#, regex::escape(key))).ok()?;
    text.lines().enumerate().skip(from.saturating_sub(1)).find(|(_, line)| pattern.is_match(line)).map(|(at, _)| at + 1)
}

/// The line where keys and values follow each other, each from the line of the one before.
fn line_of(text: &str, keys: &[String]) -> usize {
    keys.iter().fold(1, |from, key| {
        find_key(text, key, from)
            .or_else(|| {
                let mut lines = text.lines().enumerate().skip(from - 1);
                lines.find(|(_, line)| line.contains(key.as_str())).map(|(at, _)| at + 1)
            })
            .unwrap_or(from)
    })
}

/// The known word that differs least, if it differs by little.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let (near, distance) = known.iter().map(|k| (*k, distance(word, k))).min_by_key(|(_, distance)| *distance)?;
    (distance <= 1 + word.len() / 4).then_some(near)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn plain_secrets(text: &str, place: &str) -> Vec<String> {
    let key = r"token|password|client_secret|refresh_token|secret_access_key|routing_key|key|value|webhook";
    let Ok(secret) = Regex::new(&format!(r#"(?:^|[\s{{,])({key})\s*:\s*["']?([^\s"',}}]+)"#)) else { return vec![] };
    let Ok(password) = Regex::new(r#"([a-z][a-z0-9+]*://[^\s:/@"'$]+):[^\s:/@"'$]+@"#) else { return vec![] };
    let mut section = String::new();
    let mut warnings = Vec::new();
    for (line, text) in text.lines().enumerate() {
        if let Some((name, _)) = text.split_once(':').filter(|_| text.starts_with(|c: char| c.is_alphabetic())) {
            section = name.to_owned();
        }
        if let Some(found) = password.captures(text).filter(|_| !text.trim_start().starts_with('#')) {
            let shown = format!("{}:${{PASSWORD}}@", &found[1]);
            warnings.push(format!(
                "{place}:{}: a password stands in plain text in a URL; write {shown}… and set it in the environment",
                line + 1
            ));
        }
        if !matches!(section.as_str(), "source" | "alerts" | "destination") || text.trim_start().starts_with('#') {
            continue;
        }
        for found in secret.captures_iter(text) {
            let (name, value) = (&found[1], &found[2]);
            let plain = !value.contains('$') && !value.starts_with(['{', '[', '&', '*', '|', '>', '#']);
            if plain && (!matches!(name, "key" | "value") || section == "source") {
                let variable = name.to_uppercase();
                warnings.push(format!("{place}:{}: `{name}` is a secret in plain text; write ${{{variable}}} and set it in the environment", line + 1));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_of_the_wrong_type_is_not_shown() {
        let variables = [("URL", "http://x"), ("SECRET", "hunter2\"!")];
        for key in [
            "concurrency: ${SECRET}",
            "attempts: $SECRET",
            "timeout: ${SECRET:-5s}",
            "max_body: \"${SECRET}\"",
            "auth: ${SECRET}",
            "auth: { type: \"${SECRET}\" }",
            "auth: { type: jwt, key: a, ttl: \"${SECRET}\" }",
            "allowed_hosts: ${SECRET}",
            "rate_limit: { requests_per_second: ${SECRET} }",
        ] {
            let text = format!(
                "version: 1\nname: p\nsource:\n  base_url: ${{URL}}\n  {key}\nresources: [{{ name: r, path: /r }}]\ndestination: {{ url: x }}\n"
            );
            let error = load(&text, "p.yaml", &Environment::from(variables)).unwrap_err().to_string();
            assert!(error.starts_with("p.yaml:") && !error.contains("hunter2"), "{key}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_url_of_a_load_is_warned_of() {
        let warnings = |url: &str| {
            let text = format!(
                "version: 1\nname: p\nsource: {{ base_url: http://x }}\nresources: [{{ name: r, path: /r }}]\n\
                 destination: {{ url: x }}\nload: [{{ url: \"{url}\" }}]\n"
            );
            load(&text, "p.yaml", &Environment::from([("PASSWORD", "hunter2")])).unwrap().warnings
        };
        let said = warnings("postgres://me:hunter2@db:5432/shop");
        assert!(
            said.len() == 1 && said[0].starts_with("p.yaml:6: a password") && !said[0].contains("hunter2"),
            "{said:?}"
        );
        assert!(said[0].contains("postgres://me:${PASSWORD}@"), "{said:?}");
        for url in ["postgres://me:${PASSWORD}@db/shop", "postgres://me@db:5432/shop", "sqlite:a@b.db"] {
            assert_eq!(warnings(url), [""; 0], "{url}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_beside_a_variable_too() {
        let text = "version: 1\nname: p\nsource:\n  base_url: ${URL}\n  concurency: 8\nresources: []\ndestination: { url: x }\n";
        let error = load(text, "p.yaml", &Environment::from([("URL", "http://x")])).unwrap_err().to_string();
        assert_eq!(error, "p.yaml:5: unknown key `concurency`; did you mean `concurrency`?");
    }

    #[test]
    fn an_empty_file_and_a_key_said_twice_are_told_with_the_remedy() {
        let said = |text: &str| load(text, "p.yaml", &Environment::from([("URL", "x")])).unwrap_err().to_string();
        assert_eq!(said(" \n"), "p.yaml:1: the file is empty; `tessera ingest init URL` writes a first one");
        assert_eq!(
            said("version: 1\nname: a\nname: b\n"),
            "p.yaml:3: key `name` stands here a second time; keep one of them"
        );
    }
}
