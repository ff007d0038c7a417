//! `tessera health`: is a process well? For images that have no `curl`.

use std::time::Duration;

use anyhow::{Context, bail};

/// How long the answer may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Ok where the address answers with 2xx in time.
pub(crate) async fn check(url: &str) -> anyhow::Result<()> {
    let client = tessera_service::client::build()?;
    let answer = client.get(url).timeout(DEADLINE).send().await;
    let answer = answer.with_context(|| format!("{url} does not answer; is tessera running there?"))?;
    let status = answer.status();
    if !status.is_success() {
        bail!("{url} answered {status}; GET /readyz says what is waited for");
    }
    Ok(())
}
