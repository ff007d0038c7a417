//! Whether the data is as fresh as promised. Pure; the watch calls it each minute.

use chrono::{DateTime, Duration as Delta, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;
use tessera_kernel::Timestamp;

use crate::Error;
use crate::spec::Sla;

/// Whether the promises of an SLA are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlaStatus {
    /// They are.
    Met,
    /// They are not.
    Missed {
        /// In words: what was promised, and when a run last succeeded.
        what: String,
        /// The moment that passed without the run it needed; the earliest where both promises are broken.
        since: Timestamp,
        /// Which promises.
        broken: Vec<Promise>,
    },
}

/// A promise of an SLA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// `fresh_within`
    FreshWithin,
    /// `ready_by`
    ReadyBy,
}

/// Whether the SLA is met at `now`. `last_success` is when the latest successful run ended. A pipeline that never had
/// one is measured from `watched_since`, when the watch first saw it, so that a new pipeline is not late at once.
///
/// `ready_by` asks for a success on each calendar day of the time zone by that time of day. Once missed, it stays missed
/// until a run succeeds, past midnight too. Where the clocks go forward over it, the moment they land on counts; where
/// they go back over it, the first of the two.
///
/// # Errors
/// [`Error::Spec`] for a time zone or time of day that `spec::check` would have refused.
pub fn sla_status(
    sla: &Sla,
    last_success: Option<Timestamp>,
    watched_since: Timestamp,
    now: Timestamp,
) -> Result<SlaStatus, Error> {
    let mut missed: Vec<(Promise, Timestamp, String)> = vec![];
    if let Some(span) = sla.fresh_within {
        let due = last_success.unwrap_or(watched_since).plus(span.0);
        if now > due {
            missed.push((Promise::FreshWithin, due, format!("promised within {span}")));
        }
    }
    if let Some(by) = &sla.ready_by {
        let (zone, time) = parsed(sla, by)?;
        let due = match last_success {
            Some(at) => next_day(at.to_utc().with_timezone(&zone).date_naive()).map(|day| moment(zone, day, time)),
            None => first_after(watched_since, zone, time),
        };
        if let Some(due) = due.filter(|due| now > *due) {
            missed.push((Promise::ReadyBy, due, format!("promised by {by} {} each day", sla.timezone)));
        }
    }
    let Some(since) = missed.iter().map(|(_, due, _)| *due).min() else { return Ok(SlaStatus::Met) };
    let promised: Vec<&str> = missed.iter().map(|(_, _, words)| words.as_str()).collect();
    let promised = promised.join(", and ");
    let what = match last_success {
        Some(at) => format!("the last successful run ended at {at}; {promised}; late since {since}"),
        None => format!("no run has succeeded yet; {promised}; late since {since}"),
    };
    Ok(SlaStatus::Missed { what, since, broken: missed.iter().map(|(promise, ..)| *promise).collect() })
}

fn parsed(sla: &Sla, by: &str) -> Result<(Tz, NaiveTime), Error> {
    let wrong = |key: &str, detail: String| Error::Spec { place: format!("sla.{key}"), detail };
    let zone = sla.timezone.parse::<Tz>().map_err(|_| {
        wrong("timezone", format!("time zone `{}` is not known; use a name such as Europe/Lisbon", sla.timezone))
    })?;
    let time = NaiveTime::parse_from_str(by, "%H:%M")
        .map_err(|_| wrong("ready_by", format!("`{by}` is not a time of day; write \"06:00\"")))?;
    Ok((zone, time))
}

fn next_day(day: NaiveDate) -> Option<NaiveDate> {
    day.succ_opt()
}

/// The first `time` of any day after the moment.
fn first_after(at: Timestamp, zone: Tz, time: NaiveTime) -> Option<Timestamp> {
    let mut day = at.to_utc().with_timezone(&zone).date_naive();
    for _ in 0..3 {
        let due = moment(zone, day, time);
        if due > at {
            return Some(due);
        }
        day = next_day(day)?;
    }
    None
}

/// The moment at which a clock on the wall shows this, or has just jumped over it.
fn moment(zone: Tz, day: NaiveDate, time: NaiveTime) -> Timestamp {
    let wanted = day.and_time(time);
    // The longest jump on record, a whole day at the date line, is past after two days of minutes.
    let minutes = (0..=2 * 24 * 60).filter_map(|minutes| wanted.checked_add_signed(Delta::minutes(minutes)));
    let found = minutes.into_iter().find_map(|local| earliest(zone, local));
    Timestamp::from_utc(found.unwrap_or_else(|| wanted.and_utc()))
}

fn earliest(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) => Some(at.to_utc()),
        LocalResult::Ambiguous(one, other) => Some(one.min(other).to_utc()),
        LocalResult::None => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::spec::Span;

    fn ready_by(time: &str, zone: &str) -> Sla {
        Sla { fresh_within: None, ready_by: Some(time.into()), timezone: zone.into() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn status(sla: &Sla, last: &str, now: &str) -> SlaStatus {
        sla_status(sla, Some(at(last)), at("2026-01-01"), at(now)).unwrap()
    }

    fn late_since(status: &SlaStatus) -> Option<String> {
        match status {
            SlaStatus::Met => None,
            SlaStatus::Missed { since, .. } => Some(since.to_string()),
        }
    }

    #[test]
    fn fresh_within_is_measured_from_the_last_success() {
        let hour = Span::from_secs(3600);
        let sla = Sla { fresh_within: Some(hour), ready_by: None, timezone: "UTC".into() };
        assert_eq!(status(&sla, "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"), SlaStatus::Met);
        let missed = status(&sla, "2026-03-01T10:00:00Z", "2026-03-01T11:00:01Z");
        assert_eq!(late_since(&missed).unwrap(), "2026-03-01T11:00:00Z");
        let SlaStatus::Missed { what, .. } = missed else { panic!() };
        assert!(what.contains("2026-03-01T10:00:00Z") && what.contains("within 1h"), "{what}");
        let never = |now| late_since(&sla_status(&sla, None, at("2026-03-01"), at(now)).unwrap());
        assert_eq!(never("2026-03-01T00:59:00Z"), None);
        assert_eq!(never("2026-03-01T02:00:00Z").unwrap(), "2026-03-01T01:00:00Z");
    }

    #[test]
    fn ready_by_needs_a_success_since_local_midnight() {
        let sla = ready_by("06:00", "Europe/Lisbon");
        // 23:30Z on 30 June is 00:30 on 1 July in Lisbon: that day has its run.
        assert_eq!(status(&sla, "2026-06-30T23:30:00Z", "2026-07-01T12:00:00Z"), SlaStatus::Met);
        let missed = status(&sla, "2026-06-30T22:30:00Z", "2026-07-01T05:00:01Z");
        assert_eq!(late_since(&missed).unwrap(), "2026-07-01T05:00:00Z");
        assert_eq!(status(&sla, "2026-06-30T22:30:00Z", "2026-07-01T05:00:00Z"), SlaStatus::Met);
        // Late over midnight stays late, from the first missed morning.
        let days_later = status(&sla, "2026-06-30T22:30:00Z", "2026-07-04T00:10:00Z");
        assert_eq!(late_since(&days_later).unwrap(), "2026-07-01T05:00:00Z");
    }

    #[test]
    fn a_new_pipeline_has_until_its_first_morning() {
        let sla = ready_by("06:00", "Europe/Lisbon");
        let never = |now| late_since(&sla_status(&sla, None, at("2026-01-10T07:00:00Z"), at(now)).unwrap());
        assert_eq!(never("2026-01-11T06:00:00Z"), None);
        assert_eq!(never("2026-01-11T06:01:00Z").unwrap(), "2026-01-11T06:00:00Z");
    }

    #[test]
    fn in_lisbon_the_clocks_go_forward_over_half_past_one() {
        // 29 March 2026: 01:00 becomes 02:00.
        let sla = ready_by("01:30", "Europe/Lisbon");
        assert_eq!(status(&sla, "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"), SlaStatus::Met);
        let missed = status(&sla, "2026-03-28T12:00:00Z", "2026-03-29T01:00:01Z");
        assert_eq!(late_since(&missed).unwrap(), "2026-03-29T01:00:00Z");
        let morning = ready_by("06:00", "Europe/Lisbon");
        let missed = status(&morning, "2026-03-28T12:00:00Z", "2026-03-29T08:00:00Z");
        assert_eq!(late_since(&missed).unwrap(), "2026-03-29T05:00:00Z");
    }

    #[test]
    fn in_lisbon_half_past_one_comes_twice_in_october() {
        // 25 October 2026: 02:00 becomes 01:00, so 01:30 is 00:30Z and again 01:30Z.
        let sla = ready_by("01:30", "Europe/Lisbon");
        let missed = status(&sla, "2026-10-24T12:00:00Z", "2026-10-25T00:30:01Z");
        assert_eq!(late_since(&missed).unwrap(), "2026-10-25T00:30:00Z");
        assert_eq!(status(&sla, "2026-10-24T23:10:00Z", "2026-10-25T12:00:00Z"), SlaStatus::Met);
        let morning = ready_by("06:00", "Europe/Lisbon");
        let missed = status(&morning, "2026-10-24T12:00:00Z", "2026-10-25T08:00:00Z");
        assert_eq!(late_since(&missed).unwrap(), "2026-10-25T06:00:00Z");
    }

    #[test]
    fn a_day_without_midnight_and_a_day_left_out_have_their_moment() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let midnight = NaiveTime::default();
        let sao_paulo = moment(chrono_tz::America::Sao_Paulo, day("2018-11-04"), midnight);
        assert_eq!(sao_paulo.to_string(), "2018-11-04T03:00:00Z");
        let apia = moment(chrono_tz::Pacific::Apia, day("2011-12-30"), NaiveTime::from_hms_opt(6, 0, 0).unwrap());
        assert_eq!(apia.to_string(), "2011-12-30T10:00:00Z");
    }

    #[test]
    fn a_bad_zone_or_time_is_named() {
        let wrong = |sla: Sla| sla_status(&sla, None, at("2026-01-01"), at("2026-01-02")).unwrap_err().to_string();
        assert!(wrong(ready_by("06:00", "Europe/Lissabon")).contains("Europe/Lissabon"));
        assert!(wrong(ready_by("6 am", "UTC")).contains("6 am"));
    }

    proptest! {
        /// In any hour of two years, in zones with and without summer time: a success just now is on time; once late,
        /// always late until the next success; and never late less than it takes to reach the next morning.
        #[test]
        fn ready_by_holds_in_every_zone(
            zone in prop::sample::select(vec!["UTC", "Europe/Lisbon", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
            hour in 0u32..24, minute in 0u32..60, last in 0u64..2 * 365 * 24 * 60, later in 0u64..5 * 24 * 60,
        ) {
            let sla = ready_by(&format!("{hour:02}:{minute:02}"), zone);
            let begin = at("2026-01-01");
            let last = begin.plus(Duration::from_secs(last * 60));
            let now = last.plus(Duration::from_secs(later * 60));
            let of = |now| sla_status(&sla, Some(last), begin, now).unwrap();
            prop_assert_eq!(of(last), SlaStatus::Met);
            match of(now) {
                SlaStatus::Met => prop_assert!(later < 49 * 60, "a day passed without a run"),
                SlaStatus::Missed { since, .. } => {
                    prop_assert!(last < since && since < now);
                    prop_assert_eq!(late_since(&of(now.plus(Duration::from_secs(86_400)))), Some(since.to_string()));
                    prop_assert_eq!(of(since), SlaStatus::Met);
                    let zone: Tz = zone.parse().unwrap();
                    let day = |at: Timestamp| at.to_utc().with_timezone(&zone).date_naive();
                    prop_assert_eq!(day(since), day(last).succ_opt().unwrap());
                }
            }
        }
    }
}
