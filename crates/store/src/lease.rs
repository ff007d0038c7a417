//! A lease on a folder: one holder at a time, renewed while it lives, taken over when it stops renewing.
//!
//! Only conditional creation is asked of the store, and no clocks are compared between machines: a contender takes
//! over when it has itself watched the lease stand still for its whole time to live, or at once when the holder was a
//! process of this machine that is gone. What a lease protects must still be fenced by its own conditional write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::journal::Journal;
use crate::objects::{Objects, ObjectsError};

/// Why a lease was not given.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody holds it and renews it.
    #[error("held by {holder}")]
    Held {
        /// Who, in the holder's own words.
        holder: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] ObjectsError),
}

/// A lease that is held; it is renewed in the background until released or dropped.
#[derive(Debug)]
pub struct Lease {
    journal: Journal,
    number: Arc<std::sync::atomic::AtomicU64>,
    lost: Arc<AtomicBool>,
    renewal: JoinHandle<()>,
    entry: Entry,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    version: u32,
    holder: String,
    machine: String,
    process: String,
    ttl_ms: u64,
    released: bool,
}

impl Lease {
    /// Takes the lease on `folder`. Waits up to the present holder's time to live to see whether it still renews.
    ///
    /// # Errors
    /// [`LeaseError::Held`] by a living holder; [`LeaseError::Store`] when the store fails.
    pub async fn acquire(objects: Objects, folder: &str, holder: String, ttl: Duration) -> Result<Self, LeaseError> {
        let journal = Journal::new(objects, folder);
        let (machine, process) = this_process();
        let entry = Entry { version: 1, holder, machine, process, ttl_ms: ttl.as_millis() as u64, released: false };
        loop {
            let numbers = journal.numbers(None).await?;
            let latest = numbers.last().copied();
            if let Some(latest) = latest {
                let present = journal.read(latest).await?.and_then(|bytes| Entry::read(&bytes));
                if let Some(present) = present.filter(|present| !present.released && !present.is_dead(&entry)) {
                    wait_for_silence(&journal, latest, &present).await?;
                }
            }
            let next = latest.map_or(1, |latest| latest + 1);
            if !journal.append(next, entry.write()).await? {
                continue;
            }
            if journal.numbers(None).await?.last() != Some(&next) {
                continue;
            }
            for old in numbers {
                journal.delete(old).await?;
            }
            return Ok(Self::renewing(journal, next, entry, ttl));
        }
    }

    fn renewing(journal: Journal, number: u64, entry: Entry, ttl: Duration) -> Self {
        let lost = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(std::sync::atomic::AtomicU64::new(number));
        let renewal = tokio::spawn({
            let (journal, entry, lost, shared) =
                (journal.clone(), entry.clone(), Arc::clone(&lost), Arc::clone(&shared));
            async move {
                let mut renewed = Instant::now();
                loop {
                    sleep(ttl / 3).await;
                    let number = shared.load(Ordering::SeqCst);
                    match journal.append(number + 1, entry.write()).await {
                        Ok(true) => {
                            // A holder that slept through its time to live may find its number free again.
                            let ours = journal.numbers(None).await.is_ok_and(|all| all.last() == Some(&(number + 1)));
                            if !ours {
                                break;
                            }
                            renewed = Instant::now();
                            shared.store(number + 1, Ordering::SeqCst);
                            // The entry before is of no more use; one that stays is deleted by the next holder.
                            let _ = journal.delete(number).await;
                        }
                        Ok(false) => break,
                        Err(_) if renewed.elapsed() < ttl => {}
                        Err(_) => break,
                    }
                }
                lost.store(true, Ordering::SeqCst);
            }
        });
        Self { journal, number: shared, lost, renewal, entry }
    }

    /// Whether somebody else may hold it by now. Its holder should stop.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// Gives the lease back.
    ///
    /// # Errors
    /// The store fails; the lease then ends by itself after its time to live.
    pub async fn release(self) -> Result<(), ObjectsError> {
        self.renewal.abort();
        if self.is_lost() {
            return Ok(());
        }
        let number = self.number.load(Ordering::SeqCst);
        let released = Entry { released: true, ..self.entry.clone() };
        if self.journal.append(number + 1, released.write()).await? {
            self.journal.delete(number).await?;
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Returns when the lease stood still for its time to live.
async fn wait_for_silence(journal: &Journal, latest: u64, present: &Entry) -> Result<(), LeaseError> {
    let deadline = Instant::now() + Duration::from_millis(present.ttl_ms.clamp(1, 600_000));
    while Instant::now() < deadline {
        sleep(Duration::from_millis((present.ttl_ms / 10).clamp(10, 1_000))).await;
        if journal.numbers(None).await?.last() != Some(&latest) {
            return Err(LeaseError::Held { holder: present.holder.clone() });
        }
    }
    Ok(())
}

impl Entry {
    fn write(&self) -> Bytes {
        serde_json::to_vec_pretty(self).unwrap_or_default().into()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Whether the holder was a process of our own machine that is gone.
    fn is_dead(&self, ours: &Self) -> bool {
        let (pid, started) = self.process.split_once('@').unwrap_or((&self.process, ""));
        !self.machine.is_empty() && self.machine == ours.machine && process_start(pid).as_deref() != Some(started)
    }
}

/// This machine and process, as named in an entry. The machine is its boot and its process namespace, so that two
/// containers on one host are two machines.
fn this_process() -> (String, String) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").map(|path| path.display().to_string()).unwrap_or_default();
    let machine =
        if boot.is_empty() || namespace.is_empty() { String::new() } else { format!("{} {namespace}", boot.trim()) };
    let pid = std::process::id().to_string();
    let started = process_start(&pid).unwrap_or_default();
    (machine, format!("{pid}@{started}"))
}

/// When a process of this machine started, in ticks since boot.
fn process_start(pid: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::S3Access;

    fn scratch() -> (tempfile::TempDir, Objects) {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(folder.path().to_str().unwrap(), &S3Access::default()).unwrap();
        (folder, objects)
    }

    const TTL: Duration = Duration::from_millis(600);

    #[tokio::test]
    async fn one_holder_at_a_time() {
        let (_folder, objects) = scratch();
        let first = Lease::acquire(objects.clone(), "lock", "first".into(), TTL).await.unwrap();
        let error = Lease::acquire(objects.clone(), "lock", "second".into(), TTL).await.unwrap_err();
        assert!(error.to_string().contains("first"), "{error}");
        assert!(!first.is_lost());
        first.release().await.unwrap();
        Lease::acquire(objects, "lock", "second".into(), TTL).await.unwrap();
    }

    #[tokio::test]
    async fn a_silent_holder_is_followed_and_learns_it() {
        let (_folder, objects) = scratch();
        let entry = Entry {
            version: 1,
            holder: "elsewhere".into(),
            machine: "another".into(),
            process: "1@1".into(),
            ttl_ms: 200,
            released: false,
        };
        let journal = Journal::new(objects.clone(), "lock");
        journal.append(1, entry.write()).await.unwrap();
        let lease = Lease::acquire(objects, "lock", "here".into(), TTL).await.unwrap();
        assert!(!lease.is_lost());
        // The silent one wakes up and renews its number: it is not the last any more.
        assert!(!journal.append(2, entry.write()).await.unwrap());
    }

    #[tokio::test]
    async fn a_dead_process_of_this_machine_is_followed_at_once() {
        let (_folder, objects) = scratch();
        let (machine, _) = this_process();
        let entry = Entry {
            version: 1,
            holder: "dead".into(),
            machine,
            process: "999999@1".into(),
            ttl_ms: 600_000,
            released: false,
        };
        Journal::new(objects.clone(), "lock").append(7, entry.write()).await.unwrap();
        let lease = tokio::time::timeout(Duration::from_secs(20), Lease::acquire(objects, "lock", "next".into(), TTL));
        assert!(lease.await.unwrap().is_ok());
    }

    #[test]
    fn entries_read_back_as_written() {
        let (machine, process) = this_process();
        let entry = Entry { version: 1, holder: "run \"x\"".into(), machine, process, ttl_ms: 5, released: true };
        let read = Entry::read(&entry.write()).unwrap();
        assert_eq!(entry, read);
        assert!(!read.is_dead(&entry));
    }
}
