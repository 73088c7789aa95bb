//! Commands.

use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::{Attributes, Env};

/// Something that can be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Its id.
    pub id: String,
    /// Free-form values.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub attributes: Attributes,
    /// What it is.
    #[serde(flatten)]
    pub kind: CommandKind,
}

impl Command {
    /// The group it belongs to.
    #[must_use]
    pub fn group(&self) -> Option<&Group> {
        match &self.kind {
            CommandKind::Exec(exec) => exec.group.as_ref(),
            CommandKind::Apply(apply) => apply.group.as_ref(),
            CommandKind::Composite(composite) => composite.group.as_ref(),
            CommandKind::Custom(_) | CommandKind::VscodeTask(_) | CommandKind::VscodeLaunch(_) => {
                None
            }
        }
    }
}

/// What a command is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CommandKind {
    /// A command line in a container.
    Exec(Exec),
    /// Starting a component.
    Apply(Apply),
    /// Several commands.
    Composite(Composite),
    /// Something only one tool knows (DevWorkspaces).
    Custom(Attributes),
    /// A task of an editor (2.0.0).
    VscodeTask(Attributes),
    /// A debug configuration of an editor (2.0.0).
    VscodeLaunch(Attributes),
}

impl CommandKind {
    /// Its key in the devfile.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Apply(_) => "apply",
            Self::Composite(_) => "composite",
            Self::Custom(_) => "custom",
            Self::VscodeTask(_) => "vscodeTask",
            Self::VscodeLaunch(_) => "vscodeLaunch",
        }
    }
}

/// A command line in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exec {
    /// What the shell runs.
    pub command_line: String,
    /// Name of the container component.
    pub component: String,
    /// Folder it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Environment beside the container's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<Env>,
    /// What people see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// Whether the program reloads by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_reload_capable: Option<bool>,
}

/// Starting a component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Apply {
    /// Its name.
    pub component: String,
    /// What people see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
}

/// Several commands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Composite {
    /// Their ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// Whether they run at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<bool>,
    /// What people see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
}

/// What a command is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// What for.
    pub kind: GroupKind,
    /// Whether it is the one to run when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_default: Option<bool>,
}

/// The purposes the standard knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupKind {
    /// Build.
    Build,
    /// Run.
    Run,
    /// Test.
    Test,
    /// Debug.
    Debug,
    /// Deploy.
    Deploy,
}

impl GroupKind {
    /// Its name in the devfile.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Run => "run",
            Self::Test => "test",
            Self::Debug => "debug",
            Self::Deploy => "deploy",
        }
    }
}
