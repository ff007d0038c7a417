//! How pages follow each other and how many rows there are in all, from what stands around the rows.
//!
//! Order: the link to the next page (body, `Link` header), a cursor, page numbers, offsets. Where a link only counts
//! pages or rows and the total is known, counting wins: those pages can be read in parallel.

use http::HeaderMap;
use serde_json::Value;
use url::Url;

use super::{normal, same_origin};
use crate::spec::Paginator;

/// Objects around the rows are looked into this deep.
const MAX_DEPTH: usize = 4;

/// What was found.
pub(super) struct Pages {
    pub(super) paginator: Paginator,
    pub(super) total: Option<String>,
    pub(super) total_rows: Option<u64>,
    pub(super) why: Vec<String>,
}

/// A scalar around the rows.
struct Leaf<'a> {
    path: String,
    /// The raw key.
    name: &'a str,
    /// The key without case and punctuation, and the one above it.
    key: String,
    above: String,
    value: &'a Value,
}

const PAGE_PARAMS: [&str; 8] = ["page", "p", "pagenumber", "pageno", "pagenum", "pageindex", "currentpage", "pg"];
const OFFSET_PARAMS: [&str; 6] = ["offset", "skip", "startat", "startindex", "start", "from"];
const SIZE_PARAMS: [&str; 15] = [
    "limit",
    "perpage",
    "pagesize",
    "size",
    "top",
    "maxresults",
    "take",
    "count",
    "rows",
    "max",
    "pagelimit",
    "resultsperpage",
    "itemsperpage",
    "maxitems",
    "n",
];
const CURSOR_PARAMS: [&str; 13] = [
    "cursor",
    "pagetoken",
    "nexttoken",
    "after",
    "paginationtoken",
    "continuationtoken",
    "startingafter",
    "pagecursor",
    "nextcursor",
    "nextpagetoken",
    "continuation",
    "bookmark",
    "marker",
];

/// True for a parameter that carries a page number.
pub(crate) fn is_page_param(name: &str) -> bool {
    PAGE_PARAMS.contains(&normal(name).as_str())
}
/// True for a parameter that carries an offset.
pub(crate) fn is_offset_param(name: &str) -> bool {
    OFFSET_PARAMS.contains(&normal(name).as_str())
}
/// True for a parameter that carries the number of rows a page.
pub(crate) fn is_size_param(name: &str) -> bool {
    SIZE_PARAMS.contains(&normal(name).as_str())
}
/// True for a parameter that carries a cursor or token.
pub(crate) fn is_cursor_param(name: &str) -> bool {
    CURSOR_PARAMS.contains(&normal(name).as_str())
}

/// Looks at a response whose `rows` rows are at `records`.
pub(super) fn find(url: &Url, headers: &HeaderMap, body: &Value, records: &str, rows: usize) -> Pages {
    let mut leaves = Vec::new();
    collect(body, "", "", records, 0, &mut leaves);
    let facts = Facts { url, headers, leaves, rows: rows as u64 };
    let mut why = Vec::new();
    let total_pages = facts.total_pages();
    let counted = facts.linked(total_pages.is_some() || facts.total(true).is_some(), &mut why);
    let paginator = counted
        .or_else(|| facts.cursor(&mut why))
        .or_else(|| facts.page(&mut why))
        .or_else(|| facts.offset(&mut why))
        .or_else(|| facts.last_link(&mut why));
    let more = paginator.is_some() && facts.says_more();
    let total = facts.total(more);
    if let Some((path, rows)) = &total {
        why.push(format!("total: `{path}` says {rows}"));
    }
    if paginator.is_none() {
        why.push(match &total {
            Some((path, all)) if *all > facts.rows => {
                format!(
                    "paginator: nothing tells how to ask for the other {} rows that `{path}` counts",
                    all - facts.rows
                )
            }
            _ if facts.flag().is_some() => {
                "paginator: the response says whether there is more, not how to ask for it".into()
            }
            _ => "paginator: nothing in the response speaks of pages".into(),
        });
    }
    let (total, total_rows) = total.unzip();
    Pages { paginator: paginator.unwrap_or_default(), total, total_rows, why }
}

fn collect<'a>(value: &'a Value, path: &str, above: &str, records: &str, depth: usize, out: &mut Vec<Leaf<'a>>) {
    let Some(fields) = value.as_object().filter(|_| depth < MAX_DEPTH) else { return };
    for (name, value) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if path == records || value.is_array() {
            continue;
        }
        if value.is_object() {
            collect(value, &path, &normal(name), records, depth + 1, out);
        } else {
            out.push(Leaf { path, name, key: normal(name), above: above.to_owned(), value });
        }
    }
}

struct Facts<'a> {
    url: &'a Url,
    headers: &'a HeaderMap,
    leaves: Vec<Leaf<'a>>,
    rows: u64,
}

impl<'a> Facts<'a> {
    fn leaf(&self, wanted: impl Fn(&Leaf<'a>) -> bool) -> Option<&Leaf<'a>> {
        self.leaves.iter().find(|leaf| wanted(leaf))
    }

    fn number(&self, keys: &[&str]) -> Option<(&Leaf<'a>, u64)> {
        keys.iter().find_map(|key| {
            let leaf = self.leaf(|leaf| leaf.key == *key && count(leaf.value).is_some())?;
            Some((leaf, count(leaf.value)?))
        })
    }

    fn header(&self, names: &[&str]) -> Option<(String, &str)> {
        names.iter().find_map(|name| {
            let value = self.headers.get(*name)?.to_str().ok()?.trim();
            (!value.is_empty()).then(|| (format!("header:{name}"), value))
        })
    }

    fn asked(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        self.url.query_pairs().map(|(name, _)| name.into_owned()).find(|name| wanted(name))
    }

    fn asked_value(&self, name: &str) -> Option<String> {
        self.url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    }

    /// The body or the headers say that this is not the last page.
    fn says_more(&self) -> bool {
        self.next_in_body().is_some()
            || next_in_header(self.headers).is_some()
            || self.flag().is_some_and(|flag| flag.value.as_bool() == Some(true))
            || self.total_pages().is_some_and(|(_, pages)| pages > 1)
    }

    fn flag(&self) -> Option<&Leaf<'a>> {
        let names = ["hasmore", "hasnext", "hasnextpage", "more", "moreavailable", "hasmoreitems", "hasmoreresults"];
        self.leaf(|leaf| leaf.value.is_boolean() && names.contains(&leaf.key.as_str()))
    }

    /// Where the total is, and what it says. With `more` to come, a number no larger than this page counts the page.
    fn total(&self, more: bool) -> Option<(String, u64)> {
        const SURE: [&str; 20] = [
            "total",
            "totalcount",
            "totalresults",
            "totalitems",
            "totalrecords",
            "totalrows",
            "totalelements",
            "totalentries",
            "totalhits",
            "totalsize",
            "totalobjects",
            "numfound",
            "odatacount",
            "recordstotal",
            "itemcount",
            "recordcount",
            "resultcount",
            "fullcount",
            "countall",
            "nbhits",
        ];
        let fits = |all: u64| if more { all > self.rows } else { all >= self.rows };
        let below_total = self.leaf(|leaf| leaf.above == "total" && matches!(leaf.key.as_str(), "value" | "count"));
        let below_total = below_total.and_then(|leaf| Some((leaf, count(leaf.value)?)));
        let found = self.number(&SURE).or(below_total).filter(|(_, all)| fits(*all));
        let found = found.or_else(|| self.number(&["count"])).filter(|(_, all)| fits(*all));
        if let Some((leaf, all)) = found {
            return Some((leaf.path.clone(), all));
        }
        let names =
            ["X-Total-Count", "X-Total", "Total-Count", "X-WP-Total", "X-Pagination-Total-Count", "X-Total-Results"];
        let (place, value) = self.header(&names)?;
        Some((place, value.parse().ok().filter(|all| fits(*all))?))
    }

    fn total_pages(&self) -> Option<(String, u64)> {
        let keys = [
            "totalpages",
            "pagecount",
            "lastpage",
            "numpages",
            "pagetotal",
            "pagestotal",
            "pages",
            "nbpages",
            "maxpage",
        ];
        if let Some((leaf, pages)) = self.number(&keys) {
            return Some((leaf.path.clone(), pages));
        }
        let (place, value) =
            self.header(&["X-Total-Pages", "X-WP-TotalPages", "X-Page-Count", "X-Pagination-Page-Count"])?;
        Some((place, value.parse().ok()?))
    }

    fn next_in_body(&self) -> Option<(&Leaf<'a>, Url)> {
        self.leaves.iter().find_map(|leaf| {
            let text = leaf.value.as_str()?;
            let is_link = ["http://", "https://", "/", "?"].iter().any(|start| text.starts_with(start));
            (is_link && names_next_link(leaf)).then(|| Some((leaf, self.url.join(text).ok()?)))?
        })
    }

    /// By the link to the next page.
    fn linked(&self, end_known: bool, why: &mut Vec<String>) -> Option<Paginator> {
        let (next, path) = match self.next_in_body() {
            Some((leaf, next)) => (next, Some(leaf.path.clone())),
            None => (self.url.join(&next_in_header(self.headers)?).ok()?, None),
        };
        let place = path.as_ref().map_or("the `Link` header".into(), |path| format!("`{path}`"));
        let counted = self.counting(&next);
        if let Some((paginator, param)) = counted.clone().filter(|_| end_known) {
            why.push(format!(
                "paginator: {place} only counts `{param}` on and the total is known, so pages can be read in parallel"
            ));
            return Some(paginator);
        }
        why.push(format!("paginator: {place} holds the URL of the next page"));
        if !same_origin(&next, self.url) {
            let host = next.host_str().unwrap_or_default();
            why.push(format!("paginator: the next page is on `{host}`; add it to source.allowed_hosts"));
        }
        let (size_param, size) = match self.size_in(&next) {
            Some((param, size)) => (Some(param), Some(size)),
            None => (None, None),
        };
        Some(match path {
            Some(next) => Paginator::NextUrl { next, size_param, size },
            None => Paginator::LinkHeader { rel: "next".into(), size_param, size },
        })
    }

    fn size_in(&self, next: &Url) -> Option<(String, u64)> {
        next.query_pairs()
            .find_map(|(name, value)| Some((name.to_string(), value.parse().ok().filter(|_| is_size_param(&name))?)))
            .filter(|(_, size)| *size > 0)
    }

    /// The paginator of a next URL that only counts on, and the parameter that counts.
    fn counting(&self, next: &Url) -> Option<(Paginator, String)> {
        let size = self.size_in(next);
        next.query_pairs().find_map(|(name, value)| {
            let value: u64 = value.parse().ok()?;
            let now = self.asked_value(&name).and_then(|now| now.parse::<u64>().ok());
            if is_page_param(&name) && value == now.unwrap_or(if value == 1 { 0 } else { 1 }) + 1 {
                let (size_param, size) = size.clone().unzip();
                let start = if now.is_none() { value - 1 } else { 1 };
                let total_pages = self.total_pages().map(|(path, _)| path);
                let param = name.to_string();
                return Some((Paginator::Page { param, size_param, size, start, total_pages }, name.into_owned()));
            }
            let (limit_param, limit) = size.clone()?;
            let counts_rows = is_offset_param(&name) && value == now.unwrap_or(0) + self.rows && limit == self.rows;
            counts_rows.then(|| (Paginator::Offset { param: name.to_string(), limit_param, limit }, name.into_owned()))
        })
    }

    /// By a cursor or token in the body or a header.
    fn cursor(&self, why: &mut Vec<String>) -> Option<Paginator> {
        let found = self.leaves.iter().find_map(|leaf| {
            let token = match leaf.value {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Null => None,
                _ => return None,
            };
            let param = cursor_param(leaf)?;
            let is_the_present_one = token.is_some() && self.asked_value(&param) == token && leaf.key == "cursor";
            (!is_the_present_one).then(|| (leaf.path.clone(), param))
        });
        let found = found.or_else(|| {
            let headers = [
                ("X-Next-Cursor", "cursor"),
                ("Next-Cursor", "cursor"),
                ("X-Pagination-Next-Cursor", "cursor"),
                ("X-Next-Page-Token", "page_token"),
                ("X-Next-Token", "next_token"),
                ("X-Continuation-Token", "continuation_token"),
                ("X-Cursor", "cursor"),
            ];
            let (name, param) = headers.iter().find(|(name, _)| self.headers.contains_key(*name))?;
            Some((format!("header:{name}"), (*param).to_owned()))
        });
        let (next, param) = found?;
        let param = self.asked(is_cursor_param).unwrap_or(param);
        why.push(format!("paginator: `{next}` holds the cursor of the next page; sent back as `{param}`"));
        let has_more = self.flag().map(|leaf| leaf.path.clone());
        let (size_param, size) = self.size();
        Some(Paginator::Cursor { param, next, size_param, size, has_more })
    }

    /// Parameter and value of the page size, as asked or as the response repeats it.
    fn size(&self) -> (Option<String>, Option<u64>) {
        if let Some(name) = self.asked(is_size_param) {
            let value = self.asked_value(&name).and_then(|v| v.parse().ok()).filter(|size| *size > 0);
            return (Some(name), value);
        }
        let keys =
            ["perpage", "pagesize", "itemsperpage", "resultsperpage", "limit", "size", "maxresults", "pagelimit"];
        match self.number(&keys).filter(|(_, size)| *size > 0) {
            Some((leaf, size)) => (Some(leaf.name.to_owned()), Some(size)),
            None => match self.header(&["X-Per-Page"]).and_then(|(_, size)| size.parse().ok()).filter(|size| *size > 0)
            {
                Some(size) => (Some("per_page".into()), Some(size)),
                None => (None, None),
            },
        }
    }

    /// By page numbers.
    fn page(&self, why: &mut Vec<String>) -> Option<Paginator> {
        let total_pages = self.total_pages();
        let keys = ["page", "currentpage", "pagenumber", "pageno", "pagenum", "pageindex", "pageid"];
        let now = self.number(&keys).or_else(|| {
            let in_page = self.leaf(|leaf| leaf.key == "number" && (leaf.above == "page" || total_pages.is_some()))?;
            Some((in_page, count(in_page.value)?))
        });
        let next = self.number(&["nextpage"]);
        let header = self.header(&["X-Page", "X-Next-Page"]);
        let (size_param, size) = self.size();
        let counted = size.is_some() || self.total(false).is_some();
        let speaks = total_pages.is_some() || next.is_some() || header.is_some() || (now.is_some() && counted);
        if !speaks {
            return None;
        }
        let linked = self.leaves.iter().filter_map(|leaf| self.url.join(leaf.value.as_str()?).ok());
        let linked = linked.flat_map(|url| url.query_pairs().map(|(n, _)| n.into_owned()).collect::<Vec<_>>());
        let said = now.filter(|(leaf, _)| !matches!(leaf.key.as_str(), "currentpage" | "number" | "pageid"));
        let param = self
            .asked(is_page_param)
            .or_else(|| linked.into_iter().find(|name| is_page_param(name)))
            .or_else(|| said.map(|(leaf, _)| leaf.name.to_owned()))
            .unwrap_or_else(|| "page".into());
        let start = match now {
            Some((_, 0)) => 0,
            _ => 1,
        };
        let place =
            total_pages.as_ref().map(|(path, _)| path.clone()).or_else(|| now.map(|(leaf, _)| leaf.path.clone()));
        let place =
            place.or_else(|| next.map(|(leaf, _)| leaf.path.clone())).or_else(|| header.map(|(place, _)| place));
        why.push(format!("paginator: `{}` speaks of page numbers, from {start} on", place.unwrap_or_default()));
        let total_pages = total_pages.map(|(path, _)| path);
        Some(Paginator::Page { param, size_param, size, start, total_pages })
    }

    /// By offset and limit.
    fn offset(&self, why: &mut Vec<String>) -> Option<Paginator> {
        let (leaf, at) = self.number(&OFFSET_PARAMS)?;
        let asked = self.asked(is_offset_param);
        let (size_param, size) = self.size();
        let counted = size.is_some() || self.total(false).is_some();
        // An API that counts its rows from 1 would lose a row of every page here.
        let from_zero = asked.is_some() || at == 0;
        if !counted || !from_zero || self.rows == 0 {
            return None;
        }
        why.push(format!("paginator: `{}` speaks of offsets", leaf.path));
        Some(Paginator::Offset {
            param: asked.unwrap_or_else(|| leaf.name.to_owned()),
            limit_param: size_param.unwrap_or_else(|| "limit".into()),
            limit: size.unwrap_or(self.rows),
        })
    }

    /// A link to the next page that is null: this page is the last one.
    fn last_link(&self, why: &mut Vec<String>) -> Option<Paginator> {
        let leaf = self.leaf(|leaf| leaf.value.is_null() && names_next_link(leaf) && leaf.key != "nextpage")?;
        why.push(format!("paginator: `{}` is null here, which is how the last page of linked pages looks", leaf.path));
        let (size_param, size) = self.size();
        Some(Paginator::NextUrl { next: leaf.path.clone(), size_param, size })
    }
}

fn names_next_link(leaf: &Leaf<'_>) -> bool {
    let names = [
        "next",
        "nexturl",
        "nextlink",
        "nextpageurl",
        "nextpagelink",
        "odatanextlink",
        "nexthref",
        "nextpage",
        "nexturi",
        "nextpageuri",
        "nextrecordsurl",
        "nextpath",
    ];
    names.contains(&leaf.key.as_str())
        || (leaf.above == "next" && ["href", "url", "link", "uri"].contains(&leaf.key.as_str()))
}

/// The parameter that a cursor with this name goes back in; `None` when the name is no cursor's.
fn cursor_param(leaf: &Leaf<'_>) -> Option<String> {
    let is_text = leaf.value.is_string();
    let below_next = ["next", "cursor", "cursors", "paging", "pagination", "pageinfo", "page", "meta"];
    let above = below_next.contains(&leaf.above.as_str());
    match leaf.key.as_str() {
        "nextcursor" | "nextpagetoken" | "nextpagecursor" | "nextmarker" | "nextbookmark" => {
            Some(without_next(leaf.name))
        }
        "nextoffset" if !leaf.value.is_null() => Some(without_next(leaf.name)),
        "nexttoken" | "continuationtoken" | "bookmark" => Some(leaf.name.to_owned()),
        "endcursor" => Some("after".into()),
        "after" if above => Some("after".into()),
        "cursor" if is_text && (above || leaf.above.is_empty()) => Some(leaf.name.to_owned()),
        "continuation" | "offset" if is_text => Some(leaf.name.to_owned()),
        "next" if matches!(leaf.above.as_str(), "cursor" | "cursors") => Some("cursor".into()),
        "next" if is_text => Some("cursor".into()),
        "nextpage" if is_text && count(leaf.value).is_none() => Some("page".into()),
        _ => None,
    }
}

/// `nextPageToken` goes back as `pageToken`, `next_page_token` as `page_token`.
fn without_next(name: &str) -> String {
    let rest = name.get(4..).unwrap_or(name).trim_start_matches(['_', '-', '.']);
    let mut letters = rest.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The target of `rel="next"` in the `Link` headers (RFC 8288).
fn next_in_header(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(http::header::LINK).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split('<').skip(1)).find_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        let mut parameters = parameters.split([';', ',']).map(str::trim);
        let is_next = parameters.any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
                name.trim().eq_ignore_ascii_case("rel") && relations.any(|r| r.eq_ignore_ascii_case("next"))
            })
        });
        is_next.then(|| target.trim().to_owned())
    })
}
