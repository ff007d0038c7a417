//! Where a book of alerts lies: beside the data, in numbered editions. A run and the SLA watch write it, often from two
//! processes, so each edition is created under the next number and only one of two writers creates it; the other reads
//! again and makes its change anew. Nobody's entry is lost.

use tessera_store::journal::Journal;
use tessera_store::objects::Objects;

use super::AlertBook;
use crate::Error;
use crate::lake::{Lake, to_json};

const FOLDER: &str = "_tessera/alerts";
/// Where version 0.1.0 kept its only edition.
const FIRST: &str = "_tessera/alerts.json";
/// Changes that are made anew before it is given up: more than there are writers at once.
const TRIES: usize = 16;
/// Editions kept. A writer that slept through more than this many finds its number free again, which it notices.
const KEPT: u64 = 4;

/// The place of one pipeline's book. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shelf {
    objects: Objects,
    journal: Journal,
}

impl Shelf {
    /// In a lake.
    pub fn of(lake: &Lake) -> Self {
        Self::new(lake.objects().clone())
    }

    pub(super) fn new(objects: Objects) -> Self {
        Self { journal: Journal::new(objects.clone(), FOLDER), objects }
    }

    /// The last edition; an empty book where there is none.
    ///
    /// # Errors
    /// [`Error::Lake`] when it cannot be read or is no book.
    pub async fn read(&self) -> Result<AlertBook, Error> {
        Ok(self.last().await?.1)
    }

    /// Makes a change that comes after every other one: `edit` may be called again, with what another writer left, and
    /// what it last gave counts. Nothing is written where it changed nothing.
    ///
    /// # Errors
    /// [`Error::Lake`] when the store fails, [`Error::Conflict`] when others are always first.
    pub async fn change<T>(&self, mut edit: impl FnMut(&mut AlertBook) -> T) -> Result<T, Error> {
        for _ in 0..TRIES {
            let (numbers, before) = self.last().await?;
            let mut book = before.clone();
            let given = edit(&mut book);
            if book == before || self.publish(&numbers, &book).await? {
                return Ok(given);
            }
        }
        Err(Error::Conflict(format!(
            "{} is being written by others all the time; it was tried {TRIES} times",
            self.objects.url_of(FOLDER)
        )))
    }

    async fn last(&self) -> Result<(Vec<u64>, AlertBook), Error> {
        for _ in 0..TRIES {
            let numbers = self.journal.numbers(None).await?;
            let (path, bytes) = match numbers.last() {
                Some(last) => (self.journal.path(*last), self.journal.read(*last).await?),
                None => match self.objects.get(FIRST).await? {
                    None => return Ok((numbers, AlertBook::default())),
                    found => (FIRST.to_owned(), found),
                },
            };
            // It may have been replaced since it was listed.
            let Some(bytes) = bytes else { continue };
            let book = serde_json::from_slice(&bytes).map_err(|error| Error::Lake {
                detail: format!("{} is broken: {error}; restore it or delete it", self.objects.url_of(&path)),
            })?;
            return Ok((numbers, book));
        }
        Err(Error::Lake {
            detail: format!("{} changes faster than it can be read; try again", self.objects.url_of(FOLDER)),
        })
    }

    /// Creates the edition after `numbers`; tells whether it is the last one now.
    async fn publish(&self, numbers: &[u64], book: &AlertBook) -> Result<bool, Error> {
        let number = numbers.last().map_or(1, |last| last + 1);
        if !self.journal.append(number, to_json(book)?).await? {
            return Ok(false);
        }
        if self.journal.numbers(None).await?.last() != Some(&number) {
            return Ok(false);
        }
        for old in numbers.iter().filter(|old| *old + KEPT <= number) {
            self.journal.delete(*old).await?;
        }
        if numbers.is_empty() {
            self.objects.delete(FIRST).await?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tessera_kernel::Timestamp;
    use tessera_store::objects::S3Access;

    use super::*;
    use crate::alerts::{Finding, Judged};
    use crate::spec::AlertEvent;

    fn shelf(folder: &tempfile::TempDir) -> Shelf {
        Shelf::new(Objects::open(folder.path().to_str().unwrap(), &S3Access::default()).unwrap())
    }

    fn change(n: u64) -> Finding {
        let fingerprint = format!("column {n}");
        Finding {
            event: AlertEvent::SchemaDrift,
            cause: fingerprint.clone(),
            fingerprint,
            resources: vec![],
            run_id: None,
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_two_writers_neither_loses_an_entry() {
        const EACH: u64 = 30;
        let folder = tempfile::tempdir().unwrap();
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let shelf = shelf(&folder);
                tokio::spawn(async move {
                    for n in 0..EACH {
                        let now = Timestamp::default().plus(Duration::from_secs(n));
                        let found = [change(writer * EACH + n)];
                        shelf.change(|book| book.due(Judged::WholeRun, &found, now)).await.unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let mut book = shelf(&folder).read().await.unwrap();
        for n in 0..2 * EACH {
            let before = book.clone();
            book.due(Judged::WholeRun, &[change(n)], Timestamp::default().plus(Duration::from_secs(EACH)));
            assert_eq!(book, before, "change {n} was lost");
        }
        let left = std::fs::read_dir(folder.path().join(FOLDER)).unwrap().count();
        assert!(left <= KEPT as usize, "{left} editions are left");
    }

    #[tokio::test]
    async fn the_book_of_the_first_release_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let first = r#"{"open":{"run_failed":{"since":"2026-03-20T09:46:40Z","fingerprint":"7c9a","cause":"x",
            "announced":true,"ever_announced":true}}}"#;
        std::fs::create_dir_all(folder.path().join("_tessera")).unwrap();
        std::fs::write(folder.path().join(FIRST), first).unwrap();
        let shelf = shelf(&folder);
        assert_eq!(shelf.read().await.unwrap().open().count(), 1);
        let now = Timestamp::default();
        assert_eq!(shelf.change(|book| book.due(Judged::WholeRun, &[], now)).await.unwrap().len(), 1);
        assert_eq!(shelf.read().await.unwrap(), AlertBook::default());
        assert!(!folder.path().join(FIRST).exists());
    }

    #[tokio::test]
    async fn a_broken_book_is_told_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join(FOLDER)).unwrap();
        std::fs::write(folder.path().join(FOLDER).join("000000000001.json"), "{").unwrap();
        let error = shelf(&folder).read().await.unwrap_err().to_string();
        assert!(error.contains("000000000001.json is broken") && error.contains("restore it or delete it"), "{error}");
    }
}
