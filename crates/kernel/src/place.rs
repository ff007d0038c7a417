//! A place on the earth: latitude and longitude as integers of 1e-7 degree, about a centimetre.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Units in a degree.
const PER_DEGREE: f64 = 1e7;
/// The poles and the date line.
const MAX_LAT_E7: u32 = 900_000_000;
const MAX_LNG_E7: u32 = 1_800_000_000;
/// Mean radius of the earth (IUGG), metres.
pub const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// A checked place. On the wire `{"lat": 38.7223, "lng": -9.1393}` in degrees (WGS 84).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Degrees", into = "Degrees")]
pub struct Place {
    lat_e7: i32,
    lng_e7: i32,
}

#[derive(Serialize, Deserialize)]
struct Degrees {
    lat: f64,
    lng: f64,
}

impl Place {
    /// From degrees: latitude -90 to 90, longitude -180 to 180.
    ///
    /// # Errors
    /// A text that names the value that is outside.
    pub fn from_degrees(lat: f64, lng: f64) -> Result<Self, String> {
        if !(-90.0..=90.0).contains(&lat) {
            return Err(format!("latitude {lat} is outside -90 to 90 degrees"));
        }
        if !(-180.0..=180.0).contains(&lng) {
            return Err(format!("longitude {lng} is outside -180 to 180 degrees"));
        }
        // Within ±1.8e9, so it fits.
        Ok(Self { lat_e7: (lat * PER_DEGREE).round() as i32, lng_e7: (lng * PER_DEGREE).round() as i32 })
    }

    /// From units of 1e-7 degree, as stored.
    ///
    /// # Errors
    /// A text that names the value that is outside.
    pub fn from_e7(lat_e7: i32, lng_e7: i32) -> Result<Self, String> {
        if lat_e7.unsigned_abs() > MAX_LAT_E7 || lng_e7.unsigned_abs() > MAX_LNG_E7 {
            // It says which.
            return Self::from_degrees(f64::from(lat_e7) / PER_DEGREE, f64::from(lng_e7) / PER_DEGREE);
        }
        Ok(Self { lat_e7, lng_e7 })
    }

    /// Latitude in units of 1e-7 degree.
    pub const fn lat_e7(self) -> i32 {
        self.lat_e7
    }

    /// Longitude in units of 1e-7 degree.
    pub const fn lng_e7(self) -> i32 {
        self.lng_e7
    }

    /// Latitude in degrees.
    pub fn lat(self) -> f64 {
        f64::from(self.lat_e7) / PER_DEGREE
    }

    /// Longitude in degrees.
    pub fn lng(self) -> f64 {
        f64::from(self.lng_e7) / PER_DEGREE
    }

    /// The great-circle distance in metres (haversine on a sphere; within 0.6 % of the ellipsoid).
    pub fn distance_m(self, other: Self) -> f64 {
        let (lat1, lat2) = (self.lat().to_radians(), other.lat().to_radians());
        let (dlat, dlng) = (lat2 - lat1, (other.lng() - self.lng()).to_radians());
        let h = (dlat / 2.0).sin().powi(2) + lat1.cos() * lat2.cos() * (dlng / 2.0).sin().powi(2);
        2.0 * EARTH_RADIUS_M * h.sqrt().min(1.0).asin()
    }
}

impl TryFrom<Degrees> for Place {
    type Error = String;

    fn try_from(degrees: Degrees) -> Result<Self, String> {
        Self::from_degrees(degrees.lat, degrees.lng)
    }
}

impl From<Place> for Degrees {
    fn from(place: Place) -> Self {
        Self { lat: place.lat(), lng: place.lng() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.lat(), self.lng())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_on_the_earth_and_read_back() {
        let lisbon = Place::from_degrees(38.722_252_4, -9.139_336_6).unwrap();
        assert_eq!(Place::from_e7(lisbon.lat_e7(), lisbon.lng_e7()).unwrap(), lisbon);
        assert_eq!(lisbon.to_string(), "38.7222524,-9.1393366");
        assert!(Place::from_degrees(90.1, 0.0).unwrap_err().contains("90.1"));
        assert!(Place::from_e7(900_000_001, 0).unwrap_err().contains("latitude 90.0000001"));
        assert!(Place::from_e7(0, i32::MIN).unwrap_err().contains("longitude"));
        assert_eq!(Place::from_e7(-900_000_000, 1_800_000_000), Place::from_degrees(-90.0, 180.0));
        assert!(Place::from_degrees(0.0, f64::NAN).is_err());
        assert!(serde_json::from_str::<Place>(r#"{"lat":0,"lng":181}"#).is_err());
    }

    #[test]
    fn lisbon_to_porto_is_274_km() {
        let lisbon = Place::from_degrees(38.7223, -9.1393).unwrap();
        let porto = Place::from_degrees(41.1579, -8.6291).unwrap();
        assert!((lisbon.distance_m(porto) - 274_000.0).abs() < 1_000.0, "{}", lisbon.distance_m(porto));
        assert_eq!(lisbon.distance_m(lisbon), 0.0);
    }
}
