//! Which editor workspaces get.

use std::path::PathBuf;

/// The editor of new workspaces.
#[derive(Clone, Debug, clap::Args)]
pub struct EditorSettings {
    /// The editor of new workspaces: code-server, gitlab-vscode, one of --editors-file, or none.
    #[arg(
        long = "editor",
        env = "KAS_STUB_EDITOR",
        value_name = "NAME",
        default_value = DEFAULT_EDITOR
    )]
    pub editor: String,

    /// The image that brings it [default: the definition's].
    #[arg(
        long = "editor-image",
        env = "KAS_STUB_EDITOR_IMAGE",
        value_name = "IMAGE"
    )]
    pub editor_image: Option<String>,

    /// Further definitions of editors (YAML); they win over those of the same name.
    #[arg(
        long = "editors-file",
        env = "KAS_STUB_EDITORS_FILE",
        value_name = "FILE"
    )]
    pub editors_file: Option<PathBuf>,
}

/// Runs in any image.
const DEFAULT_EDITOR: &str = "code-server";

impl Default for EditorSettings {
    fn default() -> Self {
        Self {
            editor: DEFAULT_EDITOR.into(),
            editor_image: None,
            editors_file: None,
        }
    }
}
