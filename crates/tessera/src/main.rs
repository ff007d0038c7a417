//! The one binary. All of it is in the library beside it, so that tests can start a process's worth of it in process.

use std::process::ExitCode;

fn main() -> ExitCode {
    tessera_tessera::cli::main()
}
