//! What parents and plugins are named by, and where that is.

use std::fmt;

use crate::code::Code;
use crate::diagnostic::Reporter;
use crate::node::{Node, Trail};
use crate::validate::is_valid_uri;

/// A text somewhere else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// An http or https address, or the path of a file.
    Location(String),
    /// A devfile in a registry.
    Registry {
        /// Address of the registry.
        registry: String,
        /// Name of the devfile in it.
        id: String,
        /// Its version; without one the registry chooses.
        version: Option<String>,
    },
    /// A `DevWorkspaceTemplate` in the cluster.
    Kubernetes {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: Option<String>,
    },
}

impl Reference {
    /// The address to ask, if it has one: a registry's devfiles have one each.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        match self {
            Self::Location(location) => is_address(location).then(|| location.clone()),
            Self::Registry {
                registry,
                id,
                version,
            } => Some(format!(
                "{}/devfiles/{id}/{}",
                registry.trim_end_matches('/'),
                version.as_deref().unwrap_or_default()
            )),
            Self::Kubernetes { .. } => None,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Location(location) => f.write_str(location),
            Self::Registry { .. } => f.write_str(&self.address().unwrap_or_default()),
            Self::Kubernetes { name, namespace } => match namespace {
                Some(namespace) => write!(f, "kubernetes:{namespace}/{name}"),
                None => write!(f, "kubernetes:{name}"),
            },
        }
    }
}

/// Whether a location is an http or https address.
pub(super) fn is_address(location: &str) -> bool {
    location.starts_with("http://") || location.starts_with("https://")
}

/// Where a uri leads that is written in the document at `base`.
///
/// # Errors
/// When the document has no place that a relative uri could start from.
pub fn resolve(base: &str, uri: &str) -> Result<String, String> {
    if is_address(uri) {
        return Ok(uri.to_owned());
    }
    if is_address(base) {
        return Ok(join_address(base, uri));
    }
    if base.is_empty() || base == "-" || base.starts_with("kubernetes:") {
        return Err(format!(
            "{uri} is relative, but the devfile it stands in has no path or address"
        ));
    }
    // As in the library, a path that starts with a slash is below the devfile's folder too.
    Ok(normal(&format!("{}/{uri}", folder(base))))
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or(
        ".",
        |(folder, _)| {
            if folder.is_empty() { "/" } else { folder }
        },
    )
}

/// A path without `.`, `..` and doubled slashes where that is possible; addresses stay as they are.
pub(super) fn normal(path: &str) -> String {
    if is_address(path) || path == "-" || path.is_empty() {
        return path.to_owned();
    }
    let absolute = path.starts_with('/');
    let joined = clean(path, absolute).join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

fn clean(path: &str, absolute: bool) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if absolute => {}
                _ => parts.push(".."),
            },
            _ => parts.push(part),
        }
    }
    parts
}

/// RFC 3986, as far as paths go.
fn join_address(base: &str, uri: &str) -> String {
    let base = base.split(['?', '#']).next().unwrap_or(base);
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    if let Some(other) = uri.strip_prefix("//") {
        return format!("{scheme}://{other}");
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (uri_path, query) = match uri.find(['?', '#']) {
        Some(at) => uri.split_at(at),
        None => (uri, ""),
    };
    let path = if uri_path.starts_with('/') {
        uri_path.to_owned()
    } else {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{uri_path}")
    };
    format!("{scheme}://{host}/{}{query}", clean(&path, true).join("/"))
}

/// What to use where a reference says nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults<'a> {
    pub(super) registries: &'a [String],
    pub(super) namespace: Option<&'a str>,
}

/// The references to try, in order. At least one unless an error was told.
pub(super) fn read(
    import: &Node,
    at: &Trail<'_>,
    base: &str,
    defaults: Defaults<'_>,
    reporter: &mut Reporter<'_>,
) -> Option<Vec<Reference>> {
    if let Some(uri) = import.get("uri") {
        let written = uri.as_text().unwrap_or_default();
        let location = is_valid_uri(written)
            .map_err(|reason| format!("{written:?} cannot be read as a uri: {reason}"))
            .and_then(|()| resolve(base, written));
        return match location {
            Ok(location) => Some(vec![Reference::Location(location)]),
            Err(message) => {
                reporter.add(Code::UriInvalid, uri.place, &at.key("uri"), message, None);
                None
            }
        };
    }
    if let Some(id) = import.get("id") {
        let version = import.text_at("version").map(str::to_owned);
        let name = id.as_text().unwrap_or_default().to_owned();
        let own = import
            .text_at("registryUrl")
            .filter(|registry| !registry.is_empty());
        let registries: Vec<&str> = match own {
            Some(registry) => vec![registry],
            None => defaults.registries.iter().map(String::as_str).collect(),
        };
        if registries.is_empty() {
            reporter.add(
                Code::ImportRegistryMissing,
                id.place,
                &at.key("id"),
                format!("no registry is known for {name}"),
                Some("write registryUrl beside it".into()),
            );
            return None;
        }
        if let Some(registry) = registries.iter().find(|registry| !is_address(registry)) {
            reporter.add(
                Code::UriInvalid,
                import
                    .get("registryUrl")
                    .map_or(id.place, |node| node.place),
                &at.key("registryUrl"),
                format!("the registry {registry:?} is no http or https address"),
                None,
            );
            return None;
        }
        return Some(
            registries
                .into_iter()
                .map(|registry| Reference::Registry {
                    registry: registry.to_owned(),
                    id: name.clone(),
                    version: version.clone(),
                })
                .collect(),
        );
    }
    let kubernetes = import.get("kubernetes")?;
    Some(vec![Reference::Kubernetes {
        name: kubernetes.text_at("name").unwrap_or_default().to_owned(),
        namespace: kubernetes
            .text_at("namespace")
            .or(defaults.namespace)
            .map(str::to_owned),
    }])
}

/// What attributes of imported elements say about where they come from.
pub(super) fn label(import: &Node, reference: &Reference, namespace: Option<&str>) -> String {
    match reference {
        Reference::Location(_) => {
            format!("uri: {}", import.text_at("uri").unwrap_or_default())
        }
        Reference::Registry { id, .. } => format!(
            "id: {id}, registryURL: {}",
            import.text_at("registryUrl").unwrap_or_default()
        ),
        Reference::Kubernetes { name, .. } => format!(
            "name: {name}, namespace: {}",
            import
                .get("kubernetes")
                .and_then(|kubernetes| kubernetes.text_at("namespace"))
                .or(namespace)
                .unwrap_or_default()
        ),
    }
}

/// The same with the place it was found at, which is what overrides in that document say.
pub(super) fn resolved_label(reference: &Reference, label: &str) -> String {
    match reference {
        Reference::Location(location) => format!("uri: {location}"),
        Reference::Registry { id, registry, .. } => format!("id: {id}, registryURL: {registry}"),
        Reference::Kubernetes { .. } => label.to_owned(),
    }
}

/// Leaves only the overrides of a parent or plugin.
pub(super) fn remove_reference(import: &mut Node) {
    for key in ["uri", "id", "kubernetes", "registryUrl", "version"] {
        import.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_references_start_at_their_document() {
        for (base, uri, expected) in [
            ("/a/b/devfile.yaml", "../p.yaml", "/a/p.yaml"),
            ("devfile.yaml", "p.yaml", "p.yaml"),
            ("x/devfile.yaml", "../../p.yaml", "../p.yaml"),
            ("/devfile.yaml", "../p.yaml", "/p.yaml"),
            (
                "https://h.example/a/devfile.yaml?x=1",
                "p/q.yaml",
                "https://h.example/a/p/q.yaml",
            ),
            (
                "https://h.example/a/devfile.yaml",
                "/p.yaml",
                "https://h.example/p.yaml",
            ),
            (
                "https://h.example/a/devfile.yaml",
                "../../../p.yaml",
                "https://h.example/p.yaml",
            ),
            (
                "/a/devfile.yaml",
                "https://h.example/p.yaml",
                "https://h.example/p.yaml",
            ),
        ] {
            assert_eq!(resolve(base, uri).as_deref(), Ok(expected), "{base} {uri}");
        }
        assert!(resolve("-", "p.yaml").is_err());
    }
}
