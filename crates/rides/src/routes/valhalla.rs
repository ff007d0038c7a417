//! Valhalla over HTTP: its `route` and `sources_to_targets`, for cars.

use futures::future::BoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tessera_kernel::Place;

use super::{Route, Routes, polyline, remote};
use crate::Error;

/// The decimals of its lines.
const PRECISION: u8 = 6;
/// A place that is near no road.
const NO_ROAD: u32 = 171;
/// Places without a way between them.
const NO_WAY: u32 = 442;

/// Routes from a server.
#[derive(Clone, Debug)]
pub struct Valhalla {
    client: reqwest::Client,
    base: String,
}

/// An answer, or why there is none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Refused { error_code: u32, error: String },
    Given(T),
}

#[derive(Deserialize)]
struct Routed {
    trip: Trip,
}

#[derive(Deserialize)]
struct Trip {
    legs: Vec<Leg>,
    summary: Summary,
}

#[derive(Deserialize)]
struct Leg {
    shape: String,
}

#[derive(Deserialize)]
struct Summary {
    /// Seconds.
    time: f64,
    /// Kilometres, as asked.
    length: f64,
}

#[derive(Deserialize)]
struct Matrix {
    sources_to_targets: Vec<Vec<Cell>>,
}

#[derive(Deserialize)]
struct Cell {
    /// Seconds; nothing where there is no way.
    time: Option<f64>,
}

impl Valhalla {
    /// The server at `base`, such as `http://localhost:8002`.
    pub fn new(client: reqwest::Client, base: &str) -> Self {
        Self { client, base: base.trim_end_matches('/').to_owned() }
    }

    async fn ask<T: DeserializeOwned>(&self, action: &str, question: &Value) -> Result<Answer<T>, Error> {
        let body = question.to_string();
        let asked = self.client.post(format!("{}/{action}", self.base)).body(body);
        remote::answer(asked.header("content-type", "application/json")).await
    }
}

fn location(place: Place) -> Value {
    json!({ "lat": place.lat(), "lon": place.lng() })
}

impl Routes for Valhalla {
    fn route(&self, from: Place, to: Place) -> BoxFuture<'_, Result<Route, Error>> {
        Box::pin(async move {
            let question = json!({
                "locations": [location(from), location(to)],
                "costing": "auto", "units": "kilometers", "directions_type": "none",
            });
            let Routed { trip } = match self.ask("route", &question).await? {
                Answer::Given(routed) => routed,
                Answer::Refused { error_code: NO_ROAD, .. } => {
                    return Err(Error::NoRoad { what: "pickup or destination", place: from });
                }
                Answer::Refused { error_code: NO_WAY, .. } => return Err(Error::NoWay { from, to }),
                Answer::Refused { error, .. } => return Err(Error::Routes { reason: format!("it answers `{error}`") }),
            };
            let mut line: Vec<Place> = Vec::new();
            for leg in &trip.legs {
                let points = polyline::decode(&leg.shape, PRECISION);
                line.extend(points.ok_or_else(|| Error::Routes { reason: "its line cannot be read".into() })?);
            }
            let Summary { time, length } = trip.summary;
            Ok(Route { distance_m: length * 1_000.0, seconds: time, line: polyline::encode(&line) })
        })
    }

    fn table<'a>(&'a self, from: &'a [Place], to: Place) -> BoxFuture<'a, Result<Vec<Option<f64>>, Error>> {
        Box::pin(async move {
            if from.is_empty() {
                return Ok(Vec::new());
            }
            let sources: Vec<Value> = from.iter().copied().map(location).collect();
            let question = json!({ "sources": sources, "targets": [location(to)], "costing": "auto" });
            match self.ask("sources_to_targets", &question).await? {
                Answer::Given(Matrix { sources_to_targets: rows }) if rows.len() == from.len() => {
                    Ok(rows.into_iter().map(|row| row.first().and_then(|cell| cell.time)).collect())
                }
                Answer::Given(Matrix { sources_to_targets: rows }) => {
                    let reason = format!("it answers {} rows to {} sources", rows.len(), from.len());
                    Err(Error::Routes { reason })
                }
                Answer::Refused { error, .. } => Err(Error::Routes { reason: format!("it answers `{error}`") }),
            }
        })
    }
}
