//! A process's life: bind, serve what the components bring, stop in order.
//!
//! Start: ports are bound ([`bind`]) before anything is built, so a taken port stops nothing half way. Stop: unready →
//! drain requests → stop loops; each step has a deadline, and what is late is abandoned and named in the log.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tessera_kernel::{Clock, Ids};
use tokio::net::{TcpListener, lookup_host};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::http::{Config, edge};
use crate::sockets::Sockets;
use crate::{Component, Error, Metrics, Task};

mod inside;
mod leftover;
mod serve;
mod status;

pub use inside::Inside;
use status::Status;

/// The setting of a process's address, for messages.
pub const LISTEN_SETTING: &str = "http.listen";
/// What changes it.
pub const LISTEN_REMEDY: &str = "--listen or TESSERA__HTTP__LISTEN";

/// A role with the components that fill it.
pub struct Role {
    /// Its name: `ingest`, `console`.
    pub name: &'static str,
    /// Its parts.
    pub components: Vec<Component>,
}

/// All that a process is to run.
pub struct Plan {
    /// The bound port.
    pub listener: TcpListener,
    /// What to serve on it.
    pub roles: Vec<Role>,
    /// Limits and deadlines.
    pub http: Config,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// The registry that the components registered in.
    pub metrics: Metrics,
    /// What stands in front of it, where something does.
    pub front: Option<Front>,
    /// Is given all that is served.
    pub inside: Inside,
    /// The sockets that the process listens on.
    pub sockets: Sockets,
}

/// Where people reach a process that has something in front.
#[derive(Clone, Copy, Debug)]
pub struct Front {
    /// Without TLS.
    pub http: SocketAddr,
    /// With TLS.
    pub https: SocketAddr,
}

/// Takes the address to listen on, or says which setting to change.
pub async fn bind(address: &str) -> Result<TcpListener, Error> {
    bind_for(LISTEN_SETTING, LISTEN_REMEDY, address).await
}

/// The same, with the socket that the process was started with where there is one of that address.
pub async fn take_or_bind(sockets: &Sockets, address: &str) -> Result<TcpListener, Error> {
    let known = lookup_host(address).await.ok();
    let inherited = known.and_then(|mut addresses| addresses.find_map(|address| sockets.take(address).pop()));
    match inherited {
        Some(listener) => TcpListener::from_std(listener).map_err(|error| unusable(address, &error)),
        None => bind(address).await,
    }
}

fn unusable(address: &str, error: &std::io::Error) -> Error {
    let (address, reason) = (address.to_owned(), error.to_string());
    Error::BadAddress { setting: LISTEN_SETTING, address, reason, remedy: LISTEN_REMEDY }
}

/// The same for another setting.
pub async fn bind_for(setting: &'static str, remedy: &'static str, address: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Error::PortTaken { setting, address: address.to_owned(), remedy },
        kind => {
            // What the library says of it is that the address is wrong.
            let reason = match kind {
                ErrorKind::InvalidInput => "it is not host and port, such as 127.0.0.1:8080".to_owned(),
                _ => error.to_string(),
            };
            Error::BadAddress { setting, address: address.to_owned(), reason, remedy }
        }
    })
}

/// Makes a folder where it is missing and writes a file in it to see that it can.
pub fn check_folder(setting: &'static str, remedy: &'static str, path: &Path) -> Result<(), Error> {
    let probe = path.join(format!(".tessera-write-check-{}", std::process::id()));
    let tried = std::fs::create_dir_all(path)
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe));
    let reason = |error: std::io::Error| error.to_string();
    tried.map_err(|error| Error::UnwritableFolder { setting, path: path.to_owned(), reason: reason(error), remedy })
}

/// A process that serves.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    status: Arc<Status>,
    draining: CancellationToken,
    stopping: CancellationToken,
    server: JoinHandle<()>,
    fronts: JoinSet<()>,
    tasks: JoinSet<()>,
    http: Config,
}

/// Starts the loops and serves the routes. It answers by the time this returns.
pub fn start(plan: Plan) -> Result<Running, Error> {
    let unusable = |error: std::io::Error| unusable(&plan.http.listen, &error);
    let address = plan.listener.local_addr().map_err(unusable)?;
    let kept = plan.sockets.keep(&plan.listener).map_err(unusable)?;
    let (draining, stopping) = (CancellationToken::new(), CancellationToken::new());
    let mut status = Status::new(address, plan.front, plan.clock.now(), plan.metrics.clone());
    let mut router = Router::new();
    let (mut loops, mut quicks) = (Vec::new(), Vec::new());
    for role in plan.roles {
        for component in role.components {
            router = router.merge(component.router);
            quicks.extend(component.quick);
            let failed = status.add(role.name, component.name, component.path, component.ready, component.openapi);
            loops.extend(component.tasks.into_iter().map(|task| (component.name, task, failed.clone())));
        }
    }
    let status = Arc::new(status);
    let (mut fronts, mut tasks) = (JoinSet::new(), JoinSet::new());
    for (component, task, failed) in loops {
        let (set, ending) = if task.is_front { (&mut fronts, &draining) } else { (&mut tasks, &stopping) };
        set.spawn(watch(component, task, failed, ending.clone()));
    }
    let router = router.merge(status::routes(status.clone()));
    let quicks = edge::Quicks::new(quicks, plan.ids.clone(), plan.metrics.clone());
    plan.inside.set(edge::wrap(router, &plan.http, plan.ids, plan.metrics, draining.clone()), quicks);
    let server = tokio::spawn(serve::serve((plan.listener, kept), plan.inside, draining.clone()));
    status.started.set();
    Ok(Running { address, status, draining, stopping, server, fronts, tasks, http: plan.http })
}

/// Runs one loop to its end. An end that was not asked for makes the component unready.
async fn watch(component: &'static str, task: Task, failed: crate::ReadyFlag, stopping: CancellationToken) {
    let ended = tokio::spawn((task.run)(stopping.clone())).await;
    let reason = match ended {
        Ok(Ok(())) if stopping.is_cancelled() => return,
        Ok(Ok(())) => "ended on its own".to_owned(),
        Ok(Err(reason)) => reason,
        Err(_) => "panicked".to_owned(),
    };
    tracing::error!(component.name = component, task.name = task.name, error.detail = %reason, "a loop ended");
    failed.unset(format!("its loop `{}` has ended; restart the process and read its log", task.name));
}

impl Running {
    /// Where it listens itself.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as a browser on this machine reaches what people are to see.
    pub fn base_url(&self) -> String {
        self.status.base_url()
    }

    /// What it waits for before it can do all of its work, by component; empty where it is ready.
    pub fn waits_for(&self) -> Vec<(String, String)> {
        self.status.waits_for()
    }

    /// What runs and where, for a person: one line a role.
    pub fn address_table(&self) -> String {
        self.status.address_table()
    }

    /// Stops in order: unready, drain requests, stop loops. Returns whether all of it was in time.
    pub async fn stop(mut self) -> bool {
        self.status.started.unset("stopping");
        self.draining.cancel();
        let drain = Duration::from_secs(self.http.drain_deadline_s);
        let all_answered = async {
            while self.fronts.join_next().await.is_some() {}
            let _ = (&mut self.server).await;
        };
        let drained = tokio::time::timeout(drain, all_answered).await.is_ok() || self.server.is_finished();
        if !drained {
            tracing::warn!(http.drain_deadline_s = self.http.drain_deadline_s, "requests were cut off");
            // Its connections are its own, and end with it.
            self.server.abort();
        }
        self.stopping.cancel();
        let stop = Duration::from_secs(self.http.stop_deadline_s);
        let all_ended = async {
            while self.tasks.join_next().await.is_some() {}
            while self.fronts.join_next().await.is_some() {}
        };
        let stopped = tokio::time::timeout(stop, all_ended).await.is_ok();
        if !stopped {
            tracing::warn!(
                http.stop_deadline_s = self.http.stop_deadline_s,
                tasks = self.tasks.len(),
                "loops were cut off"
            );
        }
        drained && stopped
    }
}

#[cfg(test)]
mod tests;
