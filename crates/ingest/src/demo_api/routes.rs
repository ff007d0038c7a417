//! The data routes: one handler per resource, one way of paging each.

use std::collections::BTreeMap;
use std::io::Write;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tessera_kernel::Timestamp;

use super::DemoApi;
use super::asked::{Asked, Cursor, DEFAULT_PAGE, MAX_PAGE};
use super::faults::Faults;
use super::gate::Active;
use super::lifecycle::{Change, Status};
use super::problem::Problem;
use super::rows::{self, Customer, Order, Product};
use super::shop::{Version, View};
use super::stream::Stream;

/// The fields whose type changes on request.
const AMOUNTS: [&str; 5] = ["total_minor", "amount_minor", "price_minor", "loyalty_points", "rating"];
/// Lines of the event log that are made at a time.
const EVENTS_AT_ONCE: usize = 1000;

type Parameters = Query<BTreeMap<String, String>>;
type Answer = Result<Response, Problem>;

/// Makes an answer on a blocking thread: a page of rows takes milliseconds.
async fn answer(api: DemoApi, make: impl FnOnce(&DemoApi) -> Answer + Send + 'static) -> Answer {
    tokio::task::spawn_blocking(move || make(&api))
        .await
        .unwrap_or_else(|cause| Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", cause.to_string())))
}

/// JSON of the shop at a moment.
fn json(view: &View<'_>, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value)
        .map_err(|cause| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", cause.to_string()))?;
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Ok(as_of) = HeaderValue::from_str(&Timestamp::from_micros(view.now).to_string()) {
        response.headers_mut().insert(HeaderName::from_static("x-as-of"), as_of);
    }
    Ok(response)
}

/// Rows as they are, or with amounts turned to text from some row on.
#[derive(Serialize)]
#[serde(untagged)]
enum Rows<T> {
    AsTheyAre(Vec<T>),
    Changed(Vec<Value>),
}

impl<T: Serialize> Rows<T> {
    fn new(rows: Vec<T>, offset: u64, faults: &Faults) -> Self {
        let Some(after) = faults.type_change_after_row else { return Self::AsTheyAre(rows) };
        let changed = |(row, offset): (T, u64)| {
            let mut row = serde_json::to_value(row).unwrap_or_default();
            for name in AMOUNTS {
                if offset >= after
                    && let Some(amount) = row.get_mut(name)
                {
                    *amount = Value::String(format!("{amount}.00"));
                }
            }
            row
        };
        Self::Changed(rows.into_iter().zip(offset..).map(changed).collect())
    }
}

/// An envelope with page numbers.
#[derive(Serialize)]
struct Page<T> {
    data: Rows<T>,
    page: u64,
    per_page: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_pages: Option<u64>,
}

impl<T: Serialize> Page<T> {
    /// Page `page` of `total` rows, of which `rows` gives those at (offset, count).
    fn new(page: u64, per_page: u64, total: u64, faults: &Faults, rows: impl FnOnce(u64, u64) -> Vec<T>) -> Self {
        let shown = faults.looped(page);
        let offset = (shown - 1).saturating_mul(per_page);
        let data = Rows::new(rows(offset, per_page.min(total.saturating_sub(offset))), offset, faults);
        let total_pages = if faults.loops(page) { page + 1 } else { total.div_ceil(per_page) };
        let told = !faults.drop_total;
        Self {
            data,
            page,
            per_page,
            total: (told && !faults.loops(page)).then_some(total),
            total_pages: told.then_some(total_pages),
        }
    }
}

/// The rows of a stream at (offset, count).
fn rows_of<T>(stream: &Stream<'_>, row: impl Fn(&Version) -> T) -> impl Fn(u64, u64) -> Vec<T> {
    move |offset, count| stream.page(offset, usize::try_from(count).unwrap_or(usize::MAX)).iter().map(&row).collect()
}

/// `GET /customers`: page numbers.
pub(super) async fn customers(
    State(api): State<DemoApi>,
    active: Extension<Active>,
    Query(asked): Parameters,
) -> Answer {
    answer(api, move |api| {
        let asked = Asked(asked);
        let (page, size) = (asked.number("page", 1, 1)?, asked.size("per_page")?);
        let view = api.0.shop.view(asked.moment(api)?);
        let rows = |offset, count| (0..count).map(|row| view.customer(offset + row + 1)).collect::<Vec<Customer>>();
        json(&view, &Page::new(page, size, view.customers(), &active.0.0, rows))
    })
    .await
}

/// `GET /customers/{id}`.
pub(super) async fn customer(State(api): State<DemoApi>, Path(id): Path<String>, Query(asked): Parameters) -> Answer {
    answer(api, move |api| {
        let view = api.0.shop.view(Asked(asked).moment(api)?);
        let id = known("customer", &id, |id| id <= view.customers())?;
        json(&view, &view.customer(id))
    })
    .await
}

/// `GET /orders`: page numbers, filters on `updated_at`.
pub(super) async fn orders(State(api): State<DemoApi>, active: Extension<Active>, Query(asked): Parameters) -> Answer {
    answer(api, move |api| {
        let asked = Asked(asked);
        let (page, size) = (asked.number("page", 1, 1)?, asked.size("per_page")?);
        let view = api.0.shop.view(asked.moment(api)?);
        let stream = view.order_stream(|_, _| true).between(asked.time("updated_since")?, asked.time("updated_until")?);
        let rows = rows_of(&stream, |version| view.order_row(version));
        json(&view, &Page::<Order>::new(page, size, stream.len(), &active.0.0, rows))
    })
    .await
}

/// `GET /orders/{id}`.
pub(super) async fn order(State(api): State<DemoApi>, Path(id): Path<String>, Query(asked): Parameters) -> Answer {
    answer(api, move |api| {
        let view = api.0.shop.view(Asked(asked).moment(api)?);
        let id = known("order", &id, |id| view.order(id).is_some())?;
        match view.order(id) {
            Some(version) => json(&view, &view.order_row(&version)),
            None => Err(Problem::missing(format!("there is no order `{id}`"))),
        }
    })
    .await
}

/// `GET /orders/{id}/items`: children, one plain array.
pub(super) async fn items(State(api): State<DemoApi>, Path(id): Path<String>, Query(asked): Parameters) -> Answer {
    answer(api, move |api| {
        let view = api.0.shop.view(Asked(asked).moment(api)?);
        let id = known("order", &id, |id| view.order(id).is_some())?;
        json(&view, &view.item_rows(id))
    })
    .await
}

fn known(what: &str, text: &str, exists: impl FnOnce(u64) -> bool) -> Result<u64, Problem> {
    match text.parse() {
        Ok(id) if id > 0 && exists(id) => Ok(id),
        _ => Err(Problem::missing(format!("there is no {what} `{text}`"))),
    }
}

/// The body of a search.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    #[serde(default = "first_page")]
    page: u64,
    #[serde(default = "usual_size")]
    page_size: u64,
    #[serde(default)]
    filters: Filters,
}

const fn first_page() -> u64 {
    1
}

const fn usual_size() -> u64 {
    DEFAULT_PAGE
}

/// What a search may filter on.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Filters {
    status: Option<Statuses>,
    deleted: Option<bool>,
    updated_since: Option<Timestamp>,
    updated_until: Option<Timestamp>,
    as_of: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Statuses {
    One(String),
    Some(Vec<String>),
}

/// The answer to a search.
#[derive(Serialize)]
struct Found {
    results: Rows<Order>,
    page: u64,
    page_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

/// `POST /orders/search`: page numbers in the body.
pub(super) async fn search(State(api): State<DemoApi>, active: Extension<Active>, body: Bytes) -> Answer {
    answer(api, move |api| {
        let search: Search = serde_json::from_slice(&body)
            .map_err(|cause| Problem::invalid(format!("the search is not understood: {cause}")))?;
        if search.page == 0 || search.page_size == 0 {
            return Err(Problem::invalid("page and page_size count from 1"));
        }
        let filters = search.filters;
        let statuses = match filters.status {
            None => None,
            Some(Statuses::One(status)) => Some(vec![status]),
            Some(Statuses::Some(statuses)) => Some(statuses),
        };
        let all: Vec<&str> = Status::ALL.into_iter().map(Status::name).collect();
        if let Some(unknown) = statuses.iter().flatten().find(|status| !all.contains(&status.as_str())) {
            return Err(Problem::invalid(format!("status `{unknown}` is none of {}", all.join(", "))));
        }
        let size = search.page_size.min(MAX_PAGE);
        let present = api.present();
        let view = api.0.shop.view(filters.as_of.map_or(present, |as_of| as_of.micros().min(present)));
        let wanted = |status: Status, deleted: bool| {
            statuses.as_ref().is_none_or(|statuses| statuses.iter().any(|name| name == status.name()))
                && filters.deleted.is_none_or(|wanted| wanted == deleted)
        };
        let stream = view
            .order_stream(wanted)
            .between(filters.updated_since.map(Timestamp::micros), filters.updated_until.map(Timestamp::micros));
        let rows = rows_of(&stream, |version| view.order_row(version));
        let page = Page::new(search.page, size, stream.len(), &active.0.0, rows);
        json(&view, &Found { results: page.data, page: page.page, page_size: size, total: page.total })
    })
    .await
}

/// The answer with offset and limit.
#[derive(Serialize)]
struct Items<T> {
    items: Rows<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// `GET /products`: offset and limit, and the total in a header too.
pub(super) async fn products(
    State(api): State<DemoApi>,
    active: Extension<Active>,
    Query(asked): Parameters,
) -> Answer {
    answer(api, move |api| {
        let asked = Asked(asked);
        let faults = &active.0.0;
        let (mut offset, limit) = (asked.number("offset", 0, 0)?, asked.size("limit")?);
        let view = api.0.shop.view(asked.moment(api)?);
        let (total, mut count) = (api.0.shop.products, api.0.shop.products);
        if faults.loops(offset / limit + 1) {
            count = offset + 2 * limit;
            offset = (faults.loop_after - 1) * limit;
        }
        let rows: Vec<Product> =
            (offset..total.min(offset.saturating_add(limit))).map(|row| view.product(row + 1)).collect();
        let count = (!faults.drop_total).then_some(count);
        let mut response = json(&view, &Items { items: Rows::new(rows, offset, faults), count })?;
        if let Some(count) = count {
            response.headers_mut().insert(HeaderName::from_static("x-total-count"), HeaderValue::from(count));
        }
        Ok(response)
    })
    .await
}

/// `GET /products/{id}`.
pub(super) async fn product(State(api): State<DemoApi>, Path(id): Path<String>) -> Answer {
    answer(api, move |api| {
        let view = api.0.shop.view(api.present());
        let id = known("product", &id, |id| id <= api.0.shop.products)?;
        json(&view, &view.product(id))
    })
    .await
}

/// A page found by a cursor, and where the next one is.
struct Slice<T> {
    rows: Rows<T>,
    next: Option<Cursor>,
}

fn slice<T: Serialize>(
    stream: Stream<'_>,
    cursor: Cursor,
    limit: u64,
    faults: &Faults,
    row: impl Fn(&Version) -> T,
) -> Slice<T> {
    let stream = stream.between(cursor.since, None);
    let rows = Rows::new(rows_of(&stream, row)(cursor.offset, limit), cursor.offset, faults);
    let offset = cursor.offset.saturating_add(limit);
    let next = if faults.loops(cursor.offset / limit + 1) {
        Some(cursor)
    } else {
        (offset < stream.len()).then_some(Cursor { offset, ..cursor })
    };
    Slice { rows, next }
}

/// `GET /payments`: a cursor in the body, `null` at the end.
pub(super) async fn payments(
    State(api): State<DemoApi>,
    active: Extension<Active>,
    Query(asked): Parameters,
) -> Answer {
    #[derive(Serialize)]
    struct Payments<T> {
        data: Rows<T>,
        next_cursor: Option<String>,
    }
    answer(api, move |api| {
        let asked = Asked(asked);
        let cursor = Cursor::asked(&asked, api, "payments", "cursor")?;
        let view = api.0.shop.view(cursor.as_of);
        let stream = view.change_stream(|change| change == Change::Paid);
        let page = slice(stream, cursor, asked.size("limit")?, &active.0.0, |version| view.payment(version));
        json(&view, &Payments { data: page.rows, next_cursor: page.next.map(|next| next.text("payments")) })
    })
    .await
}

/// `GET /refunds`: the next page's URL in the body, `null` at the end.
pub(super) async fn refunds(
    State(api): State<DemoApi>,
    active: Extension<Active>,
    headers: HeaderMap,
    Query(asked): Parameters,
) -> Answer {
    #[derive(Serialize)]
    struct Refunds<T> {
        results: Rows<T>,
        next: Option<String>,
    }
    answer(api, move |api| {
        let asked = Asked(asked);
        let (cursor, limit) = (Cursor::asked(&asked, api, "refunds", "cursor")?, asked.size("limit")?);
        let view = api.0.shop.view(cursor.as_of);
        let stream = view.change_stream(|change| matches!(change, Change::Returned | Change::Cancelled));
        let page = slice(stream, cursor, limit, &active.0.0, |version| view.refund(version));
        let next = page.next.map(|next| next_url(&headers, "refunds", limit, &next, &asked));
        json(&view, &Refunds { results: page.rows, next })
    })
    .await
}

/// `GET /shipments`: the next page's URL in the `Link` header, a bare array in the body.
pub(super) async fn shipments(
    State(api): State<DemoApi>,
    active: Extension<Active>,
    headers: HeaderMap,
    Query(asked): Parameters,
) -> Answer {
    answer(api, move |api| {
        let asked = Asked(asked);
        let (cursor, limit) = (Cursor::asked(&asked, api, "shipments", "cursor")?, asked.size("limit")?);
        let view = api.0.shop.view(cursor.as_of);
        let stream = view.change_stream(|change| change == Change::Shipped);
        let page = slice(stream, cursor, limit, &active.0.0, |version| view.shipment(version));
        let mut response = json(&view, &page.rows)?;
        let first = next_url(&headers, "shipments", limit, &Cursor { offset: 0, ..cursor }, &asked);
        let mut links = format!("<{first}>; rel=\"first\"");
        if let Some(next) = page.next {
            links = format!("{links}, <{}>; rel=\"next\"", next_url(&headers, "shipments", limit, &next, &asked));
        }
        if let Ok(links) = HeaderValue::from_str(&links) {
            response.headers_mut().insert(header::LINK, links);
        }
        Ok(response)
    })
    .await
}

/// A URL as the client would write it: at the host it asked, without one where it named none. Faults asked for stay asked for.
fn next_url(headers: &HeaderMap, list: &str, limit: u64, cursor: &Cursor, asked: &Asked) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let base = host.map_or_else(String::new, |host| format!("http://{host}"));
    let mut url = format!("{base}/{list}?limit={limit}&cursor={}", cursor.text(list));
    for name in ["fault", "api_key"] {
        if let Some(value) = asked.0.get(name) {
            let value: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
            url = format!("{url}&{name}={value}");
        }
    }
    url
}

/// `GET /reviews`: page tokens; the last page has none.
pub(super) async fn reviews(State(api): State<DemoApi>, active: Extension<Active>, Query(asked): Parameters) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Reviews<T> {
        reviews: Rows<T>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_page_token: Option<String>,
    }
    answer(api, move |api| {
        let asked = Asked(asked);
        let cursor = Cursor::asked(&asked, api, "reviews", "pageToken")?;
        let view = api.0.shop.view(cursor.as_of);
        let limit = asked.size("pageSize")?;
        let page = slice(view.review_stream(), cursor, limit, &active.0.0, |version| view.review(version));
        json(&view, &Reviews { reviews: page.rows, next_page_token: page.next.map(|next| next.text("reviews")) })
    })
    .await
}

/// `GET /events`: JSON Lines, all of them from `since` on, streamed.
pub(super) async fn events(State(api): State<DemoApi>, Query(asked): Parameters) -> Answer {
    let asked = Asked(asked);
    let (since, until) = (asked.time("since")?, asked.time("until")?);
    let now = asked.moment(&api)?;
    let limit = asked.number("limit", u64::MAX, 1)?;
    let chunks = stream::unfold(Some((api, 0)), move |place| async move {
        let (api, offset) = place?;
        let lines = move || {
            let view = api.0.shop.view(now);
            let count = EVENTS_AT_ONCE.min(usize::try_from(limit - offset).unwrap_or(usize::MAX));
            let mut lines = Vec::new();
            let page = view.event_stream().between(since, until).page(offset, count);
            for version in &page {
                serde_json::to_writer(&mut lines, &view.event(version))?;
                lines.push(b'\n');
            }
            Ok::<_, std::io::Error>((lines, offset + page.len() as u64, api))
        };
        match tokio::task::spawn_blocking(lines).await.unwrap_or_else(|cause| Err(std::io::Error::other(cause))) {
            Ok((lines, ..)) if lines.is_empty() => None,
            Ok((lines, offset, api)) => Some((Ok(Bytes::from(lines)), Some((api, offset)))),
            Err(cause) => Some((Err(cause), None)),
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(chunks)).into_response())
}

/// The stock as CSV.
fn stock_csv(api: &DemoApi, asked: BTreeMap<String, String>) -> Result<Vec<u8>, Problem> {
    let broken = |cause: String| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", cause);
    let view = api.0.shop.view(Asked(asked).moment(api)?);
    let mut csv = csv::Writer::from_writer(Vec::new());
    for row in (1..=api.0.shop.products).flat_map(|product| view.stock(product)) {
        csv.serialize(row).map_err(|cause| broken(cause.to_string()))?;
    }
    csv.into_inner().map_err(|cause| broken(cause.to_string()))
}

/// `GET /stock.csv`.
pub(super) async fn stock(State(api): State<DemoApi>, Query(asked): Parameters) -> Answer {
    answer(api, move |api| {
        let csv = stock_csv(api, asked)?;
        Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], csv).into_response())
    })
    .await
}

/// `GET /stock.csv.gz`: the same as a compressed file (not as a compressed transfer).
pub(super) async fn stock_gz(State(api): State<DemoApi>, Query(asked): Parameters) -> Answer {
    answer(api, move |api| {
        let csv = stock_csv(api, asked)?;
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        let file = gz.write_all(&csv).and_then(|()| gz.finish());
        let file =
            file.map_err(|cause| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", cause.to_string()))?;
        let headers = [
            (header::CONTENT_TYPE, "application/gzip"),
            (header::CONTENT_DISPOSITION, "attachment; filename=\"stock.csv.gz\""),
        ];
        Ok((headers, file).into_response())
    })
    .await
}

/// `GET /countries`: all in one array.
pub(super) async fn countries(State(api): State<DemoApi>) -> Answer {
    json(&api.0.shop.view(api.present()), &rows::countries())
}
