//! What a phone is told, and of which changes: an offer to its driver, the rest to the rider. No names, addresses or places:
//! a note passes through others' hands.

use std::time::Duration;

use tessera_kernel::{Timestamp, Uuid};

use super::rider_of;
use crate::domain::ids::{DriverId, RideId};
use crate::domain::ride::{Party, Ride, State};

/// How long news of a ride is news, where it has no deadline of its own.
const NEWS: Duration = Duration::from_secs(600);

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// For whose devices.
    pub owner: Uuid,
    /// About which ride: a later note about it takes the place of an earlier one.
    pub ride: RideId,
    /// Of the change in the ride's history.
    pub version: u32,
    /// Where the ride stands with it.
    pub state: State,
    /// One line.
    pub title: &'static str,
    /// Some more.
    pub body: String,
    /// For the app: names and texts.
    pub data: Vec<(&'static str, String)>,
    /// After which it is worth nothing.
    pub expires_at: Timestamp,
}

impl Note {
    /// Whether it says still how the ride is: that another driver is looked for is true while drivers are asked.
    pub fn holds(&self, ride: &Ride) -> bool {
        let looking = matches!(ride.state, State::Requested | State::Offered);
        self.version == ride.version || (self.state == State::Requested && looking)
    }
}

/// What is to be told of a change: the ride after it, and the driver who has nothing to do with it any more.
pub fn notes_of(ride: &Ride, freed: Option<DriverId>) -> Vec<Note> {
    let rider = rider_of(&ride.rider);
    let note = |owner: Uuid, title: &'static str, body: String, expires_at: Timestamp| {
        let data = vec![
            ("ride_id", ride.id.to_string()),
            ("state", ride.state.as_str().to_owned()),
            ("expires_at", expires_at.to_string()),
        ];
        Note { owner, ride: ride.id, version: ride.version, state: ride.state, title, body, data, expires_at }
    };
    let news = ride.updated_at.plus(NEWS);
    let minutes = |seconds: u32| seconds.div_ceil(60).max(1);
    match (ride.state, &ride.offer) {
        (State::Offered, Some(offer)) => {
            let body = format!("{} min to the pickup", minutes(offer.eta_s));
            let mut asked = note(offer.driver.uuid(), "A ride for you", body, offer.expires_at);
            asked.data.push(("offer_id", offer.id.to_string()));
            vec![asked]
        }
        (State::Accepted, Some(offer)) => {
            let body = format!("At the pickup in {} min", minutes(offer.eta_s));
            vec![note(rider, "Your driver is on the way", body, news)]
        }
        (State::Arrived, _) => vec![note(rider, "Your driver is here", "Tell the driver your code".to_owned(), news)],
        // Given back: the search begins anew with this change.
        (State::Requested, Some(_)) if ride.searching_since == Some(ride.updated_at) && freed.is_some() => {
            vec![note(rider, "Your driver cannot come", "We look for another one".to_owned(), news)]
        }
        (State::Requested, _) if ride.nobody_yet_at == Some(ride.updated_at) => {
            vec![note(rider, "No driver yet", "We go on looking, and you keep your place".to_owned(), news)]
        }
        (State::NoDriver, _) => vec![note(rider, "No driver was found", "Try again in a while".to_owned(), news)],
        (State::Cancelled, _) => {
            let by = ride.cancellation.as_ref().map(|cancellation| cancellation.by);
            let told = |owner| note(owner, "The ride was cancelled", "Nothing is left to do".to_owned(), news);
            let driver = freed.filter(|_| by != Some(Party::Driver)).map(DriverId::uuid);
            let rider = (by != Some(Party::Rider)).then_some(rider);
            driver.into_iter().chain(rider).map(told).collect()
        }
        _ => Vec::new(),
    }
}
