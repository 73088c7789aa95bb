//! `agent doctor`: looks at everything that keeps an agent from working, each by itself, and says what to do about it.
//!
//! ```text
//!  settings ─▶ server (proxy, name, TCP, TLS, token, versions, clock) ─┐
//!           └▶ cluster (API server, version, rights, storage, names) ──┴▶ Report ─▶ text or JSON, exit code
//! ```
//! What is judged without I/O is in `report` and `rights`.

mod cluster;
mod report;
mod rights;
mod server;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::config::{Args, Config};
pub use report::{Check, Report, Verdict};

/// For one question to somebody else.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Looks for what keeps this agent from working: the way to the server, its token, the cluster, each right. Takes the agent's
/// flags; without any, in the agent's container, those of the agent that runs there.
#[derive(Parser)]
#[command(
    name = "agent doctor",
    after_help = "The exit code is 0 unless a check failed. For example:\n  \
                  kubectl exec --namespace NAMESPACE deployment/NAME -- /agent doctor"
)]
struct DoctorArgs {
    #[command(flatten)]
    agent: Args,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One check a line, and below it what to do.
    Text,
    /// For programs.
    Json,
}

/// Runs the command; `arguments` are those after `doctor`. Ends the process where clap does.
#[expect(clippy::print_stdout, reason = "the command's result")]
pub async fn main(arguments: Vec<String>) -> ExitCode {
    let first = std::fs::read("/proc/1/cmdline").unwrap_or_default();
    let args = DoctorArgs::parse_from(with_flags_of(&first, arguments));
    let config = Config::try_from(args.agent).and_then(Config::with_proxy_of_environment);
    let report = match config {
        Ok(config) => examine(&config).await,
        Err(error) => Report::of(vec![Check::failed(
            "settings",
            crate::kas::health::chain(&error),
            "mend the flag or variable that is named",
        )]),
    };
    match args.output {
        Output::Text => print!("{}", report.text()),
        Output::Json => println!("{:#}", report.json()),
    }
    if report.has_failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Looks at everything; as long as one thing does not answer, what depends on it is left out.
pub async fn examine(config: &Config) -> Report {
    let (server, cluster) = tokio::join!(server::examine(config), cluster::examine(config));
    Report::of(server.into_iter().chain(cluster).collect())
}

/// The arguments, with the agent's own in front where none of the agent's are given: a container's first process is the
/// agent, and `kubectl exec` gives a second one its environment, but not its flags.
fn with_flags_of(first: &[u8], given: Vec<String>) -> Vec<String> {
    // Each word ends with a zero byte.
    let words: Vec<String> = first
        .strip_suffix(&[0])
        .unwrap_or(first)
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let is_agent = words
        .first()
        .is_some_and(|program| Path::new(program).file_name() == Some("agent".as_ref()));
    let has_own = given.iter().any(|word| word.starts_with("--kas-address"));
    let own = if is_agent && !has_own {
        &words[1..]
    } else {
        &[]
    };
    let program = ["agent doctor".to_owned()];
    program
        .into_iter()
        .chain(own.to_vec())
        .chain(given)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory as _;
        DoctorArgs::command().debug_assert();
    }

    #[test]
    fn in_the_agents_container_its_flags_are_taken() {
        let first = b"/agent\0--kas-address=grpcs://kas\0--token-file=/t\0";
        let given = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(
            with_flags_of(first, given(&["--output=json"])),
            [
                "agent doctor",
                "--kas-address=grpcs://kas",
                "--token-file=/t",
                "--output=json"
            ]
        );
        let other = given(&["--kas-address=grpc://other"]);
        assert_eq!(
            with_flags_of(first, other),
            ["agent doctor", "--kas-address=grpc://other"]
        );
        for elsewhere in [&b"/sbin/init\0"[..], b"/agent\0", b"agent", b""] {
            assert_eq!(with_flags_of(elsewhere, Vec::new()), ["agent doctor"]);
        }
    }
}
