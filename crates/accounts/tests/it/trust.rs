//! What a token may do after the word of an admin, and what it may not do on its own.

use ::http::{Request, StatusCode};
use serde_json::{Value, json};
use tessera_testkit::sql::Databases;

use crate::support::{Desk, HOME, PASSWORD, number, quick};

fn admin() -> Vec<String> {
    vec!["admin".to_owned()]
}

#[tokio::test]
async fn who_is_no_admin_any_more_does_nothing_with_the_token_of_one() {
    let databases = Databases::sqlite();
    let desk = Desk::still(&databases.fresh(), quick()).await;
    let root = desk.admin().await;
    let eve = desk.app.make_user("eve", PASSWORD, admin()).await.unwrap().unwrap();
    let token = desk.app.sign_in("eve", PASSWORD, HOME).await.unwrap().access_token;
    let path = format!("/accounts/users/{}", eve.id);
    let calls = [
        ("GET", "/accounts/users", Value::Null),
        ("GET", path.as_str(), Value::Null),
        ("PATCH", path.as_str(), json!({ "roles": ["admin"], "disabled": false })),
        ("GET", "/accounts/clients", Value::Null),
        ("POST", "/accounts/clients", json!({ "name": "a way back", "roles": ["admin"] })),
        ("DELETE", "/accounts/clients/client_00000000000000000000000000000001", Value::Null),
    ];
    for change in [json!({ "roles": ["fan"] }), json!({ "roles": ["admin"], "disabled": true })] {
        assert_eq!(desk.ask(&token, "GET", "/accounts/users", Value::Null).await.status, StatusCode::OK);
        assert_eq!(desk.ask(&root, "PATCH", &path, change.clone()).await.status, StatusCode::OK);
        for (method, path, body) in &calls {
            let answer = desk.ask(&token, method, path, body.clone()).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{change}: {method} {path} {}", answer.body);
        }
        desk.ask(&root, "PATCH", &path, json!({ "roles": ["admin"], "disabled": false })).await;
    }
    // A program with that role, and one that was taken back.
    let made = desk.ask(&root, "POST", "/accounts/clients", json!({ "name": "robot", "roles": ["admin"] })).await.body;
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let (token, _) = desk.app.client_token(id, Some(secret)).await.unwrap();
    assert_eq!(desk.ask(&token, "GET", "/accounts/users", Value::Null).await.status, StatusCode::OK);
    desk.ask(&root, "DELETE", &format!("/accounts/clients/{id}"), Value::Null).await;
    assert_eq!(desk.ask(&token, "GET", "/accounts/users", Value::Null).await.status, StatusCode::FORBIDDEN);
    // The key of the installation is its operator's: `tessera token` signs with it.
    let token = desk.app.keys().sign_token("ops", &admin(), std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(desk.ask(&token, "GET", "/accounts/users", Value::Null).await.status, StatusCode::OK);
}

#[tokio::test]
async fn numbers_do_not_tell_who_has_an_account() {
    let databases = Databases::sqlite();
    let desk = Desk::still(&databases.fresh(), quick()).await;
    let mut numbers = Vec::new();
    for _ in 0..2 {
        desk.app.sign_up("ada", PASSWORD, None, HOME).await.unwrap();
        numbers.push(desk.numbers().replace(" 2", " 1"));
    }
    assert!(numbers[0].contains("tessera_accounts_sign_ups_total"), "{}", numbers[0]);
    assert_eq!(numbers[0], numbers[1]);
}

#[tokio::test]
async fn a_form_with_many_fields_is_not_looked_through() {
    let databases = Databases::sqlite();
    let desk = Desk::still(&databases.fresh(), quick()).await;
    let root = desk.admin().await;
    let made = desk.ask(&root, "POST", "/accounts/clients", json!({ "name": "fleet", "roles": ["edge"] })).await.body;
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    for (more, status) in [(20, StatusCode::OK), (2_000, StatusCode::BAD_REQUEST)] {
        let more: String = (0..more).map(|number| format!("&a{number}=")).collect();
        let request = Request::post("/oauth/token").header("content-type", "application/x-www-form-urlencoded");
        let answer = desk.send(request, &format!("{form}{more}")).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}
