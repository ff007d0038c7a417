//! `cargo xtask test`: everything that the tests need, then all tests, with plain cargo.

use crate::{packages, python, step};

/// What the tests need of Python.
const REQUIREMENTS: &str = "crates/testkit/python/requirements.txt";

/// Installs what is missing and runs the tests; `arguments` go to `cargo test`, and may name packages to test alone.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    packages::install_missing()?;
    let venv = step::root().join("target/test-venv");
    python::prepare(&venv, &[REQUIREMENTS], &["--requirement", REQUIREMENTS])?;
    let chosen = arguments.iter().any(|argument| matches!(*argument, "-p" | "--package"));
    let whole = if chosen { None } else { Some("--workspace") };
    step::run(step::cargo().arg("test").args(whole).arg("--no-fail-fast").args(arguments))
}
