//! What an event sold: the report for its organiser, and the list of its tickets.

use std::collections::BTreeMap;

use tessera_kernel::Timestamp;

use super::App;
use crate::Error;
use crate::domain::event::Event;
use crate::domain::ids::{EventId, TicketId};
use crate::seats::states::Counts;
use crate::store::{Sale, Sales};

/// Rows read at a time.
const ROWS: i64 = 2_000;
/// Microseconds in an hour.
const HOUR: i64 = 3_600_000_000;

/// What an event sold.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The event.
    pub event: Event,
    /// All seats.
    pub seats: Counts,
    /// By price level, in the event's order: all its seats, and what those sold cost.
    pub levels: Vec<(Counts, i64)>,
    /// By hour, from the first sale to the last: its beginning, tickets, and what they cost.
    pub hours: Vec<(Timestamp, u32, i64)>,
    /// Tickets checked in.
    pub checked_in: u32,
    /// What the orders come to.
    pub sales: Sales,
}

impl App {
    /// The report of an event.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn report(&self, event: Event) -> Result<Report, Error> {
        let live = self.live.event(event.id).await?;
        self.live.follow_event(&live).await?;
        let inventory = live.inventory();
        let now = self.clock.now();
        let count = event.details.price_levels.len();
        let (seats, by_level) = live.with(|states| (states.counts(now), states.counts_by_level(count, now)));
        let mut levels: Vec<(Counts, i64)> = by_level.into_iter().map(|counts| (counts, 0)).collect();
        let mut hours: BTreeMap<i64, (u32, i64)> = BTreeMap::new();
        let (mut checked_in, mut after) = (0, None);
        loop {
            let sold = self.store.sold(event.id, after, ROWS).await?;
            for sale in &sold {
                let level = sale.ticket.seat().and_then(|seat| inventory.level(seat));
                if let Some((_, revenue)) = level.and_then(|level| levels.get_mut(level)) {
                    *revenue += sale.price;
                }
                let hour = hours.entry(sale.booked_at.micros().div_euclid(HOUR)).or_default();
                hour.0 += 1;
                hour.1 += sale.price;
                checked_in += u32::from(sale.checked_in_at.is_some());
            }
            after = sold.last().map(|sale| sale.ticket);
            if (sold.len() as i64) < ROWS {
                break;
            }
        }
        let hours = hours
            .into_iter()
            .map(|(hour, (tickets, revenue))| (Timestamp::from_micros(hour.saturating_mul(HOUR)), tickets, revenue));
        let sales = self.store.sales(event.id).await?;
        Ok(Report { event, seats, levels, hours: hours.collect(), checked_in, sales })
    }

    /// Some of an event's sold tickets, in the order of the seats, after one; fewer than all of a part end it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sold_after(&self, event: EventId, after: Option<TicketId>) -> Result<(Vec<Sale>, bool), Error> {
        let sold = self.store.sold(event, after, ROWS).await?;
        let more = sold.len() as i64 == ROWS;
        Ok((sold, more))
    }
}
