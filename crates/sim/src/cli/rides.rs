//! `tessera sim rides`: its arguments and its defaults.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use tessera_kernel::{Clock, Ids, Span};
use tessera_service::Keys;

use crate::Error;
use crate::app::city::report::Report;
use crate::app::city::{self, By, Form, Plan, Town};
use crate::domain::book::Rules;
use crate::domain::demand::Demand;

/// A run and its pauses last at most so long.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// What the server's settings say, by which rides are judged.
pub type Limits = Rules;

/// Which city.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum City {
    /// Trips that were made in Porto, on the server's map or without one
    Porto,
    /// Trips between random junctions of the server's map
    Map,
}

/// In which form positions are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Positions {
    /// 34 bytes each
    Compact,
    /// Lists of objects
    Json,
}

/// The arguments of a city.
#[derive(Args, Clone, Debug)]
pub struct RidesArgs {
    /// Where Tessera is
    #[arg(long, alias = "url", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// Where people go
    #[arg(long, value_enum, default_value = "porto")]
    city: City,
    /// Only trips whose line from pickup to destination is no longer than this, metres
    #[arg(long, value_name = "METRES", value_parser = longest)]
    longest: Option<f64>,
    /// How many drivers are on duty, 1 to 20000
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    drivers: u64,
    /// How many people want to ride
    #[arg(long, value_name = "REQUESTS", default_value_t = 60.0, value_parser = per_minute)]
    requests_per_minute: f64,
    /// A rush: in the middle third of the run requests are so many times as many, and all those that are added start within 600 m
    /// of one place, which is drawn from the seed; 1 is no rush
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, value_parser = surge)]
    surge: f64,
    /// From the first request to the last, such as 90s, 10m or 1h; those who are under way then are driven to the end, and faster
    #[arg(long, value_name = "SPAN", default_value = "5m", value_parser = span)]
    duration: Duration,
    /// Everything that riders and drivers decide comes from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many times faster than in life people decide and cars drive, 0.1 to 20; no car is faster than 150 m/s, and the server's
    /// deadlines stay as they are
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, value_parser = pace)]
    pace: f64,
    /// How positions are sent
    #[arg(long, value_enum, default_value = "compact")]
    positions: Positions,
    /// Connections to the server, besides one for each driver's stream and for some of the riders', 1 to 10000
    #[arg(long, default_value_t = 64, value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    connections: usize,
    /// How long rides may take to end when the last rider has come
    #[arg(long, value_name = "SPAN", default_value = "20m", value_parser = span)]
    settle: Duration,
    /// The operator's token, where the key of `--data` is not the server's; riders and drivers need that key all the same
    #[arg(long, env = "TESSERA_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The server's data folder, whose key signs the tokens of riders and drivers [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The server's config file: its deadlines and fees are those that rides are judged by
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the report as JSON, and nothing else
    #[arg(long)]
    pub json: bool,
}

fn number(text: &str, range: std::ops::RangeInclusive<f64>, remedy: &str) -> Result<f64, String> {
    text.parse::<f64>().ok().filter(|number| range.contains(number)).ok_or_else(|| remedy.to_owned())
}

fn per_minute(text: &str) -> Result<f64, String> {
    number(text, 0.1..=100_000.0, "give 0.1 to 100000 requests a minute")
}

fn surge(text: &str) -> Result<f64, String> {
    number(text, 1.0..=100.0, "give 1, which is no rush, to 100")
}

fn longest(text: &str) -> Result<f64, String> {
    number(text, 100.0..=1_000_000.0, "give 100 to 1000000 metres")
}

fn pace(text: &str) -> Result<f64, String> {
    number(text, 0.1..=20.0, "give 0.1 to 20")
}

/// A span of time; a number alone is of seconds.
fn span(text: &str) -> Result<Duration, String> {
    let remedy = || "give seconds, or a span such as 90s, 10m or 1h, of at most 7d".to_owned();
    let Span(span) = match text.parse::<u64>() {
        Ok(seconds) => Span::from_secs(seconds),
        Err(_) => text.parse().map_err(|_| remedy())?,
    };
    if span.is_zero() || span > LONGEST { Err(remedy()) } else { Ok(span) }
}

impl RidesArgs {
    /// Runs it, with a line about how it goes now and then.
    ///
    /// # Errors
    /// What keeps it from being set up or checked.
    pub async fn run(
        self,
        keys: Keys,
        clock: Arc<dyn Clock>,
        ids: &dyn Ids,
        limits: Limits,
        tell: impl Fn(String) + Send + 'static,
    ) -> Result<Report, Error> {
        let by = By { keys, operator: self.token.clone(), tag: super::tag(ids), clock };
        city::run(&self.plan(limits), by, tell).await
    }

    fn plan(&self, rules: Limits) -> Plan {
        Plan {
            url: self.server.clone(),
            town: match self.city {
                City::Porto => Town::Porto,
                City::Map => Town::OfMap,
            },
            longest_m: self.longest,
            drivers: self.drivers,
            demand: Demand { per_minute: self.requests_per_minute, surge: self.surge, lasts: self.duration },
            seed: self.seed,
            pace: self.pace,
            form: match self.positions {
                Positions::Compact => Form::Compact,
                Positions::Json => Form::Json,
            },
            connections: self.connections,
            settles_in: self.settle,
            rules,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_numbers_are_checked() {
        let seconds = |text: &str| span(text).map(|span| span.as_secs());
        assert_eq!(
            (seconds("90"), seconds("90s"), seconds("10m"), seconds("2h")),
            (Ok(90), Ok(90), Ok(600), Ok(7_200))
        );
        for bad in ["", "0", "-3m", "m", "3w", "1.5h", "9999999999999999999d", "8d", "ä"] {
            assert!(span(bad).unwrap_err().contains("10m"), "{bad}");
        }
        assert!(surge("0.9").is_err() && surge("NaN").is_err() && surge("3") == Ok(3.0));
        assert!(pace("0").is_err() && per_minute("0").unwrap_err().contains("0.1"));
        assert!(longest("99").unwrap_err().contains("100") && longest("1500") == Ok(1_500.0));
    }
}
