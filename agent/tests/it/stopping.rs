//! How the agent stops.

use std::time::Duration;

use proto::grpctool::http_response;
use proto::reverse_tunnel::rpc::connect_request;

use crate::fixture::{World, eventually, page, within};
use crate::kas::MAKE_REQUEST;

#[tokio::test]
async fn a_draining_agent_finishes_calls_and_refuses_new_ones() {
    let World {
        kas,
        cluster,
        agent,
    } = World::start().await;
    let mut active = kas.call(MAKE_REQUEST).await;
    active.head("GET", "/watch", &[], Some(0)).await;
    active.end_of_request().await;
    assert_eq!(active.http_head().await, 200);
    let mut idle = kas.tunnel().await;

    let observability = agent.observability;
    let stopping = tokio::spawn(agent.stop());
    // An idle tunnel says that it is going, so that a request on its way is tried elsewhere.
    let (code, message) = idle.error().await;
    assert_eq!((code, message.as_str()), (14, "agent is draining"));
    assert!(idle.frame().await.is_none());
    eventually("unregistration", async || {
        kas.script.unregistered.lock().unwrap().len() == 1
    })
    .await;
    // Probes see it.
    let mut probe = tokio::net::TcpStream::connect(observability).await.unwrap();
    let mut answer = String::new();
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    probe
        .write_all(b"GET /readiness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    probe.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("503") && answer.contains("draining"));

    // The call goes on, and ends well.
    cluster.api_server.lines.send("late".to_owned()).unwrap();
    let http_response::Message::Data(data) = active.http_message().await else {
        panic!("no data");
    };
    assert_eq!(data.data, "late\n");
    assert!(!stopping.is_finished());
    active.cancel().await;
    within("the agent's end", stopping).await.unwrap();
    assert!(tokio::net::TcpStream::connect(observability).await.is_err());
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_at_the_deadline() {
    let World {
        kas,
        cluster,
        agent,
    } = World::start_with(|config| config.drain_timeout = Duration::from_millis(200)).await;
    let mut active = kas.call(MAKE_REQUEST).await;
    active.head("GET", "/silent", &[], Some(0)).await;
    let open = cluster.api_server.open.clone();
    eventually("the request", async || *open.borrow() == 1).await;
    within("the agent's end", agent.stop()).await;
    eventually("the end of the request", async || *open.borrow() == 0).await;
}

#[tokio::test]
async fn an_aborted_agent_is_gone_at_once() {
    let world = World::start().await;
    let mut active = world.kas.call(MAKE_REQUEST).await;
    active.head("GET", "/silent", &[], Some(0)).await;
    let open = world.cluster.api_server.open.clone();
    eventually("the request", async || *open.borrow() == 1).await;
    world.agent.abort();
    eventually("the end of the request", async || *open.borrow() == 0).await;
}

#[tokio::test]
async fn a_call_that_crosses_the_drain_is_refused_cleanly() {
    let World {
        kas,
        cluster: _cluster,
        agent,
    } = World::start().await;
    let mut tunnel = kas.tunnel().await;
    eventually("readiness", async || {
        page(&agent, "/readiness").await.0 == 200
    })
    .await;
    let stopping = tokio::spawn(agent.stop());
    // The agent's error is already on its way when this is sent.
    assert!(matches!(
        tunnel.frame().await,
        Some(connect_request::Msg::Error(_))
    ));
    tunnel.request_info(MAKE_REQUEST).await;
    assert!(tunnel.frame().await.is_none());
    within("the agent's end", stopping).await.unwrap();
}
