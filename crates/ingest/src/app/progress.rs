//! A run as it can be watched from outside: counters that the run moves and others read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::source::Traffic;
use crate::store::Counts;

/// A run under way.
#[derive(Debug, Default)]
pub struct Progress {
    resources: Mutex<Vec<std::sync::Arc<ResourceProgress>>>,
}

/// One resource of it.
#[derive(Debug, Default)]
pub struct ResourceProgress {
    /// Its name.
    pub name: String,
    /// Rows written, those of a run before that was resumed included, those that are read again not.
    pub rows: AtomicU64,
    /// Rows that this process wrote; never falls.
    pub written: AtomicU64,
    /// The API's own total, where it gives one.
    expected: Mutex<Option<u64>>,
    /// Bytes of complete files.
    pub bytes: AtomicU64,
    /// Complete files.
    pub files: AtomicU64,
    /// Requests.
    pub traffic: Traffic,
    /// It has begun.
    pub began: AtomicBool,
    /// It is done.
    pub done: AtomicBool,
    /// It failed.
    pub failed: AtomicBool,
}

impl Progress {
    /// Adds a resource, in the order in which they are shown.
    pub fn add(&self, name: &str) -> std::sync::Arc<ResourceProgress> {
        let added = std::sync::Arc::new(ResourceProgress { name: name.to_owned(), ..ResourceProgress::default() });
        self.resources.lock().unwrap_or_else(PoisonError::into_inner).push(added.clone());
        added
    }

    /// All resources at this moment.
    pub fn view(&self) -> Vec<Counts> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|resource| resource.view()).collect()
    }
}

impl ResourceProgress {
    /// The API's own total, where it gives one; 0 is one too.
    pub fn expect(&self, rows: Option<u64>) {
        *self.expected.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    fn view(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let status = match (is(&self.failed), is(&self.done), is(&self.began)) {
            (true, ..) => "failed",
            (_, true, _) => "done",
            (_, _, true) => "running",
            _ => "waiting",
        };
        Counts {
            name: self.name.clone(),
            status: status.into(),
            rows: read(&self.rows),
            written: read(&self.written),
            expected_rows: *self.expected.lock().unwrap_or_else(PoisonError::into_inner),
            bytes: read(&self.bytes),
            files: read(&self.files),
            requests: read(&self.traffic.requests),
            retries: read(&self.traffic.retries),
            throttled: read(&self.traffic.throttled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_of_none_is_told_from_no_total() {
        let progress = Progress::default();
        let orders = progress.add("orders");
        let expected = || progress.view()[0].expected_rows;
        assert_eq!(expected(), None);
        orders.expect(Some(0));
        assert_eq!(expected(), Some(0), "nothing has changed, says the API");
        orders.expect(Some(46));
        assert_eq!(expected(), Some(46));
    }
}
