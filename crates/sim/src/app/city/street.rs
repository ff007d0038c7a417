//! What happens in the street without any server: where cars are, and who meets whom at a pickup.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tessera_kernel::Place;
use tokio::time::Instant;

use crate::domain::demand::near;
use crate::domain::motion::Motion;
use crate::domain::roads::Roads;

/// After a car went on duty its first position is due so much later: it must be newer than the beginning of the shift.
const FIRST_AFTER: Duration = Duration::from_secs(1);
/// When a position is due again whose answer has not come yet.
const ANSWERED_IN: Duration = Duration::from_secs(15);
/// How far a car goes at once where there are no roads, metres, and how fast.
const STROLL_M: f64 = 400.0;
const STROLL_SPEED: f64 = 7.0;

/// A rider who will be at the pickup.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Meeting {
    /// Once it is known.
    pub(super) code: Option<String>,
    /// How long after the car the rider is there; none does not come.
    pub(super) boards_after: Option<Duration>,
    /// Whether the code is first told wrongly.
    pub(super) misspeaks: bool,
}

/// A position to be reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Position {
    pub(super) car: usize,
    /// The driver's id as its 16 bytes.
    pub(super) driver: u128,
    pub(super) place: Place,
    pub(super) heading: Option<u16>,
}

/// A car.
struct Car {
    driver: u128,
    motion: Motion,
    began: Instant,
    /// Whether somebody waits for it or sits in it.
    is_busy: bool,
    silent_until: Option<Instant>,
    /// When its next position is.
    due: Instant,
    /// Until when it stands at a corner.
    rests_until: Instant,
    /// The junction it comes to, and the one it came from.
    junction: Option<usize>,
    came_from: Option<usize>,
    /// The server says that its driver is not on duty.
    is_lost: bool,
    rng: StdRng,
}

impl Car {
    fn here(&self, now: Instant) -> (Place, Option<u16>) {
        self.motion.after(now.saturating_duration_since(self.began))
    }

    fn moves(&mut self, motion: Motion, now: Instant) {
        self.motion = motion;
        self.began = now;
    }

    /// Without work one drives around, with rests.
    fn cruise(&mut self, roads: Option<&Roads>, pace: f64, now: Instant) {
        let arrived = now.saturating_duration_since(self.began) >= self.motion.takes();
        if self.is_busy || !arrived || now < self.rests_until {
            return;
        }
        let place = self.motion.end();
        if self.rng.random_range(0..100_u32) < 30 {
            let rest = Duration::from_secs_f64(self.rng.random_range(10.0..60.0) / pace);
            self.rests_until = now + rest;
            return;
        }
        let Some(roads) = roads else {
            let way = [near(place, STROLL_M, &mut self.rng)];
            return self.moves(Motion::at_speed(place, &way, STROLL_SPEED * pace), now);
        };
        let junction = self.junction.or_else(|| roads.nearest(place));
        let exit = junction.and_then(|junction| roads.exit(junction, self.came_from, &mut self.rng));
        let Some(exit) = exit else { return };
        (self.came_from, self.junction) = (junction, Some(exit.to));
        self.moves(Motion::at_speed(place, &exit.line, exit.speed * pace), now);
    }
}

/// The street.
#[derive(Default)]
pub(super) struct Street {
    cars: Mutex<Vec<Car>>,
    meetings: Mutex<HashMap<String, Meeting>>,
    /// Rides that start beside a visitor who drives, and until when the others leave them to the visitor.
    left_alone: Mutex<HashMap<String, Instant>>,
}

impl Street {
    /// One more car; gives its number.
    pub(super) fn add(&self, driver: u128, place: Place, rng: StdRng) -> usize {
        let now = Instant::now();
        let mut cars = locked(&self.cars);
        cars.push(Car {
            driver,
            motion: Motion::standing(place),
            began: now,
            is_busy: false,
            silent_until: None,
            due: now + FIRST_AFTER,
            rests_until: now,
            junction: None,
            came_from: None,
            is_lost: false,
            rng,
        });
        cars.len() - 1
    }

    /// Where a car is.
    pub(super) fn here(&self, car: usize) -> Option<Place> {
        locked(&self.cars).get(car).map(|car| car.here(Instant::now()).0)
    }

    /// A car sets out for somebody; gives how long that takes.
    pub(super) fn drive(&self, car: usize, line: &[Place], seconds: f64) -> Duration {
        self.change(car, |car, now| {
            let motion = Motion::within(car.here(now).0, line, seconds);
            let takes = motion.takes();
            car.moves(motion, now);
            car.is_busy = true;
            // The server wants to know at once that it moves.
            car.due = now;
            takes
        })
        .unwrap_or_default()
    }

    /// A car drives what is left of its way faster, if it can; gives how many times.
    pub(super) fn hurry(&self, car: usize, times: f64) -> f64 {
        let hurry = |car: &mut Car, now: Instant| {
            let (motion, faster) = car.motion.hurried(now.saturating_duration_since(car.began), times);
            car.moves(motion, now);
            car.due = now;
            faster
        };
        self.change(car, hurry).unwrap_or(1.0)
    }

    /// Nobody needs the car any more: it stays where it is, then drives around.
    pub(super) fn free(&self, car: usize) {
        self.change(car, |car, now| {
            let (place, _) = car.here(now);
            car.moves(Motion::standing(place), now);
            (car.is_busy, car.junction, car.came_from, car.rests_until) = (false, None, None, now);
        });
    }

    /// The phone is off for so long.
    pub(super) fn silence(&self, car: usize, silence: Duration) {
        self.change(car, |car, now| car.silent_until = Some(now + silence));
    }

    /// Whether the phone is off.
    pub(super) fn is_silent(&self, car: usize) -> bool {
        let now = Instant::now();
        locked(&self.cars).get(car).is_some_and(|car| car.silent_until.is_some_and(|until| now < until))
    }

    /// The positions that are due; each is taken as sent.
    pub(super) fn due(&self, roads: Option<&Roads>, pace: f64) -> Vec<Position> {
        let now = Instant::now();
        let mut cars = locked(&self.cars);
        let mut due = Vec::new();
        for (number, car) in cars.iter_mut().enumerate() {
            car.cruise(roads, pace, now);
            if now < car.due || car.silent_until.is_some_and(|until| now < until) {
                continue;
            }
            car.due = now + ANSWERED_IN;
            let (place, heading) = car.here(now);
            due.push(Position { car: number, driver: car.driver, place, heading });
        }
        due
    }

    /// The server says when the next position of a car is due.
    pub(super) fn next_in(&self, car: usize, next: Duration) {
        self.change(car, |car, now| car.due = now + next.min(car.motion.tells_within()));
    }

    /// The server says that the driver is not on duty.
    pub(super) fn lost(&self, car: usize) {
        self.change(car, |car, _| car.is_lost = true);
    }

    /// Whether that was said since it was asked for the last time.
    pub(super) fn take_lost(&self, car: usize) -> bool {
        self.change(car, |car, _| std::mem::take(&mut car.is_lost)).unwrap_or_default()
    }

    fn change<T>(&self, car: usize, change: impl FnOnce(&mut Car, Instant) -> T) -> Option<T> {
        let now = Instant::now();
        locked(&self.cars).get_mut(car).map(|car| change(car, now))
    }

    /// A rider of the city has this ride.
    pub(super) fn expect(&self, ride: &str, meeting: Meeting) {
        locked(&self.meetings).insert(ride.to_owned(), meeting);
    }

    /// Who is to be met; none where it is nobody of this city.
    pub(super) fn meeting(&self, ride: &str) -> Option<Meeting> {
        locked(&self.meetings).get(ride).cloned()
    }

    /// The ride is over.
    pub(super) fn forget(&self, ride: &str) {
        locked(&self.meetings).remove(ride);
        locked(&self.left_alone).remove(ride);
    }

    /// A ride is meant for a visitor, for a while.
    pub(super) fn leave_alone(&self, ride: &str, left_for: Duration) {
        locked(&self.left_alone).insert(ride.to_owned(), Instant::now() + left_for);
    }

    /// Whether it still is.
    pub(super) fn is_left_alone(&self, ride: &str) -> bool {
        locked(&self.left_alone).get(ride).is_some_and(|until| Instant::now() < *until)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::fan::rng;

    fn place(lat: f64, lng: f64) -> Place {
        Place::from_degrees(lat, lng).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_car_reports_when_it_is_due_and_not_while_its_phone_is_off() {
        let street = Street::default();
        let car = street.add(7, place(41.15, -8.61), rng(1, 1));
        assert!(street.due(None, 1.0).is_empty(), "its shift begins just now");
        tokio::time::advance(FIRST_AFTER).await;
        let first = street.due(None, 1.0);
        assert_eq!((first.len(), first[0].driver), (1, 7));
        assert!(street.due(None, 1.0).is_empty(), "not before the answer");
        street.next_in(car, Duration::from_secs(5));
        tokio::time::advance(Duration::from_secs(5)).await;
        street.silence(car, Duration::from_secs(60));
        assert!(street.is_silent(car) && street.due(None, 1.0).is_empty());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(!street.is_silent(car) && street.due(None, 1.0).len() == 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_car_drives_around_and_a_busy_one_to_its_rider() {
        let street = Street::default();
        let start = place(41.15, -8.61);
        let car = street.add(7, start, rng(1, 1));
        let mut seen = HashSet::new();
        for _ in 0..120 {
            tokio::time::advance(Duration::from_secs(5)).await;
            street.due(None, 1.0);
            seen.insert(street.here(car).unwrap());
        }
        assert!(seen.len() > 20, "{}", seen.len());
        let pickup = place(41.151, -8.612);
        let takes = street.drive(car, &[pickup], 60.0);
        assert!(!street.due(None, 1.0).is_empty(), "it says at once that it moves");
        tokio::time::advance(takes / 2).await;
        assert!(street.here(car) != Some(pickup));
        let faster = street.hurry(car, 5.0);
        assert!(faster > 1.0, "{faster}");
        tokio::time::advance((takes / 2).div_f64(faster) + Duration::from_millis(1)).await;
        assert_eq!(street.here(car), Some(pickup));
        tokio::time::advance(Duration::from_secs(300)).await;
        street.due(None, 1.0);
        assert_eq!(street.here(car), Some(pickup), "it waits");
        street.free(car);
        assert_eq!(street.here(car), Some(pickup));
    }
}
