//! What the walls hold: a devfile or a server that wants the node, an agent that was taken over, and a workspace that looks
//! around.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::cluster::{GIT_PORT, HOST_ADDRESS};
use harness::reachability::{From, opens};
use harness::wait::wait_until;
use serde_json::json;
use tests::command::{Outcome, outcome};

use crate::Test;
use crate::access::open_program;
use crate::life::configure;
use crate::workspaces::{DEVFILE, LIFE, delete, repository, wait_failure, workspace};
use crate::world::{CALL, CONNECT, MAIN, PLAYGROUND, TALKER, USUAL_CONFIGURATION, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "what_no_workspace_may_have_is_refused_by_the_agent_and_told",
        not_allowed,
    ),
    (
        "the_cluster_itself_holds_the_agent_to_namespaces_of_its_own",
        taken_over,
    ),
    (
        "a_workspace_reaches_nothing_that_is_not_its_own",
        looks_around,
    ),
];

/// What a devfile brings along, and what the refusal names. The server passes it on as it is.
const ATTEMPTS: [(&str, &str, &str); 3] = [
    (
        "wants-node",
        "apiVersion: apps/v1, kind: Deployment, metadata: {name: own}, spec: {selector: {matchLabels: {a: b}}, template: \
         {metadata: {labels: {a: b}}, spec: {hostPID: true, containers: [{name: c, image: 'localhost/tools:1', \
         securityContext: {privileged: true}}], volumes: [{name: v, hostPath: {path: /}}]}}}",
        "spec.template.spec.hostPID",
    ),
    (
        "wants-token",
        "apiVersion: v1, kind: Secret, metadata: {name: own, annotations: {kubernetes.io/service-account.name: default}}, \
         type: kubernetes.io/service-account-token",
        "kubernetes.io/service-account.name",
    ),
    (
        "wants-port",
        "apiVersion: v1, kind: Service, metadata: {name: own}, spec: {type: NodePort, selector: {a: b}, ports: [{port: 80}]}",
        "spec.type",
    ),
];

fn not_allowed(world: &mut World) -> Result<()> {
    for (name, object, _) in ATTEMPTS {
        let component = format!(
            "  - name: own\n    kubernetes:\n      deployByDefault: true\n      inlined: |\n        {{{object}}}\ncommands:"
        );
        let url = repository(world, name, &DEVFILE.replace("commands:", &component))?;
        let create = ["workspace", "create", &url, "--name", name, "--agent", MAIN];
        world.server.json(&create)?;
    }
    for (name, _, word) in ATTEMPTS {
        let shown = wait_failure(world, name, "NotAllowed")?;
        ensure!(shown["failures"].to_string().contains(word), "{shown:#}");
        // Not even its namespace was made.
        let namespace = format!("gl-rd-ns-{name}");
        let get = outcome(
            &mut world.cluster.kubectl(&["get", "namespace", &namespace]),
            CALL,
        )?;
        ensure!(get.stderr.contains("NotFound"), "{get:?}");
        delete(world, name, &namespace)?;
    }
    Ok(())
}

/// With nothing but the agent's own credentials, as one who has taken it over.
fn taken_over(world: &mut World) -> Result<()> {
    let account = world.agent_account()?;
    let refused = |what: &str, arguments: &[&str], word: &str| -> Result<()> {
        let Outcome {
            code,
            stderr,
            stdout,
            ..
        } = as_agent(world, &account, arguments)?;
        ensure!(
            code != Some(0) && stderr.contains(word),
            "{what}: {code:?} {stdout} {stderr}"
        );
        Ok(())
    };
    for (verb, resource, namespace) in [
        ("get", "secrets", "kube-system"),
        ("list", "secrets", PLAYGROUND),
        ("list", "configmaps", PLAYGROUND),
        ("create", "deployments.apps", PLAYGROUND),
        ("patch", "deployments.apps", "kube-system"),
        ("create", "pods/exec", PLAYGROUND),
        ("delete", "persistentvolumeclaims", PLAYGROUND),
        (
            "update",
            "rolebindings.rbac.authorization.k8s.io",
            PLAYGROUND,
        ),
        (
            "escalate",
            "clusterroles.rbac.authorization.k8s.io",
            PLAYGROUND,
        ),
        ("impersonate", "serviceaccounts", "kube-system"),
        ("patch", "namespaces", ""),
    ] {
        let can = ["auth", "can-i", verb, resource, "-n", namespace];
        let asked = as_agent(world, &account, &can)?;
        ensure!(
            asked.stdout.trim() == "no",
            "{verb} {resource} in {namespace:?}: {asked:?}"
        );
    }
    refused(
        "a namespace of another name",
        &["create", "namespace", "evil"],
        "begin with gl-rd-ns-",
    )?;
    refused(
        "one without the label",
        &["create", "namespace", "gl-rd-ns-evil"],
        "label agent.gitlab.com/id",
    )?;
    let unheld = world.manifest(
        "unheld",
        &[json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "gl-rd-ns-evil", "labels": {"agent.gitlab.com/id": "1"}},
        })],
    )?;
    let unheld = unheld.to_str().context("a path that is not text")?;
    refused(
        "one that lets Pods have anything",
        &["create", "-f", unheld],
        "Pod security standard",
    )?;
    refused(
        "somebody's namespace",
        &["delete", "namespace", PLAYGROUND],
        "gl-rd-ns-",
    )?;

    let roles = world.admin(&[
        "get",
        "clusterroles",
        "-l",
        &format!("app.kubernetes.io/instance={MAIN}"),
        "-o",
        "name",
    ])?;
    let role = roles
        .lines()
        .find(|it| it.ends_with("-workspace"))
        .context("no role for workspaces")?;
    let role = role.rsplit('/').next().unwrap_or_default();
    let bind = |namespace: &str, role: &str, subject: &str| -> Vec<String> {
        [
            "create",
            "rolebinding",
            "evil",
            "-n",
            namespace,
            "--clusterrole",
            role,
            "--serviceaccount",
            subject,
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let own = account
        .trim_start_matches("system:serviceaccount:")
        .to_owned();
    world.admin(&["create", "namespace", "gl-rd-ns-held"])?;
    let held = [
        "label",
        "namespace",
        "gl-rd-ns-held",
        "agent.gitlab.com/id=0",
    ];
    let result = world.admin(&held).and_then(|_| {
        for (what, arguments, word) in [
            (
                "its role elsewhere",
                bind("kube-system", role, &own),
                "begin with gl-rd-ns-",
            ),
            (
                "another role",
                bind("gl-rd-ns-held", "cluster-admin", &own),
                "forbidden",
            ),
            (
                "its role to another",
                bind("gl-rd-ns-held", role, "playground:default"),
                "to itself",
            ),
        ] {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            refused(what, &arguments, word)?;
        }
        // Where it may, it may.
        let arguments = bind("gl-rd-ns-held", role, &own);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let bound = as_agent(world, &account, &arguments)?;
        ensure!(bound.code == Some(0), "{bound:?}");
        Ok(())
    });
    world.admin(&["delete", "namespace", "gl-rd-ns-held", "--wait=false"])?;
    result
}

fn as_agent(world: &World, account: &str, arguments: &[&str]) -> Result<Outcome> {
    let who = format!("--as={account}");
    outcome(
        &mut world.cluster.kubectl(&[arguments, &[&who]].concat()),
        CALL,
    )
}

/// The link-local address of clouds' metadata services. Here the node itself answers there.
const METADATA: &str = "169.254.169.254";
const KUBELET_PORT: u16 = 10250;
/// Where editors listen, without a password.
const EDITOR_PORT: u16 = 60001;

fn looks_around(world: &mut World) -> Result<()> {
    // As GitLab's default has it: no private address, but the one of this cluster's Git server.
    let file = format!(
        "observability:\n  logging:\n    level: info\nremote_development:\n  enabled: true\n  network_policy:\n    egress:\n    \
         - allow: 0.0.0.0/0\n      except: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]\n    - allow: {HOST_ADDRESS}/32\n"
    );
    configure(world, &file)?;
    let address = [
        "ip",
        "address",
        "add",
        &format!("{METADATA}/32"),
        "dev",
        "node0",
    ];
    run(&mut world.cluster.run(&address))?;
    let result = holds(world);
    let address = [
        "ip",
        "address",
        "delete",
        &format!("{METADATA}/32"),
        "dev",
        "node0",
    ];
    run(&mut world.cluster.run(&address))?;
    configure(world, USUAL_CONFIGURATION)?;
    result?;
    for name in ["victim", "looker"] {
        delete(world, name, &format!("gl-rd-ns-{name}"))?;
    }
    Ok(())
}

fn holds(world: &World) -> Result<()> {
    for name in ["victim", "looker"] {
        let url = repository(world, name, DEVFILE)?;
        let made = workspace(world, &["create", &url, "--name", name])?;
        ensure!(made["actual_state"] == "Running", "{made:#}");
    }
    // The agent gets in, for the owner.
    open_program(world, "victim", "gl-rd-ns-victim", "deployment/victim")?;

    // What listens as an editor does: for whoever comes.
    let editor = format!("nohup python3 -m http.server {EDITOR_PORT} >/dev/null 2>&1 </dev/null &");
    let in_victim = [
        "exec",
        "-n",
        "gl-rd-ns-victim",
        "deployment/victim",
        "-c",
        "tools",
    ];
    world.admin(&[&in_victim[..], &["--", "sh", "-c", &editor]].concat())?;

    let get =
        |arguments: &[&str]| -> Result<String> { Ok(world.admin(arguments)?.trim().to_owned()) };
    let of_victim = [
        "-n",
        "gl-rd-ns-victim",
        "-l",
        "workspaces.gitlab.com/name=victim",
    ];
    let victim = get(&[
        &["get", "pod"],
        &of_victim[..],
        &["-ojsonpath={.items[0].status.podIP}"],
    ]
    .concat())?;
    let service = get(&[
        &["get", "service"],
        &of_victim[..],
        &["-ojsonpath={.items[0].spec.clusterIP}"],
    ]
    .concat())?;
    let selector = format!("app.kubernetes.io/instance={MAIN}");
    let agent = get(&[
        "get",
        "pod",
        "-n",
        MAIN,
        "-l",
        &selector,
        "-ojsonpath={.items[0].status.podIP}",
    ])?;
    let targets = [
        ("another workspace's Pod", victim.as_str(), 8080),
        ("another workspace's editor", &victim, EDITOR_PORT),
        ("another workspace's Service", &service, 8080),
        ("the agent's own port", &agent, 8080),
        ("the API server's Service", "10.96.0.1", 443),
        ("the API server", "10.88.0.1", 6443),
        ("the node's kubelet", "10.88.0.1", KUBELET_PORT),
        ("a cloud's metadata", METADATA, KUBELET_PORT),
    ];
    let talker = From::Pod(PLAYGROUND, TALKER);
    for (what, address, port) in targets {
        // All of them are there; and what guards itself is closed to everybody.
        wait_until(&format!("{what} answers the node"), CONNECT, || {
            opens(&world.cluster, From::Node, address, port)
        })?;
        let guards_itself = address == victim || address == service || address == agent;
        let open = opens(&world.cluster, talker, address, port)?;
        ensure!(
            open != guards_itself,
            "{what} from a Pod without a policy: {open}"
        );
        let open = connects(world, address, port)?;
        ensure!(!open, "the workspace reaches {what} ({address}:{port})");
    }
    // What is allowed passes: names, and the Git server.
    let name = "getent hosts victim.gl-rd-ns-victim.svc.cluster.local";
    ensure!(inside(world, name)?.code == Some(0), "names do not resolve");
    ensure!(
        connects(world, HOST_ADDRESS, GIT_PORT)?,
        "the Git server is not reached"
    );
    // And nothing in it opens the cluster.
    let secrets = inside(
        world,
        "ls /var/run/secrets /run/secrets; env | grep -i token; id -u",
    )?;
    let is_root = secrets.stdout.lines().any(|line| line == "0");
    ensure!(
        !secrets.stdout.contains("kubernetes") && !is_root,
        "{secrets:?}"
    );
    Ok(())
}

/// Whether the workspace that looks around opens a connection.
fn connects(world: &World, address: &str, port: u16) -> Result<bool> {
    let script = format!("timeout 2 bash -c 'exec 3<>/dev/tcp/{address}/{port}'");
    Ok(inside(world, &script)?.code == Some(0))
}

fn inside(world: &World, script: &str) -> Result<Outcome> {
    let exec = [
        "exec",
        "-n",
        "gl-rd-ns-looker",
        "deployment/looker",
        "-c",
        "tools",
        "--",
        "sh",
        "-c",
        script,
    ];
    outcome(&mut world.cluster.kubectl(&exec), LIFE)
}

fn run(command: &mut Command) -> Result<()> {
    let ended = outcome(command, Duration::from_secs(10))?;
    ensure!(ended.code == Some(0), "{ended:?}");
    Ok(())
}
