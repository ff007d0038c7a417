//! What can go wrong, in the product's words.

use tessera_kernel::{ErrorKind, Timestamp};

/// A refusal or failure of accounts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request that asks for what cannot be.
    #[error("{reason}")]
    BadRequest {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A password that is not taken.
    #[error("this password is not taken: {reason}")]
    WeakPassword {
        /// Why, and what would do.
        reason: String,
    },
    /// No such account, another password, or an account that is closed: which of them is not told.
    #[error("name and password do not belong together; check both")]
    BadCredentials,
    /// Too many attempts.
    #[error("too many attempts; try again at {again_at}")]
    Throttled {
        /// When one more is let through.
        again_at: Timestamp,
        /// In how many seconds that is.
        after_s: u64,
    },
    /// A refresh token that is none, or of a session that is over.
    #[error("this session is over; sign in again")]
    SessionOver,
    /// A session that began before a program wanted its person to sign in.
    #[error("the program asks for a new sign-in; sign in again, then agree")]
    SignInAgain,
    /// What is not there.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// What was asked for.
        what: &'static str,
        /// Its id, as it was sent.
        id: String,
    },
    /// The last admin.
    #[error("`{login}` is the last admin; make another one first")]
    LastAdmin {
        /// Who.
        login: String,
    },
    /// A name that is another's.
    #[error("the name `{name}` is taken; {remedy}")]
    Taken {
        /// Which.
        name: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Nobody signs up on their own here.
    #[error("nobody can sign up here; ask an admin for an account (setting `accounts.sign_up`)")]
    SignUpClosed,
    /// Another site's page sent the request.
    #[error("the cookie is taken from pages of this server only, and this request comes from another site")]
    CrossSite,
    /// A program that is not known, or its secret.
    #[error("client and secret do not belong together; check both")]
    BadClient,
    /// A grant that is not taken.
    #[error("{reason}")]
    BadGrant {
        /// As RFC 6749 names it.
        error: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// More passwords to check than can be.
    #[error("too many people sign in at this moment; try again in a second")]
    Busy,
    /// The hash failed.
    #[error("a password cannot be hashed or compared: {reason}")]
    Hashing {
        /// Why.
        reason: String,
    },
    /// The keys, or a token.
    #[error(transparent)]
    Service(#[from] tessera_service::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] tessera_store::Error),
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] tessera_store::sql::Error),
}

/// Every code of [`Error`]; each has a page in `docs/errors/`.
pub const CODES: &[&str] = &[
    "accounts.bad_request",
    "accounts.weak_password",
    "accounts.bad_credentials",
    "accounts.throttled",
    "accounts.session_over",
    "accounts.sign_in_again",
    "accounts.not_found",
    "accounts.last_admin",
    "accounts.taken",
    "accounts.sign_up_closed",
    "accounts.cross_site",
    "accounts.bad_client",
    "accounts.bad_grant",
    "accounts.busy",
    "accounts.hashing",
];

impl Error {
    /// A grant that is not taken: as RFC 6749 and OpenID Connect name it, and what is wrong.
    pub(crate) fn grant(error: &'static str, reason: impl Into<String>) -> Self {
        Self::BadGrant { error, reason: reason.into() }
    }

    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadRequest { .. } | Self::WeakPassword { .. } | Self::BadGrant { .. } => ErrorKind::Invalid,
            Self::BadCredentials | Self::SessionOver | Self::SignInAgain | Self::BadClient => {
                ErrorKind::Unauthenticated
            }
            Self::Throttled { .. } => ErrorKind::Limited,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::LastAdmin { .. } | Self::Taken { .. } => ErrorKind::Conflict,
            Self::SignUpClosed | Self::CrossSite => ErrorKind::Forbidden,
            Self::Busy => ErrorKind::Unavailable,
            Self::Hashing { .. } => ErrorKind::Internal,
            Self::Service(error) => tessera_service::ProductError::kind(error),
            Self::Store(error) => error.kind(),
            Self::Sql(error) => error.kind(),
        }
    }

    /// Its stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest { .. } => "accounts.bad_request",
            Self::WeakPassword { .. } => "accounts.weak_password",
            Self::BadCredentials => "accounts.bad_credentials",
            Self::Throttled { .. } => "accounts.throttled",
            Self::SessionOver => "accounts.session_over",
            Self::SignInAgain => "accounts.sign_in_again",
            Self::NotFound { .. } => "accounts.not_found",
            Self::LastAdmin { .. } => "accounts.last_admin",
            Self::Taken { .. } => "accounts.taken",
            Self::SignUpClosed => "accounts.sign_up_closed",
            Self::CrossSite => "accounts.cross_site",
            Self::BadClient => "accounts.bad_client",
            Self::BadGrant { .. } => "accounts.bad_grant",
            Self::Busy => "accounts.busy",
            Self::Hashing { .. } => "accounts.hashing",
            Self::Service(error) => tessera_service::ProductError::code(error),
            Self::Store(error) => error.code(),
            Self::Sql(error) => error.code(),
        }
    }
}
