//! Many rows as one parameter, for SQLite has no arrays: JSON that a statement takes apart with `jsonb_each`, whose rows
//! are not written out as text and read again for each column. Ids and bytes are written as hexadecimal.
//! [`rows_sql!`](crate::rows_sql) writes such a statement once for both engines.

use std::fmt::Write;

use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::sql::{self, Db, Tx};

/// A statement whose only parameter is a [`Json`] array of arrays.
#[derive(Clone, Copy, Debug)]
pub struct RowsSql {
    /// For SQLite.
    pub sqlite: &'static str,
    /// For PostgreSQL.
    pub postgres: &'static str,
}

/// A statement over rows, for both engines, from pieces of text and columns of the rows: `rows` is the source, whose
/// column `n` is `id(n)`, `bytes(n)`, `int(n)` or `text(n)`. Where what is looked for is not unique, `" WHERE seat " among(n)`
/// is better than a join with the ids: PostgreSQL cannot count the rows, and may read all of the table first. A last `locked("table")` has
/// PostgreSQL lock what is read of that table, in the order of the answer; on SQLite whoever writes is alone.
///
/// ```
/// const ADD: tessera_store::rows::RowsSql =
///     tessera_store::rows_sql!("INSERT INTO seats (id, price) SELECT " id(0) ", " int(1) " FROM " rows " WHERE TRUE");
/// assert!(ADD.sqlite.contains("unhex(value ->> 0)") && ADD.postgres.contains("CAST(value ->> 0 AS UUID)"));
/// ```
#[macro_export]
macro_rules! rows_sql {
    ($($part:tt)+) => {
        $crate::rows::RowsSql {
            sqlite: $crate::rows_sql_text!(sqlite $($part)+),
            postgres: $crate::rows_sql_text!(postgres $($part)+),
        }
    };
}

/// The text of [`rows_sql!`](crate::rows_sql) for an engine.
#[doc(hidden)]
#[macro_export]
macro_rules! rows_sql_text {
    ($engine:ident) => { "" };
    ($engine:ident $part:ident ($column:literal) $($rest:tt)*) => {
        concat!($crate::rows_sql_part!($engine $part $column), $crate::rows_sql_text!($engine $($rest)*))
    };
    ($engine:ident $part:tt $($rest:tt)*) => {
        concat!($crate::rows_sql_part!($engine $part), $crate::rows_sql_text!($engine $($rest)*))
    };
}

/// A piece of [`rows_sql!`](crate::rows_sql).
#[doc(hidden)]
#[macro_export]
macro_rules! rows_sql_part {
    (sqlite rows) => {
        "jsonb_each($1)"
    };
    (postgres rows) => {
        "jsonb_array_elements(CAST($1 AS JSONB)) AS json_each (value)"
    };
    (sqlite id $column:literal) => {
        concat!("unhex(value ->> ", $column, ")")
    };
    (postgres id $column:literal) => {
        concat!("CAST(value ->> ", $column, " AS UUID)")
    };
    (sqlite among $column:literal) => {
        concat!("IN (SELECT unhex(value ->> ", $column, ") FROM jsonb_each($1))")
    };
    (postgres among $column:literal) => {
        concat!(
            "= ANY(ARRAY(SELECT CAST(value ->> ",
            $column,
            " AS UUID) FROM jsonb_array_elements(CAST($1 AS JSONB)) AS json_each (value)))"
        )
    };
    (sqlite bytes $column:literal) => {
        concat!("unhex(value ->> ", $column, ")")
    };
    (postgres bytes $column:literal) => {
        concat!("decode(value ->> ", $column, ", 'hex')")
    };
    (sqlite locked $table:literal) => {
        ""
    };
    (postgres locked $table:literal) => {
        concat!(" FOR UPDATE OF ", $table)
    };
    ($engine:ident int $column:literal) => {
        concat!("CAST(value ->> ", $column, " AS BIGINT)")
    };
    ($engine:ident text $column:literal) => {
        concat!("(value ->> ", $column, ")")
    };
    ($engine:ident $text:literal) => {
        $text
    };
}

impl RowsSql {
    /// What it gives for these rows.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn fetch<T>(&self, tx: &mut Tx<'_>, rows: String) -> Result<Vec<T>, sql::Error>
    where
        T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        Ok(match tx {
            Tx::Sqlite { transaction, .. } => {
                sqlx::query_as(self.sqlite).bind(rows).fetch_all(&mut **transaction).await?
            }
            Tx::Postgres { transaction } => {
                sqlx::query_as(self.postgres).bind(rows).fetch_all(&mut **transaction).await?
            }
        })
    }

    /// The same outside of a transaction.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn fetch_from<T>(&self, db: &Db, rows: String) -> Result<Vec<T>, sql::Error>
    where
        T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        Ok(match db {
            Db::Sqlite(pool) => sqlx::query_as(self.sqlite).bind(rows).fetch_all(pool).await?,
            Db::Postgres(pool) => sqlx::query_as(self.postgres).bind(rows).fetch_all(pool).await?,
        })
    }

    /// Carries it out and counts the rows that it changed.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn execute(&self, tx: &mut Tx<'_>, rows: String) -> Result<u64, sql::Error> {
        Ok(match tx {
            Tx::Sqlite { transaction, .. } => {
                sqlx::query(self.sqlite).bind(rows).execute(&mut **transaction).await?.rows_affected()
            }
            Tx::Postgres { transaction } => {
                sqlx::query(self.postgres).bind(rows).execute(&mut **transaction).await?.rows_affected()
            }
        })
    }
}

/// A JSON array that is being written.
#[derive(Debug)]
pub struct Json(String);

impl Json {
    /// An empty array with room for some items of about that length.
    pub fn array(items: usize, length: usize) -> Self {
        let mut text = String::with_capacity(2 + items * (length + 1));
        text.push('[');
        Self(text)
    }

    /// An array of ids.
    pub fn ids(ids: &[Uuid]) -> String {
        let mut json = Self::array(ids.len(), 34);
        ids.iter().for_each(|id| json.id(*id));
        json.end()
    }

    /// An item that is an array of its own.
    pub fn row(&mut self, fill: impl FnOnce(&mut Self)) {
        self.comma();
        self.0.push('[');
        fill(self);
        self.0.push(']');
    }

    /// An id.
    pub fn id(&mut self, id: Uuid) {
        self.bytes(id.as_bytes());
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.comma();
        self.0.push('"');
        for byte in bytes {
            self.0.push(char::from(DIGITS[usize::from(byte >> 4)]));
            self.0.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        self.0.push('"');
    }

    /// A number.
    pub fn number(&mut self, number: i64) {
        self.comma();
        // Writing into a `String` cannot fail.
        let _ = write!(self.0, "{number}");
    }

    /// Nothing.
    pub fn null(&mut self) {
        self.comma();
        self.0.push_str("null");
    }

    /// A text.
    pub fn text(&mut self, text: &str) {
        self.comma();
        if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.0.push('"');
            self.0.push_str(text);
            self.0.push('"');
        } else {
            // A string always serialises.
            self.0.push_str(&serde_json::to_string(text).unwrap_or_default());
        }
    }

    /// The text of it.
    pub fn end(mut self) -> String {
        self.0.push(']');
        self.0
    }

    fn comma(&mut self) {
        if !self.0.ends_with('[') {
            self.0.push(',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_json() {
        assert_eq!(Json::array(0, 0).end(), "[]");
        let mut json = Json::array(2, 60);
        for number in [1, -2] {
            json.row(|row| {
                row.id(Uuid::from_u128(0xab));
                row.number(number);
            });
        }
        let text = json.end();
        let read: Vec<(String, i64)> = serde_json::from_str(&text).unwrap();
        assert_eq!(read[1], (format!("{:032x}", 0xab), -2));
        assert_eq!(Json::ids(&[Uuid::nil()]), format!("[\"{:032x}\"]", 0));
    }

    #[test]
    fn texts_are_escaped() {
        for text in ["", "plain", "é\u{7f}", "\"", "a\\b", "\n", "\u{0}"] {
            let mut json = Json::array(1, 10);
            json.text(text);
            assert_eq!(serde_json::from_str::<Vec<String>>(&json.end()).unwrap(), [text]);
        }
    }
}
