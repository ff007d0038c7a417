//! What a request says it has already, or wants only a part of, held against a whole answer (RFC 9110, 13 and 14).

use std::ops::Range;

use http::HeaderMap;
use http::header::{DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE};

use super::freshness::date;

/// Whether the caller has this answer already. `got_us` is when it came, for answers without dates.
pub fn is_not_modified(request: &HeaderMap, answer: &HeaderMap, got_us: i64) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let tag = answer.get(ETAG).map(|tag| opaque(tag.as_bytes()));
        let mut lines = request.get_all(IF_NONE_MATCH).iter();
        return lines.any(|line| tags(line.as_bytes()).any(|known| known == b"*" || Some(opaque(known)) == tag));
    }
    let Some(since) = date(request, &IF_MODIFIED_SINCE) else { return false };
    let changed = date(answer, &LAST_MODIFIED).or_else(|| date(answer, &DATE)).unwrap_or(got_us);
    changed <= since
}

/// A tag without what says that it is weak: whether a caller has an answer is compared weakly.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Tags of a list; commas within quotes are theirs.
fn tags(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    let parts = line.split(move |byte| {
        is_quoted ^= *byte == b'"';
        *byte == b',' && !is_quoted
    });
    parts.map(<[u8]>::trim_ascii)
}

/// What part of an answer is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// These bytes.
    Bytes(Range<usize>),
    /// None that there are.
    Unsatisfiable,
}

/// What part of an answer with so many bytes is wanted. Several ranges, and what cannot be read, get the whole.
pub fn part(request: &HeaderMap, answer: &HeaderMap, length: usize) -> Part {
    let wanted = request.get(RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes=").map(str::trim));
    let Some((first, last)) = wanted.and_then(|wanted| wanted.split_once('-')) else { return Part::Whole };
    if !still_holds(request, answer) {
        return Part::Whole;
    }
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<usize>().ok());
    let range = match (first, last) {
        ("", last) => match number(last).flatten() {
            Some(0) => return Part::Unsatisfiable,
            Some(count) => length.saturating_sub(count)..length,
            None => return Part::Whole,
        },
        (first, "") => match number(first).flatten() {
            Some(first) => first..length,
            None => return Part::Whole,
        },
        (first, last) => match (number(first).flatten(), number(last).flatten()) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
            _ => return Part::Whole,
        },
    };
    if range.is_empty() { Part::Unsatisfiable } else { Part::Bytes(range) }
}

/// Whether the part belongs to what the caller has: `if-range` is compared strongly.
fn still_holds(request: &HeaderMap, answer: &HeaderMap) -> bool {
    let Some(known) = request.get(IF_RANGE) else { return true };
    let is_strong = !known.as_bytes().starts_with(b"W/");
    if known.as_bytes().starts_with(b"\"") || !is_strong {
        return is_strong && answer.get(ETAG) == Some(known);
    }
    answer.get(LAST_MODIFIED) == Some(known)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_a_caller_has_is_not_sent_again() {
        let answer = headers(&[("etag", "\"a\""), ("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT")]);
        for (name, value, is_known) in [
            ("if-none-match", "\"a\"", true),
            ("if-none-match", "W/\"a\"", true),
            ("if-none-match", "\"x,y\", \"a\"", true),
            ("if-none-match", "*", true),
            ("if-none-match", "\"b\"", false),
            ("if-modified-since", "Wed, 01 Jan 2020 00:00:00 GMT", true),
            ("if-modified-since", "Wed, 01 Jan 2020 00:00:01 GMT", true),
            ("if-modified-since", "Tue, 31 Dec 2019 23:59:59 GMT", false),
            ("if-modified-since", "yesterday", false),
        ] {
            assert_eq!(is_not_modified(&headers(&[(name, value)]), &answer, 0), is_known, "{name}: {value}");
        }
        let both = headers(&[("if-none-match", "\"b\""), ("if-modified-since", "Wed, 01 Jan 2020 00:00:00 GMT")]);
        assert!(!is_not_modified(&both, &answer, 0), "the tag comes first");
    }

    #[test]
    fn parts_are_cut_as_asked() {
        let answer = headers(&[("etag", "\"a\"")]);
        for (range, wanted) in [
            ("bytes=0-1", Part::Bytes(0..2)),
            ("bytes=4-", Part::Bytes(4..10)),
            ("bytes=-3", Part::Bytes(7..10)),
            ("bytes=-30", Part::Bytes(0..10)),
            ("bytes=8-99", Part::Bytes(8..10)),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=5-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=99999999999999999999-", Part::Whole),
        ] {
            assert_eq!(part(&headers(&[("range", range)]), &answer, 10), wanted, "{range}");
        }
        for (condition, wanted) in
            [("\"a\"", Part::Bytes(0..1)), ("\"b\"", Part::Whole), ("W/\"a\"", Part::Whole), ("today", Part::Whole)]
        {
            let request = headers(&[("range", "bytes=0-0"), ("if-range", condition)]);
            assert_eq!(part(&request, &answer, 10), wanted, "{condition}");
        }
    }
}
