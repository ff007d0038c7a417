//! Statuses of gRPC (google/rpc/code.proto) as statuses of HTTP, and what services say beyond them (google/rpc/status.proto).

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};

use crate::domain::path::decode;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// The code; 0 where it went well.
    pub(crate) code: u8,
    /// What is said of it.
    pub(crate) message: String,
    /// What is said beyond that: a `google.rpc.Status`, as it came.
    details: Vec<u8>,
}

/// What of `google.rpc.Status` is not said elsewhere.
#[derive(Clone, PartialEq, Message)]
struct Rich {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// A `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
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
/// Binary metadata may be padded or not.
const PADDED_OR_NOT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Status {
    /// From trailers, or from headers where there is nothing else; `None` where they say nothing.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(UNKNOWN);
        let message = headers.get("grpc-message").and_then(|text| text.to_str().ok()).unwrap_or_default();
        let details = headers.get("grpc-status-details-bin").and_then(|text| PADDED_OR_NOT.decode(text).ok());
        Some(Self { code, message: decode(message).into_owned(), details: details.unwrap_or_default() })
    }

    /// A failure of ours.
    pub(crate) fn new(code: u8, message: &str) -> Self {
        Self { code, message: message.to_owned(), details: Vec::new() }
    }

    /// The details as JSON: each with its `@type`, and its fields where the service's description has the type.
    pub(crate) fn details(&self, pool: &DescriptorPool) -> Vec<Value> {
        let rich = Rich::decode(self.details.as_slice()).unwrap_or_default();
        rich.details.iter().map(|detail| detail.json(pool)).collect()
    }

    /// Where the call ended without a status.
    pub(crate) fn missing() -> Self {
        Self::new(UNKNOWN, "the call ended without a status")
    }

    /// Its name, such as `NOT_FOUND`.
    pub(crate) fn name(&self) -> &'static str {
        name(self.code)
    }
}

impl Detail {
    fn json(&self, pool: &DescriptorPool) -> Value {
        let kind = self.type_url.rsplit('/').next().and_then(|name| pool.get_message_by_name(name));
        let message = kind.and_then(|kind| DynamicMessage::decode(kind, self.value.as_slice()).ok());
        let value = message.and_then(|message| serde_json::to_value(&message).ok());
        match value {
            Some(Value::Object(fields)) => {
                let of = [("@type".to_owned(), Value::from(self.type_url.as_str()))];
                Value::Object(of.into_iter().chain(fields).collect())
            }
            // Types with a JSON of their own, such as `Duration`; and what is not known is passed on as it is.
            Some(value) => json!({ "@type": self.type_url, "value": value }),
            None => json!({ "@type": self.type_url, "value": PADDED_OR_NOT.encode(&self.value) }),
        }
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
