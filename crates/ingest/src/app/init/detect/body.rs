//! The body as a value: gzip, JSON, JSON Lines and CSV, by content type first and by its first bytes otherwise.

use std::io::Read;

use http::HeaderMap;
use serde_json::{Map, Value};

use crate::spec::ResponseFormat;

/// A sample larger than this after decompression is cut: findings need the first rows only.
const MAX_UNPACKED_BYTES: u64 = 64 << 20;
/// Lines of JSON Lines and CSV that are looked at.
pub(crate) const MAX_LINES: usize = 1_000;

pub(super) struct Parsed {
    pub(super) format: ResponseFormat,
    pub(super) gzip: bool,
    pub(super) value: Value,
}

/// Reads the body.
///
/// # Errors
/// What it is instead.
pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Parsed, String> {
    let gzip = body.starts_with(&[0x1f, 0x8b]);
    let unpacked = if gzip { unpack(body)? } else { Vec::new() };
    let body = if gzip { &unpacked } else { body };
    let content_type = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (format, value) = read(&content_type.to_ascii_lowercase(), body.trim_ascii())?;
    Ok(Parsed { format, gzip, value })
}

fn unpack(body: &[u8]) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(body).take(MAX_UNPACKED_BYTES);
    match decoder.read_to_end(&mut unpacked) {
        Ok(_) => Ok(unpacked),
        Err(error) => Err(format!("the body begins like gzip but cannot be unpacked: {error}")),
    }
}

fn read(content_type: &str, body: &[u8]) -> Result<(ResponseFormat, Value), String> {
    if body.is_empty() {
        return Err("the body is empty".into());
    }
    let says = |words: &[&str]| words.iter().any(|word| content_type.contains(word));
    if says(&["ndjson", "jsonl", "jsonlines", "json-seq"]) {
        return lines(body).map(|rows| (ResponseFormat::Jsonl, rows)).ok_or("the body is not JSON Lines".into());
    }
    if says(&["csv"]) {
        return table(body).map(|rows| (ResponseFormat::Csv, rows)).ok_or("the body is not CSV".into());
    }
    match body[0] {
        b'{' | b'[' => match serde_json::from_slice(body) {
            Ok(value) => Ok((ResponseFormat::Json, value)),
            Err(error) => match lines(body) {
                Some(rows) => Ok((ResponseFormat::Jsonl, rows)),
                None => Err(format!("the body is not valid JSON: {error}")),
            },
        },
        b'<' => Err("it answered HTML or XML instead of JSON".into()),
        _ if says(&["json"]) => Err("the body is not valid JSON".into()),
        _ => match table(body).filter(|_| looks_like_a_table(body)) {
            Some(rows) => Ok((ResponseFormat::Csv, rows)),
            None => Err("the body is neither JSON, JSON Lines nor CSV".into()),
        },
    }
}

/// One object a line; a last line that was cut off is left out.
fn lines(body: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(body).ok()?;
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.trim_start_matches('\u{1e}').trim())
        .filter(|l| !l.is_empty())
        .take(MAX_LINES)
        .collect();
    let rows: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let good = !rows.is_empty() && rows.len() + 1 >= lines.len() && rows.iter().all(Value::is_object);
    good.then_some(Value::Array(rows))
}

fn table(body: &[u8]) -> Option<Value> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(body);
    let header = reader.headers().ok()?.clone();
    let rows = reader.records().take(MAX_LINES).map_while(Result::ok).map(|record| {
        let fields =
            header.iter().zip(record.iter()).map(|(name, field)| (name.trim().to_owned(), typed(field.trim())));
        Value::Object(fields.collect::<Map<_, _>>())
    });
    Some(Value::Array(rows.collect()))
}

fn typed(field: &str) -> Value {
    match field {
        "" => Value::Null,
        "true" | "TRUE" | "True" => true.into(),
        "false" | "FALSE" | "False" => false.into(),
        _ => field.parse::<i64>().map(Value::from).unwrap_or_else(|_| field.into()),
    }
}

/// Prose has commas too: a table has as many in its second line as in its first.
fn looks_like_a_table(body: &[u8]) -> bool {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(body);
    let mut widths = reader.records().take(2).map_while(Result::ok).map(|record| record.len());
    matches!((widths.next(), widths.next()), (Some(a), Some(b)) if a > 1 && a == b)
}
