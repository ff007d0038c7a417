//! From text as people write it to the words that are compared: lower case, without accents, split at what is neither
//! letter nor digit.

use tantivy::tokenizer::{AsciiFoldingFilter, LowerCaser, SimpleTokenizer, TextAnalyzer};

/// Longer words are cut: nobody types more, and it bounds the index.
const MAX_WORD_CHARS: usize = 32;

/// Splits text into words.
#[derive(Clone)]
pub struct Folder(TextAnalyzer);

impl Default for Folder {
    fn default() -> Self {
        Self(TextAnalyzer::builder(SimpleTokenizer::default()).filter(LowerCaser).filter(AsciiFoldingFilter).build())
    }
}

impl Folder {
    /// The words of a text, in their order.
    pub fn words(&mut self, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        let text = joined(text);
        let mut stream = self.0.token_stream(&text);
        stream.process(&mut |token| {
            let end = token.text.char_indices().nth(MAX_WORD_CHARS).map_or(token.text.len(), |(at, _)| at);
            if let Some(word) = token.text.get(..end).filter(|word| !word.is_empty()) {
                words.push(word.to_owned());
            }
        });
        words
    }

    /// One key for all ways to write a name: its words with single spaces between them.
    pub fn key(&mut self, text: &str) -> String {
        self.words(text).join(" ")
    }
}

/// Without what stands within words and is not part of them: apostrophes, and accents that are characters of their own.
fn joined(text: &str) -> std::borrow::Cow<'_, str> {
    let within = |c: char| matches!(c, '\'' | '\u{2019}' | '\u{02bc}' | '\u{300}'..='\u{36f}');
    match text.contains(within) {
        true => text.chars().filter(|c| !within(*c)).collect::<String>().into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accents_case_and_marks_do_not_matter() {
        let mut folder = Folder::default();
        assert_eq!(folder.key("São Paulo–Łódź"), "sao paulo lodz");
        assert_eq!(folder.key("  GUNS N’ Roses, l'Étoile  "), "guns n roses letoile");
        assert_eq!(folder.key("Bele\u{301}m"), "belem");
        assert_eq!(folder.words("Straße 22"), ["strasse", "22"]);
        assert_eq!(folder.key("!?…"), "");
        assert_eq!(folder.words(&"ä".repeat(50)), ["a".repeat(32)]);
    }
}
