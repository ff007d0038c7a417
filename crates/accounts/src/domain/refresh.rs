//! Refresh tokens. One is worked out of its session's id and seed, its number in the session and a secret of the installation, so that
//! nothing is stored from which one could be made: neither the database alone gives tokens, nor the secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::ids::SessionId;

const PREFIX: &str = "tsr_";
const BYTES: usize = 16 + 4 + 32;

/// What signs refresh tokens.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// From bytes that nobody else knows.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// A digest that nobody without the secret can make, for keys that should not tell what they are of.
    pub fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What a token says of itself. Only [`Presented::is_of`] tells whether it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    /// Whose.
    pub session: SessionId,
    /// Its number: 0, 1, 2 …
    pub generation: u32,
    proof: [u8; 32],
}

impl Presented {
    /// Reads a token, if it has the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok().filter(|bytes| bytes.len() == BYTES)?;
        let id: [u8; 16] = bytes[..16].try_into().ok()?;
        Some(Self {
            session: tessera_kernel::Uuid::from_bytes(id).into(),
            generation: u32::from_be_bytes(bytes[16..20].try_into().ok()?),
            proof: bytes[20..].try_into().ok()?,
        })
    }

    /// Whether we made it.
    pub fn is_of(&self, secret: &Secret, seed: &[u8]) -> bool {
        let proof = proof(secret, seed, self.session, self.generation);
        // In constant time: the comparison is of digests under the secret.
        secret.digest(&[&proof]) == secret.digest(&[&self.proof])
    }
}

/// The token of that number.
pub fn token(secret: &Secret, seed: &[u8], session: SessionId, generation: u32) -> String {
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.extend_from_slice(session.uuid().as_bytes());
    bytes.extend_from_slice(&generation.to_be_bytes());
    bytes.extend_from_slice(&proof(secret, seed, session, generation));
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn proof(secret: &Secret, seed: &[u8], session: SessionId, generation: u32) -> [u8; 32] {
    secret.digest(&[b"refresh 1", session.uuid().as_bytes(), &generation.to_be_bytes(), seed])
}

#[cfg(test)]
mod tests {
    use tessera_kernel::Uuid;

    use super::*;

    #[test]
    fn only_what_we_made_is_ours() {
        let (secret, other) = (Secret::new(&[1; 32]), Secret::new(&[2; 32]));
        let session = SessionId::from(Uuid::from_u128(7));
        let text = token(&secret, b"seed", session, 3);
        let presented = Presented::parse(&text).unwrap();
        assert_eq!((presented.session, presented.generation), (session, 3));
        assert!(presented.is_of(&secret, b"seed"));
        assert!(!presented.is_of(&other, b"seed") && !presented.is_of(&secret, b"other"));
        assert!(!Presented { generation: 4, ..presented }.is_of(&secret, b"seed"));
        assert!(!Presented { session: Uuid::from_u128(8).into(), ..presented }.is_of(&secret, b"seed"));
        assert_ne!(token(&secret, b"seed", session, 4), text);
        for wrong in ["", "tsr_", "tsr_AAAA", &text[4..], &format!("{text}A"), &text[..text.len() - 2]] {
            assert_eq!(Presented::parse(wrong), None, "{wrong}");
        }
    }
}
