//! The judge of histories in tests; and that it finds what it is there for.

use std::collections::BTreeMap;

use tessera_rides::app::StatusChange;
use tessera_rides::config::Config;
use tessera_rides::domain::ids::RideId;
use tessera_rides::domain::ride::{Ride, State};
use tessera_rides::jobs::matcher::Matcher;
use tessera_rides::judge::{Judge, Sort, check};
use tessera_rides::store::Store;
use tessera_testkit::sql::Databases;

use crate::support::{Town, open, place};

/// Judges all rides there are, when nothing is under way; gives how many ended in each state.
pub async fn judge(store: &Store, rides: &[RideId]) -> BTreeMap<&'static str, usize> {
    let verdict = check(store, rides).await.unwrap();
    assert!(verdict.faults.is_empty(), "{:#?}", verdict.faults);
    verdict.ends
}

type History = Vec<(String, Ride)>;

fn found(histories: &[History]) -> Vec<Sort> {
    let mut judge = Judge::default();
    histories.iter().for_each(|history| judge.read(history));
    judge.verdict().faults.into_iter().map(|fault| fault.sort).collect()
}

/// What was changed in a real history is found.
#[tokio::test]
async fn the_judge_finds_what_must_not_be() {
    let databases = Databases::sqlite();
    let town = Town::still(&databases.fresh(), Config::default()).await;
    let (app, mut matcher) = (&town.app, Matcher::new(town.app.clone()));
    let (near, far) = (town.driver("near", place(0.0, 0.001)).await, town.driver("far", place(0.0, 0.002)).await);
    let ride = town.request("ana", place(0.0, 0.0)).await;
    for (driver, accept) in [(near, false), (far, true)] {
        town.passes(1);
        matcher.round().await.unwrap();
        let (_, offer) = open(&app.store.ride(ride.id).await.unwrap().unwrap());
        town.passes(1);
        app.respond(driver, ride.id, offer, accept).await.unwrap();
    }
    town.passes(1);
    app.set_status(far, ride.id, StatusChange::Arrived).await.unwrap();
    let store = &app.store;
    assert_eq!(judge(store, &[ride.id]).await, [("arrived", 1)].into());
    let sound = store.history(ride.id).await.unwrap();
    let kinds: Vec<&str> = sound.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["estimated", "requested", "offered", "denied", "offered", "accepted", "arrived"]);
    assert_eq!(found(std::slice::from_ref(&sound)), []);

    let changed = |change: fn(&mut History)| {
        let mut history = sound.clone();
        change(&mut history);
        history
    };
    let another =
        changed(|history| history.iter_mut().for_each(|(_, ride)| ride.id = RideId::from(tessera_kernel::Uuid::nil())));
    let twice = found(&[sound.clone(), another]);
    assert!(twice.contains(&Sort::AtOnce) && twice.contains(&Sort::Claim), "{twice:?}");
    assert_eq!(found(&[vec![]]), [Sort::Step]);
    assert!(found(&[changed(|history| drop(history.remove(3)))]).contains(&Sort::Step), "an event is lost");
    let skipped = changed(|history| history[6].1.state = State::Completed);
    assert_eq!(found(&[skipped]), [Sort::Step]);
    let back = changed(|history| history[6].1.updated_at = history[0].1.updated_at);
    assert_eq!(found(&[back]), [Sort::Step]);
    let again = changed(|history| {
        let asked = history[2].1.offer.as_ref().unwrap().driver;
        history[4].1.offer.as_mut().unwrap().driver = asked;
    });
    assert!(found(&[again]).contains(&Sort::AskedAgain));
    let other = changed(|history| {
        let asked = history[2].1.offer.as_ref().unwrap().driver;
        for (_, ride) in &mut history[5..] {
            (ride.driver, ride.offer.as_mut().unwrap().driver) = (Some(asked), asked);
        }
    });
    assert!(found(&[other]).contains(&Sort::Offer), "another driver accepted");
    let miscounted = changed(|history| history[4].1.offers = 7);
    assert_eq!(found(&[miscounted]), [Sort::Offer]);
    // Rows that say something else.
    assert_eq!(check(store, &[]).await.unwrap().count(Sort::Row), 1, "somebody is bound to a ride that is left out");
}
