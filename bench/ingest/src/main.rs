//! `cargo xtask bench ingest`: `tessera ingest run` beside a bare loop and dlt on the same API, whole processes, taking
//! turns; a table on stdout, `results.md` and `results.json` in a folder.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

mod contender;
mod lake;
mod machine;
mod process;
mod report;
mod samples;
mod server;

use contender::{Contender, Job, Programs};
use samples::{Entry, Sample, Scenario};

/// No job may take longer.
const LIMIT: Duration = Duration::from_secs(900);
/// Requests in flight where nothing is waited for, and where each answer takes its time.
const CONCURRENCY: u16 = 8;
const CONCURRENCY_WAITING: u16 = 32;
const LATENCY_MS: u64 = 50;

/// Measures ingest
#[derive(Parser, Debug)]
pub(crate) struct Options {
    /// Rows of the API
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Rows of the API when dlt reads it with latency; its time is scaled up
    #[arg(long, default_value_t = 100_000)]
    peer_rows: u64,
    /// How often each contender runs
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How often dlt runs, which takes long
    #[arg(long, default_value_t = 2)]
    peer_runs: usize,
    /// Also read ten times the rows, to see whether memory grows
    #[arg(long)]
    full: bool,
    /// Compress the answers
    #[arg(long)]
    gzip: bool,
    /// Only these contenders
    #[arg(long, value_delimiter = ',')]
    only: Vec<Contender>,
    /// Only these scenarios: cpu, latency, memory, start
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Date for the report
    #[arg(long)]
    date: Option<String>,
    /// The binary that is measured; beside this one otherwise
    #[arg(long)]
    tessera: Option<PathBuf>,
    /// Python with dlt; without it dlt is left out
    #[arg(long)]
    python: Option<PathBuf>,
    /// Folder for what the contenders write; emptied after each run
    #[arg(long, default_value = "target/bench-ingest")]
    scratch: PathBuf,
    /// Folder for results.md and results.json; not written without it
    #[arg(long)]
    results: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let mut options = Options::parse();
    fs::create_dir_all(&options.scratch)?;
    options.scratch = options.scratch.canonicalize()?;
    let here = std::env::current_exe()?.parent().context("the folder of this program")?.to_path_buf();
    let programs = Programs {
        tessera: std::path::absolute(options.tessera.clone().unwrap_or_else(|| here.join("tessera")))?,
        bare: here.join("bench-ingest-bare"),
        pages: here.join("bench-ingest-pages"),
        python: options.python.as_ref().map(std::path::absolute).transpose()?,
    };
    let machine = machine::look(&programs);
    let scenarios = scenarios(&options, programs.python.is_some());
    let mut samples = Vec::new();
    for scenario in &scenarios {
        let rounds = scenario.entries.iter().map(|entry| entry.runs).max().unwrap_or(0);
        for round in 0..rounds {
            for entry in scenario.entries.iter().filter(|entry| round < entry.runs) {
                let sample = run(&options, &programs, scenario, entry, round)?;
                eprintln!("{sample}");
                samples.push(sample);
            }
        }
    }
    let markdown = report::markdown(&machine, &scenarios, &samples, options.date.as_deref());
    println!("{markdown}");
    if let Some(folder) = &options.results {
        fs::write(folder.join("results.md"), &markdown)?;
        let json = serde_json::json!({ "date": options.date, "machine": machine, "samples": samples });
        fs::write(folder.join("results.json"), format!("{json:#}\n"))?;
    }
    Ok(())
}

/// What is measured, after the options.
fn scenarios(options: &Options, with_dlt: bool) -> Vec<Scenario> {
    use Contender::{Bare, Dlt, Keyless, Quality, Tessera, Version};
    let entry = |contender, rows, runs| Entry { contender, rows, runs };
    let (rows, runs, peer_runs) = (options.rows, options.runs, options.peer_runs);
    let all = vec![
        Scenario {
            key: "cpu",
            title: format!("No latency, {CONCURRENCY} requests in flight"),
            latency_ms: 0,
            concurrency: CONCURRENCY,
            entries: vec![
                entry(Tessera, rows, runs),
                entry(Quality, rows, runs),
                entry(Keyless, rows, runs),
                entry(Bare, rows, runs),
                entry(Dlt, rows, peer_runs),
            ],
        },
        Scenario {
            key: "latency",
            title: format!("{LATENCY_MS} ms a request, {CONCURRENCY_WAITING} requests in flight"),
            latency_ms: LATENCY_MS,
            concurrency: CONCURRENCY_WAITING,
            entries: vec![
                entry(Tessera, rows, runs),
                entry(Bare, rows, runs),
                entry(Dlt, options.peer_rows, peer_runs),
            ],
        },
        Scenario {
            key: "memory",
            title: "Ten times the rows".to_owned(),
            latency_ms: 0,
            concurrency: CONCURRENCY,
            entries: vec![entry(Tessera, rows * 10, 1), entry(Quality, rows * 10, 1)],
        },
        Scenario {
            key: "start",
            title: "Start: no rows".to_owned(),
            latency_ms: 0,
            concurrency: CONCURRENCY,
            entries: vec![
                entry(Version, 0, runs * 4),
                entry(Tessera, 0, runs * 4),
                entry(Bare, 0, runs * 4),
                entry(Dlt, 0, peer_runs),
            ],
        },
    ];
    let wanted = |scenario: &Scenario| {
        let named = options.scenarios.iter().any(|key| key == scenario.key);
        named || (options.scenarios.is_empty() && (options.full || scenario.key != "memory"))
    };
    let takes_part = |entry: &Entry| {
        (options.only.is_empty() || options.only.contains(&entry.contender)) && (with_dlt || entry.contender != Dlt)
    };
    let chosen = all.into_iter().filter(wanted);
    chosen
        .map(|mut scenario| {
            scenario.entries.retain(takes_part);
            scenario
        })
        .collect()
}

/// One process from start to end on a server and in a folder of its own, and a look at what it wrote.
fn run(
    options: &Options,
    programs: &Programs,
    scenario: &Scenario,
    entry: &Entry,
    round: usize,
) -> anyhow::Result<Sample> {
    let folder = options.scratch.join("run");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let server = server::Server::start(&programs.pages, entry.rows, scenario.latency_ms, options.gzip)?;
    let job = Job { url: &server.url, folder: &folder, concurrency: scenario.concurrency };
    let mut command = programs.command(entry.contender, &job)?;
    let usage = process::measure(&mut command, LIMIT).with_context(|| {
        let log = fs::read_to_string(job.log()).unwrap_or_default();
        let from = log.char_indices().rev().nth(2_000).map_or(0, |(at, _)| at);
        format!("{}; it said:\n{}", entry.contender.title(), &log[from..])
    })?;
    let written = match entry.contender.works() && entry.rows > 0 {
        true => lake::verify(&job.lake(), entry.rows).with_context(|| entry.contender.title())?,
        false => lake::Written::default(),
    };
    fs::remove_dir_all(&folder)?;
    Ok(Sample {
        scenario: scenario.key,
        contender: entry.contender,
        round,
        rows: entry.rows,
        files: written.files,
        file_bytes: written.bytes,
        usage,
    })
}
