//! Rides: estimates, requests, answers, states.

use axum::extract::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tessera_kernel::{Money, Place, Timestamp};
use tessera_service::http::{Json, List, Page, Path, Query, Since};
use tessera_service::{Identity, Problem};
use utoipa::ToSchema;

use super::wire::{EstimateBody, EstimateQuery, EstimateRequest, OfferBody, RideBody};
use crate::Error;
use crate::app::{App, Asker, Demand, StatusChange, Wish, driver_of};
use crate::domain::area::corners;
use crate::domain::ids::{OfferId, RideId};
use crate::domain::ride::{Ride, State as RideState};
use crate::store::{self, Profile, RidesOf};

/// Who asks, by the most that its token lets it be.
pub(super) fn asker(identity: &Identity) -> Result<Asker, tessera_service::Error> {
    identity.require(&["rider", "driver", "operator"])?;
    Ok(if identity.is("operator") {
        Asker::Operator
    } else if identity.is("driver") {
        Asker::Driver(driver_of(&identity.subject))
    } else {
        Asker::Rider(identity.subject.clone())
    })
}

/// As whom one may ask for a ride: a driver may have been its rider.
pub(super) fn askers(identity: &Identity) -> Result<Vec<Asker>, tessera_service::Error> {
    let most = asker(identity)?;
    let rides = matches!(most, Asker::Driver(_)) && identity.is("rider");
    let rider = rides.then(|| Asker::Rider(identity.subject.clone()));
    Ok(rider.into_iter().chain([most]).collect())
}

/// Estimates price, time and way of a ride. The query's form is `?pickup=lat,lng&destination=lat,lng`.
#[utoipa::path(
    post,
    path = "/fare-estimate",
    request_body = EstimateRequest,
    params(
        ("pickup" = Option<String>, Query, description = "lat,lng; instead of a body"),
        ("destination" = Option<String>, Query, description = "lat,lng; instead of a body"),
    ),
    responses((status = 200, body = EstimateBody), (status = 400, description = "no road there, too near, too far"))
)]
pub(super) async fn estimate(
    State(app): State<App>,
    identity: Identity,
    Query(query): Query<EstimateQuery>,
    body: Bytes,
) -> Result<Json<EstimateBody>, Problem> {
    identity.require(&["rider"])?;
    let wish: Wish = match query.wish()? {
        Some(wish) => wish,
        None => {
            let read: Result<EstimateRequest, _> = serde_json::from_slice(&body);
            let bad = |error: serde_json::Error| Error::BadRequest {
                reason: format!(
                    "the body is not an estimate's: {error}; send {{\"pickup\": {{\"lat\", \"lng\"}}, \"destination\": {{…}}}}"
                ),
            };
            read.map_err(bad)?.into()
        }
    };
    let ride = app.estimate(&identity.subject, wish).await?;
    Ok(Json(EstimateBody::from(&ride)))
}

/// Names a ride.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestBody {
    #[serde(alias = "rideId")]
    #[schema(value_type = String)]
    ride_id: RideId,
}

/// Books an estimate: a driver is looked for. The same again changes nothing.
#[utoipa::path(
    patch,
    path = "/ride/request",
    request_body = RequestBody,
    responses((status = 200, body = RideBody), (status = 410, description = "expired; `estimate` is a fresh one"))
)]
pub(super) async fn request(
    State(app): State<App>,
    identity: Identity,
    Json(body): Json<RequestBody>,
) -> Result<Json<RideBody>, Problem> {
    identity.require(&["rider"])?;
    let ride = app.request(&identity.subject, body.ride_id).await?;
    Ok(Json(RideBody::new(&ride, &Asker::Rider(identity.subject))))
}

/// A driver's answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RespondBody {
    #[serde(alias = "rideId")]
    #[schema(value_type = String)]
    ride_id: RideId,
    #[serde(alias = "offerId")]
    #[schema(value_type = String)]
    offer_id: OfferId,
    accept: bool,
}

/// What a driver gets who accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AcceptedBody {
    #[serde(flatten)]
    ride: RideBody,
    /// The way to the pickup as an encoded polyline; null where the engine of routes is away, or the offer was denied.
    route_to_pickup: Option<String>,
    /// Seconds to the pickup.
    pickup_s: Option<u32>,
}

/// Accepts or denies an offer. 409 says where the ride stands.
#[utoipa::path(
    patch,
    path = "/ride/driver/respond",
    request_body = RespondBody,
    responses((status = 200, body = AcceptedBody), (status = 409, description = "the offer is over"))
)]
pub(super) async fn respond(
    State(app): State<App>,
    identity: Identity,
    Json(body): Json<RespondBody>,
) -> Result<Json<AcceptedBody>, Problem> {
    identity.require(&["driver"])?;
    let driver = driver_of(&identity.subject);
    let ride = app.respond(driver, body.ride_id, body.offer_id, body.accept).await?;
    // The answer is given; where the positions are away, it is told without the way.
    let located = if body.accept { app.locations.get(driver).await.unwrap_or_default() } else { None };
    let way = match located {
        Some(located) => app.routes.route(located.place, ride.estimate.pickup).await.ok(),
        None => None,
    };
    Ok(Json(AcceptedBody {
        ride: RideBody::new(&ride, &Asker::Driver(driver)),
        pickup_s: way.as_ref().map(|way| way.seconds.round() as u32),
        route_to_pickup: way.map(|way| way.line),
    }))
}

/// What a driver says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusBody {
    #[serde(alias = "rideId")]
    #[schema(value_type = String)]
    ride_id: RideId,
    /// `arrived`, `picked_up_rider` or `completed`.
    status: String,
    /// With `picked_up_rider`: the rider's four digits.
    code: Option<String>,
}

/// The driver is at the pickup, has the rider, is at the destination. The same again changes nothing.
#[utoipa::path(
    patch,
    path = "/ride/status",
    request_body = StatusBody,
    responses((status = 200, body = RideBody), (status = 409, description = "not in this state, or a wrong code"))
)]
pub(super) async fn status(
    State(app): State<App>,
    identity: Identity,
    Json(body): Json<StatusBody>,
) -> Result<Json<RideBody>, Problem> {
    identity.require(&["driver"])?;
    let change = match (body.status.as_str(), body.code) {
        ("arrived", _) => StatusChange::Arrived,
        ("picked_up_rider", Some(code)) => StatusChange::PickedUp(code),
        ("picked_up_rider", None) => {
            return Err(Error::BadRequest { reason: "`picked_up_rider` needs the rider's `code`".into() }.into());
        }
        ("completed", _) => StatusChange::Completed,
        (other, _) => {
            let short: String = other.chars().take(40).collect();
            let reason = format!("`{short}` is no status; write arrived, picked_up_rider or completed");
            return Err(Error::BadRequest { reason }.into());
        }
    };
    let driver = driver_of(&identity.subject);
    let ride = app.set_status(driver, body.ride_id, change).await?;
    Ok(Json(RideBody::new(&ride, &Asker::Driver(driver))))
}

/// Ends a ride.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelBody {
    #[serde(alias = "rideId")]
    #[schema(value_type = String)]
    ride_id: RideId,
    /// In words, up to 200 characters.
    #[serde(default)]
    reason: String,
    /// A driver says so who waited long enough at the pickup.
    #[serde(default)]
    no_show: bool,
}

/// Ends a ride. Riders may until they are in the car, and pay a fee from some time after the acceptance on. A driver gives the ride
/// back to the line until then, or says that the rider does not come (`no_show`). An operator may at any time.
#[utoipa::path(
    post,
    path = "/ride/cancel",
    request_body = CancelBody,
    responses((status = 200, body = RideBody), (status = 409, description = "not in this state"))
)]
pub(super) async fn cancel(
    State(app): State<App>,
    identity: Identity,
    Json(body): Json<CancelBody>,
) -> Result<Json<RideBody>, Problem> {
    let askers = askers(&identity)?;
    let length = body.reason.chars().count();
    if length > 200 {
        let reason = format!("`reason` has {length} characters; it takes up to 200");
        return Err(Error::BadRequest { reason }.into());
    }
    let asker = match &*askers {
        [asker] => asker.clone(),
        several => app.ride_of(body.ride_id, several).await?.1,
    };
    let ride = app.cancel(&asker, body.ride_id, body.reason, body.no_show).await?;
    Ok(Json(RideBody::new(&ride, &asker)))
}

/// A ride, with what has happened to it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RideAndHistory {
    #[serde(flatten)]
    ride: RideBody,
    /// Who drives: what the rider looks out for.
    #[serde(skip_serializing_if = "Option::is_none")]
    driver_profile: Option<Profile>,
    /// The driver's way to the pickup as an encoded polyline, while the driver is on it and the engine of routes answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    route_to_pickup: Option<String>,
    /// What the rider owes for cancelling from `from` on; for riders whose driver has accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_fee: Option<CancelFeeBody>,
    history: Vec<EventBody>,
}

/// A fee, and from when on it is due.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CancelFeeBody {
    #[schema(value_type = Object)]
    fee: Money,
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
}

/// Something that happened.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventBody {
    version: u32,
    /// `estimated`, `requested`, `offered`, `denied`, `lapsed`, `accepted`, `arrived`, `wrong_code`, `picked_up_rider`, `completed`,
    /// `cancelled`, `expired`, `no_driver`, or `nobody_yet` where the search goes on. One of `cancelled` after which the state is `requested` is a driver who gave up.
    kind: String,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The state after it.
    #[schema(value_type = String)]
    state: RideState,
    /// The offer that was made, denied, let lapse or accepted; for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<OfferBody>,
}

impl EventBody {
    fn new(kind: String, ride: &Ride, asker: &Asker) -> Self {
        let answers = matches!(kind.as_str(), "offered" | "denied" | "lapsed" | "accepted");
        let offer = ride.offer.as_ref().filter(|_| answers && *asker == Asker::Operator).map(OfferBody::from);
        Self { version: ride.version, kind, at: ride.updated_at, state: ride.state, offer }
    }
}

/// A ride that concerns the caller, and its history.
#[utoipa::path(
    get,
    path = "/rides/{id}",
    params(("id" = String, Path)),
    responses((status = 200, body = RideAndHistory), (status = 404))
)]
pub(super) async fn show(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<RideId>,
) -> Result<Json<RideAndHistory>, Problem> {
    let (ride, asker) = app.ride_of(id, &askers(&identity)?).await?;
    // What has happened since the ride was read is another answer's.
    let history = app.store.history(id).await?.into_iter().filter(|(_, then)| then.version <= ride.version);
    let history = history.map(|(kind, then)| EventBody::new(kind, &then, &asker)).collect();
    let driver_profile = match ride.driver {
        Some(driver) => app.store.drivers(&[driver]).await?.pop().and_then(|driver| driver.profile),
        None => None,
    };
    let on_the_way = match ride.driver.filter(|_| ride.state == RideState::Accepted) {
        // The ride is shown without it, too.
        Some(driver) => app.locations.get(driver).await.unwrap_or_default(),
        None => None,
    };
    let route_to_pickup = match on_the_way {
        Some(located) => app.routes.route(located.place, ride.estimate.pickup).await.ok().map(|way| way.line),
        None => None,
    };
    let cancel_fee = match (&asker, ride.state, ride.accepted_at) {
        (Asker::Rider(_), RideState::Accepted | RideState::Arrived, Some(accepted)) => {
            let (fee, from) = app.config.tariff.late_cancellation(accepted);
            Some(CancelFeeBody { fee, from })
        }
        _ => None,
    };
    let ride = RideBody::new(&ride, &asker);
    Ok(Json(RideAndHistory { ride, driver_profile, route_to_pickup, cancel_fee, history }))
}

/// Rides of the caller, all of them for operators, the one changed the longest ago first.
#[utoipa::path(
    get,
    path = "/rides",
    params(
        ("updated_since" = Option<String>, Query),
        ("limit" = Option<u32>, Query),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, description = "items and next_cursor"))
)]
pub(super) async fn list(
    State(app): State<App>,
    identity: Identity,
    Query(since): Query<Since>,
    Query(page): Query<Page>,
) -> Result<Json<List<RideBody>>, Problem> {
    let asker = asker(&identity)?;
    let of = match &asker {
        Asker::Rider(subject) => RidesOf::Rider(subject),
        Asker::Driver(driver) => RidesOf::Driver(*driver),
        Asker::Operator => RidesOf::Everyone,
    };
    let part = store::Page { since: since.at(), after: page.after()?, limit: page.limit() as u32 + 1 };
    let rows = app.store.rides(of, part).await?;
    let List { items, next_cursor } = List::new(rows, page.limit(), |row| (row.updated_at, row.id));
    let items = items.iter().filter_map(|row| Some(RideBody::new(row.read.as_ref()?, &asker))).collect();
    Ok(Json(List { items, next_cursor }))
}

/// An area.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AreaBody {
    /// The H3 cell, hexadecimal.
    id: String,
    /// Its corners.
    #[schema(value_type = Vec<Object>)]
    corners: Vec<Place>,
    /// Rides that wait.
    waiting: u32,
    /// Free drivers.
    free: u32,
    /// The multiple of the price.
    surge: f64,
    /// When one of these numbers changed last.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// Areas with drivers or demand; with `updated_since` those that changed then or later, and so the ones that have neither any more,
/// for an hour.
#[utoipa::path(
    get,
    path = "/areas",
    params(("updated_since" = Option<String>, Query)),
    responses((status = 200, body = Vec<AreaBody>))
)]
pub(super) async fn areas(
    State(app): State<App>,
    identity: Identity,
    Query(since): Query<Since>,
) -> Result<Json<Vec<AreaBody>>, Problem> {
    identity.require(&["operator", "driver"])?;
    let is_wanted = |(_, demand): &(u64, Demand)| match since.said() {
        Some(since) => demand.changed_at >= since,
        None => demand.is_busy(),
    };
    let body = |(area, demand): (u64, Demand)| AreaBody {
        id: format!("{area:x}"),
        corners: corners(area),
        waiting: demand.waiting,
        free: demand.free,
        surge: f64::from(demand.surge.0) / 100.0,
        updated_at: demand.changed_at,
    };
    Ok(Json(app.demands().into_iter().filter(is_wanted).map(body).collect()))
}
