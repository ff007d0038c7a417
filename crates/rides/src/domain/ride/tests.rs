//! The table of transitions, and that no order of commands breaks a ride.

use proptest::prelude::*;
use tessera_kernel::{Currency, Uuid};

use super::*;

const NOON: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn at(seconds: u64) -> Timestamp {
    NOON.plus(std::time::Duration::from_secs(seconds))
}

fn driver(n: u128) -> DriverId {
    DriverId::from(Uuid::from_u128(n))
}

fn offer_id(n: u128) -> OfferId {
    OfferId::from(Uuid::from_u128(n))
}

fn ride() -> Ride {
    let place = Place::from_degrees(41.15, -8.61).unwrap();
    Ride {
        id: RideId::from(Uuid::from_u128(1)),
        rider: "ana".into(),
        state: State::Estimated,
        version: 1,
        area: 0,
        estimate: Estimate {
            pickup: place,
            destination: place,
            price: Money::new(500, Currency::EUR),
            surge: Surge::NONE,
            distance_m: 1_000,
            duration_s: 200,
            pickup_s: Some(60),
            route: String::new(),
            expires_at: at(300),
        },
        code: "0412".into(),
        driver: None,
        offer: None,
        offers: 0,
        requested_at: None,
        searching_since: None,
        nobody_yet_at: None,
        accepted_at: None,
        arrived_at: None,
        wrong_codes: 0,
        wrong_code_at: None,
        picked_up_at: None,
        ended_at: None,
        cancellation: None,
        created_at: NOON,
        updated_at: NOON,
    }
}

fn tariff() -> Tariff {
    Tariff::default()
}

/// Made 10 s after noon, as all that is made by [`through`].
fn offer(n: u128, to: u128, expires: u64) -> Command {
    let window = Duration::from_secs(expires - 10);
    Command::Offer(NewOffer { id: offer_id(n), driver: driver(to), token: 7, window, eta_s: 60 })
}

fn accept(n: u128, by: u128) -> Command {
    Command::Accept { driver: driver(by), offer: offer_id(n) }
}

fn deny(n: u128, by: u128) -> Command {
    Command::Deny { driver: driver(by), offer: offer_id(n) }
}

fn pick_up(code: &str) -> Command {
    Command::PickUp { driver: driver(9), code: code.into() }
}

fn cancel(by: Party, driver: Option<DriverId>) -> Command {
    Command::Cancel { by, driver, reason: "changed my mind".into() }
}

fn through(commands: &[Command]) -> Ride {
    commands.iter().fold(ride(), |ride, command| ride.after(command, &tariff(), at(10)).unwrap())
}

#[test]
fn a_ride_goes_from_estimate_to_completion() {
    let accepted = through(&[Command::Request, offer(1, 9, 30), accept(1, 9)]);
    assert_eq!((accepted.state, accepted.driver, accepted.offers), (State::Accepted, Some(driver(9)), 1));
    let done = [Command::Arrive(driver(9)), pick_up("0412"), Command::Complete(driver(9))];
    let done = done.iter().fold(accepted, |ride, command| ride.after(command, &tariff(), at(20)).unwrap());
    assert_eq!((done.state, done.version, done.ended_at), (State::Completed, 7, Some(at(20))));
}

#[test]
fn only_the_open_offer_counts_and_only_its_driver() {
    let offered = through(&[Command::Request, offer(1, 9, 30)]);
    assert_eq!(offered.after(&accept(1, 8), &tariff(), at(10)), Err(Refused::NotYours));
    assert_eq!(offered.after(&accept(2, 9), &tariff(), at(10)), Err(Refused::OfferOver));
    assert_eq!(offered.after(&accept(1, 9), &tariff(), at(30)), Err(Refused::OfferOver), "too late by a moment");
    assert_eq!(
        offered.after(&Command::Lapse { offer: offer_id(1) }, &tariff(), at(29)),
        Err(Refused::State),
        "too early"
    );
    let again = offered.after(&Command::Lapse { offer: offer_id(1) }, &tariff(), at(30)).unwrap();
    assert_eq!(again.after(&accept(1, 9), &tariff(), at(31)), Err(Refused::OfferOver));
    let second = again.after(&offer(2, 8, 40), &tariff(), at(31)).unwrap();
    assert_eq!((second.offers, second.offer.as_ref().map(|offer| offer.number)), (2, Some(2)));
    assert_eq!(second.after(&deny(1, 9), &tariff(), at(32)), Err(Refused::OfferOver));
}

#[test]
fn the_same_again_is_said_to_be_so() {
    let accepted = through(&[Command::Request, offer(1, 9, 30), accept(1, 9)]);
    assert_eq!(accepted.after(&accept(1, 9), &tariff(), at(40)), Err(Refused::Already));
    assert_eq!(accepted.after(&accept(1, 8), &tariff(), at(40)), Err(Refused::OfferOver));
    assert_eq!(accepted.after(&Command::Request, &tariff(), at(40)), Err(Refused::Already));
    let arrived = accepted.after(&Command::Arrive(driver(9)), &tariff(), at(50)).unwrap();
    assert_eq!(arrived.after(&Command::Arrive(driver(9)), &tariff(), at(51)), Err(Refused::Already));
    assert_eq!(arrived.after(&Command::Arrive(driver(8)), &tariff(), at(51)), Err(Refused::NotYours));
    // A request that is sent again late, too: until the ride has ended otherwise than at the destination.
    let inside = arrived.after(&pick_up("0412"), &tariff(), at(60)).unwrap();
    let done = inside.after(&Command::Complete(driver(9)), &tariff(), at(70)).unwrap();
    for ride in [&arrived, &inside, &done] {
        assert_eq!(ride.after(&Command::Request, &tariff(), at(80)), Err(Refused::Already), "{:?}", ride.state);
    }
    let over = arrived.after(&cancel(Party::Rider, None), &tariff(), at(60)).unwrap();
    assert_eq!(over.after(&Command::Request, &tariff(), at(80)), Err(Refused::State));
}

#[test]
fn a_code_cannot_be_found_by_trying() {
    let arrived = through(&[Command::Request, offer(1, 9, 30), accept(1, 9), Command::Arrive(driver(9))]);
    let wrong = |ride: Ride, second: u64| ride.after(&pick_up("0000"), &tariff(), at(second)).unwrap();
    let five = (20..25).fold(arrived, wrong);
    assert_eq!((five.state, five.wrong_codes), (State::Arrived, 5));
    assert_eq!(five.after(&pick_up("0412"), &tariff(), at(83)), Err(Refused::TooManyCodes), "not even the right one");
    let six = wrong(five.clone(), 84);
    assert_eq!(six.after(&pick_up("0001"), &tariff(), at(143)), Err(Refused::TooManyCodes));
    assert_eq!(five.after(&pick_up("0412"), &tariff(), at(84)).unwrap().state, State::PickedUpRider);
}

#[test]
fn an_estimate_does_not_hold_for_ever() {
    assert_eq!(ride().after(&Command::Request, &tariff(), at(300)), Err(Refused::Expired));
    assert_eq!(ride().after(&Command::Expire, &tariff(), at(299)), Err(Refused::State));
    let expired = ride().after(&Command::Expire, &tariff(), at(300)).unwrap();
    assert_eq!(expired.after(&Command::Request, &tariff(), at(301)), Err(Refused::Expired));
}

#[test]
fn a_search_is_not_given_up_early_and_an_estimate_begins_when_it_is_kept() {
    let requested = through(&[Command::Request]);
    let give_up = Command::GiveUp(Duration::from_secs(60));
    assert_eq!(requested.after(&give_up, &tariff(), at(69)), Err(Refused::TooEarly));
    assert_eq!(requested.after(&give_up, &tariff(), at(70)).unwrap().state, State::NoDriver);
    // Or the rider hears once that nobody is there yet, and again where a driver gave the ride back.
    let wait_on = Command::WaitOn(Duration::from_secs(60));
    assert_eq!(requested.after(&wait_on, &tariff(), at(69)), Err(Refused::TooEarly));
    let told = requested.after(&wait_on, &tariff(), at(70)).unwrap();
    assert_eq!((told.state, told.nobody_yet_at, told.requested_at), (State::Requested, Some(at(70)), Some(at(10))));
    assert_eq!(told.after(&wait_on, &tariff(), at(200)), Err(Refused::Already));
    let commands = [offer(1, 9, 230), accept(1, 9), cancel(Party::Driver, Some(driver(9)))];
    let back = commands.iter().fold(told, |ride, command| ride.after(command, &tariff(), at(210)).unwrap());
    assert_eq!(back.after(&wait_on, &tariff(), at(269)), Err(Refused::TooEarly));
    assert_eq!(back.after(&wait_on, &tariff(), at(270)).unwrap().nobody_yet_at, Some(at(270)));
    let kept = ride().made_at(at(1_000));
    assert_eq!((kept.created_at, kept.estimate.expires_at), (at(1_000), at(1_300)));
}

#[test]
fn a_driver_who_cancels_gives_the_ride_back_and_the_place_in_the_line_stays() {
    let accepted = through(&[Command::Request, offer(1, 9, 30), accept(1, 9)]);
    let back = accepted.after(&cancel(Party::Driver, Some(driver(9))), &tariff(), at(60)).unwrap();
    assert_eq!((back.state, back.driver, back.requested_at), (State::Requested, None, Some(at(10))));
    assert_eq!(back.searching_since, Some(at(60)));
    assert_eq!(accepted.after(&cancel(Party::Driver, Some(driver(8))), &tariff(), at(60)), Err(Refused::NotYours));
}

#[test]
fn only_an_operator_cancels_a_ride_with_the_rider_in_the_car() {
    let inside = [Command::Request, offer(1, 9, 30), accept(1, 9), Command::Arrive(driver(9)), pick_up("0412")];
    let inside = through(&inside);
    for by in [Party::Rider, Party::Driver] {
        assert_eq!(inside.after(&cancel(by, Some(driver(9))), &tariff(), at(60)), Err(Refused::State), "{by:?}");
    }
    // Else a ride whose driver has lost the phone would never end.
    let over = inside.after(&cancel(Party::Operator, None), &tariff(), at(60)).unwrap();
    assert_eq!((over.state, over.bound_driver(), over.cancellation.unwrap().fee.amount), (State::Cancelled, None, 0));
}

#[test]
fn who_lets_a_driver_come_for_nothing_pays() {
    let accepted = through(&[Command::Request, offer(1, 9, 30), accept(1, 9)]);
    let fee = |by, seconds| {
        let over = accepted.after(&cancel(by, None), &tariff(), at(seconds)).unwrap();
        over.cancellation.unwrap().fee.amount
    };
    assert_eq!([fee(Party::Rider, 129), fee(Party::Rider, 130), fee(Party::Operator, 999)], [0, 250, 0]);
    let arrived = accepted.after(&Command::Arrive(driver(9)), &tariff(), at(100)).unwrap();
    assert_eq!(arrived.after(&Command::NoShow(driver(9)), &tariff(), at(399)), Err(Refused::TooEarly));
    assert_eq!(arrived.after(&Command::NoShow(driver(8)), &tariff(), at(400)), Err(Refused::NotYours));
    let over = arrived.after(&Command::NoShow(driver(9)), &tariff(), at(400)).unwrap();
    assert_eq!((over.state, over.cancellation.as_ref().unwrap().fee.amount), (State::Cancelled, 250));
    assert_eq!(over.after(&Command::NoShow(driver(9)), &tariff(), at(401)), Err(Refused::Already));
    assert_eq!(over.after(&Command::NoShow(driver(8)), &tariff(), at(401)), Err(Refused::NotYours));
}

fn any_command() -> impl Strategy<Value = Command> {
    let who = 8u128..11;
    let which = 1u128..4;
    prop_oneof![
        Just(Command::Request),
        (which.clone(), who.clone()).prop_map(|(n, to)| offer(n, to, 500)),
        (which.clone(), who.clone()).prop_map(|(n, by)| accept(n, by)),
        (which.clone(), who.clone()).prop_map(|(n, by)| deny(n, by)),
        which.prop_map(|n| Command::Lapse { offer: offer_id(n) }),
        who.clone().prop_map(|by| Command::Arrive(driver(by))),
        (who.clone(), prop_oneof![Just("0412"), Just("1111")])
            .prop_map(|(by, code)| Command::PickUp { driver: driver(by), code: code.into() }),
        who.clone().prop_map(|by| Command::Complete(driver(by))),
        who.clone().prop_map(|by| Command::NoShow(driver(by))),
        who.prop_map(|by| cancel(Party::Driver, Some(driver(by)))),
        Just(cancel(Party::Rider, None)),
        Just(Command::Expire),
        (0u64..60).prop_map(|after| Command::GiveUp(Duration::from_secs(after))),
        (0u64..60).prop_map(|after| Command::WaitOn(Duration::from_secs(after))),
    ]
}

proptest! {
    /// Whatever comes in whatever order: what is over stays over, a driver is bound exactly where the state says so, an open offer
    /// is there exactly while it is offered or driven, and the version counts the changes.
    #[test]
    fn no_order_of_commands_breaks_a_ride(commands in proptest::collection::vec((any_command(), 0u64..60), 0..60)) {
        let (mut ride, mut now) = (ride(), 0);
        for (command, passed) in commands {
            now += passed;
            match ride.after(&command, &tariff(), at(now)) {
                Ok(next) => {
                    prop_assert!(!ride.state.is_final(), "{:?} after {:?}", command, ride.state);
                    prop_assert_eq!(next.version, ride.version + 1);
                    ride = next;
                }
                Err(_) => continue,
            }
            prop_assert_eq!(ride.driver.is_some() && !ride.state.is_final(), ride.state.has_driver());
            prop_assert_eq!(ride.bound_driver().is_some(), ride.state.has_driver() || ride.state == State::Offered);
            prop_assert_eq!(ride.state.is_final(), ride.ended_at.is_some());
            if let Some(offer) = &ride.offer {
                prop_assert_eq!(offer.number, ride.offers);
            }
            if ride.state == State::Requested {
                prop_assert!(ride.driver.is_none() && ride.requested_at.is_some());
            }
        }
    }
}
