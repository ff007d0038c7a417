//! What was told already. Decides what is news: pure, and small enough to be stored beside the pipeline's state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tessera_kernel::Timestamp;

use super::finding::listed;
use super::{Channel, Finding, Message, clip};
use crate::spec::AlertEvent;

/// Alerts of one event within [`WINDOW`]; a pipeline that flaps is told this often and no more. What was held back is
/// told when the window allows it, if it is still so.
const MOST_ALERTS: usize = 3;
const WINDOW: Duration = Duration::from_secs(3600);
/// Schema changes remembered as told.
const MOST_CHANGES: usize = 256;
/// Schema changes held back for a later alert.
const MOST_HELD: usize = 64;
/// Messages kept for channels that have not taken them, and for how long.
const MOST_OWED: usize = 32;
const OWED_FOR: Duration = Duration::from_secs(24 * 3600);
/// A writer that has not said for this long what became of a message is taken for dead, and another sends it. Several
/// times what sending takes.
const CLAIMED_FOR: Duration = Duration::from_secs(300);
/// Characters of a cause that are stored.
const MOST_CAUSE: usize = 2000;

/// What was told, and what is open. Stored as JSON; an empty one is `AlertBook::default()`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertBook {
    open: BTreeMap<AlertEvent, Open>,
    /// When alerts of an event were sent, within the window.
    told: BTreeMap<AlertEvent, Vec<Timestamp>>,
    /// Short hashes of the schema changes that were told or are held, oldest first.
    changes: VecDeque<String>,
    /// Schema changes that wait until the window allows another alert.
    held: Vec<Held>,
    /// What is to be sent, or was not taken.
    owed: Vec<Owed>,
}

/// A condition that holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    since: Timestamp,
    fingerprint: String,
    cause: String,
    /// Whether this fingerprint was told, or held back.
    announced: bool,
    /// Whether anything was told since it opened: only then is its end news.
    ever_announced: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Held {
    cause: String,
    resources: Vec<String>,
    run_id: Option<String>,
}

/// A message that a channel is still to take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Owed {
    pub(super) channel: Channel,
    pub(super) message: Message,
    pub(super) since: Timestamp,
    /// Who is sending it at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<Claim>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Claim {
    by: String,
    at: Timestamp,
}

impl Owed {
    /// Whether another writer is at it. A moment in the future is one from before a clock was set back.
    fn is_claimed(&self, now: Timestamp) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.at <= now && now.since(claim.at) < CLAIMED_FOR)
    }
}

/// What a look at the pipeline could judge: only the end of a condition that was looked at is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// A run that ended well or at a quality gate, and read all resources.
    WholeRun,
    /// A run that ended well, but read some of the resources only: it says nothing about the quality of the others.
    PartOfRun,
    /// A run that failed: nothing that it did not reach is known to be well.
    FailedRun,
    /// The SLA alone.
    Sla,
}

impl Judged {
    fn covers(self, event: AlertEvent) -> bool {
        match self {
            Self::WholeRun => matches!(event, AlertEvent::RunFailed | AlertEvent::QualityFailed),
            Self::PartOfRun => event == AlertEvent::RunFailed,
            Self::FailedRun => false,
            Self::Sla => event == AlertEvent::SlaMissed,
        }
    }
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Something is wrong, or changed.
    Trigger {
        /// What kind of thing.
        event: AlertEvent,
        /// Why, one line per cause.
        cause: String,
        /// The resources concerned.
        resources: Vec<String>,
        /// The run that found it.
        run_id: Option<String>,
    },
    /// It is well again.
    Resolve {
        /// What kind of thing.
        event: AlertEvent,
        /// What had been the cause.
        cause: String,
        /// Since when it had been so.
        since: Timestamp,
        /// What is still wrong.
        still_open: Vec<AlertEvent>,
    },
}

impl AlertBook {
    /// What is news in these findings. The same finding again is none; another cause is, and so is the end of a
    /// condition that `judged` covers. Findings of one event make one alert.
    pub fn due(&mut self, judged: Judged, findings: &[Finding], now: Timestamp) -> Vec<Action> {
        for told in self.told.values_mut() {
            // A moment in the future is one from before the clock was set back: it must not silence us for long.
            told.retain(|at| *at <= now && now.since(*at) < WINDOW);
        }
        let mut actions = vec![];
        for event in [AlertEvent::RunFailed, AlertEvent::SlaMissed, AlertEvent::QualityFailed] {
            let found: Vec<&Finding> = findings.iter().filter(|finding| finding.event == event).collect();
            if !found.is_empty() {
                actions.extend(self.note_condition(event, &found, now));
            } else if judged.covers(event) {
                actions.extend(self.close(event));
            }
        }
        let drift: Vec<&Finding> = findings.iter().filter(|f| f.event == AlertEvent::SchemaDrift).collect();
        actions.extend(self.note_changes(&drift, now));
        let still_open = self.announced();
        for action in &mut actions {
            if let Action::Resolve { still_open: of_action, .. } = action {
                of_action.clone_from(&still_open);
            }
        }
        actions
    }

    /// Conditions that hold, with the moment since when.
    pub fn open(&self) -> impl Iterator<Item = (AlertEvent, Timestamp)> + '_ {
        self.open.iter().map(|(event, open)| (*event, open.since))
    }

    /// Conditions that hold and were told.
    pub(super) fn announced(&self) -> Vec<AlertEvent> {
        self.open.iter().filter(|(_, open)| open.ever_announced).map(|(event, _)| *event).collect()
    }

    fn note_condition(&mut self, event: AlertEvent, found: &[&Finding], now: Timestamp) -> Option<Action> {
        let merged = Merged::of(found);
        let may_tell = self.may_tell(event);
        let open = self.open.entry(event).or_insert_with(|| Open {
            since: now,
            fingerprint: String::new(),
            cause: String::new(),
            announced: false,
            ever_announced: false,
        });
        if open.fingerprint != merged.fingerprint {
            open.fingerprint.clone_from(&merged.fingerprint);
            open.announced = false;
        }
        if open.announced || !may_tell {
            return None;
        }
        (open.announced, open.ever_announced) = (true, true);
        open.cause = clip(&merged.cause, MOST_CAUSE);
        self.told.entry(event).or_default().push(now);
        Some(Action::Trigger { event, cause: merged.cause, resources: merged.resources, run_id: merged.run_id })
    }

    fn close(&mut self, event: AlertEvent) -> Option<Action> {
        let open = self.open.remove(&event).filter(|open| open.ever_announced)?;
        Some(Action::Resolve { event, cause: open.cause, since: open.since, still_open: vec![] })
    }

    fn note_changes(&mut self, found: &[&Finding], now: Timestamp) -> Option<Action> {
        let event = AlertEvent::SchemaDrift;
        for finding in found {
            let change = short_hash(&finding.fingerprint);
            if self.changes.contains(&change) {
                continue;
            }
            self.changes.push_back(change);
            if self.changes.len() > MOST_CHANGES {
                self.changes.pop_front();
            }
            let cause = clip(&finding.cause, MOST_CAUSE);
            self.held.push(Held { cause, resources: finding.resources.clone(), run_id: finding.run_id.clone() });
        }
        let excess = self.held.len().saturating_sub(MOST_HELD);
        self.held.drain(..excess);
        if self.held.is_empty() || !self.may_tell(event) {
            return None;
        }
        self.told.entry(event).or_default().push(now);
        let held = std::mem::take(&mut self.held);
        let causes: Vec<String> = held.iter().map(|held| held.cause.clone()).collect();
        let resources: BTreeSet<&String> = held.iter().flat_map(|held| &held.resources).collect();
        let run_id = held.iter().rev().find_map(|held| held.run_id.clone());
        Some(Action::Trigger {
            event,
            cause: listed(&causes),
            resources: resources.into_iter().cloned().collect(),
            run_id,
        })
    }

    fn may_tell(&self, event: AlertEvent) -> bool {
        self.told.get(&event).is_none_or(|told| told.len() < MOST_ALERTS)
    }

    /// Puts a message down for these channels. A later word on a condition replaces an earlier one.
    pub(super) fn post(&mut self, message: &Message, channels: &[Channel], now: Timestamp) {
        let event = message.event();
        if event != AlertEvent::SchemaDrift {
            self.owed.retain(|owed| owed.message.event() != event);
        }
        let owed = |channel: &Channel| Owed { channel: *channel, message: message.clone(), since: now, claim: None };
        self.owed.extend(channels.iter().map(owed));
        let excess = self.owed.len().saturating_sub(MOST_OWED);
        self.owed.drain(..excess);
    }

    /// What `by` is to send now: all that nobody else is sending, without what is too old to help.
    pub(super) fn claim(&mut self, by: &str, now: Timestamp) -> Vec<Owed> {
        let announced = self.announced();
        self.owed.retain(|owed| now.since(owed.since) < OWED_FOR);
        let free = self.owed.iter_mut().filter(|owed| !owed.is_claimed(now));
        free.map(|owed| {
            owed.claim = Some(Claim { by: by.to_owned(), at: now });
            if let Message::Resolved(resolve) = &mut owed.message {
                // What opened since keeps PagerDuty's incident open.
                resolve.still_open.clone_from(&announced);
            }
            owed.clone()
        })
        .collect()
    }

    /// What became of what `by` had claimed: what was not taken stays for a later call, the rest goes.
    pub(super) fn settle(&mut self, by: &str, not_taken: &[Owed]) {
        let ours = |owed: &Owed| owed.claim.as_ref().is_some_and(|claim| claim.by == by);
        self.owed.retain(|owed| !ours(owed) || not_taken.contains(owed));
        self.owed.iter_mut().filter(|owed| ours(owed)).for_each(|owed| owed.claim = None);
    }
}

/// Findings of one event as one.
struct Merged {
    fingerprint: String,
    cause: String,
    resources: Vec<String>,
    run_id: Option<String>,
}

impl Merged {
    fn of(found: &[&Finding]) -> Self {
        let prints: BTreeSet<&str> = found.iter().map(|finding| finding.fingerprint.as_str()).collect();
        let causes: Vec<String> = found.iter().map(|finding| finding.cause.clone()).collect();
        let resources: BTreeSet<&String> = found.iter().flat_map(|finding| &finding.resources).collect();
        Self {
            fingerprint: short_hash(&prints.into_iter().collect::<Vec<_>>().join("\n")),
            cause: if causes.len() == 1 { causes[0].clone() } else { listed(&causes) },
            resources: resources.into_iter().cloned().collect(),
            run_id: found.iter().find_map(|finding| finding.run_id.clone()),
        }
    }
}

/// 64 bits of SHA-256 in hex: enough to tell a few hundred texts apart, short enough to store.
fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [AlertEvent; 4] =
        [AlertEvent::RunFailed, AlertEvent::SlaMissed, AlertEvent::QualityFailed, AlertEvent::SchemaDrift];

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_micros(1_774_000_000_000_000).plus(Duration::from_secs(minutes * 60))
    }

    fn finding(event: AlertEvent, fingerprint: &str) -> Finding {
        let cause = format!("because of {fingerprint}");
        Finding { event, cause, fingerprint: fingerprint.into(), resources: vec!["orders".into()], run_id: None }
    }

    fn failed(fingerprint: &str) -> Vec<Finding> {
        vec![finding(AlertEvent::RunFailed, fingerprint)]
    }

    #[test]
    fn a_failure_is_told_once_and_its_end_once() {
        let mut book = AlertBook::default();
        assert_eq!(book.due(Judged::FailedRun, &failed("a"), at(0)).len(), 1);
        for minute in 1..200 {
            assert_eq!(book.due(Judged::FailedRun, &failed("a"), at(minute)), []);
        }
        let resolved = book.due(Judged::WholeRun, &[], at(200));
        let cause = "because of a".to_owned();
        let event = AlertEvent::RunFailed;
        assert_eq!(resolved, [Action::Resolve { event, cause, since: at(0), still_open: vec![] }]);
        assert_eq!(book.due(Judged::WholeRun, &[], at(201)), []);
        assert_eq!(book.open().count(), 0);
    }

    #[test]
    fn another_cause_is_told_even_while_the_first_is_open() {
        let mut book = AlertBook::default();
        book.due(Judged::FailedRun, &failed("a"), at(0));
        let second = book.due(Judged::FailedRun, &failed("b"), at(1));
        assert!(matches!(&second[..], [Action::Trigger { cause, .. }] if cause == "because of b"));
    }

    #[test]
    fn a_look_ends_only_what_it_looked_at() {
        let mut book = AlertBook::default();
        let findings: Vec<Finding> = ALL[..3].iter().map(|event| finding(*event, "x")).collect();
        assert_eq!(book.due(Judged::FailedRun, &findings, at(0)).len(), 3);
        assert_eq!(book.due(Judged::FailedRun, &failed("x"), at(1)), []);
        let sla = book.due(Judged::Sla, &[], at(2));
        let open = vec![AlertEvent::RunFailed, AlertEvent::QualityFailed];
        assert!(
            matches!(&sla[..], [Action::Resolve { event: AlertEvent::SlaMissed, still_open, .. }] if *still_open == open)
        );
        assert!(matches!(
            &book.due(Judged::PartOfRun, &[], at(3))[..],
            [Action::Resolve { event: AlertEvent::RunFailed, .. }]
        ));
        let last = book.due(Judged::WholeRun, &[], at(4));
        assert!(matches!(&last[..], [Action::Resolve { still_open, .. }] if still_open.is_empty()));
    }

    #[test]
    fn flapping_is_told_three_times_an_hour_and_what_stays_is_told_later() {
        let mut book = AlertBook::default();
        let (mut triggers, mut resolves) = (0, 0);
        for minute in 0..50 {
            let wrong = minute % 2 == 0;
            let (judged, findings) = if wrong { (Judged::FailedRun, failed("a")) } else { (Judged::WholeRun, vec![]) };
            for action in book.due(judged, &findings, at(minute)) {
                if matches!(action, Action::Trigger { .. }) { triggers += 1 } else { resolves += 1 }
            }
        }
        assert_eq!((triggers, resolves), (3, 3));
        assert_eq!(book.due(Judged::FailedRun, &failed("a"), at(51)), []);
        assert_eq!(book.due(Judged::FailedRun, &failed("a"), at(59)), []);
        assert_eq!(book.due(Judged::FailedRun, &failed("a"), at(60)).len(), 1);
    }

    #[test]
    fn a_schema_change_is_told_once_and_never_resolved() {
        let mut book = AlertBook::default();
        let drift = [finding(AlertEvent::SchemaDrift, "added x"), finding(AlertEvent::SchemaDrift, "added y")];
        let told = book.due(Judged::WholeRun, &drift, at(0));
        assert!(
            matches!(&told[..], [Action::Trigger { cause, .. }] if cause == "because of added x\nbecause of added y")
        );
        assert_eq!(book.due(Judged::WholeRun, &drift, at(1)), []);
        assert_eq!(book.due(Judged::WholeRun, &[], at(2)), []);
    }

    #[test]
    fn changes_beyond_the_limit_wait_and_are_told_together() {
        let mut book = AlertBook::default();
        for minute in 0..10 {
            let change = finding(AlertEvent::SchemaDrift, &format!("column {minute}"));
            let told = book.due(Judged::WholeRun, &[change], at(minute));
            assert_eq!(told.len(), usize::from(minute < 3));
        }
        let told = book.due(Judged::Sla, &[], at(60));
        let [Action::Trigger { cause, .. }] = &told[..] else { panic!("{told:?}") };
        assert_eq!(cause.lines().count(), 7);
    }

    #[test]
    fn a_clock_set_back_does_not_silence_the_book() {
        let mut book = AlertBook::default();
        for (minute, cause) in [(1000, "a"), (1001, "b"), (1002, "c")] {
            assert_eq!(book.due(Judged::FailedRun, &failed(cause), at(minute)).len(), 1);
        }
        assert_eq!(book.due(Judged::FailedRun, &failed("d"), at(5)).len(), 1);
    }

    #[test]
    fn the_stored_form_of_version_one_is_still_read() {
        let stored = r#"{"open":{"run_failed":{"since":"2026-03-20T09:46:40Z","fingerprint":"7c9a","cause":"x",
            "announced":true,"ever_announced":true}},"told":{"run_failed":["2026-03-20T09:46:40Z"]},
            "changes":["abcd"],"held":[{"cause":"c","resources":["r"],"run_id":null}],"owed":[{"channel":"slack",
            "since":"2026-03-20T09:46:40Z","message":{"kind":"alert","event":"run_failed","pipeline":"shop",
            "owner":null,"consumers":[],"run_id":null,"cause":"x","resources":[],"at":"2026-03-20T09:46:40Z",
            "run_next":"tessera ingest run shop.yaml","link":null}}]}"#;
        let book: AlertBook = serde_json::from_str(stored).unwrap();
        assert_eq!(book.open().next(), Some((AlertEvent::RunFailed, at(0))));
        assert_eq!(serde_json::from_str::<AlertBook>("{}").unwrap(), AlertBook::default());
    }

    #[test]
    fn a_message_is_sent_by_one_writer_and_by_another_when_that_one_is_dead() {
        let mut book = AlertBook::default();
        let about = crate::alerts::About { pipeline: "shop".into(), ..crate::alerts::About::default() };
        for action in book.due(Judged::FailedRun, &failed("a"), at(0)) {
            book.post(&about.message(action, at(0)), &[Channel::Slack, Channel::Webhook], at(0));
        }
        let claimed = book.claim("one", at(0));
        assert_eq!(claimed.len(), 2);
        assert_eq!(book.claim("two", at(1)), []);
        assert_eq!(book.claim("two", at(6)).len(), 2, "the first said nothing for minutes");
        book.settle("one", &[]);
        assert_eq!(book.owed.len(), 2, "they are no longer the first one's");
        let mut not_taken = book.owed.clone();
        not_taken.truncate(1);
        book.settle("two", &not_taken);
        assert_eq!(book.claim("three", at(7)).len(), 1);
        book.settle("three", &[]);
        assert_eq!(book.owed, []);
    }

    proptest! {
        /// Whatever happens: resolves answer triggers, an hour holds few triggers, the memory stays small and reads
        /// back as written.
        #[test]
        fn the_book_keeps_its_promises(
            steps in prop::collection::vec((0u8..4, prop::collection::vec((0usize..4, 0u8..5), 0..6), 0u64..40), 0..120)
        ) {
            let mut book = AlertBook::default();
            let mut minute = 0;
            let mut triggered: BTreeMap<AlertEvent, Vec<u64>> = BTreeMap::new();
            let mut told_open = BTreeSet::new();
            for (judged, found, pause) in steps {
                minute += pause;
                let judged = [Judged::WholeRun, Judged::PartOfRun, Judged::FailedRun, Judged::Sla][judged as usize];
                let found: Vec<Finding> = found.iter().map(|(e, f)| finding(ALL[*e], &f.to_string())).collect();
                for action in book.due(judged, &found, at(minute)) {
                    match action {
                        Action::Trigger { event, .. } => {
                            triggered.entry(event).or_default().push(minute);
                            told_open.insert(event);
                        }
                        Action::Resolve { event, .. } => {
                            prop_assert!(event != AlertEvent::SchemaDrift);
                            prop_assert!(told_open.remove(&event), "resolved {event:?} that was not told");
                        }
                    }
                }
                let text = serde_json::to_string(&book).unwrap();
                prop_assert_eq!(&serde_json::from_str::<AlertBook>(&text).unwrap(), &book);
            }
            for minutes in triggered.values() {
                for few in minutes.windows(MOST_ALERTS + 1) {
                    prop_assert!(few[MOST_ALERTS] - few[0] >= 60);
                }
            }
        }
    }
}
