//! Ports and Services.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::pod::Pod;
use super::{RenderOptions, annotate, metadata};
use crate::model::{Endpoint, Exposure, Protocol};

/// The protocol a port has in Kubernetes.
fn transport(endpoint: &Endpoint) -> &'static str {
    match endpoint.protocol() {
        Protocol::Udp => "UDP",
        Protocol::Http | Protocol::Https | Protocol::Ws | Protocol::Wss | Protocol::Tcp => "TCP",
    }
}

/// A port that the devfile does not speak of.
pub(super) fn plain_endpoint(name: &str, port: u16) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        target_port: port.into(),
        exposure: None,
        protocol: None,
        secure: None,
        path: None,
        attributes: Map::new(),
        annotation: Default::default(),
    }
}

fn port_name(endpoint: &Endpoint) -> String {
    if crate::validate::is_port_name(&endpoint.name) {
        endpoint.name.clone()
    } else {
        format!("port-{}", endpoint.target_port)
    }
}

/// A container's ports: each number and protocol once, under the first endpoint's name.
pub(super) fn container_ports<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    endpoints
        .into_iter()
        .filter(|endpoint| seen.insert((endpoint.target_port, transport(endpoint))))
        .map(|endpoint| {
            json!({
                "containerPort": endpoint.target_port,
                "name": port_name(endpoint),
                "protocol": transport(endpoint),
            })
        })
        .collect()
}

/// The Service of a Pod: every port that is not for the Pod alone. None if there is no such port.
pub(super) fn service(pod: &Pod, options: &RenderOptions) -> Option<Value> {
    // A port is as open as its most open endpoint.
    let open: BTreeSet<(i64, &str)> = pod
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.exposure() != Exposure::None)
        .map(|endpoint| (endpoint.target_port, transport(endpoint)))
        .collect();
    let mut seen = BTreeSet::new();
    let ports: Vec<Value> = pod
        .endpoints
        .iter()
        .filter(|endpoint| {
            let port = (endpoint.target_port, transport(endpoint));
            open.contains(&port) && seen.insert(port)
        })
        .map(|endpoint| {
            json!({
                "name": port_name(endpoint),
                "port": endpoint.target_port,
                "protocol": transport(endpoint),
                "targetPort": endpoint.target_port,
            })
        })
        .collect();
    if ports.is_empty() {
        return None;
    }
    let mut metadata: Map<String, Value> = metadata(options, &pod.name);
    annotate(&mut metadata, &pod.service_annotations);
    Some(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": "ClusterIP", "selector": pod.selector(options), "ports": ports},
    }))
}
