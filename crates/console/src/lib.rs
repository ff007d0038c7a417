//! The web pages: static assets that talk to the public API like any client.
//!
//! Plain ES modules, CSS and HTML from `assets/`, embedded in a release build and read from disk in a debug build, so a
//! page is changed by saving a file and reloading. Nothing is fetched from elsewhere: the pages work offline. Pages keep
//! their address in the fragment (`/#/ingest/pipelines/shop`), so the server knows one document only; the same address
//! written as a path (`/console/ingest/pipelines/shop`), which survives chat programs and logs, is redirected to it.
//!
//! Only signing in at another issuer takes a server ([`sign_in()`]).

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use rust_embed::{EmbeddedFile, RustEmbed};

mod error;
mod pages;
mod sign_in;

pub use error::{CODES, Error};
pub use sign_in::sign_in;

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Assets;

const DOCUMENT: &str = "index.html";

/// Only our own files; no inline script or style, no frames, no form posts, and no text that becomes markup: the browser
/// itself refuses `innerHTML` and its like. Pictures may also come from the page's own memory (`blob:`): the codes of
/// tickets, which are fetched with the owner's token. Frames hold pages of the same server only: a payment provider's form.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
     connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// Ask each time, and get 304 when nothing changed: file names carry no hash, and a new binary must show at once.
const CACHE_CONTROL: &str = "no-cache";

/// Serves `/`, `/console`, `/console/` (the document), `/console/FILE` (assets) and `/console/PAGE` (a redirect to the
/// page's fragment). Everything else below `/console/` is 404. `GET` and `HEAD` only.
pub fn router() -> Router {
    Router::new()
        .route("/", get(document))
        .route("/console", get(document))
        .route("/console/", get(document))
        .route("/console/{*path}", get(below))
}

async fn document(headers: HeaderMap) -> Response {
    match Assets::get(DOCUMENT) {
        Some(file) => serve(DOCUMENT, file, &headers),
        None => not_found("/"),
    }
}

async fn below(Path(path): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    if let Some(file) = asset(&path) {
        return serve(&path, file, &headers);
    }
    // The address as it was sent: its parts are still percent-encoded, as the fragment wants them.
    let sent = uri.path().strip_prefix("/console/").unwrap_or_default();
    match pages::fragment(sent) {
        Some(fragment) => redirect(&fragment),
        None => not_found(uri.path()),
    }
}

/// The file of this name. Names that could mean anything outside `assets/` are refused before the disk is asked.
fn asset(path: &str) -> Option<EmbeddedFile> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let inside = path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain));
    if !inside || content_type(path).is_none() {
        return None;
    }
    Assets::get(path)
}

fn content_type(path: &str) -> Option<&'static str> {
    match path.rsplit_once('.')?.1 {
        "html" => Some("text/html; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

fn serve(path: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    let etag = etag(&file.metadata.sha256_hash());
    let mut response = if is_current(headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut full = Response::new(Body::from(file.data));
        if let Some(kind) = content_type(path) {
            full.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        full
    };
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    guarded(response)
}

/// Half of the SHA-256 of the content: far more than enough to tell two versions of a file apart.
fn etag(hash: &[u8; 32]) -> String {
    let digits: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

/// Whether the client already has this version (RFC 9110 §13.1.2, weak comparison).
fn is_current(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn redirect(fragment: &str) -> Response {
    match HeaderValue::from_str(&format!("/console/#/{fragment}")) {
        Ok(location) => guarded((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()),
        Err(_) => not_found(fragment),
    }
}

fn not_found(path: &str) -> Response {
    let text = format!("no such page: `{path}`; the console starts at /console/\n");
    guarded((StatusCode::NOT_FOUND, text).into_response())
}

/// The headers that every answer of the console carries.
fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, CACHE_CONTROL),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
