//! The tables of lines and the statements on them, each over many rows.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};
use sqlx::types::Uuid;

use super::super::{MAX_LOOK, MAX_STEP, Opening, Rules, Seed};
use crate::each_tx;
use crate::rows::Json;
use crate::sql::{Error, Tx};

pub(super) const SQLITE: &str = "CREATE TABLE lines (
         id BLOB PRIMARY KEY,
         opens_at BIGINT NOT NULL,
         seed BLOB,
         drawn BIGINT,
         joined BIGINT NOT NULL,
         serving BIGINT NOT NULL,
         waiting BIGINT NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE line_places (
         line BLOB NOT NULL,
         entry BIGINT NOT NULL,
         member BLOB NOT NULL,
         until BIGINT NOT NULL,
         names BLOB NOT NULL,
         PRIMARY KEY (line, entry)
     ) WITHOUT ROWID;
     CREATE INDEX line_places_inside ON line_places (line, until) WHERE until > 0;
     CREATE TABLE line_names (name BLOB PRIMARY KEY, entry BIGINT NOT NULL) WITHOUT ROWID;";

pub(super) const POSTGRES: &str = "CREATE TABLE lines (
         id UUID PRIMARY KEY,
         opens_at BIGINT NOT NULL,
         seed BYTEA,
         drawn BIGINT,
         joined BIGINT NOT NULL,
         serving BIGINT NOT NULL,
         waiting BIGINT NOT NULL
     ) WITH (fillfactor = 20);
     CREATE TABLE line_places (
         line UUID NOT NULL,
         entry BIGINT NOT NULL,
         member UUID NOT NULL,
         until BIGINT NOT NULL,
         names BYTEA NOT NULL,
         PRIMARY KEY (line, entry)
     );
     CREATE INDEX line_places_inside ON line_places (line, until) WHERE until > 0;
     CREATE TABLE line_names (name UUID PRIMARY KEY, entry BIGINT NOT NULL);";

/// A place as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub entry: i64,
    pub member: Uuid,
    /// When its stay ends; 0 while it waits.
    pub until: i64,
    /// What it is known by, the member's first.
    pub names: Vec<Uuid>,
}

impl Row {
    pub(super) fn lives(&self, now: i64) -> bool {
        self.until == 0 || self.until > now
    }

    fn packed(&self) -> Vec<u8> {
        self.names.iter().flat_map(|name| *name.as_bytes()).collect()
    }
}

/// What a key is called within a line. One column instead of two, as a million random names are what a rush of joins
/// has to put into an index.
pub(super) fn name(line: Uuid, key: Uuid) -> Uuid {
    let digest = Sha256::new().chain_update(line).chain_update(key).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Uuid::from_bytes(bytes)
}

fn unpacked(bytes: &[u8]) -> Vec<Uuid> {
    bytes.chunks_exact(16).filter_map(|name| Uuid::from_slice(name).ok()).collect()
}

/// Makes a line unless it is there. One that opens now gets its time under the lock.
pub(super) async fn make(tx: &mut Tx<'_>, line: Uuid, opening: &Opening) -> Result<(), Error> {
    const MAKE: &str = "INSERT INTO lines (id, opens_at, seed, joined, serving, waiting) VALUES ($1, $2, $3, 0, 0, 0)
        ON CONFLICT (id) DO NOTHING";
    let (opens_at, seed) = match opening {
        Opening::Now => (i64::MAX, None),
        Opening::Lottery { opens_at, seed } => (opens_at.micros(), Some(seed.bytes().to_vec())),
    };
    each_tx!(tx, |connection| {
        sqlx::query(MAKE).bind(line).bind(opens_at).bind(seed).execute(connection).await.map(drop)
    })?;
    Ok(())
}

type LineRow = (Uuid, i64, Option<Vec<u8>>, Option<i64>, i64, i64, i64);

/// Locks lines, in the order of their ids, and reads them.
pub(super) async fn lock(tx: &mut Tx<'_>, ids: &[Uuid]) -> Result<BTreeMap<Uuid, Rules>, Error> {
    if let Tx::Postgres { transaction } = tx {
        const LOCK: &str = "SELECT id, opens_at, seed, drawn, joined, serving, waiting FROM lines
            WHERE id = ANY($1::UUID[]) ORDER BY id FOR UPDATE";
        let rows: Vec<LineRow> = sqlx::query_as(LOCK).bind(ids).fetch_all(&mut **transaction).await?;
        return rules(rows);
    }
    read(tx, ids).await
}

pub(super) async fn read(tx: &mut Tx<'_>, ids: &[Uuid]) -> Result<BTreeMap<Uuid, Rules>, Error> {
    let rows: Vec<LineRow> = match tx {
        Tx::Sqlite { transaction, .. } => {
            const READ: &str = "SELECT l.id, l.opens_at, l.seed, l.drawn, l.joined, l.serving, l.waiting
                FROM json_each($1) AS wanted CROSS JOIN lines AS l ON l.id = unhex(wanted.value)";
            sqlx::query_as(READ).bind(Json::ids(ids)).fetch_all(&mut **transaction).await?
        }
        Tx::Postgres { transaction } => {
            const READ: &str = "SELECT id, opens_at, seed, drawn, joined, serving, waiting FROM lines
                WHERE id = ANY($1::UUID[])";
            sqlx::query_as(READ).bind(ids).fetch_all(&mut **transaction).await?
        }
    };
    rules(rows)
}

fn rules(rows: Vec<LineRow>) -> Result<BTreeMap<Uuid, Rules>, Error> {
    let mut lines = BTreeMap::new();
    for (id, opens_at, seed, drawn, joined, serving, waiting) in rows {
        let seed = match seed.map(<[u8; 32]>::try_from) {
            None => None,
            Some(Ok(bytes)) => Some(Seed::from_bytes(bytes)),
            Some(Err(bytes)) => {
                let what = format!("the seed of line {id} has {} bytes", bytes.len());
                return Err(sqlx::Error::Protocol(what).into());
            }
        };
        lines.insert(id, Rules { opens_at, seed, drawn, joined, serving, waiting });
    }
    Ok(lines)
}

pub(super) async fn write_lines(tx: &mut Tx<'_>, lines: Vec<(Uuid, &Rules)>) -> Result<(), Error> {
    if lines.is_empty() {
        return Ok(());
    }
    // What is not drawn yet is written as −1.
    let numbers =
        |rules: &Rules| [rules.opens_at, rules.drawn.unwrap_or(-1), rules.joined, rules.serving, rules.waiting];
    match tx {
        Tx::Sqlite { transaction, .. } => {
            const WRITE: &str = "UPDATE lines SET opens_at = n.value ->> 1, drawn = nullif(n.value ->> 2, -1),
                    joined = n.value ->> 3, serving = n.value ->> 4, waiting = n.value ->> 5
                FROM jsonb_each($1) AS n WHERE lines.id = unhex(n.value ->> 0)";
            let mut json = Json::array(lines.len(), 120);
            for (id, rules) in lines {
                json.row(|json| {
                    json.id(id);
                    numbers(rules).into_iter().for_each(|number| json.number(number));
                });
            }
            sqlx::query(WRITE).bind(json.end()).execute(&mut **transaction).await?;
        }
        Tx::Postgres { transaction } => {
            const WRITE: &str =
                "UPDATE lines SET opens_at = n.opens_at, drawn = nullif(n.drawn, -1), joined = n.joined,
                    serving = n.serving, waiting = n.waiting
                FROM unnest($1::UUID[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[], $5::BIGINT[], $6::BIGINT[])
                    AS n (id, opens_at, drawn, joined, serving, waiting) WHERE lines.id = n.id";
            let column = |at: usize| lines.iter().map(|(_, rules)| numbers(rules)[at]).collect::<Vec<i64>>();
            let ids: Vec<Uuid> = lines.iter().map(|(id, _)| *id).collect();
            let write = sqlx::query(WRITE).bind(ids).bind(column(0)).bind(column(1)).bind(column(2));
            write.bind(column(3)).bind(column(4)).execute(&mut **transaction).await?;
        }
    }
    Ok(())
}

type Found = (Uuid, i64, Uuid, i64, Vec<u8>);

/// The places that go by names, each asked for with its line.
pub(super) async fn find(tx: &mut Tx<'_>, mut wanted: Vec<(Uuid, Uuid)>) -> Result<HashMap<Uuid, Row>, Error> {
    wanted.sort_unstable_by_key(|(_, name)| *name);
    wanted.dedup();
    let rows: Vec<Found> = match tx {
        Tx::Sqlite { transaction, .. } => {
            const FIND: &str = "SELECT n.name, p.entry, p.member, p.until, p.names FROM jsonb_each($1) AS wanted
                CROSS JOIN line_names AS n ON n.name = unhex(wanted.value ->> 1)
                CROSS JOIN line_places AS p ON p.line = unhex(wanted.value ->> 0) AND p.entry = n.entry";
            let mut json = Json::array(wanted.len(), 72);
            for (line, name) in wanted {
                json.row(|json| {
                    json.id(line);
                    json.id(name);
                });
            }
            sqlx::query_as(FIND).bind(json.end()).fetch_all(&mut **transaction).await?
        }
        Tx::Postgres { transaction } => {
            const FIND: &str = "SELECT n.name, p.entry, p.member, p.until, p.names
                FROM unnest($1::UUID[], $2::UUID[]) AS wanted (line, name)
                JOIN line_names AS n ON n.name = wanted.name
                JOIN line_places AS p ON p.line = wanted.line AND p.entry = n.entry";
            let (lines, names): (Vec<Uuid>, Vec<Uuid>) = wanted.into_iter().unzip();
            sqlx::query_as(FIND).bind(lines).bind(names).fetch_all(&mut **transaction).await?
        }
    };
    let place =
        |(name, entry, member, until, names): Found| (name, Row { entry, member, until, names: unpacked(&names) });
    Ok(rows.into_iter().map(place).collect())
}

/// The names of places, in order.
fn names(places: &[(Uuid, Row)]) -> Vec<(Uuid, i64)> {
    let names = places.iter().flat_map(|(_, row)| row.names.iter().map(|name| (*name, row.entry)));
    let mut names: Vec<(Uuid, i64)> = names.collect();
    names.sort_unstable();
    names
}

fn pairs(pairs: impl ExactSizeIterator<Item = (Uuid, i64)>) -> String {
    let mut json = Json::array(pairs.len(), 44);
    for (id, number) in pairs {
        json.row(|json| {
            json.id(id);
            json.number(number);
        });
    }
    json.end()
}

/// Adds places and their names. A name that a lapsed place had goes over to the new one.
pub(super) async fn insert(tx: &mut Tx<'_>, places: &[(Uuid, Row)]) -> Result<(), Error> {
    if places.is_empty() {
        return Ok(());
    }
    let names = names(places);
    match tx {
        Tx::Sqlite { transaction, .. } => {
            const PLACES: &str = "INSERT INTO line_places (line, entry, member, until, names)
                SELECT unhex(value ->> 0), value ->> 1, unhex(value ->> 2), 0, unhex(value ->> 3) FROM jsonb_each($1)";
            const NAMES: &str = "INSERT INTO line_names (name, entry)
                SELECT unhex(value ->> 0), value ->> 1 FROM jsonb_each($1) WHERE TRUE
                ON CONFLICT (name) DO UPDATE SET entry = excluded.entry";
            let mut json = Json::array(places.len(), 150);
            for (line, row) in places {
                json.row(|json| {
                    json.id(*line);
                    json.number(row.entry);
                    json.id(row.member);
                    json.bytes(&row.packed());
                });
            }
            sqlx::query(PLACES).bind(json.end()).execute(&mut **transaction).await?;
            sqlx::query(NAMES).bind(pairs(names.into_iter())).execute(&mut **transaction).await?;
        }
        Tx::Postgres { transaction } => {
            const PLACES: &str = "INSERT INTO line_places (line, entry, member, until, names)
                SELECT line, entry, member, 0, names
                FROM unnest($1::UUID[], $2::BIGINT[], $3::UUID[], $4::BYTEA[]) AS n (line, entry, member, names)";
            const NAMES: &str = "INSERT INTO line_names (name, entry)
                SELECT name, entry FROM unnest($1::UUID[], $2::BIGINT[]) AS n (name, entry)
                ON CONFLICT (name) DO UPDATE SET entry = excluded.entry";
            let lines: Vec<Uuid> = places.iter().map(|(line, _)| *line).collect();
            let entries: Vec<i64> = places.iter().map(|(_, row)| row.entry).collect();
            let members: Vec<Uuid> = places.iter().map(|(_, row)| row.member).collect();
            let packed: Vec<Vec<u8>> = places.iter().map(|(_, row)| row.packed()).collect();
            let insert = sqlx::query(PLACES).bind(lines).bind(entries).bind(members).bind(packed);
            insert.execute(&mut **transaction).await?;
            let (names, entries): (Vec<Uuid>, Vec<i64>) = names.into_iter().unzip();
            sqlx::query(NAMES).bind(names).bind(entries).execute(&mut **transaction).await?;
        }
    }
    Ok(())
}

/// Takes places out, with those of their names that have not gone over to another.
pub(super) async fn delete(tx: &mut Tx<'_>, places: &[(Uuid, Row)]) -> Result<(), Error> {
    if places.is_empty() {
        return Ok(());
    }
    let entries = places.iter().map(|(line, row)| (*line, row.entry));
    let names = names(places);
    match tx {
        Tx::Sqlite { transaction, .. } => {
            const PLACES: &str = "DELETE FROM line_places WHERE (line, entry) IN
                (SELECT unhex(value ->> 0), value ->> 1 FROM jsonb_each($1))";
            const NAMES: &str = "DELETE FROM line_names WHERE name IN
                (SELECT n.name FROM jsonb_each($1) AS gone CROSS JOIN line_names AS n
                 ON n.name = unhex(gone.value ->> 0) AND n.entry = gone.value ->> 1)";
            sqlx::query(PLACES).bind(pairs(entries)).execute(&mut **transaction).await?;
            sqlx::query(NAMES).bind(pairs(names.into_iter())).execute(&mut **transaction).await?;
        }
        Tx::Postgres { transaction } => {
            const PLACES: &str = "DELETE FROM line_places USING unnest($1::UUID[], $2::BIGINT[]) AS gone (line, entry)
                WHERE line_places.line = gone.line AND line_places.entry = gone.entry";
            const NAMES: &str = "DELETE FROM line_names USING unnest($1::UUID[], $2::BIGINT[]) AS gone (name, entry)
                WHERE line_names.name = gone.name AND line_names.entry = gone.entry";
            let (lines, entries): (Vec<Uuid>, Vec<i64>) = entries.unzip();
            sqlx::query(PLACES).bind(lines).bind(entries).execute(&mut **transaction).await?;
            let (names, entries): (Vec<Uuid>, Vec<i64>) = names.into_iter().unzip();
            sqlx::query(NAMES).bind(names).bind(entries).execute(&mut **transaction).await?;
        }
    }
    Ok(())
}

/// Places inside whose stay is over, some of them.
pub(super) async fn lapsed(tx: &mut Tx<'_>, line: Uuid, now: i64) -> Result<Vec<Row>, Error> {
    const LAPSED: &str = "SELECT entry, member, until, names FROM line_places
        WHERE line = $1 AND until > 0 AND until <= $2 LIMIT $3";
    let most = MAX_STEP as i64;
    let rows: Vec<(i64, Uuid, i64, Vec<u8>)> = each_tx!(tx, |connection| {
        sqlx::query_as(LAPSED).bind(line).bind(now).bind(most).fetch_all(connection).await
    })?;
    Ok(rows.into_iter().map(Row::from).collect())
}

impl From<(i64, Uuid, i64, Vec<u8>)> for Row {
    fn from((entry, member, until, names): (i64, Uuid, i64, Vec<u8>)) -> Self {
        Self { entry, member, until, names: unpacked(&names) }
    }
}

/// Takes a line away, and some of its places; says how many.
pub(super) async fn remove(tx: &mut Tx<'_>, line: Uuid) -> Result<usize, Error> {
    const LINE: &str = "DELETE FROM lines WHERE id = $1";
    const SOME: &str = "SELECT entry, member, until, names FROM line_places WHERE line = $1 LIMIT $2";
    each_tx!(&mut *tx, |connection| sqlx::query(LINE).bind(line).execute(connection).await.map(drop))?;
    let most = MAX_STEP as i64;
    let rows: Vec<(i64, Uuid, i64, Vec<u8>)> =
        each_tx!(&mut *tx, |connection| sqlx::query_as(SOME).bind(line).bind(most).fetch_all(connection).await)?;
    let places: Vec<(Uuid, Row)> = rows.into_iter().map(|columns| (line, Row::from(columns))).collect();
    delete(tx, &places).await?;
    Ok(places.len())
}

/// How many are inside.
pub(super) async fn inside(tx: &mut Tx<'_>, line: Uuid, now: i64) -> Result<i64, Error> {
    const INSIDE: &str = "SELECT count(*) FROM line_places WHERE line = $1 AND until > 0 AND until > $2";
    Ok(each_tx!(tx, |connection| sqlx::query_scalar(INSIDE).bind(line).bind(now).fetch_one(connection).await)?)
}

/// The next ones to be served, as entry and member, and the serving number once they are.
pub(super) async fn next(
    tx: &mut Tx<'_>,
    line: Uuid,
    rules: &Rules,
    most: usize,
) -> Result<(Vec<(i64, Uuid)>, i64), Error> {
    let (mut next, mut serving) = (Vec::new(), rules.serving);
    let bound = rules.serving + MAX_LOOK as i64;
    while next.len() < most && serving < rules.last_shuffled().min(bound) {
        let last = rules.last_shuffled().min(bound).min(serving + MAX_STEP as i64);
        let numbers: Vec<(i64, i64)> = (serving + 1..=last).map(|number| (number, rules.entry(number))).collect();
        let members = members(tx, line, numbers.iter().map(|(_, entry)| *entry).collect()).await?;
        for (number, entry) in numbers {
            if next.len() == most {
                break;
            }
            serving = number;
            next.extend(members.get(&entry).map(|member| (entry, *member)));
        }
    }
    if next.len() < most && serving >= rules.last_shuffled() && serving < rules.joined {
        const REST: &str =
            "SELECT entry, member FROM line_places WHERE line = $1 AND entry > $2 ORDER BY entry LIMIT $3";
        let rest = (most - next.len()) as i64;
        let rows: Vec<(i64, Uuid)> = each_tx!(tx, |connection| {
            sqlx::query_as(REST).bind(line).bind(serving).bind(rest).fetch_all(connection).await
        })?;
        // With fewer than asked for, all that joined have had their turn.
        let short = (rows.len() as i64) < rest;
        serving = rows.last().map(|(entry, _)| *entry).filter(|_| !short).unwrap_or(rules.joined);
        next.extend(rows);
    }
    Ok((next, serving))
}

async fn members(tx: &mut Tx<'_>, line: Uuid, entries: Vec<i64>) -> Result<HashMap<i64, Uuid>, Error> {
    let rows: Vec<(i64, Uuid)> = match tx {
        Tx::Sqlite { transaction, .. } => {
            const MEMBERS: &str = "SELECT p.entry, p.member FROM json_each($2) AS wanted
                CROSS JOIN line_places AS p ON p.line = $1 AND p.entry = wanted.value";
            sqlx::query_as(MEMBERS).bind(line).bind(numbers(&entries)).fetch_all(&mut **transaction).await?
        }
        Tx::Postgres { transaction } => {
            const MEMBERS: &str = "SELECT entry, member FROM line_places WHERE line = $1 AND entry = ANY($2::BIGINT[])";
            sqlx::query_as(MEMBERS).bind(line).bind(entries).fetch_all(&mut **transaction).await?
        }
    };
    Ok(rows.into_iter().collect())
}

pub(super) async fn let_in(tx: &mut Tx<'_>, line: Uuid, entries: Vec<i64>, until: i64) -> Result<(), Error> {
    if entries.is_empty() {
        return Ok(());
    }
    match tx {
        Tx::Sqlite { transaction, .. } => {
            const LET_IN: &str = "UPDATE line_places SET until = $3
                WHERE line = $1 AND entry IN (SELECT value FROM json_each($2))";
            let update = sqlx::query(LET_IN).bind(line).bind(numbers(&entries)).bind(until);
            update.execute(&mut **transaction).await?;
        }
        Tx::Postgres { transaction } => {
            const LET_IN: &str = "UPDATE line_places SET until = $3 WHERE line = $1 AND entry = ANY($2::BIGINT[])";
            sqlx::query(LET_IN).bind(line).bind(entries).bind(until).execute(&mut **transaction).await?;
        }
    }
    Ok(())
}

fn numbers(numbers: &[i64]) -> String {
    let mut json = Json::array(numbers.len(), 8);
    numbers.iter().for_each(|number| json.number(*number));
    json.end()
}
