//! The API: routes and wire types. The only room that knows JSON and status codes.

mod booking;
mod caller;
pub mod card_form;
mod door;
mod event;
mod lists;
mod orders;
mod organiser;
mod queue;
mod report;
pub mod search;
mod seats;
pub mod test_payment;
mod tickets;
mod wire;

use axum::Router;
use axum::routing::{get, post};
use serde_json::{Map, Value, json};
use tessera_kernel::ErrorKind;
use tessera_service::ProductError;
use tessera_service::http::Quick;
use tessera_service::openapi::{Token, say_tokens};
use utoipa::OpenApi;

use crate::Error;
use crate::app::App;

impl ProductError for Error {
    fn kind(&self) -> ErrorKind {
        self.kind()
    }

    fn code(&self) -> &'static str {
        self.code()
    }

    /// What a page needs to offer the next step.
    fn members(&self) -> Map<String, Value> {
        let members = match self {
            Self::SeatsTaken { taken, nearby, until } => json!({ "taken": taken, "nearby": nearby, "until": until }),
            Self::TooFewFree { free, .. } => json!({ "free": free }),
            Self::LeavesOrphan { seat } => json!({ "seat": seat }),
            Self::CustomerLimit { limit, has } => json!({ "limit": limit, "has": has }),
            Self::NotAdmitted { event, .. } => json!({ "queue": format!("/event/{event}/queue") }),
            Self::PaymentDeclined { order, until, .. } => json!({ "order": order, "until": until }),
            Self::PaymentUnknown { order } | Self::SeatsGone { order } => json!({ "order": order }),
            _ => Value::Null,
        };
        match members {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Tessera tickets", description = "Events, search, seats, two-phase booking, waiting room."),
    paths(
        booking::reserve,
        booking::show,
        booking::release,
        orders::confirm,
        orders::show,
        orders::list,
        orders::refund,
        orders::stripe_webhook,
        card_form::provider,
        test_payment::ledger,
        queue::join,
        queue::place,
        queue::leave,
        queue::serving,
        queue::stream,
        queue::watch,
        queue::control,
        search::search,
        seats::snapshot,
        seats::stream,
        seats::plan,
        event::show,
        lists::events,
        lists::venues,
        lists::performers,
        organiser::new_venue,
        organiser::venues,
        organiser::venue,
        organiser::change_venue,
        organiser::delete_venue,
        organiser::new_performer,
        organiser::performers,
        organiser::performer,
        organiser::change_performer,
        organiser::delete_performer,
        organiser::new_plan,
        organiser::plans,
        organiser::plan,
        organiser::delete_plan,
        organiser::new_event,
        organiser::events,
        organiser::event,
        organiser::change_event,
        organiser::delete_event,
        organiser::publish,
        organiser::cancel,
        organiser::capacity,
        organiser::block,
        organiser::new_promo,
        organiser::promos,
        organiser::change_promo,
        organiser::delete_promo,
        report::report,
        report::export,
        tickets::list,
        tickets::show,
        tickets::picture,
        tickets::print,
        tickets::transfer,
        tickets::keys,
        door::check_in,
        door::check_in_batch,
        door::door_list
    )
)]
struct Document;

/// The routes.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/booking/reserve", post(booking::reserve))
        .route("/booking/release", post(booking::release))
        .route("/booking/hold/{id}", get(booking::show))
        .route("/booking/confirm", post(orders::confirm))
        .route("/orders", get(orders::list))
        .route("/orders/{id}", get(orders::show))
        .route("/orders/{id}/refund", post(orders::refund))
        .route("/payments/stripe/webhook", post(orders::stripe_webhook))
        .merge(organiser::routes())
        .route("/events", get(lists::events))
        .route("/venues", get(lists::venues))
        .route("/performers", get(lists::performers))
        .route("/event/{id}", get(event::show))
        .route("/event/{id}/queue", post(queue::join))
        .route("/event/{id}/queue/serving", get(queue::serving))
        .route("/event/{id}/queue/control", get(queue::watch).post(queue::control))
        .route("/queue/{pass}", get(queue::place))
        .route("/queue/{pass}/stream", get(queue::stream))
        .route("/queue/{pass}/leave", post(queue::leave))
        .route("/event/{id}/plan", get(seats::plan))
        .route("/event/{id}/seats", get(seats::snapshot))
        .route("/event/{id}/seats/stream", get(seats::stream))
        .route("/event/{id}/door-list", get(door::door_list))
        .route("/tickets", get(tickets::list))
        .route("/tickets/keys", get(tickets::keys))
        .route("/tickets/check-in", post(door::check_in))
        .route("/tickets/check-in/batch", post(door::check_in_batch))
        .route("/tickets/{id}", get(tickets::show))
        .route("/tickets/{id}/qr.svg", get(tickets::picture))
        .route("/tickets/{id}/ticket.pdf", get(tickets::print))
        .route("/tickets/{id}/transfer", post(tickets::transfer))
        .with_state(app)
}

/// What is answered before the routes are asked.
pub fn quick(app: App) -> Quick {
    event::quick(app)
}

/// The OpenAPI 3.1 document of these routes.
pub fn openapi() -> Value {
    // A document of plain structs always serialises.
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    ask_for_keys(&mut document);
    say_tokens(&mut document, token);
    // An event is sent with its fields beside these, so these alone do not say what there may be.
    if let Some(details) = document.pointer_mut("/components/schemas/Details").and_then(Value::as_object_mut) {
        details.shift_remove("additionalProperties");
    }
    document
}

/// Who must say who he is: a place in a waiting room is its pass, and what is published is there for all.
fn token(method: &str, path: &str) -> Token {
    match (method, path) {
        ("post", "/event/{id}/queue") | ("get", "/queue/{token}" | "/queue/{token}/stream") => Token::Optional,
        ("get", "/events") => Token::Optional,
        ("get", "/venues" | "/performers" | "/search" | "/tickets/keys" | "/payments/provider") => Token::Unread,
        ("get", "/event/{id}" | "/event/{id}/plan" | "/event/{id}/seats" | "/event/{id}/seats/stream") => Token::Unread,
        ("get", "/event/{id}/queue/serving") => Token::Unread,
        ("post", "/queue/{token}/leave" | "/payments/stripe/webhook") => Token::Unread,
        _ => Token::Wanted,
    }
}

/// What [`organiser::Editing`] takes from the head of each of an organiser's writes.
fn ask_for_keys(document: &mut Value) {
    let header = |name: &str, description: &str, required: bool| {
        let schema = json!({ "type": "string" });
        json!({ "name": name, "in": "header", "description": description, "required": required, "schema": schema })
    };
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (_, calls) in paths.filter(|(path, _)| path.starts_with("/organiser/")) {
        for (_, call) in calls.as_object_mut().into_iter().flatten().filter(|(method, _)| *method != "get") {
            if call["parameters"].is_null() {
                call["parameters"] = json!([]);
            }
            if let Some(parameters) = call["parameters"].as_array_mut() {
                parameters.push(header("idempotency-key", "the same for a retry", true));
                parameters.push(header("if-match", "refused where it has another version by now", false));
            }
        }
    }
}
