//! The same questions to PostgreSQL: full text in a weighted vector under GIN, a table of words under trigrams for
//! typos as its manual proposes, a column index for each usual combination, points under GiST.

use std::fmt::Write;
use std::time::Instant;

use anyhow::Context;
use futures::future::try_join_all;
use sqlx::postgres::{PgArguments, PgPoolOptions};
use sqlx::query::QueryScalar;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, QueryBuilder};
use tessera_kernel::Timestamp;
use tessera_tickets::search::text::Folder;
use tessera_tickets::search::{Area, Availability, Counts, Query, Sort};

use crate::events::Season;
use crate::measure::{Taken, cpu_of};

const TABLE: &str = "
    CREATE EXTENSION pg_trgm; CREATE EXTENSION btree_gist;
    CREATE TABLE events (id UUID PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, performers TEXT[] NOT NULL,
        city TEXT NOT NULL, lat FLOAT8 NOT NULL, lng FLOAT8 NOT NULL, starts_at BIGINT NOT NULL, day INTEGER NOT NULL,
        price_from BIGINT NOT NULL, available BOOLEAN NOT NULL, popularity BIGINT NOT NULL,
        document TEXT NOT NULL, words TSVECTOR NOT NULL)";
const INDEXES: &[&str] = &[
    "CREATE INDEX ON events USING gin (words)",
    "CREATE INDEX ON events (city, kind, starts_at)",
    "CREATE INDEX ON events (city, starts_at)",
    "CREATE INDEX ON events (city, price_from)",
    "CREATE INDEX ON events (starts_at)",
    "CREATE INDEX ON events (day, popularity)",
    "CREATE INDEX ON events USING gist (kind, point(lng, lat))",
    "CREATE INDEX ON events USING gist (point(lng, lat))",
    "CREATE INDEX ON events USING gin (performers)",
    "CREATE TABLE words AS SELECT word FROM ts_stat('SELECT words FROM events')",
    "CREATE INDEX ON words USING gin (word gin_trgm_ops)",
    "VACUUM ANALYZE",
];
/// Rows in one statement of the load.
const ROWS: u64 = 2_000;
const KM_PER_DEGREE: f64 = 111.2;

/// A server with the events in it.
pub struct Server {
    pool: PgPool,
    url: String,
}

impl Server {
    /// Loads the events unless they are there.
    pub async fn load(url: &str, season: &Season, events: u64) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new().max_connections(4).connect(url).await.context("PostgreSQL")?;
        let there: Option<i64> = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&pool).await.ok();
        if there != i64::try_from(events).ok() {
            sqlx::raw_sql("DROP TABLE IF EXISTS events, words; DROP EXTENSION IF EXISTS pg_trgm, btree_gist")
                .execute(&pool)
                .await?;
            sqlx::raw_sql(TABLE).execute(&pool).await?;
            let mut folder = Folder::default();
            for first in (0..events).step_by(ROWS as usize) {
                insert(&pool, season, first..(first + ROWS).min(events), &mut folder).await?;
            }
            for index in INDEXES {
                sqlx::raw_sql(*index).execute(&pool).await.with_context(|| (*index).to_owned())?;
            }
        }
        Ok(Self { pool, url: url.to_owned() })
    }

    pub async fn version(&self) -> anyhow::Result<String> {
        Ok(sqlx::query_scalar("SHOW server_version").fetch_one(&self.pool).await?)
    }

    /// Asks from so many clients at a time.
    pub async fn ask(&self, questions: &[Query], clients: usize, now: Timestamp) -> anyhow::Result<Taken> {
        let mut connections = Vec::new();
        let mut processes = Vec::new();
        for _ in 0..clients {
            let mut connection = PgConnection::connect(&self.url).await?;
            processes.push(sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?);
            connections.push(connection);
        }
        let (began, cpu) = (Instant::now(), cpu_of(&processes));
        let asked = connections.into_iter().enumerate().map(|(client, mut connection)| async move {
            let (mut latencies, mut empty, mut folder) = (Vec::new(), 0, Folder::default());
            for question in questions.iter().skip(client).step_by(clients) {
                let began = Instant::now();
                let found = find(&mut connection, question, &mut folder, now).await?;
                latencies.push(began.elapsed());
                empty += usize::from(found == 0);
            }
            // Closed behind the count of the CPU, which goes with the process.
            anyhow::Ok((latencies, empty, connection))
        });
        let answers = try_join_all(asked).await?;
        let (wall, cpu) = (began.elapsed(), cpu_of(&processes).saturating_sub(cpu));
        let (mut latencies, mut empty) = (Vec::new(), 0);
        for (of_client, nothing, connection) in answers {
            latencies.extend(of_client);
            empty += nothing;
            connection.close().await?;
        }
        Ok(Taken::new(latencies, wall, cpu, empty))
    }
}

async fn insert(pool: &PgPool, season: &Season, at: std::ops::Range<u64>, folder: &mut Folder) -> anyhow::Result<()> {
    let rows: Vec<_> = at.map(|at| season.event(at)).collect();
    let mut insert = QueryBuilder::<Postgres>::new(
        "INSERT INTO events (id, name, kind, performers, city, lat, lng, starts_at, day, price_from, available,
            popularity, document, words) ",
    );
    let mut documents = Vec::new();
    for event in &rows {
        documents.push(serde_json::to_string(event)?);
    }
    insert.push_values(rows.iter().zip(documents), |mut row, (event, document)| {
        let (lat, lng) = event.venue.place.map_or((0.0, 0.0), |place| (place.lat(), place.lng()));
        let performers: Vec<String> = event.performers.iter().map(|performer| performer.id.to_string()).collect();
        row.push_bind(event.id.uuid()).push_bind(event.name.clone()).push_bind(event.kind.clone());
        row.push_bind(performers).push_bind(event.venue.city.clone()).push_bind(lat).push_bind(lng);
        row.push_bind(event.starts_at.micros()).push_bind(event.starts_at.to_utc().date_naive().to_epoch_days());
        row.push_bind(event.price_from.unwrap_or(0)).push_bind(event.available);
        row.push_bind(i64::try_from(event.popularity).unwrap_or(0)).push_bind(document);
        let mut vector = String::new();
        let names: Vec<&str> = event.performers.iter().map(|performer| performer.name.as_str()).collect();
        let parts = [
            (event.name.clone(), 'A'),
            (names.join(" "), 'B'),
            (format!("{} {}", event.venue.name, event.venue.city), 'C'),
            (format!("{} {}", event.kind, event.venue.country), 'D'),
        ];
        for (text, weight) in parts {
            for (at, word) in folder.words(&text).into_iter().enumerate() {
                // Writing into a `String` cannot fail.
                let _ = write!(vector, "{word}:{}{weight} ", at + 1);
            }
        }
        row.push_bind(vector).push_unseparated("::tsvector");
    });
    insert.build().execute(pool).await?;
    Ok(())
}

/// Asks and gives the number of rows. A word that finds nothing is looked up among those spelt alike, as our own does.
async fn find(
    connection: &mut PgConnection,
    query: &Query,
    folder: &mut Folder,
    now: Timestamp,
) -> anyhow::Result<usize> {
    let words = folder.words(&query.term);
    let last = words.len().saturating_sub(1);
    let begun = !query.term.ends_with(' ');
    let lexemes: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(at, word)| if at == last && begun { format!("{word}:*") } else { word.clone() })
        .collect();
    let found = run(connection, query, &lexemes.join(" & "), now).await?;
    if found > 0 || words.is_empty() {
        return Ok(found);
    }
    let mut alike = Vec::new();
    for word in &words {
        let similar: Vec<String> =
            sqlx::query_scalar("SELECT word FROM words WHERE word % $1 ORDER BY similarity(word, $1) DESC LIMIT 5")
                .bind(word)
                .fetch_all(&mut *connection)
                .await?;
        if similar.is_empty() {
            return Ok(0);
        }
        alike.push(format!("({})", similar.join(" | ")));
    }
    run(connection, query, &alike.join(" & "), now).await
}

async fn run(connection: &mut PgConnection, query: &Query, text: &str, now: Timestamp) -> anyhow::Result<usize> {
    let mut wanted = Wanted::default();
    if !text.is_empty() {
        wanted.texts.push(text.to_owned());
        wanted.conditions.push("words @@ $T1::tsquery".to_owned());
    }
    match &query.area {
        None => {}
        Some(Area::City(city)) => wanted.is("city =", city),
        Some(Area::Circle { middle, radius_m }) => {
            let middle = middle.place().context("the middle")?;
            let (lat, lng, km) = (middle.lat(), middle.lng(), f64::from(*radius_m) / 1e3);
            let (high, wide) = (km / KM_PER_DEGREE, km / KM_PER_DEGREE / lat.to_radians().cos());
            wanted.conditions.push(format!(
                "point(lng, lat) <@ box(point({}, {}), point({}, {})) AND {} <= {km}",
                lng - wide,
                lat - high,
                lng + wide,
                lat + high,
                distance(lat, lng),
            ));
        }
    }
    if let [kind] = query.kinds.as_slice() {
        wanted.is("kind =", kind);
    }
    if let Some(performer) = &query.performer {
        wanted.is("performers @> ARRAY[", performer);
        if let Some(last) = wanted.conditions.last_mut() {
            last.push(']');
        }
    }
    match query.days {
        Some((first, last)) if first == last => wanted.conditions.push(format!("day = {first}")),
        // By the column that the combined indexes have; the calendar of one time zone.
        Some((first, last)) => wanted.conditions.push(format!(
            "starts_at >= {} AND starts_at < {}",
            i64::from(first) * 86_400_000_000,
            i64::from(last + 1) * 86_400_000_000
        )),
        None => wanted.conditions.push(format!("starts_at >= {}", now.micros())),
    }
    if query.availability == Availability::Available {
        wanted.conditions.push("available".to_owned());
    }
    let order = match query.sort {
        Sort::Relevance if text.is_empty() => "popularity DESC, starts_at".to_owned(),
        Sort::Relevance => "ts_rank(words, $T1::tsquery) DESC, popularity DESC".to_owned(),
        Sort::Date => "starts_at".to_owned(),
        Sort::Price => "price_from".to_owned(),
        Sort::Distance => {
            let middle = query.middle().context("the middle")?;
            distance(middle.lat(), middle.lng())
        }
    };
    let conditions = wanted.conditions.join(" AND ");
    let limit = query.limit + 1;
    let sql = match query.counts {
        Counts::None => format!("SELECT document FROM events WHERE {conditions} ORDER BY {order} LIMIT {limit}"),
        Counts::All => format!(
            "WITH m AS MATERIALIZED (SELECT id, kind, city, day / 30 AS month FROM events WHERE {conditions})
             (SELECT document FROM events WHERE {conditions} ORDER BY {order} LIMIT {limit})
             UNION ALL SELECT count(*)::text FROM m
             UNION ALL (SELECT kind || count(*) FROM m GROUP BY kind)
             UNION ALL (SELECT city || count(*) FROM m GROUP BY city ORDER BY count(*) DESC LIMIT 36)
             UNION ALL (SELECT month || ' ' || count(*) FROM m GROUP BY month)"
        ),
    };
    let sql = sql.replace("$T1", "$1");
    let mut asked: QueryScalar<'_, Postgres, String, PgArguments> = sqlx::query_scalar(AssertSqlSafe(sql));
    for text in wanted.texts {
        asked = asked.bind(text);
    }
    let rows = asked.fetch_all(connection).await?;
    Ok(match query.counts {
        Counts::None => rows.len(),
        Counts::All => rows.iter().filter(|row| row.starts_with('{')).count(),
    })
}

#[derive(Default)]
struct Wanted {
    conditions: Vec<String>,
    texts: Vec<String>,
}

impl Wanted {
    fn is(&mut self, condition: &str, text: &str) {
        self.texts.push(text.to_owned());
        self.conditions.push(format!("{condition} ${}", self.texts.len()));
    }
}

/// Kilometres from a place (haversine).
fn distance(lat: f64, lng: f64) -> String {
    format!(
        "(12742 * asin(sqrt(power(sin(radians(lat - {lat}) / 2), 2)
            + cos(radians({lat})) * cos(radians(lat)) * power(sin(radians(lng - {lng}) / 2), 2))))"
    )
}
