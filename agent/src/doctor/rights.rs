//! Each right of the table, asked of the API server, and what the answers mean.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};

use super::report::Check;
use crate::config::Config;
use crate::kas::health::chain;
use crate::rights::{Part, Place, Right, needed};

/// Questions to the API server at a time.
const CONCURRENT: usize = 8;
const NAME: &str = "rights";
/// No namespace.
const EVERYWHERE: &str = "";

/// One verb of a right, and whether it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    part: Part,
    /// As a role has it.
    text: String,
    allowed: bool,
}

/// Asks for every right, a few at a time.
pub(super) async fn examine(client: &kube::Client, config: &Config) -> Vec<Check> {
    let shares_namespace = config.workspaces.policy.shared_namespace.is_some();
    let questions = needed(shares_namespace, true)
        .filter_map(|right| Some((right, asked_at(right.place, config)?)))
        .flat_map(|(right, place)| right.verbs.iter().map(move |verb| (right, *verb, place)));
    let answers: Result<Vec<Answer>, kube::Error> = stream::iter(questions)
        .map(|(right, verb, place)| ask(client, right, verb, place, config))
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

/// The namespace in which a right is asked about; [`EVERYWHERE`] for one in the whole cluster. `None`: it cannot be asked
/// about yet, since the agent binds it when it makes the namespace, which other rights allow.
fn asked_at(place: Place, config: &Config) -> Option<&str> {
    match place {
        Place::Cluster => Some(EVERYWHERE),
        Place::WorkspaceNamespaces => None,
        Place::SharedNamespace => config.workspaces.policy.shared_namespace.as_deref(),
        Place::OwnNamespace => Some(&config.pod.namespace),
    }
}

async fn ask(
    client: &kube::Client,
    right: &Right,
    verb: &str,
    namespace: &str,
    config: &Config,
) -> Result<Answer, kube::Error> {
    let place = match namespace {
        EVERYWHERE => "everywhere".to_owned(),
        namespace => format!("in namespace {namespace}"),
    };
    let role = config
        .workspaces
        .role
        .as_ref()
        .filter(|_| right.only_workspace_role);
    let allowed = review(
        client,
        ResourceAttributes {
            group: Some(right.group.to_owned()),
            resource: Some(right.resource.to_owned()),
            verb: Some(verb.to_owned()),
            namespace: (namespace != EVERYWHERE).then(|| namespace.to_owned()),
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
        if missing.is_empty() {
            Check::ok(name, format!("all {} that {what} need", given.len()))
        } else if given.is_empty() {
            Check::warning(
                name,
                format!("none: this agent makes no {what}"),
                format!("set {value} in the chart's values if it should"),
            )
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
