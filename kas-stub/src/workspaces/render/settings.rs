//! What the agent's configuration file makes of a workspace: marks, limits, who reaches it and what it reaches. Pure.

use std::collections::BTreeMap;

use ::devfile::model::{ComponentKind, Devfile};
use ipnet::IpNet;
use model::configuration::{Class, EgressRule, NetworkPolicy, ResourceAmounts, Resources};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::{AGENT_ID_LABEL, Frame, ID_ANNOTATION, INVENTORY_ANNOTATION, NAME_LABEL};

/// GitLab's label with the id of the workspace; only where several share a namespace.
pub(in crate::workspaces) const ID_LABEL: &str = "workspaces.gitlab.com/id";
/// GitLab's annotation for its classic proxy in the cluster: the hosts of a workspace's ports.
const HOST_TEMPLATE_ANNOTATION: &str = "workspaces.gitlab.com/host-template";
/// GitLab's annotation that differs where `max_resources_per_workspace` does.
const MAX_RESOURCES_ANNOTATION: &str = "workspaces.gitlab.com/max-resources-per-workspace-sha256";
/// On the Pods of the agent's chart, and on nothing else; beside their namespace what a workspace lets in.
const AGENT_POD_LABEL: (&str, &str) = ("agent.gitlab.com/reaches-workspaces", "true");
/// What Kubernetes itself writes on each namespace.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";
const DNS_NAMESPACE: &str = "kube-system";
const DNS_PORT: u16 = 53;
/// The Pods of GitLab's classic proxy.
const PROXY_LABEL: (&str, &str) = ("app.kubernetes.io/name", "gitlab-workspaces-proxy");
/// Where clouds tell a machine its credentials. A rule that is wider does not open them; one within them does.
const METADATA_RANGES: [&str; 2] = ["169.254.0.0/16", "fd00:ec2::/32"];

impl Frame<'_> {
    /// Other workspaces are in the namespace too.
    pub(in crate::workspaces) fn shares_namespace(&self) -> bool {
        !self.own_namespace
    }

    /// On everything, and what selects the workspace's Pods: never more than this, since a selector cannot change.
    pub(in crate::workspaces) fn marks(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (AGENT_ID_LABEL.into(), self.agent_id.to_string()),
            (NAME_LABEL.into(), self.name.to_string()),
        ])
    }

    /// On every object and Pod.
    pub(in crate::workspaces) fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.settings.labels.clone();
        labels.extend(self.marks());
        if self.shares_namespace() {
            labels.insert(ID_LABEL.into(), self.id.to_owned());
        }
        labels
    }

    /// On every object: the marks by which the agent knows it as its own, and the file's.
    pub(in crate::workspaces) fn annotations(&self) -> BTreeMap<String, String> {
        let mut annotations = self.pod_annotations();
        annotations.insert(INVENTORY_ANNOTATION.into(), self.inventory());
        let zone = &self.settings.dns_zone;
        if !zone.is_empty() {
            let template = format!("{{{{.port}}}}-{}.{zone}", self.name);
            annotations.insert(HOST_TEMPLATE_ANNOTATION.into(), template);
        }
        annotations
    }

    /// On every Pod.
    pub(in crate::workspaces) fn pod_annotations(&self) -> BTreeMap<String, String> {
        let mut annotations = self.settings.annotations.clone();
        annotations.insert(ID_ANNOTATION.into(), self.id.to_owned());
        let most = &self.settings.max_resources_per_workspace;
        if *most != Resources::default() {
            let text = json!(most).to_string();
            let hash = digest(&SHA256, text.as_bytes());
            let hash: String = hash
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            annotations.insert(MAX_RESOURCES_ANNOTATION.into(), hash);
        }
        annotations
    }

    /// Names of the Secrets with which images are pulled.
    pub(in crate::workspaces) fn pull_secrets(&self) -> Vec<String> {
        let secrets = self.settings.image_pull_secrets.iter();
        secrets.map(|secret| secret.name.clone()).collect()
    }

    /// What is made for the file's sake, beside what the devfile asks for.
    pub(in crate::workspaces) fn own_objects(&self) -> Vec<Value> {
        let objects = [self.network_policy(), self.resource_quota()];
        objects.into_iter().flatten().collect()
    }

    fn object(&self, api_version: &str, kind: &str, spec: Value) -> Value {
        json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "name": self.name.as_str(),
                "namespace": self.namespace,
                "labels": self.labels(),
                "annotations": self.annotations(),
            },
            "spec": spec,
        })
    }

    /// Nothing comes in but from the workspace itself and the proxy; nothing goes out but to itself, name servers, and the
    /// ranges of the file. What the agent needs is added where it is known: [`admit_agent`].
    fn network_policy(&self) -> Option<Value> {
        let NetworkPolicy { enabled, egress } = &self.settings.network_policy;
        if !enabled {
            return None;
        }
        let own_pods = match self.shares_namespace() {
            true => json!({ "matchLabels": { ID_LABEL: self.id } }),
            false => json!({}),
        };
        let own = json!([{ "podSelector": own_pods }]);
        let mut ingress = vec![json!({ "from": own })];
        let proxy = &self.settings.gitlab_workspaces_proxy;
        if proxy.http_enabled || proxy.ssh_enabled {
            ingress.push(json!({ "from": [{
                "namespaceSelector": { "matchLabels": { NAMESPACE_LABEL: proxy.namespace } },
                "podSelector": { "matchLabels": { PROXY_LABEL.0: PROXY_LABEL.1 } },
            }] }));
        }
        let port = |protocol: &str| json!({ "port": DNS_PORT, "protocol": protocol });
        let mut outward = vec![
            json!({ "to": own }),
            json!({
                "ports": [port("TCP"), port("UDP")],
                "to": [{
                    "namespaceSelector": { "matchLabels": { NAMESPACE_LABEL: DNS_NAMESPACE } },
                }],
            }),
        ];
        outward.extend(egress.iter().map(egress_rule));
        let spec = json!({
            "podSelector": own_pods,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": outward,
        });
        Some(self.object("networking.k8s.io/v1", "NetworkPolicy", spec))
    }

    /// A quota is of a namespace: there is none where others are in it.
    fn resource_quota(&self) -> Option<Value> {
        let Resources { limits, requests } = &self.settings.max_resources_per_workspace;
        let mut hard = serde_json::Map::new();
        for (prefix, ResourceAmounts { cpu, memory }) in
            [("limits", limits), ("requests", requests)]
        {
            for (name, amount) in [("cpu", cpu), ("memory", memory)] {
                if let Some(amount) = amount {
                    hard.insert(format!("{prefix}.{name}"), amount.as_str().into());
                }
            }
        }
        let is_wanted = !hard.is_empty() && !self.shares_namespace();
        is_wanted.then(|| self.object("v1", "ResourceQuota", json!({ "hard": hard })))
    }
}

fn egress_rule(rule: &EgressRule) -> Value {
    let EgressRule { allow, except } = rule;
    let mut except = except.clone();
    if let Ok(allow) = allow.parse::<IpNet>() {
        let ranges = METADATA_RANGES.iter().filter_map(|it| it.parse().ok());
        let wanted = ranges.filter(|range: &IpNet| {
            let is_within = |outer: &IpNet| outer != range && outer.contains(range);
            let is_excepted = except.iter().filter_map(|it| it.parse::<IpNet>().ok());
            is_within(&allow) && !is_excepted.into_iter().any(|it| it.contains(range))
        });
        let wanted: Vec<_> = wanted.map(|range| range.to_string()).collect();
        except.extend(wanted);
    }
    let mut block = json!({ "cidr": allow });
    if !except.is_empty() {
        block["except"] = json!(except);
    }
    json!({ "to": [{ "ipBlock": block }] })
}

/// Lets the agent's Pods into a workspace: its tunnel comes from there. Which namespace they are in is known only when
/// they ask, so this is done to what is told to them, not to what is kept.
pub(in crate::workspaces) fn admit_agent(
    mut objects: Vec<Value>,
    workspace: &str,
    agent_namespace: &str,
) -> Vec<Value> {
    if agent_namespace.is_empty() {
        return objects;
    }
    let peer = json!({ "from": [{
        "namespaceSelector": { "matchLabels": { NAMESPACE_LABEL: agent_namespace } },
        "podSelector": { "matchLabels": { AGENT_POD_LABEL.0: AGENT_POD_LABEL.1 } },
    }] });
    let is_ours = |it: &&mut Value| {
        it["kind"] == "NetworkPolicy" && it["metadata"]["name"].as_str() == Some(workspace)
    };
    for policy in objects.iter_mut().filter(is_ours) {
        if let Some(ingress) = policy["spec"]["ingress"].as_array_mut() {
            ingress.push(peer.clone());
        }
    }
    objects
}

/// Gives the container that people work in the size of a class, instead of what the devfile says of it.
pub(in crate::workspaces) fn with_class(mut devfile: Devfile, class: &Class) -> Devfile {
    let Some(main) = ::devfile::render::main_container(&devfile).map(str::to_owned) else {
        return devfile;
    };
    let Resources { limits, requests } = class.resources.clone();
    for component in devfile.components.iter_mut().filter(|it| it.name == main) {
        let ComponentKind::Container(container) = &mut component.kind else {
            continue;
        };
        if limits.cpu.is_some() || requests.cpu.is_some() {
            container.cpu_limit.clone_from(&limits.cpu);
            container.cpu_request.clone_from(&requests.cpu);
        }
        if limits.memory.is_some() || requests.memory.is_some() {
            container.memory_limit.clone_from(&limits.memory);
            container.memory_request.clone_from(&requests.memory);
        }
    }
    devfile
}

/// Containers without a limit or request that the quota counts: the API server refuses a Pod with one of them. As
/// container and resource.
pub(in crate::workspaces) fn uncounted(
    most: &Resources,
    pod_spec: &Value,
) -> Vec<(String, String)> {
    let Resources { limits, requests } = most;
    let counted = [
        ("limits", "cpu", &limits.cpu),
        ("limits", "memory", &limits.memory),
        ("requests", "cpu", &requests.cpu),
        ("requests", "memory", &requests.memory),
    ];
    let lists = [&pod_spec["initContainers"], &pod_spec["containers"]];
    let containers = lists.into_iter().filter_map(Value::as_array).flatten();
    let missing = containers.flat_map(|container| {
        let name = container["name"].as_str().unwrap_or_default();
        counted
            .iter()
            .filter(|(kind, resource, most)| {
                let resources = &container["resources"];
                // A limit without a request is the request too.
                most.is_some()
                    && resources[kind][resource].is_null()
                    && resources["limits"][resource].is_null()
            })
            .map(move |(kind, resource, _)| (name.to_owned(), format!("{kind}.{resource}")))
    });
    missing.collect()
}

#[cfg(test)]
mod tests;
