//! Holding seats and giving them back.

use axum::extract::State;
use http::HeaderMap;
use tessera_service::http::{IdempotencyKey, Json, Path};
use tessera_service::{Identity, Problem};

use super::wire::{HoldBody, ReleaseBody, ReleasedBody, ReserveBody};
use crate::app::App;
use crate::app::request::Request;
use crate::app::reserve::Wish;
use crate::domain::ids::HoldId;

/// Holds seats for some minutes, all or none.
///
/// 409 `tickets.seat_taken` names free seats nearby. The same `idempotency-key` gives the same hold.
#[utoipa::path(
    post,
    path = "/booking/reserve",
    request_body = ReserveBody,
    params(
        ("idempotency-key" = String, Header, description = "the same for a retry"),
        ("x-admission" = Option<String>, Header, description = "from the waiting room, where there is one"),
    ),
    responses((status = 200, body = HoldBody), (status = 403, description = "the waiting room comes first"), (status = 409, description = "taken, too few, over the limit"))
)]
pub(super) async fn reserve(
    State(app): State<App>,
    identity: Identity,
    IdempotencyKey(key): IdempotencyKey,
    headers: HeaderMap,
    Json(body): Json<ReserveBody>,
) -> Result<Json<HoldBody>, Problem> {
    identity.require(&["fan"])?;
    let request = Request { subject: identity.subject, key };
    let mut wish = Wish::try_from(body)?;
    if let Some(admission) = headers.get("x-admission") {
        wish.admission = admission.to_str().ok().map(str::to_owned);
    }
    let view = app.reserve(&request, &wish).await?;
    Ok(Json(HoldBody::new(view, app.clock.now())))
}

/// A hold of the caller that is not over.
#[utoipa::path(
    get,
    path = "/booking/hold/{id}",
    params(("id" = String, Path)),
    responses((status = 200, body = HoldBody), (status = 404), (status = 410, description = "it is over"))
)]
pub(super) async fn show(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<HoldId>,
) -> Result<Json<HoldBody>, Problem> {
    let view = app.show_hold(&identity.subject, id).await?;
    Ok(Json(HoldBody::new(view, app.clock.now())))
}

/// Gives seats back. A second time, under another key, frees none.
#[utoipa::path(
    post,
    path = "/booking/release",
    request_body = ReleaseBody,
    params(("idempotency-key" = String, Header, description = "the same for a retry")),
    responses((status = 200, body = ReleasedBody), (status = 404), (status = 409, description = "it is being paid"))
)]
pub(super) async fn release(
    State(app): State<App>,
    identity: Identity,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<ReleaseBody>,
) -> Result<Json<ReleasedBody>, Problem> {
    let request = Request { subject: identity.subject, key };
    let released = app.release_once(&request, body.hold_id).await?;
    Ok(Json(ReleasedBody { released }))
}
