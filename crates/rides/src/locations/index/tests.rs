//! The index against a plain list of drivers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;
use tessera_kernel::{Place, Uuid};

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
                // Some that only this one brings and takes away, so that the index grows meanwhile.
                let own = |step: u64| u128::from(1_000 * (thread + 1) + step % 300);
                for step in 0..1_800_u64 {
                    let to = place(41.15 + (step % 40) as f64 / 500.0, -8.61 + (step % 30) as f64 / 500.0);
                    let report = |other: u64| report(u128::from((step * 7 + thread * 13 + other) % 64), to, step * 30);
                    index.report_all(&[report(0), report(11), report(0)], later(step * 30));
                    let near = index.nearest(to, 5, 2_000.0, later(step * 30), |_| true);
                    let ids: HashSet<DriverId> = near.iter().map(|near| near.driver).collect();
                    assert_eq!(ids.len(), near.len(), "nobody is there twice");
                    if step / 300 % 2 == 0 {
                        enter(&index, driver(own(step)), to, Duty::Busy);
                    } else {
                        assert!(index.leave(driver(own(step))));
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(index.len(), 64);
    for n in 0..64 {
        let known = index.get(driver(n)).unwrap();
        let there = index.nearest(known.place, 64, 1.0, known.heard, |_| true);
        assert!(there.iter().any(|near| near.driver == driver(n)), "{n} is in the square of its place");
    }
}

#[test]
fn an_interval_of_hours_is_kept() {
    let rules = Intervals { longest_s: 20_000, sparse_s: 20_000, ..Intervals::default() };
    let (index, here) = (Index::new(rules, NOON), place(41.15, -8.61));
    enter(&index, driver(1), here, Duty::Free);
    assert_eq!(index.report(&report(1, here, 5), later(5)).unwrap().as_secs(), 20_000);
    let near = |seconds| index.nearest(here, 1, 100.0, later(seconds), |_| true).len();
    assert_eq!((near(59_000), near(61_000)), (1, 0));
}

/// Places around one of the middle of a city, the date line and the poles; some close together, some far away.
fn scattered() -> impl Strategy<Value = (Place, Vec<Place>)> {
    let middle = prop_oneof![
        Just((41.15, -8.61)),
        Just((0.0, 179.999)),
        Just((-40.0, -180.0)),
        Just((89.99, 20.0)),
        Just((-90.0, 0.0))
    ];
    let offset = (prop_oneof![Just(0.001), Just(0.02), Just(0.6)], -1.0..1.0_f64, -1.0..1.0_f64);
    (middle, proptest::collection::vec(offset, 0..300)).prop_map(|((lat, lng), offsets)| {
        let at = |(far, up, right): (f64, f64, f64)| {
            let lng = lng + far * right;
            // Over the date line.
            let around = if lng.abs() > 180.0 { lng - 360.0 * lng.signum() } else { lng };
            place((lat + far * up).clamp(-90.0, 90.0), around)
        };
        (at((0.0, 0.0, 0.0)), offsets.into_iter().map(at).collect())
    })
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

    /// Wherever drivers are, the nearest are those of a plain list.
    #[test]
    fn the_nearest_are_those_of_a_list(
        (here, places) in scattered(),
        most in 1usize..30,
        radius_m in prop_oneof![0.0..500.0f64, 500.0..8_000.0f64, 8_000.0..200_000.0f64],
        unfit in 1u128..20,
    ) {
        let index = index();
        for (n, place) in places.iter().enumerate() {
            enter(&index, driver(n as u128), *place, Duty::Free);
        }
        let fits = |n: usize| n as u128 % unfit != 1;
        let all = places.iter().enumerate().filter(|(n, _)| fits(*n));
        let mut expected: Vec<f64> = all.map(|(_, place)| flat_m(*place, here, here.lat().to_radians().cos())).collect();
        expected.retain(|far| *far <= radius_m);
        expected.sort_by(f64::total_cmp);
        expected.truncate(most);
        let found = index.nearest(here, most, radius_m, NOON, |id| fits(id.uuid().as_u128() as usize));
        prop_assert_eq!(found.iter().map(|near| near.distance_m).collect::<Vec<_>>(), expected);
        if let Some(bounds) = Bounds::around(places.iter().copied()) {
            prop_assert_eq!(index.within(&bounds, 1_000).len(), places.len());
            prop_assert_eq!(index.within(&bounds, most).len(), most.min(places.len()));
        }
    }

    /// Reports in batches come to what they come to one by one, and what was said last of what was taken is known.
    #[test]
    fn a_batch_is_its_reports_one_by_one(
        reports in proptest::collection::vec((0u128..40, -0.02..0.02f64, -0.02..0.02f64, 0u64..400), 1..400),
        size in 1usize..200,
    ) {
        let (batches, singly) = (index(), index());
        for n in (0..40).filter(|n| n % 7 != 3) {
            enter(&batches, driver(n), place(41.15, -8.61), Duty::Free);
            enter(&singly, driver(n), place(41.15, -8.61), Duty::Free);
        }
        let mut known: HashMap<DriverId, Report> = HashMap::new();
        let reports: Vec<Report> =
            reports.into_iter().map(|(n, up, right, at)| report(n, place(41.15 + up, -8.61 + right), at)).collect();
        for reports in reports.chunks(size) {
            let now = reports.iter().map(|report| report.at).max().unwrap();
            let answers = batches.report_all(reports, now);
            prop_assert_eq!(answers.len(), reports.len());
            for (report, answer) in reports.iter().zip(answers) {
                prop_assert_eq!(answer, singly.report(report, now));
                let last = known.get(&report.driver).map(|last| last.at);
                match answer {
                    Err(Refusal::Stale) => prop_assert!(last.is_some_and(|last| last >= report.at)),
                    Err(Refusal::OffDuty) => prop_assert!(batches.get(report.driver).is_none()),
                    Err(_) => {}
                    Ok(_) => {
                        prop_assert!(last.is_none_or(|last| last < report.at));
                        known.insert(report.driver, *report);
                    }
                }
            }
        }
        for (id, last) in known {
            let located = batches.get(id).unwrap();
            prop_assert_eq!((located.place, located.at), (last.place, last.at));
            prop_assert_eq!(Some(located), singly.get(id));
            let there = batches.nearest(last.place, 40, 1.0, located.heard, |_| true);
            prop_assert!(there.iter().any(|near| near.driver == id));
        }
    }
}
