//! `tessera gateway`: what a config means before it serves.

use std::io::Write as _;
use std::process::ExitCode;

use tessera_gateway::cli::Command;
use tessera_gateway::spec::Environment;
use tessera_service::ProductError;

/// Does what a verb says and gives the exit code: 1 where no route takes a request, 2 where the file is wrong.
pub fn main(command: Command) -> ExitCode {
    match command.run(&Environment::of_process()) {
        Ok(told) => {
            // A reader that has gone away is no failure of ours.
            let _ = std::io::stdout().lock().write_all(told.text.as_bytes());
            if told.is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("tessera: {error} [{}]", error.code());
            ExitCode::from(2)
        }
    }
}
