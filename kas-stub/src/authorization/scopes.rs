//! What a personal token may be used for.

use serde::{Deserialize, Serialize};

/// One thing that a token may be for. It never gives more than its person may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// The REST API, reading and changing.
    Api,
    /// The REST API, reading.
    ReadApi,
    /// Calls of kubectl and its like.
    K8sProxy,
    /// One's own workspaces: the REST API's part on them, and their ports.
    Workspaces,
}

impl Scope {
    pub(crate) const ALL: [Self; 4] = [Self::Api, Self::ReadApi, Self::K8sProxy, Self::Workspaces];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::ReadApi => "read_api",
            Self::K8sProxy => "k8s_proxy",
            Self::Workspaces => "workspaces",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }
}

/// A set of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Scope>", into = "Vec<Scope>")]
pub(crate) struct Scopes(u8);

impl Scopes {
    /// What a token of the time before there were scopes has.
    pub(crate) fn all() -> Self {
        Self::from(Scope::ALL.to_vec())
    }

    pub(crate) fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Whether it has all that the other has.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn names(self) -> Vec<&'static str> {
        Vec::from(self).into_iter().map(Scope::as_str).collect()
    }
}

impl From<Vec<Scope>> for Scopes {
    fn from(scopes: Vec<Scope>) -> Self {
        Self(scopes.into_iter().fold(0, |bits, it| bits | 1 << it as u8))
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        let all = Scope::ALL.into_iter();
        all.filter(|it| scopes.has(*it)).collect()
    }
}
