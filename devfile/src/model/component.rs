//! Components: containers, volumes and what else a devfile is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Attributes, Git};

/// A named part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Free-form values.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub attributes: Attributes,
    /// What it is.
    #[serde(flatten)]
    pub kind: ComponentKind,
}

/// What a component is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComponentKind {
    /// A container.
    Container(Container),
    /// A volume.
    Volume(Volume),
    /// Kubernetes objects.
    Kubernetes(Kubernetes),
    /// OpenShift objects.
    Openshift(Kubernetes),
    /// An image to build.
    Image(Image),
    /// Components and commands from elsewhere (2.0.0 and DevWorkspaces).
    Plugin(Plugin),
    /// Something only one tool knows (DevWorkspaces).
    Custom(CustomComponent),
}

impl ComponentKind {
    /// Its key in the devfile.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Container(_) => "container",
            Self::Volume(_) => "volume",
            Self::Kubernetes(_) => "kubernetes",
            Self::Openshift(_) => "openshift",
            Self::Image(_) => "image",
            Self::Plugin(_) => "plugin",
            Self::Custom(_) => "custom",
        }
    }

    /// The endpoints it declares.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        match self {
            Self::Container(container) => &container.endpoints,
            Self::Kubernetes(objects) | Self::Openshift(objects) => &objects.endpoints,
            Self::Volume(_) | Self::Image(_) | Self::Plugin(_) | Self::Custom(_) => &[],
        }
    }
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Image name.
    pub image: String,
    /// Environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<Env>,
    /// Volumes in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Most memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<String>,
    /// Memory set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_request: Option<String>,
    /// Most processor time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<String>,
    /// Processor time set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_request: Option<String>,
    /// Entrypoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Whether the sources are in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_sources: Option<bool>,
    /// Where they are in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_mapping: Option<String>,
    /// Whether it runs in a Pod of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedicated_pod: Option<bool>,
    /// Annotations of the objects made for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotation: Option<Annotation>,
    /// Ports it listens on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
}

impl Container {
    /// Whether it runs in a Pod of its own; by default not.
    #[must_use]
    pub fn has_dedicated_pod(&self) -> bool {
        self.dedicated_pod.unwrap_or(false)
    }

    /// Whether the sources are in it; by default unless it has a Pod of its own.
    #[must_use]
    pub fn mounts_sources(&self) -> bool {
        self.mount_sources.unwrap_or(!self.has_dedicated_pod())
    }

    /// Where the sources are in it.
    #[must_use]
    pub fn projects_root(&self) -> &str {
        match self.source_mapping.as_deref() {
            None | Some("") => "/projects",
            Some(path) => path,
        }
    }
}

/// An environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Env {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Name of the volume component.
    pub name: String,
    /// Where it is in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl VolumeMount {
    /// Where it is in the container; by default `/<name>`.
    #[must_use]
    pub fn mount_path(&self) -> String {
        match self.path.as_deref() {
            None | Some("") => format!("/{}", self.name),
            Some(path) => path.to_owned(),
        }
    }
}

/// Annotations of the objects made for a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Annotation {
    /// Of the Deployment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub deployment: BTreeMap<String, String>,
    /// Of the Service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub service: BTreeMap<String, String>,
}

/// A port that something listens on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// The port.
    pub target_port: i64,
    /// Who may reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Exposure>,
    /// What is spoken there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Whether it needs a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// Path of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Free-form values.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub attributes: Attributes,
    /// Annotations of the object that exposes it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotation: BTreeMap<String, String>,
}

impl Endpoint {
    /// Who may reach it; by default everybody.
    #[must_use]
    pub fn exposure(&self) -> Exposure {
        self.exposure.unwrap_or(Exposure::Public)
    }

    /// What is spoken there; by default http.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol.unwrap_or(Protocol::Http)
    }
}

/// Who may reach an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exposure {
    /// Only the other containers of the Pod.
    None,
    /// The cluster.
    Internal,
    /// Everybody.
    Public,
}

/// What is spoken at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// Bytes.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Whether it ends with the Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<bool>,
}

/// Kubernetes or OpenShift objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kubernetes {
    /// Where they are.
    #[serde(flatten)]
    pub source: KubernetesSource,
    /// Whether they are applied with the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy_by_default: Option<bool>,
    /// Ports they listen on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
}

/// Where Kubernetes objects are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KubernetesSource {
    /// In a file.
    Uri(String),
    /// Here, as YAML.
    Inlined(String),
}

/// An image to build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Its name.
    pub image_name: String,
    /// How it is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<Dockerfile>,
    /// Whether it is built with the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_build: Option<bool>,
}

/// A Dockerfile and its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dockerfile {
    /// Where it is.
    #[serde(flatten)]
    pub source: DockerfileSource,
    /// Folder it is built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_context: Option<String>,
    /// Arguments of the build.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Whether the build needs root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_required: Option<bool>,
}

/// Where a Dockerfile is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DockerfileSource {
    /// In a file.
    Uri(String),
    /// In a repository.
    Git(Git),
    /// In a registry of devfiles.
    DevfileRegistry(Value),
}

/// Components and commands from elsewhere; flattening puts them in its place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// All it says.
    #[serde(flatten)]
    pub fields: Attributes,
}

/// Something only one tool knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CustomComponent {
    /// All it says.
    #[serde(flatten)]
    pub fields: Attributes,
}
