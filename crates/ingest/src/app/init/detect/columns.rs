//! Which columns name a row, which one grows, and which one leads to the row's own document.

use std::collections::HashSet;

use serde_json::Value;
use url::Url;

use super::{CursorColumn, normal, same_origin, words};
use crate::spec::CursorFormat;

/// Rows with no more columns than this and a link are only a table of contents.
pub(super) const THIN_COLUMNS: usize = 4;

const KEYS: [&str; 11] = ["id", "uuid", "guid", "key", "slug", "code", "sku", "number", "reference", "symbol", "name"];

/// Columns that name a row, unique and never null in these rows: one if there is one, otherwise a pair.
pub(super) fn primary_key(rows: &[&Value], url: &Url) -> Vec<String> {
    let Some(first) = rows.first().and_then(|row| row.as_object()) else { return vec![] };
    let list = url.path_segments().and_then(|mut s| s.rfind(|s| !s.is_empty())).map(normal).unwrap_or_default();
    let mut ranked: Vec<(usize, &str)> =
        first.keys().filter_map(|column| Some((rank(column, &list)?, column.as_str()))).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let single = ranked.iter().find(|(_, column)| is_unique(rows, &[column]));
    if let Some((_, column)) = single {
        return vec![(*column).to_owned()];
    }
    let positions = ["line", "position", "index", "sequence", "seq", "date", "day", "period", "row"];
    let parts = first.keys().map(String::as_str).filter(|column| {
        let words = words(column);
        words.last().is_some_and(|word| word == "id") || words.iter().any(|word| positions.contains(&word.as_str()))
    });
    let parts: Vec<&str> = parts.take(6).collect();
    let mut pairs = parts.iter().enumerate().flat_map(|(at, a)| parts[at + 1..].iter().map(move |b| [*a, *b]));
    let pair = pairs.find(|pair| rows.len() > 1 && is_unique(rows, pair));
    pair.map_or(vec![], |pair| pair.map(str::to_owned).to_vec())
}

/// How likely a column is to be the key, from its name alone; lower is likelier.
fn rank(column: &str, list: &str) -> Option<usize> {
    let name = normal(column);
    if let Some(at) = KEYS.iter().position(|key| *key == name) {
        // `order_id` in `/orders` is likelier than `name`, not than `id`.
        return Some(if at < 3 { at } else { at + 10 });
    }
    let stem = name.strip_suffix("id").or_else(|| name.strip_suffix("uuid")).or_else(|| name.strip_suffix("key"))?;
    let ends_in_a_word = words(column).last().is_some_and(|word| matches!(word.as_str(), "id" | "uuid" | "key"));
    match stem {
        _ if !ends_in_a_word => None,
        stem if stem.len() > 2 && list.starts_with(&stem[..stem.len() - 1]) => Some(5),
        _ => Some(30),
    }
}

fn is_unique(rows: &[&Value], columns: &[&str]) -> bool {
    let mut seen = HashSet::new();
    rows.iter().all(|row| {
        let values: Option<Vec<String>> = columns
            .iter()
            .map(|column| match row.get(*column)? {
                Value::String(text) if !text.is_empty() => Some(text.clone()),
                Value::Number(number) if !number.is_f64() => Some(number.to_string()),
                _ => None,
            })
            .collect();
        values.is_some_and(|values| seen.insert(values))
    })
}

/// The column that grows when a row changes, or at least when one is made.
pub(super) fn cursor(rows: &[&Value]) -> Option<CursorColumn> {
    let first = rows.first()?.as_object()?;
    let nested = first.iter().filter_map(|(key, value)| Some((key, value.as_object()?)));
    let nested = nested.flat_map(|(key, fields)| fields.keys().map(move |inner| format!("{key}.{inner}")));
    let columns = first.keys().cloned().chain(nested);
    let mut best: Option<(usize, CursorColumn)> = None;
    for column in columns {
        let Some((rank, sees_changes)) = rank_cursor(column.rsplit('.').next().unwrap_or(&column)) else { continue };
        let rank = rank + if column.contains('.') { 100 } else { 0 };
        if best.as_ref().is_some_and(|(least, _)| *least <= rank) {
            continue;
        }
        if let Some(format) = time_format(rows, &column) {
            best = Some((rank, CursorColumn { column, format, sees_changes }));
        }
    }
    best.map(|(_, column)| column)
}

fn rank_cursor(column: &str) -> Option<(usize, bool)> {
    let words = words(column);
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
    let is_time = has(&["at", "on", "date", "time", "timestamp", "ts", "datetime", "utc"]);
    if has(&["updated", "modified", "changed"]) || (has(&["update", "modification", "change"]) && is_time) {
        // Not `last_updated_by`, which a value check would refuse as well, but cheaper.
        return (!has(&["by"])).then_some((if is_time { 0 } else { 1 }, true));
    }
    if has(&["lastmod", "lastmodified", "mtime", "systemmodstamp"]) {
        return Some((2, true));
    }
    if has(&["created", "inserted", "creation"]) && !has(&["by"]) {
        return Some((10, false));
    }
    (is_time && has(&["event", "timestamp", "ts", "occurred", "recorded", "logged", "published"]))
        .then_some((11, false))
}

/// What the values are, when all that are there are times of one kind.
fn time_format(rows: &[&Value], column: &str) -> Option<CursorFormat> {
    let mut found = None;
    for row in rows {
        let format = match super::lookup(row, column) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => text_format(text)?,
            Some(Value::Number(number)) => match number.as_i64()? {
                946_684_800..=4_102_444_800 => CursorFormat::Unix,
                946_684_800_000..=4_102_444_800_000 => CursorFormat::UnixMs,
                _ => return None,
            },
            Some(_) => return None,
        };
        if found.is_some_and(|before| before != format) {
            return None;
        }
        found = Some(format);
    }
    found
}

fn text_format(text: &str) -> Option<CursorFormat> {
    if text.len() == 10 {
        return text.parse::<chrono::NaiveDate>().is_ok().then_some(CursorFormat::Date);
    }
    let zoned = chrono::DateTime::parse_from_rfc3339(text).is_ok()
        || chrono::DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z").is_ok();
    let bare = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let is_time = zoned || bare.iter().any(|form| chrono::NaiveDateTime::parse_from_str(text, form).is_ok());
    is_time.then_some(CursorFormat::Rfc3339)
}

/// The column that holds a different URL of the same host in every row.
pub(super) fn detail(rows: &[&Value], asked: &Url) -> Option<String> {
    let first = rows.first()?.as_object()?;
    let names = ["url", "href", "self", "selfurl", "selflink", "link", "uri", "resourceuri", "apiurl", "detailurl"];
    let columns = first.keys().filter(|column| names.contains(&normal(column).as_str())).cloned();
    let nested = ["_links.self.href", "links.self", "_links.self", "links.self.href", "links.url"];
    columns.chain(nested.map(str::to_owned)).find(|column| {
        let mut seen = HashSet::new();
        rows.iter().all(|row| {
            let Some(Value::String(text)) = super::lookup(row, column) else { return false };
            let is_link = ["http://", "https://", "/"].iter().any(|start| text.starts_with(start));
            let leads = asked.join(text).is_ok_and(|url| same_origin(&url, asked) && url.path() != asked.path());
            is_link && leads && seen.insert(text)
        })
    })
}
