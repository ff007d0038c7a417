//! The schema, step by step.

use tessera_store::sql::Migration;

pub(super) const STEPS: &[Migration] = &[Migration::new(
    1,
    "runs",
    "CREATE TABLE runs (
         id TEXT PRIMARY KEY,
         pipeline TEXT NOT NULL,
         kind TEXT NOT NULL,
         started_by TEXT NOT NULL,
         status TEXT NOT NULL,
         lake_run TEXT,
         created_at BIGINT NOT NULL,
         started_at BIGINT NOT NULL,
         updated_at BIGINT NOT NULL,
         finished_at BIGINT,
         error_code TEXT,
         error_detail TEXT,
         resources TEXT NOT NULL,
         idempotency_key TEXT UNIQUE,
         request_hash TEXT
     );
     CREATE UNIQUE INDEX runs_active ON runs (pipeline) WHERE status IN ('queued', 'running');
     CREATE INDEX runs_of_pipeline ON runs (pipeline, created_at);
     CREATE INDEX runs_created ON runs (created_at);
     CREATE INDEX runs_updated ON runs (updated_at);
     CREATE INDEX runs_in_lake ON runs (lake_run);
     CREATE TABLE pipelines (
         name TEXT PRIMARY KEY,
         first_seen_at BIGINT NOT NULL,
         tick_at BIGINT NOT NULL
     );",
)];
