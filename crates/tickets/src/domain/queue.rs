//! The waiting room's rules: when there is one, who is let in how fast, and what those who wait are told.
//!
//! Who is next is the line's affair (`store::lines`): a lottery among those who came before the doors opened, then the
//! order of arrival. Here is decided how many are let in at a time, whether the doors close by themselves, and how long
//! the wait is said to be. All of it in whole numbers, for it is stored and shared by processes.

use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;

use super::event::{Queue, QueueMode};
use crate::Error;

/// The most that may be inside, and the most let in a minute.
pub const MAX_PEOPLE: u32 = 1_000_000;
/// Let in at a time where no rate is set.
const CHUNK: u64 = 4_000;
/// Turns that nobody was there to take, or no process to give, are made up for over so long at the most.
const CATCH_UP_US: i64 = 2_000_000;
/// Over so long is measured how fast people come in.
const MEASURED_OVER_US: i64 = 60_000_000;
/// Promises kept; each is worse by a tenth than the one before, so they reach far.
const MAX_PROMISES: usize = 32;
/// What other processes say of arrivals counts for so long.
const ARRIVALS_COUNT_FOR_US: i64 = 3_000_000;
/// Processes whose word on arrivals is kept.
const MAX_PROCESSES: usize = 64;
/// A waiting room that closed its doors by itself opens them when so long nobody waited and few came.
const QUIET_US: i64 = 30_000_000;

/// What the organiser set since; it goes before what is written in the event. New fields have defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Nobody is let in for now.
    pub paused: Option<bool>,
    /// Let in each minute; 0 for as many as fit.
    pub admit_per_minute: Option<u32>,
    /// How many may be inside.
    pub max_inside: Option<u32>,
    /// Whether there is one.
    pub mode: Option<QueueMode>,
    /// When the doors open, where that is not when the sale begins.
    pub doors_open_at: Option<Timestamp>,
}

impl Control {
    /// Takes over what another says; what it leaves out stays.
    pub fn merge(&mut self, newer: &Self) {
        let Self { paused, admit_per_minute, max_inside, mode, doors_open_at } = newer;
        self.paused = paused.or(self.paused);
        self.admit_per_minute = admit_per_minute.or(self.admit_per_minute);
        self.max_inside = max_inside.or(self.max_inside);
        self.mode = mode.or(self.mode);
        self.doors_open_at = doors_open_at.or(self.doors_open_at);
    }

    /// Refuses what cannot be.
    ///
    /// # Errors
    /// [`Error::BadRequest`].
    pub fn check(&self) -> Result<(), Error> {
        let bad = |reason: String| Err(Error::BadRequest { reason });
        match (self.max_inside, self.admit_per_minute) {
            (Some(0), _) => bad("`max_inside` is 0, so nobody could come in; set `paused` instead".into()),
            (Some(many), _) if many > MAX_PEOPLE => bad(format!("`max_inside` is {many}; give {MAX_PEOPLE} or fewer")),
            (_, Some(many)) if many > MAX_PEOPLE => {
                bad(format!("`admit_per_minute` is {many}; give {MAX_PEOPLE} or fewer, or 0 for as many as fit"))
            }
            _ => Ok(()),
        }
    }
}

/// What holds: the event's own settings and the organiser's hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether there is a waiting room.
    pub mode: QueueMode,
    /// Whether nobody is let in for now.
    pub paused: bool,
    /// Let in each minute; as many as fit where not set.
    pub admit_per_minute: Option<u32>,
    /// How many may be inside.
    pub max_inside: u32,
    /// How long an admitted person may stay, seconds.
    pub admission_ttl_s: u32,
    /// In `auto`: arrivals a second from which it closes its doors.
    pub auto_arrivals_per_second: u32,
    /// When the doors open; they are open where not set.
    pub doors_open_at: Option<Timestamp>,
}

impl Settings {
    /// Both together.
    pub fn new(event: &Queue, on_sale_at: Option<Timestamp>, control: &Control) -> Self {
        Self {
            mode: control.mode.unwrap_or(event.mode),
            paused: control.paused.unwrap_or(false),
            admit_per_minute: control.admit_per_minute.or(event.admit_per_minute).filter(|many| *many > 0),
            max_inside: control.max_inside.unwrap_or(event.max_inside).max(1),
            admission_ttl_s: event.admission_ttl_s.max(1),
            auto_arrivals_per_second: event.auto_arrivals_per_second.max(1),
            doors_open_at: control.doors_open_at.or(on_sale_at),
        }
    }
}

/// How the line stands when somebody asks whom to let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// The last entry.
    pub joined: i64,
    /// The serving number.
    pub serving: i64,
    /// How many wait.
    pub waiting: i64,
    /// How many are inside.
    pub inside: i64,
    /// How many came in since this process asked last.
    pub admitted: i64,
}

/// What is remembered of a waiting room between two askings, by whichever process. New fields have defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Whether the doors closed by themselves.
    pub closed_by_itself: bool,
    /// Up to when turns were given, microseconds; 0 before the first.
    used_until: i64,
    /// When was measured, microseconds.
    measured_at: i64,
    /// People let in per minute, thousandths.
    per_minute_milli: i64,
    /// Since when it is quiet, microseconds; 0 where it is not.
    quiet_since: i64,
    /// What those who wait were told, oldest first.
    promises: Vec<Promise>,
    /// What processes said of arrivals.
    arrivals: Vec<Arrivals>,
}

/// A wait that was promised to all numbers up to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Promise {
    /// Up to this number.
    up_to: i64,
    /// Whose turn is now.
    from: i64,
    /// People per minute, thousandths; at least 1.
    per_minute_milli: i64,
}

/// How many arrive at one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Arrivals {
    process: u64,
    at: i64,
    per_second: u32,
}

impl Promise {
    /// Seconds, rounded up.
    fn wait_s(&self, number: i64) -> i64 {
        let ahead = i128::from(number.saturating_sub(self.from).max(0));
        let rate = i128::from(self.per_minute_milli.max(1));
        i64::try_from((ahead * 60_000 + rate - 1) / rate).unwrap_or(i64::MAX)
    }
}

impl Promise {
    /// Whether a number waits no longer by this than by another.
    fn is_within(&self, other: &Self, number: i64) -> bool {
        let ahead = |promise: &Self| i128::from(number.saturating_sub(promise.from).max(0));
        ahead(self) * i128::from(other.per_minute_milli) <= ahead(other) * i128::from(self.per_minute_milli)
    }
}

impl State {
    /// How many may be let in now, and notes that they are: two who ask share what there is. Measures, promises, and
    /// notices quiet on the way.
    pub fn take(&mut self, settings: &Settings, crowd: &Crowd, now: Timestamp) -> u64 {
        self.notice_quiet(settings, crowd, now);
        if crowd.waiting > 0 || crowd.admitted > 0 {
            self.measure(crowd, settings.paused, now);
            if !settings.paused {
                self.promise(settings, crowd);
            }
        }
        if settings.paused || crowd.waiting <= 0 {
            return 0;
        }
        self.take_turns(settings, now).min(crowd.waiting.unsigned_abs())
    }

    /// Forgets what was said and measured of a line that was lost.
    pub fn begin_anew(&mut self) {
        *self = Self { closed_by_itself: self.closed_by_itself, ..Self::default() };
    }

    fn take_turns(&mut self, settings: &Settings, now: Timestamp) -> u64 {
        let now = now.micros();
        let Some(rate) = settings.admit_per_minute else {
            self.used_until = now;
            return CHUNK;
        };
        let rate = i64::from(rate);
        let turn_us = 60_000_000 / rate;
        // A turn that is due stays due; but a standstill is not made up for by a flood. A clock that was set back does
        // not stop the line.
        let earliest = now - CATCH_UP_US.max(turn_us);
        let from = if self.used_until > now + CATCH_UP_US { earliest } else { self.used_until.max(earliest) };
        let due = (now - from).max(0) * rate / 60_000_000;
        self.used_until = from + due * 60_000_000 / rate;
        due.unsigned_abs()
    }

    /// A moving average over a minute. It stands still while nobody is to be let in.
    fn measure(&mut self, crowd: &Crowd, paused: bool, now: Timestamp) {
        let passed = now.micros() - self.measured_at;
        self.measured_at = now.micros();
        if passed <= 0 || passed > 10 * MEASURED_OVER_US || (paused && crowd.admitted == 0) {
            return;
        }
        let present = i128::from(crowd.admitted) * 60_000_000_000 / i128::from(passed);
        let (known, weight) = (i128::from(self.per_minute_milli), i128::from(passed.min(MEASURED_OVER_US)));
        let moved = known + (present - known) * weight / i128::from(MEASURED_OVER_US);
        self.per_minute_milli = i64::try_from(moved.max(0)).unwrap_or(i64::MAX);
    }

    /// How many people may be expected to come in per minute, thousandths; at least 1.
    fn expected(&self, settings: &Settings, crowd: &Crowd) -> i64 {
        // Everyone who is inside is out after the longest stay.
        let turnover = i64::from(settings.max_inside) * 60_000 / i64::from(settings.admission_ttl_s);
        let measured = self.per_minute_milli.max(turnover);
        let expected = match settings.admit_per_minute.map(|rate| i64::from(rate) * 1_000) {
            // There is room for a minute's worth: nothing else slows it.
            Some(rate) if crowd.inside + rate / 1_000 <= i64::from(settings.max_inside) => rate,
            Some(rate) => measured.min(rate),
            None => measured,
        };
        expected.max(1)
    }

    /// What has been said to somebody is never taken back: who had a number when something was said keeps the shortest
    /// wait of all that was said since. So a promise stays beside a worse one for those it was made to.
    fn promise(&mut self, settings: &Settings, crowd: &Crowd) {
        let room = i64::from(settings.max_inside).saturating_sub(crowd.inside).max(0);
        let at_once = if settings.admit_per_minute.is_none() { room } else { 0 };
        let from = crowd.serving.saturating_add(at_once);
        let new = Promise { up_to: crowd.joined, from, per_minute_milli: self.expected(settings, crowd) };
        if let Some(last) = self.promises.last_mut() {
            // Who has come since was told by the last one.
            last.up_to = last.up_to.max(crowd.joined);
        }
        self.promises.retain(|old| old.up_to > crowd.serving);
        if let Some(last) = self.promises.last() {
            let (said, is) = (last.wait_s(crowd.joined), new.wait_s(crowd.joined));
            let first = crowd.serving + 1;
            if said.saturating_mul(10) >= is.saturating_mul(9) && last.wait_s(first) <= new.wait_s(first) && said <= is
            {
                return;
            }
        }
        // A wait is nothing up to a number and grows evenly from there: it is nowhere longer where it is not at these.
        let better =
            |old: &Promise| [old.from.min(old.up_to), old.up_to].into_iter().all(|number| new.is_within(old, number));
        self.promises.retain(|old| !better(old));
        self.promises.push(new);
        while self.promises.len() > MAX_PROMISES {
            let oldest = self.promises.remove(0);
            if let Some(next) = self.promises.first_mut() {
                next.up_to = next.up_to.max(oldest.up_to);
                next.from = next.from.max(oldest.from);
                next.per_minute_milli = next.per_minute_milli.max(oldest.per_minute_milli);
            }
        }
    }

    /// How long a number waits, seconds, as far as is known. For one number it never goes up.
    pub fn estimate_s(&self, number: i64, serving: i64) -> Option<i64> {
        if number <= serving {
            return Some(0);
        }
        // Who came after the last promise is told by it, too.
        let last = self.promises.last()?;
        let told = self.promises.iter().filter(|promise| promise.up_to >= number);
        Some(told.map(|promise| promise.wait_s(number)).min().unwrap_or_else(|| last.wait_s(number)))
    }

    /// How many come in each minute, as far as is known: what is shown.
    pub fn per_minute(&self) -> Option<i64> {
        self.promises.last().map(|promise| promise.per_minute_milli / 1_000)
    }

    /// Takes in what a process says of arrivals. True where they are more than the event takes, and the doors close.
    pub fn hear(&mut self, settings: &Settings, process: u64, per_second: u32, now: Timestamp) -> bool {
        let now = now.micros();
        self.arrivals.retain(|heard| heard.process != process && now - heard.at < ARRIVALS_COUNT_FOR_US);
        if self.arrivals.len() < MAX_PROCESSES {
            self.arrivals.push(Arrivals { process, at: now, per_second });
        }
        let too_many = self.arriving(now) >= u64::from(settings.auto_arrivals_per_second);
        let closes = settings.mode == QueueMode::Auto && !self.closed_by_itself && too_many;
        if closes {
            self.closed_by_itself = true;
            self.quiet_since = 0;
        }
        closes
    }

    fn arriving(&self, now: i64) -> u64 {
        let fresh = self.arrivals.iter().filter(|heard| now - heard.at < ARRIVALS_COUNT_FOR_US);
        fresh.map(|heard| u64::from(heard.per_second)).sum()
    }

    fn notice_quiet(&mut self, settings: &Settings, crowd: &Crowd, now: Timestamp) {
        if settings.mode != QueueMode::Auto {
            self.closed_by_itself = false;
        }
        if !self.closed_by_itself {
            return;
        }
        let now = now.micros();
        let few = self.arriving(now) * 2 < u64::from(settings.auto_arrivals_per_second);
        if crowd.waiting > 0 || !few {
            self.quiet_since = 0;
        } else if self.quiet_since == 0 {
            self.quiet_since = now;
        } else if now - self.quiet_since >= QUIET_US {
            self.closed_by_itself = false;
            self.quiet_since = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_800_000_000_000_000;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_micros(START + (seconds * 1e6) as i64)
    }

    fn settings(admit_per_minute: Option<u32>, max_inside: u32) -> Settings {
        let queue = Queue { mode: QueueMode::On, admit_per_minute, max_inside, ..Queue::default() };
        Settings::new(&queue, None, &Control::default())
    }

    fn waiting(waiting: i64) -> Crowd {
        Crowd { joined: waiting, waiting, ..Crowd::default() }
    }

    #[test]
    fn the_rate_is_kept_by_however_many_ask() {
        let (settings, mut state) = (settings(Some(600), 100_000), State::default());
        // Ten askings a second from each of three processes, for a minute.
        let asked = (0..1_800).map(|n| state.take(&settings, &waiting(1_000_000), at(f64::from(n / 3) / 10.0)));
        let admitted: u64 = asked.sum();
        assert!((590..=625).contains(&admitted), "{admitted}");
    }

    #[test]
    fn a_standstill_is_not_made_up_for_by_a_flood() {
        let (settings, mut state) = (settings(Some(600), 100_000), State::default());
        state.take(&settings, &waiting(1_000_000), at(0.0));
        assert_eq!(state.take(&settings, &waiting(1_000_000), at(3_600.0)), 20);
        // A clock set back an hour does not stop the line for an hour.
        assert!(state.take(&settings, &waiting(1_000_000), at(1.0)) > 0);
    }

    #[test]
    fn a_slow_rate_gives_whole_turns() {
        let (settings, mut state) = (settings(Some(2), 10), State::default());
        let given: Vec<u64> = (0..=61).map(|n| state.take(&settings, &waiting(50), at(f64::from(n)))).collect();
        assert_eq!(given.iter().sum::<u64>(), 3);
        assert_eq!((given[0], given[30], given[60]), (1, 1, 1));
    }

    #[test]
    fn nobody_is_let_in_while_it_is_paused_or_empty() {
        let mut paused = settings(None, 10);
        paused.paused = true;
        let mut state = State::default();
        assert_eq!(state.take(&paused, &waiting(50), at(0.0)), 0);
        assert_eq!(state.take(&settings(None, 10), &waiting(0), at(1.0)), 0);
        assert_eq!(state.take(&settings(None, 10), &waiting(7), at(2.0)), 7);
    }

    #[test]
    fn the_organisers_hand_goes_before_the_event() {
        let queue = Queue { mode: QueueMode::Off, admit_per_minute: Some(5), ..Queue::default() };
        let mut control = Control::default();
        control.merge(&Control { mode: Some(QueueMode::On), admit_per_minute: Some(0), ..Control::default() });
        control.merge(&Control { paused: Some(true), ..Control::default() });
        let settings = Settings::new(&queue, Some(at(0.0)), &control);
        assert_eq!((settings.mode, settings.admit_per_minute, settings.paused), (QueueMode::On, None, true));
        assert_eq!((settings.max_inside, settings.doors_open_at), (2_000, Some(at(0.0))));
        for bad in [
            Control { max_inside: Some(0), ..Control::default() },
            Control { max_inside: Some(MAX_PEOPLE + 1), ..Control::default() },
            Control { admit_per_minute: Some(u32::MAX), ..Control::default() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_doors_close_by_themselves_and_open_when_it_is_quiet() {
        let mut auto = settings(None, 10);
        (auto.mode, auto.auto_arrivals_per_second) = (QueueMode::Auto, 100);
        let mut state = State::default();
        assert!(!state.hear(&auto, 1, 60, at(0.0)));
        assert!(!state.hear(&auto, 1, 70, at(1.0)), "one process is not two");
        assert!(state.hear(&auto, 2, 30, at(1.5)) && state.closed_by_itself);
        assert!(!state.hear(&auto, 2, 300, at(2.0)), "they are closed already");
        state.take(&auto, &waiting(5), at(10.0));
        for second in 20..50 {
            state.take(&auto, &waiting(0), at(f64::from(second)));
            assert!(state.closed_by_itself, "{second}");
        }
        state.take(&auto, &waiting(0), at(50.0));
        assert!(!state.closed_by_itself);
        // Words that are too old do not add up.
        assert!(!state.hear(&auto, 1, 99, at(60.0)) && !state.hear(&auto, 2, 99, at(64.0)));
    }

    #[test]
    fn estimates_follow_the_rate() {
        let (settings, mut state) = (settings(Some(600), 100_000), State::default());
        assert_eq!(state.estimate_s(1, 0), None);
        state.take(&settings, &waiting(1_000), at(0.0));
        assert_eq!(state.estimate_s(600, 0), Some(60));
        assert_eq!(state.estimate_s(600, 600), Some(0));
        assert_eq!(state.per_minute(), Some(600));
    }

    #[test]
    fn state_reads_back_as_written_and_old_state_is_read() {
        let (settings, mut state) = (settings(Some(600), 10), State::default());
        state.take(&settings, &waiting(1_000), at(0.0));
        state.hear(&settings, 7, 3, at(0.0));
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        assert_eq!(serde_json::from_str::<State>("{}").unwrap(), State::default());
        let old = r#"{"paused":true}"#;
        assert_eq!(serde_json::from_str::<Control>(old).unwrap().paused, Some(true));
    }

    proptest! {
        /// Whatever happens to rate, room and line: nobody who was told a wait is told a longer one.
        #[test]
        fn estimates_never_go_up(
            steps in prop::collection::vec((0i64..400, 0i64..300, 0u32..4, 0i64..3_000, any::<bool>()), 1..120)
        ) {
            let mut state = State::default();
            let mut crowd = Crowd::default();
            let mut told: std::collections::BTreeMap<i64, i64> = std::collections::BTreeMap::new();
            let rates = [None, Some(10), Some(300), Some(20_000)];
            for (second, (come, served, rate, inside, paused)) in steps.into_iter().enumerate() {
                crowd.joined += come;
                let served = served.min(crowd.joined - crowd.serving);
                crowd.serving += served;
                (crowd.admitted, crowd.inside, crowd.waiting) = (served, inside, crowd.joined - crowd.serving);
                let mut settings = settings(rates[rate as usize], 2_000);
                settings.paused = paused;
                let look = |state: &State, told: &mut std::collections::BTreeMap<i64, i64>, last: i64| {
                    for number in (1..=last).step_by(37) {
                        if let Some(wait) = state.estimate_s(number, crowd.serving) {
                            let before = told.insert(number, wait);
                            prop_assert!(before.is_none_or(|before| wait <= before), "{number}: {before:?} {wait}");
                        }
                    }
                    Ok(())
                };
                // Who has just come is told before the next asking, and again after it.
                look(&state, &mut told, crowd.joined)?;
                state.take(&settings, &crowd, at(second as f64));
                prop_assert!(state.promises.len() <= MAX_PROMISES);
                look(&state, &mut told, crowd.joined)?;
            }
        }
    }
}
