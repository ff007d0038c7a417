//! Where riders are and want to go, and how far everything is from everything by road: asked once, by the product's own table.

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tessera_kernel::Place;
use tessera_rides::domain::traffic::{Conditions, Profile};
use tessera_rides::network::Network;

/// Each end of a trip is a place, and so are others around it, at most so far off in latitude and in longitude, degrees.
const AROUND: f64 = 0.0018;
/// Places of each end.
const PLACES: usize = 2;
/// The hour of the day, by which the roads are full.
const HOUR: usize = 9;

/// Places on roads.
pub struct Places {
    places: Vec<Place>,
    /// Row by row from each place to all, seconds; infinite where there is no way.
    seconds: Vec<f32>,
    metres: Vec<f32>,
    /// Trips: [`PLACES`] for the pickup, then as many for the destination.
    trips: usize,
}

impl Places {
    /// Those of trips, as lines of four numbers below a line of names.
    pub fn of(network: &Network, trips: &str) -> anyhow::Result<Self> {
        let mut dice = StdRng::seed_from_u64(1);
        let mut places = Vec::new();
        for line in trips.lines().skip(1) {
            let numbers: Vec<f64> =
                line.split(',').map(str::parse).collect::<Result<Vec<f64>, _>>().context(line.to_owned())?;
            anyhow::ensure!(numbers.len() == 4, "`{line}` has no four numbers");
            for end in numbers.chunks(2) {
                places.push((end[0], end[1]));
                for _ in 1..PLACES {
                    let mut near = |degrees: f64| degrees + dice.random_range(-AROUND..AROUND);
                    places.push((near(end[0]), near(end[1])));
                }
            }
        }
        let read = |(lat, lng): (f64, f64)| Place::from_degrees(lat, lng).map_err(anyhow::Error::msg);
        let places: Vec<Place> = places.into_iter().map(read).collect::<Result<_, _>>()?;
        let snap = |place: &Place| network.snap(*place).with_context(|| format!("no road is near {place}"));
        let snapped = places.iter().map(snap).collect::<Result<Vec<_>, _>>()?;
        let starts: Vec<_> = snapped.iter().copied().map(Some).collect();
        let count = places.len();
        let (mut seconds, mut metres) = (vec![0.0; count * count], vec![0.0; count * count]);
        let profile = Profile::default();
        let conditions = Conditions { profile: &profile, hour: HOUR, factor: 1.0 };
        for (to, end) in snapped.iter().enumerate() {
            for (from, time) in network.table(&starts, *end, &conditions).into_iter().enumerate() {
                seconds[from * count + to] = time.map_or(f32::INFINITY, |time| time as f32);
                metres[from * count + to] = places[from].distance_m(places[to]) as f32;
            }
        }
        Ok(Self { trips: count / PLACES / 2, places, seconds, metres })
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// From one to another by road, seconds.
    pub fn seconds(&self, from: usize, to: usize) -> f64 {
        f64::from(self.seconds[from * self.places.len() + to])
    }

    /// From one to another in a straight line.
    pub fn metres(&self, from: usize, to: usize) -> f64 {
        f64::from(self.metres[from * self.places.len() + to])
    }

    /// From where to where somebody wants to go.
    pub fn trip(&self, dice: &mut StdRng) -> (usize, usize) {
        let start = dice.random_range(0..self.trips) * PLACES * 2;
        (start + dice.random_range(0..PLACES), start + PLACES + dice.random_range(0..PLACES))
    }

    /// How long a trip takes.
    pub fn mean_trip_s(&self) -> f64 {
        self.mean(Self::seconds)
    }

    /// The line from pickup to destination.
    pub fn mean_trip_m(&self) -> f64 {
        self.mean(Self::metres)
    }

    fn mean(&self, of: impl Fn(&Self, usize, usize) -> f64) -> f64 {
        let starts = (0..self.trips).map(|trip| trip * PLACES * 2);
        starts.map(|start| of(self, start, start + PLACES)).sum::<f64>() / self.trips.max(1) as f64
    }
}
