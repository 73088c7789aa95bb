//! GitLab's JSON reconcile: bodies as they travel, and the frames that carry them. YAML is known here and nowhere else.
//! (GitLab 18.9 and agentk 16.5; `proto/gitlab/gitlab_access.proto`)

use std::time::Duration;

use agent_core::gitlab::Info;
use agent_core::reconcile::{DeploymentTold, MAX_OBJECTS, MAX_WORKSPACE_BYTES, Report};
use bytes::Bytes;
use model::actual_state::DeploymentFacts;
use model::configuration::ImagePullSecret;
use model::{ActualState, DesiredState, FailureCode};
use prost::Message as _;
use proto::gitlab_access::rpc::HeaderExtra;
use proto::grpctool::{HttpRequest, HttpResponse, http_request, http_response};
use proto::prototool::{self, KeyValues, Values};
use serde_json::{Map, Value, json};

/// Bytes of a body in one message, as GitLab's agent sends them.
const CHUNK: usize = 32 * 1024;
/// The longest text of an error that GitLab is told.
const MAX_ERROR_BYTES: usize = 4 * 1024;
/// What aliases in YAML may repeat, in pieces and in bytes: Ruby writes equal labels once.
const MAX_REPEATED: usize = 5_000;
const MAX_REPEATED_BYTES: usize = 256 * 1024 * 1024;
/// Pull secrets of one workspace.
pub(crate) const MAX_PULL_SECRETS: usize = 20;

/// A request of a module, all its messages.
pub(crate) fn request(
    module: &str,
    method: &http::Method,
    path: &str,
    body: Bytes,
) -> Vec<HttpRequest> {
    let extra = HeaderExtra {
        module_name: module.to_owned(),
    };
    let content_type = KeyValues {
        key: Bytes::from_static(b"Content-Type"),
        value: Some(Values {
            value: vec![Bytes::from_static(b"application/json")],
        }),
    };
    let head = http_request::Header {
        request: Some(prototool::HttpRequest {
            method: method.as_str().to_owned(),
            header: vec![content_type],
            url_path: path.to_owned(),
            query: Vec::new(),
        }),
        extra: Some(prost_types::Any {
            type_url: proto::GITLAB_ACCESS_HEADER_EXTRA.to_owned(),
            value: extra.encode_to_vec(),
        }),
        content_length: None,
    };
    let chunks = (0..body.len().div_ceil(CHUNK)).map(|number| {
        let start = number * CHUNK;
        let data = body.slice(start..body.len().min(start + CHUNK));
        http_request::Message::Data(http_request::Data { data })
    });
    let trailer = http_request::Message::Trailer(http_request::Trailer {});
    [http_request::Message::Header(head)]
        .into_iter()
        .chain(chunks)
        .chain([trailer])
        .map(|message| HttpRequest {
            message: Some(message),
        })
        .collect()
}

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AnswerFrame {
    /// Status code.
    Head(u16),
    Data(Bytes),
    Trailer,
}

/// Reads a message of an answer; `None`: it is none that may come.
pub(crate) fn answer_frame(message: HttpResponse) -> Option<AnswerFrame> {
    match message.message? {
        http_response::Message::Header(header) => {
            let code = header.response?.status_code;
            u16::try_from(code).ok().map(AnswerFrame::Head)
        }
        http_response::Message::Data(data) => Some(AnswerFrame::Data(data.data)),
        http_response::Message::Trailer(_) => Some(AnswerFrame::Trailer),
        http_response::Message::UpgradeData(_) => None,
    }
}

/// The body of `POST /reconcile`.
pub(crate) fn reconcile_body<'a>(full: bool, reports: impl Iterator<Item = &'a Report>) -> Bytes {
    let infos: Vec<_> = reports.filter_map(info_to).collect();
    let body = json!({
        "update_type": if full { "full" } else { "partial" },
        "workspace_agent_infos": infos,
    });
    body.to_string().into()
}

/// What GitLab is told of a workspace; `None`: nothing was seen of it.
fn info_to(report: &Report) -> Option<Value> {
    let Report {
        id: _,
        place,
        status,
        deployment,
    } = report;
    let mut info = Map::new();
    info.insert("name".to_owned(), place.name.as_str().into());
    info.insert("namespace".to_owned(), place.namespace.as_str().into());
    let progress = match status.actual_state {
        ActualState::Terminating => Some("Terminating"),
        ActualState::Terminated => Some("Terminated"),
        _ => None,
    };
    let mut is_seen = false;
    if let Some(progress) = progress {
        info.insert("termination_progress".to_owned(), progress.into());
        is_seen = true;
    }
    let errors: Vec<_> = status
        .failures
        .iter()
        .map(|status| &status.failure)
        .filter(|failure| status.actual_state == ActualState::Error || is_in_the_way(failure.code))
        .map(|failure| {
            format!("{} {}", failure.message, failure.evidence)
                .trim()
                .to_owned()
        })
        .collect();
    if !errors.is_empty() || status.actual_state == ActualState::Error {
        let mut message = errors.join("\n");
        message.truncate(message.floor_char_boundary(MAX_ERROR_BYTES));
        let details = json!({"error_type": "applier", "error_message": message});
        info.insert("error_details".to_owned(), details);
        is_seen = true;
    }
    if let Some(deployment) = deployment
        && progress.is_none()
    {
        let whole = deployment_to(report, deployment);
        info.insert("latest_k8s_deployment_info".to_owned(), whole);
        is_seen = true;
    }
    is_seen.then_some(Value::Object(info))
}

/// Nothing of the workspace can be applied until somebody else does something; GitLab would wait in silence.
fn is_in_the_way(code: FailureCode) -> bool {
    matches!(code, FailureCode::ForeignObject | FailureCode::NotAllowed)
}

/// What GitLab's table looks at, in the form of a Deployment; the rest of it is not kept.
fn deployment_to(report: &Report, deployment: &DeploymentTold) -> Value {
    let DeploymentTold {
        resource_version,
        facts:
            DeploymentFacts {
                replicas,
                available,
                unavailable,
                progressing,
                availability,
            },
    } = deployment;
    let conditions: Vec<_> = [("Progressing", progressing), ("Available", availability)]
        .into_iter()
        .filter_map(|(kind, reason)| Some(json!({"type": kind, "reason": reason.as_ref()?})))
        .collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": report.place.name.as_str(),
            "namespace": report.place.namespace,
            "resourceVersion": resource_version.to_string(),
            "annotations": {agent_core::reconcile::WORKSPACE_ID_ANNOTATION: &*report.id},
        },
        "spec": {"replicas": replicas},
        "status": {
            "availableReplicas": available,
            "unavailableReplicas": unavailable,
            "conditions": conditions,
        },
    })
}

/// An answer to `POST /reconcile`. What is wrong with one workspace is said in its place.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) infos: Vec<Result<RailsInfo, String>>,
    pub(crate) full_interval: Option<Duration>,
    pub(crate) partial_interval: Option<Duration>,
}

/// One workspace of an answer.
#[derive(Debug)]
pub(crate) struct RailsInfo {
    pub(crate) info: Info,
    pub(crate) pull_secrets: Vec<ImagePullSecret>,
}

/// Reads an answer.
///
/// # Errors
///
/// Says why it is none.
pub(crate) fn answer_from(body: &[u8]) -> Result<Answer, String> {
    let mut answer: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let Some(Value::Array(infos)) = answer.remove("workspace_rails_infos") else {
        return Err("workspace_rails_infos is no list".to_owned());
    };
    let settings = answer.remove("settings").unwrap_or_default();
    let interval = |name: &str| {
        let seconds = settings[name].as_u64()?;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    };
    Ok(Answer {
        infos: infos.into_iter().map(info_from).collect(),
        full_interval: interval("full_reconciliation_interval_seconds"),
        partial_interval: interval("partial_reconciliation_interval_seconds"),
    })
}

fn info_from(info: Value) -> Result<RailsInfo, String> {
    let text = |field: &str| {
        info[field]
            .as_str()
            .ok_or_else(|| format!("{field} of a workspace is no text"))
    };
    let name = text("name")?;
    let namespace = text("namespace")?;
    if !super::is_dns_label(namespace) {
        return Err(format!(
            "the namespace of the workspace {name:?} is no name"
        ));
    }
    let state = |field: &str| -> Result<Value, String> { Ok(text(field)?.into()) };
    let desired: DesiredState = serde_json::from_value(state("desired_state")?)
        .map_err(|error| format!("desired_state of the workspace {name:?}: {error}"))?;
    // A newer server may know more states; which one it is matters only where it is the end.
    let actual: ActualState =
        serde_json::from_value(state("actual_state")?).unwrap_or(ActualState::Unknown);
    let pull_secrets = info["image_pull_secrets"].as_array();
    let pull_secrets = pull_secrets.into_iter().flatten().take(MAX_PULL_SECRETS);
    Ok(RailsInfo {
        pull_secrets: pull_secrets.filter_map(pull_secret_from).collect(),
        info: Info {
            name: name
                .parse()
                .map_err(|error: model::workspace::InvalidWorkspaceName| error.to_string())?,
            namespace: namespace.to_owned(),
            desired,
            actual,
            documents: documents(info["config_to_apply"].as_str().unwrap_or_default()),
            pull_secrets: None,
        },
    })
}

/// Both become part of a path.
fn pull_secret_from(secret: &Value) -> Option<ImagePullSecret> {
    super::pull_secret(secret["name"].as_str()?, secret["namespace"].as_str()?)
}

/// The documents of a `config_to_apply`. An error never quotes them: there are Secrets among them.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    if text.len() > MAX_WORKSPACE_BYTES {
        return Err(format!(
            "config_to_apply is larger than {MAX_WORKSPACE_BYTES} bytes"
        ));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: MAX_OBJECTS + 2,
        },
        alias_limits: serde_saphyr::alias_limits! {
            // No piece is longer than the whole.
            max_total_replayed_events: (MAX_REPEATED_BYTES / text.len().max(1)).min(MAX_REPEATED),
        },
        strict_booleans: true,
        with_snippet: false,
    };
    let documents: Vec<Option<Map<String, Value>>> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
            let place = error.location().map_or_else(String::new, |place| {
                format!(", line {}, column {}", place.line(), place.column())
            });
            format!("config_to_apply is no YAML of objects{place}")
        })?;
    Ok(documents.into_iter().flatten().map(Value::Object).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_of_several_documents_is_read_and_text_stays_text() {
        let text = "---\nkind: A\ndata:\n  on: \"yes\"\n  n: '0774'\n  block: |\n    a\n    ---\n    b\nl: &l {a: b}\nm: *l\n---\n---\n{\"kind\": \"B\", \"n\": 1}\n";
        let read = documents(text).unwrap();
        let expected = json!([
            {"kind": "A", "data": {"on": "yes", "n": "0774", "block": "a\n---\nb\n"}, "l": {"a": "b"}, "m": {"a": "b"}},
            {"kind": "B", "n": 1},
        ]);
        assert_eq!(Value::Array(read), expected);
        assert_eq!(documents("").unwrap(), Vec::<Value>::new());
    }

    #[test]
    fn yaml_that_is_none_or_too_much_is_refused_without_its_content() {
        for text in [
            "--- secret\n",
            "a: secret: b\n",
            "- secret\n",
            &"---\nkind: A\n".repeat(MAX_OBJECTS + 3),
            &format!(
                "a: &x [secret, secret]\nb: [{}]\n",
                "*x, ".repeat(MAX_REPEATED)
            ),
            &format!(
                "a: &x {}\nb: [{}]\n",
                "secret".repeat(300_000),
                "*x, ".repeat(300)
            ),
            &format!("a: {}{}", "[".repeat(5000), "]".repeat(5000)),
            &"#".repeat(MAX_WORKSPACE_BYTES + 1),
        ] {
            let start = &text[..text.len().min(40)];
            let said = documents(text).expect_err(start);
            assert!(!said.contains("secret") && said.len() < 200, "{said}");
        }
    }

    fn report(state: ActualState, facts: Option<DeploymentFacts>) -> Report {
        Report {
            id: "42".into(),
            place: agent_core::reconcile::Place {
                namespace: "gl-rd-ns-one".into(),
                name: "one".parse().unwrap(),
            },
            status: agent_core::reconcile::Status {
                applied_generation: 1,
                actual_state: state,
                failures: Vec::new(),
                since: Duration::ZERO,
                operator: None,
            },
            deployment: facts.map(|facts| DeploymentTold {
                resource_version: 5,
                facts,
            }),
        }
    }

    /// Whatever GitLab's table makes of a Deployment, it makes of what is told.
    #[test]
    fn what_is_told_of_a_deployment_is_what_the_table_looks_at() {
        let reasons = [None, Some("NewReplicaSetAvailable"), Some("Other")];
        for progressing in reasons {
            for availability in reasons {
                for replicas in [None, Some(0), Some(1)] {
                    let facts = DeploymentFacts {
                        replicas,
                        available: 1,
                        unavailable: 2,
                        progressing: progressing.map(str::to_owned),
                        availability: availability.map(str::to_owned),
                    };
                    let told = info_to(&report(ActualState::Starting, Some(facts.clone())));
                    let told = &told.unwrap()["latest_k8s_deployment_info"];
                    assert_eq!(DeploymentFacts::from_json(told), facts);
                    assert_eq!(told["metadata"]["resourceVersion"], "5");
                }
            }
        }
    }

    #[test]
    fn an_end_is_told_without_the_deployment_and_nothing_is_told_of_nothing() {
        let facts = || Some(DeploymentFacts::default());
        let told = |state, facts| info_to(&report(state, facts));
        for (state, progress) in [
            (ActualState::Terminating, "Terminating"),
            (ActualState::Terminated, "Terminated"),
        ] {
            let expected = json!({"name": "one", "namespace": "gl-rd-ns-one", "termination_progress": progress});
            assert_eq!(told(state, facts()), Some(expected));
        }
        assert_eq!(told(ActualState::CreationRequested, None), None);
        let error = told(ActualState::Error, None).unwrap();
        assert_eq!(error["error_details"]["error_type"], "applier");
    }

    #[test]
    fn one_bad_workspace_does_not_hide_the_others() {
        let good = json!({"name": "a", "namespace": "b", "desired_state": "Running", "actual_state": "Novel",
            "config_to_apply": null, "image_pull_secrets": [
                {"name": "x", "namespace": "y"}, {"name": "../x", "namespace": "y"}, {"name": "x"}, 1]});
        let mut bad = good.clone();
        bad["desired_state"] = "Sleeping".into();
        let mut path = good.clone();
        path["namespace"] = "a/b".into();
        let body = json!({"workspace_rails_infos": [bad, 1, path, good], "settings": {
            "full_reconciliation_interval_seconds": 60, "partial_reconciliation_interval_seconds": 0}});
        let answer = answer_from(body.to_string().as_bytes()).unwrap();
        let [Err(_), Err(_), Err(_), Ok(read)] = &answer.infos[..] else {
            panic!("{answer:?}");
        };
        assert_eq!(read.info.actual, ActualState::Unknown);
        let expected = ImagePullSecret {
            name: "x".into(),
            namespace: "y".into(),
        };
        assert_eq!(read.pull_secrets, [expected]);
        assert_eq!(answer.full_interval, Some(Duration::from_secs(60)));
        assert_eq!(answer.partial_interval, None);
        for wrong in ["", "[]", "{}", r#"{"workspace_rails_infos": null}"#] {
            assert!(answer_from(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
