//! Proofs that were checked already: each worker's own, so that looking one up takes no lock.
//!
//! There are two generations. What is used moves to the young one; when that is full the old one is dropped. So memory is
//! bounded, what is in use stays, and nothing is sorted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::{Identity, Way};

/// Proofs of one generation.
const MOST: usize = 10_000;

/// Proofs that were checked by this worker.
#[derive(Debug, Default)]
pub struct Remembered(RefCell<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Box<str>, Entry, ahash::RandomState>,
    old: HashMap<Box<str>, Entry, ahash::RandomState>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// What checked it: a way that was changed since is another one.
    way: Arc<Way>,
    /// Of the keys that it was checked with.
    key_set: u64,
    identity: Arc<Identity>,
    until_s: i64,
}

impl Remembered {
    /// Who showed this, where the same way with the same keys found that it holds and it has not ended.
    pub fn get(&self, way: &Arc<Way>, key_set: u64, shown: &str, now_s: i64) -> Option<Arc<Identity>> {
        let mut generations = self.0.borrow_mut();
        let good = |entry: &Entry| Arc::ptr_eq(&entry.way, way) && entry.key_set == key_set && entry.until_s > now_s;
        if let Some(entry) = generations.young.get(shown) {
            return good(entry).then(|| entry.identity.clone());
        }
        let entry = generations.old.remove(shown).filter(good)?;
        let identity = entry.identity.clone();
        generations.insert(shown.into(), entry);
        Some(identity)
    }

    /// Remembers what holds until then.
    pub fn put(&self, way: &Arc<Way>, key_set: u64, shown: &str, identity: Arc<Identity>, until_s: i64, now_s: i64) {
        if until_s > now_s {
            let entry = Entry { way: way.clone(), key_set, identity, until_s };
            self.0.borrow_mut().insert(shown.into(), entry);
        }
    }
}

impl Generations {
    fn insert(&mut self, shown: Box<str>, entry: Entry) {
        if self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(shown, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Auth;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let way =
            || Arc::new(Way::new("m", &Auth::Mtls { roles: Default::default() }, std::path::Path::new(".")).unwrap());
        let (one, other) = (way(), way());
        let remembered = Remembered::default();
        let identity = Arc::new(Identity::default());
        let put = |text: &str| remembered.put(&one, 1, text, identity.clone(), 100, 0);
        put("used");
        for round in 0..3 * MOST {
            put(&round.to_string());
            assert!(round % 1_000 > 0 || remembered.get(&one, 1, "used", 5).is_some(), "{round}");
        }
        assert!(remembered.get(&one, 1, "0", 5).is_none());
        let misses = [(&other, 1, 5), (&one, 2, 5), (&one, 1, 100)];
        for (way, key_set, now_s) in misses {
            assert!(remembered.get(way, key_set, "used", now_s).is_none());
        }
        let generations = remembered.0.borrow();
        assert!(generations.young.len() + generations.old.len() <= 2 * MOST);
    }
}
