//! What can go wrong in the frame around the products: settings, ports, requests that do not parse.

use std::path::PathBuf;

use tessera_kernel::ErrorKind;

use crate::ProductError;

/// A refusal or failure of the frame. Each message is one line that names the value and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key in the config file or the environment that no section has.
    #[error("{origin}: there is no setting `{key}`; {hint}")]
    UnknownSetting {
        /// Where it was written.
        origin: String,
        /// The dotted key.
        key: String,
        /// The nearest known key, or how to list them.
        hint: String,
    },
    /// A known key with a value that its section refuses.
    #[error("{origin}: setting `{key}` cannot be {value}: {reason}")]
    BadSetting {
        /// Where it was written.
        origin: String,
        /// The dotted key.
        key: String,
        /// The value as written, starred where it is secret.
        value: String,
        /// What the section says.
        reason: String,
    },
    /// The config file cannot be read or is not TOML.
    #[error("config file `{}`: {reason}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
    /// The address to listen on is in use.
    #[error(
        "setting `{setting}`: {address} is taken by another process; stop it or choose another address with {remedy}"
    )]
    PortTaken {
        /// The dotted key.
        setting: &'static str,
        /// The address asked for.
        address: String,
        /// The flag and environment variable that change it.
        remedy: &'static str,
    },
    /// The address to listen on cannot be used.
    #[error("setting `{setting}`: cannot listen on `{address}`: {reason}; choose another address with {remedy}")]
    BadAddress {
        /// The dotted key.
        setting: &'static str,
        /// The address asked for.
        address: String,
        /// What the system says.
        reason: String,
        /// The flag and environment variable that change it.
        remedy: &'static str,
    },
    /// A folder that must be written to and cannot.
    #[error("setting `{setting}`: cannot write in `{}`: {reason}; choose a folder this user may write in with {remedy}", path.display())]
    UnwritableFolder {
        /// The dotted key.
        setting: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the system says.
        reason: String,
        /// The flag and environment variable that change it.
        remedy: &'static str,
    },
    /// The trace exporter or the log subscriber cannot be set up.
    #[error("setting `telemetry`: {0}")]
    Telemetry(String),
    /// The outgoing HTTP client cannot be built.
    #[error("the outgoing http client cannot be built: {0}")]
    Client(#[from] reqwest::Error),
    /// No route has this path.
    #[error("there is nothing at `{0}`; GET /openapi.json lists the paths")]
    RouteNotFound(String),
    /// The path exists, the method does not.
    #[error("`{path}` does not take {method}; the `allow` header lists what it takes")]
    MethodNotAllowed {
        /// The method of the request.
        method: String,
        /// Its path.
        path: String,
    },
    /// A body, query or path that does not parse; names the field where there is one.
    #[error("{place}: {reason}")]
    BadRequest {
        /// `body`, `query` or `path`.
        place: &'static str,
        /// The field and what is wrong with it.
        reason: String,
    },
    /// A body without `content-type: application/json`.
    #[error("the body must be JSON; send it with `content-type: application/json`")]
    NotJson,
    /// A body over the limit.
    #[error("the body is too large; send less (setting `http.body_limit_bytes`)")]
    BodyTooLarge,
    /// A cursor that this server did not hand out.
    #[error("cursor `{0}` is not one of ours; use `next_cursor` of the page before, or leave it out to start over")]
    BadCursor(String),
    /// A write without its key, or with one that cannot be used.
    #[error("header `idempotency-key` is {0}; send 1 to 255 visible ASCII characters, the same ones for a retry")]
    IdempotencyKey(&'static str),
    /// No bearer token where one is needed.
    #[error("this needs you to be signed in; send `authorization: Bearer …`, for example from `tessera token`")]
    NotSignedIn,
    /// A token that does not hold.
    #[error("the bearer token is refused: {0}")]
    BadToken(String),
    /// The issuer of a token has to be asked and does not answer.
    #[error(
        "the issuer `{issuer}` does not answer as it should: {reason}; check that it runs and can be reached from here"
    )]
    IssuerAway {
        /// Its address.
        issuer: String,
        /// What happened.
        reason: String,
    },
    /// The issuer does not sign somebody in, or what it gives is not what was asked for.
    #[error("the issuer `{issuer}` does not sign in: {reason}; begin again")]
    IssuerRefused {
        /// Its address.
        issuer: String,
        /// Its words.
        reason: String,
    },
    /// A token without the role that this needs.
    #[error("this needs the role {}; sign in as one", needed.join(" or "))]
    WrongRole {
        /// Any of these would do.
        needed: &'static [&'static str],
    },
    /// The key that signs tokens cannot be used.
    #[error("the key `{}` cannot be used: {reason}; restore it from a backup, or delete it to have a new one made (what it has signed becomes invalid)", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The handler took longer than allowed.
    #[error("no answer within {0} s (setting `http.request_timeout_s`)")]
    RequestTimeout(u64),
    /// A handler panicked; the log has the place and the message.
    #[error("the handler panicked")]
    Panicked,
}

/// Every code of [`Error`]; each has a page in `docs/errors/`.
pub const CODES: &[&str] = &[
    "service.unknown_setting",
    "service.bad_setting",
    "service.bad_config_file",
    "service.port_taken",
    "service.bad_address",
    "service.unwritable_folder",
    "service.telemetry",
    "service.client",
    "service.route_not_found",
    "service.method_not_allowed",
    "service.bad_request",
    "service.not_json",
    "service.body_too_large",
    "service.bad_cursor",
    "service.bad_idempotency_key",
    "service.not_signed_in",
    "service.bad_token",
    "service.issuer_away",
    "service.issuer_refused",
    "service.wrong_role",
    "service.key",
    "service.request_timeout",
    "service.internal",
];

impl ProductError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::RouteNotFound(_) => ErrorKind::NotFound,
            Self::RequestTimeout(_) => ErrorKind::Timeout,
            Self::Panicked | Self::Client(_) | Self::Telemetry(_) => ErrorKind::Internal,
            Self::NotSignedIn | Self::BadToken(_) | Self::IssuerRefused { .. } => ErrorKind::Unauthenticated,
            Self::WrongRole { .. } => ErrorKind::Forbidden,
            Self::IssuerAway { .. } | Self::Key { .. } | Self::PortTaken { .. } | Self::UnwritableFolder { .. } => {
                ErrorKind::Unavailable
            }
            _ => ErrorKind::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::UnknownSetting { .. } => "service.unknown_setting",
            Self::BadSetting { .. } => "service.bad_setting",
            Self::ConfigFile { .. } => "service.bad_config_file",
            Self::PortTaken { .. } => "service.port_taken",
            Self::BadAddress { .. } => "service.bad_address",
            Self::UnwritableFolder { .. } => "service.unwritable_folder",
            Self::Telemetry(_) => "service.telemetry",
            Self::Client(_) => "service.client",
            Self::RouteNotFound(_) => "service.route_not_found",
            Self::MethodNotAllowed { .. } => "service.method_not_allowed",
            Self::BadRequest { .. } => "service.bad_request",
            Self::NotJson => "service.not_json",
            Self::BodyTooLarge => "service.body_too_large",
            Self::BadCursor(_) => "service.bad_cursor",
            Self::IdempotencyKey(_) => "service.bad_idempotency_key",
            Self::NotSignedIn => "service.not_signed_in",
            Self::BadToken(_) => "service.bad_token",
            Self::IssuerAway { .. } => "service.issuer_away",
            Self::IssuerRefused { .. } => "service.issuer_refused",
            Self::WrongRole { .. } => "service.wrong_role",
            Self::Key { .. } => "service.key",
            Self::RequestTimeout(_) => "service.request_timeout",
            Self::Panicked => "service.internal",
        }
    }

    /// Where HTTP has a closer status than the kind's.
    fn status(&self) -> u16 {
        match self {
            Self::MethodNotAllowed { .. } => 405,
            Self::BodyTooLarge => 413,
            Self::NotJson => 415,
            _ => self.kind().status(),
        }
    }
}
