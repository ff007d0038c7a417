//! `[rides]`: the settings.

use serde::{Deserialize, Serialize};
use tessera_service::config::Section;

use crate::domain::dispatch::Matching;
use crate::domain::fare::Tariff;
use crate::domain::interval::Intervals;
use crate::domain::surge;
use crate::push;

/// `[rides]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where rides are kept: `sqlite:…` or `postgres://…`; `<data>/rides.db` where not set.
    pub store: Option<String>,
    /// Where claims are kept: `redis://…`; in `store` where not set.
    pub redis: Option<String>,
    /// Where drivers' positions are kept: `redis://…` or `redis+cluster://…`, for several processes; in this process's memory where
    /// not set.
    pub locations: Option<String>,
    /// The prepared road network, made by `tessera rides import`; `<data>/city.roads` where not set and there. Without any, and
    /// without `routes`, distances are straight lines times 1.4 at 28 km/h.
    pub network: Option<String>,
    /// Another engine of routes: `osrm:http://host:5000` or `valhalla:http://host:8002`. Maps are drawn of `network` all the same.
    pub routes: Option<String>,
    /// Where `{"factor": 1.2}` is fetched from each minute: how much longer everything takes than the profile of the hour says.
    pub traffic: Option<String>,
    /// Whose hours the traffic follows, such as `Europe/Lisbon`.
    pub timezone: String,
    /// How long the price of an estimate holds, seconds.
    pub estimate_ttl_s: u32,
    /// Prices and fees.
    pub tariff: Tariff,
    /// How often drivers report.
    pub intervals: Intervals,
    /// Prices by demand.
    pub surge: surge::Rules,
    /// Who is asked, in which order.
    pub matching: Matching,
    /// Notifications to phones and browsers.
    pub push: push::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: None,
            redis: None,
            locations: None,
            network: None,
            routes: None,
            traffic: None,
            timezone: "UTC".to_owned(),
            estimate_ttl_s: 300,
            tariff: Tariff::default(),
            intervals: Intervals::default(),
            surge: surge::Rules::default(),
            matching: Matching::default(),
            push: push::Config::default(),
        }
    }
}

impl Section for Config {
    const NAME: &'static str = "rides";
}

impl Config {
    /// The name of `store` in messages.
    pub const STORE: &'static str = "rides.store";
    /// The name of `redis` in messages.
    pub const REDIS: &'static str = "rides.redis";
    /// The name of `locations` in messages.
    pub const LOCATIONS: &'static str = "rides.locations";
    /// The name of `network` in messages.
    pub const NETWORK: &'static str = "rides.network";
    /// The name of `routes` in messages.
    pub const ROUTES: &'static str = "rides.routes";
    /// The name of `timezone` in messages.
    pub const TIMEZONE: &'static str = "rides.timezone";
}
