//! What was told last of each driver, free or busy. One task at a time hands it to the positions, so that what came last stays
//! however long each takes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tessera_kernel::Timestamp;

use crate::domain::ids::DriverId;
use crate::locations::Duty;

/// How many drivers are kept before all that are handed on are forgotten.
const MOST: usize = 100_000;
/// Two transactions on a server are told in the wrong order within moments; what is older than this is a clock that was set.
const LATE: Duration = Duration::from_secs(2);

/// What was told of each driver.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<DriverId, Last>>);

struct Last {
    duty: Duty,
    /// By the store's clock.
    at: Timestamp,
    /// Whether somebody hands it on.
    held: bool,
}

impl Told {
    /// Keeps what a driver does since then, unless something later was told. Whether the caller is to hand it on: nobody does.
    pub(super) fn keep(&self, driver: DriverId, duty: Duty, at: Timestamp) -> bool {
        let mut told = self.lock();
        if told.len() >= MOST {
            told.retain(|_, last| last.held);
        }
        let last = told.entry(driver).or_insert(Last { duty, at, held: false });
        if last.at > at && last.at.since(at) < LATE {
            return false;
        }
        (last.duty, last.at) = (duty, at);
        !std::mem::replace(&mut last.held, true)
    }

    /// What is to be handed on, after this was. Where that is nothing, the next one who keeps something hands it on.
    pub(super) fn next(&self, driver: DriverId, handed: Option<Duty>) -> Option<Duty> {
        let mut told = self.lock();
        let last = told.get_mut(&driver)?;
        last.held = handed != Some(last.duty);
        last.held.then_some(last.duty)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DriverId, Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tessera_kernel::Uuid;

    use super::*;

    #[test]
    fn one_hands_on_what_came_last() {
        let (told, driver) = (Told::default(), DriverId::from(Uuid::from_u128(1)));
        let at = |ms: i64| Timestamp::from_micros(ms * 1_000);
        assert!(told.keep(driver, Duty::Busy, at(10)));
        assert_eq!(told.next(driver, None), Some(Duty::Busy));
        assert!(!told.keep(driver, Duty::Free, at(10)), "somebody is at it");
        assert!(!told.keep(driver, Duty::Busy, at(9)), "it was before");
        assert_eq!(told.next(driver, Some(Duty::Busy)), Some(Duty::Free));
        assert_eq!(told.next(driver, Some(Duty::Free)), None);
        assert!(!told.keep(driver, Duty::Busy, at(9)));
        assert!(told.keep(driver, Duty::Busy, at(11)), "nobody is at it any more");
    }
}
