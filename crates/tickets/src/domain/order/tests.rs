//! The paths an order may take; then random news, and a provider that is asked at random moments and believed late.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const TOTAL: i64 = 9_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(0).plus(Duration::from_secs(seconds))
}

/// For how long a request to the provider may be on its way.
const IN_FLIGHT_S: u64 = 60;

fn begin() -> Order {
    Order::begin(TOTAL, at(600))
}

fn captured(refunded: i64) -> Event {
    Event::Seen(Seen::Captured { captured: TOTAL, refunded })
}

fn declined() -> Event {
    Event::Seen(Seen::Declined(Failure::new("insufficient_funds", "no money")))
}

fn never(asked: u64) -> Event {
    Event::Seen(Seen::NeverArrived { due_at: at(IN_FLIGHT_S), asked_at: at(asked) })
}

const AUTHORISED: Event = Event::Seen(Seen::Authorised);
const VOIDED: Event = Event::Seen(Seen::Voided);

/// The states that an order passes through; an event that changes nothing or is refused repeats the state.
fn path(order: &Order, events: &[Event]) -> Vec<&'static str> {
    let mut order = order.clone();
    let step = |event: &Event| {
        if let Ok(Some(next)) = order.after(event, at(100)) {
            order = next;
        }
        order.state.as_str()
    };
    events.iter().map(step).collect()
}

fn after(order: Order, events: &[Event]) -> Order {
    events.iter().fold(order, |order, event| order.after(event, at(100)).unwrap().unwrap_or(order))
}

#[test]
fn the_straight_path() {
    let events = [AUTHORISED, Event::Book, captured(0)];
    assert_eq!(path(&begin(), &events), ["authorised", "booked", "captured"]);
    let duties: Vec<Duty> = (0..=3).map(|n| after(begin(), &events[..n]).duty()).collect();
    assert_eq!(duties, [Duty::LookUp, Duty::Book, Duty::Capture, Duty::Nothing]);
}

#[test]
fn a_declined_card_fails_the_order_and_a_late_payment_goes_back() {
    assert_eq!(path(&begin(), &[declined(), declined(), never(100)]), ["failed", "failed", "failed"]);
    assert_eq!(after(begin(), &[declined()]).failure.unwrap().code, "insufficient_funds");
    let late = after(begin(), &[never(60), AUTHORISED]);
    assert_eq!((late.state, late.duty(), late.has_seats()), (State::RefundDue, Duty::Void, false));
    assert_eq!(path(&late, &[AUTHORISED, VOIDED, AUTHORISED]), ["refund_due", "voided", "voided"]);
}

#[test]
fn a_payment_that_may_still_be_on_its_way_has_not_failed() {
    assert_eq!(path(&begin(), &[never(59), never(60)]), ["paying", "failed"]);
    // The provider had it once: then it cannot never have arrived.
    assert_eq!(path(&begin(), &[Event::Seen(Seen::Pending), never(600)]), ["paying", "paying"]);
    assert_eq!(path(&begin(), &[AUTHORISED, Event::SeatsGone, never(600)]), ["authorised", "refund_due", "refund_due"]);
}

#[test]
fn time_decides_between_booking_and_giving_up() {
    let order = after(begin(), &[AUTHORISED]);
    assert_eq!(order.after(&Event::GiveUp, at(599)), Err(Refusal::TooEarly(at(600))));
    assert_eq!(order.after(&Event::Book, at(600)), Err(Refusal::TooLate(at(600))));
    let given_up = order.after(&Event::GiveUp, at(600)).unwrap().unwrap();
    assert_eq!((given_up.state, given_up.duty()), (State::RefundDue, Duty::Void));
    assert!(given_up.after(&Event::Book, at(100)).is_err());
    assert_eq!(path(&after(begin(), &[AUTHORISED, Event::Book]), &[Event::GiveUp]), ["booked"]);
}

#[test]
fn seats_that_had_gone_give_the_money_back_whatever_became_of_it() {
    let gone = after(begin(), &[AUTHORISED, Event::SeatsGone]);
    assert_eq!(gone.failure.as_ref().unwrap().code, "seats_gone");
    assert_eq!(path(&gone, &[VOIDED]), ["voided"]);
    // The capture was on its way.
    let taken = after(gone, &[captured(0)]);
    assert_eq!((taken.state, taken.duty()), (State::RefundDue, Duty::Refund(TOTAL)));
    assert_eq!(path(&taken, &[VOIDED, captured(TOTAL - 1), captured(TOTAL)]), ["refund_due", "refund_due", "refunded"]);
    assert!(after(begin(), &[AUTHORISED, Event::Book]).after(&Event::SeatsGone, at(0)).is_err());
}

#[test]
fn parts_can_go_back_one_after_the_other() {
    let order = after(begin(), &[AUTHORISED, Event::Book, captured(0), Event::Refund { amount: 3_000 }]);
    assert_eq!((order.state, order.duty(), order.has_seats()), (State::RefundDue, Duty::Refund(3_000), true));
    assert!(order.after(&Event::Refund { amount: 3_000 }, at(0)).is_err(), "one at a time");
    let order = after(order, &[captured(0), captured(3_000), captured(0)]);
    assert_eq!((order.state, order.keep, order.refunded), (State::Captured, 6_000, 3_000));
    for amount in [6_001, 0, -1, i64::MAX, i64::MIN] {
        assert!(order.after(&Event::Refund { amount }, at(0)).is_err(), "{amount}");
    }
    let order = after(order, &[Event::Refund { amount: 6_000 }]);
    assert_eq!((order.duty(), order.has_seats()), (Duty::Refund(6_000), false));
    assert_eq!(path(&order, &[captured(3_000), captured(TOTAL), captured(0)]), ["refund_due", "refunded", "refunded"]);
}

#[test]
fn what_other_hands_do_at_the_provider_is_seen() {
    let booked = after(begin(), &[AUTHORISED, Event::Book]);
    let let_go = after(booked, &[VOIDED]);
    assert_eq!((let_go.state, let_go.has_seats(), let_go.keep), (State::Voided, false, 0));
    let taken = after(begin(), &[AUTHORISED, Event::Book, captured(0)]);
    let part = after(taken.clone(), &[captured(2_000)]);
    assert_eq!((part.state, part.keep, part.has_seats()), (State::Captured, 7_000, true));
    let whole = after(taken, &[captured(TOTAL)]);
    assert_eq!((whole.state, whole.has_seats()), (State::Refunded, false));
    assert_eq!(path(&begin(), &[captured(0), Event::Book, captured(0)]), ["authorised", "booked", "captured"]);
}

#[test]
fn an_order_of_nothing_takes_the_same_path() {
    let free = |events: &[Event]| after(Order::begin(0, at(600)), events);
    let nothing = Event::Seen(Seen::Captured { captured: 0, refunded: 0 });
    let bought = [AUTHORISED, Event::Book, nothing];
    assert_eq!(free(&bought).state, State::Captured);
    let returned = after(free(&bought), &[Event::Refund { amount: 0 }]);
    assert_eq!((returned.state, returned.has_seats()), (State::Refunded, false));
    // What was never booked leaves nothing behind, as an order of something.
    let gone = free(&[AUTHORISED, Event::SeatsGone]);
    assert_eq!((gone.duty(), gone.state), (Duty::Nothing, State::Voided));
    let late = free(&[]).after(&Event::GiveUp, at(600)).unwrap().unwrap();
    assert_eq!((late.duty(), late.state), (Duty::Nothing, State::Voided));
}

#[test]
fn states_are_stored_by_name() {
    for state in State::ALL {
        assert_eq!(State::from_stored(state.as_str()), Some(state));
    }
    assert_eq!(State::from_stored("held"), None);
}

/// All edges there are.
fn may_follow(from: State, to: State) -> bool {
    use State::*;
    match from {
        Paying => matches!(to, Authorised | Failed | RefundDue | Refunded | Voided),
        Authorised => matches!(to, Booked | Voided | RefundDue | Refunded),
        Booked => matches!(to, Captured | Voided | RefundDue | Refunded),
        Captured => matches!(to, RefundDue | Refunded),
        RefundDue => matches!(to, Captured | Voided | Failed | Refunded),
        Failed | Voided => matches!(to, RefundDue | Refunded),
        Refunded => to == RefundDue,
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let amount = || prop_oneof![Just(0), Just(TOTAL), 0..TOTAL];
    prop_oneof![
        Just(AUTHORISED),
        Just(VOIDED),
        Just(Event::Seen(Seen::Pending)),
        Just(Event::Seen(Seen::NeedsAction)),
        Just(declined()),
        (0u64..900).prop_map(never),
        (amount(), amount()).prop_map(|(captured, refunded)| Event::Seen(Seen::Captured { captured, refunded })),
        Just(Event::Book),
        Just(Event::SeatsGone),
        Just(Event::GiveUp),
        amount().prop_map(|amount| Event::Refund { amount }),
        amount().prop_map(|amount| Event::RefundFailed { amount }),
    ]
}

/// The provider as it is: one payment, and how the world moves it.
#[derive(Clone, Debug, PartialEq)]
enum Payment {
    Absent,
    NeedsAction,
    Authorised,
    Declined,
    Voided,
    Captured { refunded: i64 },
}

impl Payment {
    fn truth(&self, asked: u64) -> Event {
        match self {
            Self::Absent => never(asked),
            Self::NeedsAction => Event::Seen(Seen::NeedsAction),
            Self::Authorised => AUTHORISED,
            Self::Declined => declined(),
            Self::Voided => VOIDED,
            Self::Captured { refunded } => captured(*refunded),
        }
    }

    fn capture(&mut self) {
        if *self == Self::Authorised {
            *self = Self::Captured { refunded: 0 };
        }
    }

    fn void(&mut self) {
        if matches!(self, Self::Authorised | Self::NeedsAction) {
            *self = Self::Voided;
        }
    }

    fn refund(&mut self, amount: i64) {
        if let Self::Captured { refunded } = self
            && *refunded + amount <= TOTAL
        {
            *refunded += amount;
        }
    }

    fn has(&self) -> i64 {
        match self {
            Self::Captured { refunded } => TOTAL - refunded,
            _ => 0,
        }
    }
}

/// What happens next in a schedule.
#[derive(Clone, Debug)]
enum Move {
    /// The request arrives, if it is on its way, with this outcome.
    Arrive(Payment),
    /// The buyer does the second step.
    Act { agreed: bool },
    /// The provider is asked; its answer is on its way.
    Ask,
    /// An answer on its way comes in, and may come in again.
    Hear { which: usize, again: bool },
    /// The duty is done at the provider, and the answer is lost or heard.
    Do { heard: bool },
    /// The seats are gone.
    Lose,
    /// The buyer wants some of it back.
    Return { amount: i64 },
    /// Time goes by.
    Wait { seconds: u64 },
}

fn any_move() -> impl Strategy<Value = Move> {
    let outcome = prop_oneof![Just(Payment::Authorised), Just(Payment::Declined), Just(Payment::NeedsAction)];
    prop_oneof![
        2 => outcome.prop_map(Move::Arrive),
        1 => any::<bool>().prop_map(|agreed| Move::Act { agreed }),
        3 => Just(Move::Ask),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, again)| Move::Hear { which, again }),
        4 => any::<bool>().prop_map(|heard| Move::Do { heard }),
        1 => Just(Move::Lose),
        1 => prop_oneof![Just(TOTAL), 1..TOTAL].prop_map(|amount| Move::Return { amount }),
        2 => (1u64..200).prop_map(|seconds| Move::Wait { seconds }),
    ]
}

struct World {
    order: Order,
    payment: Payment,
    now: u64,
    answers: Vec<Event>,
}

impl World {
    fn apply(&mut self, event: &Event) {
        let before = self.order.clone();
        if let Ok(Some(next)) = self.order.after(event, at(self.now)) {
            assert!(
                next.state == before.state || may_follow(before.state, next.state),
                "{before:?} {event:?} {next:?}"
            );
            assert!(next.is_sound(), "{next:?}");
            self.order = next;
        }
    }

    /// Does what is due at the provider, as the reconciler does; `heard` is whether its answer is.
    fn act(&mut self, heard: bool) {
        match self.order.duty() {
            Duty::Nothing | Duty::LookUp => {}
            Duty::Book => self.apply(&Event::Book),
            Duty::Capture => self.payment.capture(),
            Duty::Void => self.payment.void(),
            // One attempt is one refund: it is looked up before another is made.
            Duty::Refund(_) if self.payment.has() == self.order.keep => {}
            Duty::Refund(amount) => self.payment.refund(amount),
        }
        if heard {
            self.apply(&self.payment.truth(self.now));
        }
    }

    fn step(&mut self, step: &Move) {
        match step {
            // A request that was given up may arrive for as long as it is in flight.
            Move::Arrive(outcome) if self.payment == Payment::Absent && self.now < IN_FLIGHT_S => {
                self.payment = outcome.clone();
            }
            Move::Act { agreed } if self.payment == Payment::NeedsAction => {
                self.payment = if *agreed { Payment::Authorised } else { Payment::Declined };
            }
            Move::Ask => self.answers.push(self.payment.truth(self.now)),
            Move::Hear { which, again } if !self.answers.is_empty() => {
                let which = which % self.answers.len();
                let event = self.answers[which].clone();
                self.apply(&event);
                if !again {
                    self.answers.swap_remove(which);
                }
            }
            Move::Do { heard } => self.act(*heard),
            Move::Lose if !self.order.has_seats() => self.apply(&Event::SeatsGone),
            Move::Return { amount } => self.apply(&Event::Refund { amount: *amount }),
            Move::Wait { seconds } => self.now += seconds,
            _ => {}
        }
    }

    /// The reconciler, after all has calmed down.
    fn settle(&mut self) {
        self.now = self.now.max(1_000);
        for _ in 0..8 {
            self.apply(&self.payment.truth(self.now));
            self.apply(&Event::GiveUp);
            self.act(true);
        }
    }
}

proptest! {
    #[test]
    fn no_news_breaks_an_order(events in vec((any_event(), 0u64..1_200), 0..40)) {
        let mut order = begin();
        for (event, now) in events {
            let Ok(Some(next)) = order.after(&event, at(now)) else { continue };
            prop_assert!(next != order && next.is_sound(), "{order:?} {event:?} {next:?}");
            let edge = next.state == order.state || may_follow(order.state, next.state);
            prop_assert!(edge, "{order:?} {event:?} {next:?}");
            prop_assert!(next.captured >= order.captured);
            let came_back = matches!(event, Event::RefundFailed { .. });
            prop_assert!(next.refunded >= order.refunded || came_back);
            prop_assert!(next.keep <= order.keep);
            if next.has_seats() && !order.has_seats() {
                prop_assert!(event == Event::Book && order.state == State::Authorised && at(now) < order.book_before);
            }
            // The same news again changes nothing more, but for what is a wish and not news.
            if matches!(event, Event::Seen(_)) {
                prop_assert_eq!(next.after(&event, at(now)), Ok(None));
            }
            order = next;
        }
    }

    #[test]
    fn money_and_seats_agree_once_it_is_settled(moves in vec(any_move(), 0..60)) {
        let mut world = World { order: begin(), payment: Payment::Absent, now: 0, answers: Vec::new() };
        for step in &moves {
            world.step(step);
        }
        world.settle();
        let World { order, payment, answers, .. } = &mut world;
        prop_assert!(order.state.is_settled(), "{order:?} {payment:?}");
        prop_assert_eq!(payment.has(), order.keep, "{:?} {:?}", order, payment);
        prop_assert_eq!(order.has_seats(), order.keep > 0, "{:?}", order);
        prop_assert!(!matches!(payment, Payment::Authorised | Payment::NeedsAction), "{order:?} {payment:?}");
        // Answers that come only now are old news.
        let (settled, late) = (order.clone(), std::mem::take(answers));
        for answer in late {
            world.apply(&answer);
        }
        world.settle();
        prop_assert_eq!((world.order.state, world.order.keep), (settled.state, settled.keep));
    }
}
