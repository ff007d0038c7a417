//! Which documents of a segment have a word: as it is, begun, or with one letter wrong.

use tantivy::query::FuzzyTermQuery;
use tantivy::schema::IndexRecordOption;
use tantivy::{InvertedIndexReader, Term};

use super::super::Match;
use super::super::text::Folder;
use super::docs::{Docs, List, NO_SCORES, Scores};
use super::schema::{Fields, START_CHARS};
use super::view::Segment;

/// A prefix stands for at most so many words, the first in the alphabet.
const MAX_BEGUN: usize = 200;
/// A mistyped word stands for at most so many.
const MAX_TYPOS: usize = 100;
/// Shorter words are taken as they are: one letter of three is another word.
const MIN_TYPO_CHARS: usize = 4;
/// Unfinished words shorter than this are not corrected: too much begins nearly so.
const MIN_BEGUN_TYPO_CHARS: usize = 6;

/// What one word scores by where it stands: the word itself anywhere above a begun one anywhere, and that above a
/// mistyped one anywhere but by a better place.
const EXACT: Scores = [0, 32, 40, 48, 56];
const BEGUN: Scores = [0, 20, 24, 28, 32];
const TYPO: Scores = [0, 4, 8, 12, 16];

/// A word that is searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    text: String,
    chars: usize,
    /// Whether more letters may follow.
    unfinished: bool,
}

/// The words of a term, at most [`super::super::MAX_WORDS`].
pub(super) fn words(folder: &mut Folder, term: &str) -> Vec<Word> {
    let finished = term.ends_with(char::is_whitespace);
    let mut texts = folder.words(term);
    texts.truncate(super::super::MAX_WORDS);
    let last = texts.len().saturating_sub(1);
    let word =
        |(at, text): (usize, String)| Word { chars: text.chars().count(), unfinished: at == last && !finished, text };
    let words: Vec<Word> = texts.into_iter().enumerate().map(word).collect();
    // The same word again asks for nothing more; of two the later counts, which may be the unfinished one.
    let is_last = |at: usize| !words[at + 1..].iter().any(|later| later.text == words[at].text);
    (0..words.len()).filter(|at| is_last(*at)).map(|at| words[at].clone()).collect()
}

/// Whether any of them can be mistyped.
pub(super) fn any_correctable(words: &[Word]) -> bool {
    words.iter().any(Word::is_correctable)
}

impl Word {
    fn is_correctable(&self) -> bool {
        self.chars >= MIN_TYPO_CHARS && !self.text.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// The documents that have it. Where `scored` is not set, only membership counts, and less is read.
    pub(super) fn docs(
        &self,
        segment: &Segment,
        fields: &Fields,
        matched: Match,
        scored: bool,
    ) -> tantivy::Result<Docs> {
        let mut found = Found { lists: Vec::new(), scored };
        let dictionary = segment.columns.words.terms();
        if let Some(info) = dictionary.get(&self.text)? {
            found.add(&segment.columns.words, &info, EXACT)?;
        }
        if self.unfinished && self.chars <= START_CHARS {
            if let Some(info) = segment.columns.starts.terms().get(&self.text)? {
                found.add(&segment.columns.starts, &info, BEGUN)?;
            }
        } else if self.unfinished {
            let mut stream = dictionary.range().gt(&self.text).into_stream()?;
            let mut left = MAX_BEGUN;
            while left > 0 && stream.advance() && stream.key().starts_with(self.text.as_bytes()) {
                found.add(&segment.columns.words, stream.value(), BEGUN)?;
                left -= 1;
            }
        }
        if matched >= Match::Typos && self.is_correctable() {
            let term = Term::from_field_text(fields.word, &self.text);
            let query = match self.unfinished && self.chars >= MIN_BEGUN_TYPO_CHARS {
                true => FuzzyTermQuery::new_prefix(term, 1, true),
                false => FuzzyTermQuery::new(term, 1, true),
            };
            let mut stream = dictionary.search(query.automaton()?).into_stream()?;
            let mut left = MAX_TYPOS;
            while left > 0 && stream.advance() {
                if stream.key() != self.text.as_bytes() {
                    found.add(&segment.columns.words, stream.value(), TYPO)?;
                    left -= 1;
                }
            }
        }
        Ok(Docs::union(found.lists, segment.reader.max_doc()))
    }
}

struct Found {
    lists: Vec<List>,
    scored: bool,
}

impl Found {
    fn add(
        &mut self,
        index: &InvertedIndexReader,
        info: &tantivy::postings::TermInfo,
        scores: Scores,
    ) -> tantivy::Result<()> {
        let (option, scores) = match self.scored {
            true => (IndexRecordOption::WithFreqs, scores),
            false => (IndexRecordOption::Basic, NO_SCORES),
        };
        self.lists.push(List::new(index.read_block_postings_from_terminfo(info, option)?, scores));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_word_is_unfinished_and_none_is_there_twice() {
        let mut folder = Folder::default();
        let texts = |words: &[Word]| words.iter().map(|word| (word.text.clone(), word.unfinished)).collect::<Vec<_>>();
        let found = words(&mut folder, "Benfica porto Benfica");
        assert_eq!(texts(&found), [("porto".to_owned(), false), ("benfica".to_owned(), true)]);
        assert_eq!(texts(&words(&mut folder, "rock ")), [("rock".to_owned(), false)]);
        assert_eq!(words(&mut folder, &"a b c d e f g h i j k l".repeat(3)).len(), 8);
        assert!(words(&mut folder, " … ").is_empty());
    }

    #[test]
    fn years_and_short_words_are_taken_as_they_are() {
        let mut folder = Folder::default();
        assert!(!any_correctable(&words(&mut folder, "2027 abc")));
        assert!(any_correctable(&words(&mut folder, "2027 rokc")));
    }
}
