//! What organisers keep: venues, performers and events, as they write them and as they are kept; and which changes an
//! event still allows once it is published.

use serde::{Deserialize, Serialize};
use tessera_kernel::{Currency, Place, Timestamp};
use utoipa::ToSchema;

use super::event::{Area, Details, Event, MAX_PRICE_LEVELS, MAX_TICKETS, PriceLevel, Queue, Rules, Status};
use super::ids::{EventId, PerformerId, PlanId, SeatNumber, VenueId};
use super::inventory::{Inventory, assign_blocks};
use super::plan::SeatPlan;
use crate::Error;

/// The longest name, in characters.
pub const MAX_NAME_CHARS: usize = 200;
/// The longest description, in characters.
pub const MAX_TEXT_CHARS: usize = 20_000;
/// The most performers of one event.
pub const MAX_PERFORMERS: usize = 100;
/// The highest price, minor units: sums of a whole stadium stay far from overflowing.
pub const MAX_PRICE: i64 = 1_000_000_000;
/// The most tickets that a customer may be allowed.
pub const MAX_PER_CUSTOMER: u32 = 1_000;
/// The shortest and longest time that a hold may last, seconds.
pub const HOLD_TTL_S: std::ops::RangeInclusive<u32> = 30..=7_200;

/// A place where events happen.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Venue {
    /// Its id.
    #[schema(value_type = String)]
    pub id: VenueId,
    /// For people.
    pub name: String,
    /// For people.
    pub city: String,
    /// For people, or an ISO code.
    pub country: String,
    /// For people.
    pub address: String,
    /// Degrees north (WGS 84).
    pub lat: Option<f64>,
    /// Degrees east.
    pub lng: Option<f64>,
    /// IANA name of its time zone.
    pub timezone: String,
    /// Its usual seat plan.
    #[schema(value_type = Option<String>)]
    pub plan: Option<PlanId>,
    /// The subject that may change it.
    #[serde(skip)]
    pub organiser: String,
    /// Goes up with every change.
    pub version: i64,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// Since when it is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Timestamp>,
}

/// A venue as its organiser writes it.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VenueInput {
    /// For people, 1 to 200 characters.
    pub name: String,
    /// For people.
    pub city: String,
    /// For people, or an ISO code.
    pub country: String,
    /// For people.
    #[serde(default)]
    pub address: String,
    /// Degrees north; with `lng` or not at all.
    #[serde(default)]
    pub lat: Option<f64>,
    /// Degrees east.
    #[serde(default)]
    pub lng: Option<f64>,
    /// IANA name of its time zone; UTC where not set.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Its usual seat plan, which its events have unless they name another.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub plan: Option<PlanId>,
}

/// Who plays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Performer {
    /// Its id.
    #[schema(value_type = String)]
    pub id: PerformerId,
    /// For people.
    pub name: String,
    /// For people.
    pub about: String,
    /// The subject that may change it.
    #[serde(skip)]
    pub organiser: String,
    /// Goes up with every change.
    pub version: i64,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// Since when it is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Timestamp>,
}

/// A performer as an organiser writes it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PerformerInput {
    /// For people, 1 to 200 characters.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub about: String,
}

/// A seat plan without its seats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PlanInfo {
    /// Its id.
    #[schema(value_type = String)]
    pub id: PlanId,
    /// For people.
    pub name: String,
    /// How many seats it has.
    pub seats: u32,
    /// The subject that may use it.
    #[serde(skip)]
    pub organiser: String,
    /// When it was made, or deleted.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// Since when it is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Timestamp>,
}

/// An event as its organiser writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventInput {
    /// Its title, 1 to 200 characters.
    pub name: String,
    /// What sort of event: `sport`, `concert`, `theatre` …
    pub kind: String,
    /// Where.
    #[schema(value_type = String)]
    pub venue: VenueId,
    /// The seats: the venue's plan where not set, none with `seated: false`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub plan: Option<PlanId>,
    /// Whether there are numbered seats.
    #[serde(default = "yes")]
    pub seated: bool,
    /// Who plays, in the order of the bill.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub performers: Vec<PerformerId>,
    /// When it begins.
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: Timestamp,
    /// Of all prices.
    #[schema(value_type = String)]
    pub currency: Currency,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// When the doors open.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub doors_at: Option<Timestamp>,
    /// When it ends.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<Timestamp>,
    /// From when it is sold.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub on_sale_at: Option<Timestamp>,
    /// Until when it is sold.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub off_sale_at: Option<Timestamp>,
    /// What seats and places cost.
    pub price_levels: Vec<PriceLevel>,
    /// General admission. Place numbers are given out by us.
    #[serde(default)]
    pub areas: Vec<AreaInput>,
    /// Seats that are not sold, as first number and count; as before where not set.
    #[serde(default)]
    pub blocked: Option<Vec<(u32, u32)>>,
    /// How it is sold.
    #[serde(default)]
    pub rules: Rules,
    /// The waiting room.
    #[serde(default)]
    pub queue: Queue,
}

/// A general-admission area as an organiser writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AreaInput {
    /// Its short name, unique within the event.
    pub key: String,
    /// For people.
    pub name: String,
    /// How many it holds.
    pub capacity: u32,
    /// The key of its price level.
    pub price_level: String,
}

fn yes() -> bool {
    true
}

impl VenueInput {
    /// The venue, checked. What only the store knows is filled in there.
    ///
    /// # Errors
    /// [`Error::BadEvent`], which names the field.
    pub fn venue(self, id: VenueId, organiser: String, version: i64) -> Result<Venue, Error> {
        let place = match (self.lat, self.lng) {
            (Some(lat), Some(lng)) => Some(Place::from_degrees(lat, lng).map_err(bad)?),
            (None, None) => None,
            _ => return Err(bad("`lat` and `lng` go together; give both or none")),
        };
        let timezone = self.timezone.unwrap_or_else(|| "UTC".into());
        if timezone.parse::<chrono_tz::Tz>().is_err() {
            let reason =
                format!("`timezone` `{}` is unknown; give an IANA name such as Europe/Lisbon", shown(&timezone));
            return Err(bad(reason));
        }
        Ok(Venue {
            id,
            name: name("name", self.name)?,
            city: name("city", self.city)?,
            country: name("country", self.country)?,
            address: text("address", self.address, MAX_NAME_CHARS)?,
            lat: place.map(Place::lat),
            lng: place.map(Place::lng),
            timezone,
            plan: self.plan,
            organiser,
            version,
            updated_at: Timestamp::from_micros(0),
            deleted_at: None,
        })
    }
}

impl Venue {
    /// Where it is, where that is known.
    pub fn place(&self) -> Option<Place> {
        Place::from_degrees(self.lat?, self.lng?).ok()
    }
}

impl PerformerInput {
    /// The performer, checked.
    ///
    /// # Errors
    /// [`Error::BadEvent`], which names the field.
    pub fn performer(self, id: PerformerId, organiser: String, version: i64) -> Result<Performer, Error> {
        Ok(Performer {
            id,
            name: name("name", self.name)?,
            about: text("about", self.about, MAX_TEXT_CHARS)?,
            organiser,
            version,
            updated_at: Timestamp::from_micros(0),
            deleted_at: None,
        })
    }
}

impl EventInput {
    /// A new draft.
    ///
    /// # Errors
    /// [`Error::BadEvent`], which names what does not hold together.
    pub fn draft(self, id: EventId, organiser: String, plan: Option<&SeatPlan>) -> Result<Event, Error> {
        let mut event = self.checked(id, organiser, Status::Draft)?;
        assign_blocks(&mut event.details.areas, seats_of(plan), |_| false)?;
        Inventory::new(plan, &event.details)?;
        Ok(event)
    }

    /// What becomes of an event. A draft changes as a whole; once published, its seats and places keep their numbers:
    /// the plan and the currency stay, areas stay (their capacity may change, down to what `taken` leaves).
    ///
    /// # Errors
    /// [`Error::BadEvent`]; [`Error::NotNow`], which says what cannot change any more.
    pub fn change(
        self,
        before: &Event,
        plan: Option<&SeatPlan>,
        taken: impl Fn(SeatNumber) -> bool,
    ) -> Result<Event, Error> {
        let kept_blocked = self.blocked.is_none().then(|| before.details.blocked.clone());
        let mut event = self.checked(before.id, before.organiser.clone(), before.status)?;
        event.version = before.version + 1;
        if let Some(blocked) = kept_blocked {
            event.details.blocked = blocked;
        }
        match before.status {
            Status::Draft => assign_blocks(&mut event.details.areas, seats_of(plan), |_| false)?,
            Status::Cancelled => return Err(not_now("the event was cancelled; make a new one instead")),
            Status::Published => {
                keep_numbers(before, &mut event)?;
                assign_blocks(&mut event.details.areas, seats_of(plan), taken)?;
            }
        }
        Inventory::new(plan, &event.details)?;
        Ok(event)
    }

    fn checked(self, id: EventId, organiser: String, status: Status) -> Result<Event, Error> {
        let kind = name("kind", self.kind)?.to_lowercase();
        if self.performers.len() > MAX_PERFORMERS {
            return Err(bad(format!(
                "`performers` has {} entries; name {MAX_PERFORMERS} at most",
                self.performers.len()
            )));
        }
        let area = |area: AreaInput| {
            let AreaInput { key, name, capacity, price_level } = area;
            Area { key, name, capacity, price_level, blocks: Vec::new(), closed: Vec::new() }
        };
        let event = Event {
            id,
            name: name("name", self.name)?,
            kind,
            status,
            organiser,
            venue: self.venue,
            plan: self.plan.filter(|_| self.seated),
            performers: self.performers,
            starts_at: self.starts_at,
            currency: self.currency,
            details: Details {
                description: text("description", self.description, MAX_TEXT_CHARS)?,
                doors_at: self.doors_at,
                ends_at: self.ends_at,
                on_sale_at: self.on_sale_at,
                off_sale_at: self.off_sale_at,
                price_levels: self.price_levels,
                areas: self.areas.into_iter().map(area).collect(),
                blocked: self.blocked.unwrap_or_default(),
                rules: self.rules,
                queue: self.queue,
            },
            version: 1,
            updated_at: Timestamp::from_micros(0),
        };
        check_prices(&event.details)?;
        check_areas(&event.details)?;
        check_rules(&event.details)?;
        check_times(&event)?;
        Ok(event)
    }
}

impl Event {
    /// The event on sale. What it sells is fixed from here on.
    ///
    /// # Errors
    /// [`Error::NotNow`] where it is not a draft; [`Error::BadEvent`] where there is nothing to sell.
    pub fn publish(&self, plan: Option<&SeatPlan>) -> Result<Self, Error> {
        match self.status {
            Status::Draft => {}
            Status::Published => return Err(not_now("the event is published already")),
            Status::Cancelled => return Err(not_now("the event was cancelled; make a new one instead")),
        }
        let mut event = Self { status: Status::Published, version: self.version + 1, ..self.clone() };
        assign_blocks(&mut event.details.areas, seats_of(plan), |_| false)?;
        if Inventory::new(plan, &event.details)?.is_empty() {
            return Err(bad("there is nothing to sell; give the event a seat plan or areas"));
        }
        Ok(event)
    }

    /// The event called off.
    ///
    /// # Errors
    /// [`Error::NotNow`] where it was cancelled before.
    pub fn cancel(&self) -> Result<Self, Error> {
        if self.status == Status::Cancelled {
            return Err(not_now("the event was cancelled already"));
        }
        Ok(Self { status: Status::Cancelled, version: self.version + 1, ..self.clone() })
    }

    /// The event with other capacities of some areas, down to what `taken` leaves.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an area; [`Error::NotNow`]; [`Error::BadEvent`].
    pub fn with_capacities(
        &self,
        capacities: &[(String, u32)],
        plan: Option<&SeatPlan>,
        taken: impl Fn(SeatNumber) -> bool,
    ) -> Result<Self, Error> {
        let mut event = self.changeable()?;
        for (key, capacity) in capacities {
            let area = event.details.areas.iter_mut().find(|area| area.key == *key);
            area.ok_or_else(|| Error::NotFound { what: "area", id: key.clone() })?.capacity = *capacity;
        }
        check_areas(&event.details)?;
        assign_blocks(&mut event.details.areas, seats_of(plan), taken)?;
        Inventory::new(plan, &event.details)?;
        Ok(event)
    }

    /// The event with these seats not sold, or sold again. What is sold stays sold.
    ///
    /// # Errors
    /// [`Error::NotNow`]; [`Error::BadEvent`] for numbers that are not there.
    pub fn with_blocked(
        &self,
        block: &[SeatNumber],
        unblock: &[SeatNumber],
        plan: Option<&SeatPlan>,
    ) -> Result<Self, Error> {
        let mut event = self.changeable()?;
        let mut blocked: std::collections::BTreeSet<u32> = super::inventory::numbers(&self.details.blocked).collect();
        blocked.extend(block.iter().map(|seat| seat.0));
        for seat in unblock {
            blocked.remove(&seat.0);
        }
        event.details.blocked = super::inventory::ranges(blocked);
        Inventory::new(plan, &event.details)?;
        Ok(event)
    }

    fn changeable(&self) -> Result<Self, Error> {
        match self.status {
            Status::Cancelled => Err(not_now("the event was cancelled; make a new one instead")),
            Status::Draft | Status::Published => Ok(Self { version: self.version + 1, ..self.clone() }),
        }
    }
}

fn seats_of(plan: Option<&SeatPlan>) -> u32 {
    plan.map_or(0, |plan| u32::try_from(plan.seats()).unwrap_or(u32::MAX))
}

/// Carries the numbers of a published event over, or says what would break them.
fn keep_numbers(before: &Event, event: &mut Event) -> Result<(), Error> {
    if event.plan != before.plan {
        return Err(not_now("the event is published, so its seat plan stays; make a new event instead"));
    }
    if event.currency != before.currency {
        let reason = format!("the event is published, so its currency stays {}", before.currency);
        return Err(not_now(reason));
    }
    for old in &before.details.areas {
        let Some(new) = event.details.areas.iter_mut().find(|new| new.key == old.key) else {
            let reason = format!("area `{}` cannot go, as its places have numbers; set its capacity to 0", old.key);
            return Err(not_now(reason));
        };
        (new.blocks, new.closed) = (old.blocks.clone(), old.closed.clone());
    }
    Ok(())
}

fn check_prices(details: &Details) -> Result<(), Error> {
    let levels = &details.price_levels;
    if levels.is_empty() || levels.len() > MAX_PRICE_LEVELS {
        return Err(bad(format!("`price_levels` has {} entries; give 1 to {MAX_PRICE_LEVELS}", levels.len())));
    }
    for (at, level) in levels.iter().enumerate() {
        let here = format!("price level `{}`", shown(&level.key));
        key(&here, &level.key)?;
        name(&format!("{here}: name"), level.name.clone())?;
        if levels[..at].iter().any(|other| other.key == level.key) {
            return Err(bad(format!("{here} is there twice; give each its own key")));
        }
        if !(0..=MAX_PRICE).contains(&level.price) {
            return Err(bad(format!("{here}: price {} is outside 0 to {MAX_PRICE} minor units", level.price)));
        }
        let digits = level.color.strip_prefix('#').unwrap_or_default();
        if digits.len() != 6 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(bad(format!("{here}: color `{}` is not of the form #rrggbb", shown(&level.color))));
        }
    }
    Ok(())
}

fn check_areas(details: &Details) -> Result<(), Error> {
    for (at, area) in details.areas.iter().enumerate() {
        let here = format!("area `{}`", shown(&area.key));
        key(&here, &area.key)?;
        name(&format!("{here}: name"), area.name.clone())?;
        if details.areas[..at].iter().any(|other| other.key == area.key) {
            return Err(bad(format!("{here} is there twice; give each its own key")));
        }
    }
    let capacity: u64 = details.areas.iter().map(|area| u64::from(area.capacity)).sum();
    if capacity > u64::from(MAX_TICKETS) {
        return Err(bad(format!("the areas hold {capacity} together; an event has {MAX_TICKETS} tickets at most")));
    }
    Ok(())
}

fn check_rules(details: &Details) -> Result<(), Error> {
    let rules = &details.rules;
    if !(1..=MAX_PER_CUSTOMER).contains(&rules.max_per_customer) {
        let given = rules.max_per_customer;
        return Err(bad(format!("`rules.max_per_customer` is {given}; give 1 to {MAX_PER_CUSTOMER}")));
    }
    if !HOLD_TTL_S.contains(&rules.hold_ttl_s) {
        let (least, most) = (HOLD_TTL_S.start(), HOLD_TTL_S.end());
        return Err(bad(format!("`rules.hold_ttl_s` is {}; give {least} to {most} seconds", rules.hold_ttl_s)));
    }
    let queue = &details.queue;
    if queue.max_inside == 0 || queue.admission_ttl_s == 0 || queue.admit_per_minute == Some(0) {
        return Err(bad("`queue`: `max_inside`, `admission_ttl_s` and `admit_per_minute` must be above zero"));
    }
    Ok(())
}

fn check_times(event: &Event) -> Result<(), Error> {
    let Details { doors_at, ends_at, on_sale_at, off_sale_at, .. } = &event.details;
    let starts_at = event.starts_at;
    if doors_at.is_some_and(|doors| doors > starts_at) {
        return Err(bad("`doors_at` is after `starts_at`; doors open first"));
    }
    if ends_at.is_some_and(|ends| ends < starts_at) {
        return Err(bad("`ends_at` is before `starts_at`"));
    }
    let until = off_sale_at.unwrap_or(starts_at);
    if on_sale_at.is_some_and(|from| from >= until) {
        return Err(bad(format!("`on_sale_at` is not before the sale ends at {until}")));
    }
    Ok(())
}

/// A short name in requests: letters, digits, `-`, `_` and `.`.
fn key(what: &str, key: &str) -> Result<(), Error> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if key.is_empty() || key.len() > 64 || !key.chars().all(fits) {
        return Err(bad(format!("{what}: a key has 1 to 64 letters, digits, `-`, `_` or `.`")));
    }
    Ok(())
}

fn name(what: &str, value: String) -> Result<String, Error> {
    let value = text(what, value, MAX_NAME_CHARS)?;
    if value.is_empty() {
        Err(bad(format!("`{what}` is empty; give 1 to {MAX_NAME_CHARS} characters")))
    } else {
        Ok(value)
    }
}

fn text(what: &str, value: String, most: usize) -> Result<String, Error> {
    let value = value.trim();
    let length = value.chars().count();
    if length > most {
        return Err(bad(format!("`{what}` has {length} characters; give {most} at most")));
    }
    // PostgreSQL takes no NUL, and other control characters are nobody's name.
    if let Some(control) = value.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(bad(format!("`{what}` has the control character {:#x}; leave it out", u32::from(control))));
    }
    Ok(value.to_owned())
}

/// A value fit for a message.
fn shown(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(60).collect()
}

fn bad(reason: impl Into<String>) -> Error {
    Error::BadEvent { reason: reason.into() }
}

fn not_now(reason: impl Into<String>) -> Error {
    Error::NotNow { reason: reason.into() }
}

#[cfg(test)]
mod tests;
