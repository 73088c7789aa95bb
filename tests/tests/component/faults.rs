//! What the network does to the connections between agent and server (field reports B03, B04), and what either side's sudden
//! end does to calls. Every wait is for a state, with a limit.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{self, Call};
use crate::relay::{Fault, Relay};
use crate::rig::{IMPATIENT, Registered, Rig, SOON};

async fn impatient_rig() -> Rig {
    Rig::start_with(|config| config.timing.keepalive = IMPATIENT).await
}

/// Reads a body to its end; an error is an end with a reason.
async fn ended(call: &mut Call) -> hyper::Result<()> {
    let end = async {
        while let Some(piece) = call.next().await {
            piece?;
        }
        Ok(())
    };
    tokio::time::timeout(SOON, end).await.expect("an end")
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !condition().await {
        assert!(Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Status and body of a page of the agent's observability listener.
async fn page(agent: &agent::app::Agent, path: &str) -> (StatusCode, String) {
    let request = client::request(Method::GET, path)
        .body(client::empty())
        .unwrap();
    let call = client::tcp(agent.observability, request).await.unwrap();
    let status = call.status();
    (
        status,
        String::from_utf8(call.bytes().await.to_vec()).unwrap(),
    )
}

async fn is_ready(agent: &agent::app::Agent) -> bool {
    page(agent, "/readiness").await.0 == StatusCode::OK
}

/// An upgraded connection to the fake API server, which sends every byte back, as exec does.
struct Echo(TokioIo<hyper::upgrade::Upgraded>);

impl Echo {
    async fn open(rig: &Rig, registered: &Registered) -> Self {
        Self(TokioIo::new(rig.upgrade(registered, "/exec").await))
    }

    async fn says(&mut self, words: &str) {
        let mut back = vec![0; words.len()];
        let round = async {
            self.0.write_all(words.as_bytes()).await?;
            self.0.read_exact(&mut back).await
        };
        tokio::time::timeout(SOON, round)
            .await
            .expect("an echo")
            .unwrap();
        assert_eq!(back, words.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b03_a_connection_that_died_in_silence_is_given_up_by_both_sides() {
    let rig = impatient_rig().await;
    let relay = Relay::start(rig.agents_address).await;
    let (registered, agent) = rig.agent_behind(&relay).await;
    let mut watch = rig.get(&registered, "/watch").await;
    rig.api.wait_open(1).await;

    relay.lose_new(true);
    relay.strike(Fault::Silence);
    let call = rig.get(&registered, "/version");
    let call = tokio::time::timeout(SOON, call).await.expect("an answer");
    assert!(
        matches!(
            call.status(),
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT
        ),
        "{}",
        call.status()
    );
    let reason = call.json().await;
    assert_eq!(reason["kind"], "Status", "{reason}");
    assert!(
        ended(&mut watch).await.is_err(),
        "the watch ends with an error"
    );
    rig.wait_connected("one", false).await;
    eventually("unreadiness", async || !is_ready(&agent).await).await;
    // Nobody is left to read it: the API server is told, too.
    rig.api.wait_open(0).await;

    relay.lose_new(false);
    rig.wait_connected("one", true).await;
    let call = rig.get(&registered, "/version").await;
    assert_eq!(call.status(), StatusCode::OK);
    eventually("readiness", async || is_ready(&agent).await).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_reset_or_half_closed_ends_its_streams_and_is_replaced() {
    let rig = impatient_rig().await;
    let relay = Relay::start(rig.agents_address).await;
    let (registered, agent) = rig.agent_behind(&relay).await;
    for fault in [Fault::Reset, Fault::HalfClose] {
        let mut watch = rig.get(&registered, "/watch").await;
        rig.api.wait_open(1).await;
        relay.strike(fault);
        assert!(ended(&mut watch).await.is_err(), "{fault:?}");
        rig.api.wait_open(0).await;
        let call = rig.get(&registered, "/version").await;
        assert_eq!(call.status(), StatusCode::OK, "{fault:?}");
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_open_streams_end_with_the_connection_and_a_hundred_new_ones_follow() {
    const STREAMS: usize = 100;
    let rig = impatient_rig().await;
    let relay = Relay::start(rig.agents_address).await;
    let (registered, agent) = rig.agent_behind(&relay).await;
    let open = async || {
        let mut watches = Vec::new();
        for _ in 0..STREAMS {
            watches.push(rig.get(&registered, "/watch").await);
        }
        rig.api.wait_open(STREAMS).await;
        watches
    };
    let mut watches = open().await;
    // As a killed server's machine does it: everything is reset, and nobody listens for a while.
    relay.lose_new(true);
    relay.strike(Fault::Reset);
    rig.api.wait_open(0).await;
    for watch in &mut watches {
        assert!(ended(watch).await.is_err());
    }
    rig.wait_connected("one", false).await;
    relay.lose_new(false);
    // Lost connection attempts included.
    rig.wait_connected("one", true).await;
    let watches = open().await;
    drop(watches);
    rig.api.wait_open(0).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_ends_with_an_error_when_its_agent_is_killed() {
    let rig = Rig::start().await;
    let (registered, agent) = rig.connected_agent("one").await;
    let mut download = rig.get(&registered, "/endless").await;
    for _ in 0..16 {
        download.next().await.unwrap().unwrap();
    }
    rig.api.wait_open(1).await;
    drop(agent);
    assert!(
        ended(&mut download).await.is_err(),
        "half a body is no whole one"
    );
    rig.api.wait_open(0).await;
    rig.wait_agent("one", "without calls", |agent| {
        agent["connected"] == false && agent["tunnels"]["active"] == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b04_streams_outlive_the_age_of_their_connections() {
    let rig = Rig::start_with(|config| config.agent_connection_age_s = 1).await;
    let relay = Relay::start(rig.agents_address).await;
    let (registered, agent) = rig.agent_behind(&relay).await;
    let mut echo = Echo::open(&rig, &registered).await;
    let mut watch = rig.get(&registered, "/watch").await;
    rig.api.wait_open(2).await;
    let mut download = rig.get(&registered, "/endless").await;
    download.next().await.unwrap().unwrap();

    // Control connection and tunnels' connection: three generations of both.
    let generations = relay.accepted() + 6;
    eventually("three generations of connections", async || {
        echo.says("still here?").await;
        rig.api.emit("still here");
        let line = tokio::time::timeout(SOON, watch.next()).await.unwrap();
        assert_eq!(line.unwrap().unwrap(), "still here\n");
        download.next().await.unwrap().unwrap();
        // New calls never notice.
        let call = rig.get(&registered, "/version").await;
        assert_eq!(call.status(), StatusCode::OK);
        relay.accepted() >= generations
    })
    .await;
    assert!(is_ready(&agent).await);
    // It is the way of things and no failure.
    let (_, metrics) = page(&agent, "/metrics").await;
    let failures: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("agent_kas_failures"))
        .collect();
    assert!(failures.is_empty(), "{failures:?}");
    drop((echo, watch, download));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_streams_outlive_proxies_that_forget_what_is_idle() {
    let rig = impatient_rig().await;
    let relay = Relay::start(rig.agents_address).await;
    // As 60 s are to the pings of every 25 s.
    relay.forget_idle(IMPATIENT.interval * 24 / 10);
    let (registered, agent) = rig.agent_behind(&relay).await;
    let mut echo = Echo::open(&rig, &registered).await;
    echo.says("hello").await;
    let connections = relay.accepted();
    // Connections that say nothing show that the time has passed.
    for forgotten in 1..=3 {
        let mut idle = tokio::net::TcpStream::connect(relay.address).await.unwrap();
        let mut buffer = [0];
        let end = tokio::time::timeout(SOON, idle.read(&mut buffer));
        end.await.expect("the idle connection ends").ok();
        assert_eq!(relay.forgotten(), forgotten);
    }
    echo.says("still here").await;
    assert_eq!(
        relay.accepted(),
        connections + 3,
        "nothing was connected anew"
    );
    drop(echo);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distant_server_is_a_server() {
    let rig = Rig::start().await;
    let relay = Relay::start(rig.agents_address).await;
    relay.delay(Duration::from_millis(100));
    let (registered, agent) = rig.agent_behind(&relay).await;
    let call = rig.get(&registered, "/version").await;
    assert_eq!(call.status(), StatusCode::OK);
    // Windows are large enough that a body does not wait for round trips: HTTP/2's own 64 KiB would take 25 s for it.
    let body = bytes::Bytes::from(vec![b'x'; 8 * 1024 * 1024]);
    let began = Instant::now();
    let call = rig
        .call(
            &registered,
            Method::POST,
            "/echo",
            client::full(body.clone()),
        )
        .await;
    assert_eq!(call.bytes().await.len(), body.len());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    agent.stop().await;
}
