//! `tessera serve rides` as a process of its own, on an embedded store in a temporary folder or on servers that are named.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;
use tessera_bench::process::Process;
use tessera_kernel::SystemClock;
use tessera_service::Keys;

/// How long tokens count.
const DAY: Duration = Duration::from_secs(86_400);

/// A running server, killed when this goes.
pub struct Server {
    process: Process,
    base: String,
    keys: Keys,
    client: reqwest::Client,
    /// The URL of its database.
    pub store: String,
    _data: tempfile::TempDir,
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
        let mut command = Command::new(tessera);
        command.args(["serve", "rides", "--data"]).arg(data.path());
        command.env("RUST_LOG", "warn").env("TESSERA__RIDES__STORE", &store);
        if let Some(network) = network {
            command.env("TESSERA__RIDES__NETWORK", network);
        }
        command.envs(settings.iter().map(|(name, value)| (format!("TESSERA__{name}"), value)));
        let process = Process::start(&mut command).await?;
        let client = tessera_service::client::builder().pool_max_idle_per_host(256).build()?;
        // The server makes the key where there is none; both take the one that was first.
        let keys = Keys::open(data.path(), Arc::new(SystemClock))?;
        let base = format!("http://{}", process.address);
        Ok(Self { process, base, keys, client, store, _data: data })
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

    /// User and system time so far, seconds.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        self.process.cpu_s()
    }
}
