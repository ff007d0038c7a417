//! Reserving: seats chosen by the buyer or by us are held for some minutes, all or none.

use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::{Money, Timestamp};
use tessera_store::claims::{Acquired, MAX_RESOURCES};

use super::App;
use super::request::{Request, fingerprint};
use crate::Error;
use crate::domain::choose;
use crate::domain::event::Event;
use crate::domain::ids::{EventId, HoldId, SeatNumber, TicketId};
use crate::domain::inventory::SeatLabel;
use crate::seats::{LiveEvent, SeatState, States};
use crate::store::{Held, Hold, HoldState, NewHold, PricedSeat};

/// How often seats are chosen anew when others were faster.
const ATTEMPTS: u64 = 6;
/// How many free seats are named beside a refusal.
const NEARBY: usize = 6;

/// What a buyer wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Of which event; may be left to the tickets.
    pub event: Option<EventId>,
    /// These tickets.
    pub tickets: Vec<TicketId>,
    /// So many of the best seats together, of a price level by its key.
    pub best: Option<(u32, Option<String>)>,
    /// So many places of these areas, by key.
    pub areas: Vec<(String, u32)>,
    /// From the waiting room, where the event has one.
    pub admission: Option<String>,
}

/// A hold as its owner sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldView {
    /// The hold.
    pub hold: Hold,
    /// Its event.
    pub event: Arc<Event>,
    /// Its tickets.
    pub tickets: Vec<TicketView>,
    /// What they cost together.
    pub total: Money,
}

/// A ticket as a buyer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketView {
    /// Its id.
    pub id: TicketId,
    /// The section and row, where it is a numbered seat.
    pub section: Option<String>,
    /// The row.
    pub row: Option<String>,
    /// The seat.
    pub seat: Option<String>,
    /// The area, where it is not.
    pub area: Option<String>,
    /// The key of its price level; none where that is gone.
    pub price_level: Option<String>,
    /// What it costs.
    pub price: Money,
}

impl App {
    /// Holds what is wished for. The same request again gives the same hold.
    ///
    /// # Errors
    /// [`Error::SeatsTaken`], [`Error::TooFewFree`], [`Error::LeavesOrphan`], [`Error::CustomerLimit`],
    /// [`Error::NotOnSale`], [`Error::NotAdmitted`], [`Error::KeyReused`], [`Error::BadRequest`], [`Error::NotFound`]; those of the database.
    pub async fn reserve(&self, request: &Request, wish: &Wish) -> Result<HoldView, Error> {
        let id = HoldId::from(request.id("hold"));
        let live = self.live.event(wish.event()?).await?;
        let event = live.event();
        if event.status == crate::domain::event::Status::Draft {
            return Err(Error::NotFound { what: "event", id: event.id.to_string() });
        }
        let hash = wish.fingerprint(event.id);
        let refused = match self.try_reserve(request, wish, id, hash, &live, &event).await {
            Ok(hold) => return Ok(self.view_hold(hold, &live)),
            Err(refused) => refused,
        };
        // A retry of what was answered meets its own hold, whatever is free, sold or closed by now.
        match self.store.find_hold(id).await? {
            Some(hold) if hold.request_hash == hash => Ok(self.view_hold(hold, &live)),
            Some(_) => Err(Error::KeyReused { key: request.key.clone() }),
            None => Err(refused),
        }
    }

    async fn try_reserve(
        &self,
        request: &Request,
        wish: &Wish,
        id: HoldId,
        request_hash: [u8; 16],
        live: &LiveEvent,
        event: &Event,
    ) -> Result<Hold, Error> {
        event.check_on_sale(self.clock.now())?;
        self.check_admission(event.id, &request.subject, wish.admission.as_deref()).await?;
        let count = wish.count();
        if count == 0 || count > MAX_RESOURCES as u64 {
            let reason = format!("{count} tickets were asked for; ask for 1 to {MAX_RESOURCES} at a time");
            return Err(Error::BadRequest { reason });
        }
        let limit = event.details.rules.max_per_customer;
        if count > u64::from(limit) {
            return Err(Error::CustomerLimit { limit, has: 0 });
        }
        let ttl = Duration::from_secs(u64::from(event.details.rules.hold_ttl_s));
        // Others have these, though it is not seen in memory.
        let mut avoid: Vec<SeatNumber> = Vec::new();
        for attempt in 0..ATTEMPTS {
            let hint = (id.uuid().as_u128() as u64).wrapping_add(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let chosen = live.with(|states| wish.choose(event, states, &avoid, hint, self.clock.now()))?;
            let chosen = Wanted { live, seats: chosen };
            let new = NewHold {
                id,
                event: event.id,
                subject: Arc::clone(&request.subject),
                seats: priced(event, live, &chosen.seats)?,
                ttl,
                longest: ttl + self.payment_window,
                limit,
                request_hash,
                claim: None,
            };
            let held = self.hold(new).await?;
            drop(chosen);
            let (taken, until) = match held {
                Held::Made(hold) => {
                    self.remember_hold(&hold);
                    return Ok(hold);
                }
                Held::Again(hold) => return Ok(hold),
                Held::KeyReused => return Err(Error::KeyReused { key: request.key.clone() }),
                Held::OverLimit(has) => return Err(Error::CustomerLimit { limit, has }),
                Held::Taken(taken, until) => (taken, Some(until)),
                Held::Booked(taken) => (taken, None),
            };
            // Others were faster, and what they did is not in memory yet, or others' processes are.
            self.live.follow_event(live).await?;
            if wish.names(&taken, event.id) {
                let nearby = live.with(|states| near(states, &taken, self.clock.now()));
                return Err(taken_error(event.id, &taken, nearby, until));
            }
            avoid.extend(taken);
        }
        let free = live.with(|states| states.counts(self.clock.now()).free);
        Err(Error::TooFewFree { asked: count as u32, free })
    }

    /// The claim first where claims are kept elsewhere, and let go again where the row is refused.
    async fn hold(&self, mut new: NewHold) -> Result<Held, Error> {
        let Some(claims) = &self.claims else { return self.store.hold(new).await };
        let claim = match claims.acquire(new.acquire()).await? {
            Acquired::Claim(claim) => claim,
            Acquired::Taken { resources, until } => {
                let seats = resources.iter().filter_map(|id| TicketId::from(*id).seat()).collect();
                return Ok(Held::Taken(seats, until));
            }
        };
        new.claim = Some(claim.clone());
        let held = self.store.hold(new).await;
        let may_be_ours = match &held {
            Ok(Held::Made(hold) | Held::Again(hold)) => hold.token == claim.token,
            Ok(_) => false,
            Err(Error::Store(error)) => error.may_have_happened(),
            Err(_) => false,
        };
        if !may_be_ours {
            claims.release(claim).await?;
        }
        held
    }

    /// A hold of this subject.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub async fn show_hold(&self, subject: &str, id: HoldId) -> Result<HoldView, Error> {
        let hold = self.store.find_hold(id).await?.filter(|hold| &*hold.subject == subject);
        let hold = hold.ok_or_else(|| Error::NotFound { what: "hold", id: id.to_string() })?;
        let live = self.live.event(hold.event).await?;
        let over = |reason: String| Error::HoldOver { hold: id, reason };
        match hold.state {
            HoldState::Released => return Err(over("it was given back".into())),
            HoldState::Lapsed => return Err(over(format!("it ended at {}", hold.expires_at))),
            HoldState::Active if hold.expires_at <= self.clock.now() => {
                return Err(over(format!("it ended at {}", hold.expires_at)));
            }
            HoldState::Active | HoldState::Booked => {}
        }
        Ok(self.view_hold(hold, &live))
    }

    pub(crate) fn view_hold(&self, hold: Hold, live: &LiveEvent) -> HoldView {
        let event = live.event();
        let tickets: Vec<TicketView> = hold.seats.iter().map(|priced| view_ticket(&event, live, *priced)).collect();
        // Each price and their sum were checked when it was made.
        let amount = hold.seats.iter().map(|priced| priced.price).sum();
        HoldView { total: Money::new(amount, event.currency), hold, event, tickets }
    }
}

/// Seats that this process asks for, until it has its answer.
struct Wanted<'a> {
    live: &'a LiveEvent,
    seats: Vec<SeatNumber>,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.live.with(|states| states.unwant(&self.seats));
    }
}

impl Wish {
    fn event(&self) -> Result<EventId, Error> {
        let bad = |reason: &str| Error::BadRequest { reason: reason.into() };
        let first = self.tickets.first().map(|ticket| ticket.event());
        let event = self.event.or(first).ok_or_else(|| bad("`event` is missing; name it, or tickets of it"))?;
        match self.tickets.iter().find(|ticket| ticket.event() != event) {
            Some(foreign) => {
                let reason =
                    format!("ticket `{foreign}` is not of event `{event}`; reserve tickets of one event at a time");
                Err(Error::BadRequest { reason })
            }
            None => Ok(event),
        }
    }

    fn count(&self) -> u64 {
        let best = self.best.as_ref().map_or(0, |(quantity, _)| u64::from(*quantity));
        let areas: u64 = self.areas.iter().map(|(_, quantity)| u64::from(*quantity)).sum();
        self.tickets.len() as u64 + best + areas
    }

    /// Whether the buyer named one of these seats.
    fn names(&self, seats: &[SeatNumber], event: EventId) -> bool {
        seats.iter().any(|seat| self.tickets.contains(&TicketId::new(event, *seat)))
    }

    /// `event`: that of the wish, whoever named it.
    fn fingerprint(&self, event: EventId) -> [u8; 16] {
        let mut tickets = self.tickets.clone();
        tickets.sort_unstable();
        let mut parts: Vec<Vec<u8>> = tickets.iter().map(|ticket| ticket.uuid().as_bytes().to_vec()).collect();
        parts.push(event.uuid().as_bytes().to_vec());
        parts.push(format!("{:?}", self.best).into_bytes());
        parts.push(format!("{:?}", self.areas).into_bytes());
        fingerprint(parts)
    }

    /// Picks seats that look open, and notes them as wanted.
    fn choose(
        &self,
        event: &Event,
        states: &mut States,
        avoid: &[SeatNumber],
        hint: u64,
        now: Timestamp,
    ) -> Result<Vec<SeatNumber>, Error> {
        let inventory = Arc::clone(states.inventory());
        let mut chosen: Vec<SeatNumber> = Vec::new();
        for ticket in &self.tickets {
            let known = ticket.seat().filter(|seat| inventory.level(*seat).is_some());
            chosen.push(known.ok_or_else(|| Error::NotFound { what: "ticket", id: ticket.to_string() })?);
        }
        chosen.sort_unstable();
        if let Some(twice) = chosen.windows(2).find(|pair| pair[0] == pair[1]) {
            let reason = format!("ticket `{}` is named twice; name each once", TicketId::new(event.id, twice[0]));
            return Err(Error::BadRequest { reason });
        }
        let gone = |seat: &SeatNumber| !matches!(states.get(*seat, now), SeatState::Free);
        let taken: Vec<SeatNumber> = chosen.iter().copied().filter(gone).collect();
        if !taken.is_empty() {
            let until = taken.iter().filter_map(|seat| match states.get(*seat, now) {
                SeatState::Held(until) => Some(until),
                _ => None,
            });
            let until = until.min();
            return Err(taken_error(event.id, &taken, near(states, &taken, now), until));
        }
        let strict = event.details.rules.no_orphans;
        if strict && !chosen.is_empty() {
            let open = |seat: SeatNumber| states.get(seat, now) == SeatState::Free;
            if let Some(orphan) = choose::leaves_orphan(&inventory, &chosen, open) {
                return Err(Error::LeavesOrphan { seat: TicketId::new(event.id, orphan) });
            }
        }
        let not = |chosen: &[SeatNumber]| [chosen, avoid].concat();
        if let Some((quantity, key)) = &self.best {
            chosen.extend(best(event, states, &not(&chosen), *quantity, key.as_deref(), hint, now)?);
        }
        for (key, quantity) in &self.areas {
            let area = inventory.areas().iter().find(|area| area.key == *key);
            let area = area.ok_or_else(|| Error::NotFound { what: "area", id: key.clone() })?;
            chosen.extend(places(states, &not(&chosen), &area.blocks, *quantity, hint, now)?);
        }
        chosen.sort_unstable();
        states.want(&chosen);
        Ok(chosen)
    }
}

/// The best seats together; where the level is that of an area, places of it.
fn best(
    event: &Event,
    states: &States,
    not: &[SeatNumber],
    quantity: u32,
    key: Option<&str>,
    hint: u64,
    now: Timestamp,
) -> Result<Vec<SeatNumber>, Error> {
    let level = match key {
        None => None,
        Some(key) => {
            let level = event.price_level(key);
            Some(level.ok_or_else(|| Error::NotFound { what: "price level", id: key.to_owned() })?.0)
        }
    };
    let inventory = states.inventory();
    let areas = inventory.areas().iter().filter(|area| level.is_none_or(|level| usize::from(area.level) == level));
    let blocks: Vec<(u32, u32)> = areas.flat_map(|area| area.blocks.iter().copied()).collect();
    let open = |seat: SeatNumber| states.is_open(seat, now) && !not.contains(&seat);
    let strict = event.details.rules.no_orphans;
    let together = choose::best_together(inventory, level, quantity, strict, |row| states.row_has_free(row), open);
    match together {
        Some(seats) => Ok(seats),
        None => places(states, not, &blocks, quantity, hint, now).map_err(|error| match error {
            Error::TooFewFree { asked, .. } => {
                let levels = states.counts_by_level(event.details.price_levels.len(), now);
                let free = levels.iter().enumerate().filter(|(index, _)| level.is_none_or(|level| level == *index));
                Error::TooFewFree { asked, free: free.map(|(_, counts)| counts.free).sum() }
            }
            other => other,
        }),
    }
}

fn places(
    states: &States,
    not: &[SeatNumber],
    blocks: &[(u32, u32)],
    quantity: u32,
    hint: u64,
    now: Timestamp,
) -> Result<Vec<SeatNumber>, Error> {
    let open = |seat: SeatNumber| states.is_open(seat, now) && !not.contains(&seat);
    choose::any_places(blocks, quantity, hint, open).ok_or_else(|| {
        let free = blocks.iter().map(|(first, count)| states.counts_in(*first, *count, now).free).sum();
        Error::TooFewFree { asked: quantity, free }
    })
}

fn near(states: &States, taken: &[SeatNumber], now: Timestamp) -> Vec<SeatNumber> {
    let inventory = states.inventory();
    let open = |seat: SeatNumber| states.is_open(seat, now);
    let first = taken.first().copied();
    let found = first.map(|seat| choose::nearby(inventory, seat, NEARBY, |row| states.row_has_free(row), open));
    found.unwrap_or_default()
}

fn taken_error(event: EventId, taken: &[SeatNumber], nearby: Vec<SeatNumber>, until: Option<Timestamp>) -> Error {
    let tickets = |seats: &[SeatNumber]| seats.iter().map(|seat| TicketId::new(event, *seat)).collect();
    Error::SeatsTaken { taken: tickets(taken), nearby: tickets(&nearby), until }
}

fn priced(event: &Event, live: &LiveEvent, seats: &[SeatNumber]) -> Result<Vec<PricedSeat>, Error> {
    let inventory = live.inventory();
    let price = |seat: &SeatNumber| {
        let level = inventory.level(*seat).and_then(|level| event.details.price_levels.get(level));
        let price = level.map(|level| PricedSeat { seat: *seat, price: level.price });
        price.ok_or_else(|| Error::NotFound { what: "ticket", id: TicketId::new(event.id, *seat).to_string() })
    };
    seats.iter().map(price).collect()
}

pub(crate) fn view_ticket(event: &Event, live: &LiveEvent, priced: PricedSeat) -> TicketView {
    let inventory = live.inventory();
    let (section, row, seat, area) = match inventory.label(priced.seat) {
        Some(SeatLabel::Seat { section, row, seat }) => {
            (Some(section.to_owned()), Some(row.to_owned()), Some(seat.to_owned()), None)
        }
        Some(SeatLabel::Place { area }) => (None, None, None, Some(area.to_owned())),
        None => (None, None, None, None),
    };
    let level = inventory.level(priced.seat).and_then(|level| event.details.price_levels.get(level));
    TicketView {
        id: TicketId::new(event.id, priced.seat),
        section,
        row,
        seat,
        area,
        price_level: level.map(|level| level.key.clone()),
        price: Money::new(priced.price, event.currency),
    }
}
