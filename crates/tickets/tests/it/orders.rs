//! Orders: one list of cases on both databases; and what time does to them, by a clock that is moved by hand.

use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::{Clock, ManualClock, SystemClock};
use tessera_testkit::sql::Databases;
use tessera_testkit::stripe::{self as stand_in, Fault, FaultKind};
use tessera_tickets::Error;
use tessera_tickets::app::App;
use tessera_tickets::app::request::Request;
use tessera_tickets::app::reserve::Wish;
use tessera_tickets::domain::ids::{EventId, HoldId};
use tessera_tickets::domain::order::State;
use tessera_tickets::jobs::settle::{Rounds, round, run};
use tessera_tickets::payment::{Card, Method, Provider, Stripe, Test, stripe};
use tokio_util::sync::CancellationToken;

use crate::support::{Process, hall, shop, tickets};

const GOOD: &str = "4242424242424242";
const POOR: &str = "4000000000009995";
const SECOND_STEP: &str = "4000002760003184";
const TIMES_OUT_CHARGED: &str = "4000000000010027";
const TIMES_OUT: &str = "4000000000010035";
const SILENT_FOR_30_S: &str = "4000000000010043";

fn request(subject: &str, key: &str) -> Request {
    Request { subject: subject.into(), key: key.into() }
}

fn card(number: &str) -> Method {
    Method::Card(Card::new(number, 12, 2094, "123").unwrap())
}

struct Shop {
    app: App,
    test: Arc<Test>,
    event: EventId,
}

impl Shop {
    async fn open(databases: &Databases) -> Self {
        Self::open_at(databases, Arc::new(SystemClock)).await
    }

    async fn open_at(databases: &Databases, clock: Arc<dyn Clock>) -> Self {
        let (url, event) = hall(databases).await;
        let (app, test) = shop(&url, None, clock).await;
        Self { app, test, event }
    }

    async fn hold(&self, subject: &str, seats: &[u32]) -> Result<HoldId, Error> {
        let wish = Wish { event: Some(self.event), tickets: tickets(self.event, seats), ..Wish::default() };
        let key = format!("{:?}", (seats, self.app.clock.now()));
        Ok(self.app.reserve(&request(subject, &key), &wish).await?.hold.id)
    }

    /// Set aside, captured, refunded.
    async fn sums(&self) -> (i64, i64, i64) {
        let totals = self.test.totals().await.unwrap();
        totals.first().map_or((0, 0, 0), |sums| (sums.authorised, sums.captured, sums.refunded))
    }
}

async fn contract(databases: &Databases) {
    a_purchase_is_booked_and_captured_once(&Shop::open(databases).await).await;
    the_same_request_twice_at_once_is_one_order(&Shop::open(databases).await).await;
    a_declined_card_leaves_the_hold(&Shop::open(databases).await).await;
    a_lost_answer_is_no_lost_order(&Shop::open(databases).await).await;
    a_second_step_is_waited_for(&Shop::open(databases).await).await;
    parts_and_all_go_back(&Shop::open(databases).await).await;
    a_hold_is_paid_once_however_often_it_is_tried(&Shop::open(databases).await).await;
    what_is_not_ones_own_is_not_there(&Shop::open(databases).await).await;
    a_refund_that_the_bank_sends_back_is_made_again(databases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    contract(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    contract(&Databases::postgres()).await;
}

async fn the_same_request_twice_at_once_is_one_order(shop: &Shop) {
    let hold = shop.hold("ana", &[4, 5]).await.unwrap();
    let ask = request("ana", "buy");
    let (one, other) =
        tokio::join!(shop.app.confirm(&ask, hold, card(GOOD), None), shop.app.confirm(&ask, hold, card(GOOD), None));
    for outcome in [one, other] {
        // Who is second may hear that it is being settled, never that another order pays for the hold.
        assert!(matches!(outcome, Ok(_) | Err(Error::PaymentUnknown { .. })), "{outcome:?}");
    }
    let bought = shop.app.confirm(&ask, hold, card(GOOD), None).await.unwrap().order;
    assert_eq!(bought.money.state, State::Captured);
    assert_eq!(shop.sums().await, (0, 9_000, 0));
}

async fn a_purchase_is_booked_and_captured_once(shop: &Shop) {
    let hold = shop.hold("ana", &[0, 1]).await.unwrap();
    let bought = shop.app.confirm(&request("ana", "buy"), hold, card(GOOD), None).await.unwrap().order;
    assert_eq!((bought.money.state, bought.total().amount), (State::Captured, 9_000));
    let again = shop.app.confirm(&request("ana", "buy"), hold, card(GOOD), None).await.unwrap().order;
    assert_eq!(again, bought);
    let other = shop.app.confirm(&request("ana", "buy"), hold, card(POOR), None).await;
    assert!(matches!(other, Err(Error::KeyReused { .. })), "{other:?}");
    let twice = shop.app.confirm(&request("ana", "again"), hold, card(GOOD), None).await;
    assert!(matches!(twice, Err(Error::NotNow { .. })), "{twice:?}");
    let taken = shop.hold("bob", &[1, 2]).await;
    assert!(matches!(taken, Err(Error::SeatsTaken { until: None, .. })), "{taken:?}");
    assert!(shop.app.release(&"ana".into(), hold).await.is_err());
    assert_eq!(shop.sums().await, (0, 9_000, 0));
}

async fn a_declined_card_leaves_the_hold(shop: &Shop) {
    let hold = shop.hold("ana", &[0]).await.unwrap();
    for _ in 0..2 {
        let declined = shop.app.confirm(&request("ana", "first"), hold, card(POOR), None).await;
        assert!(matches!(declined, Err(Error::PaymentDeclined { .. })), "{declined:?}");
    }
    let away = shop.app.confirm(&request("ana", "second"), hold, card("4000000000010050"), None).await;
    assert!(matches!(away, Err(Error::PaymentDeclined { .. })), "{away:?}");
    assert!(shop.hold("bob", &[0]).await.is_err(), "it is still ana's");
    let bought = shop.app.confirm(&request("ana", "third"), hold, card(GOOD), None).await.unwrap();
    assert_eq!(bought.order.money.state, State::Captured);
    assert_eq!(shop.sums().await, (0, 4_500, 0));
}

async fn a_lost_answer_is_no_lost_order(shop: &Shop) {
    for (seat, number) in [(0, TIMES_OUT_CHARGED), (1, "4000000000010068")] {
        let hold = shop.hold("ana", &[seat]).await.unwrap();
        let bought = shop.app.confirm(&request("ana", number), hold, card(number), None).await.unwrap();
        assert_eq!(bought.order.money.state, State::Captured, "{number}");
    }
    assert_eq!(shop.sums().await, (0, 9_000, 0));
    // The bank lets go before the capture: no money, no seats.
    let hold = shop.hold("ana", &[2]).await.unwrap();
    let lost = shop.app.confirm(&request("ana", "lost"), hold, card("4000000000010076"), None).await;
    assert!(matches!(lost, Err(Error::PaymentDeclined { .. })), "{lost:?}");
    let hold = shop.hold("ana", &[3]).await.unwrap();
    let unknown = shop.app.confirm(&request("ana", "unknown"), hold, card(TIMES_OUT), None).await;
    assert!(matches!(unknown, Err(Error::PaymentUnknown { .. })), "{unknown:?}");
    assert_eq!(shop.sums().await, (0, 9_000, 0));
}

async fn a_second_step_is_waited_for(shop: &Shop) {
    for (seat, agreed) in [(0, true), (1, false)] {
        let hold = shop.hold("ana", &[seat]).await.unwrap();
        let key = request("ana", &format!("{agreed}"));
        let asked = shop.app.confirm(&key, hold, card(SECOND_STEP), None).await.unwrap();
        let payment = asked.order.payment.clone().unwrap();
        assert!(asked.next_url.unwrap().contains(payment.as_str()));
        assert!(shop.app.confirm(&key, hold, card(SECOND_STEP), None).await.unwrap().next_url.is_some());
        shop.test.answer(&payment, agreed).await.unwrap();
        for _ in 0..2 {
            shop.app.hear_of(&payment, None, None).await.unwrap();
        }
        let order = shop.app.store.find_order(asked.order.id).await.unwrap().unwrap();
        assert_eq!(order.money.state, if agreed { State::Captured } else { State::Failed });
    }
    assert_eq!(shop.sums().await, (0, 4_500, 0));
}

async fn parts_and_all_go_back(shop: &Shop) {
    let hold = shop.hold("ana", &[0, 1, 2]).await.unwrap();
    let order = shop.app.confirm(&request("ana", "buy"), hold, card(GOOD), None).await.unwrap().order.id;
    let (one, foreign) = (Some(tickets(shop.event, &[1])), Some(tickets(shop.event, &[1, 7])));
    assert!(shop.app.refund(order, foreign, None).await.is_err());
    let not_hers = shop.app.refund(order, one.clone(), Some("bob".into())).await;
    assert!(matches!(not_hers, Err(Error::Forbidden { .. })), "{not_hers:?}");
    let left = shop.app.refund(order, one.clone(), Some("ana".into())).await.unwrap();
    assert_eq!((left.money.state, left.money.keep, left.money.refunded), (State::Captured, 9_000, 4_500));
    assert!(shop.app.refund(order, one, None).await.is_err());
    shop.hold("bob", &[1]).await.unwrap();
    let none = shop.app.refund(order, None, None).await.unwrap();
    assert_eq!((none.money.state, none.money.keep), (State::Refunded, 0));
    shop.hold("bob", &[0, 2]).await.unwrap();
    assert_eq!(shop.sums().await, (0, 13_500, 13_500));
}

async fn a_hold_is_paid_once_however_often_it_is_tried(shop: &Shop) {
    let hold = shop.hold("ana", &[0, 1]).await.unwrap();
    let tries = (0..8).map(|n| {
        let app = shop.app.clone();
        tokio::spawn(
            async move { app.confirm(&request("ana", &format!("try {}", n / 2)), hold, card(GOOD), None).await },
        )
    });
    let mut orders = Vec::new();
    for tried in futures::future::join_all(tries).await {
        orders.extend(tried.unwrap().ok().map(|purchase| purchase.order.id));
    }
    orders.dedup();
    assert_eq!(orders.len(), 1);
    round(&shop.app, Duration::ZERO, &mut Rounds::default()).await.unwrap();
    assert_eq!(shop.sums().await, (0, 9_000, 0));
}

async fn what_is_not_ones_own_is_not_there(shop: &Shop) {
    let hold = shop.hold("ana", &[0]).await.unwrap();
    let foreign = shop.app.confirm(&request("bob", "buy"), hold, card(GOOD), None).await;
    assert!(matches!(foreign, Err(Error::NotFound { .. })), "{foreign:?}");
    assert_eq!(shop.app.release(&"ana".into(), hold).await.unwrap(), 1);
    let over = shop.app.confirm(&request("ana", "buy"), hold, card(GOOD), None).await;
    assert!(matches!(over, Err(Error::HoldOver { .. })), "{over:?}");
    assert_eq!(shop.sums().await, (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_never_arrived_fails_once_it_cannot_arrive_any_more() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let databases = Databases::sqlite();
    let shop = Shop::open_at(&databases, clock.clone()).await;
    let hold = shop.hold("ana", &[0]).await.unwrap();
    let unknown = shop.app.confirm(&request("ana", "buy"), hold, card(TIMES_OUT), None).await;
    let Err(Error::PaymentUnknown { order }) = unknown else { panic!("{unknown:?}") };
    let state = async || shop.app.store.find_order(order).await.unwrap().unwrap().money.state;
    clock.advance(Duration::from_secs(3));
    round(&shop.app, Duration::ZERO, &mut Rounds::default()).await.unwrap();
    assert_eq!(state().await, State::Paying);
    clock.advance(Duration::from_secs(1));
    round(&shop.app, Duration::ZERO, &mut Rounds::default()).await.unwrap();
    assert_eq!(state().await, State::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_comes_after_the_seats_are_gone_goes_back() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let databases = Databases::sqlite();
    let shop = Shop::open_at(&databases, clock.clone()).await;
    let hold = shop.hold("ana", &[0, 1]).await.unwrap();
    let asked = shop.app.confirm(&request("ana", "buy"), hold, card(SECOND_STEP), None).await.unwrap().order;
    let payment = asked.payment.clone().unwrap();
    clock.advance(Duration::from_secs(1_000));
    let others = shop.hold("bob", &[1]).await.unwrap();
    shop.app.confirm(&request("bob", "buy"), others, card(GOOD), None).await.unwrap();
    shop.test.answer(&payment, true).await.unwrap();
    shop.app.hear_of(&payment, None, None).await.unwrap();
    let order = shop.app.store.find_order(asked.id).await.unwrap().unwrap();
    assert_eq!(order.money.state, State::Voided);
    let told = shop.app.settle(asked.id).await;
    assert!(matches!(told, Err(Error::SeatsGone { .. })), "{told:?}");
    assert_eq!(shop.sums().await, (0, 4_500, 0));
    assert!(shop.app.unsettled(Duration::ZERO, None, 10).await.unwrap().is_empty());
}

/// A shop whose payments go to the stand-in of Stripe, which is waited for for so long.
async fn shop_with_stripe(
    databases: &Databases,
    clock: Arc<dyn Clock>,
    patience: Duration,
) -> (Shop, stand_in::Stripe) {
    let (url, event) = hall(databases).await;
    let bank = stand_in::start();
    let access = stripe::Access {
        url: bank.url.clone(),
        api_key: stand_in::API_KEY.into(),
        webhook_secret: stand_in::WEBHOOK_SECRET.into(),
        timeout: patience,
    };
    let provider: Arc<dyn Provider> = Arc::new(Stripe::new(access, clock.clone()).unwrap());
    let (app, test) = Process { provider: Some(provider), ..Process::new(&url, clock) }.start().await;
    (Shop { app, test, event }, bank)
}

async fn a_refund_that_the_bank_sends_back_is_made_again(databases: &Databases) {
    let (shop, bank) = shop_with_stripe(databases, Arc::new(SystemClock), Duration::from_secs(3)).await;
    let event = shop.event;
    let hold = shop.hold("ana", &[0, 1]).await.unwrap();
    let bought = shop.app.confirm(&request("ana", "buy"), hold, card(GOOD), None).await.unwrap().order;
    let (id, payment) = (bought.id, bought.payment.unwrap());
    let stands = async || {
        let money = shop.app.store.find_order(id).await.unwrap().unwrap().money;
        (money.state, money.refunded, bank.charged()[0].refunded)
    };
    let made = || bank.events().iter().filter(|event| event.kind == "charge.refunded").count();
    // A part of it, then the rest.
    let parts = [(Some(tickets(event, &[0])), State::Captured, 4_500, 2), (None, State::Refunded, 9_000, 4)];
    for (part, state, refunded, refunds) in parts {
        shop.app.refund(id, part, None).await.unwrap();
        assert_eq!((stands().await, made()), ((state, refunded, refunded), refunds - 1));
        bank.fail_refund(payment.as_str());
        let told = bank.events().pop().unwrap();
        // Twice, as webhooks may come.
        for _ in 0..2 {
            shop.app.hear(&bank.signature(&told), told.body.as_bytes()).await.unwrap();
            assert_eq!((stands().await, made()), ((state, refunded, refunded), refunds));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_do_not_move_hide_no_others() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let databases = Databases::sqlite();
    let shop = Shop::open_at(&databases, clock.clone()).await;
    let mut asked = Vec::new();
    for seat in 0..5 {
        let hold = shop.hold("ana", &[seat]).await.unwrap();
        let key = request("ana", &format!("buy {seat}"));
        asked.push(shop.app.confirm(&key, hold, card(SECOND_STEP), None).await.unwrap().order);
        clock.advance(Duration::from_secs(1));
    }
    // The newest is agreed to, which nobody tells us.
    let last = asked.pop().unwrap();
    shop.test.answer(last.payment.as_ref().unwrap(), true).await.unwrap();
    let mut rounds = Rounds::of(2);
    for looked in [2, 2, 1] {
        assert_eq!(round(&shop.app, Duration::ZERO, &mut rounds).await.unwrap(), looked);
    }
    assert_eq!(shop.app.store.find_order(last.id).await.unwrap().unwrap().money.state, State::Captured);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_does_not_answer_keeps_nobody_from_stopping() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let databases = Databases::sqlite();
    let (shop, bank) = shop_with_stripe(&databases, clock.clone(), Duration::from_secs(600)).await;
    let hold = shop.hold("ana", &[0]).await.unwrap();
    let asked = shop.app.confirm(&request("ana", "buy"), hold, card(SECOND_STEP), None).await.unwrap();
    assert_eq!(asked.order.money.state, State::Paying);
    clock.advance(Duration::from_secs(10));
    bank.add_fault(Fault::once(FaultKind::SilentBefore));
    let (before, stop) = (bank.calls(), CancellationToken::new());
    let running = tokio::spawn(run(shop.app.clone(), stop.clone()));
    while bank.calls() == before {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(60), running).await.expect("it stops").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_that_cannot_be_looked_up_are_asked_for_again() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let databases = Databases::sqlite();
    let shop = Shop::open_at(&databases, clock.clone()).await;
    let hold = shop.hold("ana", &[0]).await.unwrap();
    let unknown = shop.app.confirm(&request("ana", "buy"), hold, card(SILENT_FOR_30_S), None).await;
    let Err(Error::PaymentUnknown { order }) = unknown else { panic!("{unknown:?}") };
    let payment = shop.test.ledger(None, 1).await.unwrap().remove(0).payment;
    let heard = shop.app.hear_of(&payment, Some(order), None).await;
    assert!(matches!(heard, Err(Error::PaymentUnknown { .. })), "{heard:?}");
    clock.advance(Duration::from_secs(31));
    shop.app.hear_of(&payment, Some(order), None).await.unwrap();
    assert_eq!(shop.app.store.find_order(order).await.unwrap().unwrap().money.state, State::Captured);
}
