//! Orders, tickets and the provider's ledger at the end, and what clients were told before.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::time::sleep;

use super::servers::Servers;
use super::wire::Connection;

/// How long the reconciler may take for what the last kill left.
const SETTLED: Duration = Duration::from_secs(120);

/// All of them, read over HTTP.
pub struct Books {
    orders: Vec<Value>,
    tickets: Vec<Value>,
    ledger: Vec<Value>,
}

/// What was found.
pub struct Found {
    pub sold: usize,
    pub captured: i64,
    pub double_sales: usize,
    pub faults: Vec<String>,
}

/// Reads them once no order has anything left to do.
pub async fn settled(servers: &Servers) -> anyhow::Result<Books> {
    let began = Instant::now();
    loop {
        let orders = list(servers, "/orders").await?;
        let open = orders
            .iter()
            .filter(|order| matches!(order["state"].as_str(), Some("paying" | "authorised" | "booked" | "refund_due")));
        let open = open.count();
        if open == 0 {
            let (tickets, ledger) = (list(servers, "/tickets").await?, list(servers, "/payments/test").await?);
            return Ok(Books { orders, tickets, ledger });
        }
        if began.elapsed() > SETTLED {
            bail!("{open} orders are not settled after {} s", SETTLED.as_secs());
        }
        sleep(Duration::from_secs(2)).await;
    }
}

async fn list(servers: &Servers, path: &str) -> anyhow::Result<Vec<Value>> {
    let admin = servers.token("admin", "admin")?;
    let mut server = Connection::open(servers.address(0)).await?;
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = server.get(&format!("{path}?limit=1000&cursor={cursor}"), &admin).await?;
        ensure!(status == 200, "GET {path}: {status} {page}");
        items.extend(page["items"].as_array().context("items")?.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return Ok(items),
        }
    }
}

impl Books {
    /// Compares them with each other, and with what clients were told: tickets by order.
    pub fn judge(&self, told: &HashMap<String, Vec<String>>, price: i64) -> Found {
        let mut faults = Vec::new();
        let mut double_sales = 0;
        let mut owners: HashMap<&str, &str> = HashMap::new();
        for (order, tickets) in told {
            for ticket in tickets {
                if let Some(other) = owners.insert(ticket, order) {
                    double_sales += 1;
                    faults.push(format!("{ticket} was sold with {order} and {other}"));
                }
            }
        }
        let mut sold: HashMap<&str, &str> = HashMap::new();
        for ticket in &self.tickets {
            let (id, order) = (text(&ticket["id"]), text(&ticket["order"]));
            if sold.insert(id, order).is_some() {
                double_sales += 1;
            }
        }
        for (ticket, order) in &owners {
            if sold.get(ticket) != Some(order) {
                faults.push(format!("{ticket} was said to be bought with {order}, and is of {:?}", sold.get(ticket)));
            }
        }
        let mut of_order: HashMap<&str, i64> = HashMap::new();
        sold.values().for_each(|order| *of_order.entry(order).or_default() += price);
        let mut ledger: HashMap<&str, i64> = HashMap::new();
        for payment in &self.ledger {
            let kept = amount(&payment["captured"]) - amount(&payment["refunded"]);
            *ledger.entry(text(&payment["order"])).or_default() += kept;
            if payment["state"] == "authorised" {
                faults.push(format!("money is set aside for {}", payment["order"]));
            }
        }
        for order in &self.orders {
            let id = text(&order["id"]);
            let worth = of_order.get(id).copied().unwrap_or_default();
            let kept = ledger.remove(id).unwrap_or_default();
            let says = amount(&order["captured"]) - amount(&order["refunded"]);
            if (worth, worth) != (kept, says) || (worth > 0) != (order["state"] == "captured") {
                faults.push(format!("{id} ({}) has seats worth {worth}, says {says}, paid {kept}", order["state"]));
            }
        }
        faults.extend(
            ledger.iter().filter(|(_, kept)| **kept != 0).map(|(id, kept)| format!("{kept} for no order {id}")),
        );
        let captured = self.ledger.iter().map(|payment| amount(&payment["captured"])).sum();
        faults.truncate(20);
        Found { sold: sold.len(), captured, double_sales, faults }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn amount(money: &Value) -> i64 {
    money["amount"].as_i64().unwrap_or_default()
}
