//! Keys in a header. Only their SHA-256 is known here: keys are long and random, so a fast hash tells nothing of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use ring::digest::{SHA256, digest};

use super::{Identity, Proof};
use crate::Error;
use crate::spec::ApiKey;

/// A header longer than this is no key.
const MAX_KEY_BYTES: usize = 512;

/// All consumers of a way.
#[derive(Debug)]
pub(super) struct ApiKeys {
    pub(super) header: HeaderName,
    by_hash: HashMap<[u8; 32], Arc<Identity>, ahash::RandomState>,
}

impl ApiKeys {
    pub(super) fn new(way: &str, header: &str, consumers: &BTreeMap<String, ApiKey>) -> Result<Self, Error> {
        let wrong = |detail: String| Error::Config { place: String::new(), detail };
        let header = HeaderName::try_from(header).map_err(|error| wrong(error.to_string()))?;
        let mut by_hash = HashMap::default();
        for (name, key) in consumers {
            let identity = Arc::new(Identity {
                subject: name.clone(),
                roles: key.roles.clone(),
                consumer: key.quota.map(|_| quota_name(way, name).into()),
                ..Identity::default()
            });
            for hash in &key.hashes {
                let hash = from_hex(hash).ok_or_else(|| wrong(format!("a hash of `{name}` is not hexadecimal")))?;
                if by_hash.insert(hash, identity.clone()).is_some() {
                    return Err(wrong(format!(
                        "a hash of `{name}` stands here twice; give every consumer its own key"
                    )));
                }
            }
        }
        Ok(Self { header, by_hash })
    }

    pub(super) fn check(&self, headers: &HeaderMap) -> Proof {
        let mut shown = headers.get_all(&self.header).iter();
        match (shown.next(), shown.next()) {
            (None, _) => Proof::None,
            (Some(_), Some(_)) => Proof::Fails("two keys are shown; send one".into()),
            (Some(key), None) if key.len() > MAX_KEY_BYTES => Proof::Fails("the key is too long".into()),
            (Some(key), None) => match self.by_hash.get(&sha256(key.as_bytes())) {
                Some(identity) => Proof::Holds(identity.clone()),
                None => Proof::Fails("the key is not known here".into()),
            },
        }
    }
}

/// What a consumer's quota is called.
pub fn quota_name(way: &str, consumer: &str) -> String {
    format!("{way}/{consumer}")
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// The hash of a key as it stands in a config file.
pub fn hash_key(key: &str) -> String {
    sha256(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}
