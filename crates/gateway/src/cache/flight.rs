//! One fetch for all who ask for the same at the same time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::key::Key;

/// What became of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// It is under way.
    Flying,
    /// Its answer is kept: look again.
    Kept,
    /// Its answer is for whoever asked; everyone fetches for himself.
    Alone,
    /// Whoever fetched it went away before there was an answer; another takes his place.
    Abandoned,
}

/// Fetches under way, of all workers.
#[derive(Debug, Default)]
pub struct Flights(Mutex<HashMap<Key, watch::Receiver<Landing>, ahash::RandomState>>);

/// Whose turn it is.
#[derive(Debug)]
pub enum Turn {
    /// Ours: nobody else is fetching it.
    Lead(Flight),
    /// Another's.
    Follow(watch::Receiver<Landing>),
}

/// A fetch that others wait for. Dropped before there was an answer, another of them takes its place; after that, each
/// fetches for himself.
#[derive(Debug)]
pub struct Flight {
    key: Key,
    is_answered: bool,
    flights: Arc<Flights>,
    sender: watch::Sender<Landing>,
}

impl Flights {
    /// Begins a fetch, or joins the one under way.
    pub fn join(self: &Arc<Self>, key: Key) -> Turn {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match flights.entry(key) {
            Entry::Occupied(known) => Turn::Follow(known.get().clone()),
            Entry::Vacant(place) => {
                let (sender, receiver) = watch::channel(Landing::Flying);
                place.insert(receiver);
                Turn::Lead(Flight { key, is_answered: false, flights: self.clone(), sender })
            }
        }
    }

    /// Fetches under way.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Flight {
    /// The upstream has answered, or will not.
    pub fn note_answer(&mut self) {
        self.is_answered = true;
    }

    /// Tells everyone what became of it.
    pub fn land(self, landing: Landing) {
        self.finish(landing);
    }

    fn finish(&self, landing: Landing) {
        let is_first = self.sender.send_if_modified(|known| {
            let is_flying = *known == Landing::Flying;
            if is_flying {
                *known = landing;
            }
            is_flying
        });
        if is_first {
            self.flights.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.finish(if self.is_answered { Landing::Alone } else { Landing::Abandoned });
    }
}

/// Waits for another's fetch.
pub async fn landed(mut receiver: watch::Receiver<Landing>) -> Landing {
    let landed = receiver.wait_for(|landing| *landing != Landing::Flying).await;
    landed.map_or(Landing::Alone, |landing| *landing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_leads_and_the_others_hear_of_it() {
        let flights = Arc::new(Flights::default());
        let Turn::Lead(flight) = flights.join(1) else { panic!("nobody else flies") };
        let Turn::Follow(first) = flights.join(1) else { panic!("it is under way") };
        assert!(matches!(flights.join(2), Turn::Lead(_)));
        let waiting = tokio::spawn(landed(first));
        flight.land(Landing::Kept);
        assert_eq!(waiting.await.unwrap(), Landing::Kept);
        assert!(flights.is_empty());
        for (is_answered, landing) in [(true, Landing::Alone), (false, Landing::Abandoned)] {
            let Turn::Lead(mut flight) = flights.join(1) else { panic!("it has landed") };
            let Turn::Follow(second) = flights.join(1) else { panic!("it is under way") };
            if is_answered {
                flight.note_answer();
            }
            drop(flight);
            assert_eq!(landed(second).await, landing);
        }
    }
}
