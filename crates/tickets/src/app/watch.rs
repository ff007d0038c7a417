//! What everyone may see of an event's seats.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::App;
use crate::Error;
use crate::domain::event::Status;
use crate::domain::ids::EventId;
use crate::seats::{ChangeTo, LiveEvent, Tick};

/// Changes that one who comes back is sent; where there are more, the snapshot is shorter.
const MAX_MISSED: i64 = 2_000;

impl App {
    /// An event that everyone may see.
    ///
    /// # Errors
    /// [`Error::NotFound`], for drafts too; those of the database.
    pub async fn public_event(&self, id: EventId) -> Result<Arc<LiveEvent>, Error> {
        let live = self.live.event(id).await?;
        if live.event().status == Status::Draft {
            return Err(Error::NotFound { what: "event", id: id.to_string() });
        }
        Ok(live)
    }

    /// What changed after `since`; nothing where it is from the beginning on. Holds that lapsed a little while ago are in
    /// it in any case, as the feed does not have them. `None` where that is too much, or older than the feed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn missed(&self, live: &LiveEvent, since: Option<i64>) -> Result<Option<Tick>, Error> {
        let now = live.seq();
        let lapsed = || live.lapsed(self.clock.now()).into_iter().map(|seat| (seat, ChangeTo::Free));
        let Some(since) = since.filter(|since| *since != now) else {
            return Ok(Some(Tick::new(now, &lapsed().collect())));
        };
        if since > now || now - since > MAX_MISSED {
            return Ok(None);
        }
        let rows = self.store.feed_after(live.id(), since, MAX_MISSED).await?;
        if rows.first().is_none_or(|(first, _)| *first > since + 1) {
            return Ok(None);
        }
        let last = rows.last().map_or(now, |(seq, _)| *seq);
        let changes = rows.into_iter().flat_map(|(_, changes)| changes);
        let mut all: BTreeMap<_, _> = changes.map(|change| (change.seat, change.to)).collect();
        all.extend(lapsed());
        Ok(Some(Tick::new(last, &all)))
    }
}
