//! Tests of the cache's rules.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    map
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_700_000_000 + seconds) * SECOND_US)
}

fn kept(status: u16, lines: &[(&'static str, &str)], asker: Asker) -> Option<Life> {
    life(StatusCode::from_u16(status).unwrap(), &headers(lines), asker, &Defaults::default(), at(0), at(0))
}

fn lifetime_s(lines: &[(&'static str, &str)]) -> Option<i64> {
    kept(200, lines, Asker::default()).map(|life| life.lifetime_us / SECOND_US)
}

#[test]
fn lifetimes_are_read_strictly() {
    for (said, seconds) in [
        ("max-age=60", Some(60)),
        ("max-age=\"60\"", Some(60)),
        ("MAX-AGE=060", Some(60)),
        ("s-maxage=5, max-age=60", Some(5)),
        ("max-age=60, max-age=5", Some(5)),
        ("extension=\"max-age=60\", max-age=5", Some(5)),
        ("max-age=99999999999", Some(1 << 31)),
        ("max-age=60, no-store", None),
        ("max-age=60, private", None),
        ("max-age=60, private=\"set-cookie\"", Some(60)),
        ("max-age='60'", None),
        ("max-age= 60", None),
        ("max-age=-1", None),
        ("max-age=6.5", None),
        ("", None),
    ] {
        assert_eq!(lifetime_s(&[("cache-control", said)]), seconds, "{said}");
    }
}

#[test]
fn dates_count_where_no_age_is_given() {
    let date = http_date(at(0));
    let later = http_date(at(600));
    assert_eq!(lifetime_s(&[("date", &date), ("expires", &later)]), Some(600));
    assert_eq!(lifetime_s(&[("date", &date), ("expires", &later), ("cache-control", "max-age=1")]), Some(1));
    assert_eq!(lifetime_s(&[("date", &date), ("expires", "0")]), None, "without a way to validate it");
    assert_eq!(lifetime_s(&[("date", &date), ("last-modified", &http_date(at(-1_000)))]), Some(100));
    assert_eq!(lifetime_s(&[("cdn-cache-control", "max-age=9"), ("cache-control", "no-store")]), Some(9));
}

#[test]
fn dates_are_read_in_their_three_forms() {
    for (text, second) in [
        ("Thu, 01 Jan 1970 00:01:00 GMT", Some(60)),
        ("THU, 01 JAN 1970 00:01:00 gmt", Some(60)),
        ("Fri, 01 Jan 1970 00:01:00 GMT", Some(60)),
        ("Thursday, 01-Jan-70 00:01:00 GMT", Some(60)),
        ("Thu Jan  1 00:01:00 1970", Some(60)),
        ("Thu, 01 Jan 1970 00:01:00 UTC", None),
        ("Thu, 01 Jan 1970 00:01:00", None),
        ("Thu, 32 Jan 1970 00:01:00 GMT", None),
        ("Thu, 01 Jan 1970 0:01:00 GMT", None),
        ("Thu, 01  Jan  1970 00:01:00 GMT", None),
        ("0", None),
        ("", None),
    ] {
        assert_eq!(date(&headers(&[("date", text)]), &DATE), second.map(|second| second * SECOND_US), "{text}");
    }
    assert_eq!(http_date(Timestamp::from_micros(60 * SECOND_US)), "Thu, 01 Jan 1970 00:01:00 GMT");
}

#[test]
fn what_is_said_to_us_alone_goes_first_if_it_can_be_read() {
    for (said, seconds) in [
        ("max-age=9", Some(9)),
        ("foobar, max-age=9, note=\"a, b\", x=?1, y=tok/en", Some(9)),
        ("no-store", None),
        ("private", None),
        ("max-age=9, &&&", Some(60)),
        ("max-age=\"9\"", Some(60)),
        ("max-age =9", Some(60)),
        ("MAX-AGE=9", Some(60)),
        ("max-age=9,", Some(60)),
        ("", Some(60)),
    ] {
        let lines = [("cdn-cache-control", said), ("cache-control", "max-age=60")];
        assert_eq!(lifetime_s(&lines), seconds, "{said}");
    }
}

#[test]
fn what_is_for_somebody_is_not_kept_for_all() {
    let somebody = Asker { is_somebody: true, has_cookies: false };
    let with_cookies = Asker { is_somebody: false, has_cookies: true };
    for (said, for_somebody, for_cookies) in [
        ("max-age=60", false, true),
        ("max-age=60, public", true, true),
        ("max-age=60, must-revalidate", true, true),
        ("s-maxage=60", true, true),
    ] {
        let lines = [("cache-control", said)];
        assert_eq!(kept(200, &lines, somebody).is_some(), for_somebody, "{said}");
        assert_eq!(kept(200, &lines, with_cookies).is_some(), for_cookies, "{said}");
    }
    let guessed = [("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT")];
    assert!(kept(200, &guessed, Asker::default()).is_some());
    assert!(kept(200, &guessed, with_cookies).is_none());
    assert!(kept(200, &[("cache-control", "max-age=60"), ("set-cookie", "a=b")], Asker::default()).is_none());
}

#[test]
fn codes_are_kept_where_they_may_be() {
    let explicit = [("cache-control", "max-age=60")];
    let guessed = [("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT")];
    for status in [200, 302, 404, 499, 500, 599] {
        assert!(kept(status, &explicit, Asker::default()).is_some(), "{status}");
    }
    for status in [206, 304] {
        assert!(kept(status, &explicit, Asker::default()).is_none(), "{status}");
    }
    for (status, is_kept) in [(200, true), (404, true), (201, false), (302, false), (503, false)] {
        assert_eq!(kept(status, &guessed, Asker::default()).is_some(), is_kept, "{status}");
    }
    let careful = [("cache-control", "max-age=60, must-understand, no-store")];
    assert!(kept(200, &careful, Asker::default()).is_some());
    assert!(kept(599, &careful, Asker::default()).is_none());
    assert!(kept(200, &[("cache-control", "max-age=60"), ("vary", "foo, *")], Asker::default()).is_none());
}

#[test]
fn ages_add_up() {
    let life = kept(200, &[("cache-control", "max-age=60"), ("age", "20")], Asker::default()).unwrap();
    assert_eq!(life.age_us(at(5)) / SECOND_US, 25);
    assert_eq!(life.judge(&Wishes::default(), at(39)), Use::Fresh);
    assert_eq!(life.judge(&Wishes::default(), at(40)), Use::Validate);
    for (age, seconds) in
        [("abc", 0), ("-1", 0), ("1.5", 0), ("7;a=b", 0), ("7, 0", 7), ("0, 7", 0), ("99999999999", 1 << 31)]
    {
        let life = kept(200, &[("cache-control", "max-age=60"), ("age", age)], Asker::default()).unwrap();
        assert_eq!(life.age_us(at(0)) / SECOND_US, seconds, "{age}");
    }
}

#[test]
fn stale_answers_are_used_where_they_may_be() {
    let said = |said: &str| kept(200, &[("cache-control", said), ("etag", "\"a\"")], Asker::default()).unwrap();
    let wish = |said: &str| Wishes::of(&headers(&[("cache-control", said)]));
    let life = said("max-age=10, stale-while-revalidate=20, stale-if-error=30");
    assert_eq!(life.judge(&Wishes::default(), at(29)), Use::StaleWhile);
    assert_eq!(life.judge(&Wishes::default(), at(30)), Use::Validate);
    assert!(life.holds_on_error(&Wishes::default(), at(39)) && !life.holds_on_error(&Wishes::default(), at(40)));
    assert_eq!(life.judge(&wish("max-age=5"), at(6)), Use::Validate);
    assert_eq!(life.judge(&wish("min-fresh=5"), at(6)), Use::Validate);
    assert_eq!(life.judge(&wish("no-cache"), at(1)), Use::Validate);
    assert_eq!(said("max-age=10").judge(&wish("max-stale=10"), at(20)), Use::Stale);
    assert_eq!(said("max-age=10").judge(&wish("max-stale"), at(2_000)), Use::Stale);
    for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache"] {
        let life = said(&format!("max-age=10, {strict}"));
        assert_eq!(life.judge(&wish("max-stale=10"), at(11)), Use::Validate, "{strict}");
        assert!(!life.holds_on_error(&wish("stale-if-error=100"), at(11)), "{strict}");
    }
    assert_eq!(said("s-maxage=10, stale-while-revalidate=5").judge(&Wishes::default(), at(12)), Use::StaleWhile);
}

proptest! {
    #[test]
    fn nothing_is_used_beyond_what_its_words_allow(max_age in 0_u64..500, age in 0_u64..500, late in 0_i64..1_000) {
        let said = format!("max-age={max_age}");
        let lines = [("cache-control", said.as_str()), ("age", &age.to_string()), ("etag", "\"a\"")];
        if let Some(life) = kept(200, &lines, Asker::default()) {
            let is_fresh = life.judge(&Wishes::default(), at(late)) == Use::Fresh;
            prop_assert_eq!(is_fresh, (age as i64 + late) < max_age as i64);
        }
    }

    #[test]
    fn whatever_is_said_is_read_without_a_panic(said in "[ -~]{0,60}") {
        let map = headers(&[("cache-control", &said)]);
        let _ = life(StatusCode::OK, &map, Asker::default(), &Defaults::default(), at(0), at(0));
        let _ = Wishes::of(&map);
    }
}
