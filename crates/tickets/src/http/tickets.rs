//! Booked tickets: seen, shown, printed, passed on.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono_tz::Tz;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tessera_kernel::Timestamp;
use tessera_service::http::{IdempotencyKey, Json, List, Page, Path, Query};
use tessera_service::{Identity, Problem};
use utoipa::ToSchema;

use super::wire::{ListBody, TicketBody};
use crate::Error;
use crate::app::App;
use crate::app::request::Request;
use crate::app::tickets::{OwnedTicket, TicketsWish};
use crate::domain::event::Status;
use crate::domain::ids::{EventId, OrderId, TicketId};
use crate::paper::{self, Sheet};
use crate::store::Ended;

/// What only its owner may see is kept by no cache.
const PRIVATE: &str = "private, no-store";

/// A booked ticket.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OwnedTicketBody {
    #[serde(flatten)]
    ticket: TicketBody,
    state: TicketState,
    #[schema(value_type = String)]
    event: EventId,
    event_name: String,
    event_status: Status,
    #[schema(value_type = String, format = DateTime)]
    starts_at: Timestamp,
    venue: TicketVenueBody,
    #[schema(value_type = String)]
    order: OrderId,
    /// Whose it is: for the organiser; one's own otherwise.
    owner: String,
    /// Which of its codes counts.
    serial: u32,
    /// The text of its QR code; for its owner only.
    qr: Option<String>,
    /// Whether it can be passed on now.
    transferable: bool,
    #[schema(value_type = String, format = DateTime)]
    booked_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    checked_in_at: Option<Timestamp>,
    gate: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// How a ticket stands.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TicketState {
    /// It opens the door.
    Valid,
    /// Somebody went in with it.
    Used,
    /// It was given back. In lists with `updated_since` only.
    Refunded,
    /// It was passed on, and this is what was left behind. In lists of its former owner with `updated_since` only.
    Transferred,
}

#[derive(Debug, Serialize, ToSchema)]
struct TicketVenueBody {
    name: String,
    address: String,
    city: String,
    timezone: String,
}

impl From<OwnedTicket> for OwnedTicketBody {
    fn from(OwnedTicket { booking, ticket, qr, transferable, event_status }: OwnedTicket) -> Self {
        let state = match (booking.ended, booking.checked_in_at) {
            (Some(Ended::Refunded), _) => TicketState::Refunded,
            (Some(Ended::Transferred), _) => TicketState::Transferred,
            (None, Some(_)) => TicketState::Used,
            (None, None) => TicketState::Valid,
        };
        Self {
            state,
            event_status,
            ticket: ticket.into(),
            event: booking.ticket.event(),
            event_name: booking.event_name,
            starts_at: booking.starts_at,
            venue: TicketVenueBody {
                name: booking.venue,
                address: booking.address,
                city: booking.city,
                timezone: booking.timezone,
            },
            order: booking.order,
            owner: booking.subject,
            serial: booking.serial,
            qr,
            transferable,
            booked_at: booking.booked_at,
            checked_in_at: booking.checked_in_at,
            gate: booking.gate,
            updated_at: booking.updated_at,
        }
    }
}

/// Which tickets are listed.
#[derive(Debug, Deserialize)]
pub(super) struct TicketsQuery {
    event: Option<EventId>,
    updated_since: Option<Timestamp>,
}

/// Tickets of the caller, an organiser's those of its events; the one changed the longest ago first.
#[utoipa::path(
    get,
    path = "/tickets",
    params(
        ("event" = Option<String>, Query, description = "of this event only"),
        ("updated_since" = Option<String>, Query, description = "what changed then or later, refunded and transferred tickets too"),
        ("limit" = Option<u32>, Query),
        ("cursor" = Option<String>, Query)
    ),
    responses((status = 200, description = "`items` and `next_cursor`", body = ListBody<OwnedTicketBody>))
)]
pub(super) async fn list(
    State(app): State<App>,
    identity: Identity,
    Query(TicketsQuery { event, updated_since }): Query<TicketsQuery>,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    let after: Option<(i64, TicketId)> = page.after()?;
    let limit = page.limit();
    let wish = TicketsWish { event, updated_since, after, limit: limit + 1 };
    let tickets = app.list_tickets(&identity, wish).await?;
    let list = List::new(tickets, limit, |owned| (owned.booking.updated_at.micros(), owned.booking.ticket));
    let List { items, next_cursor } = list;
    let items: Vec<OwnedTicketBody> = items.into_iter().map(Into::into).collect();
    Ok(([(CACHE_CONTROL, PRIVATE)], Json(List { items, next_cursor })).into_response())
}

/// A ticket of the caller, or of an event that the caller sells.
#[utoipa::path(
    get,
    path = "/tickets/{id}",
    params(("id" = String, Path)),
    responses((status = 200, body = OwnedTicketBody), (status = 404))
)]
pub(super) async fn show(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<TicketId>,
) -> Result<Response, Problem> {
    let body = OwnedTicketBody::from(app.show_ticket(&identity, id).await?);
    Ok(([(CACHE_CONTROL, PRIVATE)], Json(body)).into_response())
}

/// The code of the caller's ticket as a picture.
#[utoipa::path(
    get,
    path = "/tickets/{id}/qr.svg",
    params(("id" = String, Path)),
    responses((status = 200, content_type = "image/svg+xml"), (status = 404))
)]
pub(super) async fn picture(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<TicketId>,
) -> Result<Response, Problem> {
    let (_, code) = app.own_code(&identity, id).await?;
    let svg = drawn(move || paper::svg(&code)).await?;
    Ok(([(CONTENT_TYPE, "image/svg+xml"), (CACHE_CONTROL, PRIVATE)], svg).into_response())
}

/// The caller's ticket as a page to print.
#[utoipa::path(
    get,
    path = "/tickets/{id}/ticket.pdf",
    params(("id" = String, Path)),
    responses((status = 200, content_type = "application/pdf"), (status = 404))
)]
pub(super) async fn print(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<TicketId>,
) -> Result<Response, Problem> {
    let (owned, code) = app.own_code(&identity, id).await?;
    let page = drawn(move || paper::pdf(&sheet(owned, code))).await?;
    let headers = [
        (CONTENT_TYPE, "application/pdf"),
        (CONTENT_DISPOSITION, "attachment; filename=\"ticket.pdf\""),
        (CACHE_CONTROL, PRIVATE),
    ];
    Ok((headers, page).into_response())
}

/// Choosing the best mask of a code takes a few milliseconds, which is too long between other requests.
async fn drawn<T: Send + 'static>(draw: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let drawn = tokio::task::spawn_blocking(draw).await;
    drawn.unwrap_or_else(|error| Err(Error::Corrupt { what: "a drawing".into(), reason: error.to_string() }))
}

fn sheet(OwnedTicket { booking, ticket, .. }: OwnedTicket, code: String) -> Sheet {
    let zone: Tz = booking.timezone.parse().unwrap_or(Tz::UTC);
    let starts_at = booking.starts_at.to_utc().with_timezone(&zone).format("%A, %-d %B %Y, %H:%M (%Z)");
    let place = [&booking.venue, &booking.address, &booking.city];
    let place: Vec<&str> = place.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    let labelled = |label: &str, value: &Option<String>| value.as_ref().map(|value| format!("{label}{value}"));
    let seat = [
        labelled("", &ticket.area),
        labelled("", &ticket.section),
        labelled("row ", &ticket.row),
        labelled("seat ", &ticket.seat),
    ];
    let seat: Vec<String> = seat.into_iter().flatten().collect();
    let lines = vec![starts_at.to_string(), place.join(", "), seat.join(", "), ticket.price.to_string()];
    let mut small = vec![
        "Show this code at the door. It opens it once: keep it to yourself.".into(),
        booking.ticket.to_string(),
        booking.order.to_string(),
    ];
    if !lines.iter().chain([&booking.event_name]).all(|line| paper::prints(line)) {
        small.push("This page prints Latin letters only. Where it has question marks, the ticket on your screen has the names.".into());
    }
    Sheet { title: booking.event_name, lines, small, code }
}

/// `POST /tickets/{id}/transfer`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferBody {
    /// The account of the new owner.
    to: String,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TransferredBody {
    #[schema(value_type = String)]
    ticket: TicketId,
    owner: String,
}

/// Gives the caller's ticket to somebody else. It gets a new code; the old one opens no door any more.
#[utoipa::path(
    post,
    path = "/tickets/{id}/transfer",
    request_body = TransferBody,
    params(("id" = String, Path), ("idempotency-key" = String, Header, description = "the same for a retry")),
    responses(
        (status = 200, body = TransferredBody),
        (status = 404),
        (status = 409, description = "used, or not transferable")
    )
)]
pub(super) async fn transfer(
    State(app): State<App>,
    identity: Identity,
    IdempotencyKey(key): IdempotencyKey,
    Path(id): Path<TicketId>,
    Json(body): Json<TransferBody>,
) -> Result<Json<TransferredBody>, Problem> {
    identity.require(&["fan"])?;
    let request = Request { subject: identity.subject, key };
    app.transfer_ticket(&request, id, &body.to).await?;
    Ok(Json(TransferredBody { ticket: id, owner: body.to.trim().to_owned() }))
}

/// The public keys that codes and door lists are signed with.
#[utoipa::path(get, path = "/tickets/keys", responses((status = 200, description = "`keys`, each `kid`, `alg`, `x`")))]
pub(super) async fn keys(State(app): State<App>) -> Response {
    let body: Value = json!({ "keys": [{
        "kid": key_id(&app),
        "alg": "Ed25519",
        "x": URL_SAFE_NO_PAD.encode(app.keys.public()),
    }] });
    ([(CACHE_CONTROL, "public, max-age=300")], Json(body)).into_response()
}

/// The beginning of the hash of our public key.
pub(super) fn key_id(app: &App) -> String {
    let hash = Sha256::digest(app.keys.public());
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
