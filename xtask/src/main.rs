//! Chores: `cargo xtask test | ci | bench NAME | test-deploy`.

use std::process::ExitCode;

mod bench;
mod ci;
mod deploy;
mod packages;
mod python;
mod step;
mod test;

const USAGE: &str = "cargo xtask <chore>
  test          install what the tests need (Debian, as root), then run all tests
  ci            formatting, lints, tests; prints how long each took
  bench NAME    run bench/NAME/run.sh
  test-deploy   check deploy/ with its own tools, Airflow among them; takes minutes
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["test", rest @ ..] => test::run(rest),
        ["ci"] => ci::run(),
        ["bench", name, rest @ ..] => bench::run(name, rest),
        ["test-deploy"] => deploy::test(),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
