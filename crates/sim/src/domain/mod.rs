//! What is pure: decisions of fans, riders and drivers, what they see in a seat map or on the roads, how fair a line was, what must
//! hold of books, how latencies are counted.

pub mod book;
pub mod demand;
pub mod fairness;
pub mod fan;
pub mod latency;
pub mod map;
pub mod motion;
pub mod party;
pub mod roads;
pub mod season;
