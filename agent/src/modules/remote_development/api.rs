//! Calls to the Kubernetes API on objects as JSON, each with a deadline.

use std::time::Duration;

use http::{Method, Request};
use serde_json::{Value, json};

/// Admission webhooks may take up to 30 s by their own rules, and commonly 10.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Who owns the fields we apply.
pub(super) const FIELD_MANAGER: &str = "remote-dev-agent";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The API server answered with an error.
    #[error("{message} ({code})")]
    Status { code: u16, message: String },
    /// There was no answer.
    #[error("no answer of the API server: {0}")]
    Transport(String),
}

impl CallError {
    /// Whether the API server said that it is not there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { code: 404, .. })
    }

    /// Whether the API server said that the agent may not.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Status { code: 403, .. })
    }

    /// Whether the API server said that it is there already, or is another now.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Status { code: 409, .. })
    }
}

type Result<T, E = CallError> = std::result::Result<T, E>;

/// The Kubernetes API. Clones share its connections.
#[derive(Clone)]
pub(super) struct Api {
    client: kube::Client,
    timeout: Duration,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl Api {
    pub(super) fn new(client: kube::Client) -> Self {
        Self {
            client,
            timeout: CALL_TIMEOUT,
        }
    }

    /// The same with another deadline.
    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, "application/json", Vec::new())
            .await
    }

    /// Only the metadata of an object: nothing of a Secret's content comes here.
    pub(super) async fn get_metadata(&self, path: &str) -> Result<Value> {
        const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        self.call(Method::GET, path, METADATA, Vec::new()).await
    }

    pub(super) async fn create(&self, collection: &str, object: &Value) -> Result<Value> {
        let path = format!("{collection}?fieldManager={FIELD_MANAGER}");
        self.call(
            Method::POST,
            &path,
            "application/json",
            object.to_string().into_bytes(),
        )
        .await
    }

    pub(super) async fn replace(&self, path: &str, object: &Value) -> Result<Value> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}");
        self.call(
            Method::PUT,
            &path,
            "application/json",
            object.to_string().into_bytes(),
        )
        .await
    }

    /// Server-side apply; fields that others changed become ours again.
    pub(super) async fn apply(&self, path: &str, object: &str) -> Result<Value> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
        self.call(
            Method::PATCH,
            &path,
            "application/json",
            object.as_bytes().to_vec(),
        )
        .await
    }

    /// Deletes exactly the object that was looked at. It stays until what depends on it is gone.
    pub(super) async fn delete(&self, path: &str, uid: &str) -> Result<Value> {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "propagationPolicy": "Foreground", "preconditions": {"uid": uid},
        });
        self.call(
            Method::DELETE,
            path,
            "application/json",
            options.to_string().into_bytes(),
        )
        .await
    }

    async fn call(&self, method: Method, path: &str, accept: &str, body: Vec<u8>) -> Result<Value> {
        // JSON is YAML, and the API server takes it as such for server-side apply.
        let content_type = match method {
            Method::PATCH => "application/apply-patch+yaml",
            _ => "application/json",
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::ACCEPT, accept)
            .header(http::header::CONTENT_TYPE, content_type)
            .body(body)
            .map_err(|error| CallError::Transport(error.to_string()))?;
        match tokio::time::timeout(self.timeout, self.client.request::<Value>(request)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(kube::Error::Api(status))) => Err(CallError::Status {
                code: status.code,
                message: status.message.clone(),
            }),
            Ok(Err(error)) => Err(CallError::Transport(crate::kas::health::chain(&error))),
            Err(_) => Err(CallError::Transport(format!(
                "none within {} s",
                self.timeout.as_secs()
            ))),
        }
    }
}
