//! The map and the drivers on it, over the router.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;

use ::http::{HeaderMap, Request, StatusCode};
use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tessera_rides::config::Config;
use tessera_rides::http;
use tessera_rides::network::{Network, PORTO, read};
use tessera_testkit::sql::Databases;
use tower::ServiceExt;

use crate::support::{Town, place};

async fn map_of(network: Option<Arc<Network>>, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Bytes) {
    let mut request = Request::builder().uri("/map");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = http::map_router(network).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_map_is_sent_once() {
    let network = Arc::new(read(PORTO).unwrap().network);
    let (status, head, plain) = map_of(Some(Arc::clone(&network)), &[]).await;
    assert_eq!((status, &head["content-type"]), (StatusCode::OK, &"application/json".parse().unwrap()));
    let map: Value = serde_json::from_slice(&plain).unwrap();
    assert!(map["attribution"].as_str().unwrap().contains("© OpenStreetMap contributors"));
    let bounds = ["south", "west", "north", "east"].map(|side| map["bounds"][side].as_f64().unwrap());
    assert!(bounds[0] > 41.0 && bounds[0] < bounds[2] && bounds[2] < 41.3, "{bounds:?}");
    assert!(bounds[1] > -8.8 && bounds[1] < bounds[3] && bounds[3] < -8.5, "{bounds:?}");
    let roads = map["roads"].as_array().unwrap();
    assert!(roads.len() > 1_000);
    let classes: HashSet<&str> = roads.iter().map(|road| road["class"].as_str().unwrap()).collect();
    assert!(classes.contains("primary") && classes.contains("residential"), "{classes:?}");
    let junctions: HashSet<u64> =
        roads.iter().flat_map(|road| [&road["from"], &road["to"]]).map(|at| at.as_u64().unwrap()).collect();
    assert_eq!(junctions.len(), network.junctions());
    assert!(roads.iter().all(|road| road["two_way"].is_boolean() && road["line"].as_str().unwrap().len() > 4));

    // Compressed for those who read that, and only for them.
    let (_, zipped_head, zipped) = map_of(Some(Arc::clone(&network)), &[("accept-encoding", "br, gzip;q=0.8")]).await;
    assert_eq!(zipped_head["content-encoding"], "gzip");
    let mut unzipped = Vec::new();
    flate2::read::GzDecoder::new(&zipped[..]).read_to_end(&mut unzipped).unwrap();
    assert!(unzipped == plain && zipped.len() * 2 < plain.len(), "{} of {}", zipped.len(), plain.len());
    let (_, refused, _) = map_of(Some(Arc::clone(&network)), &[("accept-encoding", "gzip;q=0")]).await;
    assert!(refused.get("content-encoding").is_none());

    let tag = head["etag"].to_str().unwrap().to_owned();
    assert_eq!(zipped_head["etag"], *tag);
    for known in [tag.clone(), tag.trim_start_matches("W/").to_owned(), format!("\"a\", {tag}"), "*".to_owned()] {
        let (status, head, body) = map_of(Some(Arc::clone(&network)), &[("if-none-match", &known)]).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0), "{known}");
        assert!(head["cache-control"].to_str().unwrap().contains("max-age"));
    }
    let (status, _, _) = map_of(Some(network), &[("if-none-match", "\"another\"")]).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn without_a_network_the_map_says_what_to_do() {
    let (status, _, body) = map_of(None, &[]).await;
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("rides.no_map")));
    assert!(problem["detail"].as_str().unwrap().contains("tessera rides import"), "{problem}");
}

#[tokio::test]
async fn operators_see_who_is_where() {
    let databases = Databases::sqlite();
    let town = Town::still(&databases.fresh(), Config::default()).await;
    let near = town.driver("dora", place(0.0, 0.0)).await;
    let far = town.driver("dino", place(0.1, 0.0)).await;
    let ask = async |role: &str, query: &str| {
        let hour = std::time::Duration::from_secs(3_600);
        let token = town.app.keys().sign_token("somebody", &[role.to_owned()], hour).unwrap();
        let request = Request::builder()
            .uri(format!("/drivers/live{query}"))
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        let response = http::router(town.app.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<Value>(&bytes).unwrap())
    };
    let (status, all) = ask("operator", "").await;
    assert_eq!(status, StatusCode::OK, "{all}");
    let ids: HashSet<String> =
        all["items"].as_array().unwrap().iter().map(|one| one["driver_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, [near, far].map(|id| id.to_string()).into());
    let (_, some) = ask("operator", "?south=41.1&west=-8.7&north=41.2&east=-8.5").await;
    let one = &some["items"][0];
    assert_eq!(some["items"].as_array().unwrap().len(), 1);
    assert_eq!((&one["driver_id"], &one["duty"], &one["heading"]), (&json!(near), &json!("free"), &Value::Null));
    assert_eq!(one["place"], json!({ "lat": 41.15, "lng": -8.61 }));
    let (_, around_the_back) = ask("operator", "?west=10&east=-10").await;
    assert_eq!(around_the_back["items"], json!([]));
    let (_, few) = ask("operator", "?limit=1").await;
    assert_eq!(few["items"].as_array().unwrap().len(), 1);
    for (query, word) in [("?south=42&north=41", "swap"), ("?south=-91", "latitude -91"), ("?limit=0", "`limit` is 0")]
    {
        let (status, problem) = ask("operator", query).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{query}: {problem}");
    }
    for role in ["rider", "driver"] {
        assert_eq!(ask(role, "").await.0, StatusCode::FORBIDDEN, "{role}");
    }
}
