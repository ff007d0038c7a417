//! Roads as a car sees them: junctions, and stretches from one to the next.

use rand::RngExt;
use rand::rngs::StdRng;
use tessera_kernel::Place;

/// What is known of a road, as the server's map has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Road<'a> {
    /// The class, in OpenStreetMap's words.
    pub class: &'a str,
    /// Number of the junction where it begins.
    pub from: u32,
    /// Number of the junction where it ends.
    pub to: u32,
    /// Whether it may be driven the other way, too.
    pub two_way: bool,
    /// Its points, in order; two at least.
    pub line: Vec<Place>,
}

/// A stretch of road in the direction of travel.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// Number of the junction where it ends.
    pub to: usize,
    /// Its points, in order.
    pub line: Vec<Place>,
    /// How fast one drives there, metres a second.
    pub speed: f64,
}

/// The roads of a city.
#[derive(Clone, Debug, Default)]
pub struct Roads {
    places: Vec<Place>,
    /// Stretches by the junction where they begin.
    exits: Vec<Vec<Stretch>>,
}

impl Roads {
    /// Puts the roads together. Junctions are numbered anew; a road of a single point is left out.
    pub fn new<'a>(roads: impl IntoIterator<Item = Road<'a>>) -> Self {
        let mut numbers = std::collections::HashMap::new();
        let mut built = Self::default();
        for road in roads {
            let (Some(first), Some(last)) = (road.line.first().copied(), road.line.last().copied()) else { continue };
            if road.line.len() < 2 {
                continue;
            }
            let mut number = |outside: u32, place: Place| {
                *numbers.entry(outside).or_insert_with(|| {
                    built.places.push(place);
                    built.exits.push(Vec::new());
                    built.places.len() - 1
                })
            };
            let (from, to) = (number(road.from, first), number(road.to, last));
            let speed = speed_of(road.class);
            if road.two_way {
                let back = road.line.iter().rev().copied().collect();
                built.exits[to].push(Stretch { to: from, line: back, speed });
            }
            built.exits[from].push(Stretch { to, line: road.line, speed });
        }
        built
    }

    /// How many junctions there are.
    pub fn junctions(&self) -> usize {
        self.places.len()
    }

    /// Where a junction is; they are numbered from 0.
    pub fn place(&self, junction: usize) -> Option<Place> {
        self.places.get(junction).copied()
    }

    /// Any junction.
    pub fn any(&self, rng: &mut StdRng) -> Option<usize> {
        (!self.places.is_empty()).then(|| rng.random_range(0..self.places.len()))
    }

    /// The junction nearest to a place.
    pub fn nearest(&self, place: Place) -> Option<usize> {
        let far = |at: &usize| self.places[*at].distance_m(place);
        (0..self.places.len()).min_by(|a, b| far(a).total_cmp(&far(b)))
    }

    /// A way out of a junction: not the one by which one came, if there is another.
    pub fn exit(&self, junction: usize, came_from: Option<usize>, rng: &mut StdRng) -> Option<&Stretch> {
        let exits = self.exits.get(junction)?;
        let onward: Vec<&Stretch> = exits.iter().filter(|exit| Some(exit.to) != came_from).collect();
        match onward.is_empty() {
            false => Some(onward[rng.random_range(0..onward.len())]),
            true => exits.first(),
        }
    }
}

/// How fast one drives on a class of roads in a town, metres a second.
fn speed_of(class: &str) -> f64 {
    match class {
        "motorway" => 22.0,
        "trunk" => 18.0,
        "primary" => 12.0,
        "secondary" => 11.0,
        "tertiary" => 9.0,
        "living_street" => 3.0,
        "service" => 4.0,
        _ => 7.0,
    }
}

/// Reads an encoded polyline of precision 5. What is broken ends the line.
pub fn decode_line(text: &str) -> Vec<Place> {
    let mut bytes = text.bytes();
    let mut number = || {
        let (mut value, mut shift) = (0_i64, 0_u32);
        loop {
            let five = i64::from(bytes.next()?.checked_sub(63)?);
            value |= (five & 0x1f) << shift;
            if five < 0x20 {
                return Some(if value & 1 == 1 { !(value >> 1) } else { value >> 1 });
            }
            shift = Some(shift + 5).filter(|shift| *shift < 50)?;
        }
    };
    let (mut lat, mut lng) = (0_i64, 0_i64);
    let mut line = Vec::new();
    while let (Some(up), Some(right)) = (number(), number()) {
        (lat, lng) = (lat + up, lng + right);
        match Place::from_degrees(lat as f64 / 1e5, lng as f64 / 1e5) {
            Ok(place) => line.push(place),
            Err(_) => break,
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fan::rng;

    fn place(lat: f64, lng: f64) -> Place {
        Place::from_degrees(lat, lng).unwrap()
    }

    #[test]
    fn a_line_is_read_as_its_format_says() {
        // The example of the format's description.
        let line = decode_line("_p~iF~ps|U_ulLnnqC_mqNvxq`@");
        assert_eq!(line, [place(38.5, -120.2), place(40.7, -120.95), place(43.252, -126.453)]);
        assert!(decode_line("").is_empty() && decode_line("\u{1}").is_empty());
        assert!(decode_line("~~~~~~~~~~~~~~~~~~~~~~~~~~~~").is_empty());
    }

    #[test]
    fn one_drives_on_and_turns_only_where_there_is_no_other_way() {
        let (west, middle, east) = (place(0.0, 0.0), place(0.0, 0.01), place(0.0, 0.02));
        let road =
            |from, to, two_way, line: [Place; 2]| Road { class: "primary", from, to, two_way, line: line.into() };
        let roads = Roads::new([road(70, 80, true, [west, middle]), road(80, 90, true, [middle, east])]);
        assert_eq!(roads.junctions(), 3);
        let (at, mut rng) = (roads.nearest(place(0.001, 0.011)).unwrap(), rng(1, 1));
        assert_eq!(roads.place(at), Some(middle));
        let (from, end) = (roads.nearest(west).unwrap(), roads.nearest(east).unwrap());
        for _ in 0..20 {
            let exit = roads.exit(at, Some(from), &mut rng).unwrap();
            assert_eq!((exit.to, exit.line.as_slice()), (end, [middle, east].as_slice()));
            assert_eq!(roads.exit(end, Some(at), &mut rng).unwrap().to, at, "a dead end");
        }
        let one_way = Roads::new([road(1, 2, false, [west, east])]);
        let end = one_way.nearest(east).unwrap();
        assert!(one_way.exit(end, None, &mut rng).is_none());
        assert!(Roads::default().any(&mut rng).is_none() && Roads::default().nearest(west).is_none());
    }
}
