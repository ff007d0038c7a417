//! Use cases: an on-sale under a crowd, with its books checked; the season of the demo, and the few who buy in it; a city of riders and
//! drivers, with its books checked, and the small one of the demo.

pub mod audit;
mod bots;
pub mod city;
pub mod crowd;
pub mod onsale;
pub mod report;
pub mod season;
pub mod stage;
pub mod tally;
pub mod visit;
mod waiting;
