//! The processes under test, which share a database and a key.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tessera_kernel::SystemClock;
use tessera_service::Keys;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// How long a process may take to start, on a machine that is busy with other things.
const START: Duration = Duration::from_secs(120);
/// How often one is started that gave up, since its database did not open in time.
const STARTS: usize = 5;
/// How long to wait before asking again whether it listens.
const PAUSE: Duration = Duration::from_millis(20);

/// All of them.
pub struct Servers {
    servers: Vec<Server>,
    keys: Keys,
    tessera: PathBuf,
    store: String,
    redis: Option<String>,
    /// Removed at the end.
    _folder: tempfile::TempDir,
}

struct Server {
    process: Child,
    address: SocketAddr,
    data: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Servers {
    pub async fn start(tessera: &Path, store: &str, redis: Option<&str>, count: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let keys = Keys::open(&folder.path().join("0"), Arc::new(SystemClock))?;
        let (store, redis) = (store.to_owned(), redis.map(str::to_owned));
        let mut servers =
            Self { servers: Vec::new(), keys, tessera: tessera.to_owned(), store, redis, _folder: folder };
        for number in 0..count {
            let data = servers._folder.path().join(number.to_string());
            if number > 0 {
                std::fs::create_dir_all(data.join("keys"))?;
                std::fs::copy(servers._folder.path().join("0/keys/identity.pk8"), data.join("keys/identity.pk8"))?;
            }
            let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            let mut process = servers.spawn(&data, address)?;
            ensure!(listens(address, &mut process).await?, "the server does not listen on {address}");
            servers.servers.push(Server { process, address, data });
        }
        Ok(servers)
    }

    pub fn count(&self) -> usize {
        self.servers.len()
    }

    pub fn address(&self, number: usize) -> SocketAddr {
        self.servers[number].address
    }

    pub fn token(&self, subject: &str, role: &str) -> anyhow::Result<String> {
        Ok(self.keys.sign_token(subject, &[role.to_owned()], Duration::from_secs(86_400))?)
    }

    /// Ends a process where it stands (SIGKILL) and starts another in its place.
    pub async fn kill_and_restart(&mut self, number: usize) -> anyhow::Result<()> {
        let (address, data) = (self.servers[number].address, self.servers[number].data.clone());
        self.servers[number].process.kill()?;
        self.servers[number].process.wait()?;
        for _ in 0..STARTS {
            self.servers[number].process = self.spawn(&data, address)?;
            if listens(address, &mut self.servers[number].process).await? {
                return Ok(());
            }
        }
        bail!("the server does not listen on {address}")
    }

    fn spawn(&self, data: &Path, address: SocketAddr) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.tessera);
        command.args(["serve", "tickets", "--listen", &address.to_string(), "--data"]).arg(data);
        command.env("RUST_LOG", "error").env("TESSERA__TICKETS__STORE", &self.store).stdout(Stdio::null());
        command.env("TESSERA__TICKETS__PAYMENTS__TIMEOUT_S", "2");
        if let Some(redis) = &self.redis {
            command.env("TESSERA__TICKETS__REDIS", redis);
        }
        command.spawn().with_context(|| format!("{} does not start", self.tessera.display()))
    }
}

/// Whether it listens, or has ended before.
async fn listens(address: SocketAddr, process: &mut Child) -> anyhow::Result<bool> {
    let until = tokio::time::Instant::now() + START;
    while tokio::time::Instant::now() < until {
        if TcpStream::connect(address).await.is_ok() {
            return Ok(true);
        }
        if process.try_wait()?.is_some() {
            return Ok(false);
        }
        sleep(PAUSE).await;
    }
    bail!("the server does not listen on {address}")
}
