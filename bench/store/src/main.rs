//! Callers that each ask one thing and wait for the answer, as requests do; prints answers per second and CPU per answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tessera_kernel::SystemClock;
use tessera_store::claims::{self, Acquire, Acquired, ApplyClaims, Claims, RedisClaims, SqlClaims};
use tessera_store::lines::{self, Admission, ApplyLines, Lines, Opening, RedisLines, SqlLines};
use tessera_store::redis::Redis;
use tessera_store::sql::{Db, Migration};
use tessera_store::writer::{Limits, Metrics, Writer};
use uuid::Uuid;

/// Measures claims and lines of one store.
#[derive(Parser)]
struct Arguments {
    /// `sqlite:file`, `postgres://…` or `redis://…`.
    url: String,
    /// Callers at a time.
    #[arg(long, default_value_t = 256)]
    callers: u64,
    /// Questions in all.
    #[arg(long, default_value_t = 200_000)]
    questions: u64,
    /// Resources in one claim.
    #[arg(long, default_value_t = 1)]
    seats: u64,
    /// Commands in one transaction.
    #[arg(long, default_value_t = 4_096)]
    batch: usize,
    /// Whether who joins is known by a device beside its own id.
    #[arg(long)]
    devices: bool,
}

const STEPS: &[Migration] = &[claims::migration(1), lines::migration(2)];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arc::new(Arguments::parse());
    println!("{}", arguments.url.split(':').next().unwrap_or_default());
    let (claims, lines) = stores_at(&arguments.url, arguments.batch).await?;
    let taken = Arc::new(AtomicU64::new(0));
    let (seats, count) = (arguments.seats, Arc::clone(&taken));
    measure(&format!("claims of {seats}"), &arguments, arguments.questions, move |n| {
        let (claims, taken) = (Arc::clone(&claims), Arc::clone(&count));
        async move {
            let resources = (0..seats).map(|seat| Uuid::from_u128(u128::from(n * seats + seat))).collect();
            let (ttl, longest) = (Duration::from_secs(600), Duration::from_secs(1_200));
            let holder = Uuid::from_u128(u128::from(n) << 64);
            let wish = Acquire { partition: Uuid::nil(), resources, holder, ttl, longest };
            if let Acquired::Taken { .. } = claims.acquire(wish).await? {
                taken.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    })
    .await?;
    println!("    {} were taken", taken.load(Ordering::Relaxed));
    let line = Uuid::from_u128(1);
    lines.create(line, Opening::Now).await?;
    let (joining, devices) = (Arc::clone(&lines), arguments.devices);
    measure(if devices { "joins with a device" } else { "joins" }, &arguments, arguments.questions, move |n| {
        let lines = Arc::clone(&joining);
        // Ids as random as those of accounts and devices.
        let (member, device) = (lines::key("member", &n.to_be_bytes()), lines::key("device", &n.to_be_bytes()));
        async move {
            lines.join(line, member, if devices { vec![device] } else { Vec::new() }).await?;
            Ok(())
        }
    })
    .await?;
    let steps = arguments.questions / lines::MAX_STEP as u64;
    let one = Arguments { callers: 1, ..Arguments::parse() };
    measure("admissions of 1,000", &one, steps, move |_| {
        let lines = Arc::clone(&lines);
        let admission = Admission { most: lines::MAX_STEP, inside: None, stay: Duration::from_secs(600) };
        async move {
            lines.admit(line, admission).await?;
            Ok(())
        }
    })
    .await
}

async fn stores_at(url: &str, batch: usize) -> anyhow::Result<(Arc<dyn Claims>, Arc<dyn Lines>)> {
    if url.starts_with("redis") {
        let redis = Redis::open(url).await?;
        return Ok((Arc::new(RedisClaims::new(redis.clone(), "bench")), Arc::new(RedisLines::new(redis, "bench"))));
    }
    let db = Db::open(url, "bench_store", STEPS).await?;
    let clock = Arc::new(SystemClock);
    let (limits, metrics) = (Limits { batch, ..Limits::default() }, Metrics::default());
    let claims = Writer::start(&db, ApplyClaims, clock.clone(), limits, metrics.clone());
    let lines = Writer::start(&db, ApplyLines, clock.clone(), limits, metrics);
    Ok((Arc::new(SqlClaims::new(db.clone(), claims, clock.clone())), Arc::new(SqlLines::new(db, lines, clock))))
}

/// Asks question 0, 1, 2 … from many callers and prints how it went.
async fn measure<F>(
    name: &str,
    arguments: &Arguments,
    questions: u64,
    ask: impl Fn(u64) -> F + Clone + Send + 'static,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let (began, cpu) = (Instant::now(), cpu_time());
    let callers: Vec<_> = (0..arguments.callers)
        .map(|_| {
            let (next, ask) = (Arc::clone(&next), ask.clone());
            tokio::spawn(async move {
                let mut slowest = Duration::ZERO;
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= questions {
                        return Ok::<_, anyhow::Error>(slowest);
                    }
                    let asked = Instant::now();
                    ask(n).await?;
                    slowest = slowest.max(asked.elapsed());
                }
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for caller in callers {
        slowest = slowest.max(caller.await??);
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
    println!(
        "  {name}: {:.0}/s, {:.1} µs CPU each, slowest {slowest:?} ({questions} by {} callers)",
        questions as f64 / took,
        cpu / questions as f64 * 1e6,
        arguments.callers
    );
    Ok(())
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    // SAFETY: `rusage` is plain data that the call fills in.
    #[expect(unsafe_code, reason = "the C library is the only way to this figure")]
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let time = |at: libc::timeval| Duration::new(at.tv_sec as u64, at.tv_usec as u32 * 1_000);
    time(usage.ru_utime) + time(usage.ru_stime)
}
