//! Spares callers the wait for a Redis that did not answer a moment ago: until it does, only one of them tries at a time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Error;

/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// How long one who tries again may take until another may.
const TRYING: Duration = Duration::from_secs(5);

/// When Redis is tried again, where it failed.
#[derive(Default)]
pub(super) struct Breaker(Mutex<Option<Instant>>);

/// Somebody asks Redis.
pub(super) struct Trying<'a> {
    breaker: &'a Breaker,
    /// Whether it had failed before.
    alone: bool,
}

impl Breaker {
    /// Lets a caller ask, or says at once that there is no answer.
    pub(super) fn begin(&self) -> Result<Trying<'_>, Error> {
        let mut again = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match *again {
            Some(at) if now < at => Err(Error::Locations { reason: "there was no answer a moment ago".to_owned() }),
            Some(_) => {
                *again = Some(now + TRYING);
                Ok(Trying { breaker: self, alone: true })
            }
            None => Ok(Trying { breaker: self, alone: false }),
        }
    }

    fn set(&self, at: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

impl Trying<'_> {
    /// How it went.
    pub(super) fn end(mut self, answered: bool) {
        if answered {
            self.breaker.set(None);
        }
        // What fails is seen as it goes.
        self.alone = !answered;
    }
}

impl Drop for Trying<'_> {
    /// Where it failed, or the one who tried did not wait for the end.
    fn drop(&mut self) {
        if self.alone {
            self.breaker.set(Some(Instant::now() + AGAIN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_tries_until_there_is_an_answer() {
        let breaker = Breaker::default();
        let (one, other) = (breaker.begin().unwrap(), breaker.begin().unwrap());
        one.end(false);
        assert!(breaker.begin().is_err(), "it failed a moment ago");
        tokio::time::advance(AGAIN).await;
        let trying = breaker.begin().unwrap();
        assert!(breaker.begin().is_err(), "somebody tries");
        // Who gives up lets the next one try.
        drop(trying);
        assert!(breaker.begin().is_err());
        tokio::time::advance(AGAIN).await;
        let trying = breaker.begin().unwrap();
        trying.end(true);
        assert!(breaker.begin().is_ok() && breaker.begin().is_ok());
        // Who gives up where all is well says nothing.
        drop(other);
        assert!(breaker.begin().is_ok());
    }
}
