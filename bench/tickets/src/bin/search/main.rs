//! `cargo xtask bench tickets`: questions over a million events to the embedded index, and the same to PostgreSQL where
//! its URL is given; latencies and CPU for each shape of question.

mod events;
mod measure;
mod over_http;
mod postgres;
mod queries;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use tessera_kernel::Timestamp;
use tessera_tickets::search::{Change, Counts, Position, Query, Search, Tantivy};

use events::Season;
use measure::{Taken, cpu_of, own_cpu};
use queries::{MIX, OTHERS, Shape};

/// Changes handed to the index at a time.
const CHANGES: u64 = 10_000;

/// What the table calls it.
const MIX_NAME: &str = "the mix of the first five";

/// Measures search
#[derive(Parser, Debug)]
struct Options {
    /// Events in the index
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Questions of each shape
    #[arg(long, default_value_t = 2_000)]
    questions: usize,
    /// Questions of each shape to PostgreSQL, which takes longer
    #[arg(long, default_value_t = 200)]
    peer_questions: usize,
    /// Clients at a time when the mix is asked
    #[arg(long, default_value_t = 2)]
    clients: usize,
    /// The index; built where it has another number of events
    #[arg(long, default_value = "target/bench-tickets-search")]
    index: PathBuf,
    /// An empty database of PostgreSQL, or one that this program filled before
    #[arg(long)]
    postgres: Option<String>,
    /// Only the shapes of which the title has this in it; the mix goes with `mix`
    #[arg(long, default_value = "")]
    only: String,
    /// Where to write the table too
    #[arg(long)]
    results: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let season = Season::new(1);
    let now: Timestamp = events::NOW.parse().map_err(anyhow::Error::msg)?;
    let search = Tantivy::open(&options.index).context("the index")?;
    let mut report = String::new();
    let mut say = |line: String| {
        println!("{line}");
        report.push_str(&line);
        report.push('\n');
    };
    if search.events() != options.events {
        let (began, cpu) = (Instant::now(), process_cpu());
        build(&search, &season, options.events).await?;
        let (wall, cpu) = (began.elapsed().as_secs_f64(), process_cpu().saturating_sub(cpu).as_secs_f64());
        say(format!("Index of {} events built in {wall:.1} s, {cpu:.1} s of CPU.", options.events));
    }
    let bytes: u64 =
        std::fs::read_dir(&options.index)?.flatten().filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    say(format!("{} segments, {} MB on disk.", search.segments(), bytes >> 20));
    let server = match &options.postgres {
        Some(url) => Some(postgres::Server::load(url, &season, options.events).await?),
        None => None,
    };
    if let Some(server) = &server {
        say(format!("PostgreSQL {}.", server.version().await?));
    }
    for (counts, title) in [(Counts::None, "The first 20"), (Counts::All, "The first 20, the total and three facets")] {
        say(format!("\n## {title}\n"));
        say("| question | p50 ms | p99 ms | CPU ms | nothing found | PostgreSQL p50 ms | p99 ms | CPU ms | CPU × |"
            .to_owned());
        say("|---|---|---|---|---|---|---|---|---|".to_owned());
        for shape in MIX.into_iter().chain(OTHERS).filter(|shape| shape.title().contains(&options.only)) {
            let questions = shape.questions(&season, options.events, options.questions, counts);
            let ours = ask(&search, &questions, 1, now)?;
            let peer = match &server {
                Some(server) => {
                    let few = slow(shape, counts).map_or(options.peer_questions, |few| few.min(options.peer_questions));
                    Some(server.ask(&questions[..few.min(questions.len())], 1, now).await?)
                }
                None => None,
            };
            say(line(shape.title(), &ours, peer.as_ref()));
        }
        if !MIX_NAME.contains(&options.only) {
            continue;
        }
        let mix = mixed(&season, options.events, options.questions, counts);
        let ours = ask(&search, &mix, options.clients, now)?;
        let peer = match &server {
            Some(server) => {
                let few = mixed(&season, options.events, options.peer_questions, counts);
                Some(server.ask(&few, options.clients, now).await?)
            }
            None => None,
        };
        let name = format!("**{MIX_NAME}, {} clients**", options.clients);
        say(line(&name, &ours, peer.as_ref()));
        say(format!("\nThe mix: {:.0} questions a second.", ours.per_second()));
        let http = over_http::ask(&search, &mix, options.clients, now).await?;
        say(format!(
            "Over HTTP: {:.0}; p50 {:.3} ms, p99 {:.3} ms, {:.3} ms of CPU with the clients'.",
            http.per_second(),
            http.quantile_ms(0.5),
            http.quantile_ms(0.99),
            http.cpu_ms()
        ));
        if let Some(peer) = peer {
            let times = ours.per_second() / peer.per_second();
            say(format!("PostgreSQL: {:.0}; {times:.0} times less.", peer.per_second()));
        }
    }
    let fresh = freshness(&search, &season, options.events).await?;
    say(format!(
        "\nA changed event is found {:.0} ms after it was handed in (median of 20).",
        fresh.as_secs_f64() * 1e3
    ));
    if let Some(path) = &options.results {
        std::fs::write(path, report)?;
    }
    Ok(())
}

/// Shapes of which one question takes PostgreSQL a good part of a second.
fn slow(shape: Shape, counts: Counts) -> Option<usize> {
    match (shape, counts) {
        (Shape::Letter | Shape::CommonTerm, _) | (Shape::Everything | Shape::Prefix, Counts::All) => Some(20),
        _ => None,
    }
}

/// Of all threads that are there now.
fn process_cpu() -> Duration {
    cpu_of(&[std::process::id().cast_signed()])
}

async fn build(search: &Tantivy, season: &Season, events: u64) -> anyhow::Result<()> {
    search.clear().await?;
    for first in (0..events).step_by(CHANGES as usize) {
        let events = first..(first + CHANGES).min(events);
        search.write(events.map(|at| Change::Put(Box::new(season.event(at)))).collect()).await?;
    }
    search.commit(Position { seq: 0, rebuild: 0 }).await?;
    Ok(search.compact().await?)
}

/// Questions of all shapes of the mix in turn.
fn mixed(season: &Season, events: u64, questions: usize, counts: Counts) -> Vec<Query> {
    let of_shapes: Vec<Vec<Query>> =
        MIX.iter().map(|shape| shape.questions(season, events, questions, counts)).collect();
    (0..questions).flat_map(|at| of_shapes.iter().filter_map(move |of_shape| of_shape.get(at).cloned())).collect()
}

fn ask(search: &Tantivy, questions: &[Query], clients: usize, now: Timestamp) -> anyhow::Result<Taken> {
    // What the first few touch is read from disk.
    for question in questions.iter().take(50) {
        search.find_here(question, now)?;
    }
    let began = Instant::now();
    let ask_some = |client: usize| -> anyhow::Result<(Vec<Duration>, usize, Duration)> {
        let (mut latencies, mut empty, cpu) = (Vec::new(), 0, own_cpu());
        for question in questions.iter().skip(client).step_by(clients) {
            let began = Instant::now();
            let hits = search.find_here(question, now)?;
            latencies.push(began.elapsed());
            empty += usize::from(hits.items.is_empty());
        }
        Ok((latencies, empty, own_cpu().saturating_sub(cpu)))
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask_some = &ask_some;
        let asked: Vec<_> = (0..clients).map(|client| scope.spawn(move || ask_some(client))).collect();
        asked.into_iter().map(|one| one.join()).collect()
    });
    let wall = began.elapsed();
    let (mut latencies, mut empty, mut cpu) = (Vec::new(), 0, Duration::ZERO);
    for answer in answers {
        let (of_client, nothing, taken) = answer.map_err(|_| anyhow::anyhow!("a client panicked"))??;
        latencies.extend(of_client);
        empty += nothing;
        cpu += taken;
    }
    Ok(Taken::new(latencies, wall, cpu, empty))
}

fn line(name: &str, ours: &Taken, peer: Option<&Taken>) -> String {
    let share = |taken: &Taken, total: usize| format!("{} of {total}", taken.empty);
    let total = (ours.per_second() * ours.wall.as_secs_f64()).round() as usize;
    let own = format!(
        "| {name} | {:.3} | {:.3} | {:.3} | {} |",
        ours.quantile_ms(0.5),
        ours.quantile_ms(0.99),
        ours.cpu_ms(),
        share(ours, total)
    );
    match peer {
        Some(peer) => format!(
            "{own} {:.2} | {:.2} | {:.2} | {:.0} |",
            peer.quantile_ms(0.5),
            peer.quantile_ms(0.99),
            peer.cpu_ms(),
            peer.cpu_ms() / ours.cpu_ms()
        ),
        None => format!("{own} | | | |"),
    }
}

/// From a change handed in to a search that finds it.
async fn freshness(search: &Tantivy, season: &Season, events: u64) -> anyhow::Result<Duration> {
    let mut taken = Vec::new();
    for round in 0..20 {
        let mut event = season.event(round % events);
        let word = format!("{}freshness", char::from(b'a' + round as u8).to_string().repeat(4));
        event.name = format!("{} {word}", event.name);
        let began = Instant::now();
        search.write(vec![Change::Put(Box::new(event))]).await?;
        search.commit(Position { seq: 0, rebuild: 0 }).await?;
        let query = Query { term: format!("{word} "), ..Query::default() };
        anyhow::ensure!(search.find_here(&query, Timestamp::default())?.total == Some(1), "round {round} is not found");
        taken.push(began.elapsed());
    }
    taken.sort_unstable();
    Ok(taken[taken.len() / 2])
}
