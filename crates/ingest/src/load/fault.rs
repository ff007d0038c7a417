//! Why a load failed, in words that say what to do, without secrets.

use std::time::Duration;

use crate::Error;
use crate::spec::Secrets;

/// How long one statement may take: the merge of a very large table is one.
const STATEMENT: Duration = Duration::from_secs(6 * 3600);

/// What stopped a load.
#[derive(Debug)]
pub(super) enum Fault {
    /// The database did.
    Sql(sqlx::Error),
    /// We did: why, and what to do.
    Refused(String),
    /// It happened at a table.
    At(String, Box<Self>),
    /// It has nothing to do with the target.
    Ours(Error),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl Fault {
    /// The same fault, at a table. What the lake did is no table's fault.
    pub(super) fn at(self, table: &str) -> Self {
        match self {
            Self::Sql(_) | Self::Refused(_) => Self::At(table.to_owned(), Box::new(self)),
            other => other,
        }
    }

    /// As the product's error.
    pub(super) fn into_error(self, url: &str, secrets: &Secrets) -> Error {
        let mut secrets = secrets.clone();
        if let Ok(url) = url::Url::parse(url) {
            secrets.add(url.password().unwrap_or_default().to_owned());
            let named = url.query_pairs().filter(|(name, _)| name.contains("password"));
            named.for_each(|(_, value)| secrets.add(value.into_owned()));
        }
        match self {
            Self::Ours(error) => error,
            fault => {
                Error::Load { target: secrets.redact(&without_secrets(url)), detail: secrets.redact(&fault.words()) }
            }
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Sql(error) => explain(error),
            Self::Refused(detail) => detail.clone(),
            Self::At(table, fault) => format!("table {table}: {}", fault.words()),
            Self::Ours(error) => error.to_string(),
        }
    }
}

/// Waits for a database, but not for ever.
pub(super) async fn answer<T, E: Into<Fault>>(asked: impl Future<Output = Result<T, E>>) -> Result<T, Fault> {
    match tokio::time::timeout(STATEMENT, asked).await {
        Ok(answered) => answered.map_err(Into::into),
        Err(_) => Err(Fault::Refused(format!(
            "no answer for {} hours; look at what the database is doing, and run it again",
            STATEMENT.as_secs() / 3600
        ))),
    }
}

/// A target's URL fit for a message: no password, no parameters.
pub(super) fn without_secrets(url: &str) -> String {
    if !url.starts_with("postgres") {
        return url.to_owned();
    }
    let Ok(mut parsed) = url::Url::parse(url) else { return "postgres://…".into() };
    parsed.set_query(None);
    if parsed.password().is_some() && parsed.set_password(None).is_err() {
        return "postgres://…".into();
    }
    parsed.into()
}

fn explain(error: &sqlx::Error) -> String {
    let sqlx::Error::Database(refusal) = error else {
        return match error {
            sqlx::Error::Io(io) => {
                format!("the connection failed: {io}; check that the server runs and that host and port are right")
            }
            sqlx::Error::Tls(tls) => format!("no encrypted connection: {tls}; see sslmode and sslrootcert in the URL"),
            sqlx::Error::Configuration(detail) => {
                format!("the URL cannot be used: {detail}; write postgres://user:password@host/database")
            }
            other => format!("{other}; run it again, what is loaded stays and nothing is doubled"),
        };
    };
    let code = refusal.code().unwrap_or_default();
    let remedy = match code.as_ref() {
        "28P01" | "28000" => "check user and password in the load's URL, and the server's pg_hba.conf",
        "3D000" => "create the database first, or correct its name in the load's URL",
        "42501" => "grant the user CREATE on the schema, and ownership of the tables that it loads",
        "53100" | "13" => "the disk is full; free room and run it again",
        "53300" => "too many connections; close some, or raise max_connections",
        "55P03" | "5" | "261" | "517" => {
            "somebody else holds the table, maybe another load; run it again when they are done"
        }
        "2BP01" => "a view or another object stands on this column; drop it and make it anew after the load",
        "23502" => {
            "a column of yours demands a value that the rows do not have; drop its NOT NULL or give it a default"
        }
        "23503" | "23514" | "23505" => "a constraint of yours refuses the rows; drop it, or load into another schema",
        "54011" => "PostgreSQL holds 1,600 columns a table; leave some out with `exclude`, or keep `nested: json`",
        "54000" => {
            "a value of the key is too long for an index; choose another primary_key, or load with write: append"
        }
        "57P01" | "57P02" | "57P03" => "the server is starting or stopping; run it again",
        "22P02" | "22P05" | "22003" => "a value does not fit the column's type; set its type to string under `columns`",
        "8" | "1032" => "the file or its folder cannot be written; correct its permissions",
        "14" => "the file cannot be opened; check that its folder can be written",
        "26" => "the file is no SQLite database; choose another path",
        _ => "the target is as before the load; correct the cause and run it again",
    };
    let detail = refusal.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().and_then(|error| error.detail());
    // The detail of a broken constraint shows values of rows.
    let detail = detail.filter(|_| matches!(code.as_ref(), "2BP01" | "55P03")).map(|detail| format!(" ({detail})"));
    format!("{}{}; {remedy}", refusal.message(), detail.unwrap_or_default())
}
