//! The code of a ticket, as its QR shows it: `T1.` and base64url of the ticket's id (16 bytes), its serial (4, big endian)
//! and an Ed25519 signature (64). Whoever has the public key can check it without a network.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tessera_kernel::Uuid;

use super::ids::TicketId;

const PREFIX: &str = "T1.";
/// Stands before what is signed, so that a signature for something else never fits a ticket.
const CONTEXT: &[u8; 16] = b"tessera-ticket:1";
const ID_BYTES: usize = 16;
const SIGNED_BYTES: usize = ID_BYTES + 4;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// What a code says: which ticket, and which of its codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketCode {
    /// The ticket.
    pub ticket: TicketId,
    /// Goes up when the ticket gets a new code: codes with a lower one are refused.
    pub serial: u32,
}

impl TicketCode {
    fn bytes(self) -> [u8; SIGNED_BYTES] {
        let mut bytes = [0; SIGNED_BYTES];
        bytes[..ID_BYTES].copy_from_slice(self.ticket.uuid().as_bytes());
        bytes[ID_BYTES..].copy_from_slice(&self.serial.to_be_bytes());
        bytes
    }

    /// What is signed.
    pub fn message(self) -> [u8; CONTEXT.len() + SIGNED_BYTES] {
        let mut message = [0; CONTEXT.len() + SIGNED_BYTES];
        message[..CONTEXT.len()].copy_from_slice(CONTEXT);
        message[CONTEXT.len()..].copy_from_slice(&self.bytes());
        message
    }

    /// The text of the code, with the signature of [`TicketCode::message`].
    pub fn text(self, signature: &[u8; SIGNATURE_BYTES]) -> String {
        let mut bytes = [0; SIGNED_BYTES + SIGNATURE_BYTES];
        bytes[..SIGNED_BYTES].copy_from_slice(&self.bytes());
        bytes[SIGNED_BYTES..].copy_from_slice(signature);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a text; whether its signature holds is still to be asked. `None` where it is no code of a ticket.
    pub fn read(text: &str) -> Option<(Self, [u8; SIGNATURE_BYTES])> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim().strip_prefix(PREFIX)?).ok()?;
        let (id, rest) = bytes.split_first_chunk::<ID_BYTES>()?;
        let (serial, signature) = rest.split_first_chunk::<4>()?;
        let ticket = TicketId::from(Uuid::from_bytes(*id));
        ticket.seat()?;
        Some((Self { ticket, serial: u32::from_be_bytes(*serial) }, signature.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{EventId, SeatNumber};

    fn code(serial: u32) -> TicketCode {
        let event = EventId::from(Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000));
        TicketCode { ticket: TicketId::new(event, SeatNumber(6)), serial }
    }

    #[test]
    fn a_code_of_version_1_is_read() {
        let text = code(2).text(&[7; SIGNATURE_BYTES]);
        assert!(text.starts_with("T1.AZIAAAAAcACAAAAAAAAABwAAAAIHBwcH"), "{text}");
        assert_eq!(TicketCode::read(&format!(" {text}\n")), Some((code(2), [7; SIGNATURE_BYTES])));
        assert_eq!(&code(2).message()[..16], b"tessera-ticket:1");
        assert_ne!(code(2).message(), code(3).message());
    }

    #[test]
    fn other_texts_are_none() {
        let text = code(1).text(&[7; SIGNATURE_BYTES]);
        let event = TicketCode { ticket: TicketId::from(code(1).ticket.event().uuid()), serial: 1 };
        for text in [
            "",
            "T1.",
            "https://example.com/",
            &text[3..],
            &text[..60],
            &format!("{text}AAAA"),
            &text.replace('.', "!"),
        ] {
            assert_eq!(TicketCode::read(text), None, "{text}");
        }
        assert_eq!(TicketCode::read(&event.text(&[7; SIGNATURE_BYTES])), None, "an event is no ticket");
    }
}
