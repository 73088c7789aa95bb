//! Tokens that are not right, and the other side going away and coming back.

use std::time::{Duration, Instant};

use http::{Method, StatusCode, header};
use serde_json::Value;

use crate::client;
use crate::rig::{Rig, SOON, id_of};

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_token_does_not_connect_and_a_right_one_does() {
    let rig = Rig::start().await;
    let registered = rig.register("one").await;
    let stranger = rig
        .start_agent(
            "stranger",
            "glagent-00000000000000000000000000000000000000000000",
        )
        .await;
    let (_, neighbour) = rig.connected_agent("neighbour").await;
    // Both dialled the same server; the neighbour came through, so the stranger had its chance.
    let shown = rig
        .admin(Method::GET, "/api/v1/agents/one", Value::Null)
        .await;
    assert_eq!(shown["connected"], false);
    stranger.stop().await;
    let agent = rig.start_agent("one", &registered.token).await;
    rig.wait_connected("one", true).await;
    agent.stop().await;
    neighbour.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_the_token_cuts_open_streams_within_5_s() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    let mut watch = rig.get(&registered, "/watch").await;
    rig.api.wait_open(1).await;
    rig.revoke_agent_token("one", 0).await;
    let revoked = Instant::now();
    let end = tokio::time::timeout(Duration::from_secs(5), async {
        while let Some(Ok(_)) = watch.next().await {}
    });
    end.await.expect("the open watch ends");
    rig.api.wait_open(0).await;
    rig.wait_connected("one", false).await;
    assert!(
        revoked.elapsed() < Duration::from_secs(5),
        "{:?}",
        revoked.elapsed()
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_wrong_or_revoked_token_is_unauthorized() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    for wrong in [
        format!("Bearer pat:{}:rdpat-wrong", registered.id),
        format!("Bearer pat:{}:", registered.id),
        "Bearer pat::".to_owned(),
        format!("Bearer {}", rig.person),
        "Basic YTpi".to_owned(),
    ] {
        let request = client::request(Method::GET, "/k8s-proxy/version")
            .header(header::AUTHORIZATION, &wrong)
            .body(client::empty())
            .unwrap();
        let call = client::tcp(rig.people_address, request).await.unwrap();
        assert_eq!(call.status(), StatusCode::UNAUTHORIZED, "{wrong}");
        assert_eq!(call.response.headers()["gitlab-unauthorized"], "true");
        assert_eq!(call.json().await["kind"], "Status");
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_in_the_file_brings_a_revoked_agent_back() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    rig.revoke_agent_token("one", 0).await;
    rig.wait_connected("one", false).await;
    let new = rig
        .admin(Method::POST, "/api/v1/agents/one/tokens", Value::Null)
        .await;
    rig.write_token("one", new["token"].as_str().unwrap());
    rig.wait_connected("one", true).await;
    assert_eq!(
        rig.get(&registered, "/version").await.status(),
        StatusCode::OK
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_persons_token_cuts_their_open_streams_within_5_s() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    let mut watch = rig.get(&registered, "/watch").await;
    rig.api.wait_open(1).await;
    let tokens = rig.admin(Method::GET, "/api/v1/tokens", Value::Null).await;
    let tokens = tokens
        .as_array()
        .or_else(|| tokens["tokens"].as_array())
        .unwrap();
    let id = id_of(&tokens[0]);
    rig.admin(Method::DELETE, &format!("/api/v1/tokens/{id}"), Value::Null)
        .await;
    tokio::time::timeout(Duration::from_secs(5), async {
        while let Some(Ok(_)) = watch.next().await {}
    })
    .await
    .expect("the open watch ends");
    rig.api.wait_open(0).await;
    assert_eq!(
        rig.get(&registered, "/version").await.status(),
        StatusCode::UNAUTHORIZED
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn works_within_1_s_of_the_servers_return() {
    let mut rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    rig.stop_server().await;
    rig.start_server().await;
    let back = Instant::now();
    assert_eq!(
        rig.get(&registered, "/version").await.status(),
        StatusCode::OK
    );
    assert!(
        back.elapsed() <= Duration::from_secs(1),
        "{:?}",
        back.elapsed()
    );
    rig.wait_connected("one", true).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_agent_finishes_what_it_carries() {
    let rig = Rig::start().await;
    let (registered, first) = rig.connected_agent("one").await;
    let mut watch = rig.get(&registered, "/watch").await;
    rig.api.wait_open(1).await;
    // A second Pod of the same agent.
    let second = rig.start_agent("another-pod", &registered.token).await;
    rig.wait_agent("one", "two Pods", |agent| {
        agent["pods"].as_array().map(Vec::len) == Some(2)
    })
    .await;

    let stopping = tokio::spawn(first.stop());
    rig.wait_agent("one", "one Pod", |agent| {
        agent["pods"].as_array().map(Vec::len) == Some(1)
    })
    .await;
    // New calls go to the other Pod; the old watch still lives.
    for _ in 0..20 {
        assert_eq!(
            rig.get(&registered, "/version").await.status(),
            StatusCode::OK
        );
    }
    rig.api.emit("still here");
    let line = tokio::time::timeout(SOON, watch.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(line, "still here\n");
    drop(watch);
    tokio::time::timeout(SOON, stopping)
        .await
        .expect("drained")
        .unwrap();
    second.stop().await;
}
