//! `tessera serve tickets` as a process of its own, on embedded stores in a temporary folder.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tessera_bench::client::Client;
use tessera_bench::process::Process;
use tessera_kernel::{Clock, SystemClock};
use tessera_service::Keys;

/// How long tokens count.
const DAY: Duration = Duration::from_secs(86_400);

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
