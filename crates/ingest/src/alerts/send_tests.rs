//! The alerter against a real HTTP server in this process.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde_json::json;
use tessera_kernel::Timestamp;

use super::*;
use crate::alerts::{About, Finding, Judged, News, Shelf, tell};

/// What a receiver got, and what it answers; `200 ok` when it was told nothing else.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    got: Vec<(String, HeaderMap, Value)>,
    answers: VecDeque<Answer>,
}

enum Answer {
    With(u16, Vec<(&'static str, String)>, &'static str),
    Never,
}

fn status(status: u16) -> Answer {
    Answer::With(status, vec![], "")
}

impl Receiver {
    async fn start(answers: impl IntoIterator<Item = Answer>) -> (Self, SocketAddr) {
        let receiver = Self::default();
        receiver.answer(answers);
        let app = Router::new().fallback(take).with_state(receiver.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        (receiver, address)
    }

    fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.0.lock().unwrap().answers.extend(answers);
    }

    fn got(&self) -> Vec<(String, HeaderMap, Value)> {
        std::mem::take(&mut self.0.lock().unwrap().got)
    }

    fn bodies(&self) -> Vec<Value> {
        self.got().into_iter().map(|(_, _, body)| body).collect()
    }
}

async fn take(State(receiver): State<Receiver>, uri: http::Uri, headers: HeaderMap, body: Bytes) -> Response {
    let answer = {
        let mut inner = receiver.0.lock().unwrap();
        inner.got.push((uri.path().to_owned(), headers, serde_json::from_slice(&body).unwrap_or_default()));
        inner.answers.pop_front()
    };
    match answer {
        None => "ok".into_response(),
        Some(Answer::With(status, headers, body)) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        Some(Answer::Never) => std::future::pending().await,
    }
}

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn slack_at(address: SocketAddr) -> Option<Slack> {
    Some(Slack { webhook: format!("http://{address}/services/T0/B0/slack-secret") })
}

fn pagerduty_at(address: SocketAddr) -> Option<PagerDuty> {
    let url = format!("http://{address}/v2/enqueue");
    Some(PagerDuty { routing_key: KEY.into(), url, severity: "error".into() })
}

fn webhook_at(address: SocketAddr) -> Option<Webhook> {
    let headers = BTreeMap::from([("X-Team".to_owned(), "data".to_owned())]);
    Some(Webhook { url: format!("http://{address}/hook?token=hook-secret"), headers })
}

const ALL: [AlertEvent; 4] =
    [AlertEvent::RunFailed, AlertEvent::SlaMissed, AlertEvent::QualityFailed, AlertEvent::SchemaDrift];

fn alerter(slack: Option<Slack>, pagerduty: Option<PagerDuty>, webhook: Option<Webhook>) -> Alerter {
    let alerts = Alerts { slack, pagerduty, webhook, on: ALL.to_vec() };
    let mut alerter = Alerter::new(&alerts, tessera_service::client::build().unwrap(), Secrets::default());
    alerter.limits.pause = Duration::from_millis(1);
    alerter
}

fn now() -> Timestamp {
    "2026-03-20T06:00:00Z".parse().unwrap()
}

fn alert(event: AlertEvent) -> Alert {
    Alert {
        event,
        pipeline: "shop".into(),
        owner: Some("data@example.com".into()),
        consumers: vec!["finance".into(), "growth".into()],
        run_id: Some("run_1".into()),
        cause: "orders: <!channel> answered 500 & more\nitems: too".into(),
        resources: vec!["orders".into(), "items".into()],
        at: now(),
        run_next: "tessera ingest run shop.yaml".into(),
        link: Some("https://tessera.example.com/ingest/shop?a=1&b=2".into()),
    }
}

fn resolve(still_open: Vec<AlertEvent>) -> Resolve {
    Resolve {
        event: AlertEvent::RunFailed,
        pipeline: "shop".into(),
        owner: None,
        consumers: vec![],
        cause: "the API was down".into(),
        since: now(),
        at: now().plus(Duration::from_secs(600)),
        still_open,
        link: None,
    }
}

fn outcomes(deliveries: &[Delivery]) -> Vec<(Channel, bool, u32)> {
    deliveries.iter().map(|d| (d.channel, d.outcome == Outcome::Sent, d.tries)).collect()
}

fn reason(delivery: &Delivery) -> &str {
    match &delivery.outcome {
        Outcome::Failed(reason) => reason,
        Outcome::Sent => panic!("it was sent"),
    }
}

#[tokio::test]
async fn slack_gets_blocks_and_a_fallback() {
    let (receiver, address) = Receiver::start([]).await;
    let alerter = alerter(slack_at(address), None, None);
    let sent = alerter.send(&alert(AlertEvent::RunFailed)).await;
    assert_eq!(outcomes(&sent), [(Channel::Slack, true, 1)]);
    alerter.resolve(&resolve(vec![AlertEvent::SlaMissed])).await;
    let got = receiver.got();
    assert_eq!(got[0].0, "/services/T0/B0/slack-secret");
    assert_eq!(got[0].1["content-type"], "application/json");
    insta::assert_json_snapshot!("slack_alert", got[0].2);
    insta::assert_json_snapshot!("slack_resolved", got[1].2);
}

#[tokio::test]
async fn pagerduty_gets_one_incident_per_pipeline() {
    let (receiver, address) = Receiver::start([]).await;
    let alerter = alerter(None, pagerduty_at(address), None);
    alerter.send(&alert(AlertEvent::RunFailed)).await;
    assert_eq!(alerter.resolve(&resolve(vec![AlertEvent::SlaMissed])).await, []);
    let closed = alerter.resolve(&resolve(vec![])).await;
    assert_eq!(outcomes(&closed), [(Channel::Pagerduty, true, 1)]);
    let got = receiver.got();
    assert_eq!(got.len(), 2);
    assert!(got.iter().all(|(path, ..)| path == "/v2/enqueue"));
    insta::assert_json_snapshot!("pagerduty_trigger", got[0].2);
    let resolve = json!({ "routing_key": KEY, "event_action": "resolve", "dedup_key": "tessera-ingest-shop" });
    assert_eq!(got[1].2, resolve);
}

#[tokio::test]
async fn pagerduty_gets_a_schema_change_as_a_change_without_an_incident() {
    let (receiver, address) = Receiver::start([]).await;
    alerter(None, pagerduty_at(address), None).send(&alert(AlertEvent::SchemaDrift)).await;
    let got = receiver.got();
    assert_eq!(got[0].0, "/v2/change/enqueue");
    insta::assert_json_snapshot!("pagerduty_change", got[0].2);
}

#[tokio::test]
async fn the_webhook_gets_versioned_json_and_its_headers() {
    let (receiver, address) = Receiver::start([]).await;
    let alerter = alerter(None, None, webhook_at(address));
    alerter.send(&alert(AlertEvent::QualityFailed)).await;
    alerter.resolve(&resolve(vec![])).await;
    let got = receiver.got();
    assert_eq!(got[0].1["x-team"], "data");
    assert_eq!(got[0].1["idempotency-key"].to_str().unwrap(), got[0].2["id"]);
    insta::assert_json_snapshot!("webhook_alert", got[0].2);
    insta::assert_json_snapshot!("webhook_resolved", got[1].2);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_with_the_same_body() {
    for first in [429, 408, 500, 503] {
        let (receiver, address) = Receiver::start([status(first), status(502)]).await;
        let sent = alerter(None, None, webhook_at(address)).send(&alert(AlertEvent::RunFailed)).await;
        assert_eq!(outcomes(&sent), [(Channel::Webhook, true, 3)]);
        let bodies = receiver.bodies();
        assert!(bodies.len() == 3 && bodies.iter().all(|body| *body == bodies[0]));
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_says_where_to_look() {
    let no_service = Answer::With(404, vec![], "no_service");
    let (receiver, address) = Receiver::start([no_service]).await;
    let sent = alerter(slack_at(address), None, None).send(&alert(AlertEvent::RunFailed)).await;
    assert_eq!(reason(&sent[0]), "slack answered 404 (no_service); check `alerts.slack.webhook`");
    assert_eq!((sent[0].tries, receiver.got().len()), (1, 1));
}

#[tokio::test]
async fn a_redirect_to_a_page_is_no_delivery() {
    let moved = Answer::With(302, vec![("location", "/login".into())], "");
    let (_receiver, address) = Receiver::start([moved]).await;
    let sent = alerter(slack_at(address), None, None).send(&alert(AlertEvent::RunFailed)).await;
    let expected = "slack sends the message to another address; check `alerts.slack.webhook`";
    assert_eq!(reason(&sent[0]), expected);
}

#[tokio::test]
async fn three_tries_are_all() {
    let (receiver, address) = Receiver::start((0..9).map(|_| status(500))).await;
    let sent = alerter(None, pagerduty_at(address), None).send(&alert(AlertEvent::RunFailed)).await;
    assert_eq!(reason(&sent[0]), "pagerduty answered 500; gave up after 3 tries");
    assert_eq!(receiver.got().len(), 3);
}

#[tokio::test]
async fn a_wait_that_is_too_long_ends_the_tries() {
    let busy = Answer::With(429, vec![("retry-after", "3600".into())], "");
    let (receiver, address) = Receiver::start([busy]).await;
    let sent = alerter(slack_at(address), None, None).send(&alert(AlertEvent::RunFailed)).await;
    assert!(reason(&sent[0]).contains("in 3600 s"), "{}", reason(&sent[0]));
    assert_eq!(receiver.got().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_given_up() {
    let (_receiver, address) = Receiver::start([Answer::Never, Answer::Never, Answer::Never]).await;
    let mut alerter = alerter(slack_at(address), None, None);
    alerter.limits.one_try = Duration::from_millis(20);
    let sent = alerter.send(&alert(AlertEvent::RunFailed)).await;
    assert!(reason(&sent[0]).starts_with("no answer within"), "{}", reason(&sent[0]));
}

#[tokio::test]
async fn a_dead_channel_leaves_the_others_alone_and_shows_no_secret() {
    let (receiver, address) = Receiver::start([]).await;
    let dead = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let alerter = alerter(slack_at(dead), pagerduty_at(dead), webhook_at(address));
    let sent = alerter.send(&alert(AlertEvent::RunFailed)).await;
    let expected = [(Channel::Slack, false, 3), (Channel::Pagerduty, false, 3), (Channel::Webhook, true, 1)];
    assert_eq!(outcomes(&sent), expected);
    assert_eq!(receiver.got().len(), 1);
    for delivery in &sent[..2] {
        let reason = reason(delivery);
        assert!(reason.contains("refused"), "{reason}");
        assert!(!reason.contains("slack-secret") && !reason.contains(KEY) && !reason.contains("http"), "{reason}");
    }
}

#[tokio::test]
async fn secrets_are_struck_out_of_causes_and_answers() {
    let echo = Answer::With(400, vec![], "bad key 0123456789abcdef0123456789abcdef of api-token-1");
    let (receiver, address) = Receiver::start([echo]).await;
    let mut secrets = Secrets::default();
    secrets.add("api-token-1".into());
    let alerts = Alerts { slack: None, pagerduty: pagerduty_at(address), webhook: None, on: ALL.to_vec() };
    let alerter = Alerter::new(&alerts, tessera_service::client::build().unwrap(), secrets);
    let mut alert = alert(AlertEvent::RunFailed);
    alert.cause = "the API said: api-token-1 has expired".into();
    let sent = alerter.send(&alert).await;
    assert_eq!(reason(&sent[0]), "pagerduty answered 400 (bad key *** of ***); check `alerts.pagerduty`");
    let body = receiver.bodies().remove(0);
    assert_eq!(body["payload"]["custom_details"]["cause"], "the API said: *** has expired");
    assert_eq!(body["routing_key"], KEY);
}

#[tokio::test]
async fn a_channel_without_a_usable_address_says_so() {
    let slack = Slack { webhook: "hooks.example.com/T0/secret".into() };
    let sent = alerter(Some(slack), None, None).send(&alert(AlertEvent::RunFailed)).await;
    assert!(reason(&sent[0]).contains("alerts.slack.webhook"), "{}", reason(&sent[0]));
    assert!(!reason(&sent[0]).contains("T0/secret"));
    assert_eq!(sent[0].tries, 1);
}

#[tokio::test]
async fn events_that_are_not_wanted_go_nowhere() {
    let (receiver, address) = Receiver::start([]).await;
    let mut alerter = alerter(slack_at(address), pagerduty_at(address), None);
    alerter.on = vec![AlertEvent::RunFailed];
    assert_eq!(alerter.send(&alert(AlertEvent::SchemaDrift)).await, []);
    // What nobody was told of does not keep the incident open.
    assert_eq!(alerter.resolve(&resolve(vec![AlertEvent::SlaMissed])).await.len(), 2);
    assert_eq!(receiver.got().len(), 2);
}

fn about() -> About {
    About { pipeline: "shop".into(), file: "shop.yaml".into(), ..About::default() }
}

fn failure(detail: &str) -> Vec<Finding> {
    vec![Finding::run_failed("run_1", "ingest.source_unreachable", detail, &["orders".into()])]
}

fn minutes(minutes: u64) -> Timestamp {
    now().plus(Duration::from_secs(60 * minutes))
}

/// A book on a disk, and looks that are each another writer's.
struct Desk {
    folder: tempfile::TempDir,
    shelf: Shelf,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let objects = tessera_store::objects::Objects::open(folder.path().to_str().unwrap(), &Default::default());
        Self { shelf: Shelf::new(objects.unwrap()), folder }
    }

    async fn tell(&self, alerter: &Alerter, judged: Judged, findings: &[Finding], now: Timestamp) -> Vec<Delivery> {
        let by = format!("{judged:?} {now}");
        tell(&self.shelf, alerter, &about(), News { judged, findings, by: &by, now }).await.unwrap()
    }
}

#[tokio::test]
async fn a_run_and_the_watch_at_once_tell_each_of_their_own_and_keep_both() {
    let (receiver, address) = Receiver::start([]).await;
    let alerter = alerter(None, None, webhook_at(address));
    let desk = Desk::new();
    let late = Finding { event: AlertEvent::SlaMissed, run_id: None, ..failure("late").remove(0) };
    let found = failure("down");
    for minute in 0..3 {
        let (run, watch) = tokio::join!(
            desk.tell(&alerter, Judged::FailedRun, &found, minutes(minute)),
            desk.tell(&alerter, Judged::Sla, std::slice::from_ref(&late), minutes(minute)),
        );
        assert_eq!(run.len() + watch.len(), if minute == 0 { 2 } else { 0 });
    }
    let mut told: Vec<_> = receiver.bodies().iter().map(|body| body["event"].as_str().unwrap().to_owned()).collect();
    told.sort();
    assert_eq!(told, ["run_failed", "sla_missed"]);
    assert_eq!(desk.shelf.read().await.unwrap().open().count(), 2);
}

#[tokio::test]
async fn a_book_that_cannot_be_kept_silences_the_watch_but_no_run() {
    let (receiver, address) = Receiver::start([]).await;
    let alerter = alerter(slack_at(address), None, None);
    let desk = Desk::new();
    // A file where the folder of the editions would be.
    std::fs::create_dir_all(desk.folder.path().join("_tessera")).unwrap();
    std::fs::write(desk.folder.path().join("_tessera/alerts"), "").unwrap();
    let news = |judged, findings| News { judged, findings, by: "one", now: now() };
    let found = failure("down");
    assert!(tell(&desk.shelf, &alerter, &about(), news(Judged::Sla, &found)).await.is_err());
    assert_eq!(receiver.got().len(), 0);
    let told = tell(&desk.shelf, &alerter, &about(), news(Judged::FailedRun, &found)).await.unwrap();
    assert_eq!((told.len(), receiver.got().len()), (1, 1));
}

#[tokio::test]
async fn a_pipeline_that_stays_broken_is_told_once_and_then_resolved() {
    let (receiver, address) = Receiver::start([]).await;
    let alerter = alerter(slack_at(address), pagerduty_at(address), None);
    let desk = Desk::new();
    for minute in 0..5 {
        let found = failure(&format!("no answer in {minute} s"));
        desk.tell(&alerter, Judged::FailedRun, &found, minutes(minute)).await;
    }
    assert_eq!(receiver.got().len(), 2);
    desk.tell(&alerter, Judged::WholeRun, &[], minutes(9)).await;
    let bodies = receiver.bodies();
    assert_eq!(bodies.len(), 2);
    assert!(bodies.iter().any(|body| body["event_action"] == "resolve"));
    assert!(bodies.iter().any(|body| body["text"] == "shop: resolved (run failed)\nno answer in 0 s"));
}

#[tokio::test]
async fn what_a_channel_did_not_take_is_sent_at_the_next_look_to_it_alone() {
    let (slack, slack_address) = Receiver::start([]).await;
    let (pagerduty, pagerduty_address) = Receiver::start((0..3).map(|_| status(503))).await;
    let alerter = alerter(slack_at(slack_address), pagerduty_at(pagerduty_address), None);
    let desk = Desk::new();
    let first = desk.tell(&alerter, Judged::FailedRun, &failure("down"), minutes(0)).await;
    assert_eq!(outcomes(&first), [(Channel::Slack, true, 1), (Channel::Pagerduty, false, 3)]);
    let second = desk.tell(&alerter, Judged::Sla, &[], minutes(1)).await;
    assert_eq!(outcomes(&second), [(Channel::Pagerduty, true, 1)]);
    assert_eq!(desk.tell(&alerter, Judged::Sla, &[], minutes(2)).await, []);
    assert_eq!((slack.got().len(), pagerduty.got().len()), (1, 4));
}

#[tokio::test]
async fn an_alert_that_is_over_before_it_could_be_sent_is_not_sent_late() {
    let (pagerduty, address) = Receiver::start((0..3).map(|_| status(503))).await;
    let alerter = alerter(None, pagerduty_at(address), None);
    let desk = Desk::new();
    desk.tell(&alerter, Judged::FailedRun, &failure("down"), minutes(0)).await;
    pagerduty.got();
    desk.tell(&alerter, Judged::WholeRun, &[], minutes(1)).await;
    let bodies = pagerduty.bodies();
    assert_eq!(bodies.len(), 1);
    assert_eq!(bodies[0]["event_action"], "resolve");
}

#[tokio::test]
async fn a_resolve_that_comes_late_does_not_close_what_opened_since() {
    let (pagerduty, address) = Receiver::start([]).await;
    let alerter = alerter(None, pagerduty_at(address), None);
    let desk = Desk::new();
    desk.tell(&alerter, Judged::FailedRun, &failure("down"), minutes(0)).await;
    pagerduty.answer((0..3).map(|_| status(503)));
    desk.tell(&alerter, Judged::WholeRun, &[], minutes(1)).await;
    pagerduty.got();
    let late = Finding { event: AlertEvent::SlaMissed, run_id: None, ..failure("late").remove(0) };
    for minute in 2..5 {
        desk.tell(&alerter, Judged::Sla, std::slice::from_ref(&late), minutes(minute)).await;
    }
    let bodies = pagerduty.bodies();
    assert_eq!(bodies.len(), 1);
    assert_eq!(bodies[0]["event_action"], "trigger");
}

#[test]
fn a_wait_is_seconds_or_a_date_and_zero_is_none() {
    let headers = |pairs: &[(&'static str, &str)]| {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
    };
    assert_eq!(retry_after(&headers(&[("retry-after", "7")])), Some(Duration::from_secs(7)));
    assert_eq!(retry_after(&headers(&[("retry-after", "0")])), None);
    assert_eq!(retry_after(&headers(&[("retry-after", "soon")])), None);
    let date = [("date", "Fri, 20 Mar 2026 06:00:00 GMT"), ("retry-after", "Fri, 20 Mar 2026 06:00:09 GMT")];
    assert_eq!(retry_after(&headers(&date)), Some(Duration::from_secs(9)));
    assert_eq!(retry_after(&headers(&[date[0], ("retry-after", "Fri, 20 Mar 2026 05:00:00 GMT")])), None);
}
