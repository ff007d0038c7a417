//! The city of the demo: drivers and riders around the visitor, from the first minute on.

use std::path::PathBuf;
use std::sync::Arc;

use tessera_kernel::Clock;
use tessera_service::Keys;
use tessera_sim::app::city::small;
use tessera_sim::client::Client;
use tokio_util::sync::CancellationToken;

/// Connections to the server besides the drivers' streams: few, so that the visitor is not kept waiting.
const CONNECTIONS: usize = 8;

/// Lets the city drive until it is stopped.
pub(super) async fn run(
    data: PathBuf,
    base: String,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let keys = Keys::open(&data, Arc::clone(&clock))?;
    small::run(Client::new(&base, CONNECTIONS)?, keys, clock, stop).await;
    Ok(())
}
