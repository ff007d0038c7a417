//! Tests of the disk tier, on real folders.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, StatusCode};

use super::super::key::tag;
use super::*;
use crate::cache::Store;
use crate::domain::freshness::Life;
use crate::metrics::Metrics;
use crate::spec;

fn answer(body: &str, tags: &[&str], since: u64) -> Arc<Stored> {
    let life = Life {
        got_us: 0,
        initial_age_us: 0,
        lifetime_us: 1,
        no_cache: false,
        never_stale: false,
        while_us: 0,
        error_us: 0,
    };
    Arc::new(Stored {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from(body.to_owned()),
        life,
        vary: Vec::new(),
        marks: tags.iter().map(|name| tag(name)).collect(),
        since,
    })
}

fn open(folder: &Path, most_bytes: u64) -> Disk {
    let disk = Disk::new(folder.to_owned(), most_bytes, Arc::default(), Gauge::default()).unwrap();
    disk.jobs();
    disk
}

/// Waits for the thread: looks until something holds.
async fn until(mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.expect("it holds in the end");
}

async fn body(disk: &Disk, key: Key) -> Option<Bytes> {
    Some(disk.find(key, &|_| 0)?.read().await?.body)
}

#[tokio::test]
async fn answers_outlive_the_process_and_what_was_voided_does_not() {
    let folder = tempfile::tempdir().unwrap();
    {
        let disk = open(folder.path(), 1 << 20);
        disk.write(1, answer("one", &["a"], 0));
        disk.write(2, answer("two", &["b"], 0));
        until(|| disk.size().0 == 2).await;
        let number = disk.shelf.voids.void(tag("a"));
        // As if it ended before the file was gone.
        Journal::open(&disk.shelf).add(&disk.shelf, tag("a"), number);
    }
    let disk = open(folder.path(), 1 << 20);
    until(|| disk.size().0 == 1).await;
    assert_eq!(body(&disk, 2).await.as_deref(), Some(&b"two"[..]));
    assert_eq!(body(&disk, 1).await, None);
    assert!(disk.shelf.voids.now() >= 1, "numbers go on where they were");
}

#[tokio::test]
async fn what_is_broken_is_no_answer_and_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path(), 1 << 20);
    disk.write(1, answer("one", &[], 0));
    until(|| disk.size().0 == 1).await;
    let path = disk.shelf.path(1, variant_of(&[]));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(body(&disk, 1).await, None);
    assert!(!path.exists());
    assert_eq!(disk.size(), (0, 0));
}

#[tokio::test]
async fn the_size_is_kept_to_and_what_was_used_stays() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path(), 100 << 10);
    let large = "x".repeat(10 << 10);
    disk.write(0, answer(&large, &[], 0));
    until(|| disk.size().0 == 1).await;
    for key in 1..40 {
        disk.write(key, answer(&large, &[], 0));
        until(|| disk.find(key, &|_| 0).is_some()).await;
        assert!(disk.find(0, &|_| 0).is_some(), "it is used all the time");
        assert!(disk.size().1 <= 120 << 10);
    }
    until(|| disk.size().1 <= 100 << 10).await;
    assert!(disk.find(1, &|_| 0).is_none());
    let files = |folder: PathBuf| fs::read_dir(folder).unwrap().count() as u64;
    let parts = fs::read_dir(folder.path()).unwrap().flatten().filter(|entry| entry.path().is_dir());
    assert_eq!(parts.map(|entry| files(entry.path())).sum::<u64>(), disk.size().0);
}

#[tokio::test]
async fn purged_files_go() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path(), 1 << 20);
    disk.write(1, answer("one", &["a"], 0));
    until(|| disk.size().0 == 1).await;
    let number = disk.shelf.voids.void(tag("a"));
    disk.void(tag("a"), number);
    assert!(disk.find(1, &|_| 0).is_none(), "at once");
    until(|| disk.size().0 == 0).await;
    assert!(!disk.shelf.path(1, variant_of(&[])).exists());
}

#[tokio::test]
async fn what_is_read_does_not_take_the_place_of_what_came_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec::Cache {
        disk: Some(spec::CacheDisk { folder: folder.path().to_owned(), size: tessera_kernel::Bytes(1 << 20) }),
        ..spec::Cache::default()
    };
    let store = Store::new(&spec, folder.path(), &Metrics::new(1)).unwrap();
    store.open_disk();
    let (value, found) = (|_: &HeaderName| 0, |stored: Option<Arc<Stored>>| stored.map(|stored| stored.body.clone()));
    store.keep(1, answer("old", &[], 0));
    until(|| store.sizes().disk_answers == 1).await;
    store.empty_memory();
    let mut reading = Box::pin(store.find_on_disk(1, &value));
    let early = (&mut reading).now_or_never();
    store.keep(1, answer("new", &[], 0));
    if early.is_none() {
        assert_eq!(found(reading.await).as_deref(), Some(&b"new"[..]));
    }
    assert_eq!(found(store.find(1, &value)).as_deref(), Some(&b"new"[..]));
}
