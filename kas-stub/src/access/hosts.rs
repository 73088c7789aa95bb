//! Which host is which port of which workspace. Pure.

use model::WorkspaceName;

/// Longest name of a host in DNS.
const MAX_HOST: usize = 253;

/// A host of a workspace: `<port>-<workspace>.<domain>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkspaceHost {
    pub(crate) port: u16,
    pub(crate) workspace: WorkspaceName,
    /// The host in lowercase, without port and last dot.
    pub(crate) name: String,
}

/// Reads what a browser calls the host, with a port perhaps. `None`: it is none of a workspace's.
pub(crate) fn parse(authority: &str, domain: &str) -> Option<WorkspaceHost> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) => {
            let is_port = !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit());
            is_port.then_some(host)?
        }
        None => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.len() > MAX_HOST {
        return None;
    }
    let name = host.to_ascii_lowercase();
    let label = name.strip_suffix(domain)?.strip_suffix('.')?;
    let (port, workspace) = label.split_once('-')?;
    // One way to write each host: what is compared later is text.
    let is_canonical = !port.starts_with('0') && port.bytes().all(|it| it.is_ascii_digit());
    let port = is_canonical.then(|| port.parse().ok()).flatten()?;
    let workspace = workspace.parse().ok()?;
    Some(WorkspaceHost {
        port,
        workspace,
        name,
    })
}

/// Whether a path and query may be gone to on the same host: one `/` at the start, nothing that a browser makes another
/// host of.
pub(crate) fn is_local_path(path: &str) -> bool {
    path.len() <= MAX_PATH
        && path.starts_with('/')
        && !path.starts_with("//")
        && path.bytes().all(|it| it.is_ascii_graphic() && it != b'\\')
}

/// Longest path and query that is gone back to after signing in; longer ones lead to `/`.
const MAX_PATH: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(authority: &str) -> Option<String> {
        parse(authority, "workspaces.localhost")
            .map(|it| format!("{} {} {}", it.port, it.workspace, it.name))
    }

    #[test]
    fn hosts_of_workspaces_are_recognised_however_they_are_written() {
        let expected = "8080 my-app-2 8080-my-app-2.workspaces.localhost";
        for authority in [
            "8080-my-app-2.workspaces.localhost",
            "8080-my-app-2.workspaces.localhost:8154",
            "8080-My-App-2.Workspaces.LOCALHOST.",
            "8080-my-app-2.workspaces.localhost.:443",
        ] {
            assert_eq!(shown(authority).as_deref(), Some(expected), "{authority}");
        }
    }

    #[test]
    fn everything_else_is_the_platforms() {
        for authority in [
            "",
            "localhost",
            "localhost:8154",
            "127.0.0.1:8154",
            "[::1]:8154",
            "workspaces.localhost",
            ".workspaces.localhost",
            "a.workspaces.localhost",
            "8080.workspaces.localhost",
            "8080-.workspaces.localhost",
            "-a.workspaces.localhost",
            "0-a.workspaces.localhost",
            "08080-a.workspaces.localhost",
            "+80-a.workspaces.localhost",
            "70000-a.workspaces.localhost",
            "8080-1a.workspaces.localhost",
            "8080-ä.workspaces.localhost",
            "8080-xn--4ca.x.workspaces.localhost",
            "8080-a.b.workspaces.localhost",
            "8080-aworkspaces.localhost",
            "8080-a.workspaces.localhost.example.com",
            "8080-a.workspaces.localhost:",
            "8080-a.workspaces.localhost:x",
            "8080-a.workspaces.localhost..",
            "user@8080-a.workspaces.localhost",
        ] {
            assert_eq!(shown(authority), None, "{authority}");
        }
        let long = format!("8080-{}.workspaces.localhost", "a".repeat(41));
        assert_eq!(shown(&long), None);
    }

    #[test]
    fn paths_lead_to_no_other_host() {
        for path in ["/", "/a?b=c#d", "/a//b", "/?u=https://elsewhere"] {
            assert!(is_local_path(path), "{path}");
        }
        for path in [
            "",
            "a",
            "//elsewhere",
            "/\\elsewhere",
            "\\\\elsewhere",
            "https://elsewhere",
            "/a\r\nSet-Cookie: x",
            "/\t/elsewhere",
            "/ä",
        ] {
            assert!(!is_local_path(path), "{path}");
        }
        assert!(!is_local_path(&format!("/{}", "a".repeat(5000))));
    }
}
