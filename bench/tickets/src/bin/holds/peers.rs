//! The peers: the same seats in a bare loop on the same engine, and a bare server of the same bytes.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use sqlx::postgres::PgPoolOptions;
use sqlx::types::Uuid;
use tokio::process::Command;

/// Seats of the table that is held from.
const SEATS: i64 = 250_000;
/// People who hold them.
const SUBJECTS: i64 = 25_000;
/// Seats that one statement holds.
const SEATS_A_STATEMENT: i64 = 50;

/// A loop in C over SQLite: a statement a seat, a hundred in a transaction, each flushed.
pub async fn sqlite(seconds: u64) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/raw_sqlite.py");
    let run = Command::new("python3").arg(script).arg(folder.path()).arg(seconds.to_string()).output().await?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Ok(String::from_utf8_lossy(&run.stdout).trim().parse()?)
}

/// Makes the tables that [`postgres`] and [`pgbench`] hold seats in: a claim of each seat and a row of each hold, with the
/// indexes that ours have.
pub async fn prepare_postgres(url: &str) -> anyhow::Result<()> {
    const TABLES: &str = "
        CREATE TABLE claims (
            id UUID PRIMARY KEY, holder UUID NOT NULL, token BIGINT NOT NULL, expires_at BIGINT NOT NULL
        ) WITH (fillfactor = 60);
        CREATE TABLE holds (
            id UUID PRIMARY KEY, event_id UUID NOT NULL, subject TEXT NOT NULL, seats BYTEA NOT NULL,
            count BIGINT NOT NULL, total BIGINT NOT NULL, token BIGINT NOT NULL, expires_at BIGINT NOT NULL,
            state TEXT NOT NULL, request_hash BYTEA NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL
        );
        CREATE INDEX holds_of_subject ON holds (event_id, subject) WHERE state = 'active';";
    let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    sqlx::raw_sql("CHECKPOINT").execute(&pool).await?;
    pool.close().await;
    Ok(())
}

/// Claims what is free of the seats of `wished`, and writes a hold for each. A round of seats is over before the next one
/// comes to them.
macro_rules! hold {
    ($wished:literal) => {
        concat!(
            "WITH wished (seat, hold, subject, now) AS (",
            $wished,
            "), claimed AS (
                INSERT INTO claims (id, holder, token, expires_at)
                SELECT seat, hold, now, now + 1 FROM wished ORDER BY seat
                ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, token = excluded.token,
                    expires_at = excluded.expires_at WHERE claims.expires_at <= excluded.token
                RETURNING id, holder, token, expires_at
            )
            INSERT INTO holds SELECT holder, '00000000-0000-0000-0000-000000000001', subject, uuid_send(id), 1, 1000, token,
                expires_at, 'active', uuid_send(holder), token, token
            FROM claimed JOIN wished ON wished.seat = claimed.id"
        )
    };
}

/// The process of a PostgreSQL on this machine that has started the others.
pub async fn first_process(url: &str) -> anyhow::Result<u32> {
    let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
    let ours: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&pool).await?;
    let status = std::fs::read_to_string(format!("/proc/{ours}/status"));
    pool.close().await;
    let status = status.context("PostgreSQL is not on this machine")?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("no parent")?;
    Ok(parent.trim().parse()?)
}

/// Clients that each hold 50 seats with one statement, which is its own transaction.
pub async fn postgres(url: &str, clients: u32, seconds: u64) -> anyhow::Result<f64> {
    const HOLD: &str = hold!("SELECT *, $4::BIGINT FROM unnest($1::UUID[], $2::UUID[], $3::TEXT[])");
    let pool = PgPoolOptions::new().max_connections(clients).min_connections(clients).connect(url).await?;
    let (next, held) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let mut at_work = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let (pool, next, held) = (pool.clone(), Arc::clone(&next), Arc::clone(&held));
        at_work.spawn(async move {
            let mut connection = pool.acquire().await?;
            while Instant::now() < until {
                let n = next.fetch_add(1, Ordering::Relaxed) as i64;
                let (first, round) = (n * SEATS_A_STATEMENT % SEATS, n * SEATS_A_STATEMENT / SEATS + 1);
                let numbers = first..first + SEATS_A_STATEMENT;
                let seats: Vec<Uuid> = numbers.clone().map(|seat| Uuid::from_u128(seat as u128)).collect();
                let holds: Vec<Uuid> = seats.iter().map(|_| Uuid::from_u128(rand::random())).collect();
                let subjects: Vec<String> = numbers.map(|seat| format!("fan{}", seat % SUBJECTS)).collect();
                let hold = sqlx::query(HOLD).bind(seats).bind(holds).bind(subjects).bind(round);
                held.fetch_add(hold.execute(&mut *connection).await?.rows_affected(), Ordering::Relaxed);
            }
            Ok::<_, sqlx::Error>(())
        });
    }
    while let Some(done) = at_work.join_next().await {
        done??;
    }
    let rate = held.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    pool.close().await;
    Ok(rate)
}

/// The same by PostgreSQL's own pgbench, as a check of the clients above: it does not send what it writes.
pub async fn pgbench(program: &Path, url: &str, clients: u32, seconds: u64) -> anyhow::Result<f64> {
    const HOLD: &str = hold!(
        "SELECT lpad(to_hex(n), 32, '0')::UUID, gen_random_uuid(), 'fan' || n % 25000,
            (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT FROM generate_series(:first, :first + 49) AS n"
    );
    let script = tempfile::NamedTempFile::new()?;
    let last = SEATS / SEATS_A_STATEMENT - 1;
    let one_line = HOLD.split_whitespace().collect::<Vec<_>>().join(" ");
    std::fs::write(script.path(), format!("\\set first random(0, {last}) * {SEATS_A_STATEMENT}\n{one_line};\n"))?;
    let clients = clients.to_string();
    let run = Command::new(program)
        .args(["--no-vacuum", "--protocol=prepared", "--client", &clients, "--time", &seconds.to_string(), "--file"])
        .arg(script.path())
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .await?;
    let text = String::from_utf8_lossy(&run.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let tps = line
        .and_then(|rest| rest.split(' ').next())
        .with_context(|| format!("pgbench says: {text}{}", String::from_utf8_lossy(&run.stderr)))?;
    Ok(tps.parse::<f64>()? * SEATS_A_STATEMENT as f64)
}

/// Serves these bytes at `/event/{id}` with these headers, and does nothing else.
pub async fn bare(listen: &str, page: &Path) -> anyhow::Result<()> {
    let text = std::fs::read(page)?;
    let head = text.windows(4).position(|four| four == b"\r\n\r\n").context("no head")?;
    let mut headers = HeaderMap::new();
    for line in std::str::from_utf8(&text[..head])?.lines().skip(1) {
        let (name, value) = line.split_once(": ").context("no header")?;
        if !["date", "content-length", "connection"].contains(&name.to_ascii_lowercase().as_str()) {
            headers.insert(HeaderName::try_from(name)?, HeaderValue::from_str(value)?);
        }
    }
    let body = Bytes::from(text).slice(head + 4..);
    let show = move || {
        let (headers, body) = (headers.clone(), body.clone());
        async move { (headers, body).into_response() }
    };
    let listener = tokio::net::TcpListener::bind(listen).await?;
    Ok(axum::serve(listener, Router::new().route("/event/{id}", get(show))).await?)
}
