//! Two that are under way at the same moment, one of them kept waiting half way through its transaction.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tessera_kernel::{Ids, RandomIds, SystemClock};
use tessera_service::Identity;
use tessera_service::identity::Origin;
use tessera_store::claims::{Claims, RedisClaims};
use tessera_store::redis::Redis;
use tessera_store::sql::Db;
use tessera_testkit::sql::Databases;
use tessera_tickets::Error;
use tessera_tickets::app::request::Request;
use tessera_tickets::app::reserve::Wish;
use tessera_tickets::domain::event::{Details, Rules};
use tessera_tickets::domain::ids::{AttemptId, OrderId};
use tessera_tickets::domain::order::State;
use tessera_tickets::payment::{Card, Method};
use tessera_tickets::store::{Begun, Hold, NewOrder, Once, ReleaseHold, Released};
use tokio::time::sleep;

use crate::support::{Process, details, hall, plan, publish, tickets, tomorrow};

const GOOD: &str = "4242424242424242";
const ANSWERS_AFTER_2_S: &str = "4000000000010001";
/// Long enough for what is started to reach the lock that it waits at.
const REACH: Duration = Duration::from_millis(400);

fn request(subject: &str, key: &str) -> Request {
    Request { subject: subject.into(), key: key.into() }
}

fn card(number: &str) -> Method {
    Method::Card(Card::new(number, 12, 2094, "123").unwrap())
}

/// A transaction of our own that stands in the way.
async fn in_the_way(pool: &PgPool, lock: &'static str) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("SET search_path = tickets").execute(&mut *transaction).await.unwrap();
    sqlx::query(lock).execute(&mut *transaction).await.unwrap();
    transaction
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_is_given_back_or_paid_not_both() {
    let (databases, redis) = (Databases::postgres(), tessera_testkit::redis::start());
    for with_redis in [false, true] {
        let (url, event) = hall(&databases).await;
        let process = async || {
            let claims = match with_redis {
                true => {
                    let redis = Redis::open(&redis.url()).await.unwrap();
                    Some(Arc::new(RedisClaims::new(redis, "tickets")) as Arc<dyn Claims>)
                }
                false => None,
            };
            Process { claims, ..Process::new(&url, Arc::new(SystemClock)) }.start().await.0
        };
        // Two processes, so that the two are two transactions.
        let (app, other) = (process().await, process().await);
        let wish = Wish { event: Some(event), tickets: tickets(event, &[1]), ..Wish::default() };
        let hold = app.reserve(&request("ana", "1"), &wish).await.unwrap().hold.id;
        let pool = PgPool::connect(&url).await.unwrap();
        // Orders can be read, and not be added.
        let lock = in_the_way(&pool, "LOCK TABLE orders IN SHARE MODE").await;
        let paying = tokio::spawn(async move { app.confirm(&request("ana", "2"), hold, card(GOOD), None).await });
        sleep(REACH).await;
        let giving = tokio::spawn(async move { other.release(&"ana".into(), hold).await });
        sleep(REACH).await;
        lock.commit().await.unwrap();
        let (paid, given) = (paying.await.unwrap(), giving.await.unwrap());
        match (&paid, &given) {
            (Ok(purchase), Err(Error::NotNow { .. })) => assert_eq!(purchase.order.money.state, State::Captured),
            (Err(Error::HoldOver { .. }), Ok(1)) => {}
            _ => panic!("with_redis {with_redis}: {paid:?} and {given:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_sleeps_half_way_does_not_keep_others_waiting() {
    let databases = Databases::postgres();
    let (url, event) = hall(&databases).await;
    let app = Process::new(&url, Arc::new(SystemClock)).start().await.0;
    let wish = |seat: u32| Wish { event: Some(event), tickets: tickets(event, &[seat]), ..Wish::default() };
    app.reserve(&request("ana", "1"), &wish(1)).await.unwrap();
    let asleep = Db::open(&url, "tickets", &tessera_tickets::store::migrations()).await.unwrap();
    let Db::Postgres(pool) = &asleep else { panic!("{url}") };
    let mut half_way = pool.begin().await.unwrap();
    // Whoever changes a seat of the event waits for this row.
    sqlx::query("SELECT 1 FROM seat_feeds FOR UPDATE").execute(&mut *half_way).await.unwrap();
    // The writer gives its callers an answer before, but goes on.
    while app.reserve(&request("bob", "1"), &wish(2)).await.is_err() {}
    assert!(sqlx::query("SELECT 1").execute(&mut *half_way).await.is_err(), "it has lost its transaction");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_that_is_being_booked_as_its_hold_lapses_is_held_by_nobody_else() {
    let databases = Databases::postgres();
    let url = databases.fresh();
    let mut details = details(16);
    details.rules = Rules { hold_ttl_s: 3, ..details.rules };
    let event = publish(&url, &plan(2, 8), &details, tomorrow()).await;
    let process = async || {
        let window = Duration::from_secs(3);
        Process { payment_window: window, timeout_s: 5, ..Process::new(&url, Arc::new(SystemClock)) }.start().await.0
    };
    let (app, other) = (process().await, process().await);
    let wish = Wish { event: Some(event), tickets: tickets(event, &[1]), ..Wish::default() };
    let hold = app.reserve(&request("ana", "1"), &wish).await.unwrap().hold.id;
    let pool = PgPool::connect(&url).await.unwrap();
    let slow = card(ANSWERS_AFTER_2_S);
    let paying = tokio::spawn(async move { app.confirm(&request("ana", "2"), hold, slow, None).await });
    sleep(Duration::from_millis(1_500)).await;
    // The last lock that a booking takes: from the second second on it waits there, checked and not yet committed.
    let lock = in_the_way(&pool, "SELECT 1 FROM seat_feeds FOR UPDATE").await;
    sleep(Duration::from_millis(2_200)).await;
    // The hold is over by now.
    let holding = tokio::spawn(async move { other.reserve(&request("bob", "1"), &wish).await });
    sleep(REACH).await;
    lock.commit().await.unwrap();
    let (paid, held) = (paying.await.unwrap(), holding.await.unwrap());
    match (&paid, &held) {
        (Ok(purchase), Err(Error::SeatsTaken { .. })) => assert_eq!(purchase.order.money.state, State::Captured),
        (Err(Error::SeatsGone { .. }), Ok(_)) => {}
        _ => panic!("{paid:?} and {held:?}"),
    }
}

fn new_order(hold: &Hold) -> NewOrder {
    NewOrder {
        id: OrderId::from(RandomIds.next()),
        hold: hold.id,
        subject: "ana".into(),
        prices: None,
        promo: None,
        currency: "EUR".parse().unwrap(),
        attempt: AttemptId::from(RandomIds.next()),
        provider: "test",
        window: Duration::from_secs(300),
        request_hash: [0; 16],
        extended: None,
    }
}

/// Claims that are kept elsewhere do not decide between what comes in one batch.
#[tokio::test]
async fn a_hold_is_given_back_or_paid_not_both_in_one_batch_either() {
    let databases = Databases::sqlite();
    let (url, event) = hall(&databases).await;
    let app = Process::new(&url, Arc::new(SystemClock)).start().await.0;
    let wish = Wish { event: Some(event), tickets: tickets(event, &[1]), ..Wish::default() };
    let hold = app.reserve(&request("ana", "1"), &wish).await.unwrap().hold;
    let new = NewOrder { extended: Some(Some(hold.expires_at)), ..new_order(&hold) };
    let back = ReleaseHold { hold: hold.id, subject: "ana".into(), freed: Some(true), asked: None };
    // On this one thread both are handed in before the writer looks.
    let (begun, released) = tokio::join!(app.store.begin_order(new), app.store.release(back));
    match (begun.unwrap(), released.unwrap()) {
        (Begun::Over(_), Once::Now(Released::Done(_, 1))) | (Begun::Made(_), Once::Now(Released::InOrder)) => {}
        both => panic!("{both:?}"),
    }
}

/// What is asked for behind something that comes to nothing is not told of an order that was never made.
#[tokio::test]
async fn a_hold_that_is_over_is_over_for_all_who_pay_at_once() {
    let databases = Databases::sqlite();
    let (url, event) = hall(&databases).await;
    let app = Process::new(&url, Arc::new(SystemClock)).start().await.0;
    let wish = Wish { event: Some(event), tickets: tickets(event, &[1]), ..Wish::default() };
    let hold = app.reserve(&request("ana", "1"), &wish).await.unwrap().hold;
    let new = || NewOrder { extended: Some(None), ..new_order(&hold) };
    // On this one thread both are handed in before the writer looks.
    let (one, other) = tokio::join!(app.store.begin_order(new()), app.store.begin_order(new()));
    for begun in [one.unwrap(), other.unwrap()] {
        assert!(matches!(begun, Begun::Over(_)), "{begun:?}");
    }
}

/// A ticket that is just being passed on, or gone in with, does not go back at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_goes_back_as_it_is_when_the_money_does() {
    const PASSED: &str = "UPDATE bookings SET subject = 'ben', serial = 2";
    const USED: &str = "UPDATE bookings SET checked_in_at = 1";
    let databases = Databases::postgres();
    for change in [PASSED, USED] {
        let url = databases.fresh();
        let rules = Rules { refundable_until_h: Some(1), transferable: true, ..Rules::default() };
        let event = publish(&url, &plan(2, 8), &Details { rules, ..details(16) }, tomorrow()).await;
        let app = Process::new(&url, Arc::new(SystemClock)).start().await.0;
        let wish = Wish { event: Some(event), tickets: tickets(event, &[1]), ..Wish::default() };
        let hold = app.reserve(&request("ana", "1"), &wish).await.unwrap().hold.id;
        let order = app.confirm(&request("ana", "2"), hold, card(GOOD), None).await.unwrap().order.id;
        let pool = PgPool::connect(&url).await.unwrap();
        let lock = in_the_way(&pool, change).await;
        let roles = ["fan".to_owned()].into();
        let ana = Identity { subject: "ana".into(), roles, origin: Origin::Own, expires_at: tomorrow() };
        let other = app.clone();
        let refunding =
            tokio::spawn(async move { other.refund_order(&ana, "3".into(), order, None).await.map(|view| view.order) });
        sleep(REACH).await;
        lock.commit().await.unwrap();
        let refused = refunding.await.unwrap();
        assert!(refused.is_err(), "{change}: {refused:?}");
        let still: i64 = sqlx::query_scalar("SELECT count(*) FROM tickets.bookings").fetch_one(&pool).await.unwrap();
        assert_eq!(still, 1, "{change}");
    }
}
