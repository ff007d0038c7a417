//! Lists of what is published, by the time of the last change: `updated_since` and a cursor let anyone follow along.

use axum::extract::State;
use serde::Serialize;
use tessera_kernel::{Currency, Money, Timestamp, Uuid};
use tessera_service::Problem;
use tessera_service::http::{Json, List, Page, Query, Since};
use utoipa::ToSchema;

use super::caller::MaybeIdentity;
use super::wire::ListBody;
use crate::app::App;
use crate::domain::catalogue::{Performer, Venue};
use crate::domain::event::Status;
use crate::domain::ids::{EventId, PerformerId, VenueId};
use crate::store::{Listed, ListedEvent, Viewer};

/// The part of a list that a query asks for; one item more tells whether there are more.
pub(super) fn part(since: &Since, page: &Page) -> Result<Listed, tessera_service::Error> {
    let after: Option<(i64, Uuid)> = page.after()?;
    Ok(Listed { updated_since: since.said(), after, limit: page.limit() as i64 + 1 })
}

/// An event in a list. Deleted ones are in lists with `updated_since` only.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListedEventBody {
    #[schema(value_type = String)]
    id: EventId,
    name: String,
    kind: String,
    status: Status,
    #[schema(value_type = String, format = DateTime)]
    starts_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    on_sale_at: Option<Timestamp>,
    venue: ListedVenueBody,
    performers: Vec<ListedPerformerBody>,
    #[schema(value_type = String)]
    currency: Currency,
    #[schema(value_type = Object)]
    price_from: Option<Money>,
    #[schema(value_type = Object)]
    price_to: Option<Money>,
    /// How many tickets it has, sold ones included.
    tickets: i64,
    version: i64,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListedVenueBody {
    #[schema(value_type = String)]
    id: VenueId,
    name: String,
    city: String,
    country: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListedPerformerBody {
    #[schema(value_type = String)]
    id: PerformerId,
    name: String,
}

impl From<ListedEvent> for ListedEventBody {
    fn from(event: ListedEvent) -> Self {
        let prices = || event.details.price_levels.iter().map(|level| level.price);
        let money = |amount| Money::new(amount, event.currency);
        Self {
            price_from: prices().min().map(money),
            price_to: prices().max().map(money),
            id: event.id,
            name: event.name,
            kind: event.kind,
            status: event.status,
            starts_at: event.starts_at,
            on_sale_at: event.details.on_sale_at,
            venue: ListedVenueBody {
                id: event.venue,
                name: event.venue_name,
                city: event.city,
                country: event.country,
            },
            performers: event.performers.into_iter().map(|(id, name)| ListedPerformerBody { id, name }).collect(),
            currency: event.currency,
            tickets: event.tickets,
            version: event.version,
            updated_at: event.updated_at,
            deleted_at: event.deleted_at,
        }
    }
}

/// A page of events.
pub(super) async fn list_events(
    app: &App,
    viewer: Viewer<'_>,
    since: &Since,
    page: &Page,
) -> Result<List<ListedEventBody>, Problem> {
    let events = app.store.list_events(viewer, part(since, page)?).await?;
    let events = events.into_iter().map(ListedEventBody::from).collect();
    Ok(List::new(events, page.limit(), |event| (event.updated_at.micros(), event.id.uuid())))
}

/// A page of venues.
pub(super) async fn list_venues(
    app: &App,
    owner: Option<&str>,
    since: &Since,
    page: &Page,
) -> Result<List<Venue>, Problem> {
    let venues = app.store.list_venues(owner, part(since, page)?).await?;
    Ok(List::new(venues, page.limit(), |venue| (venue.updated_at.micros(), venue.id.uuid())))
}

/// A page of performers.
pub(super) async fn list_performers(
    app: &App,
    owner: Option<&str>,
    since: &Since,
    page: &Page,
) -> Result<List<Performer>, Problem> {
    let performers = app.store.list_performers(owner, part(since, page)?).await?;
    Ok(List::new(performers, page.limit(), |performer| (performer.updated_at.micros(), performer.id.uuid())))
}

/// Events that are published or were cancelled; an organiser's own drafts too. The one changed the longest ago first.
#[utoipa::path(
    get,
    path = "/events",
    params(
        ("updated_since" = Option<String>, Query, description = "what changed then or later, deleted things too"),
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)
    ),
    responses((status = 200, body = ListBody<ListedEventBody>))
)]
pub(super) async fn events(
    State(app): State<App>,
    MaybeIdentity(someone): MaybeIdentity,
    Query(since): Query<Since>,
    Query(page): Query<Page>,
) -> Result<Json<List<ListedEventBody>>, Problem> {
    let viewer = match &someone {
        Some(identity) if identity.is("admin") => Viewer::Admin,
        Some(identity) if identity.is("organiser") => Viewer::Organiser(&identity.subject),
        _ => Viewer::Public,
    };
    Ok(Json(list_events(&app, viewer, &since, &page).await?))
}

/// Venues, the one changed the longest ago first.
#[utoipa::path(
    get,
    path = "/venues",
    params(
        ("updated_since" = Option<String>, Query, description = "what changed then or later, deleted things too"),
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)
    ),
    responses((status = 200, body = ListBody<Venue>))
)]
pub(super) async fn venues(
    State(app): State<App>,
    Query(since): Query<Since>,
    Query(page): Query<Page>,
) -> Result<Json<List<Venue>>, Problem> {
    Ok(Json(list_venues(&app, None, &since, &page).await?))
}

/// Performers, the one changed the longest ago first.
#[utoipa::path(
    get,
    path = "/performers",
    params(
        ("updated_since" = Option<String>, Query, description = "what changed then or later, deleted things too"),
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)
    ),
    responses((status = 200, body = ListBody<Performer>))
)]
pub(super) async fn performers(
    State(app): State<App>,
    Query(since): Query<Since>,
    Query(page): Query<Page>,
) -> Result<Json<List<Performer>>, Problem> {
    Ok(Json(list_performers(&app, None, &since, &page).await?))
}
