//! Response bodies: decompressed, and whatever their format as JSON.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::HeaderMap;

use crate::shape::parse_timestamp;
use crate::spec::ResponseFormat;

/// A body as JSON.
pub(super) enum Body {
    /// One document.
    Document(Bytes),
    /// A JSON array of rows, made from another format.
    Rows(Bytes),
}

/// Reads a body of up to `most` bytes after decompression.
pub(super) fn read(headers: &HeaderMap, bytes: &Bytes, format: ResponseFormat, most: u64) -> Result<Body, String> {
    let header =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_ascii_lowercase();
    let gzip = bytes.starts_with(&[0x1f, 0x8b]);
    if !gzip && header("content-encoding").contains("gzip") && !bytes.is_empty() {
        return Err("the body is marked gzip and is not; it may have been cut".into());
    }
    let bytes = if gzip { unzip(bytes, most)? } else { bytes.clone() };
    let kind = header("content-type");
    let start = bytes.trim_ascii_start();
    if start.starts_with(b"<") {
        let start = start[..start.len().min(200)].to_ascii_lowercase();
        let words = String::from_utf8_lossy(&start).into_owned();
        if kind.contains("html") || words.contains("<html") || words.contains("<!doctype") {
            return Err(
                "the answer is HTML instead of data; often a login page or an error page: check base_url and auth"
                    .into(),
            );
        }
        return Err(
            "the answer is XML instead of JSON; ask the API for JSON, such as headers: { Accept: application/json }"
                .into(),
        );
    }
    let format = match format {
        ResponseFormat::Auto if kind.contains("ndjson") || kind.contains("jsonl") || kind.contains("json-seq") => {
            ResponseFormat::Jsonl
        }
        ResponseFormat::Auto if kind.contains("csv") => ResponseFormat::Csv,
        ResponseFormat::Auto => ResponseFormat::Json,
        given => given,
    };
    match format {
        ResponseFormat::Jsonl => Ok(Body::Rows(lines(&bytes))),
        ResponseFormat::Csv => csv_rows(&bytes).map(Body::Rows),
        ResponseFormat::Json | ResponseFormat::Auto => Ok(Body::Document(bytes)),
    }
}

fn unzip(bytes: &[u8], most: u64) -> Result<Bytes, String> {
    let mut text = Vec::with_capacity(bytes.len() * 4);
    let read = MultiGzDecoder::new(bytes).take(most + 1).read_to_end(&mut text);
    read.map_err(|error| format!("the gzip body is broken or was cut: {error}"))?;
    if text.len() as u64 > most {
        return Err(format!("the body is larger than {most} bytes decompressed; raise source.max_body"));
    }
    Ok(text.into())
}

/// JSON Lines as one JSON array.
fn lines(bytes: &[u8]) -> Bytes {
    let mut rows = Vec::with_capacity(bytes.len() + 2);
    rows.push(b'[');
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        let line = line.strip_prefix(b"\x1e").unwrap_or(line);
        if !line.is_empty() {
            if rows.len() > 1 {
                rows.push(b',');
            }
            rows.extend_from_slice(line);
        }
    }
    rows.push(b']');
    rows.into()
}

/// CSV with a header line as one JSON array of objects.
fn csv_rows(bytes: &[u8]) -> Result<Bytes, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(bytes);
    let header = reader.headers().map_err(|error| format!("the CSV has no readable header: {error}"))?.clone();
    let names: Vec<String> = header.iter().map(|name| serde_json::Value::from(name.trim()).to_string()).collect();
    let mut rows = String::with_capacity(bytes.len() * 2);
    rows.push('[');
    for record in reader.records() {
        let record = record.map_err(|error| format!("the CSV is broken: {error}"))?;
        if rows.len() > 1 {
            rows.push(',');
        }
        for (at, (name, field)) in names.iter().zip(&record).enumerate() {
            rows.push(if at == 0 { '{' } else { ',' });
            rows.push_str(name);
            rows.push(':');
            rows.push_str(&scalar(field));
        }
        rows.push('}');
    }
    rows.push(']');
    Ok(rows.into())
}

/// A field as JSON: a number or a boolean only if it reads back as the very same text, so that `007` stays text.
fn scalar(field: &str) -> String {
    let same_number = || {
        let same_int = field.parse::<i64>().is_ok_and(|number| number.to_string() == field);
        let same_float = || {
            let plain = field.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
            let digits = field.bytes().filter(u8::is_ascii_digit).count();
            let leading_zero =
                field.trim_start_matches('-').starts_with('0') && !field.trim_start_matches('-').starts_with("0.");
            plain
                && digits <= 15
                && !leading_zero
                && field.contains('.')
                && !field.ends_with('.')
                && field.parse::<f64>().is_ok()
                && serde_json::from_str::<f64>(field).is_ok()
        };
        same_int || same_float()
    };
    match field {
        "" => "null".into(),
        "true" | "false" => field.into(),
        _ if parse_timestamp(field).is_none() && same_number() => field.into(),
        _ => serde_json::Value::from(field).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(kind: &str, body: &[u8]) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        match read(&headers, &Bytes::copy_from_slice(body), ResponseFormat::Auto, 1 << 20)? {
            Body::Rows(bytes) | Body::Document(bytes) => Ok(String::from_utf8(bytes.to_vec()).unwrap()),
        }
    }

    #[test]
    fn lines_and_csv_become_rows() {
        assert_eq!(rows("application/x-ndjson", b"{\"a\":1}\n\n{\"a\":2}").unwrap(), r#"[{"a":1},{"a":2}]"#);
        let csv = b"id,zip,price,ok,note\n1,007,1.50,true,\"a \"\"b\"\"\n\"\n2,,-3,,x\n";
        let expected = r#"[{"id":1,"zip":"007","price":1.50,"ok":true,"note":"a \"b\"\n"},{"id":2,"zip":null,"price":-3,"ok":null,"note":"x"}]"#;
        assert_eq!(rows("text/csv", csv).unwrap(), expected);
        assert!(rows("text/csv", b"a,b\n1\n").unwrap_err().contains("CSV"));
    }

    #[test]
    fn gzip_is_undone_and_bounded() {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&vec![b' '; 2 << 20]).unwrap();
        assert!(rows("application/json", &gzip.finish().unwrap()).unwrap_err().contains("max_body"));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"[1]").unwrap();
        let whole = gzip.finish().unwrap();
        assert_eq!(rows("application/json", &whole).unwrap(), "[1]");
        assert!(rows("application/json", &whole[..whole.len() - 6]).unwrap_err().contains("cut"));
    }

    #[test]
    fn other_documents_are_named() {
        assert!(rows("text/html", b"<!DOCTYPE html><p>x").unwrap_err().contains("HTML"));
        assert!(rows("application/xml", b"<?xml version='1.0'?><a/>").unwrap_err().contains("XML"));
    }
}
