//! Text for the fonts that every PDF viewer has: Windows-1252, and for letters beyond it the plain ones they come from.

use tantivy::tokenizer::{AsciiFoldingFilter, RawTokenizer, TextAnalyzer};

/// What stands at 0x80 to 0x9F; the five unused places hold a space.
const UPPER: [char; 32] = [
    '€', ' ', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', ' ', 'Ž', ' ', ' ', '‘', '’', '“', '”', '•', '–',
    '—', '˜', '™', 'š', '›', 'œ', ' ', 'ž', 'Ÿ',
];

/// The bytes of a text. A letter without a Latin form becomes a question mark.
pub fn encode(text: &str) -> Vec<u8> {
    let mut folding = TextAnalyzer::builder(RawTokenizer::default()).filter(AsciiFoldingFilter).build();
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match byte(letter) {
            Some(byte) => bytes.push(byte),
            None => {
                let mut plain = String::new();
                folding.token_stream(letter.encode_utf8(&mut [0; 4])).process(&mut |token| plain.push_str(&token.text));
                bytes.extend(plain.chars().map(|letter| byte(letter).unwrap_or(b'?')));
            }
        }
    }
    bytes
}

/// Whether all letters of a text can be printed, as they are or in their plain form.
pub fn prints(text: &str) -> bool {
    let lost = |text: &str| encode(text).iter().filter(|byte| **byte == b'?').count();
    lost(text) == text.matches('?').count()
}

fn byte(letter: char) -> Option<u8> {
    match letter {
        ' '..='~' | '\u{a0}'..='\u{ff}' => u8::try_from(u32::from(letter)).ok(),
        _ if letter.is_control() => Some(b' '),
        _ => UPPER.iter().position(|known| *known == letter).map(|place| 0x80 + place as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_keep_their_shape_as_far_as_the_font_goes() {
        assert_eq!(encode("A–ß (é)"), [b'A', 0x96, 0xdf, b' ', b'(', 0xe9, b')']);
        assert_eq!(encode("€9"), [0x80, b'9']);
        assert_eq!(encode("Łódź Čapek"), [b"L\xf3dz Capek".as_slice()].concat());
        assert_eq!(encode("東京\n"), b"?? ");
        assert!(prints("Łódź? Čapek!") && !prints("東京") && !prints("Москва?"));
    }
}
