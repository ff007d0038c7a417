//! A tickets process with an event on sale, for tests.

use std::sync::Arc;
use std::time::Duration;

use tessera_kernel::Ids;
use tessera_kernel::{Clock, RandomIds, SystemClock, Timestamp};
use tessera_service::Keys;
use tessera_store::claims::Claims;
use tessera_store::lines::Lines;
use tessera_store::sql::Db;
use tessera_testkit::sql::Databases;
use tessera_tickets::app::queue::Queues;
use tessera_tickets::app::{App, Parts};
use tessera_tickets::domain::event::{Area, Details, PriceLevel, Rules};
use tessera_tickets::domain::ids::{EventId, PlanId, SeatNumber, TicketId, VenueId};
use tessera_tickets::domain::inventory::assign_blocks;
use tessera_tickets::domain::plan::{Category, Point, Row, Seat, SeatPlan, Size, Zone};
use tessera_tickets::payment::Provider;
use tessera_tickets::seats::Live;
use tessera_tickets::store::Store;

/// A process.
pub async fn app(url: &str, claims: Option<Arc<dyn Claims>>) -> App {
    app_at(url, claims, Arc::new(SystemClock)).await
}

/// A process that goes by this clock.
pub async fn app_at(url: &str, claims: Option<Arc<dyn Claims>>, clock: Arc<dyn Clock>) -> App {
    shop(url, claims, clock).await.0
}

/// A process, and the provider of its payments, whose ledger is the same for all processes of a database.
pub async fn shop(
    url: &str,
    claims: Option<Arc<dyn Claims>>,
    clock: Arc<dyn Clock>,
) -> (App, Arc<tessera_tickets::payment::Test>) {
    Process { claims, ..Process::new(url, clock) }.start().await
}

/// A process as a test wants it.
pub struct Process<'a> {
    /// Its database.
    pub url: &'a str,
    /// Claims where they are not in the database.
    pub claims: Option<Arc<dyn Claims>>,
    /// Lines where they are not.
    pub lines: Option<Arc<dyn Lines>>,
    /// Its key, which processes of one installation share.
    pub keys: Keys,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Where its ids come from.
    pub ids: Arc<dyn Ids>,
    /// How long a payment may extend a hold.
    pub payment_window: Duration,
    /// How long the provider may take.
    pub timeout_s: u64,
    /// Who moves its money, where that is not the test provider.
    pub provider: Option<Arc<dyn Provider>>,
}

impl<'a> Process<'a> {
    /// On a database, with a key of its own.
    pub fn new(url: &'a str, clock: Arc<dyn Clock>) -> Self {
        let keys = Keys::ephemeral(clock.clone()).unwrap();
        let payment_window = Duration::from_secs(300);
        let ids = Arc::new(RandomIds);
        Self { url, claims: None, lines: None, keys, clock, ids, payment_window, timeout_s: 1, provider: None }
    }

    /// The process, and the provider of its payments, whose ledger is the same for all processes of a database.
    pub async fn start(self) -> (App, Arc<tessera_tickets::payment::Test>) {
        let Self { url, claims, lines, keys, clock, ids, payment_window, timeout_s, provider } = self;
        let folder = format!("{}.data", url.trim_start_matches("sqlite:"));
        let config = tessera_tickets::payment::Config { timeout_s, ..Default::default() };
        let payments = tessera_tickets::payment::open(&config, url, folder.as_ref(), clock.clone(), Default::default());
        let payments = payments.await.unwrap();
        let store = Store::open(url, clock.clone(), Default::default()).await.unwrap();
        let app = App::new(Parts {
            payments: provider.unwrap_or(payments.provider),
            public_url: "https://tickets.example".into(),
            live: Live::new(store.clone(), clock.clone()),
            queues: Queues::new(lines.unwrap_or_else(|| store.lines()), keys.clone()),
            store,
            claims,
            keys,
            clock,
            ids,
            payment_window,
        });
        (app, payments.test.unwrap())
    }
}

/// Two rows of `seats` seats and an area of 20 places.
pub fn plan(rows: usize, seats: usize) -> SeatPlan {
    let seat = |n: usize| Seat {
        seat_number: (n + 1).to_string(),
        seat_guid: None,
        position: Point { x: n as f64, y: 0.0 },
        category: "stalls".into(),
    };
    let row = |n: usize| Row {
        row_number: (n + 1).to_string(),
        position: Point { x: 0.0, y: n as f64 },
        seats: (0..seats).map(seat).collect(),
    };
    SeatPlan {
        name: "Small hall".into(),
        categories: vec![Category { name: "stalls".into(), color: "#336699".into() }],
        zones: vec![Zone {
            name: "Stalls".into(),
            position: Point::default(),
            rows: (0..rows).map(row).collect(),
            areas: Vec::new(),
        }],
        size: Size { width: 100.0, height: 100.0 },
    }
}

/// The details of an event that is on sale.
pub fn details(seats: u32) -> Details {
    let level = |key: &str, price, categories: &[&str]| PriceLevel {
        key: key.into(),
        name: key.to_uppercase(),
        price,
        color: "#336699".into(),
        categories: categories.iter().map(|name| (*name).to_owned()).collect(),
    };
    let area = Area {
        key: "floor".into(),
        name: "Floor".into(),
        capacity: 20,
        price_level: "standing".into(),
        blocks: vec![],
        closed: vec![],
    };
    let mut areas = vec![area];
    assign_blocks(&mut areas, seats, |_| false).unwrap();
    Details {
        price_levels: vec![level("stalls", 4500, &["stalls"]), level("standing", 2500, &[])],
        areas,
        rules: Rules { max_per_customer: 6, ..Rules::default() },
        ..Details::default()
    }
}

/// Puts a published event into the database, past the catalogue.
pub async fn publish(url: &str, plan: &SeatPlan, details: &Details, starts_at: Timestamp) -> EventId {
    let db = Db::open(url, "tickets", &tessera_tickets::store::migrations()).await.unwrap();
    let event = EventId::mint(&RandomIds);
    let (venue, seats) = (VenueId::from(RandomIds.next()), PlanId::from(RandomIds.next()));
    let document = serde_json::to_string(plan).unwrap();
    let details = serde_json::to_string(details).unwrap();
    let at = starts_at.micros();
    tessera_store::each_engine!(&db, |pool| {
        let add_plan = "INSERT INTO seat_plans (id, name, seats, document, organiser, created_at, updated_at)
            VALUES ($1, 'Small hall', 1, $2, 'org', 0, 0)";
        sqlx::query(add_plan).bind(seats.uuid()).bind(&document).execute(pool).await.map(drop).unwrap();
        let add_venue =
            "INSERT INTO venues (id, name, city, country, address, timezone, plan_id, organiser, updated_at)
            VALUES ($1, 'Hall', 'Lisboa', 'PT', '', 'Europe/Lisbon', $2, 'org', 0)";
        sqlx::query(add_venue).bind(venue.uuid()).bind(seats.uuid()).execute(pool).await.map(drop).unwrap();
        let add_event = "INSERT INTO events (id, name, kind, status, organiser, venue_id, plan_id, starts_at, currency,
            tickets, document, version, updated_at)
            VALUES ($1, 'Evening', 'concert', 'published', 'org', $2, $3, $4, 'EUR', 0, $5, 1, 0)";
        let add = sqlx::query(add_event).bind(event.uuid()).bind(venue.uuid()).bind(seats.uuid()).bind(at);
        add.bind(&details).execute(pool).await.map(drop).unwrap();
    });
    db.close().await;
    event
}

/// A day from now.
pub fn tomorrow() -> Timestamp {
    SystemClock.now().plus(Duration::from_secs(86_400))
}

/// An event of 2 rows of 8 seats and 20 places, on a fresh database.
pub async fn hall(databases: &Databases) -> (String, EventId) {
    let url = databases.fresh();
    let plan = plan(2, 8);
    let event = publish(&url, &plan, &details(16), tomorrow()).await;
    (url, event)
}

/// Tickets of an event by number.
pub fn tickets(event: EventId, numbers: &[u32]) -> Vec<TicketId> {
    numbers.iter().map(|number| TicketId::new(event, SeatNumber(*number))).collect()
}

/// Books seats for somebody, past orders and payments.
pub async fn book(url: &str, event: EventId, owner: &str, numbers: &[u32], serial: i64, at: Timestamp) {
    let db = Db::open(url, "tickets", &tessera_tickets::store::migrations()).await.unwrap();
    let order = RandomIds.next();
    for ticket in tickets(event, numbers) {
        tessera_store::each_engine!(&db, |pool| {
            let add = "INSERT INTO bookings (ticket_id, event_id, order_id, subject, token, price, serial, booked_at, updated_at)
                VALUES ($1, $2, $3, $4, 1, 4500, $5, $6, $6)";
            let add = sqlx::query(add).bind(ticket.uuid()).bind(event.uuid()).bind(order).bind(owner).bind(serial);
            add.bind(at.micros()).execute(pool).await.map(drop).unwrap();
        });
    }
    db.close().await;
}

/// Gives a booked seat back, past orders and payments.
pub async fn give_back(url: &str, ticket: TicketId) {
    let db = Db::open(url, "tickets", &tessera_tickets::store::migrations()).await.unwrap();
    tessera_store::each_engine!(&db, |pool| {
        let keep = "INSERT INTO past_bookings (ticket_id, serial, event_id, order_id, subject, ended_at)
            SELECT ticket_id, serial, event_id, order_id, subject, 0 FROM bookings WHERE ticket_id = $1";
        sqlx::query(keep).bind(ticket.uuid()).execute(pool).await.map(drop).unwrap();
        let remove = "DELETE FROM bookings WHERE ticket_id = $1";
        sqlx::query(remove).bind(ticket.uuid()).execute(pool).await.map(drop).unwrap();
    });
    db.close().await;
}
