//! Numbers of places: they stay, whatever becomes of capacities.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::domain::event::PriceLevel;

fn area(key: &str, capacity: u32) -> Area {
    let (name, price_level) = (key.to_uppercase(), "all".into());
    Area { key: key.into(), name, capacity, price_level, blocks: Vec::new(), closed: Vec::new() }
}

fn details(areas: Vec<Area>) -> Details {
    let level =
        PriceLevel { key: "all".into(), name: "All".into(), price: 1, color: "#000000".into(), categories: Vec::new() };
    Details { price_levels: vec![level], areas, ..Details::default() }
}

fn area_of(inventory: &Inventory, number: u32) -> Option<String> {
    match inventory.label(SeatNumber(number)) {
        Some(SeatLabel::Place { area }) => Some(area.to_owned()),
        _ => None,
    }
}

proptest! {
    /// Whatever happens to capacities: a number stays its area's, an area sells as many as it shall, and what is taken
    /// is never closed.
    #[test]
    fn numbers_stay_where_they_are(
        steps in prop::collection::vec((prop::collection::vec(0..60u32, 3), prop::collection::vec(any::<prop::sample::Index>(), 0..4)), 1..8),
    ) {
        let mut areas: Vec<Area> = ["a", "b", "c"].into_iter().map(|key| area(key, 10)).collect();
        assign_blocks(&mut areas, 7, |_| false).unwrap();
        let owned = |area: &Area| numbers(&area.blocks).map(|place| (place, area.name.clone())).collect::<Vec<_>>();
        let mut owners: HashMap<u32, String> = areas.iter().flat_map(owned).collect();
        let mut taken: BTreeSet<u32> = BTreeSet::new();
        for (capacities, bought) in steps {
            for (area, capacity) in areas.iter_mut().zip(&capacities) {
                let before = area.clone();
                area.capacity = *capacity;
                let sold = numbers(&area.blocks).filter(|place| taken.contains(place)).count();
                let alone = std::slice::from_mut(area);
                // Alone, and behind the places of all others: the highest number that was given out so far.
                let end = owners.keys().max().map_or(7, |last| last + 1);
                match assign_blocks(alone, end, |seat| taken.contains(&seat.0)) {
                    Ok(()) => prop_assert!(sold <= *capacity as usize),
                    Err(error) => {
                        prop_assert!(sold > *capacity as usize, "{error}");
                        *area = before;
                    }
                }
                for place in numbers(&area.blocks) {
                    let owner = owners.entry(place).or_insert_with(|| area.name.clone());
                    prop_assert_eq!(&*owner, &area.name);
                }
            }
            let inventory = Inventory::new(None, &details(areas.clone())).unwrap();
            for area in &areas {
                let open = numbers(&area.blocks).filter(|place| inventory.level(SeatNumber(*place)).is_some());
                prop_assert_eq!(open.count(), area.capacity as usize);
            }
            for place in &taken {
                prop_assert!(inventory.level(SeatNumber(*place)).is_some());
                prop_assert_eq!(area_of(&inventory, *place), owners.get(place).cloned());
            }
            let open: Vec<u32> = (0..inventory.len()).filter(|number| inventory.level(SeatNumber(*number)).is_some()).collect();
            if !open.is_empty() {
                taken.extend(bought.iter().map(|index| *index.get(&open)));
            }
        }
    }
}

/// An area that gave places back and one behind it that grew had the same numbers: a sold ticket of the one was a place
/// of the other.
#[test]
fn closed_places_are_not_given_to_another_area() {
    let mut areas = vec![area("stand", 5), area("pit", 5)];
    assign_blocks(&mut areas, 0, |_| false).unwrap();
    assert_eq!((&*areas[0].blocks, &*areas[1].blocks), (&[(0, 5)][..], &[(5, 5)][..]));
    (areas[0].capacity, areas[1].capacity) = (8, 2);
    assign_blocks(&mut areas, 0, |seat| seat.0 == 9).unwrap();
    assert_eq!((&*areas[0].blocks, &*areas[1].blocks), (&[(0, 5), (10, 3)][..], &[(5, 5)][..]));
    // The last of the pit is sold, so the ones before it were closed.
    assert_eq!(areas[1].closed, [(6, 3)]);
    let inventory = Inventory::new(None, &details(areas.clone())).unwrap();
    assert_eq!(inventory.label(SeatNumber(9)), Some(SeatLabel::Place { area: "PIT" }));
    assert_eq!((inventory.level(SeatNumber(8)), inventory.sold()), (None, 10));
    areas[1].capacity = 0;
    let error = assign_blocks(&mut areas, 0, |seat| seat.0 == 9).unwrap_err().to_string();
    assert!(error.contains("`pit` cannot hold 0: 1 places are taken"), "{error}");
}
