//! Projects: sources to work on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::Attributes;

/// Sources to work on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Free-form values.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub attributes: Attributes,
    /// Folder below the projects' root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_path: Option<String>,
    /// Only these folders of it (2.0.0).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse_checkout_dirs: Vec<String>,
    /// Where they come from.
    #[serde(flatten)]
    pub source: ProjectSource,
}

impl Project {
    /// Folder below the projects' root; by default the name.
    #[must_use]
    pub fn folder(&self) -> &str {
        match self.clone_path.as_deref() {
            None | Some("") => &self.name,
            Some(path) => path,
        }
    }
}

/// Sources to start a new project from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StarterProject {
    /// Its name.
    pub name: String,
    /// Free-form values.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub attributes: Attributes,
    /// What people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Folder in the source that is the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_dir: Option<String>,
    /// Where they come from.
    #[serde(flatten)]
    pub source: ProjectSource,
}

/// Where sources come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProjectSource {
    /// A Git repository.
    Git(Git),
    /// The same on one particular host (2.0.0).
    Github(Git),
    /// An archive.
    Zip(Zip),
    /// Something only one tool knows (DevWorkspaces).
    Custom(Attributes),
}

/// A Git repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Git {
    /// Addresses by the name of the remote.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub remotes: BTreeMap<String, String>,
    /// What is checked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkout_from: Option<CheckoutFrom>,
    /// Path of the file in it, for Dockerfiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_location: Option<String>,
}

/// What is checked out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckoutFrom {
    /// Name of the remote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// Branch, tag or commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// An archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Zip {
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}
