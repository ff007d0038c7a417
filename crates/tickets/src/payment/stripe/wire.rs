//! Stripe's JSON, as far as we read it, and its amounts.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tessera_kernel::{Currency, Money};

use super::super::{Decline, Error, Payment, PaymentRef, Status};
use crate::domain::ids::AttemptId;

/// A payment.
#[derive(Debug, Deserialize)]
pub(super) struct Intent {
    pub id: String,
    status: String,
    amount: i64,
    currency: String,
    #[serde(default)]
    amount_received: i64,
    #[serde(default)]
    metadata: Metadata,
    next_action: Option<NextAction>,
    last_payment_error: Option<ApiError>,
    latest_charge: Option<Charge>,
}

/// What we keep with a payment.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Metadata {
    pub order: Option<String>,
    pub attempt: Option<String>,
}

#[derive(Debug, Deserialize)]
struct NextAction {
    redirect_to_url: Option<Redirect>,
}

#[derive(Debug, Deserialize)]
struct Redirect {
    url: Option<String>,
}

/// The charge of a payment: its id, or itself where it was asked for.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Charge {
    Whole { amount_refunded: i64 },
    Id(#[expect(dead_code, reason = "it only has to be told from the whole charge")] String),
}

/// A page of payments, the newest first.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub data: Vec<Intent>,
    pub has_more: bool,
}

/// A refund.
#[derive(Debug, Deserialize)]
pub(super) struct Refund {
    pub status: Option<String>,
    pub failure_reason: Option<String>,
    #[serde(default)]
    metadata: Metadata,
}

impl Refund {
    /// Whether the money came back.
    pub fn has_failed(&self) -> bool {
        matches!(self.status.as_deref(), Some("failed" | "canceled"))
    }

    /// The attempt that made it.
    pub fn attempt(&self) -> Option<AttemptId> {
        self.metadata.attempt()
    }
}

/// What Stripe says went wrong.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ApiError {
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<String>,
    decline_code: Option<String>,
    message: Option<String>,
    payment_intent: Option<ErrorIntent>,
}

#[derive(Debug, Deserialize)]
struct ErrorIntent {
    status: Option<String>,
}

/// The body of an answer that is not 200.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorBody {
    pub error: ApiError,
}

impl ApiError {
    /// Whether the bank has declined the card.
    pub fn is_decline(&self) -> bool {
        self.kind.as_deref() == Some("card_error")
    }

    /// Whether it is refused as the payment was let go of already.
    pub fn is_about_a_canceled_intent(&self) -> bool {
        let status = self.payment_intent.as_ref().and_then(|intent| intent.status.as_deref());
        self.code() == "payment_intent_unexpected_state" && status == Some("canceled")
    }

    /// The word for it.
    pub fn code(&self) -> &str {
        self.code.as_deref().or(self.kind.as_deref()).unwrap_or("refused")
    }

    /// What it says.
    pub fn message(&self) -> &str {
        self.message.as_deref().unwrap_or("it gives no reason")
    }

    /// As a decline: the bank's word before Stripe's.
    pub fn decline(&self) -> Decline {
        let code = self.decline_code.as_deref().unwrap_or(self.code()).to_owned();
        Decline { code, reason: self.message().to_owned() }
    }
}

impl Metadata {
    fn attempt(&self) -> Option<AttemptId> {
        self.attempt.as_deref()?.parse().ok()
    }
}

impl Intent {
    /// The attempt that made it.
    pub fn attempt(&self) -> Option<AttemptId> {
        self.metadata.attempt()
    }

    /// In our words.
    pub fn payment(&self) -> Result<Payment, Error> {
        let currency: Currency = self.currency.to_ascii_uppercase().parse().map_err(Error::unknown)?;
        let status = match self.status.as_str() {
            "requires_action" => match self.next_url() {
                Some(url) => Status::NeedsAction { url: url.to_owned() },
                None => Status::Pending,
            },
            "requires_confirmation" | "processing" => Status::Pending,
            "requires_capture" => Status::Authorised,
            "succeeded" => Status::Captured,
            "canceled" => Status::Voided,
            "requires_payment_method" => Status::Declined(self.last_payment_error.as_ref().map_or_else(
                || Decline { code: "card_declined".to_owned(), reason: "the card was not accepted".to_owned() },
                ApiError::decline,
            )),
            other => return Err(Error::unknown(format!("payment `{}` has the status `{other}`", self.id))),
        };
        let refunded = match self.latest_charge {
            Some(Charge::Whole { amount_refunded }) => amount_refunded,
            _ => 0,
        };
        let captured = if status == Status::Captured { self.amount_received } else { 0 };
        Ok(Payment {
            payment: PaymentRef::new(&self.id),
            attempt: self.attempt(),
            order: self.metadata.order.as_deref().and_then(|order| order.parse().ok()),
            status,
            amount: Money::new(from_stripe(self.amount, currency), currency),
            captured: from_stripe(captured, currency),
            refunded: from_stripe(refunded, currency),
        })
    }

    fn next_url(&self) -> Option<&str> {
        self.next_action.as_ref()?.redirect_to_url.as_ref()?.url.as_deref()
    }
}

/// An answer of 200 that cannot be read says nothing of what was done.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::unknown(format!("its answer cannot be read: {error}")))
}

/// The name of a payment or refund as part of a path.
pub(super) fn segment(text: &str) -> Result<&str, Error> {
    let fit = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match fit {
        true => Ok(text),
        false => Err(Error::refused("resource_missing", format!("`{text}` is no name of Stripe's"))),
    }
}

/// How many of ours are one of Stripe's, and the other way round. Stripe counts a few currencies in other units than
/// ISO 4217 does (<https://docs.stripe.com/currencies#special-cases>).
fn scale(currency: Currency) -> (i64, i64) {
    match currency.as_str() {
        // Without decimals here, with two at Stripe.
        "ISK" | "UGX" => (1, 100),
        // With two decimals here, without any at Stripe.
        "MGA" => (100, 1),
        _ => (1, 1),
    }
}

/// An amount as Stripe counts it.
pub(super) fn amount(money: Money) -> Result<i64, Error> {
    let (ours, theirs) = scale(money.currency);
    // In currencies with three decimals Stripe takes the last one as 0 only.
    let step = if money.currency.decimals() == 3 { 10 } else { ours };
    match money.amount.checked_mul(theirs) {
        Some(amount) if money.amount > 0 && money.amount % step == 0 => Ok(amount / ours),
        _ => Err(Error::refused("invalid_amount", format!("{money} cannot be charged at Stripe"))),
    }
}

fn from_stripe(amount: i64, currency: Currency) -> i64 {
    let (ours, theirs) = scale(currency);
    amount.saturating_mul(ours) / theirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_counted_as_stripe_does() {
        for (ours, currency, theirs) in
            [(4500, "EUR", 4500), (4500, "JPY", 4500), (45, "ISK", 4500), (4500, "MGA", 45), (1230, "KWD", 1230)]
        {
            let currency: Currency = currency.parse().unwrap();
            assert_eq!(amount(Money::new(ours, currency)).unwrap(), theirs);
            assert_eq!(from_stripe(theirs, currency), ours);
        }
        for (ours, currency) in [(0, "EUR"), (-1, "EUR"), (1231, "KWD"), (4501, "MGA"), (i64::MAX, "ISK")] {
            assert!(amount(Money::new(ours, currency.parse().unwrap())).is_err(), "{ours} {currency}");
        }
    }

    #[test]
    fn a_name_cannot_reach_another_path() {
        for text in ["", "pi_1/capture", "../customers", "pi_1?x", "pi 1"] {
            assert!(segment(text).is_err(), "{text}");
        }
        assert_eq!(segment("pi_3Nq").unwrap(), "pi_3Nq");
    }
}
