//! The disk tier: a folder with a file for each answer, and a table of what is there in memory.
//!
//! One thread of its own writes, removes and keeps to the size; workers only look into the table, and have files read by
//! threads that may wait. Files appear whole, by renaming, and are read with their sum checked, so that nothing has to be
//! repaired after a crash. What was voided is in a journal until its files are gone.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use http::HeaderName;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Semaphore;

use super::file::{self, LEAD_BYTES};
use super::key::{Digest, Key, Mark};
use super::stored::Stored;
use super::voids::Voids;
use crate::Error;

/// Jobs that wait for the thread; an answer that finds no place is not written.
const MOST_JOBS: usize = 4_096;
/// Bytes of answers that wait for it.
const MOST_WAITING_BYTES: u64 = 64 << 20;
/// Files read at the same time.
const MOST_READS: usize = 32;
/// What the journal may grow to before it is begun anew.
const MOST_JOURNAL_BYTES: u64 = 1 << 20;
/// How often a worker looks whether the table is free: some microseconds.
const MOST_SPINS: usize = 1_000;
const SUFFIX: &str = ".answer";
const JOURNAL: &str = "voided";
const UNFINISHED: &str = "unfinished-";

/// The disk tier.
#[derive(Debug)]
pub struct Disk {
    shelf: Arc<Shelf>,
    jobs: OnceLock<Option<SyncSender<Job>>>,
}

#[derive(Debug)]
struct Shelf {
    folder: PathBuf,
    most_bytes: u64,
    voids: Arc<Voids>,
    table: Mutex<Table>,
    reads: Semaphore,
    /// Whether there may be files of answers that were voided.
    is_dirty: AtomicBool,
    /// Of answers that wait to be written.
    waiting_bytes: AtomicU64,
    bytes: Gauge,
}

#[derive(Debug, Default)]
struct Table {
    rows: HashMap<Key, Vec<Row>, ahash::RandomState>,
    answers: u64,
    bytes: u64,
    /// Counts uses, for who was used last.
    uses: u64,
}

#[derive(Clone, Debug)]
struct Row {
    variant: u64,
    vary: Vec<(HeaderName, Key)>,
    marks: Vec<Mark>,
    since: u64,
    bytes: u64,
    used: u64,
}

#[derive(Debug)]
enum Job {
    Write(Key, Arc<Stored>),
    Remove(Key, u64),
    Void(Mark, u64),
}

/// A file that may be read.
#[derive(Debug)]
pub struct Found {
    shelf: Arc<Shelf>,
    key: Key,
    variant: u64,
}

impl Disk {
    /// In this folder, up to so many bytes. Nothing is touched before the first use.
    pub(super) fn new(folder: PathBuf, most_bytes: u64, voids: Arc<Voids>, bytes: Gauge) -> Result<Self, Error> {
        if folder.exists() && !folder.is_dir() {
            let detail =
                format!("`{}` is not a folder; name one that the gateway may have for itself", folder.display());
            return Err(Error::Config { place: String::new(), detail });
        }
        let shelf = Shelf {
            folder,
            most_bytes,
            voids,
            table: Mutex::default(),
            reads: Semaphore::new(MOST_READS),
            is_dirty: AtomicBool::new(false),
            waiting_bytes: AtomicU64::new(0),
            bytes,
        };
        Ok(Self { shelf: Arc::new(shelf), jobs: OnceLock::new() })
    }

    /// Starts the thread.
    pub(super) fn open(&self) {
        let _ = self.jobs();
    }

    /// The thread's queue; the first who asks starts the thread.
    fn jobs(&self) -> Option<&SyncSender<Job>> {
        let start = || {
            let (sender, receiver) = sync_channel(MOST_JOBS);
            let shelf = self.shelf.clone();
            let started =
                std::thread::Builder::new().name("gateway-cache".into()).spawn(move || work(&shelf, &receiver));
            match started {
                Ok(_) => Some(sender),
                Err(error) => {
                    tracing::error!(%error, "there is no thread for answers on disk");
                    None
                }
            }
        };
        self.jobs.get_or_init(start).as_ref()
    }

    pub(super) fn find(&self, key: Key, value: &dyn Fn(&HeaderName) -> Key) -> Option<Found> {
        self.jobs()?;
        let mut table = self.shelf.look()?;
        table.uses += 1;
        let uses = table.uses;
        let rows = table.rows.get_mut(&key)?;
        let chosen = |row: &&mut Row| row.vary.iter().all(|(name, digest)| value(name) == *digest);
        let row = rows.iter_mut().filter(|row| self.shelf.voids.spares(&row.marks, row.since)).find(chosen)?;
        row.used = uses;
        Some(Found { shelf: self.shelf.clone(), key, variant: row.variant })
    }

    pub(super) fn write(&self, key: Key, stored: Arc<Stored>) {
        let Some(jobs) = self.jobs() else { return };
        let (weight, waiting) = (stored.weight(), &self.shelf.waiting_bytes);
        let is_too_much = waiting.fetch_add(weight, Ordering::SeqCst) + weight > MOST_WAITING_BYTES;
        if is_too_much || jobs.try_send(Job::Write(key, stored)).is_err() {
            waiting.fetch_sub(weight, Ordering::SeqCst);
        }
    }

    pub(super) fn remove(&self, key: Key, stored: &Stored) {
        if let Some(jobs) = self.jobs() {
            let _ = jobs.try_send(Job::Remove(key, variant_of(&stored.vary)));
        }
    }

    pub(super) fn void(&self, mark: Mark, number: u64) {
        self.shelf.is_dirty.store(true, Ordering::SeqCst);
        if let Some(jobs) = self.jobs() {
            let _ = jobs.try_send(Job::Void(mark, number));
        }
    }

    /// Answers and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let table = self.shelf.table();
        (table.answers, table.bytes)
    }
}

fn variant_of(vary: &[(HeaderName, Key)]) -> u64 {
    let with = |digest: Digest, (name, value): &(HeaderName, Key)| {
        digest.with(name.as_str().as_bytes()).with(&value.to_le_bytes())
    };
    vary.iter().fold(Digest::of("variant"), with).mark()
}

impl Found {
    /// Reads the file, where not too many are being read already. One that is broken is removed.
    pub(super) async fn read(self) -> Option<Stored> {
        let shelf = self.shelf.clone();
        let _turn = shelf.reads.try_acquire().ok()?;
        let reading = tokio::task::spawn_blocking(move || {
            let path = self.shelf.path(self.key, self.variant);
            let stored = fs::read(&path).ok().and_then(file::read);
            if stored.is_none() {
                self.shelf.forget(self.key, self.variant);
                let _ = fs::remove_file(&path);
            }
            stored
        });
        reading.await.ok().flatten()
    }
}

impl Shelf {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table for a worker, who does not wait for who holds it long: what is on disk counts as missing then.
    fn look(&self) -> Option<MutexGuard<'_, Table>> {
        for _ in 0..MOST_SPINS {
            match self.table.try_lock() {
                Ok(table) => return Some(table),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        None
    }

    fn path(&self, key: Key, variant: u64) -> PathBuf {
        let name = format!("{key:032x}-{variant:016x}{SUFFIX}");
        self.folder.join(&name[..2]).join(name)
    }

    fn enter(&self, key: Key, row: Row) {
        let mut table = self.table();
        table.uses += 1;
        let row = Row { used: table.uses, ..row };
        let bytes = row.bytes;
        let rows = table.rows.entry(key).or_default();
        let before = rows.iter().position(|known| known.variant == row.variant).map(|at| rows.swap_remove(at));
        rows.push(row);
        if let Some(before) = before {
            table.answers -= 1;
            table.bytes -= before.bytes;
        }
        table.answers += 1;
        table.bytes += bytes;
        self.note_bytes(&table);
    }

    fn forget(&self, key: Key, variant: u64) {
        let mut table = self.table();
        let Some(rows) = table.rows.get_mut(&key) else { return };
        let Some(at) = rows.iter().position(|row| row.variant == variant) else { return };
        let bytes = rows.swap_remove(at).bytes;
        if rows.is_empty() {
            table.rows.remove(&key);
        }
        table.answers -= 1;
        table.bytes -= bytes;
        self.note_bytes(&table);
    }

    fn note_bytes(&self, table: &Table) {
        self.bytes.set(i64::try_from(table.bytes).unwrap_or(i64::MAX));
    }

    fn put(&self, key: Key, stored: &Stored) -> std::io::Result<()> {
        if !self.voids.spares(&stored.marks, stored.since) {
            return Ok(());
        }
        let bytes = file::write(stored);
        if bytes.len() as u64 > self.most_bytes / 2 {
            return Ok(());
        }
        let variant = variant_of(&stored.vary);
        let path = self.path(key, variant);
        let unfinished = self.folder.join(format!("{UNFINISHED}{key:032x}-{variant:016x}"));
        fs::write(&unfinished, &bytes)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(&unfinished, &path)?;
        let (vary, marks) = (stored.vary.clone(), stored.marks.clone());
        self.enter(key, Row { variant, vary, marks, since: stored.since, bytes: bytes.len() as u64, used: 0 });
        self.keep_to_size();
        Ok(())
    }

    /// Removes what was used longest ago, a tenth at once.
    fn keep_to_size(&self) {
        let (mut rows, mut left) = {
            let table = self.table();
            if table.bytes <= self.most_bytes {
                return;
            }
            let rows = table.rows.iter().flat_map(|(key, rows)| rows.iter().map(|row| (*key, row)));
            let rows = rows.map(|(key, row)| (row.used, key, row.variant, row.bytes));
            (rows.collect::<Vec<_>>(), table.bytes)
        };
        rows.sort_unstable();
        for (_, key, variant, bytes) in rows {
            if left <= self.most_bytes / 10 * 9 {
                break;
            }
            left -= bytes;
            self.remove(key, variant);
        }
    }

    fn remove(&self, key: Key, variant: u64) {
        self.forget(key, variant);
        let _ = fs::remove_file(self.path(key, variant));
    }

    /// Removes the files of what was voided.
    fn sweep(&self) {
        if !self.is_dirty.swap(false, Ordering::SeqCst) {
            return;
        }
        let gone: Vec<(Key, u64)> = {
            let table = self.table();
            let rows = table.rows.iter().flat_map(|(key, rows)| rows.iter().map(|row| (*key, row)));
            let void = rows.filter(|(_, row)| !self.voids.spares(&row.marks, row.since));
            void.map(|(key, row)| (key, row.variant)).collect()
        };
        gone.into_iter().for_each(|(key, variant)| self.remove(key, variant));
    }

    /// Finds out what is there.
    fn scan(&self) {
        let Ok(folders) = fs::read_dir(&self.folder) else { return };
        for entry in folders.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(UNFINISHED) {
                let _ = fs::remove_file(entry.path());
            }
            if name.len() != 2 || !entry.path().is_dir() {
                continue;
            }
            for file in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                let path = file.path();
                if let Some((key, variant)) = named(&path)
                    && !self.take_up(&path, key, variant)
                {
                    let _ = fs::remove_file(&path);
                }
            }
        }
    }

    /// Enters a file that is there. What it says of itself is believed until it is read.
    fn take_up(&self, path: &Path, key: Key, variant: u64) -> bool {
        let read = || {
            let mut file = fs::File::open(path).ok()?;
            let bytes = file.metadata().ok()?.len();
            let mut lead = [0; LEAD_BYTES];
            file.read_exact(&mut lead).ok()?;
            let mut description = vec![0; file::description_bytes(&lead)?];
            file.read_exact(&mut description).ok()?;
            let description = file::describe(&description)?;
            let vary = description.vary()?;
            (variant_of(&vary) == variant).then_some((description, vary, bytes))
        };
        let Some((description, vary, bytes)) = read() else { return false };
        if !self.voids.spares(&description.marks, description.since) {
            return false;
        }
        let row = Row { variant, vary, marks: description.marks, since: description.since, bytes, used: 0 };
        self.enter(key, row);
        true
    }
}

fn named(path: &Path) -> Option<(Key, u64)> {
    let (key, variant) = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.split_once('-')?;
    Some((Key::from_str_radix(key, 16).ok()?, u64::from_str_radix(variant, 16).ok()?))
}

/// The thread's life: takes up what is there, then does jobs until nobody can give any more.
fn work(shelf: &Shelf, jobs: &Receiver<Job>) {
    if let Err(error) = fs::create_dir_all(&shelf.folder) {
        tracing::error!(%error, folder = %shelf.folder.display(), "answers cannot be kept on disk");
        return;
    }
    let mut journal = Journal::open(shelf);
    shelf.scan();
    shelf.keep_to_size();
    journal.begin_anew(shelf);
    let mut has_warned = false;
    loop {
        let job = match jobs.try_recv() {
            Ok(job) => job,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                // There is time to clean up.
                shelf.sweep();
                match jobs.recv() {
                    Ok(job) => job,
                    Err(_) => return,
                }
            }
        };
        match job {
            Job::Write(key, stored) => {
                let written = shelf.put(key, &stored);
                shelf.waiting_bytes.fetch_sub(stored.weight(), Ordering::SeqCst);
                match written {
                    Ok(()) => has_warned = false,
                    Err(error) if !std::mem::replace(&mut has_warned, true) => {
                        tracing::warn!(%error, folder = %shelf.folder.display(), "an answer could not be kept on disk");
                    }
                    Err(_) => {}
                }
            }
            Job::Remove(key, variant) => shelf.remove(key, variant),
            Job::Void(mark, number) => journal.add(shelf, mark, number),
        }
    }
}

/// What was voided, for as long as files of it may be there: a mark and a number, 8 bytes each, little endian.
struct Journal {
    path: PathBuf,
    file: Option<fs::File>,
    bytes: u64,
}

impl Journal {
    /// Takes over what an earlier process voided.
    fn open(shelf: &Shelf) -> Self {
        let path = shelf.folder.join(JOURNAL);
        let known = fs::read(&path).unwrap_or_default();
        for record in known.chunks_exact(16) {
            let number = |at: usize| record[at..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            shelf.voids.restore(number(0), number(8));
        }
        Self { path, file: None, bytes: known.len() as u64 }
    }

    fn add(&mut self, shelf: &Shelf, mark: Mark, number: u64) {
        if self.bytes >= MOST_JOURNAL_BYTES {
            shelf.is_dirty.store(true, Ordering::SeqCst);
            shelf.sweep();
            self.begin_anew(shelf);
        }
        if self.file.is_none() {
            self.file = fs::OpenOptions::new().create(true).append(true).open(&self.path).ok();
        }
        let mut record = [0; 16];
        record[..8].copy_from_slice(&mark.to_le_bytes());
        record[8..].copy_from_slice(&number.to_le_bytes());
        if let Some(file) = &mut self.file
            && file.write_all(&record).is_ok()
        {
            self.bytes += record.len() as u64;
        }
    }

    /// All files of what was voided are gone: only the last number is worth knowing.
    fn begin_anew(&mut self, shelf: &Shelf) {
        self.file = None;
        let last = Digest::of("journal").mark().to_le_bytes().into_iter().chain(shelf.voids.now().to_le_bytes());
        let unfinished = shelf.folder.join(format!("{UNFINISHED}{JOURNAL}"));
        let written = fs::write(&unfinished, last.collect::<Vec<u8>>());
        if written.and_then(|()| fs::rename(&unfinished, &self.path)).is_ok() {
            self.bytes = 16;
        }
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
