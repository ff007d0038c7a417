//! `cargo xtask ci`: what CI runs, with the time that each step took.

use std::time::{Duration, Instant};

use crate::{packages, step};

/// Runs every step, also after one has failed, so that one run tells all.
pub(crate) fn run() -> Result<(), String> {
    packages::install_missing()?;
    let steps: [(&str, &[&str]); 5] = [
        ("format", &["fmt", "--all", "--check"]),
        ("lints", &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]),
        // What its default features hide (docs/adr/0010).
        ("lints without", &["clippy", "-p", "tessera-gateway", "--no-default-features", "--", "--deny", "warnings"]),
        ("build tests", &["test", "--workspace", "--no-run"]),
        ("test", &["test", "--workspace", "--no-fail-fast"]),
    ];
    let mut times: Vec<(&str, Duration, bool)> = Vec::new();
    let mut failures = Vec::new();
    for (name, arguments) in steps {
        let began = Instant::now();
        let done = step::run(step::cargo().args(arguments));
        times.push((name, began.elapsed(), done.is_ok()));
        failures.extend(done.err());
    }
    eprintln!();
    for (name, took, passed) in times {
        eprintln!("{name:13} {:>4} s  {}", took.as_secs(), if passed { "passed" } else { "FAILED" });
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}
