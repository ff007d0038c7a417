//! The waiting room: people join, one reader asks for the serving number for all of them, and each comes in when it has
//! reached theirs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::stage::Stage;
use crate::Error;
use crate::api::{Place, Serving};
use crate::client::{Ask, Call};
use crate::domain::fairness::Joined;

/// How often the serving number is read.
const READS_EVERY: Duration = Duration::from_millis(250);
/// How often who should be in asks for the admission: the number that all read may be a moment ahead.
const ADMISSION_TRIES: u32 = 40;

/// Somebody who waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) index: u64,
    pub(super) pass: String,
}

/// What is known of those who wait.
#[derive(Default)]
pub(super) struct Room {
    /// Steps of a clock of our own: which request was sent after which answer.
    steps: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Came before the doors opened: no number yet.
    gathered: Vec<Waiting>,
    /// By number.
    waiting: BTreeMap<i64, Waiting>,
    /// Of those who came after the doors had opened.
    joined: Vec<Joined>,
    /// How many were let in.
    admitted: u64,
    /// Who came before the doors opened, in the order of their numbers.
    by_lot: Vec<(i64, u64)>,
    /// The same of those who came after.
    in_turn: Vec<(i64, u64)>,
}

/// How the line was, for the report.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Line {
    pub(super) by_lot: Vec<u64>,
    pub(super) in_turn: Vec<u64>,
    pub(super) joined: Vec<Joined>,
    pub(super) admitted: u64,
}

impl Room {
    /// Joins as a fan.
    pub(super) async fn join(&self, stage: &Stage, index: u64, token: &str) -> Result<(), Error> {
        let path = format!("/event/{}/queue", stage.event);
        let key = format!("{index}-join");
        let asked = self.steps.fetch_add(1, Ordering::SeqCst);
        let place: Place = stage.client.fetch(&Ask::post(Call::Join, &path, token, &key, "")).await?;
        let answered = self.steps.fetch_add(1, Ordering::SeqCst);
        let waiting = Waiting { index, pass: place.token };
        let mut inner = self.inner();
        match place.number {
            None => inner.gathered.push(waiting),
            Some(number) => {
                // Numbers count from 1.
                let joined = Joined { asked, answered, number: u64::try_from(number).unwrap_or_default() };
                inner.joined.push(joined);
                inner.in_turn.push((number, index));
                inner.waiting.insert(number, waiting);
            }
        }
        Ok(())
    }

    /// The serving number, read once for all.
    pub(super) async fn serving(stage: &Stage) -> Result<Serving, Error> {
        let path = format!("/event/{}/queue/serving", stage.event);
        stage.client.fetch(&Ask::get(Call::Wait, &path, None)).await
    }

    /// Waits for the next look at the serving number.
    pub(super) async fn pause() {
        sleep(READS_EVERY).await;
    }

    /// Those who gathered before the doors opened.
    pub(super) fn take_gathered(&self) -> Vec<Waiting> {
        std::mem::take(&mut self.inner().gathered)
    }

    /// Somebody's number, after the draw.
    pub(super) async fn learn_number(&self, stage: &Stage, waiting: Waiting) -> Result<(), Error> {
        let path = format!("/queue/{}", waiting.pass);
        let token = stage.people.fan(waiting.index)?;
        let place: Place = stage.client.fetch(&Ask::get(Call::Wait, &path, Some(&token))).await?;
        let mut inner = self.inner();
        match place.number {
            Some(number) => {
                inner.by_lot.push((number, waiting.index));
                inner.waiting.insert(number, waiting);
            }
            // Not drawn yet.
            None => inner.gathered.push(waiting),
        }
        Ok(())
    }

    /// Those whose turn it is.
    pub(super) fn called(&self, serving: i64) -> Vec<Waiting> {
        let mut inner = self.inner();
        let later = inner.waiting.split_off(&(serving + 1));
        let called = std::mem::replace(&mut inner.waiting, later);
        inner.admitted += called.len() as u64;
        called.into_values().collect()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        let inner = self.inner();
        inner.waiting.len() + inner.gathered.len()
    }

    /// The admission of somebody whose turn it is; `None` where the place is no more.
    pub(super) async fn admission(stage: &Stage, waiting: &Waiting, token: &str) -> Result<Option<String>, Error> {
        let path = format!("/queue/{}", waiting.pass);
        let ask = Ask::get(Call::Wait, &path, Some(token));
        for _ in 0..ADMISSION_TRIES {
            let answer = stage.client.send(&ask).await?;
            if answer.status == 410 {
                return Ok(None);
            }
            let place: Place = answer.read(&ask)?;
            if let Some(admission) = place.admission {
                return Ok(Some(admission));
            }
            sleep(READS_EVERY).await;
        }
        Ok(None)
    }

    /// Gives the place up for the next one.
    pub(super) async fn leave(stage: &Stage, waiting: &Waiting, token: &str) -> Result<(), Error> {
        let path = format!("/queue/{}/leave", waiting.pass);
        let key = format!("{}-leave", waiting.index);
        let ask = Ask::post(Call::Wait, &path, token, &key, "");
        let answer = stage.client.send(&ask).await?;
        if answer.status < 500 { Ok(()) } else { Err(answer.refused(&ask)) }
    }

    /// How it was.
    pub(super) fn line(&self) -> Line {
        let mut inner = self.inner();
        inner.by_lot.sort_unstable();
        inner.in_turn.sort_unstable();
        let indexes = |numbered: &[(i64, u64)]| numbered.iter().map(|(_, index)| *index).collect();
        Line {
            by_lot: indexes(&inner.by_lot),
            in_turn: indexes(&inner.in_turn),
            joined: inner.joined.clone(),
            admitted: inner.admitted,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shared by all who join.
pub(super) type Shared = Arc<Room>;

/// Whether the seed that was shown after the draw is the one that was promised before it. `None` where there was no draw.
pub(super) fn kept_promise(before: &Serving, after: &Serving) -> Option<bool> {
    let (promised, seed) = (before.commitment.as_deref()?, after.seed.as_deref()?);
    let pairs = (0..seed.len()).step_by(2).map(|at| seed.get(at..at + 2));
    let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    let hash: String = Sha256::digest(bytes?).iter().map(|byte| format!("{byte:02x}")).collect();
    Some(hash == promised)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_by_its_seed_only() {
        let serving = |commitment: Option<&str>, seed: Option<&str>| Serving {
            serving: 0,
            phase: "open".into(),
            commitment: commitment.map(str::to_owned),
            seed: seed.map(str::to_owned),
        };
        // SHA-256 of the one byte 0x61, which is `a`.
        let before = serving(Some("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"), None);
        assert_eq!(kept_promise(&before, &serving(None, Some("61"))), Some(true));
        assert_eq!(kept_promise(&before, &serving(None, Some("62"))), Some(false));
        assert_eq!(kept_promise(&before, &before), None);
    }
}
