//! Lines in Redis: four keys for each line, which share the tag `{namespace:line}` and so a slot of a cluster. A hash with
//! what the line goes by, one from keys to entries, one from entries to places, and a sorted set of the entries inside
//! by the end of their stay.
//!
//! A place is its member (16 bytes), the end of its stay (8 bytes, 0 while it waits) and its other keys (16 bytes each).
//! An admission of many is several scripts, each atomic: each says which serving number it goes on from, and is done
//! again from the new one where another was faster.

use ::redis::{FromRedisValue, Script, ScriptInvocation};
use futures::FutureExt;
use futures::future::BoxFuture;
use tessera_kernel::Timestamp;
use uuid::Uuid;

use super::{Admission, Admitted, Joined, Line, Lines, MAX_LOOK, MAX_STEP, Opening, Place, Rules, Seed, all_keys};
use crate::error::Error;
use crate::redis::Redis;

/// Numbers that one script looks at.
const LOOK: i64 = MAX_STEP as i64;
/// How often an admission begins anew as another was faster. Admission is one task's work, so it hardly ever does.
const ATTEMPTS: usize = 16;

/// KEYS: the line, its keys, its places, who is inside. Reads the line and notes whether its doors are open.
const COMMON: &str = "
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local function text(number) return string.format('%.0f', number) end
local function unpack_place(value)
  local member, till = struct.unpack('>c16i8', value)
  return member, till
end
local function meta()
  local m = redis.call('HMGET', KEYS[1], 'opens_at', 'drawn', 'joined', 'serving', 'waiting', 'seed')
  if not m[1] then return nil end
  if not m[2] and now >= tonumber(m[1]) then
    m[2] = m[3]
    redis.call('HSET', KEYS[1], 'drawn', m[2])
  end
  return {tonumber(m[1]), tonumber(m[2] or -1), tonumber(m[3]), tonumber(m[4]), tonumber(m[5]), m[6] or ''}
end
local function remove(entry, value)
  local keys = {string.sub(value, 1, 16)}
  for at = 25, #value, 16 do keys[#keys + 1] = string.sub(value, at, at + 15) end
  for _, key in ipairs(keys) do
    if redis.call('HGET', KEYS[2], key) == entry then redis.call('HDEL', KEYS[2], key) end
  end
  redis.call('HDEL', KEYS[3], entry)
  redis.call('ZREM', KEYS[4], entry)
end
local line = meta()
";

/// ARGV: when to open, or nothing for now; the seed, or nothing.
const CREATE: &str = "
local opens = ARGV[1] == '' and text(now) or ARGV[1]
if not line then
  redis.call('HSET', KEYS[1], 'opens_at', opens, 'joined', 0, 'serving', 0, 'waiting', 0)
  if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'seed', ARGV[2]) end
elseif line[2] < 0 then
  redis.call('HSET', KEYS[1], 'opens_at', opens)
end
meta()
return 1
";

/// ARGV: the member and its other keys. Gives the line, whether the place is new, entry, member, end of stay.
const JOIN: &str = "
if not line then return {} end
for _, key in ipairs(ARGV) do
  local entry = redis.call('HGET', KEYS[2], key)
  local value = entry and redis.call('HGET', KEYS[3], entry)
  if value then
    local member, till = unpack_place(value)
    if till == 0 or till > now then return {line, 0, tonumber(entry), member, till} end
  end
end
local entry = text(redis.call('HINCRBY', KEYS[1], 'joined', 1))
redis.call('HINCRBY', KEYS[1], 'waiting', 1)
local fields, others = {}, {}
for at, key in ipairs(ARGV) do
  fields[#fields + 1] = key
  fields[#fields + 1] = entry
  if at > 1 then others[#others + 1] = key end
end
redis.call('HSET', KEYS[2], unpack(fields))
redis.call('HSET', KEYS[3], entry, struct.pack('>c16i8', ARGV[1], 0) .. table.concat(others))
return {line, 1, tonumber(entry), ARGV[1], 0}
";

/// ARGV: the member. Gives whether it had a place.
const LEAVE: &str = "
local entry = line and redis.call('HGET', KEYS[2], ARGV[1])
local value = entry and redis.call('HGET', KEYS[3], entry)
if not value then return 0 end
local member, till = unpack_place(value)
if member ~= ARGV[1] then return 0 end
remove(entry, value)
if till == 0 then redis.call('HINCRBY', KEYS[1], 'waiting', -1) end
return (till == 0 or till > now) and 1 or 0
";

/// Gives the line and how many are inside.
const LINE: &str = "
if not line then return {} end
return {line, redis.call('ZCOUNT', KEYS[4], '(' .. text(now), '+inf')}
";

/// ARGV: the member. Gives the line and, where it has a place, entry, member, end of stay.
const PLACE: &str = "
if not line then return {} end
local entry = redis.call('HGET', KEYS[2], ARGV[1])
local value = entry and redis.call('HGET', KEYS[3], entry)
if not value then return {line} end
local member, till = unpack_place(value)
if member ~= ARGV[1] or (till ~= 0 and till <= now) then return {line} end
return {line, tonumber(entry), member, till}
";

/// ARGV: entries. Gives the member of each that waits, nothing for others.
const WAITING: &str = "
local members = redis.call('HMGET', KEYS[3], unpack(ARGV))
for at, value in ipairs(members) do
  if value then
    local member, till = unpack_place(value)
    members[at] = till == 0 and member
  end
end
return members
";

/// ARGV: the serving number to go on from, how many to let in, how many may be inside or -1, the stay in microseconds,
/// and the entries of the numbers that follow. Gives the serving number, the end of the stay, whether there is room for
/// more, and entry and member of those who came in; or the serving number alone where it was another.
const ADMIT: &str = "
local lapsed = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', text(now), 'LIMIT', 0, 1000)
for _, entry in ipairs(lapsed) do
  local value = redis.call('HGET', KEYS[3], entry)
  if value then remove(entry, value) else redis.call('ZREM', KEYS[4], entry) end
end
if line[4] ~= tonumber(ARGV[1]) then return {line[4]} end
local most, limit, till, serving = tonumber(ARGV[2]), tonumber(ARGV[3]), now + tonumber(ARGV[4]), line[4]
if limit >= 0 then
  most = math.min(most, limit - redis.call('ZCOUNT', KEYS[4], '(' .. text(now), '+inf'))
end
local answer, count = {0, till, 1}, 0
for at = 5, #ARGV do
  if count >= most then break end
  serving = serving + 1
  local value = redis.call('HGET', KEYS[3], ARGV[at])
  if value then
    local member, waits = unpack_place(value)
    if waits == 0 then
      redis.call('HSET', KEYS[3], ARGV[at], struct.pack('>c16i8', member, till) .. string.sub(value, 25))
      redis.call('ZADD', KEYS[4], text(till), ARGV[at])
      answer[#answer + 1] = tonumber(ARGV[at])
      answer[#answer + 1] = member
      count = count + 1
    end
  end
end
redis.call('HSET', KEYS[1], 'serving', text(serving))
if count > 0 then redis.call('HINCRBY', KEYS[1], 'waiting', -count) end
answer[1] = serving
answer[3] = count < most and 1 or 0
return answer
";

/// Frees the memory beside the other commands.
const REMOVE: &str = "return redis.call('UNLINK', unpack(KEYS))";

/// Lines in Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisLines {
    redis: Redis,
    namespace: &'static str,
    create: Script,
    join: Script,
    leave: Script,
    line: Script,
    place: Script,
    waiting: Script,
    admit: Script,
    remove: Script,
}

impl std::fmt::Debug for RedisLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLines").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// A line as scripts give it: when it opens, how many are drawn or −1, joined, serving, waiting, seed.
type LineReply = (i64, i64, i64, i64, i64, Vec<u8>);

fn rules(reply: LineReply) -> Result<Rules, Error> {
    let (opens_at, drawn, joined, serving, waiting, seed) = reply;
    let seed = match seed.len() {
        0 => None,
        _ => Some(Seed::from_bytes(seed.try_into().map_err(|_| unexpected("a seed of another length"))?)),
    };
    Ok(Rules { opens_at, seed, drawn: (drawn >= 0).then_some(drawn), joined, serving, waiting })
}

fn id(bytes: &[u8]) -> Result<Uuid, Error> {
    Uuid::from_slice(bytes).map_err(|_| unexpected("a member's id of another length"))
}

fn unexpected(what: &str) -> Error {
    Error::Unexpected { what: format!("{what} in a line") }
}

/// What a script gives of a line that is not there.
fn is_missing(reply: &::redis::Value) -> bool {
    matches!(reply, ::redis::Value::Array(items) if items.is_empty())
}

fn parsed<T: FromRedisValue>(reply: ::redis::Value) -> Result<T, Error> {
    ::redis::from_redis_value(reply).map_err(|error| unexpected(&error.to_string()))
}

impl RedisLines {
    /// Lines under a namespace of their own, such as a product's name.
    pub fn new(redis: Redis, namespace: &'static str) -> Self {
        let script = |body: &str| Script::new(&format!("{COMMON}{body}"));
        Self {
            redis,
            namespace,
            create: script(CREATE),
            join: script(JOIN),
            leave: script(LEAVE),
            line: script(LINE),
            place: script(PLACE),
            waiting: script(WAITING),
            admit: script(ADMIT),
            remove: script(REMOVE),
        }
    }

    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        line: Uuid,
        arguments: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, Error> {
        let tag = format!("{{{}:{}}}", self.namespace, line.simple());
        let prepare = |call: &mut ScriptInvocation<'_>| {
            for part in ["line", "keys", "places", "inside"] {
                call.key(format!("{tag}{part}"));
            }
            arguments(call);
        };
        self.redis.run(script, prepare).await
    }

    async fn read(&self, line: Uuid) -> Result<Option<(Rules, i64)>, Error> {
        let reply: ::redis::Value = self.run(&self.line, line, |_| ()).await?;
        if is_missing(&reply) {
            return Ok(None);
        }
        let (reply, inside): (LineReply, i64) = parsed(reply)?;
        Ok(Some((rules(reply)?, inside)))
    }

    async fn admit_in_steps(&self, line: Uuid, admission: Admission) -> Result<Admitted, Error> {
        let Some((rules, _)) = self.read(line).await? else { return Ok(Admitted::default()) };
        let mut admitted = Admitted { members: Vec::new(), serving: rules.serving };
        if rules.drawn.is_none() {
            return Ok(admitted);
        }
        let most = admission.most.min(MAX_STEP);
        let limit = admission.inside.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let stay = Timestamp::from_micros(0).plus(admission.stay).micros();
        let bound = rules.joined.min(rules.serving + MAX_LOOK as i64);
        let mut faster = 0;
        while admitted.members.len() < most && admitted.serving < bound {
            let wanted = (most - admitted.members.len()) as i64;
            let last = bound.min(admitted.serving + wanted.clamp(64, LOOK));
            let prepare = |call: &mut ScriptInvocation<'_>| {
                call.arg(admitted.serving).arg(wanted).arg(limit).arg(stay);
                (admitted.serving + 1..=last).for_each(|number| {
                    call.arg(rules.entry(number));
                });
            };
            let reply: Vec<::redis::Value> = self.run(&self.admit, line, prepare).await?;
            let mut items = reply.into_iter();
            let mut item = || items.next().ok_or_else(|| unexpected("an admission that breaks off"));
            admitted.serving = parsed(item()?)?;
            let Ok(until) = item() else {
                faster += 1;
                if faster == ATTEMPTS {
                    break;
                }
                continue;
            };
            let (until, more): (i64, i64) = (parsed(until)?, parsed(item()?)?);
            while let Some(entry) = items.next() {
                let member: Vec<u8> = parsed(items.next().ok_or_else(|| unexpected("an entry without a member"))?)?;
                admitted.members.push(rules.place(id(&member)?, parsed(entry)?, until));
            }
            if more == 0 {
                break;
            }
        }
        Ok(admitted)
    }

    async fn front_of(&self, line: Uuid, most: usize) -> Result<Vec<Place>, Error> {
        let Some((rules, _)) = self.read(line).await?.filter(|(rules, _)| rules.drawn.is_some()) else {
            return Ok(Vec::new());
        };
        let most = most.min(MAX_STEP);
        let (mut places, mut looked) = (Vec::new(), rules.serving);
        let bound = rules.joined.min(rules.serving + MAX_LOOK as i64);
        while places.len() < most && looked < bound {
            let last = bound.min(looked + LOOK);
            let entries: Vec<i64> = (looked + 1..=last).map(|number| rules.entry(number)).collect();
            let prepare = |call: &mut ScriptInvocation<'_>| {
                call.arg(&entries);
            };
            let members: Vec<Option<Vec<u8>>> = self.run(&self.waiting, line, prepare).await?;
            for (entry, member) in entries.into_iter().zip(members) {
                if let Some(member) = member.filter(|_| places.len() < most) {
                    places.push(rules.place(id(&member)?, entry, 0));
                }
            }
            looked = last;
        }
        Ok(places)
    }
}

impl Lines for RedisLines {
    fn create(&self, line: Uuid, opening: Opening) -> BoxFuture<'_, Result<Line, Error>> {
        async move {
            let prepare = |call: &mut ScriptInvocation<'_>| {
                match &opening {
                    Opening::Now => call.arg("").arg(""),
                    Opening::Lottery { opens_at, seed } => call.arg(opens_at.micros()).arg(&seed.bytes()[..]),
                };
            };
            self.run::<i64>(&self.create, line, prepare).await?;
            self.line(line).await?.ok_or_else(|| unexpected("nothing"))
        }
        .boxed()
    }

    fn join(&self, line: Uuid, member: Uuid, keys: Vec<Uuid>) -> BoxFuture<'_, Result<Joined, Error>> {
        async move {
            let keys = all_keys(member, keys)?;
            let prepare = |call: &mut ScriptInvocation<'_>| {
                keys.iter().for_each(|key| {
                    call.arg(key.as_bytes());
                });
            };
            let reply: ::redis::Value = self.run(&self.join, line, prepare).await?;
            if is_missing(&reply) {
                return Ok(Joined::NoLine);
            }
            let (line, new, entry, member, until): (LineReply, i64, i64, Vec<u8>, i64) = parsed(reply)?;
            let place = rules(line)?.place(id(&member)?, entry, until);
            Ok(if new == 1 { Joined::New(place) } else { Joined::Already(place) })
        }
        .boxed()
    }

    fn leave(&self, line: Uuid, member: Uuid) -> BoxFuture<'_, Result<bool, Error>> {
        async move {
            let prepare = |call: &mut ScriptInvocation<'_>| {
                call.arg(member.as_bytes());
            };
            let left: i64 = self.run(&self.leave, line, prepare).await?;
            Ok(left == 1)
        }
        .boxed()
    }

    fn admit(&self, line: Uuid, admission: Admission) -> BoxFuture<'_, Result<Admitted, Error>> {
        self.admit_in_steps(line, admission).boxed()
    }

    fn front(&self, line: Uuid, most: usize) -> BoxFuture<'_, Result<Vec<Place>, Error>> {
        self.front_of(line, most).boxed()
    }

    fn place(&self, line: Uuid, member: Uuid) -> BoxFuture<'_, Result<Option<Place>, Error>> {
        async move {
            let prepare = |call: &mut ScriptInvocation<'_>| {
                call.arg(member.as_bytes());
            };
            let reply: Vec<::redis::Value> = self.run(&self.place, line, prepare).await?;
            let Ok([line, entry, member, until]) = <[::redis::Value; 4]>::try_from(reply) else { return Ok(None) };
            let member: Vec<u8> = parsed(member)?;
            Ok(Some(rules(parsed(line)?)?.place(id(&member)?, parsed(entry)?, parsed(until)?)))
        }
        .boxed()
    }

    fn remove(&self, line: Uuid) -> BoxFuture<'_, Result<(), Error>> {
        async move { self.run::<i64>(&self.remove, line, |_| ()).await.map(drop) }.boxed()
    }

    fn line(&self, line: Uuid) -> BoxFuture<'_, Result<Option<Line>, Error>> {
        async move { Ok(self.read(line).await?.map(|(rules, inside)| rules.line(inside))) }.boxed()
    }
}
