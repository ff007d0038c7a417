//! An answer that is kept.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_LANGUAGE, AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, TRAILER, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tessera_kernel::Timestamp;

use super::key::{Digest, Key, Mark};
use crate::domain::freshness::{self, Life, SURROGATE_CONTROL};

/// What an answer weighs beside its bytes.
const OVERHEAD_BYTES: usize = 512;

/// An answer that is kept. It never changes; what a 304 changes makes a new one with the same body.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, without those between neighbours and the age it came with.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// How long it may be used.
    pub life: Life,
    /// Which headers of requests it was chosen by, with the digests of their values.
    pub vary: Vec<(HeaderName, Key)>,
    /// What voids it.
    pub marks: Vec<Mark>,
    /// The last voiding before it was asked for.
    pub since: u64,
}

impl Stored {
    /// What it weighs in memory.
    pub fn weight(&self) -> u64 {
        let headers: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        (OVERHEAD_BYTES + headers + self.body.len() + self.vary.len() * 64 + self.marks.len() * 8) as u64
    }

    /// Whether a request with these headers chooses it. `value` gives the digest of a header's value.
    pub fn is_chosen_by(&self, value: &dyn Fn(&HeaderName) -> Key) -> bool {
        self.vary.iter().all(|(name, digest)| value(name) == *digest)
    }

    /// Whether another takes its place: it is chosen by the same values of the same headers.
    pub fn is_replaced_by(&self, other: &Self) -> bool {
        self.vary == other.vary
    }

    /// Its headers after a 304 with these (RFC 9111, 3.2): all are taken over but those that describe the body that is kept.
    pub fn headers_after(&self, fresh: &HeaderMap) -> HeaderMap {
        let mut headers = self.headers.clone();
        let stays = |name: &HeaderName| {
            [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG].contains(name) || name == "content-md5"
        };
        for name in fresh.keys().filter(|name| !stays(name)) {
            headers.remove(name);
            for value in fresh.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        headers
    }
}

/// Headers as they are kept; `tags` is the header with the tags.
pub fn kept_headers(mut headers: HeaderMap, tags: &HeaderName, got: Timestamp) -> HeaderMap {
    for name in freshness::withheld(&headers) {
        headers.remove(name);
    }
    for name in [&AGE, &TRAILER, &SURROGATE_CONTROL, tags] {
        headers.remove(name);
    }
    if !headers.contains_key(DATE)
        && let Ok(date) = HeaderValue::try_from(freshness::http_date(got))
    {
        headers.insert(DATE, date);
    }
    // Copied, so that what is kept does not hold the buffers it came in.
    for value in headers.values_mut() {
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = copy;
        }
    }
    headers
}

/// The names of `vary`, in small letters and in order.
pub fn vary_names(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(VARY).iter().filter_map(|line| line.to_str().ok());
    let mut names: Vec<HeaderName> =
        lines.flat_map(|line| line.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names
}

/// The digest of a header's value: lines count as one list, and white space around commas does not count. Languages have no
/// case; of codings only which are taken counts, since whoever takes the same may be given the same.
pub fn value_digest(headers: &HeaderMap, name: &HeaderName) -> Key {
    let lines = headers.get_all(name).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let items = lines.map(<[u8]>::trim_ascii);
    let digest = Digest::of("value");
    if *name == ACCEPT_ENCODING {
        let mut taken: Vec<Vec<u8>> = items.map(<[u8]>::to_ascii_lowercase).filter_map(|item| taken(&item)).collect();
        taken.sort();
        taken.dedup();
        // Who says nothing takes anything, and who says that he takes nothing does not.
        let digest = digest.with(&[u8::from(headers.contains_key(name))]);
        return taken.iter().fold(digest, |digest, item| digest.with(item)).key();
    }
    let has_case = *name != ACCEPT_LANGUAGE;
    items
        .fold(digest, |digest, item| if has_case { digest.with(item) } else { digest.with(&item.to_ascii_lowercase()) })
        .key()
}

/// The name of a coding, unless its weight is 0: then it is marked as what is not wanted.
fn taken(item: &[u8]) -> Option<Vec<u8>> {
    let mut parts = item.splitn(2, |byte| *byte == b';');
    let name = parts.next()?.trim_ascii().to_vec();
    let weight: Vec<u8> = parts.next().unwrap_or_default().iter().copied().filter(|byte| *byte != b' ').collect();
    let is_refused = weight.strip_prefix(b"q=0").is_some_and(|rest| rest.iter().all(|byte| b".0".contains(byte)));
    match (name.is_empty(), is_refused) {
        (true, _) => None,
        (false, true) => Some([b"not ", &name[..]].concat()),
        (false, false) => Some(name),
    }
}

/// The marks of the tags that an answer has; they are separated by spaces or commas.
pub fn tag_marks(headers: &HeaderMap, name: &HeaderName) -> Vec<Mark> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    let tags = lines.flat_map(|line| line.split([' ', ','])).filter(|tag| !tag.is_empty());
    tags.take(MOST_TAGS).map(super::key::tag).collect()
}

/// Tags of one answer; more are not counted.
const MOST_TAGS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn values_that_mean_the_same_are_the_same() {
        let digest = |name: &str, lines: &[&'static str]| {
            let name: HeaderName = name.parse().unwrap();
            let mut map = HeaderMap::new();
            for line in lines {
                map.append(name.clone(), HeaderValue::from_static(line));
            }
            value_digest(&map, &name)
        };
        assert_eq!(digest("foo", &["1, 2"]), digest("foo", &["1", "2"]));
        assert_eq!(digest("foo", &[" 1,2 "]), digest("foo", &["1, 2"]));
        assert_eq!(digest("accept-language", &["eN, De"]), digest("accept-language", &["en,de"]));
        let codings = |line: &'static str| digest("accept-encoding", &[line]);
        assert_eq!(codings("gzip, br"), codings("br;q=0.9,GZIP"));
        assert_ne!(codings("gzip, br"), codings("gzip"));
        assert_ne!(codings("gzip, identity;q=0"), codings("gzip"));
        assert_eq!(codings("gzip, identity;q=0.000"), codings("identity; q=0, gzip"));
        assert_ne!(digest("foo", &["A"]), digest("foo", &["a"]));
        assert_ne!(digest("foo", &["1, 2"]), digest("foo", &["12"]));
        assert_ne!(digest("foo", &[]), digest("foo", &[""]));
    }

    #[test]
    fn what_is_between_two_only_is_not_kept() {
        let got = Timestamp::from_micros(0);
        let map =
            headers(&[("cache-control", "private=\"set-cookie\""), ("set-cookie", "a=b"), ("age", "5"), ("x", "y")]);
        let kept = kept_headers(map, &HeaderName::from_static("surrogate-key"), got);
        assert_eq!(kept["x"], "y");
        assert_eq!(kept["date"], "Thu, 01 Jan 1970 00:00:00 GMT");
        assert!(!kept.contains_key("set-cookie") && !kept.contains_key("age"));
        assert_eq!(vary_names(&headers(&[("vary", "B, a"), ("vary", "b")])), ["a", "b"]);
        assert_eq!(tag_marks(&headers(&[("t", "a b, c")]), &HeaderName::from_static("t")).len(), 3);
    }
}
