//! People with rights of their own: what they may on whose agent, and what ends when they no longer may.

use std::time::Duration;

use http::{Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use proto::remote_development::rpc as wire;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::access::{DOMAIN, Leader, TOKEN, cookie_of, location, service};
use crate::client::{self, Call};
use crate::git::Repository;
use crate::rig::{Registered, Rig, SOON, id_of};
use crate::upstream::Upstream;

/// How long what somebody has open may go on when they may no longer.
const CUT: Duration = Duration::from_secs(5);
const ORIGIN: &str = "https://server.test";

/// A user who is a member of the agent's project, and their workspace.
struct Stage {
    rig: Rig,
    registered: Registered,
    agent: agent::app::Agent,
    upstream: Upstream,
    _leader: Leader,
    _repository: Repository,
}

/// What a user has of credentials.
struct Credentials {
    session: String,
    token: String,
    token_id: String,
}

/// What a user has open.
struct Open {
    by_token: Vec<(&'static str, Call)>,
    by_session: Vec<(&'static str, Call)>,
    exec: TokioIo<hyper::upgrade::Upgraded>,
}

impl Stage {
    async fn start() -> Self {
        let rig = Rig::start().await;
        for (path, body) in [
            ("/api/v1/users", json!({"name": "ada"})),
            ("/api/v1/projects", json!({"path": "team/tools"})),
        ] {
            rig.admin(Method::POST, path, body).await;
        }
        let upstream = Upstream::start().await;
        let repository = Repository::serve(&format!(
            "schemaVersion: 2.2.0\nmetadata: {{ name: app }}\ncomponents:\n- name: tools\n  container:\n    \
             image: localhost/tools:1\n    endpoints:\n    - {{ name: web, targetPort: {} }}\n",
            upstream.port
        ))
        .await;
        let registered = rig.register_for_workspaces("one", &repository.url).await;
        let project = json!({"project": "team/tools"});
        rig.admin(Method::PUT, "/api/v1/agents/one/project", project)
            .await;
        join(&rig, "developer").await;
        let credentials = credentials(&rig).await;
        let mut leader = Leader::begin(&rig, &registered).await;
        let request = json!({"repository": repository.url, "name": "hers"});
        let (status, workspace) = send(
            &rig,
            Method::POST,
            "/api/v1/workspaces",
            &credentials.token,
            request,
        )
        .await;
        assert_eq!(status, StatusCode::CREATED, "{workspace}");
        assert_eq!(workspace["owner"], "ada");
        leader.report(&workspace, wire::ActualState::Running).await;
        rig.api
            .set_services(vec![service(&workspace, registered.id)]);
        let agent = rig.start_agent("one", &registered.token).await;
        rig.wait_connected("one", true).await;
        Self {
            rig,
            registered,
            agent,
            upstream,
            _leader: leader,
            _repository: repository,
        }
    }

    fn host(&self) -> String {
        let port = self.rig.people_address.port();
        format!("{}-hers.{DOMAIN}:{port}", self.upstream.port)
    }

    fn at_host(&self, path: &str) -> http::request::Builder {
        http::Request::get(path).header(header::HOST, self.host())
    }

    fn kubectl(&self, token: &str, method: Method, path: &str) -> http::request::Builder {
        let credential = format!("Bearer pat:{}:{token}", self.registered.id);
        client::request(method, &format!("/k8s-proxy{path}"))
            .header(header::AUTHORIZATION, credential)
    }

    async fn call(&self, request: http::request::Builder) -> Call {
        let request = request.body(client::empty()).unwrap();
        let call = client::tcp(self.rig.people_address, request);
        tokio::time::timeout(SOON, call).await.unwrap().unwrap()
    }

    async fn version(&self, token: &str) -> StatusCode {
        let request = self.kubectl(token, Method::GET, "/version");
        self.call(request).await.status()
    }

    /// The cookie of the workspace's host, got as a browser gets it.
    async fn host_cookie(&self, session: &str) -> String {
        let path = format!("/open-workspace?host={}&path=/", self.host());
        let request = client::request(Method::GET, &path).header(header::COOKIE, session);
        let answer = self.call(request).await;
        let to = location(&answer).to_owned();
        let path = to.strip_prefix(&format!("https://{}", self.host()));
        let path = path.unwrap_or_else(|| panic!("{to}"));
        cookie_of(&self.call(self.at_host(path)).await)
    }

    /// Opens a stream of each kind, and waits until each has begun.
    async fn open(&self, credentials: &Credentials) -> Open {
        let Credentials { session, token, .. } = credentials;
        let api = |path: &str| client::request(Method::GET, path);
        let bearer = format!("Bearer {token}");
        let events = "/api/v1/workspaces/hers/events";
        let endless = "/bytes/10000000000";
        let host_cookie = self.host_cookie(session).await;
        let by_token = [
            ("kubectl", self.kubectl(token, Method::GET, "/endless")),
            ("events", api(events).header(header::AUTHORIZATION, bearer)),
            ("port", self.at_host(endless).header(TOKEN, token)),
        ];
        let by_session = [
            ("live page", api("/live").header(header::COOKIE, session)),
            ("events", api(events).header(header::COOKIE, session)),
            (
                "port",
                self.at_host(endless).header(header::COOKIE, host_cookie),
            ),
        ];
        let exec = self
            .kubectl(token, Method::POST, "/exec")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "SPDY/3.1");
        let mut exec = self.call(exec).await;
        assert_eq!(exec.status(), StatusCode::SWITCHING_PROTOCOLS);
        Open {
            by_token: self.begin(by_token).await,
            by_session: self.begin(by_session).await,
            exec: TokioIo::new(hyper::upgrade::on(&mut exec.response).await.unwrap()),
        }
    }

    async fn begin<const N: usize>(
        &self,
        requests: [(&'static str, http::request::Builder); N],
    ) -> Vec<(&'static str, Call)> {
        let mut open = Vec::new();
        for (what, request) in requests {
            let mut call = self.call(request).await;
            assert_eq!(call.status(), StatusCode::OK, "{what}");
            let first = tokio::time::timeout(SOON, call.next()).await;
            first.unwrap().unwrap().unwrap();
            open.push((what, call));
        }
        open
    }
}

impl Open {
    async fn expect_all_end(mut self) {
        expect_end(self.by_token).await;
        expect_end(self.by_session).await;
        let rest = async { while let Ok(1..) = self.exec.read(&mut [0; 1024]).await {} };
        tokio::time::timeout(CUT, rest).await.expect("exec ends");
    }
}

async fn expect_end(open: Vec<(&'static str, Call)>) {
    for (what, mut call) in open {
        let rest = async { while let Some(Ok(_)) = call.next().await {} };
        let ended = tokio::time::timeout(CUT, rest).await;
        ended.unwrap_or_else(|_| panic!("{what} goes on"));
    }
}

async fn join(rig: &Rig, role: &str) {
    let path = "/api/v1/projects/team%2Ftools/members/ada";
    rig.admin(Method::PUT, path, json!({ "role": role })).await;
}

/// A session and a token of the user's, who signs in by a link.
async fn credentials(rig: &Rig) -> Credentials {
    let links = "/api/v1/sign-in-links";
    let link = rig.admin(Method::POST, links, json!({"user": "ada"})).await;
    let code = link["url"].as_str().unwrap().rsplit('/').next().unwrap();
    let form = client::request(Method::POST, "/sign-in")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(client::full(format!("code={code}")))
        .unwrap();
    let session = cookie_of(&client::tcp(rig.people_address, form).await.unwrap());
    let request = client::request(Method::POST, "/api/v1/tokens")
        .header(header::COOKIE, &session)
        .header(header::ORIGIN, ORIGIN)
        .body(client::full(json!({"name": "hers"}).to_string()))
        .unwrap();
    let made = client::tcp(rig.people_address, request).await.unwrap();
    let made = made.json().await;
    Credentials {
        session,
        token: made["token"].as_str().unwrap().to_owned(),
        token_id: id_of(&made),
    }
}

/// Asks the API by a token.
async fn send(
    rig: &Rig,
    method: Method,
    path: &str,
    token: &str,
    body: Value,
) -> (StatusCode, Value) {
    let request = client::request(method, path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(client::full(body.to_string()))
        .unwrap();
    let call = client::tcp(rig.people_address, request).await.unwrap();
    (call.status(), call.json().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_user_and_a_revoked_token_have_nothing_open_within_5_s() {
    let stage = Stage::start().await;
    let credentials_before = credentials(&stage.rig).await;
    let token = &credentials_before.token;
    let open = stage.open(&credentials_before).await;
    stage.rig.api.wait_open(2).await;
    let user = "/api/v1/users/ada";
    let suspend = format!("{user}/suspend");
    stage.rig.admin(Method::POST, &suspend, Value::Null).await;
    open.expect_all_end().await;
    stage.rig.api.wait_open(0).await;
    assert_eq!(stage.version(token).await, StatusCode::UNAUTHORIZED);
    let port = stage.at_host("/head").header(TOKEN, token);
    let port = stage.call(port.header("sec-fetch-mode", "cors")).await;
    assert_eq!(port.status(), StatusCode::UNAUTHORIZED);

    let reactivate = format!("{user}/reactivate");
    stage
        .rig
        .admin(Method::POST, &reactivate, Value::Null)
        .await;
    assert_eq!(stage.version(token).await, StatusCode::OK);
    let account = client::request(Method::GET, "/api/v1/user")
        .header(header::COOKIE, &credentials_before.session);
    let account = stage.call(account).await;
    assert_eq!(
        account.status(),
        StatusCode::UNAUTHORIZED,
        "the session is gone"
    );

    // A token that is revoked takes what is open by it along, and nothing else.
    let credentials = credentials(&stage.rig).await;
    let mut open = stage.open(&credentials).await;
    let revoke = format!("{user}/tokens/{}", credentials.token_id);
    stage.rig.admin(Method::DELETE, &revoke, Value::Null).await;
    expect_end(std::mem::take(&mut open.by_token)).await;
    for (what, call) in &mut open.by_session {
        if *what == "port" {
            let more = tokio::time::timeout(SOON, call.next()).await;
            more.unwrap().unwrap().unwrap();
        }
    }
    // The session ends with what is open by it.
    let sessions = format!("{user}/sessions");
    let listed = stage.rig.admin(Method::GET, &sessions, Value::Null).await;
    for session in listed.as_array().unwrap() {
        let end = format!("{sessions}/{}", id_of(session));
        stage.rig.admin(Method::DELETE, &end, Value::Null).await;
    }
    open.expect_all_end().await;
    stage.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_the_project_may_not_use_its_agent_and_keeps_their_workspace() {
    let stage = Stage::start().await;
    let credentials = credentials(&stage.rig).await;
    let token = &credentials.token;
    // Somebody else's workspace there is none of hers, whatever she is in the project.
    let others = json!({"repository": stage._repository.url, "name": "others"});
    stage
        .rig
        .admin(Method::POST, "/api/v1/workspaces", others)
        .await;
    join(&stage.rig, "owner").await;
    for (method, path) in [
        (Method::GET, "/api/v1/workspaces/others"),
        (Method::POST, "/api/v1/workspaces/others/stop"),
        (Method::GET, "/api/v1/workspaces/others/logs"),
        (Method::GET, "/api/v1/workspaces/others/events"),
    ] {
        let (status, answer) = send(&stage.rig, method, path, token, Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {answer}");
    }
    let list = "/api/v1/workspaces";
    let (_, own) = send(&stage.rig, Method::GET, list, token, Value::Null).await;
    let names = |list: &Value| -> Vec<String> {
        let all = list.as_array().unwrap().iter();
        all.map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&own), ["hers"]);
    let all = format!("{list}?owner=*");
    let (status, _) = send(&stage.rig, Method::GET, &all, token, Value::Null).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let all = stage.rig.admin(Method::GET, &all, Value::Null).await;
    assert_eq!(names(&all), ["hers", "others"]);
    let of_ada = stage
        .rig
        .admin(Method::GET, &format!("{list}?owner=ada"), Value::Null)
        .await;
    assert_eq!(names(&of_ada), ["hers"]);

    let open = stage.open(&credentials).await;
    let member = "/api/v1/projects/team%2Ftools/members/ada";
    stage.rig.admin(Method::DELETE, member, Value::Null).await;
    open.expect_all_end().await;
    assert_eq!(stage.version(token).await, StatusCode::FORBIDDEN);
    let again = json!({"repository": stage._repository.url, "name": "another"});
    let (status, answer) = send(&stage.rig, Method::POST, list, token, again).await;
    assert_eq!(
        (status.as_u16(), &answer["code"]),
        (422, &json!("no_agent"))
    );
    let port = stage.call(stage.at_host("/head").header(TOKEN, token));
    assert_eq!(port.await.status(), StatusCode::OK);
    let stop = "/api/v1/workspaces/hers/stop";
    let (status, _) = send(&stage.rig, Method::POST, stop, token, Value::Null).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    stage.agent.stop().await;
}
