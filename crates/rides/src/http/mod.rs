//! The API: routes and wire types. The only room that knows JSON and status codes.

mod drivers;
mod map;
mod positions;
mod push;
mod rides;
mod sockets;
mod streams;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, patch, post, put};
use serde_json::{Map, Value, json};
use tessera_kernel::ErrorKind;
use tessera_service::ProductError;
use tessera_service::openapi::{Token, say_tokens};
use utoipa::OpenApi;

use self::wire::EstimateBody;
use crate::Error;
use crate::app::App;
use crate::network::Network;

impl ProductError for Error {
    fn kind(&self) -> ErrorKind {
        self.kind()
    }

    fn code(&self) -> &'static str {
        self.code()
    }

    /// What an app needs to go on.
    fn members(&self) -> Map<String, Value> {
        let members = match self {
            Self::EstimateExpired { fresh: Some(fresh), .. } => json!({ "estimate": EstimateBody::from(&**fresh) }),
            Self::NotNow { ride, state, .. } | Self::OfferOver { ride, state } => {
                json!({ "ride_id": ride, "state": state })
            }
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
    info(title = "Tessera rides", description = "Fare estimates, live locations, one driver for one rider, trips."),
    paths(
        rides::estimate,
        rides::request,
        rides::respond,
        rides::status,
        rides::cancel,
        rides::show,
        rides::list,
        rides::areas,
        streams::ride,
        streams::driver,
        drivers::me,
        drivers::profile,
        drivers::shift,
        drivers::approve,
        drivers::list,
        map::map,
        map::live,
        positions::update,
        push::register,
        push::forget,
        push::key,
        push::attempts
    )
)]
struct Document;

/// The routes.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/fare-estimate", post(rides::estimate))
        .route("/ride/request", patch(rides::request))
        .route("/ride/driver/respond", patch(rides::respond))
        .route("/ride/status", patch(rides::status))
        .route("/ride/cancel", post(rides::cancel))
        .route("/rides", get(rides::list))
        .route("/rides/{id}", get(rides::show))
        .route("/rides/{id}/stream", get(streams::ride))
        .route("/rides/{id}/pushes", get(push::attempts))
        .route("/push/devices", put(push::register).delete(push::forget))
        .route("/push/key", get(push::key))
        .route("/areas", get(rides::areas))
        .route("/drivers", get(drivers::list))
        .route("/drivers/live", get(map::live))
        .route("/drivers/me", get(drivers::me))
        .route("/drivers/profile", put(drivers::profile))
        .route("/drivers/shift", post(drivers::shift))
        .route("/drivers/location/update", post(positions::update))
        .route("/drivers/{id}/approval", put(drivers::approve))
        .route("/drivers/{id}/stream", get(streams::driver))
        .with_state(app)
}

/// The route of the map; `network` is what it shows, if anything.
pub fn map_router(network: Option<Arc<Network>>) -> Router {
    Router::new().route("/map", get(map::map)).with_state(map::City::new(network))
}

/// The routes of the role that does nothing but take positions and show them.
pub fn locations_router(app: App) -> Router {
    Router::new()
        .route("/drivers/location/update", post(positions::update))
        .route("/drivers/live", get(map::live))
        .with_state(app)
}

/// The OpenAPI 3.1 document of these routes.
pub fn openapi() -> Value {
    // A document of plain structs always serialises.
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    say_tokens(&mut document, |_, path| match path {
        "/map" | "/push/key" => Token::Unread,
        _ => Token::Wanted,
    });
    document
}
