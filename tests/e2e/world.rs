//! The environment of the tests: server and Git server on the host, the agent in the cluster, Pods to play with.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::cluster::{self, Cluster};
use harness::git_server::GitServer;
use harness::images;
use serde_json::{Value, json};
use tests::command::{self, Outcome};
use tests::project::Project;
use tests::release::Release;
use tests::server::{CreatedAgent, Server, agent_address};

use crate::audit::Mark;

/// The agent that most tests use; also its release and namespace.
pub(crate) const MAIN: &str = "main";
/// Releases that single tests make.
pub(crate) const OTHERS: [&str; 3] = ["plain", "stranger", "shared"];
/// The namespace in which people have more rights than to read.
pub(crate) const PLAYGROUND: &str = "playground";
/// A Pod in it that prints `line 1`, `line 2`, …, has a shell, and a web server on port 8000.
pub(crate) const TALKER: &str = "talker";
/// The namespace of pull secrets.
pub(crate) const IMAGES: &str = "images";
/// A Secret in it that nobody may read.
pub(crate) const SECRET: &str = "treasure";

/// The configuration that is in force when a test begins.
///
/// Workspaces reach the Git server, which has a private address.
pub(crate) const USUAL_CONFIGURATION: &str = "\
observability:
  logging:
    level: info
remote_development:
  enabled: true
  network_policy:
    egress:
    - allow: 0.0.0.0/0
";

/// A kubectl call that has nothing to wait for.
pub(crate) const CALL: Duration = Duration::from_secs(30);
/// From the start of a Pod to its connection.
pub(crate) const CONNECT: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) git: GitServer,
    pub(crate) server: Server,
    pub(crate) project: Project,
    pub(crate) agent: CreatedAgent,
    pub(crate) release: Release,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) folder: PathBuf,
    /// The agent's.
    pub(crate) image: String,
    /// No test was left out.
    pub(crate) is_whole_run: bool,
    pub(crate) audit_mark: Mark,
    server_log_mark: u64,
}

impl World {
    pub(crate) fn start(is_whole_run: bool) -> Result<Self> {
        let cluster =
            Cluster::attach()?.context("no cluster runs; `cargo xtask test e2e` starts one")?;
        let audit_mark = Mark::now(&cluster.log_path("audit"))?;
        let folder = tests::output_dir().join("e2e");
        std::fs::remove_dir_all(&folder).ok();
        std::fs::create_dir_all(&folder)?;
        let image = tests::release::image(cluster.tools())?;
        // What workspaces run in and clone with.
        images::tools_image(cluster.tools())?;

        let release = Release::new(MAIN);
        // Left by an earlier run on a cluster that was kept.
        for name in OTHERS {
            Release::new(name).uninstall(&cluster, CONNECT)?;
        }
        let server = Server::start(&folder.join("server"), &folder.join("server.log"))?;
        let git = GitServer::start(&format!("{}:{}", cluster::HOST_ADDRESS, cluster::GIT_PORT))?;
        let project = Project::create(&git, "group/agents", MAIN, USUAL_CONFIGURATION)?;
        let agent = server.create_agent(MAIN, Some(&git.url("group/agents")))?;
        project.tell_pushes(&git, &agent, &server.ca_file()?)?;
        let kubeconfig = folder.join("kubeconfig");
        server.write_kubeconfig(MAIN, &kubeconfig)?;

        let world = Self {
            cluster,
            git,
            server,
            project,
            agent,
            release,
            kubeconfig,
            folder,
            is_whole_run,
            audit_mark,
            image,
            server_log_mark: 0,
        };
        world.apply(&playground())?;
        world
            .release
            .install(&world.cluster, &world.main_values()?, true)?;
        world.server.wait_pods(MAIN, 2, CONNECT)?;
        let ready = [
            "wait",
            "-n",
            PLAYGROUND,
            "--for=condition=Ready",
            "pod",
            TALKER,
            "--timeout=60s",
        ];
        world.admin(&ready)?;
        Ok(world)
    }

    /// Values of the main agent: people read most things, and do more in the playground.
    pub(crate) fn main_values(&self) -> Result<Value> {
        let mut values = self.values(&self.agent.token, "grpcs")?;
        values["userAccess"] = json!({
            "rules": [{
                "apiGroups": ["", "apps"],
                "resources": ["namespaces", "pods", "pods/log", "services", "services/proxy", "deployments"],
                "verbs": ["get", "list", "watch"],
            }],
            "namespacedRules": {(PLAYGROUND): [
                {"apiGroups": [""], "resources": ["pods/attach", "pods/exec", "pods/portforward"], "verbs": ["get", "create"]},
                {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]},
            ]},
            "impersonation": {"enabled": true, "users": ["gitlab:user:administrator"]},
        });
        values["workspaces"] = json!({"pullSecretNamespaces": [IMAGES]});
        values["networkPolicy"] = json!({"enabled": true});
        Ok(values)
    }

    /// Values that every release of the tests has.
    pub(crate) fn values(&self, token: &str, scheme: &str) -> Result<Value> {
        let (repository, tag) = self
            .image
            .rsplit_once(':')
            .context("the image has no tag")?;
        let mut values = json!({
            "image": {"repository": repository, "tag": tag},
            "config": {"kasAddress": agent_address(scheme), "token": token},
        });
        if scheme == "grpcs" {
            values["config"]["kasCaCert"] = self.server.run(&["ca"])?.into();
        }
        Ok(values)
    }

    /// The cluster's own kubectl, on the host, with the kubeconfig that goes through the tunnel.
    pub(crate) fn person(&self, arguments: &[&str]) -> Command {
        self.as_person(&self.kubeconfig, arguments)
    }

    /// As [`World::person`], with another kubeconfig.
    pub(crate) fn as_person(&self, kubeconfig: &Path, arguments: &[&str]) -> Command {
        let mut command = self.cluster.tools().kubectl(arguments);
        command.env("KUBECONFIG", kubeconfig);
        command
    }

    /// As [`World::person`], with Debian's old kubectl, which speaks SPDY.
    pub(crate) fn person_of_old(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.cluster.tools().kubectl_old);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// What a person's kubectl says; it has to succeed.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String> {
        command::output(&mut self.person(arguments), CALL)
    }

    /// How a person's kubectl ends.
    pub(crate) fn try_ask(&self, arguments: &[&str]) -> Result<Outcome> {
        command::outcome(&mut self.person(arguments), CALL)
    }

    /// What the administrator's kubectl says, inside the cluster.
    pub(crate) fn admin(&self, arguments: &[&str]) -> Result<String> {
        command::output(&mut self.cluster.kubectl(arguments), CONNECT + CALL)
    }

    /// The user name of the main agent's own service account.
    pub(crate) fn agent_account(&self) -> Result<String> {
        let path = "-ojsonpath={.items[0].spec.template.spec.serviceAccountName}";
        let selector = format!("app.kubernetes.io/instance={MAIN}");
        let name = self.admin(&["get", "deployment", "-n", MAIN, "-l", &selector, path])?;
        Ok(format!("system:serviceaccount:{MAIN}:{}", name.trim()))
    }

    /// Applies objects as the administrator.
    pub(crate) fn apply(&self, objects: &[Value]) -> Result<()> {
        self.cluster.apply(&self.manifest("admin", objects)?)
    }

    /// Writes objects to a file for kubectl.
    pub(crate) fn manifest(&self, name: &str, objects: &[Value]) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.json"));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        std::fs::write(&path, list.to_string())?;
        Ok(path)
    }

    /// From here on the server's log belongs to the next test.
    pub(crate) fn mark_logs(&mut self) {
        self.server_log_mark =
            std::fs::metadata(self.server.log()).map_or(0, |metadata| metadata.len());
    }

    /// What server and agents have said during this test.
    pub(crate) fn logs_since_mark(&self) -> String {
        let mut text = tail("server", &self.server_log_since_mark());
        for name in [MAIN].into_iter().chain(OTHERS) {
            let release = Release::new(name);
            for pod in release.pods(&self.cluster).unwrap_or_default() {
                let log = release
                    .log(&self.cluster, &pod)
                    .unwrap_or_else(|error| format!("{error:#}"));
                text += &tail(&pod, &log);
            }
        }
        text
    }

    pub(crate) fn server_log_since_mark(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = std::fs::File::open(self.server.log()) {
            file.seek(SeekFrom::Start(self.server_log_mark)).ok();
            file.read_to_end(&mut text).ok();
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// The last lines of a log, under a head.
fn tail(name: &str, log: &str) -> String {
    const LINES: usize = 40;
    let lines: Vec<&str> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    format!(
        "--- log of {name}, last {} of {} lines\n{}\n",
        last.len(),
        lines.len(),
        last.join("\n")
    )
}

fn playground() -> Vec<Value> {
    let talk = "n=0; while true; do n=$((n+1)); echo line $n; sleep 0.2; done";
    let serve =
        "mkdir /tmp/www && echo from the Pod >/tmp/www/hello && exec httpd -f -p 8000 -h /tmp/www";
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLAYGROUND}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": IMAGES}}),
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": PLAYGROUND}, "stringData": {"gold": "yes"},
        }),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": TALKER, "namespace": PLAYGROUND,
                "annotations": {"kubectl.kubernetes.io/default-container": TALKER},
            },
            "spec": {
                "containers": [
                    {"name": TALKER, "image": "busybox", "command": ["sh", "-c", talk]},
                    {"name": "web", "image": "busybox", "command": ["sh", "-c", serve]},
                ],
                "terminationGracePeriodSeconds": 0,
            },
        }),
    ]
}
