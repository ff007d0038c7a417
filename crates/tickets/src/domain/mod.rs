//! The rules of ticketing, pure: no async, no I/O, no clock. What needs the time or an id takes it as an argument.

pub mod catalogue;
pub mod choose;
pub mod code;
pub mod drawing;
pub mod event;
pub mod generate;
pub mod ids;
pub mod inventory;
pub mod order;
pub mod plan;
pub mod promo;
pub mod queue;
