//! The unit that a product hands over: routes, loops and a readiness check under one name.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use tessera_kernel::{Clock, Ids};
use tokio_util::sync::CancellationToken;

use crate::http::Quick;
use crate::run::Inside;
use crate::sockets::Sockets;
use crate::{Keys, Metrics};

/// A part of a role: what it serves, what it runs, whether it is ready.
pub struct Component {
    /// Its name in logs, `/components` and `/readyz`; unique within the process.
    pub name: &'static str,
    /// Where its pages or API begin, such as `/ingest`.
    pub path: &'static str,
    /// Its routes. All components of a process are merged, so a router sets no fallback.
    pub router: axum::Router,
    /// Its loops.
    pub tasks: Vec<Task>,
    /// Whether it can do its work now.
    pub ready: Ready,
    /// Answers at once what its routes would answer too.
    pub quick: Option<Quick>,
    /// Its part of `/openapi.json`: an OpenAPI 3.1 document.
    pub openapi: Option<serde_json::Value>,
}

impl Component {
    /// A component without routes and tasks that is always ready.
    pub fn new(name: &'static str, path: &'static str) -> Self {
        let (router, tasks, ready) = (axum::Router::new(), Vec::new(), Ready::always());
        Self { name, path, router, tasks, ready, quick: None, openapi: None }
    }

    /// Sets what is answered at once.
    #[must_use]
    pub fn quick(mut self, quick: Quick) -> Self {
        self.quick = Some(quick);
        self
    }

    /// Sets the routes.
    #[must_use]
    pub fn router(mut self, router: axum::Router) -> Self {
        self.router = router;
        self
    }

    /// Adds a loop.
    #[must_use]
    pub fn task(mut self, task: Task) -> Self {
        self.tasks.push(task);
        self
    }

    /// Sets the readiness check.
    #[must_use]
    pub fn ready(mut self, ready: Ready) -> Self {
        self.ready = ready;
        self
    }

    /// Sets its part of `/openapi.json`.
    #[must_use]
    pub fn openapi(mut self, document: serde_json::Value) -> Self {
        self.openapi = Some(document);
        self
    }
}

/// A named loop. It is given a token and returns soon after that is cancelled; the process waits for it until
/// `http.stop_deadline_s`. One that returns earlier, with an error or not, makes its component unready.
pub struct Task {
    /// Its name in logs.
    pub name: &'static str,
    /// Ends with the requests, before all other loops.
    pub(crate) is_front: bool,
    pub(crate) run: TaskFactory,
}

type TaskFactory = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, Result<(), String>> + Send>;

impl Task {
    /// A loop from an async closure that gets the token to watch.
    pub fn new<F, R>(name: &'static str, run: F) -> Self
    where
        F: FnOnce(CancellationToken) -> R + Send + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self { name, is_front: false, run: Box::new(move |token| Box::pin(run(token))) }
    }

    /// It hands requests to components of the process: it is told to end when the process takes no more of them, and so before the
    /// loops of those components, if it ends within `http.drain_deadline_s`.
    #[must_use]
    pub fn front(mut self) -> Self {
        self.is_front = true;
        self
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.name).finish()
    }
}

/// A cheap check that is asked on every `/readyz`.
#[derive(Clone)]
pub struct Ready(Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

impl Ready {
    /// Ready from the start.
    pub fn always() -> Self {
        Self(Arc::new(|| Ok(())))
    }

    /// Asks `check`, which must neither block nor do I/O; an `Err` says why not.
    pub fn check(check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    /// A check whose answer is set from elsewhere; not ready, for `reason`, until it is.
    pub fn flag(reason: &str) -> (ReadyFlag, Self) {
        let flag = ReadyFlag(Arc::new(Mutex::new(Err(reason.to_owned()))));
        let asked = flag.clone();
        (flag, Self::check(move || asked.get()))
    }

    /// Whether it is ready, and why not.
    pub fn get(&self) -> Result<(), String> {
        (self.0)()
    }
}

/// The hand that sets a [`Ready::flag`].
#[derive(Clone, Debug)]
pub struct ReadyFlag(Arc<Mutex<Result<(), String>>>);

impl ReadyFlag {
    /// Ready from now on.
    pub fn set(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Ok(());
    }

    /// Not ready from now on, for this reason.
    pub fn unset(&self, reason: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Err(reason.into());
    }

    fn get(&self) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a product's `build(config, deps)` is given.
#[derive(Clone)]
pub struct Deps {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// Who asks, and what we sign: the installation's key.
    pub keys: Keys,
    /// Where metrics are registered.
    pub metrics: Metrics,
    /// The folder for embedded stores; it exists and can be written.
    pub data_dir: PathBuf,
    /// The address that people reach the process at.
    pub address: SocketAddr,
    /// All that the process serves, once it does.
    pub inside: Inside,
    /// The sockets that it listens on.
    pub sockets: Sockets,
}

impl Deps {
    /// The address as a caller on this machine reaches it: `http://127.0.0.1:8080`, also where all addresses are listened on.
    pub fn base_url(&self) -> String {
        format!("http://{}", reachable(self.address))
    }
}

/// An address for everyone is none to call.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}
