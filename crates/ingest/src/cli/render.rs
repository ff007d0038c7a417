//! Rows and facts as aligned tables.

use arrow_array::RecordBatch;
use unicode_width::UnicodeWidthStr;

use crate::quality::text;

/// Widest column.
const WIDEST: usize = 40;

/// A table with a header, columns aligned; numbers to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let cut = |text: &str| -> String {
        let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if clean.width() <= WIDEST { clean } else { clean.chars().take(WIDEST - 1).chain(['…']).collect() }
    };
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| cut(cell)).collect()).collect();
    let width = |at: usize| cells.iter().map(|row| row[at].width()).chain([header[at].width()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let numeric: Vec<bool> = (0..header.len())
        .map(|at| !cells.is_empty() && cells.iter().all(|row| row[at].is_empty() || row[at].parse::<f64>().is_ok()))
        .collect();
    let line = |row: &[String]| {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[at].saturating_sub(cell.width()));
            let cell = if numeric[at] { format!("{pad}{cell}") } else { format!("{cell}{pad}") };
            line.push_str(if at == 0 { "" } else { "  " });
            line.push_str(&cell);
        }
        format!("{}\n", line.trim_end())
    };
    let mut out = line(&header.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    out.push_str(&line(&widths.iter().map(|width| "─".repeat(*width)).collect::<Vec<_>>()));
    cells.iter().for_each(|row| out.push_str(&line(row)));
    out
}

/// The first rows of a batch.
pub fn rows(batch: &RecordBatch, most: usize) -> String {
    let schema = batch.schema();
    let shown: Vec<usize> = (0..batch.num_columns()).filter(|at| !schema.field(*at).name().starts_with('_')).collect();
    let header: Vec<&str> = shown.iter().map(|at| schema.field(*at).name().as_str()).collect();
    let cell = |row: usize, at: usize| {
        let column = batch.column(at);
        if column.is_null(row) { String::new() } else { text(column.as_ref(), row) }
    };
    let rows: Vec<Vec<String>> =
        (0..batch.num_rows().min(most)).map(|row| shown.iter().map(|at| cell(row, *at)).collect()).collect();
    table(&header, &rows)
}

/// A number and its noun: `1 row`, `2 rows`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_row() {
        assert_eq!([0, 1, 2].map(|number| counted(number, "row")), ["0 rows", "1 row", "2 rows"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["naïve 北京".into(), "7".into()], vec!["x\ny".into(), "12".into()]];
        assert_eq!(table(&["name", "n"], &rows), "name         n\n──────────  ──\nnaïve 北京   7\nx y         12\n");
    }
}
