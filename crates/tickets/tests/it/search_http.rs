//! `GET /search` through its routes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use tempfile::TempDir;
use tessera_kernel::{ManualClock, Place, Timestamp, Uuid};
use tessera_tickets::domain::ids::{EventId, PerformerId, VenueId};
use tessera_tickets::http::search::{Searching, router};
use tessera_tickets::search::{Change, Document, Performer, Position, Search, Tantivy, Venue};
use tower::ServiceExt;

struct Site {
    router: Router,
    search: Tantivy,
    searching: Searching,
    _folder: TempDir,
}

fn event(number: u128, name: &str, kind: &str, day: u32) -> Document {
    let in_porto = number.is_multiple_of(2);
    let (city, lat, lng) = if in_porto { ("Porto", 41.1579, -8.6291) } else { ("Lisboa", 38.7223, -9.1393) };
    Document {
        id: EventId::from(Uuid::from_u128(number << 32)),
        name: name.to_owned(),
        kind: kind.to_owned(),
        performers: vec![Performer { id: PerformerId::from(Uuid::from_u128(1)), name: "Camané".into() }],
        venue: Venue {
            id: VenueId::from(Uuid::from_u128(number % 2 + 1)),
            name: "Coliseu".into(),
            city: city.into(),
            country: "Portugal".into(),
            place: Some(Place::from_degrees(lat, lng).unwrap()),
            timezone: "Europe/Lisbon".into(),
        },
        starts_at: format!("2027-05-{day:02}T20:00:00Z").parse().unwrap(),
        currency: "EUR".parse().unwrap(),
        price_from: (number != 3).then_some(1_000 * number as i64),
        price_to: (number != 3).then_some(5_000),
        available: number != 4,
        popularity: 10,
    }
}

/// Saturday, the first of May.
async fn site() -> Site {
    let now: Timestamp = "2027-05-01T10:00:00Z".parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let search = Tantivy::open(folder.path()).unwrap();
    let events = [
        event(1, "Fado à noite", "concert", 1),
        event(2, "<script>alert(1)</script>", "concert", 2),
        event(3, "Benfica – Porto", "sport", 8),
        event(4, "Hamlet", "theatre", 8),
        event(5, "Fado de domingo", "concert", 30),
    ];
    search.write(events.into_iter().map(|event| Change::Put(Box::new(event))).collect()).await.unwrap();
    search.commit(Position { seq: 1, rebuild: 0 }).await.unwrap();
    let searching = Searching::new(Arc::new(search.clone()), Arc::new(ManualClock::at(now)));
    Site { router: router(searching.clone()), search, searching, _folder: folder }
}

impl Site {
    async fn get(&self, query: &str, etag: Option<&str>) -> Response<Body> {
        let mut request = Request::get(format!("/search{query}"));
        if let Some(etag) = etag {
            request = request.header("if-none-match", etag);
        }
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn json(&self, query: &str) -> Value {
        let response = self.get(query, None).await;
        assert_eq!(response.status(), StatusCode::OK, "{query}");
        json_of(response).await
    }

    async fn names(&self, query: &str) -> Vec<String> {
        let body = self.json(query).await;
        body["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    }
}

async fn json_of(response: Response<Body>) -> Value {
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> &'r str {
    response.headers()[name].to_str().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_events_counts_and_leave_to_be_kept() {
    let site = site().await;
    let response = site.get("?term=fado&lat=38.72&lng=-9.14&sort=distance", None).await;
    assert_eq!(header(&response, "cache-control"), "public, max-age=1, stale-while-revalidate=5");
    let keys = header(&response, "surrogate-key");
    assert!(keys.starts_with("search event_") && keys.split(' ').count() == 3, "{keys}");
    let etag = header(&response, "etag").to_owned();
    assert_json_snapshot!(json_of(response).await);
    let again = site.get("?term=fado&lat=38.72&lng=-9.14&sort=distance", Some(&etag)).await;
    assert_eq!((again.status(), header(&again, "etag")), (StatusCode::NOT_MODIFIED, etag.as_str()));
    assert_eq!(site.searching.counts(), (1, 1), "the second was answered from the cache");
    // The index changes: the cache must not answer any more.
    site.search.write(vec![Change::Remove(EventId::from(Uuid::from_u128(1 << 32)))]).await.unwrap();
    site.search.commit(Position { seq: 2, rebuild: 0 }).await.unwrap();
    let changed = site.get("?term=fado&lat=38.72&lng=-9.14&sort=distance", Some(&etag)).await;
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(json_of(changed).await["total"], json!(1));
}

#[tokio::test]
async fn every_parameter_narrows_down() {
    let site = site().await;
    let cases: [(&str, &[&str]); 15] = [
        ("?location=PORTO&sort=date", &["<script>alert(1)</script>", "Hamlet"]),
        ("?type=sport,theatre&sort=date", &["Benfica – Porto", "Hamlet"]),
        ("?date=today", &["Fado à noite"]),
        ("?date=tomorrow", &["<script>alert(1)</script>"]),
        ("?date=weekend&sort=date", &["Fado à noite", "<script>alert(1)</script>"]),
        ("?date=2027-05-30", &["Fado de domingo"]),
        ("?from=2027-05-08&to=2027-05-08&type=sport", &["Benfica – Porto"]),
        ("?to=2027-05-01", &["Fado à noite"]),
        ("?from=2027-05-08T20:00:01Z", &["Fado de domingo"]),
        ("?to=2027-05-02T20:00:00Z", &["Fado à noite"]),
        ("?price_max=1500", &["Fado à noite"]),
        ("?available=true&type=theatre", &[]),
        ("?performer=camane&term=hamlet", &["Hamlet"]),
        ("?lat=41.15&lng=-8.63&radius_km=5&sort=date", &["<script>alert(1)</script>", "Hamlet"]),
        ("?term=hamlt&currency=eur&price_min=4000", &["Hamlet"]),
    ];
    for (query, names) in cases {
        assert_eq!(site.names(query).await, names, "{query}");
    }
    assert_eq!(site.names("?sort=price").await.last().unwrap(), "Benfica – Porto", "no price comes last");
    let brief = site.json("?facets=false&limit=1").await;
    assert_eq!((&brief["total"], &brief["facets"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn pages_go_on_where_the_one_before_ended() {
    let site = site().await;
    for sort in ["relevance", "date", "price"] {
        let (mut names, mut cursor) = (Vec::new(), String::new());
        loop {
            let body = site.json(&format!("?sort={sort}&limit=2&cursor={cursor}")).await;
            names.extend(body["items"].as_array().unwrap().iter().map(|item| item["name"].to_string()));
            match body["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 5, "{sort}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let site = site().await;
    let cases = [
        ("?lat=x&lng=1", "`lat` is `x`"),
        ("?lat=91&lng=1", "latitude 91 is outside"),
        ("?lat=1", "`lat` and `lng` go together"),
        ("?radius_km=5", "`radius_km` needs"),
        ("?lat=1&lng=1&radius_km=0", "`radius_km` is `0`"),
        ("?lat=1&lng=1&radius_km=NaN", "`radius_km` is `NaN`"),
        ("?location=Porto&radius_km=5", "leave one of them out"),
        ("?date=soon", "`date` is `soon`"),
        ("?date=2027-02-30", "`date` is `2027-02-30`"),
        ("?date=today&from=2027-01-01", "one or the other"),
        ("?from=2027-05-02&to=2027-05-01", "swap them"),
        ("?from=yesterday", "`from` is `yesterday`"),
        ("?price_min=4.50", "`price_min` is `4.50`"),
        ("?price_max=-1", "`price_max` is `-1`"),
        ("?currency=euro", "`currency` is `euro`"),
        ("?available=maybe", "`available` is `maybe`"),
        ("?sort=best", "`sort` is `best`"),
        ("?sort=distance", "give `lat` and `lng`"),
        ("?limit=0", "`limit` is `0`"),
        ("?limit=101", "`limit` is `101`"),
        ("?limit=many", "`limit` is `many`"),
        ("?cursor=bm9wZQ", "`cursor` is `bm9wZQ`"),
        ("?tz=Mars/Base", "`tz` is `Mars/Base`"),
        ("?type=a,b,c,d,e,f,g,h,i", "at most 8 kinds"),
        ("?trem=fado", "trem"),
    ];
    for (query, part) in cases {
        let response = site.get(query, None).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(header(&response, "content-type"), "application/problem+json");
        let detail = json_of(response).await["detail"].to_string();
        assert!(detail.contains(part), "{query}: {detail}");
    }
    let long = format!("?term={}", "a".repeat(201));
    assert_eq!(site.get(&long, None).await.status(), StatusCode::BAD_REQUEST);
    // A cursor does not change its order.
    let next = site.json("?limit=1").await["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(site.get(&format!("?sort=date&cursor={next}"), None).await.status(), StatusCode::BAD_REQUEST);
}
