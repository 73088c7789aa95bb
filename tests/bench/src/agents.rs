//! Many idle agents on one server: what each costs it, and how they come back together after it was killed.
//!
//! They are our agent's own code, all in one process, without modules, so that what is measured is the connection.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Parser as _};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::http::call;
use crate::process;
use crate::stack::Stack;

/// Calls and starts under way at the same time.
const AT_ONCE: usize = 20;
/// The longest that any phase may take.
const LIMIT: Duration = Duration::from_secs(180);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long the server stays away.
const AWAY: Duration = Duration::from_secs(5);
/// After it, memory is what it stays.
const SETTLED: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder with the programs `kas-stub` and `agent`
    #[arg(long)]
    binaries: PathBuf,
    /// How many agents
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SwarmOptions {
    /// Where the server listens for agents
    #[arg(long)]
    server: String,
    /// One token a line
    #[arg(long)]
    tokens: PathBuf,
    #[arg(long)]
    kubeconfig: PathBuf,
}

#[derive(Debug, Serialize)]
struct Report {
    agents: usize,
    /// Of the server with one agent, and with all.
    one_rss_mib: f64,
    all_rss_mib: f64,
    kib_per_agent: f64,
    /// From the return of a server that was killed, after 5 s, to the first and to the last agent on it.
    first_back_s: f64,
    all_back_s: f64,
    /// The server's CPU time for their return, in seconds, and its memory with all of them again.
    back_cpu_s: f64,
    back_rss_mib: f64,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut stack = Stack::start(&options.binaries, None).await?;
    let (people, token) = stack.people();
    let (people, token) = (people.to_owned(), token.to_owned());
    let created: Vec<String> = stream::iter(0..options.count)
        .map(|number| create(&people, &token, number))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    sleep(SETTLED).await;
    let one_rss_mib = process::rss_mib(stack.server_pid())?;
    let tokens = stack.folder().join("tokens");
    std::fs::write(&tokens, created.join("\n"))?;
    let _swarm = Command::new(std::env::current_exe()?)
        .args(["swarm", "--server", stack.agents_address()])
        .arg("--tokens")
        .arg(&tokens)
        .arg("--kubeconfig")
        .arg(stack.folder().join("kubeconfig"))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    // The stack has an agent of its own.
    let all = options.count + 1;
    wait_connected(&people, &token, all).await?;
    sleep(SETTLED).await;
    let all_rss_mib = process::rss_mib(stack.server_pid())?;

    stack.kill_server().await?;
    sleep(AWAY).await;
    let people = stack.start_server().await?;
    let began = Instant::now();
    wait_connected(&people, &token, 1).await?;
    let first_back_s = began.elapsed().as_secs_f64();
    wait_connected(&people, &token, all).await?;
    let all_back_s = began.elapsed().as_secs_f64();
    let server = stack.server_pid();
    let back_cpu_s = process::cpu_time(server)?.as_secs_f64();
    sleep(SETTLED).await;
    let report = Report {
        agents: options.count,
        one_rss_mib,
        all_rss_mib,
        kib_per_agent: (all_rss_mib - one_rss_mib) * 1024.0 / options.count as f64,
        first_back_s,
        all_back_s,
        back_cpu_s,
        back_rss_mib: process::rss_mib(server)?,
    };
    print(options, &report)
}

/// The other process: agents until it is killed.
pub(crate) async fn swarm(options: &SwarmOptions) -> anyhow::Result<()> {
    let tokens = std::fs::read_to_string(&options.tokens)?;
    let agents: Vec<agent::app::Agent> = stream::iter(tokens.lines().enumerate())
        .map(|(number, token)| start(options, number, token))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    std::future::pending::<()>().await;
    drop(agents);
    Ok(())
}

async fn start(
    options: &SwarmOptions,
    number: usize,
    token: &str,
) -> anyhow::Result<agent::app::Agent> {
    let address = format!("--kas-address=grpc://{}", options.server);
    let kubeconfig = format!("--kubeconfig={}", options.kubeconfig.display());
    let pod = format!("--pod-name=agent-{number}");
    let mut arguments = agent::config::Args::parse_from([
        "agent",
        &address,
        &kubeconfig,
        &pod,
        "--pod-namespace=agents",
        "--observability-listen-address=127.0.0.1:0",
    ]);
    arguments.token = Some(token.to_owned());
    agent::app::start(arguments.try_into()?, Vec::new()).await
}

async fn create(people: &str, token: &str, number: usize) -> anyhow::Result<String> {
    let body = json!({"name": format!("agent-{number}")}).to_string();
    let (status, answer) = call(people, "POST", "/api/v1/agents", Some(token), &body).await?;
    ensure!(
        status == 201,
        "POST of agent {number} answered {status}: {answer}"
    );
    let answer: Value = serde_json::from_str(&answer)?;
    Ok(answer["token"].as_str().context("no token")?.to_owned())
}

async fn wait_connected(people: &str, token: &str, many: usize) -> anyhow::Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        let (status, answer) = call(people, "GET", "/api/v1/agents", Some(token), "").await?;
        ensure!(status == 200, "the list answered {status}: {answer}");
        let list: Vec<Value> = serde_json::from_str(&answer)?;
        let has_pods = |one: &&Value| one["pods"].as_array().is_some_and(|it| !it.is_empty());
        let connected = list.iter().filter(has_pods).count();
        if connected >= many {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "{connected} of {many} agents connected within {LIMIT:?}"
        );
        sleep(LOOK_INTERVAL).await;
    }
}

#[expect(clippy::print_stdout, reason = "the result")]
fn print(options: &Options, report: &Report) -> anyhow::Result<()> {
    if options.json {
        println!("{}", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    let Report {
        agents,
        one_rss_mib,
        all_rss_mib,
        kib_per_agent,
        first_back_s,
        all_back_s,
        back_cpu_s,
        back_rss_mib,
    } = report;
    println!(
        "server: {one_rss_mib:.1} MiB with one agent, {all_rss_mib:.1} MiB with {agents} more: {kib_per_agent:.0} KiB each\n\
         killed, away for {AWAY:?}, and back: the first agent after {first_back_s:.2} s, all after {all_back_s:.2} s, for \
         {back_cpu_s:.1} s of CPU time; {back_rss_mib:.1} MiB then"
    );
    Ok(())
}
