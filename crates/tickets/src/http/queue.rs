//! The waiting room: joining, one's place, the serving number for all, the organiser's hand.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;
use tessera_service::http::edge::Draining;
use tessera_service::http::{IdempotencyKey, Json, Path};
use tessera_service::{Identity, Problem};
use tessera_store::lines::Phase;
use tokio_util::sync::CancellationToken;

use super::caller::MaybeIdentity;
use crate::Error;
use crate::app::App;
use crate::app::queue::{Stage, Standing, View, Visitor};
use crate::app::request::Request;
use crate::domain::event::QueueMode;
use crate::domain::ids::EventId;
use crate::domain::queue::Control;

/// How often a quiet stream says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What a device may call itself: shorter ones are guessed.
const DEVICE_BYTES: std::ops::RangeInclusive<usize> = 16..=128;

/// Before or after the doors opened.
#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum PhaseBody {
    Before,
    Open,
}

/// A place in a waiting room.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct PlaceBody {
    /// For `/queue/{token}`; keep it secret.
    token: String,
    /// The arrival, counted from 1: with the seed of the lottery the number follows from it.
    entry: i64,
    /// Compare it with `serving` of `/event/{id}/queue/serving`. None before the draw.
    number: Option<i64>,
    phase: PhaseBody,
    /// How many numbers until the turn; 0 once admitted.
    position: Option<i64>,
    serving: i64,
    /// About how long until the turn, seconds; for one place it never goes up.
    estimate_s: Option<i64>,
    #[schema(value_type = Option<String>, format = DateTime)]
    opens_at: Option<Timestamp>,
    admitted: bool,
    /// For `POST /booking/reserve`. Who joined without an account asks for it with one.
    admission: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    admission_expires_at: Option<Timestamp>,
}

impl From<Standing> for PlaceBody {
    fn from(standing: Standing) -> Self {
        let Standing { pass, entry, open, number, position, serving, estimate_s, opens_at, inside } = standing;
        let admission_expires_at = inside.as_ref().map(|inside| inside.until);
        Self {
            token: pass,
            entry,
            number,
            phase: if open { PhaseBody::Open } else { PhaseBody::Before },
            position,
            serving,
            estimate_s,
            opens_at,
            admitted: inside.is_some(),
            admission: inside.and_then(|inside| inside.admission),
            admission_expires_at,
        }
    }
}

/// What everyone is told who waits.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ServingBody {
    /// Whether there is a waiting room at present.
    active: bool,
    /// Who has a number up to this has had a turn.
    serving: i64,
    phase: PhaseBody,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    opens_at: Option<Timestamp>,
    /// How many come in each minute, as far as is known.
    rate_per_minute: Option<i64>,
    paused: bool,
    /// How many have joined.
    joined: i64,
    /// How many wait.
    waiting: i64,
    /// How many were drawn: numbers 1 to this are theirs.
    drawn: Option<i64>,
    /// SHA-256 of the seed of the lottery, in hexadecimal.
    commitment: Option<String>,
    /// The seed, once the doors are open.
    seed: Option<String>,
}

impl ServingBody {
    fn new(view: &View) -> Self {
        let line = view.stands.as_ref();
        let (open, drawn, seed) = match line.map(|line| &line.phase) {
            Some(Phase::Gathering) => (false, None, None),
            Some(Phase::Open { drawn, seed }) => (true, seed.as_ref().map(|_| *drawn), seed.as_ref()),
            None => (true, None, None),
        };
        Self {
            active: matches!(view.stage, Stage::Before | Stage::Open),
            serving: view.serving(),
            phase: if open { PhaseBody::Open } else { PhaseBody::Before },
            at: view.at,
            opens_at: view.opens_at(),
            rate_per_minute: view.state.per_minute(),
            paused: view.settings.paused,
            joined: line.map_or(0, |line| line.joined),
            waiting: line.map_or(0, |line| line.waiting),
            drawn,
            commitment: view.commitment.map(|commitment| hex(&commitment)),
            seed: seed.map(|seed| hex(seed.bytes())),
        }
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing into a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What the organiser sets; what is left out stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ControlBody {
    /// Nobody is let in for now.
    paused: Option<bool>,
    /// Let in each minute; 0 for as many as fit.
    admit_per_minute: Option<u32>,
    /// How many may be inside.
    max_inside: Option<u32>,
    mode: Option<QueueMode>,
    /// When the doors open, where that is not when the sale begins. Once they are open it changes nothing.
    #[schema(value_type = Option<String>, format = DateTime)]
    doors_open_at: Option<Timestamp>,
}

/// What the organiser watches.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct WatchBody {
    #[serde(flatten)]
    serving: ServingBody,
    mode: QueueMode,
    /// As set; none for as many as fit.
    admit_per_minute: Option<u32>,
    max_inside: u32,
    admission_ttl_s: u32,
    inside: i64,
    /// At the process that answers.
    arrivals_per_second: u32,
    /// About how long until all who wait now are in, seconds.
    empty_in_s: Option<i64>,
}

impl WatchBody {
    fn new(view: &View) -> Self {
        let serving = ServingBody::new(view);
        let empty_in_s = view.state.estimate_s(serving.joined, serving.serving).filter(|_| serving.waiting > 0);
        Self {
            serving,
            mode: view.settings.mode,
            admit_per_minute: view.settings.admit_per_minute,
            max_inside: view.settings.max_inside,
            admission_ttl_s: view.settings.admission_ttl_s,
            inside: view.stands.as_ref().map_or(0, |line| line.inside),
            arrivals_per_second: view.arrivals_per_second,
            empty_in_s,
        }
    }
}

/// Whether a place was given up.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct LeftBody {
    left: bool,
}

fn device(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(device) = headers.get("x-device-id") else { return Ok(None) };
    match device.to_str() {
        Ok(device) if DEVICE_BYTES.contains(&device.len()) => Ok(Some(device.to_owned())),
        _ => {
            let (least, most) = (DEVICE_BYTES.start(), DEVICE_BYTES.end());
            let reason =
                format!("`x-device-id` must be {least} to {most} visible ASCII characters; a random UUID is one");
            Err(Error::BadRequest { reason })
        }
    }
}

const NO_STORE: (http::HeaderName, HeaderValue) = (CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// Joins the waiting room, or gives the place that the account or the device has.
///
/// A fan's token, or `x-device-id`, or both. 409 `tickets.not_now` where nobody has to wait.
#[utoipa::path(
    post,
    path = "/event/{id}/queue",
    params(
        ("id" = String, Path),
        ("x-device-id" = Option<String>, Header, description = "random, kept by the device"),
        ("idempotency-key" = String, Header),
    ),
    responses((status = 200, body = PlaceBody), (status = 404), (status = 409, description = "nobody has to wait"))
)]
pub(super) async fn join(
    State(app): State<App>,
    MaybeIdentity(identity): MaybeIdentity,
    Path(id): Path<EventId>,
    _: IdempotencyKey,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(identity) = &identity {
        identity.require(&["fan"])?;
    }
    let visitor = Visitor { subject: identity.map(|identity| identity.subject), device: device(&headers)? };
    let standing = app.join_queue(id, &visitor).await?;
    Ok(([NO_STORE], axum::Json(PlaceBody::from(standing))).into_response())
}

/// How a place stands. Ask now and then, and when `serving` has reached the number; then `admission` is there.
#[utoipa::path(
    get,
    path = "/queue/{token}",
    params(("token" = String, Path, description = "as given on joining")),
    responses((status = 200, body = PlaceBody), (status = 404), (status = 410, description = "it was left or used"))
)]
pub(super) async fn place(
    State(app): State<App>,
    MaybeIdentity(identity): MaybeIdentity,
    Path(pass): Path<String>,
) -> Result<Response, Problem> {
    let subject = identity.as_ref().map(|identity| &*identity.subject);
    let standing = app.queue_place(&pass, subject).await?;
    Ok(([NO_STORE], axum::Json(PlaceBody::from(standing))).into_response())
}

/// Gives a place up, waiting or admitted. A second time changes nothing.
#[utoipa::path(
    post,
    path = "/queue/{token}/leave",
    params(("token" = String, Path), ("idempotency-key" = String, Header)),
    responses((status = 200, body = LeftBody), (status = 404))
)]
pub(super) async fn leave(
    State(app): State<App>,
    Path(pass): Path<String>,
    _: IdempotencyKey,
) -> Result<Json<LeftBody>, Problem> {
    Ok(Json(LeftBody { left: app.leave_queue(&pass).await? }))
}

/// The serving number: the same for all, for any cache to hold. Poll this one.
#[utoipa::path(
    get,
    path = "/event/{id}/queue/serving",
    params(("id" = String, Path)),
    responses((status = 200, body = ServingBody), (status = 404))
)]
pub(super) async fn serving(State(app): State<App>, Path(id): Path<EventId>) -> Result<Response, Problem> {
    let view = app.queue(id).await?;
    // A struct of numbers and texts always serialises.
    let body = view.rendered(|view| serde_json::to_vec(&ServingBody::new(view)).unwrap_or_default().into());
    let content = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(([content, (CACHE_CONTROL, HeaderValue::from_static("public, max-age=1"))], body).into_response())
}

/// How the waiting room stands, for its organiser.
#[utoipa::path(
    get,
    path = "/event/{id}/queue/control",
    params(("id" = String, Path)),
    responses((status = 200, body = WatchBody), (status = 403), (status = 404))
)]
pub(super) async fn watch(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<EventId>,
) -> Result<Response, Problem> {
    own(&app, &identity, id).await?;
    let view = app.queue(id).await?;
    Ok(([NO_STORE], axum::Json(WatchBody::new(&view))).into_response())
}

/// Pauses, speeds up, slows down, switches on or off. It goes before what the event says.
#[utoipa::path(
    post,
    path = "/event/{id}/queue/control",
    request_body = ControlBody,
    params(("id" = String, Path), ("idempotency-key" = String, Header)),
    responses((status = 200, body = WatchBody), (status = 400), (status = 403), (status = 404))
)]
pub(super) async fn control(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<EventId>,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<ControlBody>,
) -> Result<Response, Problem> {
    own(&app, &identity, id).await?;
    let ControlBody { paused, admit_per_minute, max_inside, mode, doors_open_at } = body;
    let control = Control { paused, admit_per_minute, max_inside, mode, doors_open_at };
    let request = Request { subject: identity.subject, key };
    let view = app.control_queue_once(&request, id, &control).await?;
    Ok(([NO_STORE], axum::Json(WatchBody::new(&view))).into_response())
}

async fn own(app: &App, identity: &Identity, id: EventId) -> Result<(), Problem> {
    identity.require(&["organiser"])?;
    let event = app.public_event(id).await?.event();
    if event.organiser != *identity.subject && !identity.is("admin") {
        return Err(Error::Forbidden { what: format!("the waiting room of event `{id}`") }.into());
    }
    Ok(())
}

/// How a place stands, whenever that changes: server-sent events `place`. The stream ends with the admission, or with
/// `over` where the place is no more.
#[utoipa::path(
    get,
    path = "/queue/{token}/stream",
    params(("token" = String, Path)),
    responses((status = 200, content_type = "text/event-stream"), (status = 404), (status = 410))
)]
pub(super) async fn stream(
    State(app): State<App>,
    MaybeIdentity(identity): MaybeIdentity,
    Path(pass): Path<String>,
    draining: Option<Extension<Draining>>,
) -> Result<Response, Problem> {
    let subject = identity.map(|identity| identity.subject);
    let pass = app.read_pass(&pass)?;
    let stop = draining.map_or_else(CancellationToken::new, |Extension(Draining(stop))| stop);
    // Watch first, so that no change falls between.
    let mut views = app.watch_queue(pass.event());
    let view = app.queue(pass.event()).await?;
    views.mark_unchanged();
    let first = render(app.queue_place_in(&view, &pass, subject.as_deref()).await?);
    let last = first.clone();
    let begun = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"retry: 1000\n\n")), Ok(first.text.clone())]);
    let rest = stream::unfold((views, last), move |(mut views, last)| {
        let (app, subject, stop) = (app.clone(), subject.clone(), stop.clone());
        async move {
            if last.is_last {
                return None;
            }
            loop {
                let changed = tokio::select! {
                    () = stop.cancelled() => return None,
                    changed = tokio::time::timeout(KEEP_ALIVE, views.changed()) => changed,
                };
                match changed {
                    Err(_) => return Some((Ok(Bytes::from_static(b": still here\n\n")), (views, last))),
                    Ok(Err(_)) => return None,
                    Ok(Ok(())) => {}
                }
                let Some(view) = views.borrow_and_update().clone() else { continue };
                let next = match app.queue_place_in(&view, &pass, subject.as_deref()).await {
                    Ok(standing) => render(standing),
                    Err(error @ Error::QueueOver { .. }) => Rendered::over(&error),
                    // Nothing new is known; the next change will tell.
                    Err(_) => continue,
                };
                if next != last {
                    return Some((Ok(next.text.clone()), (views, next)));
                }
            }
        }
    });
    let body = Body::from_stream(futures::StreamExt::chain(begun, rest));
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("text/event-stream")), NO_STORE], body).into_response())
}

#[derive(Clone, PartialEq)]
struct Rendered {
    text: Bytes,
    is_last: bool,
}

impl Rendered {
    fn over(error: &Error) -> Self {
        let data = serde_json::json!({ "code": error.code(), "detail": error.to_string() });
        Self { text: format!("event: over\ndata: {data}\n\n").into(), is_last: true }
    }
}

fn render(standing: Standing) -> Rendered {
    let body = PlaceBody::from(standing);
    let is_last = body.admission.is_some();
    let data = serde_json::to_string(&body).unwrap_or_default();
    Rendered { text: format!("event: place\ndata: {data}\n\n").into(), is_last }
}
