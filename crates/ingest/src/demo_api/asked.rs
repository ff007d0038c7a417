//! What a request asks for: parameters read strictly, and cursors.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tessera_kernel::Timestamp;

use super::DemoApi;
use super::problem::Problem;

/// The largest page; asking for more gets this, as in many APIs.
pub(super) const MAX_PAGE: u64 = 1000;
/// The page where none is asked for.
pub(super) const DEFAULT_PAGE: u64 = 50;

/// The parameters of a query.
pub(super) struct Asked(pub(super) BTreeMap<String, String>);

impl Asked {
    /// A number, `default` where it is not given.
    pub(super) fn number(&self, name: &str, default: u64, least: u64) -> Result<u64, Problem> {
        let Some(text) = self.0.get(name) else { return Ok(default) };
        match text.parse() {
            Ok(number) if number >= least => Ok(number),
            _ => Err(Problem::invalid(format!("{name} `{text}` is not a number of at least {least}"))),
        }
    }

    /// A page size: at most [`MAX_PAGE`].
    pub(super) fn size(&self, name: &str) -> Result<u64, Problem> {
        Ok(self.number(name, DEFAULT_PAGE, 1)?.min(MAX_PAGE))
    }

    /// A time in microseconds.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, Problem> {
        let read = |text: &String| text.parse::<Timestamp>().map(Timestamp::micros);
        self.0
            .get(name)
            .filter(|text| !text.is_empty())
            .map(read)
            .transpose()
            .map_err(|cause| Problem::invalid(format!("{name}: {cause}")))
    }

    /// The moment to show the shop at: `as_of`, or now.
    pub(super) fn moment(&self, api: &DemoApi) -> Result<i64, Problem> {
        let now = api.present();
        Ok(self.time("as_of")?.map_or(now, |as_of| as_of.min(now)))
    }
}

/// A place in a list that stands still: the list as of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) as_of: i64,
    pub(super) since: Option<i64>,
    pub(super) offset: u64,
}

impl Cursor {
    /// The first page, or where the parameter `name` says.
    pub(super) fn asked(asked: &Asked, api: &DemoApi, list: &str, name: &str) -> Result<Self, Problem> {
        match asked.0.get(name).filter(|text| !text.is_empty()) {
            Some(text) => Self::read(list, text).ok_or_else(|| {
                Problem::invalid(format!("{name} `{text}` is not one of this list; start again without it"))
            }),
            None => Ok(Self { as_of: asked.moment(api)?, since: asked.time("created_since")?, offset: 0 }),
        }
    }

    pub(super) fn text(&self, list: &str) -> String {
        let since = self.since.map_or_else(String::new, |since| since.to_string());
        URL_SAFE_NO_PAD.encode(format!("{list} {} {since} {}", self.as_of, self.offset))
    }

    fn read(list: &str, text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let mut parts = text.split(' ');
        if parts.next() != Some(list) {
            return None;
        }
        let as_of = parts.next()?.parse().ok()?;
        let since = match parts.next()? {
            "" => None,
            since => Some(since.parse().ok()?),
        };
        Some(Self { as_of, since, offset: parts.next()?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_fits_only_its_list() {
        for since in [None, Some(-5)] {
            let cursor = Cursor { as_of: 123, since, offset: 9 };
            assert_eq!(Cursor::read("payments", &cursor.text("payments")), Some(cursor));
            assert_eq!(Cursor::read("reviews", &cursor.text("payments")), None);
        }
        assert_eq!(Cursor::read("payments", "???"), None);
    }
}
