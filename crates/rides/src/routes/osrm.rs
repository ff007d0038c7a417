//! An engine over HTTP that speaks OSRM's API (version 1): OSRM itself, or another with that interface.

use futures::future::BoxFuture;
use serde::Deserialize;
use tessera_kernel::Place;

use super::{Route, Routes, remote};
use crate::Error;

/// Routes from a server.
#[derive(Clone, Debug)]
pub struct Osrm {
    client: reqwest::Client,
    base: String,
}

#[derive(Deserialize)]
struct Answer {
    code: String,
    #[serde(default)]
    routes: Vec<Found>,
    #[serde(default)]
    durations: Vec<Vec<Option<f64>>>,
}

#[derive(Deserialize)]
struct Found {
    distance: f64,
    duration: f64,
    geometry: String,
}

impl Osrm {
    /// The server at `base`, such as `http://localhost:5000`.
    pub fn new(client: reqwest::Client, base: &str) -> Self {
        Self { client, base: base.trim_end_matches('/').to_owned() }
    }

    async fn ask(&self, path: String) -> Result<Answer, Error> {
        remote::answer(self.client.get(format!("{}{path}", self.base))).await
    }
}

fn coordinates<'a>(places: impl Iterator<Item = &'a Place>) -> String {
    let texts: Vec<String> = places.map(|place| format!("{:.7},{:.7}", place.lng(), place.lat())).collect();
    texts.join(";")
}

impl Routes for Osrm {
    fn route(&self, from: Place, to: Place) -> BoxFuture<'_, Result<Route, Error>> {
        Box::pin(async move {
            let places = coordinates([from, to].iter());
            let answer = self.ask(format!("/route/v1/driving/{places}?overview=full&geometries=polyline")).await?;
            match (answer.code.as_str(), answer.routes.into_iter().next()) {
                ("Ok", Some(found)) => {
                    Ok(Route { distance_m: found.distance, seconds: found.duration, line: found.geometry })
                }
                ("NoSegment", _) => Err(Error::NoRoad { what: "pickup or destination", place: from }),
                ("NoRoute", _) => Err(Error::NoWay { from, to }),
                (code, _) => Err(Error::Routes { reason: format!("it answers `{code}`") }),
            }
        })
    }

    fn table<'a>(&'a self, from: &'a [Place], to: Place) -> BoxFuture<'a, Result<Vec<Option<f64>>, Error>> {
        Box::pin(async move {
            if from.is_empty() {
                return Ok(Vec::new());
            }
            let places = coordinates(from.iter().chain([&to]));
            let sources: Vec<String> = (0..from.len()).map(|source| source.to_string()).collect();
            let (sources, destination) = (sources.join(";"), from.len());
            let path = format!("/table/v1/driving/{places}?sources={sources}&destinations={destination}");
            let answer = self.ask(path).await?;
            match answer.code.as_str() {
                "Ok" if answer.durations.len() == from.len() => {
                    Ok(answer.durations.into_iter().map(|row| row.first().copied().flatten()).collect())
                }
                code => Err(Error::Routes { reason: format!("it answers `{code}`") }),
            }
        })
    }
}
