//! Paths on a made-up town and on Porto.

use std::sync::LazyLock;

use super::*;
use crate::domain::traffic::{Conditions, Profile};

/// Porto, imported once.
static PORTO_ROADS: LazyLock<Network> = LazyLock::new(|| read(PORTO).unwrap().network);

fn place(lat: f64, lng: f64) -> Place {
    Place::from_degrees(lat, lng).unwrap()
}

/// Two junctions 1.1 km apart with a one-way street east and a slower street back; a side street south in both directions.
fn town() -> Network {
    let shapes = vec![place(0.0, 0.0), place(0.0, 0.005), place(0.0, 0.01), place(-0.01, 0.0), place(0.0, 0.01)];
    let edge = Edge {
        from: 0,
        to: 1,
        shape: 0,
        points: 3,
        against: false,
        length_cm: 111_195,
        class: RoadClass::Primary,
        speed: 50,
    };
    // South of both: a way from the east end to the south, and one from the south to the west end in both directions.
    let back = Edge { from: 1, to: 2, shape: 3, points: 2, against: true, length_cm: 157_253, ..edge };
    let mut shapes = shapes;
    shapes.push(place(-0.01, 0.0));
    shapes.push(place(0.0, 0.0));
    let side = Edge { from: 2, to: 0, shape: 5, points: 2, length_cm: 111_195, ..edge };
    let side_back = Edge { from: 0, to: 2, against: true, ..side };
    Network::prepare("made up".into(), 3, vec![edge, back, side, side_back], shapes)
}

fn empty(profile: &Profile) -> Conditions<'_> {
    Conditions { profile, hour: 3, factor: 1.0 }
}

#[test]
fn one_way_streets_are_kept() {
    let (town, profile) = (town(), Profile::default());
    let (west, east) = (town.snap(place(0.000_1, 0.002)).unwrap(), town.snap(place(-0.000_1, 0.008)).unwrap());
    assert!(west.off_m < 12.0 && east.off_m < 12.0);
    let there = town.path(west, east).unwrap();
    assert!((town.length_m(&there) - 667.0).abs() < 2.0, "{}", town.length_m(&there));
    let line = town.line(&there);
    assert!(line[0].distance_m(west.place) < 0.1 && line[line.len() - 1].distance_m(east.place) < 0.1);
    // Back it goes all around.
    let back = town.path(east, west).unwrap();
    let around = 222.4 + 1_572.5 + 1_111.95 + 222.4;
    assert!((town.length_m(&back) - around).abs() < 3.0, "{}", town.length_m(&back));
    let seconds = town.seconds(&back, &empty(&profile));
    assert!((seconds - around / (50.0 / 3.6)).abs() < 1.0, "{seconds}");
}

#[test]
fn a_street_with_two_directions_is_driven_in_both() {
    let town = town();
    let (north, south) = (town.snap(place(-0.002, 0.0)).unwrap(), town.snap(place(-0.008, 0.0)).unwrap());
    for (from, to) in [(north, south), (south, north)] {
        let path = town.path(from, to).unwrap();
        assert!((town.length_m(&path) - 667.2).abs() < 2.0, "{}", town.length_m(&path));
    }
}

#[test]
fn a_road_is_drawn_once_and_says_which_way() {
    let roads: Vec<Stretch> = town().roads().collect();
    let seen: Vec<_> = roads.iter().map(|road| (road.from, road.to, road.two_way, road.line.len())).collect();
    assert_eq!(seen, [(0, 1, false, 3), (1, 2, false, 2), (2, 0, true, 2)]);
    // The one-way street back is stored against its direction.
    assert_eq!(roads[1].line, [place(0.0, 0.01), place(-0.01, 0.0)]);
}

#[test]
fn one_can_walk_all_over_porto_on_its_roads() {
    let network = &*PORTO_ROADS;
    let mut next = vec![Vec::new(); network.junctions()];
    let (mut stretches, mut ends) = (0, std::collections::HashMap::new());
    for road in network.roads() {
        stretches += if road.two_way { 2 } else { 1 };
        next[road.from as usize].push(road.to);
        if road.two_way {
            next[road.to as usize].push(road.from);
        }
        for (junction, place) in [(road.from, road.line[0]), (road.to, road.line[road.line.len() - 1])] {
            assert_eq!(*ends.entry(junction).or_insert(place), place, "junction {junction} is at one place");
        }
    }
    assert_eq!(stretches, network.stretches());
    let (mut seen, mut waiting) = (vec![false; next.len()], vec![0_u32]);
    while let Some(junction) = waiting.pop() {
        if !std::mem::replace(&mut seen[junction as usize], true) {
            waiting.extend(&next[junction as usize]);
        }
    }
    assert!(seen.iter().all(|seen| *seen));
}

#[test]
fn there_is_no_road_in_the_sea() {
    assert_eq!(town().snap(place(1.0, 1.0)), None);
}

/// At every latitude it is the road that is nearest of all.
#[test]
fn the_nearest_road_is_found_north_and_south() {
    for lat in [0.0, 30.0, 59.0, 61.0, 75.0, 85.0, 88.0, -70.0, -89.0] {
        let narrow = f64::to_radians(lat).cos();
        let at = |up_m: f64, right_m: f64| place(lat + up_m / 111_195.0, 8.0 + right_m / 111_195.0 / narrow);
        // Stubs of 200 m at many places around.
        let mut shapes = Vec::new();
        let mut edges = Vec::new();
        for n in 0..60_u32 {
            let (x, y) = ((f64::from(n) * 0.754_877_666).fract(), (f64::from(n) * 0.569_840_29).fract());
            let (up, right) = (y * 9_000.0 - 4_500.0, x * 9_000.0 - 4_500.0);
            shapes.extend([at(up, right), at(up + 200.0, right)]);
            let edge = Edge {
                from: 2 * n,
                to: 2 * n + 1,
                shape: 2 * n,
                points: 2,
                against: false,
                length_cm: 20_000,
                class: RoadClass::Primary,
                speed: 50,
            };
            edges.push(edge);
        }
        let ends = shapes.clone();
        let network = Network::prepare("made up".into(), 120, edges, shapes);
        for n in 0..200_u32 {
            let (x, y) = ((f64::from(n) * 0.618_033_99).fract(), (f64::from(n) * 0.414_213_56).fract());
            let here = at(y * 12_000.0 - 6_000.0, x * 12_000.0 - 6_000.0);
            let flat = |end: &Place| {
                (
                    (end.lng() - here.lng()) * here.lat().to_radians().cos() * 111_195.0,
                    (end.lat() - here.lat()) * 111_195.0,
                )
            };
            // The stubs run to the north.
            let far = |stub: &[Place]| {
                let ((x, low), (_, high)) = (flat(&stub[0]), flat(&stub[1]));
                x.hypot(0.0_f64.clamp(low, high))
            };
            let nearest = ends.chunks(2).map(far).fold(f64::INFINITY, f64::min);
            match network.snap(here) {
                Some(snapped) => assert!((snapped.off_m - nearest).abs() < 1.0, "{lat} {n}: {snapped:?} {nearest}"),
                None => assert!(nearest > 1_999.0, "{lat} {n}: {nearest}"),
            }
        }
    }
}

#[test]
fn porto_is_one_piece_and_reads_back_from_its_file() {
    let imported = read(PORTO).unwrap();
    assert!(imported.ways > 1_000, "{} ways", imported.ways);
    let network = imported.network;
    assert!(network.junctions() > 1_000 && network.stretches() > network.junctions());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("porto.roads");
    network.save(&path).unwrap();
    let loaded = Network::load(&path).unwrap();
    assert_eq!(loaded.stretches(), network.stretches());
    assert_eq!(loaded.attribution(), "© OpenStreetMap contributors, ODbL 1.0");
    let (from, to) = (place(41.1579, -8.6100), place(41.1450, -8.6107));
    let ways = [&network, &loaded].map(|network| {
        let path = network.path(network.snap(from).unwrap(), network.snap(to).unwrap()).unwrap();
        network.line(&path)
    });
    assert_eq!(ways[0], ways[1]);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = Network::load(&path).unwrap_err().to_string();
    assert!(error.contains("porto.roads") && error.contains("checksum"), "{error}");
}

/// Each way is at least as long as the line between its ends, goes through the points that it says, and no stop on the way
/// makes it quicker.
#[test]
fn ways_through_porto_are_shortest() {
    let (network, profile) = (&*PORTO_ROADS, Profile::default());
    let at = |step: u32| {
        // A low-discrepancy walk over the town.
        let (x, y) = ((f64::from(step) * 0.754_877_666).fract(), (f64::from(step) * 0.569_840_29).fract());
        place(41.120 + y * 0.041, -8.625 + x * 0.046)
    };
    let conditions = empty(&profile);
    let mut found = 0;
    for step in 0..120 {
        let places = [at(3 * step), at(3 * step + 1), at(3 * step + 2)];
        let [Some(a), Some(b), Some(c)] = places.map(|place| network.snap(place)) else { continue };
        let seconds = |from, to| network.seconds(&network.path(from, to).unwrap(), &conditions);
        let path = network.path(a, b).unwrap();
        assert!(network.length_m(&path) * 1.01 + 1.0 >= a.place.distance_m(b.place));
        let line = network.line(&path);
        let drawn: f64 = line.windows(2).map(|pair| pair[0].distance_m(pair[1])).sum();
        assert!((drawn - network.length_m(&path)).abs() <= 1.0 + drawn * 0.01, "{drawn} {}", network.length_m(&path));
        assert!(seconds(a, b) <= seconds(a, c) + seconds(c, b) + 0.1, "a stop is a short cut");
        found += 1;
    }
    assert!(found > 60, "{found}");
}
