//! Statuses of gRPC (google/rpc/code.proto) as statuses of HTTP, and times that are left.

use http::HeaderMap;

use crate::domain::path::decode;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// The code; 0 where it went well.
    pub(crate) code: u8,
    /// What is said of it.
    pub(crate) message: String,
}

/// Names of the codes, in their order, with their statuses of HTTP.
const STATUSES: [(&str, u16); 17] = [
    ("OK", 200),
    ("CANCELLED", 499),
    ("UNKNOWN", 500),
    ("INVALID_ARGUMENT", 400),
    ("DEADLINE_EXCEEDED", 504),
    ("NOT_FOUND", 404),
    ("ALREADY_EXISTS", 409),
    ("PERMISSION_DENIED", 403),
    ("RESOURCE_EXHAUSTED", 429),
    ("FAILED_PRECONDITION", 400),
    ("ABORTED", 409),
    ("OUT_OF_RANGE", 400),
    ("UNIMPLEMENTED", 501),
    ("INTERNAL", 500),
    ("UNAVAILABLE", 503),
    ("DATA_LOSS", 500),
    ("UNAUTHENTICATED", 401),
];
const UNKNOWN: u8 = 2;

impl Status {
    /// From trailers, or from headers where there is nothing else; `None` where they say nothing.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(UNKNOWN);
        let message = headers.get("grpc-message").and_then(|text| text.to_str().ok()).unwrap_or_default();
        Some(Self { code, message: decode(message).into_owned() })
    }

    /// Where the call ended without a status.
    pub(crate) fn missing() -> Self {
        Self { code: UNKNOWN, message: "the call ended without a status".into() }
    }

    /// Its name, such as `NOT_FOUND`.
    pub(crate) fn name(&self) -> &'static str {
        name(self.code)
    }
}

/// A code's name.
pub(crate) fn name(code: u8) -> &'static str {
    STATUSES.get(usize::from(code)).map_or("UNKNOWN", |(name, _)| name)
}

/// A code's status of HTTP.
pub(crate) fn http(code: u8) -> u16 {
    STATUSES.get(usize::from(code)).map_or(500, |(_, status)| *status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_translated() {
        let mut headers = HeaderMap::new();
        assert_eq!(Status::of(&headers), None);
        headers.insert("grpc-status", "5".parse().unwrap());
        headers.insert("grpc-message", "no%20such%20order %E2%82%AC".parse().unwrap());
        let status = Status::of(&headers).unwrap();
        assert_eq!((status.name(), http(status.code), status.message.as_str()), ("NOT_FOUND", 404, "no such order €"));
        headers.insert("grpc-status", "99".parse().unwrap());
        let status = Status::of(&headers).unwrap();
        assert_eq!((status.name(), http(status.code)), ("UNKNOWN", 500));
    }
}
