//! JSON text as PostgreSQL's `jsonb` takes it: without the NUL character and without halves of surrogate pairs.

use std::borrow::Cow;

/// The text without NUL bytes, and how many there were.
pub(super) fn without_nuls(text: &str) -> (Cow<'_, str>, u64) {
    let nuls = text.bytes().filter(|byte| *byte == 0).count() as u64;
    (if nuls == 0 { text.into() } else { text.replace('\0', "").into() }, nuls)
}

/// The JSON text without `\u0000`, half pairs replaced by U+FFFD, and how many NULs there were.
pub(super) fn for_jsonb(text: &str) -> (Cow<'_, str>, u64) {
    let (text, mut nuls) = without_nuls(text);
    if !text.contains("\\u") {
        return (text, nuls);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest: &str = &text;
    while let Some(at) = rest.find('\\') {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match escape(rest) {
            None => rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at),
            Some(0) => {
                nuls += 1;
                rest = &rest[6..];
                continue;
            }
            Some(0xD800..0xDC00) if matches!(escape(&rest[6..]), Some(0xDC00..0xE000)) => 12,
            Some(0xD800..0xE000) => {
                clean.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            Some(_) => 6,
        };
        clean.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    clean.push_str(rest);
    (clean.into(), nuls)
}

/// The code unit of an escape such as `\u00e9` at the start.
fn escape(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_jsonb_refuses_is_changed() {
        let cases = [
            (r#"{"a":1}"#, r#"{"a":1}"#, 0),
            (r#""\u0000a\u0000""#, r#""a""#, 2),
            (r#""\\u0000 \\\u0000""#, r#""\\u0000 \\""#, 1),
            (r#""\ud83d\ude00 \u00e9 \n\"é""#, r#""\ud83d\ude00 \u00e9 \n\"é""#, 0),
            (r#""\ud83d \ude00 \ud83d\u0041""#, r#""\ufffd \ufffd \ufffd\u0041""#, 0),
            ("\"a\0\"", "\"a\"", 1),
        ];
        for (given, wanted, removed) in cases {
            let (clean, nuls) = for_jsonb(given);
            assert_eq!((clean.as_ref(), nuls), (wanted, removed), "{given}");
        }
    }
}
