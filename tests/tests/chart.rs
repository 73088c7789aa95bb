//! The agent's chart, rendered by the real Helm: its roles are the agent's own table of rights, no more and no less.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::process::{Command, Output};

use agent::rights::{Place, needed};
use serde_json::Value;

/// Group, resource, verb, and the one name that it is for.
type Granted = (String, String, String, Option<String>);

const NAMESPACE: &str = "agents";
const SHARED: &str = "team";
const WORKSPACE_ROLE: &str = "agents-main-workspace";

/// The chart with these settings, without what people may do.
fn rendered(settings: &[&str]) -> Vec<Value> {
    let output = template(settings);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_saphyr::from_multiple(&text).unwrap()
}

fn template(settings: &[&str]) -> Output {
    let mut helm = Command::new(harness::tools::helm().unwrap());
    helm.args(["template", "main"]).arg(tests::release::chart());
    helm.args(["--kube-version", "1.33.0"]);
    helm.args(["--namespace", NAMESPACE, "--set", "fullnameOverride=main"]);
    helm.args([
        "--set",
        "config.kasAddress=grpcs://kas.example.com,config.token=t",
    ]);
    helm.args(["--set", "userAccess.enabled=false"]);
    for setting in settings {
        helm.args(["--set", setting]);
    }
    helm.output().unwrap()
}

/// What the roles of one place give.
fn granted(objects: &[Value], place: Place) -> BTreeSet<Granted> {
    let (kind, namespace, name) = match place {
        Place::Cluster => ("ClusterRole", None, "agents-main-workspaces"),
        Place::WorkspaceNamespaces => ("ClusterRole", None, WORKSPACE_ROLE),
        Place::SharedNamespace => ("Role", Some(SHARED), "agents-main-workspaces"),
        Place::OwnNamespace => ("Role", Some(NAMESPACE), "main-lease"),
    };
    let is_it = |object: &&Value| {
        object["kind"] == kind
            && object["metadata"]["namespace"].as_str() == namespace
            && object["metadata"]["name"] == name
    };
    let texts = |value: &Value| -> Vec<String> {
        let texts = value.as_array().into_iter().flatten();
        texts.map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let mut granted = BTreeSet::new();
    for role in objects.iter().filter(is_it) {
        for rule in role["rules"].as_array().unwrap() {
            let names = match &rule["resourceNames"] {
                Value::Null => vec![None],
                names => texts(names).into_iter().map(Some).collect(),
            };
            for (group, resource, verb, name) in texts(&rule["apiGroups"])
                .iter()
                .flat_map(|group| {
                    texts(&rule["resources"])
                        .into_iter()
                        .map(move |it| (group, it))
                })
                .flat_map(|(group, resource)| {
                    texts(&rule["verbs"])
                        .into_iter()
                        .map(move |verb| (group, resource.clone(), verb))
                })
                .flat_map(|(group, resource, verb)| {
                    names
                        .iter()
                        .map(move |name| (group, resource.clone(), verb.clone(), name))
                })
            {
                let right = (group.clone(), resource, verb, name.clone());
                assert!(granted.insert(right.clone()), "{right:?} is given twice");
            }
        }
    }
    granted
}

fn table(place: Place, shares_namespace: bool, operator: bool) -> BTreeSet<Granted> {
    needed(shares_namespace, operator)
        .filter(|right| right.place == place)
        .flat_map(|right| {
            let name = right.only_workspace_role.then(|| WORKSPACE_ROLE.to_owned());
            right.verbs.iter().map(move |verb| {
                (
                    right.group.into(),
                    right.resource.into(),
                    (*verb).into(),
                    name.clone(),
                )
            })
        })
        .collect()
}

#[test]
fn the_roles_are_the_table_of_rights() {
    for (settings, shares_namespace, operator) in [
        (&[][..], false, true),
        (&["workspaces.devWorkspaceOperator=false"], false, false),
        (&["workspaces.sharedNamespace=team"], true, true),
        (
            &[
                "workspaces.sharedNamespace=team",
                "workspaces.devWorkspaceOperator=false",
            ],
            true,
            false,
        ),
    ] {
        let objects = rendered(settings);
        for place in [
            Place::Cluster,
            Place::WorkspaceNamespaces,
            Place::SharedNamespace,
            Place::OwnNamespace,
        ] {
            assert_eq!(
                granted(&objects, place),
                table(place, shares_namespace, operator),
                "{place:?} with {settings:?}"
            );
        }
        let roles = |kind: &str| objects.iter().filter(|it| it["kind"] == kind).count();
        let expected = match shares_namespace {
            true => (0, 0, 2),
            false => (2, 1, 1),
        };
        let (cluster_roles, bound, own) = expected;
        assert_eq!(roles("ClusterRole"), cluster_roles);
        assert_eq!(
            roles("ClusterRoleBinding"),
            bound,
            "the workspaces' role is bound nowhere"
        );
        assert_eq!(roles("Role"), own);
    }
}

#[test]
fn pull_secrets_are_read_where_the_installation_says() {
    let objects = rendered(&["workspaces.pullSecretNamespaces={registry}"]);
    let role = objects
        .iter()
        .find(|it| it["kind"] == "Role" && it["metadata"]["namespace"] == "registry")
        .unwrap();
    assert_eq!(role["rules"].as_array().unwrap().len(), 1);
    assert_eq!(
        role["rules"][0]["resources"],
        serde_json::json!(["secrets"])
    );
    assert_eq!(role["rules"][0]["verbs"], serde_json::json!(["get"]));
}

#[test]
fn what_workspaces_may_have_reaches_the_agent() {
    let arguments = |settings: &[&str]| -> Vec<String> {
        let objects = rendered(settings);
        let deployment = objects
            .iter()
            .find(|it| it["kind"] == "Deployment")
            .unwrap();
        let arguments = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        let texts = arguments.as_array().unwrap().iter();
        texts.map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let has = |arguments: &[String], flag: &str| arguments.iter().any(|it| it == flag);
    let usual = arguments(&[]);
    assert!(has(&usual, "--workspaces-policy=restricted"), "{usual:?}");
    assert!(
        has(
            &usual,
            &format!("--workspaces-cluster-role={WORKSPACE_ROLE}")
        ),
        "{usual:?}"
    );
    let other = arguments(&[
        "workspaces.policy.level=baseline",
        "workspaces.policy.isolatingRuntimeClasses={kata}",
        "workspaces.policy.requireNetworkPolicy=true",
        "workspaces.sharedNamespace=team",
        "workspaces.devWorkspaceOperator=false",
    ]);
    for flag in [
        "--workspaces-policy=baseline",
        "--workspaces-isolating-runtime-classes=kata",
        "--workspaces-require-network-policy",
        "--workspaces-shared-namespace=team",
        "--workspaces-kinds=ConfigMap,Deployment,NetworkPolicy,PersistentVolumeClaim,ResourceQuota,Secret,Service,ServiceAccount",
    ] {
        assert!(has(&other, flag), "{flag} is not among {other:?}");
    }
    assert!(
        other
            .iter()
            .all(|it| !it.starts_with("--workspaces-cluster-role"))
    );
}

#[test]
fn workspaces_do_not_share_the_agents_own_namespace() {
    let setting = format!("workspaces.sharedNamespace={NAMESPACE}");
    let output = template(&[&setting]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("own namespace"),
        "{text}"
    );
}
