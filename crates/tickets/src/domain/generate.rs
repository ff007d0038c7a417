//! Seat plans made from a number of seats: a theatre, an arena with its stage at one end, a stadium around a pitch.
//!
//! All are rings of sections around a middle. A row is an arc of an ellipse, or of a rounded rectangle, with its seats at
//! equal distances; a tier grows outwards row by row until it has its share of the seats. The same numbers give the same
//! plan, always.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::drawing::Drawing;
use super::plan::{Category, Point, Row, Seat, SeatPlan, Size, Zone};
use crate::Error;

/// From seat to seat, in the plan's units: half a metre.
const SEAT: f64 = 25.0;
/// From row to row.
const ROW: f64 = 40.0;
/// Around the drawing.
const MARGIN: f64 = 60.0;
/// Straight pieces that the length of an arc is measured by.
const PIECES: usize = 48;
/// The deepest tier, in rows: more than any house has.
const MAX_ROWS: u32 = 400;

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// What sort of house.
    pub kind: HouseKind,
    /// How many seats it shall have, exactly.
    pub seats: u32,
    /// What to call the plan.
    #[serde(default)]
    pub name: Option<String>,
}

/// A sort of house.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HouseKind {
    /// Stalls, circle and gallery in arcs before a stage; 50 to 6,000 seats.
    Theatre,
    /// A floor before a stage, and two tiers around; 500 to 40,000 seats.
    Arena,
    /// Three tiers around a pitch; 2,000 to 150,000 seats.
    Stadium,
}

impl Generate {
    /// The plan.
    ///
    /// # Errors
    /// [`Error::BadPlan`] where the kind has no such number of seats.
    pub fn plan(&self) -> Result<SeatPlan, Error> {
        let (least, most, house) = match self.kind {
            HouseKind::Theatre => (50, 6_000, theatre()),
            HouseKind::Arena => (500, 40_000, arena(self.seats)),
            HouseKind::Stadium => (2_000, 150_000, stadium()),
        };
        if !(least..=most).contains(&self.seats) {
            let reason = format!("a {} has {least} to {most} seats, not {}", house.word, self.seats);
            return Err(Error::BadPlan { place: "seats".into(), reason });
        }
        let name = self.name.clone().unwrap_or_else(|| format!("{} {}", house.title, self.seats));
        let plan = house.fill(name, self.seats);
        plan.check()?;
        Ok(plan)
    }
}

struct House {
    word: &'static str,
    title: &'static str,
    /// Name and colour.
    categories: &'static [(&'static str, &'static str)],
    /// 1 is an ellipse; below it, corners fill out.
    roundness: f64,
    /// Half the width and height of what the seats surround.
    inner: (f64, f64),
    /// Seats before a stage in straight rows, where there are any: the share of all.
    floor: Option<f64>,
    tiers: Vec<Tier>,
    letters: bool,
    /// What all look at, around the same middle.
    drawings: Vec<Drawing>,
}

struct Tier {
    /// Of the seats that are not on the floor.
    share: f64,
    /// Free space before its first row.
    gap: f64,
    sections: Vec<Section>,
}

struct Section {
    name: String,
    category: usize,
    /// Its angles: 0 is to the right, a quarter turn is down.
    from: f64,
    to: f64,
}

fn theatre() -> House {
    let tier = |share, gap, name: &str, centre, sides, width: f64| {
        let section = |side: &str, category, from: f64, to: f64| Section {
            name: format!("{name} {side}"),
            category,
            from: (90.0 + from * width).to_radians(),
            to: (90.0 + to * width).to_radians(),
        };
        // Seen from the stage: the house's left is to the right of the drawing.
        let sections = vec![
            section("centre", centre, -0.42, 0.42),
            section("left", sides, -1.0, -0.47),
            section("right", sides, 0.47, 1.0),
        ];
        Tier { share, gap, sections }
    };
    House {
        word: "theatre",
        title: "Theatre",
        categories: &[("Premium", "#7a1f3d"), ("Stalls", "#c2493d"), ("Circle", "#d9903d"), ("Gallery", "#5b7f95")],
        roundness: 1.0,
        inner: (420.0, 300.0),
        floor: None,
        tiers: vec![
            tier(0.58, 0.0, "Stalls", 0, 1, 52.0),
            tier(0.26, 120.0, "Circle", 2, 2, 58.0),
            tier(0.16, 120.0, "Gallery", 3, 3, 62.0),
        ],
        letters: true,
        drawings: vec![Drawing::rectangle(-320.0, -160.0, 640.0, 260.0).saying("Stage")],
    }
}

/// A small one is narrower, and its rings have fewer sections.
fn arena(seats: u32) -> House {
    let part = (f64::from(seats) / 12_000.0).sqrt().clamp(0.22, 1.0);
    let sections = |most: f64| (most * part).ceil().max(8.0) as u32;
    // The stage is at the top: no seats behind it.
    let ring = |share, gap, first: u32, count: u32, side, end| {
        let (from, to) = (-52.0_f64, 232.0_f64);
        let step = (to - from) / f64::from(count);
        let section = |at: u32| {
            let begin = from + step * f64::from(at);
            let middle = (begin + step / 2.0).to_radians();
            let category = if middle.cos().abs() > 0.55 { side } else { end };
            let (begin, end) = (begin + 0.6, begin + step - 0.6);
            Section { name: format!("{}", first + at), category, from: begin.to_radians(), to: end.to_radians() }
        };
        Tier { share, gap, sections: (0..count).map(section).collect() }
    };
    House {
        word: "arena",
        title: "Arena",
        categories: &[
            ("Floor", "#8e2f5c"),
            ("Lower sides", "#c2493d"),
            ("Lower end", "#d9903d"),
            ("Upper sides", "#4f8a6d"),
            ("Upper end", "#5b7f95"),
        ],
        roundness: 0.75,
        inner: (1_150.0 * part, 1_750.0 * part),
        floor: Some(0.16),
        tiers: vec![ring(0.5, 0.0, 101, sections(22.0), 1, 2), ring(0.5, 220.0 * part, 201, sections(26.0), 3, 4)],
        letters: false,
        drawings: vec![
            Drawing::rectangle(-620.0 * part, -1_560.0 * part, 1_240.0 * part, 460.0 * part).saying("Stage"),
        ],
    }
}

fn stadium() -> House {
    let ring = |share, gap, first: u32, count: u32, side, end| {
        let step = 360.0 / f64::from(count);
        let section = |at: u32| {
            // The first section is in the middle of the main stand, above the pitch.
            let middle = step * f64::from(at) - 90.0;
            let category = if middle.to_radians().sin().abs() > 0.62 { side } else { end };
            let (from, to) = (middle - step / 2.0 + 0.45, middle + step / 2.0 - 0.45);
            Section { name: format!("{}", first + at), category, from: from.to_radians(), to: to.to_radians() }
        };
        Tier { share, gap, sections: (0..count).map(section).collect() }
    };
    House {
        word: "stadium",
        title: "Stadium",
        categories: &[
            ("Category 1", "#8e2f5c"),
            ("Category 2", "#c2493d"),
            ("Club", "#b08a2e"),
            ("Category 3", "#4f8a6d"),
            ("Category 4", "#5b7f95"),
        ],
        roundness: 0.6,
        inner: (3_050.0, 2_100.0),
        floor: None,
        tiers: vec![ring(0.42, 0.0, 101, 32, 0, 1), ring(0.14, 160.0, 201, 32, 2, 2), ring(0.44, 200.0, 301, 40, 3, 4)],
        letters: false,
        drawings: pitch(),
    }
}

/// Of 100 by 64 metres, with its lines.
fn pitch() -> Vec<Drawing> {
    const METRE: f64 = 2.0 * SEAT;
    let (length, width, box_length, box_width) = (100.0 * METRE, 64.0 * METRE, 16.5 * METRE, 40.3 * METRE);
    let (left, top) = (-length / 2.0, -width / 2.0);
    vec![
        Drawing::rectangle(left, top, length, width),
        Drawing::rectangle(left, -box_width / 2.0, box_length, box_width),
        Drawing::rectangle(-left - box_length, -box_width / 2.0, box_length, box_width),
        Drawing::rectangle(0.0, top, 0.0, width),
        Drawing::ellipse(0.0, 0.0, 9.15 * METRE, 9.15 * METRE).saying("Pitch"),
    ]
}

impl House {
    fn fill(&self, name: String, seats: u32) -> SeatPlan {
        let on_floor = self.floor.map_or(0, |share| (f64::from(seats) * share).round() as u32);
        let mut zones = if on_floor > 0 { self.floor_zones(on_floor) } else { Vec::new() };
        let mut left = seats - on_floor;
        let around = left;
        let mut depth = 0.0;
        for (at, tier) in self.tiers.iter().enumerate() {
            let last = at + 1 == self.tiers.len();
            let share = if last { left } else { (f64::from(around) * tier.share).round() as u32 };
            depth += tier.gap;
            let (made, rows) = self.tier_zones(tier, depth, share);
            left -= share;
            depth += ROW * f64::from(rows);
            zones.extend(made);
        }
        let categories =
            self.categories.iter().map(|(name, color)| Category { name: (*name).into(), color: (*color).into() });
        if let Some(first) = zones.first_mut() {
            first.areas.clone_from(&self.drawings);
        }
        finish(SeatPlan { name, categories: categories.collect(), zones, size: Size { width: 0.0, height: 0.0 } })
    }

    /// A tier with exactly so many seats, and how many rows deep it is.
    fn tier_zones(&self, tier: &Tier, depth: f64, seats: u32) -> (Vec<Zone>, u32) {
        let mut zones: Vec<Zone> = tier.sections.iter().map(|section| empty_zone(&section.name)).collect();
        let mut left = seats as usize;
        let mut depth_rows = 0;
        while left > 0 && depth_rows < MAX_ROWS {
            let out = depth + ROW * f64::from(depth_rows);
            let (width, height) = (self.inner.0 + out, self.inner.1 + out);
            // The best sections are filled first, so the last row may be missing in the others.
            for (section, zone) in tier.sections.iter().zip(&mut zones) {
                let mut places = arc(width, height, self.roundness, section.from, section.to);
                let spare = places.len().saturating_sub(left);
                // What is too much goes from both ends.
                places.drain(..spare / 2);
                places.truncate(left.min(places.len()));
                left -= places.len();
                if !places.is_empty() {
                    let label = row_label(depth_rows, self.letters);
                    zone.rows.push(row(label, &places, self.categories[section.category].0));
                }
            }
            depth_rows += 1;
        }
        zones.retain(|zone| !zone.rows.is_empty());
        (zones, depth_rows)
    }

    /// Three blocks side by side, row by row away from the stage.
    fn floor_zones(&self, seats: u32) -> Vec<Zone> {
        const BLOCKS: [&str; 3] = ["Floor B", "Floor A", "Floor C"];
        let aisle = 3.0 * SEAT;
        let usable = 2.0 * self.inner.0 * 0.62 - 2.0 * aisle;
        let across = ((usable / SEAT / 3.0) as u32).clamp(4, 40);
        let width = f64::from(across - 1) * SEAT;
        let mut zones: Vec<Zone> = BLOCKS.iter().copied().map(empty_zone).collect();
        let mut left = seats;
        let mut at = 0;
        while left > 0 {
            for (block, zone) in zones.iter_mut().enumerate() {
                let count = across.min(left);
                left -= count;
                let x = (block as f64 - 1.0) * (width + aisle) - width / 2.0;
                let y = -0.55 * self.inner.1 + f64::from(at) * ROW * 0.9;
                let places: Vec<(f64, f64)> = (0..count).map(|seat| (x + f64::from(seat) * SEAT, y)).collect();
                if count > 0 {
                    zone.rows.push(row(row_label(at, false), &places, self.categories[0].0));
                }
            }
            at += 1;
        }
        zones.swap(0, 1);
        zones.retain(|zone| !zone.rows.is_empty());
        zones
    }
}

fn empty_zone(name: &str) -> Zone {
    Zone { name: name.to_owned(), position: Point::default(), rows: Vec::new(), areas: Vec::new() }
}

fn row(label: String, places: &[(f64, f64)], category: &str) -> Row {
    let seat = |(at, (x, y)): (usize, &(f64, f64))| Seat {
        seat_number: (at + 1).to_string(),
        seat_guid: None,
        position: Point { x: *x, y: *y },
        category: category.to_owned(),
    };
    Row { row_number: label, position: Point::default(), seats: places.iter().enumerate().map(seat).collect() }
}

/// A, B … Z, AA, AB …, without the I and O that look like digits; or 1, 2, 3 …
fn row_label(at: u32, letters: bool) -> String {
    const LETTERS: &[u8; 24] = b"ABCDEFGHJKLMNPQRSTUVWXYZ";
    if !letters {
        return (at + 1).to_string();
    }
    let letter = |at: u32| char::from(LETTERS[at as usize % LETTERS.len()]);
    let count = LETTERS.len() as u32;
    match at / count {
        0 => letter(at).to_string(),
        tens => [letter(tens - 1), letter(at)].iter().collect(),
    }
}

/// Places at equal distances along a part of a rounded rectangle around the origin.
fn arc(width: f64, height: f64, roundness: f64, from: f64, to: f64) -> Vec<(f64, f64)> {
    let point = |angle: f64| {
        let bend = |value: f64| value.signum() * value.abs().powf(roundness);
        (width * bend(angle.cos()), height * bend(angle.sin()))
    };
    let points: Vec<(f64, f64)> =
        (0..=PIECES).map(|piece| point(from + (to - from) * piece as f64 / PIECES as f64)).collect();
    let lengths: Vec<f64> =
        points.windows(2).map(|pair| (pair[1].0 - pair[0].0).hypot(pair[1].1 - pair[0].1)).collect();
    let total: f64 = lengths.iter().sum();
    let count = (total / SEAT) as usize;
    // Centred: what is left over lies on both ends.
    let begin = (total - (count.max(1) - 1) as f64 * SEAT) / 2.0;
    let mut places = Vec::with_capacity(count);
    let (mut piece, mut passed) = (0, 0.0);
    for seat in 0..count {
        let at = begin + seat as f64 * SEAT;
        while piece + 1 < lengths.len() && passed + lengths[piece] < at {
            passed += lengths[piece];
            piece += 1;
        }
        let part = if lengths[piece] > 0.0 { (at - passed) / lengths[piece] } else { 0.0 };
        let (a, b) = (points[piece], points[piece + 1]);
        places.push((a.0 + (b.0 - a.0) * part, a.1 + (b.1 - a.1) * part));
    }
    places
}

/// Moves all of it to the right and below the origin, each section's places relative to its own corner, in tenths.
fn finish(mut plan: SeatPlan) -> SeatPlan {
    let tenth = |value: f64| (value * 10.0).round() / 10.0;
    let places = || plan.zones.iter().flat_map(|zone| &zone.rows).flat_map(|row| &row.seats).map(|seat| seat.position);
    let drawn = || plan.zones.iter().flat_map(|zone| &zone.areas).map(Drawing::bounds);
    let corners =
        drawn().flat_map(|(left, top, right, bottom)| [Point { x: left, y: top }, Point { x: right, y: bottom }]);
    let (least, most) = places().chain(corners).fold(
        ((f64::MAX, f64::MAX), (f64::MIN, f64::MIN)),
        |(least, most): ((f64, f64), (f64, f64)), at| {
            ((least.0.min(at.x), least.1.min(at.y)), (most.0.max(at.x), most.1.max(at.y)))
        },
    );
    plan.size =
        Size { width: (most.0 - least.0 + 2.0 * MARGIN).ceil(), height: (most.1 - least.1 + 2.0 * MARGIN).ceil() };
    for zone in &mut plan.zones {
        let seats = || zone.rows.iter().flat_map(|row| &row.seats).map(|seat| seat.position);
        let corner = seats().fold((f64::MAX, f64::MAX), |least, at| (least.0.min(at.x), least.1.min(at.y)));
        let position = Point { x: tenth(corner.0 - least.0 + MARGIN), y: tenth(corner.1 - least.1 + MARGIN) };
        for seat in zone.rows.iter_mut().flat_map(|row| &mut row.seats) {
            seat.position = Point { x: tenth(seat.position.x - corner.0), y: tenth(seat.position.y - corner.1) };
        }
        for drawing in &mut zone.areas {
            let Point { x, y } = drawing.position;
            drawing.position = Point { x: tenth(x - corner.0), y: tenth(y - corner.1) };
        }
        zone.position = position;
    }
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::event::{Details, PriceLevel};
    use crate::domain::ids::SeatNumber;
    use crate::domain::inventory::Inventory;

    fn made(kind: HouseKind, seats: u32) -> SeatPlan {
        Generate { kind, seats, name: None }.plan().unwrap()
    }

    fn kinds() -> impl Strategy<Value = (HouseKind, u32)> {
        prop_oneof![
            (50..=6_000u32).prop_map(|seats| (HouseKind::Theatre, seats)),
            (500..=40_000u32).prop_map(|seats| (HouseKind::Arena, seats)),
            (2_000..=60_000u32).prop_map(|seats| (HouseKind::Stadium, seats)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn it_has_exactly_so_many_seats_inside_the_drawing((kind, seats) in kinds()) {
            let plan = made(kind, seats);
            prop_assert_eq!(plan.seats(), seats as usize);
            prop_assert_eq!(&plan, &made(kind, seats));
            for zone in &plan.zones {
                for seat in zone.rows.iter().flat_map(|row| &row.seats) {
                    let (x, y) = (zone.position.x + seat.position.x, zone.position.y + seat.position.y);
                    prop_assert!((0.0..=plan.size.width).contains(&x) && (0.0..=plan.size.height).contains(&y));
                }
                for (left, top, right, bottom) in zone.areas.iter().map(Drawing::bounds) {
                    let (x, y) = (zone.position.x, zone.position.y);
                    prop_assert!(x + left >= 0.0 && x + right <= plan.size.width);
                    prop_assert!(y + top >= 0.0 && y + bottom <= plan.size.height);
                }
            }
        }
    }

    #[test]
    fn seats_do_not_lie_on_each_other() {
        for (kind, seats) in [(HouseKind::Theatre, 1_200), (HouseKind::Arena, 15_000), (HouseKind::Stadium, 50_000)] {
            let plan = made(kind, seats);
            let level = PriceLevel {
                key: "all".into(),
                name: "All".into(),
                price: 1,
                color: "#000000".into(),
                categories: plan.categories.iter().map(|category| category.name.clone()).collect(),
            };
            let details = Details { price_levels: vec![level], ..Details::default() };
            let inventory = Inventory::new(Some(&plan), &details).unwrap();
            assert_eq!(inventory.len(), seats);
            assert!(inventory.sections().len() >= 9, "{kind:?}");
            // A grid of cells smaller than a seat: no two seats in one cell are closer than most of a seat.
            let mut cells: std::collections::HashMap<(i64, i64), Vec<Point>> = std::collections::HashMap::new();
            for seat in 0..seats {
                let at = inventory.position(SeatNumber(seat)).unwrap();
                let cell = ((at.x / SEAT) as i64, (at.y / SEAT) as i64);
                for (x, y) in (-1..=1).flat_map(|x| (-1..=1).map(move |y| (cell.0 + x, cell.1 + y))) {
                    for other in cells.get(&(x, y)).into_iter().flatten() {
                        let distance = (other.x - at.x).hypot(other.y - at.y);
                        assert!(distance > 0.7 * SEAT, "{kind:?}: {at:?} and {other:?} are {distance} apart");
                    }
                }
                cells.entry(cell).or_default().push(at);
            }
        }
    }

    /// The first drawing is the ground of all others: stage or pitch.
    #[test]
    fn no_seat_is_on_the_stage_or_on_the_pitch() {
        for (kind, seats) in [
            (HouseKind::Theatre, 420),
            (HouseKind::Arena, 500),
            (HouseKind::Arena, 15_000),
            (HouseKind::Stadium, 50_000),
        ] {
            let plan = made(kind, seats);
            let zone = &plan.zones[0];
            let (left, top, right, bottom) = zone.areas[0].bounds();
            assert!(zone.areas.iter().any(|drawing| drawing.text.is_some()), "{kind:?}");
            let of = |zone: &Zone, at: Point| Point { x: zone.position.x + at.x, y: zone.position.y + at.y };
            let (least, most) = (of(zone, Point { x: left, y: top }), of(zone, Point { x: right, y: bottom }));
            for other in &plan.zones {
                for seat in other.rows.iter().flat_map(|row| &row.seats) {
                    let at = of(other, seat.position);
                    let inside = at.x > least.x && at.x < most.x && at.y > least.y && at.y < most.y;
                    assert!(!inside, "{kind:?} of {seats}: {} {}", other.name, seat.seat_number);
                }
            }
        }
    }

    #[test]
    fn a_number_of_seats_that_makes_no_sense_is_refused() {
        let error = Generate { kind: HouseKind::Theatre, seats: 50_000, name: None }.plan().unwrap_err();
        assert!(error.to_string().contains("50 to 6000"), "{error}");
    }

    #[test]
    fn rows_of_a_theatre_have_letters() {
        let labels: Vec<String> = [0, 7, 8, 23, 24, 48].into_iter().map(|at| row_label(at, true)).collect();
        assert_eq!(labels, ["A", "H", "J", "Z", "AA", "BA"]);
    }
}
