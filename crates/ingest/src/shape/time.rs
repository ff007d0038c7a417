//! Times in rows: RFC 3339 with an offset, and plain days.

/// Microseconds since 1970 of an RFC 3339 time such as `2024-01-31T23:59:59.123Z` or `…+02:00`. A time without an
/// offset is none: it names no moment. Digits below a microsecond are cut off.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let b = text.as_bytes();
    if b.len() < 20 || !matches!(b[10], b'T' | b't' | b' ') || b[13] != b':' || b[16] != b':' {
        return None;
    }
    let days = i64::from(parse_date(text.get(..10)?)?);
    let (hour, minute, second) = (number(&b[11..13])?, number(&b[14..16])?, number(&b[17..19])?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 19;
    let mut micros = 0;
    if b[at] == b'.' {
        at += 1;
        let from = at;
        while at < b.len() && b[at].is_ascii_digit() {
            if at - from < 6 {
                micros = micros * 10 + i64::from(b[at] - b'0');
            }
            at += 1;
        }
        let digits = at - from;
        if digits == 0 {
            return None;
        }
        micros *= 10_i64.pow(6_u32.saturating_sub(digits as u32));
    }
    let offset_minutes = match &b[at..] {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] | [sign @ (b'+' | b'-'), h1, h2, m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = days * 86_400 + (hour * 60 + minute - offset_minutes) * 60 + second;
    Some(seconds * 1_000_000 + micros)
}

/// Days since 1970 of `2024-01-31`.
pub fn parse_date(text: &str) -> Option<i32> {
    let b = text.as_bytes();
    if b.len() != 10 || b[4] != b'-' || b[7] != b'-' {
        return None;
    }
    let (year, month, day) = (number(&b[0..4])?, number(&b[5..7])?, number(&b[8..10])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > longest {
        return None;
    }
    // Days from the civil calendar, with years that begin in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_the_calendar(micros in -30_000_000_000_000_000_i64..250_000_000_000_000_000, offset in -720_i32..720) {
            let at = DateTime::from_timestamp_micros(micros).unwrap();
            let local = at.with_timezone(&chrono::FixedOffset::east_opt(offset * 60).unwrap());
            prop_assert_eq!(parse_timestamp(&local.to_rfc3339()), Some(micros));
            let day = at.date_naive();
            let days = day.signed_duration_since(NaiveDate::from_ymd_opt(1970, 1, 1).unwrap()).num_days();
            prop_assert_eq!(parse_date(&day.to_string()), i32::try_from(days).ok());
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = (parse_timestamp(&text), parse_date(&text));
        }

        #[test]
        fn refuses_what_the_calendar_refuses(text in "20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-5][0-9]Z") {
            let theirs = DateTime::parse_from_rfc3339(&text).ok().map(|at| at.timestamp_micros());
            prop_assert_eq!(parse_timestamp(&text), theirs);
        }
    }

    #[test]
    fn a_time_without_an_offset_is_no_moment() {
        for text in ["2024-01-31T10:00:00", "2024-01-31", "2024-02-30T10:00:00Z", "2024-01-31T10:00:00.Z"] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }
}
