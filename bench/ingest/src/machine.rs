//! Where it ran, and the versions of what ran.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::contender::Programs;

/// What a reader needs to know to compare.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    /// Load averages when it began: above a few tenths, others were at work too.
    pub(crate) load: String,
    pub(crate) tessera: String,
    pub(crate) tessera_bytes: u64,
    pub(crate) dlt: Option<String>,
}

pub(crate) fn look(programs: &Programs) -> Machine {
    let processor = after("/proc/cpuinfo", "model name").unwrap_or_default();
    let memory = after("/proc/meminfo", "MemTotal").unwrap_or_default();
    let memory_kib: u64 = memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let python = programs.python.as_deref();
    Machine {
        processor,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_gib: (memory_kib + (1 << 19)) >> 20,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        load: load.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
        tessera: said(&programs.tessera, &["version"]),
        tessera_bytes: fs::metadata(&programs.tessera).map_or(0, |file| file.len()),
        dlt: python.map(|python| {
            let versions = "import platform, dlt, pyarrow; print(\"dlt\", dlt.__version__ + \", pyarrow\", \
                            pyarrow.__version__ + \", Python\", platform.python_version())";
            said(python, &["-c", versions])
        }),
    }
}

fn after(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn said(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
