//! Booking over HTTP beside its peers: holds of one seat each, confirmations with the test provider, and the page of an
//! event, of a `tessera serve tickets` in a process of its own on new stores. What is counted was answered with 200, and
//! flushed before. Peers take turns with it in every round; the table has medians.

mod load;
mod peers;
mod server;
mod table;

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use sqlx::Executor;
use sqlx::postgres::PgPoolOptions;

use load::Done;
use server::{PLACES, Process, Shop, cpu_us, family_cpu_us};
use table::Table;

/// Clients of the raw statement. With fifty seats each they have as many holds in flight as there are connections.
const CLIENTS: u32 = 8;

/// Measures booking.
#[derive(Parser)]
struct Arguments {
    /// The binary, built with the `dist` profile.
    #[arg(long, default_value = "target/dist/tessera")]
    tessera: PathBuf,
    /// Connections at a time, each with one request in flight.
    #[arg(long, default_value_t = 400)]
    connections: usize,
    /// How long each measurement counts.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// How often all of them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Fans, each with a token of its own.
    #[arg(long, default_value_t = 25_000)]
    fans: u32,
    /// A PostgreSQL server, in which databases are made; left out where not given.
    #[arg(long)]
    postgres: Option<String>,
    /// PostgreSQL's own load generator, as a check.
    #[arg(long)]
    pgbench: Option<PathBuf>,
    /// Only these: `sqlite`, `postgres`, `page`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Without peers.
    #[arg(long)]
    alone: bool,
    /// The log of the server.
    #[arg(long, default_value = "info")]
    log: String,
    /// Serves the page in this file, as the bare server.
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
    /// Where it listens.
    #[arg(long, hide = true)]
    listen: Option<String>,
}

const REFUSED: &str = "the HTTP of a hold alone, SQLite";
const HOLDS: &str = "holds, SQLite";
const CONFIRMS: &str = "confirmations, SQLite";
const RAW_SQLITE: &str = "raw SQLite, 100 seats a transaction";
const PG_REFUSED: &str = "the HTTP of a hold alone, PostgreSQL";
const PG_HOLDS: &str = "holds, PostgreSQL";
const PG_CONFIRMS: &str = "confirmations, PostgreSQL";
const RAW_PG: &str = "raw PostgreSQL, 50 seats a statement, 8 clients";
const PGBENCH: &str = "the same by pgbench";
const PAGE: &str = "page of an event";
const BARE: &str = "bare axum, the same bytes";

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match (&arguments.serve, &arguments.listen) {
        (Some(page), Some(listen)) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(peers::bare(listen, page))
        }
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(&arguments)),
    }
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|one| one == name);
    let mut table = Table::default();
    for round in 0..arguments.rounds {
        if wanted("sqlite") {
            let shop = Shop::open(&arguments.tessera, None, &arguments.log, arguments.fans).await?;
            book(&shop, arguments, &mut table, [REFUSED, HOLDS, CONFIRMS]).await?;
            drop(shop);
            if !arguments.alone {
                table.of(RAW_SQLITE).rate.push(peers::sqlite(arguments.seconds).await?);
            }
        }
        if wanted("page") {
            let shop = Shop::open(&arguments.tessera, None, &arguments.log, 0).await?;
            page(&shop, arguments, &mut table).await?;
        }
        if let Some(server) = arguments.postgres.as_deref().filter(|_| wanted("postgres")) {
            let url = new_database(server, &format!("round_{round}")).await?;
            let shop = Shop::open(&arguments.tessera, Some(&url), &arguments.log, arguments.fans).await?;
            book(&shop, arguments, &mut table, [PG_REFUSED, PG_HOLDS, PG_CONFIRMS]).await?;
            drop(shop);
            if !arguments.alone {
                let url = new_database(server, &format!("raw_{round}")).await?;
                peers::prepare_postgres(&url).await?;
                let first = peers::first_process(&url).await?;
                let before = (family_cpu_us(first)?, cpu_us("self")?);
                let rate = peers::postgres(&url, CLIENTS, arguments.seconds).await?;
                let each = |after: u64, before: u64| (after - before) as f64 / (rate * arguments.seconds as f64);
                let figures = table.of(RAW_PG);
                figures.rate.push(rate);
                figures.database_us.push(each(family_cpu_us(first)?, before.0));
                figures.client_us.push(each(cpu_us("self")?, before.1));
                if let Some(program) = &arguments.pgbench {
                    let rate = peers::pgbench(program, &url, CLIENTS, arguments.seconds).await?;
                    table.of(PGBENCH).rate.push(rate);
                }
            }
        }
        eprintln!("round {} of {}", round + 1, arguments.rounds);
    }
    table.print();
    println!();
    table.compare("holds on SQLite to the raw loop", HOLDS, RAW_SQLITE);
    table.compare("holds on PostgreSQL to the raw statement", PG_HOLDS, RAW_PG);
    table.compare("the page to the bare server", PAGE, BARE);
    Ok(())
}

/// A new database whose commits are flushed.
async fn new_database(server: &str, name: &str) -> anyhow::Result<String> {
    let pool = PgPoolOptions::new().max_connections(1).connect(server).await?;
    for statement in [
        format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
        format!("CREATE DATABASE {name}"),
        format!("ALTER DATABASE {name} SET synchronous_commit = on"),
        "CHECKPOINT".to_owned(),
    ] {
        pool.execute(sqlx::AssertSqlSafe(statement)).await?;
    }
    pool.close().await;
    let (base, _) = server.rsplit_once('/').unwrap_or((server, ""));
    Ok(format!("{base}/{name}"))
}

/// One phase under load, into the table.
async fn count(
    table: &mut Table,
    name: &'static str,
    process: &Process,
    arguments: &Arguments,
    fill: Arc<load::Fill>,
    take: Arc<load::Take>,
    wanted: u16,
) -> anyhow::Result<Done> {
    let database = || process.database.map(family_cpu_us).transpose();
    let before = (process.cpu_us()?, cpu_us("self")?, database()?);
    let time = Duration::from_secs(arguments.seconds);
    let done = load::run(process.address, arguments.connections, time, wanted, fill, take).await?;
    let each = |after: u64, before: u64| (after - before) as f64 / done.good.max(1) as f64;
    let figures = table.of(name);
    figures.rate.push(done.rate());
    figures.server_us.push(each(process.cpu_us()?, before.0));
    figures.client_us.push(each(cpu_us("self")?, before.1));
    figures.database_us.extend(database()?.zip(before.2).map(|(after, before)| each(after, before)));
    figures.p50_ms.push(done.wait_ms(0.5));
    figures.p99_ms.push(done.wait_ms(0.99));
    if done.other > 0 {
        eprintln!("{name}: {} were answered otherwise, first: {:?}", done.other, done.complaint);
    }
    eprintln!("{name}: {:.0}", done.rate());
    Ok(done)
}

fn post(request: &mut Vec<u8>, path: &str, token: &str, key: usize, body: &str) {
    use std::io::Write;
    // Writing into memory cannot fail.
    let _ = write!(
        request,
        "POST {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
}

/// Asks for holds of what is no ticket, which is all of a hold's HTTP, and nothing else; holds as many seats as time
/// allows; then pays for what was held.
async fn book(
    shop: &Shop,
    arguments: &Arguments,
    table: &mut Table,
    [refused, holds, confirms]: [&'static str; 3],
) -> anyhow::Result<()> {
    let fans = Arc::new(shop.fans.clone());
    let of = Arc::clone(&fans);
    let ask = move |n: usize, request: &mut Vec<u8>| {
        let body = format!("{{\"ticket_id\":\"seat_01a1fdae686b76fab3aaee0b{n:08x}\"}}");
        post(request, "/booking/reserve", &of[n % of.len()], n, &body);
        true
    };
    count(table, refused, &shop.process, arguments, Arc::new(ask), Arc::new(|_, _: &[u8]| ()), 400).await?;
    // Which fan has which hold.
    let held: Arc<Mutex<Vec<(usize, String)>>> = Arc::default();
    let (tickets, of) = (shop.tickets.clone(), Arc::clone(&fans));
    let hold = move |n: usize, request: &mut Vec<u8>| {
        if n >= PLACES as usize {
            return false;
        }
        let body = format!("{{\"ticket_id\":\"{tickets}{:08x}\"}}", n + 1);
        post(request, "/booking/reserve", &of[n % of.len()], n, &body);
        true
    };
    let (keep, people) = (Arc::clone(&held), fans.len());
    let take = move |n: usize, body: &[u8]| {
        const FIELD: &[u8] = b"\"hold_id\":\"";
        let at = body.windows(FIELD.len()).position(|part| part == FIELD).map(|at| at + FIELD.len());
        let id = at.and_then(|at| body[at..].split(|byte| *byte == b'"').next()).map(String::from_utf8_lossy);
        if let Some(id) = id {
            keep.lock().unwrap_or_else(PoisonError::into_inner).push((n % people, id.into_owned()));
        }
    };
    count(table, holds, &shop.process, arguments, Arc::new(hold), Arc::new(take), 200).await?;
    let held = std::mem::take(&mut *held.lock().unwrap_or_else(PoisonError::into_inner));
    let confirm = move |n: usize, request: &mut Vec<u8>| {
        let Some((fan, hold)) = held.get(n) else { return false };
        let body = format!(
            "{{\"hold_id\":\"{hold}\",\"payment_details\":{{\"card\":{{\"number\":\"4242424242424242\",\
             \"exp_month\":12,\"exp_year\":2099,\"cvc\":\"123\"}}}}}}"
        );
        post(request, "/booking/confirm", &fans[*fan], n, &body);
        true
    };
    count(table, confirms, &shop.process, arguments, Arc::new(confirm), Arc::new(|_, _: &[u8]| ()), 200).await?;
    Ok(())
}

/// The page of the stadium, and the same bytes from the bare server.
async fn page(shop: &Shop, arguments: &Arguments, table: &mut Table) -> anyhow::Result<()> {
    let request = format!("GET /event/{} HTTP/1.1\r\nhost: t\r\naccept: application/json\r\n\r\n", shop.stadium);
    let ask = |request: String| -> Arc<load::Fill> {
        Arc::new(move |_, bytes| {
            bytes.extend(request.as_bytes());
            true
        })
    };
    let nothing: Arc<load::Take> = Arc::new(|_, _| ());
    let text = one(shop, &request).await?;
    count(table, PAGE, &shop.process, arguments, ask(request.clone()), Arc::clone(&nothing), 200).await?;
    if arguments.alone {
        return Ok(());
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &text)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--serve").arg(file.path());
    let bare = Process::start(command).await?;
    count(table, BARE, &bare, arguments, ask(request), nothing, 200).await?;
    Ok(())
}

/// One answer, head and body.
async fn one(shop: &Shop, request: &str) -> anyhow::Result<Vec<u8>> {
    use tokio::io::AsyncWriteExt;
    let mut stream = tokio::net::TcpStream::connect(shop.process.address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = Vec::new();
    load::answer(&mut stream, &mut buffer).await?;
    eprintln!("a page of {} bytes", buffer.len());
    Ok(buffer)
}
