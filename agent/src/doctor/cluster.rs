//! What the cluster has to offer.

use agent_core::reconcile::AGENT_ID_LABEL;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use kube::api::{Api, ListParams, PostParams};
use model::version;
use serde_json::json;

use super::report::Check;
use super::{ASK_TIMEOUT, rights, server};
use crate::config::Config;
use crate::kas::health::chain;
use crate::kubernetes::{self, ApiServer};

/// A name that only the cluster's DNS knows.
const CLUSTER_NAME: &str = "kubernetes.default.svc";
/// Namespaces of workspaces that are looked at.
const MAX_TRIED: u32 = 20;

pub(super) async fn examine(config: &Config) -> Vec<Check> {
    let (mut checks, client) = match api_server(config).await {
        Ok(found) => found,
        Err(check) => return vec![*check],
    };
    if config.cluster.kubeconfig.is_none() {
        checks.push(server::name("cluster DNS", CLUSTER_NAME).await);
    }
    checks.extend(rights::examine(&client, config).await);
    checks.push(storage(&client, config).await);
    checks
}

/// The API server: that it answers, its version, its clock.
async fn api_server(config: &Config) -> Result<(Vec<Check>, kube::Client), Box<Check>> {
    const NAME: &str = "API server";
    let failed = |error: &(dyn std::error::Error + 'static), advice: &str| {
        Box::new(Check::failed(NAME, chain(error), advice))
    };
    let credentials =
        "in a Pod, the service account's token has to be mounted; elsewhere give --kubeconfig FILE";
    let api = ApiServer::try_new(&config.cluster)
        .await
        .map_err(|error| failed(&error, credentials))?;
    let answer = api.version_and_date().await.map_err(|error| {
        let advice = "look whether the API server's address can be reached from this Pod (network policies), and whether it \
                      is up";
        failed(error.as_ref(), advice)
    })?;
    let (known, date) = answer;
    let mut kube_config = kubernetes::kube_config(&config.cluster)
        .await
        .map_err(|error| failed(&error, credentials))?;
    kube_config.default_retry = false;
    kube_config.read_timeout = Some(ASK_TIMEOUT);
    kube_config.connect_timeout = Some(ASK_TIMEOUT);
    let client =
        kube::Client::try_from(kube_config).map_err(|error| failed(&error, credentials))?;

    let seen = format!("it answers; Kubernetes {}", known.git_version);
    let mut checks = vec![match version::kubernetes(&known.git_version) {
        None => Check::ok(NAME, seen),
        Some(warning) => Check::failed(NAME, warning, "upgrade the cluster"),
    }];
    checks.extend(kubernetes::date(date.as_deref()).map(|date| {
        server::clock(
            "cluster's clock",
            "the API server's",
            date,
            Timestamp::now(),
        )
    }));
    Ok((checks, client))
}

/// Whether volumes get a storage class by themselves. Storage classes are not the agent's to read; a claim that is only
/// tried comes back with the default one.
async fn storage(client: &kube::Client, config: &Config) -> Check {
    const NAME: &str = "storage class";
    let claim = serde_json::from_value::<PersistentVolumeClaim>(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "agent-doctor"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }));
    let claim = match claim {
        Ok(claim) => claim,
        Err(error) => {
            return Check::failed(NAME, error.to_string(), "this is a defect of the agent");
        }
    };
    let tried = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let mut why = "it may make claims in none of its namespaces yet".to_owned();
    for namespace in places(client, config).await {
        // Whoever reads the API server's log should find nothing refused there.
        let may = rights::may(client, &namespace, "create", "persistentvolumeclaims").await;
        if !may.is_ok_and(|may| may) {
            continue;
        }
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
        match claims.create(&tried, &claim).await {
            Ok(made) => {
                let class = made.spec.and_then(|spec| spec.storage_class_name);
                return match class {
                    Some(class) => Check::ok(NAME, format!("{class} is the cluster's default")),
                    None => Check::warning(
                        NAME,
                        "the cluster has no default, so that workspaces' volumes stay pending",
                        "mark one with the annotation storageclass.kubernetes.io/is-default-class: \"true\", or name one with \
                         kas-stub serve --workspace-storage-class",
                    ),
                };
            }
            Err(error) => why = chain(&error),
        }
    }
    Check::warning(
        NAME,
        format!("the agent cannot see whether there is a default: {why}"),
        "`kubectl get storageclass` tells: one of them has to be marked as (default)",
    )
}

/// Namespaces in which the agent may be allowed to try: that of all workspaces, or its own and some of workspaces, which may
/// be another agent's.
async fn places(client: &kube::Client, config: &Config) -> Vec<String> {
    if let Some(shared) = &config.workspaces.policy.shared_namespace {
        return vec![shared.clone()];
    }
    let mut places = vec![config.pod.namespace.clone()];
    let may = rights::may(client, "", "list", "namespaces").await;
    if may.is_ok_and(|may| may) {
        let few = ListParams::default()
            .labels(AGENT_ID_LABEL)
            .limit(MAX_TRIED);
        let namespaces = Api::<Namespace>::all(client.clone());
        let found = namespaces.list_metadata(&few).await.into_iter().flatten();
        places.extend(found.filter_map(|it| it.metadata.name));
    }
    places
}
