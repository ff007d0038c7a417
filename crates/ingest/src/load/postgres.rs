//! PostgreSQL: connecting, its catalogue, and rows as COPY's binary format (PostgreSQL manual, "COPY", file formats).

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::cells::{Cell, Cells};
use super::column::{Column, Engine, digest, list, quoted};
use super::fault::{Fault, answer};
use super::json::{for_jsonb, without_nuls};
use super::rows::{Chunk, Rows, Source};

/// How long to wait for the server.
const CONNECT: Duration = Duration::from_secs(30);
/// How long one part of the rows may take on its way.
const SEND: Duration = Duration::from_secs(600);
/// How long another load, or a reader of a table that changes its columns, is waited for.
const LOCK: &str = "5min";
/// From 1970, where our time begins, to 2000, where PostgreSQL's does.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 10_957 * 86_400_000_000;
/// Signature, flags, and no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: &[u8] = &[0xff, 0xff];

/// Connects.
pub(super) async fn connect(url: &str) -> Result<PgConnection, Fault> {
    let options = PgConnectOptions::from_str(url)?.application_name("tessera ingest").disable_statement_logging();
    match tokio::time::timeout(CONNECT, options.connect()).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(Fault::Refused(format!(
            "no answer from {}:{} for {} seconds; check host, port and firewall",
            options.get_host(),
            options.get_port(),
            CONNECT.as_secs()
        ))),
    }
}

/// What begins the transaction: one load into a schema at a time, and waits that end.
pub(super) fn begin(schema: &str) -> String {
    let lock = i64::from_str_radix(&digest(&format!("tessera load {schema}"), 15), 16).unwrap_or_default();
    format!(
        "BEGIN; SET LOCAL lock_timeout = '{LOCK}'; SET LOCAL client_min_messages = warning; \
         SET LOCAL standard_conforming_strings = on; SELECT pg_advisory_xact_lock({lock})"
    )
}

/// Makes the schema. One that is there is not asked for, since that takes a right that the user may not have.
pub(super) async fn make_schema(connection: &mut PgConnection, schema: &str) -> Result<(), Fault> {
    let found = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM pg_namespace WHERE nspname = $1").bind(schema);
    if answer(found.persistent(false).fetch_one(&mut *connection)).await? == 0 {
        let create = AssertSqlSafe(format!("CREATE SCHEMA {}", quoted(schema)));
        answer(sqlx::raw_sql(create).execute(connection)).await?;
    }
    Ok(())
}

/// Names and types of a table's columns; none where there is no such table.
pub(super) async fn columns(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<Option<Vec<(String, String)>>, Fault> {
    let found = sqlx::query_as::<_, (String, String, String)>(
        "SELECT c.relkind::text, coalesce(a.attname::text, ''), coalesce(format_type(a.atttypid, a.atttypmod), '') \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE n.nspname = $1 AND c.relname = $2 ORDER BY a.attnum",
    );
    let found = answer(found.bind(schema).bind(table).persistent(false).fetch_all(connection)).await?;
    let Some((kind, ..)) = found.first() else { return Ok(None) };
    if !matches!(kind.as_str(), "r" | "p") {
        return Err(Fault::Refused(
            "something that is no table has this name; rename or drop it, or load into another schema".into(),
        ));
    }
    Ok(Some(found.into_iter().map(|(_, name, kind)| (name, kind)).filter(|(name, _)| !name.is_empty()).collect()))
}

/// The indexes that we made on a table.
pub(super) async fn indexes(connection: &mut PgConnection, schema: &str, table: &str) -> Result<Vec<String>, Fault> {
    let found = sqlx::query_scalar::<_, String>(
        r"SELECT indexname::text FROM pg_indexes WHERE schemaname = $1 AND tablename = $2 AND indexname LIKE 'tessera\_key\_%'",
    );
    answer(found.bind(schema).bind(table).persistent(false).fetch_all(connection)).await
}

/// Streams rows into a table; gives their number, and that of the NUL characters left out.
pub(super) async fn fill(
    connection: &mut PgConnection,
    place: &str,
    columns: &[Column],
    source: &Source,
) -> Result<(u64, u64), Fault> {
    let encoding: Arc<[Column]> = columns.into();
    let mut rows: Rows<Vec<u8>> = source.rows(Arc::new(move |batch| encode(batch, &encoding)));
    let names = list(columns.iter().map(|column| &column.name));
    let statement = format!("COPY {place} ({names}) FROM STDIN (FORMAT binary)");
    let mut copy = answer(connection.copy_in_raw(&statement)).await?;
    copy.send(HEADER).await?;
    let (mut count, mut nuls) = (0, 0);
    while let Some(chunk) = rows.next().await? {
        match tokio::time::timeout(SEND, copy.send(chunk.data)).await {
            Ok(sent) => sent.map(drop)?,
            Err(_) => return Err(Fault::Refused("the server takes no more rows; see what it waits for".into())),
        }
        count += chunk.rows;
        nuls += chunk.nuls;
    }
    copy.send(TRAILER).await?;
    answer(copy.finish()).await?;
    Ok((count, nuls))
}

fn encode(batch: &RecordBatch, columns: &[Column]) -> Result<Chunk<Vec<u8>>, String> {
    let cells = Cells::of(batch, columns)?;
    let width = i16::try_from(cells.len()).map_err(|_| format!("{} columns are too many", cells.len()))?;
    let mut data = Vec::with_capacity(batch.get_array_memory_size() + batch.num_rows() * cells.len() * 4);
    let mut nuls = 0;
    for row in 0..batch.num_rows() {
        data.extend(width.to_be_bytes());
        for column in &cells {
            nuls += put(&mut data, column.at(row))?;
        }
    }
    Ok(Chunk { rows: batch.num_rows() as u64, nuls, data })
}

/// Appends a value with its length; gives the number of NUL characters left out.
fn put(data: &mut Vec<u8>, cell: Cell<'_>) -> Result<u64, String> {
    let early = || "a moment is too far from now for PostgreSQL".to_owned();
    match cell {
        Cell::Null => data.extend((-1_i32).to_be_bytes()),
        Cell::Bool(value) => sized(data, &[u8::from(value)])?,
        Cell::Int(value) => sized(data, &value.to_be_bytes())?,
        Cell::Float(value) => sized(data, &value.to_be_bytes())?,
        Cell::Timestamp(value) => sized(data, &value.checked_sub(EPOCH_MICROS).ok_or_else(early)?.to_be_bytes())?,
        Cell::Date(value) => sized(data, &value.checked_sub(EPOCH_DAYS).ok_or_else(early)?.to_be_bytes())?,
        Cell::Text(value) => {
            let (clean, nuls) = without_nuls(value);
            sized(data, clean.as_bytes())?;
            return Ok(nuls);
        }
        Cell::Json(value) => {
            let (clean, nuls) = for_jsonb(&value);
            let length = i32::try_from(clean.len() + 1).map_err(|_| too_long(clean.len()))?;
            data.extend(length.to_be_bytes());
            // The version of the format of jsonb.
            data.push(1);
            data.extend_from_slice(clean.as_bytes());
            return Ok(nuls);
        }
    }
    Ok(0)
}

fn sized(data: &mut Vec<u8>, value: &[u8]) -> Result<(), String> {
    let length = i32::try_from(value.len()).map_err(|_| too_long(value.len()))?;
    data.extend(length.to_be_bytes());
    data.extend_from_slice(value);
    Ok(())
}

fn too_long(bytes: usize) -> String {
    format!("a value of {bytes} bytes is longer than PostgreSQL holds; leave the column out with `exclude`")
}

/// What widens a whole number's column.
pub(super) fn widen(place: &str, column: &str) -> Vec<String> {
    let wider = super::column::Type::Float.name(Engine::Postgres);
    vec![format!("ALTER TABLE {place} ALTER COLUMN {} TYPE {wider}", quoted(column))]
}
