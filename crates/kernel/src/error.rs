//! The closed set of error kinds, and the one table from them to an HTTP status.

/// What sort of refusal or failure an error is, whatever the product. Each product's `Error` has a `kind()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The input is wrong; sending it again changes nothing.
    Invalid,
    /// Nobody is named, or the proof does not hold.
    Unauthenticated,
    /// Somebody is named who may not do this.
    Forbidden,
    /// The thing named does not exist.
    NotFound,
    /// The present state refuses it.
    Conflict,
    /// It existed and is over.
    Gone,
    /// Too much, too fast.
    Limited,
    /// A deadline passed first.
    Timeout,
    /// Something needed is away for now.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl ErrorKind {
    /// The HTTP status of this kind.
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Gone => 410,
            Self::Limited => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// The title of this kind in a problem document (RFC 9457).
    pub const fn title(self) -> &'static str {
        match self {
            Self::Invalid => "invalid request",
            Self::Unauthenticated => "not signed in",
            Self::Forbidden => "not allowed",
            Self::NotFound => "not found",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::Limited => "too many requests",
            Self::Timeout => "timed out",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal error",
        }
    }
}
