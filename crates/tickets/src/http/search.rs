//! `GET /search`: finding events. It needs neither the database nor a token, and says how long a cache may keep it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use chrono::{Datelike, NaiveDate};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tessera_kernel::{Clock, Currency, Money, Place, Timestamp};
use tessera_service::Problem;
use tessera_service::http::Query as QueryString;
use utoipa::{IntoParams, ToSchema};

use crate::Error;
use crate::domain::ids::{EventId, VenueId};
use crate::search::cache::{Answers, SizeBytes};
use crate::search::{Area, Availability, Counts, Cursor, Facets, Hit, Hits, MAX_LIMIT, Match, Query, Search, Sort};

/// How many hits where the caller does not say.
const DEFAULT_LIMIT: usize = 20;
/// How far around a place where the caller does not say.
const DEFAULT_RADIUS_KM: f64 = 25.0;
/// Half round the earth.
const MAX_RADIUS_KM: f64 = 20_100.0;
/// The longest term taken.
const MAX_TERM_CHARS: usize = 200;
/// The most kinds asked for at a time.
const MAX_KINDS: usize = 8;
/// A cursor longer than this is not ours.
const MAX_CURSOR_BYTES: usize = 512;

const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// As long as answers are kept here.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=1, stale-while-revalidate=5");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What answers searches. Cheap to clone.
#[derive(Clone)]
pub struct Searching(Arc<Parts>);

struct Parts {
    search: Arc<dyn Search>,
    answers: Answers<Rendered>,
    clock: Arc<dyn Clock>,
}

impl Searching {
    /// Answers from an index.
    pub fn new(search: Arc<dyn Search>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Parts { search, answers: Answers::default(), clock }))
    }

    /// How many searches were answered from the cache, and how many by the index.
    pub fn counts(&self) -> (u64, u64) {
        self.0.answers.counts()
    }

    /// The same whenever it is asked for. It keeps nothing open: metrics outlive what they are of.
    pub(crate) fn counting(&self) -> impl Fn() -> (u64, u64) + Send + Sync + use<> {
        let parts = Arc::downgrade(&self.0);
        move || parts.upgrade().map_or((0, 0), |parts| parts.answers.counts())
    }
}

/// The routes of searching.
pub fn router(searching: Searching) -> Router {
    Router::new().route("/search", get(search)).with_state(searching)
}

/// An answer as it is sent.
struct Rendered {
    body: Bytes,
    etag: HeaderValue,
    surrogate_keys: HeaderValue,
}

impl SizeBytes for Rendered {
    fn size_bytes(&self) -> usize {
        self.body.len() + self.surrogate_keys.len() + size_of::<Self>()
    }
}

/// What can be asked. Everything is text, so that a refusal can name the value.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// Words of the event, its performers, venue, city or kind. Case and accents do not matter; the last word may be
    /// unfinished; one wrong letter in a word is forgiven where little is found.
    #[param(example = "benfica porto")]
    term: Option<String>,
    /// A city by name.
    #[param(example = "Lisboa")]
    location: Option<String>,
    /// Latitude of the middle of a circle, or of where distances are measured from, degrees.
    lat: Option<String>,
    /// Its longitude.
    lng: Option<String>,
    /// Radius of the circle, kilometres; 25 where not given.
    radius_km: Option<String>,
    /// Kinds, separated by commas.
    #[param(example = "concert,theatre")]
    r#type: Option<String>,
    /// A day by the venue's calendar: `2027-05-01`, `today`, `tomorrow` or `weekend`.
    date: Option<String>,
    /// The first day, or the earliest start as a time with a zone. From now on where no date is given.
    from: Option<String>,
    /// The last day, or a time before which the event begins.
    to: Option<String>,
    /// Tickets for at least so much, in minor units (cents).
    price_min: Option<String>,
    /// Tickets for at most so much, in minor units (cents).
    price_max: Option<String>,
    /// Sold in this currency.
    #[param(example = "EUR")]
    currency: Option<String>,
    /// A performer, by id or full name.
    performer: Option<String>,
    /// `true` leaves out what is sold out.
    available: Option<String>,
    /// `relevance`, `date`, `price` or `distance`.
    sort: Option<String>,
    /// How many, 1 to 100; 20 where not given.
    limit: Option<String>,
    /// `next_cursor` of the page before, with the same parameters.
    cursor: Option<String>,
    /// `false` leaves out total and facets, as for suggestions while somebody types.
    facets: Option<String>,
    /// The time zone in which `today` is today, by IANA name; UTC where not given.
    #[param(example = "Europe/Lisbon")]
    tz: Option<String>,
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SearchBody {
    items: Vec<ItemBody>,
    /// Counts over all that match; with the first page only.
    facets: Option<FacetsBody>,
    /// How many match; with the first page only.
    total: Option<u64>,
    /// `exact`; `typos` where a letter had to be forgiven; `any_word` where no event has all the words.
    #[schema(value_type = String)]
    matched: Match,
    next_cursor: Option<String>,
}

/// An event in brief.
#[derive(Debug, Serialize, ToSchema)]
struct ItemBody {
    #[schema(value_type = String)]
    id: EventId,
    name: String,
    kind: String,
    #[schema(value_type = String, format = DateTime)]
    starts_at: Timestamp,
    venue: FoundVenueBody,
    /// Names, in the order of the bill.
    performers: Vec<String>,
    #[schema(value_type = Option<Object>)]
    price_from: Option<Money>,
    #[schema(value_type = Option<Object>)]
    price_to: Option<Money>,
    /// Whether tickets are left.
    available: bool,
    /// From the place asked about.
    distance_km: Option<f64>,
}

/// Where it is.
#[derive(Debug, Serialize, ToSchema)]
struct FoundVenueBody {
    #[schema(value_type = String)]
    id: VenueId,
    name: String,
    city: String,
    country: String,
    lat: Option<f64>,
    lng: Option<f64>,
    timezone: String,
}

/// How many events have which value.
#[derive(Debug, Serialize, ToSchema)]
struct FacetsBody {
    kind: Vec<FacetBody>,
    city: Vec<FacetBody>,
    /// `2027-05`, in the order of time.
    month: Vec<FacetBody>,
}

/// A value and how many events have it.
#[derive(Debug, Serialize, ToSchema)]
struct FacetBody {
    value: String,
    count: u64,
}

/// Events that match, with facets. Answers may be a second old.
#[utoipa::path(
    get,
    path = "/search",
    tag = "search",
    params(Params),
    responses(
        (status = 200, description = "A page of events", body = SearchBody),
        (status = 304, description = "Nothing has changed since the `ETag` sent"),
        (status = 400, description = "A parameter that cannot be read; the detail names it"),
    )
)]
pub(super) async fn search(
    State(searching): State<Searching>,
    QueryString(params): QueryString<Params>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parts = &*searching.0;
    let now = parts.clock.now();
    let query = Arc::new(params.read(now)?);
    let generation = parts.search.generation();
    let find = async { Ok::<_, Error>(Rendered::new(parts.search.find(Arc::clone(&query), now).await?)) };
    let rendered = parts.answers.get(&query, generation, find).await?;
    Ok(rendered.response(&headers))
}

impl Rendered {
    fn new(hits: Hits) -> Self {
        let mut keys = "search".to_owned();
        for hit in &hits.items {
            keys.push(' ');
            keys.push_str(&hit.document.id.to_string());
        }
        // Structs of strings and numbers always serialise, and ids and hexadecimal are fit for headers.
        let body = serde_json::to_vec(&SearchBody::from(hits)).unwrap_or_default();
        let header = |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
        let digest = Sha256::digest(&body);
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest[..12]));
        Self { body: body.into(), etag: header(etag), surrogate_keys: header(keys) }
    }

    fn response(&self, headers: &HeaderMap) -> Response {
        let cached = [(CACHE_CONTROL, CACHE), (ETAG, self.etag.clone()), (SURROGATE_KEY, self.surrogate_keys.clone())];
        let etag = self.etag.to_str().unwrap_or_default();
        let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut known = known.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
        match known.any(|tag| tag == etag || tag == "*") {
            true => (StatusCode::NOT_MODIFIED, cached).into_response(),
            false => (cached, [(CONTENT_TYPE, JSON)], Body::from(self.body.clone())).into_response(),
        }
    }
}

impl From<Hits> for SearchBody {
    fn from(hits: Hits) -> Self {
        Self {
            items: hits.items.into_iter().map(ItemBody::from).collect(),
            facets: hits.facets.map(FacetsBody::from),
            total: hits.total,
            matched: hits.matched,
            next_cursor: hits.next.map(|cursor| write_cursor(&cursor)),
        }
    }
}

impl From<Hit> for ItemBody {
    fn from(hit: Hit) -> Self {
        let Hit { document, distance_m } = hit;
        let money = |amount: Option<i64>| amount.map(|amount| Money::new(amount, document.currency));
        Self {
            id: document.id,
            starts_at: document.starts_at,
            price_from: money(document.price_from),
            price_to: money(document.price_to),
            available: document.available,
            name: document.name,
            kind: document.kind,
            venue: FoundVenueBody {
                id: document.venue.id,
                name: document.venue.name,
                city: document.venue.city,
                country: document.venue.country,
                lat: document.venue.place.map(Place::lat),
                lng: document.venue.place.map(Place::lng),
                timezone: document.venue.timezone,
            },
            performers: document.performers.into_iter().map(|performer| performer.name).collect(),
            distance_km: distance_m.map(|metres| f64::from(metres) / 1_000.0),
        }
    }
}

impl From<Facets> for FacetsBody {
    fn from(facets: Facets) -> Self {
        let bodies =
            |values: Vec<(String, u64)>| values.into_iter().map(|(value, count)| FacetBody { value, count }).collect();
        Self { kind: bodies(facets.kind), city: bodies(facets.city), month: bodies(facets.month) }
    }
}

fn write_cursor(cursor: &Cursor) -> String {
    // Numbers, words and an id always serialise.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(cursor).unwrap_or_default())
}

fn read_cursor(text: &str) -> Result<Cursor, Error> {
    let bytes = (text.len() <= MAX_CURSOR_BYTES).then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten();
    let cursor = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    cursor.ok_or_else(|| refused("cursor", text, "send `next_cursor` of the page before as it was"))
}

/// A refusal that names the value, cut to a length that fits a line.
fn refused(name: &str, value: &str, remedy: &str) -> Error {
    let short: String = value.chars().take(60).collect();
    Error::BadRequest { reason: format!("`{name}` is `{short}`: {remedy}") }
}

fn number<T: std::str::FromStr>(name: &str, value: &Option<String>, remedy: &str) -> Result<Option<T>, Error> {
    let read = |value: &String| value.trim().parse().map_err(|_| refused(name, value, remedy));
    value.as_ref().map(read).transpose()
}

fn flag(name: &str, value: &Option<String>) -> Result<Option<bool>, Error> {
    number(name, value, "write `true` or `false`")
}

/// A day of a calendar, or a moment.
enum When {
    Day(NaiveDate),
    Moment(Timestamp),
}

impl When {
    fn read(name: &str, value: &str) -> Result<Self, Error> {
        if let Ok(day) = value.parse::<NaiveDate>() {
            return Ok(Self::Day(day));
        }
        let moment = value.parse().map(Self::Moment);
        moment.map_err(|_| refused(name, value, "write a day such as 2027-05-01, or 2027-05-01T18:00:00Z"))
    }
}

impl Params {
    fn read(self, now: Timestamp) -> Result<Query, Error> {
        let term = self.term.clone().unwrap_or_default();
        if term.chars().count() > MAX_TERM_CHARS {
            return Err(refused("term", &term, &format!("it is longer than {MAX_TERM_CHARS} characters; shorten it")));
        }
        let near = self.place()?;
        let (days, from, until) = self.when(now)?;
        let price = "write a whole number of minor units, such as 4500 for 45.00 EUR";
        let price = |name, value: &Option<String>| match number::<i64>(name, value, price)? {
            Some(amount) if amount < 0 => Err(refused(name, &amount.to_string(), price)),
            amount => Ok(amount),
        };
        let currency = self.currency.as_ref().map(|code| {
            let read = code.to_ascii_uppercase().parse::<Currency>();
            read.map_err(|_| refused("currency", code, "write three letters such as EUR"))
        });
        let one_to = format!("write a number from 1 to {MAX_LIMIT}");
        let limit = number("limit", &self.limit, &one_to)?.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(refused("limit", &limit.to_string(), &one_to));
        }
        let sort = match self.sort.as_deref() {
            None | Some("relevance") => Sort::Relevance,
            Some("date") => Sort::Date,
            Some("price") => Sort::Price,
            Some("distance") => Sort::Distance,
            Some(other) => return Err(refused("sort", other, "it is relevance, date, price or distance")),
        };
        let after = self.cursor.as_deref().filter(|text| !text.is_empty()).map(read_cursor).transpose()?;
        let counted = flag("facets", &self.facets)?.unwrap_or(true) && after.is_none();
        let available = flag("available", &self.available)?.unwrap_or(false);
        Ok(Query {
            area: self.area(near)?,
            kinds: self.kinds()?,
            days,
            from,
            until,
            price_min: price("price_min", &self.price_min)?,
            price_max: price("price_max", &self.price_max)?,
            currency: currency.transpose()?,
            performer: self.performer.filter(|performer| !performer.trim().is_empty()),
            availability: if available { Availability::Available } else { Availability::Any },
            sort,
            near: near.map(Into::into),
            limit,
            after,
            counts: if counted { Counts::All } else { Counts::None },
            term,
        })
    }

    fn place(&self) -> Result<Option<Place>, Error> {
        let lat: Option<f64> = number("lat", &self.lat, "write degrees such as 38.72")?;
        let lng: Option<f64> = number("lng", &self.lng, "write degrees such as -9.14")?;
        match (lat, lng) {
            (None, None) => Ok(None),
            (Some(lat), Some(lng)) => {
                Place::from_degrees(lat, lng).map(Some).map_err(|reason| Error::BadRequest { reason })
            }
            _ => Err(Error::BadRequest { reason: "`lat` and `lng` go together; give both".to_owned() }),
        }
    }

    fn area(&self, near: Option<Place>) -> Result<Option<Area>, Error> {
        let remedy = format!("write kilometres, more than 0 and at most {MAX_RADIUS_KM}");
        let radius_km: Option<f64> = number("radius_km", &self.radius_km, &remedy)?;
        if let Some(radius) = radius_km.filter(|radius| !(*radius > 0.0 && *radius <= MAX_RADIUS_KM)) {
            return Err(refused("radius_km", &radius.to_string(), &remedy));
        }
        let conflict = |reason: &str| Err(Error::BadRequest { reason: reason.to_owned() });
        match (self.location.as_ref().filter(|city| !city.trim().is_empty()), near) {
            (Some(_), _) if radius_km.is_some() => {
                conflict("`radius_km` is of a circle and `location` names a city; leave one of them out")
            }
            (Some(city), _) => Ok(Some(Area::City(city.trim().to_owned()))),
            (None, Some(middle)) => {
                // At least a metre and at most half round the earth, so it fits.
                let radius_m = (radius_km.unwrap_or(DEFAULT_RADIUS_KM) * 1_000.0).max(1.0) as u32;
                Ok(Some(Area::Circle { middle: middle.into(), radius_m }))
            }
            (None, None) if radius_km.is_some() => {
                conflict("`radius_km` needs the middle of its circle; give `lat` and `lng`")
            }
            (None, None) => Ok(None),
        }
    }

    fn kinds(&self) -> Result<Vec<String>, Error> {
        let text = self.r#type.as_deref().unwrap_or_default();
        let mut kinds: Vec<String> = text.split(',').map(|kind| kind.trim().to_lowercase()).collect();
        kinds.retain(|kind| !kind.is_empty());
        kinds.sort_unstable();
        kinds.dedup();
        match kinds.len() > MAX_KINDS {
            true => Err(refused("type", text, &format!("name at most {MAX_KINDS} kinds"))),
            false => Ok(kinds),
        }
    }

    #[expect(clippy::type_complexity, reason = "the three parts of a query that say when")]
    fn when(&self, now: Timestamp) -> Result<(Option<(i32, i32)>, Option<Timestamp>, Option<Timestamp>), Error> {
        let zone = match &self.tz {
            None => chrono_tz::UTC,
            Some(name) => name
                .parse::<chrono_tz::Tz>()
                .map_err(|_| refused("tz", name, "write an IANA name such as Europe/Lisbon"))?,
        };
        if let Some(date) = &self.date {
            if self.from.is_some() || self.to.is_some() {
                let reason = "`date` is one day, `from` and `to` are a range; give one or the other".to_owned();
                return Err(Error::BadRequest { reason });
            }
            let today = now.to_utc().with_timezone(&zone).date_naive();
            let number = today.to_epoch_days();
            let days = match date.as_str() {
                "today" => (number, number),
                "tomorrow" => (number + 1, number + 1),
                "weekend" => {
                    // From Saturday to Sunday, this week's as long as it lasts.
                    let since_monday = i32::try_from(today.weekday().num_days_from_monday()).unwrap_or(0);
                    (number + (5 - since_monday).max(0), number + 6 - since_monday)
                }
                text => match text.parse::<NaiveDate>() {
                    Ok(day) => (day.to_epoch_days(), day.to_epoch_days()),
                    Err(_) => {
                        return Err(refused(
                            "date",
                            text,
                            "write a day such as 2027-05-01, today, tomorrow or weekend",
                        ));
                    }
                },
            };
            return Ok((Some(days), None, None));
        }
        let from = self.from.as_deref().map(|text| When::read("from", text)).transpose()?;
        let to = self.to.as_deref().map(|text| When::read("to", text)).transpose()?;
        let (mut days, mut moments) = ((i32::MIN, i32::MAX), (None, None));
        match from {
            Some(When::Day(day)) => days.0 = day.to_epoch_days(),
            Some(When::Moment(at)) => moments.0 = Some(at),
            None => {}
        }
        match to {
            Some(When::Day(day)) => days.1 = day.to_epoch_days(),
            Some(When::Moment(at)) => moments.1 = Some(at),
            None => {}
        }
        let is_backward = days.0 > days.1 || moments.0.zip(moments.1).is_some_and(|(from, to)| from >= to);
        if is_backward {
            let (from, to) = (self.from.as_deref().unwrap_or_default(), self.to.as_deref().unwrap_or_default());
            return Err(refused("to", to, &format!("it is before `from`, which is `{from}`; swap them")));
        }
        Ok(((days != (i32::MIN, i32::MAX)).then_some(days), moments.0, moments.1))
    }
}
