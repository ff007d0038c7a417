//! What goes over the wire, in snake_case; camel case is taken where clients are known to send it.

use serde::{Deserialize, Serialize};
use tessera_kernel::{Money, Place, Timestamp};
use utoipa::ToSchema;

use crate::Error;
use crate::app::{Asker, Wish};
use crate::domain::ids::{DriverId, OfferId, RideId};
use crate::domain::ride::{Cancellation, Offer, Ride, State};
use crate::store::{Driver, Profile};

/// `POST /fare-estimate`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EstimateRequest {
    /// From where.
    #[serde(alias = "pickupLocation")]
    #[schema(value_type = Object)]
    pickup: Place,
    /// To where.
    #[schema(value_type = Object)]
    destination: Place,
}

impl From<EstimateRequest> for Wish {
    fn from(body: EstimateRequest) -> Self {
        Self { pickup: body.pickup, destination: body.destination }
    }
}

/// The same in a query: `pickup=41.15,-8.61&destination=…`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct EstimateQuery {
    #[serde(alias = "pickupLocation")]
    pickup: Option<String>,
    destination: Option<String>,
}

impl EstimateQuery {
    /// The wish, where the query has one.
    pub(super) fn wish(&self) -> Result<Option<Wish>, Error> {
        let (Some(pickup), Some(destination)) = (&self.pickup, &self.destination) else { return Ok(None) };
        Ok(Some(Wish { pickup: place("pickup", pickup)?, destination: place("destination", destination)? }))
    }
}

/// `lat,lng`.
fn place(what: &str, text: &str) -> Result<Place, Error> {
    let bad = |reason: String| Error::BadRequest { reason };
    let numbers = text
        .split_once(',')
        .and_then(|(lat, lng)| Some((lat.trim().parse::<f64>().ok()?, lng.trim().parse::<f64>().ok()?)));
    let short: String = text.chars().take(40).collect();
    let (lat, lng) =
        numbers.ok_or_else(|| bad(format!("`{what}` is `{short}`; write latitude and longitude, 41.15,-8.61")))?;
    Place::from_degrees(lat, lng).map_err(|reason| bad(format!("`{what}`: {reason}")))
}

/// An estimate.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EstimateBody {
    /// For `PATCH /ride/request`.
    #[schema(value_type = String)]
    ride_id: RideId,
    #[schema(value_type = Object)]
    estimated_price: Money,
    /// Seconds until a driver could be there; null where nobody is near.
    estimated_pickup_time: Option<u32>,
    distance_m: u32,
    duration_s: u32,
    /// An encoded polyline, precision 5.
    route: String,
    /// Until when the price holds.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// The multiple in the price: 1.0 is none.
    surge: f64,
}

impl From<&Ride> for EstimateBody {
    fn from(ride: &Ride) -> Self {
        let estimate = &ride.estimate;
        Self {
            ride_id: ride.id,
            estimated_price: estimate.price,
            estimated_pickup_time: estimate.pickup_s,
            distance_m: estimate.distance_m,
            duration_s: estimate.duration_s,
            route: estimate.route.clone(),
            expires_at: estimate.expires_at,
            surge: f64::from(estimate.surge.0) / 100.0,
        }
    }
}

/// What is asked of a driver.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OfferBody {
    #[schema(value_type = String)]
    offer_id: OfferId,
    /// 1 for the first offer of the ride.
    number: u32,
    #[schema(value_type = String)]
    driver: DriverId,
    /// Silence until then counts as denial.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// To the pickup, seconds.
    eta_s: u32,
}

impl From<&Offer> for OfferBody {
    fn from(offer: &Offer) -> Self {
        Self {
            offer_id: offer.id,
            number: offer.number,
            driver: offer.driver,
            expires_at: offer.expires_at,
            eta_s: offer.eta_s,
        }
    }
}

/// A ride, as far as it concerns who asks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RideBody {
    #[schema(value_type = String)]
    ride_id: RideId,
    #[schema(value_type = String)]
    state: State,
    /// Grows with each change.
    version: u32,
    #[schema(value_type = Object)]
    pickup: Place,
    #[schema(value_type = Object)]
    destination: Place,
    #[schema(value_type = Object)]
    price: Money,
    surge: f64,
    distance_m: u32,
    duration_s: u32,
    route: String,
    /// Told to the driver at the pickup; only the rider sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// Who rides: the subject of the token; for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    rider: Option<String>,
    #[schema(value_type = Option<String>)]
    driver: Option<DriverId>,
    /// Open while the state is `offered`; for the driver asked, and for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<OfferBody>,
    #[schema(value_type = Option<String>, format = DateTime)]
    requested_at: Option<Timestamp>,
    /// When nobody had been found in time and the search went on; where the server lets rides keep their places.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    nobody_yet_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    accepted_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    arrived_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    picked_up_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    cancellation: Option<Cancellation>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl RideBody {
    /// What `asker` may see of it.
    pub(super) fn new(ride: &Ride, asker: &Asker) -> Self {
        let estimate = &ride.estimate;
        let sees = |driver: DriverId| match asker {
            Asker::Rider(_) => false,
            Asker::Driver(asked) => *asked == driver,
            Asker::Operator => true,
        };
        let open = ride.offer.as_ref().filter(|offer| ride.state == State::Offered && sees(offer.driver));
        let offer = open.map(OfferBody::from);
        Self {
            ride_id: ride.id,
            state: ride.state,
            version: ride.version,
            pickup: estimate.pickup,
            destination: estimate.destination,
            price: estimate.price,
            surge: f64::from(estimate.surge.0) / 100.0,
            distance_m: estimate.distance_m,
            duration_s: estimate.duration_s,
            route: estimate.route.clone(),
            code: matches!(asker, Asker::Rider(_)).then(|| ride.code.clone()),
            rider: (*asker == Asker::Operator).then(|| ride.rider.clone()),
            driver: ride.driver,
            offer,
            requested_at: ride.requested_at,
            nobody_yet_at: ride.nobody_yet_at,
            accepted_at: ride.accepted_at,
            arrived_at: ride.arrived_at,
            picked_up_at: ride.picked_up_at,
            ended_at: ride.ended_at,
            cancellation: ride.cancellation.clone(),
            created_at: ride.created_at,
            updated_at: ride.updated_at,
        }
    }
}

/// A driver.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DriverBody {
    #[schema(value_type = String)]
    id: DriverId,
    profile: Option<Profile>,
    approved: bool,
    on_duty: bool,
    /// Offers made and accepted.
    offered: u32,
    accepted: u32,
    /// Where, for operators and the driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    place: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heading: Option<u16>,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl DriverBody {
    pub(super) fn new(driver: Driver, located: Option<crate::locations::Located>) -> Self {
        Self {
            id: driver.id,
            profile: driver.profile,
            approved: driver.approved,
            on_duty: driver.on_duty,
            offered: driver.offered,
            accepted: driver.accepted,
            place: located.map(|located| located.place),
            heading: located.and_then(|located| located.heading),
            updated_at: driver.updated_at,
        }
    }
}
