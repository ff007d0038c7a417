//! The search index against the database that it follows, on both engines.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgPool, SqlitePool};
use tempfile::TempDir;
use tessera_kernel::{RandomIds, SystemClock, Timestamp, Uuid};
use tessera_store::each_engine;
use tessera_store::sql::Db;
use tessera_testkit::sql::Databases;
use tessera_tickets::domain::event::{Details, PriceLevel};
use tessera_tickets::domain::ids::{EventId, SeatNumber, TicketId};
use tessera_tickets::jobs::index::Indexer;
use tessera_tickets::search::{Availability, Hits, Position, Query, Search, Tantivy};
use tessera_tickets::store::{Source, Store};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A database with a catalogue that is written past the product, an index, and what keeps it up to date.
struct Rig {
    db: Db,
    source: Source,
    search: Tantivy,
    indexer: Indexer,
    folder: TempDir,
}

impl Rig {
    async fn new(databases: &Databases) -> Self {
        let url = databases.fresh();
        let store = Store::open(&url, Arc::new(SystemClock), Default::default()).await.unwrap();
        let db = match url.starts_with("sqlite") {
            true => Db::Sqlite(SqlitePool::connect(&url).await.unwrap()),
            false => Db::Postgres(PgPool::connect(&format!("{url}?options=-csearch_path%3Dtickets")).await.unwrap()),
        };
        let source = store.search_source();
        let folder = tempfile::tempdir().unwrap();
        let search = Tantivy::open(folder.path()).unwrap();
        let (indexer, _) = Indexer::new(source.clone(), Arc::new(search.clone()));
        Self { db, source, search, indexer, folder }
    }

    async fn run(&self, sql: &'static str) {
        each_engine!(&self.db, |pool| sqlx::raw_sql(sql).execute(pool).await.map(drop)).unwrap();
    }

    async fn told(&self, kind: &'static str, id: Uuid) {
        const TELL: &str = "INSERT INTO outbox (kind, id, at) VALUES ($1, $2, 0)";
        each_engine!(&self.db, |pool| sqlx::query(TELL).bind(kind).bind(id).execute(pool).await.map(drop)).unwrap();
    }

    async fn venue(&self, id: Uuid, name: &str, city: &str) {
        const PUT: &str = "INSERT INTO venues (id, name, city, country, address, lat_e7, lng_e7, timezone, organiser,
            updated_at) VALUES ($1, $2, $3, 'Portugal', '', 387223000, -91393000, 'Europe/Lisbon', 'org', 0)
            ON CONFLICT (id) DO UPDATE SET name = $2, city = $3";
        each_engine!(&self.db, |pool| {
            sqlx::query(PUT).bind(id).bind(name).bind(city).execute(pool).await.map(drop).unwrap();
        });
        self.told("venue", id).await;
    }

    async fn performer(&self, id: Uuid, name: &str) {
        const PUT: &str = "INSERT INTO performers (id, name, about, organiser, updated_at)
            VALUES ($1, $2, '', 'org', 0) ON CONFLICT (id) DO UPDATE SET name = $2";
        each_engine!(&self.db, |pool| sqlx::query(PUT).bind(id).bind(name).execute(pool).await.map(drop)).unwrap();
        self.told("performer", id).await;
    }

    async fn event(&self, id: EventId, name: &str, venue: Uuid, performer: Uuid, status: &str) {
        const PUT: &str =
            "INSERT INTO events (id, name, kind, status, organiser, venue_id, starts_at, currency, tickets,
            document, version, updated_at) VALUES ($1, $2, 'concert', $3, 'org', $4, $5, 'EUR', 2, $6, 1, 0)
            ON CONFLICT (id) DO UPDATE SET name = $2, status = $3, venue_id = $4";
        const BILL: &str = "INSERT INTO event_performers (event_id, position, performer_id) VALUES ($1, 0, $2)
            ON CONFLICT (event_id, position) DO UPDATE SET performer_id = $2";
        let level = |price| PriceLevel {
            key: format!("level{price}"),
            name: "Level".into(),
            price,
            color: "#336699".into(),
            categories: vec![],
        };
        let details = Details { price_levels: vec![level(4_500), level(2_500)], ..Details::default() };
        let document = serde_json::to_string(&details).unwrap();
        each_engine!(&self.db, |pool| {
            let put = sqlx::query(PUT).bind(id.uuid()).bind(name).bind(status).bind(venue);
            put.bind(starts_at().micros()).bind(&document).execute(pool).await.map(drop).unwrap();
            sqlx::query(BILL).bind(id.uuid()).bind(performer).execute(pool).await.map(drop).unwrap();
        });
        self.told("event", id.uuid()).await;
    }

    /// A season of one venue, two performers and three events, one of them a draft.
    async fn season(&self) -> (Uuid, [Uuid; 2], [EventId; 3]) {
        let ids = RandomIds;
        let uuid = || tessera_kernel::Ids::next(&ids);
        let (venue, performers) = (uuid(), [uuid(), uuid()]);
        let events = [EventId::mint(&ids), EventId::mint(&ids), EventId::mint(&ids)];
        self.venue(venue, "Coliseu", "Lisboa").await;
        self.performer(performers[0], "Camané").await;
        self.performer(performers[1], "Mariza").await;
        self.event(events[0], "Noite de fado", venue, performers[0], "published").await;
        self.event(events[1], "Concerto de verão", venue, performers[1], "published").await;
        self.event(events[2], "Ainda em segredo", venue, performers[1], "draft").await;
        (venue, performers, events)
    }

    fn find(&self, query: &Query) -> Hits {
        self.search.find_here(query, Timestamp::default()).unwrap()
    }

    fn names(&self, term: &str) -> Vec<String> {
        let hits = self.find(&term_of(term));
        hits.items.into_iter().map(|hit| hit.document.name).collect()
    }
}

fn starts_at() -> Timestamp {
    "2027-06-01T20:00:00Z".parse().unwrap()
}

fn term_of(term: &str) -> Query {
    Query { term: term.to_owned(), limit: 20, ..Query::default() }
}

async fn follows_what_changes(databases: &Databases) {
    let mut rig = Rig::new(databases).await;
    let (venue, performers, events) = rig.season().await;
    rig.indexer.catch_up().await.unwrap();
    assert_eq!(rig.search.events(), 2, "a draft is not found");
    let hits = rig.find(&term_of("fado camane"));
    let found = &hits.items[0].document;
    assert_eq!((found.id, found.price_from, found.price_to), (events[0], Some(2_500), Some(4_500)));
    assert_eq!((found.venue.city.as_str(), found.available, found.starts_at), ("Lisboa", true, starts_at()));
    assert!(found.venue.place.is_some());

    // An event, its venue, its performer: each change is found, and the old words no more.
    rig.event(events[2], "Já não é segredo", venue, performers[1], "published").await;
    rig.event(events[0], "Noite de guitarra", venue, performers[0], "published").await;
    rig.indexer.catch_up().await.unwrap();
    assert_eq!(rig.names("segredo "), ["Já não é segredo"]);
    assert_eq!((rig.names("fado "), rig.names("guitarra ")), (vec![], vec!["Noite de guitarra".to_owned()]));
    rig.venue(venue, "Sala Nova", "Porto").await;
    rig.performer(performers[0], "Ana Moura").await;
    rig.indexer.catch_up().await.unwrap();
    assert_eq!(rig.names("porto ").len(), 3);
    assert_eq!(rig.names("lisboa ").len(), 0);
    assert_eq!(rig.names("moura "), ["Noite de guitarra"]);

    // Sold out, by an order that says so.
    let order = Uuid::from_u128(99);
    const BOOK: &str = "INSERT INTO bookings (ticket_id, event_id, order_id, subject, token, price, serial, booked_at,
        updated_at) VALUES ($1, $2, $3, 'fan', 1, 2500, 0, 0, 0)";
    const ORDER: &str =
        "INSERT INTO orders (id, event_id, subject, hold_id, token, seats, count, state, currency, total, keep,
        captured, refunded, book_before, attempt, provider, request_hash, created_at, updated_at)
        VALUES ($1, $2, 'fan', $1, 1, $3, 2, 'captured', 'EUR', 5000, 5000, 5000, 0, 0, 1, 'test', $3, 0, 0)";
    each_engine!(&rig.db, |pool| {
        let bytes: &[u8] = &[];
        let put = sqlx::query(ORDER).bind(order).bind(events[1].uuid()).bind(bytes);
        put.execute(pool).await.map(drop).unwrap();
        for number in 0..2 {
            let ticket = TicketId::new(events[1], SeatNumber(number));
            let book = sqlx::query(BOOK).bind(ticket.uuid()).bind(events[1].uuid()).bind(order);
            book.execute(pool).await.map(drop).unwrap();
        }
    });
    rig.told("order", order).await;
    rig.indexer.catch_up().await.unwrap();
    let left = rig.find(&Query { availability: Availability::Available, ..term_of("") });
    assert_eq!(left.total, Some(2));
    assert_eq!(rig.names("verao "), ["Concerto de verão"], "it is still found");

    // Cancelled, deleted.
    rig.event(events[0], "Noite de guitarra", venue, performers[0], "cancelled").await;
    rig.indexer.catch_up().await.unwrap();
    assert_eq!(rig.search.events(), 2);
    rig.run("UPDATE events SET deleted_at = 1 WHERE name LIKE 'Concerto%'").await;
    rig.told("event", events[1].uuid()).await;
    rig.indexer.catch_up().await.unwrap();
    assert_eq!(rig.names(""), ["Já não é segredo"]);

    // What was built change by change is what a rebuild builds.
    let before = rig.find(&term_of(""));
    let order = rig.source.order_rebuild().await.unwrap();
    rig.indexer.catch_up().await.unwrap();
    assert_eq!(rig.search.position().unwrap().rebuild, order);
    assert_eq!(rig.find(&term_of("")), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_follows_what_changes() {
    follows_what_changes(&Databases::sqlite()).await;
    follows_what_changes(&Databases::postgres()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_it_was_and_lost_rows_make_it_begin_anew() {
    for databases in [Databases::sqlite(), Databases::postgres()] {
        let mut rig = Rig::new(&databases).await;
        let (venue, performers, events) = rig.season().await;
        rig.indexer.catch_up().await.unwrap();
        let at = rig.search.position().unwrap();
        let Rig { db, source, search, indexer, folder } = rig;
        drop((search, indexer));
        let search = reopened(folder.path()).await;
        assert_eq!((search.position(), search.events()), (Some(at), 2));
        let (indexer, _) = Indexer::new(source.clone(), Arc::new(search.clone()));
        let mut rig = Rig { db, source, search, indexer, folder };
        // Past the outbox, so that only a rebuild can see it.
        rig.run("UPDATE events SET name = 'Noite secreta' WHERE name = 'Noite de fado'").await;
        rig.event(events[1], "Concerto de outono", venue, performers[1], "published").await;
        rig.indexer.catch_up().await.unwrap();
        assert_eq!(rig.search.position(), Some(Position { seq: at.seq + 1, rebuild: 0 }));
        assert_eq!((rig.names("fado ").len(), rig.names("outono ").len()), (1, 1));
        // Rows that were cleaned away before it had read them.
        rig.told("event", events[1].uuid()).await;
        rig.run("DELETE FROM outbox").await;
        rig.told("event", events[1].uuid()).await;
        rig.indexer.catch_up().await.unwrap();
        assert_eq!((rig.names("fado ").len(), rig.names("secreta ").len()), (0, 1));
        assert_eq!(rig.search.position(), Some(Position { seq: at.seq + 3, rebuild: 0 }));
    }
}

/// The lock goes with the last thread of the index, which may be a moment behind its handle.
async fn reopened(folder: &Path) -> Tantivy {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match Tantivy::open(folder) {
            Ok(search) => return search,
            Err(error) => assert!(tokio::time::Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_become_visible_out_of_order_are_waited_for() {
    const TOUCH: &str = "UPDATE events SET name = $1 WHERE id = $2";
    const TELL: &str = "INSERT INTO outbox (kind, id, at) VALUES ('event', $1, 0)";
    let databases = Databases::postgres();
    let mut rig = Rig::new(&databases).await;
    let (_, _, events) = rig.season().await;
    rig.indexer.catch_up().await.unwrap();
    let at = rig.search.position().unwrap().seq;
    let Db::Postgres(pool) = rig.db.clone() else { panic!("not PostgreSQL") };
    for commits in [true, false] {
        let (first, second) = match commits {
            true => ("Primeiro", "Segundo"),
            false => ("Terceiro", "Quarto"),
        };
        let before = rig.search.position().unwrap().seq;
        let mut slow = pool.begin().await.unwrap();
        sqlx::query(TOUCH).bind(first).bind(events[0].uuid()).execute(&mut *slow).await.unwrap();
        sqlx::query(TELL).bind(events[0].uuid()).execute(&mut *slow).await.unwrap();
        // A later number is visible before the earlier one.
        let mut quick = pool.begin().await.unwrap();
        sqlx::query(TOUCH).bind(second).bind(events[1].uuid()).execute(&mut *quick).await.unwrap();
        sqlx::query(TELL).bind(events[1].uuid()).execute(&mut *quick).await.unwrap();
        quick.commit().await.unwrap();
        for _ in 0..3 {
            rig.indexer.catch_up().await.unwrap();
            assert_eq!(rig.search.position().unwrap().seq, before, "it went past a number that may yet come");
        }
        match commits {
            true => slow.commit().await.unwrap(),
            false => slow.rollback().await.unwrap(),
        }
        rig.indexer.catch_up().await.unwrap();
        assert_eq!(rig.search.position().unwrap().seq, before + 2);
        assert_eq!(rig.names(&format!("{first} ")).len(), usize::from(commits));
        assert_eq!(rig.names(&format!("{second} ")), [second]);
    }
    assert_eq!(rig.search.position().unwrap(), Position { seq: at + 4, rebuild: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_indexer_shows_changes_by_itself() {
    for databases in [Databases::sqlite(), Databases::postgres()] {
        let rig = Rig::new(&databases).await;
        let (venue, performers, events) = rig.season().await;
        let (indexer, ready) = Indexer::new(rig.source.clone(), Arc::new(rig.search.clone()));
        assert!(ready.get().unwrap_err().contains("being built"));
        let stop = CancellationToken::new();
        let running = tokio::spawn(indexer.run(stop.clone()));
        appears(&rig, "camane ", 1).await;
        // It says so right after what it says is there.
        let until = tokio::time::Instant::now() + PATIENCE;
        while let Err(why) = ready.get() {
            assert!(tokio::time::Instant::now() < until, "{why}");
            tokio::task::yield_now().await;
        }
        rig.event(events[0], "Renomeada", venue, performers[0], "published").await;
        if let Db::Postgres(pool) = &rig.db {
            sqlx::query("SELECT pg_notify('tickets_outbox', '')").execute(pool).await.unwrap();
        }
        appears(&rig, "renomeada ", 1).await;
        // The database goes away: what is there is still found.
        rig.run("ALTER TABLE outbox RENAME TO outbox_away").await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(rig.names("renomeada "), ["Renomeada"]);
        rig.run("ALTER TABLE outbox_away RENAME TO outbox").await;
        rig.event(events[0], "Regressada", venue, performers[0], "published").await;
        appears(&rig, "regressada ", 1).await;
        stop.cancel();
        running.await.unwrap().unwrap();
    }
}

async fn appears(rig: &Rig, term: &str, count: usize) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while rig.names(term).len() != count {
        assert!(tokio::time::Instant::now() < until, "`{term}` is not found");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
