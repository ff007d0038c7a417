//! The live factor of traffic, from a service over HTTP. A slow or failing one changes nothing for ten minutes; then it counts
//! as if there was none.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::routes::Road;

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(60);
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Failures after which the last factor does not count any more.
const MAX_FAILURES: u32 = 10;

#[derive(Deserialize)]
struct Answer {
    factor: f64,
}

/// Asks until it is told to stop.
///
/// # Errors
/// None: what fails is tried again.
pub async fn run(client: reqwest::Client, url: String, road: Arc<Road>, stop: CancellationToken) -> Result<(), String> {
    let mut failures = 0;
    loop {
        match ask(&client, &url).await {
            Ok(factor) => {
                road.set_factor(factor);
                failures = 0;
            }
            Err(reason) => {
                failures += 1;
                tracing::warn!(reason, failures, "the traffic service gave no factor");
                if failures >= MAX_FAILURES {
                    road.set_factor(1.0);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn ask(client: &reqwest::Client, url: &str) -> Result<f64, String> {
    let told = |error: reqwest::Error| error.without_url().to_string();
    let answer = client.get(url).timeout(DEADLINE).send().await.map_err(told)?.error_for_status().map_err(told)?;
    let body = answer.bytes().await.map_err(told)?;
    let Answer { factor } = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    if (0.2..=10.0).contains(&factor) {
        Ok(factor)
    } else {
        Err(format!("a factor of {factor} is not between 0.2 and 10"))
    }
}
