//! Choosing seats for a buyer: the best that are free together, places in general admission, what is free nearby; and the
//! rule against single seats left over.

use super::ids::SeatNumber;
use super::inventory::{Inventory, Row};

/// The best `quantity` seats of a price level (any level where not given) that lie side by side: the first row of the
/// plan that has them, and in it those nearest to its middle. With `no_orphans`, only such as leave no single seat.
///
/// `open` says whether a seat can be had; `row_open` may rule a whole row out without looking at its seats.
pub fn best_together(
    inventory: &Inventory,
    level: Option<usize>,
    quantity: u32,
    no_orphans: bool,
    row_open: impl Fn(usize) -> bool,
    open: impl Fn(SeatNumber) -> bool,
) -> Option<Vec<SeatNumber>> {
    let fits = |seat: SeatNumber| {
        let wanted = match level {
            Some(level) => inventory.level(seat) == Some(level),
            None => inventory.level(seat).is_some(),
        };
        wanted && open(seat)
    };
    inventory.rows().iter().enumerate().find_map(|(index, row)| {
        if row.count < quantity || !row_open(index) {
            return None;
        }
        best_in_row(row, quantity, no_orphans, &fits, &open)
    })
}

fn best_in_row(
    row: &Row,
    quantity: u32,
    no_orphans: bool,
    fits: &impl Fn(SeatNumber) -> bool,
    open: &impl Fn(SeatNumber) -> bool,
) -> Option<Vec<SeatNumber>> {
    let mut best: Option<(u32, u32)> = None;
    let mut run = 0;
    for at in 0..row.count {
        run = if fits(SeatNumber(row.first + at)) { run + 1 } else { 0 };
        if run < quantity {
            continue;
        }
        let start = at + 1 - quantity;
        // Twice the distance between the middles, so that it is a whole number.
        let off = (2 * start + quantity).abs_diff(row.count);
        let better = best.is_none_or(|(least, _)| off < least);
        if better && (!no_orphans || orphan(row, start..start + quantity, open).is_none()) {
            best = Some((off, start));
        }
    }
    best.map(|(_, start)| (start..start + quantity).map(|at| SeatNumber(row.first + at)).collect())
}

/// `quantity` open places of an area, the search beginning at a place that `hint` picks, so that buyers who come at once
/// choose different ones.
pub fn any_places(
    blocks: &[(u32, u32)],
    quantity: u32,
    hint: u64,
    open: impl Fn(SeatNumber) -> bool,
) -> Option<Vec<SeatNumber>> {
    let total: u64 = blocks.iter().map(|(_, count)| u64::from(*count)).sum();
    if total == 0 {
        return None;
    }
    let places = || blocks.iter().flat_map(|(first, count)| *first..first.saturating_add(*count)).map(SeatNumber);
    let start = (hint % total) as usize;
    let chosen = places().skip(start).chain(places().take(start)).filter(|place| open(*place));
    let mut chosen: Vec<SeatNumber> = chosen.take(quantity as usize).collect();
    chosen.sort_unstable();
    (chosen.len() == quantity as usize).then_some(chosen)
}

/// A seat that would be left single by taking these (in ascending order), and is not single already.
pub fn leaves_orphan(
    inventory: &Inventory,
    seats: &[SeatNumber],
    open: impl Fn(SeatNumber) -> bool,
) -> Option<SeatNumber> {
    let still_open = |seat: SeatNumber| open(seat) && seats.binary_search(&seat).is_err();
    seats.iter().find_map(|seat| {
        let row = inventory.row_of(*seat)?;
        let at = seat.0 - row.first;
        let beside = [at.checked_sub(1), Some(at + 1).filter(|next| *next < row.count)];
        beside.into_iter().flatten().map(|at| SeatNumber(row.first + at)).find(|neighbour| {
            still_open(*neighbour) && is_single(row, *neighbour, &still_open) && !is_single(row, *neighbour, &open)
        })
    })
}

fn orphan(row: &Row, taken: std::ops::Range<u32>, open: &impl Fn(SeatNumber) -> bool) -> Option<SeatNumber> {
    let still_open = |seat: SeatNumber| open(seat) && !taken.contains(&(seat.0 - row.first));
    let beside = [taken.start.checked_sub(1), Some(taken.end).filter(|next| *next < row.count)];
    beside.into_iter().flatten().map(|at| SeatNumber(row.first + at)).find(|neighbour| {
        still_open(*neighbour) && is_single(row, *neighbour, &still_open) && !is_single(row, *neighbour, open)
    })
}

/// Whether neither neighbour of a seat can be had.
fn is_single(row: &Row, seat: SeatNumber, open: &impl Fn(SeatNumber) -> bool) -> bool {
    let at = seat.0 - row.first;
    let left = at.checked_sub(1).is_some_and(|at| open(SeatNumber(row.first + at)));
    let right = at + 1 < row.count && open(SeatNumber(row.first + at + 1));
    !left && !right
}

/// Up to `count` open seats near one: outward in its row first, then outward row by row, of the same level; for a place in
/// general admission, any open ones of its area.
pub fn nearby(
    inventory: &Inventory,
    seat: SeatNumber,
    count: usize,
    row_open: impl Fn(usize) -> bool,
    open: impl Fn(SeatNumber) -> bool,
) -> Vec<SeatNumber> {
    let level = inventory.level(seat);
    let Some(home) = inventory.row_index(seat) else {
        let inside = |(first, count): &(u32, u32)| seat.0 >= *first && seat.0 - first < *count;
        let area = inventory.areas().iter().find(|area| area.blocks.iter().any(inside));
        let places = area.into_iter().flat_map(|area| &area.blocks).flat_map(|(first, count)| *first..first + count);
        return places.map(SeatNumber).filter(|place| open(*place)).take(count).collect();
    };
    let rows = inventory.rows();
    let at = seat.0 - rows[home].first;
    let mut found = Vec::new();
    for distance in 0..rows.len() {
        let around =
            [home.checked_sub(distance), Some(home + distance).filter(|row| distance > 0 && *row < rows.len())];
        for index in around.into_iter().flatten().filter(|index| row_open(*index)) {
            let row = &rows[index];
            let mut seats: Vec<u32> = (0..row.count).collect();
            seats.sort_by_key(|other| other.abs_diff(at));
            let seats = seats.into_iter().map(|at| SeatNumber(row.first + at));
            let fit = seats.filter(|near| *near != seat && inventory.level(*near) == level && open(*near));
            found.extend(fit.take(count - found.len()));
        }
        if found.len() >= count {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::event::{Details, PriceLevel};
    use crate::domain::plan::{Category, Point, Seat, SeatPlan, Size, Zone};

    fn inventory(rows: &[usize]) -> Inventory {
        let seat = |n: usize| Seat {
            seat_number: (n + 1).to_string(),
            seat_guid: None,
            position: Point { x: n as f64, y: 0.0 },
            category: "all".into(),
        };
        let row = |(n, seats): (usize, &usize)| crate::domain::plan::Row {
            row_number: n.to_string(),
            position: Point::default(),
            seats: (0..*seats).map(seat).collect(),
        };
        let rows = rows.iter().enumerate().map(row).collect();
        let plan = SeatPlan {
            name: "plan".into(),
            categories: vec![Category { name: "all".into(), color: "#000000".into() }],
            zones: vec![Zone { name: "zone".into(), position: Point::default(), rows, areas: Vec::new() }],
            size: Size { width: 1.0, height: 1.0 },
        };
        let level = PriceLevel {
            key: "all".into(),
            name: "All".into(),
            price: 100,
            color: "#000000".into(),
            categories: vec!["all".into()],
        };
        Inventory::new(Some(&plan), &Details { price_levels: vec![level], ..Details::default() }).unwrap()
    }

    fn numbers(seats: &[SeatNumber]) -> Vec<u32> {
        seats.iter().map(|seat| seat.0).collect()
    }

    #[test]
    fn the_first_row_and_its_middle_come_first() {
        let inventory = inventory(&[3, 7, 7]);
        let best = |quantity, taken: &[u32], strict| {
            let open = |seat: SeatNumber| !taken.contains(&seat.0);
            best_together(&inventory, None, quantity, strict, |_| true, open).map(|seats| numbers(&seats))
        };
        assert_eq!(best(1, &[], false), Some(vec![1]));
        assert_eq!(best(4, &[], false), Some(vec![4, 5, 6, 7]));
        assert_eq!(best(3, &[6], false), Some(vec![0, 1, 2]));
        assert_eq!(best(4, &[1, 6], false), Some(vec![11, 12, 13, 14]));
        assert_eq!(best(8, &[], false), None);
        // The middle of three would leave two single ones; an edge leaves a pair.
        assert_eq!(best(1, &[], true), Some(vec![0]));
        assert_eq!(best(2, &[], true), Some(vec![5, 6]), "row 0 and the left edge would keep one");
    }

    #[test]
    fn single_seats_are_named() {
        let inventory = inventory(&[5]);
        let orphan = |seats: &[u32], taken: &[u32]| {
            let seats: Vec<SeatNumber> = seats.iter().copied().map(SeatNumber).collect();
            leaves_orphan(&inventory, &seats, |seat| !taken.contains(&seat.0)).map(|seat| seat.0)
        };
        assert_eq!(orphan(&[1], &[]), Some(0));
        assert_eq!(orphan(&[0, 1], &[]), None);
        assert_eq!(orphan(&[3], &[]), Some(4));
        assert_eq!(orphan(&[1], &[0]), None);
        assert_eq!(orphan(&[2], &[0, 4]), Some(1));
        // Seat 4 is single already: taking beside it is nobody's fault.
        assert_eq!(orphan(&[0], &[1, 3]), None);
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_open_together_and_orphan_free(
            rows in prop::collection::vec(1usize..9, 1..5),
            taken in prop::collection::hash_set(0u32..36, 0..20),
            quantity in 1u32..6,
            strict: bool,
        ) {
            let inventory = inventory(&rows);
            let open = |seat: SeatNumber| seat.0 < inventory.len() && !taken.contains(&seat.0);
            let found = best_together(&inventory, None, quantity, strict, |_| true, open);
            let any = inventory.rows().iter().any(|row| {
                (0..row.count.saturating_sub(quantity - 1)).any(|start| {
                    let seats: Vec<SeatNumber> = (start..start + quantity).map(|at| SeatNumber(row.first + at)).collect();
                    seats.iter().all(|seat| open(*seat)) && (!strict || leaves_orphan(&inventory, &seats, open).is_none())
                })
            });
            prop_assert_eq!(found.is_some(), any);
            if let Some(seats) = found {
                prop_assert_eq!(seats.len(), quantity as usize);
                prop_assert!(seats.iter().all(|seat| open(*seat)));
                prop_assert!(seats.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1));
                let in_rows: HashSet<usize> = seats.iter().filter_map(|seat| inventory.row_index(*seat)).collect();
                prop_assert_eq!(in_rows.len(), 1);
                if strict {
                    prop_assert_eq!(leaves_orphan(&inventory, &seats, open), None);
                }
            }
        }

        #[test]
        fn places_are_open_and_differ(taken in prop::collection::hash_set(10u32..40, 0..30), quantity in 1u32..8, hint: u64) {
            let blocks = [(10, 12), (30, 10)];
            let open = |seat: SeatNumber| !taken.contains(&seat.0);
            let free = (10..22).chain(30..40).filter(|n| !taken.contains(n)).count();
            match any_places(&blocks, quantity, hint, open) {
                Some(places) => {
                    let distinct: HashSet<SeatNumber> = places.iter().copied().collect();
                    prop_assert_eq!(distinct.len(), quantity as usize);
                    prop_assert!(places.iter().all(|place| open(*place) && ((10..22).contains(&place.0) || (30..40).contains(&place.0))));
                }
                None => prop_assert!(free < quantity as usize),
            }
        }
    }

    #[test]
    fn nearby_goes_outward() {
        let inventory = inventory(&[5, 5, 5]);
        let near = |taken: &[u32], count| {
            numbers(&nearby(&inventory, SeatNumber(7), count, |_| true, |seat| !taken.contains(&seat.0)))
        };
        assert_eq!(near(&[], 3), [6, 8, 5]);
        assert_eq!(near(&[5, 6, 8, 9], 3), [2, 1, 3]);
    }
}
