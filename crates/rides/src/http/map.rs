//! What maps are made of: the roads, which never change while the process runs, and where drivers are now.

use std::io::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tessera_kernel::{Place, Timestamp};
use tessera_service::http::{Json, Query};
use tessera_service::{Identity, Problem};
use tokio::sync::OnceCell;
use utoipa::ToSchema;

use crate::Error;
use crate::app::App;
use crate::domain::bounds::Bounds;
use crate::domain::ids::DriverId;
use crate::domain::traffic::RoadClass;
use crate::locations::Duty;
use crate::network::{Network, Stretch};
use crate::routes::polyline;

/// After a new network was imported, a browser may show the old one for so long.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=300");
/// Roads in an answer. Of a larger network the minor classes are left out, the smallest first.
const MOST_ROADS: usize = 400_000;
/// Drivers in an answer, where nothing else is asked for, and at most.
const DRIVERS: usize = 1_000;
const MOST_DRIVERS: usize = 10_000;

/// The roads as they are sent: made when the first one asks, then kept.
#[derive(Clone, Debug)]
pub(super) struct City {
    network: Option<Arc<Network>>,
    page: Arc<OnceCell<Page>>,
}

#[derive(Clone, Debug)]
struct Page {
    plain: Bytes,
    zipped: Bytes,
    /// Weak, since both forms have the same.
    etag: HeaderValue,
}

impl City {
    pub(super) fn new(network: Option<Arc<Network>>) -> Self {
        Self { network, page: Arc::default() }
    }

    async fn page(&self) -> Result<Page, Error> {
        let network = self.network.as_ref().ok_or(Error::NoMap)?;
        let make = || async {
            let network = Arc::clone(network);
            let broken = |reason: String| Error::Corrupt { what: "the road network".into(), reason };
            let made = tokio::task::spawn_blocking(move || Page::of(&network)).await;
            made.map_err(|error| broken(error.to_string()))?.map_err(|error| broken(error.to_string()))
        };
        self.page.get_or_try_init(make).await.cloned()
    }
}

impl Page {
    fn of(network: &Network) -> std::io::Result<Self> {
        let plain = serde_json::to_vec(&MapBody::of(network))?;
        let mut zip = GzEncoder::new(Vec::new(), Compression::default());
        zip.write_all(&plain)?;
        let digest: String = Sha256::digest(&plain)[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        // Hexadecimal is fit for a header.
        let etag = HeaderValue::from_str(&format!("W/\"{digest}\"")).unwrap_or(HeaderValue::from_static("*"));
        Ok(Self { plain: plain.into(), zipped: zip.finish()?.into(), etag })
    }
}

/// The roads of the city.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MapBody {
    /// The box around all roads; null where there are none.
    bounds: Option<BoundsBody>,
    /// To be shown beside every map that is made of it.
    attribution: String,
    roads: Vec<RoadBody>,
}

/// A box, degrees.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BoundsBody {
    south: f64,
    west: f64,
    north: f64,
    east: f64,
}

impl From<Bounds> for BoundsBody {
    fn from(Bounds { south_west, north_east }: Bounds) -> Self {
        Self { south: south_west.lat(), west: south_west.lng(), north: north_east.lat(), east: north_east.lng() }
    }
}

/// A stretch of road between two junctions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoadBody {
    /// As in OpenStreetMap, links counted with their road: `motorway`, `trunk`, `primary`, `secondary`, `tertiary`,
    /// `unclassified`, `residential`, `living_street`, `service`.
    #[schema(value_type = String)]
    class: RoadClass,
    /// Numbers of the junctions where its line begins and ends, so that one can walk along roads.
    from: u32,
    to: u32,
    /// Whether one may drive from `to` to `from` as well.
    two_way: bool,
    /// An encoded polyline, precision 5.
    line: String,
}

impl MapBody {
    fn of(network: &Network) -> Self {
        let mut roads: Vec<Stretch> = network.roads().collect();
        while roads.len() > MOST_ROADS
            && let Some(minor) = roads.iter().map(|road| road.class).max()
        {
            roads.retain(|road| road.class < minor);
        }
        let bounds = Bounds::around(roads.iter().flat_map(|road| road.line.iter().copied()));
        let body = |road: Stretch| RoadBody {
            class: road.class,
            from: road.from,
            to: road.to,
            two_way: road.two_way,
            line: polyline::encode(&road.line),
        };
        Self {
            bounds: bounds.map(BoundsBody::from),
            attribution: network.attribution().to_owned(),
            roads: roads.into_iter().map(body).collect(),
        }
    }
}

/// The roads that cars use, as lines. Nothing here is about anybody, so that no token is needed.
#[utoipa::path(
    get,
    path = "/map",
    responses((status = 200, body = MapBody), (status = 304), (status = 404, description = "no network is here"))
)]
pub(super) async fn map(State(city): State<City>, headers: HeaderMap) -> Result<Response, Problem> {
    let page = city.page().await?;
    let cached = [(CACHE_CONTROL, CACHED), (ETAG, page.etag.clone()), (VARY, ACCEPT_ENCODING.into())];
    let named = |name: HeaderName, wanted: fn(&str, &str) -> bool, what: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| wanted(part.trim(), what))
    };
    let opaque = |tag: &str| tag.trim_start_matches("W/").to_owned();
    let etag = opaque(page.etag.to_str().unwrap_or_default());
    if named(IF_NONE_MATCH, |given, etag| given == "*" || given.trim_start_matches("W/") == etag, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, cached).into_response());
    }
    let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(match named(ACCEPT_ENCODING, takes, "gzip") {
        true => (cached, [json, (CONTENT_ENCODING, HeaderValue::from_static("gzip"))], page.zipped).into_response(),
        false => (cached, [json], page.plain).into_response(),
    })
}

/// Whether a part of `Accept-Encoding` wants this coding: `gzip`, `gzip;q=0.5`, not `gzip;q=0`.
fn takes(part: &str, coding: &str) -> bool {
    let (name, weight) = part.split_once(';').unwrap_or((part, "q=1"));
    let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
    name.trim().eq_ignore_ascii_case(coding) && weight.is_none_or(|weight| weight > 0.0)
}

/// Which part of the earth is looked at.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LookQuery {
    south: Option<f64>,
    west: Option<f64>,
    north: Option<f64>,
    east: Option<f64>,
    limit: Option<usize>,
}

impl LookQuery {
    fn bounds(&self) -> Result<Bounds, Error> {
        let corner = |lat: Option<f64>, lng: Option<f64>, far: f64| {
            let place = Place::from_degrees(lat.unwrap_or(90.0 * far), lng.unwrap_or(180.0 * far));
            place.map_err(|reason| Error::BadRequest { reason })
        };
        let bounds = Bounds {
            south_west: corner(self.south, self.west, -1.0)?,
            north_east: corner(self.north, self.east, 1.0)?,
        };
        let (south, north) = (bounds.south_west.lat(), bounds.north_east.lat());
        if south > north {
            let reason = format!("`south` {south} is north of `north` {north}; swap them");
            return Err(Error::BadRequest { reason });
        }
        Ok(bounds)
    }

    fn limit(&self) -> Result<usize, Error> {
        match self.limit.unwrap_or(DRIVERS) {
            limit @ 1..=MOST_DRIVERS => Ok(limit),
            limit => Err(Error::BadRequest { reason: format!("`limit` is {limit}; it takes 1 to {MOST_DRIVERS}") }),
        }
    }
}

/// Drivers on duty.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LiveBody {
    /// As many as `limit` says, whichever; in no order.
    items: Vec<LiveDriverBody>,
}

/// A driver on duty.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LiveDriverBody {
    #[schema(value_type = String)]
    driver_id: DriverId,
    #[schema(value_type = Object)]
    place: Place,
    /// Degrees clockwise from north, where known.
    heading: Option<u16>,
    /// When the driver was there.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// `free`, or `busy` with an offer or a ride.
    duty: &'static str,
}

/// Where drivers on duty are, within a box.
#[utoipa::path(
    get,
    path = "/drivers/live",
    params(
        ("south" = Option<f64>, Query, description = "degrees; the whole earth where not given"),
        ("west" = Option<f64>, Query, description = "greater than `east` where the box reaches over the 180th meridian"),
        ("north" = Option<f64>, Query),
        ("east" = Option<f64>, Query),
        ("limit" = Option<usize>, Query, description = "1 to 10000; 1000 where not given"),
    ),
    responses((status = 200, body = LiveBody), (status = 400), (status = 403, description = "operators only"))
)]
pub(super) async fn live(
    State(app): State<App>,
    identity: Identity,
    Query(look): Query<LookQuery>,
) -> Result<Json<LiveBody>, Problem> {
    identity.require(&["operator"])?;
    let (bounds, limit) = (look.bounds()?, look.limit()?);
    let found = app.locations.within(&bounds, limit).await?;
    let items = found.into_iter().map(|located| LiveDriverBody {
        driver_id: located.driver,
        place: located.place,
        heading: located.heading,
        at: located.at,
        duty: match located.duty {
            Duty::Free => "free",
            Duty::Busy => "busy",
        },
    });
    Ok(Json(LiveBody { items: items.collect() }))
}
