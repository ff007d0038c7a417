//! Stand-ins for the push services FCM, APNs and Web Push on one port: they check who sends, keep what they took, and fail on
//! demand. What is sent to a browser is decrypted as the browser would.

use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, Response, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{self, ECDH_P256, EphemeralPrivateKey, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::sync::oneshot;

const PROJECT: &str = "stand-in";
const KEY_ID: &str = "KEY1234567";
const TEAM_ID: &str = "TEAM123456";
const TOPIC: &str = "com.example.rides";
const MAX_BODY_BYTES: usize = 1 << 16;

/// Which of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Firebase Cloud Messaging.
    Fcm,
    /// Apple's.
    Apns,
    /// A browser's.
    Web,
    /// Where access tokens for FCM come from.
    OAuth,
}

/// What goes wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status and body; nothing was taken.
    Status(u16, &'static str),
    /// No answer at all.
    Silent,
}

/// A note that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// By which service.
    pub service: Service,
    /// For which device.
    pub device: String,
    /// Its headers by name.
    pub headers: HashMap<String, String>,
    /// What it said, decrypted where it was encrypted.
    pub body: Value,
}

#[derive(Default)]
struct Books {
    taken: Vec<Taken>,
    calls: HashMap<Service, usize>,
    faults: Vec<(Service, Fault)>,
    gone: Vec<String>,
    access: Vec<String>,
    browsers: HashMap<String, Browser>,
}

/// A browser's keys. The private one is used up by the first message, so each subscription takes one.
struct Browser {
    private: Option<EphemeralPrivateKey>,
    public: Vec<u8>,
    auth: [u8; 16],
}

struct State {
    books: Mutex<Books>,
    apns_key: Vec<u8>,
    vapid_key: Vec<u8>,
    /// The public key of the service account.
    account_key: Vec<u8>,
    url: String,
}

impl State {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stand-ins. They stop when this is dropped.
pub struct PushServices {
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    state: Arc<State>,
    folder: crate::ScratchDir,
    vapid: (String, String),
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for PushServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushServices").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Starts them.
///
/// # Panics
/// Where they do not start.
pub fn start() -> PushServices {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port on 127.0.0.1");
    listener.set_nonblocking(true).expect("a listener that does not block");
    let url = format!("http://{}", listener.local_addr().expect("the address of a bound port"));
    let folder = crate::ScratchDir::new();
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).expect("a key");
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(pkcs8.as_ref()));
    std::fs::write(folder.file("apns.p8"), pem).expect("a file in the scratch folder");
    let (account_pem, account_key) = rsa_key();
    let account = json!({
        "type": "service_account", "project_id": PROJECT, "private_key_id": "1", "private_key": account_pem,
        "client_email": "rides@stand-in.example", "token_uri": format!("{url}/token"),
    });
    std::fs::write(folder.file("account.json"), account.to_string()).expect("a file in the scratch folder");
    let (vapid, vapid_key) = vapid_pair(&random);
    let apns_key = pair.public_key().as_ref().to_vec();
    let state = Arc::new(State { books: Mutex::default(), apns_key, vapid_key, account_key, url: url.clone() });
    let (stop, stopped) = oneshot::channel();
    let router = Router::new().fallback(call).with_state(Arc::clone(&state));
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            tokio::select! {
                served = axum::serve(listener, router) => served.expect("the stand-ins serve"),
                _ = stopped => {}
            }
        });
    });
    PushServices { url, state, folder, vapid, stop: Some(stop), thread: Some(thread) }
}

/// Private and public key as texts, and the public one's bytes.
fn vapid_pair(random: &SystemRandom) -> ((String, String), Vec<u8>) {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), random).expect("a key");
    let public = pair.public_key().as_ref().to_vec();
    // Behind its header the private key is the octet string of 32 bytes: `04 20 …`.
    let at = pkcs8.as_ref().windows(2).position(|two| two == [4, 32]).expect("a private key") + 2;
    let private = URL_SAFE_NO_PAD.encode(&pkcs8.as_ref()[at..at + 32]);
    ((private, URL_SAFE_NO_PAD.encode(&public)), public)
}

/// A new RSA key in PEM (PKCS #8), which `ring` does not make, and its public part (PKCS #1).
///
/// # Panics
/// Where there is no `openssl`, saying what to install.
pub fn rsa_key() -> (String, Vec<u8>) {
    let made =
        Command::new("openssl").args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]).output();
    let made = made.ok().filter(|made| made.status.success());
    let made = made.unwrap_or_else(|| panic!("no `openssl` here; install it: apt-get install -y openssl"));
    let pem = String::from_utf8(made.stdout).expect("PEM");
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let pair = signature::RsaKeyPair::from_pkcs8(&STANDARD.decode(der).expect("base64")).expect("a key");
    let public = pair.public().as_ref().to_vec();
    (pem, public)
}

impl Drop for PushServices {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl PushServices {
    /// `[rides.push]` that names all of them.
    pub fn settings(&self) -> Value {
        json!({
            "fcm": { "credentials": self.folder.file("account.json"), "url": self.url },
            "apns": {
                "key": self.folder.file("apns.p8"), "key_id": KEY_ID, "team_id": TEAM_ID, "topic": TOPIC, "url": self.url,
            },
            "web": {
                "private_key": self.vapid.0, "public_key": self.vapid.1, "subject": "mailto:ops@example.com",
                "services": [self.url],
            },
        })
    }

    /// A browser subscribes: its subscription, as it would give it. Good for one message.
    ///
    /// # Panics
    /// Where the system gives no randomness.
    pub fn subscribe(&self) -> Value {
        let random = SystemRandom::new();
        let private = EphemeralPrivateKey::generate(&ECDH_P256, &random).expect("a key");
        let public = private.compute_public_key().expect("a public key").as_ref().to_vec();
        let mut auth = [0; 16];
        random.fill(&mut auth).expect("randomness");
        let mut books = self.state.books();
        let path = format!("/web/{}", books.browsers.len());
        let subscription = json!({
            "endpoint": format!("{}{path}", self.url), "expirationTime": null,
            "keys": { "p256dh": URL_SAFE_NO_PAD.encode(&public), "auth": URL_SAFE_NO_PAD.encode(auth) },
        });
        books.browsers.insert(path, Browser { private: Some(private), public, auth });
        subscription
    }

    /// The next call to a service goes wrong.
    pub fn add_fault(&self, service: Service, fault: Fault) {
        self.state.books().faults.push((service, fault));
    }

    /// A device is not known any more.
    pub fn remove(&self, device: &str) {
        self.state.books().gone.push(device.to_owned());
    }

    /// The access tokens that were given do not count any more.
    pub fn revoke_access(&self) {
        self.state.books().access.clear();
    }

    /// What was taken, in order.
    pub fn taken(&self) -> Vec<Taken> {
        self.state.books().taken.clone()
    }

    /// How often a service was called.
    pub fn calls(&self, service: Service) -> usize {
        self.state.books().calls.get(&service).copied().unwrap_or_default()
    }
}

type Refusal = (u16, String);

async fn call(Shared(state): Shared<Arc<State>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let body = axum::body::to_bytes(body, MAX_BODY_BYTES).await.unwrap_or_default();
    let service = match path.as_str() {
        "/token" => Service::OAuth,
        path if path.starts_with("/v1/projects/") => Service::Fcm,
        path if path.starts_with("/3/device/") => Service::Apns,
        _ => Service::Web,
    };
    let fault = {
        let mut books = state.books();
        *books.calls.entry(service).or_default() += 1;
        let at = books.faults.iter().position(|(of, _)| *of == service);
        at.map(|at| books.faults.remove(at).1)
    };
    let answered = match fault {
        Some(Fault::Silent) => {
            // Longer than anybody waits; not for ever, so that the stand-in can stop.
            tokio::time::sleep(Duration::from_secs(120)).await;
            Err((503, String::new()))
        }
        Some(Fault::Status(status, body)) => Err((status, body.to_owned())),
        None => match service {
            Service::OAuth => grant(&state, &body),
            Service::Fcm => take_fcm(&state, &path, &parts.headers, &body),
            Service::Apns => take_apns(&state, &path, &parts.headers, &body),
            Service::Web => take_web(&state, &path, &parts.headers, &body),
        },
    };
    let (status, text) = answered.unwrap_or_else(|refusal| refusal);
    let mut answer = Response::new(Body::from(text));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
}

fn grant(state: &State, body: &[u8]) -> Result<Refusal, Refusal> {
    let form: HashMap<String, String> =
        url::form_urlencoded::parse(body).map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
    let refused = |why: &str| (400, json!({ "error": "invalid_grant", "error_description": why }).to_string());
    if form.get("grant_type").is_none_or(|grant| grant != "urn:ietf:params:oauth:grant-type:jwt-bearer") {
        return Err(refused("grant_type"));
    }
    let assertion = form.get("assertion").ok_or_else(|| refused("assertion"))?;
    let claim = verified(assertion, |text, signed| {
        let key = signature::UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, &state.account_key);
        key.verify(text, signed).is_ok()
    });
    let claim = claim.ok_or_else(|| refused("signature"))?;
    let lasts = claim["exp"].as_i64().unwrap_or_default() - claim["iat"].as_i64().unwrap_or_default();
    let right = claim["iss"] == "rides@stand-in.example"
        && claim["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
        && claim["aud"] == format!("{}/token", state.url)
        && (1..=3_600).contains(&lasts);
    if !right {
        return Err(refused("claim"));
    }
    let mut books = state.books();
    let token = format!("access-{}", books.calls.get(&Service::OAuth).copied().unwrap_or_default());
    books.access.push(token.clone());
    Ok((200, json!({ "access_token": token, "expires_in": 3_599, "token_type": "Bearer" }).to_string()))
}

fn take_fcm(state: &State, path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Refusal, Refusal> {
    let refused = |status: u16, code: &str| {
        let details = json!([{ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code }]);
        (status, json!({ "error": { "code": status, "status": code, "details": details } }).to_string())
    };
    if path != format!("/v1/projects/{PROJECT}/messages:send") {
        return Err(refused(404, "NOT_FOUND"));
    }
    let bearer = header(headers, "authorization").strip_prefix("Bearer ").unwrap_or_default().to_owned();
    let mut books = state.books();
    if !books.access.contains(&bearer) {
        return Err(refused(401, "UNAUTHENTICATED"));
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| refused(400, "INVALID_ARGUMENT"))?;
    let message = &body["message"];
    let texts = message["data"].as_object().is_none_or(|data| data.values().all(Value::is_string));
    let ttl = message["android"]["ttl"].as_str().and_then(|ttl| ttl.strip_suffix('s')?.parse::<u64>().ok());
    let (Some(device), Some(_), true) = (message["token"].as_str(), ttl, texts) else {
        return Err(refused(400, "INVALID_ARGUMENT"));
    };
    if books.gone.iter().any(|gone| gone == device) {
        return Err(refused(404, "UNREGISTERED"));
    }
    let taken =
        Taken { service: Service::Fcm, device: device.to_owned(), headers: all(headers), body: message.clone() };
    books.taken.push(taken);
    Ok((200, json!({ "name": format!("projects/{PROJECT}/messages/1") }).to_string()))
}

fn take_apns(state: &State, path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Refusal, Refusal> {
    let refused = |status: u16, reason: &str| (status, json!({ "reason": reason }).to_string());
    let bearer = header(headers, "authorization").strip_prefix("bearer ").map(str::to_owned);
    let bearer = bearer.or_else(|| header(headers, "authorization").strip_prefix("Bearer ").map(str::to_owned));
    let claim = verified(&bearer.unwrap_or_default(), |text, signed| {
        signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &state.apns_key).verify(text, signed).is_ok()
    });
    if claim.is_none_or(|claim| claim["iss"] != TEAM_ID || !claim["iat"].is_i64()) {
        return Err(refused(403, "InvalidProviderToken"));
    }
    if header(headers, "apns-topic") != TOPIC {
        return Err(refused(400, "BadTopic"));
    }
    if header(headers, "apns-expiration").parse::<i64>().is_err() || header(headers, "apns-push-type") != "alert" {
        return Err(refused(400, "InvalidPushType"));
    }
    let device = path.trim_start_matches("/3/device/").to_owned();
    let body: Value = serde_json::from_slice(body).map_err(|_| refused(400, "PayloadEmpty"))?;
    let mut books = state.books();
    if books.gone.contains(&device) {
        return Err(refused(410, "Unregistered"));
    }
    books.taken.push(Taken { service: Service::Apns, device, headers: all(headers), body });
    Ok((200, String::new()))
}

fn take_web(state: &State, path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Refusal, Refusal> {
    let refused = |status: u16, why: &str| (status, why.to_owned());
    let proof = header(headers, "authorization");
    let parts = proof.strip_prefix("vapid t=").and_then(|rest| rest.split_once(", k="));
    let (token, key) = parts.ok_or_else(|| refused(401, "no vapid"))?;
    let claim = verified(token, |text, signed| {
        signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &state.vapid_key).verify(text, signed).is_ok()
    });
    let claim = claim.filter(|_| key == URL_SAFE_NO_PAD.encode(&state.vapid_key));
    if claim.is_none_or(|claim| claim["aud"] != state.url || !claim["exp"].is_i64() || claim["sub"].is_null()) {
        return Err(refused(403, "vapid"));
    }
    if header(headers, "ttl").parse::<u64>().is_err() || header(headers, "content-encoding") != "aes128gcm" {
        return Err(refused(400, "ttl or encoding"));
    }
    let mut books = state.books();
    let device = format!("{}{path}", state.url);
    if books.gone.contains(&device) {
        return Err(refused(410, "gone"));
    }
    let browser = books.browsers.get_mut(path).ok_or_else(|| refused(404, "no such subscription"))?;
    let private = browser.private.take().ok_or_else(|| refused(500, "a subscription is good for one message here"))?;
    let text = decrypt(body, private, &browser.public, &browser.auth).ok_or_else(|| refused(400, "not decrypted"))?;
    let body = serde_json::from_slice(&text).map_err(|_| refused(400, "not JSON"))?;
    books.taken.push(Taken { service: Service::Web, device, headers: all(headers), body });
    Ok((201, String::new()))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn all(headers: &HeaderMap) -> HashMap<String, String> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

/// The claim of a JWT whose signature is right.
fn verified(token: &str, right: impl FnOnce(&[u8], &[u8]) -> bool) -> Option<Value> {
    let (text, signed) = token.rsplit_once('.')?;
    let (_, claim) = text.split_once('.')?;
    if !right(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signed).ok()?) {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claim).ok()?).ok()
}

struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

/// What a browser does with a message (RFC 8291, RFC 8188), one record of it.
fn decrypt(body: &[u8], private: EphemeralPrivateKey, public: &[u8], auth: &[u8]) -> Option<Vec<u8>> {
    let (salt, rest) = body.split_at_checked(16)?;
    let (size, rest) = rest.split_at_checked(4)?;
    let (length, rest) = rest.split_at_checked(1)?;
    let (sender, sealed) = rest.split_at_checked(usize::from(length[0]))?;
    if sealed.len() > u32::from_be_bytes(size.try_into().ok()?) as usize {
        return None;
    }
    let secret =
        agree_ephemeral(private, &agreement::UnparsedPublicKey::new(&ECDH_P256, sender), <[u8]>::to_vec).ok()?;
    let mut input = [0; 32];
    let info: [&[u8]; 3] = [b"WebPush: info\0", public, sender];
    Salt::new(HKDF_SHA256, auth).extract(&secret).expand(&info, Bytes(32)).ok()?.fill(&mut input).ok()?;
    let pseudo = Salt::new(HKDF_SHA256, salt).extract(&input);
    let (mut key, mut nonce) = ([0; 16], [0; 12]);
    pseudo.expand(&[b"Content-Encoding: aes128gcm\0"], Bytes(16)).ok()?.fill(&mut key).ok()?;
    pseudo.expand(&[b"Content-Encoding: nonce\0"], Bytes(12)).ok()?.fill(&mut nonce).ok()?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?);
    let mut sealed = sealed.to_vec();
    let text = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed).ok()?;
    let end = text.iter().rposition(|byte| *byte != 0)?;
    (text[end] == 2).then(|| text[..end].to_vec())
}
