//! Joins of a waiting room, durable on the embedded store: by the use case, and over HTTP on loopback with the clients in
//! the same process; then the static answer that those who wait poll.
//!
//! `bench-tickets-queue --joins 200000 --callers 512`

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use tessera_kernel::{Clock, Ids, RandomIds, SystemClock};
use tessera_service::Keys;
use tessera_store::sql::Db;
use tessera_tickets::app::queue::{Queues, Visitor};
use tessera_tickets::app::{App, Parts};
use tessera_tickets::domain::event::{Details, PriceLevel, Queue, QueueMode};
use tessera_tickets::domain::ids::{EventId, VenueId};
use tessera_tickets::store::{Store, migrations};
use tessera_tickets::{http, payment, seats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Parser)]
struct Args {
    /// People in each part.
    #[arg(long, default_value_t = 200_000)]
    joins: u64,
    /// At a time; over HTTP as many connections.
    #[arg(long, default_value_t = 512)]
    callers: u64,
    /// The database; an embedded one in a temporary folder where not given.
    #[arg(long)]
    store: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let url = args.store.clone().unwrap_or_else(|| format!("sqlite:{}", folder.path().join("tickets.db").display()));
    let app = open(&url, folder.path()).await?;

    let event = publish(&url).await?;
    let joining = app.clone();
    measure("joins by the use case", &args, move |_, n| {
        let app = joining.clone();
        async move {
            let visitor = Visitor { subject: Some(format!("fan-{n}").into()), device: None };
            app.join_queue(event, &visitor).await.map(drop).context("a join")
        }
    })
    .await?;
    let joined = app.refresh_queue(event).await?.stands.as_ref().map_or(0, |line| line.joined);
    ensure!(joined == args.joins as i64, "{joined} joined");

    let event = publish(&url).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = http::router(app.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let clients = Arc::new(connect(address, args.callers).await?);
    let connections = Arc::clone(&clients);
    measure("joins over HTTP", &args, move |caller, n| {
        let clients = Arc::clone(&connections);
        async move {
            let request = format!(
                "POST /event/{event}/queue HTTP/1.1\r\nhost: t\r\nx-device-id: device-{n:012}\r\nidempotency-key: {n}\r\n\
                 content-length: 0\r\n\r\n"
            );
            ask(&clients, caller, &request).await
        }
    })
    .await?;
    let request: Arc<str> = format!("GET /event/{event}/queue/serving HTTP/1.1\r\nhost: t\r\n\r\n").into();
    measure("the serving number over HTTP", &args, move |caller, _| {
        let (clients, request) = (Arc::clone(&clients), Arc::clone(&request));
        async move { ask(&clients, caller, &request).await }
    })
    .await
}

async fn measure<F>(
    what: &str,
    args: &Args,
    ask: impl Fn(usize, u64) -> F + Clone + Send + 'static,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let (next, all) = (Arc::new(AtomicU64::new(0)), args.joins);
    let (began, cpu) = (Instant::now(), cpu_s()?);
    let callers = (0..args.callers as usize).map(|caller| {
        let (next, ask) = (Arc::clone(&next), ask.clone());
        tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= all {
                    return Ok::<_, anyhow::Error>(slowest);
                }
                let began = Instant::now();
                ask(caller, n).await?;
                slowest = slowest.max(began.elapsed());
            }
        })
    });
    let mut slowest = Duration::ZERO;
    for caller in callers.collect::<Vec<_>>() {
        slowest = slowest.max(caller.await??);
    }
    let took = began.elapsed().as_secs_f64();
    let cpu_us = (cpu_s()? - cpu) * 1e6 / all as f64;
    println!("{what}: {:.0}/s, {cpu_us:.1} µs CPU each (clients included), slowest {slowest:?}", all as f64 / took);
    Ok(())
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

type Clients = Vec<tokio::sync::Mutex<Client>>;

async fn connect(address: SocketAddr, count: u64) -> anyhow::Result<Clients> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        clients.push(tokio::sync::Mutex::new(Client { stream, buffer: Vec::with_capacity(2_048) }));
    }
    Ok(clients)
}

/// One request and its answer, which must be 200, on a connection that is kept open.
async fn ask(clients: &Clients, caller: usize, request: &str) -> anyhow::Result<()> {
    let mut client = clients.get(caller).context("a caller without a connection")?.lock().await;
    let Client { stream, buffer } = &mut *client;
    stream.write_all(request.as_bytes()).await?;
    buffer.clear();
    loop {
        ensure!(stream.read_buf(buffer).await? > 0, "the server closed the connection");
        let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head])?;
        ensure!(text.get(9..12) == Some("200"), "{text}");
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let end = head + 4 + length.context("an answer without a length")?;
        while buffer.len() < end {
            ensure!(stream.read_buf(buffer).await? > 0, "the answer breaks off");
        }
        return Ok(());
    }
}

async fn open(url: &str, folder: &std::path::Path) -> anyhow::Result<App> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keys = Keys::ephemeral(Arc::clone(&clock))?;
    let payments =
        payment::open(&payment::Config::default(), url, folder, Arc::clone(&clock), Default::default()).await?;
    let store = Store::open(url, Arc::clone(&clock), Default::default()).await?;
    Ok(App::new(Parts {
        live: seats::Live::new(store.clone(), Arc::clone(&clock)),
        queues: Queues::new(store.lines(), keys.clone()),
        store,
        claims: None,
        payments: payments.provider,
        public_url: "http://localhost".into(),
        keys,
        clock,
        ids: Arc::new(RandomIds),
        payment_window: Duration::from_secs(300),
    }))
}

/// A published event with a waiting room, past the catalogue.
async fn publish(url: &str) -> anyhow::Result<EventId> {
    let db = Db::open(url, "tickets", &migrations()).await?;
    let (event, venue) = (EventId::mint(&RandomIds), VenueId::from(RandomIds.next()));
    let level = PriceLevel {
        key: "all".into(),
        name: "All".into(),
        price: 1_000,
        color: "#336699".into(),
        categories: Vec::new(),
    };
    let queue = Queue { mode: QueueMode::On, ..Queue::default() };
    let details = serde_json::to_string(&Details { price_levels: vec![level], queue, ..Details::default() })?;
    let starts_at = SystemClock.now().plus(Duration::from_secs(86_400)).micros();
    tessera_store::each_engine!(&db, |pool| {
        let add = "INSERT INTO venues (id, name, city, country, address, timezone, organiser, updated_at)
            VALUES ($1, 'Hall', 'Lisboa', 'PT', '', 'Europe/Lisbon', 'org', 0)";
        sqlx::query(add).bind(venue.uuid()).execute(pool).await.map(drop)?;
        let add =
            "INSERT INTO events (id, name, kind, status, organiser, venue_id, starts_at, currency, tickets, document,
            version, updated_at) VALUES ($1, 'Evening', 'concert', 'published', 'org', $2, $3, 'EUR', 0, $4, 1, 0)";
        let add = sqlx::query(add).bind(event.uuid()).bind(venue.uuid()).bind(starts_at);
        add.bind(&details).execute(pool).await.map(drop)?;
    });
    db.close().await;
    Ok(event)
}

/// User and system time of this process, seconds (proc(5), fields 14 and 15, in hundredths of a second).
fn cpu_s() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit_once(')').context("stat")?.1;
    let ticks: Vec<u64> = after.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
}
