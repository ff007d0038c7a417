//! `tessera sim onsale` and `tessera sim rides`: their arguments and their defaults.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};
use tessera_kernel::{Clock, Ids};
use tessera_service::Keys;

mod rides;

pub use self::rides::{Limits, RidesArgs};
use crate::Error;
use crate::app::city::RUN;
use crate::app::onsale::{self, By, Plan};
use crate::app::report::Report;

/// Characters of the name of a run that are drawn.
const TAG_CHARS: usize = 10;

/// What can be simulated.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Sell an event out under a crowd of fans and bots, then check the books to the unit
    Onsale(Box<OnsaleArgs>),
    /// Let a city drive: riders ask and request, drivers move along roads and answer; then check every ride
    Rides(Box<RidesArgs>),
}

/// The arguments of an on-sale.
#[derive(Args, Clone, Debug)]
pub struct OnsaleArgs {
    /// Where Tessera is
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Numbered seats: a stadium, from 2,000 down an arena, from 500 down a theatre
    #[arg(long, default_value_t = 50_000)]
    seats: u32,
    /// Places without numbers [default: a twentieth of the seats]
    #[arg(long)]
    standing: Option<u32>,
    /// How many fans come
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..))]
    fans: u64,
    /// How many of them each second
    #[arg(long, value_name = "FANS_PER_SECOND", default_value_t = 2_000.0, value_parser = rate)]
    rate: f64,
    /// Everything that fans decide comes from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Bots that want the same few seats
    #[arg(long, default_value_t = 0)]
    bots: u64,
    /// How often each of them tries
    #[arg(long, value_name = "TIMES", default_value_t = 200)]
    bot_attempts: u32,
    /// Send everyone through a waiting room
    #[arg(long)]
    queue: bool,
    /// How many the waiting room lets be inside
    #[arg(long, value_name = "FANS", default_value_t = 2_000, requires = "queue")]
    max_inside: u32,
    /// After how many seconds its doors open and the sale begins
    #[arg(long, value_name = "SECONDS", default_value_t = 15, requires = "queue")]
    doors_s: u64,
    /// About how long a fan hesitates at each step, milliseconds
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1_000)]
    hesitate_ms: u64,
    /// How long a hold lasts, 30 to 7200 seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(30..=7_200))]
    hold_ttl_s: u32,
    /// Leave out the test cards that do not answer for many seconds
    #[arg(long)]
    brisk_cards: bool,
    /// Connections to the server, 1 to 10000
    #[arg(long, default_value_t = 256, value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    connections: usize,
    /// Fans at the sale at the same time; further ones are late
    #[arg(long, value_name = "FANS", default_value_t = 20_000)]
    at_once: usize,
    /// How long payments may take to settle at the end, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    settle_s: u64,
    /// The organiser's token, where the key of `--data` is not the server's; fans need that key all the same
    #[arg(long, env = "TESSERA_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The server's data folder, whose key signs the tokens of fans [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The config file, where the folder is set there
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the report as JSON, and nothing else
    #[arg(long)]
    pub json: bool,
}

/// What a run is called.
fn tag(ids: &dyn Ids) -> String {
    // The last digits are random.
    let tag: String = ids.next().as_simple().to_string().chars().rev().take(TAG_CHARS).collect();
    format!("{RUN}{tag}")
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("give 0.001 to 10000000 fans a second".into()),
    }
}

impl OnsaleArgs {
    /// Runs it, with a line about how it goes now and then.
    ///
    /// # Errors
    /// What keeps it from being set up or checked.
    pub async fn run(
        self,
        keys: Keys,
        clock: &dyn Clock,
        ids: &dyn Ids,
        tell: impl Fn(String) + Send + 'static,
    ) -> Result<Report, Error> {
        let by = By { keys, organiser: self.token.clone(), tag: tag(ids), now: clock.now() };
        onsale::run(&self.plan(), by, tell).await
    }

    fn plan(&self) -> Plan {
        Plan {
            url: self.url.clone(),
            seed: self.seed,
            fans: self.fans,
            rate: self.rate,
            bots: self.bots,
            bot_attempts: self.bot_attempts,
            seats: self.seats,
            standing: self.standing.unwrap_or(self.seats / 20),
            hold_ttl_s: self.hold_ttl_s,
            hesitates: Duration::from_millis(self.hesitate_ms),
            room: self.queue.then(|| (self.max_inside, Duration::from_secs(self.doors_s))),
            connections: self.connections,
            at_once: self.at_once.max(1),
            patient_cards: !self.brisk_cards,
            settles_in: Duration::from_secs(self.settle_s),
        }
    }
}
