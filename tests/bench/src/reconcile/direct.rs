//! The API server without anything of ours: what the cluster itself takes for the same objects, and when it shows a change.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _, stream};
use hyper::{Method, Request, header};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::LOOK_INTERVAL;

/// As many as the agent works on at the same time.
const CALLERS: usize = 16;
const FIELD_MANAGER: &str = "bench";
const AGENT_LABEL: &str = "agent.gitlab.com/id";
/// In place of the agent's id, so that no agent cares.
const NOBODY: &str = "0";
/// What a workspace may be made of, in the order in which the agent applies it.
const COLLECTIONS: [(&str, &str); 7] = [
    ("apis/networking.k8s.io/v1", "networkpolicies"),
    ("api/v1", "serviceaccounts"),
    ("api/v1", "configmaps"),
    ("api/v1", "secrets"),
    ("api/v1", "persistentvolumeclaims"),
    ("api/v1", "services"),
    ("apis/apps/v1", "deployments"),
];

pub(super) struct Direct {
    client: kube::Client,
}

impl Direct {
    /// Connects as the administrator and makes the namespace of the agent's lease.
    pub(super) async fn open(kubeconfig: &Path, namespace: &str) -> anyhow::Result<Self> {
        let file = kube::config::Kubeconfig::read_from(kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await?;
        let direct = Self {
            client: kube::Client::try_from(config)?,
        };
        direct.create_namespace(namespace).await?;
        Ok(direct)
    }

    /// Makes copies of a workspace's objects, and tells the seconds until all their Deployments are ready.
    pub(super) async fn copies(
        &self,
        of: &str,
        many: usize,
        limit: Duration,
    ) -> anyhow::Result<f64> {
        let objects = self.pattern(of).await?;
        let began = Instant::now();
        let calls = (0..many).map(|number| self.copy(of, number, &objects));
        let () = stream::iter(calls)
            .buffer_unordered(CALLERS)
            .try_collect()
            .await?;
        let path = format!("/apis/apps/v1/deployments?labelSelector={AGENT_LABEL}%3D{NOBODY}");
        loop {
            let list = self.call(Method::GET, &path, "").await?;
            let is_ready = |one: &&Value| one["status"]["readyReplicas"] == 1;
            let items = list["items"].as_array().map(Vec::as_slice);
            if items.unwrap_or_default().iter().filter(is_ready).count() >= many {
                return Ok(began.elapsed().as_secs_f64());
            }
            ensure!(began.elapsed() < limit, "the copies are not ready in time");
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// A workspace's objects as they were applied: paths below the namespace's folder, and bodies.
    async fn pattern(&self, of: &str) -> anyhow::Result<Vec<(String, String, String)>> {
        let namespace = format!("gl-rd-ns-{of}");
        let mut objects = Vec::new();
        for (group, plural) in COLLECTIONS {
            let path =
                format!("/{group}/namespaces/{namespace}/{plural}?labelSelector={AGENT_LABEL}");
            let list = self.call(Method::GET, &path, "").await?;
            let kind = list["kind"].as_str().unwrap_or_default();
            let kind = kind.strip_suffix("List").context("no list")?.to_owned();
            for mut object in list["items"].as_array().cloned().unwrap_or_default() {
                object["apiVersion"] = list["apiVersion"].clone();
                object["kind"] = json!(kind);
                let name = object["metadata"]["name"].as_str().context("no name")?;
                let path = format!("{plural}/{name}");
                let label = |id: &str| format!("{}:{}", json!(AGENT_LABEL), json!(id));
                let id = object["metadata"]["labels"][AGENT_LABEL].as_str();
                let (ours, nobodys) = (label(id.unwrap_or_default()), label(NOBODY));
                let body = as_applied(object).to_string().replace(&ours, &nobodys);
                objects.push((group.to_owned(), path, body));
            }
        }
        ensure!(objects.len() > 2, "{of} has no objects");
        Ok(objects)
    }

    async fn copy(
        &self,
        of: &str,
        number: usize,
        objects: &[(String, String, String)],
    ) -> anyhow::Result<()> {
        let name = format!("copy-{number}");
        let namespace = format!("gl-rd-ns-{name}");
        self.create_namespace(&namespace).await?;
        for (group, path, body) in objects {
            let path = path.replace(of, &name);
            let path = format!(
                "/{group}/namespaces/{namespace}/{path}?fieldManager={FIELD_MANAGER}&force=true"
            );
            self.call(Method::PATCH, &path, &body.replace(of, &name))
                .await?;
        }
        Ok(())
    }

    async fn create_namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.call(Method::POST, "/api/v1/namespaces", &namespace.to_string())
            .await?;
        Ok(())
    }

    /// Watches the Deployments of all workspaces.
    pub(super) async fn watch_replicas(&self) -> anyhow::Result<Watch> {
        let list = "/apis/apps/v1/deployments?limit=1";
        let list = self.call(Method::GET, list, "").await?;
        let version = list["metadata"]["resourceVersion"]
            .as_str()
            .context("no resourceVersion")?;
        let path = format!(
            "/apis/apps/v1/deployments?watch=1&resourceVersion={version}&timeoutSeconds=600"
        );
        let lines = self
            .client
            .request_stream(Request::get(path).body(Vec::new())?)
            .await?
            .lines();
        Ok(Watch {
            lines: Box::pin(lines),
        })
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> anyhow::Result<Value> {
        let content_type = match method {
            Method::PATCH => "application/apply-patch+yaml",
            _ => "application/json",
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .body(body.as_bytes().to_vec())?;
        let answer = self.client.request(request).await;
        answer.with_context(|| path.to_owned())
    }
}

/// Without what the API server and controllers have added.
fn as_applied(mut object: Value) -> Value {
    let metadata = &object["metadata"];
    object["metadata"] = json!({
        "name": metadata["name"], "labels": metadata["labels"], "annotations": metadata["annotations"],
    });
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations
            .retain(|name, _| !name.contains("kubernetes.io/") || name.contains("k8s.io/owning"));
    }
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        for field in ["clusterIP", "clusterIPs", "volumeName"] {
            spec.remove(field);
        }
    }
    object
}

/// Events of Deployments.
pub(super) struct Watch {
    lines: std::pin::Pin<Box<dyn futures::Stream<Item = std::io::Result<String>> + Send>>,
}

impl Watch {
    /// Waits for an event that shows this Deployment with these replicas.
    pub(super) async fn wait(
        &mut self,
        name: &str,
        replicas: u64,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let seen = async {
            while let Some(line) = self.lines.next().await {
                let event: Value = serde_json::from_str(&line?)?;
                let object = &event["object"];
                if object["metadata"]["name"] == name && object["spec"]["replicas"] == replicas {
                    return Ok(());
                }
            }
            bail!("the watch ended")
        };
        timeout(limit, seen)
            .await
            .with_context(|| format!("{name} was not seen with {replicas} replicas"))?
    }
}
