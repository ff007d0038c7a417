//! Positions: what an update of the index costs, in memory and over HTTP, and how fast the nearest drivers are found while
//! updates run; where a Redis is given, the same by it alone and by the index that is in it.
//!
//! `bench-rides-locations --drivers 1000000 --redis 127.0.0.1:6379 --redis-pid 4711`

mod fleet;
mod index;
mod over_http;
mod redis;
mod redis_index;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use tessera_bench::process::Pid;

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
    /// An empty Redis that is measured beside it; what is written there is left.
    #[arg(long, requires = "redis_pid")]
    redis: Option<SocketAddr>,
    /// Its process.
    #[arg(long)]
    redis_pid: Option<Pid>,
    /// The binary, built with the `dist` profile, for what comes over HTTP; left out where not given.
    #[arg(long)]
    tessera: Option<PathBuf>,
    /// Drivers on duty there.
    #[arg(long, default_value_t = 30_000)]
    on_duty: usize,
    /// How long each way over HTTP is measured, seconds.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fleet = fleet::Fleet::new(args.drivers);
    index::measure(&fleet, args.rounds, args.questions)?;
    if let (Some(address), Some(pid)) = (args.redis, args.redis_pid) {
        redis::measure(&fleet, address, pid)?;
        runtime.block_on(redis_index::measure(address, pid))?;
    }
    if let Some(tessera) = &args.tessera {
        runtime.block_on(over_http::measure(tessera, args.on_duty, args.seconds))?;
    }
    Ok(())
}
