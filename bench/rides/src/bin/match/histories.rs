//! What the histories of all rides say, read from the database when the server has ended.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tessera_kernel::{SystemClock, Timestamp};
use tessera_rides::domain::fare::Tariff;
use tessera_rides::domain::ids::DriverId;
use tessera_rides::store::{Page, RidesOf, Store};

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Rides that were requested.
    pub requested: usize,
    /// From each request to its first offer, milliseconds.
    pub first_offers_ms: Vec<f64>,
    /// All offers.
    pub offers: usize,
    /// Those that were accepted.
    pub accepted: usize,
    /// Their mean time to the pickup.
    pub mean_eta_s: f64,
    /// How often a driver was asked for a ride again.
    pub asked_again: usize,
    /// How often a driver was asked for a ride while having another, or an offer.
    pub asked_at_once: usize,
}

/// Reads all of them.
///
/// # Errors
/// Those of the database.
pub async fn read(url: &str) -> anyhow::Result<Found> {
    let store = Store::open(url, Arc::new(SystemClock), Tariff::default(), Default::default()).await?;
    let mut found = Found::default();
    let mut spans: HashMap<DriverId, Vec<(Timestamp, Option<Timestamp>)>> = HashMap::new();
    let mut after = None;
    let mut etas = 0.0;
    loop {
        let page = Page { since: Timestamp::from_micros(0), after, limit: 500 };
        let rides = store.rides(RidesOf::Everyone, page).await?;
        let Some(last) = rides.last() else { break };
        after = Some((last.updated_at, last.id));
        for ride in &rides {
            let Some(requested) = ride.requested_at else { continue };
            found.requested += 1;
            let mut asked: HashSet<DriverId> = HashSet::new();
            let mut bound: Option<(DriverId, Timestamp)> = None;
            for (kind, ride) in store.history(ride.id).await? {
                if let (true, Some(offer)) = (kind == "offered", &ride.offer) {
                    found.offers += 1;
                    found.asked_again += usize::from(!asked.insert(offer.driver));
                    if asked.len() == 1 {
                        found.first_offers_ms.push(ride.updated_at.since(requested).as_secs_f64() * 1e3);
                    }
                }
                if let (true, Some(offer)) = (kind == "accepted", &ride.offer) {
                    found.accepted += 1;
                    etas += f64::from(offer.eta_s);
                }
                let now = ride.bound_driver();
                if now != bound.map(|(driver, _)| driver) {
                    if let Some((driver, from)) = bound {
                        spans.entry(driver).or_default().push((from, Some(ride.updated_at)));
                    }
                    bound = now.map(|driver| (driver, ride.updated_at));
                }
            }
            if let Some((driver, from)) = bound {
                spans.entry(driver).or_default().push((from, None));
            }
        }
    }
    for spans in spans.values_mut() {
        spans.sort_unstable_by_key(|(from, _)| *from);
        let over = |pair: &&[(Timestamp, Option<Timestamp>)]| pair[0].1.is_none_or(|to| to > pair[1].0);
        found.asked_at_once += spans.windows(2).filter(over).count();
    }
    found.mean_eta_s = etas / found.accepted.max(1) as f64;
    store.close().await;
    Ok(found)
}
