//! One spelling for each path (RFC 3986, 6.2.2), so that what a route was chosen by is what the upstream is asked for.
//!
//! `/a/%2e%2e/admin` and `/admin` are the same place to most servers. A gateway that matches the one and forwards the
//! other lets its rules be walked around.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPath(pub &'static str);

/// The path in its one spelling: needless escapes undone, dot segments resolved, empty segments merged.
///
/// # Errors
/// Where an escape is broken or hides a control character, or the path leads above the root.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let unescaped = unescape_unreserved(path)?;
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in unescaped.split('/') {
        ends_open = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." if segments.pop().is_none() => return Err(BadPath("it leads above the root")),
            ".." => {}
            segment => segments.push(segment),
        }
    }
    let mut normal = String::with_capacity(unescaped.len());
    for segment in &segments {
        normal.push('/');
        normal.push_str(segment);
    }
    if ends_open {
        normal.push('/');
    }
    Ok(Cow::Owned(normal))
}

/// Whether this is the one spelling of its path.
pub fn is_normal(path: &str) -> bool {
    normalise(path).is_ok_and(|normal| normal == path)
}

/// Nothing in it could be spelled otherwise: the usual case, found in one pass.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.first() == Some(&b'/')
        && path.iter().all(|byte| {
            let odd = *byte == b'%' || *byte == b'\\' || (before == b'/' && matches!(byte, b'/' | b'.'));
            before = *byte;
            !odd
        })
}

fn unescape_unreserved(path: &str) -> Result<String, BadPath> {
    let mut text = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                    return Err(BadPath("a `%` is not followed by two hexadecimal digits"));
                };
                // Two digits of 16 fit a byte.
                let value = (high * 16 + low) as u8;
                match value {
                    0..=0x1f | 0x7f => return Err(BadPath("it hides a control character")),
                    value if value.is_ascii_alphanumeric() || b"-._~".contains(&value) => text.push(char::from(value)),
                    value => text.push_str(&format!("%{value:02X}")),
                }
            }
            b'\\' => return Err(BadPath("it has a backslash; write `/` or %5C")),
            byte => text.push(char::from(byte)),
        }
    }
    Ok(text)
}

/// A segment with its escapes undone; what is not UTF-8 stays escaped.
pub fn decode(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let raw = segment.as_bytes();
    let mut at = 0;
    while at < raw.len() {
        let escaped = (raw[at] == b'%')
            .then(|| segment.get(at + 1..at + 3).filter(|two| two.bytes().all(|digit| digit.is_ascii_hexdigit())))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(raw[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(segment), Cow::Owned)
}

/// Escapes what has a meaning of its own in a path, so that the text stays one segment.
pub fn encode_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_place_has_one_spelling() {
        for (written, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a//b", "/a/b"),
            ("//a", "/a"),
            ("/a/./b/", "/a/b/"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/%61", "/a"),
            ("/a%2fb", "/a%2Fb"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/caf%c3%a9", "/caf%C3%A9"),
        ] {
            assert_eq!(normalise(written).unwrap(), normal, "{written}");
        }
        for bad in ["/..", "/a/../..", "/%", "/%2", "/%zz", "/%00", "/a%0d%0ab", "/a\\..\\b"] {
            assert!(normalise(bad).is_err(), "{bad}");
        }
        assert_eq!(decode("caf%C3%A9%2F"), "café/");
        assert_eq!(decode("50%+1 %4"), "50%+1 %4", "a sign is no digit");
        assert_eq!(encode_segment("café/"), "caf%C3%A9%2F");
    }

    proptest! {
        #[test]
        fn a_normal_path_stays_as_it_is(path in "(/|\\.|%2e|%2f|a|b|%41|%c3){0,12}") {
            if let Ok(normal) = normalise(&format!("/{path}")) {
                prop_assert!(!normal.contains("//") && !normal.split('/').any(|segment| segment == ".."), "{}", normal);
                prop_assert_eq!(normalise(&normal).unwrap(), normal.clone());
            }
        }
    }
}
