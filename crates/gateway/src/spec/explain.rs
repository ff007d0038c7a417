//! Faults of a config file in words, at their line.

use regex::Regex;
use serde_saphyr::Error as Yaml;

/// Line and words for a YAML error. The parser places some errors at the start of the value around them, so an unknown key
/// is looked up from there.
pub(super) fn explain(error: &Yaml, text: &str) -> (usize, String) {
    let line = error.location().map_or(1, |location| location.line() as usize).max(1);
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
    if text.trim().is_empty() {
        return (1, "the file is empty; docs/gateway.md shows a first one".to_owned());
    }
    let quoted = |prefix: &str| message.strip_prefix(prefix).and_then(|rest| rest.split('`').next());
    if let Some(key) = message.strip_prefix("duplicate mapping key: ") {
        let key = key.split(',').next().unwrap_or(key);
        return (line, format!("key `{key}` stands here a second time; keep one of them"));
    }
    if let Some(key) = quoted("missing field `") {
        return (line, format!("key `{key}` is missing here; add it"));
    }
    if message == "expected mapping start" {
        return (line, "keys and values are expected here; write `{ key: value }`, or the keys on lines below".into());
    }
    if let Some(value) = quoted("unknown variant `") {
        let hint = hint(value, "values", &known_words(&message));
        return (find_value(text, value, line).unwrap_or(line), format!("unknown value `{value}`; {hint}"));
    }
    if let Some(key) = quoted("unknown field `") {
        let hint = hint(key, "keys", &known_words(&message));
        return (find_key(text, key, line).unwrap_or(line), format!("unknown key `{key}`; {hint}"));
    }
    (line, message)
}

/// The line where keys and values follow each other, each from the line of the one before.
pub(super) fn line_of(text: &str, keys: &[String]) -> usize {
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

/// The words of the parser's "expected one of `a`, `b`".
fn known_words(message: &str) -> Vec<&str> {
    let expected = message.split("expected ").nth(1).unwrap_or_default();
    let words = expected.trim_start_matches("one of ").split([',', ' ']).map(|word| word.trim_matches('`'));
    words.filter(|word| !matches!(*word, "" | "or")).collect()
}

/// What to write instead of a word.
pub(super) fn hint(word: &str, what: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("there are no {what}"),
        None => format!("known {what} are {}", known.join(", ")),
    }
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
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
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
