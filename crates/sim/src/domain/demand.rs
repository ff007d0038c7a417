//! Who wants to go from where to where, and when: drawn from the seed before anybody sets out.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};
use tessera_kernel::Place;

use super::fan::rng;
use super::roads::Roads;

/// Where people of Porto went by taxi; see `data/LICENSE-porto-trips.md`.
const PORTO: &str = include_str!("../../data/porto-trips.csv");
/// About how far from a taxi's stop a rider stands, metres.
const AROUND_M: f64 = 60.0;
/// No ride is shorter, metres by line.
const SHORTEST_M: f64 = 300.0;
/// Pairs of junctions where there are no trips to draw from.
const PAIRS: usize = 500;
/// How far the hot place of a rush reaches, metres.
pub const HOT_M: f64 = 600.0;
/// Arrivals, riders, and pairs draw from randomness of their own.
const ARRIVALS: u64 = 1 << 41;
const PLACES: u64 = 1 << 42;
const RUSH: u64 = ARRIVALS + 1;

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trip {
    /// From where.
    pub pickup: Place,
    /// To where.
    pub destination: Place,
}

/// The trips that people make in a city.
#[derive(Clone, Debug, PartialEq)]
pub struct Trips {
    trips: Vec<Trip>,
    /// No line from a pickup to a destination is longer, metres, a few steps apart.
    longest_m: f64,
}

impl Trips {
    /// Those of Porto.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn porto() -> Result<Self, String> {
        let read = |line: &str| -> Option<Trip> {
            let numbers: Vec<f64> = line.split(',').map_while(|number| number.parse().ok()).collect();
            let &[lat, lng, to_lat, to_lng] = numbers.as_slice() else { return None };
            let (pickup, destination) =
                (Place::from_degrees(lat, lng).ok()?, Place::from_degrees(to_lat, to_lng).ok()?);
            Some(Trip { pickup, destination })
        };
        let lines = PORTO.lines().skip(1);
        let trips: Option<Vec<Trip>> = lines.map(read).collect();
        trips.map(Self::from).ok_or_else(|| "the packaged trips of Porto cannot be read".to_owned())
    }

    /// Between random junctions; none where there are no two of them far enough apart.
    pub fn between_junctions(roads: &Roads, seed: u64) -> Self {
        let mut rng = rng(seed, PLACES);
        let mut junction = || roads.place(roads.any(&mut rng)?);
        let pairs = std::iter::repeat_with(|| Some(Trip { pickup: junction()?, destination: junction()? }));
        let far = |trip: &Trip| trip.pickup.distance_m(trip.destination) >= SHORTEST_M;
        Self::from(pairs.take(20 * PAIRS).map_while(|trip| trip).filter(far).take(PAIRS).collect::<Vec<_>>())
    }

    /// Those that lie between the corners in the south-west and the north-east.
    pub fn within(self, south_west: Place, north_east: Place) -> Self {
        let lies = |place: Place| {
            (south_west.lat()..=north_east.lat()).contains(&place.lat())
                && (south_west.lng()..=north_east.lng()).contains(&place.lng())
        };
        let trips = self.trips.into_iter().filter(|trip| lies(trip.pickup) && lies(trip.destination)).collect();
        Self { trips, ..self }
    }

    /// Those whose line is no longer than so many metres.
    pub fn up_to(self, longest_m: f64) -> Self {
        let is_short = |trip: &Trip| trip.pickup.distance_m(trip.destination) <= longest_m;
        Self { trips: self.trips.into_iter().filter(is_short).collect(), longest_m }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.trips.is_empty()
    }

    /// One of them, its ends a few steps off.
    pub fn draw(&self, rng: &mut StdRng) -> Option<Trip> {
        let trip = self.trips.get(rng.random_range(0..self.trips.len().max(1)))?;
        for _ in 0..10 {
            let near =
                Trip { pickup: near(trip.pickup, AROUND_M, rng), destination: near(trip.destination, AROUND_M, rng) };
            if near.pickup.distance_m(near.destination) >= SHORTEST_M {
                return Some(near);
            }
        }
        Some(*trip)
    }

    /// One that begins within so many metres of a place.
    pub fn draw_from(&self, place: Place, within_m: f64, rng: &mut StdRng) -> Option<Trip> {
        let pickup = near(place, within_m, rng);
        let mut far = None;
        for _ in 0..20 {
            let trip = self.draw(rng)?;
            let there = if rng.random_range(0..2_u32) == 0 { trip.pickup } else { trip.destination };
            if (SHORTEST_M..=self.longest_m).contains(&there.distance_m(pickup)) {
                far = Some(there);
                break;
            }
        }
        far.map(|destination| Trip { pickup, destination })
    }
}

impl From<Vec<Trip>> for Trips {
    fn from(trips: Vec<Trip>) -> Self {
        Self { trips, longest_m: f64::INFINITY }
    }
}

/// Somewhere within so many metres, any place as likely as another.
pub fn near(place: Place, within_m: f64, rng: &mut StdRng) -> Place {
    let (turn, share): (f64, f64) = (rng.random_range(0.0..std::f64::consts::TAU), rng.random_range(0.0..1.0));
    let far = within_m * share.sqrt() / 111_195.0;
    let narrow = place.lat().to_radians().cos().max(0.01);
    Place::from_degrees(place.lat() + far * turn.cos(), place.lng() + far * turn.sin() / narrow).unwrap_or(place)
}

/// How many people want to ride.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// In the whole city.
    pub per_minute: f64,
    /// In the middle third of the run requests are so many times as many; those that are added begin in one hot place.
    pub surge: f64,
    /// From the first request to the last.
    pub lasts: Duration,
}

/// Somebody who wants to ride.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// Since the beginning of the run.
    pub at: Duration,
    /// From where to where.
    pub trip: Trip,
    /// Whether it is one more in the rush.
    pub is_hot: bool,
}

impl Demand {
    /// Everyone who comes, in the order in which they come: two Poisson processes, one of the city and one of the rush.
    pub fn all(&self, seed: u64, trips: &Trips) -> Vec<Wanted> {
        let third = self.lasts / 3;
        let everyday = arrivals(&mut rng(seed, ARRIVALS), self.per_minute, Duration::ZERO, self.lasts);
        let rush = arrivals(&mut rng(seed, RUSH), self.per_minute * (self.surge - 1.0), third, third * 2);
        let hot = trips.draw(&mut rng(seed, PLACES + 1)).map(|trip| trip.pickup);
        let mut times: Vec<(Duration, bool)> = everyday.into_iter().map(|at| (at, false)).collect();
        times.extend(rush.into_iter().map(|at| (at, true)));
        times.sort_unstable();
        let wanted = |(number, (at, is_hot)): (usize, (Duration, bool))| {
            let mut rng = rng(seed, PLACES + 2 + number as u64);
            let trip = if is_hot { trips.draw_from(hot?, HOT_M, &mut rng) } else { trips.draw(&mut rng) }?;
            Some(Wanted { at, trip, is_hot })
        };
        times.into_iter().enumerate().filter_map(wanted).collect()
    }
}

/// The moments of a Poisson process.
fn arrivals(rng: &mut StdRng, per_minute: f64, from: Duration, until: Duration) -> Vec<Duration> {
    let mut times = Vec::new();
    if per_minute <= 0.0 {
        return times;
    }
    let mut at = from.as_secs_f64();
    loop {
        at -= (1.0 - rng.random_range(0.0..1.0_f64)).ln() * 60.0 / per_minute;
        if at >= until.as_secs_f64() {
            return times;
        }
        times.push(Duration::from_secs_f64(at));
    }
}

/// What was drawn, in 16 hexadecimal digits.
pub fn digest(drawn: impl IntoIterator<Item = String>) -> String {
    let hash = drawn.into_iter().fold(Sha256::new(), |hash, text| hash.chain_update(text));
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn porto_has_trips() {
        let trips = Trips::porto().unwrap();
        assert!(trips.trips.len() > 100, "{}", trips.trips.len());
        let centre = Place::from_degrees(41.15, -8.60).unwrap();
        assert!(trips.trips.iter().all(|trip| trip.pickup.distance_m(centre) < 5_000.0));
        assert!(!trips.clone().within(Place::from_degrees(41.0, -9.0).unwrap(), centre).is_empty());
        assert!(trips.clone().within(centre, centre).is_empty());
        let (short, rng) = (trips.up_to(1_500.0), &mut rng(1, 1));
        let length = |trip: Trip| trip.pickup.distance_m(trip.destination);
        assert!((0..100).all(|_| short.draw(rng).map(length).unwrap() < 1_500.0 + 2.0 * AROUND_M));
        assert!((0..100).filter_map(|_| short.draw_from(centre, 600.0, rng)).all(|trip| length(trip) <= 1_500.0));
        assert!(short.up_to(10.0).is_empty());
    }

    #[test]
    fn a_seed_repeats_its_demand() {
        let (trips, demand) =
            (Trips::porto().unwrap(), Demand { per_minute: 60.0, surge: 1.0, lasts: Duration::from_secs(600) });
        let first = demand.all(7, &trips);
        assert_eq!(first, demand.all(7, &trips));
        assert_ne!(first, demand.all(8, &trips));
        assert!((500..700).contains(&first.len()), "{}", first.len());
        assert!(first.is_sorted_by_key(|wanted| wanted.at));
        assert!(first.iter().all(|wanted| wanted.trip.pickup.distance_m(wanted.trip.destination) >= SHORTEST_M));
    }

    #[test]
    fn a_rush_comes_in_the_middle_and_from_one_place() {
        let (trips, demand) =
            (Trips::porto().unwrap(), Demand { per_minute: 60.0, surge: 3.0, lasts: Duration::from_secs(900) });
        let all = demand.all(3, &trips);
        let hot: Vec<&Wanted> = all.iter().filter(|wanted| wanted.is_hot).collect();
        assert!((450..750).contains(&hot.len()), "{}", hot.len());
        assert!(hot.iter().all(|wanted| (300..600).contains(&wanted.at.as_secs())));
        let first = hot[0].trip.pickup;
        assert!(hot.iter().all(|wanted| wanted.trip.pickup.distance_m(first) <= 2.1 * HOT_M));
        let calm = Demand { surge: 1.0, ..demand }.all(3, &trips);
        assert!(calm.iter().all(|wanted| !wanted.is_hot) && calm.len() + hot.len() == all.len());
    }
}
