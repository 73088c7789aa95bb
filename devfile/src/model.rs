//! The devfile as types, for those who work with one after it was checked.
//!
//! All versions share these types: what a version does not have is simply absent. Attributes and embedded Kubernetes
//! objects stay JSON values. Defaults are methods, so that what was written can be told from what is meant.

mod command;
mod component;
mod project;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use command::{Apply, Command, CommandKind, Composite, Exec, Group, GroupKind};
pub use component::{
    Annotation, Component, ComponentKind, Container, CustomComponent, Dockerfile, DockerfileSource,
    Endpoint, Env, Exposure, Image, Kubernetes, KubernetesSource, Plugin, Protocol, Volume,
    VolumeMount,
};
pub use project::{CheckoutFrom, Git, Project, ProjectSource, StarterProject, Zip};

/// Free-form values by name.
pub type Attributes = Map<String, Value>;

/// A devfile, or the content of a DevWorkspace or its template.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Devfile {
    /// Version of the standard; empty for DevWorkspaces and templates.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema_version: String,
    /// What is said about the devfile itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Free-form values.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub attributes: Attributes,
    /// Values to put into texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Containers, volumes and other parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    /// What can be run in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Command>,
    /// Which commands run by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Events>,
    /// Sources to work on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<Project>,
    /// Sources to start a new project from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starter_projects: Vec<StarterProject>,
    /// Sources the projects need beside them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependent_projects: Vec<Project>,
}

/// What a devfile says about itself. Other keys are allowed and kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// All other keys.
    #[serde(flatten)]
    pub other: Attributes,
}

/// Which commands run by themselves, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Events {
    /// Before the containers start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre_start: Vec<String>,
    /// After they started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_start: Vec<String>,
    /// Before they stop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre_stop: Vec<String>,
    /// After they stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_stop: Vec<String>,
}

impl Devfile {
    /// A component by its name.
    #[must_use]
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components
            .iter()
            .find(|component| component.name == name)
    }

    /// A command by its id; upper and lower case do not matter, as in the Go library.
    #[must_use]
    pub fn command(&self, id: &str) -> Option<&Command> {
        self.commands
            .iter()
            .find(|command| command.id.eq_ignore_ascii_case(id))
    }

    /// The container components, with their names.
    pub fn containers(&self) -> impl Iterator<Item = (&Component, &Container)> {
        self.components
            .iter()
            .filter_map(|component| match &component.kind {
                ComponentKind::Container(container) => Some((component, container)),
                _ => None,
            })
    }

    /// The volume components, with their names.
    pub fn volumes(&self) -> impl Iterator<Item = (&Component, &Volume)> {
        self.components
            .iter()
            .filter_map(|component| match &component.kind {
                ComponentKind::Volume(volume) => Some((component, volume)),
                _ => None,
            })
    }
}
