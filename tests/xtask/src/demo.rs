//! `cargo xtask demo`: a cluster, a server, an agent by its chart, a person with kubectl and one with a browser. Every sentence it prints is
//! something it has just seen to work.
//!
//! The cluster and the programs on the host stay when it ends, until `cargo xtask demo down`. The latter belong to a
//! second, hidden instance of this program ([`host`]), which ends them when it ends.

mod host;
mod workspace;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use harness::cluster::{Cluster, Options};
use harness::git_server::PushToken;
use harness::step::step;
use harness::tools::Tools;
use harness::watchdog::Watchdog;
use harness::{images, paths, wait};
use serde_json::{Value, json};
use tests::command;
use tests::release::Release;
use tests::server::{PEOPLE_ADDRESS, Server, agent_address};

use crate::cargo;
use crate::preflight::{self, Ports};

/// Agent, release and namespace are called this.
const AGENT: &str = "demo";
/// Where people may do more than read.
const PLAYGROUND: &str = "playground";
/// A Pod with a shell in it.
const SHELL: &str = "shell";

/// What the first configuration file says.
const FIRST_CONFIGURATION: &str = "\
observability:
  logging:
    level: info
remote_development:
  enabled: true
  # The demo's Git server has a private address, which workspaces do not reach by default.
  network_policy:
    egress:
    - allow: 0.0.0.0/0
";
/// What is pushed while everything runs.
const SECOND_CONFIGURATION: &str = "\
observability:
  logging:
    level: debug
remote_development:
  enabled: true
  network_policy:
    egress:
    - allow: 0.0.0.0/0
";

const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// The promise for a push; the demo fails when it is not kept.
const CONFIGURATION_LIMIT: Duration = Duration::from_secs(5);
const KUBECTL_LIMIT: Duration = Duration::from_secs(30);

/// Arguments of `cargo xtask demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(subcommand)]
    command: Option<DemoCommand>,
    /// Tear everything down at the end; the exit code says whether every step was seen to work
    #[arg(long)]
    once: bool,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
enum DemoCommand {
    /// End and remove everything that the demo has started
    Down,
    /// Server and Git server of the demo (started by it)
    #[command(hide = true)]
    Host,
}

/// Runs the subcommand.
pub(crate) fn run(arguments: DemoArgs) -> Result<()> {
    match arguments.command {
        Some(DemoCommand::Down) => down(),
        Some(DemoCommand::Host) => host::run(),
        None => show(&arguments),
    }
}

/// Folder of the demo's data.
fn folder() -> PathBuf {
    paths::state_dir().join("demo")
}

#[expect(clippy::print_stderr, reason = "what to do after a failure")]
fn show(arguments: &DemoArgs) -> Result<()> {
    let ports = match host::Ready::read() {
        Some(_) => Ports::OfTheDemo,
        None => Ports::Free,
    };
    preflight::cluster(arguments.yes, ports)?;
    // Ctrl-C in the middle takes down what is up by then.
    let program = std::env::current_exe()?;
    let watchdog = Watchdog::arm(&[
        program.to_str().context("path is not UTF-8")?,
        "demo",
        "down",
    ])?;
    let shown = steps(arguments.once);
    if arguments.once {
        if shown.is_err() {
            print_logs();
        }
        let removed = down();
        watchdog.disarm();
        return shown.and(removed);
    }
    watchdog.disarm();
    match shown {
        Ok(demo) => {
            demo.invite();
            Ok(())
        }
        Err(error) => {
            eprintln!(
                "What was started still runs; `cargo xtask demo` tries again, `cargo xtask demo down` removes it."
            );
            Err(error)
        }
    }
}

/// What `invite` tells.
struct Demo {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    project_url: String,
    sign_in_link: String,
    push_token: PushToken,
}

fn steps(with_browser: bool) -> Result<Demo> {
    let started = Instant::now();
    step("Build the server and the agent", cargo::build_programs)?;
    let tools = step(
        "Get the cluster's programs (Kubernetes, Helm, kubectl)",
        Tools::ensure,
    )?;
    let image = step("Make the images", || {
        images::ensure_base(&tools)?;
        images::tools_image(&tools)?;
        images::editor(&tools)?;
        tests::release::image(&tools)
    })?;
    let cluster = step("Start the cluster", || Cluster::up(&Options::default()))?;
    step("Make a namespace for people to play in", || {
        make_namespace(&cluster)
    })?;
    let ready = step(
        "Start the server and a Git server on this host",
        host::ensure,
    )?;
    let server = Server::of_data(&host::server_data(), &host::server_log());
    let release = Release::new(AGENT);
    step("Install the agent with Helm, as two Pods", || {
        release.install(
            &cluster,
            &values(&server, &ready.agent_token, &image)?,
            true,
        )
    })?;
    step("See both Pods connected, over the one way out", || {
        server.wait_pods(AGENT, 2, CONNECT_LIMIT)
    })?;

    let kubeconfig = folder().join("kubeconfig");
    step("Write a kubeconfig that goes through the tunnel", || {
        server.write_kubeconfig(AGENT, &kubeconfig)
    })?;
    let person = Person {
        tools: &tools,
        kubeconfig: &kubeconfig,
    };
    step("List Pods through the tunnel", || {
        let pods = person.run(&["get", "pods", "--all-namespaces", "-o", "wide"])?;
        say(&pods);
        ensure!(
            pods.contains(AGENT),
            "the agent's own Pods are not in the list"
        );
        Ok(())
    })?;
    step(
        "Push a change of the configuration and see it take effect in both Pods",
        || change_configuration(&cluster, &server, &release, &ready.project_url),
    )?;
    step("Run a command in a Pod through the tunnel", || {
        start_shell(&cluster)?;
        let text = person.run(&[
            "exec",
            "-n",
            PLAYGROUND,
            SHELL,
            "--",
            "sh",
            "-c",
            "echo hello from $(hostname)",
        ])?;
        say(&text);
        ensure!(
            text.trim() == format!("hello from {SHELL}"),
            "exec said {text:?}"
        );
        Ok(())
    })?;
    step(
        "See the API server refuse what the chart does not grant",
        || {
            let outcome = command::outcome(
                &mut person.command(&["get", "secrets", "-A"]),
                KUBECTL_LIMIT,
            )?;
            say(&outcome.stderr);
            ensure!(
                outcome.code != Some(0) && outcome.stderr.contains("Forbidden"),
                "secrets can be read: {outcome:?}"
            );
            Ok(())
        },
    )?;
    workspace::steps(&cluster, &server, &ready)?;
    if with_browser {
        workspace::day(&server, &ready)?;
    }
    let sign_in_link = workspace::sign_in_link(&server)?;
    say(&format!(
        "Everything was seen to work, in {:.0} s.",
        started.elapsed().as_secs_f64()
    ));
    Ok(Demo {
        kubectl: tools.kubectl.clone(),
        kubeconfig,
        project_url: ready.project_url,
        sign_in_link,
        push_token: ready.push_token,
    })
}

fn values(server: &Server, token: &str, image: &str) -> Result<Value> {
    let (repository, tag) = image.rsplit_once(':').context("the image has no tag")?;
    Ok(json!({
        "fullnameOverride": AGENT,
        "image": {"repository": repository, "tag": tag},
        "config": {
            "kasAddress": agent_address("grpcs"),
            "kasCaCert": server.run(&["ca"])?,
            "token": token,
        },
        "userAccess": {
            "rules": [{
                "apiGroups": ["", "apps"],
                "resources": ["namespaces", "nodes", "pods", "pods/log", "services", "events", "deployments", "replicasets"],
                "verbs": ["get", "list", "watch"],
            }],
            "namespacedRules": {(PLAYGROUND): [
                {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get", "create"]},
                {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]},
            ]},
        },
    }))
}

/// Pushes as a person would: with Git, from a clone.
fn change_configuration(
    cluster: &Cluster,
    server: &Server,
    release: &Release,
    project_url: &str,
) -> Result<()> {
    let clone = folder().join("clone");
    std::fs::remove_dir_all(&clone).ok();
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=Demo", "-c", "user.email=demo@example.com"])
            .args(arguments);
        command::output(&mut command, KUBECTL_LIMIT)
    };
    let at = clone.to_str().context("path is not UTF-8")?;
    git(&["clone", "--quiet", project_url, at])?;
    let file = clone.join(tests::project::configuration_path(AGENT));
    let now = std::fs::read_to_string(&file)?;
    let next = if now == SECOND_CONFIGURATION {
        FIRST_CONFIGURATION
    } else {
        SECOND_CONFIGURATION
    };
    let level = next
        .lines()
        .find_map(|line| line.trim().strip_prefix("level: "))
        .context("the configuration names no log level")?;
    std::fs::write(&file, next)?;
    git(&[
        "-C",
        at,
        "commit",
        "--quiet",
        "--all",
        "--message",
        "Log in more detail",
    ])?;
    let commit = git(&["-C", at, "rev-parse", "HEAD"])?.trim().to_owned();
    let pushed = Instant::now();
    git(&["-C", at, "push", "--quiet", "origin", "HEAD:main"])?;

    let metric = format!("agent_log_level_info{{level=\"{level}\"}} 1");
    wait::wait_until(
        "the new log level is in both Pods' metrics",
        CONFIGURATION_LIMIT,
        || {
            for pod in release.pods(cluster)? {
                if !release.metrics(cluster, &pod)?.contains(&metric) {
                    return Ok(false);
                }
            }
            Ok(true)
        },
    )?;
    let took = pushed.elapsed().as_secs_f64();
    server.wait_agent(
        AGENT,
        "the API shows the commit",
        CONFIGURATION_LIMIT,
        |agent| agent["configuration"]["commit"] == commit.as_str(),
    )?;
    say(&format!(
        "commit {} turned the log level to {level} within {took:.1} s of the push",
        &commit[..12.min(commit.len())]
    ));
    Ok(())
}

fn make_namespace(cluster: &Cluster) -> Result<()> {
    let manifest = paths::state_dir().join("demo-namespace.json");
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLAYGROUND}});
    std::fs::write(&manifest, namespace.to_string())?;
    let applied = cluster.apply(&manifest);
    std::fs::remove_file(&manifest).ok();
    applied
}

fn start_shell(cluster: &Cluster) -> Result<()> {
    let manifest = folder().join("shell.json");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": SHELL, "namespace": PLAYGROUND},
        "spec": {
            "containers": [{"name": SHELL, "image": "busybox", "command": ["sleep", "1000000"]}],
            "terminationGracePeriodSeconds": 0,
        },
    });
    std::fs::write(&manifest, pod.to_string())?;
    cluster.apply(&manifest)?;
    let limit = format!("--timeout={}s", CONNECT_LIMIT.as_secs());
    let arguments = [
        "wait",
        "-n",
        PLAYGROUND,
        "--for=condition=Ready",
        "pod/shell",
        &limit,
    ];
    command::output(
        &mut cluster.kubectl(&arguments),
        CONNECT_LIMIT + KUBECTL_LIMIT,
    )
    .map(drop)
}

/// Someone with a kubeconfig and nothing else.
struct Person<'a> {
    tools: &'a Tools,
    kubeconfig: &'a Path,
}

impl Person<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.tools.kubectl(arguments);
        command.env("KUBECONFIG", self.kubeconfig);
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        command::output(&mut self.command(arguments), KUBECTL_LIMIT)
    }
}

impl Demo {
    #[expect(clippy::print_stdout, reason = "what the demo ends with")]
    fn invite(&self) {
        let kubectl = self.kubectl.display();
        println!(
            "\nThe demo runs. Open this in a browser on this machine, and accept its certificate:\n"
        );
        println!("  {}\n", self.sign_in_link);
        println!(
            "Click Sign in, then Open beside the workspace: an editor with the sample project. Change a file, run"
        );
        println!(
            "`python3 -m unittest` and `python3 app.py` in its terminal (the app's own address is on the workspace's"
        );
        println!(
            "page), commit and push (user dev, password {}).",
            self.push_token.secret()
        );
        println!("New workspace makes another one. At a terminal, try:\n");
        println!("  export KUBECONFIG={}", self.kubeconfig.display());
        println!("  {kubectl} get pods -A -w");
        println!("  {kubectl} exec -it -n {PLAYGROUND} {SHELL} -- sh");
        println!(
            "  git clone {}      # change {} and push",
            self.project_url,
            tests::project::configuration_path(AGENT)
        );
        println!(
            "  export KAS_STUB_DATA_DIR={}",
            host::server_data().display()
        );
        println!(
            "  {} agent show {AGENT}",
            paths::binaries_dir().join("kas-stub").display()
        );
        println!(
            "  {} workspace list      # or show, stop, start, logs, delete",
            paths::binaries_dir().join("kas-stub").display()
        );
        println!(
            "\nServer: https://{PEOPLE_ADDRESS}   logs: {}",
            folder().display()
        );
        println!("The end: cargo xtask demo down");
    }
}

/// Ends everything, in the order in which nothing waits for something that has gone.
fn down() -> Result<()> {
    let host = step("End the server and the Git server", host::end);
    let cluster = step("End the cluster", || {
        Cluster::attach()?.map_or(Ok(()), |cluster| cluster.down())
    });
    host.and(cluster)?;
    match std::fs::remove_dir_all(folder()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("the demo's folder stays")
        }
        _ => Ok(()),
    }
}

fn print_logs() {
    for log in [host::server_log(), host::own_log()] {
        if let Ok(text) = std::fs::read_to_string(&log) {
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(30)..];
            say(&format!(
                "the end of {}:\n{}",
                log.display(),
                tail.join("\n")
            ));
        }
    }
}

#[expect(clippy::print_stderr, reason = "a demo talks")]
fn say(text: &str) {
    for line in text.trim_end().lines() {
        eprintln!("    {line}");
    }
}
