//! What is read, and the shape it gets.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Incremental, Paginator};

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
