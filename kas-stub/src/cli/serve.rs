//! `kas-stub serve`.

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::output;
use crate::{
    app,
    config::{LogFormat, ServeConfig},
};

pub(super) fn run(config: ServeConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log_level).context("--log-level")?;
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter);
    match config.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    raise_file_limit();
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    runtime.block_on(serve(config))
}

/// Takes all open files that the system lets this process have: each connection is one, and many systems begin with 1024.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, ?limit, "the limit of open files stays");
    }
}

async fn serve(config: ServeConfig) -> anyhow::Result<()> {
    // Before anything is started, so that a signal in between stops it properly.
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for Ctrl-C")?;
    tracing::info!(?config, version = env!("CARGO_PKG_VERSION"), "starting");
    let server = app::start(config).await?;
    output::listening(server.agents, server.people, server.observability);
    if let Some(link) = &server.sign_in_link {
        output::line(link);
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    tokio::select! {
        () = server.stop() => {}
        // A second Ctrl-C does not wait.
        _ = interrupt.recv() => {}
    }
    Ok(())
}
