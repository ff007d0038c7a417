//! `tessera serve rides` as a process of its own, on an embedded store in a temporary folder or on servers that are named.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tessera_kernel::SystemClock;
use tessera_service::Keys;
use tokio::net::TcpStream;

/// How long tokens count.
const DAY: Duration = Duration::from_secs(86_400);

/// A running server, killed when this goes.
pub struct Server {
    child: Child,
    base: String,
    keys: Keys,
    client: reqwest::Client,
    /// The URL of its database.
    pub store: String,
    _data: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts the binary with these settings (`RIDES__MATCHING__POLICY`, …), and waits until it listens.
    ///
    /// # Errors
    /// Where it does not start, or ends.
    pub async fn start(
        tessera: &Path,
        store: Option<String>,
        network: Option<&Path>,
        settings: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let store = store.unwrap_or_else(|| format!("sqlite:{}", data.path().join("rides.db").display()));
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(tessera);
        command.args(["serve", "rides", "--listen", &address.to_string(), "--data"]).arg(data.path());
        command.env("RUST_LOG", "warn").env("TESSERA__RIDES__STORE", &store).stdout(Stdio::null());
        if let Some(network) = network {
            command.env("TESSERA__RIDES__NETWORK", network);
        }
        command.envs(settings.iter().map(|(name, value)| (format!("TESSERA__{name}"), value)));
        let child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
        let client = tessera_service::client::builder().pool_max_idle_per_host(256).build()?;
        // The server makes the key where there is none; both take the one that was first.
        let keys = Keys::open(data.path(), Arc::new(SystemClock))?;
        let base = format!("http://{address}");
        let mut server = Self { child, base, keys, client, store, _data: data };
        for _ in 0..500 {
            if TcpStream::connect(address).await.is_ok() {
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("{command:?} ended: {status}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the server does not listen on {address}")
    }

    /// A token.
    ///
    /// # Errors
    /// Those of the key.
    pub fn token(&self, subject: &str, role: &str) -> anyhow::Result<String> {
        Ok(self.keys.sign_token(subject, &[role.to_owned()], DAY)?)
    }

    /// Asks, and gives the status and the body.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn ask(&self, token: &str, method: &str, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let mut ask = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(token);
        if !body.is_null() {
            ask = ask.header("content-type", "application/json").body(body.to_string());
        }
        let answer = ask.send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_slice(&answer.bytes().await?).unwrap_or_default()))
    }

    /// The same, which must succeed.
    ///
    /// # Errors
    /// What the server says.
    pub async fn must(&self, token: &str, method: &str, path: &str, body: Value) -> anyhow::Result<Value> {
        let (status, answer) = self.ask(token, method, path, &body).await?;
        ensure!(status < 300, "{method} {path}: {status} {answer}");
        Ok(answer)
    }

    /// Positions in the compact form.
    ///
    /// # Errors
    /// What the server says.
    pub async fn locate(&self, token: &str, body: Vec<u8>) -> anyhow::Result<()> {
        let ask = self.client.post(format!("{}/drivers/location/update", self.base)).bearer_auth(token);
        let answer = ask.header("content-type", "application/octet-stream").body(body).send().await?;
        ensure!(answer.status().is_success(), "positions: {}", answer.status());
        Ok(())
    }

    /// User and system time so far, seconds (proc(5), fields 14 and 15, in hundredths of a second).
    ///
    /// # Errors
    /// Where it has ended.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after = stat.rsplit_once(')').context("stat")?.1;
        let ticks: Vec<u64> = after.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
    }
}
