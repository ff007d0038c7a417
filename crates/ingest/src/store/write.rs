//! The steps of a run's life, each idempotent under its key.

use tessera_kernel::Timestamp;
use tessera_store::each_engine;
use tessera_store::sql;

use super::{Counts, Kind, RUNS_KEPT, Run, RunError, Seen, Store, Trigger};
use crate::Error;

/// How often an acceptance looks again when what was in its way ends meanwhile.
const LOOKS: usize = 3;

/// A run that is asked for.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// `run_…`
    pub id: String,
    /// Its pipeline.
    pub pipeline: String,
    /// Backfill or incremental.
    pub kind: Kind,
    /// What sets it going.
    pub trigger: Trigger,
    /// The key under which asking again is the same.
    pub idempotency_key: Option<String>,
    /// What was asked for, so that the key is not used for something else.
    pub request_hash: String,
    /// When.
    pub at: Timestamp,
}

/// What becomes of a request for a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Accepted {
    /// It is queued.
    New(Run),
    /// The key was used for the same request before: that one's run.
    Again(Run),
    /// The key was used for another request: that one's run.
    OtherRequest(String),
    /// A run of the pipeline is not over yet.
    Busy(String),
}

impl Store {
    /// Queues a run, unless its key was used or its pipeline has a run that is not over.
    ///
    /// # Errors
    /// [`Error::Internal`] when the store fails.
    pub async fn accept(&self, new: &NewRun) -> Result<Accepted, Error> {
        const SQL: &str = "INSERT INTO runs (id, pipeline, kind, started_by, status, created_at, started_at, \
                           updated_at, resources, idempotency_key, request_hash) \
                           VALUES ($1, $2, $3, $4, 'queued', $5, $5, $5, '[]', $6, $7) ON CONFLICT DO NOTHING";
        for _ in 0..LOOKS {
            let inserted = each_engine!(&self.db, |pool| {
                let query = sqlx::query(SQL).bind(&new.id).bind(&new.pipeline).bind(new.kind.as_str());
                let query = query.bind(new.trigger.as_str()).bind(new.at.micros());
                let query = query.bind(&new.idempotency_key).bind(&new.request_hash);
                query.execute(pool).await.map(|done| done.rows_affected())
            })
            .map_err(sql::Error::from)?;
            if inserted == 1 {
                return Ok(Accepted::New(self.run(&new.id).await?));
            }
            if let Some((id, hash)) = self.run_of_key(new.idempotency_key.as_deref()).await? {
                return Ok(match hash.as_deref() == Some(&new.request_hash) {
                    true => Accepted::Again(self.run(&id).await?),
                    false => Accepted::OtherRequest(id),
                });
            }
            if let Some(active) = self.active(&new.pipeline).await? {
                return Ok(Accepted::Busy(active.id));
            }
        }
        Err(Error::Conflict(format!("runs of `{}` are starting and ending right now; try again", new.pipeline)))
    }

    async fn run_of_key(&self, key: Option<&str>) -> Result<Option<(String, Option<String>)>, Error> {
        const SQL: &str = "SELECT id, request_hash FROM runs WHERE idempotency_key = $1";
        let Some(key) = key else { return Ok(None) };
        let found = each_engine!(&self.db, |pool| sqlx::query_as(SQL).bind(key).fetch_optional(pool).await);
        Ok(found.map_err(sql::Error::from)?)
    }

    /// A queued run begins. Tells whether it did: one that is over by now, since its process was taken for dead, does not.
    ///
    /// # Errors
    /// [`Error::Internal`] when the store fails.
    pub async fn begin(&self, id: &str, now: Timestamp) -> Result<bool, Error> {
        const SQL: &str = "UPDATE runs SET status = 'running', started_at = $2, updated_at = $2 \
                           WHERE id = $1 AND status = 'queued'";
        let began = each_engine!(&self.db, |pool| {
            let query = sqlx::query(SQL).bind(id).bind(now.micros());
            query.execute(pool).await.map(|done| done.rows_affected())
        });
        Ok(began.map_err(sql::Error::from)? == 1)
    }

    /// Keeps the counters of a run under way; also says that its process lives.
    ///
    /// # Errors
    /// [`Error::Internal`] when the store fails.
    pub async fn note(&self, id: &str, resources: &[Counts], now: Timestamp) -> Result<(), Error> {
        const SQL: &str = "UPDATE runs SET resources = $2, updated_at = $3 \
                           WHERE id = $1 AND status IN ('queued', 'running')";
        let resources = json(resources)?;
        each_engine!(&self.db, |pool| {
            sqlx::query(SQL).bind(id).bind(resources).bind(now.micros()).execute(pool).await.map(drop)
        })
        .map_err(sql::Error::from)?;
        Ok(())
    }

    /// A run ends: its status, error, counters, `lake_run` and end are taken from `run`. What is over stays as it is.
    ///
    /// # Errors
    /// [`Error::Internal`] when the store fails.
    pub async fn finish(&self, run: &Run) -> Result<(), Error> {
        const SQL: &str = "UPDATE runs SET status = $2, lake_run = $3, updated_at = $4, finished_at = $4, \
                           error_code = $5, error_detail = $6, resources = $7 \
                           WHERE id = $1 AND status IN ('queued', 'running')";
        const PRUNE: &str = "DELETE FROM runs WHERE pipeline = $1 AND status NOT IN ('queued', 'running') \
                             AND created_at < (SELECT created_at FROM runs WHERE pipeline = $1 \
                             ORDER BY created_at DESC LIMIT 1 OFFSET $2)";
        let (code, detail) = parts(run.error.as_ref());
        let resources = json(&run.resources)?;
        let at = run.finished_at.unwrap_or(run.updated_at).micros();
        each_engine!(&self.db, |pool| {
            let query = sqlx::query(SQL).bind(&run.id).bind(run.status.as_str()).bind(&run.lake_run).bind(at);
            query.bind(code).bind(detail).bind(resources).execute(pool).await.map(drop)
        })
        .map_err(sql::Error::from)?;
        each_engine!(&self.db, |pool| {
            sqlx::query(PRUNE).bind(&run.pipeline).bind(RUNS_KEPT).execute(pool).await.map(drop)
        })
        .map_err(sql::Error::from)?;
        Ok(())
    }

    /// Takes in a run that another process did and that is over. One that is known, under its own id or as work that was
    /// gone on with, stays as it is. Returns whether it was new.
    ///
    /// # Errors
    /// [`Error::Internal`] when the store fails.
    pub async fn import(&self, run: &Run) -> Result<bool, Error> {
        const SQL: &str = "INSERT INTO runs (id, pipeline, kind, started_by, status, created_at, started_at, \
                           updated_at, finished_at, error_code, error_detail, resources) \
                           SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 \
                           WHERE NOT EXISTS (SELECT 1 FROM runs WHERE lake_run = $1) ON CONFLICT DO NOTHING";
        let (code, detail) = parts(run.error.as_ref());
        let resources = json(&run.resources)?;
        let inserted = each_engine!(&self.db, |pool| {
            let query = sqlx::query(SQL).bind(&run.id).bind(&run.pipeline).bind(run.kind.as_str());
            let query = query.bind(run.trigger.as_str()).bind(run.status.as_str());
            let query = query.bind(run.created_at.micros()).bind(run.started_at.micros());
            let query = query.bind(run.updated_at.micros()).bind(run.finished_at.map(Timestamp::micros));
            query.bind(code).bind(detail).bind(resources).execute(pool).await.map(|done| done.rows_affected())
        })
        .map_err(sql::Error::from)?;
        Ok(inserted == 1)
    }

    /// Marks as stopped what is not over and was last heard of before `silent_since`: its process is gone. Returns how
    /// many there were.
    ///
    /// # Errors
    /// [`Error::Internal`] when the store fails.
    pub async fn sweep(&self, silent_since: Timestamp, now: Timestamp) -> Result<u64, Error> {
        const SQL: &str = "UPDATE runs SET status = 'stopped', updated_at = $2, finished_at = $2, \
                           error_code = 'ingest.stopped', error_detail = $3 \
                           WHERE status IN ('queued', 'running') AND updated_at < $1";
        const DETAIL: &str = "the process that ran it ended; the next run goes on from there";
        let swept = each_engine!(&self.db, |pool| {
            let query = sqlx::query(SQL).bind(silent_since.micros()).bind(now.micros()).bind(DETAIL);
            query.execute(pool).await.map(|done| done.rows_affected())
        });
        Ok(swept.map_err(sql::Error::from)?)
    }

    /// A pipeline is there; says since when, and which tick of its schedule was last answered.
    ///
    /// # Errors
    /// [`Error::Internal`] when the store fails.
    pub async fn see(&self, pipeline: &str, now: Timestamp) -> Result<Seen, Error> {
        const SEE: &str =
            "INSERT INTO pipelines (name, first_seen_at, tick_at) VALUES ($1, $2, $2) ON CONFLICT DO NOTHING";
        const READ: &str = "SELECT first_seen_at, tick_at FROM pipelines WHERE name = $1";
        each_engine!(&self.db, |pool| sqlx::query(SEE).bind(pipeline).bind(now.micros()).execute(pool).await.map(drop))
            .map_err(sql::Error::from)?;
        let (first, tick): (i64, i64) =
            each_engine!(&self.db, |pool| sqlx::query_as(READ).bind(pipeline).fetch_one(pool).await)
                .map_err(sql::Error::from)?;
        Ok(Seen { first_seen_at: Timestamp::from_micros(first), tick_at: Timestamp::from_micros(tick) })
    }

    /// The ticks of a pipeline's schedule up to `tick` are answered.
    ///
    /// # Errors
    /// [`Error::Internal`] when the store fails.
    pub async fn answer(&self, pipeline: &str, tick: Timestamp) -> Result<(), Error> {
        const SQL: &str = "UPDATE pipelines SET tick_at = $2 WHERE name = $1 AND tick_at < $2";
        each_engine!(&self.db, |pool| {
            sqlx::query(SQL).bind(pipeline).bind(tick.micros()).execute(pool).await.map(drop)
        })
        .map_err(sql::Error::from)?;
        Ok(())
    }
}

fn parts(error: Option<&RunError>) -> (Option<&str>, Option<&str>) {
    (error.map(|error| error.code.as_str()), error.map(|error| error.detail.as_str()))
}

fn json(resources: &[Counts]) -> Result<String, Error> {
    serde_json::to_string(resources).map_err(|error| Error::Internal(error.to_string()))
}
