//! The report: what was promised and what came, then a table for each scenario.

use std::fmt::Write;

use crate::contender::Contender::{Bare, Dlt, Keyless, Quality, Tessera, Version};
use crate::machine::Machine;
use crate::samples::{Sample, Scenario, Spread, cpu_ratio, of, spread};

/// The report as Markdown.
pub(crate) fn markdown(machine: &Machine, scenarios: &[Scenario], samples: &[Sample], date: Option<&str>) -> String {
    let mut out = "# Ingest: CPU per row, time, memory\n\n".to_owned();
    let date = date.map(|date| format!("{date}. ")).unwrap_or_default();
    let dlt = machine.dlt.as_ref().map(|dlt| format!("; {dlt}")).unwrap_or_default();
    line(
        &mut out,
        &format!(
            "{date}{}, {} cores, {} GiB, Linux {}; load averages at the start {}. {} (`dist` profile, {:.1} MB){dlt}.\n",
            machine.processor,
            machine.cores,
            machine.memory_gib,
            machine.kernel,
            machine.load,
            machine.tessera,
            machine.tessera_bytes as f64 / 1e6,
        ),
    );
    targets(&mut out, samples);
    for scenario in scenarios.iter().filter(|scenario| !scenario.entries.is_empty()) {
        line(&mut out, &format!("## {}\n", scenario.title));
        if scenario.key == "start" {
            start_table(&mut out, samples)
        } else {
            table(&mut out, scenario, samples)
        }
        out.push('\n');
    }
    out.push_str(HOW);
    out
}

const HOW: &str = "## How it is measured

Rows of 12 fields with a nested object, about 350 bytes each, 1,000 a page, from a server process of its own on the loopback
device, without compression. The whole process is measured, from its start to its end: CPU is user and system time, and memory the
peak resident size, as `wait4` gives them. The contenders take turns; figures are medians, with the smallest and the largest in
brackets; ratios are taken within a round. After each run the ids in all Parquet files are read and compared with what was served:
each row once. The server shares the cores, so rows a second are lower than on a machine of its own.

`tessera` reads, infers the schema, writes Parquet, looks for duplicates of the primary key, and commits files, state and quality
report. Counting missing values is part of every row of `tessera`: it cannot be switched off. `bare loop`
(`src/bin/bare.rs`) knows the schema beforehand, fetches, decodes with arrow-json and writes Parquet, and nothing else. `dlt` is its
`rest_api` source into its filesystem destination (`peers/dlt_rows.py`). All write zstd.

Repeat it with `cargo xtask bench ingest`; `--full` adds ten times the rows, `--runs N` sets the rounds, `--help` lists the rest.
";

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// A promise, and what was measured.
struct Target {
    what: String,
    promised: &'static str,
    shown: String,
    kept: bool,
}

impl Target {
    /// None when it was not measured.
    fn new(
        what: impl Into<String>,
        promised: &'static str,
        measured: Option<Spread>,
        (decimals, unit): (usize, &str),
        kept: impl Fn(f64) -> bool,
    ) -> Option<Self> {
        let spread = measured?;
        let shown = format!("{}{unit}", with_range(spread, decimals));
        Some(Self { what: what.into(), promised, shown, kept: kept(spread.median) })
    }

    /// Memory is judged by the largest peak.
    fn peak(samples: &[Sample], key: &str, how: &str) -> Option<Self> {
        let peak = spread(samples, key, Tessera, |sample| sample.usage.peak_bytes as f64 / 1e6)?;
        let what = format!("Peak memory, {} rows{how}", thousands(rows(samples, key)));
        let shown = format!("{:.0} MB at the most", peak.max);
        Some(Self { what, promised: "≤ 120 MB", shown, kept: peak.max <= 120.0 })
    }
}

/// Rows that a scenario's `tessera` read.
fn rows(samples: &[Sample], key: &str) -> u64 {
    of(samples, key, Tessera).map(|sample| sample.rows).max().unwrap_or(0)
}

fn targets(out: &mut String, samples: &[Sample]) {
    let cpu = spread(samples, "cpu", Tessera, Sample::cpu_us_per_row);
    let start = |contender| spread(samples, "start", contender, |sample| sample.usage.cpu_s() * 1e3);
    let added = |one, other| cpu_ratio(samples, "cpu", one, other).map(|ratio| ratio.plus(-1.0).times(100.0));
    // The promise is for a million rows; another number is judged by its part of the five seconds.
    let waited = spread(samples, "latency", Tessera, |sample| sample.usage.wall_s);
    let patience = 5.0 * rows(samples, "latency") as f64 / 1e6;
    let targets = [
        Target::new("CPU per row", "≤ 6.4 µs", cpu, (2, " µs"), |us| us <= 6.4),
        Target::new(
            "CPU per row over the bare loop's",
            "≤ 1.5",
            cpu_ratio(samples, "cpu", Tessera, Bare),
            (2, ""),
            |ratio| ratio <= 1.5,
        ),
        Target::new(
            "dlt's CPU per row over ours",
            "≥ 10",
            cpu_ratio(samples, "cpu", Dlt, Tessera),
            (1, ""),
            |ratio| ratio >= 10.0,
        ),
        Target::new(
            format!("Time for {} rows at 50 ms a request", thousands(rows(samples, "latency"))),
            "≤ 5 s for 1M",
            waited,
            (2, " s"),
            |seconds| seconds <= patience,
        ),
        Target::peak(samples, "cpu", ", 8 requests in flight"),
        Target::peak(samples, "memory", ", 8 requests in flight"),
        Target::peak(samples, "latency", ", 32 requests in flight"),
        Target::new("CPU of a start (`tessera version`)", "≤ 20 ms", start(Version), (1, " ms"), |ms| ms <= 20.0),
        Target::new("CPU of a run that finds no rows", "≤ 20 ms", start(Tessera), (1, " ms"), |ms| ms <= 20.0),
        Target::new("CPU that quality rules add", "≤ 5 %", added(Quality, Tessera), (1, " %"), |part| part <= 5.0),
        Target::new(
            "CPU that rules and the search for duplicates add",
            "≤ 5 %",
            added(Quality, Keyless),
            (1, " %"),
            |part| part <= 5.0,
        ),
    ];
    line(out, "| | promised | measured | |\n|---|---|---|---|");
    for Target { what, promised, shown, kept } in targets.into_iter().flatten() {
        let kept = if kept { "kept" } else { "**missed**" };
        line(out, &format!("| {what} | {promised} | {shown} | {kept} |"));
    }
    out.push('\n');
}

fn table(out: &mut String, scenario: &Scenario, samples: &[Sample]) {
    line(out, "| | rows | runs | CPU per row, µs | × bare loop | time, s | rows/s | peak, MB | files, MB |");
    line(out, "|---|---|---|---|---|---|---|---|---|");
    let most = scenario.entries.iter().map(|entry| entry.rows).max().unwrap_or(0);
    let mut scaled = String::new();
    for entry in &scenario.entries {
        let figure = |figure: fn(&Sample) -> f64| spread(samples, scenario.key, entry.contender, figure);
        let Some(cpu) = figure(Sample::cpu_us_per_row) else { continue };
        let Some(wall) = figure(|sample| sample.usage.wall_s) else { continue };
        let Some(peak) = figure(|sample| sample.usage.peak_bytes as f64 / 1e6) else { continue };
        let Some(bytes) = figure(|sample| sample.file_bytes as f64 / 1e6) else { continue };
        let ratio = cpu_ratio(samples, scenario.key, entry.contender, Bare);
        let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{:.2}", ratio.median));
        let row = format!(
            "| {} | {} | {} | {} | {ratio} | {} | {} | {:.0} | {:.0} |",
            entry.contender.title(),
            thousands(entry.rows),
            of(samples, scenario.key, entry.contender).count(),
            with_range(cpu, 2),
            with_range(wall, 2),
            thousands((entry.rows as f64 / wall.median) as u64),
            peak.max,
            bytes.median,
        );
        line(out, &row);
        if entry.rows < most {
            let whole = wall.median * most as f64 / entry.rows as f64;
            let title = entry.contender.title();
            // Writing to a string cannot fail.
            let _ = write!(
                scaled,
                "\n{title} read {} rows; at the same pace {} rows would take {whole:.0} s.\n",
                thousands(entry.rows),
                thousands(most)
            );
        }
    }
    out.push_str(&scaled);
}

fn start_table(out: &mut String, samples: &[Sample]) {
    line(out, "| | runs | CPU, ms | time, ms | peak, MB |\n|---|---|---|---|---|");
    for (contender, title) in
        [(Version, "tessera version"), (Tessera, "tessera ingest run"), (Bare, "bare loop"), (Dlt, "dlt")]
    {
        let figure = |figure: fn(&Sample) -> f64| spread(samples, "start", contender, figure);
        let Some(cpu) = figure(|sample| sample.usage.cpu_s() * 1e3) else { continue };
        let Some(wall) = figure(|sample| sample.usage.wall_s * 1e3) else { continue };
        let Some(peak) = figure(|sample| sample.usage.peak_bytes as f64 / 1e6) else { continue };
        let runs = of(samples, "start", contender).count();
        let row = format!("| {title} | {runs} | {} | {} | {:.0} |", with_range(cpu, 1), with_range(wall, 1), peak.max);
        line(out, &row);
    }
}

fn with_range(spread: Spread, decimals: usize) -> String {
    let Spread { min, median, max } = spread;
    format!("{median:.decimals$} ({min:.decimals$}–{max:.decimals$})")
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let first = (digits.len() - 1) % 3 + 1;
    let mut out = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        out.push(',');
        out.push_str(&String::from_utf8_lossy(group));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Contender;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(["0", "12", "999"].map(str::to_owned), [0, 12, 999].map(thousands));
        assert_eq!([1_000, 12_345, 1_000_000].map(thousands), ["1,000", "12,345", "1,000,000"]);
    }

    #[test]
    fn a_missed_promise_is_told() {
        let sample = |contender: Contender, cpu_s| Sample {
            scenario: "cpu",
            contender,
            round: 0,
            rows: 1_000_000,
            files: 1,
            file_bytes: 1,
            usage: crate::process::Usage { wall_s: 1.0, user_s: cpu_s, system_s: 0.0, peak_bytes: 100_000_000 },
        };
        let mut out = String::new();
        targets(&mut out, &[sample(Tessera, 5.0), sample(Bare, 2.5), sample(Quality, 5.1)]);
        assert!(out.contains("| CPU per row | ≤ 6.4 µs | 5.00 (5.00–5.00) µs | kept |"), "{out}");
        assert!(out.contains("| CPU per row over the bare loop's | ≤ 1.5 | 2.00 (2.00–2.00) | **missed** |"), "{out}");
        assert!(out.contains("| CPU that quality rules add | ≤ 5 % | 2.0 (2.0–2.0) % | kept |"), "{out}");
        assert!(!out.contains("dlt"), "{out}");
    }
}
