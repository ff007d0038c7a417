//! `tessera serve tickets` as a process of its own, on embedded stores in a temporary folder.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tessera_kernel::{Clock, SystemClock};
use tessera_service::Keys;
use tokio::net::TcpStream;

use crate::client::Client;

/// How long tokens count.
const DAY: Duration = Duration::from_secs(86_400);

/// A process that listens, killed when this goes.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts it with `--listen ADDRESS`, and waits until it listens there.
    ///
    /// # Errors
    /// Where it does not start, or ends.
    pub async fn start(command: &mut Command) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = command.args(["--listen", &address.to_string()]).stdout(Stdio::null()).spawn();
        let mut process = Self { child: child.with_context(|| format!("{command:?} does not start"))?, address };
        for _ in 0..500 {
            if TcpStream::connect(address).await.is_ok() {
                return Ok(process);
            }
            if let Some(status) = process.child.try_wait()? {
                bail!("{command:?} ended: {status}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the server does not listen on {address}")
    }

    /// User and system time so far.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        cpu_s(&self.child.id().to_string())
    }

    /// Memory that is resident.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn memory_kb(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

/// The server.
pub struct Server {
    /// Its process.
    pub process: Process,
    keys: Keys,
    _data: tempfile::TempDir,
}

impl Server {
    /// Starts the binary.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn start(tessera: &Path) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let mut command = Command::new(tessera);
        command.args(["serve", "tickets", "--data"]).arg(data.path()).env("RUST_LOG", "warn");
        let process = Process::start(&mut command).await?;
        let keys = Keys::open(data.path(), Arc::new(SystemClock) as Arc<dyn Clock>)?;
        Ok(Self { process, keys, _data: data })
    }

    /// An event in a stadium, with a waiting room or without; gives its id.
    ///
    /// # Errors
    /// What the server says.
    pub async fn publish(&self, seats: u32, queue: &Value) -> anyhow::Result<String> {
        let token = self.keys.sign_token("organiser", &["organiser".to_owned()], DAY)?;
        let plan = json!({ "generate": { "kind": "stadium", "seats": seats } });
        let plan = self.post(&token, "/organiser/plans", &plan).await?;
        let venue = json!({ "name": "Bench", "city": "Lisboa", "country": "PT", "timezone": "Europe/Lisbon" });
        let venue = self.post(&token, "/organiser/venues", &venue).await?;
        let categories = ["Category 1", "Category 2", "Club", "Category 3", "Category 4"];
        let event = json!({
            "name": "Bench", "kind": "concert", "venue": venue["id"], "plan": plan["id"],
            "starts_at": "2099-01-01T20:00:00Z", "currency": "EUR",
            "price_levels":
                [{ "key": "all", "name": "All", "price": 1000, "color": "#336699", "categories": categories }],
            "rules": { "max_per_customer": 50, "hold_ttl_s": 3600 }, "queue": queue,
        });
        let event = self.post(&token, "/organiser/events", &event).await?;
        let id = event["id"].as_str().context("an event without an id")?.to_owned();
        self.post(&token, &format!("/organiser/events/{id}/publish"), &json!({})).await?;
        Ok(id)
    }

    /// Tokens of fans.
    ///
    /// # Errors
    /// Those of the key.
    pub fn fans(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let sign = |fan| Ok(self.keys.sign_token(&format!("fan{fan}"), &["fan".to_owned()], DAY)?);
        (0..count).map(sign).collect()
    }

    async fn post(&self, token: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\nidempotency-key: bench{path}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut client = Client::connect(self.process.address).await?;
        let (status, answer) = client.ask(request.as_bytes()).await?;
        ensure!((200..300).contains(&status), "POST {path}: {status} {}", String::from_utf8_lossy(answer));
        Ok(serde_json::from_slice(answer)?)
    }
}

/// User and system time of a process (proc(5), fields 14 and 15, in hundredths of a second).
///
/// # Errors
/// Where it has ended.
pub fn cpu_s(process: &str) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after = stat.rsplit_once(')').context("stat")?.1;
    let ticks: Vec<u64> = after.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
}
