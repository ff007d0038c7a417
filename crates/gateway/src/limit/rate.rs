//! Rates by caller, kept in shards of memory with an upper bound.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use super::Quota;
use crate::domain::gcra::{Rate, Verdict};
use crate::spec::{Key, PerTime, RateLimit};

const SHARDS: usize = 64;
/// Callers remembered per shard. Beyond it those whose bucket is full again are forgotten, then the half that used up
/// least: a flood of invented callers must neither grow memory nor have anybody forgotten who reached his limit.
const MOST_PER_SHARD: usize = 16_384;

/// One limit and its callers.
#[derive(Debug)]
pub struct Limiter {
    /// Its name.
    pub name: Arc<str>,
    /// Whose requests are counted together.
    pub per: Vec<Key>,
    /// The rate.
    pub rate: Rate,
    /// Whether several gateways count together.
    pub is_shared: bool,
    /// What tells it from all other limits, the same in every process.
    pub identity: String,
    shards: Box<[Mutex<HashMap<u64, u64, ahash::RandomState>>]>,
    /// With a key of this process, so that nobody can choose texts that count as another caller's.
    hasher: RandomState,
    most_per_shard: usize,
}

/// What a limit says.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The most at once.
    pub burst: u64,
    /// The period of the rate, in seconds.
    pub window_s: u64,
}

impl Limiter {
    fn new(spec: &RateLimit) -> Self {
        let count = spec.rate.count;
        Self {
            name: spec.name.as_str().into(),
            per: spec.per.clone(),
            rate: Rate { count, period_us: spec.rate.period.as_micros(), burst: spec.burst.unwrap_or(count) },
            is_shared: spec.shared,
            identity: identity(spec),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            most_per_shard: MOST_PER_SHARD,
        }
    }

    /// What a request of the caller with this key would be told at `now_us`; nothing is counted.
    pub fn look(&self, key: &[u8], now_us: u64) -> Outcome {
        let key = self.hasher.hash_one(key);
        let shard = self.shards[key as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let (_, verdict) = self.rate.judge(shard.get(&key).copied().unwrap_or_default(), now_us);
        self.outcome(verdict)
    }

    /// The verdict with what callers are told of the limit.
    pub fn outcome(&self, verdict: Verdict) -> Outcome {
        Outcome { verdict, burst: self.rate.burst, window_s: self.rate.period_us.div_ceil(1_000_000) }
    }

    /// Judges a request of the caller with this key at `now_us`.
    pub fn judge(&self, key: &[u8], now_us: u64) -> Outcome {
        let key = self.hasher.hash_one(key);
        let mut shard = self.shards[key as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= self.most_per_shard && !shard.contains_key(&key) {
            make_room(&mut shard, now_us.saturating_mul(1_000), self.most_per_shard);
        }
        let mark = shard.entry(key).or_default();
        let (next, verdict) = self.rate.judge(*mark, now_us);
        *mark = next;
        self.outcome(verdict)
    }

    /// Whether callers are told apart by who they proved to be.
    pub fn asks_who(&self) -> bool {
        self.per.iter().any(Key::asks_who)
    }
}

/// Forgets callers until the shard is no more than half full. Each time that takes as many steps as there were newcomers since.
fn make_room(shard: &mut HashMap<u64, u64, ahash::RandomState>, now_ns: u64, most: usize) {
    shard.retain(|_, mark| *mark > now_ns);
    if shard.len() <= most / 2 {
        return;
    }
    let mut marks: Vec<u64> = shard.values().copied().collect();
    let middle = marks.len() - most / 2;
    let (_, least, _) = marks.select_nth_unstable(middle);
    let least = *least;
    shard.retain(|_, mark| *mark > least);
}

/// All limits by name and rate, so that a changed config does not forget its callers and routes may share a limit.
#[derive(Debug, Default)]
pub struct Limiters {
    rates: Mutex<BTreeMap<String, Arc<Limiter>>>,
    quotas: Mutex<BTreeMap<String, Arc<Quota>>>,
}

fn identity(spec: &RateLimit) -> String {
    format!("{} {:?} {} {:?} {}", spec.name, spec.per, spec.rate, spec.burst, spec.shared)
}

impl Limiters {
    /// The limit, made where there is none like it.
    pub fn get(&self, spec: &RateLimit) -> Arc<Limiter> {
        let mut limiters = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        limiters.entry(identity(spec)).or_insert_with(|| Arc::new(Limiter::new(spec))).clone()
    }

    /// The quota of this name, with what is used of it.
    pub fn quota(&self, name: &str, spec: PerTime) -> Arc<Quota> {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Quota::new(name, spec));
        let quota = quotas.entry(name.to_owned()).or_insert_with(new);
        if quota.spec != spec {
            *quota = new();
        }
        quota.clone()
    }

    /// Forgets limits that no route has any more.
    pub fn tidy(&self) {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, limiter| Arc::strong_count(limiter) > 1);
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, quota| Arc::strong_count(quota) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_apart_and_memory_is_bounded() {
        let limiters = Limiters::default();
        let spec =
            RateLimit { name: "x".into(), per: vec![], rate: "1/s".parse().unwrap(), burst: None, shared: false };
        let limiter = limiters.get(&spec);
        assert!(Arc::ptr_eq(&limiter, &limiters.get(&spec)));
        assert!(limiter.judge(b"a", 0).verdict.passes && limiter.judge(b"b", 0).verdict.passes);
        assert!(!limiter.judge(b"a", 0).verdict.passes);
        let small = Limiter { most_per_shard: 8, ..Limiter::new(&spec) };
        for caller in 0..4 * (SHARDS * 8) as u64 {
            small.judge(&caller.to_le_bytes(), caller);
        }
        assert!(small.shards.iter().all(|shard| shard.lock().unwrap().len() <= 8));
        // Whoever has used up his share cannot be made forgotten by callers that are made up.
        let hour = RateLimit { rate: "1/h".parse().unwrap(), ..spec.clone() };
        let small = Limiter { most_per_shard: 8, ..Limiter::new(&hour) };
        let busy = Limiter { rate: Rate { burst: 5, ..small.rate }, ..small };
        for _ in 0..5 {
            assert!(busy.judge(b"busy", 1).verdict.passes);
        }
        for caller in 0..4 * (SHARDS * 8) as u64 {
            busy.judge(&caller.to_le_bytes(), 2);
        }
        assert!(!busy.judge(b"busy", 3).verdict.passes);
        drop(limiter);
        limiters.tidy();
        assert!(limiters.rates.lock().unwrap().is_empty());
    }
}
