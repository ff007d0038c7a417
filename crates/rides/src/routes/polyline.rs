//! Encoded polylines: the form that maps and routing engines read, 1e-5 degree.

use tessera_kernel::Place;

/// The line as text.
pub fn encode(line: &[Place]) -> String {
    let mut text = String::with_capacity(line.len() * 6);
    let (mut lat, mut lng) = (0, 0);
    for place in line {
        let here = ((place.lat() * 1e5).round() as i64, (place.lng() * 1e5).round() as i64);
        number(&mut text, here.0 - lat);
        number(&mut text, here.1 - lng);
        (lat, lng) = here;
    }
    text
}

/// The line of a text of so many decimals; `None` where it is none.
pub fn decode(text: &str, decimals: u8) -> Option<Vec<Place>> {
    let unit = 10_f64.powi(i32::from(decimals));
    let mut bytes = text.bytes();
    let (mut line, mut lat, mut lng) = (Vec::new(), 0_i64, 0_i64);
    while bytes.len() > 0 {
        lat += read(&mut bytes)?;
        lng += read(&mut bytes)?;
        line.push(Place::from_degrees(lat as f64 / unit, lng as f64 / unit).ok()?);
    }
    Some(line)
}

/// The next number.
fn read(bytes: &mut std::str::Bytes<'_>) -> Option<i64> {
    let mut value = 0;
    // More bits than any place on earth needs are none of ours.
    for shift in (0..40).step_by(5) {
        let chunk = i64::from(bytes.next()?.checked_sub(63).filter(|chunk| *chunk < 0x40)?);
        value |= (chunk & 0x1f) << shift;
        if chunk & 0x20 == 0 {
            return Some((value >> 1) ^ -(value & 1));
        }
    }
    None
}

/// Five bits a character, the sign in the lowest.
fn number(text: &mut String, value: i64) {
    let mut rest = (value << 1) ^ (value >> 63);
    while rest >= 0x20 {
        text.push(char::from((0x20 | (rest & 0x1f)) as u8 + 63));
        rest >>= 5;
    }
    text.push(char::from(rest as u8 + 63));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_its_format_says() {
        // The example of the format's description.
        let line = [(38.5, -120.2), (40.7, -120.95), (43.252, -126.453)]
            .map(|(lat, lng)| Place::from_degrees(lat, lng).unwrap());
        assert_eq!(encode(&line), "_p~iF~ps|U_ulLnnqC_mqNvxq`@");
        assert_eq!(encode(&[]), "");
        assert_eq!(decode("_p~iF~ps|U_ulLnnqC_mqNvxq`@", 5).unwrap(), line);
        assert_eq!(decode("", 5).unwrap(), []);
        for broken in ["_p~iF", "_", "\u{0}", "é", "~~~~~~~~~~~~~~~~"] {
            assert_eq!(decode(broken, 5), None, "{broken}");
        }
    }
}
