//! Small calls and one large body, through the tunnel and directly.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::far::Link;
use crate::load::{self, Target};
use crate::process;
use crate::real::{self, Network, Summary};
use crate::stack::Stack;

/// How many callers the throughput is measured with (as in the recorded baseline of the real pair).
const MANY: usize = 64;
const SMALL: &str = "/bench/small";
const STREAMS: usize = 500;
/// Another continent, by a good line.
const FAR: Link = Link {
    round_trip: Duration::from_millis(50),
    bits_per_second: 1e9,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder with the programs `kas-stub` and `agent`
    #[arg(long)]
    binaries: PathBuf,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Runs of each measurement; the median is reported
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds of one run
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Size of the large body in MiB
    #[arg(long, default_value_t = 256)]
    body_mib: u64,
    #[command(flatten)]
    network: Network,
}

#[derive(Debug, Serialize)]
struct Report {
    direct: Case,
    tunnel: Case,
    rss_mib: Memory,
    far: Far,
    /// GET /version of a real API server, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_server: Option<Real>,
}

/// The large body with 50 ms and 1 Gbit/s between agent and server, or between caller and upstream.
#[derive(Debug, Serialize)]
struct Far {
    link_mib_per_s: f64,
    direct_mib_per_s: f64,
    tunnel_mib_per_s: f64,
}

/// The same pair of cases against a real API server, without a large body, which it does not have.
#[derive(Debug, Serialize)]
struct Real {
    direct: Calls,
    tunnel: Calls,
}

#[derive(Debug, Serialize)]
struct Calls {
    p50_ms: f64,
    p99_ms: f64,
    rps: f64,
    /// Server and agent together, concurrency 64; nothing of ours works in the direct case.
    cpu_ms_per_request: f64,
}

#[derive(Debug, Serialize)]
struct Case {
    /// Concurrency 1.
    p50_ms: f64,
    /// Concurrency 1.
    p99_ms: f64,
    /// Concurrency 64.
    rps: f64,
    /// Server and agent together, concurrency 64; nothing of ours works in the direct case.
    cpu_ms_per_request: f64,
    /// The same at concurrency 1.
    cpu_ms_per_request_c1: f64,
    body_mib_per_s: f64,
}

#[derive(Debug, Serialize)]
struct Memory {
    agent_idle: f64,
    agent_peak: f64,
    server_idle: f64,
    server_peak: f64,
    /// With 500 watches open that say nothing.
    agent_500_streams: f64,
    server_500_streams: f64,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let stack = Stack::start(&options.binaries, None).await?;
    let agent = stack.agent.id().unwrap_or_default();
    let server = stack.server.id().unwrap_or_default();
    // What starting left behind is given back before the idle figure is taken.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (agent_idle, server_idle) = (process::rss_mib(agent)?, process::rss_mib(server)?);
    let blob = format!("/bench/blob/{}", options.body_mib);
    let meter = Meter {
        options,
        pids: [agent, server],
    };
    let direct = meter
        .case("direct", &stack.direct(SMALL)?, &stack.direct(&blob)?)
        .await?;
    let tunnel = meter
        .case("tunnel", &stack.tunnel(SMALL)?, &stack.tunnel(&blob)?)
        .await?;
    let (agent_peak, server_peak) = (
        process::peak_rss_mib(agent)?,
        process::peak_rss_mib(server)?,
    );
    drop(stack);
    let (agent_500_streams, server_500_streams) = streams(options).await?;
    let rss_mib = Memory {
        agent_idle,
        agent_peak,
        server_idle,
        server_peak,
        agent_500_streams,
        server_500_streams,
    };
    let far = far(options, &blob).await?;
    let api_server = if options.network.enter.is_empty() {
        progress("no real API server to measure beside; `cargo xtask cluster up` starts one");
        None
    } else {
        Some(real(options).await?)
    };
    print(
        options,
        &Report {
            direct,
            tunnel,
            rss_mib,
            far,
            api_server,
        },
    )
}

/// Memory of agent and server with many open streams.
async fn streams(options: &Options) -> anyhow::Result<(f64, f64)> {
    progress(&format!("{STREAMS} open streams"));
    let stack = Stack::start(&options.binaries, None).await?;
    let watch = stack.tunnel("/bench/watch")?;
    let mut open = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        open.push(load::open(&watch).await?);
    }
    let agent = stack.agent.id().unwrap_or_default();
    Ok((
        process::rss_mib(agent)?,
        process::rss_mib(stack.server_pid())?,
    ))
}

async fn far(options: &Options, blob: &str) -> anyhow::Result<Far> {
    let stack = Stack::start(&options.binaries, Some(FAR)).await?;
    progress("50 ms away, direct");
    let (target, _relay) = stack.direct_far(blob, FAR).await?;
    let direct = bodies(options, &target).await?;
    progress("50 ms away, tunnel");
    Ok(Far {
        link_mib_per_s: FAR.mib_per_s(),
        direct_mib_per_s: direct,
        tunnel_mib_per_s: bodies(options, &stack.tunnel(blob)?).await?,
    })
}

/// The large body, again and again: MiB/s.
async fn bodies(options: &Options, blob: &Target) -> anyhow::Result<f64> {
    let mut body = Vec::new();
    for _ in 0..options.runs {
        let (bytes, elapsed) = load::download(blob).await?;
        anyhow::ensure!(
            bytes == options.body_mib * 1024 * 1024,
            "the body had {bytes} bytes"
        );
        body.push(bytes as f64 / (1024.0 * 1024.0) / elapsed.as_secs_f64());
    }
    Ok(median(body))
}

async fn real(options: &Options) -> anyhow::Result<Real> {
    let network = &options.network;
    let stack = Stack::start_real(&options.binaries, network).await?;
    let pids = [
        stack.agent.id().unwrap_or_default(),
        stack.server.id().unwrap_or_default(),
    ];
    let meter = Meter { options, pids };
    let length = Duration::from_secs(options.seconds);
    let (mut direct_one, mut direct_many) = (Vec::new(), Vec::new());
    progress("real API server, direct");
    for _ in 0..options.runs {
        direct_one.push(network.direct(1, length).await?);
        direct_many.push(network.direct(MANY, length).await?);
    }
    progress("real API server, tunnel");
    let target = stack.tunnel(real::PATH)?;
    load::closed_loop(&target, MANY, length.min(Duration::from_secs(2))).await?;
    let (mut tunnel_one, mut tunnel_many, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.runs {
        tunnel_one.push(Summary::from(&load::closed_loop(&target, 1, length).await?));
        let before = meter.cpu_time()?;
        let many = Summary::from(&load::closed_loop(&target, MANY, length).await?);
        cpu.push(milliseconds(meter.cpu_time()? - before) / many.requests as f64);
        tunnel_many.push(many);
    }
    Ok(Real {
        direct: calls(&direct_one, &direct_many, 0.0),
        tunnel: calls(&tunnel_one, &tunnel_many, median(cpu)),
    })
}

fn calls(one: &[Summary], many: &[Summary], cpu_ms_per_request: f64) -> Calls {
    Calls {
        p50_ms: median(one.iter().map(|run| run.p50_ms).collect()),
        p99_ms: median(one.iter().map(|run| run.p99_ms).collect()),
        rps: median(many.iter().map(|run| run.rps).collect()),
        cpu_ms_per_request,
    }
}

struct Meter<'a> {
    options: &'a Options,
    pids: [u32; 2],
}

impl Meter<'_> {
    async fn case(&self, name: &str, small: &Target, blob: &Target) -> anyhow::Result<Case> {
        let length = Duration::from_secs(self.options.seconds);
        let warm_up = length.min(Duration::from_secs(2));
        progress(&format!("{name}: one caller"));
        load::closed_loop(small, 1, warm_up).await?;
        let (mut p50, mut p99, mut cpu_one) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.options.runs {
            let before = self.cpu_time()?;
            let run = load::closed_loop(small, 1, length).await?;
            cpu_one.push(milliseconds(self.cpu_time()? - before) / run.times.len() as f64);
            p50.push(run.percentile_ms(50));
            p99.push(run.percentile_ms(99));
        }
        progress(&format!("{name}: {MANY} callers"));
        load::closed_loop(small, MANY, warm_up).await?;
        let (mut rps, mut cpu_many) = (Vec::new(), Vec::new());
        for _ in 0..self.options.runs {
            let before = self.cpu_time()?;
            let run = load::closed_loop(small, MANY, length).await?;
            cpu_many.push(milliseconds(self.cpu_time()? - before) / run.times.len() as f64);
            rps.push(run.requests_per_second());
        }
        progress(&format!("{name}: a body of {} MiB", self.options.body_mib));
        let body = bodies(self.options, blob).await?;
        Ok(Case {
            p50_ms: median(p50),
            p99_ms: median(p99),
            rps: median(rps),
            cpu_ms_per_request: median(cpu_many),
            cpu_ms_per_request_c1: median(cpu_one),
            body_mib_per_s: body,
        })
    }

    fn cpu_time(&self) -> anyhow::Result<Duration> {
        self.pids.iter().map(|pid| process::cpu_time(*pid)).sum()
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::print_stderr, reason = "progress for the person who waits")]
fn progress(what: &str) {
    eprintln!("bench: {what}");
}

#[expect(clippy::print_stdout, reason = "the result")]
fn print(options: &Options, report: &Report) -> anyhow::Result<()> {
    if options.json {
        println!("{}", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    println!(
        "{:>8} {:>9} {:>9} {:>9} {:>12} {:>12} {:>10}",
        "", "p50 ms", "p99 ms", "rps", "CPU ms/req", "… alone", "MiB/s"
    );
    for (name, case) in [("direct", &report.direct), ("tunnel", &report.tunnel)] {
        let Case {
            p50_ms,
            p99_ms,
            rps,
            cpu_ms_per_request,
            cpu_ms_per_request_c1,
            body_mib_per_s,
        } = case;
        println!(
            "{name:>8} {p50_ms:>9.3} {p99_ms:>9.3} {rps:>9.0} {cpu_ms_per_request:>12.3} {cpu_ms_per_request_c1:>12.3} {body_mib_per_s:>10.0}"
        );
    }
    let Memory {
        agent_idle,
        agent_peak,
        server_idle,
        server_peak,
        agent_500_streams,
        server_500_streams,
    } = &report.rss_mib;
    println!(
        "memory, MiB: agent {agent_idle:.1} idle, {agent_peak:.1} at most, {agent_500_streams:.1} with {STREAMS} open streams; \
         server {server_idle:.1}, {server_peak:.1} and {server_500_streams:.1}"
    );
    let Far {
        link_mib_per_s,
        direct_mib_per_s,
        tunnel_mib_per_s,
    } = &report.far;
    println!(
        "a body over 50 ms and 1 Gbit/s ({link_mib_per_s:.0} MiB/s): direct {direct_mib_per_s:.0}, tunnel {tunnel_mib_per_s:.0} MiB/s"
    );
    if let Some(Real { direct, tunnel }) = &report.api_server {
        println!("GET /version of a real API server:");
        for (name, calls) in [("direct", direct), ("tunnel", tunnel)] {
            let Calls {
                p50_ms,
                p99_ms,
                rps,
                cpu_ms_per_request,
            } = calls;
            println!("{name:>8} {p50_ms:>9.3} {p99_ms:>9.3} {rps:>9.0} {cpu_ms_per_request:>12.3}");
        }
    }
    Ok(())
}
