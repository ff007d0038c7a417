//! A gateway of one's own on a free port, services behind it, and clients that speak in bytes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tessera_gateway::Gateway;
use tessera_gateway::spec::Environment;
use tessera_kernel::{ManualClock, RandomIds, SystemClock};
use tessera_service::run::Inside;
use tessera_service::{Deps, Keys, Metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Beyond what the slowest machine takes: it ends tests that would never end.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// A gateway and its folder.
pub struct Door {
    pub gateway: Gateway,
    pub folder: TempDir,
    pub deps: Deps,
    pub clock: Arc<ManualClock>,
}

impl Door {
    /// Serves by this config, to which a listener on a free port and a quiet log are added.
    pub async fn open(config: &str) -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), config).await
    }

    pub async fn open_in(folder: TempDir, config: &str) -> Self {
        let clock = Arc::new(ManualClock::at(tessera_kernel::Clock::now(&SystemClock)));
        let deps = Deps {
            clock: clock.clone(),
            ids: Arc::new(RandomIds),
            keys: Keys::ephemeral(clock.clone()).unwrap(),
            metrics: Metrics::new(clock.clone()),
            data_dir: folder.path().to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            inside: Inside::default(),
            sockets: tessera_service::sockets::Sockets::default(),
        };
        let file = folder.path().join("gateway.yaml");
        std::fs::write(&file, whole(config)).unwrap();
        let gateway = Gateway::open(&file, &deps, Environment::default()).unwrap_or_else(|error| panic!("{error}"));
        Self { gateway, folder, deps, clock }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("gateway.yaml")
    }

    pub fn address(&self) -> SocketAddr {
        self.gateway.engine.addresses()[0]
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    pub fn metrics(&self) -> String {
        self.deps.metrics.encode()
    }

    /// One request on a connection of its own; the whole answer as text.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        raw(self.address(), request).await
    }

    /// A GET with header lines; the status and the body.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = client().get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send().await.unwrap()).await
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // The threads end by themselves.
        let engine = self.gateway.engine.clone();
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            handle.spawn(async move { engine.stop().await });
        }
    }
}

/// Adds what every test's config has.
pub fn whole(config: &str) -> String {
    let mut text = String::from("version: 1\n");
    for (key, default) in [
        ("workers:", "workers: 2\n"),
        ("listeners:", "listeners: [{ address: \"127.0.0.1:0\" }]\n"),
        ("access_log:", "access_log: { format: \"off\" }\n"),
    ] {
        if !config.lines().any(|line| line.starts_with(key)) {
            text.push_str(default);
        }
    }
    text + config
}

/// An answer that was read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Answer {
    pub async fn of(answer: reqwest::Response) -> Self {
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Self { status, headers, body: answer.text().await.unwrap() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

pub fn client() -> reqwest::Client {
    tessera_service::client::builder().redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT).build().unwrap()
}

pub async fn raw(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut answer)).await;
    read.expect("the connection ends").unwrap_or(0);
    String::from_utf8_lossy(&answer).into_owned()
}

/// What a service behind the gateway got.
#[derive(Clone, Debug)]
pub struct Got {
    pub method: String,
    pub uri: String,
    pub version: http::Version,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    pub trailers: http::HeaderMap,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A service behind the gateway that answers what it is told to and remembers what it got.
pub struct Service {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

pub type Reply = http::Response<Full<Bytes>>;

impl Service {
    /// Answers each request by `answer`, over HTTP/1 and HTTP/2.
    pub async fn start(answer: impl Fn(&Got) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let (seen, answer) = (got.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (seen.clone(), answer.clone());
                tokio::spawn(serve(stream, move |request: Got| {
                    seen.lock().unwrap().push(request.clone());
                    answer(&request)
                }));
            }
        });
        Self { address, got }
    }

    /// Answers with 200 and its name.
    pub async fn named(name: &'static str) -> Self {
        Self::start(move |_| http::Response::new(Full::new(Bytes::from_static(name.as_bytes())))).await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub fn last(&self) -> Got {
        self.got().pop().expect("it was asked")
    }
}

async fn serve(stream: TcpStream, answer: impl Fn(Got) -> Reply + Clone + Send + 'static) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await else { return Err("the body broke off") };
            let got = Got {
                method: head.method.to_string(),
                uri: head.uri.to_string(),
                version: head.version,
                headers: head.headers,
                trailers: body.trailers().cloned().unwrap_or_default(),
                body: body.to_bytes(),
            };
            Ok::<_, &'static str>(answer(got))
        }
    });
    let mut first = [0; 4];
    let peeked = stream.peek(&mut first).await.unwrap_or(0);
    let _ = if first[..peeked] == *b"PRI " {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await
    } else {
        // Tests have a clock of their own.
        let mut http = hyper::server::conn::http1::Builder::new();
        http.auto_date_header(false).serve_connection(TokioIo::new(stream), service).await
    };
}

/// A service that answers each connection with these bytes once it got a whole head, then closes.
pub async fn blunt(answer: &'static [u8]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let got: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = got.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                seen.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
                let _ = stream.write_all(answer).await;
            });
        }
    });
    (address, got)
}

/// An address that refuses connections for as long as this is kept: nobody listens there, and nobody else can have it.
pub struct Refusing(#[expect(dead_code, reason = "it holds the port")] TcpSocket, pub SocketAddr);

impl Refusing {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = socket.local_addr().unwrap();
        Self(socket, address)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.1)
    }
}

/// Waits until something holds, looking again and again.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub fn reply(status: u16, body: &str) -> Reply {
    http::Response::builder().status(status).body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}
