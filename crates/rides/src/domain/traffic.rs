//! How fast roads are: classes, their speeds at free flow, and what the hour does to them.

use serde::{Deserialize, Serialize};

/// OpenStreetMap's classes of roads for cars, links counted with their road.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RoadClass {
    /// `highway=motorway`.
    Motorway,
    /// `highway=trunk`.
    Trunk,
    /// `highway=primary`.
    Primary,
    /// `highway=secondary`.
    Secondary,
    /// `highway=tertiary`.
    Tertiary,
    /// `highway=unclassified`.
    Unclassified,
    /// `highway=residential`.
    Residential,
    /// `highway=living_street`.
    LivingStreet,
    /// `highway=service`.
    Service,
}

impl RoadClass {
    /// How many there are.
    pub const COUNT: usize = 9;

    /// The class of a `highway` tag; `None` for what cars do not use.
    pub fn of_highway(value: &str) -> Option<Self> {
        Some(match value.strip_suffix("_link").unwrap_or(value) {
            "motorway" => Self::Motorway,
            "trunk" => Self::Trunk,
            "primary" => Self::Primary,
            "secondary" => Self::Secondary,
            "tertiary" => Self::Tertiary,
            "unclassified" | "road" => Self::Unclassified,
            "residential" => Self::Residential,
            "living_street" => Self::LivingStreet,
            "service" => Self::Service,
            _ => return None,
        })
    }

    /// Free flow in a town where no limit is signed, km/h.
    pub const fn speed(self) -> u8 {
        match self {
            Self::Motorway => 90,
            Self::Trunk => 75,
            Self::Primary => 55,
            Self::Secondary => 48,
            Self::Tertiary => 38,
            Self::Unclassified => 28,
            Self::Residential => 25,
            Self::LivingStreet => 10,
            Self::Service => 15,
        }
    }

    /// Whether it carries traffic between quarters, which is what a rush hour slows.
    const fn is_main(self) -> bool {
        matches!(self, Self::Motorway | Self::Trunk | Self::Primary | Self::Secondary | Self::Tertiary)
    }
}

/// How many times longer than at free flow a road takes, in per cent, by hour of the day and class. 100 is free flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// 24 numbers for motorways to tertiary roads, from midnight on.
    pub main: [u16; 24],
    /// 24 numbers for the others.
    pub minor: [u16; 24],
}

impl Default for Profile {
    /// A working day of a town: quiet nights, a rush in the morning and one in the evening.
    fn default() -> Self {
        Self {
            main: [
                100, 100, 100, 100, 100, 102, 110, 130, 150, 135, 120, 120, 125, 125, 120, 125, 135, 150, 160, 140,
                120, 110, 105, 100,
            ],
            minor: [
                100, 100, 100, 100, 100, 100, 103, 110, 115, 110, 105, 105, 108, 108, 105, 108, 112, 118, 120, 112,
                105, 103, 100, 100,
            ],
        }
    }
}

impl Profile {
    /// The least and most that a number may be.
    pub const RANGE: std::ops::RangeInclusive<u16> = 50..=1000;

    /// Per cent of the free-flow time at `hour` (0 to 23; later ones wrap).
    pub fn per_cent(&self, class: RoadClass, hour: usize) -> u16 {
        let hours = if class.is_main() { &self.main } else { &self.minor };
        hours[hour % 24]
    }
}

/// What lies on the speeds now: the profile's hour, and a live factor.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    /// By class and hour.
    pub profile: &'a Profile,
    /// Local hour, 0 to 23.
    pub hour: usize,
    /// How many times longer than the profile says, from the provider of traffic; 1.0 where there is none.
    pub factor: f64,
}

impl Conditions<'_> {
    /// The time on a road that takes `free_flow_ms` when it is empty.
    pub fn millis(&self, class: RoadClass, free_flow_ms: u64) -> f64 {
        free_flow_ms as f64 * f64::from(self.profile.per_cent(class, self.hour)) / 100.0 * self.factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_count_with_their_road_and_paths_are_none() {
        assert_eq!(RoadClass::of_highway("primary_link"), Some(RoadClass::Primary));
        assert_eq!(RoadClass::of_highway("living_street"), Some(RoadClass::LivingStreet));
        for other in ["footway", "cycleway", "pedestrian", "construction", "steps", ""] {
            assert_eq!(RoadClass::of_highway(other), None, "{other}");
        }
    }

    #[test]
    fn the_rush_hour_slows_main_roads_more() {
        let profile = Profile::default();
        let at = |hour| Conditions { profile: &profile, hour, factor: 1.0 };
        assert_eq!(at(3).millis(RoadClass::Primary, 1_000), 1_000.0);
        assert!(at(18).millis(RoadClass::Primary, 1_000) > at(18).millis(RoadClass::Residential, 1_000));
        let slow = Conditions { factor: 2.0, ..at(3) };
        assert_eq!(slow.millis(RoadClass::Service, 1_000), 2_000.0);
    }
}
