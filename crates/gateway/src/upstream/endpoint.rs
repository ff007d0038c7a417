//! What is known of one endpoint.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;

use crate::domain::balance::{self, Candidate, hash, peak_ewma};
use crate::domain::breaker::{self, Record, Tolerance};
use crate::spec::{self, EndpointUrl, Outliers};

/// It has its whole share.
const WARM: u64 = 0;
/// It is new or back since the next look.
const COLD: u64 = 1;

/// One endpoint of an upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// A hash of its URL, the same in every process, so that keys belong to the same endpoint everywhere.
    pub id: u64,
    /// Where it is.
    pub url: EndpointUrl,
    /// Its share of requests.
    pub weight: u32,
    /// The name that its address was found under.
    pub name: Option<String>,
    /// Host and port as in a `host` header.
    pub authority: HeaderValue,
    in_flight: AtomicU32,
    expected_us: AtomicU64,
    measured_at_us: AtomicU64,
    /// Since when it is new or back, on the workers' clock; [`WARM`] where it has its whole share.
    cold_since_us: AtomicU64,
    is_well: AtomicBool,
    is_drained: AtomicBool,
    /// Whether `record` has anything in it: the usual case takes no lock.
    has_record: AtomicBool,
    record: Mutex<Record>,
}

/// Whether an endpoint may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Good,
    /// Its pause is over: one request may try it.
    OnTrial,
    /// It is unwell or paused.
    Away,
}

/// An endpoint that is asked, counted as under way until this is dropped.
#[derive(Debug)]
pub struct Ask {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// The number of the trial that this is.
    trial: Option<u32>,
}

impl Ask {
    pub(super) fn of(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { endpoint: endpoint.clone(), trial: None }
    }

    /// Where its pause is over and nobody else tries it.
    pub(super) fn on_trial(endpoint: &Arc<Endpoint>, now_us: u64) -> Option<Self> {
        let trial = endpoint.begin_trial(now_us)?;
        let mut ask = Self::of(endpoint);
        ask.trial = Some(trial);
        Some(ask)
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(trial) = self.trial {
            self.endpoint.record().end_trial(trial);
        }
    }
}

impl Endpoint {
    pub(super) fn new(spec: &spec::Endpoint) -> Self {
        let named = spec.name.as_ref().map(|name| EndpointUrl { host: name.clone(), ..spec.url.clone() });
        let authority = HeaderValue::from_str(&named.as_ref().unwrap_or(&spec.url).authority());
        Self {
            id: hash(spec.url.to_string().as_bytes()),
            url: spec.url.clone(),
            weight: spec.weight,
            name: spec.name.clone(),
            authority: authority.unwrap_or_else(|_| HeaderValue::from_static("upstream")),
            in_flight: AtomicU32::new(0),
            expected_us: AtomicU64::new(0),
            measured_at_us: AtomicU64::new(0),
            cold_since_us: AtomicU64::new(WARM),
            is_well: AtomicBool::new(true),
            is_drained: AtomicBool::new(false),
            has_record: AtomicBool::new(false),
            record: Mutex::default(),
        }
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be asked now.
    pub fn standing(&self, now_us: u64) -> Standing {
        if !self.is_well.load(Ordering::Relaxed) {
            return Standing::Away;
        }
        if !self.has_record.load(Ordering::Relaxed) {
            return Standing::Good;
        }
        match self.record().standing(now_us) {
            breaker::Standing::Good => Standing::Good,
            breaker::Standing::OnTrial => Standing::OnTrial,
            breaker::Standing::Paused { .. } => Standing::Away,
        }
    }

    /// Claims its trial, which only one request at a time has.
    fn begin_trial(&self, now_us: u64) -> Option<u32> {
        let mut record = self.record();
        (record.standing(now_us) == breaker::Standing::OnTrial).then(|| record.try_it())
    }

    /// How a request went that took so long until its answer began.
    pub fn note(&self, is_good: bool, took_us: u64, now_us: u64, outliers: &Outliers) {
        if is_good {
            let since = now_us.saturating_sub(self.measured_at_us.swap(now_us, Ordering::Relaxed));
            let expected = peak_ewma(self.expected_us.load(Ordering::Relaxed), took_us, since);
            self.expected_us.store(expected, Ordering::Relaxed);
            if self.has_record.load(Ordering::Relaxed) {
                let mut record = self.record();
                if record.succeeded() {
                    self.cool();
                    tracing::info!(endpoint = %self.url, "an endpoint is back");
                }
                self.has_record.store(!record.is_clean(), Ordering::Relaxed);
            }
            return;
        }
        if outliers.failures == 0 {
            return;
        }
        let tolerance = Tolerance {
            failures: outliers.failures,
            pause_us: outliers.pause.as_micros(),
            longest_pause_us: outliers.longest_pause.as_micros(),
        };
        self.has_record.store(true, Ordering::Relaxed);
        if self.record().failed(now_us, tolerance).is_some() {
            tracing::warn!(endpoint = %self.url, "an endpoint failed too often and is left alone for a while");
        }
    }

    /// It is new or back: it gets its share little by little.
    pub(super) fn cool(&self) {
        self.cold_since_us.store(COLD, Ordering::Relaxed);
    }

    /// Its weight in hundredths, less than all of it while it is new or back.
    pub(super) fn share(&self, slow_start_us: Option<u64>, now_us: u64) -> u32 {
        let warmth = match (slow_start_us, self.cold_since_us.load(Ordering::Relaxed)) {
            (None, _) | (_, WARM) => balance::WHOLE,
            (Some(takes_us), since_us) => {
                let since_us = if since_us == COLD { now_us.max(COLD + 1) } else { since_us };
                let warmth = balance::warmth(now_us.saturating_sub(since_us), takes_us);
                self.cold_since_us.store(if warmth == balance::WHOLE { WARM } else { since_us }, Ordering::Relaxed);
                warmth
            }
        };
        // A weight is ten thousand at most.
        self.weight * warmth
    }

    /// What a choice is made on, with its share as weight.
    pub(super) fn candidate(&self, share: u32) -> Candidate {
        Candidate { weight: share, in_flight: self.in_flight(), expected_us: self.expected_us.load(Ordering::Relaxed) }
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The expected time until an answer, in microseconds.
    pub fn expected_us(&self) -> u64 {
        self.expected_us.load(Ordering::Relaxed)
    }

    /// Whether probes find it well.
    pub fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }

    pub(super) fn set_well(&self, is_well: bool) {
        if is_well && !self.is_well() {
            self.cool();
        }
        self.is_well.store(is_well, Ordering::Relaxed);
    }

    /// Whether it gets no new requests by order of an operator.
    pub fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Relaxed)
    }

    /// Starts or stops draining it.
    pub fn drain(&self, is_drained: bool) {
        if !is_drained && self.is_drained() {
            self.cool();
        }
        self.is_drained.store(is_drained, Ordering::Relaxed);
    }
}
