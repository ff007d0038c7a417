//! The history as a table for the terminal.

use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::words::{count, moment, percent, rule, span, tally, verdict, worst_nulls};
use super::{CheckStatus, History, HistoryEntry};

/// Runs shown of each resource: the latest, which stand next to the prompt.
const MOST_RUNS: usize = 12;
/// The widest cell about missing values.
const MOST_NULLS: usize = 34;
/// Narrower than this no table is readable; so a narrower one gets this much.
const LEAST_WIDTH: usize = 40;
const GAP: &str = "  ";

/// One column of the table.
struct Column {
    title: &'static str,
    /// Which go first when the terminal is narrow: the highest. 0 stays.
    dropped: u8,
    right: bool,
    cell: fn(&HistoryEntry) -> String,
}

const COLUMNS: [Column; 10] = [
    Column { title: "run (UTC)", dropped: 0, right: false, cell: |e| moment(e.at) },
    Column { title: "rows", dropped: 0, right: true, cell: |e| count(e.report.rows) },
    Column { title: "total", dropped: 1, right: true, cell: |e| count(e.report.rows_total) },
    Column { title: "expected", dropped: 3, right: true, cell: |e| or_dash(e.report.expected_rows.map(count)) },
    Column { title: "duplicates", dropped: 5, right: true, cell: |e| count(e.report.duplicates) },
    Column { title: "lag", dropped: 4, right: true, cell: |e| or_dash(e.report.lag_s.map(span)) },
    Column { title: "rescued", dropped: 7, right: true, cell: |e| count(e.report.rescued) },
    Column { title: "quarantined", dropped: 6, right: true, cell: |e| count(e.report.quarantined) },
    Column { title: "nulls, worst first", dropped: 2, right: false, cell: nulls },
    Column { title: "checks", dropped: 0, right: false, cell: |e| or_dash(Some(tally(&e.report.checks))) },
];

/// The latest runs of every resource as aligned text, oldest first, at most `width` columns wide where that can be.
pub fn table(pipeline: &str, histories: &[History], width: usize) -> String {
    if histories.iter().all(|history| history.history.is_empty()) {
        return format!(
            "no run of `{}` has committed rows yet; start one with `tessera ingest run PIPELINE.yaml`\n",
            printable(pipeline)
        );
    }
    let width = width.max(LEAST_WIDTH);
    let parts: Vec<String> = histories.iter().map(|history| resource(pipeline, history, width)).collect();
    parts.join("\n")
}

fn resource(pipeline: &str, history: &History, width: usize) -> String {
    let runs = history.history.len();
    let shown = &history.history[runs.saturating_sub(MOST_RUNS)..];
    let said = match runs {
        0 => "no run yet".to_owned(),
        1 => "1 run".to_owned(),
        _ if runs > shown.len() => format!("{} runs, the last {} shown", count(runs as u64), shown.len()),
        _ => format!("{runs} runs"),
    };
    let mut out = String::new();
    line(&mut out, &format!("{} · {} · {said}", printable(pipeline), printable(&history.name)), width);
    if shown.is_empty() {
        return out;
    }
    let cells = |column: &Column| shown.iter().map(|entry| printable(&(column.cell)(entry))).collect::<Vec<_>>();
    let mut columns: Vec<(&Column, Vec<String>)> = COLUMNS.iter().map(|column| (column, cells(column))).collect();
    while total_width(&columns) > width {
        let Some(worst) = columns.iter().map(|(column, _)| column.dropped).max().filter(|dropped| *dropped > 0) else {
            break;
        };
        columns.retain(|(column, _)| column.dropped != worst);
    }
    row(&mut out, &columns, |(column, _)| column.title);
    for (at, entry) in shown.iter().enumerate() {
        row(&mut out, &columns, |(_, cells)| &cells[at]);
        for remark in remarks(entry) {
            wrapped(&mut out, &remark, width);
        }
    }
    out
}

/// What is to be read in words: checks that did not pass, schema changes, notes.
fn remarks(entry: &HistoryEntry) -> Vec<String> {
    let report = &entry.report;
    let broken = report.checks.iter().filter(|check| check.status != CheckStatus::Passed).map(|check| {
        let (sign, word) = verdict(check.status);
        let detail =
            if check.detail.is_empty() { format!("{} bad rows", count(check.bad_rows)) } else { check.detail.clone() };
        format!("{sign} {} {word}: {detail}", rule(check))
    });
    let changes = report.schema_changes.iter().map(|change| format!("~ {change}"));
    let notes = report.notes.iter().map(|note| format!("· {note}"));
    broken.chain(changes).chain(notes).map(|remark| printable(&remark)).collect()
}

fn nulls(entry: &HistoryEntry) -> String {
    let worst = worst_nulls(entry);
    let mut out = String::new();
    for (at, (column, nulls)) in worst.iter().enumerate() {
        let one = format!("{} {}", printable(column), percent(*nulls, entry.report.rows));
        let next = if out.is_empty() { one } else { format!("{out}, {one}") };
        let rest = worst.len() - at;
        if at > 0 && next.width() + 4 > MOST_NULLS {
            let _ = write!(out, " +{rest}");
            return out;
        }
        out = next;
    }
    if out.is_empty() { "-".into() } else { cut(&out, MOST_NULLS) }
}

fn or_dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".into())
}

fn cell_width((column, cells): &(&Column, Vec<String>)) -> usize {
    cells.iter().map(|cell| cell.width()).chain([column.title.width()]).max().unwrap_or(0)
}

fn total_width(columns: &[(&Column, Vec<String>)]) -> usize {
    columns.iter().map(|column| cell_width(column) + GAP.len()).sum::<usize>().saturating_sub(GAP.len())
}

fn row<'a>(
    out: &mut String,
    columns: &'a [(&'a Column, Vec<String>)],
    text: impl Fn(&'a (&'a Column, Vec<String>)) -> &'a str,
) {
    let mut row = String::new();
    for column in columns {
        let text = text(column);
        let pad = " ".repeat(cell_width(column).saturating_sub(text.width()));
        if !row.is_empty() {
            row.push_str(GAP);
        }
        let (before, after) = if column.0.right { (pad.as_str(), "") } else { ("", pad.as_str()) };
        row.extend([before, text, after]);
    }
    out.push_str(row.trim_end());
    out.push('\n');
}

fn line(out: &mut String, text: &str, width: usize) {
    out.push_str(&cut(text, width));
    out.push('\n');
}

/// Indented, over as many lines as it takes; its first character, a sign, stands out.
fn wrapped(out: &mut String, text: &str, width: usize) {
    let mut row = String::from("   ");
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if row.width() + 1 + word.width() > width && row.width() > 6 {
            out.push_str(&row);
            out.push('\n');
            row = String::from("     ");
        }
        row.push(' ');
        row.push_str(word);
    }
    line(out, &row, width);
}

/// At most `width` columns, the last one an ellipsis where something was cut off.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        out.push(c);
    }
    out.push('…');
    out
}

/// Without control characters: names come from an API, and a terminal obeys what it is sent.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{histories, shop};
    use super::*;

    #[test]
    fn a_wide_terminal_shows_everything() {
        insta::assert_snapshot!(table("shop", &shop(), 160));
    }

    #[test]
    fn a_narrow_terminal_shows_what_matters() {
        insta::assert_snapshot!(table("shop", &shop(), 60));
    }

    #[test]
    fn an_empty_history_says_what_to_do() {
        let told = table("shop", &[], 80);
        assert!(told.contains("`shop`") && told.contains("tessera ingest run"), "{told}");
        assert_eq!(table("shop", &[History { name: "orders".into(), history: vec![] }], 80), told);
    }

    #[test]
    fn wide_letters_are_measured_and_control_letters_do_not_reach_the_terminal() {
        assert_eq!(cut("日本語テキスト", 7), "日本語…");
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a\u{fffd}[31mb\u{fffd}c");
    }

    proptest! {
        #[test]
        fn no_history_breaks_the_table(histories in histories(), width in 0usize..300) {
            let text = table("p\u{1b}", &histories, width);
            prop_assert!(!text.is_empty() && text.ends_with('\n'));
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}
