//! Wire messages to our types and back: the only place here that knows both.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::{
    ActualState, DesiredState, OperatorState, OperatorStatus,
    configuration::ImagePullSecret,
    failure::MAX_EVIDENCE_BYTES,
    operator::{Condition, MAX_CONDITIONS, MAX_TEXT_BYTES},
};
use proto::remote_development::rpc as wire;
use serde_json::Value;

use super::super::{
    decide::{MAX_FAILURES, Report},
    workspace::{FailureSeen, Workspace},
};

/// Bytes of an object in one message.
const CHUNK_BYTES: usize = 256 * 1024;
/// Longest name kept of what an agent says: a Kubernetes name.
pub(in super::super) const MAX_NAME_BYTES: usize = 253;
/// Fields that an old operator lacks, as kept; there are one or two.
const MAX_MISSING_FIELDS: usize = 20;
/// Longest message kept of a failure.
const MAX_MESSAGE_BYTES: usize = 1024;

/// A report with what identifies the workspace.
#[derive(Debug)]
pub(super) struct ReportOf {
    pub(super) workspace_id: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) report: Report,
}

/// Reads a report. Ages become times by the clock here.
pub(super) fn report(report: wire::WorkspaceReport, now: Timestamp) -> ReportOf {
    let actual = actual_state(report.actual_state());
    let wire::WorkspaceReport {
        workspace_id,
        name,
        namespace,
        applied_generation,
        actual_state: _,
        age_ms,
        failures,
        dev_workspace,
    } = report;
    let failures = failures.into_iter().take(MAX_FAILURES);
    ReportOf {
        workspace_id: cut(workspace_id, MAX_NAME_BYTES),
        name: cut(name, MAX_NAME_BYTES),
        namespace: cut(namespace, MAX_NAME_BYTES),
        report: Report {
            // One more must stay countable.
            applied_generation: applied_generation.min(u64::from(u32::MAX)),
            actual,
            seen_at: before(now, age_ms),
            failures: failures.map(|it| failure(it, now)).collect(),
            operator: dev_workspace.map(operator_status),
            unknown_is_seen: false,
        },
    }
}

fn operator_status(status: wire::DevWorkspaceStatus) -> OperatorStatus {
    let wire::DevWorkspaceStatus {
        phase,
        message,
        main_url,
        started,
        stopped_by,
        conditions,
    } = status;
    let condition = |condition| {
        let wire::DevWorkspaceCondition {
            r#type,
            status,
            reason,
            message,
        } = condition;
        Condition {
            kind: cut(r#type, MAX_NAME_BYTES),
            status: cut(status, MAX_NAME_BYTES),
            reason: cut(reason, MAX_NAME_BYTES),
            message: cut(message, MAX_TEXT_BYTES),
        }
    };
    OperatorStatus {
        phase: cut(phase, MAX_NAME_BYTES),
        message: cut(message, MAX_TEXT_BYTES),
        main_url: cut(main_url, MAX_TEXT_BYTES),
        started,
        stopped_by: cut(stopped_by, MAX_TEXT_BYTES),
        conditions: conditions
            .into_iter()
            .take(MAX_CONDITIONS)
            .map(condition)
            .collect(),
    }
}

/// Whether an agent's cluster runs DevWorkspaces.
pub(super) fn operator_state(state: wire::DevWorkspaceOperator) -> OperatorState {
    let wire::DevWorkspaceOperator {
        available,
        code,
        reason,
        missing_fields,
    } = state;
    OperatorState {
        available,
        code: cut(code, MAX_NAME_BYTES),
        reason: cut(reason, MAX_MESSAGE_BYTES),
        missing_fields: missing_fields
            .into_iter()
            .take(MAX_MISSING_FIELDS)
            .map(|it| cut(it, MAX_NAME_BYTES))
            .collect(),
    }
}

fn failure(failure: wire::Failure, now: Timestamp) -> FailureSeen {
    let wire::Failure {
        code,
        component,
        message,
        evidence,
        since_age_ms,
        next_try_in_ms,
    } = failure;
    FailureSeen {
        code: cut(code, MAX_NAME_BYTES),
        component: cut(component, MAX_NAME_BYTES),
        message: cut(message, MAX_MESSAGE_BYTES),
        evidence: cut(evidence, MAX_EVIDENCE_BYTES),
        since: before(now, since_age_ms),
        next_try_at: next_try_in_ms
            .map(|wait| now.saturating_add(milliseconds(wait)).unwrap_or(now)),
    }
}

fn before(now: Timestamp, age_ms: u64) -> Timestamp {
    now.saturating_sub(milliseconds(age_ms)).unwrap_or(now)
}

fn milliseconds(milliseconds: u64) -> SignedDuration {
    SignedDuration::from_millis(milliseconds.try_into().unwrap_or(i64::MAX))
}

/// Cuts between characters.
pub(in super::super) fn cut(mut text: String, max_bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(max_bytes));
    text
}

fn actual_state(state: wire::ActualState) -> ActualState {
    match state {
        wire::ActualState::CreationRequested => ActualState::CreationRequested,
        wire::ActualState::Starting => ActualState::Starting,
        wire::ActualState::Running => ActualState::Running,
        wire::ActualState::Stopping => ActualState::Stopping,
        wire::ActualState::Stopped => ActualState::Stopped,
        wire::ActualState::Terminating => ActualState::Terminating,
        wire::ActualState::Terminated => ActualState::Terminated,
        wire::ActualState::Failed => ActualState::Failed,
        wire::ActualState::Error => ActualState::Error,
        wire::ActualState::Unspecified | wire::ActualState::Unknown => ActualState::Unknown,
    }
}

fn desired_state(state: DesiredState) -> wire::DesiredState {
    match state {
        DesiredState::Running => wire::DesiredState::Running,
        DesiredState::RestartRequested => wire::DesiredState::RestartRequested,
        DesiredState::Stopped => wire::DesiredState::Stopped,
        DesiredState::Terminated => wire::DesiredState::Terminated,
    }
}

/// A workspace as it is told; with objects only where they are given.
pub(super) fn workspace(
    workspace: &Workspace,
    is_unchanged: bool,
    objects: &[Value],
) -> Vec<wire::ReconcileResponse> {
    let head = wire::Workspace {
        workspace_id: workspace.id.clone(),
        name: workspace.name.to_string(),
        namespace: workspace.namespace.clone(),
        own_namespace: workspace.own_namespace,
        generation: workspace.life.generation,
        desired_state: desired_state(workspace.life.desired).into(),
        object_count: objects.len().try_into().unwrap_or(u32::MAX),
        unchanged: is_unchanged,
        image_pull_secrets: pull_secrets(workspace),
    };
    let mut messages = vec![response(wire::reconcile_response::Message::Workspace(head))];
    for object in objects {
        // Keys of a JSON object are sorted in memory, so that equal objects have equal bytes.
        let data = bytes::Bytes::from(object.to_string());
        let hash = hash(&data);
        let chunks = data.len().div_ceil(CHUNK_BYTES);
        for number in 0..chunks {
            let start = number * CHUNK_BYTES;
            let chunk = wire::ObjectChunk {
                hash: hash.clone(),
                data: data.slice(start..data.len().min(start + CHUNK_BYTES)),
                last: number + 1 == chunks,
            };
            messages.push(response(wire::reconcile_response::Message::ObjectChunk(
                chunk,
            )));
        }
    }
    messages
}

fn pull_secrets(workspace: &Workspace) -> Vec<wire::ImagePullSecret> {
    let secrets = workspace.pull_secrets.iter();
    let secret = |it: &ImagePullSecret| wire::ImagePullSecret {
        name: it.name.clone(),
        namespace: it.namespace.clone(),
    };
    secrets.map(secret).collect()
}

/// SHA-256 in hexadecimal.
fn hash(data: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, data);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(super) fn settings(full_interval: Duration) -> wire::ReconcileResponse {
    response(wire::reconcile_response::Message::Settings(
        wire::Settings {
            full_interval_ms: full_interval.as_millis().try_into().unwrap_or(u64::MAX),
            // No timer: a partial poll is sent when there is something to report.
            partial_interval_ms: 0,
        },
    ))
}

pub(super) fn poll_answered(number: u64) -> wire::ReconcileResponse {
    response(wire::reconcile_response::Message::PollAnswered(
        wire::PollAnswered { number },
    ))
}

fn response(message: wire::reconcile_response::Message) -> wire::ReconcileResponse {
    wire::ReconcileResponse {
        message: Some(message),
    }
}
