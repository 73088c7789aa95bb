//! The server's program: picks the cryptography, runs the command line, sets the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    kas_stub::cli::main()
}
