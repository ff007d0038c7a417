//! One contract for all stores of claims, and races between many holders.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::types::Uuid;
use tessera_kernel::{Clock, ManualClock, SystemClock, Timestamp};
use tessera_store::claims::{self, Acquire, Acquired, ApplyClaims, Claim, Claims, Dead, RedisClaims, SqlClaims, State};
use tessera_store::redis::Redis;
use tessera_store::sql::{self, Db, Migration, Tx};
use tessera_store::writer::{Apply, Limits, Metrics, Writer};
use tessera_testkit::{ScratchDir, postgres};

use crate::stages::{self, Address, Ground};

const STEPS: &[Migration] = &[claims::migration(1)];
const LONG: Duration = Duration::from_secs(600);
/// Long enough to ask a question within it, short enough to wait for.
const SHORT: Duration = Duration::from_millis(1_500);
const PARTITION: Uuid = Uuid::from_u128(0xe);

type Stage = stages::Stage<dyn Claims>;

async fn open(address: Address, clock: Arc<dyn Clock>) -> Arc<dyn Claims> {
    match address {
        Address::Sql(url) => {
            let db = Db::open(&url, "hall", STEPS).await.unwrap();
            let writer = Writer::start(&db, ApplyClaims, Arc::clone(&clock), Limits::default(), Metrics::default());
            Arc::new(SqlClaims::new(db, writer, clock))
        }
        Address::Redis(url, space) => Arc::new(RedisClaims::new(Redis::open(&url).await.unwrap(), space)),
    }
}

async fn contract(ground: &Ground) {
    all_or_none(&ground.stage(open).await).await;
    a_lapsed_claim_is_free_at_once(&ground.stage(open).await).await;
    extension_is_bounded(&ground.stage(open).await).await;
    release_frees_only_its_own(&ground.stage(open).await).await;
    asking_again_gives_the_same(&ground.stage(open).await).await;
    tokens_grow(&ground.stage(open).await).await;
    too_much_is_refused(&ground.stage(open).await).await;
    many_at_once_are_decided(&ground.stage(open).await).await;
    one_living_holder_each(&ground.stage(open).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    contract(&Ground::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    contract(&Ground::postgres()).await;
}

/// Claims that are over leave no rows behind, those of late stay, and tokens grow over the removal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_claims_are_removed() {
    let scratch = ScratchDir::new();
    let server = postgres::start();
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_800_000_000_000_000)));
    let sqlite = format!("sqlite:{}", scratch.file("dead.db").display());
    for (url, clock) in [(sqlite, Some(clock)), (server.new_database(), None)] {
        let now: Arc<dyn Clock> = clock.clone().map_or_else(|| Arc::new(SystemClock) as _, |clock| clock as _);
        let process = async || open(Address::Sql(url.clone()), now.clone()).await;
        let stage = Stage::new([process().await, process().await], clock);
        let db = Db::open(&url, "hall", STEPS).await.unwrap();
        let lapsed = given(acquire(stage.one(), &[1, 2, 3], 1, Duration::from_millis(1)).await);
        let released = given(acquire(stage.two(), &[4], 2, LONG).await);
        assert!(stage.two().release(released.clone()).await.unwrap());
        let living = given(acquire(stage.one(), &[5], 3, LONG).await);

        assert_eq!(remove(&db, &*now, LONG).await, 0, "what has just ended stays");
        stage.passes(Duration::from_millis(50)).await;
        assert_eq!(remove(&db, &*now, Duration::from_millis(40)).await, 4);
        assert_eq!(remove(&db, &*now, Duration::from_millis(40)).await, 0);

        for (gone, holder) in [(lapsed, 4), (released, 5)] {
            assert!(!stage.two().release(gone.clone()).await.unwrap());
            assert_eq!(stage.two().extend(gone.clone(), LONG).await.unwrap(), None);
            let wish = Acquire { resources: gone.resources.clone(), ..wish(&[], holder, LONG) };
            assert!(given(stage.one().acquire(wish).await.unwrap()).token > gone.token);
        }
        assert_eq!(
            stage.two().extend(living.clone(), LONG).await.unwrap().map(|end| end >= living.expires_at),
            Some(true)
        );
    }
}

/// Removes what is dead, two rows looked at a time.
async fn remove(db: &Db, clock: &dyn Clock, kept: Duration) -> u64 {
    let (mut after, mut removed) = (Uuid::nil(), 0);
    loop {
        let Dead { ids, next } = claims::find_dead(db, clock, after, kept, 2).await.unwrap();
        // The server's clock decides on PostgreSQL, this one on SQLite.
        let clock = Arc::new(ManualClock::at(clock.now()));
        let writer = Writer::start(db, Remove(kept), clock, Limits::default(), Metrics::default());
        removed += writer.submit(ids).await.unwrap();
        writer.close().await;
        let Some(next) = next else { return removed };
        after = next;
    }
}

struct Remove(Duration);

impl Apply for Remove {
    type Command = Vec<Uuid>;
    type Answer = u64;

    async fn apply(&self, tx: &mut Tx<'_>, commands: &[Vec<Uuid>]) -> Result<Vec<u64>, sql::Error> {
        let mut removed = Vec::new();
        for ids in commands {
            removed.push(claims::remove(tx, ids, self.0).await?);
        }
        Ok(removed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_keeps_the_contract() {
    contract(&Ground::redis()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_keeps_the_contract() {
    contract(&Ground::cluster()).await;
}

/// A store that is killed and comes back, with its data and without: tokens grow on, and it serves again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_grow_over_the_loss_of_a_redis() {
    let mut ground = Ground::redis();
    let stage = ground.stage(open).await;
    let server = ground.redis_server();
    let kept = given(acquire(stage.one(), &[1, 2], 10, LONG).await);
    server.kill_and_restart();
    let (which, until) = taken(patiently(&stage, &[2, 3], 11).await);
    assert_eq!((which, until), (seats(&[2]), kept.expires_at), "what was answered is on disk");
    server.kill_and_lose_everything();
    let next = given(patiently(&stage, &[2, 3], 12).await);
    assert!(next.token > kept.token, "{next:?} fences {kept:?} off");
    assert_eq!(stage.one().extend(kept.clone(), LONG).await.unwrap(), None);
    assert!(!stage.one().release(kept).await.unwrap());
}

/// While Redis sleeps nothing is promised; a holder asks again with the same name and gets what it had got.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeping_redis_is_unavailable_and_asked_again() {
    let mut ground = Ground::redis();
    let stage = ground.stage(open).await;
    let server = ground.redis_server();
    given(acquire(stage.one(), &[9], 9, LONG).await);
    server.pause();
    let error = stage.one().acquire(wish(&[1, 2], 10, LONG)).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("store.redis", tessera_kernel::ErrorKind::Unavailable));
    assert!(error.may_have_happened(), "{error:?}");
    server.resume();
    let claim = given(patiently(&stage, &[1, 2], 10).await);
    assert_eq!(given(acquire(stage.two(), &[1, 2], 10, LONG).await), claim);
    taken(acquire(stage.two(), &[1], 11, LONG).await);
}

/// Asks until there is an answer.
async fn patiently(stage: &Stage, ids: &[u128], holder: u128) -> Acquired {
    for _ in 0..200 {
        match stage.one().acquire(wish(ids, holder, LONG)).await {
            Ok(acquired) => return acquired,
            Err(error) => assert_eq!(error.code(), "store.redis"),
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("Redis does not come back");
}

fn seats(ids: &[u128]) -> Vec<Uuid> {
    ids.iter().map(|id| Uuid::from_u128(*id)).collect()
}

fn wish(ids: &[u128], holder: u128, ttl: Duration) -> Acquire {
    let holder = Uuid::from_u128(holder);
    Acquire { partition: PARTITION, resources: seats(ids), holder, ttl, longest: LONG }
}

async fn acquire(claims: &dyn Claims, ids: &[u128], holder: u128, ttl: Duration) -> Acquired {
    claims.acquire(wish(ids, holder, ttl)).await.unwrap()
}

fn given(acquired: Acquired) -> Claim {
    match acquired {
        Acquired::Claim(claim) => claim,
        Acquired::Taken { .. } => panic!("{acquired:?}"),
    }
}

fn taken(acquired: Acquired) -> (Vec<Uuid>, Timestamp) {
    match acquired {
        Acquired::Taken { resources, until } => (resources, until),
        Acquired::Claim(_) => panic!("{acquired:?}"),
    }
}

async fn all_or_none(stage: &Stage) {
    let first = given(acquire(stage.one(), &[3, 1, 3], 10, LONG).await);
    assert_eq!((first.resources.clone(), first.holder), (seats(&[1, 3]), Uuid::from_u128(10)));
    let (which, until) = taken(acquire(stage.two(), &[2, 3, 4], 11, LONG).await);
    assert_eq!((which, until), (seats(&[3]), first.expires_at));
    let states = stage.two().get(PARTITION, seats(&[1, 2, 3, 4])).await.unwrap();
    let held = State::Held { holder: first.holder, token: first.token, expires_at: first.expires_at };
    assert_eq!(states, [held, State::Free, held, State::Free]);
    given(acquire(stage.two(), &[2, 4], 12, LONG).await);
}

async fn a_lapsed_claim_is_free_at_once(stage: &Stage) {
    let lapsed = given(acquire(stage.one(), &[1, 2], 10, SHORT).await);
    taken(acquire(stage.two(), &[2], 11, LONG).await);
    stage.passes(SHORT + Duration::from_millis(50)).await;
    assert_eq!(stage.two().get(PARTITION, seats(&[1, 2])).await.unwrap(), [State::Free; 2]);
    assert_eq!(stage.one().extend(lapsed.clone(), LONG).await.unwrap(), None, "it is over, though nobody took it");
    let next = given(acquire(stage.two(), &[2, 3], 11, LONG).await);
    assert!(next.token > lapsed.token);
    assert!(!stage.one().release(lapsed.clone()).await.unwrap());
    assert_eq!(stage.one().extend(lapsed, LONG).await.unwrap(), None);
    taken(acquire(stage.one(), &[2], 12, LONG).await);
}

async fn extension_is_bounded(stage: &Stage) {
    let wish = Acquire { longest: Duration::from_secs(60), ..wish(&[1, 2], 10, Duration::from_secs(30)) };
    let claim = given(stage.one().acquire(wish).await.unwrap());
    let shorter = stage.two().extend(claim.clone(), Duration::from_secs(1)).await.unwrap();
    assert_eq!(shorter, Some(claim.expires_at), "never shorter");
    let longer = stage.two().extend(claim.clone(), LONG).await.unwrap().unwrap();
    // Servers count in milliseconds.
    let bound = claim.expires_at.plus(Duration::from_secs(30));
    assert!(longer > claim.expires_at && longer <= bound.plus(Duration::from_millis(1)), "{longer} {bound}");
    assert_eq!(stage.one().extend(claim, LONG).await.unwrap(), Some(longer));
    let (_, until) = taken(acquire(stage.one(), &[2], 11, LONG).await);
    assert_eq!(until, longer);
}

async fn release_frees_only_its_own(stage: &Stage) {
    let claim = given(acquire(stage.one(), &[1, 2], 10, LONG).await);
    let forged = Claim { token: claim.token + 1, ..claim.clone() };
    assert!(!stage.two().release(forged).await.unwrap());
    let foreign = Claim { holder: Uuid::from_u128(99), ..claim.clone() };
    assert!(!stage.two().release(foreign).await.unwrap());
    taken(acquire(stage.two(), &[1], 11, LONG).await);
    assert!(stage.two().release(claim.clone()).await.unwrap());
    assert!(!stage.one().release(claim).await.unwrap(), "the second time there is nothing");
    given(acquire(stage.two(), &[1], 11, LONG).await);
}

async fn asking_again_gives_the_same(stage: &Stage) {
    let claim = given(acquire(stage.one(), &[1, 2], 10, LONG).await);
    assert_eq!(given(acquire(stage.two(), &[2, 1], 10, SHORT).await), claim);
    let (which, _) = taken(acquire(stage.two(), &[1, 2, 3], 10, LONG).await);
    assert_eq!(which, seats(&[1, 2]), "more than it has is another wish");
}

async fn tokens_grow(stage: &Stage) {
    let mut last = 0;
    for round in 0..20u128 {
        let process = stage.process(round as usize);
        let claim = given(acquire(&*process, &[1, 2 + round], 100 + round, LONG).await);
        assert!(claim.token > last);
        last = claim.token;
        assert!(process.release(claim).await.unwrap());
    }
}

async fn too_much_is_refused(stage: &Stage) {
    let many: Vec<u128> = (0..=claims::MAX_RESOURCES as u128).collect();
    for ids in [&many[..], &[]] {
        let error = stage.one().acquire(wish(ids, 1, LONG)).await.unwrap_err();
        assert_eq!(error.code(), "store.oversized");
    }
    given(acquire(stage.one(), &many[1..], 1, LONG).await);
    assert!(stage.one().get(PARTITION, Vec::new()).await.unwrap().is_empty());
}

/// A batch full of conflicts: each seat is won exactly once.
async fn many_at_once_are_decided(stage: &Stage) {
    let asking = (0..600u128).map(|n| {
        let process = stage.process(n as usize);
        tokio::spawn(async move { acquire(&*process, &[n % 50], 1_000 + n, LONG).await })
    });
    let mut won = [0; 50];
    for asked in asking.collect::<Vec<_>>() {
        if let Acquired::Claim(claim) = asked.await.unwrap() {
            won[claim.resources[0].as_u128() as usize] += 1;
        }
    }
    assert_eq!(won, [1; 50]);
}

/// Many tasks take overlapping sets and give them back; at no moment do two hold the same.
async fn one_living_holder_each(stage: &Stage) {
    const SEATS: usize = 8;
    let holders: Arc<[AtomicU64; SEATS]> = Arc::default();
    let tokens: Arc<Mutex<[i64; SEATS]>> = Arc::default();
    let tasks: Vec<_> = (1..=16u64)
        .map(|me| {
            let process = stage.process(me as usize);
            let (holders, tokens) = (Arc::clone(&holders), Arc::clone(&tokens));
            tokio::spawn(async move {
                let mut turns = 0;
                for round in 0.. {
                    if turns == 5 {
                        break;
                    }
                    let spread = (me * 31 + round * 17) as usize;
                    let ids: Vec<u128> =
                        (0..3).map(|step| ((spread + step * (1 + spread % 3)) % SEATS) as u128).collect();
                    let holder = u128::from(me * 1_000_000 + round);
                    let Acquired::Claim(claim) = acquire(&*process, &ids, holder, LONG).await else { continue };
                    turns += 1;
                    for id in &claim.resources {
                        let seat = id.as_u128() as usize;
                        assert_eq!(holders[seat].swap(me, Ordering::SeqCst), 0, "seat {seat} has two holders");
                        let before = std::mem::replace(&mut tokens.lock().unwrap()[seat], claim.token);
                        assert!(claim.token > before, "token {} after {before}", claim.token);
                    }
                    tokio::task::yield_now().await;
                    for id in &claim.resources {
                        assert_eq!(holders[id.as_u128() as usize].swap(0, Ordering::SeqCst), me);
                    }
                    assert!(process.release(claim).await.unwrap());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
