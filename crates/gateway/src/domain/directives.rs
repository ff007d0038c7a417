//! Reading `cache-control` and what is like it.

use http::{HeaderMap, HeaderName};

/// Longer spans are cut to about 68 years, as RFC 9111 (1.2.2) has it.
pub(super) const MOST_SECONDS: u64 = 1 << 31;

/// The directives of a header such as `cache-control`: names in small letters, values without quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives(Vec<(String, Option<String>)>);

/// What a directive is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// It is not there.
    Nothing,
    /// These headers.
    Fields(Vec<String>),
    /// The whole answer.
    Whole,
}

impl Directives {
    /// Of all lines with this name.
    pub fn of(headers: &HeaderMap, name: &HeaderName) -> Self {
        let mut found = Vec::new();
        for line in headers.get_all(name) {
            split(&String::from_utf8_lossy(line.as_bytes()), &mut found);
        }
        Self(found)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Whether it is there without a value.
    pub fn is_bare(&self, name: &str) -> bool {
        self.0.iter().any(|(known, value)| known == name && value.is_none())
    }

    /// Its seconds: the fewest of several, none of what cannot be read.
    pub fn seconds(&self, name: &str) -> Option<u64> {
        let values = self.0.iter().filter(|(known, _)| known == name);
        values.map(|(_, value)| value.as_deref().and_then(digits).unwrap_or(0)).min()
    }

    /// What it is about.
    pub fn scope(&self, name: &str) -> Scope {
        let mut fields = Vec::new();
        for (known, value) in &self.0 {
            match value {
                _ if known != name => {}
                Some(value) => fields.extend(value.split(',').map(|field| field.trim().to_ascii_lowercase())),
                None => return Scope::Whole,
            }
        }
        fields.retain(|field| !field.is_empty());
        if fields.is_empty() && !self.has(name) { Scope::Nothing } else { Scope::Fields(fields) }
    }
}

/// Cuts at commas outside quotes.
fn split(line: &str, found: &mut Vec<(String, Option<String>)>) {
    let (mut part, mut is_quoted, mut is_escaped) = (String::new(), false, false);
    let mut end = |part: &mut String| {
        let text = std::mem::take(part);
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(unquoted(value))),
            None => (text.as_str(), None),
        };
        let name = name.trim();
        if !name.is_empty() {
            found.push((name.to_ascii_lowercase(), value));
        }
    };
    for c in line.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                end(&mut part);
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    end(&mut part);
}

fn unquoted(value: &str) -> String {
    let value = value.trim_end();
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.map_or_else(|| value.to_owned(), |inner| inner.replace("\\\"", "\""))
}

/// A whole number of seconds.
pub(super) fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(MOST_SECONDS).min(MOST_SECONDS))
}

/// Whether a line is a dictionary of structured fields (RFC 9651) whose spans are numbers; otherwise it counts as missing.
pub(super) fn is_dictionary(line: &str) -> bool {
    const SPANS: [&str; 4] = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"];
    let (mut rest, mut is_first) = (line.trim(), true);
    while !rest.is_empty() {
        if !std::mem::take(&mut is_first) {
            let Some(next) = rest.strip_prefix(',') else { return false };
            rest = next.trim_start();
        }
        let key = length(rest, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c));
        let (name, after) = rest.split_at(key);
        if !name.starts_with(|c: char| c.is_ascii_lowercase() || c == '*') {
            return false;
        }
        let Some(value) = after.strip_prefix('=') else {
            rest = after.trim_start();
            continue;
        };
        let number = length(value, |c| c.is_ascii_digit());
        let end = match value.chars().next() {
            Some('"') => value[1..].find('"').map(|at| at + 2),
            Some(c) if c.is_ascii_digit() => Some(number).filter(|digits| *digits <= 15),
            Some(c) if c.is_ascii_alphabetic() || c == '*' => {
                Some(length(value, |c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(c)))
            }
            Some('?') => Some(2).filter(|_| value.starts_with("?0") || value.starts_with("?1")),
            _ => None,
        };
        let Some(end) = end.filter(|_| number > 0 || !SPANS.contains(&name)) else { return false };
        rest = value[end..].trim_start();
    }
    true
}

fn length(text: &str, fits: impl Fn(char) -> bool) -> usize {
    text.find(|c| !fits(c)).unwrap_or(text.len())
}
