//! The grounds on which a contract is kept: each kind of store, opened twice as two processes open it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tessera_kernel::{Clock, ManualClock, SystemClock, Timestamp};
use tessera_testkit::{ScratchDir, postgres, redis};

/// Two processes that share a store, and its clock.
pub struct Stage<T: ?Sized> {
    processes: [Arc<T>; 2],
    /// Where the store goes by it; a server's own clock cannot be moved, so it is waited for.
    clock: Option<Arc<ManualClock>>,
}

impl<T: ?Sized> Stage<T> {
    pub fn new(processes: [Arc<T>; 2], clock: Option<Arc<ManualClock>>) -> Self {
        Self { processes, clock }
    }

    pub fn one(&self) -> &T {
        &self.processes[0]
    }

    pub fn two(&self) -> &T {
        &self.processes[1]
    }

    pub fn process(&self, n: usize) -> Arc<T> {
        Arc::clone(&self.processes[n % 2])
    }

    pub async fn passes(&self, span: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(span),
            None => tokio::time::sleep(span).await,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.as_ref().map_or_else(|| SystemClock.now(), |clock| clock.now())
    }
}

/// An empty place in a store.
#[derive(Clone)]
pub enum Address {
    Sql(String),
    /// A namespace, as nothing else parts two stages of one server.
    Redis(String, &'static str),
}

enum Server {
    Sqlite(ScratchDir),
    Postgres(postgres::Postgres),
    Redis(redis::Redis),
    Cluster(redis::Cluster),
}

/// A kind of store. Its server ends with it.
pub struct Ground {
    server: Server,
    stages: AtomicUsize,
}

impl Ground {
    fn new(server: Server) -> Self {
        Self { server, stages: AtomicUsize::new(0) }
    }

    pub fn sqlite() -> Self {
        Self::new(Server::Sqlite(ScratchDir::new()))
    }

    pub fn postgres() -> Self {
        Self::new(Server::Postgres(postgres::start()))
    }

    pub fn redis() -> Self {
        Self::new(Server::Redis(redis::start()))
    }

    pub fn cluster() -> Self {
        Self::new(Server::Cluster(redis::start_cluster()))
    }

    /// The server of [`Ground::redis`].
    pub fn redis_server(&mut self) -> &mut redis::Redis {
        let Server::Redis(server) = &mut self.server else { panic!("not a single Redis") };
        server
    }

    /// A new stage. On PostgreSQL the clock of one process is off by decades, which changes nothing: the server's decides.
    pub async fn stage<T: ?Sized>(&self, open: impl AsyncFn(Address, Arc<dyn Clock>) -> Arc<T>) -> Stage<T> {
        const SPACES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let n = self.stages.fetch_add(1, Ordering::Relaxed);
        let manual = Arc::new(ManualClock::at(Timestamp::from_micros(1_800_000_000_000_000)));
        let off: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_micros(0)));
        let system: Arc<dyn Clock> = Arc::new(SystemClock);
        let (address, clocks) = match &self.server {
            Server::Sqlite(folder) => {
                let url = format!("sqlite:{}", folder.file(&format!("{n}.db")).display());
                (Address::Sql(url), [manual.clone() as Arc<dyn Clock>, manual.clone()])
            }
            Server::Postgres(server) => (Address::Sql(server.new_database()), [system, off]),
            Server::Redis(server) => (Address::Redis(server.url(), SPACES[n]), [system.clone(), system]),
            Server::Cluster(cluster) => (Address::Redis(cluster.url(), SPACES[n]), [system.clone(), system]),
        };
        let [first, second] = clocks;
        let processes = [open(address.clone(), first).await, open(address, second).await];
        Stage::new(processes, matches!(self.server, Server::Sqlite(_)).then_some(manual))
    }
}
