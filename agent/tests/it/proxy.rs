//! A proxy on the way to the server: CONNECT, its credentials, its refusals.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use agent::config::Proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{Cluster, Log, eventually, page, start_agent};
use crate::kas::Kas;

/// A proxy that connects to one address and remembers what it was asked.
struct Connects {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Connects {
    async fn start(to: SocketAddr, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    seen.lock().unwrap().push(String::from_utf8(head).unwrap());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if answer.contains(" 200 ") {
                        let mut server = TcpStream::connect(to).await.unwrap();
                        let _ = copy_bidirectional(&mut stream, &mut server).await;
                    }
                });
            }
        });
        Self { address, heads }
    }

    fn proxy(&self) -> Option<Proxy> {
        Some(Proxy {
            uri: format!("http://{}/", self.address).parse().unwrap(),
            authorization: Some(http::HeaderValue::from_static("Basic aHVzaA==")),
        })
    }
}

#[tokio::test]
async fn the_agent_goes_through_the_proxy_by_name_and_with_its_credentials() {
    let kas = Kas::start().await;
    let cluster = Cluster::start().await;
    let proxy = Connects::start(kas.address, "HTTP/1.1 200 Connected\r\n\r\n").await;
    let mut config = cluster.config(kas.address);
    // Nothing but the proxy knows this name.
    config.kas_address = "grpc://kas.invalid:8150".parse().unwrap();
    config.kas_proxy = proxy.proxy();
    let agent = start_agent(config).await;
    eventually("readiness", async || {
        page(&agent, "/readiness").await.0 == 200
    })
    .await;
    assert_eq!(kas.get("/api").await.status, 201);
    let heads = proxy.heads.lock().unwrap().clone();
    for head in heads {
        assert!(
            head.starts_with("CONNECT kas.invalid:8150 HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.contains("Proxy-Authorization: Basic aHVzaA==\r\n"),
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named() {
    for (answer, expected) in [
        ("HTTP/1.1 407 Auth\r\n\r\n", "wants credentials"),
        ("HTTP/1.1 403 No\r\n\r\n", "has to allow CONNECT"),
    ] {
        let cluster = Cluster::start().await;
        let log = Log::of_this_test();
        let proxy = Connects::start(cluster.api_server.address, answer).await;
        let mut config = cluster.config(proxy.address);
        config.kas_proxy = proxy.proxy();
        let agent = start_agent(config).await;
        eventually(expected, async || !log.with(expected).is_empty()).await;
        assert!(log.with("aHVzaA").is_empty());
        drop(agent);
    }
}
