//! Moving money: the port to a payment provider, and its two implementations.
//!
//! A payment is authorised (the money is set aside), then captured (taken) or voided (let go), and what was captured may be
//! refunded, in parts too. Every call names an attempt, which is stored before the call and is the idempotency key: the
//! same attempt again is the same call again. What is said of a call is either certain or [`Error::Unknown`]; an unknown
//! outcome is settled by [`Provider::look_up`], which asks for the provider's truth, never by guessing.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use tessera_kernel::Money;

use crate::domain::ids::{AttemptId, OrderId};
use crate::domain::order::{Failure, Seen};

mod card;
mod config;
pub mod stripe;
pub mod test;

pub use card::Card;
pub use config::{CardForm, Config, Payments, open};
pub use stripe::Stripe;
pub use test::Test;

/// How many times the deadline of a call its request may be on its way: what is given up here may still arrive there.
const IN_FLIGHT_DEADLINES: u32 = 4;

/// A payment provider.
pub trait Provider: Send + Sync + fmt::Debug {
    /// As stored with orders: `test`, `stripe`.
    fn name(&self) -> &'static str;

    /// The deadline of a call.
    fn timeout(&self) -> Duration;

    /// For how long a request may be on its way. Before that, a payment that the provider does not know may still come.
    fn in_flight(&self) -> Duration {
        self.timeout() * IN_FLIGHT_DEADLINES
    }

    /// Sets money aside.
    ///
    /// # Errors
    /// [`Error::NotDone`] and [`Error::Refused`]: nothing was set aside under this attempt. [`Error::Unknown`]: look it up.
    fn authorise(&self, request: Authorise) -> BoxFuture<'_, Result<Authorisation, Error>>;

    /// Takes the money of an authorised payment, all of it.
    ///
    /// # Errors
    /// [`Error::NotDone`]: try again. [`Error::Refused`]: the payment is not in a state for it, look it up.
    /// [`Error::Unknown`]: try again under the same attempt, or look it up.
    fn capture<'a>(
        &'a self,
        attempt: AttemptId,
        payment: &'a PaymentRef,
        amount: Money,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Lets go of a payment that is not captured, whether authorised or still asking for a second step.
    ///
    /// # Errors
    /// As [`Provider::capture`].
    fn void<'a>(&'a self, attempt: AttemptId, payment: &'a PaymentRef) -> BoxFuture<'a, Result<(), Error>>;

    /// Returns so much of a captured payment.
    ///
    /// # Errors
    /// As [`Provider::capture`].
    fn refund<'a>(
        &'a self,
        attempt: AttemptId,
        payment: &'a PaymentRef,
        amount: Money,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// What the provider has of a payment now. `None`: an attempt that never arrived, so far: it may be on its way for
    /// [`Provider::in_flight`]. Or a reference that it does not know.
    ///
    /// # Errors
    /// It could not be found out; ask again later.
    fn look_up<'a>(&'a self, which: Which<'a>) -> BoxFuture<'a, Result<Option<Payment>, Error>>;

    /// The attempt that made a refund which was answered as done, where the money came back since: a bank may refuse it days
    /// later. `None`: it did not fail, or is no refund of ours.
    ///
    /// # Errors
    /// It could not be found out; ask again later.
    fn failed_refund<'a>(&'a self, refund: &'a str) -> BoxFuture<'a, Result<Option<AttemptId>, Error>>;

    /// Reads a webhook, checking its signature. What it says of the payment is not used, as it may be late, doubled and
    /// out of order: it is the bell to [`Provider::look_up`]. `None`: a genuine one that concerns no payment of ours.
    ///
    /// # Errors
    /// Why it is refused.
    fn read_webhook(&self, signature: &str, body: &[u8]) -> Result<Option<Notice>, String>;
}

/// The provider's name of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PaymentRef(String);

impl PaymentRef {
    /// From the provider, or from what was stored of it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As stored and sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PaymentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A wish to set money aside.
#[derive(Clone, Debug)]
pub struct Authorise {
    /// The idempotency key, stored before this is sent.
    pub attempt: AttemptId,
    /// For which order.
    pub order: OrderId,
    /// How much: more than nothing.
    pub amount: Money,
    /// Of what.
    pub method: Method,
    /// What the buyer reads on the statement of the provider.
    pub description: String,
    /// Where a buyer returns to from a second step; an absolute URL.
    pub return_url: String,
    /// More for the provider to keep with the payment; `order` and `attempt` are added.
    pub metadata: Vec<(String, String)>,
}

/// What is paid with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// A card's own data.
    Card(Card),
    /// What the provider's own form has given the buyer's page, such as `pm_…`.
    Saved(String),
}

impl Method {
    /// As much of it as may be stored: enough to tell another card from the same one in a repeated request.
    pub fn fingerprint(&self) -> String {
        match self {
            Self::Card(card) => {
                let last_four = card.number().get(card.number().len() - 4..).unwrap_or_default();
                format!("card {last_four} {}/{}", card.exp_month(), card.exp_year())
            }
            Self::Saved(name) => format!("saved {name}"),
        }
    }
}

/// What came of a wish to set money aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorisation {
    /// It is set aside.
    Authorised {
        /// The payment.
        payment: PaymentRef,
    },
    /// The buyer has to agree in a second step; look the payment up afterwards.
    NeedsAction {
        /// The payment.
        payment: PaymentRef,
        /// Where to send the buyer; absolute, or a path on this server.
        url: String,
    },
    /// Nothing is set aside, and nothing will be under this attempt.
    Declined(Decline),
}

/// Why a payment was declined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decline {
    /// The provider's stable word, such as `insufficient_funds`.
    pub code: String,
    /// For the buyer.
    pub reason: String,
}

/// Which payment to look up.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// The one that this attempt has made.
    Attempt(AttemptId),
    /// The one with this name.
    Payment(&'a PaymentRef),
}

/// The provider's truth of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Its name.
    pub payment: PaymentRef,
    /// The attempt that made it, where the provider was told.
    pub attempt: Option<AttemptId>,
    /// The order that it is for, where the provider was told.
    pub order: Option<OrderId>,
    /// Where it stands.
    pub status: Status,
    /// How much was asked for.
    pub amount: Money,
    /// How much was taken, minor units.
    pub captured: i64,
    /// How much of that was returned, or is on its way back, minor units.
    pub refunded: i64,
}

/// Where a payment stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The provider is at it; nobody knows yet.
    Pending,
    /// The buyer's second step is awaited.
    NeedsAction {
        /// Where to send the buyer.
        url: String,
    },
    /// The money is set aside.
    Authorised,
    /// The money was taken; `refunded` says how much went back.
    Captured,
    /// The money was let go, by us or because it was set aside for too long.
    Voided,
    /// Nothing was set aside.
    Declined(Decline),
}

impl Payment {
    /// As the order's money sees it.
    pub fn seen(&self) -> Seen {
        match &self.status {
            Status::Pending => Seen::Pending,
            Status::NeedsAction { .. } => Seen::NeedsAction,
            Status::Authorised => Seen::Authorised,
            Status::Captured => Seen::Captured { captured: self.captured, refunded: self.refunded },
            Status::Voided => Seen::Voided,
            Status::Declined(Decline { code, reason }) => Seen::Declined(Failure::new(code, reason)),
        }
    }
}

/// News from a provider: something may have changed with this payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The provider's name of the news, the same when it is sent again.
    pub id: String,
    /// The payment.
    pub payment: PaymentRef,
    /// The order, where the provider was told.
    pub order: Option<OrderId>,
    /// The provider's name of the refund that it is about, where it is about one.
    pub refund: Option<String>,
}

/// A call that did not do what it was to do, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The provider was not reached or would not take it just now. Nothing was done, for sure.
    #[error("the payment provider did not take it: {reason}; try again")]
    NotDone {
        /// What happened.
        reason: String,
    },
    /// The provider refuses this call, and will again. Nothing was done, for sure.
    #[error("the payment provider refuses: {reason} (`{code}`)")]
    Refused {
        /// The provider's word.
        code: String,
        /// What it says.
        reason: String,
    },
    /// No answer, or none that can be relied on. It may have been done or may still be done.
    #[error("the payment provider has not answered: {reason}; look the payment up")]
    Unknown {
        /// What happened.
        reason: String,
    },
}

impl Error {
    /// Whether it may have been done all the same.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    pub(crate) fn not_done(reason: impl fmt::Display) -> Self {
        Self::NotDone { reason: reason.to_string() }
    }

    pub(crate) fn unknown(reason: impl fmt::Display) -> Self {
        Self::Unknown { reason: reason.to_string() }
    }

    pub(crate) fn refused(code: &str, reason: impl fmt::Display) -> Self {
        Self::Refused { code: code.to_owned(), reason: reason.to_string() }
    }
}
