//! GitLab's JSON to our types and back: the only place here that knows both.

use model::{
    ActualState, DesiredState,
    actual_state::{DeploymentFacts, Observed, TerminationProgress, actual_state},
    configuration::ImagePullSecret,
};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use super::{
    super::{render::ID_ANNOTATION, workspace::Workspace},
    session::Update,
};

/// Workspaces in one request.
pub(super) const MAX_INFOS: usize = 20_000;

/// The body of `POST /reconcile`.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    #[serde(deserialize_with = "update")]
    pub(super) update_type: Update,
    #[serde(deserialize_with = "infos")]
    pub(super) workspace_agent_infos: Vec<Info>,
}

/// What the agent says of one workspace.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) name: String,
    pub(super) namespace: String,
    #[serde(
        default,
        rename = "latest_k8s_deployment_info",
        deserialize_with = "deployment"
    )]
    pub(super) deployment: Option<Deployment>,
    #[serde(
        default,
        rename = "termination_progress",
        deserialize_with = "termination"
    )]
    pub(super) termination: Option<TerminationProgress>,
    #[serde(default, rename = "error_details")]
    pub(super) error: Option<ErrorDetails>,
}

/// The agent could not do what it was told.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorDetails {
    /// `applier` or `kubernetes`.
    pub(super) error_type: String,
    #[serde(default)]
    pub(super) error_message: Option<String>,
}

/// What is read of the Deployment: agents send it whole, some 10 KiB, so it is made small one by one.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) facts: DeploymentFacts,
    pub(super) resource_version: Option<String>,
    /// Of the workspace that it was made for.
    pub(super) workspace_id: Option<String>,
}

impl Info {
    /// The state by GitLab's table.
    pub(super) fn actual_state(&self) -> ActualState {
        actual_state(&Observed {
            termination: self.termination,
            has_error: self.error.is_some(),
            deployment: self.deployment.as_ref().map(|it| it.facts.clone()),
        })
    }
}

fn update<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Update, D::Error> {
    match &*String::deserialize(deserializer)? {
        "full" => Ok(Update::Full),
        "partial" => Ok(Update::Partial),
        other => Err(de::Error::unknown_variant(other, &["full", "partial"])),
    }
}

fn termination<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<TerminationProgress>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None => Ok(None),
        Some("Terminating") => Ok(Some(TerminationProgress::Terminating)),
        Some("Terminated") => Ok(Some(TerminationProgress::Terminated)),
        Some(other) => Err(de::Error::unknown_variant(
            other,
            &["Terminating", "Terminated"],
        )),
    }
}

fn deployment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Deployment>, D::Error> {
    let Some(whole) = Option::<Map<String, Value>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let whole = Value::Object(whole);
    let metadata = &whole["metadata"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Ok(Some(Deployment {
        facts: DeploymentFacts::from_json(&whole),
        resource_version: text(&metadata["resourceVersion"]),
        workspace_id: text(&metadata["annotations"][ID_ANNOTATION]),
    }))
}

/// A list that stops growing at its limit.
fn infos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Info>, D::Error> {
    struct Visitor;
    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Vec<Info>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "a list of at most {MAX_INFOS} workspaces")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Info>, A::Error> {
            let mut infos = Vec::new();
            while let Some(info) = items.next_element()? {
                if infos.len() == MAX_INFOS {
                    return Err(de::Error::invalid_length(infos.len() + 1, &self));
                }
                infos.push(info);
            }
            Ok(infos)
        }
    }
    deserializer.deserialize_seq(Visitor)
}

/// What the agent is told of one workspace.
#[derive(Debug, Serialize)]
struct RailsInfo<'a> {
    name: &'a str,
    namespace: &'a str,
    desired_state: DesiredState,
    actual_state: ActualState,
    deployment_resource_version: Option<&'a str>,
    config_to_apply: &'a str,
    image_pull_secrets: &'a [ImagePullSecret],
}

/// One of `workspace_rails_infos`.
pub(super) fn rails_info(
    workspace: &Workspace,
    version: Option<&str>,
    config_to_apply: &str,
) -> String {
    let info = RailsInfo {
        name: workspace.name.as_str(),
        namespace: &workspace.namespace,
        desired_state: workspace.life.desired,
        actual_state: workspace.life.actual,
        deployment_resource_version: version,
        config_to_apply,
        image_pull_secrets: &workspace.pull_secrets,
    };
    serde_json::to_string(&info).expect("texts and states are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Request, String> {
        serde_json::from_str(body).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_with_a_request_is_said() {
        for (body, reason) in [
            ("", "EOF"),
            ("[]", "invalid length 0"),
            (r#"{"update_type":"full"}"#, "workspace_agent_infos"),
            (
                r#"{"update_type":"all","workspace_agent_infos":[]}"#,
                "`all`",
            ),
            (
                r#"{"update_type":"full","workspace_agent_infos":null}"#,
                "list of at most 20000",
            ),
            (
                r#"{"update_type":"full","workspace_agent_infos":[{"name":"a"}]}"#,
                "namespace",
            ),
            (
                r#"{"update_type":"full","workspace_agent_infos":[{"name":"a","namespace":"b","termination_progress":"Done"}]}"#,
                "`Done`",
            ),
            (
                r#"{"update_type":"full","workspace_agent_infos":[{"name":"a","namespace":"b","error_details":{}}]}"#,
                "error_type",
            ),
            (
                r#"{"update_type":"full","workspace_agent_infos":[{"name":"a","namespace":"b","latest_k8s_deployment_info":1}]}"#,
                "a map",
            ),
        ] {
            let said = read(body).unwrap_err();
            assert!(said.contains(reason), "{body}: {said}");
        }
        let many = vec![r#"{"name":"a","namespace":"b"}"#; MAX_INFOS + 1].join(",");
        let said = read(&format!(
            r#"{{"update_type":"full","workspace_agent_infos":[{many}]}}"#
        ));
        assert!(said.unwrap_err().contains("20001"));
    }

    #[test]
    fn what_is_not_known_or_null_is_no_trouble() {
        let request = read(
            r#"{"update_type":"partial","more":1,"workspace_agent_infos":[{"name":"a","namespace":"b","x":{},
            "latest_k8s_deployment_info":null,"termination_progress":null,"error_details":null}]}"#,
        );
        let request = request.unwrap();
        assert_eq!(request.update_type, Update::Partial);
        assert_eq!(
            request.workspace_agent_infos[0].actual_state(),
            ActualState::Unknown
        );
    }
}
