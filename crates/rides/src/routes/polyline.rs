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
    }
}
