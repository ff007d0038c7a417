//! What the tests need from the machine beyond rustup and a C compiler, and how to get it.

use std::path::{Path, PathBuf};

use crate::{python, step};

/// A Debian package, and what shows that it is there.
struct Package {
    name: &'static str,
    programs: Programs,
    needed_for: &'static str,
}

/// What shows that a package is there.
enum Programs {
    /// One of these programs.
    One(&'static [&'static str]),
    /// A Python that can make virtual environments.
    PythonWithVenv,
}

const NEEDED: &[Package] = &[
    Package { name: "postgresql", programs: Programs::One(&["postgres"]), needed_for: "the stores, and loading" },
    Package {
        name: "redis-server",
        programs: Programs::One(&["redis-server"]),
        needed_for: "claims and lines in Redis",
    },
    Package { name: "faketime", programs: Programs::One(&["faketime"]), needed_for: "processes whose clocks differ" },
    Package {
        name: "chromium",
        programs: Programs::One(&["chromium", "chromium-browser", "google-chrome"]),
        needed_for: "the pages",
    },
    Package { name: "chromium-driver", programs: Programs::One(&["chromedriver"]), needed_for: "the pages" },
    Package { name: "python3-venv", programs: Programs::PythonWithVenv, needed_for: "gRPC from another hand" },
];

/// Installs what is missing where it may (Debian, as root); otherwise says what to run.
pub(crate) fn install_missing() -> Result<(), String> {
    let missing: Vec<&Package> = NEEDED.iter().filter(|package| !is_here(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if is_root() && find("apt-get").is_some() {
        step::run(step::command("apt-get").args(["update", "-q"]))?;
        let mut install = step::command("apt-get");
        install.args(["install", "-y", "-q", "--no-install-recommends"]).args(&names);
        return step::run(install.env("DEBIAN_FRONTEND", "noninteractive"));
    }
    let reasons: Vec<String> =
        missing.iter().map(|package| format!("{} (for {})", package.name, package.needed_for)).collect();
    Err(format!(
        "the tests need {}; install with:\n  sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
        reasons.join(", "),
        names.join(" ")
    ))
}

fn is_here(package: &Package) -> bool {
    match package.programs {
        Programs::One(programs) => programs.iter().any(|program| find(program).is_some()),
        Programs::PythonWithVenv => python::can_prepare(),
    }
}

/// A program in `PATH`, or where Debian keeps PostgreSQL's servers.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let servers = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = std::env::split_paths(&path).chain(servers.map(|entry| entry.path().join("bin")));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|process| process.uid() == 0)
}
