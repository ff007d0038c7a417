//! What the histories of all rides say, read from the database when the server has ended.

use std::sync::Arc;

use tessera_kernel::SystemClock;
use tessera_rides::domain::fare::Tariff;
use tessera_rides::judge::{self, Judge, Sort};
use tessera_rides::store::Store;

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
    let (mut found, mut judge) = (Found::default(), Judge::default());
    let mut etas = 0.0;
    for id in judge::rides(&store).await? {
        let history = store.history(id).await?;
        judge.read(&history);
        let Some(requested) = history.last().and_then(|(_, ride)| ride.requested_at) else { continue };
        found.requested += 1;
        let offered = history.iter().find(|(kind, _)| kind == "offered");
        found.first_offers_ms.extend(offered.map(|(_, ride)| ride.updated_at.since(requested).as_secs_f64() * 1e3));
        let accepted = history.iter().filter(|(kind, _)| kind == "accepted");
        etas += accepted.filter_map(|(_, ride)| Some(f64::from(ride.offer.as_ref()?.eta_s))).sum::<f64>();
    }
    let verdict = judge.verdict();
    (found.offers, found.accepted) =
        verdict.offers.values().fold((0, 0), |all, driver| (all.0 + driver.0, all.1 + driver.1));
    (found.asked_again, found.asked_at_once) = (verdict.count(Sort::AskedAgain), verdict.count(Sort::AtOnce));
    found.mean_eta_s = etas / found.accepted.max(1) as f64;
    store.close().await;
    Ok(found)
}
