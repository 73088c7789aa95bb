//! The ports of a workspace that people can open, and their addresses. Pure.

use std::fmt::Display;

use ::devfile::model::{Devfile, Endpoint, Exposure, Protocol};
use model::WorkspaceName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::render::NAME_LABEL;

/// The name of the port that the editor listens on.
pub(crate) const EDITOR: &str = "editor";
/// Endpoints of one workspace; a devfile of usual size has a few.
const MAX_ENDPOINTS: usize = 200;

/// Longest path that an endpoint is opened with; a longer one is left out.
const MAX_PATH: usize = 2048;

/// A port of a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkspaceEndpoint {
    pub(crate) name: String,
    pub(crate) port: u16,
    /// Whether the editor is there.
    pub(crate) editor: bool,
    /// Path and query to open it with, from the first `/` on; none: `/`.
    #[serde(default)]
    pub(crate) path: Option<String>,
    /// It is the workspace's main one (endpoint attribute `type: main`), of which DevWorkspace Operator makes `mainUrl`.
    #[serde(default)]
    pub(crate) main: bool,
}

/// The TCP ports of the Services that select the workspace's own Pods, each number once. What else a devfile brings
/// along, the agent does not reach either.
pub(super) fn of_services(objects: &[Value], workspace: &WorkspaceName) -> Vec<WorkspaceEndpoint> {
    let selects_own = |service: &&Value| {
        service["kind"] == "Service"
            && service["spec"]["selector"][NAME_LABEL] == workspace.as_str()
    };
    let ports = objects
        .iter()
        .filter(selects_own)
        .filter_map(|service| service["spec"]["ports"].as_array())
        .flatten()
        .filter(|port| port["protocol"].as_str().is_none_or(|it| it == "TCP"))
        .filter_map(|port| endpoint(port["name"].as_str().unwrap_or(""), port["port"].as_i64()?));
    distinct(ports)
}

/// A path as a value in a query: all is written as `%XX` but letters, digits, slashes and `-._~`.
pub(crate) fn in_query(path: &str) -> impl Display + '_ {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'/')
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(path, ESCAPED)
}

/// Lets the editor open a folder.
pub(super) fn open_at(endpoints: &mut [WorkspaceEndpoint], folder: &str) {
    for endpoint in endpoints.iter_mut().filter(|it| it.editor) {
        endpoint.path = Some(format!("/?folder={}", in_query(folder)));
    }
}

/// The TCP endpoints of a devfile's containers that are not for the Pod alone, each number once: what DevWorkspace
/// Operator makes ports of a Service of.
pub(super) fn of_devfile(devfile: &Devfile) -> Vec<WorkspaceEndpoint> {
    let declared = || devfile.containers().flat_map(|(_, it)| &it.endpoints);
    let is_open = |endpoint: &&Endpoint| {
        endpoint.exposure() != Exposure::None && endpoint.protocol() != Protocol::Udp
    };
    distinct(declared().filter(is_open).filter_map(|it| {
        let path = it.path.clone();
        let path = path.filter(|it| (1..=MAX_PATH).contains(&it.len()));
        let endpoint = endpoint(&it.name, it.target_port)?;
        let main = is_main(it);
        Some(WorkspaceEndpoint {
            path,
            main,
            ..endpoint
        })
    }))
}

/// Whether DevWorkspace Operator makes `mainUrl` of it.
pub(super) fn is_main(endpoint: &Endpoint) -> bool {
    endpoint.attributes.get("type").and_then(Value::as_str) == Some("main")
}

/// Ports with what the devfile's endpoints of the same numbers say of how they are opened.
pub(super) fn as_declared(
    mut endpoints: Vec<WorkspaceEndpoint>,
    declared: &[WorkspaceEndpoint],
) -> Vec<WorkspaceEndpoint> {
    for endpoint in &mut endpoints {
        let same = declared.iter().find(|it| it.port == endpoint.port);
        endpoint.path = same.and_then(|it| it.path.clone());
        endpoint.main = same.is_some_and(|it| it.main);
    }
    endpoints
}

fn endpoint(name: &str, port: i64) -> Option<WorkspaceEndpoint> {
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    Some(WorkspaceEndpoint {
        name: name.to_owned(),
        port,
        editor: name == EDITOR,
        path: None,
        main: false,
    })
}

fn distinct(found: impl Iterator<Item = WorkspaceEndpoint>) -> Vec<WorkspaceEndpoint> {
    let mut endpoints: Vec<WorkspaceEndpoint> = Vec::new();
    for endpoint in found {
        if !endpoints.iter().any(|it| it.port == endpoint.port) {
            endpoints.push(endpoint);
        }
        if endpoints.len() == MAX_ENDPOINTS {
            break;
        }
    }
    endpoints
}

/// The address of an endpoint in a browser: scheme and port are those under which people reach the server.
pub(crate) fn url(
    external_url: &str,
    domain: &str,
    workspace: &str,
    endpoint: &WorkspaceEndpoint,
) -> String {
    let (scheme, authority) = external_url.split_once("://").unwrap_or(("https", ""));
    // Behind the last `]`, for an IPv6 address has colons of its own.
    let after_host = authority.rsplit(']').next().unwrap_or_default();
    let port = after_host
        .split_once(':')
        .map_or(String::new(), |(_, port)| {
            format!(":{}", port.trim_end_matches('/'))
        });
    let path = endpoint.path.as_deref().unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!(
        "{scheme}://{}-{workspace}.{domain}{port}{slash}{path}",
        endpoint.port
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(endpoints: &[WorkspaceEndpoint]) -> Vec<String> {
        endpoints
            .iter()
            .map(|it| {
                format!(
                    "{} {}{}",
                    it.name,
                    it.port,
                    if it.editor { " *" } else { "" }
                )
            })
            .collect()
    }

    #[test]
    fn the_editor_opens_the_projects_folder() {
        let mut endpoints: Vec<_> = [("web", 8080), (EDITOR, 60001)]
            .into_iter()
            .filter_map(|(name, port)| endpoint(name, port))
            .collect();
        open_at(&mut endpoints, "/projects/ä b");
        let paths: Vec<_> = endpoints.iter().map(|it| it.path.as_deref()).collect();
        assert_eq!(paths, [None, Some("/?folder=/projects/%C3%A4%20b")]);
    }

    #[test]
    fn ports_open_with_their_endpoints_paths() {
        let declared: Vec<_> = [("api", 8080, Some("docs/?a=b")), ("web", 8081, None)]
            .into_iter()
            .filter_map(|(name, port, path)| {
                let path = path.map(str::to_owned);
                let endpoint = endpoint(name, port)?;
                Some(WorkspaceEndpoint { path, ..endpoint })
            })
            .collect();
        let ports: Vec<_> = [("other-name", 8080), ("web", 8081), ("more", 8082)]
            .into_iter()
            .filter_map(|(name, port)| endpoint(name, port))
            .collect();
        let urls: Vec<_> = as_declared(ports, &declared)
            .iter()
            .map(|it| url("https://kas:8154", "w.example", "one", it))
            .collect();
        assert_eq!(
            urls,
            [
                "https://8080-one.w.example:8154/docs/?a=b",
                "https://8081-one.w.example:8154/",
                "https://8082-one.w.example:8154/",
            ]
        );
    }

    #[test]
    fn ports_come_from_the_services_of_the_workspaces_pods() {
        let service = |name: &str, selector: &str, ports: Value| {
            json!({
                "kind": "Service", "metadata": {"name": name},
                "spec": {"selector": {NAME_LABEL: selector}, "ports": ports},
            })
        };
        let objects = [
            json!({"kind": "Deployment", "spec": {"selector": {NAME_LABEL: "one"}, "ports": [{"port": 1}]}}),
            service(
                "one",
                "one",
                json!([
                    {"name": "web", "port": 8080, "protocol": "TCP"},
                    {"name": "editor", "port": 60001},
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "none", "port": 0},
                    {"name": "huge", "port": 70_000},
                ]),
            ),
            service(
                "one-db",
                "one",
                json!([{"name": "again", "port": 8080}, {"name": "db", "port": 5432}]),
            ),
            service("spy", "two", json!([{"name": "foreign", "port": 9}])),
        ];
        let found = of_services(&objects, &"one".parse().unwrap());
        assert_eq!(shown(&found), ["web 8080", "editor 60001 *", "db 5432"]);
    }

    #[test]
    fn addresses_have_the_servers_scheme_and_port() {
        let mut endpoint = WorkspaceEndpoint {
            name: "web".into(),
            port: 8080,
            editor: false,
            path: None,
            main: false,
        };
        for (external, expected) in [
            (
                "https://127.0.0.1:8154",
                "https://8080-one.example.org:8154/",
            ),
            ("https://[::1]:8154", "https://8080-one.example.org:8154/"),
            ("https://[::1]", "https://8080-one.example.org/"),
            ("http://kas.example.com/", "http://8080-one.example.org/"),
        ] {
            assert_eq!(url(external, "example.org", "one", &endpoint), expected);
        }
        endpoint.path = Some("/?folder=/projects/a".into());
        assert_eq!(
            url("https://a", "example.org", "one", &endpoint),
            "https://8080-one.example.org/?folder=/projects/a"
        );
        endpoint.path = Some("@evil".into());
        assert_eq!(
            url("https://a", "b", "one", &endpoint),
            "https://8080-one.b/@evil"
        );
    }
}
