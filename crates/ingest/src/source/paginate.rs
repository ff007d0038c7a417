//! How pages follow each other: which request comes next, and where a stream stands.

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Answer, Client, Paths, Request, RequestBody, link};
use crate::Error;
use crate::spec::Paginator;

/// Where a stream of pages stands: what the next request asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// At the first page.
    Start,
    /// At this page number.
    Page(u64),
    /// At this offset.
    Offset(u64),
    /// At this cursor or token.
    Token(String),
    /// At this URL.
    Url(String),
    /// Past the last page.
    End,
}

/// A paginator with the requests it makes.
#[derive(Clone, Debug)]
pub struct Plan {
    paginator: Paginator,
    first: Request,
}

impl Plan {
    /// The plan of a stream whose first request, without paging parameters, is this.
    pub fn new(paginator: Paginator, first: Request) -> Self {
        Self { paginator, first }
    }

    /// Where the paginator finds its next value, number of pages, and whether there is more.
    pub fn paths(paginator: &Paginator, records: Option<&str>, total: Option<&str>) -> Paths {
        let mut paths = Paths { records: records.map(Into::into), total: total.map(Into::into), ..Paths::default() };
        match paginator {
            Paginator::Page { total_pages, .. } => paths.total_pages.clone_from(total_pages),
            Paginator::Cursor { next, has_more, .. } => {
                paths.next = Some(next.clone());
                paths.has_more.clone_from(has_more);
            }
            Paginator::NextUrl { next, .. } => paths.next = Some(next.clone()),
            Paginator::None | Paginator::Auto | Paginator::Offset { .. } | Paginator::LinkHeader { .. } => {}
        }
        paths
    }

    /// Whether pages can be asked for before the one before has arrived.
    pub fn is_parallel(&self) -> bool {
        matches!(self.paginator, Paginator::Page { .. } | Paginator::Offset { .. })
    }

    /// The request for a place.
    ///
    /// # Errors
    /// A next URL of another host.
    pub fn request(&self, client: &Client, place: &Place) -> Result<Option<Request>, Error> {
        let mut parameters: Vec<(&str, String)> = Vec::new();
        let size_of = |size_param: &Option<String>, size: Option<u64>| {
            size_param.clone().zip(size).map(|(name, size)| (name, size.to_string()))
        };
        let mut request = self.first.clone();
        let mut owned: Vec<(String, String)> = Vec::new();
        match (&self.paginator, place) {
            (_, Place::End) => return Ok(None),
            (Paginator::None | Paginator::Auto, _) => {}
            (Paginator::Page { param, size_param, size, start, .. }, place) => {
                let page = if let Place::Page(page) = place { *page } else { *start };
                parameters.push((param, page.to_string()));
                owned.extend(size_of(size_param, *size));
            }
            (Paginator::Offset { param, limit_param, limit }, place) => {
                let offset = if let Place::Offset(offset) = place { *offset } else { 0 };
                parameters.push((param, offset.to_string()));
                parameters.push((limit_param, limit.to_string()));
            }
            (Paginator::Cursor { param, size_param, size, .. }, place) => {
                if let Place::Token(token) = place {
                    parameters.push((param, token.clone()));
                }
                owned.extend(size_of(size_param, *size));
            }
            (Paginator::NextUrl { .. } | Paginator::LinkHeader { .. }, Place::Url(next)) => {
                let url = self.first.url.join(next).map(|url| url.to_string()).unwrap_or_else(|_| next.clone());
                request.url = client.follow(&self.first.resource, &url)?;
            }
            (Paginator::NextUrl { size_param, size, .. } | Paginator::LinkHeader { size_param, size, .. }, _) => {
                owned.extend(size_of(size_param, *size));
            }
        }
        owned.extend(parameters.into_iter().map(|(name, value)| (name.to_owned(), value)));
        add_parameters(&mut request, &owned);
        Ok(Some(request))
    }

    /// The place `steps` pages after `place`, for paginators that need no answer to tell.
    pub fn ahead(&self, place: &Place, steps: u64) -> Place {
        match (&self.paginator, place) {
            (Paginator::Page { start, .. }, place) => {
                let page = if let Place::Page(page) = place { *page } else { *start };
                Place::Page(page + steps)
            }
            (Paginator::Offset { limit, .. }, place) => {
                let offset = if let Place::Offset(offset) = place { *offset } else { 0 };
                Place::Offset(offset + limit * steps)
            }
            _ => Place::End,
        }
    }

    /// The last place of a parallel stream, as far as an answer tells it.
    pub fn last(&self, answer: &Answer, rows: usize) -> Option<Place> {
        match &self.paginator {
            Paginator::Page { start, size, .. } => {
                let by_total = || {
                    let per_page = size.filter(|size| rows as u64 <= *size).or((rows > 0).then_some(rows as u64))?;
                    Some(answer.page.total?.div_ceil(per_page.max(1)))
                };
                let pages = answer.page.total_pages.or_else(by_total)?;
                Some(Place::Page((start + pages).saturating_sub(1).max(*start)))
            }
            Paginator::Offset { limit, .. } => {
                let pages = answer.page.total?.div_ceil((*limit).max(1));
                Some(Place::Offset(pages.saturating_sub(1) * limit))
            }
            _ => None,
        }
    }

    /// The place after a page that was asked for at `place` and had so many rows.
    ///
    /// # Errors
    /// None so far; a next value that is the present one is a loop and found by the caller.
    pub fn next(&self, place: &Place, answer: &Answer, rows: usize) -> Place {
        match &self.paginator {
            Paginator::None | Paginator::Auto => Place::End,
            Paginator::Page { size, .. } => {
                let said_last = self.last(answer, rows).is_some_and(|last| passed(&self.ahead(place, 1), &last));
                // A page that is shorter than asked for is the last, unless the API caps the size below what was asked.
                let short = size.is_some_and(|size| (rows as u64) < size)
                    && answer.page.total.is_none()
                    && answer.page.total_pages.is_none();
                let capped = short && rows > 0 && matches!(place, Place::Start) && rows.is_multiple_of(10);
                if rows == 0 || said_last || (short && !capped) { Place::End } else { self.ahead(place, 1) }
            }
            Paginator::Offset { limit, .. } => {
                let said_last = answer.page.total.is_some_and(|total| {
                    let offset = if let Place::Offset(offset) = place { *offset } else { 0 };
                    offset + rows as u64 >= total
                });
                let short = (rows as u64) < *limit;
                match rows {
                    0 => Place::End,
                    _ if said_last => Place::End,
                    // Fewer rows than asked for, and the API says there are more: it caps its pages.
                    rows if short && answer.page.total.is_some() => {
                        let offset = if let Place::Offset(offset) = place { *offset } else { 0 };
                        Place::Offset(offset + rows as u64)
                    }
                    _ if short => Place::End,
                    _ => self.ahead(place, 1),
                }
            }
            Paginator::Cursor { .. } => match &answer.page.next {
                Some(token) if answer.page.has_more != Some(false) => Place::Token(token.clone()),
                _ => Place::End,
            },
            Paginator::NextUrl { .. } => answer.page.next.clone().map_or(Place::End, Place::Url),
            Paginator::LinkHeader { rel, .. } => link(&answer.headers, rel).map_or(Place::End, Place::Url),
        }
    }
}

/// Whether `place` lies behind `last`.
pub(crate) fn passed(place: &Place, last: &Place) -> bool {
    match (place, last) {
        (Place::Page(a), Place::Page(b)) | (Place::Offset(a), Place::Offset(b)) => a > b,
        _ => false,
    }
}

/// Adds parameters to the query, or to the body of a POST that has one.
pub(crate) fn add_parameters(request: &mut Request, parameters: &[(String, String)]) {
    if parameters.is_empty() {
        return;
    }
    match &mut request.body {
        Some(RequestBody { bytes, content_type: "application/json" }) => {
            let mut body: serde_json::Map<String, serde_json::Value> =
                serde_json::from_slice(bytes).unwrap_or_default();
            for (name, value) in parameters {
                let value = value.parse::<u64>().map_or_else(|_| value.clone().into(), serde_json::Value::from);
                body.insert(name.clone(), value);
            }
            *bytes = serde_json::Value::Object(body).to_string().into();
        }
        Some(body) => {
            let kept =
                url::form_urlencoded::parse(&body.bytes).filter(|(name, _)| !parameters.iter().any(|(n, _)| n == name));
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(kept).extend_pairs(parameters);
            body.bytes = form.finish().into();
        }
        None => set_query(&mut request.url, parameters),
    }
}

fn set_query(url: &mut Url, parameters: &[(String, String)]) {
    let kept: Vec<(String, String)> =
        url.query_pairs().into_owned().filter(|(name, _)| !parameters.iter().any(|(n, _)| n == name)).collect();
    url.query_pairs_mut().clear().extend_pairs(kept).extend_pairs(parameters);
}
