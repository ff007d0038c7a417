//! Reloads under load: how long answers take while configs with many routes are swapped, and while they are not, by turns in
//! one process. A request that fails ends the run.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::load::{self, Load};
use crate::proxies::Proxy;
use crate::service;
use crate::{Figures, median};

/// What is measured.
pub struct Plan {
    pub rounds: usize,
    pub workers: usize,
    pub routes: usize,
    /// From the end of a reload to the beginning of the next.
    pub pause: Duration,
    pub load: Load,
}

/// Measures and prints.
pub fn run(plan: &Plan) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (_service, service) = service::start()?;
    let mut reloaded = Reloaded::start(folder.path(), service, plan)?;
    let (mut quiet, mut busy, mut took_ms) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=plan.rounds {
        let calm = load::measure(&reloaded.proxy, plan.load)?;
        let (storm, took) = reloaded.under(plan)?;
        // The first round warms up.
        if round > 0 {
            quiet.push(calm);
            busy.push(storm);
            took_ms.extend(took);
        }
    }
    took_ms.sort_by(f64::total_cmp);
    let Load { connections, rate, seconds, .. } = plan.load;
    let rate = rate.map_or_else(String::new, |rate| format!(" at {rate} requests/s"));
    println!(
        "{} routes, {connections} connections{rate}, {} workers, medians of {} × {seconds} s; no request failed\n",
        plan.routes, plan.workers, plan.rounds
    );
    println!("| | requests/s | p50, µs | p99, µs | memory, MB |");
    println!("|---|---|---|---|---|");
    for (name, figures) in [("without reloads", &quiet), ("with reloads", &busy)] {
        println!(
            "| {name} | {:.0} | {:.0} | {:.0} | {:.0} |",
            median(figures, |f: &Figures| f.requests_per_s),
            median(figures, |f| f.p50_us),
            median(figures, |f| f.p99_us),
            median(figures, |f| f.rss_mb)
        );
    }
    println!(
        "\np99 with reloads is {:.2} of that without. Reloads: {}, of {:.0} ms each (median).",
        median(&busy, |f| f.p99_us) / median(&quiet, |f| f.p99_us),
        took_ms.len(),
        took_ms.get(took_ms.len() / 2).copied().unwrap_or_default()
    );
    Ok(())
}

/// A gateway whose config is written anew again and again.
struct Reloaded {
    proxy: Proxy,
    file: PathBuf,
    told: BufReader<ChildStdout>,
    service: u16,
    generation: u64,
}

impl Reloaded {
    fn start(folder: &Path, service: u16, plan: &Plan) -> anyhow::Result<Self> {
        let file = folder.join("gateway.yaml");
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        fs::write(&file, config(plan, port, service, 0))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("gateway").arg(&file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        let told = BufReader::new(child.stdout.take().context("its output")?);
        let proxy = Proxy::of(child, port)?;
        Ok(Self { proxy, file, told, service, generation: 0 })
    }

    /// A measurement during which the config is replaced without end, and how long each time took in milliseconds.
    fn under(&mut self, plan: &Plan) -> anyhow::Result<(Figures, Vec<f64>)> {
        let Self { proxy, file, told, service, generation } = self;
        let (port, id) = (proxy.port, proxy.id().context("a process")?);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reloading = scope.spawn(|| {
                let mut took_ms = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    *generation += 1;
                    let next = file.with_extension("next");
                    fs::write(&next, config(plan, port, *service, *generation))?;
                    fs::rename(&next, &*file)?;
                    let began = Instant::now();
                    let sent = Command::new("kill").args(["-s", "HUP", &id.to_string()]).status()?;
                    let mut line = String::new();
                    ensure!(sent.success() && told.read_line(&mut line)? > 0, "the gateway has ended");
                    took_ms.push(began.elapsed().as_secs_f64() * 1e3);
                    std::thread::sleep(plan.pause);
                }
                anyhow::Ok(took_ms)
            });
            let measured = load::measure(proxy, plan.load);
            is_over.store(true, Ordering::Relaxed);
            let took_ms = reloading.join().map_err(|_| anyhow::anyhow!("the thread that reloads panicked"))??;
            Ok((measured?, took_ms))
        })
    }
}

fn config(plan: &Plan, port: u16, service: u16, generation: u64) -> String {
    let mut text = format!(
        "version: 1\nworkers: {}\nlisteners: [{{ address: \"127.0.0.1:{port}\" }}]\naccess_log: {{ format: \"off\" }}\n\
         upstreams: {{ s: {{ endpoints: [\"http://127.0.0.1:{service}\"] }} }}\nroutes:\n  - {{ name: all, match: {{ path: /* }}, upstream: s }}\n",
        plan.workers
    );
    for at in 1..plan.routes {
        text.push_str(&format!(
            "  - {{ name: r{at}, match: {{ path: \"/r{at}/{{id}}\" }}, upstream: s, request_headers: {{ set: {{ x-generation: \"{generation}\" }} }} }}\n"
        ));
    }
    text
}
