//! An order and its money: which states there are, and what each piece of news makes of them.
//!
//! ```text
//! (held) → paying → authorised → booked → captured
//!             │          │          │         │
//!             ├→ failed  └────→ refund_due ←──┘ ──→ voided | refunded | captured (a part went back)
//!             └────────────────────┘
//! ```
//!
//! What the provider says of a payment may come late, twice and in another order than it happened, so it is not taken as a
//! step but as something seen: numbers only grow, and a state is not left for one that lies before it. (What went back and was
//! not taken is told by the refund that it was, once.) One figure ties money to seats: `keep`, what the order's seats are worth
//! and what shall stay with us of its money.

use tessera_kernel::Timestamp;

use crate::Error;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The provider was asked, or is about to be. The seats are held and cannot lapse before `book_before`.
    Paying,
    /// The money is set aside, the seats are not booked yet.
    Authorised,
    /// The seats are the buyer's, the money is not taken yet.
    Booked,
    /// The money is taken.
    Captured,
    /// Nothing was set aside.
    Failed,
    /// The money was let go.
    Voided,
    /// Money is to go back: let go where it is not captured, refunded down to `keep` where it is.
    RefundDue,
    /// All of it went back.
    Refunded,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Paying,
        Self::Authorised,
        Self::Booked,
        Self::Captured,
        Self::Failed,
        Self::Voided,
        Self::RefundDue,
        Self::Refunded,
    ];

    /// As stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paying => "paying",
            Self::Authorised => "authorised",
            Self::Booked => "booked",
            Self::Captured => "captured",
            Self::Failed => "failed",
            Self::Voided => "voided",
            Self::RefundDue => "refund_due",
            Self::Refunded => "refunded",
        }
    }

    /// From what is stored.
    pub fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether its hold is paid by it: no other order may be made from that.
    pub const fn pays_hold(self) -> bool {
        matches!(self, Self::Paying | Self::Authorised | Self::Booked | Self::Captured)
    }

    /// Whether nothing is left to do, for as long as there is no news.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Captured | Self::Failed | Self::Voided | Self::Refunded)
    }
}

/// The money of an order. All amounts are minor units of its one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Where it stands.
    pub state: State,
    /// What the buyer agreed to pay.
    pub total: i64,
    /// What its seats are worth now, and what shall stay with us.
    pub keep: i64,
    /// What was taken.
    pub captured: i64,
    /// What went back of it.
    pub refunded: i64,
    /// Until when it may become a booking, by the database's clock.
    pub book_before: Timestamp,
    /// Whether the provider is known to have the payment.
    pub arrived: bool,
    /// Why it came to nothing.
    pub failure: Option<Failure>,
}

/// Why an order came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A stable word.
    pub code: String,
    /// For the buyer.
    pub detail: String,
}

impl Failure {
    /// From its parts.
    pub fn new(code: &str, detail: &str) -> Self {
        Self { code: code.to_owned(), detail: detail.to_owned() }
    }
}

/// News of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The provider said so.
    Seen(Seen),
    /// The seats are being booked, in the same commit.
    Book,
    /// The seats cannot be booked any more: somebody has one of them, or the claim is over.
    SeatsGone,
    /// It was waited for until `book_before`.
    GiveUp,
    /// So much is to go back, with the seats that it was paid for.
    Refund {
        /// Minor units.
        amount: i64,
    },
    /// So much that had gone back came back to us, as a bank would not take it: it is due again.
    RefundFailed {
        /// Minor units.
        amount: i64,
    },
}

/// What the provider said of the payment of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It does not know the attempt.
    NeverArrived {
        /// Until when the attempt may be on its way to it.
        due_at: Timestamp,
        /// When the provider was asked about it.
        asked_at: Timestamp,
    },
    /// It is at it.
    Pending,
    /// It waits for the buyer.
    NeedsAction,
    /// The money is set aside.
    Authorised,
    /// Nothing is set aside.
    Declined(Failure),
    /// The money is taken.
    Captured {
        /// How much.
        captured: i64,
        /// How much of it went back.
        refunded: i64,
    },
    /// The money was let go.
    Voided,
}

/// What is to be done next for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Nothing.
    Nothing,
    /// Ask the provider what became of the payment.
    LookUp,
    /// Book the seats.
    Book,
    /// Take the money, all of it.
    Capture,
    /// Let go of the money. Whether that is still possible, the provider knows: look up first.
    Void,
    /// Return so much.
    Refund(i64),
}

/// Why an event cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// After `book_before`.
    #[error("the time to book ended at {0}")]
    TooLate(Timestamp),
    /// Before `book_before`.
    #[error("the payment may still come until {0}; wait for it")]
    TooEarly(Timestamp),
    /// Not in this state.
    #[error("the order is {} and cannot be {what}", .state.as_str())]
    NotNow {
        /// Where the order stands.
        state: State,
        /// What was to be done to it.
        what: &'static str,
    },
    /// More than there is.
    #[error("{left} are left to refund, not {asked} (minor units)")]
    TooMuch {
        /// What was asked for.
        asked: i64,
        /// What there is.
        left: i64,
    },
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::NotNow { reason: refusal.to_string() }
    }
}

impl Order {
    /// An order whose buyer is about to pay.
    pub fn begin(total: i64, book_before: Timestamp) -> Self {
        let state = State::Paying;
        Self { state, total, keep: total, captured: 0, refunded: 0, book_before, arrived: false, failure: None }
    }

    /// The order after an event; `None` where there is nothing to change.
    ///
    /// # Errors
    /// The event cannot be in this state or at this time; nothing changes.
    pub fn after(&self, event: &Event, now: Timestamp) -> Result<Option<Self>, Refusal> {
        let next = match event {
            Event::Seen(seen) => self.seen(seen),
            Event::Book => self.book(now)?,
            Event::SeatsGone => self.seats_gone()?,
            Event::GiveUp => self.give_up(now)?,
            Event::Refund { amount } => self.refund(*amount)?,
            Event::RefundFailed { amount } => self.refund_failed(*amount),
        };
        debug_assert!(next.is_sound(), "{self:?} and {event:?} make {next:?}");
        Ok(Some(next).filter(|next| next != self))
    }

    /// What is to be done next.
    pub fn duty(&self) -> Duty {
        match self.state {
            State::Paying => Duty::LookUp,
            State::Authorised => Duty::Book,
            State::Booked => Duty::Capture,
            State::RefundDue if self.captured == 0 => Duty::Void,
            State::RefundDue => Duty::Refund(self.captured - self.refunded - self.keep),
            State::Captured | State::Failed | State::Voided | State::Refunded => Duty::Nothing,
        }
    }

    /// Whether any of its seats are the buyer's.
    pub fn has_seats(&self) -> bool {
        match self.state {
            State::Booked | State::Captured => true,
            State::RefundDue => self.keep > 0,
            State::Paying | State::Authorised | State::Failed | State::Voided | State::Refunded => false,
        }
    }

    /// Money is conserved: what went back was taken, what was taken was agreed to, and nothing is kept without seats.
    pub fn is_sound(&self) -> bool {
        let within = |amount: i64, most: i64| 0 <= amount && amount <= most;
        let sums =
            within(self.captured, self.total) && within(self.refunded, self.captured) && within(self.keep, self.total);
        let state = match self.state {
            State::Paying | State::Authorised => self.keep == self.total,
            State::Booked => self.keep == self.total && self.refunded == 0,
            State::Captured => self.keep == self.captured - self.refunded && (self.keep > 0 || self.total == 0),
            State::Failed | State::Voided => self.keep == 0 && self.captured == 0,
            State::RefundDue => self.captured == 0 || self.captured - self.refunded > self.keep,
            State::Refunded => self.keep == 0 && self.captured == self.refunded,
        };
        sums && state
    }

    fn seen(&self, seen: &Seen) -> Self {
        let mut next = self.clone();
        next.arrived |= !matches!(seen, Seen::NeverArrived { .. });
        match seen {
            Seen::NeverArrived { due_at, asked_at } => {
                if self.arrived || asked_at < due_at {
                    return next;
                }
                next.come_to_nothing(State::Failed, "never_arrived", "the payment never reached the provider");
            }
            Seen::Pending | Seen::NeedsAction => {}
            Seen::Authorised => match self.state {
                State::Paying => next.state = State::Authorised,
                // It was given up, and came all the same.
                State::Failed => next.owe_all("late_payment", "the payment came too late and goes back"),
                _ => {}
            },
            Seen::Declined(failure) => next.come_to_nothing(State::Failed, &failure.code, &failure.detail),
            Seen::Voided => match self.state {
                State::Paying => next.come_to_nothing(State::Failed, "voided", "the payment was let go"),
                _ => next.come_to_nothing(State::Voided, "voided", "the payment was let go"),
            },
            Seen::Captured { captured, refunded } => next.see_captured(*captured, *refunded),
        }
        next
    }

    /// The end of an order of which nothing was taken; where something was, or it has ended, this is old news.
    fn come_to_nothing(&mut self, state: State, code: &str, detail: &str) {
        let open = match self.state {
            State::Paying | State::RefundDue => true,
            State::Authorised | State::Booked => state == State::Voided,
            State::Captured | State::Failed | State::Voided | State::Refunded => false,
        };
        if open && self.captured == 0 {
            self.state = state;
            self.keep = 0;
            self.failure.get_or_insert_with(|| Failure::new(code, detail));
        }
    }

    /// All of the money is to go back, whatever of it there is.
    fn owe_all(&mut self, code: &str, detail: &str) {
        self.state = State::RefundDue;
        self.keep = 0;
        self.failure = Some(Failure::new(code, detail));
    }

    fn see_captured(&mut self, captured: i64, refunded: i64) {
        if captured <= 0 && self.total > 0 {
            return;
        }
        self.captured = self.captured.max(captured.clamp(0, self.total));
        self.refunded = self.refunded.max(refunded.clamp(0, self.captured));
        let left = self.captured - self.refunded;
        match self.state {
            State::Paying if self.refunded == 0 => self.state = State::Authorised,
            State::Authorised if self.refunded == 0 => {}
            // Taken by other hands, and given back by them in part.
            State::Paying | State::Authorised => self.owe_all("refunded", "the payment was refunded"),
            State::Failed | State::Voided | State::Refunded if left > 0 => {
                self.owe_all("late_payment", "the payment came too late and goes back");
            }
            State::Failed | State::Voided if self.captured > 0 => self.state = State::Refunded,
            State::Booked | State::Captured => self.state = State::Captured,
            State::RefundDue | State::Failed | State::Voided | State::Refunded => {}
        }
        let settles = self.state == State::Captured || (self.state == State::RefundDue && self.captured > 0);
        if settles && left <= self.keep {
            self.keep = left;
            self.state = State::Captured;
        } else if self.state == State::Captured {
            // Less was taken back than the order has given up: the rest is still due.
            self.state = State::RefundDue;
        }
        if matches!(self.state, State::Captured | State::RefundDue) && left == 0 && self.captured > 0 {
            self.state = State::Refunded;
        }
    }

    fn book(&self, now: Timestamp) -> Result<Self, Refusal> {
        match self.state {
            State::Authorised if now < self.book_before => Ok(Self { state: State::Booked, ..self.clone() }),
            State::Authorised => Err(Refusal::TooLate(self.book_before)),
            State::Booked | State::Captured => Ok(self.clone()),
            state => Err(Refusal::NotNow { state, what: "booked" }),
        }
    }

    fn seats_gone(&self) -> Result<Self, Refusal> {
        let mut next = self.clone();
        match self.state {
            State::Paying | State::Authorised => {
                next.owe_all("seats_gone", "the seats had gone before the payment came; it goes back");
            }
            State::Booked | State::Captured => {
                return Err(Refusal::NotNow { state: self.state, what: "without its seats" });
            }
            _ => {}
        }
        Ok(next.ended_if_nothing_is_owed(State::Voided))
    }

    fn give_up(&self, now: Timestamp) -> Result<Self, Refusal> {
        let mut next = self.clone();
        if matches!(self.state, State::Paying | State::Authorised) {
            if now < self.book_before {
                return Err(Refusal::TooEarly(self.book_before));
            }
            next.owe_all("timed_out", "the payment was not completed in time; nothing is charged");
        }
        Ok(next.ended_if_nothing_is_owed(State::Voided))
    }

    fn refund(&self, amount: i64) -> Result<Self, Refusal> {
        let not_now = Refusal::NotNow { state: self.state, what: "refunded" };
        let whole = amount == self.keep;
        match self.state {
            State::Captured | State::Booked if amount > self.keep || amount < 0 || (amount == 0 && !whole) => {
                Err(Refusal::TooMuch { asked: amount, left: self.keep })
            }
            State::Captured => {
                let next = Self { state: State::RefundDue, keep: self.keep - amount, ..self.clone() };
                Ok(next.ended_if_nothing_is_owed(State::Refunded))
            }
            // What is not captured is let go as a whole.
            State::Booked if whole => {
                let next = Self { state: State::RefundDue, keep: 0, ..self.clone() };
                Ok(next.ended_if_nothing_is_owed(State::Refunded))
            }
            _ => Err(not_now),
        }
    }

    fn refund_failed(&self, amount: i64) -> Self {
        let back = amount.clamp(0, self.refunded);
        match self.state {
            State::Captured | State::RefundDue | State::Refunded if back > 0 => {
                Self { state: State::RefundDue, refunded: self.refunded - back, ..self.clone() }
            }
            _ => self.clone(),
        }
    }

    /// An order of nothing has nothing to give back.
    fn ended_if_nothing_is_owed(self, end: State) -> Self {
        match self.state {
            State::RefundDue if self.total == 0 => Self { state: end, ..self },
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests;
