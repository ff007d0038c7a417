//! `tessera serve tickets` as a process of its own, with an event on sale and people who have tokens.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tessera_kernel::{Clock, SystemClock};
use tessera_service::Keys;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::{load, peers};

/// Places of the event that is held and bought, the most there are.
pub const PLACES: u32 = 250_000;
/// How long tokens count.
const DAY: Duration = Duration::from_secs(86_400);
/// How long a server may take to listen.
const START: Duration = Duration::from_secs(30);

/// A process that is killed when this goes.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// The first process of its PostgreSQL, where it has one.
    pub database: Option<u32>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts it with `--listen ADDRESS` and waits until it listens there.
    pub async fn start(mut command: Command) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        command.args(["--listen", &address.to_string()]).stdin(Stdio::null());
        let child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
        let mut process = Self { child, address, database: None };
        let until = tokio::time::Instant::now() + START;
        while tokio::time::Instant::now() < until {
            if TcpStream::connect(address).await.is_ok() {
                return Ok(process);
            }
            if let Some(status) = process.child.try_wait()? {
                bail!("{command:?} ended: {status}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("nobody listens on {address}")
    }

    /// User and system time so far, microseconds.
    pub fn cpu_us(&self) -> anyhow::Result<u64> {
        cpu_us(&self.child.id().to_string())
    }
}

/// User and system time of a process, microseconds.
pub fn cpu_us(process: &str) -> anyhow::Result<u64> {
    let Stat { own_us, .. } = stat(process)?;
    Ok(own_us)
}

/// That of a process and of those that it has started, ended ones too.
pub fn family_cpu_us(first: u32) -> anyhow::Result<u64> {
    let of_first = stat(&first.to_string())?;
    let mut sum = of_first.own_us + of_first.ended_us;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        // It may have ended since; then it counts with the first one next time.
        if let Ok(child) = stat(process)
            && child.parent == first
        {
            sum += child.own_us;
        }
    }
    Ok(sum)
}

struct Stat {
    parent: u32,
    own_us: u64,
    /// Of children that have ended.
    ended_us: u64,
}

/// proc(5): field 4, and 14 to 17, in hundredths of a second.
fn stat(process: &str) -> anyhow::Result<Stat> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let number = |at: usize| -> anyhow::Result<u64> { Ok(fields.get(at).context("stat is short")?.parse()?) };
    let parent = u32::try_from(number(1)?)?;
    Ok(Stat { parent, own_us: (number(11)? + number(12)?) * 10_000, ended_us: (number(13)? + number(14)?) * 10_000 })
}

/// The server, its event and its fans.
pub struct Shop {
    /// The process.
    pub process: Process,
    /// The ids of tickets but for their last eight digits.
    pub tickets: String,
    /// An event of a stadium, whose page is asked for.
    pub stadium: String,
    /// `authorization: Bearer …` of each fan.
    pub fans: Vec<String>,
    _data: tempfile::TempDir,
}

impl Shop {
    /// Opens one on new stores: in its folder, or in the database at `store`.
    pub async fn open(tessera: &Path, store: Option<&str>, log: &str, fans: u32) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let mut command = Command::new(tessera);
        command.args(["serve", "tickets", "--data"]).arg(data.path());
        // Its log goes where logs go: into a file.
        command.env("RUST_LOG", log).stdout(Stdio::null()).stderr(File::create(data.path().join("log"))?);
        if let Some(store) = store {
            command.env("TESSERA__TICKETS__STORE", store);
        }
        let mut process = Process::start(command).await?;
        if let Some(store) = store {
            process.database = Some(peers::first_process(store).await?);
        }
        let keys = Keys::open(data.path(), Arc::new(SystemClock) as Arc<dyn Clock>)?;
        let organiser = keys.sign_token("organiser", &["organiser".to_owned()], DAY)?;
        let (tickets, stadium) = publish(process.address, &organiser).await?;
        let token = |fan: u32| keys.sign_token(&format!("fan{fan}"), &["fan".to_owned()], DAY);
        let fans: Vec<String> = (0..fans).map(token).collect::<Result<_, _>>()?;
        let shop = Self { process, tickets, stadium, fans, _data: data };
        shop.greet().await?;
        Ok(shop)
    }

    /// Every token is shown once before anything is counted: its first verification costs 70 µs, later ones do not.
    async fn greet(&self) -> anyhow::Result<()> {
        let fans = Arc::new(self.fans.clone());
        let fill = move |n: usize, request: &mut Vec<u8>| {
            let Some(token) = fans.get(n) else { return false };
            request.extend(b"GET /booking/hold/none HTTP/1.1\r\nhost: t\r\nauthorization: Bearer ");
            request.extend(token.as_bytes());
            request.extend(b"\r\n\r\n");
            true
        };
        let address = self.process.address;
        let done = load::run(address, 32, DAY, 400, Arc::new(fill), Arc::new(|_, _: &[u8]| ())).await?;
        ensure!(done.other == 0, "a token was not taken: {:?}", done.complaint);
        Ok(())
    }
}

/// An event of places only, whose numbers are those of its area, and one of 50,000 seats.
async fn publish(address: SocketAddr, token: &str) -> anyhow::Result<(String, String)> {
    let level = json!({ "key": "all", "name": "All", "price": 1000, "color": "#336699" });
    let venue = json!({ "name": "Bench", "city": "Lisboa", "country": "PT", "timezone": "Europe/Lisbon" });
    let venue = send(address, token, "/organiser/venues", &venue).await?;
    let mut event = json!({
        "name": "Bench", "kind": "concert", "venue": venue["id"], "starts_at": "2099-01-01T20:00:00Z", "currency": "EUR",
        "price_levels": [level],
        "areas": [{ "key": "floor", "name": "Floor", "capacity": PLACES, "price_level": "all" }],
        "rules": { "max_per_customer": 50, "hold_ttl_s": 3600 },
    });
    let mut ids = Vec::new();
    for stadium in [false, true] {
        if stadium {
            let plan = json!({ "generate": { "kind": "stadium", "seats": 50_000 } });
            let plan = send(address, token, "/organiser/plans", &plan).await?;
            event["plan"] = plan["id"].clone();
            event["areas"] = json!([]);
            let categories = ["Category 1", "Category 2", "Club", "Category 3", "Category 4"];
            event["price_levels"][0]["categories"] = json!(categories);
        }
        let made = send(address, token, "/organiser/events", &event).await?;
        let id = made["id"].as_str().context("an event without an id")?.to_owned();
        send(address, token, &format!("/organiser/events/{id}/publish"), &json!({})).await?;
        ids.push(id);
    }
    let [places, stadium] = <[String; 2]>::try_from(ids).map_err(|_| anyhow::anyhow!("two events"))?;
    let digits = places.strip_prefix("event_").and_then(|digits| digits.get(..24)).context("not an event's id")?;
    Ok((format!("ticket_{digits}"), stadium))
}

async fn send(address: SocketAddr, token: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(address).await?;
    let body = body.to_string();
    let key = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\nidempotency-key: bench{key}{path}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = Vec::new();
    let (status, at) = load::answer(&mut stream, &mut buffer).await?;
    let text = String::from_utf8_lossy(&buffer[at..]);
    ensure!((200..300).contains(&status), "POST {path}: {status} {text}");
    Ok(serde_json::from_str(&text)?)
}
