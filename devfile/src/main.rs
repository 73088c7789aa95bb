//! `devfile validate|flatten|render|convert|schema|completions|explain`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
