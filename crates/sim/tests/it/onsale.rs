//! `tessera sim onsale` against `tessera up`: the books agree, and a seed repeats its crowd.

use serde_json::Value;
use tessera_testkit::ScratchDir;
use tessera_testkit::bin::{Finished, Process, tessera, tessera_command};

struct Server {
    _process: Process,
    scratch: ScratchDir,
    url: String,
}

impl Server {
    fn up() -> Self {
        let scratch = ScratchDir::new();
        let mut command = tessera_command(&tessera());
        command.args(["up", "--listen", "127.0.0.1:0", "--data"]).arg(scratch.file("data"));
        let process = Process::spawn(&mut command);
        let line = process.wait_for("/metrics");
        let url = line.split_whitespace().last().unwrap().trim_end_matches("/metrics").to_owned();
        Self { _process: process, scratch, url }
    }

    fn onsale(&self, arguments: &[&str]) -> Finished {
        let mut command = tessera_command(&tessera());
        command.args(["sim", "onsale", "--url", &self.url, "--brisk-cards", "--hesitate-ms", "30", "--data"]);
        Process::spawn(command.arg(self.scratch.file("data")).args(arguments)).wait()
    }

    /// A run whose books must agree, and its report.
    fn clean_onsale(&self, arguments: &[&str]) -> Value {
        let finished = self.onsale(&[arguments, &["--json"]].concat());
        assert_eq!(finished.code(), Some(0), "{finished:?}");
        let report: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(report["findings"], Value::Array(Vec::new()), "{report:#}");
        report
    }
}

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {report:#}"))
}

#[test]
fn a_sold_out_house_agrees_to_the_unit_and_a_seed_repeats_its_crowd() {
    let server = Server::up();
    let crowd = ["--seats", "120", "--standing", "40", "--fans", "500", "--rate", "400", "--bots", "4"];
    let run = |seed| server.clean_onsale(&[crowd.as_slice(), &["--bot-attempts", "25", "--seed", seed]].concat());
    let (first, again, other) = (run("7"), run("7"), run("8"));
    assert_eq!(first["decisions"], again["decisions"]);
    assert_ne!(first["decisions"], other["decisions"]);
    for report in [&first, &again, &other] {
        let (sold, capacity) = (number(report, "/books/sold"), number(report, "/books/capacity"));
        assert!(capacity == 160 && sold > 80, "most of it is wanted: {report:#}");
        assert_eq!(number(report, "/books/tickets"), sold);
        let ended = report["outcomes"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>();
        assert_eq!(ended, 500, "everyone ends somehow: {report:#}");
        assert_eq!(number(report, "/counts/bot_attempts"), 100);
        assert!(number(report, "/counts/conflicts") > 0 && number(report, "/counts/double_taps") > 0, "{report:#}");
        assert!(number(report, "/latencies/reserve/count") >= number(report, "/counts/holds"), "{report:#}");
    }
}

#[test]
fn a_waiting_room_is_fair_and_lets_no_bot_in() {
    let server = Server::up();
    // Time for the slowest machine to build the house before half of them have come.
    let crowd = ["--seats", "60", "--standing", "0", "--fans", "480", "--rate", "60", "--queue", "--doors-s", "5"];
    let report = server.clean_onsale(&[crowd.as_slice(), &["--bots", "2", "--bot-attempts", "10"]].concat());
    let fairness = &report["fairness"];
    assert_eq!(
        (&fairness["overtaken"], &fairness["promise_kept"]),
        (&Value::from(0), &Value::from(true)),
        "{fairness}"
    );
    // A busy machine serves at once who came within its pauses: then their turn is a little of a draw, too.
    assert!(fairness["in_turn"].as_f64().unwrap() > 0.5, "first in, first out: {fairness}");
    assert!(fairness["by_lot"].as_f64().unwrap().abs() < 0.5, "a draw: {fairness}");
    assert_eq!(number(&report, "/counts/bot_attempts"), 20);
    assert!(report.pointer("/counts/bot_holds") == Some(&Value::from(0)), "{report:#}");
}

#[test]
fn what_cannot_be_run_is_said_in_a_line() {
    let server = Server::up();
    for (arguments, named) in
        [(["--seats", "7", "--standing", "1"], "--seats 7"), (["--seats", "0", "--standing", "0"], "nothing to sell")]
    {
        let finished = server.onsale(&[arguments.as_slice(), &["--fans", "1"]].concat());
        assert_eq!((finished.code(), finished.stderr.lines().count()), (Some(2), 1), "{finished:?}");
        assert!(finished.stderr.contains(named), "{finished:?}");
    }
}
