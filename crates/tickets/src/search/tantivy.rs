//! The embedded engine: an index on disk, in a folder of its own, written by this process and read from memory maps.

mod cheapest;
mod collect;
mod docs;
mod filter;
mod find;
mod near;
mod numbers;
mod packed;
mod schema;
mod view;
mod words;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tantivy::directory::error::LockError;
use tantivy::directory::{Directory, INDEX_WRITER_LOCK, MmapDirectory};
use tantivy::indexer::LogMergePolicy;
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, TantivyError, Term};
use tessera_kernel::Timestamp;
use tokio::sync::Semaphore;

use self::find::failed;
use self::schema::Fields;
use self::view::View;
use super::text::Folder;
use super::{Change, Hits, Position, Query, Search};
use crate::Error;

/// What the writer may hold in memory before it writes a segment.
const WRITER_BYTES: usize = 128 << 20;
/// So many segments of about a size become one. Each costs every query some microseconds.
const MERGED_SEGMENTS: usize = 4;
/// Segments below are of about a size.
const SMALL_SEGMENT_EVENTS: u32 = 2_000;
/// Merging takes deleted documents out of a segment in which they are more than this share.
const DELETED_SHARE: f32 = 0.2;
/// Queries at work at a time for each core; more would only share the cores.
const QUERIES_PER_CORE: usize = 2;

/// The index. Cheap to clone.
#[derive(Clone)]
pub struct Tantivy(Arc<Inner>);

struct Inner {
    index: Index,
    fields: Fields,
    reader: IndexReader,
    /// None while it waits for its merges, and for good where it could not be opened again.
    writer: Mutex<Option<IndexWriter>>,
    view: RwLock<Arc<View>>,
    position: Mutex<Option<Position>>,
    generation: AtomicU64,
    folder: Folder,
    queries: Semaphore,
}

/// An index that can be read and written.
struct Opened {
    index: Index,
    fields: Fields,
    reader: IndexReader,
    writer: IndexWriter,
    view: View,
    position: Option<Position>,
}

impl Opened {
    /// What is in the folder, where it is of this version and whole.
    fn existing(folder: &Path) -> Result<Option<Self>, TantivyError> {
        let index = Index::open_in_dir(folder)?;
        let payload = index.load_metas()?.payload;
        let payload: Option<Payload> = payload.and_then(|payload| serde_json::from_str(&payload).ok());
        match payload.filter(|payload| payload.version == schema::VERSION && index.schema() == schema::schema().0) {
            Some(payload) => Self::of(index, Some(payload.position)).map(Some),
            None => Ok(None),
        }
    }

    fn empty(folder: &Path) -> Result<Self, TantivyError> {
        let builder = Index::builder().schema(schema::schema().0).settings(schema::settings());
        Self::of(builder.open_or_create(MmapDirectory::open(folder)?)?, None)
    }

    fn of(mut index: Index, position: Option<Position>) -> Result<Self, TantivyError> {
        let (_, fields) = schema::schema();
        index.set_tokenizers(schema::tokenizers());
        let writer = open_writer(&index)?;
        let reader: IndexReader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let view = View::new(&reader.searcher(), &fields, &mut Folder::default(), None)?;
        Ok(Self { index, fields, reader, writer, view, position })
    }
}

/// What is kept beside a commit.
#[derive(Serialize, Deserialize)]
struct Payload {
    version: u32,
    position: Position,
}

/// Whether a process writes the index of this folder.
pub fn is_in_use(folder: &Path) -> bool {
    let busy = |directory: MmapDirectory| match directory.acquire_lock(&INDEX_WRITER_LOCK) {
        Err(error) => matches!(error, LockError::LockBusy),
        Ok(_free) => false,
    };
    MmapDirectory::open(folder).is_ok_and(busy)
}

impl Tantivy {
    /// Opens the index in a folder, or makes an empty one where there is none that this version can read. It reads and
    /// writes files: call it off the async threads.
    ///
    /// # Errors
    /// [`Error::Search`] where the folder cannot be used, or another process has the index open.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let cannot_use = |error: std::io::Error| Error::Search {
            reason: format!("folder `{}`: {error}; check that it may be written", folder.display()),
        };
        let locked = || Error::Search {
            reason: format!("folder `{}` is in use by another process; give each its own", folder.display()),
        };
        std::fs::create_dir_all(folder).map_err(cannot_use)?;
        let opened = match Opened::existing(folder) {
            Err(TantivyError::LockFailure(..)) => return Err(locked()),
            Ok(Some(opened)) => opened,
            // What is there is of an older version, broken or unfinished; the database has it all.
            Ok(None) | Err(_) => {
                std::fs::remove_dir_all(folder).and_then(|()| std::fs::create_dir_all(folder)).map_err(cannot_use)?;
                Opened::empty(folder).map_err(|error| match error {
                    TantivyError::LockFailure(..) => locked(),
                    error => failed(error),
                })?
            }
        };
        let Opened { index, fields, reader, writer, view, position } = opened;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self(Arc::new(Inner {
            index,
            fields,
            reader,
            writer: Mutex::new(Some(writer)),
            view: RwLock::new(Arc::new(view)),
            position: Mutex::new(position),
            generation: AtomicU64::new(0),
            folder: Folder::default(),
            queries: Semaphore::new(cores * QUERIES_PER_CORE),
        })))
    }

    /// How many events can be found.
    pub fn events(&self) -> u64 {
        self.0.view().events()
    }

    /// In how many segments they lie.
    pub fn segments(&self) -> usize {
        self.0.view().segments.len()
    }

    /// Answers on this thread; for programs that have their own.
    ///
    /// # Errors
    /// As [`Search::find`].
    pub fn find_here(&self, query: &Query, now: Timestamp) -> Result<Hits, Error> {
        let inner = &*self.0;
        find::find(&inner.view(), &inner.fields, &mut inner.folder.clone(), query, now)
    }

    /// Runs what reads or writes files off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|error| Err(Error::Search { reason: error.to_string() }))
    }
}

impl Search for Tantivy {
    fn write(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), Error>> {
        self.blocking(move |inner| inner.write(&changes)).boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.blocking(|inner| inner.writer().get()?.delete_all_documents().map(drop).map_err(failed)).boxed()
    }

    fn commit(&self, position: Position) -> BoxFuture<'_, Result<(), Error>> {
        self.blocking(move |inner| inner.commit(position)).boxed()
    }

    fn compact(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.blocking(Inner::compact).boxed()
    }

    fn position(&self) -> Option<Position> {
        *self.0.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    fn find(&self, query: Arc<Query>, now: Timestamp) -> BoxFuture<'_, Result<Hits, Error>> {
        async move {
            let closed = |_| Error::Search { reason: "it is shutting down".to_owned() };
            let _turn = self.0.queries.acquire().await.map_err(closed)?;
            self.blocking(move |inner| find::find(&inner.view(), &inner.fields, &mut inner.folder.clone(), &query, now))
                .await
        }
        .boxed()
    }
}

/// The writer, locked.
struct Writer<'a>(MutexGuard<'a, Option<IndexWriter>>);

impl Writer<'_> {
    fn get(&mut self) -> Result<&mut IndexWriter, Error> {
        let closed = || Error::Search { reason: "its writer could not be opened again; restart".to_owned() };
        self.0.as_mut().ok_or_else(closed)
    }
}

fn open_writer(index: &Index) -> Result<IndexWriter, TantivyError> {
    let writer: IndexWriter = index.writer_with_num_threads(1, WRITER_BYTES)?;
    let mut policy = LogMergePolicy::default();
    policy.set_min_num_segments(MERGED_SEGMENTS);
    policy.set_min_layer_size(SMALL_SEGMENT_EVENTS);
    policy.set_del_docs_ratio_before_merge(DELETED_SHARE);
    writer.set_merge_policy(Box::new(policy));
    Ok(writer)
}

impl Inner {
    fn writer(&self) -> Writer<'_> {
        Writer(self.writer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, changes: &[Change]) -> Result<(), Error> {
        let mut folder = self.folder.clone();
        let mut writer = self.writer();
        let writer = writer.get()?;
        for change in changes {
            let id = match change {
                Change::Put(document) => document.id,
                Change::Remove(id) => *id,
            };
            writer.delete_term(Term::from_field_bytes(self.fields.id, id.uuid().as_bytes()));
            if let Change::Put(document) = change {
                writer.add_document(schema::indexed(&self.fields, &mut folder, document)).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn commit(&self, position: Position) -> Result<(), Error> {
        let payload = Payload { version: schema::VERSION, position };
        let payload = serde_json::to_string(&payload).map_err(|error| Error::Search { reason: error.to_string() })?;
        let mut writer = self.writer();
        let mut commit = writer.get()?.prepare_commit().map_err(failed)?;
        commit.set_payload(&payload);
        commit.commit().map_err(failed)?;
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
        // Still under the writer's lock: a later commit must not be hidden by an earlier one's view.
        self.show()
    }

    fn compact(&self) -> Result<(), Error> {
        let mut writer = self.writer();
        // Merges that are under way would take segments from under this one: wait for them first.
        if let Some(old) = writer.0.take() {
            old.wait_merging_threads().map_err(failed)?;
        }
        let opened = writer.0.insert(open_writer(&self.index).map_err(failed)?);
        let segments = self.index.searchable_segment_ids().map_err(failed)?;
        if segments.len() > 1 {
            opened.merge(&segments).wait().map_err(failed)?;
        }
        self.show()
    }

    fn show(&self) -> Result<(), Error> {
        self.reader.reload().map_err(failed)?;
        let mut folder = self.folder.clone();
        let view = View::new(&self.reader.searcher(), &self.fields, &mut folder, Some(&self.view())).map_err(failed)?;
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

impl std::fmt::Debug for Tantivy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tantivy").field("generation", &self.generation()).finish_non_exhaustive()
    }
}
