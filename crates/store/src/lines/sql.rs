//! Lines as rows of a product's database, written by its writer.
//!
//! Whatever changes a line locks its row first, lines in the order of their ids; under that lock the places and keys of
//! the line stand still. A batch of joins is a handful of statements, however many join.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::types::Uuid;
use tessera_kernel::{Clock, Timestamp};

use super::{Admission, Admitted, Joined, Line, Lines, MAX_STEP, Opening, Place, Rules, all_keys};
use crate::error::Error;
use crate::sql::{self, Db, Migration, Tx};
use crate::writer::{Apply, Writer};

mod table;

use table::{Row, name};

/// The step of a product's schema that makes the tables `lines`, `line_places` and `line_names`.
pub const fn migration(version: i64) -> Migration {
    Migration { version, name: "lines", sql: table::SQLITE, postgres: Some(table::POSTGRES) }
}

/// A change of lines, for a product's enum of commands. [`Lines`] of [`SqlLines`] makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// See [`Lines::create`].
    Create {
        /// The line.
        line: Uuid,
        /// How it begins.
        opening: Opening,
    },
    /// Notes that the doors are open, if it is time.
    Open {
        /// The line.
        line: Uuid,
    },
    /// See [`Lines::join`].
    Join {
        /// The line.
        line: Uuid,
        /// The member, and whatever else it is known by.
        keys: Vec<Uuid>,
    },
    /// See [`Lines::leave`].
    Leave {
        /// The line.
        line: Uuid,
        /// Who leaves.
        member: Uuid,
    },
    /// See [`Lines::admit`].
    Admit {
        /// The line.
        line: Uuid,
        /// How many.
        admission: Admission,
    },
    /// A part of [`Lines::remove`].
    Remove {
        /// The line.
        line: Uuid,
    },
}

impl Command {
    fn line(&self) -> Uuid {
        match self {
            Self::Create { line, .. }
            | Self::Open { line }
            | Self::Join { line, .. }
            | Self::Leave { line, .. }
            | Self::Admit { line, .. }
            | Self::Remove { line } => *line,
        }
    }
}

/// What became of a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Command::Create`] and [`Command::Open`]: it is done.
    Done,
    /// To [`Command::Join`].
    Joined(Joined),
    /// To [`Command::Leave`].
    Left(bool),
    /// To [`Command::Admit`].
    Admitted(Admitted),
    /// To [`Command::Remove`]: how many places were taken away; when none was, none is left.
    Removed(usize),
}

/// The lines of a batch, locked, and which of them changed.
struct Locked {
    now: i64,
    rules: BTreeMap<Uuid, Rules>,
    changed: BTreeMap<Uuid, ()>,
}

impl Locked {
    fn change(&mut self, line: Uuid) -> Option<&mut Rules> {
        let rules = self.rules.get_mut(&line)?;
        self.changed.insert(line, ());
        Some(rules)
    }
}

/// Applies commands in the transaction of a batch; one answer each, in order. They are asked at the same time, so any
/// order of theirs is right: lines are made and removed, then members leave, then others join, then they are let in.
///
/// A product that calls this and others in one transaction always calls them in the same order, so that no two
/// transactions wait for each other.
///
/// # Errors
/// Those of the engine; the transaction must then be undone.
pub async fn apply(tx: &mut Tx<'_>, commands: &[&Command]) -> Result<Vec<Answer>, sql::Error> {
    let mut answers = vec![Answer::Done; commands.len()];
    let mut ids: Vec<Uuid> = commands.iter().map(|command| command.line()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(answers);
    }
    let mut openings: Vec<(Uuid, &Opening)> = Vec::new();
    let (mut joins, mut leaves, mut admissions) = (Vec::new(), Vec::new(), Vec::new());
    let mut removals = Vec::new();
    for (at, command) in commands.iter().enumerate() {
        match command {
            Command::Create { line, opening } => openings.push((*line, opening)),
            Command::Open { .. } => {}
            Command::Join { line, keys } => joins.push((at, *line, keys.as_slice())),
            Command::Leave { line, member } => leaves.push((at, *line, *member)),
            Command::Admit { line, admission } => admissions.push((at, *line, *admission)),
            Command::Remove { line } => removals.push((at, *line)),
        }
    }
    openings.sort_unstable_by_key(|(line, _)| *line);
    for (line, opening) in &openings {
        table::make(tx, *line, opening).await?;
    }
    let rules = table::lock(tx, &ids).await?;
    let now = tx.now().await?.micros();
    let mut locked = Locked { now, rules, changed: BTreeMap::new() };
    open_doors(&mut locked, &openings);
    for (at, line) in removals {
        locked.rules.remove(&line);
        locked.changed.remove(&line);
        answers[at] = Answer::Removed(table::remove(tx, line).await?);
    }
    leave_all(tx, &mut locked, &leaves, &mut answers).await?;
    join_all(tx, &mut locked, &joins, &mut answers).await?;
    for (at, line, admission) in admissions {
        answers[at] = Answer::Admitted(admit(tx, &mut locked, line, admission).await?);
    }
    let changed = locked.changed.keys().filter_map(|line| Some((*line, locked.rules.get(line)?)));
    table::write_lines(tx, changed.collect()).await?;
    Ok(answers)
}

/// Moves openings that were asked for, then notes which doors are open by now.
fn open_doors(locked: &mut Locked, openings: &[(Uuid, &Opening)]) {
    for (line, opening) in openings {
        let Some(rules) = locked.rules.get_mut(line).filter(|rules| rules.drawn.is_none()) else { continue };
        let opens_at = match opening {
            Opening::Lottery { opens_at, .. } => opens_at.micros(),
            Opening::Now => locked.now,
        };
        // Doors that should have opened before this have opened. One that was just made to open now has no time yet.
        if locked.now < rules.opens_at && opens_at != rules.opens_at {
            rules.opens_at = opens_at;
            locked.changed.insert(*line, ());
        }
    }
    for (line, rules) in &mut locked.rules {
        if rules.open_by(locked.now) {
            locked.changed.insert(*line, ());
        }
    }
}

async fn leave_all(
    tx: &mut Tx<'_>,
    locked: &mut Locked,
    leaves: &[(usize, Uuid, Uuid)],
    answers: &mut [Answer],
) -> Result<(), sql::Error> {
    if leaves.is_empty() {
        return Ok(());
    }
    let wanted = leaves.iter().map(|(_, line, member)| (*line, name(*line, *member))).collect();
    let mut found = table::find(tx, wanted).await?;
    let mut gone = Vec::new();
    for (at, line, member) in leaves {
        let row = found.remove(&name(*line, *member)).filter(|row| row.member == *member);
        let lives = row.as_ref().is_some_and(|row| row.lives(locked.now));
        answers[*at] = Answer::Left(lives);
        let Some(row) = row else { continue };
        if row.until == 0 {
            locked.change(*line).into_iter().for_each(|rules| rules.waiting -= 1);
        }
        gone.push((*line, row));
    }
    table::delete(tx, &gone).await
}

async fn join_all(
    tx: &mut Tx<'_>,
    locked: &mut Locked,
    joins: &[(usize, Uuid, &[Uuid])],
    answers: &mut [Answer],
) -> Result<(), sql::Error> {
    if joins.is_empty() {
        return Ok(());
    }
    let names =
        |(_, line, keys): &(usize, Uuid, &[Uuid])| -> Vec<Uuid> { keys.iter().map(|key| name(*line, *key)).collect() };
    let names: Vec<Vec<Uuid>> = joins.iter().map(names).collect();
    let wanted = joins.iter().zip(&names).flat_map(|((_, line, _), names)| names.iter().map(|name| (*line, *name)));
    let found = table::find(tx, wanted.collect()).await?;
    let mut new: Vec<(Uuid, Row)> = Vec::with_capacity(joins.len());
    // Who has a name since this batch: a place among the new ones.
    let mut taken: HashMap<Uuid, usize> = HashMap::with_capacity(found.len() + joins.len());
    for ((at, line, keys), names) in joins.iter().zip(names) {
        let now = locked.now;
        let Some(rules) = locked.rules.get(line) else {
            answers[*at] = Answer::Joined(Joined::NoLine);
            continue;
        };
        let holder = names.iter().find_map(|name| {
            let new = taken.get(name).and_then(|at| new.get(*at)).map(|(_, row)| row);
            new.or_else(|| found.get(name).filter(|row| row.lives(now)))
        });
        if let Some(row) = holder {
            answers[*at] = Answer::Joined(Joined::Already(rules.place(row.member, row.entry, row.until)));
            continue;
        }
        let (Some(member), Some(rules)) = (keys.first(), locked.change(*line)) else { continue };
        rules.joined += 1;
        rules.waiting += 1;
        taken.extend(names.iter().map(|name| (*name, new.len())));
        let row = Row { entry: rules.joined, member: *member, until: 0, names };
        answers[*at] = Answer::Joined(Joined::New(rules.place(row.member, row.entry, 0)));
        new.push((*line, row));
    }
    table::insert(tx, &new).await
}

async fn admit(tx: &mut Tx<'_>, locked: &mut Locked, line: Uuid, admission: Admission) -> Result<Admitted, sql::Error> {
    let now = locked.now;
    let Some(rules) = locked.rules.get(&line).cloned() else { return Ok(Admitted::default()) };
    let lapsed = table::lapsed(tx, line, now).await?;
    table::delete(tx, &lapsed.into_iter().map(|row| (line, row)).collect::<Vec<_>>()).await?;
    let room = match admission.inside {
        None => usize::MAX,
        Some(limit) => limit.saturating_sub(usize::try_from(table::inside(tx, line, now).await?).unwrap_or(usize::MAX)),
    };
    let most = admission.most.min(MAX_STEP).min(room);
    if most == 0 || rules.drawn.is_none() {
        return Ok(Admitted { members: Vec::new(), serving: rules.serving });
    }
    let (next, serving) = table::next(tx, line, &rules, most).await?;
    let until = Timestamp::from_micros(now).plus(admission.stay).micros();
    table::let_in(tx, line, next.iter().map(|(entry, _)| *entry).collect(), until).await?;
    if let Some(rules) = locked.change(line) {
        rules.serving = serving;
        rules.waiting -= next.len() as i64;
    }
    let members = next.into_iter().map(|(entry, member)| rules.place(member, entry, until)).collect();
    Ok(Admitted { members, serving })
}

/// [`apply`] as the only work of a writer, where a product has no commands of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplyLines;

impl Apply for ApplyLines {
    type Command = Command;
    type Answer = Answer;

    async fn apply(&self, tx: &mut Tx<'_>, commands: &[Command]) -> Result<Vec<Answer>, sql::Error> {
        apply(tx, &commands.iter().collect::<Vec<_>>()).await
    }
}

/// Lines in a product's database, through its writer, whose command can be made from [`Command`] and whose answer to
/// that can be turned into [`Answer`]. The tables are made by [`migration`].
pub struct SqlLines<A: Apply> {
    db: Db,
    writer: Writer<A>,
    clock: Arc<dyn Clock>,
}

impl<A: Apply> std::fmt::Debug for SqlLines<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlLines").field("db", &self.db).finish_non_exhaustive()
    }
}

impl<A> SqlLines<A>
where
    A: Apply,
    A::Command: From<Command>,
    Answer: TryFrom<A::Answer>,
{
    /// The clock is the writer's; SQLite goes by it.
    pub fn new(db: Db, writer: Writer<A>, clock: Arc<dyn Clock>) -> Self {
        Self { db, writer, clock }
    }

    async fn submit(&self, command: Command) -> Result<Answer, Error> {
        let answer = self.writer.submit(command.into()).await?;
        answer.try_into().map_err(|_| unexpected())
    }

    /// A line as of now, and the transaction in which it stands still. Doors that should be open are opened first, by the
    /// writer, so that nobody is drawn among others than those whom he sees.
    async fn read(&self, line: Uuid) -> Result<Option<(Tx<'static>, Rules, i64)>, Error> {
        let mut asked = false;
        loop {
            let mut tx = self.db.begin_read(&*self.clock).await?;
            let now = tx.now().await?.micros();
            let Some(rules) = table::read(&mut tx, &[line]).await?.remove(&line) else { return Ok(None) };
            if asked || rules.drawn.is_some() || now < rules.opens_at {
                return Ok(Some((tx, rules, now)));
            }
            drop(tx);
            self.submit(Command::Open { line }).await?;
            asked = true;
        }
    }
}

impl<A> Lines for SqlLines<A>
where
    A: Apply,
    A::Command: From<Command>,
    Answer: TryFrom<A::Answer>,
{
    fn create(&self, line: Uuid, opening: Opening) -> BoxFuture<'_, Result<Line, Error>> {
        async move {
            self.submit(Command::Create { line, opening }).await?;
            self.line(line).await?.ok_or_else(unexpected)
        }
        .boxed()
    }

    fn join(&self, line: Uuid, member: Uuid, keys: Vec<Uuid>) -> BoxFuture<'_, Result<Joined, Error>> {
        async move {
            match self.submit(Command::Join { line, keys: all_keys(member, keys)? }).await? {
                Answer::Joined(joined) => Ok(joined),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }

    fn leave(&self, line: Uuid, member: Uuid) -> BoxFuture<'_, Result<bool, Error>> {
        async move {
            match self.submit(Command::Leave { line, member }).await? {
                Answer::Left(left) => Ok(left),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }

    fn admit(&self, line: Uuid, admission: Admission) -> BoxFuture<'_, Result<Admitted, Error>> {
        async move {
            match self.submit(Command::Admit { line, admission }).await? {
                Answer::Admitted(admitted) => Ok(admitted),
                _ => Err(unexpected()),
            }
        }
        .boxed()
    }

    fn front(&self, line: Uuid, most: usize) -> BoxFuture<'_, Result<Vec<Place>, Error>> {
        async move {
            let Some((mut tx, rules, _)) = self.read(line).await? else { return Ok(Vec::new()) };
            if rules.drawn.is_none() {
                return Ok(Vec::new());
            }
            let (next, _) = table::next(&mut tx, line, &rules, most.min(MAX_STEP)).await?;
            Ok(next.into_iter().map(|(entry, member)| rules.place(member, entry, 0)).collect())
        }
        .boxed()
    }

    fn place(&self, line: Uuid, member: Uuid) -> BoxFuture<'_, Result<Option<Place>, Error>> {
        async move {
            let Some((mut tx, rules, now)) = self.read(line).await? else { return Ok(None) };
            let name = name(line, member);
            let row = table::find(&mut tx, vec![(line, name)]).await?.remove(&name);
            let row = row.filter(|row| row.member == member && row.lives(now));
            Ok(row.map(|row| rules.place(member, row.entry, row.until)))
        }
        .boxed()
    }

    fn remove(&self, line: Uuid) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            // It ends, as nobody joins a line that is not there.
            loop {
                match self.submit(Command::Remove { line }).await? {
                    Answer::Removed(0) => return Ok(()),
                    Answer::Removed(_) => {}
                    _ => return Err(unexpected()),
                }
            }
        }
        .boxed()
    }

    fn line(&self, line: Uuid) -> BoxFuture<'_, Result<Option<Line>, Error>> {
        async move {
            let Some((mut tx, rules, now)) = self.read(line).await? else { return Ok(None) };
            let inside = table::inside(&mut tx, line, now).await?;
            Ok(Some(rules.line(inside)))
        }
        .boxed()
    }
}

fn unexpected() -> Error {
    Error::Unexpected { what: "another command's answer to a command about lines".to_owned() }
}
