//! Hosts of workspaces: from a person's connection through both programs to a program on a port, and who may not.

mod idle;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use kas_stub::config::ServeConfig;
use proto::entity::AgentMeta;
use proto::remote_development::rpc::{
    self as wire, reconcile_request, reconcile_response::Message,
    remote_development_client::RemoteDevelopmentClient,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::client::{self, Body, Call};
use crate::git::Repository;
use crate::rig::{Registered, Rig, SOON};
use crate::upstream::Upstream;

const MIB: usize = 1024 * 1024;
pub(crate) const TOKEN: &str = "x-kas-stub-token";
pub(crate) const DOMAIN: &str = "workspaces.localhost";

/// A workspace named `one` with a program on its port, an agent, and who says what state it is in.
struct Stage {
    rig: Rig,
    upstream: Upstream,
    /// Declared, and nobody listens.
    silent: u16,
    agent: Option<agent::app::Agent>,
    leader: Leader,
    workspace: Value,
    registered: Registered,
    _repository: Repository,
}

impl Stage {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// The same with another configuration of the server.
    async fn start_with(change_server: fn(&mut ServeConfig)) -> Self {
        let rig = Rig::start_with(change_server).await;
        let upstream = Upstream::start().await;
        // Taken and given back: nobody else takes it in this short while.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = silent.local_addr().unwrap().port();
        let devfile = format!(
            "schemaVersion: 2.2.0\nmetadata: {{ name: app }}\ncomponents:\n- name: tools\n  container:\n    \
             image: localhost/tools:1\n    endpoints:\n    - {{ name: web, targetPort: {} }}\n    \
             - {{ name: silent, targetPort: {silent} }}\n",
            upstream.port
        );
        let repository = Repository::serve(&devfile).await;
        let registered = rig.register_for_workspaces("one", &repository.url).await;
        let mut leader = Leader::begin(&rig, &registered).await;
        let request = json!({"repository": repository.url, "name": "one"});
        let workspace = rig.admin(Method::POST, "/api/v1/workspaces", request).await;
        leader.report(&workspace, wire::ActualState::Running).await;
        rig.api
            .set_services(vec![service(&workspace, registered.id)]);
        let agent = rig.start_agent("one", &registered.token).await;
        rig.wait_connected("one", true).await;
        Self {
            rig,
            upstream,
            silent,
            agent: Some(agent),
            leader,
            workspace,
            registered,
            _repository: repository,
        }
    }

    fn host(&self, port: u16) -> String {
        format!("{port}-one.{DOMAIN}:{}", self.rig.people_address.port())
    }

    /// A request to the program's host, by the owner's token.
    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        self.request_to(self.upstream.port, method, path)
            .header(TOKEN, &self.rig.person)
    }

    fn request_to(&self, port: u16, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.host(port))
    }

    async fn send(&self, request: http::request::Builder, body: Body) -> Call {
        let request = request.body(body).unwrap();
        let sent = client::tcp(self.rig.people_address, request);
        tokio::time::timeout(SOON, sent).await.unwrap().unwrap()
    }

    async fn get(&self, path: &str) -> Call {
        self.send(self.request(Method::GET, path), client::empty())
            .await
    }

    /// The text of a page at a port, as a browser of the owner's asks for it.
    async fn page(&self, port: u16) -> (StatusCode, String) {
        let request = self
            .request_to(port, Method::GET, "/")
            .header(TOKEN, &self.rig.person)
            .header("sec-fetch-mode", "navigate");
        text(self.send(request, client::empty()).await).await
    }

    /// A platform session, as a `Cookie` header.
    async fn sign_in(&self) -> String {
        let link = self
            .rig
            .admin(Method::POST, "/api/v1/sign-in-links", Value::Null)
            .await;
        let code = link["url"].as_str().unwrap().rsplit('/').next().unwrap();
        let request = client::request(Method::POST, "/sign-in")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let call = self
            .send(request, client::full(format!("code={code}")))
            .await;
        cookie_of(&call)
    }

    /// Opens the program's host as a browser with this platform session does. The host's cookie.
    async fn open(&self, session: &str) -> String {
        let code = self.code(session, "/head?x=1").await;
        let signed_in = self.send(code, client::empty()).await;
        assert_eq!(signed_in.status(), StatusCode::FOUND);
        let cookie = cookie_of(&signed_in);
        let arrived = self.follow(&signed_in, Some(&cookie)).await;
        assert_eq!(location(&arrived), "/head?x=1");
        cookie
    }

    /// The request with a code that the platform sends a browser with.
    async fn code(&self, session: &str, path: &str) -> http::request::Builder {
        let first = self
            .send(
                self.request_to(self.upstream.port, Method::GET, path),
                client::empty(),
            )
            .await;
        assert_eq!(first.status(), StatusCode::FOUND);
        let (_, to) = location(&first).split_once("/open-workspace").unwrap();
        let request = client::request(Method::GET, &format!("/open-workspace{to}"))
            .header(header::COOKIE, session);
        let answer = self.send(request, client::empty()).await;
        let to = location(&answer);
        let path = to
            .strip_prefix(&format!("https://{}", self.host(self.upstream.port)))
            .unwrap_or_else(|| panic!("{to}"));
        self.request_to(self.upstream.port, Method::GET, path)
    }

    /// Goes where an answer of the program's host sends to.
    async fn follow(&self, call: &Call, cookie: Option<&str>) -> Call {
        let mut request = self.request_to(self.upstream.port, Method::GET, location(call));
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        self.send(request, client::empty()).await
    }
}

/// A Service as the native backend makes it.
pub(crate) fn service(workspace: &Value, agent_id: u64) -> Value {
    let ports: Vec<_> = workspace["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| json!({"name": it["name"], "port": it["port"], "protocol": "TCP"}))
        .collect();
    json!({
        "metadata": {
            "name": workspace["name"], "namespace": workspace["namespace"],
            "labels": {
                "agent.gitlab.com/id": agent_id.to_string(),
                "workspaces.gitlab.com/name": workspace["name"],
            },
            "annotations": {"workspaces.gitlab.com/id": workspace["id"]},
        },
        "spec": {
            "clusterIP": "127.0.0.1",
            "selector": {"workspaces.gitlab.com/name": workspace["name"]},
            "ports": ports,
        },
    })
}

pub(crate) fn location(call: &Call) -> &str {
    call.response.headers()[header::LOCATION].to_str().unwrap()
}

pub(crate) fn cookie_of(call: &Call) -> String {
    let set = call.response.headers()[header::SET_COOKIE]
        .to_str()
        .unwrap();
    set.split(';').next().unwrap().to_owned()
}

async fn text(call: Call) -> (StatusCode, String) {
    let status = call.status();
    let text = String::from_utf8(call.bytes().await.to_vec()).unwrap();
    (status, text)
}

/// The stream of the agent's leader, played by the test: the fake API server knows no objects to see states in.
pub(crate) struct Leader {
    requests: mpsc::Sender<wire::ReconcileRequest>,
    responses: tonic::Streaming<wire::ReconcileResponse>,
    polls: u64,
}

impl Leader {
    pub(crate) async fn begin(rig: &Rig, registered: &Registered) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{}", rig.agents_address)).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let bearer: tonic::metadata::MetadataValue<_> =
            format!("Bearer {}", registered.token).parse().unwrap();
        let mut client = RemoteDevelopmentClient::with_interceptor(
            channel,
            move |mut request: tonic::Request<()>| {
                let metadata = request.metadata_mut();
                metadata.insert("authorization", bearer.clone());
                Ok(request)
            },
        );
        let (requests, receiver) = mpsc::channel(8);
        let begin = wire::Begin {
            agent_meta: Some(AgentMeta {
                pod_name: "leader".into(),
                ..AgentMeta::default()
            }),
            fencing_token: 1,
        };
        let send = |message| wire::ReconcileRequest {
            message: Some(message),
        };
        let begin = send(reconcile_request::Message::Begin(begin));
        requests.send(begin).await.unwrap();
        let responses = client.reconcile(ReceiverStream::new(receiver)).await;
        let mut leader = Self {
            requests,
            responses: responses.unwrap().into_inner(),
            polls: 0,
        };
        leader.poll(Vec::new()).await;
        leader
    }

    /// Says what state the workspace is in; the server has it when this returns.
    pub(crate) async fn report(&mut self, workspace: &Value, actual: wire::ActualState) {
        let text = |name: &str| workspace[name].as_str().unwrap().to_owned();
        let report = wire::WorkspaceReport {
            workspace_id: text("id"),
            name: text("name"),
            namespace: text("namespace"),
            applied_generation: self.polls,
            actual_state: actual.into(),
            age_ms: 0,
            failures: Vec::new(),
            dev_workspace: None,
        };
        self.poll(vec![report]).await;
    }

    async fn poll(&mut self, reports: Vec<wire::WorkspaceReport>) {
        self.polls += 1;
        let poll = wire::Poll {
            number: self.polls,
            full: self.polls == 1,
            reports,
            more: false,
            dev_workspace_operator: None,
        };
        let message = Some(reconcile_request::Message::Poll(poll));
        let request = wire::ReconcileRequest { message };
        self.requests.send(request).await.unwrap();
        loop {
            let response = tokio::time::timeout(SOON, self.responses.message());
            let response = response.await.unwrap().unwrap().unwrap();
            if let Some(Message::PollAnswered(answered)) = response.message {
                assert_eq!(answered.number, self.polls);
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_reaches_the_program_and_our_credentials_stay_behind() {
    let stage = Stage::start().await;
    let request = stage
        .request(Method::GET, "/head?a=b")
        .header(header::COOKIE, "kas_stub_session=secret; own=1")
        .header("x-forwarded-for", "1.2.3.4");
    let call = stage.send(request, client::empty()).await;
    assert_eq!(call.status(), StatusCode::OK);
    let set: Vec<_> = call
        .response
        .headers()
        .get_all(header::SET_COOKIE)
        .iter()
        .collect();
    assert_eq!(set, ["own=1; Path=/"]);
    let seen = call.json().await;
    let host = stage.host(stage.upstream.port);
    assert_eq!(
        seen,
        json!({
            "host": host, "cookie": "own=1", "x-forwarded-for": "127.0.0.1", "x-forwarded-host": host,
            "x-forwarded-proto": "https",
        })
    );
    stage.agent.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_signs_in_once_and_out_everywhere() {
    let stage = Stage::start().await;
    let session = stage.sign_in().await;
    let cookie = stage.open(&session).await;
    let with_cookie = |path: &str| {
        stage
            .request_to(stage.upstream.port, Method::GET, path)
            .header(header::COOKIE, &cookie)
    };
    let (status, seen) = text(stage.send(with_cookie("/head"), client::empty()).await).await;
    assert_eq!(status, StatusCode::OK);
    assert!(!seen.contains("cookie"), "{seen}");

    // Another host does not know the cookie, another workspace's page may not use it.
    let elsewhere = stage
        .request_to(stage.silent, Method::POST, "/")
        .header(header::COOKIE, &cookie);
    let elsewhere = stage.send(elsewhere, client::empty()).await;
    assert_eq!(elsewhere.status(), StatusCode::UNAUTHORIZED);
    let foreign = with_cookie("/head").header(header::ORIGIN, format!("https://1-two.{DOMAIN}"));
    let foreign = stage.send(foreign, client::empty()).await;
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);

    let mut download = stage
        .send(with_cookie("/bytes/1000000000"), client::empty())
        .await;
    download.next().await.unwrap().unwrap();
    let sign_out = client::request(Method::POST, "/sign-out")
        .header(header::COOKIE, &session)
        .header("sec-fetch-site", "same-origin")
        .header(header::ORIGIN, "https://server.test");
    stage.send(sign_out, client::empty()).await;
    let broke_off = async { while let Some(Ok(_)) = download.next().await {} };
    tokio::time::timeout(Duration::from_secs(5), broke_off)
        .await
        .expect("what ran ends with the session");
    assert!(stage.upstream.sent() < 1_000_000_000);
    let after = stage.send(with_cookie("/head"), client::empty()).await;
    assert_eq!(after.status(), StatusCode::FOUND);
    stage.agent.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_programs_and_browsers_without_cookies_go_in_no_circle() {
    let stage = Stage::start().await;
    let port = stage.upstream.port;
    for (method, name, value) in [
        (Method::POST, "accept", "text/html"),
        (Method::GET, "sec-fetch-mode", "cors"),
        (Method::GET, TOKEN, "rdpat-wrong"),
    ] {
        let request = stage.request_to(port, method, "/head").header(name, value);
        let request = match name == TOKEN {
            true => request.header("sec-fetch-mode", "no-cors"),
            false => request,
        };
        let answer = stage.send(request, client::empty()).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{name}: {value}");
    }
    // Without a session the platform asks to sign in, and sends nowhere.
    let first = stage
        .send(stage.request_to(port, Method::GET, "/"), client::empty())
        .await;
    let (_, to) = location(&first).split_once("/open-workspace").unwrap();
    let to = format!("/open-workspace{to}");
    let stranger = client::request(Method::GET, &to);
    let (status, page) = text(stage.send(stranger, client::empty()).await).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(page.contains("sign in"), "{page}");

    let session = stage.sign_in().await;
    let code = stage
        .code(&session, "/")
        .await
        .body(client::empty())
        .unwrap();
    let uri = code.uri().clone();
    let signed_in = client::tcp(stage.rig.people_address, code).await.unwrap();
    // The browser drops the cookie.
    let (status, page) = text(stage.follow(&signed_in, None).await).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(page.contains("keeps no cookie"), "{page}");
    // The code is spent.
    let again = stage.request_to(port, Method::GET, uri.path_and_query().unwrap().as_str());
    let again = stage.send(again, client::empty()).await;
    assert_eq!(again.status(), StatusCode::FORBIDDEN);

    for host in [
        "example.com".to_owned(),
        format!("80-two.{DOMAIN}"),
        format!("80-one.{DOMAIN}.example.com"),
    ] {
        let request = client::request(Method::GET, &format!("/open-workspace?host={host}&path=/"))
            .header(header::COOKIE, &session);
        let answer = stage.send(request, client::empty()).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{host}");
    }
    for path in ["//example.com", "https://example.com", "/%5Cexample.com"] {
        let request = stage
            .request_to(
                port,
                Method::GET,
                &format!("/.kas-stub/arrived?path={path}"),
            )
            .header(TOKEN, &stage.rig.person);
        let answer = stage.send(request, client::empty()).await;
        assert_eq!(location(&answer), "/", "{path}");
    }
    stage.agent.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_passes_bytes_and_each_side_closes_its_half() {
    let stage = Stage::start().await;
    let request = stage
        .request(Method::GET, "/echo")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket");
    let mut call = stage.send(request, client::empty()).await;
    assert_eq!(call.status(), StatusCode::SWITCHING_PROTOCOLS);
    let upgraded = hyper::upgrade::on(&mut call.response).await.unwrap();
    let mut stream = TokioIo::new(upgraded);
    let sent: Vec<u8> = (0..MIB).map(|it| it as u8).collect();
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let read = async {
        let mut back = Vec::new();
        reader.read_to_end(&mut back).await.unwrap();
        back
    };
    let both = async { tokio::join!(write, read).1 };
    let back = tokio::time::timeout(SOON, both).await.unwrap();
    assert!(
        back.strip_suffix(b"bye") == Some(&sent),
        "{} bytes",
        back.len()
    );
    stage.agent.unwrap().stop().await;
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: usize = line
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|number| number.parse().ok())
        .unwrap();
    kib * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_both_ways_in_little_memory() {
    const SIZE: usize = 256 * MIB;
    /// Windows, queues and buffers of both programs and both ends, and what other tests take meanwhile.
    const MOST: usize = 96 * MIB;
    let stage = Stage::start().await;
    let before = resident();
    let mut most = before;

    let piece = Bytes::from(vec![0; 64 * 1024]);
    let pieces = stream::iter(
        (0..SIZE / piece.len()).map(move |_| Ok::<_, Infallible>(Frame::data(piece.clone()))),
    );
    let body: Body = StreamBody::new(pieces)
        .map_err(|never| match never {})
        .boxed();
    let request = stage.request(Method::POST, "/count").body(body).unwrap();
    let mut sending = std::pin::pin!(client::tcp(stage.rig.people_address, request));
    let call = loop {
        tokio::select! {
            call = &mut sending => break call.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(50)) => most = most.max(resident()),
        }
    };
    assert_eq!(text(call).await.1, SIZE.to_string());

    let mut call = stage.get(&format!("/bytes/{SIZE}")).await;
    let mut received = 0;
    while let Some(data) = call.next().await {
        let data = data.unwrap();
        if received / (8 * MIB) != (received + data.len()) / (8 * MIB) {
            most = most.max(resident());
        }
        received += data.len();
    }
    assert_eq!(received, SIZE);
    let grown = most - before;
    println!("{} MiB more for {} MiB each way", grown / MIB, SIZE / MIB);
    assert!(grown < MOST, "{} MiB more", grown / MIB);
    stage.agent.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_holds_back_its_own_program_and_nobody_else() {
    /// Windows, queues and socket buffers along the way.
    const UNDER_WAY: u64 = 64 * MIB as u64;
    let stage = Stage::start().await;
    let mut slow = stage.get("/bytes/10000000000").await;
    slow.next().await.unwrap().unwrap();
    for _ in 0..3 {
        let fast = stage.get(&format!("/bytes/{}", 4 * MIB)).await;
        let took = tokio::time::timeout(SOON, fast.bytes()).await.unwrap();
        assert_eq!(took.len(), 4 * MIB);
    }
    assert!(
        stage.upstream.sent() < UNDER_WAY,
        "{}",
        stage.upstream.sent()
    );
    drop(slow);
    stage.agent.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_workspaces_place_a_page_says_why() {
    let mut stage = Stage::start().await;
    let (status, page) = stage.page(stage.silent).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(
        page.contains(&format!("Nobody listens on port {}", stage.silent)),
        "{page}"
    );
    assert!(page.contains("http-equiv=\"refresh\""), "{page}");

    let (status, page) = stage.page(1).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(
        page.contains("no port 1") && page.contains(&stage.upstream.port.to_string()),
        "{page}"
    );

    let workspace = stage.workspace.clone();
    for (actual, says) in [
        (wire::ActualState::Starting, "one is Starting"),
        (wire::ActualState::Failed, "one is Failed"),
    ] {
        stage.leader.report(&workspace, actual).await;
        let (status, page) = stage.page(stage.upstream.port).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            page.contains(says) && page.contains("http-equiv=\"refresh\""),
            "{page}"
        );
        assert!(!page.contains("<script"), "{page}");
        let program = stage
            .request(Method::GET, "/")
            .header("sec-fetch-mode", "cors");
        let (status, line) = text(stage.send(program, client::empty()).await).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            !line.contains('<') && line.contains(says.rsplit(' ').next().unwrap()),
            "{line}"
        );
    }
    stage
        .rig
        .admin(Method::POST, "/api/v1/workspaces/one/stop", Value::Null)
        .await;
    stage
        .leader
        .report(&workspace, wire::ActualState::Stopped)
        .await;
    let (_, page) = stage.page(stage.upstream.port).await;
    assert!(
        page.contains("one is stopped") && page.contains("/workspaces/one\">Start it"),
        "{page}"
    );
    stage.agent.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_reaches_nothing_but_services_with_its_own_marks() {
    let mut stage = Stage::start().await;
    assert_eq!(stage.get("/head").await.status(), StatusCode::OK);
    stage.agent.take().unwrap().stop().await;
    let id = stage.registered.id;
    let own = service(&stage.workspace, id);
    let strange = |change: fn(&mut Value)| {
        let mut service = own.clone();
        change(&mut service);
        service
    };
    let cases = [
        service(&stage.workspace, id + 1),
        strange(|it| it["metadata"]["annotations"]["workspaces.gitlab.com/id"] = json!("another")),
        strange(|it| it["spec"]["selector"] = json!({"workspaces.gitlab.com/name": "two"})),
        strange(|it| it["spec"]["type"] = json!("ExternalName")),
        strange(|it| it["spec"]["clusterIP"] = json!("None")),
        strange(|it| it["spec"]["ports"] = json!([{"port": 1}])),
    ];
    for (number, service) in cases.into_iter().enumerate() {
        stage.rig.wait_connected("one", false).await;
        stage.rig.api.set_services(vec![service]);
        let agent = stage.rig.start_agent("one", &stage.registered.token).await;
        stage.rig.wait_connected("one", true).await;
        let (status, text) = text(stage.get("/head").await).await;
        assert!(
            status == StatusCode::NOT_FOUND || status == StatusCode::SERVICE_UNAVAILABLE,
            "{number}: {status} {text}"
        );
        agent.stop().await;
    }
}
