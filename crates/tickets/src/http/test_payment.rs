//! The pages of the test provider: its second step, where a bank would ask whether it is really you, and its ledger.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use http::header::CACHE_CONTROL;
use serde::{Deserialize, Serialize};
use tessera_kernel::Money;
use tessera_service::http::{Json, List, Page, Path, Query};
use tessera_service::{Identity, Keys, Problem};

use crate::Error;
use crate::app::App;
use crate::domain::ids::{AttemptId, OrderId};
use crate::payment::{Payment, PaymentRef, Status, Test, Which};

#[derive(Clone)]
struct Bank {
    app: App,
    test: Arc<Test>,
}

impl axum::extract::FromRef<Bank> for Keys {
    fn from_ref(bank: &Bank) -> Self {
        bank.app.keys.clone()
    }
}

/// The routes, where payments are those of the test provider.
pub fn router(app: App, test: Arc<Test>) -> Router {
    Router::new()
        .route("/payments/test", get(ledger))
        .route("/payments/test/{payment}", get(ask).post(answer))
        .with_state(Bank { app, test })
}

/// A payment of the ledger.
#[derive(Debug, Serialize)]
struct PaymentBody {
    payment: String,
    attempt: Option<AttemptId>,
    order: Option<OrderId>,
    /// `pending`, `needs_action`, `authorised`, `captured`, `voided`, `declined`.
    status: &'static str,
    amount: Money,
    captured: Money,
    refunded: Money,
}

impl From<Payment> for PaymentBody {
    fn from(payment: Payment) -> Self {
        let money = |amount| Money::new(amount, payment.amount.currency);
        Self {
            payment: payment.payment.as_str().to_owned(),
            attempt: payment.attempt,
            order: payment.order,
            status: match payment.status {
                Status::Pending => "pending",
                Status::NeedsAction { .. } => "needs_action",
                Status::Authorised => "authorised",
                Status::Captured => "captured",
                Status::Voided => "voided",
                Status::Declined(_) => "declined",
            },
            amount: payment.amount,
            captured: money(payment.captured),
            refunded: money(payment.refunded),
        }
    }
}

/// What the provider has of every payment, in the order of their attempts: what orders and tickets are compared with.
async fn ledger(
    State(bank): State<Bank>,
    identity: Identity,
    Query(page): Query<Page>,
) -> Result<Json<List<PaymentBody>>, Problem> {
    identity.require(&["admin"])?;
    let limit = page.limit();
    let payments = bank.test.ledger(page.after()?, limit as u32 + 1).await?;
    let List { items, next_cursor } = List::new(payments, limit, |payment| payment.attempt);
    Ok(Json(List { items: items.into_iter().map(Into::into).collect(), next_cursor }))
}

const PAGE: &str = r#"<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>Test bank</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:4rem auto;padding:0 1rem}
button{font:inherit;padding:.6rem 1.2rem;margin:0 .5rem .5rem 0;border-radius:.4rem;border:1px solid #888;cursor:pointer}
button.yes{background:#1a6b3c;color:#fff;border-color:#1a6b3c}</style>
<h1>Test bank</h1><p>A payment of <strong>AMOUNT</strong> waits for you. No money moves: this is the test provider.</p>
<form method="post" action="?agree=true" style="display:inline"><button class="yes">Approve</button></form>
<form method="post" action="?agree=false" style="display:inline"><button>Refuse</button></form></html>"#;

async fn ask(State(bank): State<Bank>, Path(payment): Path<String>) -> Result<Response, Problem> {
    let missing = || Error::NotFound { what: "payment", id: payment.clone() };
    let reference = PaymentRef::new(payment.clone());
    let found = bank.app.payments.look_up(Which::Payment(&reference)).await;
    let found = found.map_err(|_| missing())?.ok_or_else(missing)?;
    let private = [(CACHE_CONTROL, "no-store")];
    if !matches!(found.status, Status::NeedsAction { .. }) {
        return Ok((private, back(&bank.app, found.order.map(|order| order.to_string()))).into_response());
    }
    // An amount and a currency: nothing in it needs to be escaped.
    Ok((private, Html(PAGE.replace("AMOUNT", &found.amount.to_string()))).into_response())
}

#[derive(Deserialize)]
struct Answer {
    agree: bool,
}

async fn answer(
    State(bank): State<Bank>,
    Path(payment): Path<String>,
    Query(Answer { agree }): Query<Answer>,
) -> Result<Response, Problem> {
    let reference = PaymentRef::new(payment.clone());
    let answered = bank.test.answer(&reference, agree).await;
    let answered = answered.map_err(|error| Error::NotNow { reason: error.to_string() })?;
    bank.app.hear_of(&reference, None).await?;
    Ok(back(&bank.app, answered.order.map(|order| order.to_string())).into_response())
}

/// To the buyer's order in the console, as a shop would take him back.
fn back(app: &App, order: Option<String>) -> Redirect {
    let base = app.public_url.trim_end_matches('/');
    match order {
        Some(order) => Redirect::to(&format!("{base}/console/tickets/orders/{order}")),
        None => Redirect::to(base),
    }
}
