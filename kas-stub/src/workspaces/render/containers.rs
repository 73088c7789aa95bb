//! Containers, from container components.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    Flattened, Frame, clone::Project, events, object, pod,
    volumes::{self, HOME, PROJECTS_ROOT},
};

/// Longest name of a port.
const MAX_PORT_NAME: usize = 15;
/// Keeps a container up whose component names no program, and ends at once when it is told to.
pub(super) const IDLE: &str = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";

/// One container.
pub(super) fn container(
    frame: &Frame<'_>,
    devfile: &Flattened,
    projects: &[Project],
    name: &str,
    component: &Value,
) -> Value {
    let root = projects_root(component);
    let mut container = json!({
        "name": name,
        "image": component["image"],
        "env": environment(component, root, projects),
        "resources": resources(frame, component),
        "volumeMounts": mounts(component, root),
        "securityContext": pod::security_context(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    let list = |key: &str| component[key].as_array().filter(|list| !list.is_empty());
    match (list("command"), list("args")) {
        (None, None) => container["command"] = json!(["/bin/sh", "-c", IDLE]),
        (command, args) => {
            for (key, list) in [("command", command), ("args", args)] {
                if let Some(list) = list {
                    container[key] = list.clone().into();
                }
            }
        }
    }
    let ports = ports(component);
    if !ports.is_empty() {
        container["ports"] = ports.into();
    }
    if let Some(script) = events::after_start(devfile, name) {
        container["lifecycle"] = json!({
            "postStart": { "exec": { "command": ["/bin/sh", "-c", script] } },
        });
    }
    container
}

/// Where a container has the projects; none when it does not want them.
fn projects_root(component: &Value) -> Option<&str> {
    let is_dedicated = component["dedicatedPod"].as_bool() == Some(true);
    let wants = component["mountSources"].as_bool().unwrap_or(!is_dedicated);
    wants.then(|| component["sourceMapping"].as_str().unwrap_or(PROJECTS_ROOT))
}

fn environment(component: &Value, root: Option<&str>, projects: &[Project]) -> Vec<Value> {
    let given: Vec<&Value> = component["env"].as_array().into_iter().flatten().collect();
    let is_given = |name: &str| given.iter().any(|it| it["name"] == name);
    let mut own = vec![("HOME".to_owned(), HOME.to_owned())];
    if let Some(root) = root {
        let main = projects.iter().find(|it| it.is_main);
        let source = main.map_or_else(|| root.to_owned(), |it| format!("{root}/{}", it.path));
        own.push(("PROJECTS_ROOT".into(), root.to_owned()));
        own.push(("PROJECT_SOURCE".into(), source));
        // On a volume that shows another owner than us, git would refuse to work in the projects.
        if !is_given("GIT_CONFIG_COUNT") {
            own.extend(safe_directories(root, projects));
        }
    }
    let own = own.into_iter().filter(|(name, _)| !is_given(name));
    own.map(|(name, value)| json!({ "name": name, "value": value }))
        .chain(given.iter().map(|it| json!({ "name": it["name"], "value": it["value"] })))
        .collect()
}

/// Git's settings, by environment: they hold in every program, and nothing is written into the home.
pub(super) fn safe_directories(root: &str, projects: &[Project]) -> Vec<(String, String)> {
    let mut variables = vec![("GIT_CONFIG_COUNT".to_owned(), projects.len().to_string())];
    for (number, project) in projects.iter().enumerate() {
        variables.push((format!("GIT_CONFIG_KEY_{number}"), "safe.directory".into()));
        let path = format!("{root}/{}", project.path);
        variables.push((format!("GIT_CONFIG_VALUE_{number}"), path));
    }
    variables
}

fn mounts(component: &Value, root: Option<&str>) -> Vec<Value> {
    let own = component["volumeMounts"].as_array().into_iter().flatten();
    let own = own.filter_map(|mount| {
        let name = mount["name"].as_str()?;
        let path = mount["path"].as_str().map_or_else(|| format!("/{name}"), str::to_owned);
        Some(json!({ "name": name, "mountPath": path }))
    });
    let mut mounts: Vec<Value> = own.collect();
    // A volume of the devfile's own at our place takes it: two mounts of one path would be refused.
    let taken: Vec<_> = mounts.iter().map(|it| it["mountPath"].clone()).collect();
    let data = volumes::data_mounts(root);
    mounts.extend(data.into_iter().filter(|it| !taken.contains(&it["mountPath"])));
    mounts
}

/// The devfile's own values; what it does not say by default. A request never exceeds its limit.
fn resources(frame: &Frame<'_>, component: &Value) -> Value {
    let defaults = frame.defaults;
    let given = |key: &str| component[key].as_str().filter(|it| !it.is_empty());
    let mut requests = Map::new();
    let mut limits = Map::new();
    let rows = [
        ("memory", "memoryRequest", "memoryLimit", &defaults.memory_request, &defaults.memory_limit),
        ("cpu", "cpuRequest", "cpuLimit", &defaults.cpu_request, &defaults.cpu_limit),
    ];
    for (resource, request_key, limit_key, default_request, default_limit) in rows {
        let default_limit = default_limit.as_deref().filter(|limit| {
            given(request_key).is_none_or(|request| is_at_most(request, limit))
        });
        let limit = given(limit_key).or(default_limit);
        let default_request = limit
            .filter(|limit| !is_at_most(default_request, limit))
            .unwrap_or(default_request);
        let request = given(request_key).unwrap_or(default_request);
        requests.insert(resource.into(), request.into());
        if let Some(limit) = limit {
            limits.insert(resource.into(), limit.into());
        }
    }
    json!({ "requests": requests, "limits": limits })
}

/// Whether one quantity is at most another; false where one is none, which the API server then tells.
fn is_at_most(one: &str, other: &str) -> bool {
    match (quantity(one), quantity(other)) {
        (Some(one), Some(other)) => one <= other,
        (None, _) | (_, None) => false,
    }
}

/// A Kubernetes quantity, near enough to compare two.
fn quantity(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: f64 = match unit {
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

fn protocol(endpoint: &Value) -> &'static str {
    if endpoint["protocol"] == "udp" { "UDP" } else { "TCP" }
}

/// Endpoints with their port; numbers that are none are left to the check before.
fn endpoints(component: &Value) -> impl Iterator<Item = (u64, &Value)> {
    let endpoints = component["endpoints"].as_array().into_iter().flatten();
    endpoints.filter_map(|endpoint| Some((endpoint["targetPort"].as_u64()?, endpoint)))
}

fn port_name(number: u64, endpoint: &Value) -> String {
    match endpoint["name"].as_str() {
        Some(name) if name.len() <= MAX_PORT_NAME && name.contains(|c: char| c.is_ascii_lowercase()) => {
            name.to_owned()
        }
        Some(_) | None => format!("port-{number}"),
    }
}

fn ports(component: &Value) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    endpoints(component)
        .filter(|(number, endpoint)| seen.insert((*number, protocol(endpoint))))
        .map(|(number, endpoint)| {
            json!({
                "name": port_name(number, endpoint),
                "containerPort": number,
                "protocol": protocol(endpoint),
            })
        })
        .collect()
}

/// The Service's ports: every endpoint that is for others than the Pod itself.
pub(crate) fn service_ports(devfile: &Flattened) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mut names = BTreeSet::new();
    devfile
        .containers()
        .flat_map(|(_, component)| endpoints(component))
        .filter(|(_, endpoint)| endpoint["exposure"] != "none")
        .filter(|(number, endpoint)| seen.insert((*number, protocol(endpoint))))
        .map(|(number, endpoint)| {
            let mut name = port_name(number, endpoint);
            if !names.insert(name.clone()) {
                name = format!("port-{number}");
            }
            json!({
                "name": name,
                "port": number,
                "targetPort": number,
                "protocol": protocol(endpoint),
            })
        })
        .map(|port| Value::Object(object(&port)))
        .collect()
}
