//! The test provider: its books, and its second step, where a bank would ask whether it is really you. The page of that
//! step is the provider's, not ours, so it stands here and not among the console's.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use http::header::CACHE_CONTROL;
use serde::{Deserialize, Serialize};
use tessera_kernel::Money;
use tessera_service::http::{Json, List, Page, Path, Query};
use tessera_service::{Identity, Keys, Problem};
use utoipa::ToSchema;

use super::wire::ListBody;
use crate::Error;
use crate::app::App;
use crate::domain::ids::{AttemptId, OrderId};
use crate::payment::{Payment, PaymentRef, Status, Test, Which};

/// What its routes share.
#[derive(Clone)]
pub(super) struct Bank {
    app: App,
    test: Arc<Test>,
}

/// The routes, where payments are those of the test provider.
pub fn router(app: App, test: Arc<Test>) -> Router {
    Router::new()
        .route("/payments/test", get(ledger))
        .route("/payments/test/{payment}", get(ask).post(answer))
        .with_state(Bank { app, test })
}

impl FromRef<Bank> for Keys {
    fn from_ref(bank: &Bank) -> Self {
        bank.app.keys.clone()
    }
}

/// A payment in the test provider's own books.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LedgerBody {
    /// The provider's name of it.
    payment: String,
    #[schema(value_type = Option<String>)]
    order: Option<OrderId>,
    /// `pending`, `needs_action`, `authorised`, `declined`, `captured`, `voided`.
    state: &'static str,
    #[schema(value_type = Object)]
    amount: Money,
    #[schema(value_type = Object)]
    captured: Money,
    #[schema(value_type = Object)]
    refunded: Money,
}

impl From<Payment> for LedgerBody {
    fn from(payment: Payment) -> Self {
        let money = |amount| Money::new(amount, payment.amount.currency);
        Self {
            payment: payment.payment.as_str().to_owned(),
            order: payment.order,
            state: match payment.status {
                Status::Pending => "pending",
                Status::NeedsAction { .. } => "needs_action",
                Status::Authorised => "authorised",
                Status::Declined(_) => "declined",
                Status::Captured => "captured",
                Status::Voided => "voided",
            },
            amount: payment.amount,
            captured: money(payment.captured),
            refunded: money(payment.refunded),
        }
    }
}

/// What the test provider has in its books, in the order in which payments were begun, to be compared with orders: all of
/// it for an administrator, an organiser sees what is for the own events. Pages may be short; go on while there is a
/// `next_cursor`. Only where payments are those of the test provider.
#[utoipa::path(
    get,
    path = "/payments/test",
    params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "`items` and `next_cursor`", body = ListBody<LedgerBody>), (status = 403))
)]
pub(super) async fn ledger(
    State(bank): State<Bank>,
    identity: Identity,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    identity.require(&["organiser"])?;
    let after: Option<AttemptId> = page.after()?;
    let payments = bank.test.ledger(after, page.limit() as u32 + 1).await?;
    let List { mut items, next_cursor } = List::new(payments, page.limit(), |payment| payment.attempt);
    if !identity.is("admin") {
        let orders: Vec<OrderId> = items.iter().filter_map(|payment| payment.order).collect();
        let own = bank.app.store.orders_sold_by(&orders, &identity.subject).await?;
        items.retain(|payment| payment.order.is_some_and(|order| own.contains(&order)));
    }
    let items: Vec<LedgerBody> = items.into_iter().map(LedgerBody::from).collect();
    Ok(([(CACHE_CONTROL, "private, no-store")], Json(List { items, next_cursor })).into_response())
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
    bank.app.hear_of(&reference, None, None).await?;
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
