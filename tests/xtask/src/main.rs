//! `cargo xtask …`: everything a person or a machine does with this repository.
//!
//! [`demo`] shows what exists, [`test`] checks it, [`cluster`] is the test cluster by hand. The work itself is in
//! `harness` (cluster, images, Git server) and `tests` (server, chart); here is the order of it and what is said.

mod bench;
mod cargo;
mod cluster;
mod demo;
mod deny;
mod fuzz;
mod image;
mod preflight;
mod report;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "Shows and checks what this repository builds"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show all that exists: a cluster, a server, the agent, kubectl through the tunnel
    Demo(demo::DemoArgs),
    /// Check everything, or one part of it
    Test(test::TestArgs),
    /// Measure calls through the tunnel, reconciling, or the reading of devfiles, beside a baseline in the same run
    Bench(bench::BenchArgs),
    /// Feed the crate devfile generated texts; needs a nightly compiler
    Fuzz(fuzz::FuzzArgs),
    /// Build the agent's image, or another one, as an archive for a registry of your own
    Image(image::ImageArgs),
    /// The test cluster by hand
    Cluster(cluster::ClusterArgs),
}

#[expect(clippy::print_stderr, reason = "the command line's last word")]
fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Image(arguments) => image::run(&arguments),
        Command::Cluster(arguments) => cluster::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
