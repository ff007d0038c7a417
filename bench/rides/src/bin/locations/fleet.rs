//! Drivers of a continent: two hundred cities, the larger ones with more of them.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tessera_kernel::{Place, Timestamp, Uuid};
use tessera_rides::domain::ids::DriverId;
use tessera_rides::locations::Report;

/// Metres in a degree of latitude.
const METRES: f64 = 111_195.0;
/// How far a driver comes between two reports, metres.
const STEP_M: f64 = 40.0;

/// Who drives where.
pub struct Fleet {
    drivers: Vec<(DriverId, Place)>,
}

impl Fleet {
    /// So many, always the same.
    pub fn new(count: usize) -> Self {
        let mut dice = StdRng::seed_from_u64(7);
        let cities: Vec<(f64, f64, f64)> = (0..200)
            .map(|n| (dice.random_range(36.0..60.0), dice.random_range(-9.0..30.0), 1.0 / f64::from(n + 4)))
            .collect();
        let whole: f64 = cities.iter().map(|(.., share)| share).sum();
        let mut drivers = Vec::with_capacity(count);
        for number in 0..count {
            let mut left = dice.random_range(0.0..whole);
            let city = cities.iter().find(|(.., share)| {
                left -= share;
                left <= 0.0
            });
            let (lat, lng, _) = city.copied().unwrap_or(cities[0]);
            let Some(place) = around(lat, lng, &mut dice) else { continue };
            drivers.push((driver(number), place));
        }
        Self { drivers }
    }

    /// So many in one city.
    pub fn city(count: usize) -> Vec<(DriverId, Place)> {
        let mut dice = StdRng::seed_from_u64(7);
        (0..count).filter_map(|number| Some((driver(number), around(41.15, -8.61, &mut dice)?))).collect()
    }

    /// Who, and where at first.
    pub fn drivers(&self) -> &[(DriverId, Place)] {
        &self.drivers
    }

    /// What a driver reports in a round: there and back again, a little further east.
    pub fn report(&self, number: usize, round: u32, at: Timestamp) -> Report {
        let (driver, home) = self.drivers[number];
        Report { driver, place: moved(home, round), heading: Some(90), at }
    }
}

fn driver(number: usize) -> DriverId {
    DriverId::from(Uuid::from_u64_pair(0x7000_0000, number as u64))
}

/// Somewhere in a city; none at the edges of the map, which are nowhere near the middle of Europe.
fn around(lat: f64, lng: f64, dice: &mut StdRng) -> Option<Place> {
    // The sum of some even chances is near enough to a bell: most are within 8 km of the middle.
    let mut bell = || (0..4).map(|_| dice.random_range(-1.0..1.0)).sum::<f64>() * 6_000.0 / METRES;
    let (up, across) = (bell(), bell());
    Place::from_degrees(lat + up, lng + across / lat.to_radians().cos()).ok()
}

/// Where one is in a round who began here.
pub fn moved(home: Place, round: u32) -> Place {
    let east = (f64::from(round % 2) * STEP_M / METRES / home.lat().to_radians().cos() * 1e7) as i32;
    Place::from_e7(home.lat_e7(), home.lng_e7() + east).unwrap_or(home)
}
