//! The agent's program; the library does the work.

use std::process::ExitCode;

use agent::config::{Args, Config};
use agent::{app, doctor, modules, telemetry};
use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

/// One thread keeps the memory small, two let a large body and small requests run side by side.
const THREADS: usize = 2;

fn main() -> anyhow::Result<ExitCode> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("doctor") {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        return Ok(runtime.block_on(doctor::main(arguments.collect())));
    }
    let config = Config::try_from(Args::parse())?.with_proxy_of_environment()?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?
        .block_on(run(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(config: Config) -> anyhow::Result<()> {
    let log_levels = telemetry::install(config.log_format)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(?config, version = agent::config::VERSION, "agent starts");
    let modules = modules::all(&config, log_levels).await.context("modules")?;
    let agent = app::start(config, modules).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to stop, draining");
    tokio::select! {
        () = agent.stop() => {}
        _ = terminate.recv() => tracing::warn!("asked again, stopping at once"),
        _ = interrupt.recv() => tracing::warn!("asked again, stopping at once"),
    }
    Ok(())
}
