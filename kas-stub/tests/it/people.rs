//! Users: how they sign in, their account, and what is written of it.

use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{Answer, LIMIT, TestServer, collect, person};

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const ORIGIN: &str = "http://kas";

pub(crate) async fn ask(
    server: &TestServer,
    request: http::request::Builder,
    body: &str,
) -> Answer {
    let mut person = person(server.server.people).await;
    let request = request
        .header(header::HOST, "kas")
        .body(Full::new(body.to_owned().into()));
    collect(person.send_request(request.unwrap()).await.unwrap()).await
}

pub(crate) async fn admin(server: &TestServer, method: Method, path: &str, body: Value) -> Value {
    let body = Some(body).filter(|it| !it.is_null());
    let answer = server.admin(method, path, body).await;
    assert!(answer.status.is_success(), "{path}: {}", answer.text());
    if answer.body.is_empty() {
        return Value::Null;
    }
    answer.json()
}

/// A user; their password.
pub(crate) async fn user(server: &TestServer, name: &str) -> String {
    let made = admin(
        server,
        Method::POST,
        "/api/v1/users",
        json!({ "name": name }),
    )
    .await;
    made["password"].as_str().unwrap().to_owned()
}

pub(crate) async fn sign_in(server: &TestServer, name: &str, password: &str) -> Answer {
    let request = Request::post("/sign-in/password")
        .header(header::CONTENT_TYPE, FORM)
        .header(header::ORIGIN, ORIGIN);
    ask(server, request, &format!("name={name}&password={password}")).await
}

/// The session's cookie, as it is sent.
pub(crate) fn cookie(answer: &Answer) -> String {
    assert_eq!(answer.status, 303, "{}", answer.text());
    let set = answer.headers.get_all(header::SET_COOKIE).iter();
    let mut set = set.filter_map(|it| it.to_str().ok());
    let set = set.find(|it| it.starts_with("kas_stub_session="));
    set.unwrap().split(';').next().unwrap().to_owned()
}

/// Asks by a session, from the server's own page.
pub(crate) async fn by_session(
    server: &TestServer,
    session: &str,
    method: Method,
    path: &str,
    form: &str,
) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::COOKIE, session)
        .header(header::CONTENT_TYPE, FORM)
        .header(header::ORIGIN, ORIGIN);
    ask(server, request, form).await
}

pub(crate) async fn by_token(
    server: &TestServer,
    token: &str,
    method: Method,
    path: &str,
    body: Value,
) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    ask(server, request, &body).await
}

/// A token of the user's, with scopes.
pub(crate) async fn token(server: &TestServer, session: &str, scopes: Value) -> String {
    let request = Request::post("/api/v1/tokens")
        .header(header::COOKIE, session)
        .header(header::ORIGIN, ORIGIN);
    let body = json!({"name": "t", "scopes": scopes});
    let made = ask(server, request, &body.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_password_signs_in_and_a_wrong_one_says_nothing_of_names() {
    let server = TestServer::start().await;
    let password = user(&server, "ada").await;
    let wrong = sign_in(&server, "ada", "wrong").await;
    let unknown = sign_in(&server, "eve", "wrong").await;
    assert_eq!(
        (wrong.status, unknown.status),
        (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN)
    );
    assert_eq!(wrong.text().replace("ada", "eve"), unknown.text());
    assert!(!wrong.headers.contains_key(header::SET_COOKIE));

    // Another site signs nobody in.
    let foreign = Request::post("/sign-in/password")
        .header(header::CONTENT_TYPE, FORM)
        .header(header::ORIGIN, "https://evil");
    let foreign = ask(&server, foreign, &format!("name=ada&password={password}")).await;
    assert_eq!(foreign.status, 403);
    assert!(!foreign.headers.contains_key(header::SET_COOKIE));

    let session = cookie(&sign_in(&server, "Ada", &password).await);
    let account = by_session(&server, &session, Method::GET, "/account", "").await;
    assert!(
        account.text().contains("<h1>ada</h1>"),
        "{}",
        account.text()
    );
    assert!(
        !account.text().contains("/administration"),
        "{}",
        account.text()
    );

    // A sign-in in the same browser takes the place of the one before.
    let again = Request::post("/sign-in/password")
        .header(header::CONTENT_TYPE, FORM)
        .header(header::ORIGIN, ORIGIN)
        .header(header::COOKIE, &session);
    let again = ask(&server, again, &format!("name=ada&password={password}")).await;
    let second = cookie(&again);
    let is_in = async |session: &str| {
        let own = by_session(&server, session, Method::GET, "/api/v1/user", "").await;
        own.status == 200
    };
    assert!(!is_in(&session).await && is_in(&second).await);

    // A changed password ends the other sessions and gives this one another cookie.
    let other = cookie(&sign_in(&server, "ada", &password).await);
    let new = "a+new+pass+phrase";
    let change = |current: &str| format!("current={current}&new={new}");
    let path = "/account/password";
    let refused = by_session(&server, &second, Method::POST, path, &change("wrong")).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    let changed = by_session(&server, &second, Method::POST, path, &change(&password)).await;
    let third = cookie(&changed);
    assert!(!is_in(&second).await && !is_in(&other).await && is_in(&third).await);
    assert_eq!(sign_in(&server, "ada", &password).await.status, 403);
    cookie(&sign_in(&server, "ada", new).await);
}

#[tokio::test]
async fn guessing_is_told_to_wait() {
    let server = TestServer::start().await;
    let password = user(&server, "ada").await;
    let mut refused = 0;
    let told = loop {
        let answer = sign_in(&server, "ada", "wrong").await;
        match answer.status.as_u16() {
            403 => refused += 1,
            _ => break answer,
        }
    };
    assert_eq!((refused, told.status.as_u16()), (10, 429));
    let wait: u64 = told.headers[header::RETRY_AFTER]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=301).contains(&wait), "{wait}");
    assert!(told.text().contains("try again in"), "{}", told.text());
    // The right one too: else it would tell.
    assert_eq!(sign_in(&server, "ada", &password).await.status, 429);
    // Others go on, and from one address there is an end to it as well.
    user(&server, "bob").await;
    assert_eq!(sign_in(&server, "bob", "wrong").await.status, 403);
    let mut names = 0..;
    let told = loop {
        let name = format!("user{}", names.next().unwrap());
        let answer = sign_in(&server, &name, "wrong").await;
        if answer.status != 403 {
            break answer;
        }
    };
    assert!(told.status == 429 && names.start < 60, "{}", told.status);
}

#[tokio::test]
async fn the_account_page_makes_tokens_and_ends_sessions() {
    let server = TestServer::start().await;
    let password = user(&server, "ada").await;
    let first = cookie(&sign_in(&server, "ada", &password).await);
    let session = cookie(&sign_in(&server, "ada", &password).await);
    let form = "name=laptop&expires_days=7&scope=read_api&scope=k8s_proxy";
    let made = by_session(&server, &session, Method::POST, "/account/tokens", form).await;
    assert_eq!(made.status, 201);
    let shown = made.text();
    let (_, rest) = shown.split_once("<pre id=\"token\">").unwrap();
    let token = rest.split('<').next().unwrap().to_owned();
    let own = by_token(&server, &token, Method::GET, "/api/v1/user", Value::Null).await;
    assert_eq!(own.json()["name"], "ada");
    let none = by_session(
        &server,
        &session,
        Method::POST,
        "/account/tokens",
        "name=x&expires_days=7",
    )
    .await;
    assert!(
        none.status == 422 && none.text().contains("without a scope"),
        "{}",
        none.text()
    );

    let page = by_session(&server, &session, Method::GET, "/account", "")
        .await
        .text();
    assert!(
        page.contains("read_api, k8s_proxy") && !page.contains(&token),
        "{page}"
    );
    let (_, rest) = page.split_once("/account/tokens/").unwrap();
    let revoke = format!("/account/tokens/{}/revoke", rest.split('/').next().unwrap());
    by_session(&server, &session, Method::POST, &revoke, "").await;
    let own = by_token(&server, &token, Method::GET, "/api/v1/user", Value::Null).await;
    assert_eq!(own.status, 401);

    let sessions = by_session(&server, &session, Method::GET, "/api/v1/sessions", "")
        .await
        .json();
    let sessions = sessions.as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let other = sessions.iter().find(|it| it["current"] == false).unwrap();
    assert_eq!(other["signed_in_by"], "password");
    let end = format!("/api/v1/sessions/{}", other["id"]);
    let ended = by_session(&server, &session, Method::DELETE, &end, "").await;
    assert_eq!(ended.status, 204);
    let gone = by_session(&server, &first, Method::GET, "/api/v1/user", "").await;
    assert_eq!(gone.status, 401);
}

#[tokio::test]
async fn the_audit_log_tells_who_did_what_and_is_read_page_by_page() {
    let server = TestServer::start().await;
    let password = user(&server, "ada").await;
    sign_in(&server, "ada", "wrong").await;
    let session = cookie(&sign_in(&server, "ada", &password).await);
    for _ in 0..3 {
        by_session(&server, &session, Method::GET, "/api/v1/users", "").await;
    }
    server.create_agent("a", None).await;
    let list = async |query: &str| {
        let path = format!("/api/v1/audit{query}");
        admin(&server, Method::GET, &path, Value::Null).await
    };
    let lines = |page: &Value| -> Vec<Value> {
        let entries = page["entries"].as_array().unwrap().iter();
        let line = |it: &Value| {
            json!([
                it["user"],
                it["action"],
                it["target"],
                it["allowed"],
                it["times"]
            ])
        };
        entries.map(line).collect()
    };
    let all = list("").await;
    let expected = [
        json!(["administrator", "CreateAgent", "a", true, 1]),
        json!(["ada", "ListUsers", "", false, 3]),
        json!(["ada", "SignIn", "by password", true, 1]),
        json!([null, "SignIn", "by password", false, 1]),
        json!(["administrator", "ManageUsers", "", true, 1]),
    ];
    assert_eq!(lines(&all), expected);
    assert_eq!(all["next"], Value::Null);
    assert!(!all.to_string().contains(&password));
    assert_eq!(all["entries"][2]["from"], "127.0.0.1");
    assert_eq!(
        lines(&list("?user=ada&allowed=false").await),
        expected[1..2]
    );
    assert_eq!(lines(&list("?action=SignIn").await), expected[2..4]);
    let first = list("?limit=2").await;
    assert_eq!(lines(&first), expected[..2]);
    let rest = list(&format!("?limit=3&before={}", first["next"])).await;
    assert_eq!(lines(&rest), expected[2..]);
    assert_eq!(rest["next"], Value::Null);

    // It is there after a restart.
    let TestServer {
        server: running,
        folder,
    } = server;
    running.stop().await;
    let server = TestServer::start_in(folder, |_| {}).await;
    let again = admin(&server, Method::GET, "/api/v1/audit", Value::Null).await;
    assert_eq!(lines(&again), expected);
}

#[tokio::test]
async fn a_provider_that_is_away_is_told_of_and_others_sign_in() {
    let server = TestServer::start_with(|config| {
        config.oidc.issuer = Some("http://127.0.0.1:1".into());
        config.oidc.client_id = Some("kas".into());
        config.oidc.name = Some("<Example>".into());
    })
    .await;
    let page = ask(&server, Request::get("/"), "").await.text();
    assert!(page.contains("Sign in with &#60;Example&#62;"), "{page}");
    let begun = ask(&server, Request::get("/sign-in/oidc"), "").await;
    assert!(
        begun.status == 502 && begun.text().contains("cannot be reached"),
        "{}",
        begun.text()
    );
    let back = Request::get("/sign-in/oidc/callback?code=x&state=y");
    let back = ask(&server, back, "").await;
    assert!(
        back.status == 400 && back.text().contains("did not begin in this browser"),
        "{}",
        back.text()
    );
    let password = tokio::time::timeout(LIMIT, user(&server, "ada"))
        .await
        .unwrap();
    cookie(&sign_in(&server, "ada", &password).await);
}
