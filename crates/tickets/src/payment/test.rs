//! The test provider: embedded, durable, no money. What it does is decided by the card, see [`CARDS`].
//!
//! It keeps its own ledger, as a real provider would, so that what was charged can be compared with what was booked: see
//! [`Test::ledger`] and [`Test::totals`].

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tessera_kernel::{Clock, Money, Timestamp, Uuid};
use tessera_store::each_engine;
use tessera_store::sql::Db;
use tessera_store::writer::{Limits, Metrics, Writer};
use tokio::time::sleep;

use super::{Authorisation, Authorise, Decline, Error, Method, Notice, Payment, PaymentRef, Provider, Status, Which};
use crate::domain::ids::{AttemptId, OrderId};

mod cards;
mod ledger;

pub use cards::{Behaviour, CARDS, TestCard};
pub use ledger::STEPS;
use ledger::{Command, Ledger, Row, state};

/// The name of its schema on PostgreSQL.
pub const SCHEMA: &str = "tickets_payments_test";
/// Payments that [`Test::ledger`] gives at a time, at most.
pub const MAX_PAGE: u32 = 10_000;

/// What a reference of ours begins with; the attempt's digits follow.
const PREFIX: &str = "test_";

/// The test provider. Opened by [`super::open`], or on a database with [`STEPS`].
pub struct Test {
    db: Db,
    writer: Writer<Ledger>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

/// What was charged, in one currency, minor units.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Totals {
    /// The currency's code.
    pub currency: String,
    /// Payments, declined ones included.
    pub payments: i64,
    /// Set aside now: neither captured nor let go.
    pub authorised: i64,
    /// Captured, refunds not taken off.
    pub captured: i64,
    /// Refunded.
    pub refunded: i64,
}

impl Test {
    /// On its database. A card that does not answer keeps callers waiting for `timeout`.
    pub fn new(db: Db, clock: Arc<dyn Clock>, timeout: Duration, metrics: Metrics) -> Self {
        // The ledger takes its batches one after the other: several at a time would only wait for each other.
        let limits = Limits { lanes: 1, ..Limits::default() };
        let writer = Writer::start(&db, Ledger, clock.clone(), limits, metrics);
        Self { db, writer, clock, timeout }
    }

    /// The buyer's answer to the second step of a payment; only the first one counts.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no such payment.
    pub async fn answer(&self, payment: &PaymentRef, agreed: bool) -> Result<Payment, Error> {
        let (row, _) = self.submit(Command::Answer { id: id_of(payment)?, agreed }).await?;
        self.as_payment(row)
    }

    /// The payments after one, in the order in which their attempts were made; at most [`MAX_PAGE`]. What is silent for
    /// buyers is shown here as it is.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ledger(&self, after: Option<AttemptId>, limit: u32) -> Result<Vec<Payment>, crate::Error> {
        const SQL: &str = "SELECT * FROM payments WHERE id > $1 ORDER BY id LIMIT $2";
        let after = after.map_or(Uuid::nil(), AttemptId::uuid);
        let limit = i64::from(limit.min(MAX_PAGE));
        let rows: Vec<Row> = each_engine!(&self.db, |pool| {
            sqlx::query_as(SQL).bind(after).bind(limit).fetch_all(pool).await.map_err(tessera_store::sql::Error::from)
        })?;
        let read = |row| self.as_payment(row).map_err(|error| corrupt(&error));
        rows.into_iter().map(read).collect()
    }

    /// All that was charged, by currency.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn totals(&self) -> Result<Vec<Totals>, crate::Error> {
        const SQL: &str = "SELECT currency, COUNT(*) AS payments,
                CAST(SUM(CASE state WHEN 'authorised' THEN amount ELSE 0 END) AS BIGINT) AS authorised,
                CAST(SUM(captured) AS BIGINT) AS captured, CAST(SUM(refunded) AS BIGINT) AS refunded
            FROM payments GROUP BY currency ORDER BY currency";
        let totals = each_engine!(&self.db, |pool| {
            sqlx::query_as(SQL).fetch_all(pool).await.map_err(tessera_store::sql::Error::from)
        })?;
        Ok(totals)
    }

    /// Answers what waits, and ends.
    pub async fn close(&self) {
        self.writer.close().await;
    }

    /// The row after a command, and whether the command has changed it.
    async fn submit(&self, command: Command) -> Result<(Row, bool), Error> {
        match self.writer.submit(command).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(refusal)) => Err(Error::refused(refusal.code, refusal.reason)),
            Err(error) if error.may_have_happened() => Err(Error::unknown(error)),
            Err(error) => Err(Error::not_done(error)),
        }
    }

    async fn read(&self, id: Uuid) -> Result<Option<Row>, Error> {
        const SQL: &str = "SELECT * FROM payments WHERE id = $1";
        let row = each_engine!(&self.db, |pool| sqlx::query_as(SQL).bind(id).fetch_optional(pool).await);
        row.map_err(Error::unknown)
    }

    async fn no_answer<T>(&self) -> Result<T, Error> {
        sleep(self.timeout).await;
        Err(Error::unknown(format!("no answer within {} ms", self.timeout.as_millis())))
    }

    async fn authorise_card(&self, request: Authorise) -> Result<Authorisation, Error> {
        let Authorise { attempt, order, amount, method, .. } = request;
        if amount.amount <= 0 {
            return Err(Error::refused("amount_too_small", format!("{amount} cannot be charged")));
        }
        let card = self.card(&method);
        match card.behaviour {
            Behaviour::Away => return Err(Error::not_done("connection refused")),
            Behaviour::TimesOutNotCharged => return self.no_answer().await,
            _ => {}
        }
        let wish = Command::Authorise { id: attempt.uuid(), order: order.uuid(), amount, card };
        let (mut row, new) = self.submit(wish).await?;
        match card.behaviour {
            Behaviour::TimesOutCharged if new => return self.no_answer().await,
            Behaviour::SilentFor(_) if self.is_coming(&row) => return self.no_answer().await,
            Behaviour::AnswersAfter(span) if self.is_coming(&row) => {
                if span > self.timeout {
                    return self.no_answer().await;
                }
                sleep(span).await;
                row = self.read(attempt.uuid()).await?.ok_or_else(|| Error::unknown("the ledger has lost it"))?;
            }
            _ => {}
        }
        let Payment { payment, status, .. } = self.as_payment(row)?;
        match status {
            Status::Declined(decline) => Ok(Authorisation::Declined(decline)),
            Status::NeedsAction { url } => Ok(Authorisation::NeedsAction { payment, url }),
            Status::Pending => Err(Error::unknown("the payment is pending")),
            Status::Authorised | Status::Captured => Ok(Authorisation::Authorised { payment }),
            Status::Voided => Ok(Authorisation::Declined(Decline {
                code: "voided".to_owned(),
                reason: "this attempt was voided".to_owned(),
            })),
        }
    }

    async fn capture_all(&self, by: AttemptId, payment: &PaymentRef, amount: Money) -> Result<(), Error> {
        let (row, new) = self.submit(Command::Capture { id: id_of(payment)?, by: by.uuid(), amount }).await?;
        match cards::by_name(&row.card).behaviour {
            _ if row.state != state::CAPTURED => {
                Err(Error::refused("capture_refused", "the bank has let go of the money; take another card"))
            }
            Behaviour::CaptureTimesOut if new => self.no_answer().await,
            _ => Ok(()),
        }
    }

    async fn refund_some(&self, by: AttemptId, payment: &PaymentRef, amount: Money) -> Result<(), Error> {
        let (row, new) = self.submit(Command::Refund { id: id_of(payment)?, by: by.uuid(), amount }).await?;
        match cards::by_name(&row.card).behaviour {
            Behaviour::RefundTimesOut if new => self.no_answer().await,
            _ => Ok(()),
        }
    }

    fn card(&self, method: &Method) -> TestCard {
        match method {
            Method::Saved(name) => cards::by_name(name),
            Method::Card(card) if self.is_past(card.exp_year(), card.exp_month()) => cards::EXPIRED,
            Method::Card(card) => cards::by_number(card.number()),
        }
    }

    /// Whether a month is over.
    fn is_past(&self, year: u16, month: u8) -> bool {
        // Months sort as their text does: 2026-11.
        format!("{year:04}-{month:02}").as_str() < self.clock.now().to_string().get(..7).unwrap_or_default()
    }

    /// Whether the row counts only later.
    fn is_coming(&self, row: &Row) -> bool {
        row.ready_at > self.clock.now().micros() && row.state == state::AUTHORISED
    }

    fn as_payment(&self, row: Row) -> Result<Payment, Error> {
        let reference = format!("{PREFIX}{}", row.id.as_simple());
        let status = match row.state.as_str() {
            state::AUTHORISED if self.is_coming(&row) => Status::Pending,
            state::AUTHORISED => Status::Authorised,
            state::NEEDS_ACTION => Status::NeedsAction { url: format!("/payments/test/{reference}") },
            state::CAPTURED => Status::Captured,
            state::VOIDED => Status::Voided,
            state::DECLINED => {
                let code = row.failure.clone().unwrap_or_default();
                let reason = cards::reason(&code).to_owned();
                Status::Declined(Decline { code, reason })
            }
            other => return Err(Error::unknown(format!("the ledger has a payment in state `{other}`"))),
        };
        let currency = row.currency.parse().map_err(Error::unknown)?;
        Ok(Payment {
            payment: PaymentRef::new(reference),
            attempt: Some(AttemptId::from(row.id)),
            order: Some(OrderId::from(row.order_id)),
            status,
            amount: Money::new(row.amount, currency),
            captured: row.captured,
            refunded: row.refunded,
        })
    }
}

/// The attempt that a reference of ours was made by.
fn id_of(payment: &PaymentRef) -> Result<Uuid, Error> {
    let digits = payment.as_str().strip_prefix(PREFIX).and_then(|digits| Uuid::try_parse(digits).ok());
    digits.ok_or_else(|| Error::refused("resource_missing", format!("there is no payment `{payment}`")))
}

fn corrupt(error: &Error) -> crate::Error {
    crate::Error::Corrupt { what: "the test provider's ledger".to_owned(), reason: error.to_string() }
}

impl Provider for Test {
    fn name(&self) -> &'static str {
        "test"
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn authorise(&self, request: Authorise) -> BoxFuture<'_, Result<Authorisation, Error>> {
        self.authorise_card(request).boxed()
    }

    fn capture<'a>(
        &'a self,
        attempt: AttemptId,
        payment: &'a PaymentRef,
        amount: Money,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.capture_all(attempt, payment, amount).boxed()
    }

    fn void<'a>(&'a self, attempt: AttemptId, payment: &'a PaymentRef) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            self.submit(Command::Void { id: id_of(payment)?, by: attempt.uuid() }).await?;
            Ok(())
        }
        .boxed()
    }

    fn refund<'a>(
        &'a self,
        attempt: AttemptId,
        payment: &'a PaymentRef,
        amount: Money,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.refund_some(attempt, payment, amount).boxed()
    }

    fn failed_refund<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<AttemptId>, Error>> {
        // What it gives back, it has given back.
        async { Ok(None) }.boxed()
    }

    fn look_up<'a>(&'a self, which: Which<'a>) -> BoxFuture<'a, Result<Option<Payment>, Error>> {
        async move {
            let id = match which {
                Which::Attempt(attempt) => attempt.uuid(),
                Which::Payment(payment) => match id_of(payment) {
                    Ok(id) => id,
                    Err(_) => return Ok(None),
                },
            };
            let Some(row) = self.read(id).await? else { return Ok(None) };
            if matches!(cards::by_name(&row.card).behaviour, Behaviour::SilentFor(_)) && self.is_coming(&row) {
                let until = Timestamp::from_micros(row.ready_at);
                return Err(Error::unknown(format!("the card keeps the provider silent until {until}")));
            }
            self.as_payment(row).map(Some)
        }
        .boxed()
    }

    fn read_webhook(&self, _signature: &str, _body: &[u8]) -> Result<Option<Notice>, String> {
        Err("the test provider sends none; set `tickets.payments.provider` to stripe".to_owned())
    }
}

impl std::fmt::Debug for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Test").field("db", &self.db).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
