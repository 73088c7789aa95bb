//! Workspaces: what the server wants, and what it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::pull_secrets::MAX_PULL_SECRETS;
use agent_core::reconcile::{DesiredWorkspace, FailureStatus, Report};
use model::configuration::ImagePullSecret;
use model::operator::Condition;
use model::{ActualState, DesiredState, OperatorState, OperatorStatus};
use proto::remote_development::rpc as wire;

/// Failures told of one workspace. There are a few; a hostile cluster may have more.
const MAX_FAILURES: usize = 20;

/// What the server wants of a workspace, still without its objects.
///
/// # Errors
///
/// Names the field that is wrong.
pub(crate) fn desired_from(workspace: wire::Workspace) -> Result<DesiredWorkspace, String> {
    let wire::Workspace {
        workspace_id,
        name,
        namespace,
        own_namespace,
        generation,
        desired_state,
        object_count: _,
        unchanged: _,
        image_pull_secrets: _,
    } = workspace;
    let state = match wire::DesiredState::try_from(desired_state) {
        Ok(wire::DesiredState::Running) => DesiredState::Running,
        Ok(wire::DesiredState::RestartRequested) => DesiredState::RestartRequested,
        Ok(wire::DesiredState::Stopped) => DesiredState::Stopped,
        Ok(wire::DesiredState::Terminated) => DesiredState::Terminated,
        Ok(wire::DesiredState::Unspecified) | Err(_) => {
            return Err(format!(
                "desired_state {desired_state} of the workspace {name:?} is not known"
            ));
        }
    };
    if !super::is_dns_label(&namespace) {
        return Err(format!(
            "the namespace {namespace:?} of the workspace {name:?} is no name"
        ));
    }
    if workspace_id.is_empty() || workspace_id.len() > 63 || generation == 0 {
        return Err(format!("the workspace {name:?} has no id or no generation"));
    }
    Ok(DesiredWorkspace {
        id: workspace_id,
        name: name
            .parse()
            .map_err(|error: model::workspace::InvalidWorkspaceName| error.to_string())?,
        namespace,
        own_namespace,
        generation,
        state,
        objects: BTreeMap::new(),
    })
}

/// A report as it is sent at `now`: ages instead of times.
pub(crate) fn report_to(report: Report, now: Duration) -> wire::WorkspaceReport {
    let Report {
        id,
        place,
        status,
        deployment: _,
    } = report;
    let failures = status.failures.into_iter().take(MAX_FAILURES);
    wire::WorkspaceReport {
        workspace_id: id.to_string(),
        name: place.name.to_string(),
        namespace: place.namespace,
        applied_generation: status.applied_generation,
        actual_state: actual_state_to(status.actual_state).into(),
        age_ms: millis(now.saturating_sub(status.since)),
        failures: failures.map(|failure| failure_to(failure, now)).collect(),
        dev_workspace: status.operator.map(dev_workspace_to),
    }
}

fn dev_workspace_to(status: OperatorStatus) -> wire::DevWorkspaceStatus {
    let OperatorStatus {
        phase,
        message,
        main_url,
        started,
        stopped_by,
        conditions,
    } = status;
    let condition = |condition| {
        let Condition {
            kind,
            status,
            reason,
            message,
        } = condition;
        wire::DevWorkspaceCondition {
            r#type: kind,
            status,
            reason,
            message,
        }
    };
    wire::DevWorkspaceStatus {
        phase,
        message,
        main_url,
        started,
        stopped_by,
        conditions: conditions.into_iter().map(condition).collect(),
    }
}

/// Whether DevWorkspaces can be run.
pub(crate) fn operator_to(state: OperatorState) -> wire::DevWorkspaceOperator {
    let OperatorState {
        available,
        code,
        reason,
        missing_fields,
    } = state;
    wire::DevWorkspaceOperator {
        available,
        code,
        reason,
        missing_fields,
    }
}

fn failure_to(status: FailureStatus, now: Duration) -> wire::Failure {
    let FailureStatus {
        failure,
        since,
        next_try,
    } = status;
    wire::Failure {
        code: failure.code.as_str().to_owned(),
        component: failure.component,
        message: failure.message,
        evidence: failure.evidence,
        since_age_ms: millis(now.saturating_sub(since)),
        next_try_in_ms: next_try.map(|at| millis(at.saturating_sub(now))),
    }
}

fn actual_state_to(state: ActualState) -> wire::ActualState {
    match state {
        ActualState::CreationRequested => wire::ActualState::CreationRequested,
        ActualState::Starting => wire::ActualState::Starting,
        ActualState::Running => wire::ActualState::Running,
        ActualState::Stopping => wire::ActualState::Stopping,
        ActualState::Stopped => wire::ActualState::Stopped,
        ActualState::Terminating => wire::ActualState::Terminating,
        ActualState::Terminated => wire::ActualState::Terminated,
        ActualState::Failed => wire::ActualState::Failed,
        ActualState::Error => wire::ActualState::Error,
        ActualState::Unknown => wire::ActualState::Unknown,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The pull secrets that the server names. Both parts become part of a path; what cannot is left out.
pub(crate) fn pull_secrets_from(workspace: &wire::Workspace) -> Vec<ImagePullSecret> {
    let named = workspace.image_pull_secrets.iter().take(MAX_PULL_SECRETS);
    named
        .filter_map(|it| super::pull_secret(&it.name, &it.namespace))
        .collect()
}
