//! SQLite: opening, its catalogue, and rows as statements of many.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions};
use tessera_kernel::Timestamp;

use super::cells::{Cell, Cells};
use super::column::{Column, Engine, Type, list, quoted};
use super::fault::{Fault, answer};
use super::rows::{Chunk, Rows, Source};

/// How long another writer is waited for.
const BUSY: Duration = Duration::from_secs(300);
/// Values of one statement: SQLite takes 32,766.
const MAX_VALUES: usize = 30_000;
/// Rows of one statement; more make it no faster.
const MAX_ROWS: usize = 200;

/// Statements of rows, each with the number of rows.
type Statements = Vec<(usize, SqliteArguments)>;

/// Opens the file, which is made if it is missing. Its readers go on while rows are written (WAL).
pub(super) async fn connect(url: &str) -> Result<SqliteConnection, Fault> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(BUSY)
        .disable_statement_logging();
    let file = options.get_filename();
    if let Some(folder) = file.parent().filter(|folder| *folder != Path::new("")) {
        std::fs::create_dir_all(folder).map_err(|error| {
            Fault::Refused(format!(
                "cannot make the folder {}: {error}; choose a path that can be written",
                folder.display()
            ))
        })?;
    }
    answer(options.connect()).await
}

/// Names and types of a table's columns; none where there is no such table.
pub(super) async fn columns(
    connection: &mut SqliteConnection,
    table: &str,
) -> Result<Option<Vec<(String, String)>>, Fault> {
    let kind = sqlx::query_scalar::<_, String>(
        "SELECT type FROM sqlite_master WHERE name = $1 COLLATE NOCASE AND type IN ('table', 'view')",
    );
    match answer(kind.bind(table).fetch_optional(&mut *connection)).await?.as_deref() {
        None => return Ok(None),
        Some("table") => {}
        Some(_) => {
            return Err(Fault::Refused("a view has this name; rename or drop it, or give the load a schema".into()));
        }
    }
    let found = sqlx::query_as::<_, (String, String)>("SELECT name, type FROM pragma_table_info($1)");
    let found = answer(found.bind(table).fetch_all(connection)).await?;
    let plain = |kind: String| kind.split('(').next().unwrap_or_default().trim().to_ascii_uppercase();
    Ok(Some(found.into_iter().map(|(name, kind)| (name, plain(kind))).collect()))
}

/// The indexes that we made on a table.
pub(super) async fn indexes(connection: &mut SqliteConnection, table: &str) -> Result<Vec<String>, Fault> {
    let found = sqlx::query_scalar::<_, String>(
        r"SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = $1 COLLATE NOCASE AND name LIKE 'tessera\_key\_%' ESCAPE '\'",
    );
    answer(found.bind(table).fetch_all(connection)).await
}

/// Inserts rows; gives their number.
pub(super) async fn fill(
    connection: &mut SqliteConnection,
    place: &str,
    columns: &[Column],
    source: &Source,
) -> Result<(u64, u64), Fault> {
    let encoding: Arc<[Column]> = columns.into();
    let most = (MAX_VALUES / columns.len().max(1)).clamp(1, MAX_ROWS);
    let mut rows: Rows<Statements> = source.rows(Arc::new(move |batch| encode(batch, &encoding, most)));
    let names = list(columns.iter().map(|column| &column.name));
    let insert = |rows: usize| -> Arc<str> {
        let row = format!("({})", vec!["?"; columns.len()].join(","));
        format!("INSERT INTO {place} ({names}) VALUES {}", vec![row.as_str(); rows].join(",")).into()
    };
    let full = insert(most);
    let mut count = 0;
    while let Some(chunk) = rows.next().await? {
        for (rows, arguments) in chunk.data {
            let statement = if rows == most { Arc::clone(&full) } else { insert(rows) };
            let insert = sqlx::query_with(AssertSqlSafe(statement), arguments).persistent(rows == most);
            answer(insert.execute(&mut *connection)).await?;
        }
        count += chunk.rows;
    }
    Ok((count, 0))
}

fn encode(batch: &RecordBatch, columns: &[Column], most: usize) -> Result<Chunk<Statements>, String> {
    let cells = Cells::of(batch, columns)?;
    let mut data = Vec::with_capacity(batch.num_rows().div_ceil(most));
    for from in (0..batch.num_rows()).step_by(most) {
        let rows = most.min(batch.num_rows() - from);
        let mut arguments = SqliteArguments::default();
        for row in from..from + rows {
            for column in &cells {
                put(&mut arguments, column.at(row)).map_err(|error| error.to_string())?;
            }
        }
        data.push((rows, arguments));
    }
    Ok(Chunk { rows: batch.num_rows() as u64, nuls: 0, data })
}

fn put(arguments: &mut SqliteArguments, cell: Cell<'_>) -> Result<(), sqlx::error::BoxDynError> {
    // Always of the same width, so that the order of the text is that of time.
    let moment = |micros, format| Timestamp::from_micros(micros).to_utc().format(format).to_string();
    match cell {
        Cell::Null => arguments.add(None::<i64>),
        Cell::Bool(value) => arguments.add(value),
        Cell::Int(value) => arguments.add(value),
        Cell::Float(value) => arguments.add(value),
        Cell::Text(value) => arguments.add(value.to_owned()),
        Cell::Timestamp(micros) => arguments.add(moment(micros, "%Y-%m-%dT%H:%M:%S%.6fZ")),
        Cell::Date(days) => arguments.add(moment(i64::from(days) * 86_400_000_000, "%Y-%m-%d")),
        Cell::Json(value) => arguments.add(value.into_owned()),
    }
}

/// What widens a whole number's column, so that 3 becomes 3.0 and divides as such. SQLite changes no column's type.
pub(super) fn widen(place: &str, column: &str) -> Vec<String> {
    let (old, new) = (quoted(column), quoted(&format!("{column} widened")));
    vec![
        format!("ALTER TABLE {place} ADD COLUMN {new} {}", Type::Float.name(Engine::Sqlite)),
        format!("UPDATE {place} SET {new} = {old}"),
        format!("ALTER TABLE {place} DROP COLUMN {old}"),
        format!("ALTER TABLE {place} RENAME COLUMN {new} TO {old}"),
    ]
}
