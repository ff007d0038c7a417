//! The second step of the test provider: where a bank would ask whether it is really you.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use http::header::CACHE_CONTROL;
use serde::Deserialize;
use tessera_service::Problem;
use tessera_service::http::{Path, Query};

use crate::Error;
use crate::app::App;
use crate::payment::{PaymentRef, Status, Test, Which};

#[derive(Clone)]
struct Bank {
    app: App,
    test: Arc<Test>,
}

/// The routes, where payments are those of the test provider.
pub fn router(app: App, test: Arc<Test>) -> Router {
    Router::new().route("/payments/test/{payment}", get(ask).post(answer)).with_state(Bank { app, test })
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
