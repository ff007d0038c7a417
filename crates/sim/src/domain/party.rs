//! What riders and drivers will do, drawn from the seed. Nothing here depends on what the server answers.

use std::time::Duration;

use rand::RngExt;

use super::demand::Wanted;
use super::fan::rng;

/// Riders and answers to offers draw from randomness of their own.
const RIDERS: u64 = 1 << 43;
const ANSWERS: u64 = 1 << 44;
/// Offers of a driver after which its answers repeat.
const OFFERS: u64 = 1 << 16;

/// What people are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As everywhere: some think better of it, some do not come, some do not answer.
    Everyday,
    /// As a visitor should meet them: hardly anybody says no.
    Kind,
}

/// How a rider learns what becomes of the ride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// By its stream.
    Stream,
    /// By asking now and then.
    Asks(Duration),
}

/// A rider's decisions.
#[derive(Clone, Debug, PartialEq)]
pub struct Rider {
    /// Which one, from 0; the order of arrival.
    pub index: u64,
    /// When, and from where to where.
    pub wanted: Wanted,
    /// Whether the price is taken.
    pub requests: bool,
    /// How long it is looked at.
    pub hesitates: Duration,
    /// Whether the request is sent twice, as of two taps on a button.
    pub taps_twice: bool,
    /// How the ride is watched.
    pub watch: Watch,
    /// After how long without a driver the rider gives up.
    pub patience: Option<Duration>,
    /// How long after a driver accepted the rider thinks better of it.
    pub regrets: Option<Duration>,
    /// How long after the car the rider is there; who does not come at all has none.
    pub boards_after: Option<Duration>,
    /// Whether the code is first told wrongly.
    pub misspeaks: bool,
}

impl Rider {
    /// The rider with this number.
    pub fn draw(seed: u64, index: u64, wanted: Wanted, manner: Manner) -> Self {
        let mut rng = rng(seed, RIDERS + index);
        let flaws = u32::from(manner == Manner::Everyday);
        let mut once_in_hundred = |times: u32| rng.random_range(0..100_u32) < times * flaws;
        let requests = !once_in_hundred(8);
        let (taps_twice, leaves, regrets) = (once_in_hundred(5), once_in_hundred(6), once_in_hundred(5));
        let (comes, misspeaks) = (!once_in_hundred(2), once_in_hundred(3));
        let mut seconds = |from: f64, to: f64| Duration::from_secs_f64(rng.random_range(from..to));
        let (hesitates, patience, regrets_after) = (seconds(1.0, 8.0), seconds(5.0, 50.0), seconds(2.0, 240.0));
        let (boards_after, asks) = (seconds(5.0, 40.0), seconds(2.0, 4.0));
        let watch = if rng.random_range(0..10_u32) < 3 { Watch::Stream } else { Watch::Asks(asks) };
        Self {
            index,
            wanted,
            requests,
            hesitates,
            taps_twice,
            watch,
            patience: leaves.then_some(patience),
            regrets: regrets.then_some(regrets_after),
            boards_after: comes.then_some(boards_after),
            misspeaks,
        }
    }
}

/// What a driver says to an offer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reply {
    /// Yes.
    Accepts,
    /// No.
    Denies,
    /// Nothing.
    Ignores,
    /// Nothing, and the phone is off for so long.
    GoesSilent(Duration),
}

/// A driver's answer to an offer, and what follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// What is said.
    pub reply: Reply,
    /// After how long.
    pub thinks: Duration,
    /// After which share of the way to the pickup the ride is given back.
    pub gives_back_at: Option<f64>,
}

impl Answer {
    /// What a driver says to an offer, counted from 0.
    pub fn draw(seed: u64, driver: u64, offer: u64, manner: Manner) -> Self {
        let mut rng = rng(seed, ANSWERS + driver * OFFERS + offer % OFFERS);
        let silence = Duration::from_secs_f64(rng.random_range(40.0..120.0));
        let reply = match (manner, rng.random_range(0..1000_u32)) {
            (Manner::Kind, 0..950) => Reply::Accepts,
            (Manner::Kind, _) => Reply::Denies,
            (Manner::Everyday, 0..850) => Reply::Accepts,
            (Manner::Everyday, 850..930) => Reply::Denies,
            (Manner::Everyday, 930..980) => Reply::Ignores,
            (Manner::Everyday, _) => Reply::GoesSilent(silence),
        };
        let thinks = Duration::from_secs_f64(rng.random_range(1.0..6.0));
        let gives_back = manner == Manner::Everyday && rng.random_range(0..100_u32) < 3;
        let share = rng.random_range(0.1..0.9);
        Self { reply, thinks, gives_back_at: gives_back.then_some(share) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::demand::{Demand, Trips};

    fn wanted() -> Wanted {
        let demand = Demand { per_minute: 60.0, surge: 1.0, lasts: Duration::from_secs(60) };
        demand.all(1, &Trips::porto().unwrap())[0]
    }

    #[test]
    fn a_seed_repeats_its_people() {
        let draw = |seed, index| Rider::draw(seed, index, wanted(), Manner::Everyday);
        assert_eq!(draw(7, 3), draw(7, 3));
        assert_ne!(draw(7, 3), draw(8, 3));
        let answer = |driver, offer| Answer::draw(7, driver, offer, Manner::Everyday);
        assert_eq!(answer(2, 1), answer(2, 1));
        assert_ne!(answer(2, 1), answer(1, 2));
    }

    #[test]
    fn people_do_all_there_is_to_do_and_kind_ones_hardly_anything_bad() {
        let wanted = wanted();
        let riders: Vec<Rider> = (0..5_000).map(|at| Rider::draw(1, at, wanted, Manner::Everyday)).collect();
        let share = |has: &dyn Fn(&Rider) -> bool| riders.iter().filter(|rider| has(rider)).count() * 1000 / 5_000;
        assert!((60..100).contains(&share(&|rider| !rider.requests)));
        assert!((10..30).contains(&share(&|rider| rider.boards_after.is_none())));
        assert!((270..330).contains(&share(&|rider| rider.watch == Watch::Stream)));
        assert!(share(&|rider| rider.patience.is_some()) > 0 && share(&|rider| rider.regrets.is_some()) > 0);
        let answers: Vec<Answer> = (0..5_000).map(|at| Answer::draw(1, at % 50, at, Manner::Everyday)).collect();
        let count = |wanted: &dyn Fn(&Answer) -> bool| answers.iter().filter(|answer| wanted(answer)).count();
        assert!((4_100..4_400).contains(&count(&|answer| answer.reply == Reply::Accepts)));
        assert!(count(&|answer| matches!(answer.reply, Reply::GoesSilent(_))) > 50);
        assert!(count(&|answer| answer.gives_back_at.is_some()) > 90);
        for at in 0..2_000 {
            let kind = Rider::draw(1, at, wanted, Manner::Kind);
            assert!(kind.requests && kind.boards_after.is_some() && kind.patience.is_none() && kind.regrets.is_none());
            assert!(matches!(Answer::draw(1, at, 0, Manner::Kind).reply, Reply::Accepts | Reply::Denies));
        }
    }
}
