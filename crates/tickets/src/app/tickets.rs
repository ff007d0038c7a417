//! Booked tickets: their owners see them, show their codes and pass them on.

use std::sync::Arc;

use tessera_kernel::{Money, Timestamp};
use tessera_service::identity::MAX_SUBJECT_BYTES;
use tessera_service::{Identity, Keys};

use super::App;
use super::request::Request;
use super::reserve::{TicketView, view_ticket};
use crate::Error;
use crate::domain::code::TicketCode;
use crate::domain::event::Status;
use crate::domain::ids::{EventId, TicketId};
use crate::seats::LiveEvent;
use crate::store::{Booking, Once, PricedSeat, TicketsOf, TicketsPage, Transfer, Transferred};

/// A booked ticket as its owner, or who sold it, sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedTicket {
    /// Its booking.
    pub booking: Booking,
    /// What stands on it.
    pub ticket: TicketView,
    /// Its code, for its owner only.
    pub qr: Option<String>,
    /// Whether it can be passed on now.
    pub transferable: bool,
    /// How its event stands.
    pub event_status: Status,
}

/// Which tickets are listed.
#[derive(Clone, Copy, Debug)]
pub struct TicketsWish {
    /// Of this event only.
    pub event: Option<EventId>,
    /// What changed then or later.
    pub updated_since: Option<Timestamp>,
    /// Behind the ticket that was changed then.
    pub after: Option<(i64, TicketId)>,
    /// So many at most.
    pub limit: usize,
}

/// The text of a code with our signature.
pub fn signed_text(keys: &Keys, code: TicketCode) -> String {
    code.text(&keys.sign(&code.message()))
}

impl App {
    /// A ticket of the caller, or of an event that the caller sells.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub async fn show_ticket(&self, identity: &Identity, id: TicketId) -> Result<OwnedTicket, Error> {
        let may_see = |booking: &Booking| *booking.subject == *identity.subject || sells(identity, &booking.organiser);
        let booking = self.store.find_booking(id).await?.filter(may_see).ok_or_else(|| not_found(id))?;
        let live = self.live.event(id.event()).await?;
        Ok(self.view_booking(identity, booking, &live))
    }

    /// A ticket of the caller, with its code.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub async fn own_code(&self, identity: &Identity, id: TicketId) -> Result<(OwnedTicket, String), Error> {
        let owned = self.show_ticket(identity, id).await?;
        let code = owned.qr.clone().ok_or_else(|| not_found(id))?;
        Ok((owned, code))
    }

    /// Tickets of the caller; an organiser's are those of its events. The one changed the longest ago comes first; since a
    /// moment, those too that were given back or passed on.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list_tickets(&self, identity: &Identity, wish: TicketsWish) -> Result<Vec<OwnedTicket>, Error> {
        let whose = if identity.is("admin") {
            TicketsOf::Everyone
        } else if identity.is("organiser") {
            TicketsOf::Organiser(&identity.subject)
        } else {
            TicketsOf::Owner(&identity.subject)
        };
        let TicketsWish { event, updated_since, after, limit } = wish;
        let page = TicketsPage { event, updated_since, after, limit: i64::try_from(limit).unwrap_or(i64::MAX) };
        let bookings = self.store.list_bookings(whose, page).await?;
        let mut tickets: Vec<OwnedTicket> = Vec::with_capacity(bookings.len());
        let mut live: Option<Arc<LiveEvent>> = None;
        for booking in bookings {
            let event = booking.ticket.event();
            let known = match live.take().filter(|known| known.id() == event) {
                Some(known) => known,
                None => self.live.event(event).await?,
            };
            tickets.push(self.view_booking(identity, booking, &known));
            live = Some(known);
        }
        Ok(tickets)
    }

    /// Gives a ticket to somebody else, with a new code; the old one opens no door any more.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NotNow`] where the event's rules or a check-in stand in the way;
    /// [`Error::BadRequest`]; [`Error::KeyReused`]; those of the database.
    pub async fn transfer_ticket(&self, request: &Request, id: TicketId, to: &str) -> Result<(), Error> {
        let to = to.trim();
        if to.is_empty() || to.len() > MAX_SUBJECT_BYTES || to.contains(char::is_control) || *to == *request.subject {
            let reason =
                format!("`to` must name another account, in 1 to {MAX_SUBJECT_BYTES} bytes without control characters");
            return Err(Error::BadRequest { reason });
        }
        let event = self.live.event(id.event()).await.map_err(|_| not_found(id))?.event();
        let asked = request.asked(["transfer", &id.to_string(), to]);
        if self.store.answer(&asked).await?.is_some() {
            return Ok(());
        }
        let refuse = |why: &str| Err(Error::NotNow { reason: format!("ticket `{id}` cannot be passed on: {why}") });
        let transferred = match event.status {
            Status::Cancelled => return refuse("its event was cancelled"),
            _ if !event.details.rules.transferable => return refuse("the organiser does not allow it for this event"),
            _ => {
                let from = Arc::clone(&request.subject);
                let request = request.id("transfer");
                let transfer = Transfer { ticket: id, from, to: to.into(), request, asked: Some(asked) };
                match self.store.transfer(transfer).await? {
                    Once::Now(transferred) => transferred,
                    Once::Before(_) => return Ok(()),
                }
            }
        };
        match transferred {
            Transferred::Done(_) => Ok(()),
            Transferred::NotFound => Err(not_found(id)),
            Transferred::Used(at) => refuse(&format!("somebody went in with it at {at}")),
            Transferred::KeyReused => Err(Error::KeyReused { key: request.key.clone() }),
        }
    }

    pub(super) fn view_booking(&self, identity: &Identity, booking: Booking, live: &LiveEvent) -> OwnedTicket {
        let event = live.event();
        let seat = booking.ticket.seat().map(|seat| PricedSeat { seat, price: booking.price });
        let blank = || TicketView {
            id: booking.ticket,
            section: None,
            row: None,
            seat: None,
            area: None,
            price_level: None,
            price: Money::new(booking.price, booking.currency),
        };
        let ticket = seat.map_or_else(blank, |priced| view_ticket(&event, live, priced));
        let own = *booking.subject == *identity.subject && booking.ended.is_none();
        let code = TicketCode { ticket: booking.ticket, serial: booking.serial };
        let free_to_go = event.status == Status::Published && booking.checked_in_at.is_none();
        OwnedTicket {
            qr: own.then(|| signed_text(&self.keys, code)),
            transferable: own && free_to_go && event.details.rules.transferable,
            event_status: event.status,
            ticket,
            booking,
        }
    }
}

/// Whether the caller sells the events of this organiser.
pub(super) fn sells(identity: &Identity, organiser: &str) -> bool {
    identity.is("admin") || (identity.is("organiser") && *identity.subject == *organiser)
}

fn not_found(id: TicketId) -> Error {
    Error::NotFound { what: "ticket", id: id.to_string() }
}
