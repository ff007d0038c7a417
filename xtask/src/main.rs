//! Chores: `cargo xtask test | ci | bench`.
fn main() {}
