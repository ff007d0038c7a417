//! Answers to hot queries. Those who ask the same at the same time share one search, and one that failed is not kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::{Cache, EntryAction, EntryResult};
use tokio::time::Instant;

use super::Query;

/// How long an answer is given again.
pub const TTL: Duration = Duration::from_secs(1);
/// Bytes of answers that are kept.
const CAPACITY_BYTES: u64 = 64 << 20;
/// About how many answers that is.
const EXPECTED_ANSWERS: usize = 8_192;

/// What an answer takes in memory.
pub trait SizeBytes {
    /// Bytes.
    fn size_bytes(&self) -> usize;
}

struct Kept<V> {
    answer: Arc<V>,
    generation: u64,
    until: Instant,
}

impl<V> Clone for Kept<V> {
    fn clone(&self) -> Self {
        Self { answer: Arc::clone(&self.answer), ..*self }
    }
}

#[derive(Clone)]
struct BySize;

impl<V: SizeBytes> Weighter<Arc<Query>, Kept<V>> for BySize {
    fn weight(&self, query: &Arc<Query>, kept: &Kept<V>) -> u64 {
        (kept.answer.size_bytes() + query.term.len() + size_of::<Query>()) as u64
    }
}

/// Answers by query.
pub struct Answers<V: SizeBytes> {
    cache: Cache<Arc<Query>, Kept<V>, BySize>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl<V: SizeBytes> Default for Answers<V> {
    fn default() -> Self {
        let cache = Cache::with_weighter(EXPECTED_ANSWERS, CAPACITY_BYTES, BySize);
        Self { cache, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }
}

impl<V: SizeBytes> Answers<V> {
    /// The answer to `query` of the index's `generation`, from before if it is younger than [`TTL`], worked out by
    /// `find` otherwise. Who asks meanwhile waits for that.
    pub async fn get<E>(
        &self,
        query: &Arc<Query>,
        generation: u64,
        find: impl Future<Output = Result<V, E>>,
    ) -> Result<Arc<V>, E> {
        let now = Instant::now();
        let entry = self.cache.entry_async(query, |_, kept| match kept.generation >= generation && kept.until > now {
            true => EntryAction::Retain(Arc::clone(&kept.answer)),
            false => EntryAction::ReplaceWithGuard,
        });
        let place = match entry.await {
            EntryResult::Retained(answer) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(answer);
            }
            EntryResult::Vacant(place) | EntryResult::Replaced(place, _) => Some(place),
            // Nothing is removed and nothing times out here.
            EntryResult::Removed(..) | EntryResult::Timeout => None,
        };
        self.misses.fetch_add(1, Ordering::Relaxed);
        let answer = Arc::new(find.await?);
        if let Some(place) = place {
            let until = Instant::now() + TTL;
            // Refused only where it was overtaken, and then a newer answer is there.
            let _ = place.insert(Kept { answer: Arc::clone(&answer), generation, until });
        }
        Ok(answer)
    }

    /// How many were answered from the cache, and how many were worked out.
    pub fn counts(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}

impl<V: SizeBytes> std::fmt::Debug for Answers<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("kept", &self.cache.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    impl SizeBytes for u64 {
        fn size_bytes(&self) -> usize {
            8
        }
    }

    fn query(term: &str) -> Arc<Query> {
        Arc::new(Query { term: term.to_owned(), ..Query::default() })
    }

    async fn ask(answers: &Answers<u64>, term: &str, generation: u64, answer: u64) -> u64 {
        let find = async { Ok::<_, Infallible>(answer) };
        *answers.get(&query(term), generation, find).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_given_again_until_it_is_old_or_the_index_changed() {
        let answers = Answers::default();
        assert_eq!(ask(&answers, "a", 1, 10).await, 10);
        assert_eq!(ask(&answers, "a", 1, 11).await, 10);
        assert_eq!(ask(&answers, "b", 1, 12).await, 12);
        assert_eq!(ask(&answers, "a", 2, 13).await, 13, "the index changed");
        // Who began before the change may be given what is newer.
        assert_eq!(ask(&answers, "a", 1, 14).await, 13);
        tokio::time::advance(TTL).await;
        assert_eq!(ask(&answers, "a", 2, 15).await, 15, "it was old");
        assert_eq!(answers.counts(), (2, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_together_share_one_search() {
        let answers = Arc::new(Answers::<u64>::default());
        let searches = Arc::new(AtomicU64::new(0));
        let asked = (0..50).map(|_| {
            let (answers, searches) = (Arc::clone(&answers), Arc::clone(&searches));
            tokio::spawn(async move {
                let find = async {
                    searches.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Ok::<_, Infallible>(7)
                };
                *answers.get(&query("a"), 1, find).await.unwrap()
            })
        });
        for answer in futures::future::join_all(asked).await {
            assert_eq!(answer.unwrap(), 7);
        }
        assert_eq!(searches.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let answers = Answers::<u64>::default();
        let failed = answers.get(&query("a"), 1, async { Err::<u64, _>("no") }).await;
        assert_eq!(failed.unwrap_err(), "no");
        assert_eq!(ask(&answers, "a", 1, 3).await, 3);
    }
}
