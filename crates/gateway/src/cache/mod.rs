//! Answers that are kept: in memory for all workers, and on disk where the config says so.
//!
//! An answer is found by the digest of what tells requests apart; under it are the variants that `vary` tells apart.
//! Nothing here decides whether an answer may be kept or used (`domain::freshness`).

mod disk;
mod file;
mod flight;
mod key;
mod stored;
mod voids;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderName;
use prometheus_client::metrics::gauge::Gauge;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tessera_kernel::Timestamp;

pub use disk::Disk;
pub use flight::{Flight, Flights, Landing, Turn, landed};
pub use key::{Digest, Key, Mark, everything, place, route, tag};
pub use stored::{Stored, kept_headers, tag_marks, value_digest, vary_names};
pub use voids::Voids;

use crate::Error;
use crate::metrics::{CacheTier, Metrics};
use crate::spec;

/// Parts of the memory tier with a lock of their own.
const SHARDS: usize = 8;
/// Variants of one key; the one that came longest ago goes first.
const MOST_VARIANTS: usize = 32;
/// Locks that writers of one key meet at.
const TURNS: usize = 64;
/// Keys whose answers are known not to be kept.
const MOST_PASSES: usize = 65_536;
/// How long that is believed, in microseconds.
const PASS_US: i64 = 60_000_000;
/// What an answer weighs on average, for the size of the table.
const USUAL_BYTES: u64 = 8 << 10;

/// Answers that are kept.
#[derive(Debug)]
pub struct Store {
    /// What the config file says.
    pub spec: spec::Cache,
    /// Fetches under way.
    pub flights: Arc<Flights>,
    memory: Cache<Key, Arc<Vec<Arc<Stored>>>, Weigh>,
    passes: Cache<Key, i64>,
    turns: Box<[Mutex<()>]>,
    voids: Arc<Voids>,
    disk: Option<Arc<Disk>>,
    bytes: Gauge,
}

#[derive(Clone, Debug)]
struct Weigh;

impl Weighter<Key, Arc<Vec<Arc<Stored>>>> for Weigh {
    fn weight(&self, _: &Key, variants: &Arc<Vec<Arc<Stored>>>) -> u64 {
        weight(variants)
    }
}

fn weight(variants: &[Arc<Stored>]) -> u64 {
    variants.iter().map(|stored| stored.weight()).sum()
}

impl Store {
    /// As the config says; the disk's folder starts from `folder`. Nothing is read or written yet.
    ///
    /// # Errors
    /// [`Error::Config`] without a place where the folder cannot be used.
    pub fn new(spec: &spec::Cache, folder: &Path, metrics: &Metrics) -> Result<Self, Error> {
        let options = OptionsBuilder::new()
            .weight_capacity(spec.memory.0)
            .estimated_items_capacity((spec.memory.0 / USUAL_BYTES).max(16) as usize)
            .shards(SHARDS)
            .build()
            .map_err(|error| Error::Internal(format!("no memory for answers: {error}")))?;
        let voids = Arc::new(Voids::default());
        let disk = spec.disk.as_ref().map(|disk| {
            let bytes = metrics.cache_bytes.get_or_create(&CacheTier { tier: "disk" }).clone();
            Disk::new(folder.join(&disk.folder), disk.size.0, voids.clone(), bytes).map(Arc::new)
        });
        Ok(Self {
            spec: spec.clone(),
            flights: Arc::default(),
            memory: Cache::with_options(options, Weigh, DefaultHashBuilder::default(), DefaultLifecycle::default()),
            passes: Cache::new(MOST_PASSES),
            turns: (0..TURNS).map(|_| Mutex::default()).collect(),
            voids,
            disk: disk.transpose()?,
            bytes: metrics.cache_bytes.get_or_create(&CacheTier { tier: "memory" }).clone(),
        })
    }

    /// Begins to find out what is on disk. Until that is done, what is there is not found.
    pub fn open_disk(&self) {
        if let Some(disk) = &self.disk {
            disk.open();
        }
    }

    /// The last voiding, which an answer that is asked for now is younger than.
    pub fn now(&self) -> u64 {
        self.voids.now()
    }

    /// The variant that a request chooses, from memory. `value` gives the digest of a header's value.
    pub fn find(&self, key: Key, value: &dyn Fn(&HeaderName) -> Key) -> Option<Arc<Stored>> {
        let variants = self.memory.get(&key)?;
        variants.iter().find(|stored| self.holds(stored) && stored.is_chosen_by(value)).cloned()
    }

    /// The variant that a request chooses, from disk; it is in memory from now on.
    pub async fn find_on_disk(&self, key: Key, value: &dyn Fn(&HeaderName) -> Key) -> Option<Arc<Stored>> {
        let disk = self.disk.as_ref()?;
        let stored = Arc::new(disk.find(key, value)?.read().await?);
        if !self.holds(&stored) {
            return None;
        }
        // What came while it was read is younger.
        if let Some(younger) = self.find(key, value) {
            return Some(younger);
        }
        self.keep_in_memory(key, stored.clone());
        Some(stored)
    }

    /// Whether any variant is there, and the headers that the youngest was chosen by.
    pub fn vary_of(&self, key: Key) -> Option<Vec<HeaderName>> {
        let variants = self.memory.get(&key)?;
        variants.first().map(|stored| stored.vary.iter().map(|(name, _)| name.clone()).collect())
    }

    /// Keeps an answer in place of the variant it replaces.
    pub fn keep(&self, key: Key, stored: Arc<Stored>) {
        if !self.holds(&stored) {
            return;
        }
        self.passes.remove(&key);
        if let Some(disk) = &self.disk {
            disk.write(key, stored.clone());
        }
        self.keep_in_memory(key, stored);
    }

    fn keep_in_memory(&self, key: Key, stored: Arc<Stored>) {
        // One part of the table must have room for all variants of a key, and more than that.
        let most = self.spec.memory.0 / SHARDS as u64 / 2;
        if stored.weight() > most {
            return;
        }
        let _turn = self.turns[key as usize % TURNS].lock().unwrap_or_else(PoisonError::into_inner);
        let mut variants = vec![stored.clone()];
        if let Some(known) = self.memory.get(&key) {
            let stays = |known: &&Arc<Stored>| self.holds(known) && !known.is_replaced_by(&stored);
            variants.extend(known.iter().filter(stays).take(MOST_VARIANTS - 1).cloned());
        }
        while weight(&variants) > most {
            variants.pop();
        }
        self.memory.insert(key, Arc::new(variants));
        self.note_bytes();
    }

    /// Drops a variant, where it is still the one that is kept.
    pub fn drop_one(&self, key: Key, stored: &Arc<Stored>) {
        let _turn = self.turns[key as usize % TURNS].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.memory.get(&key) {
            let left: Vec<Arc<Stored>> = known.iter().filter(|known| !known.is_replaced_by(stored)).cloned().collect();
            if left.is_empty() {
                self.memory.remove(&key);
            } else {
                self.memory.insert(key, Arc::new(left));
            }
        }
        if let Some(disk) = &self.disk {
            disk.remove(key, stored);
        }
        self.note_bytes();
    }

    fn note_bytes(&self) {
        self.bytes.set(i64::try_from(self.memory.weight()).unwrap_or(i64::MAX));
    }

    fn holds(&self, stored: &Stored) -> bool {
        self.voids.spares(&stored.marks, stored.since)
    }

    /// Voids all that has this mark.
    pub fn void(&self, mark: Mark) {
        let number = self.voids.void(mark);
        if let Some(disk) = &self.disk {
            disk.void(mark, number);
        }
    }

    /// Gives the memory of all that is kept there back.
    pub fn empty_memory(&self) {
        self.memory.clear();
        self.note_bytes();
    }

    /// Notes that answers to this are not kept, so that nobody waits for one.
    pub fn note_pass(&self, key: Key, now: Timestamp) {
        self.passes.insert(key, now.micros());
    }

    /// Whether answers to this are known not to be kept.
    pub fn is_pass(&self, key: Key, now: Timestamp) -> bool {
        self.passes.get(&key).is_some_and(|since| now.micros() - since < PASS_US)
    }

    /// What is kept.
    pub fn sizes(&self) -> Sizes {
        let disk = self.disk.as_ref().map(|disk| disk.size()).unwrap_or_default();
        Sizes {
            memory_answers: self.memory.len() as u64,
            memory_bytes: self.memory.weight(),
            disk_answers: disk.0,
            disk_bytes: disk.1,
        }
    }
}

/// What is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sizes {
    /// Keys with answers in memory.
    pub memory_answers: u64,
    /// What they weigh.
    pub memory_bytes: u64,
    /// Answers on disk.
    pub disk_answers: u64,
    /// Their size.
    pub disk_bytes: u64,
}
