//! Finding events: what is asked, what is answered, and the trait of the engines that answer.
//!
//! Search is fed from the outbox and serves on when the database does not. An engine keeps, in the same commit as the
//! documents, how far it has read the feed: after a crash it goes on from there, and replicas need no coordination.

pub mod cache;
mod grid;
mod tantivy;
#[cfg(test)]
mod tests;
pub mod text;

use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tessera_kernel::{Currency, Place, Timestamp};

use crate::Error;
use crate::domain::ids::{EventId, PerformerId, VenueId};

pub use self::tantivy::{Tantivy, is_in_use};

/// The most hits of one page.
pub const MAX_LIMIT: usize = 100;
/// Words of a term beyond these are not looked at.
pub const MAX_WORDS: usize = 8;
/// The most values of one facet; the rarest are left out.
pub const MAX_FACET_VALUES: usize = 36;

/// An engine that finds events.
///
/// [`write`](Search::write) and [`clear`](Search::clear) become visible together at the next
/// [`commit`](Search::commit), or never. An engine elsewhere (OpenSearch) writes into an index under an alias, and a
/// rebuild into a new one that the commit swaps in; its position is a document of its own.
pub trait Search: Send + Sync {
    /// Puts and removes documents.
    fn write(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), Error>>;

    /// Removes all documents, those of earlier [`write`](Search::write)s too.
    fn clear(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Makes what was written visible and durable, and remembers `position` with it.
    fn commit(&self, position: Position) -> BoxFuture<'_, Result<(), Error>>;

    /// Spends some time on making later queries cheap; after a commit, such as that of a rebuild. What was written
    /// and not committed is dropped.
    fn compact(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// That of the last commit; `None` where there was none, and everything must be read.
    fn position(&self) -> Option<Position>;

    /// Goes up when answers may have changed.
    fn generation(&self) -> u64;

    /// Events that meet the query at the moment `now`.
    fn find(&self, query: Arc<Query>, now: Timestamp) -> BoxFuture<'_, Result<Hits, Error>>;
}

/// How far an index has followed the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The last row of the outbox that is in it.
    pub seq: i64,
    /// Which order to rebuild it has carried out.
    pub rebuild: i64,
}

/// A change of the index.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new or changed event.
    Put(Box<Document>),
    /// An event that is no longer to be found.
    Remove(EventId),
}

/// What is known of an event for finding and listing it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Its id.
    pub id: EventId,
    /// Its title.
    pub name: String,
    /// What sort of event.
    pub kind: String,
    /// Who plays.
    pub performers: Vec<Performer>,
    /// Where.
    pub venue: Venue,
    /// When it begins.
    pub starts_at: Timestamp,
    /// Of the prices.
    pub currency: Currency,
    /// The lowest price, minor units.
    pub price_from: Option<i64>,
    /// The highest price, minor units.
    pub price_to: Option<i64>,
    /// Whether tickets are left.
    pub available: bool,
    /// Roughly how many people are interested; only its order of magnitude counts.
    pub popularity: u64,
}

/// Who plays, for finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Performer {
    /// Its id.
    pub id: PerformerId,
    /// Its name.
    pub name: String,
}

/// Where an event is, for finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Venue {
    /// Its id.
    pub id: VenueId,
    /// Its name.
    pub name: String,
    /// Its city.
    pub city: String,
    /// Its country.
    pub country: String,
    /// Where on the earth, where that is known.
    pub place: Option<Place>,
    /// IANA name of its time zone, by which its events have a day.
    pub timezone: String,
}

/// What is asked. Equal queries have equal answers until the index changes, so it is the key of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Query {
    /// Words as typed. The last may be unfinished, unless a space follows it.
    pub term: String,
    /// Where.
    pub area: Option<Area>,
    /// Any of these kinds; empty for all.
    pub kinds: Vec<String>,
    /// On these days, first and last, as the venue's calendar has them: days since 1970-01-01. [`i32::MIN`] and
    /// [`i32::MAX`] leave an end open.
    pub days: Option<(i32, i32)>,
    /// Beginning at or after; from now on where neither this nor the first of `days` is set.
    pub from: Option<Timestamp>,
    /// Beginning before.
    pub until: Option<Timestamp>,
    /// With tickets for at least so much, minor units.
    pub price_min: Option<i64>,
    /// With tickets for at most so much, minor units.
    pub price_max: Option<i64>,
    /// Sold in this currency.
    pub currency: Option<Currency>,
    /// An id or a full name.
    pub performer: Option<String>,
    /// Whether to leave out what is sold out.
    pub availability: Availability,
    /// The order of the hits.
    pub sort: Sort,
    /// Where distances are measured from, where it is not the middle of a circle.
    pub near: Option<HashablePlace>,
    /// How many hits, at most [`MAX_LIMIT`].
    pub limit: usize,
    /// Behind which hit to go on.
    pub after: Option<Cursor>,
    /// Whether all that match are counted, and by what.
    pub counts: Counts,
}

/// Which events by what is left of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Availability {
    /// All.
    #[default]
    Any,
    /// Those with tickets left.
    Available,
}

/// Whether the whole answer is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Counts {
    /// The total and the facets.
    #[default]
    All,
    /// Neither; for further pages, and for suggestions while somebody types.
    None,
}

/// Where to search.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    /// A city by name; case and accents do not matter.
    City(String),
    /// A circle.
    Circle {
        /// Its middle.
        middle: HashablePlace,
        /// Its radius in metres.
        radius_m: u32,
    },
}

/// A place by its integers, which hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HashablePlace {
    lat_e7: i32,
    lng_e7: i32,
}

impl From<Place> for HashablePlace {
    fn from(place: Place) -> Self {
        Self { lat_e7: place.lat_e7(), lng_e7: place.lng_e7() }
    }
}

impl HashablePlace {
    /// The place that it was made from.
    pub fn place(self) -> Option<Place> {
        Place::from_e7(self.lat_e7, self.lng_e7).ok()
    }
}

impl Query {
    /// Where distances are measured from.
    pub fn middle(&self) -> Option<Place> {
        match (&self.area, &self.near) {
            (Some(Area::Circle { middle, .. }), _) | (_, Some(middle)) => middle.place(),
            _ => None,
        }
    }
}

/// The order of hits. Each is total: what is equal is ordered by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// How well the words match and where, then popularity, then the date.
    #[default]
    Relevance,
    /// The earliest first.
    Date,
    /// The cheapest first, those without a price last.
    Price,
    /// The nearest first, those without a place last.
    Distance,
}

/// How far words may be from what is in the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// Every word, the last perhaps unfinished.
    Exact,
    /// Every word, with a letter wrong, missing, too many or two swapped.
    Typos,
    /// At least one of the words.
    AnyWord,
}

/// A hit's place in the order: what comes behind it is the next page. It does not depend on what else is in the index,
/// so pages neither lose nor repeat what did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// By which order.
    pub sort: Sort,
    /// With which tolerance the first page was found.
    pub matched: Match,
    /// The hit's rank in that order, ascending.
    pub rank: u64,
    /// The hit.
    pub id: EventId,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hits {
    /// One page.
    pub items: Vec<Hit>,
    /// Counts of all that match; of the first page only.
    pub facets: Option<Facets>,
    /// How many match in all; of the first page only.
    pub total: Option<u64>,
    /// Where to go on; `None` on the last page.
    pub next: Option<Cursor>,
    /// How tolerantly it was found.
    pub matched: Match,
}

/// One event that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The event.
    pub document: Document,
    /// How far away, metres, where distances are measured.
    pub distance_m: Option<u32>,
}

/// How many of the matching events have which value, the most frequent first.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Facets {
    /// By kind.
    pub kind: Vec<(String, u64)>,
    /// By city.
    pub city: Vec<(String, u64)>,
    /// By month of the venue's calendar, `2027-05`, in the order of time.
    pub month: Vec<(String, u64)>,
}
