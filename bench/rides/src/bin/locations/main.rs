//! Positions: what an update of the index costs, in memory and over HTTP, and how fast the nearest drivers are found while
//! updates run; Redis beside it, where its address is given.
//!
//! `bench-rides-locations --drivers 1000000 --redis 127.0.0.1:6379 --redis-pid 4711`

mod fleet;
mod index;
mod over_http;
mod redis;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

#[derive(Parser)]
struct Args {
    /// Drivers in the index.
    #[arg(long, default_value_t = 1_000_000)]
    drivers: usize,
    /// How often each of them reports, in a measurement.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Questions for the nearest ten.
    #[arg(long, default_value_t = 200_000)]
    questions: usize,
    /// A Redis that is measured beside it; its keys are overwritten.
    #[arg(long, requires = "redis_pid")]
    redis: Option<SocketAddr>,
    /// Its process.
    #[arg(long)]
    redis_pid: Option<u32>,
    /// The binary, built with the `dist` profile, for what comes over HTTP; left out where not given.
    #[arg(long)]
    tessera: Option<PathBuf>,
    /// Drivers on duty there.
    #[arg(long, default_value_t = 60_000)]
    on_duty: usize,
    /// How long each way over HTTP is measured, seconds.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let fleet = fleet::Fleet::new(args.drivers);
    index::measure(&fleet, args.rounds, args.questions)?;
    if let (Some(address), Some(pid)) = (args.redis, args.redis_pid) {
        redis::measure(&fleet, address, pid)?;
    }
    if let Some(tessera) = &args.tessera {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(over_http::measure(tessera, args.on_duty, args.seconds))?;
    }
    Ok(())
}
