//! The books of rides: what must hold of each ride's history, and between rides, whatever happened.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::Deserialize;
use tessera_kernel::Timestamp;

/// How much later than its deadline something may be noticed.
const LATE_S: u64 = 15;
/// Findings of one sort that are listed; all are counted.
const LISTED: usize = 5;

/// Where a ride stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A price was given.
    Estimated,
    /// Waits for a driver.
    Requested,
    /// A driver is asked.
    Offered,
    /// A driver comes.
    Accepted,
    /// The driver is at the pickup.
    Arrived,
    /// On the way.
    PickedUpRider,
    /// Done.
    Completed,
    /// Ended by somebody.
    Cancelled,
    /// Not requested in time.
    Expired,
    /// Nobody was found.
    NoDriver,
}

impl State {
    /// Whether nothing can follow.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Expired | Self::NoDriver)
    }
}

/// Something that happened to a ride.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counts from 1.
    pub version: u32,
    /// What.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// The state after it, where the server says so.
    pub state: Option<State>,
    /// Whose offer was made or accepted, where the server says so.
    pub driver: Option<String>,
}

/// How a ride was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// `rider`, `driver` or `operator`.
    pub by: String,
    /// What the rider owes for it, minor units.
    pub fee: i64,
}

/// A ride as the server has it, and what its rider was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: State,
    /// What it costs, minor units.
    pub price: i64,
    /// What the estimate said, where a rider of the run was told one.
    pub told: Option<i64>,
    /// How it was cancelled, if it was.
    pub cancelled: Option<Ended>,
    /// All that happened.
    pub history: Vec<Event>,
}

/// Somebody was asked for a ride, as the driver's own stream said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The ride.
    pub ride: String,
    /// The driver.
    pub driver: String,
    /// The offer's id.
    pub offer: String,
}

/// The server's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a driver has to answer, seconds.
    pub offer_s: u64,
    /// How long a driver is looked for, seconds; `None` where a ride waits on.
    pub search_s: Option<u64>,
    /// How long an estimate holds, seconds.
    pub estimate_s: u64,
    /// From how many seconds after the acceptance on a rider pays for a cancellation.
    pub cancel_after_s: u64,
    /// What is due then and for not coming, minor units.
    pub cancel_fee: i64,
    /// How long a driver must have waited for a rider who does not come, seconds.
    pub no_show_after_s: u64,
}

/// From when to when a driver was bound to a ride.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound<'a> {
    driver: &'a str,
    ride: &'a str,
    from: Timestamp,
    until: Option<Timestamp>,
}

/// What does not hold, in words.
pub fn check(entries: &[Entry], asked: &[Asked], rules: &Rules, now: Timestamp) -> Vec<String> {
    let mut findings = Vec::new();
    for entry in entries {
        history(entry, rules, now, &mut findings);
        price(entry, rules, &mut findings);
    }
    asked_once(entries, asked, &mut findings);
    one_at_a_time(entries, &mut findings);
    shortened(findings)
}

/// Many findings of one sort are one.
fn shortened(findings: Vec<(&'static str, String)>) -> Vec<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut short = Vec::new();
    for (sort, text) in &findings {
        let count = counts.entry(sort).or_default();
        *count += 1;
        if *count <= LISTED {
            short.push(text.clone());
        }
    }
    let mut more: Vec<String> = counts
        .into_iter()
        .filter(|(_, count)| *count > LISTED)
        .map(|(sort, count)| format!("{count} findings in all: {sort}"))
        .collect();
    more.sort_unstable();
    short.extend(more);
    short
}

/// Where a ride stands after an event; `None` where the event may not happen. A driver who gives up gives the ride back.
fn after(state: Option<State>, kind: &str, gives_back: bool) -> Option<State> {
    use State::{
        Accepted, Arrived, Cancelled, Completed, Estimated, Expired, NoDriver, Offered, PickedUpRider, Requested,
    };
    Some(match (state, kind) {
        (None, "estimated") => Estimated,
        (Some(Estimated), "requested") => Requested,
        (Some(Estimated), "expired") => Expired,
        (Some(Requested), "offered") => Offered,
        (Some(Requested), "no_driver") => NoDriver,
        (Some(Requested), "nobody_yet") => Requested,
        (Some(Offered), "accepted") => Accepted,
        (Some(Offered), "denied" | "lapsed") => Requested,
        (Some(Accepted), "arrived") => Arrived,
        (Some(Arrived), "wrong_code") => Arrived,
        (Some(Arrived), "picked_up_rider") => PickedUpRider,
        (Some(PickedUpRider), "completed") => Completed,
        (Some(Accepted | Arrived), "cancelled") if gives_back => Requested,
        (Some(Estimated | Requested | Offered | Accepted | Arrived | PickedUpRider), "cancelled") => Cancelled,
        _ => return None,
    })
}

/// Each step follows from the one before, in time, and within its deadline.
fn history(entry: &Entry, rules: &Rules, now: Timestamp, findings: &mut Vec<(&'static str, String)>) {
    let Entry { id, history, .. } = entry;
    let mut state = None;
    // Since the request, or since a driver gave the ride back: an offer that is denied does not begin the search anew.
    let mut searched = Duration::ZERO;
    for (number, event) in history.iter().enumerate() {
        let kind = event.kind.as_str();
        if event.version as usize != number + 1 {
            let text = format!("ride `{id}`: its event {} has version {}", number + 1, event.version);
            return findings.push(("gap in a history", text));
        }
        let before = number.checked_sub(1).and_then(|before| history.get(before));
        if let Some(before) = before.filter(|before| before.at > event.at) {
            let text = format!("ride `{id}`: `{kind}` is earlier than `{}` before it", before.kind);
            findings.push(("times that go back", text));
        }
        // Where the server does not say it, what follows tells a ride that was given back from one that was ended.
        let is_end = number + 1 == history.len() && entry.state == State::Cancelled;
        let gives_back = event.state.map_or(!is_end, |state| state == State::Requested);
        let Some(next) = after(state, kind, gives_back) else {
            let text = format!("ride `{id}`: `{kind}` after {state:?}, which the table of states does not allow");
            return findings.push(("illegal step", text));
        };
        if let Some(said) = event.state.filter(|said| *said != next) {
            let text = format!("ride `{id}`: `{kind}` led to {said:?}, which the table of states does not allow");
            findings.push(("illegal step", text));
        }
        let asked = before.filter(|_| kind == "accepted").and_then(|before| before.driver.as_ref());
        if let (Some(asked), Some(accepted)) = (asked, &event.driver)
            && asked != accepted
        {
            let text = format!("ride `{id}`: `{asked}` was asked and `{accepted}` accepted");
            findings.push(("another driver accepted", text));
        }
        let until = history.get(number + 1).map_or(now, |next| next.at);
        let limit = match next {
            State::Estimated => Some(rules.estimate_s),
            State::Offered => Some(rules.offer_s),
            State::Requested => rules.search_s,
            _ => None,
        };
        let mut stayed = until.since(event.at);
        if next == State::Requested {
            let is_new = matches!(kind, "requested" | "cancelled");
            searched = stayed + if is_new { Duration::ZERO } else { searched };
            stayed = searched;
        }
        let stayed = stayed.as_secs();
        if let Some(limit) = limit
            && stayed > limit + LATE_S
        {
            let text = format!("ride `{id}` was {next:?} for {stayed} s, {limit} s are the limit");
            findings.push(("beyond its deadline", text));
        }
        state = Some(next);
    }
    if state != Some(entry.state) {
        let text = format!("ride `{id}` is {:?}, its history ends in {state:?}", entry.state);
        findings.push(("state against history", text));
    }
}

/// The fare is the one that was told, and fees follow the rule.
fn price(entry: &Entry, rules: &Rules, findings: &mut Vec<(&'static str, String)>) {
    let id = &entry.id;
    if let Some(told) = entry.told.filter(|told| *told != entry.price) {
        findings.push(("another fare", format!("ride `{id}` costs {}, its rider was told {told}", entry.price)));
    }
    let Some(ended) = &entry.cancelled else { return };
    let at = entry.history.last().map_or(Timestamp::from_micros(0), |event| event.at);
    let last = |kind: &str| entry.history.iter().rposition(|event| event.kind == kind);
    // The last acceptance counts unless the ride was given back since.
    let accepted = last("accepted").filter(|accepted| last("offered").is_none_or(|offered| offered < *accepted));
    let given_back =
        |from: usize| entry.history[from..entry.history.len() - 1].iter().any(|event| event.kind == "cancelled");
    let accepted = accepted.filter(|accepted| !given_back(*accepted)).map(|accepted| entry.history[accepted].at);
    let due = match ended.by.as_str() {
        "rider" => accepted.is_some_and(|accepted| at.since(accepted).as_secs() >= rules.cancel_after_s),
        "driver" => {
            let arrived = last("arrived").map(|arrived| entry.history[arrived].at);
            let waited = arrived.map_or(0, |arrived| at.since(arrived).as_secs());
            if waited < rules.no_show_after_s {
                let text = format!("ride `{id}` was ended for a rider who did not come after {waited} s");
                findings.push(("too early no-show", text));
            }
            true
        }
        _ => false,
    };
    let due = if due { rules.cancel_fee } else { 0 };
    if ended.fee != due {
        let text = format!("ride `{id}`, cancelled by the {}, costs a fee of {}; {due} is due", ended.by, ended.fee);
        findings.push(("another fee", text));
    }
}

/// No driver is asked twice for a ride, by what drivers were shown and by the histories.
fn asked_once(entries: &[Entry], asked: &[Asked], findings: &mut Vec<(&'static str, String)>) {
    let mut offers: HashSet<(&str, &str)> = HashSet::new();
    let mut seen: HashSet<&Asked> = HashSet::new();
    // An offer is shown again when a stream is opened anew.
    for asked in asked.iter().filter(|asked| seen.insert(asked)) {
        if !offers.insert((&asked.ride, &asked.driver)) {
            let text = format!("driver `{}` was asked twice for ride `{}`", asked.driver, asked.ride);
            findings.push(("asked twice", text));
        }
    }
    for entry in entries {
        let mut asked: HashSet<&str> = HashSet::new();
        let offered = entry.history.iter().filter(|event| event.kind == "offered");
        for driver in offered.filter_map(|event| event.driver.as_deref()) {
            if !asked.insert(driver) {
                let text = format!("ride `{}` was offered to `{driver}` twice", entry.id);
                findings.push(("asked twice", text));
            }
        }
        let shown = offers.iter().filter(|(ride, _)| *ride == entry.id).count();
        let made = entry.history.iter().filter(|event| event.kind == "offered").count();
        if shown > made {
            let text = format!("ride `{}` was shown to {shown} drivers, its history has {made} offers", entry.id);
            findings.push(("offers without a record", text));
        }
    }
}

/// No driver has two offers or rides at the same time.
fn one_at_a_time(entries: &[Entry], findings: &mut Vec<(&'static str, String)>) {
    let mut bound: Vec<Bound<'_>> = entries.iter().flat_map(bindings).collect();
    bound.sort_by(|a, b| (a.driver, a.from, a.ride).cmp(&(b.driver, b.from, b.ride)));
    for pair in bound.windows(2) {
        let [first, second] = pair else { continue };
        let overlap = first.until.is_none_or(|until| until > second.from);
        if first.driver == second.driver && overlap {
            let text = format!(
                "driver `{}` had rides `{}` and `{}` at the same time, {}",
                first.driver, first.ride, second.ride, second.from
            );
            findings.push(("two rides of a driver at once", text));
        }
    }
}

/// From which to which moment which driver was asked for or drove a ride.
fn bindings(entry: &Entry) -> Vec<Bound<'_>> {
    let mut bound: Vec<Bound<'_>> = Vec::new();
    for event in &entry.history {
        if matches!(event.kind.as_str(), "completed" | "cancelled" | "denied" | "lapsed")
            && let Some(open) = bound.last_mut().filter(|last| last.until.is_none())
        {
            open.until = Some(event.at);
        }
        if event.kind == "offered"
            && let Some(driver) = event.driver.as_deref()
        {
            bound.push(Bound { driver, ride: &entry.id, from: event.at, until: None });
        }
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        offer_s: 15,
        search_s: Some(60),
        estimate_s: 300,
        cancel_after_s: 120,
        cancel_fee: 250,
        no_show_after_s: 300,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros((1_800_000_000 + seconds) * 1_000_000)
    }

    /// `kind@second` or `kind@second:driver` for each event.
    fn entry(id: &str, state: State, events: &str) -> Entry {
        let event = |(number, text): (usize, &str)| {
            let (kind, rest) = text.split_once('@').unwrap();
            let (second, driver) = rest.split_once(':').map_or((rest, None), |(second, driver)| (second, Some(driver)));
            let version = number as u32 + 1;
            let at = at(second.parse().unwrap());
            Event { version, kind: kind.into(), at, state: None, driver: driver.map(str::to_owned) }
        };
        let history = events.split_whitespace().enumerate().map(event).collect();
        Entry { id: id.into(), state, price: 500, told: Some(500), cancelled: None, history }
    }

    fn found(entries: &[Entry]) -> String {
        check(entries, &[], &RULES, at(10_000)).join("; ")
    }

    const DONE: &str = "estimated@0 requested@5 offered@6:a denied@8 offered@9:b accepted@12:b arrived@100:b \
                        picked_up_rider@130:b completed@700:b";

    #[test]
    fn good_books_have_no_findings() {
        let given_back = "estimated@0 requested@5 offered@6:a accepted@8:a cancelled@50 offered@52:b accepted@60:b \
                          arrived@70:b picked_up_rider@80:b completed@90:b";
        let mut late = entry("c", State::Cancelled, "estimated@0 requested@1 offered@2:x accepted@3:x cancelled@123");
        late.cancelled = Some(Ended { by: "rider".into(), fee: 250 });
        let nobody = "estimated@0 requested@5 offered@20:q lapsed@35 no_driver@66";
        let entries = [
            entry("a", State::Completed, DONE),
            entry("b", State::Completed, &given_back.replace(":b", ":z").replace(":a", ":y")),
            late,
            entry("d", State::NoDriver, nobody),
            entry("e", State::Expired, "estimated@0 expired@301"),
        ];
        assert_eq!(found(&entries), "");
    }

    #[test]
    fn each_fault_is_found() {
        let one = |state, events: &str| found(&[entry("r", state, events)]);
        assert!(one(State::Completed, &DONE.replace("arrived@100:b ", "")).contains("`picked_up_rider` after"));
        assert!(one(State::Accepted, DONE).contains("its history ends in"));
        assert!(one(State::Completed, &DONE.replace("@700", "@7")).contains("earlier than"));
        assert!(one(State::Offered, "estimated@0 requested@5 offered@6:a").contains("was Offered for"));
        assert!(one(State::Requested, "estimated@0 requested@5").contains("was Requested for"));
        let denied = "estimated@0 requested@5 offered@55:a denied@56:a offered@96:b denied@97:b no_driver@99";
        assert!(one(State::NoDriver, denied).contains("was Requested for 92 s"), "{}", one(State::NoDriver, denied));
        let back = "estimated@0 requested@5 offered@55:a accepted@56:a cancelled@60:a offered@119:b denied@120:b no_driver@121";
        assert_eq!(one(State::NoDriver, back), "", "who gave it back began the search anew");
        assert!(one(State::Estimated, "estimated@0").contains("was Estimated for"));
        assert!(
            one(State::Completed, &DONE.replace("accepted@12:b", "accepted@12:a")).contains("`b` was asked and `a`")
        );
        assert!(one(State::Completed, &DONE.replace(":b", ":a")).contains("to `a` twice"));
        let both = [entry("r", State::Completed, DONE), entry("s", State::Completed, DONE)];
        assert!(found(&both).contains("driver `b` had rides `r` and `s` at the same time"), "{}", found(&both));
        let dearer = Entry { told: Some(400), ..entry("r", State::Completed, DONE) };
        assert!(found(&[dearer]).contains("costs 500, its rider was told 400"));
    }

    #[test]
    fn fees_follow_the_rule() {
        let cancelled = |by: &str, fee, events: &str| {
            let entry = entry("r", State::Cancelled, events);
            found(&[Entry { cancelled: Some(Ended { by: by.into(), fee }), ..entry }])
        };
        let soon = "estimated@0 requested@1 offered@2:x accepted@3:x cancelled@122";
        assert_eq!(cancelled("rider", 0, soon), "");
        assert!(cancelled("rider", 250, soon).contains("0 is due"));
        assert!(cancelled("rider", 0, &soon.replace("122", "123")).contains("250 is due"));
        let again = "estimated@0 requested@1 offered@2:x accepted@3:x cancelled@20 cancelled@61";
        assert_eq!(cancelled("rider", 0, again), "", "nobody drives any more");
        let absent = "estimated@0 requested@1 offered@2:x accepted@3:x arrived@10:x cancelled@310:x";
        assert_eq!(cancelled("driver", 250, absent), "");
        assert!(cancelled("driver", 250, &absent.replace("310", "200")).contains("after 190 s"));
        assert!(cancelled("operator", 250, soon).contains("0 is due"));
    }

    #[test]
    fn who_was_shown_what_counts_too() {
        let asked = |driver: &str, offer: &str| Asked { ride: "r".into(), driver: driver.into(), offer: offer.into() };
        let entries = [entry("r", State::Completed, DONE)];
        let found = |asked: &[Asked]| check(&entries, asked, &RULES, at(10_000)).join("; ");
        assert_eq!(found(&[asked("a", "1"), asked("a", "1"), asked("b", "2")]), "");
        assert!(found(&[asked("a", "1"), asked("a", "3")]).contains("asked twice for ride"));
        assert!(found(&[asked("a", "1"), asked("b", "2"), asked("c", "3")]).contains("shown to 3 drivers"));
    }

    #[test]
    fn many_of_one_sort_are_listed_in_short() {
        let entries: Vec<Entry> = (0..40).map(|at| entry(&at.to_string(), State::Accepted, DONE)).collect();
        let findings = entries.iter().flat_map(|one| check(std::slice::from_ref(one), &[], &RULES, at(0))).count();
        assert_eq!(findings, 40);
        let short = check(&entries, &[], &RULES, at(0));
        assert!(short.len() < 15 && short.iter().any(|text| text.contains("40 findings in all")), "{short:#?}");
    }
}
