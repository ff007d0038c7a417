//! What was sold of an event, for its report and its export.

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::each_engine;
use tessera_store::sql;

use super::Store;
use crate::Error;
use crate::domain::ids::{EventId, OrderId, TicketId};

/// A ticket that was sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sale {
    /// The ticket.
    pub ticket: TicketId,
    /// Its order.
    pub order: OrderId,
    /// Whose it is.
    pub subject: String,
    /// What was paid for it, minor units.
    pub price: i64,
    /// When it was booked.
    pub booked_at: Timestamp,
    /// When it was checked in.
    pub checked_in_at: Option<Timestamp>,
    /// At which gate.
    pub gate: Option<String>,
}

/// What an event brought in, minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromRow)]
pub struct Sales {
    /// Orders that are booked, or whose money was taken.
    pub orders: i64,
    /// That money, refunded since or not.
    pub gross: i64,
    /// What went back.
    pub refunded: i64,
    /// Orders whose money is on its way back.
    pub refunds_due: i64,
    /// Orders that are being paid, or have seats.
    pub open: i64,
    /// Orders of which all went back.
    pub returned: i64,
}

#[derive(FromRow)]
struct SaleRow {
    ticket_id: Uuid,
    order_id: Uuid,
    subject: String,
    price: i64,
    booked_at: i64,
    checked_in_at: Option<i64>,
    gate: Option<String>,
}

impl From<SaleRow> for Sale {
    fn from(row: SaleRow) -> Self {
        Self {
            ticket: row.ticket_id.into(),
            order: row.order_id.into(),
            subject: row.subject,
            price: row.price,
            booked_at: Timestamp::from_micros(row.booked_at),
            checked_in_at: row.checked_in_at.map(Timestamp::from_micros),
            gate: row.gate,
        }
    }
}

impl Store {
    /// Tickets of an event that are sold, in the order of the seats, after one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sold(&self, event: EventId, after: Option<TicketId>, limit: i64) -> Result<Vec<Sale>, Error> {
        const SOLD: &str = "SELECT ticket_id, order_id, subject, price, booked_at, checked_in_at, gate FROM bookings
             WHERE ticket_id > $1 AND ticket_id <= $2 ORDER BY ticket_id LIMIT $3";
        let after = after.map_or(event.uuid(), TicketId::uuid);
        let last = TicketId::last_of(event).uuid();
        let rows: Vec<SaleRow> = each_engine!(&self.db, |pool| {
            sqlx::query_as(SOLD).bind(after).bind(last).bind(limit).fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        Ok(rows.into_iter().map(Sale::from).collect())
    }

    /// What an event's orders come to.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sales(&self, event: EventId) -> Result<Sales, Error> {
        const SALES: &str = "SELECT
                CAST(COALESCE(SUM(CASE WHEN state = 'booked' OR captured > 0 THEN 1 ELSE 0 END), 0) AS BIGINT) AS orders,
                CAST(COALESCE(SUM(CASE WHEN state = 'booked' THEN total ELSE captured END), 0) AS BIGINT) AS gross,
                CAST(COALESCE(SUM(refunded), 0) AS BIGINT) AS refunded,
                CAST(COALESCE(SUM(CASE WHEN state = 'refund_due' THEN 1 ELSE 0 END), 0) AS BIGINT) AS refunds_due,
                CAST(COALESCE(SUM(CASE WHEN state IN ('paying', 'authorised', 'booked', 'captured') THEN 1 ELSE 0 END), 0)
                    AS BIGINT) AS open,
                CAST(COALESCE(SUM(CASE WHEN state IN ('refunded', 'voided') THEN 1 ELSE 0 END), 0) AS BIGINT) AS returned
             FROM orders WHERE event_id = $1";
        let sales = each_engine!(&self.db, |pool| sqlx::query_as(SALES).bind(event.uuid()).fetch_one(pool).await);
        Ok(sales.map_err(sql::Error::from)?)
    }
}
