//! What goes wrong on request: which fault hits which request, counted so that a run repeats.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The faults in force. Every `…_every` is "each N-th request", 0 is never, 1 is always. Where a path or a request names
/// its own set, that set counts alone. Of several faults due at once the first in the order below wins; slowness adds up with any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// A server error.
    pub fail_every: u64,
    /// Which one; 0 alternates between 500 and 503.
    pub fail_status: u16,
    /// 429 with `Retry-After`.
    pub throttle_every: u64,
    /// 401, as if the token had been revoked.
    pub unauthorized_every: u64,
    /// The connection is closed in the middle of the body.
    pub cut_every: u64,
    /// 200 with an HTML page instead of data.
    pub html_every: u64,
    /// A complete response whose body ends in the middle.
    pub truncate_every: u64,
    /// The answer is late by `slow_ms`.
    pub slow_every: u64,
    /// How late.
    pub slow_ms: u64,
    /// From this page on every page is the same and says that there are more.
    pub loop_after: u64,
    /// Responses do not say how many rows there are.
    pub drop_total: bool,
    /// From this row of a list on (counted from 0), its amounts come as text.
    pub type_change_after_row: Option<u64>,
    /// How a 429 says when to come back.
    pub retry_after: RetryAfter,
    /// How many seconds later that is.
    pub retry_after_s: Option<u64>,
    /// Requests per second over all clients in place of the server's own limit; 0 is without limit. Not per path.
    pub rate_limit: Option<u32>,
    /// Sets for single routes, named as in `/_stats`: `/orders`, `/orders/{id}/items`.
    pub paths: BTreeMap<String, Faults>,
}

/// The form of `Retry-After`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// Seconds.
    #[default]
    Seconds,
    /// An HTTP date.
    Date,
    /// The number 0, which says nothing.
    Zero,
    /// No header.
    None,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Fail(u16),
    Throttle,
    Unauthorized,
    Cut,
    Html,
    Truncate,
}

impl Fault {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fail(_) => "fail",
            Self::Throttle => "throttle",
            Self::Unauthorized => "unauthorized",
            Self::Cut => "cut",
            Self::Html => "html",
            Self::Truncate => "truncate",
        }
    }
}

impl Faults {
    /// Reads `fail_every=9,cut_every=13`. A bare `cut`, `fail`, … stands for `cut_every=1`; `none` for no faults.
    ///
    /// # Errors
    /// A sentence that names the word that is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields = Map::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty() && *part != "none") {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())),
                None if part == "drop_total" => (part.to_owned(), Value::Bool(true)),
                None => (format!("{part}_every"), Value::from(1)),
            };
            fields.insert(name, value);
        }
        serde_json::from_value(Value::Object(fields)).map_err(|cause| {
            format!("faults `{text}` are not understood ({cause}); write them as `fail_every=9,cut_every=13`")
        })
    }

    /// Adds what a flag says: `KEY=N,…` for all routes, `/route:KEY=N,…` for one.
    ///
    /// # Errors
    /// As of [`Faults::parse`].
    pub fn add_flag(&mut self, text: &str) -> Result<(), String> {
        match text.split_once(':') {
            Some((path, set)) if path.starts_with('/') => {
                self.paths.insert(path.to_owned(), Self::parse(set)?);
            }
            _ => *self = Self { paths: std::mem::take(&mut self.paths), ..Self::parse(text)? },
        }
        Ok(())
    }

    /// What hits request number `number` (counted from 1).
    pub(super) fn hit(&self, number: u64) -> Option<Fault> {
        let due = |every: u64| every > 0 && number.is_multiple_of(every);
        if due(self.fail_every) {
            let alternate = if (number / self.fail_every) % 2 == 1 { 500 } else { 503 };
            let status = if self.fail_status == 0 { alternate } else { self.fail_status };
            return Some(Fault::Fail(status));
        }
        [
            (self.throttle_every, Fault::Throttle),
            (self.unauthorized_every, Fault::Unauthorized),
            (self.cut_every, Fault::Cut),
            (self.html_every, Fault::Html),
            (self.truncate_every, Fault::Truncate),
        ]
        .into_iter()
        .find_map(|(every, fault)| due(every).then_some(fault))
    }

    /// By how many milliseconds request number `number` is late.
    pub(super) fn slow_ms(&self, number: u64) -> u64 {
        if self.slow_every > 0 && number.is_multiple_of(self.slow_every) { self.slow_ms } else { 0 }
    }

    /// The page to show for page `page`, counted from 1.
    pub(super) fn looped(&self, page: u64) -> u64 {
        if self.loops(page) { self.loop_after } else { page }
    }

    /// Whether this page repeats for ever.
    pub(super) const fn loops(&self, page: u64) -> bool {
        self.loop_after > 0 && page >= self.loop_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_text() {
        let faults = Faults::parse("fail_every=9, cut,drop_total,retry_after=date").unwrap();
        assert_eq!((faults.fail_every, faults.cut_every, faults.drop_total), (9, 1, true));
        assert_eq!(faults.retry_after, RetryAfter::Date);
        assert_eq!(Faults::parse("none").unwrap(), Faults::default());
        for wrong in ["fial_every=1", "fail_every=often", "boom"] {
            assert!(Faults::parse(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
        let mut flags = Faults::default();
        flags.add_flag("/orders:slow_every=2,slow_ms=10").unwrap();
        flags.add_flag("fail_every=3").unwrap();
        assert_eq!(
            (flags.fail_every, flags.paths["/orders"].slow_ms(4), flags.paths["/orders"].slow_ms(3)),
            (3, 10, 0)
        );
    }

    #[test]
    fn each_nth_request_is_hit() {
        let faults = Faults { fail_every: 3, cut_every: 4, ..Faults::default() };
        let hits: Vec<_> = (1..=12).map(|number| faults.hit(number).map(Fault::name)).collect();
        let (fail, cut) = (Some("fail"), Some("cut"));
        assert_eq!(hits, [None, None, fail, cut, None, fail, None, cut, fail, None, None, fail]);
        assert_eq!((faults.hit(3), faults.hit(6)), (Some(Fault::Fail(500)), Some(Fault::Fail(503))));
    }
}
