//! Programs, for admins.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use serde::{Deserialize, Serialize};
use tessera_service::http::{Json, List, Page, Path, Query, Since};
use tessera_service::{Identity, Problem};
use utoipa::ToSchema;

use super::wire::{ClientBody, changed};
use crate::app::{App, MadeClient, NewClientWish};
use crate::domain::ids::ClientId;

/// A program to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewClientBody {
    /// What it is called; nobody else is.
    name: String,
    /// What its own tokens may be.
    #[serde(default)]
    roles: Vec<String>,
    /// Where it may send people back to.
    #[serde(default)]
    redirect_uris: Vec<String>,
    /// Whether it can keep no secret: a page, an app.
    #[serde(default)]
    public: bool,
}

/// A program with its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeClientBody {
    #[serde(flatten)]
    client: ClientBody,
    /// Shown once; what is kept is a hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// Makes a program. Its secret is in this answer only.
#[utoipa::path(
    post,
    path = "/accounts/clients",
    request_body = NewClientBody,
    responses((status = 201, body = MadeClientBody), (status = 403), (status = 409, description = "the name is taken"))
)]
pub(super) async fn make(
    State(app): State<App>,
    identity: Identity,
    Json(body): Json<NewClientBody>,
) -> Result<Response, Problem> {
    app.require_admin(&identity).await?;
    let NewClientBody { name, roles, redirect_uris, public: is_public } = body;
    let MadeClient { client, secret } =
        app.make_client(NewClientWish { name, roles, redirect_uris, is_public }).await?;
    let body = Json(MadeClientBody { client: client.into(), secret });
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], body).into_response())
}

/// All programs, the one changed the longest ago first.
#[utoipa::path(
    get,
    path = "/accounts/clients",
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
) -> Result<Json<List<ClientBody>>, Problem> {
    app.require_admin(&identity).await?;
    let clients = app.store().clients_since(changed(since, &page, ClientId::uuid)?).await?;
    let list = List::new(clients, page.limit(), |client| (client.updated_at, client.id));
    Ok(Json(list.map(ClientBody::from)))
}

/// Takes a program's secret back. Its last token lasts to its end.
#[utoipa::path(
    delete,
    path = "/accounts/clients/{id}",
    params(("id" = String, Path)),
    responses((status = 200, body = ClientBody), (status = 403), (status = 404))
)]
pub(super) async fn revoke(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<ClientId>,
) -> Result<Json<ClientBody>, Problem> {
    app.require_admin(&identity).await?;
    Ok(Json(app.revoke_client(id).await?.into()))
}
