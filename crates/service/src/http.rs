//! HTTP conventions: request ids, problems, limits, the access log, extractors and pages.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::Section;

pub mod cookie;
pub mod edge;
pub mod extract;
pub mod page;
pub mod problem;

pub use edge::{Draining, Quick, QuickAnswer, RequestId};
pub use extract::{IdempotencyKey, Json, Path, Query};
pub use page::{List, Page, Since};

/// In the extensions of every request: who has connected. Whoever hands requests on in this process sets it anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end of the connection.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
}

/// `[http]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address to listen on.
    pub listen: String,
    /// The largest request body taken.
    pub body_limit_bytes: usize,
    /// How long a handler may take until its answer begins.
    pub request_timeout_s: u64,
    /// How long a stopping process waits for the requests it is answering.
    pub drain_deadline_s: u64,
    /// How long it then waits for its loops.
    pub stop_deadline_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            body_limit_bytes: 2 << 20,
            request_timeout_s: 30,
            drain_deadline_s: 5,
            stop_deadline_s: 25,
        }
    }
}

impl Section for Config {
    const NAME: &'static str = "http";
}
