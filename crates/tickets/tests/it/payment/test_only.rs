//! What only the test provider does: cards that answer late or never, and a ledger that outlives the process.

use tessera_kernel::{Clock, ManualClock, Timestamp};
use tessera_tickets::app::request::Request;
use tessera_tickets::app::reserve::Wish;
use tessera_tickets::payment::test::Totals;

use super::*;

struct Late {
    test: Test,
    clock: Arc<ManualClock>,
    _folder: ScratchDir,
}

async fn by_hand(patience: Duration) -> Late {
    let folder = ScratchDir::new();
    let url = format!("sqlite:{}", folder.file("payments-test.db").display());
    let clock = Arc::new(ManualClock::at("2030-05-31T23:59:00Z".parse::<Timestamp>().unwrap()));
    let db = Db::open(&url, test::SCHEMA, test::STEPS).await.unwrap();
    Late { test: Test::new(db, clock.clone() as Arc<dyn Clock>, patience, Default::default()), clock, _folder: folder }
}

#[tokio::test]
async fn an_answer_that_comes_late_is_pending_until_then() {
    let Late { test, clock, _folder } = by_hand(PATIENCE).await;
    let request = wish(attempt(), 4_500, card("4000000000010019"));
    is_unknown(test.authorise(request.clone()).await);
    let truth = async || test.look_up(Which::Attempt(request.attempt)).await.unwrap().unwrap();
    let payment = truth().await.payment;
    assert_eq!(truth().await.status, Status::Pending);
    assert_eq!(refused(test.capture(attempt(), &payment, eur(4_500)).await), "unexpected_state");
    clock.advance(Duration::from_secs(20));
    assert_eq!(truth().await.status, Status::Authorised);
    assert_eq!(authorised(test.authorise(request.clone()).await), payment);
}

#[tokio::test]
async fn an_answer_that_comes_in_time_is_waited_for() {
    let folder = ScratchDir::new();
    let url = format!("sqlite:{}", folder.file("payments-test.db").display());
    let db = Db::open(&url, test::SCHEMA, test::STEPS).await.unwrap();
    let test = Test::new(db, Arc::new(SystemClock), Duration::from_secs(60), Default::default());
    authorised(test.authorise(wish(attempt(), 4_500, card("4000000000010001"))).await);
}

#[tokio::test]
async fn a_silent_provider_says_nothing_of_a_payment_that_it_has() {
    let Late { test, clock, _folder } = by_hand(PATIENCE).await;
    let request = wish(attempt(), 4_500, card("4000000000010043"));
    is_unknown(test.authorise(request.clone()).await);
    is_unknown(test.look_up(Which::Attempt(request.attempt)).await);
    clock.advance(Duration::from_secs(30));
    let truth = test.look_up(Which::Attempt(request.attempt)).await.unwrap().unwrap();
    assert_eq!(truth.status, Status::Authorised);
}

#[tokio::test]
async fn a_provider_that_is_away_has_done_nothing() {
    let Late { test, _folder, .. } = by_hand(PATIENCE).await;
    let request = wish(attempt(), 4_500, card("4000000000010050"));
    let outcome = test.authorise(request.clone()).await;
    assert!(matches!(outcome, Err(Error::NotDone { .. })), "{outcome:?}");
    assert_eq!(test.look_up(Which::Attempt(request.attempt)).await.unwrap(), None);
}

#[tokio::test]
async fn a_bank_may_let_go_before_the_capture() {
    let Late { test, _folder, .. } = by_hand(PATIENCE).await;
    let payment = authorised(test.authorise(wish(attempt(), 4_500, card("4000000000010076"))).await);
    assert_eq!(refused(test.capture(attempt(), &payment, eur(4_500)).await), "capture_refused");
    assert_eq!(test.look_up(Which::Payment(&payment)).await.unwrap().unwrap().status, Status::Voided);
}

#[tokio::test]
async fn a_card_is_good_until_its_month_ends() {
    let Late { test, clock, _folder } = by_hand(PATIENCE).await;
    let until_may = || Method::Card(Card::new("4242424242424242", 5, 2030, "123").unwrap());
    authorised(test.authorise(wish(attempt(), 4_500, until_may())).await);
    clock.advance(Duration::from_secs(60));
    let outcome = test.authorise(wish(attempt(), 4_500, until_may())).await;
    assert!(matches!(&outcome, Ok(Authorisation::Declined(why)) if why.code == "expired_card"), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_is_the_same_for_all_processes_and_outlives_them() {
    let folder = ScratchDir::new();
    let (one, other) = (on_file(folder.path()).await, on_file(folder.path()).await);
    let payment = authorised(one.authorise(wish(attempt(), 9_000, good())).await);
    let waiting = wish(attempt(), 700, good());
    let declined = wish(attempt(), 500, card("4000000000009995"));
    authorised(other.authorise(waiting.clone()).await);
    other.authorise(declined.clone()).await.unwrap();
    // Both take the same money at the same time: one does.
    let (a, b) = (attempt(), attempt());
    let taken = tokio::join!(one.capture(a, &payment, eur(9_000)), other.capture(b, &payment, eur(9_000)));
    assert!(taken.0.is_ok() != taken.1.is_ok(), "{taken:?}");
    other.refund(attempt(), &payment, eur(2_000)).await.unwrap();
    one.close().await;
    other.close().await;
    assert!(matches!(one.void(attempt(), &payment).await, Err(Error::NotDone { .. })), "it is closed");
    drop((one, other));

    let later = on_file(folder.path()).await;
    let totals = later.totals().await.unwrap();
    let eur = Totals { currency: "EUR".into(), payments: 3, authorised: 700, captured: 9_000, refunded: 2_000 };
    assert_eq!(totals, [eur]);
    let ledger = later.ledger(None, 100).await.unwrap();
    let attempts: Vec<_> = ledger.iter().map(|payment| payment.attempt.unwrap()).collect();
    assert!(attempts.is_sorted() && attempts[1..] == [waiting.attempt, declined.attempt]);
    assert_eq!(later.ledger(Some(waiting.attempt), 100).await.unwrap(), ledger[2..]);
    assert_eq!(later.ledger(None, 1).await.unwrap(), ledger[..1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_shares_its_flushes() {
    let folder = ScratchDir::new();
    let test = on_file(folder.path()).await;
    let buy = async |amount: i64| {
        let payment = authorised(test.authorise(wish(attempt(), amount, good())).await);
        test.capture(attempt(), &payment, eur(amount)).await.unwrap();
    };
    futures::future::join_all((1..=500).map(buy)).await;
    let totals = test.totals().await.unwrap();
    assert_eq!((totals[0].payments, totals[0].captured, totals[0].authorised), (500, 500 * 501 / 2, 0));
}

#[tokio::test]
async fn who_is_not_answered_learns_which_order_is_being_settled() {
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    let databases = tessera_testkit::sql::Databases::sqlite();
    let (url, event) = crate::support::hall(&databases).await;
    let process = crate::support::Process::new(&url, Arc::new(tessera_kernel::SystemClock));
    let token = process.keys.sign_token("ana", &["fan".to_owned()], Duration::from_secs(60)).unwrap();
    let app = process.start().await.0;
    let wish = Wish { event: Some(event), tickets: crate::support::tickets(event, &[1]), ..Wish::default() };
    let hold = app.reserve(&Request { subject: "ana".into(), key: "1".into() }, &wish).await.unwrap().hold.id;
    let card = serde_json::json!({ "number": "4000000000010035", "exp_month": 12, "exp_year": 2094, "cvc": "123" });
    let body = serde_json::json!({ "hold_id": hold, "payment_details": { "card": card } }).to_string();
    let ask = http::Request::post("/booking/confirm").header("authorization", format!("Bearer {token}"));
    let ask = ask.header("idempotency-key", "2").header("content-type", "application/json");
    let answer = tessera_tickets::http::router(app.clone()).oneshot(ask.body(axum::body::Body::from(body)).unwrap());
    let answer = answer.await.unwrap();
    assert_eq!(answer.status().as_u16(), 503);
    let body: serde_json::Value =
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["code"], "tickets.payment_unknown", "{body}");
    let order: OrderId = body["order"].as_str().unwrap_or_else(|| panic!("{body}")).parse().unwrap();
    assert!(app.store.find_order(order).await.unwrap().is_some());
}

#[tokio::test]
async fn who_administers_reads_the_ledger() {
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    let databases = tessera_testkit::sql::Databases::sqlite();
    let (url, event) = crate::support::hall(&databases).await;
    let process = crate::support::Process::new(&url, Arc::new(tessera_kernel::SystemClock));
    let keys = process.keys.clone();
    let (app, test) = process.start().await;
    for (number, seat) in [("4242424242424242", 1), ("4000000000009995", 2)] {
        let request = |key: &str| Request { subject: "ana".into(), key: format!("{key}{seat}") };
        let tickets = crate::support::tickets(event, &[seat]);
        let wish = Wish { event: Some(event), tickets, ..Wish::default() };
        let hold = app.reserve(&request("hold"), &wish).await.unwrap().hold.id;
        let paid = app.confirm(&request("pay"), hold, card(number), None).await;
        assert_eq!(paid.is_ok(), seat == 1, "{paid:?}");
    }
    let router = tessera_tickets::http::test_payment::router(app, test);
    let get = async |role: &str, path: &str| {
        let token = keys.sign_token("eve", &[role.to_owned()], Duration::from_secs(60)).unwrap();
        let ask = http::Request::get(path).header("authorization", format!("Bearer {token}"));
        let answer = router.clone().oneshot(ask.body(axum::body::Body::empty()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<serde_json::Value>(&body).unwrap())
    };
    assert_eq!(get("fan", "/payments/test").await.0, 403);
    let (status, first) = get("admin", "/payments/test?limit=1").await;
    assert_eq!((status, first["items"].as_array().unwrap().len()), (200, 1), "{first}");
    let rest = format!("/payments/test?cursor={}", first["next_cursor"].as_str().unwrap());
    let rest = get("admin", &rest).await.1;
    let told = |payment: &serde_json::Value| {
        let amount = |what: &str| payment[what]["amount"].as_i64().unwrap();
        (payment["state"].as_str().unwrap().to_owned(), amount("amount"), amount("captured"), amount("refunded"))
    };
    assert_eq!(told(&first["items"][0]), ("captured".to_owned(), 4_500, 4_500, 0));
    assert_eq!(told(&rest["items"][0]), ("declined".to_owned(), 4_500, 0, 0));
    assert!(
        rest["next_cursor"].is_null() && rest["items"][0]["order"].as_str().unwrap().starts_with("order_"),
        "{rest}"
    );
}
