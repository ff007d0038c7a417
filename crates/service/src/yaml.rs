//! Files that people write in YAML: variables of the environment, and faults in words at their line.

use std::collections::HashMap;

use regex::Regex;
use serde::de::DeserializeOwned;
use serde_saphyr::{Error as Yaml, PropertySyntax};

/// Variables for `${NAME}` in a file. Passed in, so that tests need not change the process.
#[derive(Clone, Debug, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// The process's own, as it was when called. Values that are no UTF-8 are left out.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// One variable, if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The first `${NAME}` without a default that is not set, with its line.
    fn first_missing(&self, text: &str) -> Option<(String, usize)> {
        let reference = Regex::new(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$([A-Za-z_][A-Za-z0-9_]*)").ok()?;
        text.lines().enumerate().find_map(|(line, text)| {
            let text = if text.trim_start().starts_with('#') { "" } else { text.split(" #").next().unwrap_or("") };
            reference.captures_iter(text).find_map(|found| {
                let name = found.get(1).or_else(|| found.get(2))?.as_str();
                (!self.0.contains_key(name)).then(|| (name.to_owned(), line + 1))
            })
        })
    }
}

impl<K: Into<String>, V: Into<String>, const N: usize> From<[(K, V); N]> for Environment {
    fn from(pairs: [(K, V); N]) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

/// Reads a file's text. `first` says in a message how one comes to a first file.
///
/// # Errors
/// The line, what is wrong and what to do.
pub fn read<T: DeserializeOwned>(text: &str, environment: &Environment, first: &str) -> Result<T, (usize, String)> {
    if let Some((name, line)) = environment.first_missing(text) {
        let detail = format!("environment variable `{name}` is not set; export it, or write ${{{name}:-default}}");
        return Err((line, detail));
    }
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        property_syntax: PropertySyntax::DockerCompose,
    }
    .with_properties(environment.0.clone());
    serde_saphyr::from_str_with_options(text, options).map_err(|error| explain(&error, text, first))
}

/// Line and words for a YAML error. The parser places errors inside tagged values (`auth`, `paginator`) at the start
/// of the value, so an unknown key is looked up from there.
fn explain(error: &Yaml, text: &str, first: &str) -> (usize, String) {
    let line = error.location().map_or(1, |location| location.line() as usize).max(1);
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
    if text.trim().is_empty() {
        return (1, format!("the file is empty; {first}"));
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

/// What to write instead of a word: the known one that it differs least from, or all.
pub fn hint(word: &str, what: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("there are no {what}"),
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

/// The line where keys and values follow each other, each from the line of the one before; a value of `name` goes before a key.
pub fn line_of(text: &str, keys: &[String]) -> usize {
    keys.iter().fold(1, |from, key| {
        find_value_of_name(text, key, from)
            .or_else(|| find_key(text, key, from))
            .or_else(|| {
                let mut lines = text.lines().enumerate().skip(from - 1);
                lines.find(|(_, line)| line.contains(key.as_str())).map(|(at, _)| at + 1)
            })
            .unwrap_or(from)
    })
}

/// The line from `from` on that has `name: KEY`.
fn find_value_of_name(text: &str, name: &str, from: usize) -> Option<usize> {
    find_line(text, &format!(r#"name["']?\s*:\s*["']?{}["']?\s*($|[,\}}#])"#, regex::escape(name)), from)
}

/// The first line from `from` on that has the word as a value, else the first of all.
fn find_value(text: &str, value: &str, from: usize) -> Option<usize> {
    let pattern = format!(r#"[:\[,\-]\s*["']?{}["']?\s*($|[,\]}}#])"#, regex::escape(value));
    find_line(text, &pattern, from).or_else(|| find_line(text, &pattern, 1))
}

/// The first line from `from` on that has `key:`.
fn find_key(text: &str, key: &str, from: usize) -> Option<usize> {
    find_line(text, &format!(r#"(^|[\s{{,\-"']){}["']?\s*:"#, regex::escape(key)), from)
}

fn find_line(text: &str, pattern: &str, from: usize) -> Option<usize> {
    let pattern = Regex::new(pattern).ok()?;
    text.lines().enumerate().skip(from.saturating_sub(1)).find(|(_, line)| pattern.is_match(line)).map(|(at, _)| at + 1)
}

/// The known word that differs least, if it differs by little.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let (near, distance) = known.iter().map(|k| (*k, distance(word, k))).min_by_key(|(_, distance)| *distance)?;
    (distance <= 1 + word.len() / 4).then_some(near)
}

/// Levenshtein distance.
pub(crate) fn distance(a: &str, b: &str) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_told_by_its_neighbour_or_by_all() {
        assert_eq!(hint("upstrem", "keys", &["upstream", "routes"]), "did you mean `upstream`?");
        assert_eq!(hint("x", "values", &["GET", "get", "POST"]), "known values are GET, POST");
        assert_eq!(hint("x", "ways", &[]), "there are no ways");
    }

    #[test]
    fn a_line_is_found_by_its_keys_and_names() {
        let text = "routes:\n  - { name: a, path: /a }\n  - name: b\n    path: /b\nupstreams:\n  b: {}\n";
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        assert_eq!(line_of(text, &keys(&["routes", "b", "path"])), 4);
        assert_eq!(line_of(text, &keys(&["upstreams", "b"])), 6);
    }

    #[test]
    fn a_variable_in_a_comment_need_not_be_set() {
        let environment = Environment::from([("SET", "1")]);
        let text = "# ${NONE}\na: ${SET} # ${NONE}\nb: ${OTHER:-2}\n";
        let read: HashMap<String, String> = super::read(text, &environment, "").unwrap();
        assert_eq!((read["a"].as_str(), read["b"].as_str()), ("1", "2"));
        let (line, detail) =
            super::read::<HashMap<String, String>>("a: 1\nb: ${NONE}\n", &environment, "").unwrap_err();
        assert!(line == 2 && detail.contains("`NONE` is not set"), "{detail}");
    }
}
