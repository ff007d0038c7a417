//! Questions to an engine over HTTP.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::Error;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// What is answered, whatever its status: refusals have a body too, which says more.
pub async fn answer<T: DeserializeOwned>(question: reqwest::RequestBuilder) -> Result<T, Error> {
    let away = |error: reqwest::Error| Error::Routes { reason: error.without_url().to_string() };
    let body = question.timeout(DEADLINE).send().await.map_err(away)?.bytes().await.map_err(away)?;
    serde_json::from_slice(&body).map_err(|error| Error::Routes { reason: error.to_string() })
}
