//! Which address a request may reach, if any. Pure.

use std::net::{IpAddr, SocketAddr};

use agent_core::reconcile::{AGENT_ID_LABEL, WORKSPACE_ID_ANNOTATION};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::convert::access::Target;

/// The workspace's name, on its objects and Pods.
pub(super) const NAME_LABEL: &str = "workspaces.gitlab.com/name";
/// The DevWorkspace Operator's id of a DevWorkspace, on what it makes for it.
const DEVWORKSPACE_ID_LABEL: &str = "controller.devfile.io/devworkspace_id";

/// A Service, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    agent_id: String,
    workspace_id: String,
    name: String,
    address: Result<IpAddr, &'static str>,
    /// TCP.
    ports: Vec<u16>,
}

/// Why an address may not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// No Service of the workspace.
    #[error("no_such_workspace: the agent has no Service of workspace {0}")]
    NoSuchWorkspace(String),
    /// A workspace, and no such port.
    #[error("not_declared: port {0} is no port of the workspace")]
    NotDeclared(u16),
    /// A Service that leads elsewhere.
    #[error("not_declared: the workspace's Service {0}")]
    Elsewhere(&'static str),
}

impl Known {
    /// A Service with a workspace's marks.
    pub(super) fn read(service: &Service) -> Option<Self> {
        let labels = service.metadata.labels.as_ref()?;
        let annotations = service.metadata.annotations.as_ref()?;
        let name = labels.get(NAME_LABEL)?.clone();
        let spec = service.spec.as_ref()?;
        let selector = spec.selector.as_ref();
        // A devfile may bring Services along; in a shared namespace they could select a neighbour's Pods.
        let selects_own = selector.is_some_and(|it| it.get(NAME_LABEL) == Some(&name));
        let address = if selects_own {
            address(service)
        } else {
            Err("does not select the workspace's own Pods")
        };
        Some(Self {
            agent_id: labels.get(AGENT_ID_LABEL)?.clone(),
            workspace_id: annotations.get(WORKSPACE_ID_ANNOTATION)?.clone(),
            name,
            address,
            ports: ports(service),
        })
    }

    /// A Service that the DevWorkspace Operator made for the DevWorkspace with this id.
    pub(super) fn read_of_operator(
        service: &Service,
        devworkspace_id: &str,
        agent_id: i64,
        target: &Target,
    ) -> Option<Self> {
        let is_of = |map: Option<&std::collections::BTreeMap<String, String>>| {
            map.and_then(|it| it.get(DEVWORKSPACE_ID_LABEL))
                .is_some_and(|id| id == devworkspace_id)
        };
        let selector = service.spec.as_ref().and_then(|it| it.selector.as_ref());
        (is_of(service.metadata.labels.as_ref()) && is_of(selector)).then(|| Self {
            agent_id: agent_id.to_string(),
            workspace_id: target.workspace_id.clone(),
            name: target.name.clone(),
            address: address(service),
            ports: ports(service),
        })
    }
}

/// Whether an object carries the marks of the asked workspace.
pub(super) fn is_of_workspace(metadata: &ObjectMeta, agent_id: i64, target: &Target) -> bool {
    let label = metadata
        .labels
        .as_ref()
        .and_then(|it| it.get(AGENT_ID_LABEL));
    let annotation = metadata
        .annotations
        .as_ref()
        .and_then(|it| it.get(WORKSPACE_ID_ANNOTATION));
    label.is_some_and(|it| *it == agent_id.to_string()) && annotation == Some(&target.workspace_id)
}

/// The address of the asked port, among the Services of one namespace.
pub(super) fn choose<'a>(
    services: impl Iterator<Item = &'a Known>,
    agent_id: i64,
    target: &Target,
) -> Result<SocketAddr, Refused> {
    let agent_id = agent_id.to_string();
    let mut refused = Refused::NoSuchWorkspace(target.name.chars().take(63).collect());
    let own = services.filter(|it| {
        it.agent_id == agent_id
            && it.workspace_id == target.workspace_id
            && it.name == target.name
            && !target.workspace_id.is_empty()
    });
    for service in own {
        match service.address {
            Ok(address) if service.ports.contains(&target.port) => {
                return Ok(SocketAddr::new(address, target.port));
            }
            Err(why) if service.ports.contains(&target.port) => {
                refused = Refused::Elsewhere(why);
            }
            Ok(_) | Err(_) if matches!(refused, Refused::NoSuchWorkspace(_)) => {
                refused = Refused::NotDeclared(target.port);
            }
            Ok(_) | Err(_) => {}
        }
    }
    Err(refused)
}

fn address(service: &Service) -> Result<IpAddr, &'static str> {
    let spec = service.spec.as_ref().ok_or("has no spec")?;
    if spec.type_.as_deref() == Some("ExternalName") || spec.external_name.is_some() {
        return Err("names a host outside");
    }
    match spec.cluster_ip.as_deref() {
        None | Some("" | "None") => Err("has no address of its own"),
        Some(ip) => ip.parse().map_err(|_| "has no address of its own"),
    }
}

fn ports(service: &Service) -> Vec<u16> {
    let ports = service.spec.as_ref().and_then(|it| it.ports.as_deref());
    ports
        .unwrap_or_default()
        .iter()
        .filter(|port| port.protocol.as_deref().is_none_or(|it| it == "TCP"))
        .filter_map(|port| u16::try_from(port.port).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "11111111-2222-4333-8444-555555555555";

    fn target(name: &str, port: u16) -> Target {
        Target {
            workspace_id: ID.into(),
            namespace: "ns".into(),
            name: name.into(),
            port,
        }
    }

    fn service(change: impl FnOnce(&mut Value)) -> Service {
        let mut service = json!({
            "metadata": {
                "name": "one", "namespace": "ns",
                "labels": {AGENT_ID_LABEL: "7", NAME_LABEL: "one"},
                "annotations": {WORKSPACE_ID_ANNOTATION: ID},
            },
            "spec": {
                "clusterIP": "10.0.0.5",
                "selector": {NAME_LABEL: "one"},
                "ports": [{"port": 8080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
            },
        });
        change(&mut service);
        serde_json::from_value(service).unwrap()
    }

    fn reach(service: &Service, target: &Target) -> Result<String, String> {
        let known = Known::read(service);
        choose(known.iter(), 7, target)
            .map(|it| it.to_string())
            .map_err(|it| it.to_string())
    }

    #[test]
    fn a_declared_port_of_an_own_workspace_is_reached() {
        let own = service(|_| ());
        assert_eq!(
            reach(&own, &target("one", 8080)).as_deref(),
            Ok("10.0.0.5:8080")
        );
        let v6 = service(|it| it["spec"]["clusterIP"] = json!("fd00::5"));
        assert_eq!(
            reach(&v6, &target("one", 8080)).as_deref(),
            Ok("[fd00::5]:8080")
        );
    }

    #[test]
    fn nothing_else_is() {
        let refused = |change: fn(&mut Value), target: &Target| {
            let refused = reach(&service(change), target).unwrap_err();
            refused.split(':').next().unwrap().to_owned()
        };
        let one = target("one", 8080);
        let none: fn(&mut Value) = |_| ();
        for port in [8081, 53] {
            assert_eq!(refused(none, &target("one", port)), "not_declared");
        }
        assert_eq!(refused(none, &target("two", 8080)), "no_such_workspace");
        let other_id = Target {
            workspace_id: "another".into(),
            ..one.clone()
        };
        assert_eq!(refused(none, &other_id), "no_such_workspace");
        type Change = fn(&mut Value);
        let strange: [(Change, &str); 9] = [
            (
                |it| it["metadata"]["labels"][AGENT_ID_LABEL] = json!("8"),
                "no_such_workspace",
            ),
            (
                |it| it["metadata"]["labels"] = json!({}),
                "no_such_workspace",
            ),
            (
                |it| it["metadata"]["annotations"] = json!(null),
                "no_such_workspace",
            ),
            (
                |it| it["spec"]["selector"] = json!({NAME_LABEL: "two"}),
                "not_declared",
            ),
            (|it| it["spec"]["selector"] = json!(null), "not_declared"),
            (|it| it["spec"]["clusterIP"] = json!("None"), "not_declared"),
            (
                |it| it["spec"]["clusterIP"] = json!("elsewhere.example.com"),
                "not_declared",
            ),
            (
                |it| it["spec"]["type"] = json!("ExternalName"),
                "not_declared",
            ),
            (
                |it| it["spec"]["externalName"] = json!("10.0.0.9"),
                "not_declared",
            ),
        ];
        for (number, (change, expected)) in strange.into_iter().enumerate() {
            assert_eq!(refused(change, &one), expected, "{number}");
        }
    }

    #[test]
    fn an_empty_id_matches_nothing() {
        let unmarked =
            service(|it| it["metadata"]["annotations"][WORKSPACE_ID_ANNOTATION] = json!(""));
        let asked = Target {
            workspace_id: String::new(),
            ..target("one", 8080)
        };
        assert!(reach(&unmarked, &asked).is_err());
    }

    #[test]
    fn the_operators_service_is_known_by_its_devworkspace() {
        let made = |label: &str| {
            service(|it| {
                it["metadata"]["labels"] = json!({DEVWORKSPACE_ID_LABEL: label});
                it["spec"]["selector"] = json!({DEVWORKSPACE_ID_LABEL: "workspace1"});
            })
        };
        let target = target("one", 8080);
        let known = Known::read_of_operator(&made("workspace1"), "workspace1", 7, &target);
        assert!(choose(known.iter(), 7, &target).is_ok());
        let other = Known::read_of_operator(&made("workspace2"), "workspace1", 7, &target);
        assert_eq!(other, None);
    }
}
