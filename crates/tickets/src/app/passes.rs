//! What the waiting room hands out: to who waits a *pass* by which he asks for his place, and to who was let in an
//! *admission*, which reserving demands.
//!
//! A pass is `Q1.` and a MAC under a secret that follows from the installation's key, for a pass is made for everyone who
//! joins. An admission is `A1.` and an Ed25519 signature, which anyone can check with the public key. Both are base64url.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use tessera_kernel::{Timestamp, Uuid};
use tessera_service::Keys;

use crate::domain::ids::EventId;

const PASS: &str = "Q1.";
const ADMISSION: &str = "A1.";
/// What is signed begins with this, so that nothing signed for another purpose is an admission.
const ADMISSION_CONTEXT: &[u8] = b"tessera-admission:1";
const SECRET_CONTEXT: &[u8] = b"tessera-queue-pass:1";
const MAC_BYTES: usize = 16;
const PASS_BYTES: usize = 16 + 8 + 16 + 1;
const ADMISSION_BYTES: usize = 16 + 8 + 8 + 16 + 16;
const SIGNATURE_BYTES: usize = 64;

/// A place in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Which line: the event's id and the generation.
    pub line: Uuid,
    /// The arrival.
    pub entry: i64,
    /// Whose place it is there.
    pub member: Uuid,
    /// Whether it was taken without an account.
    pub anonymous: bool,
}

impl Pass {
    /// Of which event.
    pub fn event(&self) -> EventId {
        event_of(self.line)
    }

    fn bytes(&self) -> [u8; PASS_BYTES] {
        let mut bytes = [0; PASS_BYTES];
        bytes[..16].copy_from_slice(self.line.as_bytes());
        bytes[16..24].copy_from_slice(&self.entry.to_be_bytes());
        bytes[24..40].copy_from_slice(self.member.as_bytes());
        bytes[40] = u8::from(self.anonymous);
        bytes
    }
}

/// That somebody was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Which line: the event's id and the generation.
    pub line: Uuid,
    /// The number.
    pub number: i64,
    /// When the stay is over.
    pub expires_at: Timestamp,
    /// Whose place it is in the line.
    pub member: Uuid,
    /// The account that it was given to, as a key of lines.
    pub owner: Uuid,
}

impl Admission {
    /// Of which event.
    pub fn event(&self) -> EventId {
        event_of(self.line)
    }

    fn bytes(&self) -> [u8; ADMISSION_BYTES] {
        let mut bytes = [0; ADMISSION_BYTES];
        bytes[..16].copy_from_slice(self.line.as_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.expires_at.micros().to_be_bytes());
        bytes[32..48].copy_from_slice(self.member.as_bytes());
        bytes[48..].copy_from_slice(self.owner.as_bytes());
        bytes
    }
}

fn event_of(line: Uuid) -> EventId {
    EventId::from(Uuid::from_u128(line.as_u128() & !0xffff_ffff))
}

/// Makes and reads both.
pub struct Passes {
    keys: Keys,
    secret: hmac::Key,
}

impl Passes {
    /// With the installation's key. Its signatures are deterministic, so all processes that share it share the secret.
    pub fn new(keys: Keys) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &keys.sign(SECRET_CONTEXT));
        Self { keys, secret }
    }

    /// A pass as text.
    pub fn pass(&self, pass: &Pass) -> String {
        let bytes = pass.bytes();
        let mut all = [0; PASS_BYTES + MAC_BYTES];
        all[..PASS_BYTES].copy_from_slice(&bytes);
        all[PASS_BYTES..].copy_from_slice(&hmac::sign(&self.secret, &bytes).as_ref()[..MAC_BYTES]);
        written(PASS, &all)
    }

    /// The pass in a text; `None` where we did not make it.
    pub fn read_pass(&self, text: &str) -> Option<Pass> {
        let all: [u8; PASS_BYTES + MAC_BYTES] = read(PASS, text)?;
        let (bytes, mac) = all.split_at(PASS_BYTES);
        let ours = hmac::sign(&self.secret, bytes);
        // All bytes are looked at, so that the time does not tell how many agree.
        let differs = ours.as_ref()[..MAC_BYTES].iter().zip(mac).fold(0, |differs, (a, b)| differs | (a ^ b));
        if differs != 0 {
            return None;
        }
        Some(Pass {
            line: id(bytes, 0)?,
            entry: number(bytes, 16)?,
            member: id(bytes, 24)?,
            anonymous: bytes.get(40) == Some(&1),
        })
    }

    /// An admission as text.
    pub fn admission(&self, admission: &Admission) -> String {
        let bytes = admission.bytes();
        let mut all = [0; ADMISSION_BYTES + SIGNATURE_BYTES];
        all[..ADMISSION_BYTES].copy_from_slice(&bytes);
        all[ADMISSION_BYTES..].copy_from_slice(&self.keys.sign(&[ADMISSION_CONTEXT, &bytes].concat()));
        written(ADMISSION, &all)
    }

    /// The admission in a text; `None` where we did not sign it.
    pub fn read_admission(&self, text: &str) -> Option<Admission> {
        let all: [u8; ADMISSION_BYTES + SIGNATURE_BYTES] = read(ADMISSION, text)?;
        let (bytes, signature) = all.split_at(ADMISSION_BYTES);
        if !self.keys.signed(&[ADMISSION_CONTEXT, bytes].concat(), signature) {
            return None;
        }
        Some(Admission {
            line: id(bytes, 0)?,
            number: number(bytes, 16)?,
            expires_at: Timestamp::from_micros(number(bytes, 24)?),
            member: id(bytes, 32)?,
            owner: id(bytes, 48)?,
        })
    }
}

impl std::fmt::Debug for Passes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passes")
    }
}

fn written(prefix: &str, bytes: &[u8]) -> String {
    let mut text = String::with_capacity(prefix.len() + bytes.len() * 4 / 3 + 3);
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    text
}

fn read<const N: usize>(prefix: &str, text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text.strip_prefix(prefix)?).ok()?.try_into().ok()
}

fn id(bytes: &[u8], at: usize) -> Option<Uuid> {
    Uuid::from_slice(bytes.get(at..at + 16)?).ok()
}

fn number(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tessera_kernel::SystemClock;

    use super::*;

    fn passes() -> Passes {
        Passes::new(Keys::ephemeral(Arc::new(SystemClock)).unwrap())
    }

    fn one() -> (Pass, Admission) {
        let (line, member) = (Uuid::from_u128(0x42 << 32 | 1), Uuid::from_u128(7));
        let pass = Pass { line, entry: 12, member, anonymous: true };
        let expires_at = Timestamp::from_micros(5);
        (pass, Admission { line, number: 3, expires_at, member, owner: Uuid::from_u128(9) })
    }

    #[test]
    fn they_read_back_as_written() {
        let (passes, (pass, admission)) = (passes(), one());
        assert_eq!(passes.read_pass(&passes.pass(&pass)), Some(pass));
        assert_eq!(passes.read_admission(&passes.admission(&admission)), Some(admission));
        assert_eq!((pass.event(), admission.event()), (pass.event(), pass.event()));
        assert_eq!(pass.event().uuid().as_u128(), 0x42 << 32);
    }

    #[test]
    fn what_was_altered_or_made_elsewhere_is_refused() {
        let (passes, other, (pass, admission)) = (passes(), self::passes(), one());
        assert_eq!(passes.read_pass(&other.pass(&pass)), None);
        assert_eq!(passes.read_admission(&other.admission(&admission)), None);
        for (text, is_pass) in [(passes.pass(&pass), true), (passes.admission(&admission), false)] {
            for at in 3..text.len() {
                let mut altered = text.clone().into_bytes();
                altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
                let altered = String::from_utf8(altered).unwrap();
                let refused = if is_pass {
                    passes.read_pass(&altered).is_none()
                } else {
                    passes.read_admission(&altered).is_none()
                };
                assert!(refused, "{at} in {altered}");
            }
            for cut in ["", "Q1.", "A1.", &text[..text.len() - 1], &text[3..], "Q1.é"] {
                assert!(passes.read_pass(cut).is_none() && passes.read_admission(cut).is_none(), "{cut}");
            }
        }
    }
}
