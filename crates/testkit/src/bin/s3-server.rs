//! The S3 server that `testkit::s3` starts: `s3-server FOLDER`, keys in `ACCESS_KEY` and `SECRET_KEY`. It prints the
//! address it listens on and ends when its stdin does.
//!
//! The file-backed S3 checks conditional writes before it writes, not while: two writers could both find nothing there.
//! Here all writes to one path take turns, and their bodies are read before, so a slow sender holds up nobody.
#![expect(clippy::expect_used, reason = "a test server that cannot start says so and ends")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tessera_testkit::s3::{FAULTS_PATH, Fault, FaultKind, READS_PATH, Read as ObjectRead};

/// The largest request body: a part of a multipart upload in a test.
const MAX_BODY_BYTES: usize = 256 << 20;

#[derive(Clone)]
struct Server {
    s3: S3Service,
    fault: Arc<Mutex<Option<Fault>>>,
    reads: Arc<Mutex<Vec<ObjectRead>>>,
    turns: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

#[tokio::main]
async fn main() {
    let folder = std::env::args_os().nth(1).expect("usage: s3-server FOLDER");
    let key = |name| std::env::var(name).expect("ACCESS_KEY and SECRET_KEY are set");
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).expect("a folder that exists"));
    builder.set_auth(SimpleAuth::from_single(key("ACCESS_KEY"), key("SECRET_KEY")));
    let server = Server { s3: builder.build(), fault: Arc::default(), reads: Arc::default(), turns: Arc::default() };
    let app = Router::new()
        .route(FAULTS_PATH, axum::routing::post(set_fault))
        .route(READS_PATH, axum::routing::post(take_reads))
        .fallback(serve)
        .with_state(server);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("the address of a bound port");
    println!("{address}");
    std::io::stdout().flush().expect("stdout");
    let (gone, parent_gone) = tokio::sync::oneshot::channel();
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = gone.send(());
    });
    tokio::select! {
        served = axum::serve(listener, app).into_future() => served.expect("a listener that works"),
        _ = parent_gone => {}
    }
}

async fn set_fault(State(server): State<Server>, axum::Json(fault): axum::Json<Option<Fault>>) {
    *server.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
}

async fn take_reads(State(server): State<Server>) -> axum::Json<Vec<ObjectRead>> {
    axum::Json(std::mem::take(&mut *server.reads.lock().unwrap_or_else(PoisonError::into_inner)))
}

async fn serve(State(server): State<Server>, request: Request) -> Response {
    let writes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let fault = server.hit(request.uri().path(), writes);
    if let Some(refusal) = fault.and_then(refusal_before) {
        return refusal;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return refusal(StatusCode::BAD_REQUEST, "IncompleteBody");
    };
    let turn = if writes { Some(server.turn(parts.uri.path())) } else { None };
    let _held = match &turn {
        Some(turn) => Some(turn.lock().await),
        None => None,
    };
    let read = (parts.method == Method::GET).then(|| parts.uri.path().to_owned());
    let request = axum::http::Request::from_parts(parts, s3s::Body::from(body));
    let response = match server.s3.call(request).await {
        Ok(response) => {
            let length = response.headers().get(header::CONTENT_LENGTH);
            let bytes = length.and_then(|length| length.to_str().ok()?.parse().ok());
            if let (Some(path), Some(bytes), true) = (read, bytes, response.status().is_success()) {
                server.reads.lock().unwrap_or_else(PoisonError::into_inner).push(ObjectRead { path, bytes });
            }
            response.map(Body::new)
        }
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
    };
    match fault {
        Some(FaultKind::LoseReply) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        _ => response,
    }
}

impl Server {
    /// The fault that hits this request, counted.
    fn hit(&self, path: &str, writes: bool) -> Option<FaultKind> {
        let mut current = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = current.as_mut()?;
        let all = matches!(fault.kind, FaultKind::DenyAll | FaultKind::Fail);
        if !(writes || all) || !path.contains(&fault.path_contains) {
            return None;
        }
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        match &mut fault.count {
            Some(0) => return None,
            Some(count) => *count -= 1,
            None => {}
        }
        Some(fault.kind)
    }

    /// The lock of one path.
    fn turn(&self, path: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(path.to_owned()).or_default().clone()
    }
}

fn refusal_before(fault: FaultKind) -> Option<Response> {
    match fault {
        FaultKind::DenyWrites | FaultKind::DenyAll => Some(refusal(StatusCode::FORBIDDEN, "AccessDenied")),
        FaultKind::SlowDown => Some(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
        FaultKind::Fail => Some(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
        FaultKind::LoseReply => None,
    }
}

fn refusal(status: StatusCode, code: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>a fault on request</Message></Error>"
    );
    (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
}
