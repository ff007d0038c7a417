//! `tessera sim rides` against `tessera serve rides`: every ride is as it must be, and a seed repeats its people.

use serde_json::Value;
use tessera_testkit::ScratchDir;
use tessera_testkit::bin::{Process, tessera, tessera_command};

struct Server {
    _process: Process,
    scratch: ScratchDir,
    url: String,
}

impl Server {
    /// With short deadlines: offers that nobody answers, and searches, take most of a run's time.
    fn up() -> Self {
        let scratch = ScratchDir::new();
        std::fs::write(scratch.file("tessera.toml"), "[rides.matching]\noffer_s = 5\nsearch_s = 20\n").unwrap();
        let mut command = tessera_command(&tessera());
        command.args(["serve", "rides", "--listen", "127.0.0.1:0", "--data"]).arg(scratch.file("data"));
        command.arg("--config").arg(scratch.file("tessera.toml"));
        let process = Process::spawn(&mut command);
        let line = process.wait_for("/metrics");
        let url = line.split_whitespace().last().unwrap().trim_end_matches("/metrics").to_owned();
        Self { _process: process, scratch, url }
    }

    fn rides(&self, arguments: &[&str]) -> Process {
        let mut command = tessera_command(&tessera());
        command.args(["sim", "rides", "--server", &self.url, "--pace", "20", "--data"]);
        command.arg(self.scratch.file("data")).arg("--config").arg(self.scratch.file("tessera.toml"));
        Process::spawn(command.args(arguments))
    }
}

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {report:#}"))
}

#[test]
fn a_city_drives_its_rides_are_as_they_must_be_and_a_seed_repeats_its_people() {
    // At the same time on one server: the drivers of each city are asked for the riders of the other, and leave them.
    let server = Server::up();
    let begin = |positions: &str| {
        // Many cars and short ways, so that it ends soon.
        let city = ["--drivers", "40", "--requests-per-minute", "90", "--surge", "2", "--duration", "10s", "--json"];
        let short = ["--longest", "1500", "--seed", "5", "--positions", positions];
        server.rides(&[city.as_slice(), &short].concat())
    };
    let end = |run: Process| -> Value {
        let finished = run.wait();
        assert_eq!(finished.code(), Some(0), "{finished:?}");
        serde_json::from_str(&finished.stdout).unwrap()
    };
    // What they decide is the same, whom they meet is not.
    let (first, again) = (begin("compact"), begin("json"));
    let (first, again) = (end(first), end(again));
    assert_eq!(first["decisions"], again["decisions"]);
    for report in [&first, &again] {
        assert_eq!(report["findings"], Value::Array(Vec::new()), "{report:#}");
        let came = number(report, "/counts/riders");
        let ended = report["outcomes"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>();
        assert!(came > 8 && ended == came, "everyone ends somehow: {report:#}");
        let (requested, matched) = (number(report, "/matching/requested"), number(report, "/matching/matched"));
        assert!(matched > 5 && matched <= requested, "{report:#}");
        assert!(
            number(report, "/matching/offers") >= matched && number(report, "/counts/positions") > 40,
            "{report:#}"
        );
        assert_eq!(number(report, "/matching/to_match_s/count"), matched);
    }
    let left = |report| number(report, "/counts/left_to_another_run");
    assert!(left(&first) + left(&again) > 0, "both were in one city: {first:#} {again:#}");
}

#[test]
fn what_cannot_be_run_is_said_with_a_remedy() {
    let server = Server::up();
    for (arguments, code, named, remedy) in [
        (["--city", "map"], 2, "no map", "tessera rides import"),
        (["--city", "lisbon"], 2, "lisbon", "porto"),
        (["--surge", "0.5"], 2, "0.5", "give 1"),
        (["--duration", "soon"], 2, "soon", "90s"),
        (["--drivers", "0"], 2, "0", "1..=20000"),
        (["--longest", "100"], 2, "100", "more metres"),
        (["--connections", "0"], 2, "0", "1..=10000"),
    ] {
        let finished = server.rides(&arguments).wait();
        assert_eq!(finished.code(), Some(code), "{finished:?}");
        assert!(finished.stderr.contains(named) && finished.stderr.contains(remedy), "{finished:?}");
    }
}

#[test]
fn the_key_must_be_that_of_the_server() {
    let server = Server::up();
    let run = |url: &str, data: &str| {
        let mut command = tessera_command(&tessera());
        command.args(["sim", "rides", "--drivers", "1", "--duration", "1s", "--server", url, "--data"]);
        Process::spawn(command.arg(server.scratch.file(data))).wait()
    };
    let none = run(&server.url, "nobody");
    assert_eq!(none.code(), Some(2), "{none:?}");
    assert!(none.stderr.contains("nobody/keys/identity.pk8") && none.stderr.contains("--data"), "{none:?}");
    assert!(!server.scratch.file("nobody").exists(), "no key is made where a server's was expected");
    let mut command = tessera_command(&tessera());
    command.args(["token", "--new", "--role", "rider", "--subject", "x", "--data"]).arg(server.scratch.file("another"));
    assert_eq!(Process::spawn(&mut command).wait().code(), Some(0));
    let another = run(&server.url, "another");
    assert_eq!(another.code(), Some(2), "{another:?}");
    assert!(
        another.stderr.contains("401") && another.stderr.contains("give the data folder of that server"),
        "{another:?}"
    );
    let path = run(&format!("{}/api", server.url), "data");
    assert_eq!(path.code(), Some(2), "{path:?}");
    assert!(path.stderr.contains("only host and port"), "{path:?}");
}
