//! Calls through the tunnel: each reaches the API server as it was sent, and comes back as it was answered.

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client;
use crate::fake_api::{AGENT_API_TOKEN, BANNER};
use crate::rig::{PEOPLE_ACCOUNT, Rig, SOON};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_get_reaches_the_api_server_as_the_people_account() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    let call = rig
        .get(&registered, "/echo/a%2Fb?x=1&x=2&watch=false")
        .await;
    assert_eq!(call.status(), StatusCode::OK);
    assert_eq!(
        call.response.headers()[header::CONTENT_TYPE],
        "application/json"
    );
    let seen = call.json().await;
    assert_eq!(seen["path"], "/echo/a%2Fb?x=1&x=2&watch=false");
    let user = format!("system:serviceaccount:agents:{PEOPLE_ACCOUNT}");
    assert_eq!(
        seen["headers"]["impersonate-user"],
        serde_json::json!([user])
    );
    // The person's token stays at the server, the agent's goes to the API server.
    assert_eq!(
        seen["headers"]["authorization"],
        serde_json::json!([format!("Bearer {AGENT_API_TOKEN}")])
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_the_api_server_is_the_status_of_the_call() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    for code in [200, 204, 404, 409, 500, 503] {
        let call = rig.get(&registered, &format!("/status/{code}")).await;
        assert_eq!(call.status().as_u16(), code);
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_10_mib_passes_both_ways_unchanged() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    let mut body = Vec::with_capacity(10 * MIB);
    while body.len() < 10 * MIB {
        body.extend_from_slice(&u64::try_from(body.len()).unwrap().to_le_bytes());
    }
    let body = Bytes::from(body);
    let call = rig
        .call(
            &registered,
            Method::POST,
            "/echo",
            client::full(body.clone()),
        )
        .await;
    assert_eq!(call.status(), StatusCode::OK);
    let back = call.bytes().await;
    assert_eq!(back.len(), body.len());
    assert!(back == body, "the body has changed on its way");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_brings_each_line_when_it_happens() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    let mut watch = rig.get(&registered, "/watch").await;
    rig.api.wait_open(1).await;
    for line in ["first", "second", "third"] {
        rig.api.emit(line);
        let got = tokio::time::timeout(SOON, watch.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(got, format!("{line}\n"));
    }
    // A stopping agent would wait for it.
    drop(watch);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_at_the_api_server_when_its_client_goes() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    let watch = rig.get(&registered, "/watch").await;
    rig.api.wait_open(1).await;
    drop(watch);
    rig.api.wait_open(0).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_carries_bytes_and_each_end_closes_by_itself() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    let request = rig
        .proxied(&registered, Method::POST, "/exec")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        // Each offered version is a header of its own.
        .header("X-Stream-Protocol-Version", "v4.channel.k8s.io")
        .header("X-Stream-Protocol-Version", "v3.channel.k8s.io")
        .body(client::empty())
        .unwrap();
    let mut call = client::tcp(rig.people_address, request).await.unwrap();
    assert_eq!(call.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(call.response.headers()[header::UPGRADE], "SPDY/3.1");
    assert_eq!(call.response.headers()["x-stream-protocols-offered"], "2");

    let upgraded = hyper::upgrade::on(&mut call.response).await.unwrap();
    let mut stream = hyper_util::rt::TokioIo::new(upgraded);
    let sent: Vec<u8> = (0..MIB).map(|index| (index % 251) as u8).collect();
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let echo = async {
        let mut back = vec![0; sent.len()];
        reader.read_exact(&mut back).await.unwrap();
        // Our end of the stream is closed by now; the other end still has a word to say.
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        (back, rest)
    };
    let send = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let ((back, rest), ()) = tokio::time::timeout(SOON, async { tokio::join!(echo, send) })
        .await
        .unwrap();
    assert!(back == sent, "bytes have changed on their way");
    assert_eq!(rest, b"bye");
    rig.api.wait_open(0).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_passes_with_streams_beside_each_other_and_trailers() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(executor, rig.upgrade(&registered, "/grpc").await)
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let calls = (0..20_u8).map(|number| {
        let mut sender = sender.clone();
        async move {
            let sent = vec![number; 300 * 1024];
            let request = http::Request::post("http://workspace/echo.Echo/Stream")
                .header(header::CONTENT_TYPE, "application/grpc")
                .header(header::TE, "trailers")
                .body(client::full(sent.clone()))
                .unwrap();
            let answer = sender.send_request(request).await.unwrap();
            let answer = answer.into_body().collect().await.unwrap();
            assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
            assert!(answer.to_bytes() == sent, "call {number} got other bytes");
        }
    });
    tokio::time::timeout(SOON, futures::future::join_all(calls))
        .await
        .unwrap();
    drop(sender);
    tokio::time::timeout(SOON, connection)
        .await
        .unwrap()
        .unwrap()
        .ok();
    rig.api.wait_open(0).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_speaks_first_is_heard_at_once() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    let upgraded = rig.upgrade(&registered, "/ssh").await;
    let mut stream = hyper_util::rt::TokioIo::new(upgraded);
    let mut banner = vec![0; BANNER.len()];
    let heard = stream.read_exact(&mut banner);
    tokio::time::timeout(SOON, heard).await.unwrap().unwrap();
    assert_eq!(banner, BANNER);
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    stream.write_all(&every_byte).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, [&every_byte[..], b"bye"].concat());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_impersonates_is_refused() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    for (name, value) in [
        ("Impersonate-User", "system:admin"),
        ("impersonate-group", "system:masters"),
        ("Impersonate-Uid", "1"),
        ("Impersonate-Extra-scopes", "all"),
    ] {
        let request = rig
            .proxied(&registered, Method::GET, "/echo")
            .header(name, value)
            .body(client::empty())
            .unwrap();
        let call = client::tcp(rig.people_address, request).await.unwrap();
        assert_eq!(call.status(), StatusCode::FORBIDDEN, "{name}");
        let status = call.json().await;
        assert_eq!(status["kind"], "Status");
        assert_eq!(status["code"], 403);
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_reach_the_agent_they_name() {
    let rig = Rig::start().await;
    let (first, first_agent) = rig.connected_agent("first").await;
    let (second, second_agent) = rig.connected_agent("second").await;
    assert_ne!(first.id, second.id);
    for agent in [&first, &second] {
        assert_eq!(rig.get(agent, "/version").await.status(), StatusCode::OK);
    }
    second_agent.stop().await;
    rig.wait_connected("second", false).await;
    rig.wait_connected("first", true).await;
    assert_eq!(rig.get(&first, "/version").await.status(), StatusCode::OK);
    let gone = rig.get(&second, "/version").await;
    assert_eq!(gone.status(), StatusCode::BAD_GATEWAY);
    let status = gone.json().await;
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("Agent connection not found"),
        "{status}"
    );
    first_agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_at_once_each_get_their_own_answer() {
    let rig = std::sync::Arc::new(Rig::start().await);
    let (registered, agent) = rig.connected_agent("one").await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..200 {
        let (rig, registered) = (std::sync::Arc::clone(&rig), registered.clone());
        calls.spawn(async move {
            let path = format!("/echo/{number}");
            let seen = rig.get(&registered, &path).await.json().await;
            assert_eq!(seen["path"], path);
        });
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    agent.stop().await;
}
