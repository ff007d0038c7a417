//! The ids of rides, offers and drivers, and those that are made of what they name.

use sha2::{Digest, Sha256};
use tessera_kernel::{Uuid, typed_id};

typed_id!(
    /// A ride, from its estimate on.
    RideId = "ride"
);
typed_id!(
    /// An offer of a ride to a driver.
    OfferId = "offer"
);
typed_id!(
    /// A driver. Made from the subject of the token, so that a driver exists from the first one on.
    DriverId = "driver"
);

/// The driver whose token names this subject.
pub fn driver_of(subject: &str) -> DriverId {
    DriverId::from(uuid_of(&[b"tessera-driver:", subject.as_bytes()]))
}

/// An id made of what it names: the first half of the SHA-256 of all parts.
pub fn uuid_of(parts: &[&[u8]]) -> Uuid {
    let digest = parts.iter().fold(Sha256::new(), |digest, part| digest.chain_update(part)).finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    Uuid::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They are stored, so that they stay as they are.
    #[test]
    fn the_same_name_has_the_same_id_for_ever() {
        assert_eq!(driver_of("dora").to_string(), "driver_67fc25f1bc9d614f1a834d93ceed81f0");
        assert_eq!(uuid_of(&[b"a", b"b"]), uuid_of(&[b"ab"]));
    }
}
