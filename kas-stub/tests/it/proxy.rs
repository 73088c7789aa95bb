//! What kubectl sees: requests, streams, upgrades and refusals through the tunnel.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use proto::grpctool::http_request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use crate::{
    agent::{ScriptedAgent, header},
    support::{LIMIT, TestAgent, TestServer, collect, no_body, person, proxied},
};

struct Setting {
    server: TestServer,
    created: TestAgent,
    agent: ScriptedAgent,
    token_id: u64,
    token: String,
}

async fn setting() -> Setting {
    let server = TestServer::start().await;
    let created = server.create_agent("a", None).await;
    let agent = ScriptedAgent::connect(server.server.agents, &created.token).await;
    let (token_id, token) = server.create_token().await;
    Setting {
        server,
        created,
        agent,
        token_id,
        token,
    }
}

impl Setting {
    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        proxied(self.created.id, &self.token, method, path)
    }

    fn get(&self, path: &str) -> http::Request<Full<Bytes>> {
        self.request(Method::GET, path).body(no_body()).unwrap()
    }
}

#[tokio::test]
async fn a_get_goes_through_without_its_credentials() {
    let setting = setting().await;
    let mut tunnel = setting.agent.tunnel().await;
    let served = tokio::spawn(async move {
        let (head, body) = tunnel.request().await;
        tunnel.expect_close_send().await;
        tunnel
            .answer_head(
                200,
                &[("Content-Type", "text/plain"), ("Set-Cookie", "a=b")],
            )
            .await;
        tunnel.answer_data("one ").await;
        tunnel.answer_data("two").await;
        tunnel.answer_trailer().await;
        (head, body, tunnel.finish().await)
    });
    let mut person = person(setting.server.server.people).await;
    let request = setting
        .request(Method::GET, "/api/v1/pods?limit=5&labelSelector=a%3Db")
        .header(header::ACCEPT, "application/json")
        .body(no_body());
    let answer = collect(person.send_request(request.unwrap()).await.unwrap()).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (StatusCode::OK, "one two")
    );
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/plain");
    assert!(!answer.headers.contains_key(header::SET_COOKIE));
    let via = answer.headers[header::VIA].to_str().unwrap();
    assert!(via.starts_with("gRPC/1.0 kas-stub/"), "{via}");

    let (head, body, code) = served.await.unwrap();
    assert_eq!(
        (body.len(), head.content_length, code),
        (0, Some(0), Code::Ok)
    );
    assert_eq!(header(&head, "Accept").as_deref(), Some("application/json"));
    assert_eq!(header(&head, "Authorization"), None);
    let request = head.request.unwrap();
    assert_eq!(
        (request.method.as_str(), request.url_path.as_str()),
        ("GET", "/api/v1/pods")
    );
    let selector = request
        .query
        .iter()
        .find(|entry| entry.key == "labelSelector")
        .unwrap();
    assert_eq!(selector.value.as_ref().unwrap().value[0], "a=b");
}

#[tokio::test]
async fn bodies_large_and_small_arrive_whole() {
    let setting = setting().await;
    for size in [3, 64 * 1024, 3 * 1024 * 1024] {
        let mut tunnel = setting.agent.tunnel().await;
        let served = tokio::spawn(async move {
            let (head, body) = tunnel.request().await;
            tunnel
                .answer_head(201, &[("Content-Length", &body.len().to_string())])
                .await;
            for piece in body.chunks(32 * 1024) {
                tunnel.answer_data(piece.to_vec()).await;
            }
            tunnel.answer_trailer().await;
            (head.content_length, tunnel.finish().await)
        });
        let body: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let request = setting.request(Method::POST, "/api/v1/x");
        let request = request.body(Full::new(body.clone().into())).unwrap();
        let mut person = person(setting.server.server.people).await;
        let answer = collect(person.send_request(request).await.unwrap()).await;
        assert_eq!(answer.status, 201);
        assert!(answer.body == body, "{size} bytes differ");
        assert_eq!(served.await.unwrap(), (Some(size as i64), Code::Ok));
    }
}

#[tokio::test]
async fn answers_without_a_body_end_the_tunnel_with_ok() {
    let setting = setting().await;
    for (method, status) in [
        (Method::HEAD, 200),
        (Method::DELETE, 204),
        (Method::GET, 304),
    ] {
        let mut tunnel = setting.agent.tunnel().await;
        let served = tokio::spawn(async move {
            tunnel.request().await;
            tunnel.answer_head(status, &[("Content-Length", "5")]).await;
            tunnel.answer_trailer().await;
            tunnel.finish().await
        });
        let request = setting.request(method, "/x").body(no_body()).unwrap();
        let mut person = person(setting.server.server.people).await;
        let answer = collect(person.send_request(request).await.unwrap()).await;
        assert_eq!(
            (i32::from(answer.status.as_u16()), answer.body.len()),
            (status, 0)
        );
        assert_eq!(served.await.unwrap(), Code::Ok);
    }
}

#[tokio::test]
async fn each_piece_of_a_watch_arrives_when_it_is_sent() {
    let setting = setting().await;
    let mut tunnel = setting.agent.tunnel().await;
    let mut person = person(setting.server.server.people).await;
    let answered = tokio::spawn(person.send_request(setting.get("/api/v1/pods?watch=1")));
    tunnel.request().await;
    tunnel.answer_head(200, &[]).await;
    let mut body = answered.await.unwrap().unwrap().into_body();
    for event in ["first\n", "second\n"] {
        tunnel.answer_data(event).await;
        let frame = tokio::time::timeout(LIMIT, body.frame()).await.unwrap();
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), event);
    }
    // The caller goes away: the agent is told.
    drop((body, person));
    assert_eq!(tunnel.ended().await, Code::Cancelled);
}

#[tokio::test]
async fn a_caller_that_goes_away_before_the_answer_cancels_too() {
    let setting = setting().await;
    let mut tunnel = setting.agent.tunnel().await;
    let mut person = person(setting.server.server.people).await;
    let asked = tokio::spawn(person.send_request(setting.get("/slow")));
    tunnel.request().await;
    asked.abort();
    drop(person);
    assert_eq!(tunnel.ended().await, Code::Cancelled);
}

#[tokio::test]
async fn an_upgrade_passes_raw_bytes_both_ways() {
    let setting = setting().await;
    let mut tunnel = setting.agent.tunnel().await;
    let served = tokio::spawn(async move {
        let (head, _) = tunnel.request().await;
        assert_eq!(header(&head, "Upgrade").as_deref(), Some("SPDY/3.1"));
        assert_eq!(header(&head, "Connection").as_deref(), Some("upgrade"));
        assert_eq!(head.content_length, Some(0));
        tunnel
            .answer_head(101, &[("Upgrade", "SPDY/3.1"), ("Connection", "Upgrade")])
            .await;
        tunnel.answer_trailer().await;
        tunnel.answer_upgrade_data("hello").await;
        let http_request::Message::UpgradeData(data) = tunnel.part().await else {
            panic!("no upgraded data");
        };
        tunnel.answer_upgrade_data(data.data).await;
        tunnel.expect_close_send().await;
        tunnel.answer_upgrade_data("bye").await;
        tunnel.finish().await
    });
    let mut person = person(setting.server.server.people).await;
    let request = setting
        .request(Method::POST, "/exec?command=sh")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .body(no_body());
    let response = person.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()[header::UPGRADE], "SPDY/3.1");
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"hello");
    stream.write_all(b"again").await.unwrap();
    stream.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"again");
    // Half-closed: what the other side still has to say arrives.
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest));
    read.await.unwrap().unwrap();
    assert_eq!(rest, b"bye");
    assert_eq!(served.await.unwrap(), Code::Ok);
}

#[tokio::test]
async fn a_refused_upgrade_is_an_answer() {
    let setting = setting().await;
    let mut tunnel = setting.agent.tunnel().await;
    let served = tokio::spawn(async move {
        tunnel.request().await;
        tunnel.answer_head(403, &[("Content-Length", "2")]).await;
        tunnel.answer_data("no").await;
        tunnel.answer_trailer().await;
        tunnel.expect_close_send().await;
        tunnel.finish().await
    });
    let mut person = person(setting.server.server.people).await;
    let request = setting
        .request(Method::GET, "/exec")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .body(no_body());
    let answer = collect(person.send_request(request.unwrap()).await.unwrap()).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (StatusCode::FORBIDDEN, "no")
    );
    assert_eq!(served.await.unwrap(), Code::Ok);
}

#[tokio::test]
async fn a_draining_agent_costs_another_tunnel_not_the_request() {
    let setting = setting().await;
    let mut draining = setting.agent.tunnel().await;
    let mut person = person(setting.server.server.people).await;
    let post = setting
        .request(Method::POST, "/x")
        .body(Full::new("body".into()))
        .unwrap();
    let answered = tokio::spawn(person.send_request(post));
    let (_, body) = draining.request().await;
    assert_eq!(body, b"body");
    draining.refuse().await;
    let mut other = setting.agent.tunnel().await;
    let (_, body) = other.request().await;
    assert_eq!(body, b"body");
    other.answer_head(200, &[("Content-Length", "0")]).await;
    other.answer_trailer().await;
    assert_eq!(answered.await.unwrap().unwrap().status(), 200);
    assert_eq!(other.finish().await, Code::Ok);
}

#[tokio::test]
async fn a_tunnel_that_breaks_is_tried_again_only_for_what_may_be_done_twice() {
    let setting = setting().await;
    for (method, expected) in [(Method::GET, 200), (Method::POST, 502)] {
        let mut breaks = setting.agent.tunnel().await;
        let mut person = person(setting.server.server.people).await;
        let request = setting
            .request(method.clone(), "/x")
            .body(no_body())
            .unwrap();
        let answered = tokio::spawn(person.send_request(request));
        breaks.request().await;
        let other = setting.agent.tunnel().await;
        drop(breaks);
        if expected == 200 {
            assert_eq!(other.answer_all(200, "ok").await, Code::Ok);
        }
        let status = answered.await.unwrap().unwrap().status();
        assert_eq!(status.as_u16(), expected, "{method}");
    }
}

#[tokio::test]
async fn without_a_tunnel_the_wait_has_an_end() {
    let setting = setting().await;
    let mut person = person(setting.server.server.people).await;
    let answer = collect(person.send_request(setting.get("/api")).await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    let status = answer.json();
    assert_eq!(
        (&status["kind"], &status["code"]),
        (&"Status".into(), &502.into())
    );
    let message =
        "GitLab Agent Server: Agent connection not found. Is agent up to date and connected?";
    assert_eq!(status["message"], message);
    // One that comes in time is taken.
    let asked = tokio::spawn(person.send_request(setting.get("/api")));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let tunnel = setting.agent.tunnel().await;
    assert_eq!(tunnel.answer_all(200, "ok").await, Code::Ok);
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn strangers_are_refused_in_the_form_of_kubernetes() {
    let setting = setting().await;
    let mut person = person(setting.server.server.people).await;
    let agent_token = setting.created.token.clone();
    let id = setting.created.id;
    for (credential, status) in [
        (None, 401),
        (Some("Basic eDp5".to_owned()), 401),
        (Some("Bearer ci:1:x".to_owned()), 401),
        (Some(format!("Bearer pat:{id}:wrong")), 401),
        (Some(format!("Bearer pat:x:{}", setting.token)), 401),
        (Some(format!("Bearer pat:{id}:{agent_token}")), 403),
        (Some(format!("Bearer pat:1:{}", setting.token)), 404),
    ] {
        let mut request = http::Request::get("/k8s-proxy/api").header(header::HOST, "kas");
        if let Some(credential) = &credential {
            request = request.header(header::AUTHORIZATION, credential);
        }
        let request = request.body(no_body()).unwrap();
        let answer = collect(person.send_request(request).await.unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{credential:?}");
        assert_eq!(answer.json()["kind"], "Status");
        let marked = answer.headers.contains_key("gitlab-unauthorized");
        assert_eq!(marked, status == 401);
    }
}

#[tokio::test]
async fn revoking_a_personal_token_cuts_its_requests() {
    let setting = setting().await;
    let mut watched = setting.agent.tunnel().await;
    let mut person = person(setting.server.server.people).await;
    let answered = tokio::spawn(person.send_request(setting.get("/watch")));
    watched.request().await;
    watched.answer_head(200, &[]).await;
    watched.answer_data("event").await;
    let mut body = answered.await.unwrap().unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let path = format!("/api/v1/tokens/{}", setting.token_id);
    assert_eq!(
        setting
            .server
            .admin(Method::DELETE, &path, None)
            .await
            .status,
        200
    );
    let cut = tokio::time::timeout(LIMIT, body.frame()).await.unwrap();
    assert!(
        cut.unwrap().is_err(),
        "the answer breaks off, it does not look complete"
    );
    assert_eq!(watched.ended().await, Code::Cancelled);
}

#[tokio::test]
async fn an_agent_that_breaks_the_order_breaks_one_request() {
    let setting = setting().await;
    let mut tunnel = setting.agent.tunnel().await;
    let mut person = person(setting.server.server.people).await;
    let post = setting.request(Method::POST, "/x").body(no_body()).unwrap();
    let answered = tokio::spawn(person.send_request(post));
    tunnel.request().await;
    tunnel.answer_trailer().await;
    let answer = collect(answered.await.unwrap().unwrap()).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(tunnel.ended().await, Code::Internal);
    let asked = tokio::spawn(person.send_request(setting.get("/api")));
    let next = setting.agent.tunnel().await;
    assert_eq!(next.answer_all(200, "ok").await, Code::Ok);
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
}
