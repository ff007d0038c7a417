//! An S3-compatible server as a process of its own, with faults on request.
//!
//! It keeps objects on disk, checks signatures, honours `If-None-Match: *` and `If-Match` atomically, and takes
//! multipart uploads. Addressed path-style, region `us-east-1`.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::{ScratchDir, bin, wire};

/// The path that takes a [`Fault`].
pub const FAULTS_PATH: &str = "/-/faults";

/// The path that takes nothing and gives the [`Read`]s since it was last asked.
pub const READS_PATH: &str = "/-/reads";

/// An object, or a part of it, that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Path of the request: `/bucket/key`.
    pub path: String,
    /// Length of the answer.
    pub bytes: u64,
}

/// A running server with one empty bucket. It stops when this is dropped.
#[derive(Debug)]
pub struct S3 {
    /// `http://127.0.0.1:<port>`.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
    server: Child,
    folder: ScratchDir,
}

/// What the server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Writes get 403 `AccessDenied`.
    DenyWrites,
    /// Every request gets 403 `AccessDenied`.
    DenyAll,
    /// Writes get 503 `SlowDown`.
    SlowDown,
    /// Every request gets 500 `InternalError`.
    Fail,
    /// Writes are done, and the caller is told 500 `InternalError`.
    LoseReply,
}

/// A fault, and for which requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// For how many requests; until it is cleared where there is no number.
    pub count: Option<u32>,
    /// How many requests that it would hit pass first.
    pub after: u32,
    /// Only for paths that contain this.
    pub path_contains: String,
}

impl Fault {
    /// A fault for every request until it is cleared.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, count: None, after: 0, path_contains: String::new() }
    }

    /// For this many requests only.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    /// After this many requests that it would hit.
    #[must_use]
    pub fn after(mut self, requests: u32) -> Self {
        self.after = requests;
        self
    }

    /// Only for paths that contain this.
    #[must_use]
    pub fn on(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path_contains);
        self
    }
}

/// Starts a server on a free port, with its objects in a temporary folder.
///
/// # Panics
/// Where it does not start.
pub fn start() -> S3 {
    let (access_key, secret_key, bucket) = ("tessera-test", "tessera-test-secret", "lake");
    let folder = ScratchDir::new();
    std::fs::create_dir(folder.file(bucket)).expect("the bucket's folder");
    let mut command = Command::new(bin::path("tessera-testkit", "s3-server"));
    command.arg(folder.path()).env("ACCESS_KEY", access_key).env("SECRET_KEY", secret_key);
    let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("s3-server");
    let mut address = String::new();
    BufReader::new(server.stdout.take().expect("piped")).read_line(&mut address).expect("s3-server's address");
    assert!(!address.trim().is_empty(), "s3-server ended before it listened");
    S3 {
        endpoint: format!("http://{}", address.trim()),
        bucket: bucket.to_owned(),
        access_key: access_key.to_owned(),
        secret_key: secret_key.to_owned(),
        server,
        folder,
    }
}

impl S3 {
    /// Sets the fault from now on, in place of the one before.
    pub fn set_fault(&self, fault: Fault) {
        self.steer(Some(fault));
    }

    /// No fault from now on.
    pub fn clear_fault(&self) {
        self.steer(None);
    }

    /// What was read since this was last asked.
    pub fn reads(&self) -> Vec<Read> {
        let address = self.endpoint.trim_start_matches("http://");
        let (status, body) = wire::post(address, READS_PATH, "").expect("s3-server answers");
        assert_eq!(status, 200, "s3-server says what was read");
        serde_json::from_str(&body).expect("reads are JSON")
    }

    fn steer(&self, fault: Option<Fault>) {
        let address = self.endpoint.trim_start_matches("http://");
        let body = serde_json::to_string(&fault).expect("a fault is JSON");
        let (status, _) = wire::post(address, FAULTS_PATH, &body).expect("s3-server answers");
        assert_eq!(status, 200, "s3-server takes a fault");
    }

    /// The folder that holds the bucket's objects as files.
    pub fn bucket_dir(&self) -> PathBuf {
        self.folder.file(&self.bucket)
    }

    /// The environment that common S3 clients read.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", self.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_key.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // It ends when its stdin does.
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}
