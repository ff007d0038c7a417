//! The workspace's binaries as real processes.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a test waits for a line or an exit before it fails.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The path of one of the workspace's binaries, in the same profile as this test. Built now, where the run of the tests
/// did not build it: `cargo test --workspace` does.
pub fn path(package: &str, name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let folder = test.ancestors().find(|folder| folder.file_name() != Some(OsStr::new("deps")) && folder.is_dir());
    let folder = folder.expect("a test lives in target/<profile>/deps");
    let path = folder.join(name);
    if !path.is_file() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--package", package, "--bin", name]);
        if folder.file_name() == Some(OsStr::new("release")) {
            build.arg("--release");
        }
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(built.is_ok_and(|status| status.success()) && path.is_file(), "{build:?} did not make {path:?}");
    }
    path
}

/// The path of `tessera`.
pub fn tessera() -> PathBuf {
    path("tessera-tessera", "tessera")
}

/// A running process whose output is kept. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: Output,
    stderr: Output,
}

/// How a process ended and all that it said.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Finished {
    /// The exit code; a process killed by a signal has none.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl Process {
    /// Starts a command with its output piped and nothing on stdin.
    pub fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = Output::read(child.stdout.take().expect("piped"));
        let stderr = Output::read(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    /// Starts `tessera` with these arguments, without the settings of this process's environment.
    pub fn tessera<A: AsRef<OsStr>>(binary: &Path, arguments: impl IntoIterator<Item = A>) -> Self {
        Self::spawn(tessera_command(binary).args(arguments))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of stdout that contains `text` and gives it.
    ///
    /// # Panics
    /// When the process ends, or five minutes pass, without it.
    pub fn wait_for(&self, text: &str) -> String {
        self.stdout.wait_for(text).unwrap_or_else(|| {
            panic!("no line with `{text}`; stdout: {}; stderr: {}", self.stdout.text(), self.stderr.text())
        })
    }

    /// Waits for a line of stderr that contains `text` and gives it.
    ///
    /// # Panics
    /// When the process ends, or five minutes pass, without it.
    pub fn wait_for_stderr(&self, text: &str) -> String {
        self.stderr.wait_for(text).unwrap_or_else(|| {
            panic!("no line with `{text}`; stdout: {}; stderr: {}", self.stdout.text(), self.stderr.text())
        })
    }

    /// What it has said on stderr up to now.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Sends a signal by its name: `TERM`, `INT`, `KILL`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).stderr(Stdio::null()).status();
        // A process that has ended on its own needs no signal.
        let _ = sent.expect("kill");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When five minutes pass without it.
    pub fn wait(mut self) -> Finished {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                break status;
            }
            assert!(began.elapsed() < TIMEOUT, "it does not end; stderr: {}", self.stderr.text());
            std::thread::sleep(Duration::from_millis(5));
        };
        Finished { status, stdout: self.stdout.whole(), stderr: self.stderr.whole() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `tessera`, without the settings of this process's environment.
pub fn tessera_command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    let foreign = ["RUST_LOG", "OTEL_EXPORTER_OTLP_ENDPOINT", "RUN_TYPE", "run_type"];
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| name.starts_with("TESSERA_") || name.starts_with("RUN_"));
        if ours || foreign.iter().any(|foreign| name == *foreign) {
            command.env_remove(name);
        }
    }
    command
}

/// Sets a command's clock off by so many seconds: behind where negative. How fast it goes stays.
///
/// # Panics
/// Where there is no `faketime`, saying what to install.
pub fn set_clock_off(command: &mut Command, seconds: i64) {
    // It would stay between us and the process, and take the signals: only what it sets is used.
    let asked = Command::new("faketime").args(["-f", "+0s", "printenv", "LD_PRELOAD"]).output();
    let library = asked.ok().filter(|output| output.status.success());
    let library = library.unwrap_or_else(|| panic!("no `faketime` here; install it: apt-get install -y faketime"));
    command.env("LD_PRELOAD", String::from_utf8_lossy(library.stdout.trim_ascii()).into_owned());
    // Of the system's clocks only the one that tells the time of day.
    command.env("FAKETIME", format!("{seconds:+}s")).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}

/// What a process says, read by a thread so that it never blocks on a full pipe.
#[derive(Clone, Debug)]
struct Output(Arc<(Mutex<Said>, Condvar)>);

#[derive(Debug, Default)]
struct Said {
    text: String,
    ended: bool,
}

impl Output {
    fn read(stream: impl Read + Send + 'static) -> Self {
        let output = Self(Arc::default());
        let shared = output.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stream);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                shared.change(|said| said.text.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
            shared.change(|said| said.ended = true);
        });
        output
    }

    fn change(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.0.0.lock().expect("no reader panics"));
        self.0.1.notify_all();
    }

    fn text(&self) -> String {
        self.0.0.lock().expect("no reader panics").text.clone()
    }

    fn wait_for(&self, text: &str) -> Option<String> {
        let found = |said: &Said| said.text.lines().find(|line| line.contains(text)).map(str::to_owned);
        let said = self.0.0.lock().expect("no reader panics");
        let waiting = |said: &mut Said| !said.ended && found(said).is_none();
        let (said, _) = self.0.1.wait_timeout_while(said, TIMEOUT, waiting).expect("no reader panics");
        found(&said)
    }

    /// Everything up to the end of the stream.
    fn whole(&self) -> String {
        let said = self.0.0.lock().expect("no reader panics");
        let (said, _) = self.0.1.wait_timeout_while(said, TIMEOUT, |said| !said.ended).expect("no reader panics");
        said.text.clone()
    }
}
