//! `/ingest/runs`: starting, watching and cancelling.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use tessera_kernel::Timestamp;
use tessera_service::Problem;
use tessera_service::http::{IdempotencyKey, Json, List, Page, Path, Query};
use utoipa::IntoParams;

use super::pipelines::Paging;
use super::wire::{self, Listed, Run, StartRun};
use crate::app::service::{Request, Service};
use crate::store::{Filter, Place, Status, Trigger};

/// Which runs are listed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Of this pipeline.
    #[param(required = false)]
    pipeline: Option<String>,
    /// With this status.
    #[param(required = false, inline)]
    status: Option<Status>,
    /// Changed at or after this time; then in the order of change, oldest first.
    #[param(required = false, value_type = Option<String>, format = DateTime)]
    updated_since: Option<Timestamp>,
}

/// Starts a run, or queues it. The same key and body give the same run again.
#[utoipa::path(
    post, path = "/ingest/pipelines/{name}/runs", operation_id = "startRun", tag = "runs",
    params(
        ("name" = String, Path, description = "the pipeline"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters; the same for a retry"),
    ),
    request_body = StartRun,
    responses(
        (status = 202, body = Run),
        (status = 400, body = wire::Problem, content_type = "application/problem+json"),
        (status = 404, body = wire::Problem, content_type = "application/problem+json"),
        (status = 409, body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn start(
    State(service): State<Service>,
    Path(name): Path<String>,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<StartRun>,
) -> Result<(StatusCode, Json<Run>), Problem> {
    let StartRun { run_type, from, to, resources } = body;
    let request = Request { kind: run_type, from, to, resources };
    // Keys of requests and of ticks do not meet.
    let key = Some(format!("api {key}"));
    let run = service.start(&name, Trigger::Api, request, key).await?;
    Ok((StatusCode::ACCEPTED, Json(service.watched(run).into())))
}

/// Runs, newest first, or with `updated_since` in the order of change.
#[utoipa::path(
    get, path = "/ingest/runs", operation_id = "listRuns", tag = "runs", params(Which, Paging),
    responses((status = 200, body = Listed<Run>), (status = 400, body = wire::Problem, content_type = "application/problem+json"))
)]
pub(super) async fn list(
    State(service): State<Service>,
    Query(page): Query<Page>,
    Query(which): Query<Which>,
) -> Result<Json<Listed<Run>>, Problem> {
    let Which { pipeline, status, updated_since } = which;
    let filter = Filter { pipeline, status, updated_since };
    let after: Option<Place> = page.after()?;
    let stored = service.store().list(&filter, after, page.limit() + 1).await?;
    // The place of a run is that of the store: a run under way is newer in memory.
    let by_change = updated_since.is_some();
    let place = |run: &crate::store::Run| -> Place {
        let at = if by_change { run.updated_at } else { run.created_at };
        (at.micros(), run.id.clone())
    };
    let places: Vec<Place> = stored.iter().map(place).collect();
    let items: Vec<(Place, Run)> =
        places.into_iter().zip(stored.into_iter().map(|run| service.watched(run).into())).collect();
    let List { items, next_cursor } = List::new(items, page.limit(), |(place, _)| place.clone());
    let items = items.into_iter().map(|(_, run)| run).collect();
    Ok(Json(List { items, next_cursor }.into()))
}

/// One run.
#[utoipa::path(
    get, path = "/ingest/runs/{id}", operation_id = "getRun", tag = "runs",
    params(("id" = String, Path, description = "`run_…`")),
    responses((status = 200, body = Run), (status = 404, body = wire::Problem, content_type = "application/problem+json"))
)]
pub(super) async fn show(State(service): State<Service>, Path(id): Path<String>) -> Result<Json<Run>, Problem> {
    let run = service.store().run(&id).await?;
    Ok(Json(service.watched(run).into()))
}

/// Stops a run: it saves its progress and ends; the next run goes on from there.
#[utoipa::path(
    post, path = "/ingest/runs/{id}/cancel", operation_id = "cancelRun", tag = "runs",
    params(
        ("id" = String, Path, description = "`run_…`"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters; the same for a retry"),
    ),
    responses(
        (status = 202, body = Run),
        (status = 404, body = wire::Problem, content_type = "application/problem+json"),
        (status = 409, body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(service): State<Service>,
    Path(id): Path<String>,
    _key: IdempotencyKey,
) -> Result<(StatusCode, Json<Run>), Problem> {
    let run = service.cancel(&id).await?;
    Ok((StatusCode::ACCEPTED, Json(service.watched(run).into())))
}
