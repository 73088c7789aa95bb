//! The REST API, the page and the sign-in.

use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;

use crate::support::{Answer, LIMIT, TestServer, collect, no_body, person};

async fn ask(server: &TestServer, request: http::request::Builder, body: &str) -> Answer {
    let mut person = person(server.server.people).await;
    let request = request
        .header(header::HOST, "kas")
        .body(Full::new(body.to_owned().into()));
    collect(person.send_request(request.unwrap()).await.unwrap()).await
}

#[tokio::test]
async fn errors_are_problems_that_say_what_to_do() {
    let server = TestServer::start().await;
    server.create_agent("a", None).await;
    for (method, path, body, status, code) in [
        (Method::GET, "/api/v1/agents/none", None, 404, "not_found"),
        (Method::GET, "/api/v1/nothing", None, 404, "not_found"),
        (
            Method::PUT,
            "/api/v1/agents",
            None,
            405,
            "method_not_allowed",
        ),
        (
            Method::POST,
            "/api/v1/agents",
            Some(json!({"name": "a"})),
            409,
            "agent_exists",
        ),
        (
            Method::POST,
            "/api/v1/agents",
            Some(json!({"name": "A"})),
            422,
            "invalid_field",
        ),
        (
            Method::POST,
            "/api/v1/agents",
            Some(json!({"nam": "b"})),
            400,
            "invalid_json",
        ),
        (
            Method::POST,
            "/api/v1/agents",
            Some(json!({"name": "b", "project_url": "http://10.0.0.1/x"})),
            422,
            "invalid_field",
        ),
        (
            Method::POST,
            "/api/v1/tokens",
            Some(json!({"name": ""})),
            422,
            "invalid_field",
        ),
        (
            Method::POST,
            "/api/v1/tokens",
            Some(json!({"name": "t", "expires_days": 0})),
            422,
            "invalid_field",
        ),
        (Method::DELETE, "/api/v1/tokens/1", None, 404, "not_found"),
    ] {
        let answer = server.admin(method, path, body.clone()).await;
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{path} {body:?}: {}",
            answer.text()
        );
        assert_eq!(
            answer.headers[header::CONTENT_TYPE],
            "application/problem+json"
        );
        let problem = answer.json();
        assert_eq!(
            (&problem["status"], &problem["code"]),
            (&status.into(), &code.into())
        );
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_token_is_a_person_until_it_is_revoked() {
    let server = TestServer::start().await;
    let get = || Request::get("/api/v1/agents");
    assert_eq!(ask(&server, get(), "").await.status, 401);
    let (id, token) = server.create_token().await;
    let with_token = || get().header(header::AUTHORIZATION, format!("Bearer {token}"));
    assert_eq!(ask(&server, with_token(), "").await.status, 200);
    server
        .admin(Method::DELETE, &format!("/api/v1/tokens/{id}"), None)
        .await;
    assert_eq!(ask(&server, with_token(), "").await.status, 401);
}

#[tokio::test]
async fn an_agent_has_two_active_tokens_and_no_more() {
    let server = TestServer::start().await;
    server.create_agent("a", None).await;
    let path = "/api/v1/agents/a/tokens";
    assert_eq!(server.admin(Method::POST, path, None).await.status, 201);
    let third = server.admin(Method::POST, path, None).await;
    assert_eq!(
        (third.status.as_u16(), &third.json()["code"]),
        (409, &"limit_reached".into())
    );
}

#[tokio::test]
async fn the_push_hook_wants_its_secret() {
    let server = TestServer::start().await;
    let agent = server.create_agent("a", None).await;
    let other = server.create_agent("b", None).await;
    let hook = |name: &str| Request::post(format!("/api/v1/agents/{name}/push-hook"));
    let with = |secret: &str| hook("a").header("x-gitlab-token", secret);
    assert_eq!(
        ask(&server, with(&agent.webhook_secret), "{}").await.status,
        202
    );
    assert_eq!(
        ask(&server, with(&other.webhook_secret), "{}").await.status,
        401
    );
    assert_eq!(ask(&server, hook("a"), "").await.status, 401);
    assert_eq!(ask(&server, hook("none"), "").await.status, 401);
    let large = "x".repeat(65 * 1024);
    assert_eq!(
        ask(&server, with(&agent.webhook_secret), &large)
            .await
            .status,
        413
    );
}

#[tokio::test]
async fn the_link_of_the_first_start_signs_in_once() {
    let server = TestServer::start().await;
    server
        .create_agent("<agent>".replace(['<', '>'], "").as_str(), None)
        .await;
    let link = server.server.sign_in_link.clone().unwrap();
    let path = &link[link.find("/sign-in/").unwrap()..];
    let code = path.rsplit('/').next().unwrap();

    let stranger = ask(&server, Request::get("/"), "").await;
    assert!(stranger.text().contains("kas-stub sign-in-link"));
    let policy = stranger.headers["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");

    // Looking at the link, as previews do, does not use it up.
    for _ in 0..2 {
        let shown = ask(&server, Request::get(path), "").await;
        assert!(shown.status == 200 && !shown.headers.contains_key(header::SET_COOKIE));
    }
    let form = || {
        Request::post("/sign-in").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
    };
    // Who came for a page is sent there.
    let away = ask(&server, Request::get("/workspaces/one?x=1"), "").await;
    assert_eq!(away.headers[header::LOCATION], "/");
    let wanted = away.headers[header::SET_COOKIE].to_str().unwrap();
    let form_of_wanted = form().header(header::COOKIE, wanted.split(';').next().unwrap());
    let signed_in = ask(&server, form_of_wanted, &format!("code={code}")).await;
    assert_eq!(signed_in.status, 303);
    assert_eq!(signed_in.headers[header::LOCATION], "/workspaces/one?x=1");
    let cookie = signed_in.headers[header::SET_COOKIE]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    assert_eq!(
        ask(&server, form(), &format!("code={code}")).await.status,
        403
    );

    let page = ask(
        &server,
        Request::get("/").header(header::COOKIE, &cookie),
        "",
    )
    .await;
    assert!(page.text().contains("<td>agent</td>"), "{}", page.text());

    // A session changes things only from this server's own pages.
    let post = || Request::post("/api/v1/tokens").header(header::COOKIE, &cookie);
    let foreign = ask(
        &server,
        post().header(header::ORIGIN, "https://evil"),
        r#"{"name":"t"}"#,
    );
    assert_eq!(foreign.await.json()["code"], "cross_site");
    let own = ask(
        &server,
        post().header(header::ORIGIN, "http://kas"),
        r#"{"name":"t"}"#,
    );
    assert_eq!(own.await.status, 201);
    // And makes no link that would outlive it.
    let link = Request::post("/api/v1/sign-in-links").header(header::COOKIE, &cookie);
    let link = ask(&server, link.header(header::ORIGIN, "http://kas"), "").await;
    assert_eq!(link.status, 403);

    // An open page hears of what is there at once, and no longer than the session lasts.
    let mut listener = person(server.server.people).await;
    let live = Request::get("/live").header(header::COOKIE, &cookie);
    let live = live.header(header::HOST, "kas").body(no_body()).unwrap();
    let mut live = listener.send_request(live).await.unwrap().into_body();
    let first = tokio::time::timeout(LIMIT, live.frame()).await.unwrap();
    let first = first.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "event: changed\ndata: now\n\n");

    let out = Request::post("/sign-out").header(header::COOKIE, &cookie);
    assert_eq!(
        ask(&server, out.header(header::ORIGIN, "http://kas"), "")
            .await
            .status,
        303
    );
    let rest = tokio::time::timeout(LIMIT, live.collect()).await;
    assert_eq!(rest.unwrap().unwrap().to_bytes(), "");
    let page = ask(
        &server,
        Request::get("/").header(header::COOKIE, &cookie),
        "",
    )
    .await;
    assert!(!page.text().contains("<td>agent</td>"));
}

#[tokio::test]
async fn machines_see_metrics_and_probes() {
    let server = TestServer::start().await;
    let mut machine = person(server.server.observability).await;
    for (path, expected) in [
        ("/liveness", "alive"),
        ("/readiness", "ready"),
        ("/metrics", "kas_stub_tunnels{state=\"idle\"} 0"),
    ] {
        let request = Request::get(path)
            .header(header::HOST, "kas")
            .body(no_body())
            .unwrap();
        let answer = collect(machine.send_request(request).await.unwrap()).await;
        assert!(
            answer.status == 200 && answer.text().contains(expected),
            "{}",
            answer.text()
        );
    }
}
