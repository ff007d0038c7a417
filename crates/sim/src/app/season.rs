//! Puts a season on sale through the public API, as an organiser would.

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tessera_kernel::Timestamp;

use super::stage::levels;
use crate::Error;
use crate::api::id_of;
use crate::client::Client;
use crate::domain::season::{Event, Fixtures, Sale, Season, Venue, grouped};

/// Requests at the same time: the server writes them in batches.
const AT_ONCE: usize = 24;
/// Until how many hours before the start tickets are taken back, so that a visitor can try it.
const REFUNDABLE_UNTIL_H: u32 = 24;
/// The key of general admission.
const STANDING: &str = "standing";
/// Who may be inside the waiting room, and how many are let in each minute: slow enough to be watched.
const MAX_INSIDE: u32 = 100;
const ADMIT_PER_MINUTE: u32 = 60;

/// A season that is on sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// When it was made.
    pub made_at: Timestamp,
    /// Its events, the one that everybody wants first, then the one with the waiting room.
    pub events: Vec<String>,
}

/// Creates what is not there yet: the same moment again changes nothing, so that a load that was cut off goes on.
///
/// # Errors
/// Those of the client; [`Error::Usage`] for fixtures that do not hold together.
pub async fn load(client: &Client, token: &str, made_at: Timestamp) -> Result<Loaded, Error> {
    let fixtures = Fixtures::built_in().map_err(Error::Usage)?;
    let season = Season::at(made_at, &fixtures).map_err(Error::Usage)?;
    let loader = Loader { client, token, made_at };

    let house_of = |venue: &Venue| (venue.kind, venue.seats);
    let mut houses: Vec<_> = season.venues.iter().map(house_of).collect();
    houses.sort_unstable();
    houses.dedup();
    let plans = loader.all(houses.iter().map(|(kind, seats)| loader.plan(kind, *seats)).collect()).await?;
    let plan_of = |venue: &Venue| &plans[houses.partition_point(|house| *house < house_of(venue))];
    let venues = season.venues.iter().enumerate().map(|(at, venue)| loader.venue(at, venue, plan_of(venue)));
    let venues = loader.all(venues.collect()).await?;
    let performers = season.performers.iter().enumerate().map(|(at, name)| loader.performer(at, name));
    let performers = loader.all(performers.collect()).await?;
    let events = season.events.iter().enumerate().map(|(at, event)| {
        let kind = season.venues[event.venue].kind;
        let performers = event.performers.iter().map(|at| performers[*at].as_str()).collect();
        loader.event(at, event, &venues[event.venue], performers, kind)
    });
    Ok(Loaded { made_at, events: loader.all(events.collect()).await? })
}

struct Loader<'a> {
    client: &'a Client,
    token: &'a str,
    made_at: Timestamp,
}

impl Loader<'_> {
    async fn all<F>(&self, steps: Vec<F>) -> Result<Vec<String>, Error>
    where
        F: Future<Output = Result<String, Error>>,
    {
        stream::iter(steps).buffered(AT_ONCE).try_collect().await
    }

    /// Creates a thing under a key of this season and gives its id.
    async fn create(&self, path: &str, key: &str, body: &Value) -> Result<String, Error> {
        let key = format!("season-{}-{key}", self.made_at.micros());
        id_of(&self.client.office(path, self.token, &key, body).await?, path)
    }

    async fn plan(&self, kind: &str, seats: u32) -> Result<String, Error> {
        let article = if kind == "arena" { "An" } else { "A" };
        let name = format!("{article} {kind} of {}", grouped(seats));
        let body = json!({ "generate": { "kind": kind, "seats": seats, "name": name } });
        self.create("/organiser/plans", &format!("plan-{kind}-{seats}"), &body).await
    }

    async fn venue(&self, at: usize, venue: &Venue, plan: &str) -> Result<String, Error> {
        let Venue { name, city, country, lat, lng, zone, .. } = venue;
        let body = json!({
            "name": name, "city": city, "country": country, "lat": lat, "lng": lng, "timezone": zone.name(),
            "address": "Made up for this demo", "plan": plan,
        });
        self.create("/organiser/venues", &format!("venue-{at}"), &body).await
    }

    async fn performer(&self, at: usize, name: &str) -> Result<String, Error> {
        self.create("/organiser/performers", &format!("performer-{at}"), &json!({ "name": name })).await
    }

    async fn event(
        &self,
        at: usize,
        event: &Event,
        venue: &str,
        performers: Vec<&str>,
        kind: &str,
    ) -> Result<String, Error> {
        let mut levels = levels(kind, event.price_hundredths);
        let mut areas = Vec::new();
        if event.standing > 0 {
            levels.push(json!({ "key": STANDING, "name": "Standing", "price": 2_900, "color": "#7d8597" }));
            let area =
                json!({ "key": STANDING, "name": "Standing", "capacity": event.standing, "price_level": STANDING });
            areas.push(area);
        }
        let (on_sale_at, queue) = match event.sale {
            Sale::Open => (None, json!({ "mode": "off" })),
            Sale::Room { opens_in_min } => {
                let opens_at = self.made_at.plus(std::time::Duration::from_secs(60 * u64::from(opens_in_min)));
                let queue = json!({ "mode": "on", "max_inside": MAX_INSIDE, "admit_per_minute": ADMIT_PER_MINUTE });
                (Some(opens_at), queue)
            }
        };
        let body = json!({
            "name": event.name, "kind": event.kind, "venue": venue, "performers": performers,
            "starts_at": event.starts_at, "currency": event.currency, "description": event.description,
            "on_sale_at": on_sale_at, "price_levels": levels, "areas": areas, "queue": queue,
            "rules": { "refundable_until_h": REFUNDABLE_UNTIL_H },
        });
        let id = self.create("/organiser/events", &format!("event-{at}"), &body).await?;
        self.create(&format!("/organiser/events/{id}/publish"), &format!("publish-{at}"), &Value::Null).await
    }
}
