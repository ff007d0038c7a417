//! The API over its router: uniform answers, cookies, roles, programs, the document.

use ::http::{Request, StatusCode};
use serde_json::{Value, json};
use tessera_accounts::config::Config;
use tessera_accounts::domain::throttle::Rate;
use tessera_accounts::http;
use tessera_testkit::sql::Databases;

use crate::support::{Answer, Desk, PASSWORD, quick};

fn cookie(answer: &Answer) -> String {
    answer.headers["set-cookie"].to_str().unwrap().to_owned()
}

fn json(path: &str) -> ::http::request::Builder {
    Request::post(path).header("content-type", "application/json")
}

#[tokio::test]
async fn from_sign_up_to_sign_out() {
    let databases = Databases::sqlite();
    let desk = Desk::still(&databases.fresh(), quick()).await;
    let body = json!({ "login": "Ada@Example.com", "password": PASSWORD, "name": "Ada Lovelace" });
    assert_eq!(desk.post("/accounts/sign-up", body).await.status, StatusCode::ACCEPTED);
    let answer = desk.post("/accounts/sign-in", json!({ "login": "ada@example.com", "password": PASSWORD })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(answer.headers.get("set-cookie").is_none());
    let token = answer.body["access_token"].as_str().unwrap();
    assert_eq!((&answer.body["token_type"], &answer.body["expires_in"]), (&json!("Bearer"), &json!(600)));
    let me = desk.ask(token, "GET", "/accounts/me", Value::Null).await.body;
    assert_eq!(me, answer.body["user"]);
    assert_eq!(
        (&me["login"], &me["name"], &me["roles"]),
        (&json!("ada@example.com"), &json!("Ada Lovelace"), &json!(["fan", "rider"]))
    );
    desk.passes(599);
    assert_eq!(desk.ask(token, "GET", "/accounts/me", Value::Null).await.status, StatusCode::OK);
    desk.passes(1);
    assert_eq!(desk.ask(token, "GET", "/accounts/me", Value::Null).await.body["code"], "service.bad_token");
    let refreshed = desk.post("/accounts/refresh", json!({ "refresh_token": answer.body["refresh_token"] })).await.body;
    let token = refreshed["access_token"].as_str().unwrap();
    assert_eq!(desk.ask(token, "GET", "/accounts/me", Value::Null).await.body, me);
    let out = desk.post("/accounts/sign-out", json!({ "refresh_token": refreshed["refresh_token"] })).await;
    assert_eq!(out.status, StatusCode::OK);
    let over = desk.post("/accounts/refresh", json!({ "refresh_token": refreshed["refresh_token"] })).await;
    assert_eq!((over.status, &over.body["code"]), (StatusCode::UNAUTHORIZED, &json!("accounts.session_over")));
}

#[tokio::test]
async fn answers_do_not_tell_who_has_an_account() {
    let databases = Databases::sqlite();
    let rate = Rate { burst: 4, every_s: 60 };
    let desk = Desk::still(&databases.fresh(), Config { account_rate: rate, ..quick() }).await;
    desk.app.make_user("ada", PASSWORD, vec![]).await.unwrap();
    let bob = desk.app.make_user("bob", PASSWORD, vec![]).await.unwrap().unwrap();
    desk.app.edit_user(bob.id, None, Some(true)).await.unwrap();
    let said = |answer: &Answer| (answer.status, answer.body.to_string(), format!("{:?}", answer.headers));
    let mut sign_ups = Vec::new();
    for login in ["ada", "bob", "carol"] {
        sign_ups.push(said(
            &desk.post("/accounts/sign-up", json!({ "login": login, "password": "nine tall blue herons" })).await,
        ));
    }
    assert!(sign_ups.iter().all(|answer| *answer == sign_ups[0]) && sign_ups[0].0 == StatusCode::ACCEPTED);
    let mut sign_ins: Vec<Vec<_>> = Vec::new();
    for login in ["ada", "bob", "dave"] {
        let mut answers = Vec::new();
        for _ in 0..5 {
            answers.push(said(
                &desk.post("/accounts/sign-in", json!({ "login": login, "password": "wrong wrong" })).await,
            ));
        }
        sign_ins.push(answers);
    }
    assert!(sign_ins.iter().all(|answers| *answers == sign_ins[0]), "{sign_ins:#?}");
    assert_eq!((sign_ins[0][3].0, sign_ins[0][4].0), (StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS));
    let answer = desk.post("/accounts/sign-in", json!({ "login": "ada", "password": PASSWORD })).await;
    assert_eq!((answer.status, answer.headers["retry-after"].to_str().unwrap()), (StatusCode::TOO_MANY_REQUESTS, "60"));
    // The password that ada has is still hers: the second sign-up changed nothing.
    desk.passes(60);
    let answer = desk.post("/accounts/sign-in", json!({ "login": "ada", "password": PASSWORD })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn bad_input_is_named() {
    let databases = Databases::sqlite();
    let desk = Desk::still(&databases.fresh(), quick()).await;
    for (body, code, word) in [
        (json!({ "login": "a b", "password": PASSWORD }), "accounts.bad_request", "email address"),
        (json!({ "login": "ada", "password": "short" }), "accounts.weak_password", "at least 10"),
        (json!({ "login": "ada", "password": "password123" }), "accounts.weak_password", "tried first"),
        (json!({ "login": "ada", "password": PASSWORD, "name": "x".repeat(81) }), "accounts.bad_request", "`name`"),
        (json!({ "login": "ada", "password": PASSWORD, "roles": ["admin"] }), "service.bad_request", "roles"),
    ] {
        let answer = desk.post("/accounts/sign-up", body).await;
        assert_eq!((answer.status, &answer.body["code"]), (StatusCode::BAD_REQUEST, &json!(code)));
        assert!(answer.body["detail"].as_str().unwrap().contains(word), "{}", answer.body);
    }
    for (login, password) in [("a b", PASSWORD), ("", ""), ("ada", &"x".repeat(100_000)), ("\u{0}", "\u{0}")] {
        let answer = desk.post("/accounts/sign-in", json!({ "login": login, "password": password })).await;
        assert_eq!(answer.body["code"], "accounts.bad_credentials", "{login}");
    }
    let closed = Desk::still(&databases.fresh(), Config { sign_up: false, ..quick() }).await;
    let answer = closed.post("/accounts/sign-up", json!({ "login": "ada", "password": PASSWORD })).await;
    assert_eq!((answer.status, &answer.body["code"]), (StatusCode::FORBIDDEN, &json!("accounts.sign_up_closed")));
}

#[tokio::test]
async fn pages_keep_the_refresh_token_in_a_cookie() {
    let databases = Databases::sqlite();
    let trusted = Config { trusted_proxies: vec![crate::support::HOME], ..quick() };
    let desk = Desk::still(&databases.fresh(), trusted).await;
    desk.app.make_user("ada", PASSWORD, vec![]).await.unwrap();
    let body = json!({ "login": "ada", "password": PASSWORD, "cookie": true }).to_string();
    let answer = desk.send(json("/accounts/sign-in"), &body).await;
    assert!(answer.body.get("refresh_token").is_none());
    let kept = cookie(&answer);
    for part in ["tessera_refresh=tsr_", "; Path=/accounts", "; HttpOnly", "; SameSite=Strict", "; Max-Age=2592000"] {
        assert!(kept.contains(part), "{kept}");
    }
    assert!(!kept.contains("Secure"));
    let secure = desk.send(json("/accounts/sign-in").header("x-forwarded-proto", "https"), &body).await;
    assert!(cookie(&secure).ends_with("; Secure"));
    let pair = kept.split(';').next().unwrap();
    desk.passes(60);
    let refreshed = desk.send(json("/accounts/refresh").header("cookie", pair), "{}").await;
    assert_eq!(refreshed.status, StatusCode::OK, "{}", refreshed.body);
    let next = cookie(&refreshed);
    assert_ne!(next.split(';').next().unwrap(), pair);
    // A page of another site, where a browser sent the cookie all the same.
    for site in ["cross-site", "same-site"] {
        for path in ["/accounts/refresh", "/accounts/sign-out"] {
            let request = json(path).header("cookie", pair).header("sec-fetch-site", site);
            assert_eq!(desk.send(request, "{}").await.body["code"], "accounts.cross_site");
        }
    }
    let request = json("/accounts/sign-out")
        .header("cookie", next.split(';').next().unwrap())
        .header("sec-fetch-site", "same-origin");
    let out = desk.send(request, "{}").await;
    assert!(cookie(&out).starts_with("tessera_refresh=; ") && cookie(&out).contains("Max-Age=0"));
    let over = desk.send(json("/accounts/refresh").header("cookie", next.split(';').next().unwrap()), "{}").await;
    assert_eq!(over.body["code"], "accounts.session_over");
    assert!(cookie(&over).contains("Max-Age=0"));
    let none = desk.send(json("/accounts/refresh"), "{}").await;
    assert_eq!(none.body["code"], "accounts.session_over");
}

#[tokio::test]
async fn admins_grant_roles_and_others_do_not() {
    let databases = Databases::sqlite();
    let desk = Desk::still(&databases.fresh(), quick()).await;
    let admin = desk.admin().await;
    let ada = desk.app.make_user("ada", PASSWORD, vec!["fan".into()]).await.unwrap().unwrap();
    let signed_in = desk.app.sign_in("ada", PASSWORD, crate::support::HOME).await.unwrap();
    let path = format!("/accounts/users/{}", ada.id);
    for (method, path, body) in [
        ("GET", "/accounts/users", Value::Null),
        ("GET", path.as_str(), Value::Null),
        ("PATCH", path.as_str(), json!({ "roles": ["admin"] })),
        ("GET", "/accounts/clients", Value::Null),
        ("POST", "/accounts/clients", json!({ "name": "x" })),
        ("DELETE", "/accounts/clients/client_00000000000000000000000000000001", Value::Null),
    ] {
        let answer = desk.ask(&signed_in.access_token, method, path, body.clone()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        assert_eq!(desk.send(request, &body.to_string()).await.status, StatusCode::UNAUTHORIZED);
    }
    let answer = desk.ask(&admin, "PATCH", &path, json!({ "roles": ["fan", "organiser"] })).await;
    assert_eq!((answer.status, &answer.body["roles"]), (StatusCode::OK, &json!(["fan", "organiser"])));
    desk.passes(60);
    let next = desk.app.refresh(&signed_in.refresh_token, None).await.unwrap();
    assert!(desk.app.keys().verify(&next.access_token).unwrap().is("organiser"));
    let list = desk.ask(&admin, "GET", "/accounts/users?limit=1", Value::Null).await.body;
    assert!(!list.to_string().contains("argon2"), "{list}");
    assert_eq!(list["items"][0]["login"], "root-admin");
    let cursor = list["next_cursor"].as_str().unwrap();
    let list = desk.ask(&admin, "GET", &format!("/accounts/users?limit=1&cursor={cursor}"), Value::Null).await.body;
    assert_eq!((&list["items"][0]["login"], &list["next_cursor"]), (&json!("ada"), &Value::Null));
    let answer = desk.ask(&admin, "PATCH", &path, json!({ "roles": ["king"] })).await;
    assert_eq!(answer.body["code"], "accounts.bad_request");
    let own = desk.ask(&admin, "GET", "/accounts/me", Value::Null).await.body["id"].as_str().unwrap().to_owned();
    let answer = desk.ask(&admin, "PATCH", &format!("/accounts/users/{own}"), json!({ "disabled": true })).await;
    assert_eq!((answer.status, &answer.body["code"]), (StatusCode::CONFLICT, &json!("accounts.last_admin")));
}

#[test]
fn the_document_is_as_published() {
    let document = serde_json::to_value(http::openapi()).unwrap();
    tessera_testkit::reference::is_published("docs/openapi/accounts.json", &document);
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test]
async fn the_document_says_who_is_asked_for_a_token() {
    let databases = Databases::sqlite();
    let desk = Desk::still(&databases.fresh(), quick()).await;
    let ask = async |method: &str, target: &str, token: Option<&str>| {
        let mut request = Request::builder().method(method).uri(target);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        desk.send(request, "").await.body["code"].as_str().map(str::to_owned)
    };
    tessera_testkit::reference::tokens_are_as_said(&http::openapi(), ask).await;
}
