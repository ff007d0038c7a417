//! A lean HTTP/1.1 client: kept connections, no redirects, no TLS. The crowd shares its machine with the server, so what
//! the client costs is taken from what is measured.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

mod events;

pub use self::events::{Event, Events};
use crate::Error;
use crate::domain::latency::{Latencies, Summary};

/// How long an answer may take; the slowest test card takes 30 s.
const ANSWER_DEADLINE: Duration = Duration::from_secs(90);
/// How long a connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// The largest answer read: the plan of 250,000 seats.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How often a request is sent at most, with the same key, where no answer comes or the server has no room.
const MAX_SENDS: u32 = 7;
/// The pause before the second time; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The calls that are told apart in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Call {
    /// `GET /event/{id}`.
    Event,
    /// `GET /event/{id}/seats`.
    Seats,
    /// `POST /event/{id}/queue`.
    Join,
    /// `GET /queue/{token}` and the serving number.
    Wait,
    /// `POST /booking/reserve`.
    Reserve,
    /// `POST /booking/confirm`.
    Confirm,
    /// `POST /booking/release`.
    Release,
    /// `GET /orders/{id}` and the second step.
    Order,
    /// What organisers and operators do, and the checks at the end.
    Office,
    /// `POST /fare-estimate`.
    Estimate,
    /// `PATCH /ride/request`.
    Request,
    /// `PATCH /ride/driver/respond`.
    Respond,
    /// `PATCH /ride/status`.
    Status,
    /// `POST /ride/cancel`.
    Cancel,
    /// `GET /rides/{id}`.
    Ride,
    /// `POST /drivers/location/update`.
    Positions,
    /// Profile, approval and shift of a driver.
    Shift,
}

impl Call {
    /// All of them.
    pub const ALL: [(Self, &'static str); 17] = [
        (Self::Event, "event"),
        (Self::Seats, "seats"),
        (Self::Join, "queue join"),
        (Self::Wait, "queue wait"),
        (Self::Reserve, "reserve"),
        (Self::Confirm, "confirm"),
        (Self::Release, "release"),
        (Self::Order, "order"),
        (Self::Office, "office"),
        (Self::Estimate, "estimate"),
        (Self::Request, "request"),
        (Self::Respond, "respond"),
        (Self::Status, "status"),
        (Self::Cancel, "cancel"),
        (Self::Ride, "ride"),
        (Self::Positions, "positions"),
        (Self::Shift, "shift"),
    ];

    /// Whether it does no harm to send it again without a key. Each step of a ride is refused or answered with the ride as it is
    /// when it comes again.
    const fn is_harmless_again(self) -> bool {
        matches!(
            self,
            Self::Estimate
                | Self::Request
                | Self::Respond
                | Self::Status
                | Self::Cancel
                | Self::Positions
                | Self::Shift
        )
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// As what it counts.
    pub call: Call,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// Who asks.
    pub token: Option<&'a str>,
    /// The idempotency key of a write.
    pub key: Option<&'a str>,
    /// What is sent.
    pub body: Bytes,
    /// What that is.
    pub content_type: &'static str,
    /// What is wanted, where it is not JSON.
    pub accept: Option<&'static str>,
}

/// The content type of nearly everything.
const JSON: &str = "application/json";

impl<'a> Ask<'a> {
    /// A read.
    pub fn get(call: Call, path: &'a str, token: Option<&'a str>) -> Self {
        let body = Bytes::new();
        Self { call, method: Method::GET, path, token, key: None, body, content_type: JSON, accept: None }
    }

    /// A write under its key.
    pub fn post(call: Call, path: &'a str, token: &'a str, key: &'a str, body: impl Into<Bytes>) -> Self {
        let (token, key) = (Some(token), Some(key));
        Self { call, method: Method::POST, path, token, key, body: body.into(), content_type: JSON, accept: None }
    }

    /// A step of a ride or driver, which needs no key.
    pub fn step(call: Call, method: Method, path: &'a str, token: &'a str, body: impl Into<Bytes>) -> Self {
        Self { call, method, path, token: Some(token), key: None, body: body.into(), content_type: JSON, accept: None }
    }

    /// Method and path, for messages.
    pub fn what(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All of the body.
    pub body: Bytes,
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    address: String,
    host: HeaderValue,
    slots: Semaphore,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    latencies: [Latencies; Call::ALL.len()],
    repeated: AtomicU64,
}

impl Client {
    /// For a server at `http://host:port`, with at most so many connections.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn new(url: &str, connections: usize) -> Result<Self, Error> {
        let refused = |reason: &str| Error::Address { url: url.to_owned(), reason: reason.to_owned() };
        let parsed: Url = url.parse().map_err(|error| refused(&format!("it is no URL ({error})")))?;
        if parsed.scheme() != "http" {
            return Err(refused("only plain http is spoken, to keep the cost of the client low"));
        }
        let (Some(host), Some(port)) = (parsed.host_str(), parsed.port_or_known_default()) else {
            return Err(refused("it has no host"));
        };
        // Nothing of it would be sent.
        if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() || !parsed.username().is_empty() {
            return Err(refused("only host and port are used of it"));
        }
        let address = format!("{host}:{port}");
        Ok(Self(Arc::new(Inner {
            host: HeaderValue::from_str(&address).map_err(|_| refused("its host is no host"))?,
            address,
            slots: Semaphore::new(connections.max(1)),
            idle: Mutex::default(),
            latencies: std::array::from_fn(|_| Latencies::default()),
            repeated: AtomicU64::new(0),
        })))
    }

    /// Asks until there is an answer. What is not answered, or answered with 429 or 503 for lack of room, is sent again
    /// with the same key.
    ///
    /// # Errors
    /// [`Error::Unanswered`] at the last time.
    pub async fn send(&self, ask: &Ask<'_>) -> Result<Answer, Error> {
        let mut pause = FIRST_PAUSE;
        for sent in 1.. {
            let answer = self.send_once(ask).await;
            let again = match &answer {
                // A read that took the server too long has done nothing.
                Ok(answer) => {
                    let harmless = ask.method == Method::GET || ask.call.is_harmless_again();
                    has_no_room(answer) || (answer.status == 504 && harmless)
                }
                Err(_) => true,
            };
            if !again || sent >= MAX_SENDS {
                return answer;
            }
            self.0.repeated.fetch_add(1, Ordering::Relaxed);
            sleep(pause).await;
            pause *= 2;
        }
        unreachable!("the loop ends with an answer")
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`Error::Unanswered`].
    pub async fn send_once(&self, ask: &Ask<'_>) -> Result<Answer, Error> {
        let unanswered = |reason: String| Error::Unanswered { what: ask.what(), reason };
        let _slot = self.0.slots.acquire().await.map_err(|error| unanswered(error.to_string()))?;
        let began = Instant::now();
        let answered = timeout(ANSWER_DEADLINE, self.exchange(ask)).await;
        let answer = answered.map_err(|_| unanswered(format!("nothing came for {} s", ANSWER_DEADLINE.as_secs())))?;
        let answer = answer.map_err(unanswered)?;
        self.0.latencies[ask.call as usize].add(began.elapsed());
        Ok(answer)
    }

    async fn exchange(&self, ask: &Ask<'_>) -> Result<Answer, String> {
        let request = self.request(ask)?;
        let mut connection = self.connection().await?;
        let response = connection.send_request(request).await.map_err(|error| chain(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        self.idle().push(connection);
        Ok(Answer { status, body })
    }

    /// An idle connection that is still good, or a new one.
    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        loop {
            let idle = self.idle().pop();
            let Some(mut idle) = idle else { break };
            if idle.ready().await.is_ok() {
                return Ok(idle);
            }
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let connecting = timeout(CONNECT_DEADLINE, TcpStream::connect(&self.0.address)).await;
        let stream = connecting.map_err(|_| "the connection is not accepted".to_owned())?;
        let stream = stream.map_err(|error| error.to_string())?;
        // Without it only latency suffers.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
        // It ends when the sender is dropped; what went wrong with it is told to who asks.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder().method(ask.method.clone()).uri(ask.path).header(HOST, self.0.host.clone());
        if let Some(token) = ask.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(key) = ask.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(accept) = ask.accept {
            request = request.header(ACCEPT, HeaderValue::from_static(accept));
        }
        if !ask.body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static(ask.content_type));
        }
        request.body(Full::new(ask.body.clone())).map_err(|error| error.to_string())
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each sort of call took; from the moment at which a connection was free for it.
    pub fn latencies(&self) -> Vec<(&'static str, Summary)> {
        let summary = |(call, name): (Call, _)| (name, self.0.latencies[call as usize].summary());
        Call::ALL.into_iter().map(summary).filter(|(_, summary)| summary.count > 0).collect()
    }

    /// How many requests were sent again.
    pub fn repeated(&self) -> u64 {
        self.0.repeated.load(Ordering::Relaxed)
    }
}

/// Whether the server said that it has no room at present. A payment whose outcome is unknown is none of that.
fn has_no_room(answer: &Answer) -> bool {
    let code = b"tickets.payment_unknown";
    match answer.status {
        429 => true,
        503 => !answer.body.windows(code.len()).any(|window| window == code),
        _ => false,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for url in
            ["", "localhost:8080", "https://tickets.example", "http://", "http://a/b", "http://a:1/?b", "http://a@b"]
        {
            let error = Client::new(url, 1).err().unwrap().to_string();
            assert!(error.contains(&format!("`{url}`")), "{error}");
        }
        assert!(Client::new("http://[::1]:8080/", 1).is_ok());
    }

    #[test]
    fn an_unknown_payment_is_not_asked_for_again() {
        let answer = |status, body: &'static str| Answer { status, body: Bytes::from_static(body.as_bytes()) };
        assert!(has_no_room(&answer(503, r#"{"code":"store.busy"}"#)) && has_no_room(&answer(429, "")));
        assert!(!has_no_room(&answer(503, r#"{"code":"tickets.payment_unknown"}"#)));
        assert!(!has_no_room(&answer(409, "")) && !has_no_room(&answer(200, "")));
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_a_remedy() {
        let client = Client::new(&format!("http://127.0.0.1:{}", tessera_testkit::free_port()), 1).unwrap();
        let error = client.send_once(&Ask::get(Call::Event, "/event/x", None)).await.unwrap_err().to_string();
        assert!(error.contains("GET /event/x") && error.contains("tessera up"), "{error}");
    }
}
