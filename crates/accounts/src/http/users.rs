//! Users: oneself, and all of them for admins.

use axum::extract::State;
use serde::Deserialize;
use tessera_service::http::{Json, List, Page, Path, Query, Since};
use tessera_service::{Identity, Problem};
use utoipa::ToSchema;

use super::wire::{UserBody, changed};
use crate::Error;
use crate::app::App;
use crate::domain::ids::UserId;

/// The caller's account.
#[utoipa::path(get, path = "/accounts/me", responses((status = 200, body = UserBody), (status = 404)))]
pub(super) async fn me(State(app): State<App>, identity: Identity) -> Result<Json<UserBody>, Problem> {
    Ok(Json(app.user_of(&identity).await?.into()))
}

/// All users, the one changed the longest ago first. For admins.
#[utoipa::path(
    get,
    path = "/accounts/users",
    params(
        ("updated_since" = Option<String>, Query),
        ("limit" = Option<u32>, Query),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, description = "items and next_cursor"), (status = 403))
)]
pub(super) async fn list(
    State(app): State<App>,
    identity: Identity,
    Query(since): Query<Since>,
    Query(page): Query<Page>,
) -> Result<Json<List<UserBody>>, Problem> {
    app.require_admin(&identity).await?;
    let users = app.store().users_since(changed(since, &page, UserId::uuid)?).await?;
    let list = List::new(users, page.limit(), |user| (user.updated_at, user.id));
    Ok(Json(list.map(UserBody::from)))
}

/// A user. For admins.
#[utoipa::path(
    get,
    path = "/accounts/users/{id}",
    params(("id" = String, Path)),
    responses((status = 200, body = UserBody), (status = 403), (status = 404))
)]
pub(super) async fn show(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<UserId>,
) -> Result<Json<UserBody>, Problem> {
    app.require_admin(&identity).await?;
    let user = app.store().user(id).await?;
    Ok(Json(user.ok_or_else(|| Error::NotFound { what: "user", id: id.to_string() })?.into()))
}

/// An admin's word. What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EditBody {
    /// All that they may be from now on.
    roles: Option<Vec<String>>,
    /// Whether they may not sign in; their sessions end.
    disabled: Option<bool>,
}

/// Changes roles, or whether somebody may sign in. It holds from their next access token on.
#[utoipa::path(
    patch,
    path = "/accounts/users/{id}",
    params(("id" = String, Path)),
    request_body = EditBody,
    responses((status = 200, body = UserBody), (status = 403), (status = 404), (status = 409, description = "the last admin"))
)]
pub(super) async fn edit(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<UserId>,
    Json(body): Json<EditBody>,
) -> Result<Json<UserBody>, Problem> {
    app.require_admin(&identity).await?;
    Ok(Json(app.edit_user(id, body.roles.as_deref(), body.disabled).await?.into()))
}
