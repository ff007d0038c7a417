//! gRPC over HTTP: which dialect a caller speaks, and its deadlines.

use std::time::Duration;

/// The dialects of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// gRPC over HTTP/2, with its status in trailers.
    Plain,
    /// gRPC-Web, with its status in the last frame of the body.
    Web,
    /// gRPC-Web in Base64.
    WebText,
}

impl Dialect {
    /// The dialect of a `content-type`.
    pub fn of(content_type: &[u8]) -> Option<Self> {
        let kind = content_type.split(|byte| *byte == b';').next()?.trim_ascii();
        let rest =
            kind.get(..16).filter(|start| start.eq_ignore_ascii_case(b"application/grpc")).map(|_| &kind[16..])?;
        let is = |name: &[u8]| {
            let start = rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
            start && matches!(rest.get(name.len()), None | Some(b'+'))
        };
        if is(b"-web-text") {
            Some(Self::WebText)
        } else if is(b"-web") {
            Some(Self::Web)
        } else {
            is(b"").then_some(Self::Plain)
        }
    }

    /// The `content-type` of a refusal.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "application/grpc",
            Self::Web => "application/grpc-web+proto",
            Self::WebText => "application/grpc-web-text+proto",
        }
    }
}

/// The time in a `grpc-timeout`: up to eight digits and a unit.
pub fn timeout(text: &str) -> Option<Duration> {
    let unit_at = text.len().checked_sub(1).filter(|at| (1..=8).contains(at) && text.is_char_boundary(*at))?;
    let (digits, unit) = text.split_at(unit_at);
    let count: u64 = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// A `grpc-timeout` of so long, in the finest unit that eight digits suffice for from milliseconds on.
pub fn timeout_text(left: Duration) -> String {
    const MOST: u128 = 99_999_999;
    match left.as_millis() {
        millis @ ..=MOST => format!("{millis}m"),
        millis => format!("{}S", (millis / 1_000).min(MOST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_and_written() {
        for (text, expected) in [
            ("2H", Some(Duration::from_secs(7_200))),
            ("3M", Some(Duration::from_secs(180))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("7n", Some(Duration::from_nanos(7))),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("+1S", None),
            ("1x", None),
            ("1\u{e9}", None),
        ] {
            assert_eq!(timeout(text), expected, "{text}");
        }
        for left in [Duration::ZERO, Duration::from_millis(250), Duration::from_secs(99_999_999)] {
            assert_eq!(timeout(&timeout_text(left)), Some(left));
        }
        assert_eq!(timeout_text(Duration::from_secs(1_000_000)), "1000000S");
        assert_eq!(timeout_text(Duration::MAX), "99999999S");
    }

    #[test]
    fn dialects_are_told_apart() {
        for (kind, expected) in [
            ("application/grpc", Some(Dialect::Plain)),
            ("Application/gRPC+proto; x=y", Some(Dialect::Plain)),
            ("application/grpc-web", Some(Dialect::Web)),
            ("application/grpc-web+proto", Some(Dialect::Web)),
            ("application/grpc-web-text", Some(Dialect::WebText)),
            ("application/grpc-web-text+proto", Some(Dialect::WebText)),
            ("application/grpc-else", None),
            ("application/grpcx", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(Dialect::of(kind.as_bytes()), expected, "{kind}");
        }
    }
}
