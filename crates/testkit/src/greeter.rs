//! A gRPC service and a client on Python's grpcio (`python/greeter.py`): peers that do not come from this project.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

/// Its description with the rules of transcoding, as a descriptor set.
pub const DESCRIPTORS: &[u8] = include_bytes!("../python/greeter.pb");

/// The service. It ends when this is dropped or the test dies.
#[derive(Debug)]
pub struct Greeter {
    process: Child,
    /// It serves until this is closed.
    input: Option<ChildStdin>,
    /// Where it listens.
    pub address: SocketAddr,
}

/// How a client finds the other side to be whom it wants.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'t> {
    /// No TLS.
    Plain,
    /// By a certificate of the authority in this file, for this name.
    Tls(&'t Path, &'t str),
}

impl Greeter {
    /// Serves on a free port of 127.0.0.1, by TLS where `tls` names files with a chain and its key.
    ///
    /// # Panics
    /// Where there is no grpcio, saying what installs it, or where it does not start.
    pub fn start(tls: Option<(&Path, &Path)>) -> Self {
        let mut command = script("serve");
        if let Some((chain, key)) = tls {
            command.arg("--tls").args([chain, key]);
        }
        let mut process = command.spawn().expect("the greeter");
        let input = process.stdin.take();
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("its port");
        let port: u16 = line.trim().parse().expect("the greeter says its port; what it says instead is above");
        Self { process, input, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// Makes calls one after the other, and gives what came of each: `messages`, `code`, `details`, `initial` and `trailing`
/// metadata, and the `rich` details of a failure.
///
/// # Panics
/// Where the client itself fails.
pub fn call(address: SocketAddr, trust: Trust<'_>, calls: &[Value]) -> Vec<Value> {
    let mut command = script("call");
    command.arg(address.to_string());
    if let Trust::Tls(authority, name) = trust {
        command.arg("--tls").arg(authority).arg(name);
    }
    let mut process = command.spawn().expect("the client");
    let mut input = process.stdin.take().expect("its input");
    for call in calls {
        writeln!(input, "{call}").expect("the client takes a call");
    }
    drop(input);
    let output = process.wait_with_output().expect("what came of it");
    assert!(output.status.success(), "the client ended with {}", output.status);
    let lines = String::from_utf8_lossy(&output.stdout);
    lines.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn script(verb: &str) -> Command {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python());
    command.arg(here.join("python/greeter.py")).arg(verb).env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// The Python that has what `python/requirements.txt` names.
fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-venv/bin/python");
    assert!(python.exists(), "no `{}`; `cargo xtask test` makes it, with grpcio", python.display());
    python
}
