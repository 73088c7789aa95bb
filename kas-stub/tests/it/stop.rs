//! Starting and stopping.

use std::time::{Duration, Instant};

use http::Method;
use kas_stub::{app, config::ServeConfig};
use tonic::Code;

use crate::{
    agent::{ScriptedAgent, next_configuration},
    support::{LIMIT, TestServer, collect, no_body, person, proxied},
};

#[tokio::test]
async fn an_idle_server_stops_at_once_and_lets_its_agents_go_with_ok() {
    let server = TestServer::start().await;
    let created = server.create_agent("a", None).await;
    let agent = ScriptedAgent::connect(server.server.agents, &created.token).await;
    let mut stream = agent.configuration("").await.unwrap();
    next_configuration(&mut stream).await.unwrap();
    let mut tunnel = agent.tunnel().await;
    let idle_person = person(server.server.people).await;
    let watched =
        tokio::spawn(async move { (next_configuration(&mut stream).await, tunnel.ended().await) });
    let began = Instant::now();
    server.server.stop().await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    let (configuration, tunnel) = watched.await.unwrap();
    assert!(configuration.unwrap().is_none());
    assert_eq!(tunnel, Code::Ok);
    drop(idle_person);
}

#[tokio::test]
async fn a_running_request_may_end_while_the_server_stops() {
    let server = TestServer::start().await;
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
    let stopping = tokio::spawn(server.server.stop());
    tokio::time::sleep(Duration::from_millis(100)).await;
    tunnel.answer_head(200, &[("Content-Length", "2")]).await;
    tunnel.answer_data("ok").await;
    tunnel.answer_trailer().await;
    assert_eq!(collect(answered.await.unwrap().unwrap()).await.text(), "ok");
    assert_eq!(tunnel.finish().await, Code::Ok);
    tokio::time::timeout(LIMIT, stopping)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_request_without_end_is_cut_after_the_grace() {
    let server = TestServer::start().await;
    let created = server.create_agent("a", None).await;
    let (_, token) = server.create_token().await;
    let agent = ScriptedAgent::connect(server.server.agents, &created.token).await;
    let mut tunnel = agent.tunnel().await;
    let mut person = person(server.server.people).await;
    let request = proxied(created.id, &token, Method::GET, "/watch")
        .body(no_body())
        .unwrap();
    let answered = tokio::spawn(person.send_request(request));
    tunnel.request().await;
    let began = Instant::now();
    server.server.stop().await;
    let took = began.elapsed();
    assert!((2..4).contains(&took.as_secs()), "{took:?}");
    // Which of its two connections ended first is chance: no answer, or one that says so.
    if let Ok(response) = answered.await.unwrap() {
        assert!(response.status().is_server_error());
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let server = TestServer::start().await;
    let created = server.create_agent("a", None).await;
    assert!(server.server.sign_in_link.is_some());
    let TestServer { server, folder } = server;
    server.stop().await;
    let server = TestServer::start_in(folder, |_| {}).await;
    assert!(server.server.sign_in_link.is_none());
    assert_eq!(server.show_agent("a").await["id"], created.id);
    let agent = ScriptedAgent::connect(server.server.agents, &created.token).await;
    agent.register().await.unwrap();
}

#[tokio::test]
async fn one_data_folder_has_one_server() {
    let server = TestServer::start().await;
    let second = app::start(ServeConfig::local(server.data_dir())).await;
    let refused = second.unwrap_err().to_string();
    assert!(refused.contains("another server runs"), "{refused}");
}
