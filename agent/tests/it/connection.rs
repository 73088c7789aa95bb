//! The connection to the server: how it begins, breaks, and comes back.

use std::net::SocketAddr;
use std::time::Duration;

use agent::config::{KasHeader, Secret, TokenSource};
use proto::agentcfg::LogLevel;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::Identity;

use crate::api_server::Relay;
use crate::fixture::{
    Certificate, Cluster, Log, World, eventually, metric, page, start_agent, within,
};
use crate::kas::{BACK_WITHIN, Kas, configuration};

#[tokio::test]
async fn the_agent_presents_itself() {
    let world = World::start().await;
    let tunnel = world.kas.tunnel().await;
    assert_eq!(
        tunnel.services,
        [
            "/gitlab.agent.kubernetes_api.rpc.KubernetesApi/MakeRequest",
            "/remote_development.rpc.WorkspaceAccess/Dial",
        ]
    );
    let script = &world.kas.script;
    eventually("a registration with the cluster's version", async || {
        script.registered.lock().unwrap().iter().any(|request| {
            let meta = request.agent_meta.clone().unwrap();
            let version = meta.kubernetes_version.unwrap();
            meta.pod_name == "agent-0" && version.git_version == "v1.33.1" && request.pod_id > 0
        })
    })
    .await;
    let requests = script.configuration_requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].skip_register && requests[0].commit_id.is_empty());
}

#[tokio::test]
async fn probes_tell_when_the_agent_is_of_use() {
    let cluster = Cluster::start().await;
    let kas = Kas::start().await;
    *kas.script.token.lock().unwrap() = "another".to_owned();
    let agent = start_agent(cluster.config(kas.address)).await;
    assert_eq!(page(&agent, "/liveness").await.0, 200);
    let (status, reason) = page(&agent, "/readiness").await;
    assert_eq!(status, 503);
    assert!(reason.contains("no configuration"), "{reason}");
    drop(agent);

    let world = World::start().await;
    eventually("readiness", async || {
        page(&world.agent, "/readiness").await.0 == 200
    })
    .await;
    metric(&world.agent, "agent_configuration_info{commit=\"c1\"} 1").await;
    metric(&world.agent, "agent_tunnel_connections{state=\"idle\"} 2").await;
}

#[tokio::test]
async fn a_changed_configuration_takes_effect() {
    let world = World::start().await;
    metric(&world.agent, "agent_log_level_info{level=\"info\"} 1").await;
    let changed = configuration("c2", LogLevel::Debug);
    world.kas.script.configuration.send(changed).unwrap();
    metric(&world.agent, "agent_log_level_info{level=\"debug\"} 1").await;
    metric(&world.agent, "agent_configuration_info{commit=\"c2\"} 1").await;
}

#[tokio::test]
async fn an_unknown_token_is_said_once_and_a_new_one_taken_up() {
    let log = Log::of_this_test();
    let cluster = Cluster::start().await;
    let kas = Kas::start().await;
    let token = cluster.folder.path().join("token");
    std::fs::write(&token, "glagent-old").unwrap();
    let mut config = cluster.config(kas.address);
    config.token = TokenSource::File(token.clone());
    let agent = start_agent(config).await;
    // The control connection and two tunnels are refused.
    eventually("refusals", async || {
        *kas.script.refused.lock().unwrap() >= 3
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(log.with("refuses the agent's token").len(), 1);
    let refused = *kas.script.refused.lock().unwrap();
    assert!(refused <= 3, "{refused} calls in the first moment");

    std::fs::write(&token, "good").unwrap();
    eventually("readiness", async || {
        page(&agent, "/readiness").await.0 == 200
    })
    .await;
    assert_eq!(log.with("the server answers again").len(), 1);
    assert_eq!(log.with("refuses the agent's token").len(), 1);
    assert_eq!(log.with("glagent-old").len(), 0);
}

#[tokio::test]
async fn a_server_that_was_killed_is_used_again_within_a_second_of_its_return() {
    let log = Log::of_this_test();
    let cluster = Cluster::start().await;
    let kas = Kas::start().await;
    let relay = Relay::start(kas.address).await;
    let agent = start_agent(cluster.config(relay.address)).await;
    assert_eq!(kas.get("/before").await.status, 201);
    metric(&agent, "agent_kas_connected 1").await;
    let registered = kas.script.registered.lock().unwrap().len();

    relay.cut().await;
    eventually("unreadiness", async || {
        page(&agent, "/readiness").await.0 == 503
    })
    .await;
    // Long enough for the delays to have grown.
    tokio::time::sleep(Duration::from_secs(3)).await;
    kas.forget_tunnels().await;
    relay.mend().await;
    let back = eventually("the agent's return", async || {
        page(&agent, "/readiness").await.0 == 200
    })
    .await;
    assert!(back < BACK_WITHIN, "back after {back:?}");
    let served = std::time::Instant::now();
    assert_eq!(kas.get("/after").await.status, 201);
    assert!(served.elapsed() < BACK_WITHIN);
    // The commit is known: the server need not send the configuration again. The Pod is made known anew.
    eventually("a registration", async || {
        kas.script.registered.lock().unwrap().len() > registered
    })
    .await;
    let requests = kas.script.configuration_requests.lock().unwrap().clone();
    assert_eq!(requests.last().unwrap().commit_id, "c1");
    assert_eq!(log.with("no connection to the server").len(), 1);
    assert_eq!(log.with("the server answers again").len(), 1);
}

#[tokio::test]
async fn tls_is_checked_against_the_given_authority_and_name() {
    let certificate = Certificate::new("kas.example.com");
    let identity = Identity::from_pem(&certificate.pem, &certificate.key_pem);
    let kas = Kas::start_with(Some(identity)).await;
    let cluster = Cluster::start().await;
    let ca = cluster.folder.path().join("kas-ca.crt");
    std::fs::write(&ca, &certificate.pem).unwrap();
    let secure = |name: Option<&str>, skip: bool| {
        let mut config = cluster.config(kas.address);
        config.kas_address = format!("grpcs://{}", kas.address).parse().unwrap();
        config.kas_tls.ca_cert_file = (!skip).then(|| ca.clone());
        config.kas_tls.server_name = name.map(str::to_owned);
        config.kas_tls.insecure_skip_verify = skip;
        config
    };

    let agent = start_agent(secure(Some("kas.example.com"), false)).await;
    assert_eq!(kas.get("/").await.status, 201);
    drop(agent);
    kas.forget_tunnels().await;

    let agent = start_agent(secure(None, true)).await;
    assert_eq!(kas.get("/").await.status, 201);
    drop(agent);

    // The certificate is for another name than the address.
    let log = Log::of_this_test();
    let agent = start_agent(secure(None, false)).await;
    eventually("the reason", async || {
        !log.with("not valid for name").is_empty()
    })
    .await;
    assert_eq!(page(&agent, "/readiness").await.0, 503);
}

#[tokio::test]
async fn a_token_that_is_given_is_in_no_line_of_the_log() {
    let log = Log::of_this_test();
    let world = World::start_with(|config| {
        config.token = TokenSource::Given(Secret::new("glagent-hush"));
    })
    .await;
    eventually("a refusal", async || {
        !log.with("refuses the agent's token").is_empty()
    })
    .await;
    assert!(log.with("hush").is_empty());
    drop(world);
}

/// Answers every connection's first bytes with `answer`; gives those bytes.
async fn answering(answer: &'static [u8]) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hearing) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut first = vec![0; 4096];
            let count = stream.read(&mut first).await.unwrap_or(0);
            stream.write_all(answer).await.ok();
            // Until the other end has read it: closing earlier could be a reset.
            let heard = heard.clone();
            tokio::spawn(async move {
                heard
                    .send(String::from_utf8_lossy(&first[..count]).into_owned())
                    .ok();
                while stream.read(&mut first).await.is_ok_and(|count| count > 0) {}
            });
        }
    });
    (address, hearing)
}

#[tokio::test]
async fn what_is_no_agent_server_is_named_with_what_to_do() {
    let cases: [(&str, &str, &[u8], &str); 6] = [
        (
            "ws",
            "/-/kubernetes-agent",
            b"HTTP/1.1 301 Moved Permanently\r\nLocation: /-/kubernetes-agent/\r\nContent-Length: 0\r\n\r\n",
            "needs the slash at its end",
        ),
        (
            "ws",
            "/",
            b"HTTP/1.1 308 Permanent Redirect\r\nLocation: https://kas.example.com/\r\nContent-Length: 0\r\n\r\n",
            "use --kas-address=wss://kas.example.com:443/",
        ),
        (
            "ws",
            "/",
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
            "the agent server behind it is not",
        ),
        (
            "grpc",
            "",
            b"HTTP/1.1 302 Found\r\nLocation: https://kas.example.com/\r\n\r\n",
            "answers with HTTP/1.1 instead of HTTP/2",
        ),
        ("grpc", "", &[0x15, 3, 3, 0, 2, 2, 70], "use grpcs://"),
        ("grpcs", "", b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS"),
    ];
    let cluster = Cluster::start().await;
    for (scheme, path, answer, expected) in cases {
        let log = Log::of_this_test();
        let (address, _heard) = answering(answer).await;
        let mut config = cluster.config(address);
        config.kas_address = format!("{scheme}://{address}{path}").parse().unwrap();
        config.kas_tls.insecure_skip_verify = config.kas_address.tls;
        let agent = start_agent(config).await;
        eventually(expected, async || !log.with(expected).is_empty()).await;
        assert_eq!(page(&agent, "/readiness").await.0, 503);
    }
}

#[tokio::test]
async fn headers_for_a_proxy_go_with_the_handshake_and_the_token_does_not() {
    let (address, mut heard) = answering(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
    let cluster = Cluster::start().await;
    let mut config = cluster.config(address);
    config.kas_address = format!("ws://{address}/agents/").parse().unwrap();
    config.kas_headers = vec![KasHeader {
        name: "x-proxy-key".to_owned(),
        value: "hush".to_owned(),
    }];
    let log = Log::of_this_test();
    let agent = start_agent(config).await;
    let head = within("a handshake", heard.recv()).await.unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("get /agents/ http/1.1\r\n"), "{head}");
    for line in [
        "x-proxy-key: hush".to_owned(),
        "sec-websocket-protocol: ws-tunnel".to_owned(),
        format!("user-agent: gitlab-agent/v{}", agent::config::VERSION),
    ] {
        assert!(head.contains(&line), "{line} in {head}");
    }
    assert!(!head.contains("authorization"), "{head}");
    eventually("the reason", async || !log.with("503").is_empty()).await;
    assert!(log.with("hush").is_empty());
    drop(agent);
}

#[tokio::test]
async fn a_replaced_authority_is_taken_up_without_a_restart() {
    let log = Log::of_this_test();
    let certificate = Certificate::new("127.0.0.1");
    let identity = Identity::from_pem(&certificate.pem, &certificate.key_pem);
    let kas = Kas::start_with(Some(identity)).await;
    let cluster = Cluster::start().await;
    let ca = cluster.folder.path().join("kas-ca.crt");
    std::fs::write(&ca, Certificate::new("127.0.0.1").pem).unwrap();
    let mut config = cluster.config(kas.address);
    config.kas_address = format!("grpcs://{}", kas.address).parse().unwrap();
    config.kas_tls.ca_cert_file = Some(ca.clone());
    let agent = start_agent(config).await;
    eventually("the reason", async || {
        !log.with("--kas-ca-cert-file").is_empty()
    })
    .await;
    // Half written: the authorities stay as they were.
    std::fs::write(&ca, "-----BEGIN CERT").unwrap();
    eventually("a complaint", async || {
        !log.with("stay as they were").is_empty()
    })
    .await;
    std::fs::write(&ca, &certificate.pem).unwrap();
    eventually("readiness", async || {
        page(&agent, "/readiness").await.0 == 200
    })
    .await;
    assert_eq!(log.with("stay as they were").len(), 1);
}

#[tokio::test]
async fn an_answer_of_a_proxy_over_http_2_is_no_word_of_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|_| async {
                let response = http::Response::builder()
                    .status(302)
                    .header("location", "https://sign-in.example.com/")
                    .body(http_body_util::Empty::<bytes::Bytes>::new());
                Ok::<_, std::convert::Infallible>(response.unwrap())
            });
            let executor = hyper_util::rt::TokioExecutor::new();
            let stream = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(executor)
                    .serve_connection(stream, service),
            );
        }
    });
    let cluster = Cluster::start().await;
    let log = Log::of_this_test();
    let agent = start_agent(cluster.config(address)).await;
    eventually("the redirect in the log", async || {
        !log.with("https://sign-in.example.com/").is_empty()
    })
    .await;
    let line = &log.with("https://sign-in.example.com/")[0];
    assert!(
        line.contains("302") && line.contains("no connection to the server"),
        "{line}"
    );
    drop(agent);
}
