//! First pipelines: from a URL or an OpenAPI document to a pipeline file that says why each choice was made; and what
//! an API has beside what a pipeline reads.

pub mod detect;
mod discover;
mod find;
mod openapi;
mod probe;
mod survey;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use regex::Regex;
use reqwest::Client;
use url::Url;

pub use discover::{Endpoint, discover};

use crate::Error;
use crate::spec::{Auth, Environment, KeyPlace, Paginator, Resource};
use detect::{Detected, words};
use find::Found;
use probe::Prober;
use survey::{DetailLink, Learned, Verdict, detail_of, share_size, survey};
use write::{Draft, DraftResource, holds_reference, literal};

/// What `init` is told beside the URL.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Name of the pipeline; made from the API's title or host when not given.
    pub name: Option<String>,
    /// Where the files will go.
    pub destination: String,
    /// Headers for the questions and for the pipeline, such as `("Authorization", "Bearer ${SHOP_TOKEN}")`: secrets
    /// are named, never written.
    pub headers: Vec<(String, String)>,
    /// Where the API lives, for an OpenAPI document that does not say it, or says it wrongly.
    pub base_url: Option<String>,
    /// A variable to write for the base URL, `${SHOP_URL}`, instead of the URL itself.
    pub base_url_variable: Option<String>,
    /// Requests at the most.
    pub max_requests: u32,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            name: None,
            destination: "./lake".into(),
            headers: vec![],
            base_url: None,
            base_url_variable: None,
            max_requests: 60,
        }
    }
}

/// A first pipeline.
#[derive(Clone, Debug)]
pub struct InitReport {
    /// Name of the pipeline.
    pub name: String,
    /// The file.
    pub yaml: String,
    /// What the reader should know, a line each.
    pub notes: Vec<String>,
}

/// Writes a first pipeline for the API `from` a URL: an OpenAPI document, a list endpoint, or a root that names endpoints;
/// or from the path of an OpenAPI document.
///
/// # Errors
/// [`Error::Spec`] for a URL, a file or a header that cannot be used, [`Error::Credentials`] when the API refuses us,
/// [`Error::Unreachable`] when it does not answer, [`Error::NotFound`] with everything that was tried.
pub async fn init(
    from: &str,
    options: &InitOptions,
    environment: &Environment,
    client: &Client,
) -> Result<InitReport, Error> {
    let headers = resolved_headers(&options.headers, environment)?;
    let base = options.base_url.as_deref().map(parse_url).transpose()?;
    let asker = |home: &Url| Prober::new(client, home.clone(), headers, vec![], options.max_requests.max(1));
    let (mut prober, found, asked) = match Place::parse(from)? {
        Place::File(path) => {
            let mut description = find::document_in(&path)?;
            description.live_at(base);
            let Some(base) = description.base_url() else {
                let detail =
                    "the document does not say where the API lives; add --base-url, such as https://api.example.com/v1";
                return Err(Error::Spec { place: path.display().to_string(), detail: detail.into() });
            };
            (asker(&base), Found::Document(description), base)
        }
        Place::Url(asked) => {
            let mut prober = asker(base.as_ref().unwrap_or(&asked));
            let mut found = find::endpoints(&mut prober, &asked).await?;
            match &mut found {
                Found::Document(description) => description.live_at(base),
                _ if base.is_some() => {
                    let detail = "only an OpenAPI document needs it, and there is none; leave it out";
                    return Err(Error::Spec { place: "--base-url".into(), detail: detail.into() });
                }
                _ => {}
            }
            (prober, found, asked)
        }
    };
    let name = options.name.clone().unwrap_or_else(|| pipeline_name(&found, &asked));
    let mut notes = Vec::new();
    let (mut draft, probes, described) = draft_of(found, &asked, &name, options, &mut notes)?;
    if !options.headers.is_empty() {
        (draft.auth, draft.headers) = auth_of(&options.headers);
        draft.auth_notes.clear();
    }
    let asked_all = ask_all(&mut prober, draft.resources, probes, described, &mut notes).await?;
    draft.resources = asked_all.resources;
    if asked_all.from_root {
        draft.count_paths_from_root();
    }
    if asked_all.open && !prober.has_credentials() && !matches!(draft.auth, Auth::None) {
        draft.leave_out_auth();
    }
    if draft.resources.is_empty() {
        return Err(Error::NotFound(format!(
            "no list endpoint was found from {asked}; give the URL of one list, or of an OpenAPI document; asked: {}",
            prober.tried.join(", ")
        )));
    }
    if let Some(variable) = &options.base_url_variable {
        draft.base_url = format!("${{{variable}}}");
    }
    notes.extend(draft.variables().iter().map(|name| format!("set {name} in the environment before the first run")));
    Ok(InitReport { yaml: draft.to_yaml()?, name, notes })
}

/// What `init` starts from.
enum Place {
    Url(Url),
    File(PathBuf),
}

impl Place {
    fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |detail: &str| Error::Spec { place: format!("`{text}`"), detail: detail.to_owned() };
        if text.starts_with("file:") {
            let path = Url::parse(text).ok().and_then(|url| url.to_file_path().ok());
            return path
                .map(Self::File)
                .ok_or_else(|| wrong("not a file URL of this machine; write file:///path/openapi.yaml"));
        }
        if text.contains("://") {
            return parse_url(text).map(Self::Url);
        }
        match Path::new(text) {
            path if path.is_file() => Ok(Self::File(path.to_owned())),
            path if path.is_dir() => Err(wrong("a folder; name the OpenAPI document in it")),
            _ => Err(wrong(
                "neither a URL nor a file that is there; write a URL whole, such as https://api.example.com/v1, or the path of an OpenAPI document",
            )),
        }
    }
}

fn parse_url(url: &str) -> Result<Url, Error> {
    let wrong = |detail: &str| Error::Spec { place: format!("`{url}`"), detail: detail.to_owned() };
    let parsed = Url::parse(url).map_err(|_| wrong("not a URL; write it whole, such as https://api.example.com/v1"))?;
    match parsed.scheme() {
        "http" | "https" if parsed.has_host() => Ok(parsed),
        scheme => Err(wrong(&format!("{scheme} URLs are not read; give an http or https URL"))),
    }
}

/// Headers with `${NAME}` replaced. A secret written out is refused, since it would end up in the file.
fn resolved_headers(headers: &[(String, String)], environment: &Environment) -> Result<HeaderMap, Error> {
    let mut resolved = HeaderMap::new();
    let Ok(pattern) = Regex::new(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}") else { return Ok(resolved) };
    for (name, text) in headers {
        let wrong = |detail: String| Error::Spec { place: format!("header `{name}`"), detail };
        if is_secret(name) && !pattern.is_match(text) {
            let detail = "its value would be written into the file; set it in the environment and write ${NAME}";
            return Err(wrong(detail.into()));
        }
        let mut value = String::new();
        let mut from = 0;
        for found in pattern.captures_iter(text) {
            let (whole, variable) = (found.get(0).map_or(0..0, |whole| whole.range()), &found[1]);
            value.push_str(&text[from..whole.start]);
            let missing = || wrong(format!("environment variable `{variable}` is not set; export it"));
            value.push_str(environment.get(variable).ok_or_else(missing)?);
            from = whole.end;
        }
        value.push_str(&text[from..]);
        let header = HeaderName::try_from(name.as_str()).map_err(|_| wrong("not a header name".into()))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| wrong("its value is no header value".into()))?;
        value.set_sensitive(true);
        resolved.insert(header, value);
    }
    Ok(resolved)
}

/// Names of headers and parameters that carry secrets.
fn is_secret(name: &str) -> bool {
    let name = detect::normal(name);
    let parts = ["auth", "apikey", "token", "secret", "password", "cookie", "signature", "accesskey"];
    parts.iter().any(|part| name.contains(part)) && !name.ends_with("pagetoken")
}

/// The given headers as `auth`, where they are one of its kinds, and the others.
fn auth_of(headers: &[(String, String)]) -> (Auth, BTreeMap<String, String>) {
    let mut auth = Auth::None;
    let mut others = BTreeMap::new();
    for (name, value) in headers {
        let is_bearer = name.eq_ignore_ascii_case("authorization") && value.starts_with("Bearer ");
        match (&auth, value.strip_prefix("Bearer ").filter(|_| is_bearer)) {
            (Auth::None, Some(token)) => auth = Auth::Bearer { token: token.to_owned() },
            (Auth::None, None) if is_secret(name) => {
                auth = Auth::ApiKey { name: name.clone(), value: value.clone(), place: KeyPlace::Header };
            }
            _ => {
                others.insert(name.clone(), value.clone());
            }
        }
    }
    (auth, others)
}

fn pipeline_name(found: &Found, asked: &Url) -> String {
    let title = match found {
        Found::Document(description) => description.title().map(|title| words(title).join("_")),
        _ => None,
    };
    let host = asked.host_str().unwrap_or_default();
    let is_address = host.chars().all(|c| c.is_ascii_digit() || c == '.') || host.contains(':') || !host.contains('.');
    let label = host.split('.').find(|label| !matches!(*label, "api" | "www" | "v1" | "v2" | "rest" | "data"));
    let label = label.filter(|_| !is_address).map(|label| words(label).join("_"));
    let name = title.or(label).unwrap_or_default();
    let name = name.strip_suffix("_api").unwrap_or(&name);
    let name: String = name.chars().take(40).collect();
    let name = name.trim_matches('_');
    if name.is_empty() { "api".to_owned() } else { name.to_owned() }
}

/// The draft, what to ask for each resource, and whether a description made it.
fn draft_of(
    found: Found,
    asked: &Url,
    name: &str,
    options: &InitOptions,
    notes: &mut Vec<String>,
) -> Result<(Draft, Vec<Option<Url>>, bool), Error> {
    let (base, links) = match found {
        Found::Document(description) => {
            let described = description.describe(name, &options.destination);
            notes.extend(described.notes);
            return Ok((described.draft, described.probes, true));
        }
        Found::Outdated(detail) => return Err(Error::Spec { place: asked.to_string(), detail }),
        Found::Index(links) => (base_of(asked, links.iter().map(|(_, url)| url)), links),
        Found::List => {
            let mut base = asked.clone();
            base.set_query(None);
            let path = base.path().trim_end_matches('/').rsplit_once('/').map_or("", |(above, _)| above).to_owned();
            base.set_path(&path);
            let last = asked.path_segments().and_then(|mut s| s.rfind(|s| !s.is_empty())).unwrap_or("rows");
            (base, vec![(last.trim_end_matches(".json").to_owned(), asked.clone())])
        }
    };
    let mut used = std::collections::BTreeSet::new();
    let mut resources = Vec::new();
    let mut probes = Vec::new();
    for (label, url) in links {
        let label: String = words(&label).join("_").chars().take(90).collect();
        let mut resource = Resource { path: below(&base, &url), ..Resource::default() };
        resource.name = (1..)
            .map(|n| if n == 1 { label.clone() } else { format!("{label}_{n}") })
            .map(|name| if name.starts_with('_') || name.is_empty() { format!("rows{name}") } else { name })
            .find(|name| used.insert(name.clone()))
            .unwrap_or_default();
        for (param, value) in url.query_pairs() {
            let value = if is_secret(&param) || holds_reference(&value) {
                format!("${{{}}}", words(&format!("{name}_{param}")).join("_").to_uppercase())
            } else {
                literal(&value)
            };
            resource.params.insert(literal(&param), value);
        }
        probes.push(Some(url));
        resources.push(DraftResource { resource, notes: vec![], suggestions: vec![] });
    }
    let mut origin = asked.clone();
    origin.set_query(None);
    let draft = Draft {
        name: name.to_owned(),
        origin: origin.to_string(),
        description: None,
        base_url: literal(base.as_str().trim_end_matches('/')),
        auth: Auth::None,
        auth_notes: vec![],
        headers: BTreeMap::new(),
        destination: options.destination.clone(),
        resources,
    };
    Ok((draft, probes, false))
}

/// The folder that all links are in, and the index too where it is above them.
fn base_of<'a>(asked: &Url, mut links: impl Iterator<Item = &'a Url>) -> Url {
    let mut base = asked.clone();
    base.set_query(None);
    base.set_fragment(None);
    let folder = format!("{}/", base.path().trim_end_matches('/'));
    let path = if links.all(|url| url.path().starts_with(&folder)) { folder } else { "/".to_owned() };
    base.set_path(&path);
    base
}

/// The path of `url` below `base`.
fn below(base: &Url, url: &Url) -> String {
    let path = url.path().strip_prefix(base.path().trim_end_matches('/')).unwrap_or(url.path());
    if path.is_empty() { "/".into() } else { path.to_owned() }
}

/// A resource that stays, and what its endpoint told, if it was asked.
type Kept = (DraftResource, Option<(Url, Box<Detected>)>);

/// What asking gave.
struct Asked {
    resources: Vec<DraftResource>,
    /// Links in the rows count from the host's root on.
    from_root: bool,
    /// Lists were read, and none was refused.
    open: bool,
}

/// Asks every endpoint, one after the other, and keeps those that rows can be read from.
async fn ask_all(
    prober: &mut Prober<'_>,
    drafts: Vec<DraftResource>,
    probes: Vec<Option<Url>>,
    described: bool,
    notes: &mut Vec<String>,
) -> Result<Asked, Error> {
    let mut learned = Learned::default();
    let mut kept: Vec<Kept> = Vec::new();
    let mut refused = None;
    let mut unasked = 0;
    for (mut draft, probe) in drafts.into_iter().zip(probes) {
        let Some(url) = probe.filter(|_| refused.is_none()) else {
            kept.push((draft, None));
            continue;
        };
        let name = draft.resource.name.clone();
        match survey(prober, &url, &mut draft, &mut learned).await {
            Verdict::List(detected) => kept.push((draft, Some((url, detected)))),
            Verdict::Refused(status) if described => {
                let hint =
                    if prober.has_credentials() { "check the header" } else { "give --header to ask with credentials" };
                notes.push(format!("{url} answered {status}, so this is what the document says, not tried; {hint}"));
                refused = Some(status);
                kept.push((draft, None));
            }
            Verdict::Refused(status) if kept.is_empty() => {
                let detail = "; give them as a header, such as --header 'Authorization: Bearer ${TOKEN}'".into();
                return Err(Error::Credentials { url: shown(&url), status, detail });
            }
            Verdict::Refused(status) => notes.push(format!("`{name}` was left out: it answered {status}")),
            Verdict::Spent => {
                unasked += 1;
                kept.push((draft, None));
            }
            Verdict::Unreadable(reason) if described => {
                draft.notes.push(format!("not tried out: {reason}"));
                notes.push(format!("`{name}` could not be tried out: {reason}"));
                kept.push((draft, None));
            }
            Verdict::Unreadable(reason) => notes.push(format!("`{name}` was left out: {reason}")),
            Verdict::Single if described => kept.push((draft, None)),
            Verdict::Single => notes.push(format!("`{name}` was left out: it is one object, not a list")),
            Verdict::Index => notes.push(format!("`{name}` leads to further endpoints; run init on {}", shown(&url))),
        }
    }
    if unasked > 0 {
        notes.push(format!(
            "{unasked} endpoints were not asked: the limit of requests was reached; raise --max-requests"
        ));
    }
    let open = refused.is_none() && kept.iter().any(|(_, found)| found.is_some());
    let mut resources = Vec::new();
    let mut from_root = false;
    for (mut draft, found) in kept {
        let name = draft.resource.name.clone();
        let link = found.as_ref().filter(|_| !described).and_then(|(url, detected)| detail_of(detected, url));
        let link = link.filter(|link| is_plain(&link.column));
        let is_thin = found.as_ref().is_some_and(|(_, detected)| detected.thin);
        share_size(&mut draft, &learned);
        if let Some(DetailLink { column, first, .. }) = link.as_ref().filter(|link| !is_thin && !link.from_root) {
            draft
                .suggestions
                .push(format!("`{column}` leads to each row's own document, such as {}; to read them:", shown(first)));
            draft.suggestions.push(format!("- {{ name: {name}_detail, path: \"{{{name}.{column}}}\", records: $ }}"));
        }
        resources.push(draft);
        if let Some(DetailLink { column, first, from_root: rooted }) = link.filter(|_| is_thin) {
            from_root |= rooted;
            resources.push(detail_resource(prober, &name, &column, &first).await);
        }
    }
    Ok(Asked { resources, from_root, open })
}

fn is_plain(column: &str) -> bool {
    column.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
}

/// The documents that the rows of a thin list lead to, one row each.
async fn detail_resource(prober: &mut Prober<'_>, list: &str, column: &str, first: &Url) -> DraftResource {
    let mut resource = Resource {
        name: format!("{list}_detail"),
        path: format!("{{{list}.{column}}}"),
        paginator: Some(Paginator::None),
        records: Some("$".into()),
        empty_on: vec![404],
        ..Resource::default()
    };
    let mut notes = vec![format!("`{list}` is only a table of contents; its `{column}` leads to each row's document")];
    match prober.get(first).await {
        Ok(answer) if answer.is_ok() => {
            let detected = answer.detect();
            resource.records = Some(detected.records);
            resource.primary_key = Some(detected.primary_key);
        }
        Ok(answer) => notes.push(format!("not tried out: {} answered {}", shown(first), answer.status)),
        Err(_) => notes.push("not tried out".into()),
    }
    DraftResource { resource, notes, suggestions: vec![] }
}

/// A URL without its query, which may hold a key.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

#[cfg(test)]
mod tests;
