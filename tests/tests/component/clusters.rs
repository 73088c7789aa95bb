//! One token in two clusters (field report B07). The clusters are fakes that differ in their CA certificate, by which alone
//! they are told apart.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;

use crate::rig::{Rig, id_of};

/// A refused agent asks again after 5 s, and then ever later.
const ASKS_AGAIN: Duration = Duration::from_secs(60);

fn ca() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.self_signed(&key).unwrap().pem()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_cluster_under_one_token_is_refused_until_it_is_accepted() {
    let rig = Rig::start().await;
    let one = rig.register("one").await;
    let (x, y) = (ca(), ca());
    let first = rig.start_agent_in(Some(&x), "x-1", &one.token).await;
    rig.wait_connected("one", true).await;
    let second = rig.start_agent_in(Some(&y), "y", &one.token).await;
    let shown = rig
        .wait_agent("one", "told of the second", |agent| {
            !agent["cluster"]["refused"].is_null()
        })
        .await;
    let (id, other) = (&shown["cluster"], &shown["cluster"]["refused"]);
    assert_ne!(id_of(id), id_of(other));
    // Replicas of the first cluster go on, and more of them come.
    let replica = rig.start_agent_in(Some(&x), "x-2", &one.token).await;
    let pods = |agent: &Value| -> Vec<String> {
        let pods = agent["pods"].as_array().unwrap();
        let name = |pod: &Value| pod["pod_name"].as_str().unwrap().to_owned();
        pods.iter().map(name).collect()
    };
    rig.wait_agent("one", "two Pods", |agent| pods(agent) == ["x-1", "x-2"])
        .await;
    assert_eq!(rig.get(&one, "/version").await.status(), StatusCode::OK);

    let path = "/api/v1/agents/one/accept-cluster";
    let (status, answer) = rig.try_admin(Method::POST, path, Value::Null).await;
    assert_eq!(
        (status, answer["code"].as_str()),
        (StatusCode::CONFLICT, Some("agent_connected"))
    );
    first.stop().await;
    replica.stop().await;
    rig.wait_agent("one", "gone", |agent| pods(agent).is_empty())
        .await;
    let accepted = rig.admin(Method::POST, path, Value::Null).await;
    assert_eq!(id_of(&accepted), id_of(other));
    rig.wait_agent_for(ASKS_AGAIN, "one", "connected from there", |agent| {
        pods(agent) == ["y"]
    })
    .await;
    assert_eq!(rig.get(&one, "/version").await.status(), StatusCode::OK);
    let (status, _) = rig.try_admin(Method::POST, path, Value::Null).await;
    assert_eq!(status, StatusCode::CONFLICT);
    second.stop().await;
}
