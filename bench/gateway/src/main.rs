//! What proxying costs: CPU per request and requests per second of the gateway, nginx and HAProxy, by turns in one run.
//!
//! A service that answers 1 KiB of JSON, the proxies and the load are processes of their own, so that the CPU of each can be
//! told apart. Figures are medians over the rounds, and ratios to nginx.

mod load;
mod proxies;
mod reload;
mod service;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tessera_bench::sorted::Sorted;

use load::{Asking, Load};
use proxies::{Kind, Proxy};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures all proxies by turns.
    Compare {
        /// Times that each is measured.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 3)]
        seconds: u64,
        /// Connections that ask one request after the other.
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Requests a second of all connections; as many as are answered where it is left out.
        #[arg(long)]
        rate: Option<u32>,
        /// Threads of each proxy.
        #[arg(long, default_value_t = 2)]
        workers: usize,
    },
    /// Measures those that keep answers, with an answer that is kept, by turns.
    Cache {
        /// Times that each is measured.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 3)]
        seconds: u64,
        /// Connections that ask one request after the other.
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Threads of each proxy.
        #[arg(long, default_value_t = 2)]
        workers: usize,
    },
    /// Measures the gateway while configs with many routes are swapped, and while they are not.
    Reload {
        /// Times that each is measured.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Connections that ask one request after the other.
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Requests a second of all connections.
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        /// Routes of each config.
        #[arg(long, default_value_t = 10_000)]
        routes: usize,
        /// Milliseconds from a reload to the next.
        #[arg(long, default_value_t = 500)]
        pause_ms: u64,
        /// Threads of the gateway.
        #[arg(long, default_value_t = 2)]
        workers: usize,
    },
    /// Answers every request with 1 KiB of JSON; says its port first.
    Service,
    /// Serves as a gateway by a config file until it is killed; reads it again on SIGHUP, and says when it has.
    Gateway {
        /// The config file.
        file: std::path::PathBuf,
    },
}

/// One measurement.
#[derive(Clone, Copy)]
struct Figures {
    requests_per_s: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
    rss_mb: f64,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Service => service::run(),
        Command::Gateway { file } => proxies::run_gateway(&file),
        Command::Compare { rounds, seconds, connections, rate, workers } => {
            compare(&Kind::ALL, rounds, workers, Load { asking: Asking::Signed, connections, rate, seconds })
        }
        Command::Cache { rounds, seconds, connections, workers } => {
            compare(&Kind::CACHES, rounds, workers, Load { asking: Asking::Kept, connections, rate: None, seconds })
        }
        Command::Reload { rounds, seconds, connections, rate, routes, pause_ms, workers } => {
            let load = Load { asking: Asking::Signed, connections, rate: Some(rate), seconds };
            reload::run(&reload::Plan { rounds, workers, routes, pause: Duration::from_millis(pause_ms), load })
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(kinds: &[Kind], rounds: usize, workers: usize, load: Load) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (_service, port) = service::start()?;
    let mut all: Vec<(Kind, Vec<Figures>)> = kinds.iter().map(|kind| (*kind, Vec::new())).collect();
    for round in 0..=rounds {
        for (kind, figures) in &mut all {
            let proxy = Proxy::start(*kind, folder.path(), port, workers)?;
            let seconds = if round == 0 { 1 } else { load.seconds };
            let measured = load::measure(&proxy, Load { seconds, ..load })?;
            // The first round warms up.
            if round > 0 {
                figures.push(measured);
            }
        }
    }
    let Load { connections, rate, seconds, .. } = load;
    let rate = rate.map_or_else(String::new, |rate| format!(" at {rate} requests/s"));
    println!("1 KiB of JSON, {connections} connections{rate}, {workers} workers, medians of {rounds} × {seconds} s\n");
    println!("| proxy | CPU per request, µs | × nginx | requests/s | × nginx | p50, µs | p99, µs | memory, MB |");
    println!("|---|---|---|---|---|---|---|---|");
    let is_base = |kind: Kind| matches!(kind, Kind::Nginx | Kind::NginxCache);
    let nginx = all.iter().find(|(kind, _)| is_base(*kind)).map(|(_, figures)| figures.clone()).unwrap_or_default();
    let (base_cpu, base_rate) = (median(&nginx, |f| f.cpu_us), median(&nginx, |f| f.requests_per_s));
    for (kind, figures) in &all {
        let (cpu, rate) = (median(figures, |f| f.cpu_us), median(figures, |f| f.requests_per_s));
        let (p50, p99) = (median(figures, |f| f.p50_us), median(figures, |f| f.p99_us));
        println!(
            "| {} | {cpu:.1} | {:.2} | {rate:.0} | {:.2} | {p50:.0} | {p99:.0} | {:.0} |",
            kind.name(),
            cpu / base_cpu,
            rate / base_rate,
            median(figures, |f| f.rss_mb)
        );
    }
    Ok(())
}

fn median(figures: &[Figures], part: fn(&Figures) -> f64) -> f64 {
    figures.iter().map(part).collect::<Sorted>().at(0.5)
}
