//! What the stand-in remembers: payments, refunds, keys, and the events that it has to tell.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::webhooks::{Delivery, Event};

/// A refusal: the status and the body's `error`.
pub(super) type Refusal = (u16, Value);
type Answer = Result<Value, Refusal>;

/// How a card behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    /// It is charged.
    Succeeds,
    /// It is declined with this code, and this more precise one.
    Declines(&'static str, &'static str),
    /// Its owner has to agree on a page of the stand-in.
    AsksForSecondStep,
}

/// Numbers and names as in Stripe's documentation of test cards.
pub(super) const CARDS: &[(&str, &str, Card)] = &[
    ("4242424242424242", "pm_card_visa", Card::Succeeds),
    ("4000000000000002", "pm_card_visa_chargeDeclined", Card::Declines("card_declined", "generic_decline")),
    (
        "4000000000009995",
        "pm_card_visa_chargeDeclinedInsufficientFunds",
        Card::Declines("card_declined", "insufficient_funds"),
    ),
    ("4000000000000069", "pm_card_chargeDeclinedExpiredCard", Card::Declines("expired_card", "expired_card")),
    ("4000000000009979", "pm_card_visa_chargeDeclinedStolenCard", Card::Declines("card_declined", "stolen_card")),
    ("4000002760003184", "pm_card_authenticationRequired", Card::AsksForSecondStep),
];

/// A payment, for comparison with what was sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charged {
    /// `pi_…`.
    pub id: String,
    /// Stripe's word for where it stands.
    pub status: String,
    /// Minor units as Stripe counts them.
    pub amount: i64,
    /// What was taken.
    pub captured: i64,
    /// What went back of it.
    pub refunded: i64,
    /// What its maker has noted with it.
    pub metadata: BTreeMap<String, String>,
}

pub(super) struct Intent {
    id: String,
    status: &'static str,
    amount: i64,
    currency: String,
    captured: i64,
    refunded: i64,
    created: i64,
    metadata: BTreeMap<String, String>,
    return_url: Option<String>,
    error: Option<Value>,
}

/// A call under a key.
pub(super) struct Kept {
    pub fingerprint: String,
    /// The answer, once there is one.
    pub answer: Option<(u16, Value)>,
}

/// All of it.
#[derive(Default)]
pub(super) struct Books {
    pub calls: u64,
    pub keys: HashMap<String, Kept>,
    pub events: Vec<Event>,
    pub delivery: Delivery,
    /// How many of the events have been delivered by themselves.
    pub delivered: usize,
    intents: Vec<Intent>,
    refunds: Vec<Refund>,
}

struct Refund {
    /// The place of its payment.
    of: usize,
    amount: i64,
    has_failed: bool,
    metadata: BTreeMap<String, String>,
}

/// The fields of a form or query.
pub(super) type Fields = HashMap<String, String>;

/// The body of a refusal.
pub(super) fn refusal(status: u16, kind: &str, code: &str, message: &str) -> Refusal {
    (status, json!({"type": kind, "code": code, "message": message}))
}

fn invalid(code: &str, message: &str) -> Refusal {
    refusal(400, "invalid_request_error", code, message)
}

fn missing(what: &str) -> Refusal {
    refusal(404, "invalid_request_error", "resource_missing", &format!("No such payment_intent: '{what}'"))
}

/// What the caller wants noted.
fn noted(form: &Fields) -> BTreeMap<String, String> {
    let noted = form
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("metadata[")?.strip_suffix(']')?.to_owned(), value.clone())));
    noted.collect()
}

impl Books {
    pub fn charged(&self) -> Vec<Charged> {
        let charged = |intent: &Intent| Charged {
            id: intent.id.clone(),
            status: intent.status.to_owned(),
            amount: intent.amount,
            captured: intent.captured,
            refunded: intent.refunded,
            metadata: intent.metadata.clone(),
        };
        self.intents.iter().map(charged).collect()
    }

    /// `POST /v1/payment_intents`. Refuses all that the product's calls should not look like.
    pub fn create(&mut self, form: &Fields, url: &str, now: i64) -> Answer {
        let field = |name: &str| form.get(name).map(String::as_str);
        let amount = field("amount").and_then(|text| text.parse::<i64>().ok()).filter(|amount| *amount > 0);
        let amount = amount.ok_or_else(|| invalid("parameter_invalid_integer", "Invalid integer: amount"))?;
        let currency = field("currency").filter(|code| code.len() == 3 && code.bytes().all(|c| c.is_ascii_lowercase()));
        let currency = currency.ok_or_else(|| invalid("parameter_missing", "Missing or bad param: currency"))?;
        for (name, expected) in [("capture_method", "manual"), ("confirm", "true"), ("payment_method_types[]", "card")]
        {
            if field(name) != Some(expected) {
                return Err(invalid("parameter_invalid", &format!("the stand-in wants {name}={expected}")));
            }
        }
        let number = field("payment_method_data[card][number]");
        let card =
            CARDS.iter().find(|(digits, name, _)| number == Some(digits) || field("payment_method") == Some(name));
        let Some((_, _, card)) = card else {
            return Err(match number {
                Some(_) => refusal(402, "card_error", "incorrect_number", "Your card number is incorrect."),
                None => invalid("resource_missing", "No such PaymentMethod"),
            });
        };
        let mut intent = Intent {
            id: format!("pi_{:06}", self.intents.len() + 1),
            status: "requires_capture",
            amount,
            currency: currency.to_owned(),
            captured: 0,
            refunded: 0,
            created: now,
            metadata: noted(form),
            return_url: field("return_url").map(str::to_owned),
            error: None,
        };
        let at = self.intents.len();
        match card {
            Card::Succeeds => {
                self.intents.push(intent);
                self.tell(at, "payment_intent.amount_capturable_updated", now);
                Ok(self.intents[at].json(false, url))
            }
            Card::AsksForSecondStep if intent.return_url.is_none() => {
                Err(invalid("parameter_missing", "the stand-in wants a return_url"))
            }
            Card::AsksForSecondStep => {
                intent.status = "requires_action";
                self.intents.push(intent);
                self.tell(at, "payment_intent.requires_action", now);
                Ok(self.intents[at].json(false, url))
            }
            Card::Declines(code, decline_code) => {
                let error = json!({"type": "card_error", "code": code, "decline_code": decline_code,
                    "message": format!("Your card was declined: {decline_code}.")});
                intent.status = "requires_payment_method";
                intent.error = Some(error.clone());
                self.intents.push(intent);
                self.tell(at, "payment_intent.payment_failed", now);
                Err((402, with(error, "payment_intent", self.intents[at].json(false, url))))
            }
        }
    }

    /// `GET /v1/payment_intents/<id>`.
    pub fn get(&self, id: &str, query: &Fields, url: &str) -> Answer {
        let whole = query.get("expand[]").is_some_and(|what| what == "latest_charge");
        self.intents.iter().find(|intent| intent.id == id).map(|intent| intent.json(whole, url)).ok_or(missing(id))
    }

    /// `GET /v1/payment_intents`: the newest first.
    pub fn list(&self, query: &Fields, url: &str) -> Answer {
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<i64>().ok());
        let (from, to) = (number("created[gte]").unwrap_or(i64::MIN), number("created[lte]").unwrap_or(i64::MAX));
        let limit = usize::try_from(number("limit").unwrap_or(10)).unwrap_or(10).clamp(1, 100);
        let fit = self.intents.iter().rev().filter(|intent| (from..=to).contains(&intent.created));
        let after = query.get("starting_after");
        let mut rest = fit.skip_while(|intent| after.is_some_and(|after| intent.id != *after)).skip(after.iter().len());
        let whole = query.get("expand[]").is_some_and(|what| what == "data.latest_charge");
        let data: Vec<Value> = rest.by_ref().take(limit).map(|intent| intent.json(whole, url)).collect();
        Ok(json!({"object": "list", "data": data, "has_more": rest.next().is_some()}))
    }

    /// `GET /v1/payment_intents/search` for one metadata key.
    pub fn search(&self, query: &Fields, url: &str) -> Answer {
        let parts: Vec<&str> = query.get("query").map(String::as_str).unwrap_or_default().split('\'').collect();
        let ["metadata[", key, "]:", value, ""] = parts[..] else {
            return Err(invalid("parameter_invalid", "the stand-in searches for metadata['key']:'value' only"));
        };
        let fit = self.intents.iter().rev().filter(|intent| intent.metadata.get(key).is_some_and(|has| has == value));
        let data: Vec<Value> = fit.map(|intent| intent.json(true, url)).collect();
        Ok(json!({"object": "search_result", "data": data, "has_more": false}))
    }

    /// `POST /v1/payment_intents/<id>/capture`.
    pub fn capture(&mut self, id: &str, form: &Fields, url: &str, now: i64) -> Answer {
        let at = self.find(id)?;
        self.expect(at, &["requires_capture"], "captured", url)?;
        let intent = &mut self.intents[at];
        let amount = form.get("amount_to_capture").map_or(Ok(intent.amount), |text| text.parse());
        let amount = amount.map_err(|_| invalid("parameter_invalid_integer", "Invalid integer: amount_to_capture"))?;
        if amount <= 0 || amount > intent.amount {
            return Err(invalid("amount_too_large", "amount_to_capture is more than is capturable"));
        }
        (intent.status, intent.captured) = ("succeeded", amount);
        self.tell(at, "payment_intent.succeeded", now);
        Ok(self.intents[at].json(false, url))
    }

    /// `POST /v1/payment_intents/<id>/cancel`.
    pub fn cancel(&mut self, id: &str, url: &str, now: i64) -> Answer {
        let at = self.find(id)?;
        self.expect(at, &["requires_capture", "requires_action", "requires_payment_method"], "canceled", url)?;
        self.lapse(id, now)?;
        Ok(self.intents[at].json(false, url))
    }

    /// Lets go of a payment.
    pub fn lapse(&mut self, id: &str, now: i64) -> Result<(), Refusal> {
        let at = self.find(id)?;
        self.intents[at].status = "canceled";
        self.tell(at, "payment_intent.canceled", now);
        Ok(())
    }

    /// `POST /v1/refunds`.
    pub fn refund(&mut self, id: &str, amount: i64, form: &Fields, now: i64) -> Answer {
        let at = self.find(id)?;
        let intent = &mut self.intents[at];
        if intent.status != "succeeded" {
            return Err(invalid("charge_not_captured", "This payment has no successful charge to refund."));
        }
        let left = intent.captured - intent.refunded;
        if amount <= 0 || amount > left {
            let code = if left == 0 { "charge_already_refunded" } else { "amount_too_large" };
            return Err(invalid(code, &format!("Refund amount ({amount}) is greater than what is left ({left})")));
        }
        intent.refunded += amount;
        self.refunds.push(Refund { of: at, amount, has_failed: false, metadata: noted(form) });
        self.tell(at, "charge.refunded", now);
        Ok(self.refund_json(self.refunds.len() - 1))
    }

    /// `GET /v1/refunds/<id>`.
    pub fn get_refund(&self, id: &str) -> Answer {
        let number = id.strip_prefix("re_").and_then(|digits| digits.parse::<usize>().ok());
        let at = number.and_then(|number| number.checked_sub(1)).filter(|at| *at < self.refunds.len());
        at.map(|at| self.refund_json(at)).ok_or_else(|| missing(id))
    }

    /// The bank would not take the last refund of a payment.
    pub fn fail_refund(&mut self, id: &str, now: i64) -> Result<(), Refusal> {
        let of = self.find(id)?;
        let at = self.refunds.iter().rposition(|refund| refund.of == of && !refund.has_failed);
        let at = at.ok_or_else(|| missing(id))?;
        self.refunds[at].has_failed = true;
        self.intents[of].refunded -= self.refunds[at].amount;
        let object = self.refund_json(at);
        self.tell_of(of, "charge.refund.updated", object, now);
        Ok(())
    }

    fn refund_json(&self, at: usize) -> Value {
        let Refund { of, amount, has_failed, metadata } = &self.refunds[at];
        let status = if *has_failed { "failed" } else { "succeeded" };
        json!({"id": format!("re_{:06}", at + 1), "object": "refund", "amount": amount, "status": status,
            "payment_intent": self.intents[*of].id, "metadata": metadata})
    }

    /// The buyer's second step.
    pub fn answer(&mut self, id: &str, agreed: bool, now: i64) -> Result<(), Refusal> {
        let at = self.find(id)?;
        if self.intents[at].status != "requires_action" {
            return Ok(());
        }
        if agreed {
            self.intents[at].status = "requires_capture";
            self.tell(at, "payment_intent.amount_capturable_updated", now);
        } else {
            self.intents[at].status = "requires_payment_method";
            self.intents[at].error = Some(json!({"type": "card_error", "code": "authentication_failed",
                "message": "The second step was not completed."}));
            self.tell(at, "payment_intent.payment_failed", now);
        }
        Ok(())
    }

    fn find(&self, id: &str) -> Result<usize, Refusal> {
        self.intents.iter().position(|intent| intent.id == id).ok_or_else(|| missing(id))
    }

    fn expect(&self, at: usize, statuses: &[&str], what: &str, url: &str) -> Result<(), Refusal> {
        let intent = &self.intents[at];
        if statuses.contains(&intent.status) {
            return Ok(());
        }
        let message = format!("This PaymentIntent could not be {what} because it has a status of {}.", intent.status);
        let (status, error) = invalid("payment_intent_unexpected_state", &message);
        Err((status, with(error, "payment_intent", intent.json(false, url))))
    }

    fn tell(&mut self, at: usize, kind: &str, now: i64) {
        let intent = &self.intents[at];
        let object = match kind.starts_with("charge.") {
            true => json!({"id": intent.charge(), "object": "charge", "payment_intent": intent.id,
                "amount_refunded": intent.refunded, "metadata": intent.metadata}),
            false => intent.json(false, ""),
        };
        self.tell_of(at, kind, object, now);
    }

    fn tell_of(&mut self, at: usize, kind: &str, object: Value, now: i64) {
        let intent = &self.intents[at];
        let id = format!("evt_{:06}", self.events.len() + 1);
        let body = json!({"id": id, "object": "event", "type": kind, "created": now, "livemode": false,
            "data": {"object": object}});
        let (kind, payment) = (kind.to_owned(), intent.id.clone());
        self.events.push(Event { id, kind, payment, body: body.to_string() });
    }
}

impl Intent {
    fn charge(&self) -> String {
        self.id.replace("pi_", "ch_")
    }

    /// As Stripe shows it, its charge as a whole or by id.
    fn json(&self, whole_charge: bool, url: &str) -> Value {
        let charged = matches!(self.status, "requires_capture" | "succeeded");
        let charge = match whole_charge {
            true => json!({"id": self.charge(), "object": "charge", "amount_refunded": self.refunded,
                "amount_captured": self.captured}),
            false => json!(self.charge()),
        };
        let next = json!({"type": "redirect_to_url", "redirect_to_url": {
            "url": format!("{url}/second-step/{}", self.id), "return_url": self.return_url}});
        json!({
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": if self.status == "requires_capture" { self.amount } else { 0 },
            "amount_received": self.captured,
            "capture_method": "manual",
            "created": self.created,
            "currency": self.currency,
            "last_payment_error": self.error,
            "latest_charge": charged.then_some(charge),
            "livemode": false,
            "metadata": self.metadata,
            "next_action": (self.status == "requires_action").then_some(next),
            "status": self.status,
        })
    }
}

fn with(value: Value, key: &str, inner: Value) -> Value {
    let mut object = match value {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    object.insert(key.to_owned(), inner);
    Value::Object(object)
}
