//! Drivers: profile, approval, shift.

use axum::extract::State;
use serde::Deserialize;
use tessera_kernel::{Place, Timestamp};
use tessera_service::http::{Json, List, Page, Path, Query, Since};
use tessera_service::{Identity, Problem};
use utoipa::ToSchema;

use super::wire::DriverBody;
use crate::Error;
use crate::app::{App, Shift};
use crate::domain::ids::DriverId;
use crate::store::{Changed, Profile};

/// The caller as a driver.
#[utoipa::path(get, path = "/drivers/me", responses((status = 200, body = DriverBody)))]
pub(super) async fn me(State(app): State<App>, identity: Identity) -> Result<Json<DriverBody>, Problem> {
    identity.require(&["driver"])?;
    let driver = app.driver(&identity.subject).await?;
    let located = app.locations.get(driver.id).await.unwrap_or_default();
    Ok(Json(DriverBody::new(driver, located)))
}

/// What riders see of the caller. It waits for an operator's approval, and ends a shift.
#[utoipa::path(put, path = "/drivers/profile", request_body = Profile, responses((status = 200, body = DriverBody)))]
pub(super) async fn profile(
    State(app): State<App>,
    identity: Identity,
    Json(profile): Json<Profile>,
) -> Result<Json<DriverBody>, Problem> {
    identity.require(&["driver"])?;
    Ok(Json(DriverBody::new(app.set_profile(&identity.subject, profile).await?, None)))
}

/// An operator's word.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovalBody {
    approved: bool,
}

/// Lets a driver drive, or no longer.
#[utoipa::path(
    put,
    path = "/drivers/{id}/approval",
    params(("id" = String, Path)),
    request_body = ApprovalBody,
    responses((status = 200, body = DriverBody), (status = 404))
)]
pub(super) async fn approve(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<DriverId>,
    Json(body): Json<ApprovalBody>,
) -> Result<Json<DriverBody>, Problem> {
    identity.require(&["operator"])?;
    Ok(Json(DriverBody::new(app.approve(id, body.approved).await?, None)))
}

/// A shift begins at a place, or ends.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShiftBody {
    on_duty: bool,
    /// Where the driver is; needed to begin.
    #[schema(value_type = Object)]
    place: Option<Place>,
}

/// On duty, off duty.
#[utoipa::path(
    post,
    path = "/drivers/shift",
    request_body = ShiftBody,
    responses((status = 200, body = DriverBody), (status = 403, description = "not approved"))
)]
pub(super) async fn shift(
    State(app): State<App>,
    identity: Identity,
    Json(body): Json<ShiftBody>,
) -> Result<Json<DriverBody>, Problem> {
    identity.require(&["driver"])?;
    let shift = match (body.on_duty, body.place) {
        (true, Some(place)) => Shift::On(place),
        (true, None) => {
            let reason = "a shift begins somewhere: send `place` with `lat` and `lng`".to_owned();
            return Err(Error::BadRequest { reason }.into());
        }
        (false, _) => Shift::Off,
    };
    let driver = app.shift(&identity.subject, shift).await?;
    let located = app.locations.get(driver.id).await.unwrap_or_default();
    Ok(Json(DriverBody::new(driver, located)))
}

/// All drivers, the one changed the longest ago first.
#[utoipa::path(
    get,
    path = "/drivers",
    params(
        ("updated_since" = Option<String>, Query),
        ("limit" = Option<u32>, Query),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, description = "items and next_cursor"))
)]
pub(super) async fn list(
    State(app): State<App>,
    identity: Identity,
    Query(since): Query<Since>,
    Query(page): Query<Page>,
) -> Result<Json<List<DriverBody>>, Problem> {
    identity.require(&["operator"])?;
    let after: Option<(Timestamp, DriverId)> = page.after()?;
    let after = after.map(|(at, driver)| (at, driver.uuid()));
    let part = Changed { since: since.at(), after, limit: page.limit() as u32 + 1 };
    let rows = app.store.drivers_since(part).await?;
    let List { items, next_cursor } = List::new(rows, page.limit(), |row| (row.updated_at, row.id));
    let ids: Vec<DriverId> = items.iter().map(|row| row.id).collect();
    // Without the positions the rest is of use still.
    let located = app.locations.get_all(&ids).await.unwrap_or_else(|_| vec![None; ids.len()]);
    let items = items.into_iter().zip(located).filter_map(|(row, located)| Some(DriverBody::new(row.read?, located)));
    Ok(Json(List { items: items.collect(), next_cursor }))
}
