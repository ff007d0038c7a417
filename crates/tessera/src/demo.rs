//! `up --demo`: a shop's API that grows while one watches, and a pipeline that reads it each minute; a season of events,
//! and a few fans who buy around the visitor; the roads of Porto, and a small city that drives on them.
//!
//! What is remembered lies in `<data>/demo.json`: when the shop opened, so that it is the same shop after a restart, the
//! pipeline file as it was written, so that one that the user has changed is left as it is, and the events of the season,
//! so that they are put on sale once.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tessera_ingest::demo_api::{DemoApi, Options, serve};
use tessera_kernel::{Clock, SystemClock, Timestamp};
use tessera_service::Keys;
use tessera_service::config::Config;
use tessera_sim::app::season::Loaded;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

mod city;
mod season;

use crate::settings;
use crate::up::Failure;

const PIPELINE: &str = include_str!("demo/shop.yaml");
const MEMORY: &str = "demo.json";
/// Orders at the opening: a first run that can be watched, and is over within a minute.
const ORDERS: u64 = 3000;
/// New orders a minute.
const GROWTH: u32 = 60;
/// How long the API may take to end its last answers.
const STOP_DEADLINE: Duration = Duration::from_secs(2);
/// How long the first run may take to be accepted.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// As whom it is asked for: the operator that visitors of the demo sign in as.
const OPERATOR: &str = "demo-operator";

#[derive(Serialize, Deserialize)]
struct Memory {
    version: u32,
    opened_at: Timestamp,
    /// The pipeline file as it was written last.
    pipeline: String,
    /// The season that is on sale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    season: Option<Loaded>,
}

impl Memory {
    fn read(data: &Path) -> anyhow::Result<Option<Self>> {
        let path = data.join(MEMORY);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .with_context(|| format!("{} is broken; delete it to begin the demo anew", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(path.display().to_string()),
        }
    }

    fn write(&self, data: &Path) -> anyhow::Result<()> {
        let path = data.join(MEMORY);
        std::fs::write(&path, serde_json::to_string_pretty(self)?).with_context(|| path.display().to_string())
    }
}

/// The demo with its port bound; nothing is written or served yet.
pub struct Demo {
    listener: TcpListener,
    address: SocketAddr,
    clock: Arc<dyn Clock>,
}

impl Demo {
    /// Takes the address of the demo API.
    ///
    /// # Errors
    /// [`Failure::Setting`] where it is taken or cannot be used.
    pub async fn bind(config: &Config) -> Result<Self, Failure> {
        let settings::Demo { address: listen } = config.get()?;
        let (setting, remedy) = (settings::Demo::ADDRESS, settings::Demo::ADDRESS_REMEDY);
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => tessera_service::Error::PortTaken { setting, address: listen.clone(), remedy },
            _ => {
                let reason = error.to_string();
                tessera_service::Error::BadAddress { setting, address: listen.clone(), reason, remedy }
            }
        };
        let listener = TcpListener::bind(&listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address, clock: Arc::new(SystemClock) })
    }

    /// Where the demo API is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes the pipeline into `pipelines` and gives the moment at which the shop opened.
    pub fn prepare(&self, data: &Path, pipelines: Option<PathBuf>) -> anyhow::Result<Timestamp> {
        let memory = Memory::read(data)?;
        let folder = pipelines.unwrap_or_else(|| data.join("pipelines"));
        let file = folder.join("shop.yaml");
        let lake = std::path::absolute(data.join("lake"))?;
        let url = format!("http://{}", self.address);
        let text = PIPELINE.replace("@URL@", &url).replace("@LAKE@", &lake.display().to_string());
        let ours = match std::fs::read_to_string(&file) {
            Ok(present) => memory.as_ref().is_some_and(|memory| memory.pipeline == present),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error).context(file.display().to_string()),
        };
        if ours {
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            std::fs::write(&file, &text).with_context(|| file.display().to_string())?;
        }
        let city = data.join(tessera_rides::CITY);
        if !city.exists() {
            let roads = tessera_rides::network::read(tessera_rides::network::PORTO)?;
            roads.network.save(&city)?;
        }
        let opened_at = memory.as_ref().map_or_else(|| self.clock.now(), |memory| memory.opened_at);
        let season = memory.as_ref().and_then(|memory| memory.season.clone());
        let pipeline = if ours { text } else { memory.map(|memory| memory.pipeline).unwrap_or_default() };
        Memory { version: 1, opened_at, pipeline, season }.write(data)?;
        Ok(opened_at)
    }

    /// Opens the shop, puts the season on sale at the server at `base`, and sends the first fans, drivers and riders.
    pub fn serve(self, opened_at: Timestamp, data: PathBuf, base: String) -> Serving {
        let options = Options { orders: ORDERS, growth: GROWTH, opened_at, ..Options::default() };
        let api = DemoApi::new(options, self.clock.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let shop = tokio::spawn(async move {
            if let Err(error) = serve(self.listener, api, stopped).await {
                tracing::error!(%error, "the demo API ended");
            }
        });
        let city = city::run(data.clone(), base.clone(), Arc::clone(&self.clock), stop.clone());
        let city = tokio::spawn(async move {
            if let Err(error) = city.await {
                tracing::error!(error = format!("{error:#}"), "the city of the demo ended");
            }
        });
        let (clock, stopped) = (self.clock, stop.clone());
        let season = tokio::spawn(async move {
            if let Err(error) = season::run(&data, &base, clock, stopped).await {
                tracing::error!(error = format!("{error:#}"), "the season of the demo ended");
            }
        });
        Serving { stop, tasks: [shop, season, city] }
    }
}

/// The demo while it runs.
pub struct Serving {
    stop: CancellationToken,
    tasks: [JoinHandle<()>; 3],
}

impl Serving {
    /// Sends everyone home and closes the shop.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(STOP_DEADLINE, async {
            for task in &mut self.tasks {
                // What went wrong in it was told there.
                let _ = task.await;
            }
        });
        if ended.await.is_err() {
            self.tasks.iter().for_each(JoinHandle::abort);
        }
    }

    /// Nobody comes any more: the server is about to stop.
    pub fn announce_stop(&self) {
        self.stop.cancel();
    }
}

/// Asks for the first run, so that nobody waits for the schedule. The key is that of the shop: asked once.
pub async fn first_run(data: &Path, base: &str, opened_at: Timestamp) -> anyhow::Result<()> {
    let client = tessera_service::client::build()?;
    let keys = Keys::open(data, Arc::new(SystemClock))?;
    let token = keys.sign_token(OPERATOR, &["operator".to_owned()], START_DEADLINE)?;
    let asked = client
        .post(format!("{base}/ingest/pipelines/shop/runs"))
        .bearer_auth(token)
        .header("idempotency-key", format!("demo-{}", opened_at.micros()))
        .header("content-type", "application/json")
        .body(r#"{"run_type":"incremental"}"#)
        .timeout(START_DEADLINE)
        .send()
        .await?;
    // A conflict is a run that the schedule has started already.
    if asked.status().is_success() || asked.status().as_u16() == 409 {
        return Ok(());
    }
    anyhow::bail!("the first run was not accepted: {}", asked.text().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn demo() -> Demo {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clock = tessera_kernel::ManualClock::at("2026-03-01".parse().unwrap());
        Demo { listener, address, clock: Arc::new(clock) }
    }

    #[tokio::test]
    async fn an_edited_pipeline_stays_and_the_shop_stays_open() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("pipelines/shop.yaml");
        let read = || std::fs::read_to_string(&file).unwrap();
        let opened = demo().await.prepare(data.path(), None).unwrap();
        let first = read();
        tessera_ingest::spec::load(&first, "shop.yaml", &tessera_ingest::spec::Environment::default()).unwrap();
        assert!(first.contains("lake") && !first.contains("@URL@"), "{first}");

        // On another port: a file of ours follows.
        let moved = demo().await;
        let address = moved.address().to_string();
        assert_eq!(moved.prepare(data.path(), None).unwrap(), opened);
        assert!(read().contains(&address) && read() != first);

        let edited = format!("{}# mine\n", read());
        std::fs::write(&file, &edited).unwrap();
        for _ in 0..2 {
            demo().await.prepare(data.path(), None).unwrap();
            assert_eq!(read(), edited);
        }
    }
}
