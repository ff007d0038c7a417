//! The door: tickets are shown, and scans that were made without a network are handed in.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tessera_kernel::Timestamp;
use tessera_service::http::{IdempotencyKey, Json, Path};
use tessera_service::{Identity, Problem};
use utoipa::ToSchema;

use super::tickets::key_id;
use crate::Error;
use crate::app::App;
use crate::app::door::{DoorList, DoorResult, Shown, ShownTicket, Verdict};
use crate::app::reserve::TicketView;
use crate::domain::ids::{EventId, TicketId};
use crate::store::DoorEntry;

/// Entries of a list that are written at a time.
const ENTRIES_AT_ONCE: usize = 500;

/// `POST /tickets/check-in`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckInBody {
    /// The text of a code.
    qr: Option<String>,
    /// Or a ticket by its id, where its code cannot be read.
    #[serde(alias = "ticketId")]
    #[schema(value_type = Option<String>)]
    ticket_id: Option<TicketId>,
    /// At the door of which event.
    #[schema(value_type = String)]
    event: EventId,
    /// At which gate.
    gate: Option<String>,
}

/// `POST /tickets/check-in/batch`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScansBody {
    /// At the door of which event.
    #[schema(value_type = String)]
    event: EventId,
    /// Up to 1,000.
    scans: Vec<ScanBody>,
}

/// A scan that was made without a network.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScanBody {
    /// The text of a code.
    qr: Option<String>,
    /// Or a ticket by its id.
    #[serde(alias = "ticketId")]
    #[schema(value_type = Option<String>)]
    ticket_id: Option<TicketId>,
    /// And the serial of its code, where that was seen.
    serial: Option<u32>,
    /// At which gate.
    gate: Option<String>,
    /// When. Of several scans of a ticket the earliest counts; a moment to come counts as now.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// The door's answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VerdictBody {
    result: ResultBody,
    /// What stands on the ticket, where it is one of the event.
    ticket: Option<DoorTicketBody>,
    /// When it was used.
    #[schema(value_type = Option<String>, format = DateTime)]
    used_at: Option<Timestamp>,
    /// Where.
    gate: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ResultBody {
    Valid,
    AlreadyUsed,
    WrongEvent,
    Cancelled,
    Refunded,
    Replaced,
    Forged,
}

#[derive(Debug, Serialize, ToSchema)]
struct DoorTicketBody {
    #[schema(value_type = String)]
    id: TicketId,
    section: Option<String>,
    row: Option<String>,
    seat: Option<String>,
    area: Option<String>,
    price_level: Option<String>,
}

/// One verdict for each scan, in order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VerdictsBody {
    results: Vec<VerdictBody>,
}

impl From<TicketView> for DoorTicketBody {
    fn from(view: TicketView) -> Self {
        let TicketView { id, section, row, seat, area, price_level, price: _ } = view;
        Self { id, section, row, seat, area, price_level }
    }
}

impl From<Verdict> for VerdictBody {
    fn from(Verdict { result, ticket, used_at, gate }: Verdict) -> Self {
        let result = match result {
            DoorResult::Valid => ResultBody::Valid,
            DoorResult::AlreadyUsed => ResultBody::AlreadyUsed,
            DoorResult::WrongEvent => ResultBody::WrongEvent,
            DoorResult::Cancelled => ResultBody::Cancelled,
            DoorResult::Refunded => ResultBody::Refunded,
            DoorResult::Replaced => ResultBody::Replaced,
            DoorResult::Forged => ResultBody::Forged,
        };
        Self { result, ticket: ticket.map(Into::into), used_at, gate }
    }
}

fn shown(qr: Option<String>, ticket: Option<TicketId>, serial: Option<u32>) -> Result<Shown, Error> {
    match (qr, ticket) {
        (Some(text), None) => Ok(Shown::Code(text)),
        (None, Some(ticket)) => Ok(Shown::Ticket(ticket, serial)),
        _ => Err(Error::BadRequest { reason: "give either `qr` or `ticket_id`".into() }),
    }
}

/// Judges a ticket at the door of an event, and lets it in where it is valid. The same `idempotency-key` is answered the
/// same again, so that a lost answer keeps nobody out.
#[utoipa::path(
    post,
    path = "/tickets/check-in",
    request_body = CheckInBody,
    params(("idempotency-key" = String, Header, description = "the same for a retry")),
    responses((status = 200, body = VerdictBody), (status = 403), (status = 404))
)]
pub(super) async fn check_in(
    State(app): State<App>,
    identity: Identity,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<CheckInBody>,
) -> Result<Json<VerdictBody>, Problem> {
    identity.require(&["door", "organiser"])?;
    let shown = ShownTicket { shown: shown(body.qr, body.ticket_id, None)?, gate: body.gate, at: None };
    let verdicts = app.check_in(&identity, key, body.event, vec![shown]).await?;
    let verdict = verdicts.into_iter().next();
    let verdict = verdict.ok_or_else(|| Error::Corrupt { what: "a verdict".into(), reason: "there is none".into() })?;
    Ok(Json(verdict.into()))
}

/// Takes scans that were made without a network. The earliest scan of a ticket is the one that counts.
#[utoipa::path(
    post,
    path = "/tickets/check-in/batch",
    request_body = ScansBody,
    params(("idempotency-key" = String, Header, description = "the same for a retry")),
    responses((status = 200, body = VerdictsBody), (status = 403), (status = 404))
)]
pub(super) async fn check_in_batch(
    State(app): State<App>,
    identity: Identity,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<ScansBody>,
) -> Result<Json<VerdictsBody>, Problem> {
    identity.require(&["door", "organiser"])?;
    let scan = |scan: ScanBody| {
        let shown = shown(scan.qr, scan.ticket_id, scan.serial)?;
        Ok(ShownTicket { shown, gate: scan.gate, at: Some(scan.at) })
    };
    let scans = body.scans.into_iter().map(scan).collect::<Result<Vec<_>, Error>>()?;
    let verdicts = app.check_in(&identity, key, body.event, scans).await?;
    Ok(Json(VerdictsBody { results: verdicts.into_iter().map(Into::into).collect() }))
}

/// The list of an event's door. It is written in parts, see [`parts`].
#[derive(ToSchema)]
#[expect(dead_code, reason = "what the document shows; the list itself is too long to be had as a whole")]
pub(super) struct DoorListBody {
    #[schema(value_type = String)]
    event: EventId,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The same moment in microseconds since 1970, as it is signed.
    at_us: i64,
    /// In ascending order of ids.
    entries: Vec<DoorEntryBody>,
    /// Which of `/tickets/keys` it is signed with.
    kid: String,
    /// Ed25519, base64url, over `tessera-door-list:1`, the event's id (16 bytes), `at_us` (8, big endian), and each
    /// entry's id (16) and serial (4, big endian).
    signature: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct DoorEntryBody {
    #[schema(value_type = String)]
    ticket_id: TicketId,
    serial: u32,
    #[schema(value_type = Option<String>, format = DateTime)]
    used_at: Option<Timestamp>,
    gate: Option<String>,
    section: Option<String>,
    row: Option<String>,
    seat: Option<String>,
    area: Option<String>,
}

impl DoorEntryBody {
    fn new(list: &DoorList, entry: &DoorEntry) -> Self {
        let view = list.view(entry);
        let (section, row, seat, area) = view.map_or((None, None, None, None), |view| {
            let TicketView { section, row, seat, area, .. } = view;
            (section, row, seat, area)
        });
        let DoorEntry { ticket: ticket_id, serial, used_at, gate } = entry.clone();
        Self { ticket_id, serial, used_at, gate, section, row, seat, area }
    }
}

/// The text of a list, a part at a time: a stadium's is ten megabytes.
fn parts(list: DoorList, kid: String) -> impl Iterator<Item = Result<Bytes, Error>> + Send {
    let event = list.event;
    let failed = move |error: serde_json::Error| Error::Corrupt {
        what: format!("the door list of event `{event}`"),
        reason: error.to_string(),
    };
    // The same as a `DoorListBody` is written, which the document shows.
    let head = json!({ "event": list.event, "at": list.at, "at_us": list.at.micros() });
    let tail = json!({ "kid": kid, "signature": URL_SAFE_NO_PAD.encode(list.signature) });
    let head = head.to_string().trim_end_matches('}').to_owned() + ",\"entries\":[";
    let tail = "],".to_owned() + tail.to_string().trim_start_matches('{');
    let places = (0..list.entries.len()).step_by(ENTRIES_AT_ONCE);
    let entries = places.map(move |first| {
        let mut part = Vec::with_capacity(ENTRIES_AT_ONCE * 200);
        for (place, entry) in list.entries.iter().enumerate().skip(first).take(ENTRIES_AT_ONCE) {
            if place > 0 {
                part.push(b',');
            }
            serde_json::to_writer(&mut part, &DoorEntryBody::new(&list, entry)).map_err(failed)?;
        }
        Ok(part.into())
    });
    std::iter::once(Ok(head.into())).chain(entries).chain(std::iter::once(Ok(tail.into())))
}

/// The tickets that open an event's door, signed, for doors that may be without a network. A code is then good where its
/// own signature holds, its ticket is on the list with its serial, and it was not seen before.
#[utoipa::path(
    get,
    path = "/event/{id}/door-list",
    params(("id" = String, Path)),
    responses((status = 200, body = DoorListBody), (status = 403), (status = 404))
)]
pub(super) async fn door_list(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<EventId>,
) -> Result<Response, Problem> {
    identity.require(&["door", "organiser"])?;
    let (list, kid) = (app.door_list(&identity, id).await?, key_id(&app));
    let body = Body::from_stream(stream::iter(parts(list, kid)));
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "private, no-store")], body).into_response())
}
