//! What changes, as it happens: a ride, and what a driver is asked. As server-sent events, or over a WebSocket where an upgrade is
//! asked for ([`super::sockets`]).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Value, json};
use tessera_service::Problem;
use tessera_service::http::Path;
use tessera_service::http::edge::Draining;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::rides::{asker, askers};
use super::sockets::{self, Guest, Watcher};
use super::wire::RideBody;
use crate::Error;
use crate::app::{App, Asker, driver_of};
use crate::domain::ids::{DriverId, RideId};
use crate::domain::ride::Ride;

/// How often a position is told, where there is one.
const EVERY: Duration = Duration::from_secs(2);
/// How often a quiet stream of a driver says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What a watcher is told.
#[derive(Debug)]
pub(super) enum Event {
    /// A ride as it is now.
    Ride(Value),
    /// Where the driver is.
    Position(Value),
    /// Changes were missed: read anew.
    Reset,
    /// Nothing new.
    Quiet,
}

impl Event {
    fn sse(&self) -> Bytes {
        let event = |name: &str, data: &Value| Bytes::from(format!("event: {name}\ndata: {data}\n\n"));
        match self {
            Self::Ride(data) => event("ride", data),
            Self::Position(data) => event("position", data),
            Self::Reset => Bytes::from_static(b"event: reset\ndata: {}\n\n"),
            Self::Quiet => Bytes::from_static(b": still here\n\n"),
        }
    }

    /// The same as the text of a frame; nothing where nothing is new, as frames have pings.
    pub(super) fn frame(&self) -> Option<String> {
        let (name, data) = match self {
            Self::Ride(data) => ("ride", data),
            Self::Position(data) => ("position", data),
            Self::Reset => return Some(r#"{"event":"reset","data":{}}"#.to_owned()),
            Self::Quiet => return None,
        };
        Some(format!(r#"{{"event":"{name}","data":{data}}}"#))
    }
}

/// Somebody who watches.
pub(super) enum Watch {
    /// A ride.
    Ride(RideWatch),
    /// A driver.
    Driver(DriverWatch),
}

impl Watch {
    /// The next event; none where there will not be any more.
    pub(super) async fn next(&mut self) -> Option<Event> {
        match self {
            Self::Ride(watch) => watch.next().await,
            Self::Driver(watch) => watch.next().await,
        }
    }
}

/// Whether the client asks for a WebSocket.
type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Answers as the client asks for it. A process that stops ends its streams, so that clients go to another one, and a stream ends
/// with its token.
fn answer(watch: Watch, guest: Guest, upgrade: Upgrade, draining: Option<Extension<Draining>>) -> Response {
    let stop = draining.map_or_else(CancellationToken::new, |Extension(Draining(stop))| stop);
    let signed_in = guest.signed_in_for();
    if let Ok(upgrade) = upgrade {
        return sockets::answer(upgrade, watch, guest, stop);
    }
    let begin = stream::iter([Bytes::from_static(b"retry: 1000\n\n")]);
    let events = stream::unfold(watch, |mut watch| async {
        let event = watch.next().await?;
        Some((event.sse(), watch))
    });
    let ended = async move {
        let _ = tokio::time::timeout(signed_in, stop.cancelled()).await;
    };
    let body = begin.chain(events).map(Ok::<_, Infallible>).take_until(ended);
    ([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], Body::from_stream(body)).into_response()
}

/// A ride from now on: `ride` with each change, `position` of its driver every two seconds, with the seconds to the next stop. Where
/// an upgrade is asked for, a WebSocket with `{"event", "data"}` in text frames, which is closed when the ride is over.
///
/// A browser, which sends no `authorization` with a WebSocket, asks for the protocols `tessera` and `bearer.` followed by its token.
#[utoipa::path(
    get,
    path = "/rides/{id}/stream",
    params(("id" = String, Path)),
    responses((status = 200, content_type = "text/event-stream"), (status = 101), (status = 404))
)]
pub(super) async fn ride(
    State(app): State<App>,
    Watcher(identity): Watcher,
    Path(id): Path<RideId>,
    draining: Option<Extension<Draining>>,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let askers = askers(&identity)?;
    // Watch first: what happens in between comes twice rather than never.
    let changes = app.hub.ride(id);
    let (ride, asker) = app.ride_of(id, &askers).await?;
    let ride = Arc::new(ride);
    let guest = Guest::new(&app, identity);
    let first = Some(Event::Ride(json!(RideBody::new(&ride, &asker))));
    let over = ride.state.is_final();
    let watch = RideWatch { app, asker, ride, changes, ticks: ticks(EVERY), first, over };
    Ok(answer(Watch::Ride(watch), guest, upgrade, draining))
}

/// What a driver is asked and drives, from now on: `ride` with each change. Offers are open while the state is `offered`. Where an
/// upgrade is asked for, a WebSocket with `{"event", "data"}` in text frames.
///
/// Over a WebSocket, here or of a ride, a driver sends positions too, in text frames as JSON or in binary ones in the compact form; each
/// frame is answered by `updated`, with the same as `POST /drivers/location/update`, or by `refused`, with `code` and `detail`.
///
/// A browser, which sends no `authorization` with a WebSocket, asks for the protocols `tessera` and `bearer.` followed by its token.
#[utoipa::path(
    get,
    path = "/drivers/{id}/stream",
    params(("id" = String, Path, description = "`me` for the caller")),
    responses((status = 200, content_type = "text/event-stream"), (status = 101), (status = 403))
)]
pub(super) async fn driver(
    State(app): State<App>,
    Watcher(identity): Watcher,
    Path(id): Path<String>,
    draining: Option<Extension<Draining>>,
    upgrade: Upgrade,
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
    let guest = Guest::new(&app, identity);
    let told = bound.as_ref().map(|ride| (ride.id, ride.version));
    let first = bound.map(|ride| Event::Ride(json!(RideBody::new(&ride, &asker))));
    let watch = DriverWatch { asker, told, changes, ticks: ticks(KEEP_ALIVE), first };
    Ok(answer(Watch::Driver(watch), guest, upgrade, draining))
}

/// Ticks from now on, each after the other however long one is waited for.
fn ticks(every: Duration) -> Interval {
    let mut ticks = interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Somebody who watches a ride.
pub(super) struct RideWatch {
    app: App,
    asker: Asker,
    ride: Arc<Ride>,
    changes: Receiver<Arc<Ride>>,
    ticks: Interval,
    first: Option<Event>,
    over: bool,
}

impl RideWatch {
    async fn next(&mut self) -> Option<Event> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            if self.over {
                return None;
            }
            let told = tokio::select! {
                // A change is told before a position.
                biased;
                told = self.changes.recv() => told,
                _ = self.ticks.tick() => return Some(self.position().await),
            };
            let told = match told {
                Ok(ride) => ride,
                Err(RecvError::Lagged(_)) => Arc::new(self.app.store.ride(self.ride.id).await.ok()??),
                Err(RecvError::Closed) => return None,
            };
            if told.version > self.ride.version {
                let concerns = self.asker.may_see(&told);
                if !concerns && told.bound_driver().is_some() {
                    // It has gone on to another driver meanwhile.
                    return None;
                }
                self.over = told.state.is_final() || !concerns;
                self.ride = told;
                return Some(Event::Ride(json!(RideBody::new(&self.ride, &self.asker))));
            }
        }
    }

    /// Where the driver is, and how long it takes to the pickup or the destination.
    async fn position(&self) -> Event {
        let Some(driver) = self.ride.driver else { return Event::Quiet };
        // Where the positions are away there is nothing to tell.
        let Ok(Some(located)) = self.app.locations.get(driver).await else { return Event::Quiet };
        let stop = match self.ride.picked_up_at {
            None => self.ride.estimate.pickup,
            Some(_) => self.ride.estimate.destination,
        };
        let times = self.app.routes.table(&[located.place], stop).await.unwrap_or_default();
        let eta_s = times.into_iter().flatten().next().map(f64::round);
        Event::Position(json!({
            "place": located.place, "heading": located.heading, "at": located.at, "eta_s": eta_s
        }))
    }
}

/// Somebody who watches what a driver is asked.
pub(super) struct DriverWatch {
    asker: Asker,
    /// The ride that was told last, and its version.
    told: Option<(RideId, u32)>,
    changes: Receiver<Arc<Ride>>,
    ticks: Interval,
    first: Option<Event>,
}

impl DriverWatch {
    async fn next(&mut self) -> Option<Event> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            let told = tokio::select! {
                biased;
                told = self.changes.recv() => told,
                _ = self.ticks.tick() => return Some(Event::Quiet),
            };
            match told {
                Ok(ride) if self.told.is_some_and(|(id, version)| id == ride.id && version >= ride.version) => {}
                Ok(ride) => {
                    self.told = Some((ride.id, ride.version));
                    if ride.bound_driver().is_some() && !self.asker.may_see(&ride) {
                        // What has gone on to another driver is no business of this one.
                        return Some(Event::Reset);
                    }
                    return Some(Event::Ride(json!(RideBody::new(&ride, &self.asker))));
                }
                Err(RecvError::Lagged(_)) => return Some(Event::Reset),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
