//! What the histories of rides must show, whatever happened to them.

use std::collections::{BTreeMap, HashMap, HashSet};

use tessera_kernel::Timestamp;
use tessera_rides::domain::ids::{DriverId, RideId};
use tessera_rides::domain::ride::{Ride, State};
use tessera_rides::store::Store;

/// Every transition that there may be.
const LEGAL: &[(State, &str, State)] = &[
    (State::Estimated, "requested", State::Requested),
    (State::Estimated, "expired", State::Expired),
    (State::Requested, "offered", State::Offered),
    (State::Requested, "no_driver", State::NoDriver),
    (State::Offered, "accepted", State::Accepted),
    (State::Offered, "denied", State::Requested),
    (State::Offered, "lapsed", State::Requested),
    (State::Accepted, "arrived", State::Arrived),
    (State::Arrived, "wrong_code", State::Arrived),
    (State::Arrived, "picked_up_rider", State::PickedUpRider),
    (State::PickedUpRider, "completed", State::Completed),
    (State::Estimated, "cancelled", State::Cancelled),
    (State::Requested, "cancelled", State::Cancelled),
    (State::Offered, "cancelled", State::Cancelled),
    (State::Accepted, "cancelled", State::Cancelled),
    (State::Arrived, "cancelled", State::Cancelled),
    (State::PickedUpRider, "cancelled", State::Cancelled),
    // A driver gives it back.
    (State::Accepted, "cancelled", State::Requested),
    (State::Arrived, "cancelled", State::Requested),
];

/// A time during which a driver had an offer or a ride.
struct Span {
    ride: RideId,
    from: Timestamp,
    to: Option<Timestamp>,
}

/// What is said of a driver in all histories.
#[derive(Default)]
struct Told {
    spans: Vec<Span>,
    /// When each offer was made, and under which claim.
    offers: Vec<(Timestamp, i64)>,
    accepted: usize,
}

/// Judges all rides there are, when nothing is under way; gives how many ended in each state.
pub async fn judge(store: &Store, rides: &[RideId]) -> BTreeMap<&'static str, usize> {
    let mut told: HashMap<DriverId, Told> = HashMap::new();
    let mut ends: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut bound: HashSet<DriverId> = HashSet::new();
    for id in rides {
        let history = store.history(*id).await.unwrap();
        let last = store.ride(*id).await.unwrap().unwrap();
        assert_eq!(history.last().unwrap().1, last, "the row is what its history says");
        one_ride(&history, &mut told);
        *ends.entry(last.state.as_str()).or_default() += 1;
        if let Some(driver) = last.bound_driver() {
            assert!(bound.insert(driver), "{driver} has two rides");
            assert_eq!(store.ride_of_driver(driver).await.unwrap().map(|ride| ride.id), Some(*id));
        }
    }
    assert_eq!(store.bound_drivers().await.unwrap().into_iter().collect::<HashSet<_>>(), bound, "nobody else is bound");
    for (driver, told) in told {
        let row = store.drivers(&[driver]).await.unwrap().pop().unwrap();
        assert_eq!(row.offered as usize, told.offers.len(), "every offer to {driver} counts");
        assert_eq!(row.accepted as usize, told.accepted, "every acceptance of {driver} counts");
        one_driver(driver, told);
    }
    ends
}

fn one_ride(history: &[(String, Ride)], told: &mut HashMap<DriverId, Told>) {
    let mut asked: HashSet<DriverId> = HashSet::new();
    let mut before: Option<&Ride> = None;
    for (n, (kind, ride)) in history.iter().enumerate() {
        let id = ride.id;
        assert_eq!(ride.version as usize, n + 1, "no event of {id} is lost");
        match before {
            None => assert_eq!((kind.as_str(), ride.state), ("estimated", State::Estimated)),
            Some(before) => {
                let step = (before.state, kind.as_str(), ride.state);
                assert!(LEGAL.contains(&step), "{id}: {step:?}");
                assert!(before.updated_at <= ride.updated_at, "{id}: time goes on");
            }
        }
        if kind == "offered" {
            let offer = ride.offer.as_ref().unwrap();
            let driver = offer.driver;
            assert!(asked.insert(driver), "{driver} is asked for {id} twice");
            assert_eq!((offer.number, ride.offers), (asked.len() as u32, asked.len() as u32));
            told.entry(driver).or_default().offers.push((ride.updated_at, offer.token));
        }
        let (was, is) = (before.and_then(Ride::bound_driver), ride.bound_driver());
        if kind == "accepted" {
            assert_eq!(was, is, "{id}: who was asked drives");
            told.entry(is.unwrap()).or_default().accepted += 1;
        }
        if was != is {
            if let Some(driver) = was {
                let spans = &mut told.entry(driver).or_default().spans;
                let span = spans.iter_mut().rfind(|span| span.ride == id).unwrap();
                span.to = Some(ride.updated_at);
            }
            if let Some(driver) = is {
                told.entry(driver).or_default().spans.push(Span { ride: id, from: ride.updated_at, to: None });
            }
        }
        before = Some(ride);
    }
}

fn one_driver(driver: DriverId, told: Told) {
    let Told { mut spans, mut offers, .. } = told;
    // What begins and ends in one transaction lasts no time.
    spans.retain(|span| span.to != Some(span.from));
    spans.sort_by_key(|span| span.from);
    for pair in spans.windows(2) {
        let ended = pair[0].to.is_some_and(|to| to <= pair[1].from);
        assert!(ended, "{driver} has {} and {} at once", pair[0].ride, pair[1].ride);
    }
    offers.sort_unstable();
    let tokens = offers.windows(2).all(|pair| pair[0].1 < pair[1].1);
    assert!(tokens, "{driver} was asked under an older claim than before: {offers:?}");
}
