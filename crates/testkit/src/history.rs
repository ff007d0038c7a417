//! What rivals for a few seats did and were told, and whether it can have happened.
//!
//! - [`record`] keeps every request with when it was sent, when it was answered and what the answer was, or that there was
//!   none, and turns them into what each did to each seat;
//! - [`seat`] searches for an order of those steps in which a seat that is free, held or booked could have given these very
//!   answers: linearizability (Herlihy and Wing 1990), by the search of Wing and Gong with a memory of what was tried;
//! - [`books`] compares orders, tickets and the provider's ledger: money and seats agree to the unit.
//!
//! It is about the public API alone, and knows nothing of how it is answered.

pub mod books;
pub mod record;
pub mod seat;
