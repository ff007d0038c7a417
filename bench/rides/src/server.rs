//! `tessera serve rides` as a process of its own, on an embedded store in a temporary folder or on servers that are named.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tessera_bench::client::{Client, request};
use tessera_bench::process::Process;
use tessera_kernel::{Place, SystemClock};
use tessera_rides::app::driver_of;
use tessera_service::Keys;

/// How long tokens count.
const DAY: Duration = Duration::from_secs(86_400);
/// Connections that bring drivers on duty.
const BEGINNERS: usize = 64;

/// A running server, killed when this goes.
pub struct Server {
    /// It.
    pub process: Process,
    base: String,
    keys: Keys,
    client: reqwest::Client,
    store: String,
    _data: tempfile::TempDir,
}

impl Server {
    /// Starts the binary with these settings (`RIDES__MATCHING__POLICY`, …), and waits until it listens.
    ///
    /// # Errors
    /// Where it does not start, or ends.
    pub async fn start(tessera: &Path, store: Option<String>, settings: &[(&str, String)]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let store = store.unwrap_or_else(|| format!("sqlite:{}", data.path().join("rides.db").display()));
        let mut command = Command::new(tessera);
        command.args(["serve", "rides", "--data"]).arg(data.path());
        command.env("RUST_LOG", "warn").env("TESSERA__RIDES__STORE", &store);
        command.envs(settings.iter().map(|(name, value)| (format!("TESSERA__{name}"), value)));
        let process = Process::start(&mut command).await?;
        let client = tessera_service::client::builder().pool_max_idle_per_host(256).build()?;
        // The server makes the key where there is none; both take the one that was first.
        let keys = Keys::open(data.path(), Arc::new(SystemClock))?;
        let base = format!("http://{}", process.address);
        Ok(Self { process, base, keys, client, store, _data: data })
    }

    /// Kills it; its database can be read for as long as what is given lives.
    pub fn end(self) -> Ended {
        Ended { store: self.store, _data: self._data }
    }

    /// A token.
    ///
    /// # Errors
    /// Those of the key.
    pub fn token(&self, subject: &str, role: &str) -> anyhow::Result<String> {
        Ok(self.keys.sign_token(subject, &[role.to_owned()], DAY)?)
    }

    /// Brings drivers on duty, by their names, each at its place, with a profile that an operator has approved.
    ///
    /// # Errors
    /// What the server says.
    pub async fn begin_shifts(&self, drivers: &[(String, Place)]) -> anyhow::Result<()> {
        let operator = self.token("operator", "operator")?;
        let share = drivers.len().div_ceil(BEGINNERS).max(1);
        let operator = &operator;
        let beginners = drivers.chunks(share).map(|drivers| async move {
            let mut client = Client::connect(self.process.address).await?;
            for (name, place) in drivers {
                let token = self.token(name, "driver")?;
                let profile = json!({ "name": name, "vehicle": "white Dacia", "plate": "AA-00-AA", "seats": 4 });
                let approval = format!("/drivers/{}/approval", driver_of(name));
                let shift = json!({ "on_duty": true, "place": place });
                write(&mut client, &token, "PUT", "/drivers/profile", &profile).await?;
                write(&mut client, operator, "PUT", &approval, &json!({ "approved": true })).await?;
                write(&mut client, &token, "POST", "/drivers/shift", &shift).await?;
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(beginners).await.map(drop)
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
        let answer = ask.header("content-type", crate::compact::KIND).body(body).send().await?;
        ensure!(answer.status().is_success(), "positions: {}", answer.status());
        Ok(())
    }
}

/// What a server has left.
pub struct Ended {
    /// The URL of its database.
    pub store: String,
    _data: tempfile::TempDir,
}

async fn write(client: &mut Client, token: &str, method: &str, path: &str, body: &Value) -> anyhow::Result<()> {
    let ask = request(token, method, path, "application/json", body.to_string().as_bytes());
    let (status, answer) = client.ask(&ask).await?;
    ensure!(status == 200, "{method} {path}: {status} {}", String::from_utf8_lossy(answer));
    Ok(())
}
