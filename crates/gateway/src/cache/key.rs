//! What answers are found by. Digests are the same in every process, so that what lies on disk is found again, and cannot
//! be made to meet.

use ring::digest::{Context, SHA256};

/// Under what an answer is kept.
pub type Key = u128;

/// What voids answers: a place, a tag, a route.
pub type Mark = u64;

/// A digest of parts, each with its length, so that no two lists of parts read alike.
#[derive(Clone)]
pub struct Digest(Context);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest")
    }
}

impl Digest {
    /// Of a kind of thing.
    pub fn of(kind: &str) -> Self {
        Self(Context::new(&SHA256)).with(kind.as_bytes())
    }

    /// With one more part.
    pub fn with(mut self, part: &[u8]) -> Self {
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// With a part that may be missing.
    pub fn with_option(mut self, part: Option<&[u8]>) -> Self {
        self.0.update(&[u8::from(part.is_some())]);
        self.with(part.unwrap_or_default())
    }

    /// Its first 16 bytes.
    pub fn key(self) -> Key {
        let digest = self.0.finish();
        let mut first = [0; 16];
        first.copy_from_slice(&digest.as_ref()[..16]);
        Key::from_le_bytes(first)
    }

    /// Its first 8 bytes.
    pub fn mark(self) -> Mark {
        self.key() as Mark
    }
}

/// The mark of a place: a host and a path, whatever the query.
pub fn place(host: &str, path: &str) -> Mark {
    Digest::of("place").with(host.as_bytes()).with(path.as_bytes()).mark()
}

/// The mark of a tag.
pub fn tag(tag: &str) -> Mark {
    Digest::of("tag").with(tag.as_bytes()).mark()
}

/// The mark of a route.
pub fn route(name: &str) -> Mark {
    Digest::of("route").with(name.as_bytes()).mark()
}

/// The mark of everything.
pub fn everything() -> Mark {
    Digest::of("everything").mark()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_of_parts_read_alike() {
        let of = |parts: &[&str]| parts.iter().fold(Digest::of("x"), |digest, part| digest.with(part.as_bytes())).key();
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a", ""]), of(&["a"]));
        assert_ne!(Digest::of("x").with_option(None).key(), Digest::of("x").with_option(Some(b"")).key());
        assert_eq!(place("a", "/b"), place("a", "/b"));
    }
}
