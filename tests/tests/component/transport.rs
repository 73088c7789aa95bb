//! How agents reach the server: directly or in a WebSocket, with and without TLS, all on one port.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
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

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, content.len() as u8, kind, flags, 0, 0, 0, stream];
    frame.extend_from_slice(content);
    frame
}

/// GitLab's agent sends the whole of its address as `:authority`, which no Rust client can: the bytes are written out.
#[tokio::test(flavor = "multi_thread")]
async fn gitlabs_agent_in_a_websocket_gets_an_answer() {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const END_OF_STREAM_AND_HEADERS: u8 = 5;
    let rig = Rig::start().await;
    let stream = TcpStream::connect(rig.agents_address).await.unwrap();
    let target = wstunnel::Target {
        authority: rig.agents_address.to_string(),
        path: "/".to_owned(),
        headers: HeaderMap::new(),
    };
    let mut tunnel = wstunnel::connect(stream, &target).await.unwrap();
    // :method POST, :scheme http, :path and :authority as literals without Huffman's code.
    let mut request = vec![0x83, 0x86];
    for (name, value) in [
        (
            0x44,
            "/gitlab.agent.agent_registrar.rpc.AgentRegistrar/Register",
        ),
        (0x41, "ws:%2F%2Fkas%2F"),
    ] {
        request.extend_from_slice(&[name, value.len() as u8]);
        request.extend_from_slice(value.as_bytes());
    }
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[]));
    sent.extend(frame(HEADERS, END_OF_STREAM_AND_HEADERS, 1, &request));
    tunnel.write_all(&sent).await.unwrap();
    tunnel.flush().await.unwrap();
    let answered = async {
        loop {
            let mut head = [0; 9];
            tunnel.read_exact(&mut head).await.unwrap();
            let mut content = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            tunnel.read_exact(&mut content).await.unwrap();
            if head[8] == 1 {
                return head[3];
            }
        }
    };
    let kind = tokio::time::timeout(SOON, answered).await.unwrap();
    // "unauthenticated", and no reset.
    assert_eq!(kind, HEADERS);
}
