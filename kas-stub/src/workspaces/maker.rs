//! Makes a workspace from a request: reads the devfile, judges it, renders it.

use std::sync::Arc;

use jiff::Timestamp;
use model::{DesiredState, WorkspaceName};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{
    backend::BackendKind,
    choice::Chosen,
    editor::Editors,
    events::Events,
    imports::{Imports, Origin},
    reconcile::Orphan,
    render::{DevfileProblem, repository_name, with_repository},
    rendering::{Renderer, Rendering},
    settings::RenderedWith,
    source::{Devfiles, SourceError},
    workspace::{Content, Life, Source, Workspace},
};
use crate::{clock::Clock, configuration::Good, fetch::Fetcher, git::Git};

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) owner: u64,
    pub(crate) agent_id: u64,
    pub(crate) name: WorkspaceName,
    pub(crate) chosen: Chosen,
    pub(crate) repository: String,
    pub(crate) reference: Option<String>,
    pub(crate) devfile_path: Option<String>,
    /// What is in the cluster already, of another server, and is to be this workspace: its volumes stay.
    pub(crate) adopted: Option<Orphan>,
    /// The agent's configuration in force.
    pub(crate) settings: Good,
}

/// Why there is no workspace.
#[derive(Debug)]
pub(crate) enum MakeError {
    Source(SourceError),
    /// Everything that is wrong with the devfile.
    Devfile {
        path: String,
        commit: String,
        problems: Vec<DevfileProblem>,
    },
}

/// Makes workspaces.
#[derive(Debug)]
pub(crate) struct Maker {
    devfiles: Arc<Devfiles>,
    imports: Imports,
    renderer: Arc<Renderer>,
    clock: Clock,
}

impl Maker {
    /// `fetcher` reads what is not in the repositories.
    pub(crate) fn new(
        git: Arc<Git>,
        fetcher: Fetcher,
        registries: Vec<String>,
        renderer: Arc<Renderer>,
        clock: Clock,
    ) -> Self {
        let devfiles = Arc::new(Devfiles::new(git));
        Self {
            imports: Imports::new(Arc::clone(&devfiles), fetcher, registries),
            devfiles,
            renderer,
            clock,
        }
    }

    /// What workspaces can be made with.
    pub(crate) fn editors(&self) -> &Editors {
        self.renderer.editors()
    }

    /// Makes a workspace; it is not kept yet.
    pub(crate) async fn make(&self, request: Request) -> Result<(Workspace, Content), MakeError> {
        let Request {
            owner,
            agent_id,
            name,
            chosen,
            repository,
            reference,
            devfile_path,
            adopted,
            settings,
        } = request;
        let Chosen {
            backend,
            editor,
            class,
        } = chosen;
        let read = self
            .devfiles
            .read(&repository, reference.as_deref(), devfile_path.as_deref());
        let devfile = read.await.map_err(MakeError::Source)?;
        let (path, commit) = (devfile.path.clone(), devfile.commit.clone());
        let wrong = |problems| MakeError::Devfile {
            path: path.clone(),
            commit: commit.clone(),
            problems,
        };
        let flattened = self.imports.flatten(Origin {
            devfile: &devfile,
            repository: &repository,
            reference: reference.as_deref(),
        });
        let (flattened, notes) = flattened.await.map_err(wrong)?;
        let now = self.clock.now();
        let mut life = Life::new(now);
        let remote_development = &settings.configuration.remote_development;
        let (id, namespace) = match adopted {
            None => {
                let shared = &remote_development.shared_namespace;
                let shared = (!shared.is_empty()).then(|| shared.clone());
                (
                    random_uuid(),
                    shared.unwrap_or_else(|| name.own_namespace()),
                )
            }
            Some(orphan) => {
                life.generation = orphan.applied_generation + 1;
                (orphan.workspace_id, orphan.namespace)
            }
        };
        let rendered_with = RenderedWith::of(&settings).of_class(class.as_deref());
        let mut workspace = Workspace {
            id,
            own_namespace: namespace == name.own_namespace()
                && namespace != remote_development.shared_namespace,
            namespace,
            name,
            owner,
            agent_id,
            backend,
            source: Source {
                repository,
                reference,
                commit: devfile.commit,
                devfile_path: devfile.path,
            },
            endpoints: Vec::new(),
            editor: None,
            class,
            pull_secrets: Vec::new(),
            shared_objects: Vec::new(),
            rendered_with: Some(rendered_with),
            not_applied: None,
            content_version: 1,
            created_at: now,
            life,
            events: Events::default(),
        };
        let flattened = with_repository(flattened, &workspace.source);
        let kept = serde_json::to_value(&flattened).ok();
        let rendered = self
            .renderer
            .render(
                &workspace,
                flattened,
                editor.as_deref().and_then(|it| self.renderer.editor(it)),
                remote_development,
            )
            .map_err(wrong)?;
        let Rendering {
            objects,
            endpoints,
            editor,
            pull_secrets,
            shared_objects,
            notes: rendered_notes,
        } = rendered;
        workspace.pull_secrets = pull_secrets;
        workspace.shared_objects = shared_objects;
        workspace.endpoints = endpoints;
        workspace.editor = editor;
        let content = Content {
            devfile: devfile.text.to_string(),
            flattened: kept,
            objects,
            notes,
            rendered_notes,
        };
        Ok((workspace, content))
    }
}

/// An orphan as a workspace that is to go, with its volumes; `None` when its name is none of a workspace.
pub(crate) fn ending(
    orphan: Orphan,
    owner: u64,
    agent_id: u64,
    now: Timestamp,
) -> Option<Workspace> {
    let name: WorkspaceName = orphan.name.parse().ok()?;
    Some(Workspace {
        id: orphan.workspace_id,
        own_namespace: orphan.namespace == name.own_namespace(),
        namespace: orphan.namespace,
        name,
        owner,
        agent_id,
        backend: BackendKind::default(),
        source: Source::default(),
        endpoints: Vec::new(),
        editor: None,
        class: None,
        pull_secrets: Vec::new(),
        shared_objects: Vec::new(),
        rendered_with: None,
        not_applied: None,
        content_version: 1,
        created_at: now,
        life: Life {
            desired: DesiredState::Terminated,
            actual: orphan.actual_state,
            generation: orphan.applied_generation + 1,
            applied_generation: orphan.applied_generation,
            ..Life::new(now)
        },
        events: Events::default(),
    })
}

/// A name for a workspace that was given none: its repository's, and a few letters that make it another one each time.
pub(crate) fn name_from(repository: &str) -> WorkspaceName {
    let mut base = repository_name(repository);
    base.truncate(34);
    let base = base.trim_matches('-');
    let letter = if base.starts_with(|c: char| c.is_ascii_lowercase()) {
        ""
    } else {
        "w-"
    };
    let random: String = random_bytes::<5>()
        .iter()
        .map(|it| char::from(b'a' + it % 26))
        .collect();
    let name = format!("{letter}{base}-{random}");
    name.parse().unwrap_or_else(|_| {
        format!("workspace-{random}")
            .parse()
            .expect("letters and a '-' are a name")
    })
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has random numbers");
    bytes
}

/// A random UUID (version 4).
fn random_uuid() -> String {
    let mut bytes = random_bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

/// A workspace for tests.
#[cfg(test)]
pub(super) fn sample(name: &str) -> Workspace {
    let orphan = Orphan {
        workspace_id: random_uuid(),
        name: name.to_owned(),
        namespace: format!("gl-rd-ns-{name}"),
        actual_state: model::ActualState::Running,
        applied_generation: 1,
        first_seen_at: Timestamp::UNIX_EPOCH,
    };
    let mut workspace =
        ending(orphan, 10, 1, Timestamp::UNIX_EPOCH).expect("the test gives a good name");
    workspace.life = Life::new(Timestamp::UNIX_EPOCH);
    workspace
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_repositories() {
        for (url, start) in [
            ("https://git.example.com/group/My_App.git", "my-app-"),
            ("https://git.example.com/1", "w-1-"),
            ("https://git.example.com/ä", "workspace-"),
            (
                &format!("https://git.example.com/{}", "x".repeat(200)),
                "xxx",
            ),
        ] {
            let name = name_from(url);
            assert!(
                name.as_str().starts_with(start) || start == "workspace-",
                "{name}"
            );
        }
    }

    #[test]
    fn ids_are_uuids_of_version_4() {
        let id = random_uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert_ne!(id, random_uuid());
    }
}
