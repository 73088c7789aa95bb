//! Calls through the tunnel to the API server.

use proto::grpctool::http_response;

use crate::fixture::{World, eventually, metric, page};
use crate::kas::{MAKE_REQUEST, header};

#[tokio::test]
async fn a_get_reaches_the_api_server_and_comes_back() {
    let world = World::start().await;
    let headers = [
        ("Accept", "application/json"),
        ("Authorization", "Bearer x"),
    ];
    let path = "/api/v1/pods?labelSelector=a in (b)";
    let answer = world.kas.request("GET", path, &headers, Some(&[])).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.order, "header head data end trailer");
    let seen = answer.json();
    assert_eq!(seen["method"], "GET");
    assert_eq!(
        seen["target"],
        "/api/v1/pods?labelSelector=a%20in%20%28b%29"
    );
    let headers = seen["headers"].to_string();
    assert!(headers.contains("authorization: Bearer the-agents-own"));
    assert!(headers.contains("via: gRPC/1.0 gitlab-agent/v"));
    assert!(!headers.contains("content-length") && !headers.contains("transfer-encoding"));
    assert!(
        answer
            .header("Via")
            .unwrap()
            .starts_with("1.1 gitlab-agent/v")
    );
    metric(
        &world.agent,
        "agent_tunnel_calls_total{service=\"gitlab.agent.kubernetes_api.rpc.KubernetesApi\",outcome=\"succeeded\"} 1",
    )
    .await;
}

#[tokio::test]
async fn many_calls_at_once_are_served() {
    let world = World::start().await;
    let calls = (0..100).map(|number| {
        let kas = &world.kas;
        async move { kas.get(&format!("/call/{number}")).await.json()["target"].clone() }
    });
    let targets = futures::future::join_all(calls).await;
    for (number, target) in targets.iter().enumerate() {
        assert_eq!(*target, format!("/call/{number}"));
    }
}

#[tokio::test]
async fn bodies_are_sent_with_their_length_or_in_chunks() {
    let world = World::start().await;
    let body = vec![b'x'; 300 * 1024];
    let answer = world.kas.request("POST", "/up", &[], Some(&body)).await;
    let seen = answer.json();
    assert_eq!(seen["body_bytes"], body.len());
    assert!(
        seen["headers"]
            .to_string()
            .contains("content-length: 307200")
    );

    let mut tunnel = world.kas.call(MAKE_REQUEST).await;
    tunnel.head("POST", "/up", &[], None).await;
    tunnel.data(&body).await;
    tunnel.end_of_request().await;
    let seen = tunnel.answer().await.json();
    assert_eq!(seen["body_bytes"], body.len());
    assert!(
        seen["headers"]
            .to_string()
            .contains("transfer-encoding: chunked")
    );
}

#[tokio::test]
async fn a_large_answer_comes_whole() {
    let world = World::start().await;
    let answer = world.kas.get("/big?bytes=10000000").await;
    assert_eq!(answer.body.len(), 10_000_000);
}

#[tokio::test]
async fn each_line_of_a_watch_comes_at_once() {
    let world = World::start().await;
    let mut tunnel = world.kas.call(MAKE_REQUEST).await;
    tunnel.head("GET", "/watch", &[], Some(0)).await;
    tunnel.end_of_request().await;
    assert_eq!(tunnel.http_head().await, 200);
    for line in ["one", "two"] {
        world
            .cluster
            .api_server
            .lines
            .send(line.to_owned())
            .unwrap();
        let http_response::Message::Data(data) = tunnel.http_message().await else {
            panic!("no data");
        };
        assert_eq!(data.data, format!("{line}\n"));
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_request() {
    for path in ["/watch", "/silent"] {
        let world = World::start().await;
        let open = world.cluster.api_server.open.clone();
        let mut tunnel = world.kas.call(MAKE_REQUEST).await;
        tunnel.head("GET", path, &[], Some(0)).await;
        tunnel.end_of_request().await;
        eventually("the request", async || *open.borrow() == 1).await;
        if path == "/watch" {
            tunnel.http_head().await;
        }
        tunnel.cancel().await;
        eventually("the end of the request", async || *open.borrow() == 0).await;
        // The pool is whole again.
        assert_eq!(world.kas.get("/after").await.status, 201);
        metric(
            &world.agent,
            "agent_tunnel_calls_total{service=\"gitlab.agent.kubernetes_api.rpc.KubernetesApi\",outcome=\"cancelled\"} 1",
        )
        .await;
    }
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways_and_half_closes() {
    let world = World::start().await;
    let mut tunnel = world.kas.call(MAKE_REQUEST).await;
    let headers = [
        ("Upgrade", "SPDY/3.1"),
        ("Connection", "Upgrade"),
        ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
    ];
    tunnel.head("POST", "/exec", &headers, Some(0)).await;
    tunnel.trailer().await;
    let http_response::Message::Header(head) = tunnel.http_message().await else {
        panic!("no head");
    };
    let head = head.response.unwrap();
    assert_eq!(head.status_code, 101);
    assert!(head.header.iter().any(|entry| entry.key == "Upgrade"));
    assert!(matches!(
        tunnel.http_message().await,
        http_response::Message::Trailer(_)
    ));
    tunnel.upgrade_data(b"abc").await;
    tunnel.close_send().await;
    let mut received = Vec::new();
    while !received.ends_with(b"bye") {
        let http_response::Message::UpgradeData(data) = tunnel.http_message().await else {
            panic!("no upgrade data");
        };
        received.extend_from_slice(&data.data);
    }
    assert_eq!(received, b"hello abcbye");
    let rest = tunnel.answer().await;
    assert_eq!(rest.order, "trailer");
}

#[tokio::test]
async fn an_upgrade_that_is_refused_is_an_ordinary_answer() {
    let world = World::start().await;
    let mut tunnel = world.kas.call(MAKE_REQUEST).await;
    tunnel
        .head("POST", "/no", &[("Upgrade", "SPDY/3.1")], Some(0))
        .await;
    tunnel.trailer().await;
    let answer = tunnel.answer().await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.order, "header head data end trailer");
}

#[tokio::test]
async fn people_run_as_their_service_account_and_may_not_choose() {
    let account = "system:serviceaccount:ns:people".to_owned();
    let world = World::start_with(|config| config.user_access = Some(account)).await;
    let seen = world.kas.get("/api").await.json();
    let impersonated = "impersonate-user: system:serviceaccount:ns:people";
    assert!(seen["headers"].to_string().contains(impersonated));

    let headers = [("Impersonate-User", "system:admin")];
    let answer = world.kas.request("GET", "/api", &headers, Some(&[])).await;
    assert_eq!(answer.status, 403);
    let status = answer.json();
    assert_eq!(status["kind"], "Status");
    assert_eq!(status["reason"], "Forbidden");
    assert!(status["message"].to_string().contains("impersonate-user"));
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_gets_an_error() {
    let world = World::start().await;
    // A body that was not announced.
    let mut tunnel = world.kas.call(MAKE_REQUEST).await;
    tunnel.head("GET", "/silent", &[], Some(0)).await;
    tunnel.data(b"x").await;
    let (code, message) = tunnel.error().await;
    assert_eq!(code, 13);
    assert!(message.contains("data after content_length 0"), "{message}");
    // More than was announced.
    let mut tunnel = world.kas.call(MAKE_REQUEST).await;
    tunnel.head("POST", "/up", &[], Some(1)).await;
    tunnel.data(b"xx").await;
    let (code, message) = tunnel.error().await;
    assert_eq!(code, 13);
    assert!(
        message.contains("more data than content_length"),
        "{message}"
    );
    // Upgrade data without an upgrade.
    let mut tunnel = world.kas.call(MAKE_REQUEST).await;
    tunnel.head("GET", "/silent", &[], Some(0)).await;
    tunnel.trailer().await;
    tunnel.upgrade_data(b"x").await;
    assert_eq!(tunnel.error().await.0, 13);
    // A second head.
    let mut tunnel = world.kas.call(MAKE_REQUEST).await;
    tunnel.head("GET", "/silent", &[], Some(0)).await;
    tunnel.http(header("GET", "/silent", &[], Some(0))).await;
    assert_eq!(tunnel.error().await.0, 13);
    // Others are not concerned.
    assert_eq!(world.kas.get("/after").await.status, 201);
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let world = World::start().await;
    let mut tunnel = world.kas.call("/some.Service/Method").await;
    let (code, message) = tunnel.error().await;
    assert_eq!(code, 12);
    assert!(message.contains("/some.Service/Method"));
}

#[tokio::test]
async fn an_api_server_that_is_away_is_an_error_and_comes_back_by_itself() {
    let cluster = crate::fixture::Cluster::start().await;
    let relay = crate::api_server::Relay::start(cluster.api_server.address).await;
    cluster.lead_to(relay.address);
    let kas = crate::kas::Kas::start().await;
    let agent = crate::fixture::start_agent(cluster.config(kas.address)).await;
    assert_eq!(kas.get("/before").await.status, 201);
    relay.cut().await;
    eventually("an error", async || {
        let (code, message) = kas.get("/during").await.error.unwrap_or_default();
        assert!(
            code == 0 || message.starts_with("gRPC -> HTTP: "),
            "{message}"
        );
        code == 14
    })
    .await;
    assert_eq!(page(&agent, "/readiness").await.0, 200);
    relay.mend().await;
    eventually("the API server's answer", async || {
        kas.get("/after").await.status == 201
    })
    .await;
}
