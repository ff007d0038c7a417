//! A gateway is handed over from process to process while callers who forgive nothing go on asking.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use tessera_testkit::bin::{Process, tessera_command};
use tessera_testkit::caller::{Caller, Keeps};
use tessera_testkit::reference::text;
use tessera_testkit::{ScratchDir, free_port};
use tokio::task::JoinSet;

use crate::tessera;

/// Longer than anything here takes on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// A gateway whose binary and config are files of its own, which a test may change.
struct Venue {
    scratch: ScratchDir,
    door: SocketAddr,
    own: SocketAddr,
}

impl Venue {
    fn new() -> Self {
        let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let venue = Self { scratch: ScratchDir::new(), door: address(), own: address() };
        venue.install("exec -a \"$0\" \"$REAL\" \"$@\"");
        venue.configure("one");
        venue
    }

    /// What lies where the binary does: a script that becomes the real one under its own name, so that a test can tell which
    /// version runs.
    fn install(&self, script: &str) {
        self.bring(script);
        self.run("mv tessera.new tessera");
    }

    /// A version that is to be installed, written by a process of its own: none of the others here may have it open when it is
    /// run.
    fn bring(&self, script: &str) {
        self.run(&format!("cat > tessera.new <<'END'\n#!/bin/bash\n{script}\nEND\nchmod 755 tessera.new"));
    }

    fn run(&self, script: &str) {
        let folder = self.scratch.file("");
        let ran = Command::new("sh").args(["-ec", script]).current_dir(folder).status().unwrap();
        assert!(ran.success(), "{script}");
    }

    fn configure(&self, body: &str) {
        let routes = format!("[{{ name: all, match: {{ path: /* }}, respond: {{ body: \"{body}\" }} }}]");
        let listeners = format!("[{{ address: \"{}\" }}]", self.door);
        let text = format!(
            "version: 1\nworkers: 2\nlisteners: {listeners}\naccess_log: {{ format: \"off\" }}\nlimits: {{ drain: 20s }}\nroutes: {routes}\n"
        );
        self.scratch.write("gateway.yaml", &text);
    }

    fn arguments(&self) -> [String; 8] {
        let file = |name: &str| self.scratch.file(name).to_str().unwrap().to_owned();
        let (data, config, own) = (file("data"), file("gateway.yaml"), self.own.to_string());
        ["serve", "gateway", "--listen", &own, "--data", &data, "--gateway", &config].map(str::to_owned)
    }

    fn start(&self) -> Process {
        let mut command = tessera_command(&self.scratch.file("tessera"));
        command.args(self.arguments()).env("REAL", tessera());
        let process = Process::spawn(&mut command);
        process.wait_for("stop it with");
        process
    }
}

/// A process that was started by another one; it ends with the test.
struct Next(u32);

impl Next {
    /// That which a process has handed over to.
    fn after(first: &Process, id: u32) -> Self {
        let line = first.wait_for_stderr(&format!("\"message\":\"handed over\",\"from\":{id},"));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self(line["to"].as_u64().and_then(|id| id.try_into().ok()).unwrap())
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        signal(self.0, "KILL");
    }
}

/// The commands of the documentation.
fn documented() -> String {
    let document = text("docs/gateway.md");
    let (_, section) = document.split_once("**A new binary**").unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

fn signal(id: u32, name: &str) {
    // One that has ended needs no signal.
    let _ = Command::new("kill").args(["-s", name, &id.to_string()]).output().unwrap();
}

/// People who ask without a pause until they are told to stop.
struct Crowd {
    asking: JoinSet<()>,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Crowd {
    fn at(address: SocketAddr) -> Self {
        let (mut asking, stop, asked) = (JoinSet::new(), Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        for keeps in [Keeps::TheConnection, Keeps::Nothing].into_iter().cycle().take(8) {
            let (stop, asked) = (stop.clone(), asked.clone());
            asking.spawn(async move {
                let mut caller = Caller::new(address, keeps);
                while !stop.load(Ordering::SeqCst) {
                    let answered = caller.get("/").await.unwrap_or_else(|error| panic!("{keeps:?}: {error}"));
                    assert_eq!(answered.status, 200, "{answered:?}");
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { asking, stop, asked }
    }

    /// Until so many more were answered.
    async fn go_on(&self, count: usize) {
        let until = self.asked.load(Ordering::SeqCst) + count;
        let waiting = async {
            while self.asked.load(Ordering::SeqCst) < until {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }

    /// Fails where anybody's request did.
    async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.asking.join_next().await {
            ended.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_from_one_binary_to_the_next_and_the_one_after() {
    let venue = Venue::new();
    let first = venue.start();
    let crowd = Crowd::at(venue.door);
    crowd.go_on(200).await;
    venue.bring("echo \"the second version\" >&2; exec -a \"$0\" \"$REAL\" \"$@\"");
    venue.configure("two");
    // As the documentation says.
    let set = format!("TESSERA=./tessera GATEWAY_PID={}\n", first.id());
    venue.run(&(set + &documented()));
    let second = Next::after(&first, first.id());
    first.wait_for_stderr("the second version");
    crowd.go_on(200).await;
    venue.configure("three");
    signal(second.0, "USR2");
    let third = Next::after(&first, second.0);
    crowd.go_on(200).await;
    assert_eq!(Caller::new(venue.door, Keeps::Nothing).get("/").await.unwrap().body, "three");
    let ready = Caller::new(venue.own, Keeps::Nothing).get("/readyz").await.unwrap();
    assert_eq!(ready.status, 200, "its own port went along: {ready:?}");
    crowd.end().await;
    signal(third.0, "TERM");
    // The second and the third write where the first did, so that its output ends with theirs.
    let finished = tokio::task::spawn_blocking(|| first.wait()).await.unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert_eq!(finished.stderr.matches("\"message\":\"stopped\",\"in_time\":true").count(), 3, "{finished:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_serve_changes_nothing() {
    let venue = Venue::new();
    let first = venue.start();
    let crowd = Crowd::at(venue.door);
    let refused = |count: usize| {
        signal(first.id(), "USR2");
        while first.stderr().matches("not handed over").count() < count {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    venue.install("echo \"this is no gateway\" >&2; exit 3");
    refused(1);
    venue.install("exec -a \"$0\" \"$REAL\" \"$@\"");
    venue.scratch.write("gateway.yaml", "version: 2\n");
    refused(2);
    fs::remove_file(venue.scratch.file("tessera")).unwrap();
    refused(3);
    crowd.go_on(200).await;
    crowd.end().await;
    assert_eq!(Caller::new(venue.door, Keeps::Nothing).get("/").await.unwrap().body, "one");
    first.signal("TERM");
    let finished = tokio::task::spawn_blocking(|| first.wait()).await.unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    for said in ["this is no gateway", "exit status: 3", "gateway.yaml:1", "exit status: 2", "cannot be started"] {
        assert!(finished.stderr.contains(said), "{said}: {finished:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_systemd_are_listened_on_and_it_is_told_when_all_is_ready() {
    let venue = Venue::new();
    let bound = [venue.door, venue.own].map(|address| TcpListener::bind(address).unwrap());
    // A caller who is there before the gateway is.
    let early = tokio::spawn(async move { Caller::new(venue.door, Keeps::Nothing).get("/").await });
    let notify = venue.scratch.file("notify");
    let heard = UnixDatagram::bind(&notify).unwrap();
    let mut command = tessera_command(Path::new("sh"));
    // Whoever is started so knows by its own id that the sockets are meant for it.
    command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$@\"", "sh"]).arg(tessera()).args(venue.arguments());
    let numbered = (3..).zip(bound).map(|(child_fd, socket)| FdMapping { parent_fd: socket.into(), child_fd });
    command.fd_mappings(numbered.collect()).unwrap().env("NOTIFY_SOCKET", &notify);
    let process = Process::spawn(&mut command);
    // The test's own copies are closed, so that the process has the only ones.
    drop(command);
    process.wait_for("stop it with");
    let mut word = [0; 64];
    let count = heard.recv(&mut word).unwrap();
    assert_eq!(&word[..count], b"READY=1");
    assert_eq!(early.await.unwrap().unwrap().body, "one");
    assert_eq!(Caller::new(venue.own, Keeps::Nothing).get("/readyz").await.unwrap().status, 200);
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(0));
    assert!(TcpListener::bind(venue.door).is_ok(), "nobody listens any more");
}

#[tokio::test]
async fn products_with_embedded_stores_are_not_handed_over() {
    let scratch = ScratchDir::new();
    let data = scratch.file("data");
    let process =
        Process::tessera(tessera(), ["serve", "accounts", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
    process.wait_for("stop it with");
    process.signal("USR2");
    process.wait_for_stderr("embedded stores have one owner");
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(0));
}
