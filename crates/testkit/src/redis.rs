//! A Redis server of one's own, or a cluster of three, which can be killed, emptied and put to sleep.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::free_port;
use crate::postgres::{as_nobody, is_root, run};

const START_TIMEOUT: Duration = Duration::from_secs(30);
const START_ATTEMPTS: usize = 3;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const PACKAGE: &str = "redis-server";
/// The slots of a cluster.
const SLOTS: usize = 16_384;

/// Runs the server until its stdin closes, which happens when the test drops it or dies, and then removes its folder. It
/// says the server's process id first.
const KEEPER: &str = r#"
"$@" </dev/null >"$FOLDER/log" 2>&1 &
pid=$!
echo "$pid"
read -r _ignored
kill -CONT "$pid" 2>/dev/null
kill -KILL "$pid" 2>/dev/null
wait "$pid"
[ -e "$FOLDER/keep" ] || rm -rf "$FOLDER"
"#;

/// A running server. It stops when this is dropped.
#[derive(Debug)]
pub struct Redis {
    keeper: Child,
    process: u32,
    folder: PathBuf,
    port: u16,
    /// The port of the cluster's bus, in a cluster.
    bus: Option<u16>,
}

/// Starts a server on a free port in a temporary folder; as root it runs as `nobody`. It writes every change to disk at
/// once (`appendfsync always`), so that what survives a kill is what Redis promises at its best.
///
/// # Panics
/// Where there is no Redis, saying what to install, or where it does not start, with its log.
pub fn start() -> Redis {
    Redis::launch(None)
}

impl Redis {
    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it, at once and without its noticing, and starts it again on the same port with what it had on disk.
    pub fn kill_and_restart(&mut self) {
        self.restart(|_folder| ());
    }

    /// Kills it, and starts it again on the same port with nothing.
    pub fn kill_and_lose_everything(&mut self) {
        self.restart(lose_everything);
    }

    /// Kills it, and leaves it so.
    pub fn kill(&mut self) {
        run(Command::new("kill").arg("-KILL").arg(self.process.to_string()));
        end_but_keep(&mut self.keeper, &self.folder);
    }

    /// Starts it again on the same port, after [`Redis::kill`], with nothing.
    pub fn start_again_empty(&mut self) {
        lose_everything(&self.folder);
        self.start();
    }

    /// Puts it to sleep: connections stay, nothing is answered.
    pub fn pause(&self) {
        run(Command::new("kill").arg("-STOP").arg(self.process.to_string()));
    }

    /// Wakes it up again.
    pub fn resume(&self) {
        run(Command::new("kill").arg("-CONT").arg(self.process.to_string()));
    }

    /// Sends a command, words parted by spaces, and gives the first line of the answer.
    pub fn command(&self, words: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        write!(stream, "{words}\r\nQUIT\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let answer = answer.strip_suffix("+OK\r\n").unwrap_or(&answer);
        // An answer in bulk has its length first.
        let text =
            if answer.starts_with('$') { answer.split_once("\r\n").map_or("", |(_, rest)| rest) } else { answer };
        Ok(text.trim_end().to_owned())
    }

    fn launch(bus: Option<u16>) -> Self {
        let folder = tempfile::Builder::new().prefix("tessera-redis-").tempdir().expect("a temporary folder").keep();
        if is_root() {
            run(Command::new("chown").arg("nobody").arg(&folder));
        }
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).expect("the folder's permissions");
        for _ in 0..START_ATTEMPTS {
            let port = free_port();
            if let Some((keeper, process)) = try_start(&folder, port, bus) {
                return Self { keeper, process, folder, port, bus };
            }
            // The port may have been taken in between.
        }
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        panic!("{} did not start: {log}", find_server().display());
    }

    fn restart(&mut self, between: impl FnOnce(&Path)) {
        self.kill();
        between(&self.folder);
        self.start();
    }

    fn start(&mut self) {
        let started = (0..START_ATTEMPTS).find_map(|_| try_start(&self.folder, self.port, self.bus));
        (self.keeper, self.process) = started.expect("Redis starts again");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Three servers that share the slots.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
}

/// Starts a cluster of three masters and waits until each of them knows all.
///
/// # Panics
/// As [`start`]; and where they do not find each other.
pub fn start_cluster() -> Cluster {
    let nodes: Vec<Redis> = (0..3).map(|_| Redis::launch(Some(free_port()))).collect();
    let ask = |node: &Redis, words: &str| node.command(words).expect("a node that answers");
    for (at, node) in nodes.iter().enumerate() {
        let (first, next) = (SLOTS * at / nodes.len(), SLOTS * (at + 1) / nodes.len());
        assert_eq!(ask(node, &format!("CLUSTER ADDSLOTSRANGE {first} {}", next - 1)), "+OK");
        assert_eq!(ask(node, &format!("CLUSTER SET-CONFIG-EPOCH {}", at + 1)), "+OK");
    }
    for node in &nodes[1..] {
        let bus = nodes[0].bus.unwrap_or_default();
        assert_eq!(ask(node, &format!("CLUSTER MEET 127.0.0.1 {} {bus}", nodes[0].port)), "+OK");
    }
    let began = Instant::now();
    let is_whole = |node: &Redis| {
        let info = ask(node, "CLUSTER INFO");
        ["cluster_state:ok", "cluster_known_nodes:3", "cluster_size:3"].iter().all(|line| info.contains(line))
    };
    while !nodes.iter().all(is_whole) {
        assert!(
            began.elapsed() < START_TIMEOUT,
            "the nodes did not find each other: {}",
            ask(&nodes[0], "CLUSTER INFO")
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Cluster { nodes }
}

impl Cluster {
    /// The URL that names all nodes.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The nodes.
    pub fn nodes(&mut self) -> &mut [Redis] {
        &mut self.nodes
    }
}

fn lose_everything(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("the server's folder").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            std::fs::remove_dir_all(entry.path()).expect("the server's data");
        }
    }
}

fn try_start(folder: &Path, port: u16, bus: Option<u16>) -> Option<(Child, u32)> {
    let port = port.to_string();
    let mut keeper = as_nobody(is_root(), Path::new("sh"));
    keeper.args(["-c", KEEPER, "keeper"]).arg(find_server()).args([
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
    ]);
    keeper.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(folder);
    if let Some(bus) = bus {
        // By itself it would be 10,000 higher, which may be past the end.
        let bus = bus.to_string();
        keeper.args(["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", &bus]);
    }
    // The log of the server before would say that this one is ready.
    for old in ["keep", "log"] {
        let _ = std::fs::remove_file(folder.join(old));
    }
    keeper.env("FOLDER", folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut keeper = keeper.spawn().expect("sh");
    let process = first_line(&mut keeper).trim().parse().expect("a process id");
    let began = Instant::now();
    while began.elapsed() < START_TIMEOUT {
        let ours =
            std::fs::read_to_string(folder.join("log")).is_ok_and(|log| log.contains("Ready to accept connections"));
        if ours {
            return Some((keeper, process));
        }
        if !is_running(process) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    end_but_keep(&mut keeper, folder);
    None
}

/// Ends a keeper that shall leave the folder, for the next one.
fn end_but_keep(keeper: &mut Child, folder: &Path) {
    std::fs::write(folder.join("keep"), b"").expect("a file in the server's folder");
    drop(keeper.stdin.take());
    let _ = keeper.wait();
}

/// Whether a process is there and not yet a zombie.
fn is_running(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

fn first_line(keeper: &mut Child) -> String {
    let mut output = keeper.stdout.take().expect("the keeper's output");
    let mut line = Vec::new();
    let mut byte = [0];
    while output.read(&mut byte).is_ok_and(|read| read == 1) && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("digits")
}

fn find_server() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("redis-server")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no Redis server here; install it: apt-get install -y {PACKAGE}"))
}
