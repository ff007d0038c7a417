//! Rates and quotas that several gateways keep together: one step on Redis, by whose clock it goes.
//!
//! Redis is never waited for long. Where it does not answer in time each gateway counts by itself and asks again a second
//! later, so that a Redis that is away costs sharper limits, not requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use ring::digest::{SHA256, digest};
use tessera_store::redis::{Cmd, Redis};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::Limiter;
use crate::domain::gcra::{Rate, Verdict};
use crate::spec::SharedLimits;

/// How long Redis is left alone after it did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// The generic cell rate algorithm. KEYS: the mark. ARGV: interval and tolerance in microseconds.
/// Gives whether it passes, how many more may come, and the microseconds until all and until the next may.
const JUDGE: &str = "
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local mark = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
local used = mark + interval - now
if used > tolerance + 0.5 then
  return {0, 0, math.ceil(mark - now), math.ceil(used - tolerance)}
end
redis.call('SET', KEYS[1], string.format('%.2f', mark + interval), 'PX', math.ceil(used / 1000) + 1)
return {1, math.floor((tolerance - used) / interval + 0.01), math.ceil(used), 0}
";

/// A counter. KEYS: it. ARGV: when it ends, in seconds since the epoch. Gives its new value.
const COUNT: &str = "
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('EXPIREAT', KEYS[1], ARGV[1]) end
return {count}
";

/// The Redis of shared limits. It is connected to when it is first needed.
#[derive(Debug)]
pub struct Remote {
    /// What the config file says.
    pub spec: SharedLimits,
    connection: Arc<Mutex<Option<Redis>>>,
    began: Instant,
    /// Until when it is left alone, in microseconds since `began`.
    paused_until_us: AtomicU64,
    is_away: AtomicBool,
    /// What was judged without it.
    judged_alone: Counter,
}

impl Remote {
    /// The Redis that the config file names; `judged_alone` counts what it was not there for.
    pub fn new(spec: &SharedLimits, judged_alone: Counter) -> Self {
        Self {
            spec: spec.clone(),
            connection: Arc::default(),
            began: Instant::now(),
            paused_until_us: AtomicU64::new(0),
            is_away: AtomicBool::new(false),
            judged_alone,
        }
    }

    /// Judges a request of the caller with this key; `None` where Redis is away.
    pub async fn judge(&self, limiter: &Limiter, key: &[u8], handle: &Handle) -> Option<Verdict> {
        let Rate { count, period_us, burst } = limiter.rate;
        let interval = period_us as f64 / count.max(1) as f64;
        let mut command = self.script(JUDGE, &[b"rate", limiter.identity.as_bytes(), key]);
        command.arg(interval).arg(interval * burst.max(1) as f64);
        let answer = self.ask(command, handle).await?;
        let [passes, remaining, reset_us, retry_us] = answer[..].try_into().ok()?;
        Some(Verdict { passes: passes == 1, remaining, reset_us, retry_us })
    }

    /// Counts one more of this name until then; `None` where Redis is away.
    pub async fn count(&self, name: &str, ends_s: u64, handle: &Handle) -> Option<u64> {
        let mut command = self.script(COUNT, &[b"quota", name.as_bytes(), &ends_s.to_le_bytes()]);
        command.arg(ends_s);
        self.ask(command, handle).await?.first().copied()
    }

    /// A script with its one key. Who is counted is not to be read from it.
    fn script(&self, script: &str, parts: &[&[u8]]) -> Cmd {
        let mut name = Vec::new();
        for part in parts {
            name.extend_from_slice(&part.len().to_le_bytes());
            name.extend_from_slice(part);
        }
        let hash = digest(&SHA256, &name);
        let hash: String = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let mut command = Cmd::new();
        command.arg("EVAL").arg(script).arg(1).arg(format!("{}:{hash}", self.spec.prefix));
        command
    }

    async fn ask(&self, command: Cmd, handle: &Handle) -> Option<Vec<u64>> {
        let now_us = || u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        if now_us() < self.paused_until_us.load(Ordering::Relaxed) {
            self.judged_alone.inc();
            return None;
        }
        let (connection, url) = (self.connection.clone(), self.spec.redis.clone());
        let asking = handle.spawn(async move {
            let redis = {
                let mut connection = connection.lock().await;
                match &*connection {
                    Some(redis) => redis.clone(),
                    None => connection.insert(Redis::open(&url).await.map_err(|error| error.to_string())?).clone(),
                }
            };
            let answers = redis.send::<Vec<u64>>(vec![command]).await.map_err(|error| error.to_string())?;
            answers.into_iter().next().ok_or_else(|| "it gave no answer".to_owned())
        });
        let reason = match timeout(self.spec.timeout.0, asking).await {
            Ok(Ok(Ok(answer))) => {
                if self.is_away.swap(false, Ordering::Relaxed) {
                    tracing::info!("the Redis of shared limits is back");
                }
                return Some(answer);
            }
            Ok(Ok(Err(reason))) => reason,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {}", self.spec.timeout),
        };
        if !self.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(reason, "the Redis of shared limits does not answer; each gateway counts by itself");
        }
        let pause_us = u64::try_from(PAUSE.as_micros()).unwrap_or(u64::MAX);
        self.paused_until_us.store(now_us().saturating_add(pause_us), Ordering::Relaxed);
        self.judged_alone.inc();
        None
    }
}
