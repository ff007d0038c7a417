//! The same by Redis alone: GEOADD in pipelines, GEOSEARCH one after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tessera_bench::process::Pid;

use super::fleet::{Fleet, moved};
use super::index::print_times;

const KEY: &str = "bench-drivers";
/// Commands in a pipeline.
const PIPELINE: usize = 100;
/// Updates that are measured.
const UPDATES: usize = 1_000_000;
const QUESTIONS: usize = 5_000;

/// Measures and prints.
pub fn measure(fleet: &Fleet, address: SocketAddr, redis_is: Pid) -> anyhow::Result<()> {
    let mut redis = Connection::open(address)?;
    redis.send(&[&["DEL", KEY]])?;
    redis.answers(1)?;
    let drivers = fleet.drivers();
    redis.add(fleet, 0..drivers.len(), 0)?;
    let (cpu, began) = (redis_is.cpu_s()?, Instant::now());
    redis.add(fleet, 0..UPDATES.min(drivers.len()), 1)?;
    let (took, cpu) = (began.elapsed().as_secs_f64(), redis_is.cpu_s()? - cpu);
    let count = UPDATES.min(drivers.len()) as f64;
    println!(
        "Redis, GEOADD in pipelines of {PIPELINE}: {:.0} a second, {:.2} µs of its CPU each",
        count / took,
        cpu * 1e6 / count
    );
    let mut dice = StdRng::seed_from_u64(11);
    for radius in ["500", "2000"] {
        let mut took = Vec::with_capacity(QUESTIONS);
        for _ in 0..QUESTIONS {
            let (_, place) = drivers[dice.random_range(0..drivers.len())];
            let (lat, lng) = (place.lat().to_string(), place.lng().to_string());
            let ask = ["GEOSEARCH", KEY, "FROMLONLAT", &lng, &lat, "BYRADIUS", radius, "m", "ASC", "COUNT", "10"];
            let began = Instant::now();
            redis.send(&[&ask])?;
            redis.answers(1)?;
            took.push(began.elapsed().as_secs_f64() * 1e6);
        }
        print_times(&format!("Redis, GEOSEARCH of ten within {radius} m, over a socket"), took);
    }
    redis.send(&[&["DEL", KEY]])?;
    redis.answers(1)?;
    Ok(())
}

struct Connection {
    read: BufReader<TcpStream>,
    write: TcpStream,
}

impl Connection {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let write = TcpStream::connect(address)?;
        write.set_nodelay(true)?;
        Ok(Self { read: BufReader::new(write.try_clone()?), write })
    }

    fn add(&mut self, fleet: &Fleet, part: std::ops::Range<usize>, round: u32) -> anyhow::Result<()> {
        let numbers: Vec<usize> = part.collect();
        for numbers in numbers.chunks(PIPELINE) {
            let texts: Vec<[String; 3]> = numbers
                .iter()
                .map(|number| {
                    let (driver, home) = fleet.drivers()[*number];
                    let place = moved(home, round);
                    [place.lng().to_string(), place.lat().to_string(), driver.to_string()]
                })
                .collect();
            let commands: Vec<[&str; 5]> =
                texts.iter().map(|[lng, lat, driver]| ["GEOADD", KEY, lng, lat, driver]).collect();
            self.send(&commands.iter().map(<[&str; 5]>::as_slice).collect::<Vec<_>>())?;
            self.answers(numbers.len())?;
        }
        Ok(())
    }

    fn send(&mut self, commands: &[&[&str]]) -> anyhow::Result<()> {
        let mut bytes = Vec::with_capacity(commands.len() * 120);
        for command in commands {
            write!(bytes, "*{}\r\n", command.len())?;
            for word in *command {
                write!(bytes, "${}\r\n{word}\r\n", word.len())?;
            }
        }
        Ok(self.write.write_all(&bytes)?)
    }

    /// Reads answers and throws them away, unless one is an error.
    fn answers(&mut self, count: usize) -> anyhow::Result<()> {
        let mut left = count;
        let mut line = String::new();
        while left > 0 {
            line.clear();
            ensure!(self.read.read_line(&mut line)? > 0, "Redis closed the connection");
            let (kind, rest) = line.split_at_checked(1).context("an empty answer")?;
            match kind {
                "-" => anyhow::bail!("Redis: {}", rest.trim()),
                "*" => left += rest.trim().parse::<usize>()?,
                "$" => {
                    let length: usize = rest.trim().parse()?;
                    self.read.read_exact(&mut vec![0; length + 2])?;
                }
                _ => {}
            }
            left -= 1;
        }
        Ok(())
    }
}
