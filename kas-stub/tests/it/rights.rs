//! What users, members of projects, administrators and tokens may, asked over HTTP.

use http::{Method, Request, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::{
    people::{FORM, admin, ask, by_session, by_token, cookie, sign_in, token, user},
    support::{TestServer, collect, person, proxied},
};

#[tokio::test]
async fn a_user_sees_what_is_theirs_and_a_member_what_is_the_projects() {
    let server = TestServer::start().await;
    let password = user(&server, "ada").await;
    server.create_agent("alone", None).await;
    admin(
        &server,
        Method::POST,
        "/api/v1/projects",
        json!({"path": "team/tools"}),
    )
    .await;
    let made = json!({"name": "tools", "project": "team/tools"});
    let made = admin(&server, Method::POST, "/api/v1/agents", made).await;
    let agent_id = made["id"].as_u64().unwrap();
    let session = cookie(&sign_in(&server, "ada", &password).await);
    let token = token(&server, &session, json!(["api", "k8s_proxy"])).await;
    let status = async |method: Method, path: &str, body: Value| {
        by_token(&server, &token, method, path, body)
            .await
            .status
            .as_u16()
    };
    let names = async |path: &str| -> Vec<String> {
        let list = by_token(&server, &token, Method::GET, path, Value::Null).await;
        let name = |it: &Value| {
            it["name"]
                .as_str()
                .or(it["path"].as_str())
                .unwrap()
                .to_owned()
        };
        list.json().as_array().unwrap().iter().map(name).collect()
    };
    let kubectl = async || {
        let mut person = person(server.server.people).await;
        let request = proxied(agent_id, &token, Method::GET, "/version");
        let request = request.body(Full::default()).unwrap();
        collect(person.send_request(request).await.unwrap())
            .await
            .status
            .as_u16()
    };
    let member = "/api/v1/projects/team%2Ftools/members/ada";
    let add_bob = "/api/v1/projects/team%2Ftools/members/bob";
    user(&server, "bob").await;

    // A stranger to the project: what is not theirs is not there, and what is for administrators is refused.
    assert!(names("/api/v1/agents").await.is_empty() && names("/api/v1/projects").await.is_empty());
    for (method, path) in [
        (Method::GET, "/api/v1/agents/tools"),
        (Method::POST, "/api/v1/agents/tools/tokens"),
        (Method::GET, "/api/v1/projects/team%2Ftools"),
        (Method::PUT, add_bob),
    ] {
        let body = json!({"role": "developer"});
        assert_eq!(status(method, path, body).await, 404, "{path}");
    }
    for (method, path, body) in [
        (Method::GET, "/api/v1/users", Value::Null),
        (Method::GET, "/api/v1/users/bob/sessions", Value::Null),
        (Method::POST, "/api/v1/users", json!({"name": "eve"})),
        (
            Method::PUT,
            "/api/v1/users/ada/role",
            json!({"role": "administrator"}),
        ),
        (Method::POST, "/api/v1/projects", json!({"path": "mine"})),
        (Method::POST, "/api/v1/agents", json!({"name": "mine"})),
        (Method::GET, "/api/v1/audit", Value::Null),
        (Method::POST, "/api/v1/sign-in-links", Value::Null),
    ] {
        assert_eq!(status(method, path, body).await, 403, "{path}");
    }
    assert_eq!(kubectl().await, 403);

    let set = |role: &str| admin(&server, Method::PUT, member, json!({ "role": role }));
    set("developer").await;
    assert_eq!(names("/api/v1/agents").await, ["tools"]);
    assert_eq!(names("/api/v1/projects").await, ["team/tools"]);
    // Allowed; there is no agent connected.
    assert_eq!(kubectl().await, 502);
    for (method, path, body) in [
        (Method::POST, "/api/v1/agents/tools/tokens", Value::Null),
        (Method::PUT, add_bob, json!({"role": "developer"})),
        (
            Method::PUT,
            "/api/v1/agents/tools/project",
            json!({"project": null}),
        ),
    ] {
        assert_eq!(status(method, path, body).await, 403, "{path}");
    }
    let seen = by_token(
        &server,
        &token,
        Method::GET,
        "/api/v1/agents/tools",
        Value::Null,
    )
    .await;
    assert_eq!(seen.json()["tokens"], json!([]));

    set("maintainer").await;
    assert_eq!(
        status(Method::POST, "/api/v1/agents/tools/tokens", Value::Null).await,
        201
    );
    let second = json!({"name": "second", "project": "team/tools"});
    assert_eq!(status(Method::POST, "/api/v1/agents", second).await, 201);
    assert_eq!(
        status(Method::PUT, add_bob, json!({"role": "developer"})).await,
        403
    );

    set("owner").await;
    assert_eq!(
        status(Method::PUT, add_bob, json!({"role": "developer"})).await,
        200
    );
    let own = by_token(&server, &token, Method::GET, "/api/v1/user", Value::Null).await;
    let projects = json!([{"path": "team/tools", "role": "owner"}]);
    assert_eq!(
        (&own.json()["name"], &own.json()["projects"]),
        (&json!("ada"), &projects)
    );

    admin(
        &server,
        Method::PUT,
        "/api/v1/agents/tools/project",
        json!({"project": null}),
    )
    .await;
    assert_eq!(kubectl().await, 403);
}

#[tokio::test]
async fn a_token_is_for_what_its_scopes_say() {
    let server = TestServer::start().await;
    server.create_agent("a", None).await;
    let session = {
        let link = admin(&server, Method::POST, "/api/v1/sign-in-links", Value::Null).await;
        let code = link["url"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        let request = Request::post("/sign-in").header(header::CONTENT_TYPE, FORM);
        cookie(&ask(&server, request, &format!("code={code}")).await)
    };
    let status = async |token: &str, method: Method, path: &str, body: Value| {
        by_token(&server, token, method, path, body)
            .await
            .status
            .as_u16()
    };
    let reads = token(&server, &session, json!(["read_api"])).await;
    let new = json!({"name": "b"});
    assert_eq!(
        status(&reads, Method::GET, "/api/v1/agents", Value::Null).await,
        200
    );
    let refused = by_token(&server, &reads, Method::POST, "/api/v1/agents", new.clone()).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["code"]),
        (403, &"token_too_narrow".into())
    );
    assert!(
        refused.json()["detail"].as_str().unwrap().ends_with("api"),
        "{}",
        refused.text()
    );

    let workspaces = token(&server, &session, json!(["workspaces"])).await;
    assert_eq!(
        status(&workspaces, Method::GET, "/api/v1/workspaces", Value::Null).await,
        200
    );
    assert_eq!(
        status(&workspaces, Method::GET, "/api/v1/agents", Value::Null).await,
        403
    );

    // A token makes none that can do more or lives longer, and what is about sessions it cannot at all.
    let api = token(&server, &session, json!(["api", "workspaces"])).await;
    let tokens = "/api/v1/tokens";
    let wider = json!({"name": "t", "scopes": ["k8s_proxy"]});
    assert_eq!(status(&api, Method::POST, tokens, wider).await, 422);
    let longest = json!({"name": "t", "expires_days": 365});
    let made = by_token(&server, &api, Method::POST, tokens, longest)
        .await
        .json();
    assert_eq!(made["scopes"], json!(["api", "workspaces"]));
    let parent = by_token(&server, &api, Method::GET, tokens, Value::Null)
        .await
        .json();
    let parent = parent
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["scopes"] == made["scopes"]);
    assert_eq!(parent.unwrap()["expires_at"], made["expires_at"]);
    assert!(parent.unwrap()["last_used_at"].is_string());
    let password = json!({"current": "", "new": "a new pass phrase"});
    assert_eq!(
        status(&api, Method::PUT, "/api/v1/user/password", password).await,
        403
    );
    for wrong in [json!([]), json!(["everything"])] {
        let body = json!({"name": "t", "scopes": wrong});
        assert_eq!(status(&api, Method::POST, tokens, body).await, 422);
    }
}

#[tokio::test]
async fn administrators_make_suspend_and_change_users() {
    let server = TestServer::start().await;
    for (method, path, body, status, code) in [
        (
            Method::POST,
            "/api/v1/users",
            json!({"name": "A"}),
            422,
            "invalid_field",
        ),
        (
            Method::POST,
            "/api/v1/users",
            json!({"name": "a", "password": "short"}),
            422,
            "invalid_field",
        ),
        (
            Method::POST,
            "/api/v1/users",
            json!({"name": "a", "subject": "1"}),
            422,
            "invalid_field",
        ),
        (
            Method::POST,
            "/api/v1/users",
            json!({"name": "administrator"}),
            409,
            "user_exists",
        ),
        (
            Method::POST,
            "/api/v1/users/administrator/suspend",
            Value::Null,
            409,
            "local_administrator",
        ),
        (
            Method::GET,
            "/api/v1/users/nobody",
            Value::Null,
            404,
            "not_found",
        ),
        (
            Method::POST,
            "/api/v1/projects",
            json!({"path": "/a"}),
            422,
            "invalid_field",
        ),
        (
            Method::GET,
            "/api/v1/projects/none",
            Value::Null,
            404,
            "not_found",
        ),
        (
            Method::DELETE,
            "/api/v1/sessions/x",
            Value::Null,
            404,
            "not_found",
        ),
        (
            Method::GET,
            "/api/v1/audit?limit=0",
            Value::Null,
            422,
            "invalid_field",
        ),
    ] {
        let body = Some(body).filter(|it| !it.is_null());
        let answer = server.admin(method, path, body).await;
        let problem = answer.json();
        assert_eq!(
            (answer.status.as_u16(), &problem["code"]),
            (status, &code.into()),
            "{path}: {problem}"
        );
    }
    let password = user(&server, "ada").await;
    let session = cookie(&sign_in(&server, "ada", &password).await);
    admin(
        &server,
        Method::POST,
        "/api/v1/users/ada/suspend",
        Value::Null,
    )
    .await;
    let gone = by_session(&server, &session, Method::GET, "/api/v1/user", "").await;
    assert_eq!(gone.status, 401);
    let suspended = sign_in(&server, "ada", &password).await;
    assert!(
        suspended.status == 403 && suspended.text().contains("suspended"),
        "{}",
        suspended.text()
    );
    assert!(!suspended.headers.contains_key(header::SET_COOKIE));
    admin(
        &server,
        Method::POST,
        "/api/v1/users/ada/reactivate",
        Value::Null,
    )
    .await;
    let session = cookie(&sign_in(&server, "ada", &password).await);
    let page = by_session(&server, &session, Method::GET, "/administration", "").await;
    assert_eq!(page.status, 403);
    // More rights come with a new session.
    let role = json!({"role": "administrator"});
    admin(&server, Method::PUT, "/api/v1/users/ada/role", role).await;
    let gone = by_session(&server, &session, Method::GET, "/api/v1/user", "").await;
    assert_eq!(gone.status, 401);
    let session = cookie(&sign_in(&server, "ada", &password).await);
    let page = by_session(&server, &session, Method::GET, "/administration", "").await;
    assert!(
        page.status == 200 && page.text().contains("Suspend ada?"),
        "{}",
        page.text()
    );

    // Forms of that page: what they make is shown once, and another site's are refused.
    let made = by_session(
        &server,
        &session,
        Method::POST,
        "/administration/users",
        "name=bob",
    )
    .await;
    let shown = made.text();
    let (_, rest) = shown.split_once("<pre id=\"password\">").unwrap();
    let password = rest.split('<').next().unwrap();
    cookie(&sign_in(&server, "bob", password).await);
    let foreign = Request::post("/administration/users/bob/suspend")
        .header(header::COOKIE, &session)
        .header(header::ORIGIN, "https://evil");
    assert_eq!(ask(&server, foreign, "").await.status, 403);
    let suspend = "/administration/users/bob/suspend";
    let suspended = by_session(&server, &session, Method::POST, suspend, "").await;
    assert_eq!(suspended.status, 303);
    let users = admin(&server, Method::GET, "/api/v1/users", Value::Null).await;
    let states: Vec<_> = users
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (&it["name"], &it["state"]))
        .collect();
    assert_eq!(
        json!(states),
        json!([
            ["ada", "active"],
            ["administrator", "active"],
            ["bob", "suspended"]
        ])
    );
}
