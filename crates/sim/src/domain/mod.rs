//! What is pure: decisions of fans, what they see in a seat map, how fair a line was, how latencies are counted.

pub mod fairness;
pub mod fan;
pub mod latency;
pub mod map;
pub mod season;
