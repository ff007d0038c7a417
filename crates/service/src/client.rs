//! The outgoing HTTP client: one way to build it, so that timeouts, TLS roots and the user agent are the same everywhere.

use std::time::Duration;

use crate::{Error, VERSION};

/// How long to wait for a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the next bytes of an answer.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an idle connection is kept.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A builder with our defaults, for those who change some of them. TLS trusts the roots compiled in, so building it
/// reads no files.
#[expect(clippy::disallowed_methods, reason = "this is the place that the ban points to")]
pub fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(user_agent())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
}

/// A client with our defaults. A caller with a deadline for the whole exchange sets it per request.
pub fn build() -> Result<reqwest::Client, Error> {
    Ok(builder().build()?)
}

/// `tessera/<version>`.
pub fn user_agent() -> String {
    format!("tessera/{VERSION}")
}
