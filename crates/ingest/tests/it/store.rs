//! One contract for the history of runs, on SQLite and on a real PostgreSQL.

use std::time::Duration;

use tessera_ingest::store::{Accepted, Counts, Filter, Kind, NewRun, Run, RunError, Status, Store, Trigger};
use tessera_kernel::Timestamp;
use tessera_testkit::sql::Databases;

fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000).plus(Duration::from_secs(second))
}

fn asked(id: &str, pipeline: &str, key: Option<&str>, second: u64) -> NewRun {
    NewRun {
        id: id.into(),
        pipeline: pipeline.into(),
        kind: Kind::Incremental,
        trigger: Trigger::Api,
        idempotency_key: key.map(Into::into),
        request_hash: format!("of {pipeline}"),
        at: at(second),
    }
}

async fn accept(store: &Store, new: &NewRun) -> Run {
    match store.accept(new).await.unwrap() {
        Accepted::New(run) => run,
        other => panic!("{other:?}"),
    }
}

fn ended(run: Run, status: Status, second: u64) -> Run {
    let finished_at = Some(at(second));
    let error = (status == Status::Failed).then(|| RunError { code: "a.b".into(), detail: "why".into() });
    Run { status, finished_at, updated_at: at(second), error, ..run }
}

/// The contract, as a list of cases that each get an empty store.
async fn contract(databases: &Databases) {
    let store = async || Store::open(&databases.fresh()).await.unwrap();
    a_key_stands_for_one_run(&store().await).await;
    a_pipeline_has_one_run_at_a_time(&store().await).await;
    of_many_at_once_one_is_accepted(&store().await).await;
    a_run_comes_back_as_it_went(&store().await).await;
    what_is_over_stays(&store().await).await;
    lists_are_in_order(&store().await).await;
    the_silent_are_swept(&store().await).await;
    an_import_is_taken_once(&store().await).await;
    ticks_only_go_on(&store().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    contract(&Databases::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    contract(&Databases::postgres()).await;
}

async fn a_key_stands_for_one_run(store: &Store) {
    let first = accept(store, &asked("run_1", "shop", Some("k"), 0)).await;
    let again = store.accept(&asked("run_2", "shop", Some("k"), 1)).await.unwrap();
    assert_eq!(again, Accepted::Again(first.clone()));
    let other = store.accept(&asked("run_3", "cafe", Some("k"), 1)).await.unwrap();
    assert_eq!(other, Accepted::OtherRequest("run_1".into()));
    store.finish(&ended(first, Status::Succeeded, 2)).await.unwrap();
    let again = store.accept(&asked("run_4", "shop", Some("k"), 3)).await.unwrap();
    assert!(matches!(again, Accepted::Again(run) if run.status == Status::Succeeded), "also when it is over");
}

async fn a_pipeline_has_one_run_at_a_time(store: &Store) {
    let first = accept(store, &asked("run_1", "shop", None, 0)).await;
    let busy = store.accept(&asked("run_2", "shop", None, 1)).await.unwrap();
    assert_eq!(busy, Accepted::Busy("run_1".into()));
    accept(store, &asked("run_3", "cafe", None, 1)).await;
    store.begin("run_1", at(2)).await.unwrap();
    assert_eq!(store.active("shop").await.unwrap().unwrap().status, Status::Running);
    store.finish(&ended(first, Status::Stopped, 3)).await.unwrap();
    assert_eq!(store.active("shop").await.unwrap(), None);
    accept(store, &asked("run_4", "shop", None, 4)).await;
}

async fn of_many_at_once_one_is_accepted(store: &Store) {
    let asking: Vec<_> = (0..20)
        .map(|n| {
            let store = store.clone();
            let key = format!("k{}", n % 5);
            tokio::spawn(async move { store.accept(&asked(&format!("run_{n}"), "shop", Some(&key), n)).await })
        })
        .collect();
    let mut new = 0;
    for asked in asking {
        new += usize::from(matches!(asked.await.unwrap().unwrap(), Accepted::New(_)));
    }
    assert_eq!(new, 1);
}

async fn a_run_comes_back_as_it_went(store: &Store) {
    let run = accept(store, &asked("run_1", "shop", None, 0)).await;
    assert_eq!((run.status, run.started_at, run.finished_at), (Status::Queued, at(0), None));
    assert!(store.begin("run_1", at(5)).await.unwrap());
    let resources = vec![
        Counts { name: "orders".into(), status: "running".into(), rows: u64::MAX >> 1, ..Counts::default() },
        Counts { name: "items".into(), expected_rows: Some(7), throttled: 1, ..Counts::default() },
    ];
    store.note("run_1", &resources, at(6)).await.unwrap();
    let noted = store.run("run_1").await.unwrap();
    assert_eq!((&noted.resources, noted.started_at, noted.updated_at), (&resources, at(5), at(6)));
    let over = Run { lake_run: Some("run_0".into()), ..ended(noted, Status::Failed, 9) };
    store.finish(&over).await.unwrap();
    assert_eq!(store.run("run_1").await.unwrap(), over);
    assert_eq!(store.run("run_0").await.unwrap().id, "run_1", "found by its id in the lake too");
    assert_eq!(store.last_run("shop").await.unwrap(), Some(over));
    assert_eq!(store.last_success("shop").await.unwrap(), None);
    assert_eq!(store.run("run_9").await.unwrap_err().code(), "ingest.not_found");
}

async fn what_is_over_stays(store: &Store) {
    let run = accept(store, &asked("run_1", "shop", None, 0)).await;
    let over = ended(run, Status::Succeeded, 3);
    store.finish(&over).await.unwrap();
    assert!(!store.begin("run_1", at(4)).await.unwrap(), "what is over does not begin");
    store.note("run_1", &[Counts::default()], at(4)).await.unwrap();
    store.finish(&ended(over.clone(), Status::Failed, 5)).await.unwrap();
    assert_eq!(store.sweep(at(100), at(100)).await.unwrap(), 0);
    assert_eq!(store.run("run_1").await.unwrap(), over);
    assert_eq!(store.last_success("shop").await.unwrap(), Some(at(3)));
}

async fn lists_are_in_order(store: &Store) {
    for n in 0..6 {
        // Two each have the same age.
        let run = accept(store, &asked(&format!("run_{n}"), "shop", None, n / 2)).await;
        let status = if n == 3 { Status::Failed } else { Status::Succeeded };
        store.finish(&ended(run, status, 20 - n)).await.unwrap();
    }
    accept(store, &asked("run_x", "cafe", None, 30)).await;
    let all = async |filter: &Filter| {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(filter, after, 2).await.unwrap();
            let Some(last) = page.last() else { return seen.join(" ") };
            let place = if filter.updated_since.is_some() { last.updated_at } else { last.created_at };
            after = Some((place.micros(), last.id.clone()));
            seen.extend(page.into_iter().map(|run| run.id));
        }
    };
    let shop = || Filter { pipeline: Some("shop".into()), ..Filter::default() };
    assert_eq!(all(&Filter::default()).await, "run_x run_5 run_4 run_3 run_2 run_1 run_0");
    assert_eq!(all(&shop()).await, "run_5 run_4 run_3 run_2 run_1 run_0");
    assert_eq!(all(&Filter { status: Some(Status::Failed), ..shop() }).await, "run_3");
    assert_eq!(all(&Filter { updated_since: Some(at(18)), ..shop() }).await, "run_2 run_1 run_0");
}

async fn the_silent_are_swept(store: &Store) {
    accept(store, &asked("run_1", "shop", None, 0)).await;
    store.begin("run_1", at(0)).await.unwrap();
    accept(store, &asked("run_2", "cafe", None, 0)).await;
    store.note("run_2", &[], at(50)).await.unwrap();
    assert_eq!(store.sweep(at(30), at(90)).await.unwrap(), 1);
    let swept = store.run("run_1").await.unwrap();
    assert_eq!((swept.status, swept.finished_at), (Status::Stopped, Some(at(90))));
    assert_eq!(swept.error.unwrap().code, "ingest.stopped");
    assert_eq!(store.run("run_2").await.unwrap().status, Status::Queued);
}

async fn an_import_is_taken_once(store: &Store) {
    let run = accept(store, &asked("run_1", "shop", None, 0)).await;
    store.finish(&Run { lake_run: Some("run_0".into()), ..ended(run.clone(), Status::Succeeded, 1) }).await.unwrap();
    let foreign = |id: &str| Run { id: id.into(), trigger: Trigger::Cli, ..ended(run.clone(), Status::Succeeded, 9) };
    assert!(!store.import(&foreign("run_1")).await.unwrap(), "it is ours");
    assert!(!store.import(&foreign("run_0")).await.unwrap(), "ours went on with it");
    assert!(store.import(&foreign("run_7")).await.unwrap());
    assert!(!store.import(&foreign("run_7")).await.unwrap());
    assert_eq!(store.run("run_7").await.unwrap(), foreign("run_7"));
    assert_eq!(store.last_success("shop").await.unwrap(), Some(at(9)));
}

async fn ticks_only_go_on(store: &Store) {
    let seen = store.see("shop", at(0)).await.unwrap();
    assert_eq!((seen.first_seen_at, seen.tick_at), (at(0), at(0)));
    store.answer("shop", at(60)).await.unwrap();
    store.answer("shop", at(30)).await.unwrap();
    let seen = store.see("shop", at(99)).await.unwrap();
    assert_eq!((seen.first_seen_at, seen.tick_at), (at(0), at(60)));
}
