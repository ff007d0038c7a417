//! The seat map: its geometry, the state of all seats in a few kilobytes, and what changes from then on.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tessera_service::Problem;
use tessera_service::http::edge::Draining;
use tessera_service::http::{Path, Query};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::domain::drawing::{Drawing, Outline};
use crate::domain::event::{Event, PriceLevel};
use crate::domain::ids::{EventId, SeatNumber};
use crate::domain::inventory::Inventory;
use crate::domain::plan::{Point, SeatPlan};
use crate::seats::Tick;

/// How often a quiet stream says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a client may take to take a frame.
const TAKE: Duration = Duration::from_secs(10);
/// The largest message from a client, of whom none is expected.
const MAX_MESSAGE_BYTES: usize = 4 * 1_024;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Where the seats of an event are drawn.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct PlanBody {
    #[schema(value_type = String)]
    event: EventId,
    /// How many numbers there are.
    seats: u32,
    /// Width and height of the drawing; zero where there is none.
    size: (f64, f64),
    price_levels: Vec<PriceLevel>,
    sections: Vec<PlanSectionBody>,
    /// Labels of the numbered seats, in their order.
    labels: Vec<String>,
    /// Their places.
    x: Vec<f64>,
    y: Vec<f64>,
    /// For each number the index of its price level, -1 where it is not sold.
    level: Vec<i32>,
    areas: Vec<PlanAreaBody>,
    /// What is drawn beside the seats, the lowest first.
    shapes: Vec<ShapeBody>,
}

/// A stage, a pitch, a bar.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ShapeBody {
    /// `rectangle`, `ellipse` (in that rectangle), `polygon`, or `text` alone.
    shape: &'static str,
    /// Its left and top, or where the points are counted from.
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    points: Vec<(f64, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct PlanSectionBody {
    name: String,
    rows: Vec<RowBody>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RowBody {
    label: String,
    first: u32,
    count: u32,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct PlanAreaBody {
    key: String,
    name: String,
    /// Its place numbers, as first and count.
    blocks: Vec<(u32, u32)>,
    level: u8,
}

fn plan_body(event: &Event, plan: Option<&SeatPlan>, inventory: &Inventory) -> PlanBody {
    let tenth = |at: f64| (at * 10.0).round() / 10.0;
    let row =
        |row: &crate::domain::inventory::Row| RowBody { label: row.label.clone(), first: row.first, count: row.count };
    let positions = || (0..inventory.len()).map_while(|number| inventory.position(SeatNumber(number)));
    PlanBody {
        event: event.id,
        seats: inventory.len(),
        size: plan.map_or((0.0, 0.0), |plan| (plan.size.width, plan.size.height)),
        price_levels: event.details.price_levels.clone(),
        sections: inventory
            .sections()
            .iter()
            // A zone that only draws something is no section.
            .filter(|section| !section.rows.is_empty())
            .map(|section| PlanSectionBody {
                name: section.name.clone(),
                rows: inventory.rows()[section.rows.clone()].iter().map(row).collect(),
            })
            .collect(),
        labels: (0..inventory.len())
            .map_while(|number| inventory.seat_label(SeatNumber(number)).map(str::to_owned))
            .collect(),
        x: positions().map(|point| tenth(point.x)).collect(),
        y: positions().map(|point| tenth(point.y)).collect(),
        level: (0..inventory.len())
            .map(|number| inventory.level(SeatNumber(number)).map_or(-1, |level| level as i32))
            .collect(),
        areas: inventory
            .areas()
            .iter()
            .map(|area| PlanAreaBody {
                key: area.key.clone(),
                name: area.name.clone(),
                blocks: area.blocks.clone(),
                level: area.level,
            })
            .collect(),
        shapes: plan.map(shapes_of).unwrap_or_default(),
    }
}

fn shapes_of(plan: &SeatPlan) -> Vec<ShapeBody> {
    let tenth = |at: f64| (at * 10.0).round() / 10.0;
    let drawn = plan.zones.iter().flat_map(|zone| zone.areas.iter().map(move |drawing| (zone.position, drawing)));
    let shape = |(origin, drawing): (Point, &Drawing)| {
        let (left, top, right, bottom) = drawing.bounds();
        let at = match &drawing.outline {
            Outline::Polygon(_) => drawing.position,
            _ => Point { x: left, y: top },
        };
        let points = match &drawing.outline {
            Outline::Polygon(points) => points.iter().map(|point| (tenth(point.x), tenth(point.y))).collect(),
            _ => Vec::new(),
        };
        ShapeBody {
            shape: match &drawing.outline {
                Outline::Rectangle(_) => "rectangle",
                Outline::Ellipse(_) => "ellipse",
                Outline::Polygon(_) => "polygon",
                Outline::None => "text",
            },
            x: tenth(origin.x + at.x),
            y: tenth(origin.y + at.y),
            width: tenth(right - left),
            height: tenth(bottom - top),
            points,
            text: drawing.text.clone(),
        }
    };
    drawn.map(shape).collect()
}

/// The geometry of an event's seats. It changes only with the event's version, which is its ETag.
#[utoipa::path(
    get,
    path = "/event/{id}/plan",
    params(("id" = String, Path)),
    responses((status = 200, body = PlanBody), (status = 304), (status = 404))
)]
pub(super) async fn plan(
    State(app): State<App>,
    Path(id): Path<EventId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let live = app.public_event(id).await?;
    let (version, page) = live
        .plan_page(|event, plan, inventory| {
            // Strings and numbers always serialise.
            serde_json::to_vec(&plan_body(event, plan, inventory)).unwrap_or_default().into()
        })
        .await?;
    let etag = format!("\"plan-{version}\"");
    let cache = [(CACHE_CONTROL, "public, max-age=60".to_owned()), (ETAG, etag.clone())];
    if headers.get(IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == etag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, cache).into_response());
    }
    Ok((cache, [(CONTENT_TYPE, JSON)], page).into_response())
}

/// How all seats stand: binary (see `seats::delta`), or JSON with the same in base64 where JSON is asked for.
#[utoipa::path(
    get,
    path = "/event/{id}/seats",
    params(("id" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream"), (status = 304), (status = 404))
)]
pub(super) async fn snapshot(
    State(app): State<App>,
    Path(id): Path<EventId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let live = app.public_event(id).await?;
    let snapshot = live.snapshot(app.clock.now());
    let json = headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"));
    let cache =
        [(CACHE_CONTROL, HeaderValue::from_static("public, max-age=1")), (VARY, HeaderValue::from_static("accept"))];
    if json {
        // The header is 13 bytes.
        let (_, states) = snapshot.bytes.split_at(13);
        let count = live.inventory().len();
        let body = json!({ "seq": snapshot.seq, "count": count, "states_base64": STANDARD.encode(states) });
        return Ok((cache, axum::Json(body)).into_response());
    }
    let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(snapshot.digest));
    let known = headers.get(IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == etag.as_bytes());
    // Base64 is fit for a header.
    let tagged = [(ETAG, HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("")))];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, cache, tagged).into_response());
    }
    let content = (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok((cache, tagged, [content], snapshot.bytes.clone()).into_response())
}

/// From where a stream goes on.
#[derive(Debug, Deserialize)]
pub(super) struct Since {
    since: Option<i64>,
}

/// What changes from now on, or from `since` (or `last-event-id`) on: server-sent events, or a WebSocket where an upgrade
/// is asked for. `reset` says that too much has changed: read `/event/{id}/seats` again.
#[utoipa::path(
    get,
    path = "/event/{id}/seats/stream",
    params(("id" = String, Path), ("since" = Option<i64>, Query, description = "the last `seq` that was seen")),
    responses((status = 200, content_type = "text/event-stream"), (status = 101), (status = 404))
)]
pub(super) async fn stream(
    State(app): State<App>,
    Path(id): Path<EventId>,
    Query(Since { since }): Query<Since>,
    draining: Option<Extension<Draining>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let stop = draining.map_or_else(CancellationToken::new, |Extension(Draining(stop))| stop);
    let live = app.public_event(id).await?;
    let last_id = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    // Watch first: what is committed in between comes twice rather than never.
    let ticks = live.watch();
    let first = app.missed(&live, last_id.or(since)).await?;
    if let Ok(upgrade) = upgrade {
        let upgrade = upgrade.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
        return Ok(upgrade.on_upgrade(move |socket| async move {
            // Where the process stops, the client connects to another.
            let _ = stop.run_until_cancelled(talk(socket, first, ticks)).await;
        }));
    }
    let begin = Bytes::from_static(b"retry: 1000\n\n");
    let first = match first {
        Some(tick) => Some(tick.sse),
        None => Some(Bytes::from_static(b"event: reset\ndata: {}\n\n")),
    };
    let begun = stream::iter([Some(begin), first].into_iter().flatten().map(Ok::<_, Infallible>));
    let rest = stream::unfold(ticks, |mut ticks| async {
        let bytes = match timeout(KEEP_ALIVE, ticks.recv()).await {
            Err(_) => Bytes::from_static(b": still here\n\n"),
            Ok(Ok(tick)) => tick.sse,
            Ok(Err(RecvError::Lagged(_))) => Bytes::from_static(b"event: reset\ndata: {}\n\n"),
            Ok(Err(RecvError::Closed)) => return None,
        };
        Some((Ok(bytes), ticks))
    });
    let body = Body::from_stream(begun.chain(rest).take_until(stop.cancelled_owned()));
    Ok(([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], body).into_response())
}

async fn talk(mut socket: WebSocket, first: Option<Tick>, mut ticks: Receiver<Tick>) {
    let reset = || Message::text(r#"{"reset":true}"#);
    let mut next = Some(first.map_or_else(reset, |tick| Message::Text(tick.json)));
    loop {
        if let Some(message) = next.take()
            && !matches!(timeout(TAKE, socket.send(message)).await, Ok(Ok(())))
        {
            return;
        }
        next = tokio::select! {
            told = socket.recv() => match told {
                // Nothing is expected of the client; pings are answered below us.
                Some(Ok(_)) => None,
                Some(Err(_)) | None => return,
            },
            tick = ticks.recv() => match tick {
                Ok(tick) => Some(Message::Text(tick.json)),
                Err(RecvError::Lagged(_)) => Some(reset()),
                Err(RecvError::Closed) => return,
            },
            () = tokio::time::sleep(KEEP_ALIVE) => Some(Message::Ping(Bytes::new())),
        };
    }
}
