//! One contract for all payment providers: the test provider on both engines, and Stripe on a stand-in.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::{Ids, Money, RandomIds, SystemClock};
use tessera_store::sql::Db;
use tessera_testkit::stripe::{Fault, FaultKind};
use tessera_testkit::{ScratchDir, postgres, stripe as stand_in};
use tessera_tickets::domain::ids::{AttemptId, OrderId};
use tessera_tickets::payment::{
    Authorisation, Authorise, Card, Error, Method, Payment, PaymentRef, Provider, Status, Stripe, Test, Which, stripe,
    test,
};

mod stripe_only;
mod test_only;

/// How long a provider that does not answer is waited for.
const PATIENCE: Duration = Duration::from_millis(150);

/// A provider, and the hand that steers it.
enum Stage {
    Test(Arc<Test>),
    Stripe(Box<Stripe>, stand_in::Stripe),
}

async fn on_database(url: &str) -> Arc<Test> {
    let db = Db::open(url, test::SCHEMA, test::STEPS).await.unwrap();
    Arc::new(Test::new(db, Arc::new(SystemClock), PATIENCE, Default::default()))
}

async fn on_file(folder: &Path) -> Arc<Test> {
    on_database(&format!("sqlite:{}", folder.join("payments-test.db").display())).await
}

fn on_stand_in() -> (Stripe, stand_in::Stripe) {
    let server = stand_in::start();
    let access = stripe::Access {
        url: server.url.clone(),
        api_key: stand_in::API_KEY.into(),
        webhook_secret: stand_in::WEBHOOK_SECRET.into(),
        // As long as the three tries take with their pauses, unless one gets no answer.
        timeout: Duration::from_secs(3),
    };
    (Stripe::new(access, Arc::new(SystemClock)).unwrap(), server)
}

fn attempt() -> AttemptId {
    AttemptId::from(RandomIds.next())
}

fn eur(amount: i64) -> Money {
    Money::new(amount, "EUR".parse().unwrap())
}

fn card(number: &str) -> Method {
    Method::Card(Card::new(number, 12, 2094, "123").unwrap())
}

fn good() -> Method {
    card("4242424242424242")
}

fn wish(attempt: AttemptId, amount: i64, method: Method) -> Authorise {
    Authorise {
        attempt,
        order: OrderId::from(RandomIds.next()),
        amount: eur(amount),
        method,
        description: "2 tickets".into(),
        return_url: "https://tickets.example/orders".into(),
        metadata: vec![("event".into(), "event_1".into())],
    }
}

impl Stage {
    fn provider(&self) -> &dyn Provider {
        match self {
            Self::Test(test) => &**test,
            Self::Stripe(stripe, _) => &**stripe,
        }
    }

    /// The buyer's second step.
    async fn answer(&self, payment: &PaymentRef, agreed: bool) {
        match self {
            Self::Test(test) => drop(test.answer(payment, agreed).await.unwrap()),
            Self::Stripe(_, server) => server.answer(payment.as_str(), agreed),
        }
    }

    /// What to pay with so that no answer comes, to an authorisation that is done or is not.
    fn silent(&self, done: bool) -> Method {
        match self {
            Self::Test(_) => card(if done { "4000000000010027" } else { "4000000000010035" }),
            Self::Stripe(_, server) => {
                if done {
                    server.add_fault(Fault::once(FaultKind::SilentAfter).on("payment_intents"));
                }
                server.add_fault(Fault::once(FaultKind::SilentBefore).times(if done { 1 } else { 2 }));
                good()
            }
        }
    }

    /// What to pay with so that capturing it, or refunding it, is done but not answered.
    fn silent_later(&self, number: &str, path: &str) -> Method {
        match self {
            Self::Test(_) => card(number),
            Self::Stripe(_, server) => {
                server.add_fault(Fault::once(FaultKind::SilentAfter).on(path));
                server.add_fault(Fault::once(FaultKind::SilentBefore).on(path));
                good()
            }
        }
    }

    /// How many payments there are, what was captured and what went back.
    async fn sums(&self) -> (usize, i64, i64) {
        let all: Vec<(i64, i64)> = match self {
            Self::Test(test) => {
                let ledger = test.ledger(None, 1_000).await.unwrap();
                ledger.iter().map(|payment| (payment.captured, payment.refunded)).collect()
            }
            Self::Stripe(_, server) => {
                server.charged().iter().map(|payment| (payment.captured, payment.refunded)).collect()
            }
        };
        (all.len(), all.iter().map(|sums| sums.0).sum(), all.iter().map(|sums| sums.1).sum())
    }

    async fn authorise(&self, amount: i64, method: Method) -> PaymentRef {
        authorised(self.provider().authorise(wish(attempt(), amount, method)).await)
    }

    async fn truth(&self, payment: &PaymentRef) -> Payment {
        self.provider().look_up(Which::Payment(payment)).await.unwrap().unwrap()
    }
}

fn authorised(outcome: Result<Authorisation, Error>) -> PaymentRef {
    match outcome {
        Ok(Authorisation::Authorised { payment }) => payment,
        other => panic!("{other:?}"),
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

fn is_unknown<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    assert!(outcome.as_ref().is_err_and(Error::may_have_happened), "{outcome:?}");
}

/// The contract, as a list of cases that each get a provider without payments.
async fn contract(stage: impl AsyncFn() -> Stage) {
    money_is_set_aside_taken_and_returned_in_parts(&stage().await).await;
    the_same_attempt_is_the_same_payment(&stage().await).await;
    an_attempt_is_not_used_for_something_else(&stage().await).await;
    a_declined_card_says_why(&stage().await).await;
    a_second_step_decides(&stage().await).await;
    money_that_is_let_go_is_gone(&stage().await).await;
    no_more_goes_back_than_was_taken(&stage().await).await;
    what_never_arrived_is_not_known(&stage().await).await;
    a_lost_answer_is_looked_up(&stage().await).await;
    a_request_that_was_lost_is_looked_up_too(&stage().await).await;
    a_lost_answer_to_a_capture_or_refund_is_asked_for_again(&stage().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_test_provider_keeps_the_contract_on_sqlite() {
    let folders: std::sync::Mutex<Vec<ScratchDir>> = std::sync::Mutex::default();
    contract(async || {
        let folder = ScratchDir::new();
        let test = on_file(folder.path()).await;
        folders.lock().unwrap().push(folder);
        Stage::Test(test)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_test_provider_keeps_the_contract_on_postgres() {
    let server = postgres::start();
    contract(async || Stage::Test(on_database(&server.new_database()).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stripe_keeps_the_contract() {
    contract(async || {
        let (stripe, server) = on_stand_in();
        Stage::Stripe(Box::new(stripe), server)
    })
    .await;
}

async fn money_is_set_aside_taken_and_returned_in_parts(stage: &Stage) {
    let provider = stage.provider();
    let request = wish(attempt(), 9_000, good());
    let (made_by, order) = (request.attempt, request.order);
    let payment = authorised(provider.authorise(request).await);
    let truth = stage.truth(&payment).await;
    assert_eq!((truth.status.clone(), truth.amount), (Status::Authorised, eur(9_000)));
    assert_eq!((truth.attempt, truth.order), (Some(made_by), Some(order)));
    assert_eq!(provider.look_up(Which::Attempt(made_by)).await.unwrap(), Some(truth));
    provider.capture(attempt(), &payment, eur(9_000)).await.unwrap();
    for (part, refunded) in [(2_000, 2_000), (3_000, 5_000), (4_000, 9_000)] {
        provider.refund(attempt(), &payment, eur(part)).await.unwrap();
        let truth = stage.truth(&payment).await;
        assert_eq!((truth.status, truth.captured, truth.refunded), (Status::Captured, 9_000, refunded));
    }
    assert_eq!(stage.sums().await, (1, 9_000, 9_000));
}

async fn the_same_attempt_is_the_same_payment(stage: &Stage) {
    let provider = stage.provider();
    let request = wish(attempt(), 9_000, good());
    let at_once = futures::future::join_all((0..4).map(|_| provider.authorise(request.clone()))).await;
    let payment = authorised(provider.authorise(request.clone()).await);
    // One that overlaps another may be told that it is not known yet, never another payment.
    assert!(at_once.iter().any(Result::is_ok), "{at_once:?}");
    for outcome in at_once {
        let may = match &outcome {
            Ok(Authorisation::Authorised { payment: same }) => *same == payment,
            Ok(_) => false,
            Err(error) => error.may_have_happened(),
        };
        assert!(may, "{outcome:?}");
    }
    let (taking, returning) = (attempt(), attempt());
    for _ in 0..2 {
        provider.capture(taking, &payment, eur(9_000)).await.unwrap();
    }
    for _ in 0..2 {
        provider.refund(returning, &payment, eur(4_000)).await.unwrap();
        provider.capture(taking, &payment, eur(9_000)).await.unwrap();
    }
    assert_eq!(stage.sums().await, (1, 9_000, 4_000));
    // After all that, the first attempt is still that payment.
    assert_eq!(authorised(provider.authorise(request).await), payment);
}

async fn an_attempt_is_not_used_for_something_else(stage: &Stage) {
    let provider = stage.provider();
    let request = wish(attempt(), 9_000, good());
    let payment = authorised(provider.authorise(request.clone()).await);
    let more = Authorise { amount: eur(9_001), ..request.clone() };
    assert_eq!(refused(provider.authorise(more).await), "idempotency_error");
    let other = Authorise { method: card("4000000000009995"), ..request };
    assert_eq!(refused(provider.authorise(other).await), "idempotency_error");
    provider.capture(attempt(), &payment, eur(9_000)).await.unwrap();
    let returning = attempt();
    provider.refund(returning, &payment, eur(1_000)).await.unwrap();
    assert_eq!(refused(provider.refund(returning, &payment, eur(2_000)).await), "idempotency_error");
    assert_eq!(stage.sums().await, (1, 9_000, 1_000));
}

async fn a_declined_card_says_why(stage: &Stage) {
    let provider = stage.provider();
    for (number, name, expected) in [
        ("4000000000000002", "pm_card_visa_chargeDeclined", "generic_decline"),
        ("4000000000009995", "pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("4000000000000069", "pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ("4000000000009979", "pm_card_visa_chargeDeclinedStolenCard", "stolen_card"),
    ] {
        for method in [card(number), Method::Saved(name.into())] {
            let request = wish(attempt(), 4_500, method);
            for _ in 0..2 {
                match provider.authorise(request.clone()).await {
                    Ok(Authorisation::Declined(decline)) => {
                        assert_eq!(decline.code, expected);
                        assert!(!decline.reason.is_empty());
                    }
                    other => panic!("{number}: {other:?}"),
                }
            }
            let truth = provider.look_up(Which::Attempt(request.attempt)).await.unwrap().unwrap();
            assert!(matches!(&truth.status, Status::Declined(decline) if decline.code == expected), "{truth:?}");
            refused(provider.capture(attempt(), &truth.payment, eur(4_500)).await);
        }
    }
    let mistyped = provider.authorise(wish(attempt(), 4_500, card("4111111111111111"))).await;
    assert!(matches!(&mistyped, Ok(Authorisation::Declined(why)) if why.code == "incorrect_number"), "{mistyped:?}");
    assert_eq!((stage.sums().await.1, stage.sums().await.2), (0, 0));
}

async fn a_second_step_decides(stage: &Stage) {
    let provider = stage.provider();
    for agreed in [true, false] {
        let request = wish(attempt(), 4_500, card("4000002760003184"));
        let (payment, url) = match provider.authorise(request.clone()).await {
            Ok(Authorisation::NeedsAction { payment, url }) => (payment, url),
            other => panic!("{other:?}"),
        };
        assert!(url.contains(payment.as_str()), "{url}");
        assert_eq!(stage.truth(&payment).await.status, Status::NeedsAction { url });
        refused(provider.capture(attempt(), &payment, eur(4_500)).await);
        stage.answer(&payment, agreed).await;
        stage.answer(&payment, !agreed).await;
        let status = stage.truth(&payment).await.status;
        match agreed {
            true => assert_eq!(status, Status::Authorised),
            false => assert!(matches!(&status, Status::Declined(why) if why.code == "authentication_failed")),
        }
    }
    // Nobody comes back from the second step: it can be let go of.
    let request = wish(attempt(), 4_500, card("4000002760003184"));
    let outcome = provider.authorise(request).await;
    let Ok(Authorisation::NeedsAction { payment, .. }) = outcome else { panic!("{outcome:?}") };
    provider.void(attempt(), &payment).await.unwrap();
    stage.answer(&payment, true).await;
    assert_eq!(stage.truth(&payment).await.status, Status::Voided);
}

async fn money_that_is_let_go_is_gone(stage: &Stage) {
    let provider = stage.provider();
    let payment = stage.authorise(4_500, good()).await;
    let letting_go = attempt();
    for by in [letting_go, letting_go, attempt()] {
        provider.void(by, &payment).await.unwrap();
    }
    assert_eq!(stage.truth(&payment).await.status, Status::Voided);
    refused(provider.capture(attempt(), &payment, eur(4_500)).await);
    refused(provider.refund(attempt(), &payment, eur(4_500)).await);
    let taken = stage.authorise(4_500, good()).await;
    provider.capture(attempt(), &taken, eur(4_500)).await.unwrap();
    refused(provider.void(attempt(), &taken).await);
    refused(provider.capture(attempt(), &taken, eur(4_500)).await);
    assert_eq!(stage.truth(&taken).await.status, Status::Captured);
    assert_eq!(stage.sums().await, (2, 4_500, 0));
}

async fn no_more_goes_back_than_was_taken(stage: &Stage) {
    let provider = stage.provider();
    let payment = stage.authorise(4_500, good()).await;
    refused(provider.refund(attempt(), &payment, eur(1)).await);
    provider.capture(attempt(), &payment, eur(4_500)).await.unwrap();
    for amount in [4_501, 0, -1] {
        refused(provider.refund(attempt(), &payment, eur(amount)).await);
    }
    provider.refund(attempt(), &payment, eur(4_500)).await.unwrap();
    refused(provider.refund(attempt(), &payment, eur(1)).await);
    assert_eq!(stage.sums().await, (1, 4_500, 4_500));
    for amount in [0, -1] {
        refused(provider.authorise(wish(attempt(), amount, good())).await);
    }
}

async fn what_never_arrived_is_not_known(stage: &Stage) {
    let provider = stage.provider();
    assert_eq!(provider.look_up(Which::Attempt(attempt())).await.unwrap(), None);
    for text in ["pi_none", "test_00000000000000000000000000000001", "", "../balance"] {
        let payment = PaymentRef::new(text);
        assert_eq!(provider.look_up(Which::Payment(&payment)).await.unwrap(), None, "{text}");
        refused(provider.capture(attempt(), &payment, eur(1)).await);
        refused(provider.void(attempt(), &payment).await);
        refused(provider.refund(attempt(), &payment, eur(1)).await);
    }
    assert_eq!(stage.sums().await, (0, 0, 0));
}

async fn a_lost_answer_is_looked_up(stage: &Stage) {
    let provider = stage.provider();
    let request = wish(attempt(), 4_500, stage.silent(true));
    is_unknown(provider.authorise(request.clone()).await);
    let truth = provider.look_up(Which::Attempt(request.attempt)).await.unwrap().unwrap();
    assert_eq!((truth.status, truth.order), (Status::Authorised, Some(request.order)));
    assert_eq!(authorised(provider.authorise(request).await), truth.payment);
    assert_eq!(stage.sums().await, (1, 0, 0));
}

async fn a_request_that_was_lost_is_looked_up_too(stage: &Stage) {
    let provider = stage.provider();
    let request = wish(attempt(), 4_500, stage.silent(false));
    is_unknown(provider.authorise(request.clone()).await);
    assert_eq!(provider.look_up(Which::Attempt(request.attempt)).await.unwrap(), None);
    assert_eq!(stage.sums().await, (0, 0, 0));
}

async fn a_lost_answer_to_a_capture_or_refund_is_asked_for_again(stage: &Stage) {
    let provider = stage.provider();
    let payment = stage.authorise(4_500, stage.silent_later("4000000000010068", "/capture")).await;
    let taking = attempt();
    is_unknown(provider.capture(taking, &payment, eur(4_500)).await);
    assert_eq!(stage.truth(&payment).await.captured, 4_500);
    provider.capture(taking, &payment, eur(4_500)).await.unwrap();

    let payment = stage.authorise(4_500, stage.silent_later("4000000000010084", "/refunds")).await;
    provider.capture(attempt(), &payment, eur(4_500)).await.unwrap();
    let returning = attempt();
    is_unknown(provider.refund(returning, &payment, eur(500)).await);
    provider.refund(returning, &payment, eur(500)).await.unwrap();
    assert_eq!(stage.sums().await, (2, 9_000, 500));
}
