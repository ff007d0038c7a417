//! What holds on both engines.

use std::collections::HashSet;
use std::time::Duration;

use tessera_accounts::Error;
use tessera_accounts::config::Config;
use tessera_accounts::domain::refresh::Presented;
use tessera_accounts::domain::throttle::Rate;
use tessera_accounts::store::{Changed, Ending, NewSession, Refreshed, SignOut};
use tessera_kernel::Timestamp;
use tessera_testkit::sql::Databases;
use tokio::task::JoinSet;

use crate::support::{Desk, HOME, PASSWORD, execute, number, of, quick};

#[tokio::test]
async fn on_sqlite() {
    all(&Databases::sqlite()).await;
}

#[tokio::test]
async fn on_postgresql() {
    all(&Databases::postgres()).await;
}

async fn all(databases: &Databases) {
    a_name_is_taken_once(databases).await;
    sessions_go_on_and_end(databases).await;
    a_password_that_was_replaced_begins_nothing(databases).await;
    a_password_is_set_anew(databases).await;
    a_thief_ends_the_session(databases).await;
    attempts_outlive_the_process(databases).await;
    one_admin_stays(databases).await;
    lists_go_on_from_their_end(databases).await;
    sweeping_goes_on_to_the_end(databases).await;
}

/// More than are forgotten at once.
async fn sweeping_goes_on_to_the_end(databases: &Databases) {
    let url = databases.fresh();
    let desk = Desk::live(&url, quick()).await;
    desk.app.make_user("ada", PASSWORD, vec![]).await.unwrap();
    desk.app.sign_in("ada", PASSWORD, HOME).await.unwrap();
    const NUMBERS: &str =
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2500) ";
    execute(
        &url,
        &format!(
            "INSERT INTO accounts.throttles (key, arrival) {NUMBERS}
        SELECT {}, n FROM numbers",
            if url.starts_with("sqlite:") { "CAST(n AS BLOB)" } else { "int4send(n)" }
        ),
    )
    .await;
    let id = if url.starts_with("sqlite:") { "randomblob(16)" } else { "gen_random_uuid()" };
    let columns = "user_id, seed, generation, rotated_at, created_at, ends_at";
    // Ended long ago, though they might have gone on.
    execute(
        &url,
        &format!(
            "INSERT INTO accounts.sessions (id, {columns}, ended_at) {NUMBERS}
        SELECT {id}, user_id, seed, 0, 1, 1, ends_at, 2 FROM accounts.sessions, numbers"
        ),
    )
    .await;
    assert_eq!(number(&url, "SELECT COUNT(*) FROM accounts.sessions").await, 2_501);
    desk.app.store().sweep().await.unwrap();
    assert_eq!(number(&url, "SELECT COUNT(*) FROM accounts.sessions").await, 1);
    assert!(number(&url, "SELECT COUNT(*) FROM accounts.throttles").await <= 2);
}

async fn a_name_is_taken_once(databases: &Databases) {
    let url = databases.fresh();
    let desk = Desk::live(&url, quick()).await;
    let other = desk.sibling(&url).await;
    // All at once, at two processes.
    let mut sign_ups = JoinSet::new();
    for number in 0..12 {
        let app = if number % 2 == 0 { desk.app.clone() } else { other.app.clone() };
        let login = if number % 3 == 0 { "ADA" } else { "ada" };
        sign_ups.spawn(async move { app.make_user(login, PASSWORD, vec![]).await.unwrap() });
    }
    let made: Vec<_> = sign_ups.join_all().await.into_iter().flatten().collect();
    assert_eq!(made.len(), 1);
    assert_eq!(desk.app.store().by_login("ada").await.unwrap().unwrap().0, made[0]);
    assert_eq!(desk.app.store().user(made[0].id).await.unwrap().unwrap().login, "ada");
    let stored = desk.app.store().by_login("ada").await.unwrap().unwrap().1;
    assert!(stored.starts_with("$argon2id$") && !stored.contains("owls"));
}

async fn sessions_go_on_and_end(databases: &Databases) {
    let url = databases.fresh();
    let desk = Desk::live(&url, Config { refresh_grace_s: 0, ..quick() }).await;
    let user = desk.app.make_user("ada", PASSWORD, vec!["fan".into()]).await.unwrap().unwrap();
    let first = desk.app.sign_in("Ada", PASSWORD, HOME).await.unwrap();
    let elsewhere = desk.app.sign_in("ada", PASSWORD, HOME).await.unwrap();
    let mut token = first.refresh_token.clone();
    let mut seen = HashSet::from([token.clone()]);
    for _ in 0..5 {
        let next = desk.sibling(&url).await.app.refresh(&token, None).await.unwrap();
        assert_eq!(next.user, user);
        assert!(seen.insert(next.refresh_token.clone()), "each is another");
        desk.app.keys().verify(&next.access_token).unwrap();
        token = next.refresh_token;
    }
    // Another password ends all of them; the new one begins another.
    assert!(matches!(
        desk.app.change_password(&of(user.id), "not the password", "nine tall blue herons", HOME).await,
        Err(Error::BadCredentials)
    ));
    let changed = desk.app.change_password(&of(user.id), PASSWORD, "nine tall blue herons", HOME).await.unwrap();
    for token in [&token, &elsewhere.refresh_token] {
        assert!(matches!(desk.app.refresh(token, None).await, Err(Error::SessionOver)));
    }
    assert!(matches!(desk.app.sign_in("ada", PASSWORD, HOME).await, Err(Error::BadCredentials)));
    let next = desk.app.refresh(&changed.refresh_token, None).await.unwrap();
    // Signing out ends one, or all.
    let other = desk.app.sign_in("ada", "nine tall blue herons", HOME).await.unwrap();
    desk.app.sign_out(&next.refresh_token, None, SignOut::Here).await.unwrap();
    assert!(desk.app.refresh(&next.refresh_token, None).await.is_err());
    let other = desk.app.refresh(&other.refresh_token, None).await.unwrap();
    let third = desk.app.sign_in("ada", "nine tall blue herons", HOME).await.unwrap();
    desk.app.sign_out(&third.refresh_token, None, SignOut::Everywhere).await.unwrap();
    assert!(desk.app.refresh(&other.refresh_token, None).await.is_err());
    // Who may not sign in has no session, and begins none.
    let last = desk.app.sign_in("ada", "nine tall blue herons", HOME).await.unwrap();
    desk.app.edit_user(user.id, None, Some(true)).await.unwrap();
    assert!(desk.app.refresh(&last.refresh_token, None).await.is_err());
    assert!(matches!(desk.app.sign_in("ada", "nine tall blue herons", HOME).await, Err(Error::BadCredentials)));
    desk.app.store().sweep().await.unwrap();
}

/// It was compared, and before its session began somebody changed it.
async fn a_password_that_was_replaced_begins_nothing(databases: &Databases) {
    let url = databases.fresh();
    let desk = Desk::live(&url, quick()).await;
    let user = desk.app.make_user("ada", PASSWORD, vec![]).await.unwrap().unwrap();
    let (_, old) = desk.app.store().by_login("ada").await.unwrap().unwrap();
    desk.app.change_password(&of(user.id), PASSWORD, "nine tall blue herons", HOME).await.unwrap();
    let late = NewSession {
        id: tessera_kernel::Uuid::from_u128(7).into(),
        user: user.id,
        client: None,
        seed: [7; 32],
        ttl: Duration::from_secs(60),
        password: Some(old),
    };
    assert_eq!(desk.app.store().begin_session(late.clone()).await.unwrap(), None);
    let (_, present) = desk.app.store().by_login("ada").await.unwrap().unwrap();
    let session = NewSession { password: Some(present), ..late };
    assert_eq!(desk.app.store().begin_session(session).await.unwrap().unwrap().id, user.id);
}

/// By whoever runs the server, for somebody who has forgotten it.
async fn a_password_is_set_anew(databases: &Databases) {
    let url = databases.fresh();
    let rate = Rate { burst: 2, every_s: 3_600 };
    let desk = Desk::live(&url, Config { account_rate: rate, ..quick() }).await;
    desk.app.make_user("ada", PASSWORD, vec![]).await.unwrap();
    let before = desk.app.sign_in("ada", PASSWORD, HOME).await.unwrap();
    for _ in 0..3 {
        desk.app.sign_in("ada", "wrong wrong", HOME).await.unwrap_err();
    }
    desk.app.set_password("Ada", "nine tall blue herons").await.unwrap();
    assert!(matches!(desk.app.refresh(&before.refresh_token, None).await, Err(Error::SessionOver)));
    assert!(matches!(desk.app.sign_in("ada", PASSWORD, HOME).await, Err(Error::BadCredentials)));
    desk.app.sign_in("ada", "nine tall blue herons", HOME).await.unwrap();
    assert!(matches!(desk.app.set_password("ada", "password123").await, Err(Error::WeakPassword { .. })));
    assert!(matches!(desk.app.set_password("bob", PASSWORD).await, Err(Error::NotFound { .. })));
}

async fn a_thief_ends_the_session(databases: &Databases) {
    let url = databases.fresh();
    let desk = Desk::live(&url, Config { refresh_grace_s: 0, ..quick() }).await;
    desk.app.make_user("ada", PASSWORD, vec![]).await.unwrap().unwrap();
    let first = desk.app.sign_in("ada", PASSWORD, HOME).await.unwrap();
    let second = desk.app.refresh(&first.refresh_token, None).await.unwrap();
    assert!(matches!(desk.app.refresh(&first.refresh_token, None).await, Err(Error::SessionOver)), "it was used");
    assert!(
        matches!(desk.app.refresh(&second.refresh_token, None).await, Err(Error::SessionOver)),
        "the family is ended"
    );
    // A token that nobody has made ends nothing.
    let third = desk.app.sign_in("ada", PASSWORD, HOME).await.unwrap();
    let mut forged = third.refresh_token.clone().into_bytes();
    let at = forged.len() - 5;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    assert!(Presented::parse(&forged).is_some());
    assert!(desk.app.refresh(&forged, None).await.is_err());
    desk.app.sign_out(&forged, None, SignOut::Everywhere).await.unwrap();
    // Two tabs at once, at two processes: both go on, with the same token.
    let patient = Desk::live(&url, quick()).await;
    patient.app.make_user("grace", PASSWORD, vec![]).await.unwrap().unwrap();
    let other = patient.sibling(&url).await;
    let signed_in = patient.app.sign_in("grace", PASSWORD, HOME).await.unwrap();
    execute(&url, "UPDATE accounts.sessions SET rotated_at = rotated_at - 60000000").await;
    let (left, right) = tokio::join!(
        patient.app.refresh(&signed_in.refresh_token, None),
        other.app.refresh(&signed_in.refresh_token, None)
    );
    let (left, right) = (left.unwrap().refresh_token, right.unwrap().refresh_token);
    assert_eq!(left, right);
    assert_ne!(left, signed_in.refresh_token, "one of them turned it");
    desk.app.refresh(&third.refresh_token, None).await.unwrap();
    // Each of many at once that come too late is told, and the session is ended by one of them.
    let presented = Presented::parse(&third.refresh_token).unwrap();
    let late = tokio::join!(
        desk.app.store().refresh(presented.session, 0),
        desk.app.store().refresh(presented.session, 0),
        desk.app.store().refresh(presented.session, 0)
    );
    let stolen = [late.0, late.1, late.2].into_iter().filter(|late| matches!(late, Ok(Refreshed::Stolen(_))));
    assert_eq!(stolen.count(), 1);
    desk.app.store().end(Ending::One(presented.session)).await.unwrap();
}

async fn attempts_outlive_the_process(databases: &Databases) {
    let url = databases.fresh();
    let rate = Rate { burst: 3, every_s: 3_600 };
    let desk = Desk::live(&url, Config { account_rate: rate, ..quick() }).await;
    desk.app.make_user("ada", PASSWORD, vec![]).await.unwrap().unwrap();
    // Wrong ones at two processes, of an account that exists and of one that does not: no difference.
    for login in ["ada", "nobody"] {
        for number in 0..3 {
            let app = if number == 1 { desk.sibling(&url).await.app } else { desk.app.clone() };
            assert!(matches!(app.sign_in(login, "wrong wrong", HOME).await, Err(Error::BadCredentials)), "{login}");
        }
        let again = desk.sibling(&url).await.app.sign_in(login, PASSWORD, HOME).await;
        let Err(Error::Throttled { after_s, .. }) = again else { panic!("{login}: {again:?}") };
        assert!((3_500..=3_600).contains(&after_s), "{after_s}");
    }
    // The right one forgets those before it.
    let url = databases.fresh();
    let desk = Desk::live(&url, Config { account_rate: rate, ..quick() }).await;
    desk.app.make_user("ada", PASSWORD, vec![]).await.unwrap().unwrap();
    for _ in 0..4 {
        for _ in 0..2 {
            assert!(desk.app.sign_in("ada", "wrong wrong", HOME).await.is_err());
        }
        desk.app.sign_in("ada", PASSWORD, HOME).await.unwrap();
    }
    // An address has its own, whatever the names.
    let url = databases.fresh();
    let desk = Desk::live(&url, Config { address_rate: rate, sign_up_rate: rate, ..quick() }).await;
    for number in 0..4 {
        let tried = desk.app.sign_in(&format!("name-{number}"), "wrong wrong", HOME).await.unwrap_err();
        assert_eq!(matches!(tried, Error::Throttled { .. }), number == 3, "{tried}");
        let tried = desk.app.sign_up(&format!("name-{number}"), PASSWORD, None, HOME).await;
        assert_eq!(matches!(tried, Err(Error::Throttled { .. })), number == 3, "{tried:?}");
    }
    // All of one IPv6 network are one address.
    for number in 0..4 {
        let from = format!("2001:db8:1:2::{number}").parse().unwrap();
        let tried = desk.app.sign_in("somebody", "wrong wrong", from).await.unwrap_err();
        assert_eq!(matches!(tried, Error::Throttled { .. }), number == 3, "{tried}");
    }
    desk.app.store().sweep().await.unwrap();
}

async fn one_admin_stays(databases: &Databases) {
    let url = databases.fresh();
    let desk = Desk::live(&url, quick()).await;
    let other = desk.sibling(&url).await;
    let admin = || vec!["admin".to_owned()];
    let ada = desk.app.make_user("ada", PASSWORD, admin()).await.unwrap().unwrap();
    assert!(matches!(desk.app.edit_user(ada.id, Some(&[]), None).await, Err(Error::LastAdmin { .. })));
    assert!(matches!(desk.app.edit_user(ada.id, None, Some(true)).await, Err(Error::LastAdmin { .. })));
    for round in 0..5 {
        let eve = desk.app.make_user(&format!("eve-{round}"), PASSWORD, admin()).await.unwrap().unwrap();
        // Two who end each other at the same moment.
        let (left, right) =
            tokio::join!(desk.app.edit_user(ada.id, Some(&[]), None), other.app.edit_user(eve.id, None, Some(true)));
        assert!(left.is_ok() != right.is_ok(), "{left:?} {right:?}");
        desk.app.edit_user(ada.id, Some(&admin()), Some(false)).await.unwrap();
        desk.app.edit_user(eve.id, Some(&[]), None).await.unwrap();
    }
    let roles = ["driver".to_owned(), "fan".to_owned(), "driver".to_owned()];
    assert_eq!(
        desk.app.edit_user(ada.id, Some(&[&roles[..], &admin()].concat()), None).await.unwrap().roles,
        ["fan", "driver", "admin"]
    );
    let refused = desk.app.edit_user(ada.id, Some(&["king".to_owned()]), None).await.unwrap_err().to_string();
    assert!(refused.contains("`king`") && refused.contains("organiser"), "{refused}");
    let nobody = tessera_kernel::Uuid::nil().into();
    assert!(matches!(desk.app.edit_user(nobody, None, None).await, Err(Error::NotFound { .. })));
}

async fn lists_go_on_from_their_end(databases: &Databases) {
    let url = databases.fresh();
    let desk = Desk::live(&url, quick()).await;
    let store = desk.app.store();
    let mut made = HashSet::new();
    for number in 0..7 {
        made.insert(desk.app.make_user(&format!("user-{number}"), PASSWORD, vec![]).await.unwrap().unwrap().id);
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let changed = Changed { since: Timestamp::from_micros(0), after, limit: 3 };
        let page = store.users_since(changed).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.updated_at, last.id.uuid()));
        seen.extend(page);
    }
    assert_eq!(seen.len(), 7);
    assert_eq!(seen.iter().map(|user| user.id).collect::<HashSet<_>>(), made);
    let edited = desk.app.edit_user(seen[2].id, Some(&["driver".to_owned()]), None).await.unwrap();
    let since = |since| Changed { since, after: None, limit: 10 };
    let page = store.users_since(since(edited.updated_at)).await.unwrap();
    assert_eq!(page, std::slice::from_ref(&edited));
    let later = edited.updated_at.plus(Duration::from_secs(1));
    assert!(store.users_since(since(later)).await.unwrap().is_empty());
}
