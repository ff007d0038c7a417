//! An event: what, where, when, for how much, and by which rules it is sold.

use serde::{Deserialize, Serialize};
use tessera_kernel::{Currency, Timestamp};

use super::ids::{EventId, PerformerId, PlanId, VenueId};
use crate::Error;

/// The most seats and places of one event.
pub const MAX_TICKETS: u32 = 250_000;
/// The most price levels of one event.
pub const MAX_PRICE_LEVELS: usize = 64;

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Only its organiser sees it; its plan, levels and areas can be changed.
    Draft,
    /// Everyone sees it; it is sold between `on_sale_at` and `off_sale_at`.
    Published,
    /// Nothing is sold any more; what was sold is refunded.
    Cancelled,
}

impl Status {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Published => "published",
            Self::Cancelled => "cancelled",
        }
    }

    /// From what is stored.
    pub fn from_stored(text: &str) -> Option<Self> {
        [Self::Draft, Self::Published, Self::Cancelled].into_iter().find(|status| status.as_str() == text)
    }
}

/// An event as stored.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Event {
    /// Its id.
    #[schema(value_type = String)]
    pub id: EventId,
    /// Its title, 1 to 200 characters.
    pub name: String,
    /// What sort of event: `sport`, `concert`, `theatre` …, lower case.
    pub kind: String,
    /// Where it stands.
    pub status: Status,
    /// The subject that may change it.
    #[serde(skip)]
    pub organiser: String,
    /// Where it happens.
    #[schema(value_type = String)]
    pub venue: VenueId,
    /// The seats; none where it is all general admission.
    #[schema(value_type = Option<String>)]
    pub plan: Option<PlanId>,
    /// Who plays, in the order of the bill.
    #[schema(value_type = Vec<String>)]
    pub performers: Vec<PerformerId>,
    /// When it begins.
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: Timestamp,
    /// Of all its prices.
    #[schema(value_type = String)]
    pub currency: Currency,
    /// The rest.
    #[serde(flatten)]
    pub details: Details,
    /// Goes up with every change; the ETag of its page.
    pub version: i64,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// What is kept of an event as one JSON document. New fields have defaults, so that old documents are read.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Details {
    /// For people.
    pub description: String,
    /// When the doors open.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub doors_at: Option<Timestamp>,
    /// When it ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<Timestamp>,
    /// From when it is sold; at once where not set.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub on_sale_at: Option<Timestamp>,
    /// Until when it is sold; until it begins where not set.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub off_sale_at: Option<Timestamp>,
    /// What seats and places cost.
    pub price_levels: Vec<PriceLevel>,
    /// General admission beside the seats.
    pub areas: Vec<Area>,
    /// Seats that are not sold: first number and count.
    pub blocked: Vec<(u32, u32)>,
    /// How it is sold.
    pub rules: Rules,
    /// The waiting room.
    pub queue: Queue,
}

/// A price, and which seats have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceLevel {
    /// Its short name in requests, unique within the event: `stalls`.
    pub key: String,
    /// For people.
    pub name: String,
    /// Minor units of the event's currency for one ticket, fees included.
    pub price: i64,
    /// `#rrggbb` on the seat map.
    pub color: String,
    /// The categories of the seat plan that cost this.
    #[serde(default)]
    pub categories: Vec<String>,
}

/// A general-admission area: places without numbers for people, and with numbers for us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// Its short name, unique within the event: `standing`.
    pub key: String,
    /// For people.
    pub name: String,
    /// How many it holds.
    pub capacity: u32,
    /// The key of its price level.
    pub price_level: String,
    /// Its place numbers, as first and count, given out when the event is published; more capacity later is a further
    /// block.
    #[serde(default)]
    pub blocks: Vec<(u32, u32)>,
    /// Those of its places that are not sold, since its capacity went down.
    #[serde(default)]
    pub closed: Vec<(u32, u32)>,
}

/// How an event is sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Tickets that one customer may hold and own together.
    pub max_per_customer: u32,
    /// How long seats are kept for a buyer, seconds.
    pub hold_ttl_s: u32,
    /// Whether a hold may not leave a single free seat between taken ones.
    pub no_orphans: bool,
    /// Whether buyers may pass tickets on.
    pub transferable: bool,
    /// Until how many hours before the start a buyer may ask for the money back; never where not set.
    pub refundable_until_h: Option<u32>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { max_per_customer: 8, hold_ttl_s: 600, no_orphans: false, transferable: true, refundable_until_h: None }
    }
}

/// The waiting room of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Whether there is one.
    pub mode: QueueMode,
    /// How many are let in each minute; as many as fit where not set.
    pub admit_per_minute: Option<u32>,
    /// How many may be inside at a time.
    pub max_inside: u32,
    /// How long an admitted person may stay, seconds.
    pub admission_ttl_s: u32,
    /// In `auto`: arrivals a second from which it closes its doors.
    pub auto_arrivals_per_second: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            mode: QueueMode::Off,
            admit_per_minute: None,
            max_inside: 2_000,
            admission_ttl_s: 900,
            auto_arrivals_per_second: 200,
        }
    }
}

/// Whether an event has a waiting room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueMode {
    /// Everyone may reserve.
    #[default]
    Off,
    /// It closes its doors by itself when more arrive than it can take.
    Auto,
    /// Everyone waits until admitted.
    On,
}

impl Event {
    /// Whether seats are sold at this moment.
    ///
    /// # Errors
    /// [`Error::NotOnSale`], which says since or from when.
    pub fn check_on_sale(&self, now: Timestamp) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::NotOnSale { event: self.id, reason });
        match self.status {
            Status::Draft => return refuse("it is not published".into()),
            Status::Cancelled => return refuse("it was cancelled".into()),
            Status::Published => {}
        }
        if let Some(from) = self.details.on_sale_at.filter(|from| now < *from) {
            return refuse(format!("the sale begins at {from}"));
        }
        let until = self.details.off_sale_at.unwrap_or(self.starts_at);
        if now >= until {
            return refuse(format!("the sale ended at {until}"));
        }
        Ok(())
    }

    /// The price level with this key.
    pub fn price_level(&self, key: &str) -> Option<(usize, &PriceLevel)> {
        self.details.price_levels.iter().enumerate().find(|(_, level)| level.key == key)
    }
}
