//! What changes, as it happens: server-sent events of a ride, and of what a driver is asked.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::json;
use tessera_service::http::Path;
use tessera_service::{Identity, Problem};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::rides::asker;
use super::wire::RideBody;
use crate::Error;
use crate::app::{App, Asker, driver_of};
use crate::domain::ids::{DriverId, RideId};
use crate::domain::ride::Ride;

/// How often a position is told, and a quiet stream says that it is there.
const EVERY: Duration = Duration::from_secs(2);

fn event(name: &str, data: &serde_json::Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

fn ride_event(ride: &Ride, asker: &Asker) -> Bytes {
    event("ride", &json!(RideBody::new(ride, asker)))
}

fn answer(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    use futures::StreamExt;
    let body = Body::from_stream(events.map(Ok::<_, Infallible>));
    ([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], body).into_response()
}

/// A ride from now on: `ride` with each change, `position` of its driver every two seconds, with the seconds to the next stop.
#[utoipa::path(
    get,
    path = "/rides/{id}/stream",
    params(("id" = String, Path)),
    responses((status = 200, content_type = "text/event-stream"), (status = 404))
)]
pub(super) async fn ride(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<RideId>,
) -> Result<Response, Problem> {
    let asker = asker(&identity)?;
    // Watch first: what happens in between comes twice rather than never.
    let changes = app.hub.ride(id);
    let ride = Arc::new(app.ride(id, &asker).await?);
    let first = ride_event(&ride, &asker);
    let watch = Watch { app, asker, ride, changes, over: false };
    let rest = stream::unfold(watch, |mut watch| async {
        let next = watch.next().await?;
        Some((next, watch))
    });
    Ok(answer(futures::StreamExt::chain(stream::iter([first]), rest)))
}

/// Somebody who watches a ride.
struct Watch {
    app: App,
    asker: Asker,
    ride: Arc<Ride>,
    changes: Receiver<Arc<Ride>>,
    over: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let told = match tokio::time::timeout(EVERY, self.changes.recv()).await {
            Err(_) => return Some(self.position().await),
            Ok(Ok(ride)) => ride,
            Ok(Err(RecvError::Lagged(_))) => match self.app.store.ride(self.ride.id).await {
                Ok(Some(ride)) => Arc::new(ride),
                _ => return None,
            },
            Ok(Err(RecvError::Closed)) => return None,
        };
        self.over = told.state.is_final();
        self.ride = told;
        Some(ride_event(&self.ride, &self.asker))
    }

    /// Where the driver is, and how long it takes to the pickup or the destination.
    async fn position(&self) -> Bytes {
        let quiet = Bytes::from_static(b": still here\n\n");
        let Some(driver) = self.ride.driver else { return quiet };
        let Some(located) = self.app.index.get(driver) else { return quiet };
        let stop = match self.ride.picked_up_at {
            None => self.ride.estimate.pickup,
            Some(_) => self.ride.estimate.destination,
        };
        let times = self.app.routes.table(&[located.place], stop).await.unwrap_or_default();
        let eta_s = times.into_iter().flatten().next().map(f64::round);
        event(
            "position",
            &json!({ "place": located.place, "heading": located.heading, "at": located.at, "eta_s": eta_s }),
        )
    }
}

/// What a driver is asked and drives, from now on: `ride` with each change. Offers are open while the state is `offered`.
#[utoipa::path(
    get,
    path = "/drivers/{id}/stream",
    params(("id" = String, Path, description = "`me` for the caller")),
    responses((status = 200, content_type = "text/event-stream"), (status = 403))
)]
pub(super) async fn driver(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let asker = asker(&identity)?;
    let own = driver_of(&identity.subject);
    let id: DriverId = match id.as_str() {
        "me" => own,
        text => text.parse().map_err(|reason| Error::BadRequest { reason })?,
    };
    if asker != Asker::Operator && asker != Asker::Driver(id) {
        return Err(Error::Forbidden { what: format!("driver `{id}`") }.into());
    }
    let changes = app.hub.driver(id);
    let bound = app.store.ride_of_driver(id).await?;
    let first = bound.map(|ride| ride_event(&ride, &asker));
    let begin = Bytes::from_static(b"retry: 1000\n\n");
    let rest = stream::unfold((changes, asker), |(mut changes, asker)| async {
        let bytes = match tokio::time::timeout(EVERY * 5, changes.recv()).await {
            Err(_) => Bytes::from_static(b": still here\n\n"),
            Ok(Ok(ride)) => ride_event(&ride, &asker),
            Ok(Err(RecvError::Lagged(_))) => Bytes::from_static(b"event: reset\ndata: {}\n\n"),
            Ok(Err(RecvError::Closed)) => return None,
        };
        Some((bytes, (changes, asker)))
    });
    Ok(answer(futures::StreamExt::chain(stream::iter([Some(begin), first].into_iter().flatten()), rest)))
}
