//! Paying for a hold: authorise, book, capture; and whatever else can happen to an order's money.
//!
//! The order and its attempt are stored before the provider is called, and nothing is guessed: an outcome that is not
//! known is looked up. [`App::settle`] takes an order as far as it will go at the moment; the buyer's request, the
//! second step, webhooks and the reconciler all end there, at the same time if it comes to that.

use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::Money;
use tessera_store::claims::Claim;

use super::App;
use super::request::{Request, fingerprint};
use crate::Error;
use crate::domain::event::Status as EventStatus;
use crate::domain::ids::{AttemptId, HoldId, OrderId, TicketId};
use crate::domain::order::{Duty, Event, Failure, Seen, State};
use crate::domain::promo::{normal_code, spread};
use crate::payment::{self, Authorisation, Authorise, Method, PaymentRef, Which};
use crate::store::{
    Action, Advance, Advanced, Asked, Attempt, Begun, Booked, NewOrder, Once, OpenOrder, OrderRecord, Return,
    Unreturnable, Unsettled,
};

/// How often an order is begun that stands behind one that is not made.
const MAX_BEGINNINGS: usize = 3;
/// Steps that one settling takes at the most: look up, book, capture, look up, void or refund, look up.
const MAX_STEPS: usize = 8;

/// What a buyer wants to pay for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payable {
    /// A hold.
    Hold(HoldId),
    /// The buyer's hold that keeps this ticket.
    Ticket(TicketId),
}

impl From<HoldId> for Payable {
    fn from(hold: HoldId) -> Self {
        Self::Hold(hold)
    }
}

/// A request to pay, as it was sent.
struct Wish<'a> {
    request: &'a Request,
    what: Payable,
    method: &'a Method,
    promo: Option<String>,
}

impl Wish<'_> {
    fn fingerprint(&self) -> [u8; 16] {
        let what = match self.what {
            Payable::Hold(hold) => hold.to_string(),
            Payable::Ticket(ticket) => ticket.to_string(),
        };
        let (method, promo) = (self.method.fingerprint(), self.promo.as_deref().unwrap_or(""));
        fingerprint([what.as_str(), method.as_str(), promo])
    }

    fn order(&self) -> OrderId {
        OrderId::from(self.request.id("order"))
    }
}

/// How a purchase stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// The order.
    pub order: OrderRecord,
    /// Where the buyer has to go for a second step.
    pub next_url: Option<String>,
    /// Its tickets, where they were booked just now.
    pub booked: Option<Booked>,
}

impl App {
    /// Pays for a hold and books its seats. The same request again gives the same order, as it stands by then, whatever has
    /// become of hold, event and promotion code.
    ///
    /// # Errors
    /// [`Error::PaymentDeclined`], with which the hold stays; [`Error::PaymentUnknown`], [`Error::SeatsGone`]: the order
    /// is being settled; [`Error::HoldOver`], [`Error::KeyReused`], [`Error::NotNow`], [`Error::NotFound`]; those of the
    /// database.
    pub async fn confirm(
        &self,
        request: &Request,
        what: impl Into<Payable>,
        method: Method,
        promo: Option<&str>,
    ) -> Result<Purchase, Error> {
        let promo = promo.map(normal_code).transpose()?;
        let wish = Wish { request, what: what.into(), method: &method, promo };
        let (order, attempt) = match self.begin(&wish).await {
            Ok(Some(begun)) => begun,
            Ok(None) => return self.show_purchase(wish.order()).await,
            // A retry of what was answered meets its own order.
            Err(refused) => {
                return match self.store.find_order(wish.order()).await? {
                    Some(own) if own.request_hash == wish.fingerprint() => self.show_purchase(own.id).await,
                    Some(_) => Err(Error::KeyReused { key: request.key.clone() }),
                    None => Err(refused),
                };
            }
        };
        // On a task of its own: a buyer that hangs up does not stop it half way.
        let (app, id) = (self.clone(), order.id);
        let paying = tokio::spawn(async move { app.pay(order, attempt, method).await });
        match paying.await {
            Ok(paid) => paid,
            Err(_panicked) => Err(Error::PaymentUnknown { order: id }),
        }
    }

    /// Stores the order and its first attempt; nothing where the same request did so before.
    async fn begin(&self, wish: &Wish<'_>) -> Result<Option<(OrderRecord, AttemptId)>, Error> {
        let hold = match wish.what {
            Payable::Hold(hold) => hold,
            Payable::Ticket(ticket) => {
                let hold = self.store.hold_of_ticket(&wish.request.subject, ticket).await?;
                hold.ok_or_else(|| Error::NotFound { what: "hold of ticket", id: ticket.to_string() })?.id
            }
        };
        let new = self.new_order(wish, hold).await?;
        let attempt = new.attempt;
        for _ in 0..MAX_BEGINNINGS {
            match self.store.begin_order(new.clone()).await? {
                Begun::Made(order) => return Ok(Some((order, attempt))),
                Begun::Again(_) => return Ok(None),
                Begun::KeyReused => return Err(Error::KeyReused { key: wish.request.key.clone() }),
                Begun::NoHold => return Err(no_hold(hold)),
                Begun::Over(over) => {
                    return Err(Error::HoldOver { hold, reason: format!("it ended at {}", over.expires_at) });
                }
                Begun::PromoSpent => {
                    let code = wish.promo.as_deref().unwrap_or_default();
                    let reason = format!("promotion code `{code}` is used up or does not count now; pay without it");
                    return Err(Error::NotNow { reason });
                }
                // It stood behind an order that was not made after all.
                Begun::InOrder(Some(other)) if self.store.find_order(other).await?.is_none() => {}
                Begun::InOrder(other) => {
                    let by = other.map_or_else(|| "another order".to_owned(), |other| format!("order `{other}`"));
                    let reason = format!("hold `{hold}` is paid by {by}; ask for that instead");
                    return Err(Error::NotNow { reason });
                }
            }
        }
        Err(Error::NotNow { reason: format!("hold `{hold}` is wanted by several requests at once; try again") })
    }

    async fn new_order(&self, wish: &Wish<'_>, id: HoldId) -> Result<NewOrder, Error> {
        let request = wish.request;
        let hold = self.hold_as_made(&request.subject, id).await?;
        let event = self.live.event(hold.event).await?.event();
        if event.status == EventStatus::Cancelled {
            return Err(Error::NotOnSale { event: event.id, reason: "it was cancelled".into() });
        }
        let promo = match &wish.promo {
            Some(code) => Some(self.store.promo(hold.event, code).await?),
            None => None,
        };
        let prices: Vec<i64> = hold.seats.iter().map(|priced| priced.price).collect();
        let whole = Money::new(prices.iter().sum(), event.currency);
        let discounted = promo.as_ref().map(|promo| spread(&prices, promo.apply(whole).amount));
        let extended = match &self.claims {
            Some(claims) => Some(claims.extend(hold.claim(), self.payment_window).await?),
            None => None,
        };
        Ok(NewOrder {
            id: wish.order(),
            hold: id,
            subject: Arc::clone(&request.subject),
            prices: discounted,
            promo: promo.map(|promo| promo.id),
            currency: event.currency,
            attempt: self.attempt(),
            provider: self.payments.name(),
            window: self.payment_window,
            request_hash: wish.fingerprint(),
            extended,
        })
    }

    async fn pay(&self, order: OrderRecord, attempt: AttemptId, method: Method) -> Result<Purchase, Error> {
        let id = order.id;
        if order.money.total == 0 {
            // Nothing to set aside: no provider is asked.
            let events = vec![Event::Seen(Seen::Authorised), Event::Book];
            let told = self.advance(Advance { events, ..self.news(id) }).await?;
            return self.settle_from(told.open, told.booked).await;
        }
        let request = Authorise {
            attempt,
            order: id,
            amount: order.total(),
            method,
            description: format!("{} tickets", order.seats.len()),
            return_url: self.return_url(id),
            metadata: vec![("event".into(), order.event.to_string())],
        };
        let news = self.news_of(&order);
        match self.payments.authorise(request).await {
            Ok(Authorisation::Authorised { payment }) => {
                let events = vec![Event::Seen(Seen::Authorised), Event::Book];
                let told = self.advance(Advance { events, payment: Some(payment), ..news }).await?;
                self.settle_from(told.open, told.booked).await
            }
            Ok(Authorisation::NeedsAction { payment, url }) => {
                let events = vec![Event::Seen(Seen::NeedsAction)];
                let told = self.advance(Advance { events, payment: Some(payment), ..news }).await?;
                Ok(Purchase { order: told.open.order, next_url: Some(url), booked: None })
            }
            Ok(Authorisation::Declined(decline)) => {
                let failure = Failure::new(&decline.code, &decline.reason);
                let told = self.advance(Advance { events: vec![Event::Seen(Seen::Declined(failure))], ..news }).await?;
                self.purchase(told.open.order)
            }
            // Nothing was set aside, for sure, and nothing will be.
            Err(error @ (payment::Error::NotDone { .. } | payment::Error::Refused { .. })) => {
                tracing::warn!(order.id = %id, error = %error, "a payment was not taken");
                let (code, detail) = match &error {
                    payment::Error::Refused { code, reason } => (code.as_str(), reason.as_str()),
                    _ => ("provider_away", "the payment provider cannot be reached; try again in a moment"),
                };
                let events = vec![Event::Seen(Seen::Declined(Failure::new(code, detail)))];
                let told = self.advance(Advance { events, ..news }).await?;
                self.purchase(told.open.order)
            }
            Err(error @ payment::Error::Unknown { .. }) => {
                tracing::warn!(order.id = %id, error = %error, "a payment has no answer");
                self.settle(id).await
            }
        }
    }

    /// Takes an order as far as it will go now.
    ///
    /// # Errors
    /// As [`App::confirm`] for how it stands then; those of the database.
    pub async fn settle(&self, id: OrderId) -> Result<Purchase, Error> {
        let open = self.store.open_order(id).await?;
        self.settle_from(open, None).await
    }

    async fn settle_from(&self, mut open: OpenOrder, mut booked: Option<Booked>) -> Result<Purchase, Error> {
        let mut next_url = None;
        for _ in 0..MAX_STEPS {
            let before = open.order.money.clone();
            let advanced = match before.duty() {
                Duty::Nothing => break,
                Duty::LookUp => self.look_up(&open, &mut next_url).await?,
                Duty::Book => self.book(&open).await?,
                Duty::Capture => self.capture(&open).await?,
                Duty::Void => self.void(&open).await?,
                Duty::Refund(_) => self.refund_due(&open).await?,
            };
            match advanced {
                Some(advanced) if advanced.changed => {
                    booked = advanced.booked.or(booked);
                    open = advanced.open;
                }
                // Nothing more can be done or known now.
                _ => break,
            }
        }
        match self.purchase(open.order) {
            Ok(purchase) => Ok(Purchase { next_url, booked, ..purchase }),
            Err(error) => Err(error),
        }
    }

    /// What the provider says of the payment of an order that waits for it.
    async fn look_up(&self, open: &OpenOrder, next_url: &mut Option<String>) -> Result<Option<Advanced>, Error> {
        let Some((mut events, payment)) = self.ask(open).await? else { return self.give_up(open).await };
        if let Some(payment::Payment { status: payment::Status::NeedsAction { url }, .. }) = &payment {
            *next_url = Some(url.clone());
        }
        if events.contains(&Event::Seen(Seen::Authorised)) {
            events.push(Event::Book);
        }
        let payment = payment.map(|payment| payment.payment);
        let told = self.advance(Advance { events, payment, ..self.news(open.order.id) }).await?;
        // What waits, waits until it may be given up.
        if told.open.order.money.state == State::Paying { self.give_up(open).await } else { Ok(Some(told)) }
    }

    async fn give_up(&self, open: &OpenOrder) -> Result<Option<Advanced>, Error> {
        if open.read_at < open.order.money.book_before {
            return Ok(None);
        }
        Ok(Some(self.advance(Advance { events: vec![Event::GiveUp], ..self.news(open.order.id) }).await?))
    }

    /// Asks the provider; nothing where it does not answer. What it says becomes news.
    async fn ask(&self, open: &OpenOrder) -> Result<Option<(Vec<Event>, Option<payment::Payment>)>, Error> {
        let id = open.order.id;
        let authorising = open.attempt(Action::Authorise);
        let which = match (&open.order.payment, authorising) {
            (Some(payment), _) => Which::Payment(payment),
            (None, Some(attempt)) => Which::Attempt(attempt.id),
            (None, None) => {
                let reason = "it has neither a payment nor an attempt at one".to_owned();
                return Err(Error::Corrupt { what: format!("order `{id}`"), reason });
            }
        };
        match self.payments.look_up(which).await {
            Ok(Some(payment)) => Ok(Some((vec![Event::Seen(payment.seen())], Some(payment)))),
            Ok(None) => {
                let began_at = authorising.map_or(open.order.created_at, |attempt| attempt.began_at);
                let due_at = began_at.plus(self.payments.in_flight());
                let seen = Seen::NeverArrived { due_at, asked_at: open.read_at };
                Ok(Some((vec![Event::Seen(seen)], None)))
            }
            Err(error) => {
                tracing::warn!(order.id = %id, error = %error, "a payment cannot be looked up");
                Ok(None)
            }
        }
    }

    async fn book(&self, open: &OpenOrder) -> Result<Option<Advanced>, Error> {
        let booked = self.advance(Advance { events: vec![Event::Book], ..self.news_of(&open.order) }).await?;
        match booked.refused {
            Some(_) => self.give_up(open).await,
            None => Ok(Some(booked)),
        }
    }

    async fn capture(&self, open: &OpenOrder) -> Result<Option<Advanced>, Error> {
        let (id, total) = (open.order.id, open.order.total());
        let took = Event::Seen(Seen::Captured { captured: total.amount, refunded: 0 });
        if total.amount == 0 {
            return Ok(Some(self.advance(Advance { events: vec![took], ..self.news(id) }).await?));
        }
        let Some((payment, attempt)) = at_work(open, Action::Capture) else { return self.store_attempt(id).await };
        match self.payments.capture(attempt.id, payment, total).await {
            Ok(()) => {
                let ended = Some((attempt.id, true));
                Ok(Some(self.advance(Advance { events: vec![took], ended, ..self.news_of(&open.order) }).await?))
            }
            Err(error) => self.see(open, attempt, &error).await,
        }
    }

    async fn void(&self, open: &OpenOrder) -> Result<Option<Advanced>, Error> {
        let id = open.order.id;
        // Before it is let go: what there is to let go, and whether it was taken meanwhile.
        let Some((events, payment)) = self.ask(open).await? else { return Ok(None) };
        let payment = payment.map(|payment| payment.payment);
        let told = self.advance(Advance { events, payment, ..self.news(id) }).await?;
        if told.open.order.money.duty() != Duty::Void {
            return Ok(Some(told));
        }
        let open = &told.open;
        let Some((payment, attempt)) = at_work(open, Action::Void) else {
            return if open.order.payment.is_some() { self.store_attempt(id).await } else { Ok(None) };
        };
        match self.payments.void(attempt.id, payment).await {
            Ok(()) => {
                let (events, ended) = (vec![Event::Seen(Seen::Voided)], Some((attempt.id, true)));
                Ok(Some(self.advance(Advance { events, ended, ..self.news(id) }).await?))
            }
            Err(error) => self.see(open, attempt, &error).await,
        }
    }

    async fn refund_due(&self, open: &OpenOrder) -> Result<Option<Advanced>, Error> {
        let id = open.order.id;
        let Some((payment, attempt)) = at_work(open, Action::Refund) else { return self.store_attempt(id).await };
        let amount = Money::new(attempt.amount, open.order.currency);
        match self.payments.refund(attempt.id, payment, amount).await {
            Ok(()) => {
                let Some((events, _)) = self.ask(open).await? else { return Ok(None) };
                let ended = Some((attempt.id, true));
                Ok(Some(self.advance(Advance { events, ended, ..self.news(id) }).await?))
            }
            Err(error) => self.see(open, attempt, &error).await,
        }
    }

    /// After a call that did not do what it was to do: a refusal ends the attempt, and the provider says how it stands.
    async fn see(
        &self,
        open: &OpenOrder,
        attempt: &Attempt,
        error: &payment::Error,
    ) -> Result<Option<Advanced>, Error> {
        tracing::warn!(order.id = %open.order.id, error = %error, "{:?} did not come to its end", attempt.action);
        let Some((events, _)) = self.ask(open).await? else { return Ok(None) };
        let ended = matches!(error, payment::Error::Refused { .. }).then_some((attempt.id, false));
        Ok(Some(self.advance(Advance { events, ended, ..self.news(open.order.id) }).await?))
    }

    /// Has the attempt stored that is due.
    async fn store_attempt(&self, id: OrderId) -> Result<Option<Advanced>, Error> {
        let stored = self.advance(self.news(id)).await?;
        Ok(Some(Advanced { changed: true, ..stored }))
    }

    /// Gives tickets back to sale and their money to the buyer: all of an order, or some of it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::NotNow`]; those of the database.
    pub async fn refund(
        &self,
        id: OrderId,
        tickets: Option<Vec<TicketId>>,
        only_of: Option<Arc<str>>,
    ) -> Result<OrderRecord, Error> {
        self.give_back(id, Return { tickets, only_of, used_too: false }, None).await
    }

    /// The same, under a key where there is one: the same request again gives the order as it stands by then.
    pub(super) async fn give_back(
        &self,
        id: OrderId,
        returns: Return,
        asked: Option<Asked>,
    ) -> Result<OrderRecord, Error> {
        let news = Advance { returns: Some(returns), asked, ..self.news(id) };
        let returned = match self.advance_once(news).await? {
            Once::Now(returned) => returned,
            Once::Before(_) => return Ok(self.store.open_order(id).await?.order),
        };
        if let Some((ticket, why)) = returned.unreturnable {
            return Err(match why {
                Unreturnable::NotThere => Error::NotFound { what: "ticket in this order", id: ticket.to_string() },
                Unreturnable::NotYours => Error::Forbidden { what: format!("ticket `{ticket}`") },
                Unreturnable::CheckedIn => {
                    Error::NotNow { reason: format!("ticket `{ticket}` was used at the door and cannot go back") }
                }
            });
        }
        if let Some(refusal) = returned.refused {
            return Err(refusal.into());
        }
        let order = returned.open.order.clone();
        match self.settle_from(returned.open, None).await {
            Ok(purchase) => Ok(purchase.order),
            // It is due, and stays so until it is done.
            Err(error) => {
                tracing::warn!(order.id = %id, error = %error, "a refund is not done yet");
                Ok(order)
            }
        }
    }

    /// A webhook of the provider: the order that it is about is settled by what the provider says when it is asked.
    ///
    /// # Errors
    /// [`Error::BadWebhook`]; those of [`App::hear_of`].
    pub async fn hear(&self, signature: &str, body: &[u8]) -> Result<(), Error> {
        let notice = self.payments.read_webhook(signature, body).map_err(|reason| Error::BadWebhook { reason })?;
        match notice {
            Some(notice) => self.hear_of(&notice.payment, notice.order, notice.refund.as_deref()).await,
            None => Ok(()),
        }
    }

    /// Something may have happened to a payment, or to a refund of it: what, the provider is asked.
    ///
    /// # Errors
    /// [`Error::PaymentUnknown`] where it does not say: of an order that is settled nobody asks again, so whoever rang has to.
    /// Those of the database.
    pub async fn hear_of(
        &self,
        payment: &PaymentRef,
        order: Option<OrderId>,
        refund: Option<&str>,
    ) -> Result<(), Error> {
        let known = match self.store.order_of_payment(payment).await? {
            Some(order) => Some(order),
            None => order,
        };
        let Some(id) = known else { return Ok(()) };
        let Some(order) = self.store.find_order(id).await? else { return Ok(()) };
        // News of another payment than the order's are news of nobody's.
        if order.payment.as_ref().is_some_and(|own| own != payment) {
            tracing::warn!(order.id = %id, "a webhook names another payment for this order");
            return Ok(());
        }
        let later = |error: payment::Error| {
            tracing::warn!(order.id = %id, error = %error, "a payment that is told of cannot be looked up");
            Error::PaymentUnknown { order: id }
        };
        let truth = match self.payments.look_up(Which::Payment(payment)).await.map_err(later)? {
            Some(truth) if truth.order == Some(id) => truth,
            _ => return Ok(()),
        };
        let undone = match refund {
            Some(refund) => self.payments.failed_refund(refund).await.map_err(later)?,
            None => None,
        };
        if let Some(attempt) = undone
            && self.store.open_order(id).await?.attempts.iter().any(|open| open.id == attempt)
        {
            // Whoever made it has not noted yet that it was done.
            return Err(Error::PaymentUnknown { order: id });
        }
        let mut events = vec![Event::Seen(truth.seen())];
        if order.money.state == State::Paying && truth.status == payment::Status::Authorised {
            events.push(Event::Book);
        }
        let told = self.advance(Advance { events, payment: Some(payment.clone()), undone, ..self.news(id) }).await?;
        if undone.is_some() && told.changed {
            tracing::warn!(order.id = %id, refund, "a refund that was done has failed; it is due again");
        }
        // What the buyer would be told is of no interest here.
        if let Err(error) = self.settle_from(told.open, told.booked).await {
            tracing::debug!(order.id = %id, error = %error, "an order was settled after a webhook");
        }
        Ok(())
    }

    /// How a purchase stands, taken as far as it will go.
    async fn show_purchase(&self, id: OrderId) -> Result<Purchase, Error> {
        self.settle(id).await
    }

    /// An order as the answer to its buyer: what came to nothing is an error.
    fn purchase(&self, order: OrderRecord) -> Result<Purchase, Error> {
        let id = order.id;
        let code = order.money.failure.as_ref().map(|failure| failure.code.as_str());
        match order.money.state {
            State::Booked | State::Captured | State::Refunded if code.is_none() => {
                Ok(Purchase { order, next_url: None, booked: None })
            }
            State::Paying if order.payment.is_some() => Ok(Purchase { order, next_url: None, booked: None }),
            State::Paying | State::Authorised => Err(Error::PaymentUnknown { order: id }),
            State::RefundDue if order.money.has_seats() || code.is_none() => {
                Ok(Purchase { order, next_url: None, booked: None })
            }
            _ if code == Some("seats_gone") => Err(Error::SeatsGone { order: id }),
            _ => {
                let reason = order.money.failure.map(|failure| failure.detail).unwrap_or_default();
                Err(Error::PaymentDeclined { order: id, reason, until: order.money.book_before })
            }
        }
    }

    /// Orders that have something left to do and that no request is at, the stalest first, behind one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn unsettled(
        &self,
        in_hand: Duration,
        behind: Option<Unsettled>,
        limit: u32,
    ) -> Result<Vec<Unsettled>, Error> {
        self.store.unsettled_orders(in_hand, behind, limit).await
    }

    async fn advance(&self, news: Advance) -> Result<Advanced, Error> {
        let advanced = self.store.advance_order(news).await?;
        if advanced.booked.is_some() {
            // Who has bought leaves the waiting room.
            self.leave_room_for_others(advanced.open.order.event, &advanced.open.order.subject).await;
        }
        self.free_claims(&advanced).await;
        Ok(advanced)
    }

    async fn advance_once(&self, news: Advance) -> Result<Once<Advanced>, Error> {
        let advanced = self.store.advance_order_once(news).await?;
        if let Once::Now(advanced) = &advanced {
            self.free_claims(advanced).await;
        }
        Ok(advanced)
    }

    /// The claims that returned tickets were bought under.
    async fn free_claims(&self, advanced: &Advanced) {
        if !advanced.freed.is_empty() {
            let order = &advanced.open.order;
            let claim = Claim {
                partition: order.event.uuid(),
                resources: advanced.freed.iter().map(|ticket| ticket.uuid()).collect(),
                holder: order.hold.uuid(),
                token: order.token,
                expires_at: order.money.book_before,
            };
            let claims = self.claims.clone().unwrap_or_else(|| self.store.claims());
            // Most have lapsed by then; one that has not only delays the next sale until it does.
            if let Err(error) = claims.release(claim).await {
                tracing::warn!(order.id = %order.id, error = %error, "the claim of returned tickets stays until it lapses");
            }
        }
    }

    /// No news yet.
    fn news(&self, order: OrderId) -> Advance {
        Advance {
            order,
            known: None,
            events: Vec::new(),
            returns: None,
            payment: None,
            ended: None,
            undone: None,
            fresh: self.attempt(),
            claims_here: self.claims.is_none(),
            asked: None,
        }
    }

    /// No news yet of an order that is at hand.
    fn news_of(&self, order: &OrderRecord) -> Advance {
        Advance { known: Some(Arc::new(order.clone())), ..self.news(order.id) }
    }

    fn attempt(&self) -> AttemptId {
        AttemptId::from(self.ids.next())
    }

    /// Where a buyer returns to from a second step.
    fn return_url(&self, order: OrderId) -> String {
        format!("{}/console/tickets/orders/{order}", self.public_url.trim_end_matches('/'))
    }
}

/// The payment and the open attempt that a call needs.
fn at_work(open: &OpenOrder, action: Action) -> Option<(&PaymentRef, &Attempt)> {
    Some((open.order.payment.as_ref()?, open.attempt(action)?))
}

fn no_hold(id: HoldId) -> Error {
    Error::NotFound { what: "hold", id: id.to_string() }
}
