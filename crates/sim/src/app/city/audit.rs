//! The books at the end, by what an operator can read: each ride with its history, and the list of all rides.

use std::collections::HashMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tessera_kernel::Timestamp;
use tokio::time::{Instant, sleep};

use super::City;
use super::tally::Known;
use crate::Error;
use crate::domain::book::{Ended, Entry, State, check as check_book};
use crate::rides::{Ride, Told};

/// Rides read at the same time.
const READ_AT_ONCE: usize = 16;
/// How long the list of rides may be behind.
const LIST_IN: Duration = Duration::from_secs(20);
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// Rides that are named in a finding.
const NAMED: usize = 3;

/// What the books say.
#[derive(Clone, Debug, Default)]
pub(super) struct Audit {
    /// The rides of the run.
    pub(super) entries: Vec<Entry>,
    /// What does not hold.
    pub(super) findings: Vec<String>,
}

/// Reads all rides and checks them.
pub(super) async fn check(city: &City, unfinished: u64) -> Result<Audit, Error> {
    let token = city.operator()?;
    let known = city.tally.rides();
    let reading = known.iter().map(|known| async { read(city, &token, known).await });
    let entries: Vec<Entry> = stream::iter(reading).buffered(READ_AT_ONCE).try_collect().await?;
    let mut findings = check_book(&entries, &city.tally.all_asked(), &city.rules, city.clock.now());
    let open: Vec<&Entry> =
        entries.iter().filter(|entry| !entry.state.is_final() && entry.state != State::Estimated).collect();
    if !open.is_empty() || unfinished > 0 {
        let named: Vec<String> =
            open.iter().take(NAMED).map(|entry| format!("`{}` {:?}", entry.id, entry.state)).collect();
        let named = named.join(", ");
        findings.push(format!("{} rides and {unfinished} riders did not come to an end: {named}", open.len()));
    }
    findings.extend(listed(city, &token, &entries).await?);
    Ok(Audit { entries, findings })
}

async fn read(city: &City, token: &str, known: &Known) -> Result<Entry, Error> {
    let Told { ride, history, .. } = city.client.ride(&known.ride, token).await?;
    let cancelled = ride.cancellation.map(|cancelled| Ended { by: cancelled.by, fee: cancelled.fee.amount });
    Ok(Entry {
        id: ride.ride_id,
        state: ride.state,
        price: ride.price.amount,
        told: Some(known.told),
        cancelled: cancelled.filter(|_| ride.state == State::Cancelled),
        history: history.into_iter().map(Into::into).collect(),
    })
}

/// The list of rides has them all, as they are.
async fn listed(city: &City, token: &str, entries: &[Entry]) -> Result<Option<String>, Error> {
    let first = entries.iter().filter_map(|entry| entry.history.first()).map(|event| event.at).min();
    let since = first.unwrap_or(Timestamp::from_micros(0));
    let deadline = Instant::now() + LIST_IN;
    loop {
        let rides: Vec<Ride> = city.client.list(&format!("/rides?updated_since={since}"), token).await?;
        let states: HashMap<&str, State> = rides.iter().map(|ride| (ride.ride_id.as_str(), ride.state)).collect();
        // An estimate may expire between two looks.
        let agrees = |entry: &&Entry| {
            states.get(entry.id.as_str()).is_some_and(|state| *state == entry.state || entry.state == State::Estimated)
        };
        let (missing, first) = {
            let missing: Vec<&Entry> = entries.iter().filter(|entry| !agrees(entry)).collect();
            (missing.len(), missing.first().map(|entry| entry.id.clone()).unwrap_or_default())
        };
        if missing == 0 {
            return Ok(None);
        }
        if Instant::now() >= deadline {
            return Ok(Some(format!("GET /rides does not have {missing} rides as they are, such as `{first}`")));
        }
        sleep(LOOKS_EVERY).await;
    }
}
