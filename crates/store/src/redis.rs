//! Redis, one server or a cluster, chosen by URL: `redis://host:6379`, `redis+cluster://a:6379,b:6379`.
//!
//! One connection a server is shared by all callers and pipelines what they ask at the same time. Steps are Lua scripts,
//! each atomic on the one slot that its keys share by their `{tag}`. Clocks: Redis's own (`TIME`).

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use ::redis::cluster::ClusterClientBuilder;
use ::redis::cluster_async::ClusterConnection;
use ::redis::{Client, Pipeline, Script, ScriptInvocation};
use futures::{StreamExt, TryStreamExt, stream};

pub use ::redis::{Cmd, FromRedisValue, Value, from_redis_value};

use crate::error::Error;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for an answer; a script takes well under a millisecond.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection is tried anew before the question fails.
const RETRIES: usize = 2;
/// The longest pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Commands that go out in one piece, so that no other caller waits for long.
const PIECE: usize = 512;
/// Commands under way to a cluster at a time, for one caller.
const UNDER_WAY: usize = 256;

const CLUSTER: &str = "redis+cluster://";

/// A connection. Cheap to clone.
#[derive(Clone)]
pub enum Redis {
    /// To one server, made anew when it breaks.
    One(ConnectionManager),
    /// To all servers of a cluster.
    Cluster(ClusterConnection),
}

impl Redis {
    /// Connects. A cluster is named by some of its servers; `user:password@` goes before the first.
    ///
    /// # Errors
    /// [`Error::BadUrl`]; [`Error::NoRedis`] when it does not answer.
    pub async fn open(url: &str) -> Result<Self, Error> {
        let bad_url = |reason: String| Error::BadUrl { url: without_password(url), reason };
        let away = |error| Error::NoRedis { url: without_password(url), reason: Arc::new(error) };
        if let Some(nodes) = url.strip_prefix(CLUSTER) {
            let (login, nodes) = nodes
                .rsplit_once('@')
                .map_or(("", nodes), |(_, nodes)| (&url[CLUSTER.len()..url.len() - nodes.len()], nodes));
            let nodes = nodes.trim_end_matches('/').split(',').map(|node| format!("redis://{login}{node}"));
            let client = ClusterClientBuilder::new(nodes)
                .connection_timeout(CONNECT_TIMEOUT)
                .response_timeout(RESPONSE_TIMEOUT)
                .retries(RETRIES as u32)
                .build()
                .map_err(|error| bad_url(error.to_string()))?;
            return Ok(Self::Cluster(client.get_async_connection().await.map_err(away)?));
        }
        if !url.starts_with("redis://") && !url.starts_with("redis+unix://") {
            return Err(bad_url("no such engine; TLS is left to a tunnel".to_owned()));
        }
        let client = Client::open(url).map_err(|error| bad_url(error.to_string()))?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_number_of_retries(RETRIES)
            .set_max_delay(RETRY_PAUSE);
        Ok(Self::One(client.get_connection_manager_with_config(config).await.map_err(away)?))
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// [`Error::Redis`].
    pub async fn ping(&self) -> Result<(), Error> {
        let ping = ::redis::cmd("PING");
        match self.clone() {
            Self::One(mut connection) => ping.query_async::<()>(&mut connection).await?,
            Self::Cluster(mut connection) => ping.query_async::<()>(&mut connection).await?,
        }
        Ok(())
    }

    /// Sends commands without waiting for each other's answers, and gives these in the same order. They are not one step: each
    /// is done or not by itself, and in a cluster also the order is open.
    ///
    /// # Errors
    /// [`Error::Redis`] where one of them failed; others may have been done.
    pub async fn send<T: FromRedisValue>(&self, commands: Vec<Cmd>) -> Result<Vec<T>, Error> {
        let mut answers = Vec::with_capacity(commands.len());
        match self {
            Self::One(connection) => {
                let mut commands = commands.into_iter().peekable();
                while commands.peek().is_some() {
                    let mut pipeline = Pipeline::with_capacity(PIECE);
                    commands.by_ref().take(PIECE).for_each(|command| {
                        pipeline.add_command(command);
                    });
                    let piece: Vec<T> = pipeline.query_async(&mut connection.clone()).await?;
                    answers.extend(piece);
                }
            }
            Self::Cluster(connection) => {
                let ask = |command: Cmd| {
                    let mut connection = connection.clone();
                    async move { command.query_async::<T>(&mut connection).await }
                };
                answers = stream::iter(commands).map(ask).buffered(UNDER_WAY).try_collect().await?;
            }
        }
        Ok(answers)
    }

    /// Runs a script. It is sent by its hash, and whole where the server does not know it (yet, or any more).
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        prepare: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, Error> {
        async fn invoke<T: FromRedisValue, C: ConnectionLike + Clone>(
            call: &ScriptInvocation<'_>,
            mut connection: C,
        ) -> Result<T, Error> {
            Ok(call.invoke_async(&mut connection).await?)
        }
        let mut call = script.prepare_invoke();
        prepare(&mut call);
        match self {
            Self::One(connection) => invoke(&call, connection.clone()).await,
            Self::Cluster(connection) => invoke(&call, connection.clone()).await,
        }
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::One(_) => "Redis::One",
            Self::Cluster(_) => "Redis::Cluster",
        })
    }
}

/// A URL fit for a message.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, hosts))) => format!("{scheme}://***@{hosts}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_that_names_no_redis_is_refused_without_its_password() {
        for url in ["rediss://user:hunter2@host:1", "postgres://user:hunter2@host", "redis://user:hunter2@host:nine"] {
            let error = Redis::open(url).await.unwrap_err();
            assert_eq!(error.code(), "store.bad_url");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
