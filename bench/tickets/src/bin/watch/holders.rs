//! Holds at a steady rate, one seat each, seats spread over the house.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tessera_bench::client::Client;

/// Connections, each with one request in flight.
const CONNECTIONS: u32 = 128;
/// Seats go in steps of this, which shares no factor with their number.
const STRIDE: u64 = 7_919;

/// A seat that was held.
pub struct Held {
    pub seat: u32,
    /// When the request was sent, at the latest: where its connection was busy, when its turn was.
    pub asked: Instant,
    pub answered: Instant,
}

/// Holds `count` seats at `rate` a second.
pub async fn hold(
    address: SocketAddr,
    event: &str,
    fans: Vec<String>,
    rate: u32,
    count: u32,
) -> anyhow::Result<Vec<Held>> {
    let digits = event.strip_prefix("event_").and_then(|digits| digits.get(..24)).context("not an event's id")?;
    let (prefix, fans): (Arc<str>, Arc<[String]>) = (format!("ticket_{digits}").into(), fans.into());
    let begin = Instant::now() + Duration::from_millis(200);
    let holders = (0..CONNECTIONS).map(|first| {
        let (prefix, fans) = (Arc::clone(&prefix), Arc::clone(&fans));
        tokio::spawn(async move {
            let mut client = Client::connect(address).await?;
            let mut held = Vec::new();
            for n in (first..count).step_by(CONNECTIONS as usize) {
                let turn = begin + Duration::from_secs_f64(f64::from(n) / f64::from(rate));
                tokio::time::sleep_until(turn.into()).await;
                // Below the number of seats, which fits.
                let seat = (u64::from(n) * STRIDE % u64::from(count)) as u32;
                let body = format!(r#"{{"ticket_id":"{prefix}{:08x}"}}"#, seat + 1);
                let fan = &fans[n as usize % fans.len()];
                let request = format!(
                    "POST /booking/reserve HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {fan}\r\nidempotency-key: {n}\r\n\
                     content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let (status, answer) = client.ask(request.as_bytes()).await?;
                ensure!(status == 200, "seat {seat}: {status} {}", String::from_utf8_lossy(answer));
                held.push(Held { seat, asked: turn, answered: Instant::now() });
            }
            anyhow::Ok(held)
        })
    });
    let mut all = Vec::new();
    for holder in holders.collect::<Vec<_>>() {
        all.extend(holder.await??);
    }
    Ok(all)
}
