//! Both halves of GitLab's JSON reconcile against each other: between agent and server stands one that does not let our
//! own service through, as an older server would. The cluster is a fake that keeps objects; no controller runs in it.

use std::convert::Infallible;
use std::net::SocketAddr;

use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::git::Repository;
use crate::objects::Objects;
use crate::rig::{Rig, SOON};

const DEVFILE: &str = "\
schemaVersion: 2.2.0
metadata: { name: app }
components:
- name: tools
  container: { image: localhost/tools:1 }
";
const NAMESPACE: &str = "gl-rd-ns-one";

/// Everything passes but our own service.
async fn without_typed_reconcile(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(behind) = TcpStream::connect(server).await else {
                continue;
            };
            let client =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(behind));
            let (sender, connection) = client.await.unwrap();
            tokio::spawn(connection);
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let mut sender = sender.clone();
                async move {
                    if request
                        .uri()
                        .path()
                        .starts_with("/remote_development.rpc.RemoteDevelopment/")
                    {
                        let unimplemented = Response::builder()
                            .header("content-type", "application/grpc")
                            .header("grpc-status", "12");
                        let nothing =
                            BoxBody::new(Empty::new().map_err(|never: Infallible| match never {}));
                        return Ok(unimplemented.body(nothing).unwrap());
                    }
                    sender
                        .send_request(request)
                        .await
                        .map(|it| it.map(BoxBody::new))
                }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// Waits until the workspace is as asked, by the API.
async fn wait_for(rig: &Rig, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let end = tokio::time::Instant::now() + SOON;
    loop {
        let workspace = rig
            .admin(Method::GET, "/api/v1/workspaces/one", Value::Null)
            .await;
        if is(&workspace) {
            return workspace;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "not {what}: {workspace:#}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn wait_for_state(rig: &Rig, state: &str) {
    wait_for(rig, state, |workspace| workspace["actual_state"] == state).await;
}

/// A Deployment with so many replicas wanted.
async fn wait_for_replicas(objects: &Objects, replicas: u64) {
    let end = tokio::time::Instant::now() + SOON;
    loop {
        let deployment = objects.get("deployments", NAMESPACE, "one");
        if deployment.is_some_and(|it| it["spec"]["replicas"] == replicas) {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{:?}", objects.writes());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_workspace_lives_from_creation_to_its_end() {
    let rig = Rig::start().await;
    let repository = Repository::serve(DEVFILE).await;
    let objects = Objects::start().await;
    let registered = rig.register_for_workspaces("a", &repository.url).await;
    let wanted = json!({"name": "one", "agent": "a", "repository": repository.url});
    rig.admin(Method::POST, "/api/v1/workspaces", wanted).await;
    let server = without_typed_reconcile(rig.agents_address).await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = objects.kubeconfig(folder.path());
    let agent = rig.start_agent_with(None, "a", &registered.token, |config| {
        config.kas_address = format!("grpc://{server}").parse().unwrap();
        config.cluster.kubeconfig = Some(kubeconfig);
    });
    let agent = agent.await;

    wait_for_replicas(&objects, 1).await;
    objects.set_deployment("one", 1, "NewReplicaSetAvailable");
    wait_for_state(&rig, "Running").await;
    let shown = rig
        .admin(Method::GET, "/api/v1/workspaces/one", Value::Null)
        .await;
    assert_eq!(
        (&shown["agent_connected"], &shown["failures"]),
        (&json!(true), &json!([]))
    );
    let applied = objects.names(NAMESPACE);

    rig.admin(Method::POST, "/api/v1/workspaces/one/restart", Value::Null)
        .await;
    wait_for_replicas(&objects, 0).await;
    objects.set_deployment("one", 0, "NewReplicaSetAvailable");
    wait_for_replicas(&objects, 1).await;
    objects.set_deployment("one", 1, "NewReplicaSetAvailable");
    wait_for_state(&rig, "Running").await;

    rig.admin(Method::POST, "/api/v1/workspaces/one/stop", Value::Null)
        .await;
    wait_for_replicas(&objects, 0).await;
    objects.set_deployment("one", 0, "NewReplicaSetAvailable");
    wait_for_state(&rig, "Stopped").await;
    assert_eq!(
        objects.names(NAMESPACE),
        applied,
        "a stop takes nothing away"
    );

    rig.admin(Method::DELETE, "/api/v1/workspaces/one", Value::Null)
        .await;
    wait_for_state(&rig, "Terminated").await;
    assert_eq!(objects.get("namespaces", "", NAMESPACE), None);
    agent.stop().await;
}
