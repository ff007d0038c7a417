//! The season of `up --demo` and the crowd that buys in it: when the crowd has gone, all books agree.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tessera_testkit::ScratchDir;
use tessera_testkit::bin::{Process, tessera_command};

use crate::tessera;

/// How long it may take to load a season and for its crowd to buy something, unoptimised and beside other tests.
const DEADLINE: Duration = Duration::from_secs(600);
/// Purchases that are waited for.
const PURCHASES: usize = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// A server, seen by the organiser of the demo.
struct Server {
    process: Process,
    base: String,
    token: String,
    client: reqwest::Client,
}

impl Server {
    fn up(data: &Path, arguments: &[&str], line: &str) -> Self {
        let mut command = tessera_command(tessera());
        command.args(["up", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(arguments);
        let process = Process::spawn(command.env("TESSERA__DEMO__ADDRESS", "127.0.0.1:0"));
        let line = process.wait_for(line);
        let address = line.split_whitespace().last().unwrap();
        let base = address.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        let arguments = ["token", "--role", "organiser", "--subject", "demo-organiser", "--data"];
        let token = Process::tessera(tessera(), arguments.iter().chain(&[data.to_str().unwrap()])).wait();
        Self { process, base, token: token.stdout.trim().to_owned(), client: tessera_service::client::build().unwrap() }
    }

    async fn get(&self, path: &str) -> Value {
        let asked = self.client.get(format!("{}{path}", self.base)).bearer_auth(&self.token).send().await.unwrap();
        let status = asked.status();
        let text = asked.text().await.unwrap();
        assert!(status.is_success(), "GET {path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// All items of a list.
    async fn list(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{path}&limit=1000{cursor}")).await;
            items.extend(page["items"].as_array().unwrap().clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    async fn stop(self) {
        self.process.signal("TERM");
        let finished = tokio::task::spawn_blocking(|| self.process.wait()).await.unwrap();
        assert_eq!(finished.code(), Some(0), "{finished:?}");
    }
}

fn is(order: &Value, states: &[&str]) -> bool {
    states.contains(&order["state"].as_str().unwrap())
}

fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

/// What an event, its orders and its tickets say must be the same; gives how many seats are sold.
async fn check_event(server: &Server, event: &str, orders: &[&Value]) -> i64 {
    let seats = server.get(&format!("/event/{event}")).await["seats"].clone();
    let report = server.get(&format!("/organiser/events/{event}/report")).await;
    let tickets = server.list(&format!("/tickets?event={event}")).await;
    let sold = number(&seats, "/booked");
    assert_eq!(number(&seats, "/free") + number(&seats, "/held") + sold, number(&seats, "/total"), "{seats}");
    assert_eq!((tickets.len() as i64, number(&report, "/tickets/sold")), (sold, sold), "{event}");
    let distinct: HashSet<&str> = tickets.iter().map(|ticket| ticket["id"].as_str().unwrap()).collect();
    assert_eq!(distinct.len(), tickets.len(), "a seat is sold once: {event}");
    let paid: Vec<_> = orders.iter().filter(|order| is(order, &["captured", "booked"])).collect();
    assert_eq!(paid.iter().map(|order| number(order, "/count")).sum::<i64>(), sold, "{event}");
    let prices: i64 = tickets.iter().map(|ticket| number(ticket, "/price/amount")).sum();
    assert_eq!(prices, paid.iter().map(|order| number(order, "/total/amount")).sum::<i64>(), "{event}");
    assert_eq!(number(&report, "/revenue/net/amount"), prices, "{event}");
    for order in orders {
        let kept = number(order, "/captured/amount") - number(order, "/refunded/amount");
        let due = if is(order, &["captured", "booked"]) { number(order, "/total/amount") } else { 0 };
        assert_eq!(kept, due, "no money without seats, no seats without money: {order:#}");
    }
    sold
}

#[tokio::test]
async fn a_fresh_demo_sells_and_its_books_agree() {
    let scratch = ScratchDir::new();
    let data = scratch.file("data");
    let demo = Server::up(&data, &["--demo"], "watch the demo pipeline");
    let began = Instant::now();
    loop {
        let orders = demo.list("/orders?").await;
        if orders.iter().filter(|order| is(order, &["captured"])).count() >= PURCHASES {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "the crowd buys nothing: {orders:#?}");
        tokio::time::sleep(PAUSE).await;
    }
    let season = demo.get("/search?limit=1").await;
    assert!(number(&season, "/total") > 200, "{season:#}");
    demo.stop().await;

    // The same folder without its crowd: what was under way comes to its end.
    let server = Server::up(&data, &[], "/metrics");
    let orders = loop {
        let orders = server.list("/orders?").await;
        if !orders.iter().any(|order| is(order, &["paying", "authorised", "booked", "refund_due"])) {
            break orders;
        }
        assert!(began.elapsed() < DEADLINE, "orders stay open: {orders:#?}");
        tokio::time::sleep(PAUSE).await;
    };
    let mut by_event: HashMap<&str, Vec<&Value>> = HashMap::new();
    for order in &orders {
        by_event.entry(order["event"].as_str().unwrap()).or_default().push(order);
    }
    let mut sold = 0;
    for (event, orders) in by_event {
        sold += check_event(&server, event, &orders).await;
    }
    assert!(sold >= PURCHASES as i64, "{sold}");
    server.stop().await;
}
