//! The history as one HTML file that needs nothing else: no script, no font, no request.
//!
//! The skeleton and the style are `page.html`, rendered with escaping on; the plots come from `plot.rs`.

use std::collections::BTreeSet;

use minijinja::value::Serde;
use minijinja::{Environment, HtmlEscape};
use serde::Serialize;
use tessera_kernel::Timestamp;

use super::plot::{Cell, FromZero, Runs, Series, Units, short, strip};
use super::words::{count, moment, percent, rule, span, tally, verdict, worst_nulls};
use super::{Check, CheckStatus, History, HistoryEntry, QualityReport};

const TEMPLATE: &str = include_str!("page.html");

/// Runs drawn and listed of each resource, the latest; more would be thinner than a pixel on a phone.
const MOST_RUNS: usize = 60;
/// Columns with missing values and rules that get a row of their own.
const MOST_STRIPS: usize = 14;
/// A longer list of runs starts folded.
const MOST_OPEN: usize = 20;

const COUNTS: Units = Units { axis: short, tip: |value| count(value as u64) };

#[derive(Serialize)]
struct Page {
    pipeline: String,
    generated_at: String,
    resources: Vec<Part>,
    empty: bool,
}

/// One resource.
#[derive(Serialize)]
struct Part {
    name: String,
    runs: String,
    state: State,
    tiles: Vec<Tile>,
    plots: Vec<Plot>,
    strips: Vec<Strips>,
    remarks: Vec<Remark>,
    rows: Vec<Row>,
    open: bool,
}

#[derive(Serialize)]
struct State {
    tone: &'static str,
    text: String,
}

#[derive(Serialize)]
struct Tile {
    label: &'static str,
    value: String,
    note: String,
    tone: &'static str,
}

#[derive(Serialize)]
struct Plot {
    title: &'static str,
    legend: Vec<(&'static str, &'static str)>,
    /// SVG, escaped already; nothing where `none` says why.
    svg: String,
    none: &'static str,
}

#[derive(Serialize)]
struct Strips {
    title: &'static str,
    rows: Vec<StripRow>,
    note: String,
}

#[derive(Serialize)]
struct StripRow {
    name: String,
    svg: String,
    last: String,
    tone: &'static str,
}

#[derive(Serialize)]
struct Remark {
    at: String,
    sign: char,
    tone: &'static str,
    text: String,
}

#[derive(Serialize)]
struct Row {
    at: String,
    run_id: String,
    cells: Vec<String>,
    nulls: String,
    cursor: String,
    checks: String,
    tone: &'static str,
}

/// The page. Resources as given; the latest runs of each.
pub fn page(pipeline: &str, generated_at: Timestamp, histories: &[History]) -> String {
    let page = Page {
        pipeline: pipeline.to_owned(),
        generated_at: format!("{} UTC", moment(generated_at)),
        resources: histories.iter().map(part).collect(),
        empty: histories.iter().all(|history| history.history.is_empty()),
    };
    // The name's ending turns escaping on. The template is ours and tested: only a fault of ours can fail here.
    let rendered = Environment::new().render_named_str("page.html", TEMPLATE, Serde(&page));
    rendered.unwrap_or_else(|error| format!("<!doctype html><p>{}</p>", HtmlEscape(&error.to_string())))
}

fn part(history: &History) -> Part {
    let all = &history.history;
    let shown = &all[all.len().saturating_sub(MOST_RUNS)..];
    let runs = match all.len() {
        0 => "no run yet".to_owned(),
        1 => "1 run".to_owned(),
        n if n > shown.len() => format!("{} runs, the last {} shown", count(n as u64), shown.len()),
        n => format!("{n} runs"),
    };
    let name = history.name.clone();
    let Some(last) = shown.last() else {
        let state = State { tone: "none", text: "no run yet".into() };
        let (tiles, plots, strips, remarks, rows) = (vec![], vec![], vec![], vec![], vec![]);
        return Part { name, runs, state, tiles, plots, strips, remarks, rows, open: false };
    };
    let strips = [null_strips(shown), check_strips(shown)].into_iter().flatten().collect();
    Part {
        name,
        runs,
        state: state(&last.report.checks),
        tiles: tiles(last),
        plots: plots(shown),
        strips,
        remarks: shown.iter().rev().flat_map(remarks).collect(),
        rows: shown.iter().rev().map(row).collect(),
        open: shown.len() <= MOST_OPEN,
    }
}

fn state(checks: &[Check]) -> State {
    let broken = checks.iter().filter(|check| check.status != CheckStatus::Passed).count();
    let text = match (checks.len(), broken) {
        (0, _) => "no checks".to_owned(),
        (1, 0) => "check passed".to_owned(),
        (all, 0) => format!("all {all} checks passed"),
        (all, broken) => format!("{broken} of {all} checks not passed"),
    };
    State { tone: worst(checks), text }
}

fn tone(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::Passed => "good",
        CheckStatus::Warned => "warn",
        CheckStatus::Quarantined => "aside",
        CheckStatus::Failed => "bad",
    }
}

fn worst(checks: &[Check]) -> &'static str {
    let order = [CheckStatus::Failed, CheckStatus::Quarantined, CheckStatus::Warned, CheckStatus::Passed];
    order.into_iter().find(|status| checks.iter().any(|check| check.status == *status)).map_or("none", tone)
}

/// The API's total where it is one of all rows: of a run that read everything. An incremental run's is of what it asked
/// for.
fn whole_total(report: &QualityReport) -> Option<u64> {
    report.expected_rows.filter(|_| report.rows == report.rows_total)
}

fn tiles(last: &HistoryEntry) -> Vec<Tile> {
    let report = &last.report;
    let tile = |label, value: String, note: String, tone| Tile { label, value, note, tone };
    let some = |number: u64, tone| if number > 0 { tone } else { "" };
    let against = match (whole_total(report), report.expected_rows) {
        (Some(expected), _) if expected == report.rows_total => "as the API says".to_owned(),
        (Some(expected), _) => format!("the API says {}", count(expected)),
        (None, Some(_)) => "the last run read a part".to_owned(),
        (None, None) => "the API gives no total".to_owned(),
    };
    // Whether a difference matters is the rule's to say: a total may be of what was asked for only.
    let broken = |check: &Check| check.rule == "reconcile" && check.status != CheckStatus::Passed;
    let unequal = report.checks.iter().any(broken);
    let lag = report.lag_s.map_or_else(|| "–".to_owned(), span);
    vec![
        tile("Rows in the lake", count(report.rows_total), against, if unequal { "warn" } else { "" }),
        tile("Last run", format!("{} rows", count(report.rows)), moment(last.at), ""),
        tile("Lag", lag, "newest row to end of run".into(), ""),
        tile("Duplicates", count(report.duplicates), "in the last run".into(), some(report.duplicates, "warn")),
        tile("Set aside", count(report.quarantined), "quarantined rows".into(), some(report.quarantined, "aside")),
        tile("Rescued", count(report.rescued), "values that fit no column".into(), some(report.rescued, "warn")),
    ]
}

fn plots(shown: &[HistoryEntry]) -> Vec<Plot> {
    let change = |entry: &HistoryEntry| {
        (!entry.report.schema_changes.is_empty()).then(|| entry.report.schema_changes.join("\n"))
    };
    let runs = Runs {
        moments: shown.iter().map(|entry| moment(entry.at)).collect(),
        changes: shown.iter().map(change).collect(),
    };
    let series = |class, name, value: &dyn Fn(&HistoryEntry) -> Option<f64>| Series {
        class,
        name,
        values: shown.iter().map(value).collect(),
    };
    let rows = series("one", "rows", &|e| Some(e.report.rows as f64));
    let aside = series("aside", "quarantined", &|e| Some(e.report.quarantined as f64));
    let total = series("one", "in the lake", &|e| Some(e.report.rows_total as f64));
    let expected = series("two", "the API's total", &|e| whole_total(&e.report).map(|rows| rows as f64));
    let duplicates = series("warn", "duplicates", &|e| Some(e.report.duplicates as f64));
    let any = |series: &Series| series.values.iter().flatten().any(|value| *value > 0.0);
    let drawn = |title, legend, svg| Plot { title, legend, svg, none: "" };
    let absent = |title, none| Plot { title, legend: vec![], svg: String::new(), none };

    let mut legend = vec![("one", "committed")];
    legend.extend(any(&aside).then_some(("aside", "quarantined")));
    legend.extend(runs.changes.iter().any(Option::is_some).then_some(("mark", "new schema")));
    let mut plots = vec![drawn("Rows per run", legend, runs.bars("Rows per run", &[rows, aside], &COUNTS))];

    let reconciled = expected.values.iter().any(Option::is_some);
    // The API's total below, ours above it: where they agree, ours is seen.
    let (legend, lines) = if reconciled {
        (vec![("one", "in the lake"), ("two", "the API’s total")], vec![expected, total])
    } else {
        (vec![("one", "in the lake")], vec![total])
    };
    let title = "Rows in total";
    plots.push(drawn(title, legend, runs.lines(title, &lines, &COUNTS, FromZero::WhereNear)));

    let title = "Duplicate keys per run";
    plots.push(match any(&duplicates) {
        true => drawn(title, vec![], runs.bars(title, &[duplicates], &COUNTS)),
        false => absent(title, "None in these runs."),
    });

    let title = "Lag of the newest row";
    let most = shown.iter().filter_map(|entry| entry.report.lag_s).max();
    plots.push(match most {
        Some(most) => {
            let (unit, units) = lag_units(most);
            let lag = series("three", "lag", &|e| e.report.lag_s.map(|lag| lag as f64 / unit));
            drawn(title, vec![], runs.lines(title, &[lag], &units, FromZero::Always))
        }
        None => absent(title, "Without a cursor that is a time, there is no lag to measure."),
    });
    plots
}

/// Seconds in the unit of an axis up to `most` seconds, and how values in that unit are written.
fn lag_units(most: u64) -> (f64, Units) {
    match most {
        0..120 => (1.0, Units { axis: |v, _| format!("{v:.0} s"), tip: |v| span(v as u64) }),
        120..7200 => (60.0, Units { axis: |v, _| format!("{v:.0} min"), tip: |v| span((v * 60.0).round() as u64) }),
        7200..172_800 => {
            (3600.0, Units { axis: |v, _| format!("{v:.0} h"), tip: |v| span((v * 3600.0).round() as u64) })
        }
        _ => (
            86_400.0,
            Units { axis: |v, step| format!("{} d", short(v, step)), tip: |v| span((v * 86_400.0).round() as u64) },
        ),
    }
}

fn null_strips(shown: &[HistoryEntry]) -> Option<Strips> {
    let share = |entry: &HistoryEntry, column: &str| {
        let nulls = entry.report.nulls.get(column).copied().unwrap_or(0);
        if entry.report.rows == 0 { 0.0 } else { (nulls as f64 / entry.report.rows as f64).min(1.0) }
    };
    let columns: BTreeSet<&str> = shown.iter().flat_map(|e| e.report.nulls.keys().map(String::as_str)).collect();
    let mut ranked: Vec<(&str, f64)> =
        columns.iter().map(|column| (*column, shown.iter().map(|e| share(e, column)).fold(0.0, f64::max))).collect();
    let whole = ranked.iter().filter(|(_, most)| *most == 0.0).count();
    ranked.retain(|(_, most)| *most > 0.0);
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let left_out = ranked.len().saturating_sub(MOST_STRIPS);
    let rows = ranked.iter().take(MOST_STRIPS).map(|(column, _)| {
        let cell = |entry: &HistoryEntry| {
            let part = share(entry, column);
            let nulls = entry.report.nulls.get(*column).copied().unwrap_or(0);
            let told =
                format!("{} of {} rows, {}", count(nulls), count(entry.report.rows), percent(nulls, entry.report.rows));
            // What is not nothing is seen.
            let height = if nulls > 0 { part.max(0.12) } else { 0.0 };
            Cell { class: "three", height, opacity: 1.0, tip: format!("{}\n{told}", moment(entry.at)) }
        };
        let cells: Vec<Cell> = shown.iter().map(cell).collect();
        let last = shown.last().map(|e| percent(e.report.nulls.get(*column).copied().unwrap_or(0), e.report.rows));
        let label = format!("Missing values of {column} by run");
        StripRow { name: (*column).to_owned(), svg: strip(&label, &cells), last: last.unwrap_or_default(), tone: "" }
    });
    let rows: Vec<StripRow> = rows.collect();
    let mut note = vec![];
    if left_out > 0 {
        note.push(format!("{} more with fewer missing values.", columns_in_words(left_out)));
    }
    if whole > 0 {
        note.push(format!("{} without a missing value.", columns_in_words(whole)));
    }
    (!columns.is_empty()).then(|| Strips { title: "Missing values by column", rows, note: note.join(" ") })
}

fn columns_in_words(number: usize) -> String {
    if number == 1 { "1 column".into() } else { format!("{} columns", count(number as u64)) }
}

fn check_strips(shown: &[HistoryEntry]) -> Option<Strips> {
    let key = |check: &Check| rule(check);
    let mut rules: Vec<String> = vec![];
    for check in shown.iter().rev().flat_map(|entry| &entry.report.checks) {
        if !rules.contains(&key(check)) {
            rules.push(key(check));
        }
    }
    let of = |entry: &HistoryEntry, rule: &str| entry.report.checks.iter().find(|check| key(check) == rule).cloned();
    let broken = |rule: &str| {
        let all = shown.iter().filter_map(|entry| of(entry, rule));
        all.filter(|check| check.status != CheckStatus::Passed).count()
    };
    rules.sort_by_key(|rule| std::cmp::Reverse(broken(rule)));
    let left_out = rules.len().saturating_sub(MOST_STRIPS);
    let rows: Vec<StripRow> = rules
        .iter()
        .take(MOST_STRIPS)
        .map(|rule| {
            let cells: Vec<Cell> = shown.iter().map(|entry| check_cell(entry, of(entry, rule))).collect();
            let now = shown.last().and_then(|entry| of(entry, rule));
            let (last, tone) = match now {
                Some(check) => {
                    let (sign, word) = verdict(check.status);
                    (format!("{sign} {word}"), tone(check.status))
                }
                None => ("–".to_owned(), "none"),
            };
            StripRow { name: rule.clone(), svg: strip(&format!("{rule} by run"), &cells), last, tone }
        })
        .collect();
    let note = if left_out > 0 { format!("{left_out} more rules that broke less often.") } else { String::new() };
    (!rows.is_empty()).then_some(Strips { title: "Checks", rows, note })
}

/// Taller is worse, so that the colour is not needed to tell.
fn check_cell(entry: &HistoryEntry, check: Option<Check>) -> Cell {
    let Some(check) = check else {
        return Cell { class: "none", height: 0.1, opacity: 1.0, tip: format!("{}\nnot checked", moment(entry.at)) };
    };
    let height = match check.status {
        CheckStatus::Passed => 0.3,
        CheckStatus::Warned => 0.6,
        CheckStatus::Quarantined => 0.8,
        CheckStatus::Failed => 1.0,
    };
    let (sign, word) = verdict(check.status);
    let tip = format!("{}\n{sign} {word}: {}", moment(entry.at), check.detail);
    Cell { class: tone(check.status), height, opacity: 1.0, tip }
}

fn remarks(entry: &HistoryEntry) -> Vec<Remark> {
    let at = moment(entry.at);
    let broken = entry.report.checks.iter().filter(|check| check.status != CheckStatus::Passed).map(|check| {
        let (sign, word) = verdict(check.status);
        let text = format!("{} {word}: {}", rule(check), check.detail);
        Remark { at: at.clone(), sign, tone: tone(check.status), text }
    });
    let changes = entry.report.schema_changes.iter();
    let changes = changes.map(|text| Remark { at: at.clone(), sign: '◆', tone: "mark", text: text.clone() });
    let notes = entry.report.notes.iter();
    let notes = notes.map(|text| Remark { at: at.clone(), sign: '·', tone: "none", text: text.clone() });
    broken.chain(changes).chain(notes).collect()
}

fn row(entry: &HistoryEntry) -> Row {
    let report = &entry.report;
    let nulls: Vec<String> = worst_nulls(entry)
        .into_iter()
        .take(3)
        .map(|(column, nulls)| format!("{column}\u{a0}{}", percent(nulls, report.rows).replace(' ', "\u{a0}")))
        .collect();
    let cursor = match (&report.cursor_min, &report.cursor_max) {
        (Some(least), Some(most)) => format!("{least} → {most}"),
        _ => "–".to_owned(),
    };
    let numbers = [
        Some(count(report.rows)),
        Some(count(report.rows_total)),
        report.expected_rows.map(count),
        Some(count(report.duplicates)),
        report.lag_s.map(span),
        Some(count(report.rescued)),
        Some(count(report.quarantined)),
    ];
    let dash = || "–".to_owned();
    Row {
        at: moment(entry.at),
        run_id: entry.run_id.clone(),
        cells: numbers.into_iter().map(|number| number.unwrap_or_else(dash)).collect(),
        nulls: if nulls.is_empty() { dash() } else { nulls.join(", ") },
        cursor,
        checks: if report.checks.is_empty() { dash() } else { tally(&report.checks) },
        tone: worst(&report.checks),
    }
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
