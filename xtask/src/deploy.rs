//! `cargo xtask test-deploy`: the files of `deploy/` under test, with the real Airflow and its Amazon provider from PyPI
//! in a virtual environment under `target/`. Apart from `test`, because the first run downloads for minutes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

/// What is installed; the environment is made anew when one of them changes.
const REQUIREMENTS: [&str; 3] =
    ["deploy/airflow/requirements.txt", "deploy/airflow/constraints.txt", "deploy/tests/requirements.txt"];

/// The suites, each a process of its own: Airflow reads its configuration once a process.
const SUITES: [(&str, &str); 2] =
    [("image, compose, ECS, Kubernetes", "deploy/tests"), ("Airflow DAGs", "deploy/airflow/tests")];

/// Oldest Python that the pinned Airflow runs on.
const MIN_PYTHON: (u32, u32) = (3, 10);

/// Installs what the tests of `deploy/` need, runs them, and prints how long each part took.
pub fn test() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask has no parent folder")?;
    let venv = root.join("target/deploy-venv");
    timed("virtual environment", || prepare(root, &venv))?;
    let python = venv.join("bin/python");
    for (name, folder) in SUITES {
        timed(name, || {
            let arguments = ["-m", "pytest", "--quiet", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore", folder];
            run(Command::new(&python).args(arguments).current_dir(root).env("PYTHONDONTWRITEBYTECODE", "1"))
        })?;
    }
    Ok(())
}

/// Makes the environment, unless it is there with the same requirements.
fn prepare(root: &Path, venv: &Path) -> Result<(), String> {
    let mut wanted = String::new();
    for path in REQUIREMENTS {
        wanted += &fs::read_to_string(root.join(path)).map_err(|cause| format!("cannot read `{path}`: {cause}"))?;
    }
    let stamp = venv.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let python = find_python()?;
    if venv.exists() {
        fs::remove_dir_all(venv).map_err(|cause| format!("cannot remove `{}`: {cause}", venv.display()))?;
    }
    // The module may be there without `ensurepip`, as on Debian without python3-venv: only making one tells.
    run(Command::new(&python).args(["-m", "venv"]).arg(venv)).map_err(|cause| {
        format!("{cause}; if the module is missing, install it: apt-get install --yes python3-venv (Debian, Ubuntu)")
    })?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.current_dir(root).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--requirement", REQUIREMENTS[0], "--constraint", REQUIREMENTS[1], "--requirement", REQUIREMENTS[2]]);
    run(&mut pip)?;
    fs::write(&stamp, wanted).map_err(|cause| format!("cannot write `{}`: {cause}", stamp.display()))
}

/// The first Python on PATH that is new enough.
fn find_python() -> Result<PathBuf, String> {
    let (major, minor) = MIN_PYTHON;
    let check = format!("import sys; sys.exit(sys.version_info < ({major}, {minor}))");
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join("python3"))
        .filter(|python| python.is_file())
        .find(|python| Command::new(python).args(["-c", &check]).status().is_ok_and(|status| status.success()))
        .ok_or_else(|| {
            format!(
                "no `python3` of {major}.{minor} or newer on PATH; install it: \
                 apt-get install --yes python3 python3-venv (Debian, Ubuntu), dnf install python3 (Fedora)"
            )
        })
}

fn timed(name: &str, step: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    println!("test-deploy: {name}");
    let start = Instant::now();
    let done = step();
    println!("test-deploy: {name}: {:.1} s", start.elapsed().as_secs_f64());
    done
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|cause| format!("cannot start `{program}`: {cause}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{command:?}` ended with {status}")) }
}
