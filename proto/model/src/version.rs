//! Which versions fit together: agent and server, and the agent and its cluster.

use std::fmt;
use std::str::FromStr;

/// The oldest Kubernetes that is supported; the agent's chart names it as its `kubeVersion`.
pub const OLDEST_KUBERNETES: Version = Version {
    major: 1,
    minor: 33,
};
/// The newest Kubernetes that was tried. A newer one is expected to work, since nothing is used that is not stable.
pub const TESTED_KUBERNETES: Version = Version {
    major: 1,
    minor: 34,
};
/// How many minor versions agent and server may be apart, as GitLab's.
pub const MAX_SKEW: u64 = 1;
/// GitLab's own agent has had this major version and later ones since it was made. Its version says nothing about the
/// wire that both speak.
const GITLAB_MAJOR: u64 = 13;

/// The part of a version that says what fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// What changes when old things stop working.
    pub major: u64,
    /// What changes with each release.
    pub minor: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// That a text is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    /// Reads `1.33`, `v1.33.4`, `v1.33.4+k3s1` or `1.33+`.
    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts = text.split('.');
        let mut number = || {
            let part = parts.next()?;
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            part.get(..digits)?.parse().ok()
        };
        match (number(), number()) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            (_, _) => Err(NoVersion),
        }
    }
}

/// What is to be said when agent and server are too far apart; `None`: they fit, or one of them is GitLab's or unknown.
#[must_use]
pub fn skew(agent: &str, server: &str) -> Option<String> {
    let (Ok(agent), Ok(server)) = (agent.parse::<Version>(), server.parse::<Version>()) else {
        return None;
    };
    if agent.major >= GITLAB_MAJOR || server.major >= GITLAB_MAJOR {
        return None;
    }
    if agent.major == server.major && agent.minor.abs_diff(server.minor) <= MAX_SKEW {
        return None;
    }
    let older = if agent < server {
        "upgrade the agent's release"
    } else {
        "upgrade the server"
    };
    Some(format!(
        "agent {agent} and server {server} are more than {MAX_SKEW} minor version apart, which is not tried together: {older}"
    ))
}

/// What is to be said about a cluster's version; `None`: it is supported, or not known.
#[must_use]
pub fn kubernetes(version: &str) -> Option<String> {
    let version: Version = version.parse().ok()?;
    (version < OLDEST_KUBERNETES).then(|| {
        format!(
            "Kubernetes {version} is not supported: {OLDEST_KUBERNETES} is the oldest that is; upgrade the cluster"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_write_them() {
        for text in ["1.33", "v1.33.4", "v1.33.4+k3s1", "1.33+", "v1.33.0-rc.1"] {
            assert_eq!(text.parse(), Ok(OLDEST_KUBERNETES), "{text}");
        }
        for text in ["", "v", "1", "1.x", "x.1", "unknown"] {
            assert_eq!(text.parse::<Version>(), Err(NoVersion), "{text}");
        }
    }

    #[test]
    fn charts_readme_and_test_cluster_say_the_same() {
        for chart in [
            include_str!("../../../deploy/charts/agent/Chart.yaml"),
            include_str!("../../../deploy/charts/kas-stub/Chart.yaml"),
        ] {
            let line = format!("kubeVersion: \">={OLDEST_KUBERNETES}.0-0\"");
            assert!(chart.contains(&line), "{line} is not in\n{chart}");
        }
        let readme = include_str!("../../../README.md");
        let line =
            format!("Kubernetes {OLDEST_KUBERNETES} or newer (tried with {TESTED_KUBERNETES})");
        assert!(readme.contains(&line), "{line}");
        let cluster = include_str!("../../../tests/cluster/testcluster/go.mod");
        let line = format!("k8s.io/kubernetes v{TESTED_KUBERNETES}.");
        assert!(cluster.contains(&line), "{line}");
    }

    #[test]
    fn one_minor_version_apart_fits() {
        for (agent, server) in [
            ("v0.1.0", "0.1.9"),
            ("0.2.0", "0.1.0"),
            ("0.1.0", "0.2.0"),
            ("v18.9.1", "0.1.0"),
            ("0.1.0", "v18.9.1"),
            ("", "0.1.0"),
        ] {
            assert_eq!(skew(agent, server), None, "{agent} {server}");
        }
        for (agent, server, expected) in [
            ("v0.1.0", "0.3.0", "upgrade the agent's release"),
            ("0.4.0", "0.2.0", "upgrade the server"),
            ("0.9.0", "1.0.0", "upgrade the agent's release"),
        ] {
            let text = skew(agent, server).unwrap();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn only_old_clusters_are_complained_about() {
        for fine in ["v1.33.0", "v1.34.4", "v1.99.0", "v2.0.0", ""] {
            assert_eq!(kubernetes(fine), None, "{fine}");
        }
        let text = kubernetes("v1.32.9").unwrap();
        assert!(text.contains("1.32") && text.contains("1.33"), "{text}");
    }
}
