//! Workspaces of devfiles with parents and plugins elsewhere: through `POST /api/v1/workspaces`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    git::Project,
    support::{Answer, TestServer, WORKSPACES_ON},
};

/// A server of texts at an address: `files` by path, and what else a test needs.
async fn serve(files: &[(&str, &str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let own = |it: &(&str, &str)| (it.0.to_owned(), it.1.replace("$URL", &url));
    let files: Arc<Vec<(String, String)>> = Arc::new(files.iter().map(own).collect());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let files = Arc::clone(&files);
            let service = service_fn(move |request| answer(Arc::clone(&files), request));
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

async fn answer(
    files: Arc<Vec<(String, String)>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let response = Response::builder();
    if path == "/silent" {
        return std::future::pending().await;
    }
    if path == "/large" {
        let text = "#".repeat(3 * 1024 * 1024 + 1);
        return Ok(response.body(Full::new(text.into())).unwrap());
    }
    if path == "/elsewhere" {
        let response = response
            .status(302)
            .header("location", "file:///etc/passwd");
        return Ok(response.body(Full::default()).unwrap());
    }
    let found = files.iter().find(|(at, _)| at == path);
    Ok(match found {
        Some((_, text)) => response.body(Full::new(text.clone().into())).unwrap(),
        None => response.status(404).body(Full::default()).unwrap(),
    })
}

struct World {
    server: TestServer,
    project: Project,
}

impl World {
    /// A server with an agent, and a repository. `url` is that of the registry that the server knows.
    async fn start(registry: &str) -> Self {
        let registry = registry.parse().unwrap();
        let server = TestServer::start_with(|config| {
            config.git_allow_http = true;
            config.git_allow_private = true;
            config.timing.fetch_timeout = Duration::from_secs(1);
            config.workspaces.registries = vec![registry];
        })
        .await;
        let project = Project::serve().await;
        project.push(&[WORKSPACES_ON]).await;
        server.create_agent("a", Some(&project.url)).await;
        server.wait_for_workspaces("a").await;
        Self { server, project }
    }

    /// Asks for a workspace of a repository with these files.
    async fn create(&self, files: &[(&str, &str)]) -> Answer {
        self.project.push(files).await;
        let body = json!({ "repository": self.project.url, "agent": "a" });
        let path = "/api/v1/workspaces";
        self.server.admin(Method::POST, path, Some(body)).await
    }

    /// Asks for a workspace of a devfile that begins like this; the problems that the answer lists.
    async fn problems(&self, head: &str) -> Vec<Value> {
        let text = format!("schemaVersion: 2.2.0\n{head}\n");
        let answer = self.create(&[("devfile.yaml", &text)]).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["field"], "devfile");
        answer["problems"].as_array().unwrap().clone()
    }

    async fn refused(&self, head: &str, code: &str, reason: &str) {
        let problems = self.problems(head).await;
        let [problem] = problems.as_slice() else {
            panic!("{problems:?}");
        };
        let told = problem["reason"].as_str().unwrap();
        assert_eq!(problem["code"], code, "{problem}");
        assert!(told.contains(reason), "{told}");
        assert_eq!(
            (&problem["field"], &problem["line"]),
            (&"parent".into(), &2.into())
        );
    }

    /// Creates a workspace; the ports of it that people open, but for the editor's.
    async fn endpoints(&self, files: &[(&str, &str)]) -> Vec<String> {
        let answer = self.create(files).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let answer = answer.json();
        let endpoints = answer["endpoints"].as_array().unwrap();
        let own = endpoints.iter().filter(|it| it["editor"] == false);
        let names = own.map(|it| it["name"].as_str().unwrap());
        names.map(str::to_owned).collect()
    }
}

/// A parent with one container, which has a port of this name.
fn parent(port: &str) -> String {
    let container = format!("{{image: i, endpoints: [{{name: {port}, targetPort: 8080}}]}}");
    format!("schemaVersion: 2.2.0\ncomponents: [{{name: c, container: {container}}}]\n")
}

#[tokio::test]
async fn parents_come_from_addresses_registries_and_the_repository() {
    let (grand, by_id) = (parent("grand"), parent("by-id"));
    let url = serve(&[
        (
            "/a/parent.yaml",
            "schemaVersion: 2.2.0\nparent: {uri: ../b/grand.yaml}\n",
        ),
        ("/b/grand.yaml", &grand),
        ("/devfiles/stack/1.0.0", &by_id),
    ])
    .await;
    let world = World::start(&url).await;
    let devfile = |parent: &str| format!("schemaVersion: 2.2.0\nparent: {parent}\n");

    // The parent's own parent is relative to the parent's address.
    let text = devfile(&format!("{{uri: {url}/a/parent.yaml}}"));
    let endpoints = world.endpoints(&[("devfile.yaml", &text)]).await;
    assert_eq!(endpoints, ["grand"]);
    // By the registry that the server knows.
    let text = devfile("{id: stack, version: 1.0.0}");
    let endpoints = world.endpoints(&[("devfile.yaml", &text)]).await;
    assert_eq!(endpoints, ["by-id"]);
    // By one that the devfile names.
    let text = devfile(&format!(
        "{{id: stack, version: 1.0.0, registryUrl: {url}}}"
    ));
    let endpoints = world.endpoints(&[("devfile.yaml", &text)]).await;
    assert_eq!(endpoints, ["by-id"]);
    // In the repository, at the same commit.
    let (text, beside) = (devfile("{uri: stacks/parent.yaml}"), parent("beside"));
    let files = [
        ("devfile.yaml", text.as_str()),
        ("stacks/parent.yaml", &beside),
    ];
    assert_eq!(world.endpoints(&files).await, ["beside"]);
}

#[tokio::test]
async fn plugins_come_from_addresses_too() {
    let plugin = parent("from-plugin");
    let plugin = plugin.replace("2.2.0", "2.0.0");
    let url = serve(&[("/plugin.yaml", &plugin)]).await;
    let world = World::start(&url).await;
    let text = format!(
        "schemaVersion: 2.0.0\nmetadata: {{name: x}}\ncomponents: [{{name: p, plugin: {{uri: {url}/plugin.yaml}}}}]\n"
    );
    let endpoints = world.endpoints(&[("devfile.yaml", &text)]).await;
    assert_eq!(endpoints, ["from-plugin"]);
}

#[tokio::test]
async fn what_cannot_be_drawn_in_is_answered_with_place_and_reason() {
    let url = serve(&[("/circle", "schemaVersion: 2.2.0\nparent: {uri: /circle}\n")]).await;
    let world = World::start(&url).await;
    for (path, code, reason) in [
        ("absent", "import-failed", "404 Not Found"),
        ("large", "import-failed", "larger than 3 MiB"),
        ("silent", "import-failed", "took longer than 1s"),
        (
            "elsewhere",
            "import-failed",
            "it redirects to file:///etc/passwd",
        ),
    ] {
        let head = format!("parent: {{uri: {url}/{path}}}");
        world.refused(&head, code, reason).await;
    }
    for (head, reason) in [
        ("parent: {kubernetes: {name: t}}", "templates in a cluster"),
        ("parent: {uri: absent.yaml}", "there is no file absent.yaml"),
        (
            "parent: {uri: ../outside.yaml}",
            "no path of a file in the repository",
        ),
        ("parent: {id: unknown}", "404 Not Found"),
        ("parent: {uri: 'http://127.0.0.1:1/x'}", "cannot be reached"),
    ] {
        world.refused(head, "import-failed", reason).await;
    }
    let problems = world
        .problems(&format!("parent: {{uri: {url}/circle}}"))
        .await;
    assert_eq!(problems[0]["code"], "import-cycle", "{problems:?}");
}

#[tokio::test]
async fn a_devfile_that_is_no_text_is_answered_with_its_place() {
    let world = World::start("http://127.0.0.1:1").await;
    let folder = world.project.work();
    std::fs::write(
        folder.join("devfile.yaml"),
        b"schemaVersion: 2.2.0\n# \xe4\n",
    )
    .unwrap();
    let answer = world.create(&[]).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["code"], "not_utf8");
    let detail = answer["detail"].as_str().unwrap();
    assert!(
        detail.contains("devfile.yaml, line 2, column 3"),
        "{detail}"
    );
}
