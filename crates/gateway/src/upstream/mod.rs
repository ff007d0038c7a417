//! The services behind the gateway: what is known of their endpoints, who is asked next, and connections to them.
//!
//! An [`Upstream`] is shared by all workers and outlives a change of the config that does not concern it, with its
//! endpoints, their health and their budget. Connections are each worker's own ([`Pools`]).

mod arriving;
mod discover;
mod endpoint;
mod health;
mod listening;
mod names;
mod pool;
mod tls;
mod wire;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ClientConfig;

pub use arriving::Arriving;
pub use discover::{Watch, watch};
pub use endpoint::{Ask, Endpoint, Standing};
pub use pool::{Lease, Need, Pools, Sender};
pub use tls::client_config;
pub use wire::Broken;

use crate::Error;
use crate::domain::balance;
use crate::domain::breaker::{self, Record, Tolerance};
use crate::domain::retry_budget::{Allowance, Budget};
use crate::limit::Gate;
use crate::spec::{self, Balance};

/// Retries saved up at most.
const MOST_RETRIES_SAVED: u64 = 10;

/// A service behind the gateway.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in the config file.
    pub name: Arc<str>,
    /// What the config file says of it.
    pub spec: spec::Upstream,
    /// TLS to endpoints with `https`.
    pub tls: Arc<ClientConfig>,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    is_found: AtomicBool,
    turn: AtomicU64,
    in_flight: AtomicU32,
    /// Copies of other upstreams' requests under way.
    pub copies: Arc<Gate>,
    budget: AtomicU64,
    breaker: Mutex<Record>,
    breaker_open_until_us: AtomicU64,
}

/// Who was asked already for one request, so that another is next.
pub type Tried = Vec<u64>;

impl Upstream {
    /// From the config file; endpoints that are discovered come later.
    ///
    /// # Errors
    /// [`Error::Config`] without a place where the files of its TLS cannot be used.
    pub fn new(name: &str, spec: &spec::Upstream, folder: &std::path::Path) -> Result<Self, Error> {
        let tls = client_config(&spec.tls, spec.protocol, folder)?;
        let upstream = Self {
            name: name.into(),
            tls: Arc::new(tls),
            endpoints: ArcSwap::from_pointee(Vec::new()),
            is_found: AtomicBool::new(spec.discover.is_none()),
            turn: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            copies: Arc::default(),
            budget: AtomicU64::new(0),
            breaker: Mutex::default(),
            breaker_open_until_us: AtomicU64::new(0),
            spec: spec.clone(),
        };
        upstream.budget.store(Budget::full(upstream.allowance()).into_raw(), Ordering::Relaxed);
        upstream.set_endpoints(&spec.endpoints);
        Ok(upstream)
    }

    /// The endpoints as they are now.
    pub fn endpoints(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.endpoints.load_full()
    }

    /// Whether its endpoints are known: those that are discovered were found once.
    pub fn is_found(&self) -> bool {
        self.is_found.load(Ordering::Relaxed)
    }

    /// Takes endpoints that were found. Gives whether anything changed.
    pub(super) fn found(&self, endpoints: &[spec::Endpoint]) -> bool {
        let has_changed = self.set_endpoints(endpoints);
        self.is_found.store(true, Ordering::Relaxed);
        has_changed
    }

    /// Replaces the endpoints; those that stay keep what is known of them. Gives whether anything changed.
    pub fn set_endpoints(&self, wanted: &[spec::Endpoint]) -> bool {
        let before = self.endpoints.load_full();
        let same = |known: &Arc<Endpoint>, wanted: &spec::Endpoint| {
            known.url == wanted.url && known.weight == wanted.weight && known.name == wanted.name
        };
        if before.len() == wanted.len() && before.iter().zip(wanted).all(|(known, wanted)| same(known, wanted)) {
            return false;
        }
        let find = |wanted: &spec::Endpoint| before.iter().find(|known| same(known, wanted)).cloned();
        let new = |wanted: &spec::Endpoint| {
            let endpoint = Endpoint::new(wanted);
            // Among others it is new; where all are, none is.
            if !before.is_empty() {
                endpoint.cool();
            }
            Arc::new(endpoint)
        };
        let now = wanted.iter().map(|wanted| find(wanted).unwrap_or_else(|| new(wanted))).collect();
        self.endpoints.store(Arc::new(now));
        true
    }

    /// Takes over what is known of the endpoints of the upstream that this one replaces. Where TLS or protocol are others
    /// connections are made anew, and only what operators said goes on.
    pub fn take_over(&self, before: &Self, files_stay: bool) {
        let known = before.endpoints();
        let found = match (&self.spec.discover, &before.spec.discover) {
            (None, _) => self.spec.endpoints.clone(),
            (Some(now), Some(then)) if now.is_same_place(then) => {
                let endpoint = |known: &Arc<Endpoint>| spec::Endpoint {
                    url: known.url.clone(),
                    weight: known.weight,
                    name: known.name.clone(),
                };
                known.iter().map(endpoint).collect()
            }
            _ => return,
        };
        let speaks_alike = self.spec.tls == before.spec.tls && self.spec.protocol == before.spec.protocol;
        if speaks_alike && files_stay {
            self.endpoints.store(known.clone());
        }
        self.set_endpoints(&found);
        self.is_found.fetch_or(before.is_found(), Ordering::Relaxed);
        for endpoint in self.endpoints().iter() {
            let is_drained = known.iter().any(|known| known.url == endpoint.url && known.is_drained());
            endpoint.drain(is_drained);
            if self.spec.health.is_none() {
                // Nobody would find it well again.
                endpoint.set_well(true);
            }
        }
    }

    /// Whom to ask. `key` is the hash that chooses under `balance: hash`.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`] where there is nobody.
    pub fn choose(&self, key: Option<u64>, tried: &Tried, now_us: u64) -> Result<Ask, Error> {
        let endpoints = self.endpoints.load();
        if let [only] = endpoints.as_slice() {
            // With nobody else to ask, an unwell one is asked all the same.
            return if only.is_drained() {
                Err(self.nobody("its only endpoint is drained"))
            } else {
                Ok(Ask::of(only))
            };
        }
        let may_be_paused = self.most_paused(endpoints.len());
        let mut open: Vec<(&Arc<Endpoint>, bool)> = Vec::with_capacity(endpoints.len());
        let mut paused = 0;
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.weight > 0 && !endpoint.is_drained()) {
            match endpoint.standing(now_us) {
                Standing::Good if !tried.contains(&endpoint.id) => open.push((endpoint, false)),
                Standing::OnTrial if !tried.contains(&endpoint.id) => open.push((endpoint, true)),
                Standing::Good | Standing::OnTrial => {}
                Standing::Away => paused += 1,
            }
        }
        if open.is_empty() || paused > may_be_paused {
            // Too many are away for that to be their own fault, or all others were tried: whoever is there is asked.
            return self.choose_among_all(&endpoints, key, tried, now_us);
        }
        // One on trial gets the next request, or it would never come back.
        let mut on_trial = open.iter().filter(|(_, is_trial)| *is_trial);
        if let Some(ask) = on_trial.find_map(|(endpoint, _)| Ask::on_trial(endpoint, now_us)) {
            return Ok(ask);
        }
        if open.iter().any(|(_, is_trial)| !is_trial) {
            open.retain(|(_, is_trial)| !is_trial);
        }
        let chosen = self.pick(&open, key, now_us).ok_or_else(|| self.nobody("none has a weight"))?;
        Ok(Ask::of(open[chosen].0))
    }

    fn choose_among_all(
        &self,
        endpoints: &[Arc<Endpoint>],
        key: Option<u64>,
        tried: &Tried,
        now_us: u64,
    ) -> Result<Ask, Error> {
        let there = |endpoint: &&Arc<Endpoint>| endpoint.weight > 0 && !endpoint.is_drained();
        let mut all: Vec<(&Arc<Endpoint>, bool)> = endpoints
            .iter()
            .filter(there)
            .filter(|endpoint| !tried.contains(&endpoint.id))
            .map(|e| (e, false))
            .collect();
        if all.is_empty() {
            all = endpoints.iter().filter(there).map(|endpoint| (endpoint, false)).collect();
        }
        let chosen = self.pick(&all, key, now_us).ok_or_else(|| {
            self.nobody(if endpoints.is_empty() { "none is known yet" } else { "all are drained or have no weight" })
        })?;
        Ok(Ask::of(all[chosen].0))
    }

    fn pick(&self, open: &[(&Arc<Endpoint>, bool)], key: Option<u64>, now_us: u64) -> Option<usize> {
        let turn = || self.turn.fetch_add(1, Ordering::Relaxed);
        let slow_start_us = self.spec.slow_start.map(|span| span.as_micros());
        let shares = || open.iter().map(|(endpoint, _)| endpoint.share(slow_start_us, now_us));
        match self.spec.balance {
            Balance::Hash => balance::rendezvous(
                key.unwrap_or_else(turn),
                open.iter().map(|(endpoint, _)| (endpoint.id, endpoint.weight)),
            ),
            Balance::RoundRobin => {
                let weights = || open.iter().map(|(endpoint, _)| endpoint.weight);
                let is_warm = weights().zip(shares()).all(|(weight, share)| share == weight * balance::WHOLE);
                if is_warm && weights().all(|weight| weight == 1) {
                    return (turn() as usize).checked_rem(open.len());
                }
                let weights: Vec<u32> = if is_warm { weights().collect() } else { shares().collect() };
                // A step that has no common divisor with usual sums spreads a weight over the round.
                balance::weighted(&weights, turn().wrapping_mul(7_919))
            }
            Balance::LeastRequests => {
                let candidates: Vec<_> =
                    open.iter().zip(shares()).map(|((endpoint, _), share)| endpoint.candidate(share)).collect();
                balance::least_requests(&candidates, turn() as usize)
            }
            Balance::PeakEwma => {
                let draw = balance::mix(turn());
                let count = open.len() as u64;
                let first = draw.checked_rem(count)? as usize;
                let second = ((draw >> 32) % count) as usize;
                let candidate = |at: usize| open[at].0.candidate(open[at].0.share(slow_start_us, now_us));
                Some(if balance::cheaper(&candidate(first), &candidate(second)) { first } else { second })
            }
        }
    }

    fn most_paused(&self, count: usize) -> usize {
        count * self.spec.outliers.most_percent as usize / 100
    }

    fn nobody(&self, reason: &'static str) -> Error {
        Error::NoEndpoint { upstream: self.name.to_string(), reason }
    }

    /// Lets a request in, where the breaker does.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`] where it is open, [`Error::TooManyAtOnce`] where too many are under way.
    pub fn enter(self: &Arc<Self>, now_us: u64) -> Result<Entered, Error> {
        let until = self.breaker_open_until_us.load(Ordering::Relaxed);
        let mut trial = None;
        if until != 0 {
            let mut record = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
            match record.standing(now_us) {
                breaker::Standing::Paused { .. } => {
                    return Err(self.nobody("it failed too often and is left alone for a while"));
                }
                breaker::Standing::OnTrial => trial = Some(record.try_it()),
                breaker::Standing::Good => {}
            }
        }
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let entered = Entered { upstream: self.clone(), trial };
        match self.spec.breaker.requests_at_once {
            Some(limit) if before >= limit => Err(Error::TooManyAtOnce { at_once: limit }),
            _ => Ok(entered),
        }
    }

    /// Tells the breaker how a request went.
    pub fn note(&self, is_good: bool, now_us: u64) {
        let spec = &self.spec.breaker;
        if spec.failures == 0 {
            return;
        }
        let mut record = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if is_good {
            if record.succeeded() {
                self.breaker_open_until_us.store(0, Ordering::Relaxed);
                tracing::info!(upstream = &*self.name, "the breaker is closed again");
            }
            return;
        }
        let pause_us = spec.pause.as_micros();
        let tolerance = Tolerance { failures: spec.failures, pause_us, longest_pause_us: pause_us };
        if let Some(until_us) = record.failed(now_us, tolerance) {
            self.breaker_open_until_us.store(until_us, Ordering::Relaxed);
            tracing::warn!(upstream = &*self.name, "the breaker is open: it failed too often");
        }
    }

    /// Whether the breaker is open.
    pub fn is_broken(&self) -> bool {
        self.breaker_open_until_us.load(Ordering::Relaxed) != 0
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn allowance(&self) -> Allowance {
        Allowance { share_per_mille: u64::from(self.spec.retry_budget_percent) * 10, most: MOST_RETRIES_SAVED }
    }

    /// A request that is no retry adds to the budget. Lost updates between workers cost a share of a retry.
    pub fn pay_in(&self) {
        let budget = Budget::from_raw(self.budget.load(Ordering::Relaxed));
        let after = budget.after_request(self.allowance());
        if after != budget {
            self.budget.store(after.into_raw(), Ordering::Relaxed);
        }
    }

    /// Takes a retry out of the budget, where there is one.
    pub fn take_retry(&self) -> bool {
        let take = |raw| Budget::from_raw(raw).after_retry().map(Budget::into_raw);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// A request that is under way at an upstream, until this is dropped.
#[derive(Debug)]
pub struct Entered {
    upstream: Arc<Upstream>,
    /// The number of the trial that this is, where the breaker is open.
    trial: Option<u32>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.upstream.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(trial) = self.trial {
            self.upstream.breaker.lock().unwrap_or_else(PoisonError::into_inner).end_trial(trial);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn upstream(more: &str) -> Arc<Upstream> {
        let text = format!("endpoints: [\"http://a:1\", \"http://b:1\", \"http://c:1\"]\n{more}");
        let spec: spec::Upstream = serde_saphyr::from_str(&text).unwrap();
        Arc::new(Upstream::new("u", &spec, std::path::Path::new(".")).unwrap())
    }

    fn asked(upstream: &Upstream, count: usize, now_us: u64) -> BTreeMap<String, usize> {
        let mut asked = BTreeMap::new();
        for _ in 0..count {
            let ask = upstream.choose(Some(7), &Vec::new(), now_us).unwrap();
            *asked.entry(ask.endpoint.url.host.clone()).or_default() += 1;
        }
        asked
    }

    #[test]
    fn turns_are_taken_and_the_unwell_left_out() {
        let upstream = upstream("outliers: { failures: 2, pause: 10s }\n");
        assert_eq!(asked(&upstream, 30, 1).into_values().collect::<Vec<_>>(), [10, 10, 10]);
        let first = upstream.endpoints()[0].clone();
        for _ in 0..2 {
            first.note(false, 0, 100, &upstream.spec.outliers);
        }
        assert_eq!(asked(&upstream, 30, 200).into_values().collect::<Vec<_>>(), [15, 15]);
        let again = upstream.choose(None, &Vec::new(), 10_000_200).unwrap();
        assert_eq!(again.endpoint.url.host, "a", "one request tries it");
        again.endpoint.note(true, 5, 10_000_300, &upstream.spec.outliers);
        assert_eq!(asked(&upstream, 30, 10_000_400).len(), 3);
    }

    #[test]
    fn one_that_is_back_gets_its_share_little_by_little() {
        for balance in ["round_robin", "least_requests", "peak_ewma"] {
            let upstream = upstream(&format!("slow_start: 10s\nbalance: {balance}\n"));
            let share = |now_us| asked(&upstream, 300, now_us).get("a").copied().unwrap_or(0);
            // All are there from the beginning.
            assert!((60..=140).contains(&share(5)), "{balance}: {}", share(5));
            upstream.endpoints()[0].drain(true);
            assert_eq!(share(6), 0);
            upstream.endpoints()[0].drain(false);
            let (first, half, whole) = (share(1_000_000), share(6_000_000), share(11_000_000));
            if balance == "round_robin" {
                assert!((10..=20).contains(&first) && (60..=75).contains(&half), "{first} {half}");
            }
            assert!(first < 60 && (60..=140).contains(&whole), "{balance}: {first}, {half}, {whole}");
        }
    }

    #[test]
    fn with_too_many_unwell_all_are_asked() {
        let upstream = upstream("outliers: { failures: 1, most_percent: 50 }\n");
        for endpoint in &upstream.endpoints()[..2] {
            endpoint.note(false, 0, 100, &upstream.spec.outliers);
        }
        assert_eq!(asked(&upstream, 30, 200).len(), 3);
        upstream.endpoints()[2].drain(true);
        assert_eq!(asked(&upstream, 30, 200).len(), 2, "but not a drained one");
    }

    #[test]
    fn the_breaker_opens_tries_and_closes() {
        let upstream = upstream("breaker: { failures: 2, pause: 1s, requests_at_once: 1 }\n");
        let entered = upstream.enter(1).unwrap();
        assert!(matches!(upstream.enter(1), Err(Error::TooManyAtOnce { at_once: 1 })));
        drop(entered);
        upstream.note(false, 1);
        upstream.note(false, 2);
        assert!(matches!(upstream.enter(3), Err(Error::NoEndpoint { .. })) && upstream.is_broken());
        let trial = upstream.enter(1_000_003).unwrap();
        assert!(upstream.enter(1_000_004).is_err(), "one at a time");
        drop(trial);
        let trial = upstream.enter(1_000_005).expect("one that told nothing makes way for another");
        upstream.note(true, 1_000_006);
        drop(trial);
        assert!(upstream.enter(1_000_007).is_ok() && !upstream.is_broken());
    }

    #[test]
    fn a_key_stays_with_its_endpoint() {
        let upstream = upstream("balance: hash\nhash_key: ip\n");
        assert_eq!(asked(&upstream, 30, 1).len(), 1);
    }
}
