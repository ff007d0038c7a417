//! Cassettes: every exchange of a run on disk, secrets removed, so that the run can be repeated without the network.
//!
//! One JSON file an exchange, in a folder a resource, named by a hash of the request and a running number for requests
//! that were sent more than once. Requests for tokens are not recorded.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use super::{Reply, Request};
use crate::Error;
use crate::spec::{Secrets, is_secret_name};

/// No more of a compressed body is recorded.
const UNPACKED_BYTES: u64 = 1 << 30;

/// Where exchanges are written to or read from.
#[derive(Debug)]
pub enum Cassette {
    /// Written.
    Record(Tape),
    /// Read; the network is not used.
    Replay(Tape),
}

/// A folder of exchanges.
#[derive(Debug)]
pub struct Tape {
    folder: PathBuf,
    counts: Mutex<HashMap<String, usize>>,
}

#[derive(Serialize, Deserialize)]
struct Exchange {
    version: u32,
    method: String,
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_body: Option<String>,
    status: u16,
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// Headers that tell nothing a replay needs, or tell too much.
const LEFT_OUT: [&str; 8] = [
    "set-cookie",
    "authorization",
    "www-authenticate",
    "date",
    "server",
    "connection",
    "transfer-encoding",
    "content-length",
];

impl Tape {
    /// A tape in this folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), counts: Mutex::default() }
    }

    fn next_name(&self, request: &Request, secrets: &Secrets) -> String {
        let mut hash = Sha256::new();
        hash.update(request.method.as_str());
        hash.update(" ");
        hash.update(public_url(&request.url, secrets));
        if let Some(body) = &request.body {
            hash.update(secrets.redact(&String::from_utf8_lossy(&body.bytes)));
        }
        let digest = hash.finalize();
        let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{}/{hash}", request.resource);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name.clone()).or_insert(0);
        *count += 1;
        format!("{name}-{count}.json")
    }

    pub(super) fn record(&self, request: &Request, reply: &Reply, secrets: &Secrets) -> Result<(), Error> {
        let path = self.folder.join(self.next_name(request, secrets));
        // Compressed, it could hide a secret.
        let unpacked = unpacked(&reply.body);
        let text = std::str::from_utf8(unpacked.as_deref().unwrap_or(&reply.body)).ok();
        let plain = text.is_some() && unpacked.is_some();
        let headers = reply.headers.iter().filter_map(|(name, value)| {
            let name = name.as_str();
            let dropped = LEFT_OUT.contains(&name) || is_secret_name(name) || (plain && name == "content-encoding");
            (!dropped).then(|| Some((name.to_owned(), secrets.redact(value.to_str().ok()?))))?
        });
        let exchange = Exchange {
            version: 1,
            method: request.method.to_string(),
            url: public_url(&request.url, secrets),
            request_body: request.body.as_ref().map(|body| secrets.redact(&String::from_utf8_lossy(&body.bytes))),
            status: reply.status,
            headers: headers.collect(),
            body: text.map(|text| secrets.redact(text)),
            body_base64: text.is_none().then(|| STANDARD.encode(&reply.body)),
        };
        let write = || {
            std::fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
            std::fs::write(&path, serde_json::to_vec_pretty(&exchange)?)
        };
        write().map_err(|error: std::io::Error| Error::Spec {
            place: "--record".into(),
            detail: format!("cannot write {}: {error}", path.display()),
        })
    }

    pub(super) fn replay(&self, request: &Request, secrets: &Secrets) -> Result<Reply, Error> {
        let name = self.next_name(request, secrets);
        let path = self.folder.join(&name);
        // A request repeated more often than it was recorded is answered as the last time.
        let text = std::fs::read(&path).or_else(|error| {
            let last = (1..=64).rev().find_map(|count| {
                let stem = name.rsplit_once('-')?.0;
                std::fs::read(self.folder.join(format!("{stem}-{count}.json"))).ok()
            });
            last.ok_or(error)
        });
        let missing = |detail: String| Error::Spec {
            place: "--replay".into(),
            detail: format!(
                "{} {}: {detail}; record it with --record",
                request.method,
                public_url(&request.url, secrets)
            ),
        };
        let text = text.map_err(|error| missing(format!("there is no {} ({error})", path.display())))?;
        let exchange: Exchange =
            serde_json::from_slice(&text).map_err(|error| missing(format!("{} is broken: {error}", path.display())))?;
        let body = match (exchange.body, exchange.body_base64) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).map_err(|error| missing(error.to_string()))?,
            (None, None) => vec![],
        };
        let headers = exchange
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?)));
        Ok(Reply { status: exchange.status, headers: headers.collect::<HeaderMap>(), body: Bytes::from(body) })
    }
}

/// The content of a gzip body; none where it is no gzip, or not whole.
fn unpacked(body: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let packed = body.starts_with(&[0x1f, 0x8b]);
    let mut reader = flate2::read::MultiGzDecoder::new(body).take(UNPACKED_BYTES);
    (packed && reader.read_to_end(&mut content).is_ok()).then_some(content)
}

/// The URL without user, password, and secret parameters.
pub(crate) fn public_url(url: &Url, secrets: &Secrets) -> String {
    let mut public = url.clone();
    // A URL that cannot hold a user has none to remove.
    let _ = public.set_username("");
    let _ = public.set_password(None);
    if url.query_pairs().any(|(name, _)| is_secret_name(&name)) {
        let kept: Vec<_> = url.query_pairs().filter(|(name, _)| !is_secret_name(name)).collect();
        public.query_pairs_mut().clear().extend_pairs(kept);
    }
    secrets.redact(public.as_str().trim_end_matches('?'))
}
