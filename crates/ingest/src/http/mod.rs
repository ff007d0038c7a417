//! The API: routes and wire types. The only room that knows JSON and status codes.

mod access;
mod pipelines;
mod runs;
mod wire;

use axum::Router;
use axum::middleware::from_extractor_with_state;
use axum::routing::{get, post};
use serde_json::Value;
use tessera_kernel::ErrorKind;
use tessera_service::ProductError;
use tessera_service::openapi::{Token, say_tokens};
use utoipa::OpenApi;

use self::access::{Described, Operator};
use crate::Error;
use crate::app::service::Service;

impl ProductError for Error {
    fn kind(&self) -> ErrorKind {
        self.kind()
    }

    fn code(&self) -> &'static str {
        self.code()
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Tessera ingest", description = "Pipelines, their runs, and what they brought into the lake."),
    paths(
        pipelines::list,
        pipelines::show,
        pipelines::quality,
        pipelines::quality_page,
        pipelines::files,
        pipelines::schema,
        runs::start,
        runs::list,
        runs::show,
        runs::cancel,
    ),
    modifiers(&Described)
)]
struct Document;

/// The routes below `/ingest`, for operators.
pub fn router(service: Service) -> Router {
    Router::new()
        .route("/ingest/pipelines", get(pipelines::list))
        .route("/ingest/pipelines/{name}", get(pipelines::show))
        .route("/ingest/pipelines/{name}/quality", get(pipelines::quality))
        .route("/ingest/pipelines/{name}/quality.html", get(pipelines::quality_page))
        .route("/ingest/pipelines/{name}/files", get(pipelines::files))
        .route("/ingest/pipelines/{name}/schema", get(pipelines::schema))
        .route("/ingest/pipelines/{name}/runs", post(runs::start))
        .route("/ingest/runs", get(runs::list))
        .route("/ingest/runs/{id}", get(runs::show))
        .route("/ingest/runs/{id}/cancel", post(runs::cancel))
        .route_layer(from_extractor_with_state::<Operator, Service>(service.clone()))
        .with_state(service)
}

/// The OpenAPI 3.1 document of these routes.
pub fn openapi() -> Value {
    // A document of plain structs always serialises.
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    say_tokens(&mut document, |_, _| Token::Wanted);
    document
}
