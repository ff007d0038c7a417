//! The index against a plain list of drivers.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use tessera_kernel::Uuid;

use super::*;

const NOON: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn driver(n: u128) -> DriverId {
    DriverId::from(Uuid::from_u128(n))
}

fn place(lat: f64, lng: f64) -> Place {
    Place::from_degrees(lat, lng).unwrap()
}

fn later(seconds: u64) -> Timestamp {
    NOON.plus(Duration::from_secs(seconds))
}

fn report(n: u128, place: Place, seconds: u64) -> Report {
    Report { driver: driver(n), place, heading: Some(90), at: later(seconds) }
}

fn enter(index: &Index, driver: DriverId, place: Place, duty: Duty) {
    index.enter(&Entry { driver, place, duty, at: NOON }, false);
}

fn index() -> Index {
    Index::new(Intervals::default(), NOON)
}

fn nearest(index: &Index, place: Place, most: usize, radius_m: f64) -> Vec<DriverId> {
    index.nearest(place, most, radius_m, NOON, |_| true).into_iter().map(|near| near.driver).collect()
}

#[test]
fn a_report_moves_a_driver_and_an_old_one_does_not() {
    let (index, porto) = (index(), place(41.15, -8.61));
    enter(&index, driver(1), porto, Duty::Free);
    let next = place(41.1505, -8.61);
    assert!(index.report(&report(1, next, 5), later(5)).is_ok());
    assert_eq!(index.report(&report(1, porto, 5), later(5)), Err(Refusal::Stale), "the same moment again");
    assert_eq!(index.report(&report(1, porto, 3), later(5)), Err(Refusal::Stale), "out of order");
    let known = index.get(driver(1)).unwrap();
    assert_eq!((known.place, known.heading, known.at), (next, Some(90), later(5)));
    assert_eq!(index.report(&report(2, porto, 5), later(5)), Err(Refusal::OffDuty));
    assert_eq!(index.report(&report(1, porto, 10), later(90)), Err(Refusal::Past));
    assert_eq!(index.report(&report(1, porto, 90), later(10)), Err(Refusal::Future));
    assert_eq!(index.report(&report(1, place(41.25, -8.61), 10), later(10)), Err(Refusal::Jump));
    assert!(index.report(&report(1, place(41.25, -8.61), 400), later(400)).is_ok(), "in the time it is possible");
    assert!(index.leave(driver(1)) && !index.leave(driver(1)));
    assert_eq!((index.get(driver(1)), index.len()), (None, 0));
}

#[test]
fn busy_silent_and_unfit_drivers_are_not_offered() {
    let (index, here) = (index(), place(41.15, -8.61));
    for n in 1..=4 {
        enter(&index, driver(n), place(41.15, -8.61 + n as f64 / 1_000.0), Duty::Free);
    }
    assert_eq!(nearest(&index, here, 9, 1_000.0), (1..=4).map(driver).collect::<Vec<_>>());
    index.set_duty(driver(1), Duty::Busy);
    let unfit = index.nearest(here, 9, 1_000.0, NOON, |id| id != driver(2));
    assert_eq!(unfit.iter().map(|near| near.driver).collect::<Vec<_>>(), [driver(3), driver(4)]);
    // 5 s between reports, so that 15 are the end.
    index.report(&report(3, place(41.15, -8.607), 10), later(10)).unwrap();
    let heard = index.nearest(here, 9, 1_000.0, later(20), |_| true);
    assert_eq!(heard.iter().map(|near| near.driver).collect::<Vec<_>>(), [driver(3)]);
}

#[test]
fn a_parked_driver_reports_less_and_at_once_again_when_it_moves() {
    let index = index();
    let here = place(41.15, -8.61);
    for n in 1..=8 {
        enter(&index, driver(n), here, Duty::Free);
    }
    let drift = |n: u64| place(41.15 + (n % 2) as f64 * 0.000_03, -8.61);
    let seconds = |at: u64| index.report(&report(1, drift(at / 30), at), later(at)).unwrap().as_secs();
    assert_eq!(seconds(30), 5);
    let last = (60..=1_230).step_by(30).map(seconds).last();
    assert_eq!(last, Some(10));
    let moved = index.report(&report(1, place(41.152, -8.61), 1_260), later(1_260)).unwrap();
    assert_eq!(moved.as_secs(), 5);
}

#[test]
fn nearest_reaches_over_cells_and_the_date_line() {
    let index = index();
    enter(&index, driver(1), place(0.0, 179.999), Duty::Free);
    enter(&index, driver(2), place(0.0, -179.99), Duty::Free);
    assert_eq!(nearest(&index, place(0.0, -179.999), 2, 5_000.0), [driver(1), driver(2)]);
    enter(&index, driver(3), place(41.15, -8.70), Duty::Free);
    assert_eq!(nearest(&index, place(41.15, -8.61), 1, 10_000.0), [driver(3)]);
    assert!(nearest(&index, place(41.15, -8.61), 1, 5_000.0).is_empty());
}

#[test]
fn threads_that_move_the_same_drivers_lose_none() {
    let index = Arc::new(index());
    for n in 0..64 {
        enter(&index, driver(n), place(41.15, -8.61), Duty::Free);
    }
    let threads: Vec<_> = (0..4_u64)
        .map(|thread| {
            let index = Arc::clone(&index);
            std::thread::spawn(move || {
                for step in 1..2_000_u64 {
                    let n = u128::from((step * 7 + thread * 13) % 64);
                    let to = place(41.15 + (step % 40) as f64 / 500.0, -8.61 + (step % 30) as f64 / 500.0);
                    let at = later(step * 30);
                    let _ = index.report(&Report { driver: driver(n), place: to, heading: None, at }, at);
                    index.nearest(to, 5, 2_000.0, at, |_| true);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(index.len(), 64);
    assert!((0..64).all(|n| index.get(driver(n)).is_some()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, the index answers as a plain list does.
    #[test]
    fn the_index_is_a_list_of_drivers(
        steps in proptest::collection::vec((0u128..40, -0.06..0.06f64, -0.06..0.06f64, 0u8..10), 1..300),
        most in 1usize..12,
        radius_m in 100.0..8_000.0f64,
    ) {
        let index = index();
        let mut list: HashMap<DriverId, (Place, Duty)> = HashMap::new();
        for (n, up, right, what) in steps {
            let (id, place) = (driver(n * 0x1_0000_0001), place(41.15 + up, -8.61 + right));
            match what {
                0 => prop_assert_eq!(index.leave(id), list.remove(&id).is_some()),
                1 | 2 => {
                    let duty = if what == 1 { Duty::Busy } else { Duty::Free };
                    prop_assert_eq!(index.set_duty(id, duty), list.get_mut(&id).map(|known| known.1 = duty).is_some());
                }
                _ => {
                    enter(&index, id, place, Duty::Free);
                    list.insert(id, (place, Duty::Free));
                }
            }
        }
        let here = place(41.15, -8.61);
        let mut expected: Vec<f64> = list
            .values()
            .filter(|(_, duty)| *duty == Duty::Free)
            .map(|(place, _)| flat_m(*place, here, here.lat().to_radians().cos()))
            .filter(|far| *far <= radius_m)
            .collect();
        expected.sort_by(f64::total_cmp);
        expected.truncate(most);
        let found: Vec<f64> = index.nearest(here, most, radius_m, NOON, |_| true).iter().map(|near| near.distance_m).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(index.len(), list.len());
        for (id, (place, duty)) in list {
            let known = index.get(id).unwrap();
            prop_assert_eq!((known.place, known.duty), (place, duty));
        }
    }
}
