//! A PostgreSQL server of one's own.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::free_port;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const START_ATTEMPTS: usize = 3;
const PACKAGE: &str = "postgresql";

/// Runs the server until its stdin closes, which happens when the test drops it or dies, and then removes its folder.
const KEEPER: &str = r#"
"$@" </dev/null &
pid=$!
read -r _ignored
kill -INT "$pid" 2>/dev/null
wait "$pid"
[ -e "$FOLDER/keep" ] || rm -rf "$FOLDER"
"#;

/// A running server. It stops when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    keeper: Child,
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
}

/// Starts a server on a free port in a temporary folder. As root it runs as `nobody`, since PostgreSQL refuses root.
///
/// # Panics
/// Where there is no PostgreSQL, saying what to install, or where it does not start, with its log.
pub fn start() -> Postgres {
    let bin = find_bin();
    let folder = tempfile::Builder::new().prefix("tessera-pg-").tempdir().expect("a temporary folder").keep();
    let as_root = is_root();
    if as_root {
        run(Command::new("chown").arg("nobody").arg(&folder));
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).expect("the folder's permissions");
    let data = folder.join("data");
    let mut init = as_nobody(as_root, &bin.join("initdb"));
    init.args(["--auth=trust", "--username=tessera", "--encoding=UTF8", "--no-locale", "--no-sync", "--pgdata"]);
    run(init.arg(&data));
    for _ in 0..START_ATTEMPTS {
        let port = free_port();
        match try_start(&bin, as_root, &folder, &data, port) {
            Some(keeper) => return Postgres { keeper, folder, port, databases: AtomicU32::new(0) },
            // The port may have been taken in between.
            None => continue,
        }
    }
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    panic!("PostgreSQL in {} did not start: {log}", bin.display());
}

impl Postgres {
    /// The URL of the database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Makes an empty database and gives its URL.
    pub fn new_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut create = Command::new(find_bin_of("createdb"));
        create.args(["-h", "127.0.0.1", "-U", "tessera", "-p"]).arg(self.port.to_string()).arg(&name);
        run(&mut create);
        self.url_of(&name)
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills all of it, at once and without its noticing, and starts it again on the same port with what it had on disk.
    ///
    /// # Panics
    /// Where it does not start again, with its log.
    pub fn kill_and_restart(&mut self) {
        let data = self.folder.join("data");
        let status = std::fs::read_to_string(data.join("postmaster.pid")).expect("the file of a running server");
        let server = status.lines().next().expect("a process id first").to_owned();
        // Its children first, or they would see it go.
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &server]).output().expect("ps");
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        std::fs::write(self.folder.join("keep"), b"").expect("a file in the server's folder");
        run(Command::new("kill").arg("-KILL").arg(&server));
        // A child that has ended by itself meanwhile needs no signal.
        let _ = Command::new("kill").arg("-KILL").args(children.split_whitespace()).stderr(Stdio::null()).status();
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        for old in [self.folder.join("keep"), data.join("postmaster.pid")] {
            let _ = std::fs::remove_file(old);
        }
        let started =
            (0..START_ATTEMPTS).find_map(|_| try_start(&find_bin(), is_root(), &self.folder, &data, self.port));
        self.keeper = started.unwrap_or_else(|| {
            panic!("{}", std::fs::read_to_string(self.folder.join("log")).unwrap_or_default());
        });
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://tessera@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn try_start(bin: &Path, as_root: bool, folder: &Path, data: &Path, port: u16) -> Option<Child> {
    let log = std::fs::File::create(folder.join("log")).expect("the server's log");
    let postgres = bin.join("postgres");
    let mut keeper = as_nobody(as_root, Path::new("sh"));
    keeper.args(["-c", KEEPER, "keeper"]).arg(postgres).arg("-D").arg(data).arg("-k").arg(folder);
    // Durability is the engine's business, not the tests'.
    keeper.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-F", "-c", "max_connections=100"]);
    keeper.env("FOLDER", folder).stdin(Stdio::piped()).stdout(log.try_clone().expect("the server's log")).stderr(log);
    let mut keeper = keeper.spawn().expect("sh");
    let began = Instant::now();
    while began.elapsed() < START_TIMEOUT {
        let ready = std::fs::read_to_string(data.join("postmaster.pid"))
            .is_ok_and(|status| status.lines().nth(7).is_some_and(|line| line.trim() == "ready"));
        if ready {
            return Some(keeper);
        }
        // Who comes before it is up is told so, and may come again.
        let fatal = |line: &str| line.contains("FATAL") && !line.contains("the database system is");
        if std::fs::read_to_string(folder.join("log")).is_ok_and(|log| log.lines().any(fatal)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // A keeper that has given up has also removed the folder: keep the log for the message.
    let text = std::fs::read(folder.join("log")).unwrap_or_default();
    let _ = keeper.kill();
    let _ = keeper.wait();
    let _ = std::fs::create_dir_all(folder);
    let _ = std::fs::File::create(folder.join("log")).and_then(|mut log| log.write_all(&text));
    None
}

/// The command as it is, or as user `nobody`.
pub(crate) fn as_nobody(as_root: bool, program: &Path) -> Command {
    let mut command = if as_root { Command::new("setpriv") } else { Command::new(program) };
    if as_root {
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program);
    }
    command.current_dir("/").env_remove("PGDATA").env_remove("PGPORT").env_remove("PGHOST");
    command
}

pub(crate) fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id");
    output.stdout.trim_ascii() == b"0"
}

/// The folder of the newest PostgreSQL that has both programs which a server needs.
fn find_bin() -> PathBuf {
    let whole = |folder: &PathBuf| folder.join("postgres").is_file() && folder.join("initdb").is_file();
    let found = folders().into_iter().find(whole);
    found.unwrap_or_else(|| panic!("no PostgreSQL server here; install it: apt-get install -y {PACKAGE}"))
}

fn find_bin_of(program: &str) -> PathBuf {
    let found = folders().into_iter().map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no `{program}` here; install it: apt-get install -y {PACKAGE}"))
}

/// Where Debian puts the server, the newest first, then `PATH`.
fn folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions.into_iter().map(|(_, folder)| folder).chain(std::env::split_paths(&path)).collect()
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
