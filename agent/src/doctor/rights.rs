//! Each right of the table, asked of the API server, and what the answers mean.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};

use super::report::Check;
use crate::config::{Config, Workspaces};
use crate::kas::health::chain;
use crate::rights::{Part, Place, Right, needed};

/// Questions to the API server at a time.
const CONCURRENT: usize = 8;
const NAME: &str = "rights";

/// One verb of a right, and whether it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    part: Part,
    /// As a role has it.
    text: String,
    allowed: bool,
}

/// Asks for every right that this agent needs, a few at a time.
///
/// What it needs in namespaces that it makes it gives itself, by the role that it may bind; only where there is no such role
/// it has to be given beforehand, and everywhere.
pub(super) async fn examine(client: &kube::Client, config: &Config) -> Vec<Check> {
    let Workspaces { policy, role } = &config.workspaces;
    let is_shared = policy.shared_namespace.is_some();
    let is_asked = |right: &&Right| match right.place {
        Place::WorkspaceNamespaces => role.is_none(),
        // Without a role there is nothing to bind.
        Place::Cluster => role.is_some() || right.group != "rbac.authorization.k8s.io",
        Place::SharedNamespace | Place::OwnNamespace => true,
    };
    let questions = needed(is_shared, policy.allows("DevWorkspace"))
        .filter(is_asked)
        .flat_map(|right| right.verbs.iter().map(move |verb| (right, *verb)));
    let answers: Result<Vec<Answer>, kube::Error> = stream::iter(questions)
        .map(|(right, verb)| ask(client, right, verb, config))
        .buffered(CONCURRENT)
        .try_collect()
        .await;
    let mut checks = match answers {
        Ok(answers) => judge(&answers),
        Err(error) => vec![Check::failed(
            NAME,
            format!("the API server does not tell: {}", chain(&error)),
            "every account may ask for its own rights; something between, a webhook perhaps, refuses it",
        )],
    };
    if let Some(account) = &config.user_access {
        checks.push(may_impersonate(client, config, account).await);
    }
    checks
}

async fn ask(
    client: &kube::Client,
    right: &Right,
    verb: &str,
    config: &Config,
) -> Result<Answer, kube::Error> {
    let Workspaces { policy, role } = &config.workspaces;
    let namespace = match right.place {
        Place::Cluster | Place::WorkspaceNamespaces => None,
        Place::SharedNamespace => policy.shared_namespace.clone(),
        Place::OwnNamespace => Some(config.pod.namespace.clone()),
    };
    let role = role.as_ref().filter(|_| right.only_workspace_role);
    let place = match &namespace {
        None => "everywhere".to_owned(),
        Some(namespace) => format!("in namespace {namespace}"),
    };
    let allowed = review(
        client,
        ResourceAttributes {
            group: Some(right.group.to_owned()),
            resource: Some(right.resource.to_owned()),
            verb: Some(verb.to_owned()),
            namespace,
            name: role.map(|role| role.cluster_role.clone()),
            ..ResourceAttributes::default()
        },
    )
    .await?;
    let group = if right.group.is_empty() {
        String::new()
    } else {
        format!(".{}", right.group)
    };
    Ok(Answer {
        part: right.part,
        text: format!("{verb} {}{group} {place}", right.resource),
        allowed,
    })
}

/// Whether something of the core's group may be done in a namespace; everywhere without one.
pub(super) async fn may(
    client: &kube::Client,
    namespace: &str,
    verb: &str,
    resource: &str,
) -> Result<bool, kube::Error> {
    review(
        client,
        ResourceAttributes {
            resource: Some(resource.to_owned()),
            verb: Some(verb.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ResourceAttributes::default()
        },
    )
    .await
}

async fn review(
    client: &kube::Client,
    attributes: ResourceAttributes,
) -> Result<bool, kube::Error> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = Api::all(client.clone())
        .create(&PostParams::default(), &review)
        .await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

async fn may_impersonate(client: &kube::Client, config: &Config, account: &str) -> Check {
    const NAME: &str = "rights: people";
    let name = account.rsplit(':').next().unwrap_or(account);
    let asked = review(
        client,
        ResourceAttributes {
            resource: Some("serviceaccounts".to_owned()),
            verb: Some("impersonate".to_owned()),
            namespace: Some(config.pod.namespace.clone()),
            name: Some(name.to_owned()),
            ..ResourceAttributes::default()
        },
    )
    .await;
    match asked {
        Ok(true) => Check::ok(NAME, format!("calls of people can run as {account}")),
        Ok(false) => Check::failed(
            NAME,
            format!("calls of people cannot run as {account}"),
            "the chart's rbac.create gives this right; with roles of your own, allow impersonate on that service account",
        ),
        Err(error) => Check::failed(
            NAME,
            format!("the API server does not tell: {}", chain(&error)),
            "look at the check before",
        ),
    }
}

/// A part without any right was left out on purpose; one with a few of them cannot work.
fn judge(answers: &[Answer]) -> Vec<Check> {
    let parts = [
        (
            Part::Workspaces,
            "rights: native",
            "workspaces",
            "workspaces.enabled",
        ),
        (
            Part::DevWorkspaces,
            "rights: operator",
            "workspaces of DevWorkspace Operator",
            "workspaces.devWorkspaceOperator",
        ),
    ];
    let judged = parts.into_iter().map(|(part, name, what, value)| {
        let (given, missing): (Vec<&Answer>, Vec<&Answer>) = answers
            .iter()
            .filter(|it| it.part == part)
            .partition(|it| it.allowed);
        let missing: Vec<&str> = missing.iter().map(|it| it.text.as_str()).collect();
        if given.is_empty() {
            Check::warning(
                name,
                format!("none: this agent makes no {what}"),
                format!("set {value} in the chart's values if it should"),
            )
        } else if missing.is_empty() {
            Check::ok(name, format!("all {} that {what} need", given.len()))
        } else {
            Check::failed(
                name,
                format!("missing for {what}: {}", missing.join(", ")),
                "upgrade the agent's release, so that its roles fit this version; with roles of your own, add these",
            )
        }
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Verdict;

    #[test]
    fn a_part_is_whole_off_or_broken() {
        let answer = |part, text: &str, allowed| Answer {
            part,
            text: text.to_owned(),
            allowed,
        };
        let judged = |native: [bool; 2], operator: bool| {
            let answers = [
                answer(Part::Workspaces, "get pods everywhere", native[0]),
                answer(Part::Workspaces, "list events everywhere", native[1]),
                answer(Part::DevWorkspaces, "get devworkspaces", operator),
            ];
            judge(&answers)
        };
        let verdicts = |checks: &[Check]| [checks[0].verdict, checks[1].verdict];
        let whole = judged([true, true], false);
        assert_eq!(verdicts(&whole), [Verdict::Ok, Verdict::Warning]);
        let broken = judged([true, false], true);
        assert_eq!(verdicts(&broken), [Verdict::Failed, Verdict::Ok]);
        assert!(
            broken[0]
                .seen
                .ends_with("workspaces: list events everywhere")
        );
        let off = judged([false, false], false);
        assert_eq!(verdicts(&off), [Verdict::Warning; 2]);
    }
}
