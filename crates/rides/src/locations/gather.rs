//! Makes one batch of what many callers report at the same moment: a report by itself costs Redis as much as five to nine in a batch.
//!
//! Nobody waits for others to come. Whoever finds a free lane sends off everything that waits, its own reports among them; while
//! the lanes are busy the next batch gathers.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::{Refusal, Report};
use crate::Error;

/// Batches under way at a time: while one waits for Redis another is made.
const LANES: usize = 2;
/// Reports in a batch, so that none waits for long.
const BATCH: usize = 1_000;
/// Reports that may wait; more than Redis takes in the time that a caller has.
const MAX_WAITING: usize = 50_000;

/// What came of reports.
pub(super) type Answers = Vec<Result<Duration, Refusal>>;

/// A caller's reports, and where its answer goes.
struct Waiting {
    reports: Vec<Report>,
    answer: oneshot::Sender<Result<Answers, String>>,
}

/// The reports that wait.
pub(super) struct Gather {
    queue: Mutex<Queue>,
    lanes: Arc<Semaphore>,
}

#[derive(Default)]
struct Queue {
    callers: VecDeque<Waiting>,
    /// How many reports they have.
    reports: usize,
}

impl Default for Gather {
    fn default() -> Self {
        Self { queue: Mutex::default(), lanes: Arc::new(Semaphore::new(LANES)) }
    }
}

impl Gather {
    /// Has reports taken by `take`, with those of others where some wait.
    ///
    /// # Errors
    /// Those of `take`; [`Error::Locations`] where too many wait.
    pub(super) async fn report<T>(&self, reports: &[Report], take: impl Fn(Vec<Report>) -> T) -> Result<Answers, Error>
    where
        T: Future<Output = Result<Answers, Error>> + Send + 'static,
    {
        if reports.len() >= BATCH {
            return take(reports.to_vec()).await;
        }
        let mut answered = self.wait(reports.to_vec())?;
        let answer = loop {
            let lane = tokio::select! {
                biased;
                answer = &mut answered => break answer,
                lane = Arc::clone(&self.lanes).acquire_owned() => lane,
            };
            let batch = self.next();
            if batch.is_empty() {
                // Somebody has ours.
                drop(lane);
                break answered.await;
            }
            let all = batch.iter().flat_map(|waiting| waiting.reports.iter().copied()).collect();
            let taken = take(all);
            // Others are in it, too: it goes on where this caller hangs up.
            tokio::spawn(async move {
                let taken = taken.await;
                drop(lane);
                answer_each(batch, taken);
            });
        };
        let stopped = || Err("the process stopped while they were being taken".to_owned());
        answer.unwrap_or_else(|_| stopped()).map_err(|reason| Error::Locations { reason })
    }

    fn wait(&self, reports: Vec<Report>) -> Result<oneshot::Receiver<Result<Answers, String>>, Error> {
        let (answer, answered) = oneshot::channel();
        let mut queue = self.queue();
        if queue.reports > MAX_WAITING {
            return Err(Error::Locations { reason: format!("{} positions wait already", queue.reports) });
        }
        queue.reports += reports.len();
        queue.callers.push_back(Waiting { reports, answer });
        Ok(answered)
    }

    /// Those who have waited longest.
    fn next(&self) -> Vec<Waiting> {
        let mut queue = self.queue();
        let (mut batch, mut count) = (Vec::new(), 0);
        while let Some(next) = queue.callers.pop_front() {
            queue.reports -= next.reports.len();
            // Who went away needs no answer.
            if next.answer.is_closed() {
                continue;
            }
            count += next.reports.len();
            batch.push(next);
            if count >= BATCH {
                break;
            }
        }
        batch
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each caller its part of what came.
fn answer_each(batch: Vec<Waiting>, taken: Result<Answers, Error>) {
    let mut taken = taken.map(Vec::into_iter).map_err(|error| match error {
        Error::Locations { reason } => reason,
        error => error.to_string(),
    });
    for Waiting { reports, answer } in batch {
        let part = match &mut taken {
            Ok(answers) => Ok(answers.by_ref().take(reports.len()).collect()),
            Err(reason) => Err(reason.clone()),
        };
        // Who went away needs no answer.
        let _ = answer.send(part);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tessera_kernel::{Place, Timestamp, Uuid};
    use tokio::sync::Notify;

    use super::*;

    fn report(n: u64) -> Report {
        let place = Place::from_degrees(0.0, 0.0).unwrap();
        Report { driver: Uuid::from_u128(n.into()).into(), place, heading: None, at: Timestamp::from_micros(n as i64) }
    }

    /// Answers each report with its own number of seconds, when it is let go on.
    #[derive(Default)]
    struct Taker {
        batches: AtomicUsize,
        goes_on: Notify,
    }

    impl Taker {
        async fn take(&self, reports: Vec<Report>) -> Result<Answers, Error> {
            self.batches.fetch_add(1, Ordering::Relaxed);
            self.goes_on.notified().await;
            Ok(reports.iter().map(|report| Ok(Duration::from_secs(report.at.micros() as u64))).collect())
        }
    }

    type Answered = tokio::task::JoinHandle<Result<Answers, Error>>;

    fn ask(gather: &Arc<Gather>, taker: &Arc<Taker>, n: u64) -> Answered {
        let (gather, taker) = (Arc::clone(gather), Arc::clone(taker));
        tokio::spawn(async move {
            let reports = [report(n), report(n + 1_000)];
            let take = |reports| {
                let taker = Arc::clone(&taker);
                async move { taker.take(reports).await }
            };
            gather.report(&reports, take).await
        })
    }

    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_comes_while_the_lanes_are_busy_is_one_batch_and_each_gets_its_own_answer() {
        let (gather, taker) = (Arc::new(Gather::default()), Arc::new(Taker::default()));
        let asked: Vec<_> = (1..=100).map(|n| ask(&gather, &taker, n)).collect();
        settle().await;
        assert_eq!(taker.batches.load(Ordering::Relaxed), LANES);
        for _ in 0..=LANES {
            taker.goes_on.notify_one();
            settle().await;
        }
        for (n, asked) in (1..).zip(asked) {
            let answers = asked.await.unwrap().unwrap();
            assert_eq!(answers, [Ok(Duration::from_secs(n)), Ok(Duration::from_secs(n + 1_000))]);
        }
        assert_eq!(taker.batches.load(Ordering::Relaxed), LANES + 1);
    }

    #[tokio::test]
    async fn who_hangs_up_leaves_the_batch_to_the_others() {
        let (gather, taker) = (Arc::new(Gather::default()), Arc::new(Taker::default()));
        let asked: Vec<_> = (1..=10).map(|n| ask(&gather, &taker, n)).collect();
        settle().await;
        taker.goes_on.notify_one();
        settle().await;
        assert_eq!(taker.batches.load(Ordering::Relaxed), LANES + 1);
        // One of the first two is done and one of the others has sent off the rest: all but the last one hang up.
        asked[..9].iter().for_each(|asked| asked.abort());
        for _ in 0..20 {
            taker.goes_on.notify_one();
            settle().await;
        }
        let last = asked.into_iter().next_back().unwrap();
        assert_eq!(last.await.unwrap().unwrap(), [10, 1_010].map(|n| Ok(Duration::from_secs(n))));
        assert_eq!(taker.batches.load(Ordering::Relaxed), LANES + 1, "nothing is reported anew");
    }
}
