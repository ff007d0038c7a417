//! Asks a service for its description: `grpc.reflection.v1`, else `v1alpha`, which is the same under another name.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use prost::Message;
use prost_reflect::DescriptorPool;
use prost_reflect::prost_types::FileDescriptorProto;
use tokio::time::timeout_at;

use super::{MOST_DESCRIPTION_BYTES, Messages, Next, Status, Transcoder, framed};
use crate::engine::Worker;
use crate::pipeline::{Call, Deadline, OURSELVES, Outgoing, call};
use crate::spec::Retry;
use crate::upstream::Upstream;

const VERSIONS: [&str; 2] = ["v1", "v1alpha"];
/// One question and all answers to it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Files of a description.
const MOST_FILES: usize = 2_000;
/// Rounds of asking for files that others need.
const MOST_ROUNDS: usize = 20;

#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(oneof = "Ask", tags = "3, 4, 7")]
    ask: Option<Ask>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Ask {
    #[prost(string, tag = "3")]
    File(String),
    #[prost(string, tag = "4")]
    Symbol(String),
    #[prost(string, tag = "7")]
    Services(String),
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(oneof = "Told", tags = "4, 6, 7")]
    told: Option<Told>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Told {
    #[prost(message, tag = "4")]
    Files(Files),
    #[prost(message, tag = "6")]
    Services(Services),
    #[prost(message, tag = "7")]
    Refused(Refused),
}

#[derive(Clone, PartialEq, Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    services: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Refused {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// A set of files as it is written, each as it came, so that nothing of its options is lost.
#[derive(Clone, PartialEq, Message)]
struct FileSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

/// Asks anew, and takes what is other than `known`.
///
/// # Errors
/// Why the service's description cannot be had or used; the last good one stays.
pub(crate) async fn renew(
    worker: &Rc<Worker>,
    upstream: &Arc<Upstream>,
    transcoder: &Transcoder,
    known: &mut Vec<u8>,
) -> Result<(), String> {
    let described = describe(worker, upstream, &transcoder.spec.services).await?;
    if described != *known {
        let pool = DescriptorPool::decode(described.as_slice()).map_err(|error| error.to_string())?;
        transcoder.take(&pool)?;
        tracing::info!(upstream = &*upstream.name, "its gRPC description was taken");
        *known = described;
    }
    Ok(())
}

/// The description of the services as a set of files.
async fn describe(worker: &Rc<Worker>, upstream: &Arc<Upstream>, wanted: &[String]) -> Result<Vec<u8>, String> {
    let mut refused = Vec::new();
    for version in VERSIONS {
        match describe_by(worker, upstream, wanted, version).await {
            Ok(described) => return Ok(described),
            Err(reason) => refused.push(format!("{version}: {reason}")),
        }
    }
    Err(refused.join("; "))
}

async fn describe_by(
    worker: &Rc<Worker>,
    upstream: &Arc<Upstream>,
    wanted: &[String],
    version: &str,
) -> Result<Vec<u8>, String> {
    let mut services = wanted.to_vec();
    if services.is_empty() {
        for told in ask(worker, upstream, version, vec![Ask::Services("*".into())]).await? {
            if let Told::Services(told) = told {
                services.extend(told.services.into_iter().map(|service| service.name));
            }
        }
        services.retain(|name| !name.starts_with("grpc.reflection."));
    }
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut needed: BTreeSet<String> = BTreeSet::new();
    let mut questions: Vec<Ask> = services.into_iter().map(Ask::Symbol).collect();
    for _ in 0..MOST_ROUNDS {
        for told in ask(worker, upstream, version, questions).await? {
            let told = match told {
                Told::Files(told) => told,
                Told::Refused(told) => return Err(format!("it refused with code {}: {}", told.code, told.message)),
                Told::Services(_) => continue,
            };
            for bytes in told.files {
                let file = FileDescriptorProto::decode(bytes.as_slice()).map_err(|error| error.to_string())?;
                needed.extend(file.dependency.iter().cloned());
                files.insert(file.name().to_owned(), bytes);
            }
        }
        let missing: Vec<Ask> =
            needed.iter().filter(|name| !files.contains_key(*name)).map(|name| Ask::File(name.clone())).collect();
        if files.len() + missing.len() > MOST_FILES {
            return Err(format!("it has more than {MOST_FILES} files"));
        }
        if missing.is_empty() {
            return Ok(FileSet { files: files.into_values().collect() }.encode_to_vec());
        }
        questions = missing;
    }
    Err("its files need others without end".into())
}

/// Asks all questions in one call and gives the answers to them.
async fn ask(
    worker: &Rc<Worker>,
    upstream: &Arc<Upstream>,
    version: &str,
    questions: Vec<Ask>,
) -> Result<Vec<Told>, String> {
    if questions.is_empty() {
        return Ok(Vec::new());
    }
    let deadline = Deadline::after(PATIENCE);
    let messages: Vec<Vec<u8>> = questions.into_iter().map(|ask| Question { ask: Some(ask) }.encode_to_vec()).collect();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
    let path = path.parse().map_err(|_| "its path cannot be asked for".to_owned())?;
    let outgoing = Outgoing { method: Method::POST, path, headers, host: None };
    let asked = Call { outgoing, body: framed(&messages), key: None, deadline, peer: OURSELVES };
    let called = call(worker, upstream, &asked, &Retry::default()).await.map_err(|failed| failed.error.to_string())?;
    let (head, incoming) = called.answer.into_parts();
    let _held = called.held;
    let ended = |status: Status| format!("reflection ended with {}: {}", status.name(), status.message);
    if let Some(status) = Status::of(&head.headers).filter(|status| status.code != 0) {
        return Err(ended(status));
    }
    if head.status != StatusCode::OK {
        return Err(format!("it answered {} and no gRPC", head.status.as_u16()));
    }
    let mut messages = Messages::new(incoming, MOST_DESCRIPTION_BYTES);
    let mut told = Vec::new();
    let mut read = 0_u64;
    loop {
        let next = timeout_at(deadline.at, messages.next()).await;
        let message = match next.map_err(|_| "it did not answer in time".to_owned())?? {
            Next::End(status) if status.code == 0 => return Ok(told),
            Next::End(status) => return Err(ended(status)),
            Next::Message(message) => message,
        };
        read += message.len() as u64;
        if read > MOST_DESCRIPTION_BYTES {
            return Err(format!("it is larger than {MOST_DESCRIPTION_BYTES} bytes"));
        }
        told.extend(Answer::decode(message).map_err(|error| error.to_string())?.told);
    }
}
