//! The API over its router: roles, bad input, the document.

use ::http::{Request, StatusCode};
use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tessera_rides::app::{Asker, Shift};
use tessera_rides::config::Config;
use tessera_rides::http;
use tessera_rides::jobs::demand;
use tessera_rides::jobs::matcher::Matcher;
use tessera_rides::locations::Refusal;
use tessera_testkit::sql::Databases;
use tower::ServiceExt;

use crate::support::{Town, open, place};

/// Asks as somebody with a role: `driver-1`, and the like.
pub async fn ask(town: &Town, role: &str, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
    let hour = std::time::Duration::from_secs(3_600);
    let token = town.app.keys().sign_token(&format!("{role}-1"), &[role.to_owned()], hour).unwrap();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) })
        .unwrap();
    let response = http::router(town.app.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn wish() -> Value {
    json!({ "pickup": place(0.0, 0.0), "destination": place(0.02, 0.0) })
}

#[tokio::test]
async fn the_query_says_what_the_body_does() {
    let databases = Databases::sqlite();
    let town = Town::still(&databases.fresh(), Config::default()).await;
    let (status, body) = ask(&town, "rider", "POST", "/fare-estimate", wish()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let query = "/fare-estimate?pickupLocation=41.15,-8.61&destination=41.17,-8.61";
    let (status, same) = ask(&town, "rider", "POST", query, Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{same}");
    for key in ["estimated_price", "distance_m", "duration_s", "route", "surge", "expires_at"] {
        assert_eq!(same[key], body[key], "{key}");
        assert!(!same[key].is_null(), "{key}");
    }
}

#[tokio::test]
async fn bad_input_is_named() {
    let databases = Databases::sqlite();
    let town = Town::still(&databases.fresh(), Config::default()).await;
    let far = json!({ "pickup": place(0.0, 0.0), "destination": { "lat": 48.0, "lng": 2.0 } });
    let near = json!({ "pickup": place(0.0, 0.0), "destination": place(0.0, 0.0001) });
    let outside = json!({ "pickup": { "lat": 91, "lng": 0 }, "destination": place(0.0, 0.0) });
    for (body, word) in [(far, "km apart"), (near, "m apart"), (outside, "latitude 91"), (json!([]), "pickup")] {
        let (status, body) = ask(&town, "rider", "POST", "/fare-estimate", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(body["code"], "rides.bad_request");
        assert!(body["detail"].as_str().unwrap().contains(word), "{body}");
    }
    let (_, body) = ask(&town, "rider", "POST", "/fare-estimate?pickup=here&destination=1,2", Value::Null).await;
    assert!(body["detail"].as_str().unwrap().contains("`here`"), "{body}");
    let unknown = json!({ "ride_id": format!("ride_{:032x}", 7) });
    let (status, _) = ask(&town, "rider", "PATCH", "/ride/request", unknown).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, _) = ask(&town, "driver", "POST", "/fare-estimate", wish()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "drivers ask for no estimates");
    let (status, _) = ask(&town, "rider", "GET", "/drivers", Value::Null).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn positions_are_taken_from_their_driver_only() {
    let databases = Databases::sqlite();
    let town = Town::still(&databases.fresh(), Config::default()).await;
    let driver = town.driver("driver-1", place(0.0, 0.0)).await;
    town.passes(5);
    let one = json!({ "lat": 41.1501, "lng": -8.61, "heading": 10 });
    let (status, body) = ask(&town, "driver", "POST", "/drivers/location/update", one.clone()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!((&body["next_update_ms"], &body["updates"]), (&json!(20_000), &json!([20_000])));
    let (_, body) = ask(&town, "driver", "POST", "/drivers/location/update", one).await;
    assert_eq!((&body["next_update_ms"], &body["updates"]), (&Value::Null, &json!(["stale"])));
    let foreign = json!([{ "driver_id": format!("driver_{:032x}", 7), "lat": 41.15, "lng": -8.61 }]);
    let (status, _) = ask(&town, "driver", "POST", "/drivers/location/update", foreign.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, body) = ask(&town, "edge", "POST", "/drivers/location/update", foreign).await;
    assert_eq!((status, &body["updates"]), (StatusCode::OK, &json!(["off_duty"])));
    let (_, me) = ask(&town, "driver", "GET", "/drivers/me", Value::Null).await;
    assert_eq!((&me["id"], &me["place"]["lat"]), (&json!(driver), &json!(41.1501)));
}

#[tokio::test]
async fn the_code_is_for_the_rider_alone() {
    let databases = Databases::sqlite();
    let town = Town::still(&databases.fresh(), Config::default()).await;
    let (_, estimate) = ask(&town, "rider", "POST", "/fare-estimate", wish()).await;
    let (status, ride) = ask(&town, "rider", "PATCH", "/ride/request", json!({ "rideId": estimate["ride_id"] })).await;
    assert_eq!((status, &ride["state"]), (StatusCode::OK, &json!("requested")));
    assert_eq!((ride["code"].as_str().unwrap().len(), ride.get("rider")), (4, None));
    let path = format!("/rides/{}", ride["ride_id"].as_str().unwrap());
    let (_, seen) = ask(&town, "operator", "GET", &path, Value::Null).await;
    assert_eq!((&seen["state"], seen.get("code"), &seen["rider"]), (&json!("requested"), None, &json!("rider-1")));
    assert_eq!(seen["history"].as_array().unwrap().len(), 2);
    let (_, list) = ask(&town, "operator", "GET", "/rides?limit=1", Value::Null).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

/// What pages show of a ride: to the rider the car and what cancelling costs, to operators who was asked.
#[tokio::test]
async fn a_ride_says_who_comes_and_who_was_asked() {
    let databases = Databases::sqlite();
    let town = Town::still(&databases.fresh(), Config::default()).await;
    town.driver("driver-1", place(0.0, 0.001)).await;
    town.driver("driver-2", place(0.0, 0.003)).await;
    let ride = town.request("rider-1", place(0.0, 0.0)).await;
    let path = format!("/rides/{}", ride.id);
    let mut matcher = Matcher::new(town.app.clone());
    for accept in [false, true] {
        matcher.round().await.unwrap();
        let (driver, offer) = open(&town.app.ride(ride.id, &Asker::Operator).await.unwrap());
        let (_, waiting) = ask(&town, "rider", "GET", &path, Value::Null).await;
        let secrets = ["driver_profile", "route_to_pickup", "cancel_fee", "offer"].map(|key| waiting.get(key));
        assert_eq!(secrets, [None; 4], "nobody has accepted");
        town.app.respond(driver, ride.id, offer, accept).await.unwrap();
    }
    let (_, seen) = ask(&town, "rider", "GET", &path, Value::Null).await;
    assert_eq!((&seen["state"], &seen["driver_profile"]["plate"]), (&json!("accepted"), &json!("AA-00-AA")));
    assert!(seen["route_to_pickup"].as_str().unwrap().len() > 4, "{seen}");
    assert_eq!(
        seen["cancel_fee"],
        json!({ "fee": { "amount": 250, "currency": "EUR" }, "from": "2027-01-15T08:02:00Z" })
    );
    assert!(seen["history"].as_array().unwrap().iter().all(|event| event.get("offer").is_none()), "{seen}");
    let (_, seen) = ask(&town, "operator", "GET", &path, Value::Null).await;
    assert_eq!(seen.get("cancel_fee"), None);
    let told = |event: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["kind"]), text(&event["state"]), event["offer"]["number"].as_u64())
    };
    let told: Vec<_> = seen["history"].as_array().unwrap().iter().map(told).collect();
    let event = |kind: &str, state: &str, number| (kind.to_owned(), state.to_owned(), number);
    let wanted = [
        event("estimated", "estimated", None),
        event("requested", "requested", None),
        event("offered", "offered", Some(1)),
        event("denied", "requested", Some(1)),
        event("offered", "offered", Some(2)),
        event("accepted", "accepted", Some(2)),
    ];
    assert_eq!(told, wanted);
    let (first, second) = (&seen["history"][2]["offer"]["driver"], &seen["history"][4]["offer"]["driver"]);
    assert!(first.is_string() && first != second);
}

/// Whoever reads the areas on from the last change hears of those that are empty by now, too.
#[tokio::test]
async fn areas_are_read_on_from_the_last_change() {
    let databases = Databases::sqlite();
    let town = Town::still(&databases.fresh(), Config::default()).await;
    let here = place(0.0, 0.0);
    town.driver("driver-1", here).await;
    town.driver("driver-2", place(0.1, 0.0)).await;
    let areas = async |query: &str| ask(&town, "operator", "GET", &format!("/areas{query}"), Value::Null).await.1;
    let free = |areas: &Value| -> Vec<u64> {
        areas.as_array().unwrap().iter().map(|area| area["free"].as_u64().unwrap()).collect()
    };
    demand::count(&town.app).await.unwrap();
    let all = areas("").await;
    assert_eq!(free(&all), [1, 1]);
    assert_eq!(all[0]["updated_at"], "2027-01-15T08:00:00Z");
    town.passes(5);
    demand::count(&town.app).await.unwrap();
    assert_eq!(areas("?updated_since=2027-01-15T08:00:01Z").await, json!([]), "nothing has changed");
    town.app.shift(&"driver-1".into(), Shift::Off).await.unwrap();
    town.passes(5);
    demand::count(&town.app).await.unwrap();
    let news = areas("?updated_since=2027-01-15T08:00:01Z").await;
    assert_eq!((free(&news), &news[0]["updated_at"]), (vec![0], &json!("2027-01-15T08:00:10Z")));
    assert_eq!(free(&areas("").await), [1]);
    town.passes(3_601);
    demand::count(&town.app).await.unwrap();
    let gone = areas("?updated_since=2027-01-15T07:00:00Z").await;
    assert!(gone.as_array().unwrap().iter().all(|area| area["id"] != news[0]["id"]), "it is forgotten: {gone}");
}

#[tokio::test]
async fn positions_that_cannot_be_are_counted() {
    let databases = Databases::sqlite();
    let town = Town::still(&databases.fresh(), Config::default()).await;
    let path = "/drivers/location/update";
    let foreign = json!({ "driver_id": format!("driver_{:032x}", 7), "lat": 41.15, "lng": -8.61 });
    for (body, status, refusal) in [
        (json!({ "lat": 91, "lng": 0 }), 400, Refusal::Outside),
        (json!([{ "lat": 1, "lng": 0 }, { "lat": 1, "lng": -180.1 }]), 400, Refusal::Outside),
        (foreign, 403, Refusal::Foreign),
        (json!({ "lat": 1, "lng": 0 }), 200, Refusal::OffDuty),
    ] {
        let before = town.app.refusals.counted(refusal);
        assert_eq!(ask(&town, "driver", "POST", path, body).await.0.as_u16(), status);
        assert_eq!(town.app.refusals.counted(refusal), before + 1, "{refusal:?}");
    }
}

#[test]
fn the_document_is_as_published() {
    let document = serde_json::to_value(http::openapi()).unwrap();
    tessera_testkit::reference::is_published("docs/openapi/rides.json", &document);
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test]
async fn the_document_says_who_is_asked_for_a_token() {
    let databases = Databases::sqlite();
    let town = Town::still(&databases.fresh(), Config::default()).await;
    let router = http::router(town.app.clone()).merge(http::map_router(None));
    let ask = async |method: &str, target: &str, token: Option<&str>| {
        let mut request = Request::builder().method(method).uri(target);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        body["code"].as_str().map(str::to_owned)
    };
    tessera_testkit::reference::tokens_are_as_said(&http::openapi(), ask).await;
}
