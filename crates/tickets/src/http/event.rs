//! The page of an event.

use std::ops::Range;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};
use tessera_kernel::{Currency, Money, Timestamp};
use tessera_service::Problem;
use tessera_service::http::{Path, Query, Quick, QuickAnswer};
use utoipa::ToSchema;

use super::seats;
use crate::app::App;
use crate::app::event_page::{EventView, Form, Page};
use crate::domain::event::{QueueMode, Status};
use crate::domain::ids::{EventId, PerformerId, PlanId, SeatNumber, TicketId, VenueId};
use crate::domain::inventory::numbers;
use crate::seats::states::Counts;

const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=1, stale-while-revalidate=5");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventBody<'a> {
    #[schema(value_type = String)]
    id: EventId,
    name: &'a str,
    kind: &'a str,
    status: Status,
    description: &'a str,
    #[schema(value_type = String, format = DateTime)]
    starts_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    doors_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    ends_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    on_sale_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    off_sale_at: Option<Timestamp>,
    /// Whether it is sold at this moment.
    on_sale: bool,
    venue: VenueBody<'a>,
    performers: Vec<PerformerBody<'a>>,
    #[schema(value_type = String)]
    currency: Currency,
    price_levels: Vec<LevelBody<'a>>,
    /// General admission.
    areas: Vec<AreaBody<'a>>,
    /// Numbered seats by section.
    sections: Vec<SectionBody<'a>>,
    rules: RulesBody,
    queue: QueueBody,
    seats: SeatsBody,
    #[schema(value_type = Option<String>)]
    plan_id: Option<PlanId>,
    version: i64,
    /// With `tickets=list` or `tickets=bitmap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    tickets: Option<Tickets<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VenueBody<'a> {
    #[schema(value_type = String)]
    id: VenueId,
    name: &'a str,
    city: &'a str,
    country: &'a str,
    address: &'a str,
    lat: Option<f64>,
    lng: Option<f64>,
    timezone: &'a str,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PerformerBody<'a> {
    #[schema(value_type = String)]
    id: PerformerId,
    name: &'a str,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LevelBody<'a> {
    key: &'a str,
    name: &'a str,
    #[schema(value_type = Object)]
    price: Money,
    color: &'a str,
    free: u32,
    total: u32,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AreaBody<'a> {
    key: &'a str,
    name: &'a str,
    price_level: &'a str,
    capacity: u32,
    free: u32,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SectionBody<'a> {
    name: &'a str,
    seats: u32,
    free: u32,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RulesBody {
    max_per_customer: u32,
    hold_ttl_s: u32,
    no_orphans: bool,
    transferable: bool,
    refundable_until_h: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueueBody {
    mode: QueueMode,
    /// Whether one may have to wait at this moment.
    active: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SeatsBody {
    total: u32,
    free: u32,
    held: u32,
    booked: u32,
    /// Where the stream of changes goes on from here.
    seq: i64,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Tickets<'a> {
    Bitmap(String),
    List(Vec<SectionTickets<'a>>),
}

#[derive(Debug, Serialize)]
struct SectionTickets<'a> {
    section: &'a str,
    rows: Vec<RowTickets<'a>>,
}

#[derive(Debug, Serialize)]
struct RowTickets<'a> {
    row: &'a str,
    seats: Vec<SeatBody<'a>>,
}

#[derive(Debug, Serialize)]
struct SeatBody<'a> {
    id: TicketId,
    label: &'a str,
    state: &'static str,
    price_level: Option<&'a str>,
}

/// What is asked for beside the event.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Show {
    tickets: Option<TicketsForm>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TicketsForm {
    List,
    Bitmap,
}

/// An event with its venue, performers, prices, and what is left of it; not older than a second.
///
/// `tickets=list` adds every seat by section and row, `tickets=bitmap` the state of all in two bits a seat, base64. With
/// `accept: application/octet-stream` it is that of `/event/{id}/seats`.
#[utoipa::path(
    get,
    path = "/event/{id}",
    params(("id" = String, Path), ("tickets" = Option<String>, Query, description = "`list` or `bitmap`")),
    responses((status = 200, body = EventBody), (status = 304), (status = 404))
)]
pub(super) async fn show(
    State(app): State<App>,
    Path(id): Path<EventId>,
    Query(asked): Query<Show>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let form = match asked.tickets {
        None if wants_bytes(&headers) => return seats::snapshot(State(app), Path(id), headers).await,
        None => Form::Counts,
        Some(TicketsForm::List) => Form::List,
        Some(TicketsForm::Bitmap) => Form::Bitmap,
    };
    Ok(answer(&*app.event_page(id, form, render).await?, &headers))
}

/// The page without all its tickets, while it is in memory and fresh: what everyone asks for when a sale begins.
pub(super) fn quick(app: App) -> Quick {
    Quick::new(move |request| {
        let (path, headers) = (request.uri.path(), &request.headers);
        let id: EventId = path.strip_prefix("/event/")?.parse().ok()?;
        if request.method != Method::GET || request.uri.query().is_some() || wants_bytes(headers) {
            return None;
        }
        let page = app.fresh_page(id, Form::Counts)?;
        Some(QuickAnswer { route: "/event/{id}", response: answer(&page, headers) })
    })
}

fn wants_bytes(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"application/octet-stream"))
}

fn answer(page: &Page, headers: &HeaderMap) -> Response {
    let known = headers.get(IF_NONE_MATCH).is_some_and(|given| *given == page.etag);
    let mut response = if known { Response::default() } else { Response::new(Body::from(page.body.clone())) };
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let head = response.headers_mut();
    head.insert(CONTENT_TYPE, JSON);
    head.insert(CACHE_CONTROL, CACHE);
    head.insert(ETAG, page.etag.clone());
    head.insert(SURROGATE_KEY, page.surrogate_key.clone());
    response
}

fn render(view: &EventView, form: Form) -> Page {
    // Plain structs always serialise.
    let body = serde_json::to_vec(&body(view, form)).unwrap_or_default();
    let event = &view.event;
    let text = |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"\""));
    // A hold that lapses and a sale that begins change the page without a change that is counted.
    let etag = text(format!("\"{}-{}-{:016x}\"", event.version, view.seq, hash(&body)));
    let surrogate_key = text(format!("{} {}", event.id, event.venue));
    Page { body: body.into(), etag, surrogate_key }
}

/// The same in every process of one version.
fn hash(bytes: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn body(view: &EventView, form: Form) -> EventBody<'_> {
    let (event, venue, inventory) = (&view.event, &view.venue, &view.inventory);
    let details = &event.details;
    let levels = details.price_levels.iter().zip(view.levels()).map(|(level, (free, total))| LevelBody {
        key: &level.key,
        name: &level.name,
        price: Money::new(level.price, event.currency),
        color: &level.color,
        free,
        total,
    });
    let areas = details.areas.iter().map(|area| AreaBody {
        key: &area.key,
        name: &area.name,
        price_level: &area.price_level,
        capacity: area.capacity,
        free: view.counts(numbers(&area.blocks)).free,
    });
    let section = |rows: &Range<usize>| {
        let rows = &inventory.rows()[rows.clone()];
        view.counts(rows.iter().flat_map(|row| row.first..row.first + row.count))
    };
    let sections = inventory.sections().iter().filter(|one| !one.rows.is_empty()).map(|one| {
        let counts = section(&one.rows);
        SectionBody { name: &one.name, seats: counts.total, free: counts.free }
    });
    let Counts { total, free, held, booked } = view.counts(0..inventory.len());
    let rules = &details.rules;
    EventBody {
        id: event.id,
        name: &event.name,
        kind: &event.kind,
        status: event.status,
        description: &details.description,
        starts_at: event.starts_at,
        doors_at: details.doors_at,
        ends_at: details.ends_at,
        on_sale_at: details.on_sale_at,
        off_sale_at: details.off_sale_at,
        on_sale: view.on_sale,
        venue: VenueBody {
            id: venue.id,
            name: &venue.name,
            city: &venue.city,
            country: &venue.country,
            address: &venue.address,
            lat: venue.lat,
            lng: venue.lng,
            timezone: &venue.timezone,
        },
        performers: view.performers.iter().map(|one| PerformerBody { id: one.id, name: &one.name }).collect(),
        currency: event.currency,
        price_levels: levels.collect(),
        areas: areas.collect(),
        sections: sections.collect(),
        rules: RulesBody {
            max_per_customer: rules.max_per_customer,
            hold_ttl_s: rules.hold_ttl_s,
            no_orphans: rules.no_orphans,
            transferable: rules.transferable,
            refundable_until_h: rules.refundable_until_h,
        },
        queue: QueueBody { mode: view.queue_mode, active: view.queue_active },
        seats: SeatsBody { total, free, held, booked, seq: view.seq },
        plan_id: event.plan,
        version: event.version,
        tickets: match form {
            Form::Counts => None,
            Form::Bitmap => Some(Tickets::Bitmap(STANDARD.encode(&view.states))),
            Form::List => Some(Tickets::List(tickets(view))),
        },
    }
}

/// All numbered seats. Places in general admission have no labels that anyone could pick by.
fn tickets(view: &EventView) -> Vec<SectionTickets<'_>> {
    let inventory = &view.inventory;
    let levels = &view.event.details.price_levels;
    let seat = |number: u32| SeatBody {
        id: TicketId::new(view.event.id, SeatNumber(number)),
        label: inventory.seat_label(SeatNumber(number)).unwrap_or_default(),
        state: match view.state(SeatNumber(number)) {
            0 => "free",
            1 => "held",
            2 => "booked",
            _ => "not_sold",
        },
        price_level: inventory.level(SeatNumber(number)).and_then(|level| Some(levels.get(level)?.key.as_str())),
    };
    let sections = inventory.sections().iter().filter(|one| !one.rows.is_empty()).map(|section| SectionTickets {
        section: &section.name,
        rows: inventory.rows()[section.rows.clone()]
            .iter()
            .map(|one| RowTickets { row: &one.label, seats: (one.first..one.first + one.count).map(seat).collect() })
            .collect(),
    });
    sections.collect()
}
