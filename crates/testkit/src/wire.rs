//! The smallest HTTP client: one request, one answer, blocking. Enough to steer a test server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Posts a body and gives the status and the body of the answer.
pub(crate) fn post(address: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    post_with(address, path, "", body)
}

/// The same with further header lines, each ending with `\r\n`.
pub(crate) fn post_with(address: &str, path: &str, headers: &str, body: &str) -> std::io::Result<(u16, String)> {
    post_within(address, path, headers, body, TIMEOUT)
}

/// The same with patience of the caller's own.
pub(crate) fn post_within(
    address: &str,
    path: &str,
    headers: &str,
    body: &str,
    timeout: Duration,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(timeout))?;
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )?;
    read_answer(&mut BufReader::new(stream))
}

/// Some servers leave the connection open although they were asked to close it, so the length that they give counts.
fn read_answer(stream: &mut impl BufRead) -> std::io::Result<(u16, String)> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let mut length = None;
    while !line.trim_end().is_empty() {
        line.clear();
        stream.read_line(&mut line)?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<u64>().ok();
        }
    }
    let mut body = String::new();
    match length {
        Some(length) => stream.take(length).read_to_string(&mut body)?,
        None => stream.read_to_string(&mut body)?,
    };
    Ok((status, body))
}
