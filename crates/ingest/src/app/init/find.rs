//! What a URL is: a description of an API, a list, or a root that names endpoints; and where descriptions usually lie.

use std::path::Path;

use regex::Regex;
use url::Url;

use super::detect::{Shape, same_origin};
use super::openapi::{self, Description, Read};
use super::probe::{Answer, MAX_BODY_BYTES, Prober, Silence};
use super::shown;
use crate::Error;

/// Where descriptions usually lie, below the URL and below its host.
const USUAL_PLACES: [&str; 4] = ["openapi.json", "swagger.json", "v3/api-docs", "api/schema/"];
/// Links of a page that are followed.
const MAX_PAGE_LINKS: usize = 3;

/// What was found.
pub(super) enum Found {
    /// An OpenAPI document.
    Document(Box<Description>),
    /// A description in a version that is not read, and what to do.
    Outdated(String),
    /// Endpoints by name.
    Index(Vec<(String, Url)>),
    /// The URL itself is a list.
    List,
}

/// Looks at `asked`, and around it.
pub(super) async fn endpoints(prober: &mut Prober<'_>, asked: &Url) -> Result<Found, Error> {
    let answer = match prober.get(asked).await {
        Ok(answer) => answer,
        Err(silence) => return Err(unreachable(asked, silence)),
    };
    let mut outdated = None;
    match openapi::read(&answer.body, &answer.url) {
        Read::Document(description) if answer.is_ok() => return Ok(Found::Document(description)),
        Read::Outdated(detail) if answer.is_ok() => outdated = Some(detail),
        _ => {}
    }
    let shape = answer.detect().shape;
    if shape == Shape::List {
        return Ok(Found::List);
    }
    for place in places(asked, &answer) {
        if outdated.is_some() {
            break;
        }
        let Ok(there) = prober.get(&place).await else { continue };
        match openapi::read(&there.body, &there.url) {
            Read::Document(mut description) if there.is_ok() => {
                description.found_beside(nothing_there(asked, &answer, &shape));
                return Ok(Found::Document(description));
            }
            Read::Outdated(detail) if there.is_ok() => outdated = Some(detail),
            _ => {}
        }
    }
    match (shape, outdated) {
        (Shape::Index(links), _) => Ok(Found::Index(links)),
        (_, Some(detail)) => Ok(Found::Outdated(detail)),
        (shape, None) => Err(nothing(prober, asked, &answer, &shape)),
    }
}

/// What was at the URL that the user named, where a document was found beside it.
fn nothing_there(asked: &Url, answer: &Answer, shape: &Shape) -> String {
    let asked = shown(asked);
    match shape {
        _ if !answer.is_ok() => format!("{asked} answered {}", answer.status),
        Shape::Index(_) => format!("{asked} only names endpoints"),
        _ => format!("{asked} is neither a list nor an OpenAPI document"),
    }
}

/// An OpenAPI document in a local file.
pub(super) fn document_in(path: &Path) -> Result<Box<Description>, Error> {
    let wrong = |detail: String| Error::Spec { place: path.display().to_string(), detail };
    let too_large = format!("the file is larger than {} MiB; give the OpenAPI document itself", MAX_BODY_BYTES >> 20);
    let size = std::fs::metadata(path).map_err(|error| wrong(format!("cannot be read: {error}")))?.len();
    if size > MAX_BODY_BYTES as u64 {
        return Err(wrong(too_large));
    }
    let body = std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let whole = std::path::absolute(path).ok().and_then(|path| Url::from_file_path(path).ok());
    let url = whole.ok_or_else(|| wrong("the path cannot be written as a URL; choose another one".into()))?;
    match openapi::read(&body, &url) {
        Read::Document(description) => Ok(description),
        Read::Outdated(detail) => Err(wrong(detail)),
        Read::Other => Err(wrong(
            "no OpenAPI document, or not well-formed JSON or YAML; give one of version 3.0 or 3.1, or the URL of the API".into(),
        )),
    }
}

fn unreachable(asked: &Url, silence: Silence) -> Error {
    let detail = match silence {
        Silence::Failed(reason) => format!("{reason}; check the address and that the API runs"),
        Silence::Spent => "no requests are left; raise --max-requests".into(),
    };
    Error::Unreachable { resource: String::new(), url: shown(asked), attempts: 1, detail }
}

fn nothing(prober: &Prober<'_>, asked: &Url, answer: &Answer, shape: &Shape) -> Error {
    if matches!(answer.status, 401 | 403) {
        let detail = match prober.has_credentials() {
            true => "; check the header and the variable that it names",
            false => "; give them as a header, such as --header 'Authorization: Bearer ${TOKEN}'",
        };
        return Error::Credentials { url: shown(asked), status: answer.status, detail: detail.into() };
    }
    let what = match shape {
        Shape::Unreadable(reason) => reason.clone(),
        _ => "it answered one object, which is no list and names no endpoints".into(),
    };
    Error::NotFound(format!(
        "no list and no OpenAPI document at {}: {what}; give the URL of one list endpoint, or of the OpenAPI document; asked: {}",
        shown(asked),
        prober.tried.join(", ")
    ))
}

/// Places of a description: those that a page links to first, then the usual ones.
fn places(asked: &Url, answer: &Answer) -> Vec<Url> {
    let mut places: Vec<Url> = Vec::new();
    let mut add = |url: Option<Url>| {
        let url = url.filter(|url| same_origin(url, asked) && url != asked && !places.contains(url));
        places.extend(url);
    };
    let page = String::from_utf8_lossy(&answer.body);
    if page.trim_start().starts_with('<') {
        let link =
            r#"["']([^"'\s<>]*(?:openapi|swagger|api-docs|schema)[^"'\s<>]*\.(?:json|ya?ml)|[^"'\s<>]*/api-docs)["']"#;
        let links = Regex::new(link).ok();
        let links = links.iter().flat_map(|links| links.captures_iter(&page)).take(MAX_PAGE_LINKS);
        links.for_each(|link| add(asked.join(&link[1]).ok()));
    }
    let mut folder = asked.clone();
    folder.set_query(None);
    folder.set_path(&format!("{}/", asked.path().trim_end_matches('/')));
    add(folder.join("openapi.json").ok());
    for place in USUAL_PLACES {
        add(asked.join(&format!("/{place}")).ok());
    }
    places
}
