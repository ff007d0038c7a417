//! What an API has, beside what a pipeline reads of it.

use std::collections::BTreeMap;

use base64::Engine;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use regex::Regex;
use reqwest::Client;
use url::Url;

use super::detect::MAX_LINES;
use super::find::{self, Found};
use super::probe::Prober;
use super::survey::{Learned, Verdict, survey};
use super::write::DraftResource;
use super::{InitOptions, below, draft_of, parse_url};
use crate::Error;
use crate::spec::{Auth, KeyPlace, Paginator, Pipeline, ResponseFormat};

/// A list of an API.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Name.
    pub name: String,
    /// Path below the pipeline's base URL.
    pub path: String,
    /// Rows, where the API counts them.
    pub rows: Option<u64>,
    /// Columns that name a row.
    pub primary_key: Vec<String>,
    /// How pages follow each other.
    pub paginator: Paginator,
    /// The column that grows.
    pub cursor: Option<String>,
    /// The resource of the pipeline that reads it.
    pub read_as: Option<String>,
    /// What else there is to say, such as why it could not be asked.
    pub note: Option<String>,
}

/// Lists the endpoints of a pipeline's API. Bearer tokens, passwords and keys of the pipeline are sent along; `headers`
/// carries what other kinds of auth obtained.
///
/// # Errors
/// As [`super::init`], but for an API that describes nothing: then the pipeline's own resources are listed.
pub async fn discover(
    pipeline: &Pipeline,
    headers: HeaderMap,
    max_requests: u32,
    client: &Client,
) -> Result<Vec<Endpoint>, Error> {
    let base = parse_url(&pipeline.source.base_url)?;
    let (mut all, query) = credentials(pipeline);
    all.extend(headers);
    let mut prober = Prober::new(client, base.clone(), all, query, max_requests.max(1));
    let mut candidates = described(&mut prober, &base, pipeline).await?;
    add_own(&mut candidates, pipeline, &base);
    let mut learned = Learned::default();
    let mut endpoints = Vec::new();
    for (mut draft, probe) in candidates {
        let own = pipeline.resources.iter().find(|own| shape_of(&own.path) == shape_of(&draft.resource.path));
        let mut rows = None;
        let mut cursor = draft.resource.incremental.cursor().map(|cursor| cursor.cursor.clone());
        let mut note = None;
        match probe {
            Some(url) => match survey(&mut prober, &url, &mut draft, &mut learned).await {
                Verdict::List(found) => {
                    rows = found.total_rows;
                    let whole = draft.resource.paginator.as_ref().is_none_or(|p| *p == Paginator::None);
                    // Of lines only the first are counted.
                    let counted = found.format == ResponseFormat::Json || found.rows < MAX_LINES;
                    rows = rows.or_else(|| (whole && counted).then_some(found.rows as u64));
                    cursor = found.cursor.map(|cursor| cursor.column).or(cursor);
                }
                Verdict::Single => note = Some("one object".into()),
                Verdict::Index => note = Some("leads to further endpoints".into()),
                Verdict::Refused(status) => {
                    note = Some(format!("answered {status}: the credentials were not accepted"))
                }
                Verdict::Unreadable(reason) => note = Some(reason),
                Verdict::Spent => note = Some("not asked: the limit of requests was reached".into()),
            },
            None => note = Some("not asked: it needs values of a parent or a parameter".into()),
        }
        endpoints.push(Endpoint {
            name: own.map_or(draft.resource.name, |own| own.name.clone()),
            path: draft.resource.path,
            rows,
            primary_key: draft.resource.primary_key.unwrap_or_default(),
            paginator: draft.resource.paginator.unwrap_or_default(),
            cursor,
            read_as: own.map(|own| own.name.clone()),
            note,
        });
    }
    Ok(endpoints)
}

type Candidate = (DraftResource, Option<Url>);

/// What the API says of itself; nothing when it says nothing.
async fn described(prober: &mut Prober<'_>, base: &Url, pipeline: &Pipeline) -> Result<Vec<Candidate>, Error> {
    let found = match find::endpoints(prober, base).await {
        Ok(Found::Outdated(_) | Found::List) | Err(Error::NotFound(_) | Error::Credentials { .. }) => {
            return Ok(vec![]);
        }
        Ok(found) => found,
        Err(error) => return Err(error),
    };
    let (draft, probes, _) = draft_of(found, base, &pipeline.name, &InitOptions::default(), &mut vec![])?;
    let theirs = Url::parse(&draft.base_url.replace("$$", "$")).unwrap_or_else(|_| base.clone());
    let moved = |mut draft: DraftResource| {
        // The document may count its paths from another folder than the pipeline does.
        let whole = format!("{}{}", theirs.path().trim_end_matches('/'), draft.resource.path);
        if let Some(path) = whole.strip_prefix(base.path().trim_end_matches('/')).filter(|path| path.starts_with('/')) {
            draft.resource.path = path.to_owned();
        }
        draft
    };
    Ok(draft.resources.into_iter().map(moved).zip(probes).collect())
}

/// The pipeline's own resources that nothing described.
fn add_own(candidates: &mut Vec<Candidate>, pipeline: &Pipeline, base: &Url) {
    for own in &pipeline.resources {
        if candidates.iter().any(|(draft, _)| shape_of(&draft.resource.path) == shape_of(&own.path)) {
            continue;
        }
        let plain = !own.path.contains('{') && own.method == crate::spec::Method::Get;
        let url = Url::parse(&format!("{}{}", base.as_str().trim_end_matches('/'), own.path)).ok().filter(|_| plain);
        let url = url.map(|mut url| {
            if !own.params.is_empty() {
                url.query_pairs_mut().extend_pairs(&own.params);
            }
            url
        });
        let mut resource = own.clone();
        resource.path = url.as_ref().map_or(own.path.clone(), |url| below(base, url));
        resource.paginator = own.paginator.clone().or_else(|| pipeline.defaults.paginator.clone());
        resource.primary_key = own.primary_key.clone().or_else(|| Some(pipeline.defaults.primary_key.clone()));
        candidates.push((DraftResource { resource, notes: vec![], suggestions: vec![] }, url));
    }
}

/// A path whose holes have no names: `/orders/{orders.id}/items` and `/orders/{order_id}/items` are the same.
fn shape_of(path: &str) -> String {
    let path = path.trim_end_matches('/');
    Regex::new(r"\{[^}]*\}").map_or_else(|_| path.to_owned(), |hole| hole.replace_all(path, "{}").into_owned())
}

/// What the pipeline itself knows of credentials: headers and query.
fn credentials(pipeline: &Pipeline) -> (HeaderMap, Vec<(String, String)>) {
    let source = &pipeline.source;
    let mut texts: BTreeMap<String, String> = source.headers.clone();
    let mut query: Vec<(String, String)> = source.params.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let authorization = header::AUTHORIZATION.to_string();
    match &source.auth {
        Auth::Bearer { token } => {
            texts.insert(authorization, format!("Bearer {token}"));
        }
        Auth::Basic { username, password } => {
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
            texts.insert(authorization, format!("Basic {pair}"));
        }
        Auth::ApiKey { name, value, place: KeyPlace::Header } => {
            texts.insert(name.clone(), value.clone());
        }
        Auth::ApiKey { name, value, place: KeyPlace::Query } => query.push((name.clone(), value.clone())),
        Auth::ApiKey { name, value, place: KeyPlace::Cookie } => {
            texts.insert(header::COOKIE.to_string(), format!("{name}={value}"));
        }
        _ => {}
    }
    let mut headers = HeaderMap::new();
    for (name, text) in texts {
        if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(text)) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    (headers, query)
}
