//! Where an on-sale takes place: one event, the people who come to it, and what is counted.

use std::time::Duration;

use serde_json::{Value, json};
use tessera_kernel::Timestamp;
use tessera_service::Keys;

use super::tally::Tally;
use crate::Error;
use crate::api::{Event, id_of};
use crate::client::Client;
use crate::domain::fan::{MAX_QUANTITY, Manner};
use crate::domain::map::Map;

/// How long a token of the crowd is good.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3_600);
/// How long before its event a sale begins.
const AHEAD: Duration = Duration::from_secs(60 * 86_400);
/// The key of the general admission.
const STANDING: &str = "standing";

/// Signs the tokens of the crowd with the installation's key.
#[derive(Clone)]
pub struct People {
    keys: Keys,
    /// Tells the people of one run from those of another.
    tag: String,
}

impl People {
    /// The people of a run.
    pub fn new(keys: Keys, tag: impl Into<String>) -> Self {
        Self { keys, tag: tag.into() }
    }

    /// What a fan is called.
    pub fn subject(&self, index: u64) -> String {
        format!("{}-{index}", self.tag)
    }

    /// The token of a fan.
    ///
    /// # Errors
    /// [`Error::Token`].
    pub fn fan(&self, index: u64) -> Result<String, Error> {
        self.sign(&self.subject(index), "fan")
    }

    /// The token of somebody else.
    ///
    /// # Errors
    /// [`Error::Token`].
    pub fn sign(&self, subject: &str, role: &str) -> Result<String, Error> {
        Ok(self.keys.sign_token(subject, &[role.to_owned()], TOKEN_TTL)?)
    }

    /// What tells the people of this run from those of another.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

/// An event and its crowd.
pub struct Stage {
    /// How the server is reached.
    pub client: Client,
    /// The event's id.
    pub event: String,
    /// Its rows.
    pub map: Map,
    /// The key of its general admission, where it has one.
    pub standing: Option<String>,
    /// Who comes.
    pub people: People,
    /// What there is to decide.
    pub manner: Manner,
    /// What happens.
    pub tally: Tally,
}

impl Stage {
    /// On an event that is there.
    ///
    /// # Errors
    /// Those of the client.
    pub async fn open(client: Client, event: String, people: People, hesitates: Duration) -> Result<Self, Error> {
        let Event { areas, .. } = client.event(&event).await?;
        let map = client.map(&event).await?;
        let manner = Manner {
            has_seats: !map.rows.is_empty(),
            has_standing: !areas.is_empty(),
            hesitates,
            patient_cards: false,
        };
        let standing = areas.into_iter().next().map(|area| area.key);
        Ok(Self { client, event, map, standing, people, manner, tally: Tally::default() })
    }
}

/// An event to be made for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct House {
    /// Numbered seats.
    pub seats: u32,
    /// Places without numbers.
    pub standing: u32,
    /// How long a hold lasts, seconds.
    pub hold_ttl_s: u32,
    /// The waiting room, where there is one.
    pub room: Option<Room>,
}

/// A waiting room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// How many may be inside.
    pub max_inside: u32,
    /// When its doors open, and the sale begins.
    pub doors_at: Timestamp,
}

/// A sort of house: its name for the generator, the fewest seats it has, its categories with prices.
type Sort = (&'static str, u32, &'static [(&'static str, i64)]);

/// From the largest down.
const SORTS: [Sort; 3] = [
    (
        "stadium",
        2_000,
        &[("Category 1", 9_500), ("Category 2", 7_500), ("Club", 18_000), ("Category 3", 5_500), ("Category 4", 3_900)],
    ),
    (
        "arena",
        500,
        &[("Floor", 9_000), ("Lower sides", 7_500), ("Lower end", 6_500), ("Upper sides", 4_900), ("Upper end", 3_900)],
    ),
    ("theatre", 50, &[("Premium", 8_500), ("Stalls", 6_500), ("Circle", 4_900), ("Gallery", 2_900)]),
];
const COLORS: [&str; 5] = ["#8e2f5c", "#c2493d", "#b08a2e", "#4f8a6d", "#5b7f95"];

/// The sort of house for so many seats.
pub fn sort(seats: u32) -> Option<&'static str> {
    SORTS.iter().find(|(_, least, _)| seats >= *least).map(|(kind, ..)| *kind)
}

/// The price levels of a sort of house, each a category; prices are multiplied by `hundredths`.
pub fn levels(kind: &str, hundredths: i64) -> Vec<Value> {
    let categories = SORTS.iter().find(|(name, ..)| *name == kind).map_or(&[][..], |(_, _, categories)| categories);
    let level = |(at, (name, price)): (usize, &(&str, i64))| {
        let key = name.to_lowercase().replace(' ', "-");
        let price = price * hundredths / 100;
        json!({ "key": key, "name": name, "price": price, "color": COLORS[at % COLORS.len()], "categories": [name] })
    };
    categories.iter().enumerate().map(level).collect()
}

impl House {
    /// Makes venue, plan and event as an organiser, publishes it, and gives its id.
    ///
    /// # Errors
    /// [`Error::Usage`] for a house that nobody builds; those of the client.
    pub async fn build(&self, client: &Client, token: &str, tag: &str, now: Timestamp) -> Result<String, Error> {
        let few = || Error::Usage(format!("`--seats {}` are too few: give 0, or 50 and more", self.seats));
        let (plan, mut prices) = match self.seats {
            0 => (None, Vec::new()),
            seats => {
                let kind = sort(seats).ok_or_else(few)?;
                let wanted = json!({ "generate": { "kind": kind, "seats": seats } });
                let plan = client.office("/organiser/plans", token, &format!("{tag}-plan"), &wanted).await?;
                (Some(id_of(&plan, "POST /organiser/plans")?), levels(kind, 100))
            }
        };
        let mut areas = Vec::new();
        if self.standing > 0 {
            prices.push(json!({ "key": STANDING, "name": "Standing", "price": 2_500, "color": "#7d8597" }));
            let area =
                json!({ "key": STANDING, "name": "Standing", "capacity": self.standing, "price_level": STANDING });
            areas.push(area);
        }
        if prices.is_empty() {
            return Err(Error::Usage("there is nothing to sell; give `--seats` or `--standing`".into()));
        }
        let venue = json!({
            "name": format!("House of {tag}"), "city": "Lisboa", "country": "Portugal",
            "address": "made up for a simulation", "lat": 38.72, "lng": -9.14, "timezone": "Europe/Lisbon",
        });
        let venue = client.office("/organiser/venues", token, &format!("{tag}-venue"), &venue).await?;
        let queue = match self.room {
            None => json!({ "mode": "off" }),
            Some(room) => json!({ "mode": "on", "max_inside": room.max_inside }),
        };
        let event = json!({
            "name": format!("On-sale {tag}"), "kind": "concert", "venue": id_of(&venue, "POST /organiser/venues")?,
            "plan": plan, "seated": plan.is_some(), "starts_at": now.plus(AHEAD), "currency": "EUR",
            "description": "Made up for a simulation.", "on_sale_at": self.room.map(|room| room.doors_at),
            "price_levels": prices, "areas": areas, "queue": queue,
            "rules": { "max_per_customer": MAX_QUANTITY, "hold_ttl_s": self.hold_ttl_s },
        });
        let event = client.office("/organiser/events", token, &format!("{tag}-event"), &event).await?;
        let event = id_of(&event, "POST /organiser/events")?;
        let path = format!("/organiser/events/{event}/publish");
        client.office(&path, token, &format!("{tag}-publish"), &Value::Null).await?;
        Ok(event)
    }
}
