//! A price, and when somebody could be there.

use std::time::Duration;

use tessera_kernel::Place;

use super::App;
use crate::Error;
use crate::domain::area::area_of;
use crate::domain::ids::RideId;
use crate::domain::ride::{Estimate, Ride, State};

/// How near the ends of a ride may be, metres.
const SHORTEST_M: f64 = 50.0;
/// The longest ride that is offered, metres by line.
const LONGEST_M: f64 = 300_000.0;
/// How many drivers are asked of the road for the time to the pickup.
const NEAR: usize = 3;

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wish {
    /// From where.
    pub pickup: Place,
    /// To where.
    pub destination: Place,
}

impl App {
    /// Estimates a ride and keeps it as `estimated`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where it is too short or too long, [`Error::NoRoad`], [`Error::NoWay`], [`Error::Routes`], those
    /// of the database.
    pub async fn estimate(&self, rider: &str, wish: Wish) -> Result<Ride, Error> {
        let Wish { pickup, destination } = wish;
        let line = pickup.distance_m(destination);
        if line < SHORTEST_M {
            let reason = format!("pickup and destination are {line:.0} m apart; from {SHORTEST_M} m on it is a ride");
            return Err(Error::BadRequest { reason });
        }
        if line > LONGEST_M {
            let reason = format!(
                "pickup and destination are {:.0} km apart; up to {:.0} km it is a ride",
                line / 1e3,
                LONGEST_M / 1e3
            );
            return Err(Error::BadRequest { reason });
        }
        let route = self.routes.route(pickup, destination).await?;
        let area = area_of(pickup);
        let surge = self.surge(area);
        let price = self.config.tariff.price(route.distance_m, route.seconds, surge);
        let price = price.ok_or(Error::NoWay { from: pickup, to: destination })?;
        let pickup_s = self.pickup_s(pickup).await;
        let now = self.clock.now();
        let ride = Ride {
            id: RideId::from(self.ids.next()),
            rider: rider.to_owned(),
            state: State::Estimated,
            version: 1,
            area,
            estimate: Estimate {
                pickup,
                destination,
                price,
                surge,
                distance_m: route.distance_m.round() as u32,
                duration_s: route.seconds.round() as u32,
                pickup_s,
                route: route.line,
                expires_at: now.plus(Duration::from_secs(u64::from(self.config.estimate_ttl_s))),
            },
            code: format!("{:04}", rand::random_range(0..10_000)),
            driver: None,
            offer: None,
            offers: 0,
            requested_at: None,
            searching_since: None,
            nobody_yet_at: None,
            accepted_at: None,
            arrived_at: None,
            wrong_codes: 0,
            wrong_code_at: None,
            picked_up_at: None,
            ended_at: None,
            cancellation: None,
            created_at: now,
            updated_at: now,
        };
        self.store.insert(ride).await
    }

    /// Until the nearest free driver could be there, seconds; a hint, so that a fault of the engine is none of the estimate's.
    async fn pickup_s(&self, pickup: Place) -> Option<u32> {
        let matching = &self.config.matching;
        let radius = f64::from(matching.radius_max_m);
        let near = self.locations.nearest(pickup, NEAR, radius, self.clock.now(), |_| true).await.ok()?;
        let places: Vec<Place> = near.iter().map(|near| near.place).collect();
        let times = self.routes.table(&places, pickup).await.ok()?;
        times.into_iter().flatten().min_by(f64::total_cmp).map(|seconds| seconds.round() as u32)
    }
}
