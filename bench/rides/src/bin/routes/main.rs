//! Routes and tables on the prepared network, and OSRM beside it, where its address is given: what a question costs, and how
//! far the answers are from each other.
//!
//! `bench-rides-routes --extract porto.osm.pbf --osrm 127.0.0.1:5000 --osrm-pid 4711`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tessera_bench::client::Client;
use tessera_bench::process::Pid;
use tessera_bench::sorted::Sorted;
use tessera_kernel::Place;
use tessera_rides::domain::traffic::{Conditions, Profile};
use tessera_rides::network::{self, Network};

#[derive(Parser)]
struct Args {
    /// An OpenStreetMap extract in PBF form.
    #[arg(long)]
    extract: PathBuf,
    /// Pairs of places.
    #[arg(long, default_value_t = 5_000)]
    pairs: usize,
    /// `osrm-routed` with the same extract.
    #[arg(long, requires = "osrm_pid")]
    osrm: Option<SocketAddr>,
    /// Its process.
    #[arg(long)]
    osrm_pid: Option<Pid>,
}

/// Free flow, as OSRM has it: no hour, no live factor.
fn free_flow(profile: &Profile) -> Conditions<'_> {
    Conditions { profile, hour: 0, factor: 1.0 }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let began = Instant::now();
    let imported = network::import(&args.extract)?;
    println!("prepared in {:.2} s: {} junctions", began.elapsed().as_secs_f64(), imported.network.junctions());
    let file = tempfile::NamedTempFile::new()?;
    imported.network.save(file.path())?;
    let began = Instant::now();
    let network = Network::load(file.path())?;
    println!("loaded in {:.0} ms, {} KB", began.elapsed().as_secs_f64() * 1e3, file.path().metadata()?.len() / 1_024);
    let pairs = pairs(&network, args.pairs)?;
    let flat = Profile { main: [100; 24], minor: [100; 24] };
    let ours = ours(&network, &pairs, &flat);
    if let (Some(address), Some(pid)) = (args.osrm, args.osrm_pid) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let theirs = runtime.block_on(theirs(address, pid, &pairs))?;
        compare(&ours, &theirs);
    }
    Ok(())
}

/// Places on roads, each with ten others around it somewhere.
struct Pair {
    from: Place,
    to: Place,
    around: Vec<Place>,
}

fn pairs(network: &Network, count: usize) -> anyhow::Result<Vec<Pair>> {
    let places: Vec<Place> = network.roads().filter_map(|road| road.line.first().copied()).collect();
    let mut dice = StdRng::seed_from_u64(3);
    anyhow::ensure!(places.len() > 100, "the network has only {} stretches of road", places.len());
    let mut some = || places[dice.random_range(0..places.len())];
    Ok((0..count).map(|_| Pair { from: some(), to: some(), around: (0..10).map(|_| some()).collect() }).collect())
}

/// Seconds and metres of each route; prints what it costs. Wall time of one thread without pauses stands for its CPU.
fn ours(network: &Network, pairs: &[Pair], profile: &Profile) -> Vec<Option<(f64, f64)>> {
    let mut took = Vec::with_capacity(pairs.len());
    let mut routes = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let began = Instant::now();
        let route = || {
            let (from, to) = (network.snap(pair.from)?, network.snap(pair.to)?);
            let path = network.path(from, to)?;
            let line = network.line(&path);
            Some((network.seconds(&path, &free_flow(profile)), network.length_m(&path), line.len()))
        };
        let route = route();
        took.push(began.elapsed().as_secs_f64() * 1e6);
        routes.push(route.map(|(seconds, metres, _)| (seconds, metres)));
    }
    print_times("a route, with snapping and its line", took);
    let mut took = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let began = Instant::now();
        let Some(to) = network.snap(pair.to) else { continue };
        let from: Vec<_> = pair.around.iter().map(|place| network.snap(*place)).collect();
        assert_eq!(network.table(&from, to, &free_flow(profile)).len(), from.len());
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    print_times("a table of ten to one, with snapping", took);
    routes
}

/// OSRM closes a connection after 512 questions.
const KEPT: usize = 500;

/// The same by OSRM, over one connection after the other.
async fn theirs(address: SocketAddr, process: Pid, pairs: &[Pair]) -> anyhow::Result<Vec<Option<(f64, f64)>>> {
    let written = |place: &Place| format!("{},{}", place.lng(), place.lat());
    let mut routes = Vec::with_capacity(pairs.len());
    let cpu = process.cpu_s()?;
    for some in pairs.chunks(KEPT) {
        let mut client = Client::connect(address).await?;
        for pair in some {
            let ends = [&pair.from, &pair.to].map(written).join(";");
            let path = format!("/route/v1/driving/{ends}?overview=full&steps=false");
            let answer: Value = serde_json::from_slice(&client.get(&path).await.context("a route")?)?;
            let number = |field: &str| answer["routes"][0][field].as_f64();
            routes.push(number("duration").zip(number("distance")));
        }
    }
    let each = |cpu: f64| cpu * 1e6 / pairs.len() as f64;
    println!("OSRM, a route with its line, over HTTP: {:.0} µs of its CPU", each(process.cpu_s()? - cpu));
    let cpu = process.cpu_s()?;
    for some in pairs.chunks(KEPT) {
        let mut client = Client::connect(address).await?;
        for pair in some {
            let places: Vec<String> = pair.around.iter().chain([&pair.to]).map(written).collect();
            let path = format!("/table/v1/driving/{}?sources=0;1;2;3;4;5;6;7;8;9&destinations=10", places.join(";"));
            client.get(&path).await.context("a table")?;
        }
    }
    println!("OSRM, a table of ten to one, over HTTP: {:.0} µs of its CPU", each(process.cpu_s()? - cpu));
    Ok(routes)
}

fn compare(ours: &[Option<(f64, f64)>], theirs: &[Option<(f64, f64)>]) {
    let both = || ours.iter().zip(theirs).filter_map(|(ours, theirs)| ours.zip(*theirs));
    let far = || both().filter(|((_, ours_m), (_, theirs_m))| ours_m.min(*theirs_m) > 500.0);
    let print = |what: &str, ratios: Sorted| {
        let [tenth, half, most] = [0.1, 0.5, 0.9].map(|share| ratios.at(share));
        let count = ratios.count();
        println!("{what}, ours to OSRM's: p10 {tenth:.2}, median {half:.2}, p90 {most:.2} ({count} routes)");
    };
    print("seconds", far().map(|((ours, _), (theirs, _))| ours / theirs).collect());
    print("metres", far().map(|((_, ours), (_, theirs))| ours / theirs).collect());
    let (mut none, mut only) = (0, 0);
    for (ours, theirs) in ours.iter().zip(theirs) {
        none += u32::from(ours.is_none() && theirs.is_some());
        only += u32::from(ours.is_some() && theirs.is_none());
    }
    println!("found by OSRM alone: {none}; by us alone: {only}");
}

fn print_times(what: &str, took: Vec<f64>) {
    let took = Sorted::new(took);
    println!("{what}: mean {:.0} µs, p50 {:.0} µs, p99 {:.0} µs", took.mean(), took.at(0.5), took.at(0.99));
}
