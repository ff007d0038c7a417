//! Paying for holds, and what becomes of orders.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tessera_kernel::{Money, Timestamp};
use tessera_service::http::{IdempotencyKey, Json, List, Page, Path, Query, Since};
use tessera_service::{Identity, Problem};
use utoipa::ToSchema;

use super::lists::part;
use super::tickets::OwnedTicketBody;
use super::wire::{ListBody, TicketBody};
use crate::Error;
use crate::app::App;
use crate::app::confirm::Payable;
use crate::app::orders::OrderView;
use crate::app::request::Request;
use crate::domain::event::Status as EventStatus;
use crate::domain::ids::{EventId, HoldId, OrderId, TicketId};
use crate::payment::{Card, Method};
use crate::store::InOrder;

/// What only its owner may see is kept by no cache.
const PRIVATE: &str = "private, no-store";

/// `POST /booking/confirm`: one of `hold_id` and `ticket_id`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmBody {
    /// Which hold.
    #[serde(alias = "holdId")]
    #[schema(value_type = Option<String>)]
    hold_id: Option<HoldId>,
    /// The hold that keeps this ticket.
    #[serde(alias = "ticketId")]
    #[schema(value_type = Option<String>)]
    ticket_id: Option<TicketId>,
    /// What is paid with.
    #[serde(alias = "paymentDetails")]
    payment_details: PaymentDetails,
    /// A promotion code.
    #[serde(alias = "promoCode")]
    promo_code: Option<String>,
}

/// A card's own data, or what the provider's form gave: one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PaymentDetails {
    /// `{"number", "exp_month", "exp_year", "cvc"}`
    #[schema(value_type = Option<Object>)]
    card: Option<Card>,
    /// `pm_…`
    #[serde(alias = "paymentMethod")]
    payment_method: Option<String>,
}

impl ConfirmBody {
    fn read(self) -> Result<(Payable, Method, Option<String>), Error> {
        let bad = |reason: &str| Error::BadRequest { reason: reason.into() };
        let what = match (self.hold_id, self.ticket_id) {
            (Some(hold), None) => Payable::Hold(hold),
            (None, Some(ticket)) => Payable::Ticket(ticket),
            _ => return Err(bad("give one of `hold_id` and `ticket_id`")),
        };
        let method = match (self.payment_details.card, self.payment_details.payment_method) {
            (Some(card), None) => Method::Card(card),
            (None, Some(saved)) => Method::Saved(saved),
            _ => return Err(bad("give one of `payment_details.card` and `payment_details.payment_method`")),
        };
        Ok((what, method, self.promo_code.filter(|code| !code.trim().is_empty())))
    }
}

/// An order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderBody {
    #[schema(value_type = String)]
    id: OrderId,
    #[schema(value_type = String)]
    event: EventId,
    event_name: String,
    #[schema(value_type = String, format = DateTime)]
    starts_at: Timestamp,
    /// `cancelled` where the money goes back by itself.
    event_status: EventStatus,
    venue: String,
    /// `paying`, `authorised`, `booked`, `captured`; `failed`, `voided`, `refund_due`, `refunded`.
    state: &'static str,
    /// The subject that bought.
    buyer: String,
    count: usize,
    #[schema(value_type = Object)]
    total: Money,
    #[schema(value_type = Object)]
    captured: Money,
    #[schema(value_type = Object)]
    refunded: Money,
    promo_code: Option<String>,
    failure: Option<FailureBody>,
    tickets: Vec<TicketBody>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// What was bought.
#[derive(Debug, Serialize)]
struct PurchaseBody {
    order: OrderBody,
    tickets: Vec<OwnedTicketBody>,
}

#[derive(Debug, Serialize, ToSchema)]
struct FailureBody {
    code: String,
    detail: String,
}

impl From<OrderView> for OrderBody {
    fn from(OrderView { order, event, venue, promo, tickets }: OrderView) -> Self {
        let money = |amount| Money::new(amount, order.currency);
        Self {
            id: order.id,
            event: order.event,
            event_name: event.name.clone(),
            starts_at: event.starts_at,
            event_status: event.status,
            venue,
            state: order.money.state.as_str(),
            buyer: order.subject.to_string(),
            count: order.seats.len(),
            total: money(order.money.total),
            captured: money(order.money.captured),
            refunded: money(order.money.refunded),
            promo_code: promo,
            failure: order.money.failure.map(|failure| FailureBody { code: failure.code, detail: failure.detail }),
            tickets: tickets.into_iter().map(Into::into).collect(),
            created_at: order.created_at,
            updated_at: order.updated_at,
        }
    }
}

/// Pays for a hold and books its seats.
///
/// 202 with `next_action` where the buyer's bank wants a second step. 409 `tickets.payment_declined` keeps the seats for
/// what is left of the hold. The same `idempotency-key` gives the same order.
#[utoipa::path(
    post,
    path = "/booking/confirm",
    request_body = ConfirmBody,
    params(("idempotency-key" = String, Header, description = "the same for a retry")),
    responses(
        (status = 200, description = "`order` and `tickets`", body = OrderBody),
        (status = 202, description = "`order` and `next_action`: a second step"),
        (status = 409, description = "declined, or paid already"),
        (status = 410, description = "the hold is over"),
        (status = 503, description = "the provider does not answer: the order is being settled")
    )
)]
pub(super) async fn confirm(
    State(app): State<App>,
    identity: Identity,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<ConfirmBody>,
) -> Result<Response, Problem> {
    identity.require(&["fan"])?;
    let (what, method, promo) = body.read()?;
    let request = Request { subject: identity.subject.clone(), key };
    let purchase = app.confirm(&request, what, method, promo.as_deref()).await?;
    let tickets = app.tickets_of(&identity, &purchase).await?;
    let tickets: Vec<OwnedTicketBody> = tickets.into_iter().map(Into::into).collect();
    let order = OrderBody::from(app.view_order(purchase.order).await?);
    let private = [(CACHE_CONTROL, PRIVATE)];
    Ok(match purchase.next_url {
        Some(url) => {
            let next = json!({ "order": order, "next_action": { "type": "redirect", "url": url } });
            (StatusCode::ACCEPTED, private, axum::Json(next)).into_response()
        }
        None => (private, axum::Json(PurchaseBody { order, tickets })).into_response(),
    })
}

/// How orders are sorted.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sort {
    #[default]
    Updated,
    Newest,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Sorted {
    #[serde(default)]
    sort: Sort,
}

impl From<Sort> for InOrder {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Updated => Self::OfChange,
            Sort::Newest => Self::NewestFirst,
        }
    }
}

/// An order of the caller, or for an event that the caller sells.
#[utoipa::path(
    get,
    path = "/orders/{id}",
    params(("id" = String, Path)),
    responses((status = 200, body = OrderBody), (status = 404))
)]
pub(super) async fn show(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<OrderId>,
) -> Result<Response, Problem> {
    let body = OrderBody::from(app.show_order(&identity, id).await?);
    Ok(([(CACHE_CONTROL, PRIVATE)], Json(body)).into_response())
}

/// Orders of the caller, an organiser's those for its events; by `(updated_at, id)`, the one changed the longest ago first,
/// or the newest first.
#[utoipa::path(
    get,
    path = "/orders",
    params(
        ("updated_since" = Option<String>, Query, description = "what changed then or later"),
        ("sort" = Option<String>, Query, description = "`updated` (by default, to follow along) or `newest` (first, for people)"),
        ("limit" = Option<u32>, Query),
        ("cursor" = Option<String>, Query)
    ),
    responses((status = 200, description = "`items` and `next_cursor`", body = ListBody<OrderBody>))
)]
pub(super) async fn list(
    State(app): State<App>,
    identity: Identity,
    Query(since): Query<Since>,
    Query(sorted): Query<Sorted>,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    let order = InOrder::from(sorted.sort);
    let orders = app.list_orders(&identity, order, &part(&since, &page)?).await?;
    let list = List::new(orders, page.limit(), |OrderView { order: listed, .. }| match order {
        InOrder::OfChange => (listed.updated_at.micros(), listed.id.uuid()),
        InOrder::NewestFirst => (listed.created_at.micros(), listed.id.uuid()),
    });
    let items: Vec<OrderBody> = list.items.into_iter().map(Into::into).collect();
    Ok(([(CACHE_CONTROL, PRIVATE)], Json(List { items, next_cursor: list.next_cursor })).into_response())
}

/// `POST /orders/{id}/refund`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefundBody {
    /// These of it; all where not given.
    #[serde(alias = "ticketIds")]
    #[schema(value_type = Option<Vec<String>>)]
    ticket_ids: Option<Vec<TicketId>>,
}

/// Gives tickets back to sale and their money to the buyer. The same `idempotency-key` gives the order as it stands by then.
#[utoipa::path(
    post,
    path = "/orders/{id}/refund",
    request_body = RefundBody,
    params(("id" = String, Path), ("idempotency-key" = String, Header)),
    responses((status = 200, body = OrderBody), (status = 404), (status = 409, description = "not taken back, or used"))
)]
pub(super) async fn refund(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<OrderId>,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<RefundBody>,
) -> Result<Json<OrderBody>, Problem> {
    let view = app.refund_order(&identity, key, id, body.ticket_ids).await?;
    Ok(Json(view.into()))
}

/// What Stripe tells: a hint at which the payment is asked for.
#[utoipa::path(
    post,
    path = "/payments/stripe/webhook",
    request_body = String,
    responses(
        (status = 204),
        (status = 400, description = "the signature does not hold"),
        (status = 503, description = "the payment cannot be asked for now; tell it again")
    )
)]
pub(super) async fn stripe_webhook(
    State(app): State<App>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let signature = headers.get("stripe-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
    app.hear(signature, &body).await?;
    Ok(StatusCode::NO_CONTENT)
}
