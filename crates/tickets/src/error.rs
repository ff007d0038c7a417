//! What can go wrong, in the product's words.

use tessera_kernel::{ErrorKind, Timestamp};

use crate::domain::ids::{EventId, HoldId, OrderId, TicketId};

/// A refusal or failure of tickets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An event, venue, performer, plan or code that is not there, or not for this caller.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// What was asked for.
        what: &'static str,
        /// Its id, as it was sent.
        id: String,
    },
    /// A seat plan that cannot be sold from.
    #[error("seat plan: {place}: {reason}")]
    BadPlan {
        /// The line, or the zone, row and seat.
        place: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// An event, venue or performer that does not hold together.
    #[error("{reason}")]
    BadEvent {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A request that asks for what cannot be.
    #[error("{reason}")]
    BadRequest {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A change to something that has changed since it was read.
    #[error("{what} was changed meanwhile; read it again and repeat the change")]
    Changed {
        /// What.
        what: String,
    },
    /// A change that the thing's state does not allow.
    #[error("{reason}")]
    NotNow {
        /// What stands in the way, and what to do.
        reason: String,
    },
    /// A sale that is not open.
    #[error("event `{event}` is not on sale: {reason}")]
    NotOnSale {
        /// Which.
        event: EventId,
        /// Since or from when, or why.
        reason: String,
    },
    /// Seats that somebody has.
    #[error("{}", seats_taken(.taken, .until))]
    SeatsTaken {
        /// Which of those asked for.
        taken: Vec<TicketId>,
        /// Free ones nearby, at the same price level where there are any.
        nearby: Vec<TicketId>,
        /// When the first hold among them ends; `None` where all are sold.
        until: Option<Timestamp>,
    },
    /// Not so many free.
    #[error("{asked} of these are not free any more: {free} are; ask for fewer or another price level")]
    TooFewFree {
        /// How many were asked for.
        asked: u32,
        /// How many are free.
        free: u32,
    },
    /// A choice that leaves a single seat.
    #[error("this would leave a single seat free at `{seat}`; take it too or move by one")]
    LeavesOrphan {
        /// The seat.
        seat: TicketId,
    },
    /// More tickets than one customer may have.
    #[error("this event sells {limit} tickets to a customer, and you have {has}; ask for {} or fewer", limit.saturating_sub(*.has))]
    CustomerLimit {
        /// How many one may have.
        limit: u32,
        /// How many this one has, held and owned.
        has: u32,
    },
    /// The waiting room comes first.
    #[error("event `{event}` has a waiting room: {reason}")]
    NotAdmitted {
        /// Which.
        event: EventId,
        /// What is missing or wrong, and what to do.
        reason: String,
    },
    /// A place in a waiting room that is no more.
    #[error("this place in the waiting room is over: {reason}; join again")]
    QueueOver {
        /// Why.
        reason: String,
    },
    /// A hold that is over.
    #[error("hold `{hold}` is over: {reason}; reserve again")]
    HoldOver {
        /// Which.
        hold: HoldId,
        /// Since when, or why.
        reason: String,
    },
    /// A payment that the provider refused. The hold stays for what is left of it.
    #[error("the payment was declined: {reason}; your seats are kept until {until}, try another card")]
    PaymentDeclined {
        /// The order.
        order: OrderId,
        /// What the provider says.
        reason: String,
        /// When the hold ends.
        until: Timestamp,
    },
    /// A payment provider that is away. Nothing was charged that is not accounted for.
    #[error("the payment provider does not answer; order `{order}` is being settled, ask for it in a moment")]
    PaymentUnknown {
        /// The order.
        order: OrderId,
    },
    /// Money that came after the seats had gone.
    #[error("the seats of order `{order}` had gone before the payment came; the payment is being returned")]
    SeatsGone {
        /// The order.
        order: OrderId,
    },
    /// The same key with another request.
    #[error("idempotency key `{key}` was used for another request; use a new one for each new request")]
    KeyReused {
        /// The key.
        key: String,
    },
    /// The same key while the first request is at work.
    #[error("a request with idempotency key `{key}` is being answered; ask again in a moment")]
    KeyBusy {
        /// The key.
        key: String,
    },
    /// Not whose it is.
    #[error("{what} is not yours")]
    Forbidden {
        /// What.
        what: String,
    },
    /// A webhook whose signature does not hold.
    #[error("the webhook is refused: {reason}")]
    BadWebhook {
        /// Why.
        reason: String,
    },
    /// A setting of the product that cannot be met.
    #[error("{reason}")]
    Setting {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The search index failed.
    #[error("the search index cannot do it: {reason}")]
    Search {
        /// What it says.
        reason: String,
    },
    /// The database, claims or lines failed.
    #[error(transparent)]
    Store(#[from] tessera_store::Error),
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] tessera_store::sql::Error),
    /// What is stored cannot be read.
    #[error("what is stored of {what} cannot be read: {reason}")]
    Corrupt {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
}

fn seats_taken(taken: &[TicketId], until: &Option<Timestamp>) -> String {
    let first = taken.first().map(ToString::to_string).unwrap_or_default();
    let seats = match taken.len() {
        0 | 1 => format!("ticket `{first}` is"),
        count => format!("{count} of these tickets, the first `{first}`, are"),
    };
    match until {
        Some(until) => format!("{seats} held until {until} at the earliest; pick others, some are in `nearby`"),
        None => format!("{seats} sold; pick others, some are in `nearby`"),
    }
}

/// Every code of [`Error`]; each has a page in `docs/errors/`.
pub const CODES: &[&str] = &[
    "tickets.not_found",
    "tickets.bad_plan",
    "tickets.bad_event",
    "tickets.bad_request",
    "tickets.changed",
    "tickets.not_now",
    "tickets.not_on_sale",
    "tickets.seat_taken",
    "tickets.too_few_free",
    "tickets.leaves_orphan",
    "tickets.customer_limit",
    "tickets.not_admitted",
    "tickets.queue_over",
    "tickets.hold_over",
    "tickets.payment_declined",
    "tickets.payment_unknown",
    "tickets.seats_gone",
    "tickets.key_reused",
    "tickets.key_busy",
    "tickets.forbidden",
    "tickets.bad_webhook",
    "tickets.setting",
    "tickets.search",
    "tickets.corrupt",
];

impl Error {
    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::BadPlan { .. }
            | Self::BadEvent { .. }
            | Self::BadRequest { .. }
            | Self::Setting { .. }
            | Self::BadWebhook { .. } => ErrorKind::Invalid,
            Self::Changed { .. }
            | Self::NotNow { .. }
            | Self::NotOnSale { .. }
            | Self::SeatsTaken { .. }
            | Self::TooFewFree { .. }
            | Self::LeavesOrphan { .. }
            | Self::CustomerLimit { .. }
            | Self::PaymentDeclined { .. }
            | Self::SeatsGone { .. }
            | Self::KeyReused { .. }
            | Self::KeyBusy { .. } => ErrorKind::Conflict,
            Self::NotAdmitted { .. } | Self::Forbidden { .. } => ErrorKind::Forbidden,
            Self::HoldOver { .. } | Self::QueueOver { .. } => ErrorKind::Gone,
            Self::PaymentUnknown { .. } => ErrorKind::Unavailable,
            Self::Store(error) => error.kind(),
            Self::Sql(error) => error.kind(),
            Self::Search { .. } | Self::Corrupt { .. } => ErrorKind::Internal,
        }
    }

    /// Its stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "tickets.not_found",
            Self::BadPlan { .. } => "tickets.bad_plan",
            Self::BadEvent { .. } => "tickets.bad_event",
            Self::BadRequest { .. } => "tickets.bad_request",
            Self::Changed { .. } => "tickets.changed",
            Self::NotNow { .. } => "tickets.not_now",
            Self::NotOnSale { .. } => "tickets.not_on_sale",
            Self::SeatsTaken { .. } => "tickets.seat_taken",
            Self::TooFewFree { .. } => "tickets.too_few_free",
            Self::LeavesOrphan { .. } => "tickets.leaves_orphan",
            Self::CustomerLimit { .. } => "tickets.customer_limit",
            Self::NotAdmitted { .. } => "tickets.not_admitted",
            Self::QueueOver { .. } => "tickets.queue_over",
            Self::HoldOver { .. } => "tickets.hold_over",
            Self::PaymentDeclined { .. } => "tickets.payment_declined",
            Self::PaymentUnknown { .. } => "tickets.payment_unknown",
            Self::SeatsGone { .. } => "tickets.seats_gone",
            Self::KeyReused { .. } => "tickets.key_reused",
            Self::KeyBusy { .. } => "tickets.key_busy",
            Self::Forbidden { .. } => "tickets.forbidden",
            Self::BadWebhook { .. } => "tickets.bad_webhook",
            Self::Setting { .. } => "tickets.setting",
            Self::Search { .. } => "tickets.search",
            Self::Store(error) => error.code(),
            Self::Sql(error) => error.code(),
            Self::Corrupt { .. } => "tickets.corrupt",
        }
    }
}
