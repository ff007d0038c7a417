//! `tessera health`: is a process well? For images that have no `curl`.

use std::time::Duration;

use anyhow::{Context, bail};

/// How long the answer may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// An address that can be asked.
pub(crate) fn web_address(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or_default();
    if host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') && !text.contains(char::is_whitespace) {
        return Ok(text.to_owned());
    }
    Err("not an http or https URL; write it whole, such as http://127.0.0.1:8080/healthz".to_owned())
}

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
