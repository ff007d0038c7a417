//! What a URL is: a description of an API, a list, or a root that names endpoints; and where descriptions usually lie.

use regex::Regex;
use url::Url;

use super::detect::{Shape, same_origin};
use super::openapi::{self, Description, Read};
use super::probe::{Answer, Prober, Silence};
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
        Read::Document(description) if answer.is_ok() => return Ok(Found::Document(Box::new(description))),
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
            Read::Document(description) if there.is_ok() => return Ok(Found::Document(Box::new(description))),
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
