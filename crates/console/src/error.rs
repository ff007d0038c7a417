//! What can go wrong at the sign-in, in the console's words.

use tessera_kernel::ErrorKind;
use tessera_service::ProductError;

/// A refusal of the console.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cookie, or one that the issuer takes no more.
    #[error("this session is over; sign in again")]
    SessionOver,
    /// Another site's page sent the request.
    #[error("this is taken from pages of this server only, and the request comes from another site")]
    CrossSite,
    /// The issuer, or what it gave.
    #[error(transparent)]
    Service(#[from] tessera_service::Error),
}

/// Every code of [`Error`]; each has a page in `docs/errors/`.
pub const CODES: &[&str] = &["console.session_over", "console.cross_site"];

impl ProductError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::SessionOver => ErrorKind::Unauthenticated,
            Self::CrossSite => ErrorKind::Forbidden,
            Self::Service(error) => error.kind(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::SessionOver => "console.session_over",
            Self::CrossSite => "console.cross_site",
            Self::Service(error) => error.code(),
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Service(error) => error.status(),
            _ => self.kind().status(),
        }
    }
}
