//! Strict framing of HTTP/1 requests (RFC 9112): what is ambiguous is refused before anything else reads it.
//!
//! Two parties that disagree about where a request ends can be made to see different requests in the same bytes. So the
//! bytes of a connection pass this machine first. It lets whole heads through that have one meaning only, follows the
//! body to its last byte, and stops at the first byte that has no place in the grammar.

use std::fmt;

use memchr::memchr;

use super::chunked::{Chunk, MAX_TRAILER_BYTES};

/// More digits than these do not fit a length.
const MAX_LENGTH_DIGITS: usize = 18;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The whole head.
    pub head_bytes: usize,
    /// The target of the request line.
    pub target_bytes: usize,
    /// The number of header lines.
    pub lines: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_bytes: 32 << 10, target_bytes: 8 << 10, lines: 100 }
    }
}

/// Why bytes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The request line.
    RequestLine,
    /// The target of the request line.
    Target,
    /// A line that ends without CR LF, or a CR within one.
    LineEnd,
    /// A header line without a name that is a token, or with space around it.
    HeaderName,
    /// NUL or another control byte in a value.
    HeaderValue,
    /// A line that continues the one before (obsolete folding).
    Folded,
    /// HTTP/1.1 without Host.
    NoHost,
    /// More than one Host.
    TwoHosts,
    /// A Host that names none.
    BadHost,
    /// The authority of an absolute target is not Host's.
    OtherHost,
    /// A Content-Length that is not one number.
    ContentLength,
    /// A Transfer-Encoding other than `chunked`, or more than one.
    TransferEncoding,
    /// Content-Length and Transfer-Encoding together.
    TwoLengths,
    /// A chunk's size, end or extension.
    Chunk,
    /// A trailer that may not be one.
    Trailer,
    /// Bytes behind a request for another protocol, before that is agreed.
    BytesBeforeUpgrade,
    /// A body that is not Base64 where it must be.
    Base64,
    /// More header lines or bytes than allowed.
    HeadTooLarge,
    /// A longer target than allowed.
    TargetTooLong,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestLine => "the request line is not `METHOD target HTTP/1.1`",
            Self::Target => "the target of the request line is not a path or URL",
            Self::LineEnd => "a line does not end with CR LF",
            Self::HeaderName => "a header's name is not a token directly followed by a colon",
            Self::HeaderValue => "a header's value has a control character",
            Self::Folded => "a header goes on in the next line",
            Self::NoHost => "there is no `host` header",
            Self::TwoHosts => "there are two `host` headers",
            Self::BadHost => "the `host` header does not name a host",
            Self::OtherHost => "the target names another host than the `host` header",
            Self::ContentLength => "`content-length` is not one whole number",
            Self::TransferEncoding => "`transfer-encoding` is not `chunked`",
            Self::TwoLengths => "there are both `content-length` and `transfer-encoding`",
            Self::Chunk => "a chunk of the body is malformed",
            Self::Trailer => "a trailer is malformed or may not be one",
            Self::BytesBeforeUpgrade => "there are bytes behind a request for another protocol that is not agreed yet",
            Self::Base64 => "the body is not the Base64 that its `content-type` promises",
            Self::HeadTooLarge => "the head of the request is too large",
            Self::TargetTooLong => "the target of the request is too long",
        })
    }
}

/// The machine. Give it the bytes of a connection in order.
#[derive(Debug)]
pub struct Framing {
    limits: HeadLimits,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Before or in a head, of which this much was searched for its end.
    Head {
        searched: usize,
    },
    /// So many bytes of a body are to come.
    Length(u64),
    Chunked(Chunk),
    /// Another protocol was asked for; nothing may come until it is agreed.
    Upgrade,
    /// Another protocol was agreed: nothing is looked at.
    Through,
}

/// What a head says about what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    Nothing,
    Length(u64),
    Chunked,
    Upgrade,
}

impl Framing {
    /// Before the first request.
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, state: State::Head { searched: 0 } }
    }

    /// How many of these bytes, from the first on, are good and may be read as HTTP. Call it again with what is left and
    /// more behind it; 0 asks for more.
    ///
    /// # Errors
    /// The first byte that is left begins or belongs to what is malformed; the connection cannot go on.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut good = 0;
        loop {
            let rest = &bytes[good..];
            let step = match self.state {
                State::Through => rest.len(),
                // Whoever asked for another protocol waits for the answer.
                State::Upgrade if !rest.is_empty() => return Err(Malformed::BytesBeforeUpgrade),
                State::Upgrade => 0,
                State::Length(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.body_passed(taken as u64);
                    taken
                }
                // What is good goes first; neither changes the state where it refuses, so the next call finds it again.
                State::Chunked(_) if good > 0 => self.chunked(rest).unwrap_or(0),
                State::Chunked(_) => self.chunked(rest)?,
                State::Head { .. } if good > 0 => self.head(rest).unwrap_or(0),
                State::Head { .. } => self.head(rest)?,
            };
            good += step;
            if step == 0 || good == bytes.len() {
                return Ok(good);
            }
        }
    }

    /// How much of a body of known length is to come: so many bytes need not be looked at.
    pub fn plain_bytes_left(&self) -> u64 {
        match self.state {
            State::Length(left) => left,
            State::Through => u64::MAX,
            _ => 0,
        }
    }

    /// So many bytes of the body went past unseen.
    pub fn body_passed(&mut self, count: u64) {
        if let State::Length(left) = self.state {
            let left = left.saturating_sub(count);
            self.state = if left == 0 { State::Head { searched: 0 } } else { State::Length(left) };
        }
    }

    /// Whether a body is under way.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, State::Length(_) | State::Chunked(_))
    }

    /// Whether another protocol was asked for, and is not agreed on.
    pub fn is_before_upgrade(&self) -> bool {
        matches!(self.state, State::Upgrade)
    }

    /// Another protocol was agreed on: from now on everything passes.
    pub fn pass_through(&mut self) {
        self.state = State::Through;
    }

    fn head(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let State::Head { searched } = self.state else { return Ok(0) };
        // One empty line before a request is a common leftover (RFC 9112, 2.2).
        let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
        let from = searched.saturating_sub(3).max(skipped);
        let Some(end) = find_end(bytes, from.min(bytes.len())) else {
            return self.incomplete(&bytes[skipped.min(bytes.len())..], bytes.len());
        };
        let head = &bytes[skipped..end];
        if head.len() > self.limits.head_bytes {
            return Err(self.too_large(head));
        }
        self.state = match read_head(head, self.limits, |_, _| ())?.follows {
            Follows::Upgrade if bytes.len() > end => return Err(Malformed::BytesBeforeUpgrade),
            Follows::Upgrade => State::Upgrade,
            Follows::Nothing | Follows::Length(0) => State::Head { searched: 0 },
            Follows::Length(length) => State::Length(length),
            Follows::Chunked => State::Chunked(Chunk::FIRST),
        };
        Ok(end)
    }

    /// Refuses early what can no longer become a head: a peer that speaks another protocol may never send an empty line.
    fn incomplete(&mut self, head: &[u8], seen: usize) -> Result<usize, Malformed> {
        if head.len() > self.limits.head_bytes {
            return Err(self.too_large(head));
        }
        if head.first().is_some_and(|byte| !is_token(*byte)) && head != b"\r" {
            return Err(Malformed::RequestLine);
        }
        if let Some(at) = head.iter().position(|byte| *byte == b'\n')
            && (at == 0 || head[at - 1] != b'\r')
        {
            return Err(Malformed::LineEnd);
        }
        self.state = State::Head { searched: seen };
        Ok(0)
    }

    fn too_large(&self, head: &[u8]) -> Malformed {
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if line.len() > self.limits.target_bytes { Malformed::TargetTooLong } else { Malformed::HeadTooLarge }
    }

    /// Up to the first byte that has no place, which is refused where nothing good stands before it.
    fn chunked(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() {
            match self.chunk_step(&bytes[at..]) {
                Ok(0) => break,
                Ok(taken) => at += taken,
                Err(malformed) if at == 0 => return Err(malformed),
                Err(_) => break,
            }
        }
        Ok(at)
    }

    fn chunk_step(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let State::Chunked(chunk) = &mut self.state else { return Ok(0) };
        match chunk {
            Chunk::Data(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                if *left == 0 {
                    *chunk = Chunk::DataCr;
                }
                Ok(taken)
            }
            Chunk::Trailers { taken } => {
                let Some(line) = line_of(bytes)? else {
                    return if bytes.len() > MAX_TRAILER_BYTES { Err(Malformed::Trailer) } else { Ok(0) };
                };
                if line.is_empty() {
                    self.state = State::Head { searched: 0 };
                    return Ok(2);
                }
                if *taken + line.len() > MAX_TRAILER_BYTES || !is_trailer(line) {
                    return Err(Malformed::Trailer);
                }
                *taken += line.len() + 2;
                Ok(line.len() + 2)
            }
            other => {
                *other = other.next(bytes[0]).ok_or(Malformed::Chunk)?;
                Ok(1)
            }
        }
    }
}

/// Where the head ends, behind its empty line. Lines that end with LF alone end a head too, so that they are found and
/// refused rather than waited on.
fn find_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = memchr(b'\n', &bytes[at..]) {
        at += found + 1;
        match &bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// The line up to CR LF, without it; `None` where it is not whole yet.
pub(super) fn line_of(bytes: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    match memchr(b'\n', bytes) {
        None => Ok(None),
        Some(at) if at > 0 && bytes[at - 1] == b'\r' => Ok(Some(&bytes[..at - 1])),
        Some(_) => Err(Malformed::LineEnd),
    }
}

fn is_trailer(line: &[u8]) -> bool {
    let Ok((name, _)) = split_line(line) else { return false };
    let forbidden: [&[u8]; 6] =
        [b"content-length", b"transfer-encoding", b"host", b"trailer", b"connection", b"authorization"];
    !forbidden.iter().any(|word| name.eq_ignore_ascii_case(word))
}

/// What the header lines say that matters for where the request ends and whom it is for.
#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    is_chunked: bool,
    asks_upgrade: bool,
    connection_upgrade: bool,
}

/// A head that has one meaning only.
#[derive(Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The target.
    pub target: &'a [u8],
    /// All of it, up to and with its empty line.
    pub length: usize,
    is_http_11: bool,
    follows: Follows,
}

impl<'a> Head<'a> {
    /// The head at the beginning of these bytes, where it is whole and good, of HTTP/1.1, for a path, and no body and no
    /// other protocol comes behind it. `each` gets the headers' names and values, also of a head that turns out to be
    /// another.
    pub fn plain(bytes: &'a [u8], limits: HeadLimits, each: impl FnMut(&'a [u8], &'a [u8])) -> Option<Self> {
        let end = find_end(bytes, 0).filter(|end| *end <= limits.head_bytes)?;
        let head = read_head(&bytes[..end], limits, each).ok()?;
        (head.is_http_11 && head.follows == Follows::Nothing && head.target.starts_with(b"/")).then_some(head)
    }
}

fn read_head<'a>(
    head: &'a [u8],
    limits: HeadLimits,
    mut each: impl FnMut(&'a [u8], &'a [u8]),
) -> Result<Head<'a>, Malformed> {
    let mut rest = head;
    let mut next_line = || -> Result<&'a [u8], Malformed> {
        let line = line_of(rest)?.ok_or(Malformed::LineEnd)?;
        rest = &rest[line.len() + 2..];
        Ok(line)
    };
    let (method, target, is_http_11) = read_request_line(next_line()?, limits)?;
    let mut seen = Seen::default();
    for count in 0.. {
        let line = next_line()?;
        if line.is_empty() {
            break;
        }
        if count >= limits.lines {
            return Err(Malformed::HeadTooLarge);
        }
        let (name, value) = split_line(line)?;
        note_header(&mut seen, name, value, is_http_11)?;
        each(name, value);
    }
    check_host(&seen, target, is_http_11)?;
    let follows = match (seen.length, seen.is_chunked) {
        (Some(_), true) => return Err(Malformed::TwoLengths),
        (None, true) => Follows::Chunked,
        (Some(length), false) if length > 0 => Follows::Length(length),
        // Of HTTP/1.0 it is to be ignored (RFC 9110, 7.8).
        _ if seen.asks_upgrade && seen.connection_upgrade && is_http_11 => Follows::Upgrade,
        _ => Follows::Nothing,
    };
    Ok(Head { method, target, length: head.len(), is_http_11, follows })
}

/// The method, the target and whether it is HTTP/1.1.
fn read_request_line(line: &[u8], limits: HeadLimits) -> Result<(&[u8], &[u8], bool), Malformed> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed::RequestLine);
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Malformed::RequestLine);
    }
    let is_http_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Err(Malformed::RequestLine),
    };
    if target.len() > limits.target_bytes {
        return Err(Malformed::TargetTooLong);
    }
    let visible = target.iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'#');
    let form = match target {
        [b'/', ..] => method != b"CONNECT",
        b"*" => method == b"OPTIONS",
        _ if method == b"CONNECT" => true,
        _ => authority_of(target).is_some(),
    };
    if visible && form { Ok((method, target, is_http_11)) } else { Err(Malformed::Target) }
}

/// The authority of a target in absolute form.
fn authority_of(target: &[u8]) -> Option<&[u8]> {
    let lower = |prefix: &[u8]| target.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let start = if lower(b"http://") { 7 } else { lower(b"https://").then_some(8)? };
    let rest = &target[start..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    (end > 0).then_some(&rest[..end])
}

/// Name and value of a header line.
pub(super) fn split_line(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Malformed::Folded);
    }
    let colon = line.iter().position(|byte| !is_token(*byte)).filter(|at| *at > 0 && line[*at] == b':');
    let colon = colon.ok_or(Malformed::HeaderName)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    // To look at all of them is quicker than to stop at the first.
    if line[colon + 1..].iter().fold(false, |is_bad, byte| is_bad | !matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)) {
        return Err(if value.contains(&b'\r') { Malformed::LineEnd } else { Malformed::HeaderValue });
    }
    Ok((name, value))
}

fn note_header<'a>(seen: &mut Seen<'a>, name: &'a [u8], value: &'a [u8], is_http_11: bool) -> Result<(), Malformed> {
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") => match seen.host.replace(value) {
            Some(_) => return Err(Malformed::TwoHosts),
            None if !is_host(value) => return Err(Malformed::BadHost),
            None => {}
        },
        7 if name.eq_ignore_ascii_case(b"upgrade") => seen.asks_upgrade = true,
        10 if name.eq_ignore_ascii_case(b"connection") => {
            let mut options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            seen.connection_upgrade |= options.any(|option| option.eq_ignore_ascii_case(b"upgrade"));
        }
        14 if name.eq_ignore_ascii_case(b"content-length") => {
            let digits = !value.is_empty() && value.len() <= MAX_LENGTH_DIGITS && value.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
            // The same length twice would be unambiguous here, and is not to everybody behind us.
            if length.is_none() || seen.length.is_some() {
                return Err(Malformed::ContentLength);
            }
            seen.length = length;
        }
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
            if seen.is_chunked || !is_http_11 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::TransferEncoding);
            }
            seen.is_chunked = true;
        }
        _ => {}
    }
    Ok(())
}

fn check_host(seen: &Seen<'_>, target: &[u8], is_http_11: bool) -> Result<(), Malformed> {
    let Some(host) = seen.host else {
        return if is_http_11 { Err(Malformed::NoHost) } else { Ok(()) };
    };
    match authority_of(target).filter(|_| !target.starts_with(b"/")) {
        Some(authority) if !without_port(authority).eq_ignore_ascii_case(without_port(host)) => {
            Err(Malformed::OtherHost)
        }
        _ => Ok(()),
    }
}

fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|byte| *byte == b':') {
        Some(colon) if matches!(&authority[colon..], b":80" | b":443") => &authority[..colon],
        _ => authority,
    }
}

/// `name`, `name:port`, `[v6]:port`: no user, no path, nothing else.
fn is_host(value: &[u8]) -> bool {
    let (name, port) = match value.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !value[colon..].contains(&b']') => (&value[..colon], &value[colon + 1..]),
        _ => (value, &[][..]),
    };
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(byte);
    let named = match name {
        [b'[', inner @ .., b']'] => inner.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)),
        _ => !name.is_empty() && name.iter().all(of_name),
    };
    named && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// Which bytes a token is made of (RFC 9110, 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let more = b"!#$%&'*+-.^_`|~";
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < more.len() {
        table[more[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
