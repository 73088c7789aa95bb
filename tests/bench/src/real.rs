//! The real API server: what its own work and TLS add to both sides of the comparison.
//!
//! It lives in a network of its own, so the agent and the direct load run inside that network; the server and the load
//! through the tunnel stay outside, as in life.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use clap::Args;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::load::{self, Run, Target};

/// What anybody may ask an API server, so that no credentials stand between.
pub(crate) const PATH: &str = "/version";

/// How to get into the API server's network.
#[derive(Debug, Clone, Args)]
pub(crate) struct Network {
    /// A program and its arguments that run what follows inside the API server's network, one by one
    #[arg(long = "enter", allow_hyphen_values = true)]
    pub(crate) enter: Vec<String>,
    /// The administrator's kubeconfig (JSON), as a path inside
    #[arg(long, default_value = "")]
    pub(crate) kubeconfig: String,
    /// Where the server listens for the agent, as seen from inside
    #[arg(long, default_value = "")]
    pub(crate) agent_address: String,
}

impl Network {
    /// A command inside.
    pub(crate) fn command(&self, program: &std::path::Path) -> anyhow::Result<Command> {
        let (first, rest) = self
            .enter
            .split_first()
            .context("--enter names no program")?;
        let mut command = Command::new(first);
        command.args(rest).arg(program).kill_on_drop(true);
        Ok(command)
    }

    /// One run of a closed loop, directly, inside.
    pub(crate) async fn direct(&self, workers: usize, length: Duration) -> anyhow::Result<Summary> {
        let output = self
            .command(&std::env::current_exe()?)?
            .args(["load", "--kubeconfig", &self.kubeconfig])
            .args(["--workers", &workers.to_string()])
            .args(["--seconds", &length.as_secs().to_string()])
            .stderr(Stdio::inherit())
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "the direct load ended with {}",
            output.status
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// A run of a closed loop in four numbers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) requests: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) rps: f64,
}

impl From<&Run> for Summary {
    fn from(run: &Run) -> Self {
        Self {
            requests: run.times.len(),
            p50_ms: run.percentile_ms(50),
            p99_ms: run.percentile_ms(99),
            rps: run.requests_per_second(),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct LoadOptions {
    #[arg(long)]
    kubeconfig: PathBuf,
    #[arg(long)]
    workers: usize,
    #[arg(long)]
    seconds: u64,
}

/// Runs the loop and prints its [`Summary`].
#[expect(
    clippy::print_stdout,
    reason = "the parent process reads the result from here"
)]
pub(crate) async fn load(options: &LoadOptions) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&options.kubeconfig)
        .with_context(|| format!("reading {}", options.kubeconfig.display()))?;
    let config: serde_json::Value = serde_json::from_str(&text)?;
    let cluster = &config["clusters"][0]["cluster"];
    let address = cluster["server"]
        .as_str()
        .context("no server in the kubeconfig")?;
    let authority = cluster["certificate-authority-data"]
        .as_str()
        .context("no CA in the kubeconfig")?;
    let mut roots = rustls::RootCertStore::empty();
    let pem = base64::engine::general_purpose::STANDARD.decode(authority)?;
    roots.add(CertificateDer::from_pem_slice(&pem)?)?;
    let tls = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let target = Target {
        uri: format!("{address}{PATH}").parse()?,
        token: None,
        tls: Some(Arc::new(tls)),
    };
    let run = load::closed_loop(
        &target,
        options.workers,
        Duration::from_secs(options.seconds),
    )
    .await?;
    println!("{}", serde_json::to_string(&Summary::from(&run))?);
    Ok(())
}
