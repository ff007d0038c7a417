//! Engines of routes over HTTP, played by servers that answer as the real ones do.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use serde_json::{Value, json};
use tessera_kernel::{Clock, Place, RandomIds, SystemClock};
use tessera_rides::config::Config;
use tessera_rides::network::{PORTO, read};
use tessera_rides::routes::{Osrm, Routes, Valhalla};
use tessera_rides::{Error, Part};
use tessera_service::run::Inside;
use tessera_service::{Deps, Keys, Metrics};
use tower::ServiceExt;

use crate::support::place;

/// Answers everything alike, and remembers what it was asked: the path with its query, and the body.
#[derive(Clone, Default)]
struct Engine {
    answer: Arc<Mutex<Value>>,
    asked: Arc<Mutex<(String, String)>>,
}

impl Engine {
    async fn start() -> (Self, String) {
        let engine = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let router = Router::new().fallback(Self::serve).with_state(engine.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (engine, base)
    }

    async fn serve(State(engine): State<Self>, request: Request) -> axum::Json<Value> {
        let path = request.uri().path_and_query().unwrap().to_string();
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        *engine.asked.lock().unwrap() = (path, String::from_utf8(body.to_vec()).unwrap());
        axum::Json(engine.answer.lock().unwrap().clone())
    }

    fn answers(&self, answer: Value) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> (String, String) {
        self.asked.lock().unwrap().clone()
    }
}

fn client() -> reqwest::Client {
    tessera_service::client::build().unwrap()
}

fn ends() -> (Place, Place) {
    (place(0.0, 0.0), place(0.01, 0.0))
}

#[tokio::test]
async fn osrm_is_asked_in_its_own_words() {
    let (engine, base) = Engine::start().await;
    let osrm = Osrm::new(client(), &base);
    let (from, to) = ends();
    engine.answers(
        json!({ "code": "Ok", "routes": [{ "distance": 2132.5, "duration": 208.0, "geometry": "_p~iF~ps|U" }] }),
    );
    let route = osrm.route(from, to).await.unwrap();
    assert_eq!((route.distance_m, route.seconds, &*route.line), (2132.5, 208.0, "_p~iF~ps|U"));
    let path = "/route/v1/driving/-8.6100000,41.1500000;-8.6100000,41.1600000?overview=full&geometries=polyline";
    assert_eq!(engine.asked().0, path);
    engine.answers(json!({ "code": "Ok", "durations": [[12.5], [null]] }));
    assert_eq!(osrm.table(&[from, to], to).await.unwrap(), [Some(12.5), None]);
    assert!(engine.asked().0.ends_with("?sources=0;1&destinations=2"), "{:?}", engine.asked());
    engine.answers(json!({ "code": "NoSegment" }));
    assert!(matches!(osrm.route(from, to).await, Err(Error::NoRoad { .. })));
    engine.answers(json!({ "code": "NoRoute" }));
    assert!(matches!(osrm.route(from, to).await, Err(Error::NoWay { .. })));
    engine.answers(json!({ "message": "what?" }));
    assert!(matches!(osrm.route(from, to).await, Err(Error::Routes { .. })));
}

#[tokio::test]
async fn valhalla_is_asked_in_its_own_words() {
    let (engine, base) = Engine::start().await;
    let valhalla = Valhalla::new(client(), &base);
    let (from, to) = ends();
    // Its lines have six decimals, ours five.
    engine.answers(json!({
        "trip": { "legs": [{ "shape": "_izlhA~rlgdF_{geC~ywl@" }], "summary": { "time": 228.889, "length": 2.638 }, "status": 0 },
    }));
    let route = valhalla.route(from, to).await.unwrap();
    assert_eq!((route.distance_m.round(), route.seconds, &*route.line), (2638.0, 228.889, "_p~iF~ps|U_ulLnnqC"));
    let (path, question) = engine.asked();
    let question: Value = serde_json::from_str(&question).unwrap();
    assert_eq!((&*path, &question["costing"]), ("/route", &json!("auto")));
    assert_eq!(question["locations"][1], json!({ "lat": 41.16, "lon": -8.61 }));
    engine.answers(
        json!({ "sources_to_targets": [[{ "time": 158, "distance": 1.984 }], [{ "time": null, "distance": null }]] }),
    );
    assert_eq!(valhalla.table(&[from, to], to).await.unwrap(), [Some(158.0), None]);
    assert_eq!(valhalla.table(&[], to).await.unwrap(), []);
    assert!(matches!(valhalla.table(&[from], to).await, Err(Error::Routes { .. })), "two rows for one source");
    let refused = |code: u32| json!({ "error_code": code, "error": "no", "status_code": 400, "status": "Bad Request" });
    engine.answers(refused(171));
    assert!(matches!(valhalla.route(from, to).await, Err(Error::NoRoad { .. })));
    engine.answers(refused(442));
    assert!(matches!(valhalla.route(from, to).await, Err(Error::NoWay { .. })));
    engine.answers(refused(154));
    assert!(matches!(valhalla.route(from, to).await, Err(Error::Routes { .. })));
}

/// What a process is built with, in a folder of its own.
fn deps(folder: &tempfile::TempDir) -> Deps {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Deps {
        keys: Keys::ephemeral(Arc::clone(&clock)).unwrap(),
        clock,
        ids: Arc::new(RandomIds),
        metrics: Metrics::new(Arc::new(SystemClock)),
        data_dir: folder.path().to_owned(),
        address: ([127, 0, 0, 1], 0).into(),
        inside: Inside::default(),
        sockets: tessera_service::sockets::Sockets::default(),
    }
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let url = || Some("redis://somebody:secret@127.0.0.1:1".to_owned());
    let redis = Config { redis: url(), ..Config::default() };
    let locations = Config { locations: url(), ..Config::default() };
    for (key, config) in [("rides.redis", redis), ("rides.locations", locations)] {
        let refused = tessera_rides::build(&config, &deps(&folder), Part::Whole).await;
        let said = refused.err().unwrap().to_string();
        assert!([key, "127.0.0.1:1`", "start it there"].iter().all(|word| said.contains(word)), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

/// With an engine elsewhere, pages show the roads that are here, where some are.
#[tokio::test]
async fn the_map_is_shown_whoever_answers_for_the_ways() {
    let folder = tempfile::tempdir().unwrap();
    let deps = deps(&folder);
    let map = async |config: &Config, part: Part| {
        let components = tessera_rides::build(config, &deps, part).await.unwrap();
        let request = ::http::Request::get("/map").body(axum::body::Body::empty()).unwrap();
        let answer = components.into_iter().next().unwrap().router.oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 24).await.unwrap();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let config = Config { routes: Some("osrm:http://127.0.0.1:1".into()), ..Config::default() };
    let (status, problem) = map(&config, Part::Whole).await;
    assert_eq!((status, &problem["code"]), (404, &json!("rides.no_map")));
    let roads = read(PORTO).unwrap().network;
    roads.save(&folder.path().join(tessera_rides::CITY)).unwrap();
    let (status, body) = map(&config, Part::Whole).await;
    assert_eq!((status, body["roads"].as_array().map(Vec::len)), (200, Some(roads.roads().count())));
    // Where one is named, it is that one.
    let elsewhere = folder.path().join("elsewhere.roads");
    let config = Config { network: Some(elsewhere.display().to_string()), ..config };
    let refused = tessera_rides::build(&config, &deps, Part::Whole).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("elsewhere.roads")));
    // A setting that would matter with roads only is looked at without them, too.
    let config = Config { timezone: "Mars".into(), ..Config::default() };
    let refused = tessera_rides::build(&config, &deps, Part::Whole).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("`Mars`")));
}
