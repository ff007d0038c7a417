//! How many free drivers were counted in each area, as one process leaves it in Redis for all: a byte `1`, then 12 bytes for each
//! area, little endian: the cell (u64) and the count (u32).

use std::collections::HashMap;

/// The version of the form.
const VERSION: u8 = 1;
/// Bytes of an area.
const SIZE: usize = 12;

pub(super) fn write(free: &HashMap<u64, u32>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + free.len() * SIZE);
    bytes.push(VERSION);
    for (area, count) in free {
        bytes.extend(area.to_le_bytes());
        bytes.extend(count.to_le_bytes());
    }
    bytes
}

/// What was written; nothing where it is of a version that is not known here.
pub(super) fn read(bytes: &[u8]) -> Option<HashMap<u64, u32>> {
    let (areas, rest) = bytes.strip_prefix(&[VERSION])?.as_chunks::<SIZE>();
    let area = |bytes: &[u8; SIZE]| {
        Some((u64::from_le_bytes(*bytes.first_chunk()?), u32::from_le_bytes(*bytes.last_chunk()?)))
    };
    if rest.is_empty() { areas.iter().map(area).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_what_it_was() {
        let counted = HashMap::from([(0x0102_0304_0506_0708, 9)]);
        let written = [1, 8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0];
        assert_eq!(write(&counted), written);
        assert_eq!(read(&written), Some(counted));
        assert_eq!(read(&[1]), Some(HashMap::new()));
        assert_eq!((read(&[]), read(&[2]), read(&written[..9])), (None, None, None));
    }
}
