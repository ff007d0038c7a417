//! Virtual environments under `target/`, made once for their requirements.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::step;

/// Oldest Python that everything pinned here runs on.
const MIN_PYTHON: (u32, u32) = (3, 10);

/// Makes an environment in `venv` by pip's `arguments`, unless it is there with the same text in `requirements`.
pub(crate) fn prepare(venv: &Path, requirements: &[&str], arguments: &[&str]) -> Result<(), String> {
    let mut wanted = String::new();
    for path in requirements {
        let file = step::root().join(path);
        wanted += &fs::read_to_string(file).map_err(|cause| format!("cannot read `{path}`: {cause}"))?;
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
    step::run(Command::new(&python).args(["-m", "venv"]).arg(venv)).map_err(|cause| {
        format!("{cause}; if the module is missing, install it: apt-get install --yes python3-venv (Debian, Ubuntu)")
    })?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.current_dir(step::root()).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    step::run(pip.args(arguments))?;
    fs::write(&stamp, wanted).map_err(|cause| format!("cannot write `{}`: {cause}", stamp.display()))
}

/// Whether there is a Python that can make environments.
pub(crate) fn can_prepare() -> bool {
    find_python().is_ok_and(|python| succeeds(Command::new(python).args(["-c", "import ensurepip, venv"])))
}

/// The first Python on PATH that is new enough.
fn find_python() -> Result<PathBuf, String> {
    let (major, minor) = MIN_PYTHON;
    let check = format!("import sys; sys.exit(sys.version_info < ({major}, {minor}))");
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join("python3"))
        .filter(|python| python.is_file())
        .find(|python| succeeds(Command::new(python).args(["-c", &check])))
        .ok_or_else(|| {
            format!(
                "no `python3` of {major}.{minor} or newer on PATH; install it: \
                 apt-get install --yes python3 python3-venv (Debian, Ubuntu), dnf install python3 (Fedora)"
            )
        })
}

fn succeeds(command: &mut Command) -> bool {
    command.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
}
