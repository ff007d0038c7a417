//! What a token may do after the word of an admin, and what it may not do on its own.

use ::http::{Request, StatusCode};
use serde_json::{Value, json};
use tessera_accounts::config::Config;
use tessera_accounts::domain::throttle::Rate;
use tessera_accounts::store::SignOut;
use tessera_testkit::sql::Databases;

use crate::support::{Desk, HOME, PASSWORD, number, of, quick, rows};

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
async fn processes_do_not_wait_for_each_other_in_a_ring() {
    let databases = Databases::postgres();
    let url = databases.fresh();
    let free = Rate { burst: 100_000, every_s: 1 };
    let desk = Desk::live(&url, Config { address_rate: free, account_rate: free, ..quick() }).await;
    let other = desk.sibling(&url).await;
    let names: Vec<String> = (0..4).map(|number| format!("name-{number}")).collect();
    let mut users = Vec::new();
    for name in &names {
        users.push(desk.app.make_user(name, PASSWORD, admin()).await.unwrap().unwrap().id);
    }
    let mut people = tokio::task::JoinSet::new();
    for number in 0..16_usize {
        let app = if number % 2 == 0 { desk.app.clone() } else { other.app.clone() };
        let (name, user) = (names[number % 4].clone(), users[(number / 4) % 4]);
        people.spawn(async move {
            for round in 0..6 {
                app.sign_in(&name, PASSWORD, HOME).await.unwrap();
                if round % 3 == 0 {
                    app.edit_user(user, Some(&admin()), Some(false)).await.unwrap();
                }
            }
        });
    }
    people.join_all().await;
    // The server has counted when its connections are closed.
    desk.app.store().close().await;
    other.app.store().close().await;
    assert_eq!(number(&url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").await, 0);
}

/// Begins a transaction that has locked the account of that name, and changed this of it.
async fn hold<'p>(pool: &'p sqlx::PgPool, login: &str, change: &'static str) -> sqlx::Transaction<'p, sqlx::Postgres> {
    let mut held = pool.begin().await.unwrap();
    let done = sqlx::query(change).bind(login).execute(&mut *held).await.unwrap();
    assert!(done.rows_affected() > 0);
    held
}

/// Until somebody waits for a lock, or the work is done without.
async fn is_waited_for<T>(pool: &sqlx::PgPool, work: &tokio::task::JoinHandle<T>) {
    const WAITING: &str = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted";
    while !work.is_finished() && sqlx::query_scalar::<_, i64>(WAITING).fetch_one(pool).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_token_has_the_roles_of_the_moment_at_which_its_session_begins() {
    let databases = Databases::postgres();
    let url = databases.fresh();
    let desk = Desk::live(&url, quick()).await;
    let user = desk.app.make_user("eve", PASSWORD, admin()).await.unwrap().unwrap();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    for by_password in [true, false] {
        const DEMOTE: &str = "UPDATE accounts.users SET roles = '[\"fan\"]', is_admin = 0 WHERE login = $1";
        const PROMOTE: &str = "UPDATE accounts.users SET roles = '[\"admin\"]', is_admin = 1 WHERE login = $1";
        sqlx::query(PROMOTE).bind("eve").execute(&pool).await.unwrap();
        let held = hold(&pool, "eve", DEMOTE).await;
        let app = desk.app.clone();
        let work = tokio::spawn(async move {
            match by_password {
                true => app.sign_in("eve", PASSWORD, HOME).await,
                false => app.change_password(&of(user.id), PASSWORD, "nine tall blue herons", HOME).await,
            }
        });
        is_waited_for(&pool, &work).await;
        held.commit().await.unwrap();
        let signed_in = work.await.unwrap().unwrap();
        assert_eq!(signed_in.user.roles, ["fan"], "by password: {by_password}");
        let identity = desk.app.keys().verify(&signed_in.access_token).unwrap();
        assert!(!identity.is("admin"));
    }
    pool.close().await;
}

#[tokio::test]
async fn what_begins_while_somebody_signs_out_everywhere_is_ended_too() {
    let databases = Databases::postgres();
    let url = databases.fresh();
    let desk = Desk::live(&url, quick()).await;
    desk.app.make_user("ada", PASSWORD, vec![]).await.unwrap();
    let here = desk.app.sign_in("ada", PASSWORD, HOME).await.unwrap().refresh_token;
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    // Another process is about to commit a session, as one does that redeems a code.
    let mut held = hold(&pool, "ada", "UPDATE accounts.users SET login = login WHERE login = $1").await;
    const BEGIN: &str = "INSERT INTO accounts.sessions
        SELECT gen_random_uuid(), user_id, client_id, seed, 0, rotated_at, created_at, ends_at FROM accounts.sessions";
    sqlx::query(BEGIN).execute(&mut *held).await.unwrap();
    let app = desk.app.clone();
    let work = tokio::spawn(async move { app.sign_out(&here, None, SignOut::Everywhere).await });
    is_waited_for(&pool, &work).await;
    held.commit().await.unwrap();
    work.await.unwrap().unwrap();
    pool.close().await;
    assert_eq!(number(&url, "SELECT COUNT(*) FROM accounts.sessions WHERE ended_at IS NULL").await, 0);
}

#[tokio::test]
async fn a_browser_that_signs_in_anew_leaves_no_session_behind() {
    let databases = Databases::sqlite();
    let desk = Desk::still(&databases.fresh(), quick()).await;
    for login in ["ada", "eve"] {
        desk.app.make_user(login, PASSWORD, vec![]).await.unwrap();
    }
    let body = |login: &str| json!({ "login": login, "password": PASSWORD, "cookie": true }).to_string();
    let sign_in = || Request::post("/accounts/sign-in").header("content-type", "application/json");
    let first = desk.send(sign_in(), &body("ada")).await.headers["set-cookie"].to_str().unwrap().to_owned();
    let cookie = first.split(';').next().unwrap();
    // Somebody who does not get in ends nothing.
    let wrong = json!({ "login": "eve", "password": "wrong wrong wrong", "cookie": true }).to_string();
    assert_eq!(desk.send(sign_in().header("cookie", cookie), &wrong).await.status, StatusCode::UNAUTHORIZED);
    let refresh = || Request::post("/accounts/refresh").header("content-type", "application/json");
    assert_eq!(desk.send(refresh().header("cookie", cookie), "{}").await.status, StatusCode::OK);
    assert_eq!(desk.send(sign_in().header("cookie", cookie), &body("eve")).await.status, StatusCode::OK);
    assert_eq!(desk.send(refresh().header("cookie", cookie), "{}").await.body["code"], "accounts.session_over");
}

#[tokio::test]
async fn an_account_has_so_many_sessions_and_the_longest_unused_ends() {
    let databases = Databases::sqlite();
    let free = Rate { burst: 1_000, every_s: 1 };
    let desk = Desk::still(&databases.fresh(), Config { address_rate: free, account_rate: free, ..quick() }).await;
    desk.app.make_user("ada", PASSWORD, vec![]).await.unwrap();
    let mut sessions = Vec::new();
    for _ in 0..102 {
        desk.passes(20);
        sessions.push(desk.app.sign_in("ada", PASSWORD, HOME).await.unwrap().refresh_token);
        // The first one is in use.
        sessions[0] = desk.app.refresh(&sessions[0], None).await.unwrap().refresh_token;
    }
    desk.passes(20);
    let mut goes_on = Vec::new();
    for token in &sessions {
        goes_on.push(desk.app.refresh(token, None).await.is_ok());
    }
    assert_eq!(goes_on.iter().filter(|goes_on| **goes_on).count(), 100);
    assert!(goes_on[0] && !goes_on[1] && !goes_on[2] && goes_on[3]);
}

#[tokio::test]
async fn who_is_throttled_leaves_no_rows() {
    let databases = Databases::sqlite();
    let url = databases.fresh();
    let rate = Rate { burst: 3, every_s: 600 };
    let desk = Desk::still(&url, Config { address_rate: rate, ..quick() }).await;
    for number in 0..40 {
        desk.app.sign_in(&format!("name-{number}"), "wrong wrong", HOME).await.unwrap_err();
    }
    // The address, and the names that were tried before it was too much.
    assert_eq!(rows(&url, "throttles").await, 4);
    desk.passes(60);
    desk.app.store().sweep().await.unwrap();
    assert_eq!(rows(&url, "throttles").await, 1, "names that may be tried as if never before are forgotten");
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
async fn a_name_of_a_program_that_was_taken_back_is_free() {
    for databases in [Databases::sqlite(), Databases::postgres()] {
        let url = databases.fresh();
        let desk = Desk::live(&url, quick()).await;
        let root = desk.admin().await;
        let body = json!({ "name": "fleet", "roles": ["edge"] });
        for _ in 0..3 {
            let made = desk.ask(&root, "POST", "/accounts/clients", body.clone()).await;
            assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
            let taken = desk.ask(&root, "POST", "/accounts/clients", body.clone()).await;
            assert_eq!(taken.body["code"], "accounts.taken");
            let path = format!("/accounts/clients/{}", made.body["id"].as_str().unwrap());
            assert_eq!(desk.ask(&root, "DELETE", &path, Value::Null).await.body["revoked"], true);
        }
    }
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
