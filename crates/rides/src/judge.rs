//! What the histories of rides must show, whatever happened to them. Tests and benchmarks ask it; nothing of the service does.

use std::collections::{BTreeMap, HashMap, HashSet};

use tessera_kernel::Timestamp;

use crate::Error;
use crate::domain::ids::{DriverId, RideId};
use crate::domain::ride::{Ride, State};
use crate::store::{Page, RidesOf, Store};

/// Every transition that there may be; not made of what the rides themselves go by.
const LEGAL: &[(State, &str, State)] = &[
    (State::Estimated, "requested", State::Requested),
    (State::Estimated, "expired", State::Expired),
    (State::Requested, "offered", State::Offered),
    (State::Requested, "no_driver", State::NoDriver),
    (State::Requested, "nobody_yet", State::Requested),
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
/// Rides that are read at a time.
const PAGE: u32 = 500;

/// What sort of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// An event that is missing, too early, or may not follow.
    Step,
    /// A driver was asked for a ride again.
    AskedAgain,
    /// A driver had two offers or rides at the same time.
    AtOnce,
    /// Who was asked is not who drives, or offers are miscounted.
    Offer,
    /// A driver was asked under an older claim than before.
    Claim,
    /// A row is not what the histories say.
    Row,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What sort.
    pub sort: Sort,
    /// In words.
    pub text: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What must not be.
    pub faults: Vec<Fault>,
    /// How many rides ended in, or are in, each state.
    pub ends: BTreeMap<&'static str, usize>,
    /// Who is asked for which ride, or drives it, in the end.
    pub bound: HashMap<DriverId, RideId>,
    /// Offers to each driver, and how many were accepted.
    pub offers: HashMap<DriverId, (usize, usize)>,
}

impl Verdict {
    /// How many faults of a sort there are.
    pub fn count(&self, sort: Sort) -> usize {
        self.faults.iter().filter(|fault| fault.sort == sort).count()
    }

    fn finds(&mut self, sort: Sort, text: String) {
        self.faults.push(Fault { sort, text });
    }
}

/// A time during which a driver had an offer or a ride.
#[derive(Debug)]
struct Span {
    ride: RideId,
    from: Timestamp,
    to: Option<Timestamp>,
}

/// What is said of a driver in all histories.
#[derive(Debug, Default)]
struct Told {
    spans: Vec<Span>,
    /// When each offer was made, and under which claim.
    offers: Vec<(Timestamp, i64)>,
    accepted: usize,
}

/// Reads one history after the other.
#[derive(Debug, Default)]
pub struct Judge {
    told: HashMap<DriverId, Told>,
    verdict: Verdict,
}

impl Judge {
    /// Takes all that happened to a ride: kinds and the ride after each, oldest first.
    pub fn read(&mut self, history: &[(String, Ride)]) {
        let mut asked: HashSet<DriverId> = HashSet::new();
        let mut before: Option<&Ride> = None;
        for (number, (kind, ride)) in (1..).zip(history) {
            self.step(number, before, kind, ride);
            if kind == "offered" {
                self.offer(ride, &mut asked);
            }
            self.bind(before, kind, ride);
            before = Some(ride);
        }
        let Some(last) = before else { return self.verdict.finds(Sort::Step, "a ride has no history".to_owned()) };
        *self.verdict.ends.entry(last.state.as_str()).or_default() += 1;
        if let Some(driver) = last.bound_driver() {
            // A second one is found among the spans.
            self.verdict.bound.insert(driver, last.id);
        }
    }

    fn step(&mut self, number: u32, before: Option<&Ride>, kind: &str, ride: &Ride) {
        let (id, version) = (ride.id, ride.version);
        if version != number {
            self.verdict.finds(Sort::Step, format!("event {number} of {id} has version {version}"));
        }
        let legal = match before {
            None => kind == "estimated" && ride.state == State::Estimated,
            Some(before) => before.id == id && LEGAL.contains(&(before.state, kind, ride.state)),
        };
        if !legal {
            let was = before.map(|before| before.state);
            self.verdict.finds(Sort::Step, format!("{id}: `{kind}` took it from {was:?} to {:?}", ride.state));
        }
        if before.is_some_and(|before| before.updated_at > ride.updated_at) {
            self.verdict.finds(Sort::Step, format!("{id}: `{kind}` is earlier than what was before it"));
        }
    }

    fn offer(&mut self, ride: &Ride, asked: &mut HashSet<DriverId>) {
        let id = ride.id;
        let Some(offer) = &ride.offer else {
            return self.verdict.finds(Sort::Offer, format!("{id} is offered without an offer"));
        };
        if !asked.insert(offer.driver) {
            self.verdict.finds(Sort::AskedAgain, format!("{} is asked for {id} again", offer.driver));
        } else if (offer.number, ride.offers) != (asked.len() as u32, asked.len() as u32) {
            self.verdict.finds(Sort::Offer, format!("offer {} of {id} has number {}", asked.len(), offer.number));
        }
        self.told.entry(offer.driver).or_default().offers.push((ride.updated_at, offer.token));
    }

    fn bind(&mut self, before: Option<&Ride>, kind: &str, ride: &Ride) {
        let (was, is) = (before.and_then(Ride::bound_driver), ride.bound_driver());
        if kind == "accepted" {
            if was.is_none() || was != is {
                self.verdict.finds(Sort::Offer, format!("{}: {was:?} was asked and {is:?} drives", ride.id));
            }
            if let Some(driver) = is {
                self.told.entry(driver).or_default().accepted += 1;
            }
        }
        if was == is {
            return;
        }
        if let Some(driver) = was {
            let spans = self.told.entry(driver).or_default().spans.iter_mut();
            if let Some(span) = spans.rev().find(|span| span.ride == ride.id) {
                span.to = Some(ride.updated_at);
            }
        }
        if let Some(driver) = is {
            let span = Span { ride: ride.id, from: ride.updated_at, to: None };
            self.told.entry(driver).or_default().spans.push(span);
        }
    }

    /// What all histories together show.
    pub fn verdict(self) -> Verdict {
        let Self { told, mut verdict } = self;
        for (driver, Told { mut spans, mut offers, accepted }) in told {
            verdict.offers.insert(driver, (offers.len(), accepted));
            // What begins and ends in one transaction lasts no time.
            spans.retain(|span| span.to != Some(span.from));
            spans.sort_by_key(|span| span.from);
            for pair in spans.windows(2).filter(|pair| pair[0].to.is_none_or(|to| to > pair[1].from)) {
                let text = format!("{driver} has {} and {} at once", pair[0].ride, pair[1].ride);
                verdict.finds(Sort::AtOnce, text);
            }
            offers.sort_unstable();
            if !offers.is_sorted_by(|one, other| one.1 < other.1) {
                let text = format!("{driver} was asked under an older claim than before: {offers:?}");
                verdict.finds(Sort::Claim, text);
            }
        }
        verdict
    }
}

/// All rides there are, read page by page when nothing is under way.
///
/// # Errors
/// Those of the database.
pub async fn rides(store: &Store) -> Result<Vec<RideId>, Error> {
    let (mut rides, mut after) = (Vec::new(), None);
    loop {
        let page = Page { since: Timestamp::from_micros(0), after, limit: PAGE };
        let rows = store.rides(RidesOf::Everyone, page).await?;
        let Some(last) = rows.last() else { return Ok(rides) };
        after = Some((last.updated_at, last.id));
        rides.extend(rows.iter().map(|row| row.id));
    }
}

/// Judges these rides, which must be all there are: their histories, and that the rows of rides and drivers agree with them.
///
/// # Errors
/// Those of the database; [`Error::Corrupt`] where one cannot be read.
pub async fn check(store: &Store, rides: &[RideId]) -> Result<Verdict, Error> {
    let mut judge = Judge::default();
    for id in rides {
        let history = store.history(*id).await?;
        let row = store.ride(*id).await?;
        if history.last().map(|(_, ride)| ride) != row.as_ref() {
            judge.verdict.finds(Sort::Row, format!("the row of {id} is not what its history says"));
        }
        judge.read(&history);
    }
    let mut verdict = judge.verdict();
    let mut bound = HashMap::new();
    for driver in store.bound_drivers().await? {
        bound.extend(store.ride_of_driver(driver).await?.map(|ride| (driver, ride.id)));
    }
    if bound != verdict.bound {
        let text = format!("{bound:?} are bound, by the histories {:?}", verdict.bound);
        verdict.finds(Sort::Row, text);
    }
    let drivers: Vec<DriverId> = verdict.offers.keys().copied().collect();
    let rows: HashMap<DriverId, (usize, usize)> = store.drivers(&drivers).await?.into_iter().map(counts).collect();
    for (driver, offers) in verdict.offers.clone() {
        let known = rows.get(&driver);
        if known != Some(&offers) {
            let text = format!("the row of {driver} counts {known:?} offers and acceptances, there were {offers:?}");
            verdict.finds(Sort::Row, text);
        }
    }
    Ok(verdict)
}

fn counts(driver: crate::store::Driver) -> (DriverId, (usize, usize)) {
    (driver.id, (driver.offered as usize, driver.accepted as usize))
}
