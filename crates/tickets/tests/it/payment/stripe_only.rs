//! What only Stripe does: faults on the way there, its lists, and webhooks that misbehave.

use tessera_kernel::Clock;
use tessera_testkit::stripe::Delivery;
use tessera_tickets::domain::order::{Event, Order, State};

use super::*;

#[tokio::test]
async fn a_failure_on_the_way_is_tried_again_under_the_same_key() {
    let (stripe, server) = on_stand_in();
    for (count, kind) in (1..).zip([
        FaultKind::FailBefore,
        FaultKind::FailAfter,
        FaultKind::Limit,
        FaultKind::SilentAfter,
        FaultKind::SilentBefore,
    ]) {
        server.add_fault(Fault::once(kind));
        let calls = server.calls();
        let payment = authorised(stripe.authorise(wish(attempt(), 4_500, good())).await);
        assert_eq!((server.charged().len(), server.calls() - calls), (count, 2), "{kind:?}");
        server.add_fault(Fault::once(kind).on("/capture"));
        stripe.capture(attempt(), &payment, eur(4_500)).await.unwrap();
    }
    assert!(server.charged().iter().all(|payment| payment.captured == 4_500));
}

#[tokio::test]
async fn a_failure_that_stripe_keeps_is_looked_up() {
    let (stripe, server) = on_stand_in();
    for kind in [FaultKind::FailForGood, FaultKind::Garbled] {
        server.add_fault(Fault::once(kind));
        let request = wish(attempt(), 4_500, good());
        is_unknown(stripe.authorise(request.clone()).await);
        let truth = stripe.look_up(Which::Attempt(request.attempt)).await.unwrap().unwrap();
        assert_eq!(truth.status, Status::Authorised, "{kind:?}");
    }
}

#[tokio::test]
async fn what_was_never_taken_in_is_not_done_for_sure() {
    let (stripe, server) = on_stand_in();
    server.add_fault(Fault::once(FaultKind::Limit).times(3));
    let outcome = stripe.authorise(wish(attempt(), 4_500, good())).await;
    assert!(matches!(outcome, Err(Error::NotDone { .. })), "{outcome:?}");
    // Once it may have been done, a later refusal to take it in is no proof that it was not.
    server.add_fault(Fault::once(FaultKind::FailAfter));
    server.add_fault(Fault::once(FaultKind::Limit).times(2));
    is_unknown(stripe.authorise(wish(attempt(), 4_500, good())).await);
    // Nobody listens there any more, and no connection is left from before.
    let (stripe, server) = on_stand_in();
    drop(server);
    let outcome = stripe.authorise(wish(attempt(), 4_500, good())).await;
    assert!(matches!(outcome, Err(Error::NotDone { .. })), "{outcome:?}");
    let outcome = stripe.look_up(Which::Attempt(attempt())).await;
    assert!(outcome.is_err(), "that it cannot be asked does not mean that it has nothing: {outcome:?}");
}

#[tokio::test]
async fn a_late_answer_is_found_although_its_key_is_at_work() {
    let (stripe, server) = on_stand_in();
    server.add_fault(Fault::once(FaultKind::Late(Duration::from_millis(1_700))));
    let payment = authorised(stripe.authorise(wish(attempt(), 4_500, good())).await);
    assert_eq!(server.charged()[0].id, payment.as_str());
    assert_eq!(server.charged().len(), 1);
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_not_shown() {
    let server = stand_in::start();
    let access = stripe::Access {
        url: server.url.clone(),
        api_key: "sk_hunter2".into(),
        webhook_secret: "whsec_hunter2".into(),
        timeout: Duration::from_secs(3),
    };
    let shown = format!("{access:?}");
    let stripe = Stripe::new(access, Arc::new(SystemClock)).unwrap();
    let error = stripe.authorise(wish(attempt(), 4_500, good())).await.unwrap_err();
    assert!(matches!(&error, Error::Refused { code, .. } if code == "api_key_invalid"), "{error}");
    assert!(!format!("{shown}{stripe:?}{error}").contains("hunter2"));
}

#[tokio::test]
async fn an_attempt_is_found_among_many() {
    let (stripe, server) = on_stand_in();
    let request = wish(attempt(), 4_500, good());
    let payment = authorised(stripe.authorise(request.clone()).await);
    server.crowd(250);
    let found = stripe.look_up(Which::Attempt(request.attempt)).await.unwrap().unwrap();
    assert_eq!(found.payment, payment);
    assert_eq!(stripe.look_up(Which::Attempt(attempt())).await.unwrap(), None);
    // Too many to look through: then Stripe's search has it, but that it has nothing is no proof yet.
    server.crowd(1_000);
    let found = stripe.look_up(Which::Attempt(request.attempt)).await.unwrap().unwrap();
    assert_eq!(found.payment, payment);
    is_unknown(stripe.look_up(Which::Attempt(attempt())).await);
}

#[tokio::test]
async fn a_refund_by_hand_and_a_lapse_are_seen() {
    let (stripe, server) = on_stand_in();
    let payment = authorised(stripe.authorise(wish(attempt(), 4_500, good())).await);
    stripe.capture(attempt(), &payment, eur(4_500)).await.unwrap();
    server.refund_by_hand(payment.as_str(), 1_500);
    let truth = stripe.look_up(Which::Payment(&payment)).await.unwrap().unwrap();
    assert_eq!((truth.captured, truth.refunded), (4_500, 1_500));
    let payment = authorised(stripe.authorise(wish(attempt(), 4_500, good())).await);
    server.lapse(payment.as_str());
    assert_eq!(stripe.look_up(Which::Payment(&payment)).await.unwrap().unwrap().status, Status::Voided);
}

/// Webhooks are bells: whatever rings, the order gets what the provider says when it is asked.
#[tokio::test]
async fn webhooks_doubled_reordered_old_or_forged_change_nothing_they_should_not() {
    let (stripe, server) = on_stand_in();
    let request = wish(attempt(), 4_500, card("4000002760003184"));
    let Ok(Authorisation::NeedsAction { payment, .. }) = stripe.authorise(request.clone()).await else {
        panic!("a second step is asked for");
    };
    server.answer(payment.as_str(), true);
    stripe.capture(attempt(), &payment, eur(4_500)).await.unwrap();
    stripe.refund(attempt(), &payment, eur(4_500)).await.unwrap();
    let events = server.events();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "payment_intent.requires_action",
            "payment_intent.amount_capturable_updated",
            "payment_intent.succeeded",
            "charge.refunded",
        ]
    );
    let now = SystemClock.now();
    let mut order = Order::begin(4_500, now.plus(Duration::from_secs(600)));
    // All of them late, in the wrong order, and twice.
    for event in events.iter().rev().chain(&events) {
        let notice = stripe.read_webhook(&server.signature(event), event.body.as_bytes()).unwrap().unwrap();
        assert_eq!((&notice.id, &notice.payment, notice.order), (&event.id, &payment, Some(request.order)));
        let truth = stripe.look_up(Which::Payment(&notice.payment)).await.unwrap().unwrap();
        if let Some(next) = order.after(&Event::Seen(truth.seen()), now).unwrap() {
            order = next;
        }
        assert_eq!((order.state, order.captured, order.refunded), (State::Refunded, 4_500, 4_500));
    }
    let event = &events[1];
    let refused = [
        (server.forged_signature(event), event.body.clone()),
        (server.old_signature(event, Duration::from_secs(3_600)), event.body.clone()),
        (server.signature(event), events[0].body.clone()),
        (String::new(), event.body.clone()),
    ];
    for (signature, body) in refused {
        let outcome = stripe.read_webhook(&signature, body.as_bytes());
        assert!(outcome.is_err(), "{outcome:?}");
    }
}

#[tokio::test]
async fn the_stand_in_tells_what_happens_by_itself() {
    let (stripe, server) = on_stand_in();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/payments/stripe/webhook", listener.local_addr().unwrap());
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let take = move |headers: http::HeaderMap, body: String| async move {
        let signature = headers["stripe-signature"].to_str().unwrap().to_owned();
        heard.send((signature, body)).unwrap();
    };
    let router = axum::Router::new().route("/payments/stripe/webhook", axum::routing::post(take));
    tokio::spawn(async move { axum::serve(listener, router).await });
    server.set_delivery(Delivery::Doubled(url));
    let payment = authorised(stripe.authorise(wish(attempt(), 4_500, good())).await);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (signature, body) = hears.recv().await.unwrap();
        let notice = stripe.read_webhook(&signature, body.as_bytes()).unwrap().unwrap();
        assert_eq!(notice.payment, payment);
        ids.push(notice.id);
    }
    assert_eq!(ids[0], ids[1]);
}
