//! What goes over the wire, in snake_case; camel case is taken where clients are known to send it.

use serde::{Deserialize, Serialize};
use tessera_kernel::{Money, Timestamp};
use utoipa::ToSchema;

use crate::Error;
use crate::app::reserve::{HoldView, TicketView, Wish};
use crate::domain::ids::{EventId, HoldId, TicketId};

/// One page of a list, as it is described: it is sent as a [`List`](tessera_service::http::List).
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct ListBody<T: ToSchema> {
    /// The items of this page.
    items: Vec<T>,
    /// What to send as `cursor` for the next page; null on the last.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// `POST /booking/reserve`: tickets by id, or the best of a price level, or places of areas; mixed in one hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReserveBody {
    /// One ticket.
    #[serde(alias = "ticketId")]
    #[schema(value_type = Option<String>)]
    ticket_id: Option<TicketId>,
    /// Several tickets of one event.
    #[serde(default, alias = "ticketIds")]
    #[schema(value_type = Vec<String>)]
    ticket_ids: Vec<TicketId>,
    /// Of which event, where no ticket says it.
    #[serde(alias = "eventId")]
    #[schema(value_type = Option<String>)]
    event: Option<EventId>,
    /// How many, chosen for the buyer.
    quantity: Option<u32>,
    /// Of which price level, by key; any where not set.
    #[serde(alias = "priceLevel")]
    price_level: Option<String>,
    /// The best that are free together. It is what `quantity` means; `false` is refused.
    #[serde(alias = "bestAvailable")]
    best_available: Option<bool>,
    /// General admission.
    #[serde(default)]
    areas: Vec<AreaQuantity>,
    /// From the waiting room, where the event has one; the header `x-admission` does too.
    admission: Option<String>,
}

/// So many places of an area.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AreaQuantity {
    /// The area's key.
    area: String,
    /// How many.
    quantity: u32,
}

impl TryFrom<ReserveBody> for Wish {
    type Error = Error;

    fn try_from(body: ReserveBody) -> Result<Self, Error> {
        let bad = |reason: &str| Err(Error::BadRequest { reason: reason.into() });
        if body.best_available == Some(false) {
            return bad("`best_available` is false; leave it out and name `ticket_ids`");
        }
        if body.quantity.is_none() && (body.best_available.is_some() || body.price_level.is_some()) {
            return bad("`quantity` is missing; say how many tickets");
        }
        let mut tickets = body.ticket_ids;
        tickets.extend(body.ticket_id);
        Ok(Self {
            event: body.event,
            tickets,
            best: body.quantity.filter(|quantity| *quantity > 0).map(|quantity| (quantity, body.price_level)),
            areas: body.areas.into_iter().map(|area| (area.area, area.quantity)).collect(),
            admission: body.admission,
        })
    }
}

/// A hold.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HoldBody {
    #[schema(value_type = String)]
    hold_id: HoldId,
    #[schema(value_type = String)]
    event: EventId,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// Seconds left, by the server's clock: for a countdown that does not trust the client's.
    expires_in_s: u64,
    tickets: Vec<TicketBody>,
    #[schema(value_type = Object)]
    total: Money,
}

/// A ticket.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TicketBody {
    #[schema(value_type = String)]
    id: TicketId,
    section: Option<String>,
    row: Option<String>,
    seat: Option<String>,
    area: Option<String>,
    price_level: Option<String>,
    #[schema(value_type = Object)]
    price: Money,
}

impl HoldBody {
    pub(super) fn new(view: HoldView, now: Timestamp) -> Self {
        Self {
            hold_id: view.hold.id,
            event: view.hold.event,
            expires_at: view.hold.expires_at,
            expires_in_s: view.hold.expires_at.since(now).as_secs(),
            tickets: view.tickets.into_iter().map(TicketBody::from).collect(),
            total: view.total,
        }
    }
}

impl From<TicketView> for TicketBody {
    fn from(view: TicketView) -> Self {
        let TicketView { id, section, row, seat, area, price_level, price } = view;
        Self { id, section, row, seat, area, price_level, price }
    }
}

/// `POST /booking/release`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseBody {
    /// Which hold.
    #[serde(alias = "holdId")]
    #[schema(value_type = String)]
    pub(super) hold_id: HoldId,
}

/// How many seats were freed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReleasedBody {
    pub(super) released: u32,
}
