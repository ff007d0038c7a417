//! An event's page, and the event that it and its watchers are served from.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tessera_kernel::{ManualClock, SystemClock};
use tessera_store::sql::Db;
use tessera_testkit::sql::Databases;
use tessera_tickets::app::reserve::Wish;
use tessera_tickets::domain::ids::{SeatNumber, TicketId};

use crate::chapel::{Api, Counted};

#[tokio::test]
async fn the_page_is_rendered_once_a_second() {
    let databases = Databases::sqlite();
    let clock = Arc::new(ManualClock::at("2030-01-01T10:00:00Z".parse().unwrap()));
    let api = Api::open(&databases.fresh(), clock.clone(), Arc::new(Counted::default())).await;
    let (id, _) = api.on_sale().await;
    let path = format!("/event/{id}");
    let free = async || api.get(&path, "").await.json()["seats"]["free"].clone();
    assert_eq!(free().await, 14);
    api.hold("ana", Wish { tickets: vec![TicketId::new(id, SeatNumber(2))], ..Wish::default() }).await;
    assert_eq!(free().await, 14);
    clock.advance(Duration::from_secs(1));
    assert_eq!(free().await, 13);
    let held = api.get(&path, "").await.header("etag").to_owned();
    // A hold that lapses changes the page and its ETag, though nothing is written.
    clock.advance(Duration::from_secs(600));
    assert_eq!(free().await, 14);
    assert_ne!(api.get(&path, "").await.header("etag"), held);
    clock.set("2030-01-01T09:00:00Z".parse().unwrap());
    assert_eq!(free().await, 13, "a clock that was set back does not keep the page");
}

/// Otherwise nobody would tell its watchers what changes.
#[tokio::test]
async fn who_waits_while_another_fails_gets_the_event_that_is_kept() {
    let databases = Databases::sqlite();
    let url = databases.fresh();
    let process = async || Api::open(&url, Arc::new(SystemClock), Arc::new(tessera_kernel::RandomIds)).await;
    let (api, other) = (process().await, process().await);
    let (id, _) = api.on_sale().await;
    let db = Db::open(&url, "tickets", &tessera_tickets::store::migrations()).await.unwrap();
    let delete = async |at: Option<i64>| {
        tessera_store::each_engine!(&db, |pool| {
            let set = sqlx::query("UPDATE events SET deleted_at = $1").bind(at);
            set.execute(pool).await.map(drop).unwrap();
        });
    };
    delete(Some(1)).await;
    let (mut one, mut two) = (pin!(other.app.live.event(id)), pin!(other.app.live.event(id)));
    let failed = match futures::poll!(&mut one) {
        Poll::Pending => {
            assert!(futures::poll!(&mut two).is_pending(), "it waits for the first");
            one.await
        }
        Poll::Ready(failed) => failed,
    };
    assert!(failed.is_err());
    delete(None).await;
    let live = two.await.unwrap();
    assert!(Arc::ptr_eq(&live, &other.app.live.event(id).await.unwrap()));
    db.close().await;
}
