//! A fake API server that keeps objects: create, read, list, watch, replace, apply, delete. It checks no schema and no
//! right, apply replaces instead of merging, and no controller runs: a test says what became of a Deployment. What a real
//! API server and real controllers do with the same objects is tested on the cluster.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

type Body = BoxBody<Bytes, Infallible>;
/// Plural, namespace, name.
type Key = (String, String, String);

/// The server and its objects.
#[derive(Clone)]
pub(crate) struct Objects {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// The newest resource version.
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    /// What happened, for watches: by resource version, from 1.
    log: Vec<(&'static str, Key, Value)>,
    /// Methods and paths of what changed something, leases apart.
    writes: Vec<String>,
    /// Paths of what was read.
    reads: Vec<String>,
    /// What was applied, as it came.
    bodies: Vec<String>,
    /// By method and plural: with which status and message a request is refused.
    refusals: BTreeMap<(String, String), (u16, String)>,
    /// What is described of the API of DevWorkspaces.
    description: Value,
}

impl State {
    fn put(&mut self, key: Key, mut object: Value) -> Value {
        let before = self.objects.get(&key);
        let kind = if before.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        let version = self.log.len() + 1;
        let metadata = |name: &str| before.map(|before| before["metadata"][name].clone());
        let is_same = before.is_some_and(|before| before["spec"] == object["spec"]);
        let generation = metadata("generation").and_then(|it| it.as_u64());
        object["metadata"]["uid"] = metadata("uid").unwrap_or(json!(format!("uid-{version}")));
        object["metadata"]["generation"] = json!(generation.unwrap_or(0) + u64::from(!is_same));
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        if let Some(before) = before
            && object["status"].is_null()
        {
            object["status"] = before["status"].clone();
        }
        self.log.push((kind, key.clone(), object.clone()));
        self.objects.insert(key, object.clone());
        object
    }

    fn remove(&mut self, key: &Key) -> Option<Value> {
        let mut object = self.objects.remove(key)?;
        object["metadata"]["resourceVersion"] = json!((self.log.len() + 1).to_string());
        self.log.push(("DELETED", key.clone(), object.clone()));
        if key.0 == "namespaces" {
            let inside: Vec<_> = self
                .objects
                .keys()
                .filter(|it| it.1 == key.2)
                .cloned()
                .collect();
            for key in &inside {
                self.remove(key);
            }
        }
        Some(object)
    }
}

#[allow(
    dead_code,
    reason = "two programs of tests have this file, and each uses a part"
)]
impl Objects {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let objects = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
            version: watch::Sender::new(0),
        };
        let served = objects.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                let service = hyper::service::service_fn(move |request| {
                    let served = served.clone();
                    async move { Ok::<_, Infallible>(served.answer(request).await) }
                });
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        objects
    }

    /// A kubeconfig that leads here.
    pub(crate) fn kubeconfig(&self, folder: &std::path::Path) -> PathBuf {
        let path = folder.join("objects.kubeconfig");
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: it,
              clusters: [{{name: it, cluster: {{server: 'http://{}'}}}}],
              users: [{{name: it, user: {{token: t}}}}],
              contexts: [{{name: it, context: {{cluster: it, user: it}}}}]}}",
            self.address
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.state.lock().unwrap().objects.get(&key).cloned()
    }

    pub(crate) fn put(&self, plural: &str, object: Value) {
        self.change(|state| {
            state.put(key_of(plural, &object), object);
        });
    }

    /// Names of what is in a namespace, with their plural.
    pub(crate) fn names(&self, namespace: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let inside = state.objects.keys().filter(|key| key.1 == namespace);
        inside.map(|key| format!("{} {}", key.0, key.2)).collect()
    }

    /// What was written so far.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.state.lock().unwrap().writes.clone()
    }

    /// Paths of what was read so far.
    pub(crate) fn reads(&self) -> Vec<String> {
        self.state.lock().unwrap().reads.clone()
    }

    /// What was applied so far, as it came.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.state.lock().unwrap().bodies.clone()
    }

    /// Takes an object away, as its namespace's administrator would.
    pub(crate) fn remove(&self, plural: &str, namespace: &str, name: &str) {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.change(|state| state.remove(&key));
    }

    /// Whether the agent has bound its role in a namespace: all that this server knows of rights.
    fn review(&self, body: &Value) -> Response<Body> {
        let attributes = &body["spec"]["resourceAttributes"];
        let namespace = attributes["namespace"].as_str().unwrap_or_default();
        let state = self.state.lock().unwrap();
        let allowed = state
            .objects
            .keys()
            .any(|key| key.0 == "rolebindings" && key.1 == namespace);
        whole(201, &json!({"status": {"allowed": allowed}}))
    }

    /// Refuses requests of a method to a kind.
    pub(crate) fn refuse(&self, method: &str, plural: &str, code: u16, message: &str) {
        let key = (method.to_owned(), plural.to_owned());
        let refusal = (code, message.to_owned());
        self.state.lock().unwrap().refusals.insert(key, refusal);
    }

    /// Refuses none to this kind.
    pub(crate) fn refuse_no_more(&self, plural: &str) {
        let refusals = &mut self.state.lock().unwrap().refusals;
        refusals.retain(|(_, refused), _| refused != plural);
    }

    /// What is answered to whom asks what DevWorkspaces look like.
    pub(crate) fn describe(&self, description: Value) {
        self.state.lock().unwrap().description = description;
    }

    /// What a controller would say of a Deployment that is there.
    pub(crate) fn set_deployment(&self, name: &str, available: u64, progressing: &str) {
        let namespace = format!("gl-rd-ns-{name}");
        let mut deployment = self.get("deployments", &namespace, name).unwrap();
        deployment["status"] = json!({"availableReplicas": available, "conditions": [
            {"type": "Progressing", "reason": progressing},
            {"type": "Available", "reason": "MinimumReplicasAvailable"},
        ]});
        self.put("deployments", deployment);
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap();
        let changed = change(&mut state);
        self.version.send_replace(state.log.len() as u64);
        changed
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        if path == "/version" {
            return whole(
                200,
                &json!({"major": "1", "minor": "33", "gitVersion": "v1.33.1"}),
            );
        }
        if path == "/openapi/v3/apis/workspace.devfile.io/v1alpha2" {
            return whole(200, &self.state.lock().unwrap().description);
        }
        let Some((plural, namespace, name)) = target(&path) else {
            return status(404);
        };
        let query: BTreeMap<_, _> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| {
                (
                    key.to_owned(),
                    value
                        .replace("%2F", "/")
                        .replace("%3D", "=")
                        .replace("%2C", ",")
                        .replace("%21", "!"),
                )
            })
            .collect();
        let Ok(body) = body.collect().await else {
            return status(400);
        };
        let body = body.to_bytes();
        if parts.method == Method::PATCH {
            let text = String::from_utf8_lossy(&body).into_owned();
            self.state.lock().unwrap().bodies.push(text);
        }
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if plural == "selfsubjectaccessreviews" {
            return self.review(&body);
        }
        let key = (plural.clone(), namespace, name);
        if parts.method == Method::GET {
            self.state.lock().unwrap().reads.push(path);
        } else if plural != "leases" {
            let write = format!("{} {path}", parts.method);
            self.state.lock().unwrap().writes.push(write);
        }
        let asked = (parts.method.to_string(), plural.clone());
        let refusal = self.state.lock().unwrap().refusals.get(&asked).cloned();
        if let Some((code, message)) = refusal {
            return refused(code, &message);
        }
        match parts.method {
            Method::GET if key.2.is_empty() => match query.get("watch") {
                Some(_) => self.watch(key, &query),
                None => self.list(&key, &query),
            },
            Method::GET => self
                .get(&key.0, &key.1, &key.2)
                .map_or_else(|| status(404), |it| whole(200, &it)),
            Method::POST => {
                let key = key_of(&plural, &body);
                self.change(|state| match state.objects.contains_key(&key) {
                    true => status(409),
                    false => whole(201, &state.put(key, body)),
                })
            }
            Method::PUT => self.change(|state| match state.objects.contains_key(&key) {
                true => whole(200, &state.put(key, body)),
                false => status(404),
            }),
            Method::PATCH => self.change(|state| whole(200, &state.put(key, body))),
            Method::DELETE => self.change(|state| {
                state
                    .remove(&key)
                    .map_or_else(|| status(404), |it| whole(200, &it))
            }),
            _ => status(405),
        }
    }

    fn list(&self, key: &Key, query: &BTreeMap<String, String>) -> Response<Body> {
        let state = self.state.lock().unwrap();
        let items: Vec<_> = state
            .objects
            .iter()
            .filter(|(it, object)| is_selected(key, query, it, object))
            .map(|(_, object)| object)
            .collect();
        whole(
            200,
            &json!({
                "apiVersion": "v1", "kind": "List", "items": items,
                "metadata": {"resourceVersion": state.log.len().to_string()},
            }),
        )
    }

    fn watch(&self, key: Key, query: &BTreeMap<String, String>) -> Response<Body> {
        let from = query
            .get("resourceVersion")
            .and_then(|it| it.parse().ok())
            .unwrap_or(0);
        let query = query.clone();
        let served = self.clone();
        let version = self.version.subscribe();
        let lines = futures::stream::unfold((from, version), move |(at, mut version)| {
            let (served, query, key) = (served.clone(), query.clone(), key.clone());
            async move {
                version.wait_for(|newest| *newest > at as u64).await.ok()?;
                let state = served.state.lock().unwrap();
                let events: String = state.log[at..]
                    .iter()
                    .filter(|(_, it, object)| is_selected(&key, &query, it, object))
                    .map(|(kind, _, object)| {
                        format!("{}\n", json!({"type": kind, "object": object}))
                    })
                    .collect();
                let at = state.log.len();
                drop(state);
                Some((Ok(Frame::data(Bytes::from(events))), (at, version)))
            }
        });
        Response::new(BodyExt::boxed(StreamBody::new(lines)))
    }
}

fn key_of(plural: &str, object: &Value) -> Key {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (plural.to_owned(), text("namespace"), text("name"))
}

/// `/api/v1/…` and `/apis/<group>/<version>/…`, in a namespace or not.
fn target(path: &str) -> Option<Key> {
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let rest = match parts.as_slice() {
        ["api", "v1", rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        _ => return None,
    };
    let key = |plural: &str, namespace: &str, name: &str| {
        (plural.to_owned(), namespace.to_owned(), name.to_owned())
    };
    Some(match rest {
        ["namespaces", namespace, plural] => key(plural, namespace, ""),
        ["namespaces", namespace, plural, name] => key(plural, namespace, name),
        [plural] => key(plural, "", ""),
        [plural, name] => key(plural, "", name),
        _ => return None,
    })
}

fn is_selected(wanted: &Key, query: &BTreeMap<String, String>, key: &Key, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    let has = |requirement: &str| match (requirement.strip_prefix('!'), requirement.split_once('='))
    {
        (Some(absent), _) => labels[absent].is_null(),
        (None, Some((label, value))) => labels[label] == value,
        (None, None) => !labels[requirement].is_null(),
    };
    let selector = query.get("labelSelector").map_or("", String::as_str);
    key.0 == wanted.0
        && (wanted.1.is_empty() || key.1 == wanted.1)
        && selector.split(',').filter(|it| !it.is_empty()).all(has)
}

fn whole(code: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn status(code: u16) -> Response<Body> {
    refused(code, "no")
}

fn refused(code: u16, message: &str) -> Response<Body> {
    whole(
        code,
        &json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": "", "message": message,
        }),
    )
}
