//! The lake the files go to, and the databases they are loaded into.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bytes, Span, WriteMode};

/// The lake the files go to.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// `s3://bucket/prefix`, `file:///path` or a path.
    pub url: String,
    /// Format of the files.
    #[serde(default)]
    pub format: FileFormat,
    /// Name of the dataset; the pipeline's name otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// When a file is full.
    #[serde(default)]
    pub chunk: Chunk,
    /// How often progress is saved; what came since is read again after a crash.
    #[serde(default = "default_checkpoint")]
    pub checkpoint: Span,
    /// Access to S3; AWS's own environment variables otherwise.
    #[serde(default)]
    pub s3: S3,
}

fn default_checkpoint() -> Span {
    Span::from_secs(60)
}

/// Format of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// Parquet with zstd.
    #[default]
    Parquet,
    /// Comma-separated values with a header; structs and lists as JSON text.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

impl FileFormat {
    /// The file name's ending.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }
}

/// When a file is full: at whichever comes first.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// Rows a file.
    #[serde(default = "chunk_rows")]
    pub rows: u64,
    /// Bytes a file, as written.
    #[serde(default = "chunk_bytes")]
    pub bytes: Bytes,
}

impl Default for Chunk {
    fn default() -> Self {
        Self { rows: chunk_rows(), bytes: chunk_bytes() }
    }
}

fn chunk_rows() -> u64 {
    250_000
}
fn chunk_bytes() -> Bytes {
    Bytes(128 << 20)
}

/// Access to S3 and compatible stores.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// Endpoint of a compatible store, such as `http://127.0.0.1:9000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Access key; AWS's environment, container or instance credentials otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Secret key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<String>,
    /// `endpoint/bucket/key` (true) or `bucket.endpoint/key` (false); true when an endpoint is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
}

/// A database that the committed files are loaded into.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// `postgres://…`, `sqlite:path`, or `duckdb:folder` for a folder of views that DuckDB reads.
    pub url: String,
    /// Schema of the tables in PostgreSQL; a prefix of their names in SQLite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// How rows meet those in the table; as the resource is written otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<WriteMode>,
    /// Only these resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
}
