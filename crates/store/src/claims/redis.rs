//! Claims in Redis: a key for each held resource, gone when it lapses, and the last token of each partition.
//!
//! All keys of a partition share the tag `{namespace:partition}` and so a slot of a cluster; a claim is one script there.
//! The value of a key is holder (16 bytes), token, expiry and limit (8 bytes each). A script compares the expiry with
//! `TIME`; that Redis also removes the key only saves memory.
//!
//! What it does not promise: a claim whose server dies before it reached disk or replica is lost, and somebody else may
//! get the resource. The commit, which names the token, finds out. Tokens go on growing, as they are the time.

use std::time::Duration;

use ::redis::Script;
use futures::FutureExt;
use futures::future::BoxFuture;
use tessera_kernel::Timestamp;
use uuid::Uuid;

use super::{Acquire, Acquired, Claim, Claims, State, in_order};
use crate::error::Error;
use crate::redis::Redis;

/// Resources that one script looks up.
const READ_AT_ONCE: usize = 1_000;

/// `now` in microseconds, and how to take a value apart.
const COMMON: &str = "
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local function read(value)
  local holder, token, expires, limit = struct.unpack('>c16i8i8i8', value)
  return holder, token, expires, limit
end
local function write(key, holder, token, expires, limit)
  redis.call('SET', key, struct.pack('>c16i8i8i8', holder, token, expires, limit), 'PXAT', string.format('%.0f', expires / 1000))
end
";

/// KEYS: the last token, the resources. ARGV: holder, time to live and longest in milliseconds.
/// Gives 1, token, expiry; or 0, until, and which are taken, counted from 0.
const ACQUIRE: &str = "
local me, taken, till, mine, whole = ARGV[1], {0, 0}, 0, nil, true
local values = redis.call('MGET', unpack(KEYS, 2))
for i = 1, #KEYS - 1 do
  local living = false
  if values[i] then
    local holder, token, expires = read(values[i])
    if expires > now then
      living = true
      taken[#taken + 1] = i - 1
      till = math.max(till, expires)
      if holder ~= me or (mine and mine ~= token) then whole = false end
      mine = token
    end
  end
  whole = whole and living
end
if #taken > 2 then
  if whole then return {1, mine, till} end
  taken[2] = till
  return taken
end
local token = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0') + 1)
redis.call('SET', KEYS[1], string.format('%.0f', token), 'EX', 604800)
local start = math.floor(now / 1000)
local limit = (start + tonumber(ARGV[3])) * 1000
local expires = math.min((start + tonumber(ARGV[2])) * 1000, limit)
for i = 2, #KEYS do write(KEYS[i], me, token, expires, limit) end
return {1, token, expires}
";

/// KEYS: the resources. ARGV: holder, token, time to live in milliseconds. Gives the expiry, or 0.
const EXTEND: &str = "
local values = redis.call('MGET', unpack(KEYS))
local till, bound = 0, 0
for i = 1, #KEYS do
  if not values[i] then return 0 end
  local holder, token, expires, limit = read(values[i])
  if expires <= now or holder ~= ARGV[1] or token ~= tonumber(ARGV[2]) then return 0 end
  till, bound = expires, limit
end
local expires = math.max(till, math.min((math.floor(now / 1000) + tonumber(ARGV[3])) * 1000, bound))
if expires > till then
  for i = 1, #KEYS do write(KEYS[i], ARGV[1], tonumber(ARGV[2]), expires, bound) end
end
return expires
";

/// KEYS: the resources. ARGV: holder, token. Gives how many were freed.
const RELEASE: &str = "
local values = redis.call('MGET', unpack(KEYS))
local freed = 0
for i = 1, #KEYS do
  if values[i] then
    local holder, token, expires = read(values[i])
    if expires > now and holder == ARGV[1] and token == tonumber(ARGV[2]) then
      freed = freed + redis.call('DEL', KEYS[i])
    end
  end
end
return freed
";

/// KEYS: the resources. Gives the values, nothing for what is free.
const GET: &str = "
local values = redis.call('MGET', unpack(KEYS))
for i = 1, #KEYS do
  if values[i] then
    local holder, token, expires = read(values[i])
    if expires <= now then values[i] = false end
  end
end
return values
";

/// Claims in Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisClaims {
    redis: Redis,
    namespace: &'static str,
    acquire: Script,
    extend: Script,
    release: Script,
    get: Script,
}

impl std::fmt::Debug for RedisClaims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisClaims").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl RedisClaims {
    /// Claims under a namespace of their own, such as a product's name.
    pub fn new(redis: Redis, namespace: &'static str) -> Self {
        let script = |body: &str| Script::new(&format!("{COMMON}{body}"));
        Self {
            redis,
            namespace,
            acquire: script(ACQUIRE),
            extend: script(EXTEND),
            release: script(RELEASE),
            get: script(GET),
        }
    }

    /// The key of a resource: the tag, and the id as its 16 bytes.
    fn key(&self, partition: Uuid, resource: Uuid) -> Vec<u8> {
        let mut key = self.tag(partition).into_bytes();
        key.extend_from_slice(resource.as_bytes());
        key
    }

    fn tag(&self, partition: Uuid) -> String {
        format!("{{{}:{}}}c", self.namespace, partition.simple())
    }

    fn keys(&self, partition: Uuid, resources: &[Uuid]) -> Vec<Vec<u8>> {
        resources.iter().map(|resource| self.key(partition, *resource)).collect()
    }

    async fn acquire_all(&self, wish: Acquire) -> Result<Acquired, Error> {
        let wish = in_order(wish)?;
        let numbers: Vec<i64> = self
            .redis
            .run(&self.acquire, |call| {
                call.key(self.tag(wish.partition)).key(self.keys(wish.partition, &wish.resources));
                call.arg(wish.holder.as_bytes()).arg(millis(wish.ttl)).arg(millis(wish.longest));
            })
            .await?;
        match numbers.as_slice() {
            [1, token, expires_at] => Ok(Acquired::Claim(Claim {
                partition: wish.partition,
                resources: wish.resources,
                holder: wish.holder,
                token: *token,
                expires_at: Timestamp::from_micros(*expires_at),
            })),
            [0, until, taken @ ..] => {
                let which = taken.iter().filter_map(|at| wish.resources.get(usize::try_from(*at).ok()?));
                Ok(Acquired::Taken { resources: which.copied().collect(), until: Timestamp::from_micros(*until) })
            }
            other => Err(Error::Unexpected { what: format!("{other:?} to a claim") }),
        }
    }

    async fn states(&self, partition: Uuid, resources: Vec<Uuid>) -> Result<Vec<State>, Error> {
        let mut states = Vec::with_capacity(resources.len());
        for resources in resources.chunks(READ_AT_ONCE) {
            let keys = self.keys(partition, resources);
            let prepare = |call: &mut ::redis::ScriptInvocation<'_>| {
                call.key(keys);
            };
            let values: Vec<Option<Vec<u8>>> = self.redis.run(&self.get, prepare).await?;
            for value in values {
                states.push(value.map_or(Ok(State::Free), |value| read(&value))?);
            }
        }
        Ok(states)
    }
}

fn read(value: &[u8]) -> Result<State, Error> {
    let unexpected = || Error::Unexpected { what: format!("a claim of {} bytes", value.len()) };
    let number = |at: usize| value.get(at..at + 8)?.try_into().ok().map(i64::from_be_bytes);
    let holder = value.get(..16).and_then(|id| Uuid::from_slice(id).ok()).ok_or_else(unexpected)?;
    let (token, expires_at) = number(16).zip(number(24)).ok_or_else(unexpected)?;
    Ok(State::Held { holder, token, expires_at: Timestamp::from_micros(expires_at) })
}

fn millis(span: Duration) -> u64 {
    // A century, so that sums stay exact.
    span.as_millis().min(3_155_760_000_000) as u64
}

impl Claims for RedisClaims {
    fn acquire(&self, wish: Acquire) -> BoxFuture<'_, Result<Acquired, Error>> {
        self.acquire_all(wish).boxed()
    }

    fn extend(&self, claim: Claim, ttl: Duration) -> BoxFuture<'_, Result<Option<Timestamp>, Error>> {
        async move {
            let keys = self.keys(claim.partition, &claim.resources);
            let prepare = |call: &mut ::redis::ScriptInvocation<'_>| {
                call.key(keys).arg(claim.holder.as_bytes()).arg(claim.token).arg(millis(ttl));
            };
            let end: i64 = self.redis.run(&self.extend, prepare).await?;
            Ok((end > 0).then(|| Timestamp::from_micros(end)))
        }
        .boxed()
    }

    fn release(&self, claim: Claim) -> BoxFuture<'_, Result<bool, Error>> {
        async move {
            let keys = self.keys(claim.partition, &claim.resources);
            let prepare = |call: &mut ::redis::ScriptInvocation<'_>| {
                call.key(keys).arg(claim.holder.as_bytes()).arg(claim.token);
            };
            let freed: i64 = self.redis.run(&self.release, prepare).await?;
            Ok(freed > 0)
        }
        .boxed()
    }

    fn get(&self, partition: Uuid, resources: Vec<Uuid>) -> BoxFuture<'_, Result<Vec<State>, Error>> {
        self.states(partition, resources).boxed()
    }
}
