//! What agents see: who they are, their configuration, the end of their token.

use http::Method;
use tonic::Code;

use crate::{
    agent::{ScriptedAgent, next_configuration, nothing_comes},
    support::{LIMIT, TestServer, collect, no_body, person, proxied},
};

#[tokio::test]
async fn only_a_token_of_an_agent_lets_in() {
    let server = TestServer::start().await;
    server.create_agent("a", None).await;
    let (_, personal) = server.create_token().await;
    for token in ["", "glagent-wrong", &personal] {
        let agent = ScriptedAgent::connect(server.server.agents, token).await;
        let refused = agent.configuration("").await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::Unauthenticated, "unauthenticated")
        );
        assert_eq!(
            agent.register().await.unwrap_err().code(),
            Code::Unauthenticated
        );
    }
}

#[tokio::test]
async fn an_agent_without_a_project_gets_who_it_is_and_is_seen() {
    let server = TestServer::start().await;
    let created = server.create_agent("a", None).await;
    assert_eq!(server.show_agent("a").await["connected"], false);
    let agent = ScriptedAgent::connect(server.server.agents, &created.token).await;
    agent.register().await.unwrap();
    let mut stream = agent.configuration("").await.unwrap();
    let first = next_configuration(&mut stream).await.unwrap().unwrap();
    assert!(!first.commit_id.is_empty());
    let configuration = first.configuration.unwrap();
    assert_eq!(configuration.agent_id as u64, created.id);
    assert!(
        configuration
            .gitlab_external_url
            .starts_with("https://127.0.0.1:")
    );
    nothing_comes(&mut stream).await;

    let seen = server.show_agent("a").await;
    assert_eq!(seen["connected"], true);
    assert_eq!(seen["pods"][0]["pod_name"], "pod");
    assert!(seen["tokens"][0]["last_used_at"].is_string());

    // It has this commit already.
    let mut again = agent.configuration(&first.commit_id).await.unwrap();
    nothing_comes(&mut again).await;
    drop((stream, again));
    server
        .wait_for_agent("a", |agent| agent["connected"] == false)
        .await;
}

#[tokio::test]
async fn agents_connect_over_tls_on_the_same_port() {
    let server = TestServer::start().await;
    let created = server.create_agent("a", None).await;
    let ca = std::fs::read_to_string(server.data_dir().join("tls/ca.crt")).unwrap();
    let agent = ScriptedAgent::connect_tls(server.server.agents, &created.token, &ca).await;
    let mut stream = agent.configuration("").await.unwrap();
    next_configuration(&mut stream).await.unwrap().unwrap();
}

#[tokio::test]
async fn given_certificate_files_take_the_place_of_the_own_ca() {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = TestServer::start_with(|config| {
        config.tls_cert_file = Some(certificate);
        config.tls_key_file = Some(key);
    })
    .await;
    assert!(!server.data_dir().join("tls/ca.crt").exists());
    let created = server.create_agent("a", None).await;
    let pem = made.cert.pem();
    let agent = ScriptedAgent::connect_tls(server.server.agents, &created.token, &pem).await;
    let mut stream = agent.configuration("").await.unwrap();
    next_configuration(&mut stream).await.unwrap().unwrap();
    // What kubeconfigs and `kas-stub ca` tell people to trust.
    let told = server.admin(Method::GET, "/api/v1/server", None).await;
    assert_eq!(told.json()["ca_certificate"], pem.as_str());
}

#[tokio::test]
async fn revoking_a_token_cuts_its_streams_and_no_others() {
    let server = TestServer::start().await;
    let created = server.create_agent("a", None).await;
    let answer = server
        .admin(Method::POST, "/api/v1/agents/a/tokens", None)
        .await;
    let second_token = answer.json()["token"].as_str().unwrap().to_owned();
    let first = ScriptedAgent::connect(server.server.agents, &created.token).await;
    let second = ScriptedAgent::connect(server.server.agents, &second_token).await;
    let mut first_stream = first.configuration("").await.unwrap();
    next_configuration(&mut first_stream).await.unwrap();
    let mut second_stream = second.configuration("").await.unwrap();
    next_configuration(&mut second_stream).await.unwrap();
    let mut tunnel = first.tunnel().await;

    let id = server.show_agent("a").await["tokens"][0]["id"].clone();
    let path = format!("/api/v1/agents/a/tokens/{id}");
    let revoked = server.admin(Method::DELETE, &path, None).await;
    assert!(
        revoked.json()["revoked_at"].is_string(),
        "{}",
        revoked.text()
    );

    let cut = next_configuration(&mut first_stream).await.unwrap_err();
    assert_eq!(cut.code(), Code::Unauthenticated);
    assert_eq!(tunnel.ended().await, Code::Unauthenticated);
    nothing_comes(&mut second_stream).await;
    let refused = first.configuration("").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_old_connection_takes_nothing_new_and_carries_its_calls_to_their_end() {
    let server = TestServer::start_with(|config| config.agent_connection_age_s = 1).await;
    let created = server.create_agent("a", None).await;
    let (_, token) = server.create_token().await;
    let agent = ScriptedAgent::connect(server.server.agents, &created.token).await;
    let mut tunnel = agent.tunnel().await;
    let mut person = person(server.server.people).await;
    let request = proxied(created.id, &token, Method::GET, "/x")
        .body(no_body())
        .unwrap();
    let answered = tokio::spawn(person.send_request(request));
    tunnel.request().await;
    let mut idle = agent.tunnel().await;
    let mut stream = agent.configuration("").await.unwrap();
    next_configuration(&mut stream).await.unwrap();

    // What only waits ends without an error, to be opened on another connection.
    assert!(next_configuration(&mut stream).await.unwrap().is_none());
    assert_eq!(idle.ended().await, Code::Ok);
    // The client may still be about to close its end of the old connection.
    let began = std::time::Instant::now();
    while agent.register().await.is_err() {
        assert!(began.elapsed() < LIMIT, "no new connection");
    }
    let other = agent.configuration("").await.unwrap();
    let shown = server.admin(Method::GET, "/api/v1/agents/a", None).await;
    assert_eq!(shown.json()["connected"], true);
    drop(other);
    // The call of before goes on.
    tunnel.answer_head(200, &[("Content-Length", "2")]).await;
    tunnel.answer_data("ok").await;
    tunnel.answer_trailer().await;
    assert_eq!(collect(answered.await.unwrap().unwrap()).await.text(), "ok");
    assert_eq!(tunnel.finish().await, Code::Ok);
}
