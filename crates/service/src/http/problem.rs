//! Errors on the wire: `application/problem+json` (RFC 9457) with a stable code and the request's id.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};
use tessera_kernel::ErrorKind;

const CONTENT: HeaderValue = HeaderValue::from_static("application/problem+json");
/// How to say who asks (RFC 9110, 15.5.2; RFC 6750, 3).
const BEARER: HeaderValue = HeaderValue::from_static("Bearer");
const HIDDEN: &str = "the server could not do it; its log says why, under this request id";

/// What a product's error is to its callers. With it, `?` in a handler makes a [`Problem`].
pub trait ProductError: std::error::Error {
    /// What sort of error it is.
    fn kind(&self) -> ErrorKind;

    /// Its stable name, `<product>.<what>`, with a page in `docs/errors/`.
    fn code(&self) -> &'static str;

    /// Its HTTP status, for the few that have a closer one than their kind.
    fn status(&self) -> u16 {
        self.kind().status()
    }

    /// In how many seconds to try again, where that is known.
    fn retry_after_s(&self) -> Option<u64> {
        None
    }

    /// What a program can act on beside the code: extension members of the problem (RFC 9457, 3.2). A 5xx that has some
    /// is the caller's to act on, so it shows its detail too.
    fn members(&self) -> Map<String, Value> {
        Map::new()
    }
}

/// An error as an answer. The detail of a 5xx stays in the log, unless it has members for its caller to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The title of its kind.
    pub title: &'static str,
    /// The stable code.
    pub code: &'static str,
    /// What happened and what to do, with its causes.
    pub detail: String,
    /// In how many seconds to try again.
    pub retry_after_s: Option<u64>,
    /// Extension members.
    pub members: Map<String, Value>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    request_id: Option<&'a str>,
    #[serde(flatten)]
    members: Option<&'a Map<String, Value>>,
}

impl Problem {
    /// Whether what happened is ours alone to know.
    pub fn is_internal(&self) -> bool {
        self.status >= 500 && self.members.is_empty()
    }

    /// The body as JSON.
    pub fn body(&self, request_id: Option<&str>) -> Vec<u8> {
        let detail = if self.is_internal() { HIDDEN } else { &self.detail };
        let body = Body {
            r#type: format!("urn:tessera:error:{}", self.code),
            title: self.title,
            status: self.status,
            code: self.code,
            detail,
            request_id,
            members: Some(&self.members).filter(|members| !members.is_empty()),
        };
        // A struct of strings, numbers and JSON always serialises.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// The answer with the id of its request in it.
    pub fn response(&self, request_id: Option<&str>) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, [(CONTENT_TYPE, CONTENT)], self.body(request_id)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, BEARER);
        }
        response
    }
}

impl<E: ProductError> From<E> for Problem {
    fn from(error: E) -> Self {
        Self {
            status: error.status(),
            title: error.kind().title(),
            code: error.code(),
            detail: with_causes(&error),
            retry_after_s: error.retry_after_s(),
            members: error.members(),
        }
    }
}

impl IntoResponse for Problem {
    /// Leaves itself in the extensions, where the edge finds it, logs it and adds the request's id.
    fn into_response(self) -> Response {
        let mut response = self.response(None);
        response.extensions_mut().insert(self);
        response
    }
}

/// An error's message followed by those of its causes that it does not already contain.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let message = inner.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = inner.source();
    }
    text
}
