//! Everything that can go wrong in ingest, with a kind and a stable code each.

use tessera_kernel::ErrorKind;

/// A failure of a pipeline, a run or a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pipeline file or a command's argument is wrong.
    #[error("{place}: {detail}")]
    Spec {
        /// File and line, or the argument.
        place: String,
        /// What is wrong and what to do.
        detail: String,
    },
    /// The API does not accept our credentials.
    #[error("{url} answered {status}: the credentials were not accepted; check `source.auth`{detail}")]
    Credentials {
        /// The request, without secrets.
        url: String,
        /// HTTP status.
        status: u16,
        /// The API's own words.
        detail: String,
    },
    /// The API refuses the request.
    #[error("resource `{resource}`: {url} answered {status}{detail}")]
    Refused {
        /// The resource.
        resource: String,
        /// The request, without secrets.
        url: String,
        /// HTTP status.
        status: u16,
        /// The API's own words and what to do.
        detail: String,
    },
    /// No answer, after every attempt.
    #[error("{}{url} gave no usable answer in {attempts} attempt{}: {detail}", of(resource), plural(*attempts))]
    Unreachable {
        /// The resource; empty where the request was made for none.
        resource: String,
        /// The request, without secrets.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        detail: String,
    },
    /// An answer that is not what was asked for.
    #[error("resource `{resource}`: {url}: {detail}")]
    BadResponse {
        /// The resource.
        resource: String,
        /// The request, without secrets.
        url: String,
        /// What is wrong and what to do.
        detail: String,
    },
    /// The same page again and again.
    #[error("resource `{resource}`: {detail}")]
    Loop {
        /// The resource.
        resource: String,
        /// Which page repeats and what to do.
        detail: String,
    },
    /// The lake or its state cannot be read or written.
    #[error("{detail}")]
    Lake {
        /// Which object, why, and what to do.
        detail: String,
    },
    /// Another run of the pipeline is at work.
    #[error("{detail}")]
    Locked {
        /// Who holds it, and what to do.
        detail: String,
    },
    /// A database did not take the rows.
    #[error("load into {target}: {detail}")]
    Load {
        /// The database, without secrets.
        target: String,
        /// Why, and what to do.
        detail: String,
    },
    /// There is no such pipeline, run or resource.
    #[error("{0}")]
    NotFound(String),
    /// The present state refuses it.
    #[error("{0}")]
    Conflict(String),
    /// The run was stopped by a signal or a request; the next one goes on from there.
    #[error("stopped: {0}")]
    Stopped(String),
    /// A fault of ours.
    #[error("{0}")]
    Internal(String),
}

/// The resource in front of a message; requests that are made for none have none.
fn of(resource: &str) -> String {
    if resource.is_empty() { String::new() } else { format!("resource `{resource}`: ") }
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

impl Error {
    /// The kind, which decides the HTTP status.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Spec { .. } => ErrorKind::Invalid,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Conflict(_) | Self::Locked { .. } => ErrorKind::Conflict,
            Self::Credentials { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::BadResponse { .. }
            | Self::Loop { .. }
            | Self::Lake { .. }
            | Self::Load { .. }
            | Self::Stopped(_) => ErrorKind::Unavailable,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// The stable code; each has its page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Spec { .. } => "ingest.bad_pipeline",
            Self::Credentials { .. } => "ingest.bad_credentials",
            Self::Refused { .. } => "ingest.source_refused",
            Self::Unreachable { .. } => "ingest.source_unreachable",
            Self::BadResponse { .. } => "ingest.bad_response",
            Self::Loop { .. } => "ingest.endless_pages",
            Self::Lake { .. } => "ingest.lake_refused",
            Self::Locked { .. } => "ingest.locked",
            Self::Load { .. } => "ingest.load_refused",
            Self::NotFound(_) => "ingest.not_found",
            Self::Conflict(_) => "ingest.conflict",
            Self::Stopped(_) => "ingest.stopped",
            Self::Internal(_) => "ingest.internal",
        }
    }

    /// Whether what was read before it is kept, so that the next run goes on from there.
    pub fn can_be_resumed(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Lake { .. } | Self::Conflict(_) | Self::Stopped(_) | Self::Internal(_)
        )
    }

    /// Exit code of the command line: 2 for bad usage or config, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Spec { .. }) { 2 } else { 1 }
    }
}

/// Every code of this product.
pub const CODES: [&str; 13] = [
    "ingest.bad_pipeline",
    "ingest.bad_credentials",
    "ingest.source_refused",
    "ingest.source_unreachable",
    "ingest.bad_response",
    "ingest.endless_pages",
    "ingest.lake_refused",
    "ingest.locked",
    "ingest.load_refused",
    "ingest.not_found",
    "ingest.conflict",
    "ingest.stopped",
    "ingest.internal",
];
