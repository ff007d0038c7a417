//! The batching writer on a real file and a real server: own answers, neighbours, limits, the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::AssertSqlSafe;
use tessera_kernel::{ErrorKind, SystemClock};
use tessera_store::sql::{self, Db, Migration, Tx};
use tessera_store::writer::{Apply, Limits, Metrics, Writer};
use tessera_store::{Error, each_engine, each_tx};
use tessera_testkit::{ScratchDir, postgres};
use tokio::sync::{Semaphore, SemaphorePermit};

const STEPS: &[Migration] = &[Migration::new(1, "notes", "CREATE TABLE notes (n BIGINT PRIMARY KEY)")];

#[derive(Debug)]
enum Note {
    /// Inserts it; a second time breaks the transaction.
    Add(i64),
    /// Inserts it, or says that it is there.
    AddOnce(i64),
    Panic,
}

/// Adds notes, one transaction for each permit of the gate.
struct Notes {
    gate: Arc<Semaphore>,
    batches: Arc<AtomicUsize>,
    /// How often to be broken off first, with this statement.
    trouble: Arc<AtomicUsize>,
    statement: &'static str,
}

impl Apply for Notes {
    type Command = Note;
    type Answer = bool;

    async fn apply(&self, tx: &mut Tx<'_>, commands: &[Note]) -> Result<Vec<bool>, sql::Error> {
        self.batches.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.map(SemaphorePermit::forget).unwrap();
        if self.trouble.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            each_tx!(&mut *tx, |c| sqlx::raw_sql(AssertSqlSafe(self.statement)).execute(c).await.map(drop))?;
        }
        let mut answers = Vec::new();
        for command in commands {
            let (sql, n) = match command {
                Note::Add(n) => ("INSERT INTO notes VALUES ($1)", *n),
                Note::AddOnce(n) => ("INSERT INTO notes VALUES ($1) ON CONFLICT DO NOTHING", *n),
                Note::Panic => panic!("as asked"),
            };
            let rows =
                each_tx!(&mut *tx, |c| sqlx::query(sql).bind(n).execute(c).await.map(|done| done.rows_affected()))?;
            answers.push(rows == 1);
        }
        Ok(answers)
    }
}

struct Stage {
    db: Db,
    writer: Writer<Notes>,
    gate: Arc<Semaphore>,
    batches: Arc<AtomicUsize>,
    trouble: Arc<AtomicUsize>,
}

const OPEN: usize = 1_000_000;

impl Stage {
    async fn new(url: &str, limits: Limits, permits: usize, statement: &'static str) -> Self {
        let db = Db::open(url, "notes", STEPS).await.unwrap();
        let gate = Arc::new(Semaphore::new(permits));
        let (batches, trouble) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let apply =
            Notes { gate: Arc::clone(&gate), batches: Arc::clone(&batches), trouble: Arc::clone(&trouble), statement };
        let writer = Writer::start(&db, apply, Arc::new(SystemClock), limits, Metrics::default());
        Self { db, writer, gate, batches, trouble }
    }

    async fn written(&self) -> Vec<i64> {
        each_engine!(&self.db, |pool| sqlx::query_scalar("SELECT n FROM notes ORDER BY n").fetch_all(pool).await)
            .unwrap()
    }

    /// Submits without waiting for the answer.
    fn submit(&self, note: Note) -> tokio::task::JoinHandle<Result<bool, Error>> {
        let writer = self.writer.clone();
        tokio::spawn(async move { writer.submit(note).await })
    }

    async fn until_waiting(&self, count: usize) {
        while self.writer.waiting() != count {
            tokio::task::yield_now().await;
        }
    }

    async fn until_batches(&self, count: usize) {
        while self.batches.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }
}

async fn contract(urls: impl AsyncFn() -> String) {
    each_gets_its_own_answer(&urls().await).await;
    a_failing_command_does_not_fail_its_neighbours(&urls().await).await;
    one_too_many_is_refused(&urls().await).await;
    a_caller_that_left_is_not_served(&urls().await).await;
    closing_answers_what_waits(&urls().await).await;
    a_panic_breaks_its_batch_only(&urls().await).await;
    no_answer_in_time_is_said_so(&urls().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    let scratch = ScratchDir::new();
    let count = AtomicUsize::new(0);
    contract(async || {
        let n = count.fetch_add(1, Ordering::Relaxed);
        format!("sqlite:{}", scratch.file(&format!("{n}.db")).display())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    let server = postgres::start();
    contract(async || server.new_database()).await;
    trouble_passes(&server.new_database(), "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$", true)
        .await;
    trouble_passes(&server.new_database(), "SELECT pg_terminate_backend(pg_backend_pid())", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_in_memory_is_shared_with_readers() {
    each_gets_its_own_answer("sqlite::memory:").await;
}

async fn each_gets_its_own_answer(url: &str) {
    let stage = Stage::new(url, Limits::default(), OPEN, "").await;
    let asked: Vec<_> = (0..2_000).map(|n| (n, stage.submit(Note::AddOnce(n / 2)))).collect();
    let mut added = [0; 1_000];
    for (n, answer) in asked {
        added[n as usize / 2] += i32::from(answer.await.unwrap().unwrap());
    }
    assert!(added.iter().all(|times| *times == 1), "each is added once");
    assert_eq!(stage.written().await, (0..1_000).collect::<Vec<i64>>());
    let batches = stage.batches.load(Ordering::SeqCst);
    assert!(batches < 1_000, "{batches} transactions for 2000 commands");
}

async fn a_failing_command_does_not_fail_its_neighbours(url: &str) {
    let stage = Stage::new(url, Limits { lanes: 1, ..Limits::default() }, 0, "").await;
    let first = stage.submit(Note::Add(3));
    stage.until_batches(1).await;
    let asked: Vec<_> = (0..32).map(|n| stage.submit(Note::Add(n))).collect();
    stage.until_waiting(32).await;
    stage.gate.add_permits(OPEN);
    assert!(first.await.unwrap().unwrap());
    for (n, answer) in asked.into_iter().enumerate() {
        match answer.await.unwrap() {
            Ok(added) => assert!(added && n != 3),
            Err(error) => {
                assert!(n == 3, "{n}: {error}");
                assert_eq!((error.code(), error.kind()), ("store.duplicate", ErrorKind::Conflict));
                assert!(!error.may_have_happened());
            }
        }
    }
    assert_eq!(stage.written().await.len(), 32);
    assert!(stage.batches.load(Ordering::SeqCst) < 16, "it is found by halving");
}

async fn one_too_many_is_refused(url: &str) {
    let stage = Stage::new(url, Limits { waiting: 2, lanes: 1, ..Limits::default() }, 0, "").await;
    let mut asked = vec![stage.submit(Note::Add(0))];
    stage.until_batches(1).await;
    asked.extend((1..3).map(|n| stage.submit(Note::Add(n))));
    stage.until_waiting(2).await;
    let error = stage.writer.submit(Note::Add(3)).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("store.busy", ErrorKind::Unavailable));
    stage.gate.add_permits(OPEN);
    for answer in asked {
        assert!(answer.await.unwrap().unwrap());
    }
    assert_eq!(stage.written().await, [0, 1, 2]);
}

async fn a_caller_that_left_is_not_served(url: &str) {
    let stage = Stage::new(url, Limits { lanes: 1, ..Limits::default() }, 0, "").await;
    let first = stage.submit(Note::Add(0));
    stage.until_batches(1).await;
    let leaves = stage.submit(Note::Add(1));
    stage.until_waiting(1).await;
    leaves.abort();
    assert!(leaves.await.is_err());
    let last = stage.submit(Note::Add(2));
    stage.until_waiting(2).await;
    stage.gate.add_permits(OPEN);
    assert!(first.await.unwrap().unwrap() && last.await.unwrap().unwrap());
    assert_eq!(stage.written().await, [0, 2]);
}

async fn closing_answers_what_waits(url: &str) {
    let stage = Stage::new(url, Limits { lanes: 1, batch: 3, ..Limits::default() }, 0, "").await;
    let first = stage.writer.clone();
    let mut asked: Vec<_> = (0..10).map(|n| Box::pin(first.submit(Note::Add(n)))).collect();
    // Asked once, each has come.
    for ask in &mut asked {
        assert!(futures::FutureExt::now_or_never(ask.as_mut()).is_none());
    }
    let writer = stage.writer.clone();
    let closing = tokio::spawn(async move { writer.close().await });
    let refused = loop {
        match tokio::time::timeout(Duration::from_millis(1), stage.writer.submit(Note::Add(99))).await {
            Ok(Err(Error::Closed)) => break Error::Closed,
            Ok(other) => panic!("{other:?}"),
            // It was in time; nobody waits for it any more.
            Err(_) => continue,
        }
    };
    assert_eq!((refused.code(), refused.kind()), ("store.closed", ErrorKind::Unavailable));
    stage.gate.add_permits(OPEN);
    closing.await.unwrap();
    for answer in asked {
        assert!(answer.await.unwrap());
    }
    assert_eq!(stage.written().await, (0..10).collect::<Vec<i64>>());
    stage.writer.close().await;
}

async fn a_panic_breaks_its_batch_only(url: &str) {
    let stage = Stage::new(url, Limits { lanes: 1, ..Limits::default() }, OPEN, "").await;
    let error = stage.writer.submit(Note::Panic).await.unwrap_err();
    assert_eq!(error.code(), "store.unknown_outcome");
    assert!(error.may_have_happened());
    assert!(stage.writer.submit(Note::Add(1)).await.unwrap());
}

async fn no_answer_in_time_is_said_so(url: &str) {
    let limits = Limits { deadline: Duration::from_millis(20), lanes: 1, ..Limits::default() };
    let stage = Stage::new(url, limits, 0, "").await;
    let error = stage.writer.submit(Note::Add(1)).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("store.deadline", ErrorKind::Timeout));
    assert!(error.may_have_happened());
    stage.gate.add_permits(OPEN);
}

/// A transaction that the engine breaks off is done again where that helps; the writer lives on in any case.
async fn trouble_passes(url: &str, statement: &'static str, again: bool) {
    let stage = Stage::new(url, Limits { lanes: 1, ..Limits::default() }, OPEN, statement).await;
    stage.trouble.store(1, Ordering::SeqCst);
    let answer = stage.writer.submit(Note::Add(1)).await;
    match answer {
        Ok(added) => assert!(again && added),
        Err(error) => {
            assert!(!again, "{error:?}");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        }
    }
    assert!(stage.writer.submit(Note::Add(2)).await.unwrap());
    assert_eq!(stage.batches.load(Ordering::SeqCst), if again { 3 } else { 2 });
}
