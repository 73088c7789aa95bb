//! Agent and server in the cluster, by their charts and the real Helm.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::cluster::Cluster;
use harness::tools::Tools;
use harness::{images, paths, step, wait};
use serde_json::Value;

use crate::command;

/// Helm waits for ready Pods; image and start take a few seconds.
const HELM_TIMEOUT: &str = "120s";
/// A kubectl call inside the cluster.
const KUBECTL_LIMIT: Duration = Duration::from_secs(30);

/// The chart of the agent.
pub fn chart() -> PathBuf {
    paths::repo_root().join("deploy/charts/agent")
}

/// The chart of the server.
pub fn server_chart() -> PathBuf {
    paths::repo_root().join("deploy/charts/kas-stub")
}

/// Packs the server as it was built last, with git, and returns the image's name.
///
/// # Errors
/// When it was not built, or cannot be packed.
pub fn server_image(tools: &Tools) -> Result<String> {
    let server = paths::binaries_dir().join("kas-stub");
    images::server_image(tools, &server, &images::content_tag(&server)?)
}

/// Packs the agent as it was built last, and returns the image's name.
///
/// # Errors
/// When it was not built, or cannot be packed.
pub fn image(tools: &Tools) -> Result<String> {
    let agent = paths::binaries_dir().join("agent");
    images::agent_image(tools, &agent, &images::content_tag(&agent)?)
}

/// One installation of a chart.
#[derive(Debug, Clone)]
pub struct Release {
    /// Release name, and (by `fullnameOverride`) the name of its objects.
    pub name: String,
    /// Its namespace, made with it.
    pub namespace: String,
    /// Its chart.
    pub chart: PathBuf,
}

impl Release {
    /// A release in a namespace of the same name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: name.to_owned(),
            chart: chart(),
        }
    }

    /// A release of the server, in a namespace of the same name.
    pub fn of_server(name: &str) -> Self {
        Self {
            chart: server_chart(),
            ..Self::new(name)
        }
    }

    /// `helm upgrade --install` and, if asked, waits until every Pod is ready.
    ///
    /// # Errors
    /// When Helm says so.
    pub fn install(&self, cluster: &Cluster, values: &Value, wait_ready: bool) -> Result<()> {
        let file = crate::output_dir().join(format!("{}-values.json", self.name));
        std::fs::create_dir_all(crate::output_dir())?;
        write_private(&file, &values.to_string())?;
        let mut arguments = vec![
            "upgrade",
            "--install",
            &self.name,
            self.chart.to_str().context("path is not UTF-8")?,
            "--namespace",
            &self.namespace,
            "--create-namespace",
            "--values",
            file.to_str().context("path is not UTF-8")?,
        ];
        if wait_ready {
            arguments.extend(["--wait", "--timeout", HELM_TIMEOUT]);
        }
        let installed = step::run(&mut cluster.helm(&arguments));
        // It holds the agent's token.
        std::fs::remove_file(&file).ok();
        installed.map(drop)
    }

    /// `helm uninstall`, and waits until its Pods are gone.
    ///
    /// # Errors
    /// When Helm says so, or the Pods stay.
    pub fn uninstall(&self, cluster: &Cluster, limit: Duration) -> Result<()> {
        step::run(&mut cluster.helm(&[
            "uninstall",
            &self.name,
            "--namespace",
            &self.namespace,
            "--ignore-not-found",
        ]))?;
        wait::wait_until("the release's Pods are gone", limit, || {
            Ok(self.pods(cluster)?.is_empty())
        })
    }

    /// Names of its Pods that are not on their way out.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn pods(&self, cluster: &Cluster) -> Result<Vec<String>> {
        let selector = format!("app.kubernetes.io/instance={}", self.name);
        let text = command::output(
            &mut cluster.kubectl(&[
                "get",
                "pods",
                "-n",
                &self.namespace,
                "-l",
                &selector,
                "-o",
                "json",
            ]),
            KUBECTL_LIMIT,
        )?;
        let list: Value = serde_json::from_str(&text)?;
        let pods = list["items"]
            .as_array()
            .context("no items in a list of Pods")?;
        let living = pods
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(living
            .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
            .collect())
    }

    /// What a Pod serves on `/metrics`.
    ///
    /// # Errors
    /// When it does not.
    pub fn metrics(&self, cluster: &Cluster, pod: &str) -> Result<String> {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{pod}:8080/proxy/metrics",
            self.namespace
        );
        command::output(
            &mut cluster.kubectl(&["get", "--raw", &path]),
            KUBECTL_LIMIT,
        )
    }

    /// The log of a Pod.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn log(&self, cluster: &Cluster, pod: &str) -> Result<String> {
        command::output(
            &mut cluster.kubectl(&["logs", "-n", &self.namespace, pod]),
            KUBECTL_LIMIT,
        )
    }
}

fn write_private(path: &std::path::Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
