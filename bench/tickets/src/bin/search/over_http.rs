//! The same questions as requests: a server in this process, clients with a connection each. No two questions in a row are
//! the same, so the application's cache of answers has little to give.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tessera_bench::client::Client;
use tessera_kernel::{ManualClock, Timestamp};
use tessera_tickets::http::search::{Searching, router};
use tessera_tickets::search::{Area, Counts, Query, Sort, Tantivy};

use crate::measure::{Taken, cpu_of};

/// Asks from so many clients at a time. The CPU is the clients' too.
pub async fn ask(search: &Tantivy, questions: &[Query], clients: usize, now: Timestamp) -> anyhow::Result<Taken> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = router(Searching::new(Arc::new(search.clone()), Arc::new(ManualClock::at(now))));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let requests: Arc<[String]> = questions.iter().map(request).collect();
    let process = [std::process::id().cast_signed()];
    let (began, cpu) = (Instant::now(), cpu_of(&process));
    let asking = (0..clients).map(|client| tokio::spawn(ask_some(address, Arc::clone(&requests), client, clients)));
    let mut latencies = Vec::new();
    for asked in asking.collect::<Vec<_>>() {
        latencies.extend(asked.await??);
    }
    let (wall, cpu) = (began.elapsed(), cpu_of(&process).saturating_sub(cpu));
    serving.abort();
    Ok(Taken::new(latencies, wall, cpu, 0))
}

async fn ask_some(
    address: SocketAddr,
    requests: Arc<[String]>,
    client: usize,
    clients: usize,
) -> anyhow::Result<Vec<Duration>> {
    let mut connection = Client::connect(address).await?;
    let mut latencies = Vec::new();
    for request in requests.iter().skip(client).step_by(clients) {
        let began = Instant::now();
        let (status, body) = connection.ask(request.as_bytes()).await?;
        latencies.push(began.elapsed());
        ensure!(status == 200, "{request}: {status} {}", String::from_utf8_lossy(body));
    }
    Ok(latencies)
}

fn request(query: &Query) -> String {
    let mut parameters =
        vec![("limit", query.limit.to_string()), ("facets", (query.counts == Counts::All).to_string())];
    let mut add = |name, value: String| parameters.push((name, value));
    if !query.term.is_empty() {
        add("term", query.term.clone());
    }
    match &query.area {
        None => {}
        Some(Area::City(city)) => add("location", city.clone()),
        Some(Area::Circle { middle, radius_m }) => {
            if let Some(middle) = middle.place() {
                add("lat", middle.lat().to_string());
                add("lng", middle.lng().to_string());
            }
            add("radius_km", (f64::from(*radius_m) / 1_000.0).to_string());
        }
    }
    if !query.kinds.is_empty() {
        add("type", query.kinds.join(","));
    }
    if let Some((first, last)) = query.days {
        for (name, day) in [("from", first), ("to", last)] {
            let midnight = Timestamp::from_micros(i64::from(day) * 86_400_000_000);
            add(name, midnight.to_utc().date_naive().to_string());
        }
    }
    if query.sort == Sort::Date {
        add("sort", "date".to_owned());
    }
    let parameters: Vec<String> =
        parameters.into_iter().map(|(name, value)| format!("{name}={}", encoded(&value))).collect();
    format!("GET /search?{} HTTP/1.1\r\nhost: t\r\n\r\n", parameters.join("&"))
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
