//! `devfile validate|flatten|render|explain`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
