//! Where rivals meet: servers, an event of a few places, and the books at the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tessera_kernel::SystemClock;
use tessera_service::Keys;
use tessera_store::sql::Db;
use tessera_testkit::ScratchDir;
use tessera_testkit::bin::{Process, set_clock_off, tessera_command};
use tessera_testkit::history::books::Books;
use tessera_testkit::history::record::{Recorder, Terms, faults};
use tessera_testkit::history::seat::{Micros, Rules};
use tokio::time::{Instant, sleep};

use super::rivals::{Arena, Rival, name};
use crate::tessera;

/// Shorter than an organiser may choose, so that holds lapse while we look.
pub const TTL: Duration = Duration::from_secs(1);
/// How long a payment may extend a hold.
pub const WINDOW: Duration = Duration::from_secs(2);
/// How long to wait until all is settled. It takes about ten seconds.
const SETTLED: Duration = Duration::from_secs(180);
const DAY: Duration = Duration::from_secs(86_400);

/// A `tessera serve ROLE` that can be killed, put to sleep and started again.
pub struct Server {
    role: &'static str,
    process: Option<Process>,
    pub base: String,
    data: PathBuf,
    listen: String,
    settings: Vec<(String, String)>,
    clock_off_s: i64,
}

impl Server {
    pub fn start(data: &Path, settings: &[(String, String)], clock_off_s: i64) -> Self {
        Self::start_as("tickets", data, settings, clock_off_s)
    }

    /// The same of another role.
    pub fn start_as(role: &'static str, data: &Path, settings: &[(String, String)], clock_off_s: i64) -> Self {
        let listen = format!("127.0.0.1:{}", tessera_testkit::free_port());
        let settings = settings.to_vec();
        let base = format!("http://{listen}");
        let mut server = Self { role, process: None, base, data: data.to_owned(), listen, settings, clock_off_s };
        server.spawn();
        server
    }

    fn spawn(&mut self) {
        let mut command = tessera_command(tessera());
        command.args(["serve", self.role, "--listen", &self.listen, "--data"]).arg(&self.data);
        command.env("RUST_LOG", "warn").envs(self.settings.iter().map(|(name, value)| (name, value)));
        if self.clock_off_s != 0 {
            set_clock_off(&mut command, self.clock_off_s);
        }
        let process = Process::spawn(&mut command);
        process.wait_for("/metrics");
        self.process = Some(process);
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().unwrap().signal(name);
    }

    /// Ends it where it stands, without a word, if it was not before.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal("KILL");
            process.wait();
        }
    }

    /// The same, and starts another in its place.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.spawn();
    }
}

/// The settings of a server on these stores.
pub fn settings(store: &str, redis: Option<&str>) -> Vec<(String, String)> {
    let mut settings = vec![
        ("TESSERA__TICKETS__STORE".to_owned(), store.to_owned()),
        ("TESSERA__TICKETS__PAYMENT_WINDOW_S".to_owned(), WINDOW.as_secs().to_string()),
        ("TESSERA__TICKETS__PAYMENTS__TIMEOUT_S".to_owned(), "1".to_owned()),
        ("TESSERA__HTTP__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
    ];
    settings.extend(redis.map(|url| ("TESSERA__TICKETS__REDIS".to_owned(), url.to_owned())));
    settings
}

/// Data folders of one installation: they share the key.
pub fn folders(scratch: &ScratchDir, count: usize) -> Vec<PathBuf> {
    let folders: Vec<PathBuf> = (0..count).map(|n| scratch.file(&format!("data{n}"))).collect();
    Keys::open(&folders[0], Arc::new(SystemClock)).unwrap();
    for folder in &folders[1..] {
        std::fs::create_dir_all(folder.join("keys")).unwrap();
        std::fs::copy(folders[0].join("keys/identity.pk8"), folder.join("keys/identity.pk8")).unwrap();
    }
    folders
}

/// Opens the sale, and gives what rivals share.
pub async fn open(bases: &[String], keys_of: &Path, store: &str, seats: u32, rivals: usize) -> Arc<Arena> {
    let keys = Keys::open(keys_of, Arc::new(SystemClock)).unwrap();
    let token = |subject: &str, role: &str| keys.sign_token(subject, &[role.to_owned()], DAY).unwrap();
    let client = tessera_service::client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(8))
        .build()
        .unwrap();
    let organiser = token("organiser", "organiser");
    let post = async |path: &str, body: Value| -> Value {
        let ask = client.post(format!("{}{path}", bases[0])).bearer_auth(&organiser);
        let ask = ask.header("idempotency-key", path).header("content-type", "application/json");
        let answer = ask.body(body.to_string()).send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert!(status < 300, "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    };
    let venue = json!({ "name": "Arena", "city": "Lisboa", "country": "PT", "timezone": "Europe/Lisbon" });
    let venue = post("/organiser/venues", venue).await;
    let event = json!({
        "name": "Evening", "kind": "concert", "venue": venue["id"], "starts_at": "2099-01-01T20:00:00Z", "currency": "EUR",
        "price_levels": [{ "key": "all", "name": "All", "price": 1000, "color": "#336699" }],
        "areas": [{ "key": "floor", "name": "Floor", "capacity": seats, "price_level": "all" }],
        "rules": { "max_per_customer": 1_000, "hold_ttl_s": 30, "refundable_until_h": 1 },
    });
    let event = post("/organiser/events", event).await["id"].as_str().unwrap().to_owned();
    post(&format!("/organiser/events/{event}/publish"), json!({})).await;
    let db = Db::open(store, "tickets", &tessera_tickets::store::migrations()).await.unwrap();
    let ttl = format!("\"hold_ttl_s\":{}", TTL.as_secs());
    tessera_store::each_engine!(&db, |pool| {
        let shorten = "UPDATE events SET document = replace(document, '\"hold_ttl_s\":30', $1), version = version + 1";
        let shortened = sqlx::query(shorten).bind(&ttl).execute(pool).await.map(|done| done.rows_affected());
        assert_eq!(shortened.unwrap(), 1);
    });
    db.close().await;
    // Every server must have read it anew.
    for base in bases {
        let began = Instant::now();
        loop {
            let page = client.get(format!("{base}/event/{event}")).send().await.unwrap().text().await.unwrap();
            let page: Value = serde_json::from_str(&page).unwrap();
            if page["rules"]["hold_ttl_s"] == TTL.as_secs() {
                break;
            }
            assert!(began.elapsed() < SETTLED, "{page}");
            sleep(Duration::from_millis(50)).await;
        }
    }
    let prefix = format!("ticket_{}", &event["event_".len()..][..24]);
    Arc::new(Arena {
        bases: bases.to_vec(),
        client,
        recorder: Recorder::default(),
        tickets: (0..seats).map(|seat| format!("{prefix}{:08x}", seat + 1)).collect(),
        ttl: TTL,
        tokens: (0..rivals).map(|number| token(&name(number), "fan")).collect(),
        promoter: token("promoter", "admin"),
        over: AtomicBool::new(false),
        outrages: Default::default(),
        holds: Default::default(),
    })
}

/// Lets them all loose for so many rounds each, or until `meanwhile` has come to its end.
pub async fn contend(arena: &Arc<Arena>, seed: u64, rounds: usize, meanwhile: impl Future<Output = ()>) {
    let rivals: Vec<_> =
        (0..arena.tokens.len()).map(|number| tokio::spawn(Rival::new(arena, seed, number).run(rounds))).collect();
    meanwhile.await;
    if rounds == usize::MAX {
        arena.over.store(true, Ordering::Relaxed);
    }
    for rival in rivals {
        rival.await.unwrap();
    }
}

/// Waits until all is settled, and judges what was recorded.
pub async fn judge(arena: &Arena, seed: u64, rules: Rules) -> Summary {
    let began = Instant::now();
    let mut known = None;
    let (books, closed) = loop {
        let closed = arena.recorder.now();
        if let Some(books) = books(arena).await {
            let unsettled = books.unsettled();
            // An order that changed while the list was walked stands behind its end: the next walk has it.
            if unsettled.is_empty() && known.replace(books.orders.len()) == Some(books.orders.len()) {
                break (books, closed);
            }
            assert!(began.elapsed() < SETTLED, "seed {seed}: not settled: {unsettled:#?}");
        }
        assert!(began.elapsed() < SETTLED, "seed {seed}: the books cannot be read");
        sleep(Duration::from_millis(250)).await;
    };
    let history = arena.recorder.history();
    let micros = |span: Duration| span.as_micros() as Micros;
    let terms = Terms { ttl: micros(TTL), window: micros(WINDOW), rules };
    let mut faults = faults(&history, &books, closed, &terms);
    faults.extend(arena.outrages.lock().unwrap().drain(..));
    assert!(faults.is_empty(), "seed {seed}: {} faults in {} requests: {faults:#?}", faults.len(), history.len());
    let captured = books.orders.iter().filter(|order| order.was_booked()).count();
    Summary { requests: history.len(), orders: books.orders.len(), booked: captured, settled_after: began.elapsed() }
}

/// What a history was made of.
#[derive(Debug)]
#[expect(dead_code, reason = "it is printed")]
pub struct Summary {
    pub requests: usize,
    pub orders: usize,
    pub booked: usize,
    pub settled_after: Duration,
}

async fn books(arena: &Arena) -> Option<Books> {
    let orders = list(arena, "/orders").await?;
    let tickets = list(arena, "/tickets").await?;
    let ledger = list(arena, "/payments/test").await?;
    Some(Books::read(&orders, &tickets, &ledger))
}

async fn list(arena: &Arena, path: &str) -> Option<Vec<Value>> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let url = format!("{}{path}?limit=500&cursor={cursor}", arena.bases[0]);
        let answer = arena.client.get(url).bearer_auth(&arena.promoter).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        let page: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        items.extend(page["items"].as_array()?.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return Some(items),
        }
    }
}
