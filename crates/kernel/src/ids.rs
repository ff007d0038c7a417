//! Where ids come from. An id is a UUID v7 shown with a prefix, such as `run_0192…`; products wrap it in newtypes.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// Mints ids. Injected, so that tests can predict them.
pub trait Ids: Send + Sync {
    /// A new id, later than all before it from the same source up to the millisecond.
    fn next(&self) -> Uuid;
}

/// UUID v7 from the system's clock and randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    #[expect(clippy::disallowed_methods, reason = "this is the source that the ban points to")]
    fn next(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// Ids 1, 2, 3 … for tests.
#[derive(Debug, Default)]
pub struct FixedIds(AtomicU64);

impl Ids for FixedIds {
    fn next(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed) + 1))
    }
}
