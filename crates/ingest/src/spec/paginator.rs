//! How the pages of a list follow each other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
