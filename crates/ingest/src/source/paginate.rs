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

    /// Whether the page after this one is reached by counting pages or rows, which shift when a row before them leaves; a
    /// cursor that points at a row does not. Links and tokens may count too, as their parameter tells.
    pub fn counts(&self, next: &Place) -> bool {
        match (&self.paginator, next) {
            (Paginator::Page { .. } | Paginator::Offset { .. }, _) => true,
            (Paginator::Cursor { param, .. }, Place::Token(token)) => is_counter(param, token),
            (_, Place::Url(next)) => self
                .first
                .url
                .join(next)
                .is_ok_and(|url| url.query_pairs().any(|(name, value)| is_counter(&name, &value))),
            _ => false,
        }
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

    /// Whether a place is that of the first page.
    pub fn is_first(&self, place: &Place) -> bool {
        match (&self.paginator, place) {
            (Paginator::Page { start, .. }, Place::Page(page)) => page == start,
            (_, place) => matches!(place, Place::Start | Place::Offset(0)),
        }
    }

    /// The last place of a parallel stream, as far as an answer tells it. `largest` is the most rows that a page of the
    /// stream has had: what the API caps its pages at, where that is below what was asked for.
    pub fn last(&self, answer: &Answer, largest: usize) -> Option<Place> {
        match &self.paginator {
            Paginator::Page { start, size, .. } => {
                let per_page = size.map_or(largest as u64, |size| size.min(largest as u64)).max(1);
                let pages = answer.page.total_pages.or_else(|| Some(answer.page.total?.div_ceil(per_page)))?;
                Some(Place::Page((start + pages).saturating_sub(1).max(*start)))
            }
            Paginator::Offset { limit, .. } => {
                let pages = answer.page.total?.div_ceil((*limit).max(1));
                Some(Place::Offset(pages.saturating_sub(1) * limit))
            }
            _ => None,
        }
    }

    /// The place after a page that was asked for at `place` and had so many rows, `largest` being the most that a page of
    /// the stream has had.
    pub fn next(&self, place: &Place, answer: &Answer, rows: usize, largest: usize) -> Place {
        match &self.paginator {
            Paginator::None | Paginator::Auto => Place::End,
            Paginator::Page { size, .. } => {
                let known = answer.page.total.is_some() || answer.page.total_pages.is_some();
                let said_last = self.last(answer, largest).is_some_and(|last| passed(&self.ahead(place, 1), &last));
                // Without a total, a page shorter than asked for is the last, unless the API caps its pages: then all
                // of them are as long as the longest, and caps are round numbers.
                let short = size.is_some_and(|size| (rows as u64) < size);
                let capped = rows == largest && rows.is_multiple_of(5);
                let ends = if known { said_last } else { short && !capped };
                if rows == 0 || ends { Place::End } else { self.ahead(place, 1) }
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
                    // Without a total: as with page numbers, all pages as long as the longest are capped ones.
                    rows if short && rows == largest && rows.is_multiple_of(5) => {
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

/// Whether a parameter is one that numbers pages or rows.
fn is_counter(name: &str, value: &str) -> bool {
    const COUNTERS: [&str; 11] = [
        "page",
        "pagenumber",
        "pageno",
        "pagenum",
        "pageindex",
        "currentpage",
        "offset",
        "skip",
        "start",
        "startat",
        "startindex",
    ];
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    COUNTERS.contains(&name.as_str()) && !value.is_empty() && value.chars().all(|c| c.is_ascii_digit())
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
