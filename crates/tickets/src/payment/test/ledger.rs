//! What the test provider remembers: its payments and refunds, in tables of its own that no other room reads. They are
//! durable, so that money and seats can be compared after a crash; one writer batches what arrives together.
//!
//! Each command is decided by [`decide`], which is pure, on the row that it is about.

use std::collections::HashMap;

use sqlx::FromRow;
use tessera_kernel::{Money, Timestamp, Uuid};
use tessera_store::rows::{Json, RowsSql};
use tessera_store::rows_sql;
use tessera_store::sql::{self, Migration, Tx};
use tessera_store::writer::Apply;

use super::cards::{self, Behaviour, TestCard};

/// The tables.
pub const STEPS: &[Migration] = &[Migration {
    version: 1,
    name: "payments",
    sql: "CREATE TABLE payments (
              id BLOB PRIMARY KEY, order_id BLOB NOT NULL, amount BIGINT NOT NULL, currency TEXT NOT NULL,
              card TEXT NOT NULL, state TEXT NOT NULL, failure TEXT, settled_by BLOB, captured BIGINT NOT NULL,
              refunded BIGINT NOT NULL, ready_at BIGINT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL
          ) WITHOUT ROWID;
          CREATE TABLE refunds (id BLOB PRIMARY KEY, payment_id BLOB NOT NULL, amount BIGINT NOT NULL) WITHOUT ROWID;",
    postgres: Some(
        "CREATE TABLE payments (
             id UUID PRIMARY KEY, order_id UUID NOT NULL, amount BIGINT NOT NULL, currency TEXT NOT NULL,
             card TEXT NOT NULL, state TEXT NOT NULL, failure TEXT, settled_by UUID, captured BIGINT NOT NULL,
             refunded BIGINT NOT NULL, ready_at BIGINT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL
         ) WITH (fillfactor = 60);
         CREATE TABLE refunds (id UUID PRIMARY KEY, payment_id UUID NOT NULL, amount BIGINT NOT NULL);",
    ),
}];

/// Where a payment of the ledger stands. One that is authorised counts as such from `ready_at` on.
pub(super) mod state {
    pub const NEEDS_ACTION: &str = "needs_action";
    pub const AUTHORISED: &str = "authorised";
    pub const DECLINED: &str = "declined";
    pub const CAPTURED: &str = "captured";
    pub const VOIDED: &str = "voided";
}

/// A payment of the ledger. Its id is that of the attempt that made it.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub(super) struct Row {
    pub id: Uuid,
    pub order_id: Uuid,
    pub amount: i64,
    pub currency: String,
    /// The card's name.
    pub card: String,
    pub state: String,
    /// The code of a decline.
    pub failure: Option<String>,
    /// The attempt that captured or voided it.
    pub settled_by: Option<Uuid>,
    pub captured: i64,
    pub refunded: i64,
    pub ready_at: i64,
    pub created_at: i64,
    pub updated_at: i64,
}

/// What may be asked of the ledger, each about one payment.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Authorise { id: Uuid, order: Uuid, amount: Money, card: TestCard },
    Answer { id: Uuid, agreed: bool },
    Capture { id: Uuid, by: Uuid, amount: Money },
    Void { id: Uuid, by: Uuid },
    Refund { id: Uuid, by: Uuid, amount: Money },
}

/// A refusal: a stable word, and what to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: &'static str,
    pub reason: String,
}

impl Command {
    fn payment(&self) -> Uuid {
        match self {
            Self::Authorise { id, .. }
            | Self::Answer { id, .. }
            | Self::Capture { id, .. }
            | Self::Void { id, .. }
            | Self::Refund { id, .. } => *id,
        }
    }

    fn refund(&self) -> Option<Uuid> {
        match self {
            Self::Refund { by, .. } => Some(*by),
            _ => None,
        }
    }
}

/// What the command makes of the payment; the same row where there is nothing to change. `refund` is the amount of the
/// refund that a command names, where it has been made already.
fn decide(row: Option<&Row>, refund: Option<i64>, command: &Command, now: Timestamp) -> Result<Row, Refusal> {
    let refuse = |code: &'static str, reason: String| Err(Refusal { code, reason });
    let Some(row) = row else {
        return match command {
            Command::Authorise { id, order, amount, card } => Ok(begin(*id, *order, *amount, *card, now)),
            _ => refuse("resource_missing", format!("there is no payment `{}`", command.payment().as_simple())),
        };
    };
    let unexpected = |what: &str| {
        let code = "unexpected_state";
        Err(Refusal { code, reason: format!("the payment is {} and cannot be {what}", row.state) })
    };
    let changed = |state: &str, by: Uuid| Row {
        state: state.to_owned(),
        settled_by: Some(by),
        updated_at: now.micros(),
        ..row.clone()
    };
    let is = |amount: &Money| amount.amount == row.amount && amount.currency.as_str() == row.currency;
    match command {
        Command::Authorise { order, amount, card, .. } => {
            if *order == row.order_id && is(amount) && card.name == row.card {
                return Ok(row.clone());
            }
            refuse("idempotency_error", "this attempt was made with another order, amount or card".into())
        }
        Command::Answer { agreed, .. } => match row.state.as_str() {
            state::NEEDS_ACTION if *agreed => {
                Ok(Row { state: state::AUTHORISED.to_owned(), updated_at: now.micros(), ..row.clone() })
            }
            state::NEEDS_ACTION => Ok(Row {
                state: state::DECLINED.to_owned(),
                failure: Some("authentication_failed".to_owned()),
                updated_at: now.micros(),
                ..row.clone()
            }),
            _ => Ok(row.clone()),
        },
        Command::Capture { by, .. } if row.state == state::CAPTURED && row.settled_by == Some(*by) => Ok(row.clone()),
        Command::Capture { amount, .. } if !is(amount) => {
            refuse("amount_mismatch", format!("{} {} were authorised, not {amount}", row.amount, row.currency))
        }
        Command::Capture { by, .. } if row.state == state::AUTHORISED && row.ready_at <= now.micros() => {
            match cards::by_name(&row.card).behaviour {
                Behaviour::CaptureRefused => Ok(changed(state::VOIDED, Uuid::nil())),
                _ => Ok(Row { captured: row.amount, ..changed(state::CAPTURED, *by) }),
            }
        }
        Command::Capture { .. } => unexpected("captured"),
        Command::Void { by, .. } => match row.state.as_str() {
            state::VOIDED => Ok(row.clone()),
            state::AUTHORISED | state::NEEDS_ACTION => Ok(changed(state::VOIDED, *by)),
            _ => unexpected("voided"),
        },
        Command::Refund { amount, .. } => match refund {
            Some(made) if made == amount.amount => Ok(row.clone()),
            Some(made) => refuse("idempotency_error", format!("this attempt was made with {made}")),
            None if row.state != state::CAPTURED || amount.currency.as_str() != row.currency => unexpected("refunded"),
            None if amount.amount <= 0 || amount.amount > row.captured - row.refunded => {
                let left = row.captured - row.refunded;
                refuse("amount_too_large", format!("{left} {} are left to refund, not {amount}", row.currency))
            }
            None => {
                let refunded = row.refunded + amount.amount;
                Ok(Row { refunded, updated_at: now.micros(), ..row.clone() })
            }
        },
    }
}

/// A new payment.
fn begin(id: Uuid, order: Uuid, amount: Money, card: TestCard, now: Timestamp) -> Row {
    let (state, failure, ready_at) = match card.behaviour {
        Behaviour::Declines(code) => (state::DECLINED, Some(code.to_owned()), now),
        Behaviour::AsksForSecondStep => (state::NEEDS_ACTION, None, now),
        Behaviour::AnswersAfter(span) | Behaviour::SilentFor(span) => (state::AUTHORISED, None, now.plus(span)),
        _ => (state::AUTHORISED, None, now),
    };
    Row {
        id,
        order_id: order,
        amount: amount.amount,
        currency: amount.currency.as_str().to_owned(),
        card: card.name.to_owned(),
        state: state.to_owned(),
        failure,
        settled_by: None,
        captured: 0,
        refunded: 0,
        ready_at: ready_at.micros(),
        created_at: now.micros(),
        updated_at: now.micros(),
    }
}

/// Applies commands to the tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ledger;

impl Apply for Ledger {
    type Command = Command;
    /// The row after the command, and whether the command has changed it.
    type Answer = Result<(Row, bool), Refusal>;

    async fn apply(&self, tx: &mut Tx<'_>, commands: &[Command]) -> Result<Vec<Self::Answer>, sql::Error> {
        take_turns(tx).await?;
        let now = tx.now().await?;
        let mut rows = payments(tx, commands).await?;
        let mut refunds = refunds(tx, commands).await?;
        let (mut changed, mut new_refunds) = (Vec::new(), Vec::new());
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            let id = command.payment();
            let refund = command.refund().and_then(|by| refunds.get(&by).copied());
            let decided = decide(rows.get(&id), refund, command, now).map(|row| {
                let new = rows.get(&id) != Some(&row);
                if new {
                    if let Command::Refund { by, amount, .. } = command {
                        refunds.insert(*by, amount.amount);
                        new_refunds.push((*by, id, amount.amount));
                    }
                    rows.insert(id, row.clone());
                    changed.push(id);
                }
                (row, new)
            });
            answers.push(decided);
        }
        changed.sort_unstable();
        changed.dedup();
        write(tx, changed.iter().filter_map(|id| rows.get(id)), &new_refunds).await?;
        Ok(answers)
    }
}

/// On PostgreSQL one batch at a time, over all processes: two about one payment must not overlap, and the rows that they
/// would lock need not exist yet.
async fn take_turns(tx: &mut Tx<'_>) -> Result<(), sql::Error> {
    let Tx::Postgres { transaction } = tx else { return Ok(()) };
    const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('tessera: ledger of the test provider', 0))";
    sqlx::query(LOCK).execute(&mut **transaction).await?;
    Ok(())
}

async fn payments(tx: &mut Tx<'_>, commands: &[Command]) -> Result<HashMap<Uuid, Row>, sql::Error> {
    const WANTED: RowsSql = rows_sql!("SELECT p.* FROM " rows " JOIN payments p ON p.id = " id(0));
    let mut json = Json::array(commands.len(), 36);
    commands.iter().for_each(|command| json.row(|row| row.id(command.payment())));
    let rows: Vec<Row> = WANTED.fetch(tx, json.end()).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

async fn refunds(tx: &mut Tx<'_>, commands: &[Command]) -> Result<HashMap<Uuid, i64>, sql::Error> {
    const WANTED: RowsSql = rows_sql!("SELECT r.id, r.amount FROM " rows " JOIN refunds r ON r.id = " id(0));
    let mut json = Json::array(commands.len(), 36);
    commands.iter().filter_map(Command::refund).for_each(|id| json.row(|row| row.id(id)));
    let json = json.end();
    if json == "[]" {
        return Ok(HashMap::new());
    }
    let rows: Vec<(Uuid, i64)> = WANTED.fetch(tx, json).await?;
    Ok(rows.into_iter().collect())
}

/// Refunds are told by their ids, those of their payments, and their amounts.
async fn write<'a>(
    tx: &mut Tx<'_>,
    changed: impl Iterator<Item = &'a Row>,
    refunded: &[(Uuid, Uuid, i64)],
) -> Result<(), sql::Error> {
    const ROWS: RowsSql = rows_sql!(
        "INSERT INTO payments (id, order_id, amount, currency, card, state, failure, settled_by, captured, refunded,
             ready_at, created_at, updated_at)
         SELECT " id(0) ", " id(1) ", " int(2) ", " text(3) ", " text(4) ", " text(5) ", " text(6) ", " id(7) ", "
             int(8) ", " int(9) ", " int(10) ", " int(11) ", " int(12) " FROM " rows " WHERE TRUE
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, failure = excluded.failure,
             settled_by = excluded.settled_by, captured = excluded.captured, refunded = excluded.refunded,
             updated_at = excluded.updated_at"
    );
    const REFUNDS: RowsSql = rows_sql!(
        "INSERT INTO refunds (id, payment_id, amount) SELECT " id(0) ", " id(1) ", " int(2) " FROM " rows " WHERE TRUE"
    );
    let mut rows = Json::array(changed.size_hint().0, 320);
    changed.for_each(|row| rows.row(|json| fill(json, row)));
    let mut refunds = Json::array(refunded.len(), 90);
    for (id, payment, amount) in refunded {
        refunds.row(|json| {
            json.id(*id);
            json.id(*payment);
            json.number(*amount);
        });
    }
    for (sql, rows) in [(ROWS, rows.end()), (REFUNDS, refunds.end())] {
        if rows != "[]" {
            sql.execute(tx, rows).await?;
        }
    }
    Ok(())
}

fn fill(json: &mut Json, row: &Row) {
    json.id(row.id);
    json.id(row.order_id);
    json.number(row.amount);
    json.text(&row.currency);
    json.text(&row.card);
    json.text(&row.state);
    match &row.failure {
        Some(failure) => json.text(failure),
        None => json.null(),
    }
    match row.settled_by {
        Some(attempt) => json.id(attempt),
        None => json.null(),
    }
    let numbers = [row.captured, row.refunded, row.ready_at, row.created_at, row.updated_at];
    numbers.into_iter().for_each(|number| json.number(number));
}
