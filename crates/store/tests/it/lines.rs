//! One contract for all stores of lines.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sqlx::types::Uuid;
use tessera_kernel::{Clock, SystemClock};
use tessera_store::lines::{
    self, Admission, Admitted, ApplyLines, Joined, Lines, MAX_KEYS, Opening, Phase, Place, RedisLines, Seed, SqlLines,
    Stand,
};
use tessera_store::redis::Redis;
use tessera_store::sql::{Db, Migration};
use tessera_store::writer::{Limits, Metrics, Writer};
use tessera_testkit::{ScratchDir, redis};

use crate::stages::{self, Address, Ground};

const STEPS: &[Migration] = &[lines::migration(1)];
const STAY: Duration = Duration::from_secs(600);
/// Long enough to ask a question within it, short enough to wait for.
const SHORT: Duration = Duration::from_millis(1_500);
const LINE: Uuid = Uuid::from_u128(0x11);

type Stage = stages::Stage<dyn Lines>;

async fn open(address: Address, clock: Arc<dyn Clock>) -> Arc<dyn Lines> {
    match address {
        Address::Sql(url) => {
            let db = Db::open(&url, "hall", STEPS).await.unwrap();
            let writer = Writer::start(&db, ApplyLines, Arc::clone(&clock), Limits::default(), Metrics::default());
            Arc::new(SqlLines::new(db, writer, clock))
        }
        Address::Redis(url, space) => Arc::new(RedisLines::new(Redis::open(&url).await.unwrap(), space)),
    }
}

async fn contract(ground: &Ground) {
    first_in_first_out(&ground.stage(open).await).await;
    one_place_for_one_person(&ground.stage(open).await).await;
    the_lottery_can_be_checked(&ground.stage(open).await).await;
    doors_can_be_moved_until_they_open(&ground.stage(open).await).await;
    inside_is_bounded_and_frees_itself(&ground.stage(open).await).await;
    those_who_left_are_passed_over(&ground.stage(open).await).await;
    many_join_at_once(&ground.stage(open).await).await;
    what_is_not_there_is_said_so(&ground.stage(open).await).await;
    two_admitters_let_nobody_in_twice(&ground.stage(open).await).await;
    a_removed_line_leaves_nothing(&ground.stage(open).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    contract(&Ground::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    contract(&Ground::postgres()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_keeps_the_contract() {
    contract(&Ground::redis()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_keeps_the_contract() {
    contract(&Ground::cluster()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_outlives_the_process_and_a_killed_redis() {
    let mut server = redis::start();
    let scratch = ScratchDir::new();
    let sqlite = Address::Sql(format!("sqlite:{}", scratch.file("lines.db").display()));
    for address in [sqlite, Address::Redis(server.url(), "hall")] {
        let lines = open(address.clone(), Arc::new(SystemClock)).await;
        lines.create(LINE, Opening::Now).await.unwrap();
        for n in 1..=3 {
            new(lines.join(LINE, id(n), vec![id(100 + n)]).await.unwrap());
        }
        admit(&*lines, 1, None, STAY).await;
        drop(lines);
        server.kill_and_restart();
        let lines = open(address, Arc::new(SystemClock)).await;
        assert_eq!(already(lines.join(LINE, id(9), vec![id(102)]).await.unwrap()).member, id(2));
        assert_eq!(new(lines.join(LINE, id(4), Vec::new()).await.unwrap()).entry, 4);
        assert_eq!(members(&admit(&*lines, 9, None, STAY).await), [2, 3, 4]);
        assert_eq!(lines.line(LINE).await.unwrap().unwrap().inside, 4);
    }
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn new(joined: Joined) -> Place {
    match joined {
        Joined::New(place) => place,
        other => panic!("{other:?}"),
    }
}

fn already(joined: Joined) -> Place {
    match joined {
        Joined::Already(place) => place,
        other => panic!("{other:?}"),
    }
}

async fn join(lines: &dyn Lines, member: u128) -> Place {
    new(lines.join(LINE, id(member), Vec::new()).await.unwrap())
}

async fn admit(lines: &dyn Lines, most: usize, inside: Option<usize>, stay: Duration) -> Admitted {
    lines.admit(LINE, Admission { most, inside, stay }).await.unwrap()
}

fn members(admitted: &Admitted) -> Vec<u128> {
    admitted.members.iter().map(|place| place.member.as_u128()).collect()
}

fn ids(places: &[Place]) -> Vec<u128> {
    places.iter().map(|place| place.member.as_u128()).collect()
}

async fn first_in_first_out(stage: &Stage) {
    let line = stage.one().create(LINE, Opening::Now).await.unwrap();
    assert_eq!((line.phase, line.commitment), (Phase::Open { drawn: 0, seed: None }, None));
    for n in 1..=5 {
        let place = join(&*stage.process(n as usize), n).await;
        assert_eq!((place.entry, place.stand), (n as i64, Stand::Waiting { number: n as i64 }));
    }
    assert_eq!(ids(&stage.two().front(LINE, 3).await.unwrap()), [1, 2, 3]);
    let admitted = admit(stage.two(), 2, None, STAY).await;
    assert_eq!((members(&admitted), admitted.serving), (vec![1, 2], 2));
    let place = stage.one().place(LINE, id(2)).await.unwrap().unwrap();
    assert_eq!(place, admitted.members[1]);
    assert!(matches!(place.stand, Stand::Inside { number: 2, .. }));
    assert_eq!(stage.one().place(LINE, id(3)).await.unwrap().unwrap().stand, Stand::Waiting { number: 3 });
    let line = stage.two().line(LINE).await.unwrap().unwrap();
    assert_eq!((line.joined, line.serving, line.waiting, line.inside), (5, 2, 3, 2));
    let again = stage.two().create(LINE, Opening::Now).await.unwrap();
    assert_eq!(again, line, "making it again changes nothing");
    let rest = admit(stage.one(), 100, None, STAY).await;
    assert_eq!((members(&rest), rest.serving), (vec![3, 4, 5], 5));
    assert_eq!(admit(stage.one(), 100, None, STAY).await, Admitted { members: Vec::new(), serving: 5 });
    assert_eq!(join(stage.two(), 6).await.stand, Stand::Waiting { number: 6 });
}

async fn one_place_for_one_person(stage: &Stage) {
    stage.one().create(LINE, Opening::Now).await.unwrap();
    let (device, account) = (lines::key("device", b"d"), lines::key("account", b"a"));
    let first = new(stage.one().join(LINE, id(1), vec![device, account, device]).await.unwrap());
    for (member, keys) in [(1, vec![]), (1, vec![account]), (2, vec![device]), (3, vec![id(77), account])] {
        assert_eq!(already(stage.two().join(LINE, id(member), keys).await.unwrap()), first);
    }
    assert_eq!(stage.one().place(LINE, id(2)).await.unwrap(), None);
    assert_eq!(
        new(stage.one().join(LINE, id(2), vec![id(77)]).await.unwrap()).entry,
        2,
        "keys of a refused join are free"
    );
    assert!(!stage.one().leave(LINE, device).await.unwrap(), "a key is not a member");
    assert!(stage.one().leave(LINE, id(1)).await.unwrap());
    assert!(!stage.two().leave(LINE, id(1)).await.unwrap());
    let again = new(stage.two().join(LINE, id(3), vec![account]).await.unwrap());
    assert_eq!(again.entry, 3, "its keys left with it");
    let other = Uuid::from_u128(0x22);
    stage.one().create(other, Opening::Now).await.unwrap();
    assert_eq!(new(stage.one().join(other, id(3), vec![account]).await.unwrap()).entry, 1, "lines are apart");
    let many = (0..=MAX_KEYS as u128).map(|n| id(500 + n)).collect();
    assert_eq!(stage.one().join(LINE, id(9), many).await.unwrap_err().code(), "store.oversized");
}

async fn the_lottery_can_be_checked(stage: &Stage) {
    const EARLY: i64 = 12;
    let seed = Seed::from_bytes([42; 32]);
    let opens_at = stage.now().plus(SHORT);
    let opening = Opening::Lottery { opens_at, seed: seed.clone() };
    let line = stage.one().create(LINE, opening).await.unwrap();
    assert_eq!((line.phase, line.opens_at), (Phase::Gathering, opens_at));
    assert_eq!(line.commitment, Some(seed.commitment()), "it is published before");
    for n in 1..=EARLY {
        let place = join(&*stage.process(n as usize), n as u128).await;
        assert_eq!((place.entry, place.stand), (n, Stand::Gathering));
    }
    assert_eq!(admit(stage.one(), 5, None, STAY).await, Admitted { members: Vec::new(), serving: 0 });
    assert!(stage.two().front(LINE, 5).await.unwrap().is_empty());
    stage.passes(SHORT + Duration::from_millis(50)).await;
    let place = stage.two().place(LINE, id(3)).await.unwrap().unwrap();
    assert_eq!(place.stand, Stand::Waiting { number: seed.number(EARLY, 3) }, "nobody has to open the doors");
    assert_eq!(join(stage.one(), 99).await.stand, Stand::Waiting { number: EARLY + 1 }, "who comes later comes after");
    let line = stage.two().line(LINE).await.unwrap().unwrap();
    assert_eq!(line.phase, Phase::Open { drawn: EARLY, seed: Some(seed.clone()) }, "the seed is published after");
    let mut expected: Vec<u128> = (1..=EARLY).map(|number| seed.entry(EARLY, number) as u128).collect();
    expected.push(99);
    assert_eq!(ids(&stage.one().front(LINE, 100).await.unwrap()), expected);
    assert!(stage.one().leave(LINE, id(expected[1])).await.unwrap());
    let first = admit(stage.one(), 3, None, STAY).await;
    assert_eq!((members(&first), first.serving), (vec![expected[0], expected[2], expected[3]], 4));
    let rest = admit(stage.two(), 100, None, STAY).await;
    assert_eq!((members(&rest), rest.serving), (expected[4..].to_vec(), EARLY + 1));
    assert!(rest.members.is_sorted_by_key(|place| place.stand.number()));
}

async fn doors_can_be_moved_until_they_open(stage: &Stage) {
    let (first, second) = (Seed::from_bytes([1; 32]), Seed::from_bytes([2; 32]));
    let later = stage.now().plus(STAY);
    stage.one().create(LINE, Opening::Lottery { opens_at: later, seed: first.clone() }).await.unwrap();
    join(stage.one(), 1).await;
    let sooner = stage.now();
    let line = stage.two().create(LINE, Opening::Lottery { opens_at: sooner, seed: second }).await.unwrap();
    assert_eq!(line.commitment, Some(first.commitment()), "the commitment holds");
    assert_eq!((line.opens_at, line.phase), (sooner, Phase::Open { drawn: 1, seed: Some(first.clone()) }));
    let line = stage.one().create(LINE, Opening::Lottery { opens_at: later, seed: first }).await.unwrap();
    assert_eq!(line.opens_at, sooner, "open doors stay open");
}

async fn inside_is_bounded_and_frees_itself(stage: &Stage) {
    stage.one().create(LINE, Opening::Now).await.unwrap();
    for n in 1..=9 {
        new(stage.one().join(LINE, id(n), vec![id(100 + n)]).await.unwrap());
    }
    assert_eq!(members(&admit(stage.one(), 5, Some(3), SHORT).await), [1, 2, 3]);
    let full = admit(stage.two(), 5, Some(3), STAY).await;
    assert_eq!((members(&full), full.serving), (vec![], 3));
    assert!(stage.one().leave(LINE, id(2)).await.unwrap(), "it is done");
    assert_eq!(members(&admit(stage.two(), 5, Some(3), STAY).await), [4]);
    stage.passes(SHORT + Duration::from_millis(50)).await;
    assert_eq!(stage.one().line(LINE).await.unwrap().unwrap().inside, 1, "free at once");
    assert_eq!(stage.one().place(LINE, id(1)).await.unwrap(), None);
    assert!(!stage.one().leave(LINE, id(1)).await.unwrap());
    let back = new(stage.one().join(LINE, id(21), vec![id(103)]).await.unwrap());
    assert_eq!(back.stand, Stand::Waiting { number: 10 }, "who was late comes again at the end");
    assert_eq!(members(&admit(stage.two(), 5, Some(3), STAY).await), [5, 6]);
    let line = stage.one().line(LINE).await.unwrap().unwrap();
    assert_eq!((line.inside, line.waiting, line.serving), (3, 4, 6));
    assert_eq!(already(stage.one().join(LINE, id(22), vec![id(103)]).await.unwrap()), back, "its key went over");
    assert_eq!(members(&admit(stage.two(), 5, None, STAY).await), [7, 8, 9, 21]);
}

async fn those_who_left_are_passed_over(stage: &Stage) {
    stage.one().create(LINE, Opening::Now).await.unwrap();
    for n in 1..=300 {
        join(stage.one(), n).await;
    }
    let leaving = (1..=290).filter(|n| n % 50 != 0).map(|n| {
        let process = stage.process(n as usize);
        tokio::spawn(async move { process.leave(LINE, id(n)).await })
    });
    for left in leaving.collect::<Vec<_>>() {
        assert!(left.await.unwrap().unwrap());
    }
    assert_eq!(ids(&stage.two().front(LINE, 3).await.unwrap()), [50, 100, 150]);
    let admitted = admit(stage.one(), 4, None, STAY).await;
    assert_eq!((members(&admitted), admitted.serving), (vec![50, 100, 150, 200], 200));
    let line = stage.one().line(LINE).await.unwrap().unwrap();
    assert_eq!((line.waiting, line.inside, line.joined), (11, 4, 300));
}

async fn many_join_at_once(stage: &Stage) {
    const MANY: u128 = 400;
    stage.one().create(LINE, Opening::Now).await.unwrap();
    // Each comes twice, at both processes, by another name but with the same device.
    let joining: Vec<_> = (0..2 * MANY)
        .map(|n| {
            let process = stage.process((n / MANY) as usize);
            tokio::spawn(async move { process.join(LINE, id(1_000 + n), vec![id(10 + n % MANY)]).await.unwrap() })
        })
        .collect();
    let mut entries: HashMap<u128, BTreeSet<i64>> = HashMap::new();
    let mut count = 0;
    for (n, joined) in (0..).zip(joining) {
        let place = match joined.await.unwrap() {
            Joined::New(place) => {
                count += 1;
                place
            }
            other => already(other),
        };
        entries.entry(n % MANY).or_default().insert(place.entry);
    }
    assert_eq!(count, MANY);
    assert!(entries.values().all(|entries| entries.len() == 1));
    let all: BTreeSet<i64> = entries.into_values().flatten().collect();
    assert_eq!(all, (1..=MANY as i64).collect(), "without gaps");
}

async fn what_is_not_there_is_said_so(stage: &Stage) {
    assert_eq!(stage.one().join(LINE, id(1), Vec::new()).await.unwrap(), Joined::NoLine);
    assert_eq!(stage.one().line(LINE).await.unwrap(), None);
    assert_eq!(stage.one().place(LINE, id(1)).await.unwrap(), None);
    assert!(!stage.one().leave(LINE, id(1)).await.unwrap());
    assert!(stage.one().front(LINE, 5).await.unwrap().is_empty());
    assert_eq!(admit(stage.one(), 5, None, STAY).await, Admitted::default());
}

async fn two_admitters_let_nobody_in_twice(stage: &Stage) {
    const MANY: u128 = 120;
    stage.one().create(LINE, Opening::Now).await.unwrap();
    for n in 1..=MANY {
        join(stage.one(), n).await;
    }
    let admitting: Vec<_> = (0..12)
        .map(|n| {
            let process = stage.process(n);
            tokio::spawn(async move { admit(&*process, 15, Some(100), STAY).await })
        })
        .collect();
    let mut seen = Vec::new();
    for admitted in admitting {
        seen.extend(members(&admitted.await.unwrap()));
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=100).collect::<Vec<u128>>(), "each once, and not more than fit");
    let line = stage.two().line(LINE).await.unwrap().unwrap();
    assert_eq!((line.inside, line.waiting, line.serving), (100, 20, 100));
}

async fn a_removed_line_leaves_nothing(stage: &Stage) {
    stage.one().remove(LINE).await.unwrap();
    stage.one().create(LINE, Opening::Now).await.unwrap();
    for n in 1..=3 {
        new(stage.one().join(LINE, id(n), vec![id(50 + n)]).await.unwrap());
    }
    admit(stage.two(), 2, None, STAY).await;
    stage.two().remove(LINE).await.unwrap();
    assert_eq!(stage.one().join(LINE, id(1), Vec::new()).await.unwrap(), Joined::NoLine);
    assert_eq!(stage.one().place(LINE, id(3)).await.unwrap(), None);
    stage.one().create(LINE, Opening::Now).await.unwrap();
    assert_eq!(new(stage.two().join(LINE, id(9), vec![id(51)]).await.unwrap()).entry, 1);
    let line = stage.two().line(LINE).await.unwrap().unwrap();
    assert_eq!((line.joined, line.waiting, line.inside), (1, 1, 0));
}
