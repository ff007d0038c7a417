//! One table brought to the present: its columns and its index first, then the rows, through a temporary table where
//! they meet others by key. The statements are the same for both engines but for the name of a row's place.

use std::collections::HashMap;
use std::sync::Arc;

use super::column::{Column, Engine, Type, digest, list, quoted};
use super::database::Database;
use super::fault::Fault;
use super::plan::{Mode, Table};
use super::progress::Step;
use super::rows::Source;

/// Rows that came, by the resource that they are of: the temporary tables of this load.
pub(super) type Stages<'a> = HashMap<&'a str, Stage<'a>>;

/// Rows on their way into a table.
pub(super) struct Stage<'a> {
    place: String,
    columns: &'a [Column],
}

/// What was done to a table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub rows: u64,
    pub nuls: u64,
}

/// What a column needs before rows can come.
enum Change {
    Add,
    Widen,
    MakeAnew,
}

/// Brings a table to the present. `ours`: we made it.
pub(super) async fn bring<'a>(
    database: &mut Database,
    table: &'a Table,
    step: &Step,
    ours: bool,
    source: Source,
    stages: &mut Stages<'a>,
) -> Result<Done, Fault> {
    let runs = match step {
        Step::Nothing => return Ok(Done::default()),
        Step::Full => None,
        Step::Runs(runs) => Some(Arc::new(runs.clone())),
    };
    let full = runs.is_none();
    let exact = prepare(database, table, full, ours).await?;
    let place = database.place(&table.name);
    let files = table.files.iter().filter(|file| runs.as_ref().is_none_or(|runs| runs.contains(&file.run_id)));
    let source = Source { files: files.cloned().collect(), runs, ..source };
    let in_order = match &table.mode {
        Mode::Replace | Mode::Append => true,
        // The lake has one version of each parent's items, and nothing is in their way.
        Mode::Groups { merged, .. } => full && *merged,
        Mode::Merge { .. } => false,
    };
    if in_order && exact {
        let (rows, nuls) = database.fill(&place, &table.columns, &source).await?;
        return Ok(Done { rows, nuls });
    }
    let stage = database.new_stage(&table.columns).await?;
    let (_, nuls) = database.fill(&stage, &table.columns, &source).await?;
    if database.engine() == Engine::Postgres {
        database.execute(format!("ANALYZE {stage}")).await?;
    }
    let rows = meet(database, table, &stage, stages).await?;
    stages.insert(&table.resource, Stage { place: stage, columns: &table.columns });
    Ok(Done { rows, nuls })
}

/// Moves the rows from the temporary table into their own; gives how many.
async fn meet(database: &mut Database, table: &Table, stage: &str, stages: &Stages<'_>) -> Result<u64, Fault> {
    let place = database.place(&table.name);
    let names = list(table.columns.iter().map(|column| &column.name));
    let all = format!("INSERT INTO {place} ({names}) SELECT {names} FROM {stage}");
    match &table.mode {
        Mode::Replace | Mode::Append => database.execute(all).await,
        Mode::Merge { key, order } => {
            database.execute(keep_newest(database.engine(), stage, key, order)).await?;
            let keyed = has_key(key);
            let met = database.execute(upsert(table, &place, stage, key, order)).await?;
            // As in the lake, a row without a key is a row of its own.
            Ok(met + database.execute(format!("{all} WHERE NOT ({keyed})")).await?)
        }
        Mode::Groups { key, parent_key, merged } => {
            if !merged {
                database.execute(keep_newest_groups(database.engine(), stage, key)).await?;
            }
            let columns = list(key);
            let came = |columns: &str, from: &str, keyed: &str| {
                format!("DELETE FROM {place} WHERE ({}) IN (SELECT {columns} FROM {from} WHERE {keyed})", list(key))
            };
            database.execute(came(&columns, stage, &has_key(key))).await?;
            // A parent that came without items has none any more.
            if let Some(parents) = table.parent.as_deref().and_then(|parent| stages.get(parent))
                && let Some(columns) = parent_columns(table, key, parents, parent_key)
            {
                database.execute(came(&list(&columns), &parents.place, &has_key(&columns))).await?;
            }
            database.execute(all).await
        }
    }
}

/// The parent's own key, where it compares with the items' key.
fn parent_columns(table: &Table, key: &[String], parents: &Stage<'_>, parent_key: &[String]) -> Option<Vec<String>> {
    let own = |name: &String| table.columns.iter().find(|column| column.name == *name);
    let pairs = key.iter().zip(parent_key).map(|(name, path)| {
        let theirs = super::plan::find(parents.columns, path)?;
        own(name)?.kind.compares_with(theirs.kind).then(|| theirs.name.clone())
    });
    pairs.collect()
}

fn has_key(key: &[String]) -> String {
    key.iter().map(|name| format!("{} IS NOT NULL", quoted(name))).collect::<Vec<_>>().join(" AND ")
}

/// How the engine calls the place of a row.
fn row_place(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "ctid",
        Engine::Sqlite => "_rowid_",
    }
}

/// Of the rows with one key in the temporary table the newest stays, of equals the last.
fn keep_newest(engine: Engine, stage: &str, key: &[String], order: &[String]) -> String {
    let row = row_place(engine);
    let newest: String = order.iter().map(|name| format!("{} DESC NULLS LAST, ", quoted(name))).collect();
    format!(
        "DELETE FROM {stage} WHERE {row} IN (SELECT at FROM (SELECT {row} AS at, ROW_NUMBER() OVER \
         (PARTITION BY {} ORDER BY {newest}{row} DESC) AS place FROM {stage} WHERE {}) AS ranked WHERE place > 1)",
        list(key),
        has_key(key),
    )
}

/// Of the items of one parent those that were fetched last stay.
fn keep_newest_groups(engine: Engine, stage: &str, key: &[String]) -> String {
    let row = row_place(engine);
    format!(
        "DELETE FROM {stage} WHERE {row} IN (SELECT at FROM (SELECT {row} AS at, RANK() OVER \
         (PARTITION BY {} ORDER BY {} DESC NULLS LAST) AS place FROM {stage} WHERE {}) AS ranked WHERE place > 1)",
        list(key),
        quoted(crate::shape::EXTRACTED_AT),
        has_key(key),
    )
}

/// Rows of the temporary table take the place of those that are not newer.
fn upsert(table: &Table, place: &str, stage: &str, key: &[String], order: &[String]) -> String {
    let names = list(table.columns.iter().map(|column| &column.name));
    let others = table.columns.iter().filter(|column| !key.contains(&column.name));
    let sets: Vec<String> = others.map(|column| quoted(&column.name)).map(|c| format!("{c} = excluded.{c}")).collect();
    let meeting = if sets.is_empty() {
        "DO NOTHING".to_owned()
    } else {
        format!("DO UPDATE SET {} WHERE {}", sets.join(", "), not_older(order))
    };
    format!(
        "INSERT INTO {place} AS present ({names}) SELECT {names} FROM {stage} WHERE {} ON CONFLICT ({}) {meeting}",
        has_key(key),
        list(key)
    )
}

/// Whether the row that comes is not older; what has no value does not decide.
fn not_older(order: &[String]) -> String {
    let Some((first, rest)) = order.split_first() else { return "TRUE".into() };
    let (comes, there) = (format!("excluded.{}", quoted(first)), format!("present.{}", quoted(first)));
    format!("COALESCE({comes} > {there}, FALSE) OR (NOT COALESCE({comes} < {there}, FALSE) AND ({}))", not_older(rest))
}

/// Gives the table the columns and the index that it needs. Tells whether its types are just ours.
async fn prepare(database: &mut Database, table: &Table, full: bool, ours: bool) -> Result<bool, Fault> {
    let engine = database.engine();
    let place = database.place(&table.name);
    let Some(existing) = database.columns(&table.name).await? else {
        database.execute(format!("CREATE TABLE {place} ({})", definitions(&table.columns, engine))).await?;
        make_index(database, table, &[]).await?;
        return Ok(true);
    };
    if !ours && database.has_rows(&place).await? {
        return Err(Fault::Refused(format!(
            "it is there already, with rows that are not from this pipeline; rename or drop {place}, or set another `schema` for this load"
        )));
    }
    let mut exact = true;
    let mut changes = Vec::new();
    for column in &table.columns {
        let same = |name: &str| match engine {
            Engine::Postgres => name == column.name,
            Engine::Sqlite => name.eq_ignore_ascii_case(&column.name),
        };
        let wanted = column.kind.name(engine);
        match existing.iter().find(|(name, _)| same(name)).map(|(_, kind)| kind.as_str()) {
            None => changes.push((column, Change::Add)),
            Some(kind) if kind == wanted => {}
            Some(kind) if column.kind.fits(kind, engine) => exact = false,
            Some(kind) if column.kind == Type::Float && kind == Type::Int.name(engine) => {
                changes.push((column, Change::Widen));
            }
            Some(_) if full && ours => changes.push((column, Change::MakeAnew)),
            Some(kind) => {
                return Err(Fault::Refused(format!(
                    "column {name} is {kind}, which does not hold the lake's {wanted}; \
                     ALTER TABLE {place} to {wanted}, drop the table, or set another `schema` for this load",
                    name = quoted(&column.name),
                )));
            }
        }
    }
    if full {
        // Not TRUNCATE: until the commit, readers see what was there.
        database.execute(format!("DELETE FROM {place}")).await?;
    }
    let mut indexes = database.indexes(&table.name).await?;
    let restructured = changes.iter().any(|(_, change)| !matches!(change, Change::Add));
    for index in indexes.extract_if(.., |index| restructured || wanted_index(table).as_ref() != Some(index)) {
        database.execute(format!("DROP INDEX {}", database.place(&index))).await?;
    }
    for (column, change) in changes {
        let name = quoted(&column.name);
        let add = format!("ALTER TABLE {place} ADD COLUMN {name} {}", column.kind.name(engine));
        let statements = match change {
            Change::Add => vec![add],
            Change::MakeAnew => vec![format!("ALTER TABLE {place} DROP COLUMN {name}"), add],
            Change::Widen => database.widen(&place, &column.name),
        };
        for statement in statements {
            database.execute(statement).await?;
        }
    }
    make_index(database, table, &indexes).await?;
    Ok(exact)
}

/// Columns with their types, for CREATE TABLE.
pub(super) fn definitions(columns: &[Column], engine: Engine) -> String {
    let definition = |column: &Column| format!("{} {}", quoted(&column.name), column.kind.name(engine));
    columns.iter().map(definition).collect::<Vec<_>>().join(", ")
}

/// The name of the index that the table's mode needs; it tells table, columns and kind.
fn wanted_index(table: &Table) -> Option<String> {
    matches!(table.mode, Mode::Merge { .. } | Mode::Groups { .. })
        .then(|| format!("tessera_key_{}", digest(&format!("{} {}", table.name, table.mode.words()), 16)))
}

async fn make_index(database: &mut Database, table: &Table, there: &[String]) -> Result<(), Fault> {
    let Some(name) = wanted_index(table).filter(|name| !there.contains(name)) else { return Ok(()) };
    let (unique, key) = match &table.mode {
        Mode::Merge { key, .. } => ("UNIQUE ", key),
        Mode::Groups { key, .. } => ("", key),
        Mode::Replace | Mode::Append => return Ok(()),
    };
    let place = database.place(&table.name);
    let index = format!("CREATE {unique}INDEX {} ON {place} ({})", quoted(&name), list(key));
    database.execute(index).await.map(drop)
}
