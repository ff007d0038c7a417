//! The season of the demo: put on sale once, remembered, and again when most of it is over.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tessera_kernel::Clock;
use tessera_service::Keys;
use tessera_sim::app::season::{self, Loaded};
use tessera_sim::app::{crowd, stage::People};
use tessera_sim::client::Client;
use tokio_util::sync::CancellationToken;

use super::Memory;

/// After this time a new season is put on sale; the last events of one are a hundred days ahead.
const SEASON: Duration = Duration::from_secs(30 * 86_400);
/// As whom: the organiser that visitors of the demo sign in as.
const ORGANISER: &str = "demo-organiser";
/// Connections to the server: few, so that the visitor is not kept waiting.
const CONNECTIONS: usize = 24;

/// Puts the season on sale where there is none, and lets fans come until it is stopped.
pub(super) async fn run(data: &Path, base: &str, clock: Arc<dyn Clock>, stop: CancellationToken) -> anyhow::Result<()> {
    let keys = Keys::open(data, Arc::clone(&clock))?;
    let client = Client::new(base, CONNECTIONS)?;
    let season = tokio::select! {
        season = on_sale(data, &client, &keys, &*clock) => season?,
        () = stop.cancelled() => return Ok(()),
    };
    let began = clock.now().micros();
    // Each start of the demo has people of its own.
    let tag = format!("demo-crowd-{:x}", began / 1_000_000);
    crowd::run(client, keys, tag, season, began.unsigned_abs(), stop).await;
    Ok(())
}

async fn on_sale(data: &Path, client: &Client, keys: &Keys, clock: &dyn Clock) -> anyhow::Result<Loaded> {
    let mut memory = Memory::read(data)?.context("demo.json is gone; start the demo again")?;
    let now = clock.now();
    if let Some(season) = memory.season.filter(|season| now.since(season.made_at) < SEASON) {
        return Ok(season);
    }
    // A load that was cut off goes on where it was: its things have keys that name this moment.
    let made_at =
        memory.opened_at.plus(SEASON * u32::try_from(now.since(memory.opened_at).as_secs() / SEASON.as_secs())?);
    let token = People::new(keys.clone(), ORGANISER).sign(ORGANISER, "organiser")?;
    let season = season::load(client, &token, made_at).await?;
    tracing::info!(events = season.events.len(), "the season of the demo is on sale");
    memory.season = Some(season.clone());
    memory.write(data)?;
    Ok(season)
}
