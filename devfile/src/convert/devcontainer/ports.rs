//! Forwarded ports to endpoints.

use serde_json::{Value, json};

use super::{Parts, no_form};
use crate::render::{Notes, attribute_path};

/// Forwarded ports are for the person at the workspace, which an internal endpoint is nearest to.
pub(super) fn endpoints(value: &Value, parts: &mut Parts, notes: &mut Notes) {
    let Some(ports) = value.as_array() else {
        return no_form("forwardPorts", "a list", notes);
    };
    for (index, port) in ports.iter().enumerate() {
        let path = format!("forwardPorts[{index}]");
        let number = match port {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim_start_matches("localhost:").parse().ok(),
            _ => None,
        };
        match number {
            Some(number) => {
                let endpoint = json!({
                    "name": format!("port-{number}"),
                    "targetPort": number,
                    "exposure": "internal",
                });
                // Attributes are read later, and one port may be named twice.
                if !parts.endpoints.contains(&endpoint) {
                    parts.endpoints.push(endpoint);
                }
            }
            None => notes.add(
                path,
                "it is not opened",
                "it is no port of the container itself",
            ),
        }
    }
}

/// Attributes of single ports; of them a devfile has the protocol alone.
pub(super) fn attributes(value: &Value, parts: &mut Parts, notes: &mut Notes) {
    let Some(ports) = value.as_object() else {
        return no_form("portsAttributes", "an object", notes);
    };
    for (port, attributes) in ports {
        let path = attribute_path("portsAttributes.", port);
        let number = port.parse::<u64>().ok();
        let endpoint = parts
            .endpoints
            .iter_mut()
            .find(|it| number.is_some() && it["targetPort"].as_u64() == number);
        let Some(endpoint) = endpoint else {
            notes.add(
                path,
                "it has no effect",
                "forwardPorts does not name this port",
            );
            continue;
        };
        for (key, value) in attributes.as_object().into_iter().flatten() {
            if key == "protocol" && matches!(value.as_str(), Some("http" | "https")) {
                endpoint["protocol"] = value.clone();
            } else {
                notes.add(
                    attribute_path(&format!("{path}."), key),
                    "it has no effect",
                    "an endpoint has no place for it",
                );
            }
        }
    }
}
