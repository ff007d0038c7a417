//! A new binary takes over from the one that runs, and no request is lost.
//!
//! The program is started again, as it was, with the sockets that this process listens on. When it says that it is ready this
//! one takes no more connections and lets those it has end. One that is not ready in time, or ends, changes nothing.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use tessera_kernel::Ids;
use tessera_service::run::Running;
use tessera_service::sockets::Sockets;
use tokio::process::{Child, Command};
use tokio::time::sleep;

/// Where the one that starts says that it is ready.
const TOLD_AT: &str = "TESSERA_HAND_OVER";
/// Where systemd wants to hear the same (`Type=notify`).
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
const READY: &str = "READY=1";
/// How long the next process may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The first descriptor of `LISTEN_FDS`.
const FIRST: i32 = 3;

/// Starts the program again with these sockets, and gives the id of the process that is ready to serve on them.
///
/// # Errors
/// Why there is none; then nothing has changed.
pub async fn begin(sockets: &Sockets, ids: &dyn Ids) -> Result<u32, String> {
    let place = Place::make(ids).map_err(|error| format!("there is no place for its word: {error}"))?;
    let mut next = Starting(Some(start(sockets, &place).map_err(|error| format!("it cannot be started: {error}"))?));
    tokio::select! {
        told = place.ready() => told.map_err(|error| format!("it cannot be heard: {error}"))?,
        status = next.ended() => return Err(format!("it ended before it was ready ({status}); its last line says why")),
        () = sleep(READY_WITHIN) => return Err(format!("it was not ready within {} s", READY_WITHIN.as_secs())),
    }
    let id = next.leave().ok_or("it ended as it became ready")?;
    // systemd follows the process that goes on.
    tell(std::env::var_os(NOTIFY_SOCKET), &format!("MAINPID={id}"));
    Ok(id)
}

/// Says that this process is ready, once it is: to the one that it takes over from, or to systemd.
pub async fn say_ready(running: &Running) {
    let Some(place) = std::env::var_os(TOLD_AT).or_else(|| std::env::var_os(NOTIFY_SOCKET)) else { return };
    while !running.waits_for().is_empty() {
        sleep(LOOK_EVERY).await;
    }
    tell(Some(place), READY);
}

/// Sends a word to a socket of systemd's kind: a path, or a name without one after `@`.
fn tell(place: Option<OsString>, word: &str) {
    let Some(place) = place.filter(|place| !place.is_empty()) else { return };
    let told = address(&place).and_then(|to| UnixDatagram::unbound()?.send_to_addr(word.as_bytes(), &to));
    if let Err(error) = told {
        tracing::warn!(%error, place = %place.display(), word, "nobody could be told");
    }
}

fn address(place: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let [b'@', name @ ..] = place.as_bytes() {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    SocketAddr::from_pathname(place)
}

/// The program as it was started: what lies there now may be a newer one.
fn start(sockets: &Sockets, place: &Place) -> io::Result<Child> {
    let mut words = std::env::args_os();
    let program = words
        .next()
        .filter(|program| !program.is_empty())
        .map_or_else(std::env::current_exe, |program| Ok(program.into()))?;
    let mut command = process::Command::new(program);
    let mappings: Vec<FdMapping> =
        (FIRST..).zip(sockets.copies()?).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
    command.args(words).env("LISTEN_FDS", mappings.len().to_string()).env(TOLD_AT, &place.socket);
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    Command::from(command).spawn()
}

/// The next process, until it is ready: it ends with the attempt.
struct Starting(Option<Child>);

impl Starting {
    async fn ended(&mut self) -> String {
        match &mut self.0 {
            Some(child) => child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string()),
            None => std::future::pending().await,
        }
    }

    /// Leaves it to itself, and gives its id.
    fn leave(mut self) -> Option<u32> {
        self.0.take()?.id()
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // One that has ended already need not be.
            let _ = child.start_kill();
        }
    }
}

/// A folder that is nobody else's, with a socket in it.
struct Place {
    folder: PathBuf,
    socket: PathBuf,
    heard: tokio::net::UnixDatagram,
}

impl Place {
    fn make(ids: &dyn Ids) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("tessera-{}", ids.next().simple()));
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let socket = folder.join("ready");
        match tokio::net::UnixDatagram::bind(&socket) {
            Ok(heard) => Ok(Self { folder, socket, heard }),
            Err(error) => {
                let _ = fs::remove_dir(&folder);
                Err(error)
            }
        }
    }

    async fn ready(&self) -> io::Result<()> {
        let mut word = [0; 256];
        loop {
            let count = self.heard.recv(&mut word).await?;
            if &word[..count] == READY.as_bytes() {
                return Ok(());
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is an empty socket in a folder for what is temporary.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
