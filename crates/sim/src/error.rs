//! What keeps a crowd from its work. Refusals that are part of the game (a seat that is taken) are no errors.

/// A failure of a run as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address that cannot be used.
    #[error("`{url}` cannot be used: {reason}; give an address such as http://127.0.0.1:8080")]
    Address {
        /// As it was given.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// No answer.
    #[error("{what} was not answered: {reason}; is `tessera up` or `tessera serve` running there?")]
    Unanswered {
        /// Method and path.
        what: String,
        /// What happened.
        reason: String,
    },
    /// An answer that ends the run.
    #[error("{what} was refused with {status}: {detail}")]
    Refused {
        /// Method and path.
        what: String,
        /// The status code.
        status: u16,
        /// What the server says.
        detail: String,
    },
    /// An answer that cannot be read.
    #[error("the answer to {what} cannot be read: {reason}; are both of the same version?")]
    Unreadable {
        /// Method and path.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// What was asked for cannot be.
    #[error("{0}")]
    Usage(String),
    /// A token could not be signed.
    #[error(transparent)]
    Token(#[from] tessera_service::Error),
}
