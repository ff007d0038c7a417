//! How many at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts what is under way, up to a limit.
#[derive(Debug, Default)]
pub struct Gate(AtomicU32);

/// A place within a gate, free again when this is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Gate>);

impl Gate {
    /// A place, where fewer than `limit` are taken.
    pub fn enter(self: &Arc<Self>, limit: u32) -> Option<Permit> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(self.clone());
        (before < limit).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let gate = Arc::new(Gate::default());
        let first = gate.enter(2).unwrap();
        let second = gate.enter(2).unwrap();
        assert!(gate.enter(2).is_none());
        drop(first);
        assert!(gate.enter(2).is_some());
        drop(second);
        assert!(gate.enter(1).is_some(), "all places are free");
    }
}
