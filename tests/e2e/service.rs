//! The server inside the cluster, by its chart and the real Helm, and an agent that is installed by the commands that the
//! server prints.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::wait::wait_until;
use serde_json::{Value, json};
use tests::command::{self, Outcome};
use tests::project::Project;
use tests::release::{Release, server_image};

use crate::Test;
use crate::world::{CALL, CONNECT, USUAL_CONFIGURATION, World};

pub(crate) const TESTS: &[Test] = &[(
    "a_server_installed_by_helm_is_upgraded_rolled_back_restored_and_leaves_its_data",
    whole_life,
)];

/// Release and namespace of the server.
const SERVER: &str = "kas-stub";
/// The agent, and its namespace.
const INSIDE: &str = "inside";
const INSIDE_NAMESPACE: &str = "agent-inside";
const INSIDE_DEPLOYMENT: &str = "inside-remote-dev-agent";
/// An agent made after the backup.
const LATER: &str = "later";
/// From `helm install` to a connected agent, with its image on the node.
const CONNECTED: Duration = Duration::from_secs(10);
/// For Helm, with an image to pull and a volume to make.
const HELM: Duration = Duration::from_secs(120);

fn whole_life(world: &mut World) -> Result<()> {
    // Left by an earlier run on a cluster that was kept.
    clear(world)?;
    let result = Inside::new(world).and_then(|inside| inside.live());
    if result.is_err() {
        let log = world.admin(&["logs", "-n", SERVER, "--tail=40", "statefulset/kas-stub"]);
        print_log(&log.unwrap_or_else(|error| format!("{error:#}")));
    }
    let cleared = clear(world);
    result.and(cleared)
}

#[expect(clippy::print_stdout, reason = "a test run tells its results")]
fn print_log(log: &str) {
    println!("--- log of the server in the cluster\n{log}");
}

struct Inside<'a> {
    world: &'a World,
    release: Release,
    values: Value,
}

impl<'a> Inside<'a> {
    fn new(world: &'a World) -> Result<Self> {
        let image = server_image(world.cluster.tools())?;
        let (repository, tag) = image.rsplit_once(':').context("the image has no tag")?;
        let chart = tests::release::chart();
        let values = json!({
            "image": {"repository": repository, "tag": tag},
            "agent": {"chart": chart, "image": world.image},
            // The Git server of the tests is plain HTTP at a private address.
            "config": {"git-allow-http": true, "git-allow-private": true, "editor": "none"},
        });
        Ok(Self {
            world,
            release: Release::of_server(SERVER),
            values,
        })
    }

    fn live(&self) -> Result<()> {
        self.install(&self.values)?;
        self.passes_the_restricted_standard(SERVER)?;
        let link = self.run(&["sign-in-link"])?;
        ensure!(
            link.starts_with("https://kas-stub.kas-stub.svc/sign-in/"),
            "{link}"
        );

        self.agent_installs_by_the_printed_commands()?;
        self.doctor_finds_nothing_and_then_what_is_missing()?;
        let kubeconfig = self.kubeconfig()?;
        self.calls_through(&kubeconfig)?;

        // Another version and back: the agent comes back, and what was kept is there.
        let mut values = self.values.clone();
        values["podLabels"] = json!({"round": "two"});
        self.install(&values)?;
        self.agent_is_connected("after an upgrade")?;
        self.calls_through(&kubeconfig)?;
        let rollback = [
            "rollback",
            SERVER,
            "1",
            "-n",
            SERVER,
            "--wait",
            "--timeout=120s",
        ];
        command::output(&mut self.world.cluster.helm(&rollback), HELM)?;
        self.agent_is_connected("after a rollback")?;

        self.a_backup_comes_back()?;
        self.calls_through(&kubeconfig)?;

        self.release.uninstall(&self.world.cluster, CONNECT)?;
        let claim = self
            .world
            .admin(&["get", "pvc", "-n", SERVER, "-o", "name"])?;
        ensure!(
            claim.trim() == "persistentvolumeclaim/data-kas-stub-0",
            "the server's data went with it: {claim:?}"
        );
        Ok(())
    }

    fn install(&self, values: &Value) -> Result<()> {
        self.release.install(&self.world.cluster, values, true)
    }

    /// `kas-stub` in the server's container.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        let exec = [
            "exec",
            "-n",
            SERVER,
            "statefulset/kas-stub",
            "--",
            "kas-stub",
        ];
        self.world.admin(&[&exec, arguments].concat())
    }

    fn agent_is_connected(&self, what: &str) -> Result<()> {
        wait_until(&format!("the agent is connected {what}"), CONNECT, || {
            // The server may be away for a moment.
            let shown = self.run(&["agent", "show", INSIDE, "-o", "json"]);
            let shown = shown.and_then(|text| Ok(serde_json::from_str::<Value>(&text)?));
            Ok(shown.is_ok_and(|agent| {
                agent["pods"].as_array().map_or(0, Vec::len) == 2 && agent["tunnels"]["idle"] != 0
            }))
        })
    }

    /// A project in Git, so that the git in the image is seen to work; and the script, to the letter.
    fn agent_installs_by_the_printed_commands(&self) -> Result<()> {
        let world = self.world;
        Project::create(&world.git, "group/inside", INSIDE, USUAL_CONFIGURATION)?;
        let project = world.git.url("group/inside");
        self.run(&["agent", "create", INSIDE, "--project", &project])?;
        let script = self.run(&["agent", "install", INSIDE])?;
        ensure!(!script.contains("glagent-"), "a token in {script}");
        let started = Instant::now();
        let installed = self.shell(&script)?;
        ensure!(
            installed.code == Some(0) && installed.stdout.contains("STATUS: deployed"),
            "{script}\n{installed:?}"
        );
        self.agent_is_connected("for the first time")?;
        let took = started.elapsed();
        ensure!(took < CONNECTED, "connected after {took:?}");
        wait_until("the configuration was read from Git", CONNECT, || {
            let text = self.run(&["agent", "show", INSIDE, "-o", "json"])?;
            let agent: Value = serde_json::from_str(&text)?;
            let configuration = &agent["configuration"];
            Ok(configuration["commit"].is_string() && configuration["error"].is_null())
        })?;
        self.passes_the_restricted_standard(INSIDE_NAMESPACE)
    }

    /// A shell as the cluster's administrator has one, with the real kubectl and Helm.
    fn shell(&self, script: &str) -> Result<Outcome> {
        let tools = self.world.cluster.tools();
        let folder = |program: &Path| program.parent().map(Path::to_owned).unwrap_or_default();
        let path = format!(
            "PATH={}:{}:/usr/bin:/bin",
            folder(&tools.kubectl).display(),
            folder(&tools.helm).display()
        );
        let helm = ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"]
            .map(|name| format!("{name}=/run/cluster/helm"));
        let [cache, config, data] = &helm;
        let shell = ["env", &path, cache, config, data, "sh"];
        command::outcome_with_input(&mut self.world.cluster.run(&shell), script, HELM)
    }

    fn doctor_finds_nothing_and_then_what_is_missing(&self) -> Result<()> {
        let (is_fine, report) = doctor(self.world, INSIDE_NAMESPACE, INSIDE_DEPLOYMENT)?;
        ensure!(is_fine && report["failed"] == false, "{report:#}");
        for name in [
            "name",
            "tls",
            "token",
            "versions",
            "clock",
            "API server",
            "cluster DNS",
            "rights: native",
            "rights: people",
        ] {
            ensure!(verdict(&report, name) == "ok", "{name}: {report:#}");
        }
        let world = self.world;
        world.admin(&["delete", "rolebindings", "--all", "-n", INSIDE_NAMESPACE])?;
        let (is_fine, report) = doctor(self.world, INSIDE_NAMESPACE, INSIDE_DEPLOYMENT)?;
        let shown = report.to_string();
        ensure!(
            !is_fine
                && verdict(&report, "rights: native") == "fail"
                && verdict(&report, "rights: people") == "fail"
                && shown.contains("leases.coordination.k8s.io in namespace agent-inside"),
            "{report:#}"
        );
        // Helm puts back what is missing.
        let again = self.shell(&format!(
            "helm upgrade {INSIDE} '{}' --namespace {INSIDE_NAMESPACE} --reuse-values",
            tests::release::chart().display()
        ))?;
        ensure!(again.code == Some(0), "{again:?}");
        let (is_fine, report) = doctor(self.world, INSIDE_NAMESPACE, INSIDE_DEPLOYMENT)?;
        ensure!(is_fine, "{report:#}");
        Ok(())
    }

    /// A kubeconfig that goes to the Service for people, by its address: the node does not ask the cluster's DNS.
    fn kubeconfig(&self) -> Result<PathBuf> {
        let text = self.run(&["kubeconfig", INSIDE])?;
        let service = self.world.admin(&[
            "get",
            "service",
            "-n",
            SERVER,
            "kas-stub",
            "-o",
            "jsonpath={.spec.clusterIP}",
        ])?;
        let name = "kas-stub.kas-stub.svc";
        let server = format!("server: \"https://{name}/k8s-proxy/\"");
        ensure!(text.contains(&server), "no {server} in the kubeconfig");
        let at_address = format!(
            "server: \"https://{}/k8s-proxy/\"\n    tls-server-name: {name}",
            service.trim()
        );
        let path = self.world.folder.join("inside.kubeconfig");
        std::fs::write(&path, text.replace(&server, &at_address))?;
        Ok(path)
    }

    /// kubectl through the server in the cluster, its tunnel, and the agent.
    fn calls_through(&self, kubeconfig: &Path) -> Result<()> {
        let kubeconfig = kubeconfig.to_str().context("path is not UTF-8")?;
        let get = ["--kubeconfig", kubeconfig, "get", "--raw", "/version"];
        let answer = command::output(&mut self.world.cluster.kubectl(&get), CALL)?;
        ensure!(answer.contains("gitVersion"), "{answer}");
        Ok(())
    }

    fn a_backup_comes_back(&self) -> Result<()> {
        let world = self.world;
        let backup = world.folder.join("inside.backup");
        let path = backup.to_str().context("path is not UTF-8")?;
        let exec = "kubectl exec -n kas-stub";
        let pod = "statefulset/kas-stub -- kas-stub";
        let made = self.shell(&format!("{exec} {pod} backup - > '{path}'"))?;
        ensure!(made.code == Some(0), "{made:?}");
        self.run(&["agent", "create", LATER])?;
        let refused = self.shell(&format!("{exec} -i {pod} restore - < '{path}'"))?;
        ensure!(
            refused.code != Some(0) && refused.stderr.contains("another server runs"),
            "{refused:?}"
        );
        let mut values = self.values.clone();
        values["maintenance"] = true.into();
        self.install(&values)?;
        let restored = self.shell(&format!("{exec} -i {pod} restore - < '{path}'"))?;
        ensure!(
            restored.code == Some(0) && restored.stdout.contains("before-restore-"),
            "{restored:?}"
        );
        self.install(&self.values)?;
        std::fs::remove_file(&backup)?;
        let agents = self.run(&["agent", "list"])?;
        ensure!(
            agents.contains(INSIDE) && !agents.contains(LATER),
            "{agents}"
        );
        self.agent_is_connected("after a restore")
    }

    fn passes_the_restricted_standard(&self, namespace: &str) -> Result<()> {
        let label = "pod-security.kubernetes.io/enforce=restricted";
        // A server-side dry run of the label answers with a warning for every Pod that breaks the standard.
        let dry_run = [
            "label",
            "--dry-run=server",
            "--overwrite",
            "namespace",
            namespace,
            label,
        ];
        let outcome = command::outcome(&mut self.world.cluster.kubectl(&dry_run), CALL)?;
        ensure!(
            outcome.code == Some(0) && !outcome.stderr.contains("violat"),
            "{}",
            outcome.stderr
        );
        Ok(())
    }
}

/// What `agent doctor` says in an agent's container, and whether its exit code is 0.
pub(crate) fn doctor(world: &World, namespace: &str, deployment: &str) -> Result<(bool, Value)> {
    let deployment = format!("deployment/{deployment}");
    let exec = ["exec", "-n", namespace, &deployment, "--"];
    let doctor = [&exec[..], &["/agent", "doctor", "--output=json"]].concat();
    let told = command::outcome(&mut world.cluster.kubectl(&doctor), CONNECT)?;
    let report: Value =
        serde_json::from_str(&told.stdout).with_context(|| format!("the doctor said {told:?}"))?;
    Ok((told.code == Some(0), report))
}

/// How one of its checks ended.
pub(crate) fn verdict<'a>(report: &'a Value, name: &str) -> &'a str {
    let mut checks = report["checks"].as_array().into_iter().flatten();
    let check = checks.find(|check| check["name"] == name);
    check.map_or("", |check| check["verdict"].as_str().unwrap_or_default())
}

/// Takes away whatever there is of both.
fn clear(world: &World) -> Result<()> {
    let agent = Release {
        namespace: INSIDE_NAMESPACE.to_owned(),
        ..Release::new(INSIDE)
    };
    for release in [agent, Release::of_server(SERVER)] {
        release.uninstall(&world.cluster, CONNECT)?;
        let delete = [
            "delete",
            "namespace",
            "--ignore-not-found",
            &release.namespace,
        ];
        world.admin(&delete)?;
    }
    Ok(())
}
