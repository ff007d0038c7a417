//! `cargo xtask test-deploy`: the files of `deploy/` under test, with the real Airflow and its Amazon provider from PyPI
//! in a virtual environment under `target/`. Apart from `test`, because the first run downloads for minutes.

use std::time::Instant;

use crate::{python, step};

/// What is installed; the environment is made anew when one of them changes.
const REQUIREMENTS: [&str; 3] =
    ["deploy/airflow/requirements.txt", "deploy/airflow/constraints.txt", "deploy/tests/requirements.txt"];

/// The suites, each a process of its own: Airflow reads its configuration once a process.
const SUITES: [(&str, &str); 2] =
    [("image, compose, ECS, Kubernetes", "deploy/tests"), ("Airflow DAGs", "deploy/airflow/tests")];

/// Installs what the tests of `deploy/` need, runs them, and prints how long each part took.
pub fn test() -> Result<(), String> {
    let venv = step::root().join("target/deploy-venv");
    let [airflow, constraints, tests] = REQUIREMENTS;
    let wanted = ["--requirement", airflow, "--constraint", constraints, "--requirement", tests];
    timed("virtual environment", || python::prepare(&venv, &REQUIREMENTS, &wanted))?;
    let python = venv.join("bin/python");
    let python = python.to_str().ok_or("the project lies in a folder whose name is no text")?;
    for (name, folder) in SUITES {
        timed(name, || {
            let arguments = ["-m", "pytest", "--quiet", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore", folder];
            step::run(step::command(python).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1"))
        })?;
    }
    Ok(())
}

fn timed(name: &str, step: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    println!("test-deploy: {name}");
    let start = Instant::now();
    let done = step();
    println!("test-deploy: {name}: {:.1} s", start.elapsed().as_secs_f64());
    done
}
