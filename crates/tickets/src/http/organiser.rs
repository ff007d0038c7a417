//! What organisers change: venues, performers, seat plans, events and promotion codes.
//!
//! Every change has an `idempotency-key`. With `if-match: "<version>"` it is refused (`tickets.changed`) where the thing
//! has another version by now.

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::response::Response;
use axum::routing::{get, post, put};
use http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tessera_service::http::{IdempotencyKey, Json, List, Page, Path, Query, Since};
use tessera_service::{Identity, Problem};
use utoipa::ToSchema;

use super::lists::{self, ListedEventBody, part};
use super::report;
use super::wire::ListBody;
use crate::Error;
use crate::app::App;
use crate::app::catalogue::{Change, Editor, Rights};
use crate::app::request::Request;
use crate::domain::catalogue::{EventInput, Performer, PerformerInput, PlanInfo, Venue, VenueInput};
use crate::domain::event::Event;
use crate::domain::generate::Generate;
use crate::domain::ids::{EventId, PerformerId, PlanId, PromoId, TicketId, VenueId};
use crate::domain::plan::SeatPlan;
use crate::domain::promo::{Promo, PromoInput};
use crate::store::{Answered, Viewer};

/// The largest seat plan file taken: a stadium of 120,000 seats with long labels.
const MAX_PLAN_BYTES: usize = 32 << 20;
/// A request for a generated plan is shorter than this.
const MAX_GENERATE_BYTES: usize = 2_048;

/// Who changes things; taken from a request.
pub(super) struct Editing(Editor);

impl FromRequestParts<App> for Editing {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Organiser { identity, rights } = Organiser::from_request_parts(parts, app).await?;
        let IdempotencyKey(key) = IdempotencyKey::from_request_parts(parts, app).await?;
        let if_match = match parts.headers.get(IF_MATCH).map(HeaderValue::as_bytes) {
            None | Some(b"*") => None,
            Some(given) => {
                let version = std::str::from_utf8(given).ok().and_then(|text| text.trim_matches('"').parse().ok());
                let reason = "`if-match` is not a version; send the thing's `version` in quotes".into();
                Some(version.ok_or(Error::BadRequest { reason })?)
            }
        };
        Ok(Self(Editor { request: Request { subject: identity.subject, key }, rights, if_match }))
    }
}

/// Who may see and change an organiser's things.
pub(super) struct Organiser {
    pub(super) identity: Identity,
    pub(super) rights: Rights,
}

impl FromRequestParts<App> for Organiser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let identity = Identity::from_request_parts(parts, app).await?;
        identity.require(&["organiser"])?;
        let rights = if identity.is("admin") { Rights::All } else { Rights::Own };
        Ok(Self { identity, rights })
    }
}

impl Organiser {
    /// Whose things are listed; everybody's for an administrator.
    fn owner(&self) -> Option<&str> {
        (self.rights == Rights::Own).then_some(&*self.identity.subject)
    }

    /// An event of this organiser.
    pub(super) async fn event(&self, app: &App, id: EventId) -> Result<Event, Error> {
        app.organisers_event(&self.identity.subject, self.rights, id).await
    }
}

/// The routes.
pub(super) fn routes() -> Router<App> {
    let plans = post(new_plan).layer(DefaultBodyLimit::max(MAX_PLAN_BYTES)).get(plans);
    Router::new()
        .route("/organiser/venues", post(new_venue).get(venues))
        .route("/organiser/venues/{id}", get(venue).put(change_venue).delete(delete_venue))
        .route("/organiser/performers", post(new_performer).get(performers))
        .route("/organiser/performers/{id}", get(performer).put(change_performer).delete(delete_performer))
        .route("/organiser/plans", plans)
        .route("/organiser/plans/{id}", get(plan).delete(delete_plan))
        .route("/organiser/events", post(new_event).get(events))
        .route("/organiser/events/{id}", get(event).put(change_event).delete(delete_event))
        .route("/organiser/events/{id}/publish", post(publish))
        .route("/organiser/events/{id}/cancel", post(cancel))
        .route("/organiser/events/{id}/capacity", post(capacity))
        .route("/organiser/events/{id}/block", post(block))
        .route("/organiser/events/{id}/promo-codes", post(new_promo).get(promos))
        .route("/organiser/promo-codes/{id}", put(change_promo).delete(delete_promo))
        .route("/organiser/events/{id}/report", get(report::report))
        .route("/organiser/events/{id}/export.csv", get(report::export))
}

async fn change(app: &App, by: &Editor, change: Change) -> Result<Response, Problem> {
    let Answered { status, body } = app.edit(by, change).await?;
    let version = serde_json::from_str::<Versioned>(&body).ok().and_then(|body| body.version);
    Ok(answer(status, body, version))
}

#[derive(Deserialize)]
struct Versioned {
    version: Option<i64>,
}

fn answer(status: u16, body: String, version: Option<i64>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let head = response.headers_mut();
    head.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(etag) = version.and_then(|version| HeaderValue::from_str(&format!("\"{version}\"")).ok()) {
        head.insert(ETAG, etag);
    }
    response
}

fn shown(thing: &impl Serialize, version: i64) -> Response {
    // Plain structs always serialise.
    answer(200, serde_json::to_string(thing).unwrap_or_default(), Some(version))
}

/// A new venue.
#[utoipa::path(post, path = "/organiser/venues", request_body = VenueInput, responses((status = 201, body = Venue)))]
pub(super) async fn new_venue(
    State(app): State<App>,
    Editing(by): Editing,
    Json(input): Json<VenueInput>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::NewVenue(input)).await
}

/// The organiser's venues.
#[utoipa::path(
    get,
    path = "/organiser/venues",
    params(
        ("updated_since" = Option<String>, Query, description = "what changed then or later, deleted things too"),
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)
    ),
    responses((status = 200, body = ListBody<Venue>))
)]
pub(super) async fn venues(
    State(app): State<App>,
    organiser: Organiser,
    Query(since): Query<Since>,
    Query(page): Query<Page>,
) -> Result<Json<List<Venue>>, Problem> {
    Ok(Json(lists::list_venues(&app, organiser.owner(), &since, &page).await?))
}

/// A venue.
#[utoipa::path(get, path = "/organiser/venues/{id}", params(("id" = String, Path)), responses((status = 200, body = Venue)))]
pub(super) async fn venue(State(app): State<App>, _: Organiser, Path(id): Path<VenueId>) -> Result<Response, Problem> {
    let venue = app.store.venue(id).await?;
    Ok(shown(&venue, venue.version))
}

/// Another description of a venue.
#[utoipa::path(
    put, path = "/organiser/venues/{id}", request_body = VenueInput, params(("id" = String, Path)),
    responses((status = 200, body = Venue), (status = 409, description = "it was changed meanwhile"))
)]
pub(super) async fn change_venue(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<VenueId>,
    Json(input): Json<VenueInput>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::Venue(id, input)).await
}

/// A venue that is not shown any more.
#[utoipa::path(
    delete, path = "/organiser/venues/{id}", params(("id" = String, Path)),
    responses((status = 200), (status = 409, description = "events are planned there"))
)]
pub(super) async fn delete_venue(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<VenueId>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::DeleteVenue(id)).await
}

/// A new performer.
#[utoipa::path(
    post, path = "/organiser/performers", request_body = PerformerInput, responses((status = 201, body = Performer))
)]
pub(super) async fn new_performer(
    State(app): State<App>,
    Editing(by): Editing,
    Json(input): Json<PerformerInput>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::NewPerformer(input)).await
}

/// The organiser's performers.
#[utoipa::path(
    get,
    path = "/organiser/performers",
    params(
        ("updated_since" = Option<String>, Query, description = "what changed then or later, deleted things too"),
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)
    ),
    responses((status = 200, body = ListBody<Performer>))
)]
pub(super) async fn performers(
    State(app): State<App>,
    organiser: Organiser,
    Query(since): Query<Since>,
    Query(page): Query<Page>,
) -> Result<Json<List<Performer>>, Problem> {
    Ok(Json(lists::list_performers(&app, organiser.owner(), &since, &page).await?))
}

/// A performer.
#[utoipa::path(
    get, path = "/organiser/performers/{id}", params(("id" = String, Path)), responses((status = 200, body = Performer))
)]
pub(super) async fn performer(
    State(app): State<App>,
    _: Organiser,
    Path(id): Path<PerformerId>,
) -> Result<Response, Problem> {
    let performer = app.store.performer(id).await?;
    Ok(shown(&performer, performer.version))
}

/// Another description of a performer.
#[utoipa::path(
    put, path = "/organiser/performers/{id}", request_body = PerformerInput, params(("id" = String, Path)),
    responses((status = 200, body = Performer), (status = 409, description = "it was changed meanwhile"))
)]
pub(super) async fn change_performer(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<PerformerId>,
    Json(input): Json<PerformerInput>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::Performer(id, input)).await
}

/// A performer that is not shown any more.
#[utoipa::path(
    delete, path = "/organiser/performers/{id}", params(("id" = String, Path)), responses((status = 200))
)]
pub(super) async fn delete_performer(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<PerformerId>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::DeletePerformer(id)).await
}

#[derive(Deserialize)]
struct MaybeGenerate {
    generate: Option<Generate>,
}

/// A seat plan: a file in the form of pretix's seating plans, or `{"generate": {"kind": …, "seats": …}}`.
#[utoipa::path(
    post, path = "/organiser/plans", request_body = SeatPlan,
    responses((status = 201, body = PlanInfo), (status = 400, description = "names the line, or the row and seat"))
)]
pub(super) async fn new_plan(State(app): State<App>, Editing(by): Editing, body: String) -> Result<Response, Problem> {
    if body.len() <= MAX_GENERATE_BYTES && body.contains("\"generate\"") {
        let refused = |error: serde_json::Error| Error::BadPlan {
            place: format!("line {}, column {}", error.line(), error.column()),
            reason: error.to_string(),
        };
        let asked: MaybeGenerate = serde_json::from_str(&body).map_err(refused)?;
        if let Some(generate) = asked.generate {
            return change(&app, &by, Change::GeneratePlan(generate)).await;
        }
    }
    change(&app, &by, Change::NewPlan(body)).await
}

/// The organiser's seat plans.
#[utoipa::path(
    get,
    path = "/organiser/plans",
    params(
        ("updated_since" = Option<String>, Query, description = "what changed then or later, deleted things too"),
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)
    ),
    responses((status = 200, body = ListBody<PlanInfo>))
)]
pub(super) async fn plans(
    State(app): State<App>,
    organiser: Organiser,
    Query(since): Query<Since>,
    Query(page): Query<Page>,
) -> Result<Json<List<PlanInfo>>, Problem> {
    let plans = app.store.list_plans(&organiser.identity.subject, part(&since, &page)?).await?;
    Ok(Json(List::new(plans, page.limit(), |plan| (plan.updated_at.micros(), plan.id.uuid()))))
}

/// A seat plan with all its seats, in the form in which it can be sent.
#[utoipa::path(get, path = "/organiser/plans/{id}", params(("id" = String, Path)), responses((status = 200, body = SeatPlan)))]
pub(super) async fn plan(
    State(app): State<App>,
    organiser: Organiser,
    Path(id): Path<PlanId>,
) -> Result<Response, Problem> {
    let info = app.store.plan_info(id).await?;
    if organiser.owner().is_some_and(|owner| owner != info.organiser) {
        return Err(Error::Forbidden { what: format!("seat plan `{id}`") }.into());
    }
    let plan = app.store.plan(id).await?;
    Ok(shown(&*plan, 1))
}

/// A seat plan that is not offered any more; events that have it keep it.
#[utoipa::path(delete, path = "/organiser/plans/{id}", params(("id" = String, Path)), responses((status = 200)))]
pub(super) async fn delete_plan(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<PlanId>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::DeletePlan(id)).await
}

/// A new event, as a draft that only its organiser sees.
#[utoipa::path(
    post, path = "/organiser/events", request_body = EventInput,
    responses((status = 201, body = Event), (status = 400), (status = 404, description = "venue, plan or performer"))
)]
pub(super) async fn new_event(
    State(app): State<App>,
    Editing(by): Editing,
    Json(input): Json<EventInput>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::NewEvent(Box::new(input))).await
}

/// The organiser's events, drafts too.
#[utoipa::path(
    get,
    path = "/organiser/events",
    params(
        ("updated_since" = Option<String>, Query, description = "what changed then or later, deleted things too"),
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)
    ),
    responses((status = 200, body = ListBody<ListedEventBody>))
)]
pub(super) async fn events(
    State(app): State<App>,
    organiser: Organiser,
    Query(since): Query<Since>,
    Query(page): Query<Page>,
) -> Result<Json<List<ListedEventBody>>, Problem> {
    let viewer = organiser.owner().map_or(Viewer::Admin, Viewer::Owner);
    Ok(Json(lists::list_events(&app, viewer, &since, &page).await?))
}

/// An event with all that its organiser set.
#[utoipa::path(get, path = "/organiser/events/{id}", params(("id" = String, Path)), responses((status = 200, body = Event)))]
pub(super) async fn event(
    State(app): State<App>,
    organiser: Organiser,
    Path(id): Path<EventId>,
) -> Result<Response, Problem> {
    let event = organiser.event(&app, id).await?;
    Ok(shown(&event, event.version))
}

/// Another description of an event. Once published, its seats and places keep their numbers: the plan and the currency
/// stay, and so do areas, whose capacity may change.
#[utoipa::path(
    put, path = "/organiser/events/{id}", request_body = EventInput, params(("id" = String, Path)),
    responses((status = 200, body = Event), (status = 409, description = "changed meanwhile, or it cannot change"))
)]
pub(super) async fn change_event(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<EventId>,
    Json(input): Json<EventInput>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::Event(id, Box::new(input))).await
}

/// A draft that is given up.
#[utoipa::path(
    delete, path = "/organiser/events/{id}", params(("id" = String, Path)),
    responses((status = 200), (status = 409, description = "it is no draft; cancel it"))
)]
pub(super) async fn delete_event(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<EventId>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::DeleteEvent(id)).await
}

/// Shows an event to everyone and sells it.
#[utoipa::path(
    post, path = "/organiser/events/{id}/publish", params(("id" = String, Path)),
    responses((status = 200, body = Event), (status = 409, description = "it is no draft"))
)]
pub(super) async fn publish(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<EventId>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::Publish(id)).await
}

/// Calls an event off: nothing is sold any more, and what was sold is refunded.
#[utoipa::path(
    post, path = "/organiser/events/{id}/cancel", params(("id" = String, Path)),
    responses((status = 200, body = Event), (status = 409))
)]
pub(super) async fn cancel(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<EventId>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::Cancel(id)).await
}

/// Capacities of areas.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CapacityBody {
    areas: Vec<AreaCapacity>,
}

/// How many an area holds.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AreaCapacity {
    /// The area's key.
    area: String,
    capacity: u32,
}

/// Other capacities of general-admission areas, up, or down to what is held and sold.
#[utoipa::path(
    post, path = "/organiser/events/{id}/capacity", request_body = CapacityBody, params(("id" = String, Path)),
    responses((status = 200, body = Event), (status = 409, description = "more are taken"))
)]
pub(super) async fn capacity(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<EventId>,
    Json(body): Json<CapacityBody>,
) -> Result<Response, Problem> {
    let capacities = body.areas.into_iter().map(|area| (area.area, area.capacity)).collect();
    change(&app, &by, Change::Capacities(id, capacities)).await
}

/// Seats to be blocked, and such to be sold again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockBody {
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    block: Vec<TicketId>,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    unblock: Vec<TicketId>,
}

/// Takes seats off sale, or puts them on again. What is sold stays sold.
#[utoipa::path(
    post, path = "/organiser/events/{id}/block", request_body = BlockBody, params(("id" = String, Path)),
    responses((status = 200, body = Event), (status = 400))
)]
pub(super) async fn block(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<EventId>,
    Json(body): Json<BlockBody>,
) -> Result<Response, Problem> {
    let number = |ticket: TicketId| match ticket.seat().filter(|_| ticket.event() == id) {
        Some(seat) => Ok(seat.0),
        None => Err(Error::NotFound { what: "ticket", id: ticket.to_string() }),
    };
    let numbers = |tickets: Vec<TicketId>| tickets.into_iter().map(number).collect::<Result<Vec<u32>, Error>>();
    change(&app, &by, Change::Block(id, numbers(body.block)?, numbers(body.unblock)?)).await
}

/// A new promotion code.
#[utoipa::path(
    post, path = "/organiser/events/{id}/promo-codes", request_body = PromoInput, params(("id" = String, Path)),
    responses((status = 201, body = Promo), (status = 409, description = "there is such a code"))
)]
pub(super) async fn new_promo(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<EventId>,
    Json(input): Json<PromoInput>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::NewPromo(id, input)).await
}

/// An event's promotion codes and how often they were used.
#[utoipa::path(
    get,
    path = "/organiser/events/{id}/promo-codes",
    params(
        ("id" = String, Path),
        ("updated_since" = Option<String>, Query, description = "what changed then or later, deleted things too"),
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)
    ),
    responses((status = 200, body = ListBody<Promo>))
)]
pub(super) async fn promos(
    State(app): State<App>,
    organiser: Organiser,
    Path(id): Path<EventId>,
    Query(since): Query<Since>,
    Query(page): Query<Page>,
) -> Result<Json<List<Promo>>, Problem> {
    organiser.event(&app, id).await?;
    let promos = app.store.list_promos(id, part(&since, &page)?).await?;
    Ok(Json(List::new(promos, page.limit(), |promo| (promo.updated_at.micros(), promo.id.uuid()))))
}

/// Other terms of a promotion code; its text stays.
#[utoipa::path(
    put, path = "/organiser/promo-codes/{id}", request_body = PromoInput, params(("id" = String, Path)),
    responses((status = 200, body = Promo), (status = 409))
)]
pub(super) async fn change_promo(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<PromoId>,
    Json(input): Json<PromoInput>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::Promo(id, input)).await
}

/// A promotion code that does not count any more.
#[utoipa::path(delete, path = "/organiser/promo-codes/{id}", params(("id" = String, Path)), responses((status = 200)))]
pub(super) async fn delete_promo(
    State(app): State<App>,
    Editing(by): Editing,
    Path(id): Path<PromoId>,
) -> Result<Response, Problem> {
    change(&app, &by, Change::DeletePromo(id)).await
}
