//! How agents reach the server: directly or in a WebSocket, with and without TLS, all on one port.

use bytes::Bytes;
use http::{Method, StatusCode, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client;
use crate::rig::{Rig, SOON};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn every_transport_carries_calls_of_every_kind() {
    let rig = Rig::start().await;
    let registered = rig.register("one").await;
    let body: Bytes = (0..4 * MIB).map(|index| (index % 251) as u8).collect();
    for scheme in ["grpc", "grpcs", "ws", "wss"] {
        let agent = rig
            .start_agent_with(None, "one", &registered.token, |config| {
                // The server takes any path: proxies in front may leave it on or take it off.
                let path = if scheme.starts_with("ws") {
                    "/-/kubernetes-agent/"
                } else {
                    ""
                };
                let address = format!("{scheme}://{}{path}", rig.agents_address);
                config.kas_address = address.parse().unwrap();
                config.kas_tls.ca_cert_file = Some(rig.server_ca());
            })
            .await;
        rig.wait_connected("one", true).await;
        let call = rig.get(&registered, "/version").await;
        assert_eq!(call.status(), StatusCode::OK, "{scheme}");
        let call = rig
            .call(
                &registered,
                Method::POST,
                "/echo",
                client::full(body.clone()),
            )
            .await;
        assert!(call.bytes().await == body, "{scheme}: the body has changed");
        let mut watch = rig.get(&registered, "/watch").await;
        rig.api.wait_open(1).await;
        rig.api.emit("news");
        let line = tokio::time::timeout(SOON, watch.next()).await.unwrap();
        assert_eq!(line.unwrap().unwrap(), "news\n", "{scheme}");
        drop(watch);
        rig.api.wait_open(0).await;
        agent.stop().await;
        rig.wait_connected("one", false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_in_a_websocket_is_back_after_the_servers_restart() {
    let mut rig = Rig::start().await;
    let registered = rig.register("one").await;
    let address = format!("ws://{}/", rig.agents_address);
    let agent = rig
        .start_agent_with(None, "one", &registered.token, |config| {
            config.kas_address = address.parse().unwrap();
        })
        .await;
    rig.wait_connected("one", true).await;
    rig.stop_server().await;
    rig.start_server().await;
    rig.wait_connected("one", true).await;
    let call = rig.get(&registered, "/version").await;
    assert_eq!(call.status(), StatusCode::OK);
    agent.stop().await;
}

/// Sends a head to the agents' port, and reads the answer to its end.
async fn answer(rig: &Rig, head: &str) -> String {
    let mut stream = TcpStream::connect(rig.agents_address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut text))
        .await
        .expect("the connection ends")
        .unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_to_the_agents_port_by_mistake_is_told_so() {
    let rig = Rig::start().await;
    let text = answer(&rig, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 426 "), "{text}");
    assert!(text.contains("This port is for agents"), "{text}");
    let other = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}: Upgrade\r\n{}: websocket\r\n{}: 13\r\n{}: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        header::CONNECTION,
        header::UPGRADE,
        header::SEC_WEBSOCKET_VERSION,
        header::SEC_WEBSOCKET_KEY,
    );
    let text = answer(&rig, &other).await;
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    assert!(text.contains("ws-tunnel is not offered"), "{text}");
}
