//! The door: who may come in. Each ticket once, however many doors and processes there are, with or without a network.

use std::sync::Arc;

use serde::Serialize;
use tessera_kernel::Timestamp;
use tessera_service::Identity;

use super::App;
use super::request::Request;
use super::reserve::{TicketView, view_ticket};
use super::tickets::sells;
use crate::Error;
use crate::domain::code::TicketCode;
use crate::domain::event::Status;
use crate::domain::ids::{EventId, TicketId};
use crate::seats::LiveEvent;
use crate::store::{DoorEntry, PricedSeat, Scan, Scanned};

/// Scans in one batch.
pub const MAX_SCANS: usize = 1_000;
/// Characters of a gate's name.
const MAX_GATE_CHARS: usize = 40;
/// Stands before what is signed of a list.
const LIST_CONTEXT: &[u8] = b"tessera-door-list:1";

/// What is shown at the door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Shown {
    /// The text of a code.
    Code(String),
    /// A ticket by its id, typed in or checked without a network; with the serial of its code where that was seen.
    Ticket(TicketId, Option<u32>),
}

/// A ticket that is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownTicket {
    /// What is shown.
    pub shown: Shown,
    /// Where.
    pub gate: Option<String>,
    /// When, where it was scanned without a network.
    pub at: Option<Timestamp>,
}

/// The door's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// In a word.
    pub result: DoorResult,
    /// What stands on the ticket, where it is one of the event.
    pub ticket: Option<TicketView>,
    /// When it was used: now where it is valid, before where it is not.
    pub used_at: Option<Timestamp>,
    /// Where.
    pub gate: Option<String>,
}

/// The door's answer in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorResult {
    /// Come in.
    Valid,
    /// Somebody is in with it.
    AlreadyUsed,
    /// It is for another event.
    WrongEvent,
    /// Its event was cancelled: its money goes back, or has.
    Cancelled,
    /// It was given back.
    Refunded,
    /// There is a newer code for it.
    Replaced,
    /// It is none of ours.
    Forged,
}

/// The list of an event's door, signed.
#[derive(Clone)]
pub struct DoorList {
    /// Of which event.
    pub event: EventId,
    /// When it was made.
    pub at: Timestamp,
    /// In the order of tickets.
    pub entries: Vec<DoorEntry>,
    live: Arc<LiveEvent>,
    /// Of [`list_message`].
    pub signature: [u8; 64],
}

/// What is signed of a list: the context, the event's id, the moment in microseconds (8 bytes, big endian), and for each
/// entry, in ascending order of ids, the ticket's id and its serial (4 bytes, big endian).
pub fn list_message<'a>(event: EventId, at: Timestamp, entries: impl Iterator<Item = &'a DoorEntry>) -> Vec<u8> {
    let mut message = Vec::with_capacity(LIST_CONTEXT.len() + 24 + 20 * entries.size_hint().0);
    message.extend_from_slice(LIST_CONTEXT);
    message.extend_from_slice(event.uuid().as_bytes());
    message.extend_from_slice(&at.micros().to_be_bytes());
    for entry in entries {
        message.extend_from_slice(entry.ticket.uuid().as_bytes());
        message.extend_from_slice(&entry.serial.to_be_bytes());
    }
    message
}

impl App {
    /// Judges what is shown at the door of an event, and lets valid tickets in. One verdict each, in order.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the event; [`Error::Forbidden`]; [`Error::BadRequest`]; those of the database.
    pub async fn check_in(
        &self,
        identity: &Identity,
        key: String,
        event: EventId,
        mut shown: Vec<ShownTicket>,
    ) -> Result<Vec<Verdict>, Error> {
        let live = self.door_of(identity, event).await?;
        if shown.is_empty() || shown.len() > MAX_SCANS {
            let reason = format!("{} scans were sent; send 1 to {MAX_SCANS} at a time", shown.len());
            return Err(Error::BadRequest { reason });
        }
        for shown in &mut shown {
            shown.gate = shown.gate.as_ref().map(|gate| gate.trim().to_owned()).filter(|gate| !gate.is_empty());
        }
        let request = Request { subject: Arc::clone(&identity.subject), key };
        // Plain structs always serialise.
        let content = serde_json::to_vec(&shown).unwrap_or_default();
        let asked = request.asked([b"check-in".as_slice(), event.to_string().as_bytes(), &content]);
        let cancelled = live.event().status == Status::Cancelled;
        let mut verdicts: Vec<Option<Verdict>> = Vec::with_capacity(shown.len());
        let (mut places, mut scans) = (Vec::new(), Vec::new());
        for (place, ShownTicket { shown, gate, at }) in shown.into_iter().enumerate() {
            let unfit = |gate: &String| gate.chars().count() > MAX_GATE_CHARS || gate.contains(char::is_control);
            if gate.as_ref().is_some_and(unfit) {
                let reason = format!("a gate's name has up to {MAX_GATE_CHARS} characters and no control characters");
                return Err(Error::BadRequest { reason });
            }
            let (ticket, serial) = match self.read_shown(shown) {
                Some((ticket, _)) if ticket.event() != event => {
                    verdicts.push(Some(Verdict::bare(DoorResult::WrongEvent)));
                    continue;
                }
                Some((ticket, _)) if cancelled => {
                    let ticket = view(&live, ticket);
                    verdicts.push(Some(Verdict { ticket, ..Verdict::bare(DoorResult::Cancelled) }));
                    continue;
                }
                Some(read) => read,
                None => {
                    verdicts.push(Some(Verdict::bare(DoorResult::Forged)));
                    continue;
                }
            };
            let request = request.id(&format!("check-in {place} {ticket}"));
            places.push(place);
            verdicts.push(None);
            scans.push(Scan { ticket, serial, request, by: Arc::clone(&identity.subject), gate, at });
        }
        if !scans.is_empty() {
            let scanned = self.store.check_in(Some(asked), scans.clone()).await?;
            for ((place, scan), scanned) in places.into_iter().zip(scans).zip(scanned) {
                verdicts[place] = Some(verdict(&live, scan, scanned));
            }
        }
        Ok(verdicts.into_iter().flatten().collect())
    }

    /// The tickets that open an event's door, signed, for doors that may be without a network.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Forbidden`]; those of the database.
    pub async fn door_list(&self, identity: &Identity, event: EventId) -> Result<DoorList, Error> {
        let live = self.door_of(identity, event).await?;
        let entries = self.store.door_list(event).await?;
        let (at, keys) = (self.clock.now(), self.keys.clone());
        // A stadium's list is a megabyte to sign.
        let made = tokio::task::spawn_blocking(move || {
            let signature = keys.sign(&list_message(event, at, entries.iter()));
            DoorList { event, at, entries, live, signature }
        });
        made.await.map_err(|error| Error::Corrupt {
            what: format!("the door list of event `{event}`"),
            reason: error.to_string(),
        })
    }

    /// Doors take every event, organisers their own.
    async fn door_of(&self, identity: &Identity, event: EventId) -> Result<Arc<LiveEvent>, Error> {
        let live = self.live.event(event).await?;
        if identity.is("door") || sells(identity, &live.event().organiser) {
            return Ok(live);
        }
        Err(Error::Forbidden { what: format!("event `{event}`") })
    }

    /// The ticket and serial of what is shown; `None` where it is none of ours.
    fn read_shown(&self, shown: Shown) -> Option<(TicketId, Option<u32>)> {
        match shown {
            Shown::Ticket(ticket, serial) => ticket.seat().map(|_| (ticket, serial)),
            Shown::Code(text) => {
                let (code, signature) = TicketCode::read(&text)?;
                self.keys.signed(&code.message(), &signature).then_some((code.ticket, Some(code.serial)))
            }
        }
    }
}

impl DoorList {
    /// What stands on the ticket of an entry.
    pub fn view(&self, entry: &DoorEntry) -> Option<TicketView> {
        view(&self.live, entry.ticket)
    }
}

impl Verdict {
    fn bare(result: DoorResult) -> Self {
        Self { result, ticket: None, used_at: None, gate: None }
    }
}

fn verdict(live: &LiveEvent, scan: Scan, scanned: Scanned) -> Verdict {
    let (result, used_at, gate) = match scanned {
        Scanned::Valid(at) => (DoorResult::Valid, Some(at), scan.gate),
        Scanned::AlreadyUsed { at, gate } => (DoorResult::AlreadyUsed, Some(at), gate),
        Scanned::Refunded => (DoorResult::Refunded, None, None),
        Scanned::Replaced => (DoorResult::Replaced, None, None),
        Scanned::Unknown => return Verdict::bare(DoorResult::Forged),
    };
    Verdict { result, ticket: view(live, scan.ticket), used_at, gate }
}

fn view(live: &LiveEvent, ticket: TicketId) -> Option<TicketView> {
    // What was paid is none of the door's business.
    Some(view_ticket(&live.event(), live, PricedSeat { seat: ticket.seat()?, price: 0 }))
}
