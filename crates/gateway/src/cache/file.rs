//! How an answer lies on disk: `TGC1`, the length of its description (4 bytes, little endian), the description as JSON, the
//! body, and SHA-256 of all that. A file that is not whole, or of another version, is no answer.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::key::{Key, Mark};
use super::stored::Stored;
use crate::domain::freshness::Life;

const MAGIC: &[u8; 4] = b"TGC1";
const DIGEST_BYTES: usize = 32;
/// What comes before the description.
pub(super) const LEAD_BYTES: usize = 8;
/// The longest description: more than the headers of an answer may have.
pub(super) const MOST_DESCRIPTION_BYTES: usize = 4 << 20;

/// All of an answer but its body.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Description {
    status: u16,
    /// Values as their bytes, each as the character of the same number.
    headers: Vec<(String, String)>,
    pub(super) life: Life,
    /// Names with the digests of values, in hexadecimal digits.
    vary: Vec<(String, String)>,
    pub(super) marks: Vec<Mark>,
    pub(super) since: u64,
}

/// An answer as the bytes of its file.
pub(super) fn write(stored: &Stored) -> Vec<u8> {
    let letters = |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect::<String>();
    let description = Description {
        status: stored.status.as_u16(),
        headers: stored.headers.iter().map(|(name, value)| (name.as_str().to_owned(), letters(value))).collect(),
        life: stored.life,
        vary: stored.vary.iter().map(|(name, digest)| (name.as_str().to_owned(), format!("{digest:032x}"))).collect(),
        marks: stored.marks.clone(),
        since: stored.since,
    };
    // Text and numbers become JSON always.
    let description = serde_json::to_vec(&description).unwrap_or_default();
    let mut file = Vec::with_capacity(LEAD_BYTES + description.len() + stored.body.len() + DIGEST_BYTES);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&(description.len() as u32).to_le_bytes());
    file.extend_from_slice(&description);
    file.extend_from_slice(&stored.body);
    let sum = digest(&SHA256, &file);
    file.extend_from_slice(sum.as_ref());
    file
}

/// How long the description is, from what comes before it.
pub(super) fn description_bytes(lead: &[u8]) -> Option<usize> {
    let length = lead.strip_prefix(MAGIC)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*length) as usize).filter(|length| *length <= MOST_DESCRIPTION_BYTES)
}

/// The description alone; whether the file is whole is not known yet.
pub(super) fn describe(description: &[u8]) -> Option<Description> {
    serde_json::from_slice(description).ok()
}

impl Description {
    /// What tells it apart from other variants.
    pub(super) fn vary(&self) -> Option<Vec<(HeaderName, Key)>> {
        let pair =
            |(name, digest): &(String, String)| Some((name.parse().ok()?, Key::from_str_radix(digest, 16).ok()?));
        self.vary.iter().map(pair).collect()
    }
}

/// The answer in a file, if it is whole.
pub(super) fn read(file: Vec<u8>) -> Option<Stored> {
    let file = Bytes::from(file);
    let signed = file.len().checked_sub(DIGEST_BYTES).filter(|length| *length >= LEAD_BYTES)?;
    if digest(&SHA256, &file[..signed]).as_ref() != &file[signed..] {
        return None;
    }
    let body_at = LEAD_BYTES + description_bytes(&file)?;
    let description = describe(file.get(LEAD_BYTES..body_at.min(signed))?)?;
    let mut headers = HeaderMap::new();
    for (name, letters) in &description.headers {
        let value: Option<Vec<u8>> = letters.chars().map(|letter| u8::try_from(letter).ok()).collect();
        headers.append(name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(&value?).ok()?);
    }
    Some(Stored {
        status: StatusCode::from_u16(description.status).ok()?,
        headers,
        body: file.slice(body_at..signed),
        life: description.life,
        vary: description.vary()?,
        marks: description.marks,
        since: description.since,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored {
        let mut headers = HeaderMap::new();
        headers.append("x", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        headers.append("x", HeaderValue::from_static("two"));
        Stored {
            status: StatusCode::NOT_FOUND,
            headers,
            body: Bytes::from_static(b"a body"),
            life: Life {
                got_us: 1,
                initial_age_us: 2,
                lifetime_us: 3,
                no_cache: false,
                never_stale: true,
                while_us: 4,
                error_us: 5,
            },
            vary: vec![(HeaderName::from_static("foo"), 7)],
            marks: vec![u64::MAX, 1],
            since: 9,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let (before, after) = (stored(), read(write(&stored())).unwrap());
        assert_eq!((before.status, &before.headers, &before.body), (after.status, &after.headers, &after.body));
        assert_eq!(
            (before.life, before.vary, before.marks, before.since),
            (after.life, after.vary, after.marks, after.since)
        );
    }

    #[test]
    fn a_file_that_is_not_whole_is_no_answer() {
        let file = write(&stored());
        for length in 0..file.len() {
            assert!(read(file[..length].to_vec()).is_none(), "{length} bytes of {}", file.len());
        }
        for at in 0..file.len() {
            let mut broken = file.clone();
            broken[at] ^= 1;
            assert!(read(broken).is_none(), "byte {at} is another");
        }
    }
}
