//! Many workspaces against a real API server, with fake nodes whose Pods are Ready at once.
//!
//! ```text
//!  POST ──▶ kas-stub ◀──gRPC── agent ──▶ API server ◀── controllers, scheduler, kwok
//!                                            ▲
//!  the same objects by a plain client ───────┘        the baseline: what the cluster itself takes
//! ```
//! All of it runs in the cluster's network. What the agent writes is counted in the API server's audit log, where it is
//! told apart by its user agent.

mod audit;
mod direct;
mod people;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::process;
use crate::stack::{self, Stack};
use audit::Audit;
use direct::Direct;
use people::People;

/// Workspaces that are new at once.
const NEW: usize = 100;
/// Changes of single workspaces, one after the other.
const CHANGES: usize = 60;
/// The rest is watched for so long.
const AT_REST: Duration = Duration::from_secs(60);
/// Full polls are forced by a short interval; the shortest that an agent takes.
const FULL_INTERVAL_S: &str = "10";
/// After a restart nothing may be written for so long.
const AFTER_RESTART: Duration = Duration::from_secs(15);
/// The longest that any phase may take.
const PHASE_LIMIT: Duration = Duration::from_secs(300);
/// Between two looks at the server or the agent's metrics.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The workspace whose objects the baseline copies.
const TEMPLATE: &str = "pattern";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder with the programs `kas-stub` and `agent`
    #[arg(long)]
    binaries: PathBuf,
    /// The administrator's kubeconfig (JSON)
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The API server's audit log
    #[arg(long)]
    audit_log: PathBuf,
    /// Where workspaces are made from; their devfile chooses fake nodes
    #[arg(long)]
    repository: String,
    /// The storage class of fake volumes
    #[arg(long)]
    storage_class: String,
    /// How many workspaces there are in the end
    #[arg(long, default_value_t = 1000)]
    workspaces: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Times in seconds, memory in MiB. Writes are the agent's, its lease apart.
#[derive(Debug, Serialize)]
struct Report {
    /// From the first of 100 POSTs to the last workspace Running in the API.
    new_100_s: f64,
    /// The same objects for 100 others, written by a plain client with 16 requests under way, to the last Deployment ready:
    /// what the cluster itself takes.
    direct_100_s: f64,
    /// Requests and writes of the agent for each of the 100.
    new_requests_each: f64,
    new_writes_each: f64,
    /// The mean of the full passes within a minute: all workspaces judged and reported, the server's answer about each
    /// taken in. By the agent's own metric; the passes are forced by an interval of 10 s.
    steady_1000_s: f64,
    /// From the start of a killed agent's process to the end of its first full pass: cluster listed, everything reported
    /// and answered.
    restart_1000_s: f64,
    /// Writes from that start until 15 s after that end.
    restart_writes: usize,
    /// From the POST that stops or starts a workspace to the event of its Deployment with other replicas.
    change_p50_s: f64,
    change_p95_s: f64,
    /// Resident memory of the agent at rest with all workspaces, and the most it ever was, before and after the restart.
    agent_rss_mib: f64,
    agent_peak_rss_mib: f64,
    restarted_rss_mib: f64,
    restarted_peak_rss_mib: f64,
    /// Of the server, at the same time as `agent_rss_mib`.
    server_rss_mib: f64,
    /// Writes within a minute at rest, with a full pass every 10 s.
    idle_writes: usize,
    /// How many there were really, and the machine's load (1 min) when `new_100_s` began.
    workspaces: usize,
    load_before: f64,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.workspaces >= NEW, "at least {NEW} workspaces");
    let direct = Direct::open(&options.kubeconfig, stack::AGENT).await?;
    let metrics = free_address()?;
    let mut stack = Stack::start_inside(
        &options.binaries,
        &options.kubeconfig,
        metrics,
        &[
            "--git-allow-http",
            "--git-allow-private",
            "--workspace-storage-class",
            &options.storage_class,
            "--workspace-full-interval",
            FULL_INTERVAL_S,
        ],
        &options.repository,
    )
    .await?;
    let measured = measure(options, &direct, metrics, &mut stack).await;
    let report = measured.with_context(|| {
        let log = stack.agent_log();
        let start = log.len().saturating_sub(4000);
        format!(
            "the end of the agent's log:\n{}",
            log.get(start..).unwrap_or(&log)
        )
    })?;
    print(options, &report)
}

async fn measure(
    options: &Options,
    direct: &Direct,
    metrics: SocketAddr,
    stack: &mut Stack,
) -> anyhow::Result<Report> {
    let (address, token) = stack.people();
    let people = People::new(address, token, &options.repository);
    let agent = Agent { metrics };
    let audit = |from_now: &str| {
        progress(from_now);
        Audit::mark(&options.audit_log)
    };
    people.wait_allowed(PHASE_LIMIT).await?;
    people.create(&[TEMPLATE.to_owned()]).await?;
    people.wait_running(1, PHASE_LIMIT).await?;

    progress(&format!("{NEW} by a plain client"));
    let direct_100_s = direct.copies(TEMPLATE, NEW, PHASE_LIMIT).await?;

    let load_before = process::load()?;
    let mark = audit(&format!("{NEW} new"))?;
    let began = Instant::now();
    people.create(&names(1, NEW)).await?;
    people.wait_running(1 + NEW, PHASE_LIMIT).await?;
    let new_100_s = began.elapsed().as_secs_f64();
    let asked = mark.count()?;

    progress(&format!("{} in all", options.workspaces));
    for first in (NEW + 1..options.workspaces).step_by(NEW) {
        let many = NEW.min(options.workspaces - first);
        people.create(&names(first, many)).await?;
        people.wait_running(first + many, PHASE_LIMIT).await?;
    }
    // The reports of the last ones may wait for their turn.
    agent.wait_full_pass(&agent.full_passes().await?).await?;

    let mark = audit("a minute at rest")?;
    let before = agent.full_passes().await?;
    sleep(AT_REST).await;
    let after = agent.full_passes().await?;
    let idle_writes = mark.count()?.writes;
    let steady_1000_s = after.mean_since(&before)?;
    let pid = stack.agent.id().context("the agent has ended")?;
    let agent_rss_mib = process::rss_mib(pid)?;
    let agent_peak_rss_mib = process::peak_rss_mib(pid)?;
    let server_rss_mib = process::rss_mib(stack.server.id().context("the server has ended")?)?;

    progress("single changes");
    let mut changes = Vec::new();
    let mut watch = direct.watch_replicas().await?;
    for number in 0..CHANGES {
        // Each is stopped and started again, in turns.
        let name = format!("w{}", 1 + number / 2);
        let (verb, replicas) = [("stop", 0), ("start", 1)][number % 2];
        let began = Instant::now();
        people.change(&name, verb).await?;
        watch.wait(&name, replicas, PHASE_LIMIT).await?;
        changes.push(began.elapsed());
    }
    drop(watch);
    changes.sort_unstable();
    people.wait_running(options.workspaces, PHASE_LIMIT).await?;

    let mark = audit("restart")?;
    stack.kill_agent().await?;
    let began = Instant::now();
    stack.start_agent()?;
    agent.wait_full_pass(&FullPasses::default()).await?;
    let restart_1000_s = began.elapsed().as_secs_f64();
    let known = agent.value("agent_workspaces").await?;
    ensure!(
        known == options.workspaces as f64,
        "the agent knows {known} workspaces after its restart"
    );
    sleep(AFTER_RESTART).await;
    let restart_writes = mark.count()?.writes;
    let pid = stack.agent.id().context("the agent has ended")?;
    let (address, token) = stack.people();
    People::new(address, token, &options.repository)
        .wait_running(options.workspaces, PHASE_LIMIT)
        .await?;
    Ok(Report {
        new_100_s,
        direct_100_s,
        new_requests_each: asked.requests as f64 / NEW as f64,
        new_writes_each: asked.writes as f64 / NEW as f64,
        steady_1000_s,
        restart_1000_s,
        restart_writes,
        change_p50_s: percentile(&changes, 50),
        change_p95_s: percentile(&changes, 95),
        agent_rss_mib,
        agent_peak_rss_mib,
        restarted_rss_mib: process::rss_mib(pid)?,
        restarted_peak_rss_mib: process::peak_rss_mib(pid)?,
        server_rss_mib,
        idle_writes,
        workspaces: options.workspaces,
        load_before,
    })
}

/// `w1`, `w2`, …: `many` of them from `first` on.
fn names(first: usize, many: usize) -> Vec<String> {
    (first..first + many)
        .map(|number| format!("w{number}"))
        .collect()
}

/// The agent, by its metrics.
struct Agent {
    metrics: SocketAddr,
}

/// Full passes so far: how many, and the sum of their seconds.
#[derive(Debug, Default)]
struct FullPasses {
    count: f64,
    sum: f64,
}

impl FullPasses {
    fn mean_since(&self, before: &Self) -> anyhow::Result<f64> {
        let count = self.count - before.count;
        ensure!(count >= 1.0, "there was no full pass");
        Ok((self.sum - before.sum) / count)
    }
}

impl Agent {
    async fn full_passes(&self) -> anyhow::Result<FullPasses> {
        let text = self.text().await?;
        Ok(FullPasses {
            count: value(&text, "agent_full_poll_seconds_count").unwrap_or(0.0),
            sum: value(&text, "agent_full_poll_seconds_sum").unwrap_or(0.0),
        })
    }

    /// Waits for the end of another pass. An agent that does not answer yet is waited for.
    async fn wait_full_pass(&self, before: &FullPasses) -> anyhow::Result<()> {
        let end = Instant::now() + PHASE_LIMIT;
        loop {
            if let Ok(now) = self.full_passes().await
                && now.count > before.count
            {
                return Ok(());
            }
            ensure!(Instant::now() < end, "no full pass within {PHASE_LIMIT:?}");
            sleep(LOOK_INTERVAL).await;
        }
    }

    async fn value(&self, name: &str) -> anyhow::Result<f64> {
        value(&self.text().await?, name).with_context(|| format!("no metric {name}"))
    }

    async fn text(&self) -> anyhow::Result<String> {
        let address = self.metrics.to_string();
        let (status, body) = crate::http::call(&address, "GET", "/metrics", None, "").await?;
        if status != 200 {
            bail!("the agent's metrics: {status}");
        }
        Ok(body)
    }
}

/// The value of a metric without labels.
fn value(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line?.trim().parse().ok()
}

/// An address that nobody listens on now.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Of sorted times, in seconds; the nearest rank.
fn percentile(times: &[Duration], percent: usize) -> f64 {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).map_or(f64::NAN, Duration::as_secs_f64)
}

#[expect(clippy::print_stderr, reason = "a run takes minutes")]
fn progress(what: &str) {
    eprintln!("· {what}");
}

#[expect(clippy::print_stdout, reason = "the benchmark's answer")]
fn print(options: &Options, report: &Report) -> anyhow::Result<()> {
    let value = serde_json::to_value(report)?;
    if options.json {
        println!("{value:#}");
        return Ok(());
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        println!("{name:<24}{value}");
    }
    Ok(())
}
