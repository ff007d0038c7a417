//! A write as it was asked for: by whom, under which key, and what exactly.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tessera_kernel::Uuid;

use crate::store::Asked;

/// A write's subject and idempotency key. Ids made from it are the same for the same request, so that a repetition
/// meets what the first one made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub subject: Arc<str>,
    /// The key.
    pub key: String,
}

impl Request {
    /// The id of what this request makes (UUID version 8: the hash of subject and key).
    pub fn id(&self, kind: &str) -> Uuid {
        let mut hash = Sha256::new();
        for part in [kind, &self.subject, &self.key] {
            // The length keeps neighbours apart.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Uuid::from_u128(u128::from_be_bytes(first_half(hash)) & !(0xf << 76) & !(0b11 << 62) | 8 << 76 | 0b10 << 62)
    }
}

impl Request {
    /// This write, which is done once for its key; `what` says all of it.
    pub(super) fn asked(&self, what: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Asked {
        Asked { subject: Arc::clone(&self.subject), key: self.key.clone(), request_hash: fingerprint(what) }
    }
}

/// What exactly is asked for, in few bytes: the same for the same.
pub fn fingerprint(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.as_ref().len() as u64).to_be_bytes());
        hash.update(part);
    }
    first_half(hash)
}

fn first_half(hash: Sha256) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.finalize()[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_who_and_key() {
        let id = |subject: &str, key: &str| Request { subject: subject.into(), key: key.into() }.id("hold");
        assert_eq!(id("ana", "1"), id("ana", "1"));
        assert_ne!(id("ana", "1"), id("ana", "2"));
        assert_ne!(id("ana", "1"), id("an", "a1"));
        assert_eq!(id("ana", "1").get_version_num(), 8);
        assert_ne!(fingerprint(["ab", "c"]), fingerprint(["a", "bc"]));
    }
}
