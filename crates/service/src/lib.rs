//! How a role lives: component, config, telemetry, HTTP conventions, identity, outgoing client, shutdown.
//!
//! A product hands over [`Component`]s; this crate starts them on one listener, watches them and stops them. It knows no
//! product. Nothing here is global but the log subscriber, so two processes' worth of components can live in one.

pub mod client;
pub mod component;
pub mod config;
mod error;
pub mod http;
pub mod identity;
pub mod metrics;
pub mod openapi;
pub mod run;
pub mod shutdown;
pub mod sockets;
pub mod telemetry;
pub mod yaml;

pub use component::{Component, Deps, Ready, ReadyFlag, Task};
pub use error::{CODES, Error};
pub use http::problem::{Problem, ProductError};
pub use identity::{Identity, Keys};
pub use metrics::Metrics;

/// The version of Tessera, as in its `user-agent`, `/components` and `tessera version`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
