//! What goes wrong, whose side it is on, and whether the same request may be sent again.

use serde_json::{Map, json};
use tessera_kernel::ErrorKind;
use tessera_service::ProductError;

use crate::domain::framing::Malformed;
use crate::transcode::{http_status, status_name};
use crate::validate::Fault;

/// Whose doing an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The caller's.
    Client,
    /// Ours.
    Gateway,
    /// That of the service behind us.
    Upstream,
}

impl Side {
    /// Its name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        }
    }
}

/// A refusal or failure of the gateway.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The config file is wrong.
    #[error("{place}: {detail}")]
    Config {
        /// File and line.
        place: String,
        /// What is wrong and what to do.
        detail: String,
    },
    /// An address to listen on cannot be used.
    #[error("listener `{address}` cannot be opened: {reason}; choose another address in the config file")]
    Listener {
        /// As written.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// The request is not HTTP that has one meaning.
    #[error("{0}; send a request as RFC 9112 has it")]
    Malformed(Malformed),
    /// The path cannot be read.
    #[error("the path cannot be read: {0}")]
    BadPath(&'static str),
    /// Too many or too long header lines.
    #[error("the head of the request is larger than allowed; send fewer or shorter headers")]
    HeadTooLarge,
    /// A target that is too long.
    #[error("the target is longer than allowed; send a shorter path or query")]
    TargetTooLong,
    /// A body above the limit.
    #[error("the body is larger than the {limit_bytes} bytes allowed here; send less")]
    BodyTooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The body came too slowly.
    #[error("the body did not come in time; send it faster")]
    SlowClient,
    /// No route fits.
    #[error("no route leads to `{0}`; check host and path")]
    NoRoute(String),
    /// Routes fit the path, and none the method.
    #[error("this path does not take {method}; the `allow` header lists what it takes")]
    MethodNotAllowed {
        /// The method of the request.
        method: String,
        /// What is taken.
        allowed: String,
    },
    /// Nobody is named.
    #[error("this needs you to be signed in; send {wanted}")]
    NotSignedIn {
        /// What to send.
        wanted: &'static str,
        /// The challenges of `www-authenticate`.
        challenge: String,
    },
    /// The proof does not hold.
    #[error("the credentials are refused: {reason}")]
    BadCredentials {
        /// Why.
        reason: String,
        /// The challenges of `www-authenticate`.
        challenge: String,
    },
    /// Somebody is named who may not do this.
    #[error("this needs {0}")]
    Forbidden(String),
    /// Too many requests.
    #[error("too many requests under limit `{limit}`; try again in {retry_s} s")]
    RateLimited {
        /// The limit's name.
        limit: String,
        /// When the next one passes.
        retry_s: u64,
    },
    /// Too many at the same time.
    #[error("{at_once} requests are under way here, which is the limit; try again when one is answered")]
    TooManyAtOnce {
        /// The limit.
        at_once: u32,
    },
    /// The gateway does less important work no longer.
    #[error("the gateway has more to do than it can; try again in a few seconds")]
    Overloaded,
    /// The keys that tokens are checked with cannot be had.
    #[error("the keys of `{provider}` cannot be fetched: {reason}")]
    KeysUnavailable {
        /// The provider in the config file.
        provider: String,
        /// Why.
        reason: String,
    },
    /// No endpoint can be asked.
    #[error("upstream `{upstream}` has no endpoint that can be asked: {reason}")]
    NoEndpoint {
        /// The upstream.
        upstream: String,
        /// Why.
        reason: &'static str,
    },
    /// No connection.
    #[error("upstream `{upstream}` cannot be reached at {endpoint}: {reason}")]
    Unreachable {
        /// The upstream.
        upstream: String,
        /// The endpoint.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The connection ended before an answer.
    #[error("upstream `{upstream}` broke off at {endpoint}: {reason}")]
    BrokeOff {
        /// The upstream.
        upstream: String,
        /// The endpoint.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// An answer that is not HTTP.
    #[error("upstream `{upstream}` gave an answer at {endpoint} that is not HTTP: {reason}")]
    BadAnswer {
        /// The upstream.
        upstream: String,
        /// The endpoint.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("upstream `{upstream}` gave no answer within {after_ms} ms")]
    UpstreamTimeout {
        /// The upstream.
        upstream: String,
        /// The limit.
        after_ms: u64,
    },
    /// A request's body in a coding that cannot be inflated.
    #[error("content-encoding `{0}` is not known; send the body plain, or as zstd, br or gzip")]
    UnknownCoding(String),
    /// A request's body that is not what its coding says.
    #[error("the body is not what its content-encoding says, or ends too early; send it whole")]
    BadCoding,
    /// The caller wants what is kept only, and nothing is.
    #[error("nothing that is kept answers this, and `only-if-cached` forbids to fetch it; ask without")]
    NotCached,
    /// A purge that cannot be understood.
    #[error("{0}")]
    BadPurge(String),
    /// A call that an aggregated answer cannot do without.
    #[error("call `{call}` of this route failed: {reason}")]
    CallFailed {
        /// The call's name.
        call: String,
        /// What it was answered, or 502.
        status: u16,
        /// What was wrong.
        reason: String,
    },
    /// A body that must be JSON and is not.
    #[error("the body is not JSON: line {line}, column {column}; send JSON")]
    NotJson {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// A request that does not fit its description.
    #[error("{}", told(.faults))]
    Invalid {
        /// Everything that is wrong.
        faults: Vec<Fault>,
        /// 400, or 415 where only the media type is wrong.
        status: u16,
    },
    /// An answer that does not fit its description.
    #[error("upstream `{upstream}` gave an answer that does not fit its description: {reason}")]
    InvalidAnswer {
        /// The upstream.
        upstream: String,
        /// What is wrong.
        reason: String,
    },
    /// A version that is not there.
    #[error("{}", no_version(.named, .known))]
    UnknownVersion {
        /// What the request names; empty where it names none.
        named: String,
        /// What there is.
        known: String,
        /// 400, 404 or 406, by where versions are named.
        status: u16,
    },
    /// A gRPC service refused or failed.
    #[error("the service answered {}: {message}", status_name(*.code))]
    Grpc {
        /// Its code.
        code: u8,
        /// What it says of it.
        message: String,
        /// What it says beyond that, as JSON.
        details: Vec<serde_json::Value>,
    },
    /// There is no such thing for the admin API to act on.
    #[error("{0}")]
    NotFound(String),
    /// A fault of ours.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// Whose doing it is.
    pub fn side(&self) -> Side {
        match self {
            Self::Unreachable { .. }
            | Self::BrokeOff { .. }
            | Self::BadAnswer { .. }
            | Self::UpstreamTimeout { .. }
            | Self::NoEndpoint { .. }
            | Self::KeysUnavailable { .. }
            | Self::CallFailed { .. }
            | Self::InvalidAnswer { .. }
            | Self::Grpc { .. } => Side::Upstream,
            Self::Internal(_) | Self::Overloaded | Self::Config { .. } | Self::Listener { .. } => Side::Gateway,
            _ => Side::Client,
        }
    }

    /// Whether the upstream failed, so that an older answer of it may do.
    pub fn is_of_upstream(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::BrokeOff { .. }
                | Self::BadAnswer { .. }
                | Self::UpstreamTimeout { .. }
                | Self::NoEndpoint { .. }
                | Self::TooManyAtOnce { .. }
        )
    }

    /// Whether the upstream has certainly done nothing, so that any request may be sent once more.
    pub fn may_retry(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::NoEndpoint { .. }
                | Self::Overloaded
                | Self::TooManyAtOnce { .. }
                | Self::RateLimited { .. }
                | Self::KeysUnavailable { .. }
        )
    }

    /// What goes into `www-authenticate`.
    pub fn challenge(&self) -> Option<&str> {
        match self {
            Self::NotSignedIn { challenge, .. } | Self::BadCredentials { challenge, .. } => Some(challenge),
            _ => None,
        }
    }
}

fn told(faults: &[Fault]) -> String {
    let first = faults.first().map(|fault| format!("{} `{}`: {}", fault.place.name(), fault.pointer, fault.detail));
    let first = first.unwrap_or_default();
    match faults.len() {
        0 | 1 => format!("the request does not fit its description: {first}"),
        count => format!(
            "the request does not fit its description in {count} places, the first is {first}; `errors` lists all"
        ),
    }
}

fn no_version(named: &str, known: &str) -> String {
    if named.is_empty() {
        return format!("the request names no version; name one of {known}");
    }
    let named: String = named.chars().take(100).collect();
    format!("there is no version `{named}` of this; there are {known}")
}

/// Every code of [`Error`]; each has a page in `docs/errors/`.
pub const CODES: &[&str] = &[
    "gateway.bad_config",
    "gateway.listener",
    "gateway.malformed_request",
    "gateway.bad_path",
    "gateway.head_too_large",
    "gateway.target_too_long",
    "gateway.body_too_large",
    "gateway.slow_client",
    "gateway.no_route",
    "gateway.method_not_allowed",
    "gateway.not_signed_in",
    "gateway.bad_credentials",
    "gateway.forbidden",
    "gateway.rate_limited",
    "gateway.too_many_at_once",
    "gateway.overloaded",
    "gateway.keys_unavailable",
    "gateway.no_endpoint",
    "gateway.upstream_unreachable",
    "gateway.upstream_broke_off",
    "gateway.bad_answer",
    "gateway.upstream_timeout",
    "gateway.unknown_coding",
    "gateway.bad_coding",
    "gateway.not_cached",
    "gateway.bad_purge",
    "gateway.call_failed",
    "gateway.not_json",
    "gateway.invalid",
    "gateway.invalid_answer",
    "gateway.unknown_version",
    "gateway.grpc_status",
    "gateway.not_found",
    "gateway.internal",
];

impl ProductError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRoute(_) | Self::NotFound(_) | Self::NotCached => ErrorKind::NotFound,
            Self::NotSignedIn { .. } | Self::BadCredentials { .. } => ErrorKind::Unauthenticated,
            Self::Forbidden(_) => ErrorKind::Forbidden,
            Self::RateLimited { .. } => ErrorKind::Limited,
            Self::SlowClient | Self::UpstreamTimeout { .. } => ErrorKind::Timeout,
            Self::TooManyAtOnce { .. }
            | Self::Overloaded
            | Self::KeysUnavailable { .. }
            | Self::NoEndpoint { .. }
            | Self::Unreachable { .. }
            | Self::BrokeOff { .. }
            | Self::BadAnswer { .. }
            | Self::CallFailed { .. }
            | Self::InvalidAnswer { .. }
            | Self::Listener { .. } => ErrorKind::Unavailable,
            Self::Grpc { code, .. } if http_status(*code) >= 500 => ErrorKind::Unavailable,
            Self::Internal(_) => ErrorKind::Internal,
            _ => ErrorKind::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "gateway.bad_config",
            Self::Listener { .. } => "gateway.listener",
            Self::Malformed(_) => "gateway.malformed_request",
            Self::BadPath(_) => "gateway.bad_path",
            Self::HeadTooLarge => "gateway.head_too_large",
            Self::TargetTooLong => "gateway.target_too_long",
            Self::BodyTooLarge { .. } => "gateway.body_too_large",
            Self::SlowClient => "gateway.slow_client",
            Self::NoRoute(_) => "gateway.no_route",
            Self::MethodNotAllowed { .. } => "gateway.method_not_allowed",
            Self::NotSignedIn { .. } => "gateway.not_signed_in",
            Self::BadCredentials { .. } => "gateway.bad_credentials",
            Self::Forbidden(_) => "gateway.forbidden",
            Self::RateLimited { .. } => "gateway.rate_limited",
            Self::TooManyAtOnce { .. } => "gateway.too_many_at_once",
            Self::Overloaded => "gateway.overloaded",
            Self::KeysUnavailable { .. } => "gateway.keys_unavailable",
            Self::NoEndpoint { .. } => "gateway.no_endpoint",
            Self::Unreachable { .. } => "gateway.upstream_unreachable",
            Self::BrokeOff { .. } => "gateway.upstream_broke_off",
            Self::BadAnswer { .. } => "gateway.bad_answer",
            Self::UpstreamTimeout { .. } => "gateway.upstream_timeout",
            Self::UnknownCoding(_) => "gateway.unknown_coding",
            Self::BadCoding => "gateway.bad_coding",
            Self::NotCached => "gateway.not_cached",
            Self::BadPurge(_) => "gateway.bad_purge",
            Self::CallFailed { .. } => "gateway.call_failed",
            Self::NotJson { .. } => "gateway.not_json",
            Self::Invalid { .. } => "gateway.invalid",
            Self::InvalidAnswer { .. } => "gateway.invalid_answer",
            Self::UnknownVersion { .. } => "gateway.unknown_version",
            Self::Grpc { .. } => "gateway.grpc_status",
            Self::NotFound(_) => "gateway.not_found",
            Self::Internal(_) => "gateway.internal",
        }
    }

    /// Where HTTP has a closer status than the kind's.
    fn status(&self) -> u16 {
        match self {
            Self::MethodNotAllowed { .. } => 405,
            Self::SlowClient => 408,
            Self::NotCached => 504,
            Self::BodyTooLarge { .. } => 413,
            Self::UnknownCoding(_) => 415,
            Self::TargetTooLong => 414,
            Self::HeadTooLarge => 431,
            Self::CallFailed { status, .. } if (400..500).contains(status) => *status,
            Self::Invalid { status, .. } | Self::UnknownVersion { status, .. } => *status,
            Self::CallFailed { .. } | Self::InvalidAnswer { .. } => 502,
            Self::Grpc { code, .. } => http_status(*code),
            Self::Unreachable { .. } | Self::BrokeOff { .. } | Self::BadAnswer { .. } => 502,
            _ => self.kind().status(),
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_s, .. } => Some(*retry_s),
            Self::Overloaded | Self::TooManyAtOnce { .. } => Some(1),
            _ => None,
        }
    }

    fn members(&self) -> Map<String, serde_json::Value> {
        let mut members = Map::new();
        members.insert("side".into(), self.side().name().into());
        members.insert("may_retry".into(), self.may_retry().into());
        if let Self::Invalid { faults, .. } = self {
            let errors = faults
                .iter()
                .map(|fault| json!({ "in": fault.place.name(), "pointer": fault.pointer, "detail": fault.detail }));
            members.insert("errors".into(), errors.collect());
        }
        if let Self::Grpc { code, details, .. } = self {
            // What a service says of its own failures is for the log.
            if !details.is_empty() && http_status(*code) < 500 {
                members.insert("grpc_details".into(), details.clone().into());
            }
            members.insert("grpc_status".into(), status_name(*code).into());
            members.insert("grpc_code".into(), (*code).into());
        }
        members
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::HeadTooLarge => Self::HeadTooLarge,
            Malformed::TargetTooLong => Self::TargetTooLong,
            other => Self::Malformed(other),
        }
    }
}
