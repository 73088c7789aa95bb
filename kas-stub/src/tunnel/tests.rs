//! Scripted agents on one side, calls on the other; no network.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _};
use proto::reverse_tunnel::{
    info::{AgentDescriptor, Method, Service},
    rpc::{
        ConnectRequest, ConnectResponse, Descriptor, Error, Header, Message, RpcStatus, Trailer,
        connect_request::Msg, connect_response,
    },
};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::*;
use crate::{directory::Cut, listener::EndingToken};

const METHOD: &str = "/s.S/M";
const AGENT: u64 = 7;
/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(5);

struct Agent {
    to_server: mpsc::Sender<Result<ConnectRequest, Status>>,
    ending: EndingToken,
    stream: ConnectStream,
}

fn tunnels() -> Arc<Tunnels> {
    Arc::new(Tunnels::new(Duration::from_millis(300)))
}

fn opening(close_send: bool) -> Opening {
    Opening {
        method: METHOD,
        messages: vec!["hello".into()],
        close_send,
    }
}

impl Agent {
    fn connect(tunnels: &Arc<Tunnels>, connection: ConnectionId, cut: &Cut) -> Self {
        let (to_server, frames) = mpsc::channel(16);
        let inbound = Inbound::Scripted(frames);
        let ending = EndingToken::new();
        let stream = ConnectStream::new(
            tunnels,
            AGENT,
            connection,
            cut.clone(),
            ending.clone(),
            inbound,
        );
        Self {
            to_server,
            ending,
            stream: stream.unwrap(),
        }
    }

    /// A tunnel that has said what it serves, in the registry.
    async fn idle(tunnels: &Arc<Tunnels>, connection: ConnectionId) -> Self {
        let mut agent = Self::connect(tunnels, connection, &Cut::new());
        agent.send(descriptor("M")).await;
        agent.nothing_comes();
        agent
    }

    async fn send(&self, msg: Msg) {
        let frame = ConnectRequest { msg: Some(msg) };
        self.to_server.send(Ok(frame)).await.unwrap();
    }

    /// Polls the stream once, as its task does when it is woken.
    fn nothing_comes(&mut self) {
        assert!(self.stream.next().now_or_never().is_none());
    }

    /// All that the server sends until it ends the stream with OK.
    async fn rest(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            match self.next().await {
                end if end == "end" => return rest,
                frame => rest.push(frame),
            }
        }
    }

    /// What the server sends next: a frame in short, the end, or a code.
    async fn next(&mut self) -> String {
        let next = tokio::time::timeout(LIMIT, self.stream.next()).await;
        match next.expect("the server sends in time") {
            None => "end".into(),
            Some(Err(status)) => format!("{:?}", status.code()),
            Some(Ok(ConnectResponse { msg })) => match msg.unwrap() {
                connect_response::Msg::RequestInfo(info) => format!("call {}", info.method_name),
                connect_response::Msg::Message(message) => {
                    format!("message {}", String::from_utf8_lossy(&message.data))
                }
                connect_response::Msg::CloseSend(_) => "close".into(),
            },
        }
    }
}

fn descriptor(method: &str) -> Msg {
    let methods = vec![Method {
        name: method.into(),
    }];
    let service = Service {
        name: "s.S".into(),
        methods,
    };
    Msg::Descriptor(Descriptor {
        agent_descriptor: Some(AgentDescriptor {
            services: vec![service],
        }),
    })
}

fn message(text: &'static str) -> Msg {
    Msg::Message(Message { data: text.into() })
}

fn error(code: Code) -> Msg {
    Msg::Error(Error {
        status: Some(RpcStatus {
            code: code as i32,
            message: "why".into(),
            details: Vec::new(),
        }),
    })
}

async fn recv(call: &mut Call) -> String {
    let event = tokio::time::timeout(LIMIT, call.recv()).await;
    match event.expect("the call hears in time") {
        Ok(Event::Header) => "header".into(),
        Ok(Event::Message(data)) => format!("message {}", String::from_utf8_lossy(&data)),
        Ok(Event::End) => "end".into(),
        Err(CallError::NotStarted(status)) => format!("not started {:?}", status.code()),
        Err(CallError::Failed(status)) => format!("failed {:?}", status.code()),
        Err(CallError::Broken(status)) => format!("broken {:?}", status.code()),
    }
}

#[tokio::test]
async fn a_call_passes_both_ways_and_ends_with_ok() {
    let tunnels = tunnels();
    let mut agent = Agent::idle(&tunnels, 1).await;
    assert_eq!(tunnels.counts(AGENT).idle, 1);
    let mut call = tunnels.open(AGENT, &opening(false)).await.unwrap();
    assert_eq!(
        (tunnels.counts(AGENT).idle, tunnels.counts(AGENT).active),
        (0, 1)
    );
    assert_eq!(agent.next().await, "call /s.S/M");
    assert_eq!(agent.next().await, "message hello");
    let sender = call.take_sender().unwrap();
    sender.send("more".into()).await.unwrap();
    sender.close().await.unwrap();
    assert_eq!(agent.next().await, "message more");
    assert_eq!(agent.next().await, "close");
    agent.send(Msg::Header(Header::default())).await;
    agent.send(message("answer")).await;
    agent.send(Msg::Trailer(Trailer::default())).await;
    assert_eq!(recv(&mut call).await, "header");
    assert_eq!(recv(&mut call).await, "message answer");
    let Agent {
        to_server,
        ending: _,
        mut stream,
    } = agent;
    drop(to_server);
    assert_eq!(recv(&mut call).await, "end");
    assert!(stream.next().await.is_none(), "the tunnel ends with OK");
    drop(call);
    assert_eq!(tunnels.counts(AGENT), TunnelCounts::default());
}

#[tokio::test]
async fn a_call_whose_opener_goes_away_is_cancelled_in_the_agent() {
    let tunnels = tunnels();
    let mut agent = Agent::idle(&tunnels, 1).await;
    let call = tunnels.open(AGENT, &opening(true)).await.unwrap();
    assert_eq!(agent.next().await, "call /s.S/M");
    drop(call);
    assert_eq!(agent.next().await, "Cancelled");
    assert_eq!(agent.next().await, "end");
    assert_eq!(tunnels.counts(AGENT), TunnelCounts::default());
}

#[tokio::test]
async fn a_finished_call_lets_the_agent_end_the_stream_itself() {
    let tunnels = tunnels();
    let mut agent = Agent::idle(&tunnels, 1).await;
    let mut call = tunnels.open(AGENT, &opening(true)).await.unwrap();
    for _ in 0..3 {
        agent.next().await;
    }
    agent.send(Msg::Header(Header::default())).await;
    agent.send(message("all of it")).await;
    assert_eq!(recv(&mut call).await, "header");
    assert_eq!(recv(&mut call).await, "message all of it");
    call.finish();
    drop(call);
    agent.nothing_comes();
    agent.send(Msg::Trailer(Trailer::default())).await;
    agent.nothing_comes();
    let Agent {
        to_server,
        ending: _,
        mut stream,
    } = agent;
    drop(to_server);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn an_agent_that_waits_for_the_rest_of_a_finished_request_is_told_that_there_is_none() {
    let tunnels = tunnels();
    let mut agent = Agent::idle(&tunnels, 1).await;
    let mut call = tunnels.open(AGENT, &opening(false)).await.unwrap();
    let _sender = call.take_sender();
    assert_eq!(agent.next().await, "call /s.S/M");
    assert_eq!(agent.next().await, "message hello");
    agent.send(Msg::Header(Header::default())).await;
    assert_eq!(recv(&mut call).await, "header");
    call.finish();
    drop(std::mem::replace(&mut agent.to_server, mpsc::channel(1).0));
    assert_eq!(agent.rest().await, ["close"]);
}

#[tokio::test]
async fn a_draining_agent_is_told_apart_from_a_failed_call() {
    let tunnels = tunnels();
    let mut agent = Agent::idle(&tunnels, 1).await;
    let mut call = tunnels.open(AGENT, &opening(true)).await.unwrap();
    agent.send(error(Code::Unavailable)).await;
    assert_eq!(recv(&mut call).await, "not started Unavailable");
    let mut other = Agent::idle(&tunnels, 1).await;
    let mut call = tunnels.open(AGENT, &opening(true)).await.unwrap();
    other.send(Msg::Header(Header::default())).await;
    other.send(Msg::Trailer(Trailer::default())).await;
    other.send(error(Code::Unavailable)).await;
    assert_eq!(recv(&mut call).await, "header");
    assert_eq!(recv(&mut call).await, "failed Unavailable");
    for agent in [&mut agent, &mut other] {
        drop(std::mem::replace(&mut agent.to_server, mpsc::channel(1).0));
        assert_eq!(agent.rest().await, [""; 0], "nothing was sent before");
    }
}

#[tokio::test]
async fn frames_out_of_order_break_the_call() {
    let tunnels = tunnels();
    let mut agent = Agent::idle(&tunnels, 1).await;
    let mut call = tunnels.open(AGENT, &opening(true)).await.unwrap();
    agent.send(message("before the header")).await;
    assert_eq!(recv(&mut call).await, "broken Internal");
    assert_eq!(agent.next().await, "Internal");

    let mut agent = Agent::idle(&tunnels, 1).await;
    let mut call = tunnels.open(AGENT, &opening(true)).await.unwrap();
    agent
        .to_server
        .send(Ok(ConnectRequest { msg: None }))
        .await
        .unwrap();
    assert_eq!(recv(&mut call).await, "broken Internal");
    assert_eq!(agent.next().await, "Internal");
}

#[tokio::test]
async fn an_idle_tunnel_that_ends_is_gone_at_once() {
    let tunnels = tunnels();
    let mut closes = Agent::idle(&tunnels, 1).await;
    let drains = &mut Agent::idle(&tunnels, 1).await;
    let speaks = &mut Agent::idle(&tunnels, 2).await;
    let dies = Agent::idle(&tunnels, 2).await;
    assert_eq!(tunnels.counts(AGENT).idle, 4);
    drop(dies);
    assert_eq!(tunnels.counts(AGENT).idle, 3);
    drop(std::mem::replace(&mut closes.to_server, mpsc::channel(1).0));
    assert_eq!(closes.next().await, "end");
    drains.send(error(Code::Unavailable)).await;
    assert_eq!(drains.next().await, "end");
    speaks.send(Msg::Header(Header::default())).await;
    assert_eq!(speaks.next().await, "InvalidArgument");
    assert_eq!(tunnels.counts(AGENT).idle, 0);
}

#[tokio::test]
async fn a_lost_connection_breaks_the_call_on_it() {
    let tunnels = tunnels();
    let mut agent = Agent::idle(&tunnels, 1).await;
    let mut call = tunnels.open(AGENT, &opening(true)).await.unwrap();
    agent.next().await;
    let Agent {
        to_server,
        ending: _,
        stream,
    } = agent;
    drop(stream);
    assert_eq!(recv(&mut call).await, "broken Unavailable");
    drop(to_server);
}

#[tokio::test]
async fn calls_are_spread_over_connections() {
    let tunnels = tunnels();
    let mut agents = Vec::new();
    for connection in [1, 1, 1, 5, 5, 9] {
        agents.push((connection, Agent::idle(&tunnels, connection).await));
    }
    let mut order = Vec::new();
    let mut calls = Vec::new();
    for _ in 0..6 {
        let call = tunnels.open(AGENT, &opening(true)).await.unwrap();
        order.push(call.tunnel.connection);
        calls.push(call);
    }
    assert_eq!(order, [1, 5, 9, 1, 5, 1]);
}

#[tokio::test]
async fn a_call_waits_for_a_tunnel_of_its_method_and_not_for_ever() {
    let tunnels = tunnels();
    let wrong = &mut Agent::connect(&tunnels, 1, &Cut::new());
    wrong.send(descriptor("Other")).await;
    wrong.nothing_comes();
    let refused = tunnels.open(AGENT, &opening(true)).await;
    assert_eq!(refused.unwrap_err(), OpenError::NoTunnel);
    let waiting = tokio::spawn({
        let tunnels = Arc::clone(&tunnels);
        async move { tunnels.open(AGENT, &opening(true)).await }
    });
    while tunnels.counts(AGENT).waiting == 0 {
        tokio::task::yield_now().await;
    }
    let mut agent = Agent::connect(&tunnels, 1, &Cut::new());
    agent.send(descriptor("M")).await;
    assert_eq!(agent.next().await, "call /s.S/M");
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_tunnel_handed_to_a_waiter_that_is_gone_goes_to_the_next() {
    let tunnels = tunnels();
    let opening = opening(true);
    let mut gone = Box::pin(tunnels.open(AGENT, &opening));
    assert!((&mut gone).now_or_never().is_none());
    let agent = Agent::idle(&tunnels, 1).await;
    // The tunnel is on its way to the first when it goes.
    drop(gone);
    assert_eq!(tunnels.counts(AGENT).idle, 1);
    tunnels.open(AGENT, &opening).await.unwrap();
    drop(agent);
}

#[tokio::test]
async fn a_revoked_token_cuts_idle_tunnels_and_running_calls() {
    let tunnels = tunnels();
    let cut = Cut::new();
    let mut busy = Agent::connect(&tunnels, 1, &cut);
    busy.send(descriptor("M")).await;
    busy.nothing_comes();
    let mut call = tunnels.open(AGENT, &opening(true)).await.unwrap();
    busy.next().await;
    let mut idle = Agent::connect(&tunnels, 1, &cut);
    idle.send(descriptor("M")).await;
    idle.nothing_comes();
    cut.cancel();
    while idle.next().await != "end" {}
    assert!((0..9).any(|_| matches!(busy.stream.next().now_or_never(), Some(Some(Err(_))))));
    assert_eq!(recv(&mut call).await, "broken Unauthenticated");
    drop(call);
    assert_eq!(tunnels.counts(AGENT), TunnelCounts::default());
}

#[tokio::test]
async fn a_stopping_server_dismisses_idle_tunnels_with_ok_and_opens_no_more() {
    let tunnels = tunnels();
    let mut busy = Agent::idle(&tunnels, 1).await;
    let call = tunnels.open(AGENT, &opening(true)).await.unwrap();
    let mut idle = Agent::idle(&tunnels, 1).await;
    tunnels.stop();
    assert_eq!(idle.next().await, "end");
    assert_eq!(busy.next().await, "call /s.S/M", "a running call goes on");
    let refused = tunnels.open(AGENT, &opening(true)).await;
    assert_eq!(refused.unwrap_err(), OpenError::Stopping);
    let inbound = Inbound::Scripted(mpsc::channel(1).1);
    let opened = ConnectStream::new(&tunnels, AGENT, 1, Cut::new(), EndingToken::new(), inbound);
    assert_eq!(opened.unwrap_err().code(), Code::Unavailable);
    drop(call);
}

#[tokio::test]
async fn an_ending_connection_keeps_its_call_and_nothing_that_idles() {
    let tunnels = tunnels();
    let mut busy = Agent::idle(&tunnels, 1).await;
    let call = tunnels.open(AGENT, &opening(true)).await.unwrap();
    let mut idle = Agent::idle(&tunnels, 1).await;
    for agent in [&busy, &idle] {
        agent.ending.cancel();
    }
    assert_eq!(idle.next().await, "end");
    assert_eq!(tunnels.counts(AGENT).idle, 0);
    assert_eq!(busy.next().await, "call /s.S/M");
    // One that comes late ends at once, and no call gets it.
    let mut late = Agent::connect(&tunnels, 1, &Cut::new());
    late.ending.cancel();
    late.send(descriptor("M")).await;
    assert_eq!(late.next().await, "end");
    assert_eq!(tunnels.counts(AGENT).idle, 0);
    drop(call);
}

#[tokio::test]
async fn a_tunnel_says_what_it_serves_first() {
    let tunnels = tunnels();
    for wrong in [
        Msg::Header(Header::default()),
        descriptor(""),
        descriptor(&"M".repeat(600)),
    ] {
        let mut agent = Agent::connect(&tunnels, 1, &Cut::new());
        agent.send(wrong).await;
        assert_eq!(agent.next().await, "InvalidArgument");
    }
    assert_eq!(tunnels.counts(AGENT), TunnelCounts::default());
}
