//! Lists in pages: `limit` and an opaque `cursor` in, `items` and `next_cursor` out.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tessera_kernel::Timestamp;

use crate::Error;

/// How many items a page has where the caller does not say.
pub const DEFAULT_LIMIT: u32 = 50;
/// The most a page may have; asking for more gives this many.
pub const MAX_LIMIT: u32 = 1000;
/// A cursor longer than this is not ours.
const MAX_CURSOR_BYTES: usize = 1024;

/// The paging part of a query; take it beside the filters, as a [`super::Query`] of its own.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Page {
    limit: Option<u32>,
    cursor: Option<String>,
}

impl Page {
    /// How many items to give, 1 to [`MAX_LIMIT`].
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT) as usize
    }

    /// Where to go on, as it was given to [`List::new`] for the page before.
    pub fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, Error> {
        let Some(cursor) = self.cursor.as_deref().filter(|cursor| !cursor.is_empty()) else { return Ok(None) };
        let short: String = cursor.chars().take(40).collect();
        let refused = || Error::BadCursor(short.clone());
        if cursor.len() > MAX_CURSOR_BYTES {
            return Err(refused());
        }
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refused())?;
        serde_json::from_slice(&bytes).map(Some).map_err(|_| refused())
    }
}

/// What changed then or later: the part of a query for whoever reads on, beside the [`Page`].
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Since {
    updated_since: Option<Timestamp>,
}

impl Since {
    /// That moment; the beginning where none was said.
    pub fn at(&self) -> Timestamp {
        self.said().unwrap_or(Timestamp::from_micros(0))
    }

    /// The same where one was said: then lists have also what is there no more.
    pub fn said(&self) -> Option<Timestamp> {
        self.updated_since
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// What to send as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    /// A page from up to `limit + 1` items that follow its cursor: the one too many tells that there is more, and is
    /// dropped. `key` is the place of an item in the order of the list.
    pub fn new<K: Serialize>(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> K) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|item| {
            // Keys are ids, times and numbers, which always serialise.
            URL_SAFE_NO_PAD.encode(serde_json::to_vec(&key(item)).unwrap_or_default())
        });
        Self { items, next_cursor }
    }

    /// The same page of other items.
    pub fn map<U>(self, item: impl FnMut(T) -> U) -> List<U> {
        List { items: self.items.into_iter().map(item).collect(), next_cursor: self.next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walking_the_pages_gives_every_item_once() {
        let all: Vec<u32> = (0..23).collect();
        for limit in [1, 5, 23, 50] {
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let page = Page { limit: Some(limit), cursor };
                let after: Option<(u32, String)> = page.after().unwrap();
                let rest = all.iter().copied().filter(|n| after.as_ref().is_none_or(|(last, _)| n > last));
                let list = List::new(rest.take(page.limit() + 1).collect(), page.limit(), |n| (*n, "x".to_owned()));
                let list = list.map(|n| n + 1);
                seen.extend(list.items.iter().map(|n| n - 1));
                cursor = list.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen, all, "limit {limit}");
        }
    }

    #[test]
    fn foreign_cursors_and_limits() {
        for cursor in ["!", "bm90IGpzb24", &"A".repeat(5000)] {
            let page = Page { limit: None, cursor: Some(cursor.to_owned()) };
            assert!(page.after::<u32>().unwrap_err().to_string().contains("next_cursor"));
        }
        assert_eq!(Page { limit: Some(0), cursor: None }.limit(), 1);
        assert_eq!(Page { limit: Some(1_000_000), cursor: None }.limit(), 1000);
        assert_eq!(Page::default().limit(), 50);
    }
}
