//! The pipeline file: what a user writes, as types. The doc comments here are the reference: the JSON Schema and
//! `docs/ingest.md` are made from them.

mod check;
#[cfg(test)]
mod docs_tests;
mod env;
mod load;
mod shown;
mod units;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;

pub use check::check;
pub(crate) use check::{effective_paginator, parent, primary_key, references, write_mode};
pub(crate) use env::is_secret_name;
pub use env::{Environment, Secrets};
pub use load::{Loaded, json_schema, load, load_file};
pub use units::{Bytes, Span};

/// A pipeline: one API, its resources, where they go, and who is told when something is wrong.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Version of this file's format: 1.
    pub version: u32,
    /// Name of the pipeline; the dataset in the lake is called so too. Letters, digits, `_` and `-`.
    pub name: String,
    /// What this pipeline is for, shown in the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who answers for it, shown in alerts and the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Who uses the data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<String>,
    /// When `serve` runs it: a cron expression of five fields, in the time zone of `sla.timezone` or UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// What the consumers are promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla: Option<Sla>,
    /// How much one run may use. It stops cleanly at its budget and the next run goes on from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The API.
    pub source: Source,
    /// What holds for every resource that does not say otherwise.
    #[serde(default)]
    pub defaults: Defaults,
    /// What is read from the API.
    pub resources: Vec<Resource>,
    /// The lake the files go to.
    pub destination: Destination,
    /// Databases that the committed files are loaded into.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load: Vec<Load>,
    /// Rules by resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quality: BTreeMap<String, QualityRules>,
    /// Who is told of failed runs, missed SLAs, quality failures and schema drift.
    #[serde(default)]
    pub alerts: Alerts,
}

/// What the consumers are promised.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sla {
    /// The last successful run may be no older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh_within: Option<Span>,
    /// A run must have succeeded since midnight by this time of day, `HH:MM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_by: Option<String>,
    /// IANA time zone of `ready_by` and `schedule`.
    #[serde(default = "utc")]
    pub timezone: String,
}

fn utc() -> String {
    "UTC".into()
}

/// How much one run may use.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Requests, retries included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Bytes received, before decompression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// Time since the run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
}

/// The API.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Where the API lives; resource paths are appended to it.
    pub base_url: String,
    /// How requests prove who sends them.
    #[serde(default)]
    pub auth: Auth,
    /// Sent with every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Sent in the query of every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Our own limit, whatever the API allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Requests in flight at the most; fewer while the API answers 429 or 5xx.
    #[serde(default = "default_concurrency")]
    pub concurrency: u16,
    /// How long one request may take.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// How often a request is tried, the first time included.
    #[serde(default = "default_attempts")]
    pub attempts: u32,
    /// Further hosts that next URLs and parent rows may lead to; the API's own host always may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
    /// Largest response body, decompressed.
    #[serde(default = "default_max_body")]
    pub max_body: Bytes,
    /// A path that `check` calls to try the connection and the credentials; the first resource otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_path: Option<String>,
}

fn default_concurrency() -> u16 {
    8
}
fn default_timeout() -> Span {
    Span::from_secs(60)
}
fn default_attempts() -> u32 {
    6
}
fn default_max_body() -> Bytes {
    Bytes(256 << 20)
}

/// Requests a second, with a burst.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Steady rate; fractions are fine: 0.5 is one request every two seconds.
    pub requests_per_second: f64,
    /// How many may go at once after a pause.
    #[serde(default = "one")]
    pub burst: u32,
}

fn one() -> u32 {
    1
}

/// How requests prove who sends them.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// No proof.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer {
        /// The token.
        token: String,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// User name.
        username: String,
        /// Password; may be empty.
        #[serde(default)]
        password: String,
    },
    /// A key in a header, the query or a cookie.
    ApiKey {
        /// Name of the header, parameter or cookie.
        name: String,
        /// The key.
        value: String,
        /// Where it goes.
        #[serde(default, rename = "in")]
        place: KeyPlace,
    },
    /// OAuth 2.0 client credentials, or a refresh token. Renewed before it expires and after a 401, one renewal at a time.
    Oauth2 {
        /// The token endpoint; relative to `base_url` or absolute.
        token_url: String,
        /// Client id.
        client_id: String,
        /// Client secret.
        #[serde(default)]
        client_secret: String,
        /// Given: the refresh token grant; otherwise client credentials.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refresh_token: Option<String>,
        /// Scopes, separated by blanks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<String>,
        /// Audience, where the issuer asks for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        audience: Option<String>,
        /// How the client proves itself to the token endpoint.
        #[serde(default)]
        client_auth: ClientAuth,
    },
    /// A login request whose cookies, or a token in its answer, the later requests carry.
    Session {
        /// Path of the login request.
        login_path: String,
        /// JSON body of the login request.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        body: BTreeMap<String, String>,
        /// Where the answer holds a token; without it only cookies are kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token_path: Option<String>,
        /// Header that carries the token.
        #[serde(default = "authorization")]
        header: String,
        /// What stands before the token in that header.
        #[serde(default = "bearer_prefix")]
        prefix: String,
    },
    /// A JSON Web Token signed with a key of ours, as a bearer token.
    Jwt {
        /// HS256, HS384, HS512, RS256, RS384, RS512, PS256, ES256, ES384 or EdDSA.
        #[serde(default = "hs256")]
        algorithm: String,
        /// The shared secret, or the private key in PEM.
        key: String,
        /// Key id for the header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_id: Option<String>,
        /// Claims such as `iss`, `sub`, `aud`; `iat` and `exp` are added.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        claims: BTreeMap<String, serde_json::Value>,
        /// How long a token lives.
        #[serde(default = "five_minutes")]
        ttl: Span,
    },
}

fn authorization() -> String {
    "Authorization".into()
}
fn bearer_prefix() -> String {
    "Bearer ".into()
}
fn hs256() -> String {
    "HS256".into()
}
fn five_minutes() -> Span {
    Span::from_secs(300)
}

/// Where an API key goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyPlace {
    /// A request header.
    #[default]
    Header,
    /// A query parameter.
    Query,
    /// A cookie.
    Cookie,
}

/// How an OAuth client proves itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// `Authorization: Basic` with id and secret.
    #[default]
    Basic,
    /// `client_id` and `client_secret` in the form.
    Body,
}

/// What holds for every resource that does not say otherwise.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// How pages follow each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paginator: Option<Paginator>,
    /// Where the rows are in a response: a dotted path; `$` is the whole body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// Where the API tells how many rows there are in all: a dotted path, or `header:X-Total-Count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// Columns that name a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub primary_key: Vec<String>,
    /// How new rows meet the old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<WriteMode>,
    /// What happens when the rows change their shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaPolicy>,
    /// What becomes of nested objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nested: Option<Nested>,
    /// What becomes of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<Lists>,
}

/// One resource of the API: a table in the lake.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Name of the table. Letters, digits and `_`.
    pub name: String,
    /// Path below `base_url`. `{parent.field}` stands for a value of every row of an earlier resource, `{name}` for a
    /// partition. A value that is a whole URL of the same host may be the path.
    pub path: String,
    /// GET or POST.
    #[serde(default)]
    pub method: Method,
    /// Query parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Request headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// JSON body of a POST; the paginator's and the cursor's parameters are added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Map<String, serde_json::Value>>,
    /// Form body of a POST; the paginator's and the cursor's parameters are added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<BTreeMap<String, String>>,
    /// One stream for each combination of these values: `{ region: [eu, us] }`, used as `{region}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub partitions: BTreeMap<String, Vec<String>>,
    /// Values of the parent row or the partition that each row carries as a column: `{ order_id: orders.id }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub include: BTreeMap<String, String>,
    /// How pages follow each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paginator: Option<Paginator>,
    /// Where the rows are in a response: a dotted path; `$` is the whole body. Without it: the body if it is a list,
    /// its only list of objects, or the body as one row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// Where the API tells how many rows there are in all: a dotted path, or `header:X-Total-Count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// What the response is; by its content type when not given.
    #[serde(default)]
    pub format: ResponseFormat,
    /// Columns that name a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_key: Option<Vec<String>>,
    /// How only new and changed rows are read; `false`: always everything.
    #[serde(default, skip_serializing_if = "Incremental::is_off")]
    pub incremental: Incremental,
    /// How new rows meet the old ones: by default `merge` with a primary key and a cursor (of its own or its
    /// parent's), `append` with a cursor only, `replace` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<WriteMode>,
    /// What happens when the rows change their shape: `evolve` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaPolicy>,
    /// Types by column, where inference would choose otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, ColumnType>,
    /// Columns that are left out; counted, not rescued.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// What becomes of nested objects: `struct` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nested: Option<Nested>,
    /// What becomes of lists: `list` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<Lists>,
    /// Status codes that mean "no rows here" instead of a failure, such as 404 for a child of a deleted parent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty_on: Vec<u16>,
}

/// HTTP method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Method {
    /// Read.
    #[default]
    #[serde(rename = "GET", alias = "get")]
    Get,
    /// Search endpoints that take a body.
    #[serde(rename = "POST", alias = "post")]
    Post,
}

/// How pages follow each other.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Paginator {
    /// One response holds everything.
    #[default]
    None,
    /// Found out from the first response; for `preview` and `init`.
    Auto,
    /// Page numbers. Pages are read in parallel; the end is the page after the last, a short page where `size` is
    /// given, or what the API says of its pages or total.
    Page {
        /// Parameter of the page number.
        #[serde(default = "page_param")]
        param: String,
        /// Parameter of the page size.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_param: Option<String>,
        /// Rows a page.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Number of the first page.
        #[serde(default = "first_page")]
        start: u64,
        /// Where the answer tells the number of pages.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total_pages: Option<String>,
    },
    /// Offset and limit. Pages are read in parallel.
    Offset {
        /// Parameter of the offset.
        #[serde(default = "offset_param")]
        param: String,
        /// Parameter of the limit.
        #[serde(default = "limit_param")]
        limit_param: String,
        /// Rows a page.
        #[serde(default = "hundred")]
        limit: u64,
    },
    /// A cursor or token in each answer that the next request sends back.
    #[serde(alias = "token")]
    Cursor {
        /// Parameter that carries it.
        #[serde(default = "cursor_param")]
        param: String,
        /// Where the answer holds it: a dotted path, or `header:X-Next-Cursor`. No value, or an empty one, is the end.
        next: String,
        /// Parameter of the page size.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_param: Option<String>,
        /// Rows a page.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Where the answer says whether there is more, for APIs that give a cursor on the last page too.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        has_more: Option<String>,
    },
    /// The whole URL of the next page in the body.
    NextUrl {
        /// Dotted path of it.
        #[serde(default = "next_path")]
        next: String,
        /// Parameter of the page size, for the first request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_param: Option<String>,
        /// Rows a page.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
    /// The URL of the next page in a `Link` header (RFC 8288).
    LinkHeader {
        /// Relation of the next page.
        #[serde(default = "next_path")]
        rel: String,
        /// Parameter of the page size, for the first request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_param: Option<String>,
        /// Rows a page.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
}

fn page_param() -> String {
    "page".into()
}
fn first_page() -> u64 {
    1
}
fn offset_param() -> String {
    "offset".into()
}
fn limit_param() -> String {
    "limit".into()
}
fn hundred() -> u64 {
    100
}
fn cursor_param() -> String {
    "cursor".into()
}
fn next_path() -> String {
    "next".into()
}

/// What a response is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// By the content type.
    #[default]
    Auto,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    #[serde(alias = "ndjson")]
    Jsonl,
    /// Comma-separated values with a header line; numbers, booleans and times are recognised.
    Csv,
}

/// How only new and changed rows are read.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Incremental {
    /// `false`: always everything.
    #[default]
    #[schemars(schema_with = "only_false")]
    Off,
    /// By a column that only grows.
    On(IncrementalCursor),
}

fn only_false(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "const": false })
}

impl Incremental {
    /// The cursor, if there is one.
    pub fn cursor(&self) -> Option<&IncrementalCursor> {
        match self {
            Self::Off => None,
            Self::On(cursor) => Some(cursor),
        }
    }
    fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }
}

impl<'de> Deserialize<'de> for Incremental {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> serde::de::Visitor<'de> for Seen {
            type Value = Incremental;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`false`, or `{ cursor, param, … }`")
            }
            fn visit_bool<E: serde::de::Error>(self, on: bool) -> Result<Incremental, E> {
                if on {
                    return Err(E::custom(
                        "`incremental: true` says not by what; write { cursor: updated_at, param: updated_since }",
                    ));
                }
                Ok(Incremental::Off)
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Incremental, A::Error> {
                IncrementalCursor::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Incremental::On)
            }
        }
        deserializer.deserialize_any(Seen)
    }
}

/// A column that only grows, and how the API filters by it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncrementalCursor {
    /// The column: a dotted path into the row.
    pub cursor: String,
    /// Parameter that asks for rows from a value on (inclusive).
    pub param: String,
    /// Parameter that asks for rows before a value (exclusive); allows time windows in parallel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_param: Option<String>,
    /// How far before the saved cursor an incremental run starts; the overlap is removed by key.
    #[serde(default)]
    pub lookback: Span,
    /// Where a backfill starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub start: Option<Timestamp>,
    /// How the parameter is written.
    #[serde(default)]
    pub format: CursorFormat,
    /// Backfill in windows of this length, several at a time; needs `until_param` and `start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
}

/// How a cursor is written in a request, and what it is in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CursorFormat {
    /// 2024-01-31T00:00:00Z
    #[default]
    Rfc3339,
    /// 2024-01-31
    Date,
    /// Seconds since 1970.
    Unix,
    /// Milliseconds since 1970.
    UnixMs,
    /// A number that only grows, such as an id.
    Number,
}

/// How new rows meet the old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// Every run replaces all rows.
    Replace,
    /// Rows are added; a row seen before with the same key and cursor is not added again. A full backfill replaces.
    Append,
    /// One row a key: the one with the latest cursor.
    Merge,
}

/// What happens when the rows change their shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchemaPolicy {
    /// New columns are added and types widened where every old value still fits; what does not fit is rescued.
    #[default]
    Evolve,
    /// The schema stays; new columns and what does not fit go to `_rescued`.
    Freeze,
    /// The schema stays; new columns are dropped and counted; what does not fit a known column goes to `_rescued`.
    Discard,
}

/// What becomes of nested objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Nested {
    /// A struct column.
    #[default]
    Struct,
    /// Columns named `outer__inner`.
    Flatten,
    /// JSON text.
    Json,
}

/// What becomes of lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lists {
    /// A list column.
    #[default]
    List,
    /// A table of their own, `resource__column`, with the parent's key and the position.
    ChildTable,
    /// JSON text.
    Json,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// true or false
    Bool,
    /// 64 bits, signed
    Int,
    /// 64 bits
    Float,
    /// UTF-8 text
    String,
    /// Microseconds UTC
    Timestamp,
    /// A day
    Date,
    /// JSON text
    Json,
}

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

/// Rules for one resource.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualityRules {
    /// These columns together name a row once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unique: Vec<String>,
    /// Columns that always have a value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_null: Vec<String>,
    /// The newest cursor is no older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh_within: Option<Span>,
    /// Rows that the resource has at least after the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_rows: Option<u64>,
    /// Bounds by column, both inclusive.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub range: BTreeMap<String, Range>,
    /// Allowed values by column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accepted_values: BTreeMap<String, Vec<String>>,
    /// Regular expression by column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matches: BTreeMap<String, String>,
    /// The number of rows read equals the API's own total, where it gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<bool>,
    /// The schema did not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_schema: Option<bool>,
    /// What a broken rule does.
    #[serde(default)]
    pub on_fail: OnFail,
}

/// Bounds of a number.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Smallest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// What a broken rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// Said in the report and the alert; the data is committed.
    #[default]
    Warn,
    /// The resource is not committed and its cursor stays; the run ends with exit code 3.
    Fail,
    /// Bad rows go to the quarantine folder with the reason; the others are committed. A rule about the whole
    /// resource, which no row breaks by itself, warns.
    Quarantine,
}

/// Who is told of what.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// Slack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<Slack>,
    /// PagerDuty, Events API v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagerduty: Option<PagerDuty>,
    /// Any receiver of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// Which events are told; all when not given.
    #[serde(default = "every_event")]
    pub on: Vec<AlertEvent>,
}

fn every_event() -> Vec<AlertEvent> {
    vec![AlertEvent::RunFailed, AlertEvent::SlaMissed, AlertEvent::QualityFailed, AlertEvent::SchemaDrift]
}

/// What an alert can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertEvent {
    /// A run failed.
    RunFailed,
    /// The data is later than promised.
    SlaMissed,
    /// A quality rule was broken.
    QualityFailed,
    /// The rows changed their shape.
    SchemaDrift,
}

/// A Slack incoming webhook.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// Its URL, which is a secret.
    pub webhook: String,
}

/// PagerDuty, Events API v2.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagerDuty {
    /// Integration key of the service.
    pub routing_key: String,
    /// Another endpoint than PagerDuty's own.
    #[serde(default = "pagerduty_url")]
    pub url: String,
    /// critical, error, warning or info.
    #[serde(default = "pagerduty_severity")]
    pub severity: String,
}

fn pagerduty_url() -> String {
    "https://events.pagerduty.com/v2/enqueue".into()
}
fn pagerduty_severity() -> String {
    "error".into()
}

/// Any receiver of JSON.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where the alert is posted.
    pub url: String,
    /// Sent with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}
