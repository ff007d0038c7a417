//! Promotion codes: as organisers keep them, and counted in the transaction of the orders that use them.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::FromRow;
use sqlx::types::Uuid;
use tessera_kernel::Timestamp;
use tessera_store::rows::{Json, RowsSql};
use tessera_store::sql::{self, Tx};
use tessera_store::{each_engine, rows_sql};

use super::{Listed, Store};
use crate::Error;
use crate::domain::ids::{EventId, PromoId};
use crate::domain::promo::{Discount, Promo};

pub(super) const ADD: RowsSql = rows_sql!(
    "INSERT INTO promo_codes (id, event_id, code, discount_bp, discount_amount, max_uses, uses, valid_from, valid_until,
        version, updated_at)
     SELECT " id(0) ", " id(1) ", " text(2) ", " int(3) ", " int(4) ", " int(5) ", 0, " int(6) ", " int(7) ", "
        int(8) ", " int(9) " FROM " rows " WHERE TRUE ON CONFLICT DO NOTHING"
);
/// The code itself stays: orders name it.
pub(super) const CHANGE: RowsSql = rows_sql!(
    "UPDATE promo_codes SET discount_bp = " int(3) ", discount_amount = " int(4) ", max_uses = " int(5) ",
        valid_from = " int(6) ", valid_until = " int(7) ", version = " int(8) ", updated_at = " int(9) " FROM " rows "
     WHERE promo_codes.id = " id(0) " AND version = " int(8) " - 1 AND deleted_at IS NULL"
);

pub(super) fn rows(promo: &Promo, now: Timestamp) -> String {
    let mut json = Json::array(1, 200);
    let (share, amount) = match promo.discount {
        Discount::BasisPoints(share) => (Some(share), None),
        Discount::Amount(amount) => (None, Some(amount)),
    };
    let (from, until) = (promo.valid_from.map(Timestamp::micros), promo.valid_until.map(Timestamp::micros));
    json.row(|row| {
        row.id(promo.id.uuid());
        row.id(promo.event.uuid());
        row.text(&promo.code);
        for number in [share, amount, promo.max_uses, from, until] {
            match number {
                Some(number) => row.number(number),
                None => row.null(),
            }
        }
        row.number(promo.version);
        row.number(now.micros());
    });
    json.end()
}

/// Counts one use for each of these orders' codes, as if one after the other; false where the code is gone, over, not yet
/// begun or used up, and then nothing is counted for it. Rows are locked in the order of their ids.
///
/// # Errors
/// Those of the database.
pub(super) async fn redeem(tx: &mut Tx<'_>, codes: &[PromoId]) -> Result<Vec<bool>, sql::Error> {
    // On PostgreSQL the update that changes nothing locks the rows until the commit.
    const LOCK: RowsSql = rows_sql!(
        "UPDATE promo_codes SET uses = uses FROM " rows " WHERE promo_codes.id = " id(0) " AND deleted_at IS NULL
         RETURNING promo_codes.id, uses, max_uses, valid_from, valid_until"
    );
    const COUNT: RowsSql = rows_sql!(
        "UPDATE promo_codes SET uses = uses + " int(1) ", updated_at = " int(2) " FROM " rows "
         WHERE promo_codes.id = " id(0)
    );
    if codes.is_empty() {
        return Ok(Vec::new());
    }
    type Left = (Uuid, i64, Option<i64>, Option<i64>, Option<i64>);
    let wanted: BTreeMap<Uuid, i64> = codes.iter().map(|code| (code.uuid(), 0)).collect();
    let mut left: HashMap<Uuid, i64> = HashMap::new();
    for id in wanted.keys() {
        let rows: Vec<Left> = LOCK.fetch(tx, counted([(*id, 0)], 0)).await?;
        let now = tx.now().await?.micros();
        let open = |(_, uses, most, from, until): &Left| {
            let begun = from.is_none_or(|from| now >= from) && until.is_none_or(|until| now < until);
            if begun { most.map_or(i64::MAX, |most| (most - uses).max(0)) } else { 0 }
        };
        left.insert(*id, rows.first().map_or(0, open));
    }
    let mut uses = wanted;
    let mut redeem = |code: &PromoId| {
        let (Some(left), Some(uses)) = (left.get_mut(&code.uuid()), uses.get_mut(&code.uuid())) else { return false };
        let granted = *left > 0;
        *left -= i64::from(granted);
        *uses += i64::from(granted);
        granted
    };
    let redeemed = codes.iter().map(&mut redeem).collect();
    let uses: Vec<(Uuid, i64)> = uses.into_iter().filter(|(_, uses)| *uses > 0).collect();
    if !uses.is_empty() {
        let now = tx.now().await?.micros();
        COUNT.execute(tx, counted(uses, now)).await?;
    }
    Ok(redeemed)
}

/// Takes uses back, of orders that came to nothing.
///
/// # Errors
/// Those of the database.
pub(super) async fn give_back(tx: &mut Tx<'_>, codes: &[PromoId]) -> Result<(), sql::Error> {
    const BACK: RowsSql = rows_sql!(
        "UPDATE promo_codes SET uses = uses - " int(1) ", updated_at = " int(2) " FROM " rows "
         WHERE promo_codes.id = " id(0) " AND uses >= " int(1)
    );
    let mut uses: BTreeMap<Uuid, i64> = BTreeMap::new();
    codes.iter().for_each(|code| *uses.entry(code.uuid()).or_default() += 1);
    // One at a time, so that they are locked in the order of their ids.
    for (id, uses) in uses {
        let now = tx.now().await?.micros();
        BACK.execute(tx, counted([(id, uses)], now)).await?;
    }
    Ok(())
}

fn counted(uses: impl IntoIterator<Item = (Uuid, i64)>, now: i64) -> String {
    let mut json = Json::array(1, 50);
    for (id, uses) in uses {
        json.row(|row| {
            row.id(id);
            row.number(uses);
            row.number(now);
        });
    }
    json.end()
}

#[derive(FromRow)]
struct PromoRow {
    id: Uuid,
    event_id: Uuid,
    code: String,
    discount_bp: Option<i64>,
    discount_amount: Option<i64>,
    max_uses: Option<i64>,
    uses: i64,
    valid_from: Option<i64>,
    valid_until: Option<i64>,
    version: i64,
    updated_at: i64,
    deleted_at: Option<i64>,
}

impl PromoRow {
    fn read(self) -> Result<Promo, Error> {
        let id = PromoId::from(self.id);
        let discount = match (self.discount_bp, self.discount_amount) {
            (Some(share), None) => Discount::BasisPoints(share),
            (None, Some(amount)) => Discount::Amount(amount),
            _ => {
                let reason = "it has not exactly one discount".into();
                return Err(Error::Corrupt { what: format!("promotion code `{id}`"), reason });
            }
        };
        Ok(Promo {
            id,
            event: self.event_id.into(),
            code: self.code,
            discount,
            max_uses: self.max_uses,
            uses: self.uses,
            valid_from: self.valid_from.map(Timestamp::from_micros),
            valid_until: self.valid_until.map(Timestamp::from_micros),
            version: self.version,
            updated_at: Timestamp::from_micros(self.updated_at),
            deleted_at: self.deleted_at.map(Timestamp::from_micros),
        })
    }
}

impl Store {
    /// The code of an event that a buyer typed, in its normal form.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub async fn promo(&self, event: EventId, code: &str) -> Result<Promo, Error> {
        const READ: &str = "SELECT id, event_id, code, discount_bp, discount_amount, max_uses, uses, valid_from,
                valid_until, version, updated_at, deleted_at
             FROM promo_codes WHERE event_id = $1 AND code = $2 AND deleted_at IS NULL";
        let row: Option<PromoRow> = each_engine!(&self.db, |pool| {
            sqlx::query_as(READ).bind(event.uuid()).bind(code).fetch_optional(pool).await
        })
        .map_err(sql::Error::from)?;
        let missing = || Error::NotFound { what: "promotion code", id: code.to_owned() };
        row.ok_or_else(missing)?.read()
    }

    /// A code by its id.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the database.
    pub async fn promo_by_id(&self, id: PromoId) -> Result<Promo, Error> {
        const READ: &str = "SELECT id, event_id, code, discount_bp, discount_amount, max_uses, uses, valid_from,
                valid_until, version, updated_at, deleted_at
             FROM promo_codes WHERE id = $1 AND deleted_at IS NULL";
        let row: Option<PromoRow> =
            each_engine!(&self.db, |pool| sqlx::query_as(READ).bind(id.uuid()).fetch_optional(pool).await)
                .map_err(sql::Error::from)?;
        row.ok_or_else(|| Error::NotFound { what: "promotion code", id: id.to_string() })?.read()
    }

    /// What these codes are called, deleted ones too: who paid with one is told so.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn promo_codes(&self, ids: &[PromoId]) -> Result<HashMap<PromoId, String>, Error> {
        const NAMES: RowsSql = rows_sql!("SELECT id, code FROM promo_codes WHERE id " among(0));
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: HashSet<PromoId> = ids.iter().copied().collect();
        let mut rows = Json::array(ids.len(), 36);
        ids.iter().for_each(|id| rows.row(|row| row.id(id.uuid())));
        let rows: Vec<(Uuid, String)> = NAMES.fetch_from(&self.db, rows.end()).await?;
        Ok(rows.into_iter().map(|(id, code)| (id.into(), code)).collect())
    }

    /// The codes of an event, the one changed the longest ago first; a use is a change.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list_promos(&self, event: EventId, listed: Listed) -> Result<Vec<Promo>, Error> {
        const LIST: &str = "SELECT id, event_id, code, discount_bp, discount_amount, max_uses, uses, valid_from,
                valid_until, version, updated_at, deleted_at
             FROM promo_codes
             WHERE event_id = $1 AND (updated_at, id) > ($2, $3) AND updated_at >= $4 AND updated_at <= $5
                AND (deleted_at IS NULL OR $6)
             ORDER BY updated_at, id LIMIT $7";
        let (at, id) = listed.begin();
        let settled = self.db.settled_until().await?;
        let rows: Vec<PromoRow> = each_engine!(&self.db, |pool| {
            let list = sqlx::query_as(LIST).bind(event.uuid()).bind(at).bind(id).bind(listed.since()).bind(settled);
            list.bind(listed.updated_since.is_some()).bind(listed.limit).fetch_all(pool).await
        })
        .map_err(sql::Error::from)?;
        rows.into_iter().map(PromoRow::read).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tessera_kernel::{Clock, SystemClock};
    use tessera_store::sql::{Db, begin_write};

    use super::*;
    use crate::store::migrations;

    /// Codes of an event, each by its number, how often it may be used, and until when.
    async fn codes(codes: &[(u128, Option<i64>, Option<i64>)]) -> (tempfile::TempDir, Db) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/tickets.db", folder.path().display());
        let db = Db::open(&url, "tickets", &migrations()).await.unwrap();
        let Db::Sqlite(pool) = &db else { panic!("{url}") };
        let id = Uuid::from_u128(1 << 64);
        let venue = "INSERT INTO venues (id, name, city, country, address, timezone, organiser, updated_at)
            VALUES ($1, 'Hall', 'Lisboa', 'PT', '', 'UTC', 'ona', 0)";
        sqlx::query(venue).bind(id).execute(pool).await.unwrap();
        let event = "INSERT INTO events (id, name, kind, status, organiser, venue_id, starts_at, currency, tickets,
            document, version, updated_at) VALUES ($1, 'Evening', 'concert', 'draft', 'ona', $1, 0, 'EUR', 0, '{}', 1, 0)";
        sqlx::query(event).bind(id).execute(pool).await.unwrap();
        for (number, most, until) in codes {
            let code =
                "INSERT INTO promo_codes (id, event_id, code, discount_amount, max_uses, uses, valid_until, version,
                updated_at) VALUES ($1, $2, $3, 500, $4, 0, $5, 1, 0)";
            let code = sqlx::query(code).bind(Uuid::from_u128(*number)).bind(id).bind(format!("CODE{number}"));
            code.bind(most).bind(until).execute(pool).await.unwrap();
        }
        (folder, db)
    }

    async fn uses(db: &Db, number: u128) -> i64 {
        let Db::Sqlite(pool) = db else { panic!("{db:?}") };
        let uses = sqlx::query_scalar("SELECT uses FROM promo_codes WHERE id = $1").bind(Uuid::from_u128(number));
        uses.fetch_one(pool).await.unwrap()
    }

    async fn in_transaction<T>(db: &Db, work: impl AsyncFnOnce(&mut Tx<'_>) -> Result<T, sql::Error>) -> T {
        let Db::Sqlite(pool) = db else { panic!("{db:?}") };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut tx = Tx::Sqlite { transaction: begin_write(pool).await.unwrap(), now: clock.now() };
        let done = work(&mut tx).await.unwrap();
        let Tx::Sqlite { transaction, .. } = tx else { panic!("{db:?}") };
        transaction.commit().await.unwrap();
        done
    }

    #[tokio::test]
    async fn a_code_is_used_as_often_as_it_may_be() {
        let (_folder, db) = codes(&[(1, Some(2), None), (2, None, None), (3, None, Some(5))]).await;
        let ids = |numbers: &[u128]| -> Vec<PromoId> { numbers.iter().map(|id| Uuid::from_u128(*id).into()).collect() };
        let redeemed = in_transaction(&db, async |tx| redeem(tx, &ids(&[2, 1, 3, 1, 1, 9, 2])).await).await;
        assert_eq!(redeemed, [true, true, false, true, false, false, true]);
        assert_eq!((uses(&db, 1).await, uses(&db, 2).await, uses(&db, 3).await), (2, 2, 0));
        in_transaction(&db, async |tx| give_back(tx, &ids(&[1, 2, 2, 3])).await).await;
        assert_eq!((uses(&db, 1).await, uses(&db, 2).await, uses(&db, 3).await), (1, 0, 0));
        assert_eq!(in_transaction(&db, async |tx| redeem(tx, &ids(&[1, 1])).await).await, [true, false]);
    }
}
