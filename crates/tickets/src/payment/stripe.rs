//! Stripe: PaymentIntents that are confirmed as they are made and captured later
//! (<https://docs.stripe.com/payments/place-a-hold-on-a-payment-method>).
//!
//! Every attempt is the idempotency key of its call, and the payment carries order and attempt in its metadata. A lost
//! answer is asked for again under the same key only; what then is still not known is looked up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tessera_kernel::{Clock, Money, Timestamp};

use super::{Authorisation, Authorise, Decline, Error, Method, Notice, Payment, PaymentRef, Provider, Status, Which};
use crate::domain::ids::AttemptId;

mod api;
mod webhook;
mod wire;

use api::{Api, Call, Failure};
pub use webhook::TOLERANCE;
use wire::{Intent, Page};

/// Where Stripe's API is.
pub const URL: &str = "https://api.stripe.com";
/// The version of the API that this is written for.
pub const VERSION: &str = "2024-06-20";

/// Payments on one page of a list; Stripe's most.
const PAGE: usize = 100;
/// Pages that a look-up by attempt reads of what was made at about that time.
const MAX_PAGES: usize = 10;
/// How far before an attempt was minted a payment of it may have been made, by another clock.
const SKEW: Duration = Duration::from_secs(120);
/// How long after it was minted: the waits and repetitions of its request, and the same skew.
const SPREAD: Duration = Duration::from_secs(300);
/// After how long Stripe's search knows of a payment for sure; usually it takes under a minute.
const SEARCH_LAG: Duration = Duration::from_secs(3_600);

/// How Stripe is reached.
#[derive(Clone)]
pub struct Access {
    /// The base URL: [`URL`], or that of a stand-in.
    pub url: String,
    /// The secret key.
    pub api_key: String,
    /// The secret that webhooks are signed with; without it all are refused.
    pub webhook_secret: String,
    /// How long a call may take, its repetitions included.
    pub timeout: Duration,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("url", &self.url).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// The provider.
pub struct Stripe {
    api: Api,
    webhook_secret: String,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stripe").field("api", &self.api).finish_non_exhaustive()
    }
}

impl Stripe {
    /// A client of the account that the key belongs to. It is not tried until the first call.
    ///
    /// # Errors
    /// What is wrong with the settings, without their secrets.
    pub fn new(access: Access, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let api = Api::new(&access.url, &access.api_key, access.timeout)?;
        Ok(Self { api, webhook_secret: access.webhook_secret, clock })
    }

    async fn create(&self, request: Authorise) -> Result<Authorisation, Error> {
        let form = form_of(&request)?;
        match self.api.call(Call::post("payment_intents", request.attempt, form)).await {
            Ok(answer) => authorisation(wire::read::<Intent>(&answer)?.payment()?),
            Err(Failure::Refused { error, .. }) if error.is_decline() => Ok(Authorisation::Declined(error.decline())),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn take(&self, attempt: AttemptId, payment: &PaymentRef, amount: Money) -> Result<(), Error> {
        let form = vec![("amount_to_capture".to_owned(), wire::amount(amount)?.to_string())];
        let path = format!("payment_intents/{}/capture", wire::segment(payment.as_str())?);
        let answer = self.api.call(Call::post(&path, attempt, form)).await?;
        match wire::read::<Intent>(&answer)?.payment()?.status {
            Status::Captured => Ok(()),
            other => {
                Err(Error::unknown(format!("the payment is {other:?} after a capture that was answered with 200")))
            }
        }
    }

    async fn cancel(&self, attempt: AttemptId, payment: &PaymentRef) -> Result<(), Error> {
        let path = format!("payment_intents/{}/cancel", wire::segment(payment.as_str())?);
        match self.api.call(Call::post(&path, attempt, Vec::new())).await {
            Ok(_) => Ok(()),
            // Stripe says what it is instead: let go of already, by us or by itself.
            Err(Failure::Refused { error, .. }) if error.is_about_a_canceled_intent() => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn give_back(&self, attempt: AttemptId, payment: &PaymentRef, amount: Money) -> Result<(), Error> {
        let form = vec![
            ("payment_intent".to_owned(), payment.as_str().to_owned()),
            ("amount".to_owned(), wire::amount(amount)?.to_string()),
            ("metadata[attempt]".to_owned(), attempt.to_string()),
        ];
        let answer = self.api.call(Call::post("refunds", attempt, form)).await?;
        let refund: wire::Refund = wire::read(&answer)?;
        if refund.has_failed() {
            let reason = refund.failure_reason.as_deref().or(refund.status.as_deref());
            return Err(Error::refused("refund_failed", reason.unwrap_or_default()));
        }
        // Should one that is pending or done fail, a webhook rings; see `failed`.
        Ok(())
    }

    async fn failed(&self, refund: &str) -> Result<Option<AttemptId>, Error> {
        let Ok(id) = wire::segment(refund) else { return Ok(None) };
        match self.api.call(Call::get(&format!("refunds/{id}"), Vec::new())).await {
            Ok(answer) => {
                let refund: wire::Refund = wire::read(&answer)?;
                Ok(refund.attempt().filter(|_| refund.has_failed()))
            }
            Err(Failure::Refused { status: 404, .. }) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn get(&self, payment: &PaymentRef) -> Result<Option<Payment>, Error> {
        let Ok(id) = wire::segment(payment.as_str()) else { return Ok(None) };
        let query = vec![("expand[]".to_owned(), "latest_charge".to_owned())];
        match self.api.call(Call::get(&format!("payment_intents/{id}"), query)).await {
            Ok(answer) => wire::read::<Intent>(&answer)?.payment().map(Some),
            Err(Failure::Refused { status: 404, .. }) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Looks through what was made at about the time of the attempt, as the list is never behind; the search may be.
    async fn find(&self, attempt: AttemptId) -> Result<Option<Payment>, Error> {
        let minted = minted_at(attempt);
        let seconds = |at: Timestamp| (at.micros() / 1_000_000).to_string();
        let mut after: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut query = vec![
                ("limit".to_owned(), PAGE.to_string()),
                ("created[gte]".to_owned(), seconds(minted.minus(SKEW))),
                ("created[lte]".to_owned(), seconds(minted.plus(SPREAD))),
                ("expand[]".to_owned(), "data.latest_charge".to_owned()),
            ];
            query.extend(after.map(|id| ("starting_after".to_owned(), id)));
            let page: Page = wire::read(&self.api.call(Call::get("payment_intents", query)).await?)?;
            if let Some(intent) = page.data.iter().find(|intent| intent.attempt() == Some(attempt)) {
                return intent.payment().map(Some);
            }
            match page.data.last().filter(|_| page.has_more) {
                Some(last) => after = Some(last.id.clone()),
                None => return Ok(None),
            }
        }
        self.search(attempt, minted).await
    }

    /// Where too many were made at that time to look through.
    async fn search(&self, attempt: AttemptId, minted: Timestamp) -> Result<Option<Payment>, Error> {
        let query = vec![
            ("query".to_owned(), format!("metadata['attempt']:'{attempt}'")),
            ("expand[]".to_owned(), "data.latest_charge".to_owned()),
        ];
        let page: Page = wire::read(&self.api.call(Call::get("payment_intents/search", query)).await?)?;
        match page.data.iter().find(|intent| intent.attempt() == Some(attempt)) {
            Some(intent) => intent.payment().map(Some),
            None if self.clock.now().since(minted) > SEARCH_LAG => Ok(None),
            None => Err(Error::unknown("the search does not have it yet; ask again later")),
        }
    }
}

/// The request for a new payment.
fn form_of(request: &Authorise) -> Result<Vec<(String, String)>, Error> {
    let Authorise { attempt, order, amount, method, description, return_url, metadata } = request;
    let mut form = vec![
        ("amount", wire::amount(*amount)?.to_string()),
        ("currency", amount.currency.as_str().to_ascii_lowercase()),
        ("capture_method", "manual".to_owned()),
        ("confirm", "true".to_owned()),
        ("payment_method_types[]", "card".to_owned()),
        ("description", description.clone()),
        ("return_url", return_url.clone()),
        ("metadata[order]", order.to_string()),
        ("metadata[attempt]", attempt.to_string()),
    ];
    match method {
        Method::Saved(name) => form.push(("payment_method", name.clone())),
        Method::Card(card) => form.extend([
            ("payment_method_data[type]", "card".to_owned()),
            ("payment_method_data[card][number]", card.number().to_owned()),
            ("payment_method_data[card][exp_month]", card.exp_month().to_string()),
            ("payment_method_data[card][exp_year]", card.exp_year().to_string()),
            ("payment_method_data[card][cvc]", card.cvc().to_owned()),
        ]),
    }
    let more = metadata.iter().map(|(key, value)| (format!("metadata[{key}]"), value.clone()));
    Ok(form.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(more).collect())
}

fn authorisation(payment: Payment) -> Result<Authorisation, Error> {
    let Payment { payment, status, .. } = payment;
    match status {
        Status::Authorised | Status::Captured => Ok(Authorisation::Authorised { payment }),
        Status::NeedsAction { url } => Ok(Authorisation::NeedsAction { payment, url }),
        Status::Declined(decline) => Ok(Authorisation::Declined(decline)),
        Status::Voided => Ok(Authorisation::Declined(Decline {
            code: "voided".to_owned(),
            reason: "this attempt was voided".to_owned(),
        })),
        Status::Pending => Err(Error::unknown(format!("payment `{payment}` is pending"))),
    }
}

/// When an attempt was minted: its id is a UUID of version 7, which begins with milliseconds.
fn minted_at(attempt: AttemptId) -> Timestamp {
    let millis = (attempt.uuid().as_u128() >> 80) as i64;
    Timestamp::from_micros(millis.saturating_mul(1_000))
}

impl Provider for Stripe {
    fn name(&self) -> &'static str {
        "stripe"
    }

    fn timeout(&self) -> Duration {
        self.api.timeout()
    }

    fn authorise(&self, request: Authorise) -> BoxFuture<'_, Result<Authorisation, Error>> {
        self.create(request).boxed()
    }

    fn capture<'a>(
        &'a self,
        attempt: AttemptId,
        payment: &'a PaymentRef,
        amount: Money,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.take(attempt, payment, amount).boxed()
    }

    fn void<'a>(&'a self, attempt: AttemptId, payment: &'a PaymentRef) -> BoxFuture<'a, Result<(), Error>> {
        self.cancel(attempt, payment).boxed()
    }

    fn refund<'a>(
        &'a self,
        attempt: AttemptId,
        payment: &'a PaymentRef,
        amount: Money,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.give_back(attempt, payment, amount).boxed()
    }

    fn look_up<'a>(&'a self, which: Which<'a>) -> BoxFuture<'a, Result<Option<Payment>, Error>> {
        match which {
            Which::Attempt(attempt) => self.find(attempt).boxed(),
            Which::Payment(payment) => self.get(payment).boxed(),
        }
    }

    fn failed_refund<'a>(&'a self, refund: &'a str) -> BoxFuture<'a, Result<Option<AttemptId>, Error>> {
        self.failed(refund).boxed()
    }

    fn read_webhook(&self, signature: &str, body: &[u8]) -> Result<Option<Notice>, String> {
        webhook::check(&self.webhook_secret, signature, body, self.clock.now())?;
        webhook::notice(body)
    }
}
