//! An OpenStreetMap extract (PBF) into a network: roads for cars, cut at junctions, the largest piece in which every place
//! can be reached from every other.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use osmpbf::{Element, ElementReader};
use tessera_kernel::Place;

use super::{Edge, MS_CM_PER_KMH, Network};
use crate::domain::traffic::RoadClass;

/// What OpenStreetMap's licence (ODbL 1.0) asks to be shown.
const ATTRIBUTION: &str = "© OpenStreetMap contributors, ODbL 1.0";
/// How long an edge may be, centimetres; longer ones (ferries of an ocean) do not fit its field.
const LONGEST_CM: f64 = 4e9;
/// Turning, waiting and giving way where three roads or more meet, in the mean: OSRM's profile for cars comes to 1.5 s at each in the middle of Porto.
const JUNCTION_MS: u64 = 1_500;

/// Why an extract was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("`{path}` cannot be read as an OpenStreetMap extract in PBF form: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the reader says.
        reason: String,
    },
    /// Nothing to drive on.
    #[error("`{path}` has no roads for cars in one piece; take an extract with `highway` ways and their nodes")]
    NoRoads {
        /// The file.
        path: String,
    },
}

/// What came of an import.
#[derive(Debug)]
pub struct Imported {
    /// The network.
    pub network: Network,
    /// Ways for cars that were read.
    pub ways: usize,
    /// Stretches left out, since they lead nowhere from which one can return.
    pub unreachable: usize,
}

/// A way for cars.
struct Way {
    nodes: Vec<i64>,
    class: RoadClass,
    speed: u8,
    forward: bool,
    backward: bool,
}

/// Central Porto, for demos and tests: an extract with its notice in `assets/README.md`.
pub const PORTO: &[u8] = include_bytes!("../../assets/porto.osm.pbf");

/// Reads the extract at `path` and prepares the network.
///
/// # Errors
/// [`ImportError`].
pub fn import(path: &Path) -> Result<Imported, ImportError> {
    let open = || Ok(BufReader::new(File::open(path).map_err(|error| error.to_string())?));
    build(&path.display().to_string(), open)
}

/// Prepares the network of an extract in memory.
///
/// # Errors
/// [`ImportError`].
pub fn read(extract: &[u8]) -> Result<Imported, ImportError> {
    build("the extract", || Ok(extract))
}

fn build<R: Read + Send>(name: &str, open: impl Fn() -> Result<R, String>) -> Result<Imported, ImportError> {
    let unreadable = |reason: String| ImportError::Unreadable { path: name.to_owned(), reason };
    let elements = || open().map(ElementReader::new).map_err(unreadable);
    // Ways come after nodes in a file, so it is read twice: memory holds only the nodes of roads.
    let mut ways = Vec::new();
    elements()?
        .for_each(|element| {
            if let Element::Way(way) = element {
                ways.extend(road(way.tags(), || way.refs().collect()));
            }
        })
        .map_err(|error| unreadable(error.to_string()))?;
    let mut uses: HashMap<i64, u32> = HashMap::new();
    for way in &ways {
        for (at, node) in way.nodes.iter().enumerate() {
            // An end is a junction, so it counts twice.
            *uses.entry(*node).or_default() += if at == 0 || at + 1 == way.nodes.len() { 2 } else { 1 };
        }
    }
    let mut places: HashMap<i64, Place> = HashMap::with_capacity(uses.len());
    let mut place = |id: i64, lat: i32, lng: i32| {
        if uses.contains_key(&id)
            && let Ok(place) = Place::from_e7(lat, lng)
        {
            places.insert(id, place);
        }
    };
    elements()?
        .for_each(|element| match element {
            Element::Node(node) => place(node.id(), node.decimicro_lat(), node.decimicro_lon()),
            Element::DenseNode(node) => place(node.id(), node.decimicro_lat(), node.decimicro_lon()),
            _ => {}
        })
        .map_err(|error| unreadable(error.to_string()))?;
    let cut = cut(&ways, &uses, &places);
    let all = cut.edges.len();
    let (junctions, edges) = largest_piece(cut.junctions, cut.edges);
    if edges.is_empty() {
        return Err(ImportError::NoRoads { path: name.to_owned() });
    }
    let unreachable = all - edges.len();
    let network = Network::prepare(ATTRIBUTION.to_owned(), junctions, edges, cut.shapes);
    Ok(Imported { network, ways: ways.len(), unreachable })
}

/// The way as a road, if cars may use it.
fn road<'a>(tags: impl Iterator<Item = (&'a str, &'a str)>, nodes: impl FnOnce() -> Vec<i64>) -> Option<Way> {
    let (mut class, mut speed, mut oneway, mut round, mut closed, mut area) = (None, None, None, false, false, false);
    for (key, value) in tags {
        match key {
            "highway" => {
                class = RoadClass::of_highway(value);
                round |= value.starts_with("motorway");
            }
            "maxspeed" => speed = limit(value),
            "oneway" => oneway = Some(value),
            "junction" => round |= matches!(value, "roundabout" | "circular"),
            "access" | "motor_vehicle" | "motorcar" | "vehicle" => closed |= matches!(value, "no" | "private"),
            "area" => area = value == "yes",
            _ => {}
        }
    }
    let class = class.filter(|_| !closed && !area)?;
    let (forward, backward) = match oneway {
        Some("yes" | "true" | "1") => (true, false),
        Some("-1" | "reverse") => (false, true),
        Some("no") => (true, true),
        _ => (true, !round),
    };
    let free = match speed {
        // Nobody drives at the limit all the way.
        Some(limit) => (u32::from(limit) * 8 / 10).clamp(5, 130) as u8,
        None => class.speed(),
    };
    Some(Way { nodes: nodes(), class, speed: free.min(class.speed().saturating_mul(2)), forward, backward })
}

/// A `maxspeed` in km/h.
fn limit(value: &str) -> Option<u8> {
    let value = value.trim();
    let miles = value.strip_suffix("mph");
    let number: f64 = miles.unwrap_or(value).trim().trim_end_matches("km/h").trim().parse().ok()?;
    let kmh = if miles.is_some() { number * 1.609 } else { number };
    (5.0..=250.0).contains(&kmh).then_some(kmh as u8)
}

/// Roads cut at junctions.
struct Cut {
    junctions: u32,
    edges: Vec<Edge>,
    shapes: Vec<Place>,
}

fn cut(ways: &[Way], uses: &HashMap<i64, u32>, places: &HashMap<i64, Place>) -> Cut {
    let mut numbers: HashMap<i64, u32> = HashMap::new();
    let mut cut = Cut { junctions: 0, edges: Vec::new(), shapes: Vec::new() };
    // How many roads meet at each.
    let mut meet: Vec<u8> = Vec::new();
    for way in ways {
        // Where an extract ends, a way goes on without points: each run of known ones is a road of its own.
        for run in way.nodes.split(|node| !places.contains_key(node)) {
            let mut start = 0;
            for end in 1..run.len() {
                let junction = uses.get(&run[end]).is_some_and(|uses| *uses > 1);
                if !junction && end + 1 != run.len() {
                    continue;
                }
                let mut number = |node: i64| {
                    let next = numbers.len() as u32;
                    *numbers.entry(node).or_insert(next)
                };
                let (from, to) = (number(run[start]), number(run[end]));
                let shape = cut.shapes.len() as u32;
                let points = run[start..=end].iter().filter_map(|node| places.get(node).copied());
                cut.shapes.extend(points);
                let points = &cut.shapes[shape as usize..];
                let length = points.windows(2).map(|pair| pair[0].distance_m(pair[1])).sum::<f64>() * 100.0;
                start = end;
                if length >= LONGEST_CM || (from == to && points.len() < 3) {
                    cut.shapes.truncate(shape as usize);
                    continue;
                }
                let edge = Edge {
                    from,
                    to,
                    shape,
                    points: points.len() as u32,
                    against: false,
                    length_cm: length as u32,
                    class: way.class,
                    speed: way.speed,
                };
                meet.resize(numbers.len(), 0);
                [from, to].iter().for_each(|end| meet[*end as usize] = meet[*end as usize].saturating_add(1));
                cut.edges.extend(way.forward.then_some(edge));
                cut.edges.extend(way.backward.then_some(Edge { from: to, to: from, against: true, ..edge }));
            }
        }
    }
    for edge in cut.edges.iter_mut().filter(|edge| meet.get(edge.to as usize).is_some_and(|roads| *roads > 2)) {
        edge.speed = with_wait(edge.length_cm, edge.speed);
    }
    cut.junctions = numbers.len() as u32;
    cut
}

/// How fast a road is driven with the wait at its end.
fn with_wait(length_cm: u32, speed: u8) -> u8 {
    let way = u64::from(length_cm) * MS_CM_PER_KMH;
    let took_ms = way / u64::from(speed.max(1)) + JUNCTION_MS;
    // No faster than without.
    ((way + took_ms / 2) / took_ms).clamp(1, speed.max(1).into()) as u8
}

/// The edges between the junctions of the largest strongly connected piece, these numbered anew (Kosaraju's two passes,
/// without recursion).
fn largest_piece(junctions: u32, edges: Vec<Edge>) -> (u32, Vec<Edge>) {
    let size = junctions as usize;
    let neighbours = |ends: &dyn Fn(&Edge) -> (u32, u32)| {
        let mut lists = vec![Vec::new(); size];
        for edge in &edges {
            let (from, to) = ends(edge);
            lists[from as usize].push(to);
        }
        lists
    };
    let outward: Vec<Vec<u32>> = neighbours(&|edge| (edge.from, edge.to));
    let inward: Vec<Vec<u32>> = neighbours(&|edge| (edge.to, edge.from));
    let mut order = Vec::with_capacity(size);
    let mut seen = vec![false; size];
    for root in 0..size {
        if std::mem::replace(&mut seen[root], true) {
            continue;
        }
        let mut stack = vec![(root, 0)];
        while let Some((at, next)) = stack.last_mut() {
            match outward[*at].get(*next) {
                Some(to) => {
                    *next += 1;
                    let to = *to as usize;
                    if !std::mem::replace(&mut seen[to], true) {
                        stack.push((to, 0));
                    }
                }
                None => {
                    order.push(*at);
                    stack.pop();
                }
            }
        }
    }
    let mut piece = vec![u32::MAX; size];
    let mut sizes = Vec::new();
    for root in order.into_iter().rev() {
        if piece[root] != u32::MAX {
            continue;
        }
        let number = sizes.len() as u32;
        let (mut stack, mut count) = (vec![root], 0_usize);
        piece[root] = number;
        while let Some(at) = stack.pop() {
            count += 1;
            for from in &inward[at] {
                if piece[*from as usize] == u32::MAX {
                    piece[*from as usize] = number;
                    stack.push(*from as usize);
                }
            }
        }
        sizes.push(count);
    }
    let Some((largest, _)) = sizes.iter().enumerate().max_by_key(|(_, size)| **size) else { return (0, Vec::new()) };
    let mut numbers = HashMap::new();
    let inside = |at: u32| piece[at as usize] == largest as u32;
    let mut kept = Vec::new();
    for edge in edges.iter().filter(|edge| inside(edge.from) && inside(edge.to)) {
        let mut number = |junction: u32| {
            let next = numbers.len() as u32;
            *numbers.entry(junction).or_insert(next)
        };
        let (from, to) = (number(edge.from), number(edge.to));
        kept.push(Edge { from, to, ..*edge });
    }
    (numbers.len() as u32, kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(tags: &[(&'static str, &'static str)]) -> Option<Way> {
        road(tags.iter().copied(), || vec![1, 2])
    }

    #[test]
    fn tags_say_who_may_drive_and_which_way() {
        let both = |tags: &[_]| way(tags).map(|way| (way.forward, way.backward));
        assert_eq!(both(&[("highway", "residential")]), Some((true, true)));
        assert_eq!(both(&[("highway", "residential"), ("oneway", "yes")]), Some((true, false)));
        assert_eq!(both(&[("highway", "residential"), ("oneway", "-1")]), Some((false, true)));
        assert_eq!(both(&[("highway", "primary"), ("junction", "roundabout")]), Some((true, false)));
        assert_eq!(both(&[("highway", "motorway")]), Some((true, false)));
        assert_eq!(both(&[("highway", "service"), ("access", "private")]), None);
        assert_eq!(both(&[("highway", "footway")]), None);
        assert_eq!(both(&[("building", "yes")]), None);
    }

    #[test]
    fn signed_limits_count_in_both_units() {
        assert_eq!(limit("50"), Some(50));
        assert_eq!(limit("30 mph"), Some(48));
        assert_eq!(limit("walk"), None);
        assert_eq!(limit("5000"), None);
        assert_eq!(way(&[("highway", "primary"), ("maxspeed", "50")]).unwrap().speed, 40);
        assert_eq!(way(&[("highway", "primary")]).unwrap().speed, 55);
    }

    #[test]
    fn where_roads_meet_one_waits() {
        assert_eq!((with_wait(10_000, 50), with_wait(200_000, 50), with_wait(1, 50), with_wait(0, 0)), (41, 49, 1, 1));
        // 1 to 3 and on to 4; the road from 5 comes to 3 only.
        let ways = [vec![1, 2, 3], vec![3, 4], vec![4, 6], vec![3, 5]].map(|nodes| Way {
            nodes,
            class: RoadClass::Primary,
            speed: 50,
            forward: true,
            backward: false,
        });
        let uses = HashMap::from([(1, 1), (2, 1), (3, 3), (4, 2), (5, 1), (6, 1)]);
        let places = (1..=6).map(|node| (node, Place::from_e7(node as i32 * 10_000, 0).unwrap())).collect();
        let speeds: Vec<u8> = cut(&ways, &uses, &places).edges.iter().map(|edge| edge.speed).collect();
        assert_eq!(speeds, [46, 50, 50, 50]);
    }

    #[test]
    fn a_file_that_is_no_extract_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("city.osm.pbf");
        std::fs::write(&path, "a text").unwrap();
        let error = import(&path).unwrap_err().to_string();
        assert!(error.contains("city.osm.pbf"), "{error}");
    }
}
