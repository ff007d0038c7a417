//! The API of rides in types, as far as the city reads it.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tessera_kernel::{Money, Place, Timestamp};

use crate::Error;
use crate::client::{Ask, Call, Client};
use crate::domain::book::{self, State};
use crate::domain::roads::{Road, Roads, decode_line};

/// An estimate.
#[derive(Clone, Debug, Deserialize)]
pub struct Estimate {
    /// For the request.
    pub ride_id: String,
    /// What the ride costs.
    pub estimated_price: Money,
    /// The multiple in the price.
    pub surge: f64,
}

/// A driver is asked.
#[derive(Clone, Debug, Deserialize)]
pub struct Offer {
    /// Its id.
    pub offer_id: String,
    /// Who is asked.
    pub driver: String,
}

/// A ride, as far as it concerns who asks.
#[derive(Clone, Debug, Deserialize)]
pub struct Ride {
    /// Its id.
    pub ride_id: String,
    /// Where it stands.
    pub state: State,
    /// From where.
    pub pickup: Place,
    /// To where.
    pub destination: Place,
    /// What it costs.
    pub price: Money,
    /// How long it takes, seconds.
    pub duration_s: u32,
    /// The way, as an encoded polyline.
    pub route: String,
    /// For the rider only.
    #[serde(default)]
    pub code: Option<String>,
    /// Who rides; for operators only.
    #[serde(default)]
    pub rider: Option<String>,
    /// Who drives.
    #[serde(default)]
    pub driver: Option<String>,
    /// The offer that is open; for its driver.
    #[serde(default)]
    pub offer: Option<Offer>,
    /// When a driver accepted.
    #[serde(default)]
    pub accepted_at: Option<Timestamp>,
    /// How it was cancelled.
    #[serde(default)]
    pub cancellation: Option<Cancellation>,
}

/// How a ride was cancelled.
#[derive(Clone, Debug, Deserialize)]
pub struct Cancellation {
    /// By whom.
    pub by: String,
    /// What the rider owes for it.
    pub fee: Money,
}

/// What a driver gets who accepts.
#[derive(Clone, Debug, Deserialize)]
pub struct Accepted {
    /// The ride.
    #[serde(flatten)]
    pub ride: Ride,
    /// The way to the pickup, where the server knows one.
    pub route_to_pickup: Option<String>,
    /// Seconds to the pickup.
    pub pickup_s: Option<u32>,
}

/// A ride and what has happened to it.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    /// The ride.
    #[serde(flatten)]
    pub ride: Ride,
    /// The way of the driver who comes, where the server knows one.
    #[serde(default)]
    pub route_to_pickup: Option<String>,
    /// From the first event on.
    pub history: Vec<Event>,
}

/// Something that happened.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    version: u32,
    kind: String,
    at: Timestamp,
    #[serde(default)]
    state: Option<State>,
    #[serde(default)]
    offer: Option<Offer>,
}

impl From<Event> for book::Event {
    fn from(event: Event) -> Self {
        let Event { version, kind, at, state, offer } = event;
        let names = matches!(kind.as_str(), "offered" | "accepted");
        Self { version, kind, at, state, driver: offer.filter(|_| names).map(|offer| offer.driver) }
    }
}

/// A driver.
#[derive(Clone, Debug, Deserialize)]
pub struct Driver {
    /// Its id.
    pub id: String,
    /// Whether an operator lets it drive.
    pub approved: bool,
    /// Whether a shift is under way.
    pub on_duty: bool,
    /// Where, if known.
    #[serde(default)]
    pub place: Option<Place>,
}

/// An area.
#[derive(Clone, Debug, Deserialize)]
pub struct Area {
    /// The multiple of the price.
    pub surge: f64,
}

/// The answer to positions: for each, milliseconds until the next is due, or why it changed nothing.
#[derive(Clone, Debug, Deserialize)]
pub struct Updated {
    /// In the order in which they were sent.
    pub updates: Vec<Due>,
}

/// What came of one position.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Due {
    /// The next is due in so many milliseconds.
    InMs(u32),
    /// It changed nothing.
    Refused(String),
}

#[derive(Deserialize)]
struct MapBody {
    bounds: Bounds,
    roads: Vec<RoadBody>,
}

#[derive(Clone, Copy, Deserialize)]
struct Bounds {
    south: f64,
    west: f64,
    north: f64,
    east: f64,
}

#[derive(Deserialize)]
struct RoadBody {
    class: String,
    from: u32,
    to: u32,
    two_way: bool,
    line: String,
}

/// The roads of a city, and between which corners they lie.
#[derive(Clone, Debug)]
pub struct CityMap {
    /// The roads.
    pub roads: Roads,
    /// The corner in the south-west.
    pub south_west: Place,
    /// The corner in the north-east.
    pub north_east: Place,
}

impl Client {
    /// The roads of the server's city; `None` where it has no map.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn city_map(&self) -> Result<Option<CityMap>, Error> {
        let ask = Ask::get(Call::Office, "/map", None);
        let answer = self.send(&ask).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        let MapBody { bounds, roads } = answer.read(&ask)?;
        let corner = |lat: f64, lng: f64| {
            Place::from_degrees(lat, lng).map_err(|reason| Error::Unreadable { what: ask.what(), reason })
        };
        let roads = Roads::new(roads.iter().map(|body| {
            let RoadBody { class, from, to, two_way, line } = body;
            Road { class, from: *from, to: *to, two_way: *two_way, line: decode_line(line) }
        }));
        let (south_west, north_east) = (corner(bounds.south, bounds.west)?, corner(bounds.north, bounds.east)?);
        Ok(Some(CityMap { roads, south_west, north_east }))
    }

    /// A ride and its history.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn ride(&self, id: &str, token: &str) -> Result<Told, Error> {
        self.fetch(&Ask::get(Call::Ride, &format!("/rides/{id}"), Some(token))).await
    }

    /// Drivers that changed since.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn drivers(&self, since: Timestamp, token: &str) -> Result<Vec<Driver>, Error> {
        self.list(&format!("/drivers?updated_since={since}"), token).await
    }

    /// Areas with drivers or demand.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn areas(&self, token: &str) -> Result<Vec<Area>, Error> {
        self.fetch(&Ask::get(Call::Office, "/areas", Some(token))).await
    }

    /// A driver's profile, written; it must be approved.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn write_profile(&self, profile: &Value, token: &str) -> Result<Driver, Error> {
        self.fetch(&Ask::step(Call::Shift, Method::PUT, "/drivers/profile", token, profile.to_string())).await
    }

    /// An operator lets a driver drive.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn approve(&self, driver: &str, token: &str) -> Result<Driver, Error> {
        let path = format!("/drivers/{driver}/approval");
        self.fetch(&Ask::step(Call::Shift, Method::PUT, &path, token, r#"{"approved":true}"#)).await
    }

    /// A shift begins at a place, or ends.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn shift(&self, begins_at: Option<Place>, token: &str) -> Result<Driver, Error> {
        let body = match begins_at {
            Some(place) => json!({ "on_duty": true, "place": place }),
            None => json!({ "on_duty": false }),
        };
        self.fetch(&Ask::step(Call::Shift, Method::POST, "/drivers/shift", token, body.to_string())).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers everything alike.
    async fn answering(status: &'static str, body: String) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(&format!("http://{}", listener.local_addr().unwrap()), 1).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await.unwrap();
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all((head + &body).as_bytes()).await.unwrap();
            }
        });
        client
    }

    #[tokio::test]
    async fn a_map_becomes_roads_and_none_is_none() {
        let road = |from: u32, to: u32, two_way: bool| json!({ "class": "primary", "from": from, "to": to, "two_way": two_way, "line": "_p~iF~ps|U_ulLnnqC" });
        let bounds = json!({ "south": 38.5, "west": -121.0, "north": 40.7, "east": -120.0 });
        let body = json!({ "bounds": bounds, "attribution": "©", "roads": [road(12, 15, true), road(15, 40, false)] });
        let map = answering("200 OK", body.to_string()).await.city_map().await.unwrap().unwrap();
        assert_eq!((map.roads.junctions(), map.south_west.lat(), map.north_east.lng()), (3, 38.5, -120.0));
        let none = answering("404 Not Found", r#"{"code":"rides.no_map"}"#.into()).await;
        assert!(none.city_map().await.unwrap().is_none());
        let odd = answering("200 OK", r#"{"roads":7}"#.into()).await.city_map().await.unwrap_err().to_string();
        assert!(odd.contains("GET /map"), "{odd}");
    }

    #[test]
    fn what_operators_read_becomes_an_entry_of_the_books() {
        let told = json!({
            "ride_id": "ride_1", "state": "accepted", "version": 4, "pickup": { "lat": 41.15, "lng": -8.61 },
            "destination": { "lat": 41.16, "lng": -8.60 }, "price": { "amount": 500, "currency": "EUR" }, "surge": 1.0,
            "distance_m": 100, "duration_s": 60, "route": "", "driver": "driver_1",
            "history": [
                { "version": 1, "kind": "estimated", "at": "2026-11-21T10:00:00Z" },
                { "version": 2, "kind": "denied", "at": "2026-11-21T10:00:01Z", "state": "requested",
                  "offer": { "offer_id": "offer_1", "driver": "driver_1", "number": 1 } },
                { "version": 3, "kind": "offered", "at": "2026-11-21T10:00:01Z", "state": "offered",
                  "offer": { "offer_id": "offer_1", "driver": "driver_1", "number": 1 } },
            ],
        });
        let told: Told = serde_json::from_value(told).unwrap();
        let events: Vec<book::Event> = told.history.into_iter().map(Into::into).collect();
        assert_eq!(
            (told.ride.state, events[0].driver.as_deref(), events[1].driver.as_deref()),
            (State::Accepted, None, None)
        );
        assert_eq!((events[2].driver.as_deref(), events[2].state), (Some("driver_1"), Some(State::Offered)));
        let updated: Updated = serde_json::from_str(r#"{"next_update_ms":5000,"updates":[5000,"off_duty"]}"#).unwrap();
        assert!(matches!(updated.updates.as_slice(), [Due::InMs(5_000), Due::Refused(why)] if why == "off_duty"));
    }
}
