//! Changes of a workspace that is there: what a person wishes, what time brings, what it is rendered with.

use std::sync::Arc;

use jiff::Timestamp;
use model::{ActualState, DesiredState, FailureCode, configuration::ApplyChanges};

use super::{
    Error, Result, Workspaces,
    again::{Again, again},
    decide::{self, Decision},
    events::Step,
    index::Entry,
    limits::Rules,
    settings::{RenderedWith, applies},
    to_json,
    workspace::{FailureSeen, NotApplied, Workspace},
    write,
};
use crate::{
    configuration::Good,
    store::{Kind, Write},
};

/// What becomes of a workspace; written at once.
#[derive(Debug, Default)]
pub(super) struct Change {
    decision: Option<Decision>,
    rendered: Option<Rendered>,
}

impl From<Decision> for Change {
    fn from(decision: Decision) -> Self {
        Self {
            decision: Some(decision),
            rendered: None,
        }
    }
}

/// What came of rendering it again.
#[derive(Debug)]
enum Rendered {
    /// The same as before.
    Same(RenderedWith),
    New(RenderedWith, Box<Again>),
    /// It keeps what it has.
    Failed(NotApplied),
}

impl Workspaces {
    /// Wishes something else of a workspace. When it is to start, it is rendered with the agent's configuration as it is
    /// now (`good`), unless the file says that it never is.
    pub(crate) async fn wish(
        self: &Arc<Self>,
        name: &str,
        desired: DesiredState,
        good: Option<Good>,
    ) -> Result<Arc<Workspace>> {
        let name = name.to_owned();
        self.writing(move |this| async move {
            let workspace = this.by_name(&name).ok_or(Error::Unknown(name))?;
            if workspace.life.desired == DesiredState::Terminated
                && desired != DesiredState::Terminated
            {
                return Err(Error::Terminated(workspace.name.clone()));
            }
            let now = this.clock.now();
            if let Some(decision) = decide::wish(&workspace.life, desired, now) {
                let starts = matches!(
                    decision.life.desired,
                    DesiredState::Running | DesiredState::RestartRequested
                );
                let good = good.filter(|good| starts && applies(good) != ApplyChanges::Never);
                let change = match good {
                    None => decision.into(),
                    Some(good) => {
                        this.render_again(&workspace, &good, Some(decision), now)
                            .await?
                    }
                };
                this.keep(vec![(workspace.id.clone(), change)]).await?;
            }
            this.by_id(&workspace.id)
                .ok_or_else(|| Error::Missing(workspace.id.clone()))
        })
        .await
    }

    /// Does what the time has come for; one write for all.
    pub(super) async fn pass_time(
        self: &Arc<Self>,
        due: Vec<(String, Arc<Rules>)>,
        now: Timestamp,
    ) -> Result<()> {
        self.writing(move |this| async move {
            let mut changes = Vec::new();
            for (id, rules) in due {
                let Some(workspace) = this.by_id(&id) else {
                    continue;
                };
                // As it is now: somebody may just have started it.
                let next = this.next_change(&workspace, &rules);
                let Some(change) = next.filter(|it| it.at <= now) else {
                    continue;
                };
                tracing::info!(workspace = %workspace.name, desired = ?change.state, reason = change.reason, "time limit");
                if let Some(decision) = decide::by_time(&workspace.life, change, now) {
                    changes.push((id, decision.into()));
                }
            }
            this.keep(changes).await
        })
        .await
    }

    /// Brings a changed configuration to a workspace at once, where the file says so.
    pub(super) async fn apply_now(self: &Arc<Self>, id: &str, good: Good) -> Result<()> {
        let id = id.to_owned();
        self.writing(move |this| async move {
            let Some(workspace) = this.by_id(&id) else {
                return Ok(());
            };
            let settings = this.rendered_now(workspace.agent_id, &good);
            if !is_behind(&workspace, &good, &settings) {
                return Ok(());
            }
            let now = this.clock.now();
            let change = this.render_again(&workspace, &good, None, now).await?;
            this.keep(vec![(id, change)]).await
        })
        .await
    }

    /// Renders a workspace again, together with somebody's wish.
    async fn render_again(
        &self,
        workspace: &Workspace,
        good: &Good,
        wished: Option<Decision>,
        now: Timestamp,
    ) -> Result<Change> {
        let settings = self
            .rendered_now(workspace.agent_id, good)
            .of_class(workspace.class.as_deref());
        let content = match self.content(&workspace.id).await {
            Ok(content) => content,
            Err(error @ (Error::Corrupt { .. } | Error::Missing(_))) => {
                return Ok(Change {
                    decision: wished,
                    rendered: Some(failed(settings, error.to_string(), now)),
                });
            }
            Err(error) => return Err(error),
        };
        let remote_development = &good.configuration.remote_development;
        let again = match again(workspace, &content, &self.renderer, remote_development) {
            Ok(again) => again,
            Err(reason) => {
                return Ok(Change {
                    decision: wished,
                    rendered: Some(failed(settings, reason, now)),
                });
            }
        };
        let is_same = again.content.objects == content.objects
            && again.rendering.endpoints == workspace.endpoints
            && again.rendering.editor == workspace.editor
            && again.rendering.pull_secrets == workspace.pull_secrets;
        if is_same {
            return Ok(Change {
                decision: wished,
                rendered: Some(Rendered::Same(settings)),
            });
        }
        let fields = workspace
            .rendered_with
            .as_ref()
            .map_or_else(Vec::new, |it| it.differs(&settings));
        let commit = settings.commit.clone();
        Ok(Change {
            decision: Some(decide::rendered(
                &workspace.life,
                wished,
                commit,
                fields,
                now,
            )),
            rendered: Some(Rendered::New(settings, Box::new(again))),
        })
    }

    /// Writes changes, all or none.
    pub(super) async fn keep(&self, changes: Vec<(String, Change)>) -> Result<()> {
        let mut entries = Vec::with_capacity(changes.len());
        let mut writes = Vec::with_capacity(changes.len());
        let mut agents = Vec::new();
        for (id, change) in changes {
            let Some(Entry { workspace, version }) = self.read().by_id.get(&id).cloned() else {
                continue;
            };
            let before = workspace;
            let mut workspace = Workspace::clone(&before);
            writes.extend(change.apply(&mut workspace, self.clock.now()));
            if workspace == *before {
                continue;
            }
            if before.life.generation != workspace.life.generation {
                agents.push(workspace.agent_id);
            }
            if before.life.actual != workspace.life.actual {
                tracing::info!(workspace = %workspace.name, actual = ?workspace.life.actual, desired = ?workspace.life.desired, "workspace state changed");
            }
            writes.push(write(&workspace, version));
            entries.push(Entry {
                workspace: Arc::new(workspace),
                version,
            });
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.store.append(writes).await.map_err(Error::Store)?;
        {
            let mut index = self.write();
            for Entry { workspace, version } in entries {
                index.set(Entry {
                    workspace,
                    version: version + 1,
                });
            }
        }
        agents.sort_unstable();
        agents.dedup();
        if agents.is_empty() {
            self.notify(None);
        }
        for agent_id in agents {
            self.notify(Some(agent_id));
        }
        Ok(())
    }
}

impl Change {
    /// Changes a workspace; gives what is to be written beside it.
    fn apply(self, workspace: &mut Workspace, now: Timestamp) -> Option<Write> {
        let Self { decision, rendered } = self;
        if let Some(Decision { life, steps }) = decision {
            workspace.life = life;
            workspace.events.add(steps);
        }
        match rendered {
            None => None,
            Some(Rendered::Failed(not_applied)) => {
                keep_failure(workspace, not_applied);
                None
            }
            Some(Rendered::Same(settings)) => {
                // Another commit that says the same is no news.
                let is_known = workspace
                    .rendered_with
                    .as_ref()
                    .is_some_and(|it| it.is_same(&settings));
                if !is_known {
                    workspace.rendered_with = Some(settings);
                }
                clear_failure(workspace, now);
                None
            }
            Some(Rendered::New(settings, again)) => {
                clear_failure(workspace, now);
                let Again { content, rendering } = *again;
                let expected_version = workspace.content_version;
                workspace.rendered_with = Some(settings);
                workspace.endpoints = rendering.endpoints;
                workspace.editor = rendering.editor;
                workspace.pull_secrets = rendering.pull_secrets;
                workspace.shared_objects = rendering.shared_objects;
                workspace.content_version = expected_version + 1;
                Some(Write {
                    kind: Kind::WorkspaceContent,
                    id: workspace.id.clone(),
                    expected_version,
                    body: Some(to_json(&content)),
                })
            }
        }
    }
}

/// Whether a changed file, which would be rendered with these settings, is to reach the workspace now.
pub(super) fn is_behind(workspace: &Workspace, good: &Good, settings: &RenderedWith) -> bool {
    let life = &workspace.life;
    if applies(good) != ApplyChanges::Now
        || life.desired == DesiredState::Terminated
        || life.actual == ActualState::Terminated
    {
        return false;
    }
    let settings = settings.of_class(workspace.class.as_deref());
    let has = |known: Option<&RenderedWith>| known.is_some_and(|it| it.is_same(&settings));
    !has(workspace.rendered_with.as_ref())
        && !has(workspace.not_applied.as_ref().map(|it| &it.settings))
}

fn failed(settings: RenderedWith, reason: String, now: Timestamp) -> Rendered {
    Rendered::Failed(NotApplied {
        settings,
        failure: FailureSeen {
            code: FailureCode::SettingsNotApplied.as_str().to_owned(),
            component: String::new(),
            message: "It could not be rendered with the agent's configuration as it is now, and keeps what it was rendered with before."
                .to_owned(),
            evidence: super::reconcile::cut(reason, model::failure::MAX_EVIDENCE_BYTES),
            since: now,
            next_try_at: None,
        },
    })
}

fn keep_failure(workspace: &mut Workspace, mut new: NotApplied) {
    match &workspace.not_applied {
        Some(known) if known.failure.evidence == new.failure.evidence => {
            new.failure.since = known.failure.since;
        }
        Some(_) | None => {
            let step = Step::Failure {
                code: new.failure.code.clone(),
                component: String::new(),
                message: format!("{} {}", new.failure.message, new.failure.evidence),
            };
            workspace.events.add([(new.failure.since, step)]);
        }
    }
    workspace.not_applied = Some(new);
}

fn clear_failure(workspace: &mut Workspace, now: Timestamp) {
    if let Some(NotApplied { failure, .. }) = workspace.not_applied.take() {
        let FailureSeen {
            code, component, ..
        } = failure;
        workspace
            .events
            .add([(now, Step::FailureCleared { code, component })]);
    }
}
